"""`weather demo` from an empty home, and a live run whose key must be found nowhere."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Browser

from weather_dagster.dbt_command import DBT_DIR
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.conftest import KEY, Provider, Weather
from weather_dagster_tests.test_definitions import BRONZE, CHECKS_OF_HOURS, FRESHNESS, SILVER_CHECKS

pytestmark = pytest.mark.integration

DAYS = 3
PLACES = {place.id for place in load_locations()}
GOLD = ("hourly_weather", "daily_weather", "temperature_moving_averages", "latest_conditions")


def rows(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_warehouse(home / "warehouse.duckdb", read_only=True) as warehouse:
        return warehouse.query(sql)


def everything(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of bronze and gold."""
    tables = rows(
        home,
        "select schema_name || '.' || table_name from duckdb_tables() "
        # The call ledger's copy grows with every run.
        "where schema_name <> 'silver' and table_name <> 'api_calls'",
    )
    return {table: rows(home, f"select * from {table} order by all") for (table,) in tables}


def evaluated(home: Path) -> dict[tuple[str, str], tuple[bool, str | None]]:
    """The checks of the newest run that are not dbt's, by asset and name: whether they passed, the hours they saw."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs(limit=1)
        records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        found = [r.event_log_entry.get_dagster_event().asset_check_evaluation_data for r in records]
    return {
        (e.asset_key.to_user_string(), e.check_name): (
            e.passed,
            str(e.metadata["hours"].value) if "hours" in e.metadata else None,
        )
        for e in found
        if e.asset_key.path[0] == "bronze" or e.check_name in SILVER_CHECKS
    }


def test_the_demo_fills_gold_for_every_place_and_hour_and_again_changes_nothing(
    weather: Weather, tmp_path: Path, browser: Browser
) -> None:
    home = tmp_path / ".weather" / "simulator"
    last = floor_hour(utc_now())
    first_run = weather("demo", "--days", str(DAYS))
    assert first_run.returncode == 0, first_run.stderr
    assert "Latest conditions" in first_run.stdout
    assert str(home / "report.html") in first_run.stdout

    range_of_run = str(HourRange(last - timedelta(days=DAYS) + HOUR, last))
    assert evaluated(home) == {
        **{(asset, check): (True, range_of_run) for asset in BRONZE for check in CHECKS_OF_HOURS},
        ("bronze/observations", "providers_agree"): (True, range_of_run),
        **{("silver/observations", check): (True, range_of_run) for check in SILVER_CHECKS},
        **dict.fromkeys(FRESHNESS, (True, None)),
    }

    for table in GOLD:
        assert {place for (place,) in rows(home, f"select distinct location_id from gold.{table}")} == PLACES, table
    asked = {last - n * HOUR for n in range(DAYS * 24)}
    for table in ("gold.hourly_weather", "silver.air_quality"):
        found = rows(home, f"select location_id, valid_hour_utc from {table}")
        assert len(found) == len(asked) * len(PLACES), table
        assert {(place, hour) for place, hour in found} == {(place, hour) for place in PLACES for hour in asked}, table
    vintages = rows(home, "select location_id, issued_hour_utc from silver.forecasts group by all")
    assert {(place, hour) for place, hour in vintages} == {(place, hour) for place in PLACES for hour in asked}
    assert rows(home, "select distinct provider from gold.hourly_weather") == [("simulator",)]

    before = everything(home)
    arguments = ("--from", format_hour(last - timedelta(days=DAYS) + HOUR), "--to", format_hour(last))
    # The demo's own range would have moved on if the hour has turned.
    again = weather("demo", "--days", str(DAYS)) if floor_hour(utc_now()) == last else weather("backfill", *arguments)
    assert again.returncode == 0, again.stderr
    assert everything(home) == before

    page = browser.new_context(offline=True).new_page()
    page.goto((home / "report.html").as_uri())
    page.wait_for_selector(".main-svg")
    assert "SIMULATED DATA" in page.inner_text("body")


def test_the_key_of_a_live_run_is_in_nothing_it_wrote(weather: Weather, tmp_path: Path, provider: Provider) -> None:
    now = format_hour(floor_hour(utc_now()))
    result = weather("backfill", "--from", now, "--to", now, WEATHER_HOME=str(tmp_path / "home"), **provider.live)
    assert result.returncode == 0, result.stderr
    assert {path for path in provider.faults.requests if provider.faults.requests[path].get(200)} >= {
        "/data/2.5/weather",
        "/data/2.5/forecast",
        "/data/2.5/air_pollution/history",
    }
    refused = weather("backfill", "--from", now, "--to", now, WEATHER_HOME=str(tmp_path / "home"), **{
        **provider.live, "OPENWEATHER_BASE_URL": "http://127.0.0.1:9/"
    })  # fmt: skip
    assert refused.returncode == 1
    for said in (result.stdout, result.stderr, refused.stdout, refused.stderr):
        assert KEY not in said
    written = [file for folder in (tmp_path, DBT_DIR) for file in folder.rglob("*") if file.is_file()]
    assert {".duckdb", ".db", ".html", ".log"} <= {file.suffix for file in written}
    assert [file for file in written if KEY.encode() in file.read_bytes()] == []
    # Compressed pages of the warehouse would not show it to a search of bytes.
    assert KEY not in repr(everything(tmp_path / "home" / "live"))
    assert rows(tmp_path / "home" / "live", "select distinct provider from gold.hourly_weather") == [("simulator",)]
