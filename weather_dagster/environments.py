"""The swap table: WEATHER_ENV decides where the warehouse and Dagster's own records are. Assets never ask.

Nothing heavy is imported before an entry is used: `weather ingest` runs without Dagster.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import EnvironmentName, Settings
from weather_dagster.warehouse.base import Store

if TYPE_CHECKING:
    from weather_dagster.warehouse.postgres import PostgresStore

STORAGE_URL = "WEATHER_DAGSTER_STORAGE_URL"
_STORAGE_URL = re.compile(
    r"postgres(?:ql)?(?:\+psycopg2)?://((?:[^@]*@)?(?:\[[^@\]]*\]|[^@:/]*)(?::\d+)?(?:[/?][^@]*)?)"
)
"""A password with an @ as it is would be taken for a part of the host, and shown."""


@dataclass(frozen=True)
class Environment:
    """What one value of WEATHER_ENV stands for."""

    store: Callable[[Settings], Store]
    """The warehouse, for what runs outside Dagster."""
    resource: Callable[[Settings], Any]
    """The same as a Dagster resource, a ``WarehouseResource``. Made without its secrets and without a network."""
    dbt_target: str
    instance: Mapping[str, Any] = field(default_factory=dict)
    """Sections in place of those of ``dagster.yaml``, for `weather` commands; pods have theirs from the Helm values."""

    @property
    def is_shared(self) -> bool:
        """Whether several machines work in it, so that what they must agree on is in a Postgres."""
        return "storage" in self.instance


def _duckdb_store(settings: Settings) -> Store:
    from weather_dagster.warehouse.duckdb import DuckDBStore

    return DuckDBStore(settings.duckdb_path)


def _duckdb_resource(settings: Settings) -> Any:
    from weather_dagster.resources import DuckDBWarehouseResource

    return DuckDBWarehouseResource(database=str(settings.duckdb_path))


def postgres_of(settings: Settings) -> "PostgresStore":
    """The database of WEATHER_POSTGRES_URL, whatever WEATHER_ENV is.

    Raises:
        ConfigurationError: it is not set, or the packages for it are not installed.
    """
    try:
        from weather_dagster.warehouse.postgres import PostgresStore
    except ImportError as error:
        raise ConfigurationError(f"{error}; `pip install -e '.[cluster]'` brings what Postgres needs") from None
    return PostgresStore(require_postgres_url(settings))


def _databricks_store(settings: Settings) -> Store:
    try:
        from weather_dagster.warehouse.databricks import DatabricksStore
    except ImportError as error:
        raise ConfigurationError(f"{error}; `pip install -e '.[cluster,databricks]'` brings what it needs") from None
    return DatabricksStore.of(settings)


def _shared_resource(settings: Settings) -> Any:
    from weather_dagster.resources import SharedWarehouseResource

    return SharedWarehouseResource()


SHARED_INSTANCE = {
    "storage": {"postgres": {"postgres_url": {"env": STORAGE_URL}}},
    "concurrency": {"pools": {"default_limit": 8, "granularity": "op"}, "runs": {"max_concurrent_runs": 8}},
}
"""Records in Postgres, and as many runs at once as the server has room for."""

ENVIRONMENTS: dict[EnvironmentName, Environment] = {
    EnvironmentName.LOCAL: Environment(_duckdb_store, _duckdb_resource, "duckdb"),
    EnvironmentName.CLUSTER: Environment(postgres_of, _shared_resource, "postgres", SHARED_INSTANCE),
    EnvironmentName.DATABRICKS: Environment(_databricks_store, _shared_resource, "databricks", SHARED_INSTANCE),
}


def environment_of(settings: Settings) -> Environment:
    """What WEATHER_ENV stands for."""
    return ENVIRONMENTS[settings.weather_env]


def store_of(settings: Settings) -> Store:
    """Its warehouse.

    Raises:
        ConfigurationError: a setting that it needs is missing.
    """
    return environment_of(settings).store(settings)


def dbt_turn(settings: Settings) -> AbstractContextManager[None]:
    """Wait until no other dbt refines the store: two at once would take on the same loads, and double their rows.

    A DuckDB file needs no turns: dbt holds it as long as it works.
    """
    return postgres_of(settings).dbt_turn() if environment_of(settings).is_shared else nullcontext()


def require_postgres_url(settings: Settings) -> SecretStr:
    """WEATHER_POSTGRES_URL.

    Raises:
        ConfigurationError: it is not set.
    """
    if settings.weather_postgres_url is None:
        raise ConfigurationError(
            "WEATHER_POSTGRES_URL is not set; let it name a database, like "
            "postgresql://user:password@host:5432/weather. Machines cannot share a DuckDB file"
        )
    return settings.weather_postgres_url


def is_in_pod() -> bool:
    """Whether this process runs in a pod of Kubernetes, which tells every container where its API is."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def tell_dagster(settings: Settings) -> str | None:
    """Let Dagster, in this process or in one that it starts, find the database of its records, if it has one.

    Returns:
        Its URL, as SQLAlchemy takes it.

    Raises:
        ConfigurationError: there is none, or it is not one of Postgres.
    """
    if not environment_of(settings).is_shared:
        return None
    given = settings.weather_dagster_storage_url or require_postgres_url(settings)
    found = _STORAGE_URL.fullmatch(given.get_secret_value())
    if not found:
        raise ConfigurationError(
            "the URL of Dagster's records cannot be read; write it like postgresql://user:password@host:5432/database, "
            f"with %40 for an @ in the password, in {STORAGE_URL}, and without that in WEATHER_POSTGRES_URL"
        )
    # Dagster's storage speaks through psycopg2, and SQLAlchemy 2.1 has to be told so.
    url = f"postgresql+psycopg2://{found[1]}"
    os.environ[STORAGE_URL] = url
    return url
