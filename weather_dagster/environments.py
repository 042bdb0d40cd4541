"""The swap table: WEATHER_ENV decides where the warehouse and Dagster's own records are. Assets never ask.

Nothing heavy is imported before an entry is used: `weather ingest` runs without Dagster.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weather_dagster.settings import EnvironmentName, Settings
from weather_dagster.warehouse.base import Store


@dataclass(frozen=True)
class Environment:
    """What one value of WEATHER_ENV stands for."""

    store: Callable[[Settings], Store]
    """The warehouse, for what runs outside Dagster."""
    resource: Callable[[Settings], Any]
    """The same as a Dagster resource, a ``WarehouseResource``. Made without its secrets and without a network."""
    dbt_target: str
    instance: Mapping[str, Any] = field(default_factory=dict)
    """What differs from ``dagster.yaml`` for `weather` commands; pods have their instance from the Helm values."""


def _duckdb_store(settings: Settings) -> Store:
    from weather_dagster.warehouse.duckdb import DuckDBStore

    return DuckDBStore(settings.duckdb_path)


def _duckdb_resource(settings: Settings) -> Any:
    from weather_dagster.resources import DuckDBWarehouseResource

    return DuckDBWarehouseResource(database=str(settings.duckdb_path))


ENVIRONMENTS: dict[EnvironmentName, Environment] = {
    EnvironmentName.LOCAL: Environment(_duckdb_store, _duckdb_resource, "duckdb"),
}


def store_of(settings: Settings) -> Store:
    """The warehouse that WEATHER_ENV names."""
    return ENVIRONMENTS[settings.weather_env].store(settings)


def tell_dbt(store: Store) -> None:
    """Let a dbt of this process, or one that it starts, find the store."""
    os.environ.update(store.dbt_environment())
