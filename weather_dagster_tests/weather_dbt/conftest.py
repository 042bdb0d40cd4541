"""Runs the real dbt project in process, on warehouses of the tests' own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.adapters.factory import FACTORY
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest
from pydantic import SecretStr

from weather_dagster.warehouse.base import Store
from weather_dagster.warehouse.databricks import DatabricksStore
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.postgres import fresh_database

PROJECT = Path(__file__).parents[2] / "weather_dbt"
ENGINES = ("duckdb", "postgres")
TARGETS: dict[type[Store], str] = {DuckDBStore: "duckdb", PostgresStore: "postgres", DatabricksStore: "databricks"}


class Dbt:
    """A dbt project, parsed once for each engine; each call works on one warehouse, a store or a DuckDB file.

    A manifest fixes the name of the database. So every file is called ``warehouse.duckdb``, and in the manifest of
    Postgres the name is written anew for each call.
    """

    def __init__(self, project: Path, scratch: Path) -> None:
        self._project = project
        self._scratch = scratch
        self._manifests: dict[str, Manifest] = {}

    def __call__(self, warehouse: Store | Path, *arguments: str) -> None:
        """Run one dbt command and let go of the warehouse."""
        store = DuckDBStore(warehouse) if isinstance(warehouse, Path) else warehouse
        environment = store.dbt_environment()
        target = TARGETS[type(store)]
        manifest = self.manifest(target)
        if isinstance(store, DuckDBStore):
            assert store.path.name == "warehouse.duckdb"
        elif isinstance(store, PostgresStore):
            for node in chain(manifest.nodes.values(), manifest.sources.values()):
                node.database = environment["WEATHER_POSTGRES_DATABASE"]
        self._invoke(list(arguments), target, environment, manifest)

    def manifest(self, target: str = "duckdb") -> Manifest:
        """What dbt makes of the project for a target, without a warehouse."""
        if target not in self._manifests:
            environment = {"WEATHER_DUCKDB_PATH": str(self._scratch / "warehouse.duckdb")}
            manifest = self._invoke(["--warn-error", "parse"], target, environment, None)
            assert isinstance(manifest, Manifest)
            self._manifests[target] = manifest
        return self._manifests[target]

    def _invoke(
        self, arguments: list[str], target: str, environment: dict[str, str], manifest: Manifest | None
    ) -> object:
        options = [
            "--project-dir", str(self._project), "--profiles-dir", str(self._project), "--target", target,
            "--target-path", str(self._scratch / target), "--log-path", str(self._scratch / "logs"),
        ]  # fmt: skip
        with pytest.MonkeyPatch.context() as variables:
            for name, value in environment.items():
                variables.setenv(name, value)
            try:
                outcome = dbtRunner(manifest=manifest).invoke(["--quiet", *arguments, *options])
            finally:
                DuckDBConnectionManager.close_all_connections()
                for adapter in FACTORY.adapters.values():
                    adapter.cleanup_connections()
        bad = [r for r in getattr(outcome.result, "results", []) if r.status not in ("success", "pass")]
        assert outcome.success, outcome.exception or "; ".join(f"{r.node.name}: {r.message}" for r in bad)
        return outcome.result


@pytest.fixture(scope="session")
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """The project as it is."""
    return Dbt(PROJECT, tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="session")
def make_dbt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Dbt]:
    """Make a runner of another project folder."""
    return lambda project: Dbt(project, tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="module")
def stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Store]]:
    """Make an empty store of an engine."""
    with ExitStack() as databases:

        def make(engine: str) -> Store:
            if engine == "duckdb":
                return DuckDBStore(tmp_path_factory.mktemp("store") / "warehouse.duckdb")
            server = request.getfixturevalue("postgres_server")
            return PostgresStore(SecretStr(databases.enter_context(fresh_database(server))))

        yield make


@pytest.fixture(scope="module", params=ENGINES)
def new_store(request: pytest.FixtureRequest, stores: Callable[[str], Store]) -> Callable[[], Store]:
    """Make an empty store of one engine; what asks for it runs on each."""
    return lambda: stores(request.param)
