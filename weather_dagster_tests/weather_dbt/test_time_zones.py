"""Silver and gold do not depend on the time zone of host, process or database (cases, C27)."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS
from weather_dagster.hours import HOUR
from weather_dagster.locations import load_locations
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.weather_dbt.bronze import land
from weather_dagster_tests.weather_dbt.conftest import PROJECT
from weather_dagster_tests.weather_dbt.test_increments import difference

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 6, tzinfo=UTC)  # clocks in Los Angeles change on the 8th


def build(folder: Path, bronze: Path, zone: str) -> Path:
    """Build a copy of ``bronze`` in a process of that zone, with a database session of that zone."""
    folder.mkdir()
    warehouse = folder / "warehouse.duckdb"
    shutil.copy(bronze, warehouse)
    profile = (PROJECT / "profiles.yml").read_text(encoding="utf-8")
    assert "TimeZone: UTC" in profile
    (folder / "profiles.yml").write_text(profile.replace("TimeZone: UTC", f"TimeZone: {zone}"), encoding="utf-8")
    subprocess.run(
        [
            str(Path(sys.executable).with_name("dbt")), "--quiet", "build", "--project-dir", str(PROJECT),
            "--profiles-dir", str(folder), "--target-path", str(folder / "target"), "--log-path", str(folder),
        ],
        check=True,
        env={**os.environ, "TZ": zone, "WEATHER_DUCKDB_PATH": str(warehouse)},
    )  # fmt: skip
    return warehouse


def test_silver_and_gold_are_the_same_on_a_host_in_another_zone(tmp_path: Path) -> None:
    bronze = tmp_path / "warehouse.duckdb"
    places = load_locations()
    with open_warehouse(bronze) as warehouse:
        for dataset in (OBSERVATIONS, AIR_QUALITY, FORECASTS):
            rows = [
                {
                    "location_id": place.id,
                    "valid_hour_utc": START + hour * HOUR,
                    "issued_hour_utc": START + (hour - 3) * HOUR,
                    dataset.quantities[0].name: 10.0 + hour % 24,
                }
                for place in places
                for hour in range(96)
            ]
            land(warehouse, dataset, rows, places)
    utc = build(tmp_path / "utc", bronze, "UTC")
    los_angeles = build(tmp_path / "los_angeles", bronze, "America/Los_Angeles")
    assert difference(utc, los_angeles) is None
