"""The real daemon, on a clock that a test moves: hours arrive, and those of a downtime are filled."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.partitions import partition_key
from weather_dagster_tests.clock import Clock
from weather_dagster_tests.conftest import BIN, free_port, without_settings
from weather_dagster_tests.test_dagster_dev import query, wait_for

pytestmark = pytest.mark.integration

START = floor_hour(utc_now()).replace(hour=5) + timedelta(days=1)
"""Ahead of the real time, and the same time of the day whenever the test begins."""
DOWN = timedelta(hours=30)
PLACES = 10
STATEMENTS_OF_ORIGIN = ("load_id", "ingested_at_utc", "run_id")
"""Columns that tell when and by which run a row came, not what the weather was."""


@contextmanager
def weather_dev(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """`weather dev`, stopped as a person stops it."""
    with (Path(environment["WEATHER_HOME"]) / "dev.log").open("ab") as output:
        process = subprocess.Popen(
            [BIN / "weather", "dev", "--port", str(free_port())],
            env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def runs(home: Path) -> list[dict[str, Any]]:
    """Job, status and tags of the runs of a home, the oldest first."""
    import dagster as dg
    from dagster import DagsterInstance

    folder = home / "simulator" / "dagster"
    if not (folder / "history").exists():
        return []
    with DagsterInstance.from_config(str(folder)) as instance:
        return [
            {"job": run.job_name, "status": run.status.value, **run.tags}
            for run in reversed(instance.get_runs(dg.RunsFilter()))
        ]


def landed(environment: dict[str, str], hours: HourRange) -> int:
    """Place-hours of a range in gold."""
    try:
        sql = (
            f"select count(*) from gold.hourly_weather where valid_hour_utc between '{hours.first}' and '{hours.last}'"
        )
        ((count,),) = query(environment, sql)
    except duckdb.CatalogException:
        return 0
    return int(count)


def gold(environment: dict[str, str]) -> dict[str, set[tuple[Any, ...]]]:
    """What every gold table says of the weather."""
    names = query(environment, "select table_name from information_schema.tables where table_schema = 'gold'")
    columns = {
        name: [
            column
            for (column,) in query(
                environment,
                "select column_name from information_schema.columns "
                f"where table_schema = 'gold' and table_name = '{name}' order by ordinal_position",
            )
            if column not in STATEMENTS_OF_ORIGIN
        ]
        for (name,) in names
    }
    return {
        name: set(query(environment, f"select {', '.join(f'{c}::varchar' for c in told)} from gold.{name}"))
        for name, told in columns.items()
    }


def test_thirty_hours_of_downtime_are_filled_as_if_nothing_had_been(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    clock = Clock(tmp_path / "clock.json", at=START + timedelta(minutes=4))
    settings = {"WEATHER_PROVIDER": "simulator", "WEATHER_START_HOUR": format_hour(START)}
    environment = {**without_settings(), **settings, "WEATHER_HOME": str(home)}

    with weather_dev({**environment, **clock.environment}):
        wait_for(lambda: [run["status"] for run in runs(home)], lambda told: told == ["SUCCESS"], timeout=240)
    (first,) = runs(home)
    assert first["dagster/partition"] == partition_key(START)

    clock.jump(DOWN)
    now = floor_hour(clock.now())
    hours = HourRange(START, now)
    with weather_dev({**environment, **clock.environment}):
        wait_for(lambda: landed(environment, hours), lambda count: count == PLACES * len(hours), timeout=400)
        wait_for(
            lambda: {run["status"] for run in runs(home)}, lambda told: told <= {"SUCCESS", "FAILURE"}, timeout=120
        )
    later = runs(home)[1:]
    assert {run["status"] for run in later} == {"SUCCESS"}
    assert len(later) <= 3, later
    assert any(run.get("weather/healing") for run in later)

    undisturbed = {**environment, **clock.environment, "WEATHER_HOME": str(tmp_path / "undisturbed")}
    subprocess.run(
        [BIN / "weather", "backfill", "--from", format_hour(START), "--to", format_hour(now)],
        env=undisturbed, check=True, capture_output=True,
    )  # fmt: skip
    assert gold(environment) == gold(undisturbed)
