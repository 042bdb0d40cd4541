"""An ERROR check on bronze stops what lies below it, Python assets included; a WARN check stops nothing (case C25)."""

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.simulator.faults import Fault
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.conftest import Provider, Weather

pytestmark = pytest.mark.integration

GOOD, BAD = (floor_hour(utc_now()) - timedelta(hours=n) for n in (10, 9))


def evaluations(home: Path) -> dict[str, bool]:
    """Whether each bronze check of the newest run passed."""
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs(limit=1)
        records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
        found = [r.event_log_entry.get_dagster_event().asset_check_evaluation_data for r in records]
        return {e.check_name: e.passed for e in found if e.asset_key == dg.AssetKey(["bronze", "observations"])}


def test_a_row_outside_the_limits_stops_silver_gold_and_the_report(weather: Weather, tmp_path: Path) -> None:
    home = tmp_path / ".weather" / "simulator"
    good, bad = (("--from", format_hour(h), "--to", format_hour(h)) for h in (GOOD, BAD))
    assert weather("backfill", *good).returncode == 0
    report_before = (home / "report.html").read_bytes()
    with open_warehouse(home / "warehouse.duckdb") as store:
        store.connection.execute(
            """
            insert into bronze.observations
            select * replace (
                ? as valid_hour_utc, ? as observed_at_utc, 500 as wind_speed_ms, 'planted' as payload_hash
            )
            from bronze.observations where location_id = 'lyon'
            """,
            [BAD, BAD],
        )
    refused = weather("backfill", *bad)
    assert refused.returncode == 1
    assert "plausible_limits" in refused.stderr
    assert "wind_speed_ms 500.0 at lyon" in " ".join(refused.stderr.split())
    with open_warehouse(home / "warehouse.duckdb") as store:
        for table in ("silver.observations", "gold.hourly_weather", "gold.latest_conditions"):
            assert store.query(f"select count(*) from {table} where valid_hour_utc = ?", [BAD]) == [(0,)], table
        assert (home / "report.html").read_bytes() == report_before
        assert evaluations(home)["plausible_limits"] is False

        store.connection.execute("delete from bronze.observations where payload_hash = 'planted'")
    assert weather("backfill", *bad).returncode == 0
    with open_warehouse(home / "warehouse.duckdb") as store:
        assert store.query("select count(*) from gold.hourly_weather where valid_hour_utc = ?", [BAD]) == [(10,)]


def test_a_missing_place_warns_and_lets_the_others_through(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    provider.faults.replace([Fault(kind="patch", place=(45.76, 4.84), values={"main.temp": "warm"})])
    now = format_hour(floor_hour(utc_now()))
    result = weather("backfill", "--from", now, "--to", now, **provider.live)
    home = tmp_path / ".weather" / "live"
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "WARN bronze/observations: completeness: 9 of 10 place-hours present; missing at lyon" in said
    assert "WARN bronze/observations: quarantine_share: 1 of 10 records in quarantine" in said
    with open_warehouse(home / "warehouse.duckdb", read_only=True) as store:
        assert store.query("select count(*) from gold.latest_conditions") == [(9,)]
    assert (home / "report.html").exists()
