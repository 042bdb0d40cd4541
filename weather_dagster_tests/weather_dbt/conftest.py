"""Runs the real dbt project in process, on DuckDB files of the tests' own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner
from dbt.contracts.graph.manifest import Manifest

PROJECT = Path(__file__).parents[2] / "weather_dbt"


class Dbt:
    """A dbt project, parsed once; each call works on one warehouse file.

    The manifest fixes the name of the database, so every file is called ``warehouse.duckdb``.
    """

    def __init__(self, project: Path, scratch: Path) -> None:
        self._options = [
            "--project-dir", str(project), "--profiles-dir", str(project),
            "--target-path", str(scratch / "target"), "--log-path", str(scratch / "logs"),
        ]  # fmt: skip
        self.manifest = self._invoke(["--warn-error", "parse"], scratch / "warehouse.duckdb", None)
        assert isinstance(self.manifest, Manifest)

    def __call__(self, warehouse: Path, *arguments: str) -> None:
        """Run one dbt command and let go of the file."""
        assert warehouse.name == "warehouse.duckdb"
        self._invoke(list(arguments), warehouse, self.manifest)

    def _invoke(self, arguments: list[str], warehouse: Path, manifest: Manifest | None) -> object:
        before = os.environ.get("WEATHER_DUCKDB_PATH")
        os.environ["WEATHER_DUCKDB_PATH"] = str(warehouse)
        try:
            outcome = dbtRunner(manifest=manifest).invoke(["--quiet", *arguments, *self._options])
        finally:
            DuckDBConnectionManager.close_all_connections()
            if before is None:
                del os.environ["WEATHER_DUCKDB_PATH"]
            else:
                os.environ["WEATHER_DUCKDB_PATH"] = before
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
