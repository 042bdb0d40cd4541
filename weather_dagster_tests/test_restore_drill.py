"""The restore drill: a copy taken during a backfill comes back elsewhere, agrees with itself, and is made whole."""

import sqlite3
import subprocess
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine

from weather_dagster.assets.bronze import bronze_key
from weather_dagster.automation.healing import find_holes
from weather_dagster.automation.local_run import QUIET
from weather_dagster.datasets import DATASETS
from weather_dagster.definitions import build_definitions
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.partitions import partition_key
from weather_dagster.settings import Settings
from weather_dagster.simulator.faults import Fault
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster_tests.automation.test_downtime import gold
from weather_dagster_tests.conftest import BIN, Provider, without_settings
from weather_dagster_tests.test_dagster_dev import query, wait_for

pytestmark = pytest.mark.integration

HISTORY = "/data/2.5/history/city"
"""Observations and forecasts, which come after air quality."""
SLOW = 8.0
"""Seconds: so long the backfill waits while the copy is taken."""
NO_UNIT_TESTS = ("--exclude-resource-type", "unit_test")
REFINED = (
    ("observations", "gold.hourly_weather", "valid_hour_utc"),
    ("air_quality", "silver.air_quality", "valid_hour_utc"),
)


def recorded(dagster_home: Path) -> int:
    """How many partitions a home's Dagster storage has noted so far."""
    index = dagster_home / "history" / "runs" / "index.db"
    if not index.exists():
        return 0
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True)) as connection:
        try:
            ((count,),) = connection.execute(
                "select count(*) from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'"
            )
        except sqlite3.OperationalError:
            return 0
    return int(count)


def span(hours: HourRange) -> tuple[str, ...]:
    """The range as options of a command."""
    return ("--from", format_hour(hours.first), "--to", format_hour(hours.last))


def weather(environment: dict[str, str], *arguments: str) -> str:
    """What a command says that goes well."""
    done = subprocess.run([BIN / "weather", *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def held(environment: dict[str, str]) -> set[tuple[str, str, str]]:
    """Dataset, place and hour of everything in bronze."""
    return {
        (dataset.name, place, partition_key(floor_hour(hour)))
        for dataset in DATASETS.values()
        for place, hour in query(
            environment, f"select location_id, {dataset.partition_column} from bronze.{dataset.name}"
        )
    }


def tick(instance: dg.DagsterInstance, definitions: dg.Definitions, now: datetime) -> dg.RunRequest | str:
    """What a look of the healing sensor asks for, or why it asks for nothing."""
    repository = definitions.get_repository_def()
    with (
        time_machine.travel(now, tick=True),
        dg.build_sensor_context(instance=instance, repository_def=repository) as context,
    ):
        data = repository.get_sensor_def("heal_missing_hours").evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


# Of dagster-dbt, which asks its context so.
@pytest.mark.filterwarnings("ignore:AssetExecutionContext.op is deprecated")
def test_a_copy_taken_during_a_backfill_is_restored_elsewhere_agrees_with_itself_and_is_healed(
    clean_environment: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = floor_hour(utc_now())
    hours = HourRange(running - 48 * HOUR, running - HOUR)
    early = HourRange(hours.first, hours.first + 5 * HOUR)
    settings = {**without_settings(), **provider.live, "WEATHER_START_HOUR": format_hour(hours.first)}
    original, restored = (
        {**settings, "WEATHER_HOME": str(clean_environment / name)} for name in ("original", "restored")
    )
    weather(original, "ingest", *span(early))

    provider.faults.replace([Fault(kind="slow", path=HISTORY, seconds=SLOW)])
    dagster_home = clean_environment / "original" / "live" / "dagster"
    with subprocess.Popen(
        [BIN / "weather", "backfill", *span(hours)], env=original, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as backfill:
        wait_for(lambda: recorded(dagster_home), lambda count: count >= 10, timeout=120)
        weather(original, "backup", "--to", str(clean_environment / "copy"))
        assert backfill.poll() is None, "the copy was not taken during the backfill"
        provider.faults.replace([])
    assert backfill.returncode == 0
    weather(restored, "restore", str(clean_environment / "copy"))

    landed = held(restored)
    missed = held(original) - landed
    assert landed
    assert missed
    subprocess.run([BIN / "weather-dbt", "--quiet", "build", *NO_UNIT_TESTS], env=restored, check=True)
    for bronze, refined, hour in REFINED:
        found = query(restored, f"select distinct location_id, {hour} from {refined}")
        told = {(bronze, place, partition_key(floor_hour(at))) for place, at in found}
        assert told == {each for each in landed if each[0] == bronze}, refined

    for name, value in restored.items():
        monkeypatch.setenv(name, value)
    loaded = Settings.load()
    watched = load_locations(loaded.locations_path)
    now = running + timedelta(minutes=5)
    definitions = build_definitions(loaded)
    with dg.DagsterInstance.from_config(str(loaded.dagster_home_path)) as instance:
        for dataset in DATASETS.values():
            for key in instance.get_materialized_partitions(bronze_key(dataset)):
                assert {(dataset.name, place, key) for place in (each.id for each in watched)} <= landed, (
                    "recorded without its rows"
                )
        with open_warehouse(loaded.duckdb_path, read_only=True) as store:
            holes = find_holes(
                store, WeatherApi.from_settings(loaded), DATASETS.values(), watched, now, start_hour=loaded.start_hour
            )
        assert {(hole.dataset, hole.place, partition_key(hole.hour)) for hole in holes.open} == missed
        request = tick(instance, definitions, now)
        assert isinstance(request, dg.RunRequest), request
        healed = definitions.resolve_job_def("hourly_weather").execute_in_process(
            instance=instance,
            run_config={**request.run_config, **QUIET},
            tags=request.tags,
            asset_selection=list(request.asset_selection or ()),
        )
        assert healed.success
        assert tick(instance, definitions, now) == "nothing is missing"
        assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    assert held(restored) == held(original)
    assert gold(restored) == gold(original)
