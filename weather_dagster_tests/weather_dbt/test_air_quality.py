"""Days of air quality and flags of precipitation, against numbers that were computed apart (cases C11 and C23)."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from weather_dagster.datasets import AIR_QUALITY, OBSERVATIONS
from weather_dagster.hours import HOUR
from weather_dagster.warehouse.base import Store
from weather_dagster_tests.weather_dbt.bronze import land, place
from weather_dagster_tests.weather_dbt.conftest import Dbt
from weather_dagster_tests.weather_dbt.test_calculations import Query, case, querying

pytestmark = pytest.mark.integration

DAY = datetime(2026, 6, 1, tzinfo=UTC)
JUNE_1 = DAY.date()
SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)
"""Begin of the 29th of March in Paris, a day of 23 hours."""
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)
"""Begin of the 25th of October in Paris, a day of 25 hours."""
# 24 h means of PM10 and their index, worked out by hand from table 6 of EPA-454/B-24-002.
PM10 = [(0, 0), (54, 50), (54.9, 50), (55, 51), (154, 100), (155, 101), (254, 150), (354, 200), (424, 300),
        (425, 301), (604, 500), (700, 607)]  # fmt: skip
CATEGORIES = {
    0: "Good", 9.0: "Good", 9.1: "Moderate", 35.5: "Unhealthy for Sensitive Groups", 125.4: "Unhealthy",
    225.4: "Very Unhealthy", 225.5: "Hazardous", 400: "Hazardous",
}  # fmt: skip
# European bands of an hour, one pollutant at a time: at the end of each band and just above.
BANDS = {
    "pm2_5_ug_m3": (5, 15, 50, 90, 140),
    "pm10_ug_m3": (15, 45, 120, 195, 270),
    "nitrogen_dioxide_ug_m3": (10, 25, 60, 100, 150),
    "ozone_ug_m3": (60, 100, 120, 160, 180),
    "sulphur_dioxide_ug_m3": (20, 40, 125, 190, 275),
}
HOURLY_BANDS = [
    (name, value, band)
    for name, ends in BANDS.items()
    for number, end in enumerate(ends, start=1)
    for value, band in ((end, number), (end + 0.1, number + 1))
]
# Hours of one day: provider and values.
UNEQUAL: list[tuple[str, dict[str, float]]] = [
    ("simulator", {"pm2_5_ug_m3": 10, "pm10_ug_m3": 60, "nitrogen_dioxide_ug_m3": 5, "carbon_monoxide_ug_m3": 200}),
    ("openweather", {"pm2_5_ug_m3": 30, "pm10_ug_m3": 20, "nitrogen_dioxide_ug_m3": 15, "sulphur_dioxide_ug_m3": 7}),
    ("simulator", {"sulphur_dioxide_ug_m3": 9, "carbon_monoxide_ug_m3": 300, "pm10_ug_m3": 55}),
    ("simulator", {"sulphur_dioxide_ug_m3": 8, "carbon_monoxide_ug_m3": 220}),
]


def day_of(name: str, hours: int = 24, first: datetime = DAY, **values: float) -> list[dict[str, Any]]:
    """Equal hours of one place."""
    return [{"location_id": name, "valid_hour_utc": first + n * HOUR, **values} for n in range(hours)]


def air_quality_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(case("C23")["rows"]):
        rows += day_of(f"c23_{i}", pm2_5_ug_m3=row["pm2_5_24h_ugm3"])
    for i, (value, _) in enumerate(PM10):
        rows += day_of(f"pm10_{i}", pm10_ug_m3=value)
    for i, value in enumerate(CATEGORIES):
        rows += day_of(f"category_{i}", pm2_5_ug_m3=value)
    for i, (pollutant, value, _) in enumerate(HOURLY_BANDS):
        rows += day_of(f"band_{i}", 1, **{pollutant: value})
    rows += day_of("higher", pm2_5_ug_m3=9.0, pm10_ug_m3=155)
    rows += day_of("enough", 18, pm2_5_ug_m3=9.1) + day_of("too_few", 17, pm2_5_ug_m3=9.1)
    rows += day_of("without_values", ammonia_ug_m3=1.0)
    rows += day_of("spring", 18, SPRING, pm2_5_ug_m3=9.1) + day_of("autumn", 18, AUTUMN, pm2_5_ug_m3=9.1)
    # of 24 hours 17 have PM2.5 and 18 have PM10
    rows += day_of("half", 17, pm2_5_ug_m3=400, pm10_ug_m3=54)
    rows += [*day_of("half", 1, DAY + 17 * HOUR, pm10_ug_m3=54), *day_of("half", 6, DAY + 18 * HOUR)]
    # one hour of band 6 among good ones
    rows += day_of("worst", 5, pm2_5_ug_m3=1, ozone_ug_m3=1) + day_of("worst", 1, DAY + 5 * HOUR, ozone_ug_m3=200)
    # the day before is high in its last four hours
    rows += day_of("over_midnight", 4, DAY - 4 * HOUR, ozone_ug_m3=160)
    rows += day_of("over_midnight", 24, ozone_ug_m3=40)
    # five rows in eight hours are too few, however many rows come before the gap
    rows += day_of("gap", 8, DAY - 24 * HOUR, ozone_ug_m3=180) + day_of("gap", 5, ozone_ug_m3=180)
    rows += day_of("six", 6, ozone_ug_m3=180)
    # seven high hours fill seven eighths of a frame
    rows += day_of("peak", 8, ozone_ug_m3=40) + day_of("peak", 7, DAY + 8 * HOUR, ozone_ug_m3=160)
    rows += day_of("peak", 9, DAY + 15 * HOUR, ozone_ug_m3=40)
    for n, (provider, values) in enumerate(UNEQUAL):
        rows.append({"location_id": "unequal", "valid_hour_utc": DAY + n * HOUR, "provider": provider, **values})
    return rows


@pytest.fixture(scope="module")
def query(dbt: Dbt, new_store: Callable[[], Store]) -> Query:
    store = new_store()
    rows = air_quality_rows()
    names = dict.fromkeys(row["location_id"] for row in rows)
    places = [place(name, "Europe/Paris" if name in ("spring", "autumn") else "UTC") for name in names]
    with store.open() as bronze:
        land(bronze, AIR_QUALITY, rows, places)
        land(bronze, OBSERVATIONS, precipitation_rows(), [place("alps")])
    dbt(store, "build")
    return querying(store)


def daily(query: Query, columns: str, name: str, day: date = JUNE_1) -> tuple[Any, ...]:
    (row,) = query(
        f"select {columns} from gold.daily_air_quality where location_id = $place and local_date = $day",
        place=name,
        day=day,
    )
    return row


def test_the_us_index_of_pm2_5_follows_the_table_of_2024(query: Query) -> None:
    for i, row in enumerate(case("C23")["rows"]):
        (index,) = daily(query, "us_aqi_pm2_5", f"c23_{i}")
        if isinstance(row["expect_aqi"], int):
            assert index == row["expect_aqi"], row
        else:
            assert row["pm2_5_24h_ugm3"] == 400
            assert index == 649, "on along the last class: 301 + 199 / 99.9 * 174.5"


def test_the_us_index_of_pm10_follows_its_own_table(query: Query) -> None:
    assert [daily(query, "us_aqi_pm10", f"pm10_{i}")[0] for i in range(len(PM10))] == [index for _, index in PM10]


def test_every_us_index_has_the_name_of_its_class(query: Query) -> None:
    names = [daily(query, "us_aqi_category", f"category_{i}")[0] for i in range(len(CATEGORIES))]
    assert names == list(CATEGORIES.values())


def test_the_us_index_of_a_day_is_the_higher_one(query: Query) -> None:
    assert daily(query, "us_aqi_pm2_5, us_aqi_pm10, us_aqi, us_aqi_category", "higher") == (
        50, 101, 101, "Unhealthy for Sensitive Groups",
    )  # fmt: skip


def test_the_us_index_needs_three_quarters_of_the_hours_of_the_local_day(query: Query) -> None:
    columns = "hours_expected, hours_present, pm2_5_hours, us_aqi, us_aqi_category"
    assert daily(query, columns, "enough") == (24, 18, 18, 51, "Moderate")
    assert daily(query, columns, "too_few") == (24, 17, 17, None, None)
    assert daily(query, columns, "without_values") == (24, 24, 0, None, None)
    assert daily(query, columns, "spring", date(2026, 3, 29)) == (23, 18, 18, 51, "Moderate")
    assert daily(query, columns, "autumn", date(2026, 10, 25)) == (25, 18, 18, None, None), "of 25 hours 19 are enough"


def test_a_pollutant_with_too_few_hours_has_no_part_in_the_us_index(query: Query) -> None:
    columns = "hours_present, pm2_5_hours, pm10_hours, us_aqi_pm2_5, us_aqi_pm10, us_aqi"
    assert daily(query, columns, "half") == (24, 17, 18, None, 50, 50)


def test_the_european_bands_end_where_the_report_says(query: Query) -> None:
    found = [daily(query, "european_aqi", f"band_{i}")[0] for i in range(len(HOURLY_BANDS))]
    assert found == [band for _, _, band in HOURLY_BANDS]


def test_the_european_index_of_a_day_is_its_worst_hour_and_null_without_a_pollutant(query: Query) -> None:
    assert daily(query, "european_aqi", "worst") == (6,)
    assert daily(query, "european_aqi", "without_values") == (None,)


def test_a_day_has_the_means_and_maxima_of_its_hours_and_names_their_providers(query: Query) -> None:
    columns = "pm2_5_mean_ug_m3, pm10_mean_ug_m3, carbon_monoxide_mean_ug_m3"
    assert daily(query, columns, "unequal") == (20.0, 45.0, 240.0)
    assert daily(query, "nitrogen_dioxide_max_ug_m3, sulphur_dioxide_max_ug_m3", "unequal") == (15.0, 9.0)
    assert daily(query, "nitrogen_dioxide_max_ug_m3, sulphur_dioxide_max_ug_m3", "higher") == (None, None)
    assert daily(query, "providers, pm2_5_hours, pm10_hours, hours_present", "unequal") == (
        "openweather,simulator", 2, 3, 4,
    )  # fmt: skip


def test_ozone_is_averaged_over_eight_hours_by_time_and_across_midnight(query: Query) -> None:
    # At 00:00 five hours are there, too few; at 01:00 four high and two low ones.
    assert daily(query, "ozone_8h_max_ug_m3", "over_midnight")[0] == pytest.approx((4 * 160 + 2 * 40) / 6)
    assert daily(query, "ozone_8h_max_ug_m3", "gap") == (None,)
    assert daily(query, "ozone_8h_max_ug_m3", "six") == (180.0,)
    assert daily(query, "ozone_8h_max_ug_m3", "peak") == ((7 * 160 + 40) / 8,)


def precipitation_rows() -> list[dict[str, Any]]:
    """C11 as its adapter delivers it, then the edge of the tolerance and unknown parts."""
    expect = case("C11")["expect"]
    amounts = [
        *zip(expect["precipitation_1h_mm"], expect["rain_1h_mm"], expect["snow_1h_mm"], strict=True),
        (1.05, 1.0, 0.0),
        (1.051, 1.0, 0.0),
        (1.0, 1.0, 0.06),
        (3.0, None, 0.0),
    ]
    return [
        {"location_id": "alps", "valid_hour_utc": DAY + n * HOUR, "precipitation_mm": p, "rain_mm": r, "snow_mm": s}
        for n, (p, r, s) in enumerate(amounts)
    ]


def test_precipitation_that_its_parts_contradict_is_flagged_and_the_total_stays(query: Query) -> None:
    rows = query(
        "select precipitation_mm, precipitation_parts_disagree from silver.observations order by valid_hour_utc"
    )
    assert [total for total, _ in rows] == [row["precipitation_mm"] for row in precipitation_rows()]
    assert [flag for _, flag in rows] == [*case("C11")["expect"]["parts_disagree_flag"], False, True, True, None]
