"""`kill -9` in the middle of a run: the rerun completes, equals an undisturbed run, and doubles nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pytest

from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster_tests.conftest import BIN, without_settings

pytestmark = pytest.mark.integration

LAST = floor_hour(utc_now()) - timedelta(hours=5)
RANGE = ("--from", format_hour(LAST - timedelta(hours=5)), "--to", format_hour(LAST))

# Runs `weather ARGUMENTS` in a process that kills itself with SIGKILL before or after the named call.
KILLED = """
import importlib, os, signal, sys
module, owner, name, moment = sys.argv.pop(1).split(":")
owner = getattr(importlib.import_module(module), owner)
original = getattr(owner, name)

def killed(*args, **kwargs):
    if moment == "after":
        original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, killed)
from weather_dagster.cli import main
main()
"""
PHASES = {
    "fetched but not landed": "weather_dagster.warehouse.duckdb:DuckDBWarehouse:land:before",
    "rows inserted, transaction open": "weather_dagster.warehouse.duckdb:DuckDBWarehouse:_insert_records:after",
    "committed but not recorded": "weather_dagster.warehouse.duckdb:DuckDBWarehouse:land:after",
    "committed but not noted as landed": "weather_dagster.weather_api.api:WeatherApi:note_landed:before",
    "noted as landed": "weather_dagster.weather_api.api:WeatherApi:note_landed:after",
}


def environment(home: Path) -> dict[str, str]:
    return {**without_settings(), "WEATHER_HOME": str(home), "WEATHER_PROVIDER": "simulator"}


def backfill(home: Path) -> None:
    subprocess.run([BIN / "weather", "backfill", *RANGE], env=environment(home), check=True, capture_output=True)


def contents(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of bronze and gold, but for what tells one run from another."""
    path = home / "simulator" / "warehouse.duckdb"
    by_run = "load_id", "run_id", "ingested_at_utc"
    with duckdb.connect(path) as connection:

        def rows(table: str, without: Iterable[str]) -> list[tuple[Any, ...]]:
            names = [name for (name,) in connection.execute(
                "select column_name from duckdb_columns() where schema_name || '.' || table_name = ?", [table]
            ).fetchall() if name not in without]  # fmt: skip
            return connection.execute(f"select {', '.join(names)} from {table} order by all").fetchall()

        tables = connection.execute(
            """
            select schema_name || '.' || table_name from duckdb_tables()
            where schema_name in ('silver', 'gold') or table_name in ('observations', 'forecasts', 'air_quality')
            """
        ).fetchall()
        return {table: rows(table, by_run) for (table,) in tables}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[Any, ...]]]:
    """What a run leaves that nobody kills."""
    home = tmp_path_factory.mktemp("undisturbed")
    backfill(home)
    return contents(home)


@pytest.mark.parametrize("phase", PHASES)
def test_a_run_killed_in_bronze_is_completed_by_the_next(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]], phase: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, PHASES[phase], "backfill", *RANGE],
        env=environment(tmp_path), capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    backfill(tmp_path)
    assert contents(tmp_path) == undisturbed


def test_a_run_killed_in_dbt_is_completed_by_the_next(
    tmp_path: Path, undisturbed: dict[str, list[tuple[Any, ...]]]
) -> None:
    process = subprocess.Popen(
        [BIN / "weather", "backfill", *RANGE], env=environment(tmp_path),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    path = tmp_path / "simulator" / "warehouse.duckdb"
    deadline = time.monotonic() + 120
    while not is_held_by_dbt(process.pid, path):
        assert process.poll() is None, "the run ended before dbt held the warehouse"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    backfill(tmp_path)
    assert contents(tmp_path) == undisturbed


def is_held_by_dbt(pid: int, path: Path) -> bool:
    """Whether a child of the run has the warehouse open: dbt is between its first and its last model."""
    try:
        children = psutil.Process(pid).children(recursive=True)
        return any(Path(opened.path) == path for child in children for opened in child.open_files())
    except psutil.Error:
        return False
