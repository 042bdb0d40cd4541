"""A year of real hours through one `weather demo --recorded`, against numbers computed here in plain Python."""

import math
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow.parquet as pq
import pytest

from weather_dagster.checks.anomalies import changes_are_gradual, usual_row_counts, values_move
from weather_dagster.checks.bronze import completeness
from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.hours import HOUR, HourRange, format_hour
from weather_dagster.locations import load_locations
from weather_dagster.settings import RECORDED_LOCATIONS
from weather_dagster.simulator.recorded import HOURS_FILE
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster_tests.conftest import BIN, without_settings

pytestmark = pytest.mark.integration

ZONE = ZoneInfo("America/New_York")
IMPOSSIBLE_WIND = ("ewr", datetime(2013, 2, 12, 8, tzinfo=UTC))
UNLIKELY_COLD = ("jfk", datetime(2013, 5, 9, 2, tzinfo=UTC))
"""24 °C colder than the hours before and after it, in May."""

Hours = dict[tuple[str, datetime], dict[str, Any]]


@pytest.fixture(scope="module")
def recorded() -> Hours:
    """The recording, by place and hour."""
    rows = pq.read_table(HOURS_FILE).to_pylist()
    return {(row["location_id"], row["hour_utc"].astimezone(UTC)): row for row in rows}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home after `weather demo --recorded`: client, bronze, dbt and report in one run."""
    folder = tmp_path_factory.mktemp("recorded")
    environment = {**without_settings(), "WEATHER_HOME": str(folder)}
    result = subprocess.run(
        [BIN / "weather", "demo", "--recorded"], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return folder / "recorded"


@pytest.fixture(scope="module")
def year(home: Path) -> Iterator[DuckDBWarehouse]:
    """The warehouse with the whole year, open for reading."""
    with open_warehouse(home / "warehouse.duckdb", read_only=True) as warehouse:
        yield warehouse


def test_the_year_is_one_run_with_every_hour_a_partition(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert len(instance.get_materialized_partitions(dg.AssetKey(["bronze", "observations"]))) == 365 * 24


def test_missing_hours_are_shown_as_missing(year: DuckDBWarehouse, home: Path) -> None:
    hours = HourRange(*year.query("select min(valid_hour_utc), max(valid_hour_utc) from gold.hourly_weather")[0])
    outcome = completeness(year, OBSERVATIONS, load_locations(RECORDED_LOCATIONS), hours)
    missing = {row.data["place"]: row.data["missing_hours"] for row in outcome.metadata["missing_by_place"].records}
    assert missing == {"ewr": 27, "jfk": 24, "lga": 24}
    assert outcome.severity == dg.AssetCheckSeverity.WARN
    assert "Recorded hours of 2013" in (home / "report.html").read_text(encoding="utf-8")


def test_every_recorded_hour_is_there_and_no_other(year: DuckDBWarehouse, recorded: Hours) -> None:
    hours = set(year.query("select location_id, valid_hour_utc from gold.hourly_weather"))
    assert hours == set(recorded)


def test_the_impossible_wind_is_in_quarantine_and_in_no_maximum(year: DuckDBWarehouse) -> None:
    place, hour = IMPOSSIBLE_WIND
    assert year.query(
        "select wind_speed_ms, rejected_fields from gold.hourly_weather where location_id = ? and valid_hour_utc = ?",
        [place, hour],
    ) == [(None, "wind_speed_ms")]
    assert year.query("select location_id, hour_utc, field from bronze.quarantine") == [(place, hour, "wind_speed_ms")]
    ((strongest,),) = year.query("select max(wind_speed_max_ms) from gold.daily_weather")
    assert strongest < 30


def test_the_year_has_one_jump_and_no_standstill(year: DuckDBWarehouse, recorded: Hours) -> None:
    hours = HourRange(min(hour for _, hour in recorded), max(hour for _, hour in recorded))
    assert values_move(year, hours).passed
    jumps = [record.data for record in changes_are_gradual(year, hours).metadata["jumps_by_place"].records]
    place, hour = UNLIKELY_COLD
    assert [(jump["place"], jump["hour"], jump["quantity"], jump["value"]) for jump in jumps] == [
        (place, format_hour(hour + HOUR), "temperature_c", "14 after -10.5"),
        (place, format_hour(hour), "temperature_c", "-10.5 after 13.9"),
    ]


def test_the_counts_of_rows_that_are_unusual_are_the_hours_in_which_one_airport_alone_reported(
    year: DuckDBWarehouse, recorded: Hours
) -> None:
    places = load_locations(RECORDED_LOCATIONS)
    airports = Counter(hour for _, hour in recorded)
    hours = HourRange(min(airports), max(airports))
    outcome = usual_row_counts(year, OBSERVATIONS, places, hours)
    unusual = [record.data for record in outcome.metadata["unusual_counts"].records]
    # The first week has no history to be compared with.
    lonely = [hour for hour in sorted(airports) if airports[hour] == 1 and hour >= hours.first + timedelta(days=7)]
    assert [(row["hour"], row["value"], row["usual"]) for row in unusual] == [
        (format_hour(hour), 1, 3.0) for hour in lonely
    ]
    assert len(lonely) == 7


def test_local_days_agree_with_an_independent_computation(year: DuckDBWarehouse, recorded: Hours) -> None:
    days: dict[tuple[str, date], list[dict[str, Any]]] = defaultdict(list)
    for (place, hour), row in recorded.items():
        days[place, hour.astimezone(ZONE).date()].append(row)
    rows = year.query(
        "select location_id, local_date, hours_present, hours_expected, temperature_hours, precipitation_hours_present,"
        " snow_mm, temperature_mean_c, temperature_min_c, temperature_max_c, heating_degree_days, humidity_mean_pct,"
        " pressure_mean_hpa, wind_speed_mean_ms, wind_speed_max_ms, wind_gust_max_ms, precipitation_mm, rain_mm,"
        " wind_direction_mean_deg from gold.daily_weather"
    )
    assert {(place, day) for place, day, *_ in rows} == set(days)
    for place, day, present, expected, with_temperature, with_precipitation, snow, *measures, direction in rows:
        hours = days[place, day]
        midnights = (datetime(d.year, d.month, d.day, tzinfo=ZONE) for d in (day, day + timedelta(days=1)))
        first, end = (midnight.astimezone(UTC) for midnight in midnights)
        assert (present, expected) == (len(hours), (end - first) / HOUR)
        temperatures, humidities, pressures, winds, gusts, rains = (
            [h[name] for h in hours if h[name] is not None]
            for name in (
                "temperature_c",
                "humidity_pct",
                "pressure_hpa",
                "wind_speed_ms",
                "wind_gust_ms",
                "precipitation_mm",
            )
        )
        winds = [wind for wind in winds if wind < 115]
        assert (with_temperature, with_precipitation, snow) == (len(temperatures), len(rains), 0.0)
        assert measures == pytest.approx(
            [
                fmean(temperatures),
                min(temperatures),
                max(temperatures),
                fmean(max(0, 18 - t) for t in temperatures),
                fmean(humidities),
                fmean(pressures) if pressures else None,
                fmean(winds),
                max(winds),
                max(gusts, default=None),
                sum(rains),
                sum(rains),
            ],
            abs=1e-6,
        )
        angles = [
            math.radians(h["wind_direction_deg"])
            for h in hours
            if h["wind_direction_deg"] is not None and h["wind_speed_ms"] and h["wind_speed_ms"] < 115
        ]
        east, north = sum(map(math.sin, angles)), sum(map(math.cos, angles))
        if math.hypot(east, north) > 0.01:
            apart = (direction - math.degrees(math.atan2(east, north)) + 180) % 360 - 180
            assert abs(apart) < 1e-5


@pytest.mark.parametrize(
    ("day", "present", "expected"),
    [(date(2013, 3, 10), 23, 23), (date(2013, 11, 3), 24, 25), (date(2013, 10, 25), 20, 24)],
)
def test_days_of_clock_changes_and_gaps_count_as_the_recording_says(
    year: DuckDBWarehouse, day: date, present: int, expected: int
) -> None:
    rows = year.query(
        "select hours_present, hours_expected, is_complete from gold.daily_weather"
        " where location_id = 'jfk' and local_date = ?",
        [day],
    )
    assert rows == [(present, expected, present == expected)]


def test_known_days_have_their_known_temperatures(year: DuckDBWarehouse) -> None:
    rows = year.query(
        "select temperature_mean_c, temperature_max_c from gold.daily_weather"
        " where location_id = 'jfk' and local_date in ('2013-03-10', '2013-07-18') order by local_date"
    )
    assert rows[0][0] == pytest.approx(3.274, abs=0.005)
    assert rows[1][1] == pytest.approx(36.7, abs=0.05)


def test_moving_means_agree_with_an_independent_computation(year: DuckDBWarehouse, recorded: Hours) -> None:
    rows = year.query(
        "select location_id, valid_hour_utc, mean_3h_c, hours_present_3h, mean_24h_c, hours_present_24h,"
        " mean_7d_c, hours_present_7d from gold.temperature_moving_averages where location_id = 'ewr'"
    )
    assert len(rows) > 8000
    for place, hour, *found in rows:
        for frame, mean, count in zip((3, 24, 168), found[::2], found[1::2], strict=True):
            reached = (recorded.get((place, hour - n * HOUR)) for n in range(frame))
            temperatures = [h["temperature_c"] for h in reached if h and h["temperature_c"] is not None]
            assert count == len(temperatures)
            assert mean == (pytest.approx(fmean(temperatures), abs=1e-6) if temperatures else None)
