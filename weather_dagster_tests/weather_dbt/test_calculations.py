"""Frames, zones and formulas against numbers that were computed apart from this project (cases/C17 to C22)."""

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from weather_dagster.datasets import FORECASTS, OBSERVATIONS
from weather_dagster.hours import HOUR
from weather_dagster.warehouse.base import Store
from weather_dagster_tests.weather_dbt.bronze import land, place
from weather_dagster_tests.weather_dbt.conftest import Dbt

pytestmark = pytest.mark.integration

CASES = Path(__file__).parents[1] / "cases"
DAY = datetime(2026, 6, 1, tzinfo=UTC)
# The heat index chart of the National Weather Service at its upper end: °F, %, heat index in °F. None is for empty
# cells, and for air that lies beyond the chart.
CHART = [
    (86, 100, 112), (88, 100, 121), (90, 100, 132), (92, 90, 131), (94, 85, 135), (96, 75, 132), (98, 70, 134),
    (100, 65, 136), (102, 60, 137), (104, 55, 137), (106, 50, 137), (108, 45, 137), (110, 40, 136),
    (92, 100, None), (94, 90, None), (96, 80, None), (98, 75, None), (100, 70, None), (102, 65, None),
    (104, 60, None), (106, 55, None), (108, 50, None), (110, 45, None), (113, 100, None), (122, 60, None),
]  # fmt: skip

Query = Callable[..., list[tuple[Any, ...]]]


def case(name: str) -> dict[str, Any]:
    return dict(json.loads((CASES / f"{name}.json").read_text(encoding="utf-8")))


def hours_of_day(values: list[float | None], column: str) -> list[dict[str, Any]]:
    """One row for each hour of DAY that was received."""
    return [{"valid_hour_utc": DAY + i * HOUR, column: v} for i, v in enumerate(values) if v is not None]


def bronze_rows() -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """Zone and rows by place id."""
    places: dict[str, tuple[str, list[dict[str, Any]]]] = {}
    for i, row in enumerate(case("C17")["rows"]):
        first = datetime.fromisoformat(row["first_hour_utc"]) - 30 * HOUR
        rows = [{"valid_hour_utc": first + n * HOUR, "temperature_c": 10.0} for n in range(90)]
        places[f"c17_{i}"] = (row["timezone"], rows)
    for i, winds in enumerate(case("C18")["sets"]):
        pairs = zip(winds["wind_direction_deg"], winds["wind_speed_ms"], strict=True)
        rows = [
            {"valid_hour_utc": DAY + n * HOUR, "wind_direction_deg": d, "wind_speed_ms": s}
            for n, (d, s) in enumerate(pairs)
        ]
        places[f"c18_{i}"] = ("UTC", rows)
    for i, day in enumerate(case("C19")["days"]):
        # A first hour without any value keeps the place known; it counts as a reading, not as a value.
        rows = [{"valid_hour_utc": DAY - HOUR}, *hours_of_day(day["precipitation_1h_mm"], "precipitation_mm")]
        places[f"c19_{i}"] = ("UTC", rows)
    rows = [{"valid_hour_utc": DAY + n * HOUR, "precipitation_mm": None} for n in range(24)]
    places["c19_null"] = ("UTC", rows)
    for i, day in enumerate(case("C20")["days"]):
        places[f"c20_{i}"] = ("UTC", hours_of_day(day["temperature_c"], "temperature_c"))
    rows = [
        {"valid_hour_utc": datetime.fromisoformat(r["hour_utc"]), "temperature_c": r["temperature_c"]}
        for r in case("C21")["rows"]
    ]
    places["c21"] = ("UTC", rows)
    for kind in ("heat_index", "wind_chill", "dew_point"):
        known = ("temperature_c", "humidity_pct", "wind_speed_ms")
        rows = [
            {"valid_hour_utc": DAY + n * HOUR, **{k: v for k, v in row.items() if k in known}}
            for n, row in enumerate(case("C22")[kind])
        ]
        places[f"c22_{kind}"] = ("UTC", rows)
    rows = [
        {"valid_hour_utc": DAY + n * HOUR, "temperature_c": (f - 32) / 1.8, "humidity_pct": h}
        for n, (f, h, _) in enumerate(CHART)
    ]
    places["chart"] = ("UTC", rows)
    return places


def querying(store: Store) -> Query:
    """Runs a SELECT on a store; keyword arguments are its parameters."""

    def run(sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with store.open(read_only=True) as warehouse:
            return warehouse.query(sql, parameters)

    return run


@pytest.fixture(scope="module")
def query(dbt: Dbt, new_store: Callable[[], Store]) -> Query:
    store = new_store()
    given = bronze_rows()
    with store.open() as bronze:
        rows = [{"location_id": name, **row} for name, (_, rows) in given.items() for row in rows]
        land(bronze, OBSERVATIONS, rows, [place(name, zone) for name, (zone, _) in given.items()])
    dbt(store, "build")
    return querying(store)


@pytest.mark.parametrize(("number", "row"), list(enumerate(case("C17")["rows"])), ids=lambda v: str(v)[:60])
def test_a_local_day_has_the_hours_whose_start_lies_in_it(query: Query, number: int, row: dict[str, Any]) -> None:
    days = query(
        "select hours_expected, hours_present, completeness, is_complete from gold.daily_weather"
        " where location_id = $place and local_date = $day",
        place=f"c17_{number}",
        day=date.fromisoformat(row["local_date"]),
    )
    assert days == [(row["hours_expected"], row["hours_expected"], 1.0, True)]
    hours = query(
        "select min(valid_hour_utc), max(valid_hour_utc), count(*) from gold.hourly_weather"
        " where location_id = $place and local_date = $day",
        place=f"c17_{number}",
        day=date.fromisoformat(row["local_date"]),
    )
    first, last = (datetime.fromisoformat(row[k]) for k in ("first_hour_utc", "last_hour_utc"))
    assert hours == [(first, last, row["hours_expected"])]


def test_every_hour_lies_in_exactly_one_local_day(query: Query) -> None:
    ((in_days,),) = query("select sum(hours_present) from gold.daily_weather where location_id like 'c17%'")
    assert in_days == 90 * len(case("C17")["rows"])


def test_the_mean_wind_direction_goes_round_north(query: Query) -> None:
    for number, winds in enumerate(case("C18")["sets"]):
        ((mean,),) = query(
            "select wind_direction_mean_deg from gold.daily_weather where location_id = $place", place=f"c18_{number}"
        )
        assert mean == pytest.approx(winds["expect_mean_deg_unit_vectors"], abs=0.05)
        assert math.copysign(1, mean) == 1
        assert mean < 359


def test_north_has_one_name_and_one_number(query: Query) -> None:
    rows = query(
        "select distinct wind_direction_deg, wind_compass from gold.hourly_weather"
        " where location_id = 'c18_2' and valid_hour_utc = $hour",
        hour=DAY + 2 * HOUR,
    )
    assert rows == [(0.0, "N")]


def test_precipitation_over_a_gap_is_incomplete_and_not_smaller(query: Query) -> None:
    for number, day in enumerate(case("C19")["days"]):
        rows = query(
            "select precipitation_mm, precipitation_hours_present, hours_present, is_complete"
            " from gold.daily_weather where location_id = $place and local_date = $day",
            place=f"c19_{number}",
            day=DAY.date(),
        )
        expected = day["expect"]
        if expected["hours_present"] == 0:
            assert rows == []
            continue
        ((total, with_value, present, complete),) = rows
        assert total == pytest.approx(expected["sum_mm"], abs=1e-9)
        assert with_value == present == expected["hours_present"]
        assert complete == expected["complete"]


def test_a_day_of_readings_without_precipitation_has_no_sum(query: Query) -> None:
    rows = query(
        "select precipitation_mm, precipitation_hours_present, hours_present"
        " from gold.daily_weather where location_id = 'c19_null'"
    )
    assert rows == [(None, 0, 24)]


def test_degree_days_are_means_over_the_hours_present(query: Query) -> None:
    for number, day in enumerate(case("C20")["days"]):
        ((heating, cooling, mean, hours),) = query(
            "select heating_degree_days, cooling_degree_days, temperature_mean_c, temperature_hours"
            " from gold.daily_weather where location_id = $place",
            place=f"c20_{number}",
        )
        values = day["values"]
        assert hours == values["hours_present"]
        assert (heating, cooling, mean) == pytest.approx(
            (values["hdd_hourly"], values["cdd_hourly"], values["mean_c"]), abs=0.005
        )


def test_a_moving_mean_does_not_reach_over_a_gap(query: Query) -> None:
    rows = query(
        "select valid_hour_utc, mean_3h_c, hours_present_3h from gold.temperature_moving_averages"
        " where location_id = 'c21' order by 1"
    )
    expected = case("C21")["expect"]["means"]
    assert [(hour, hours) for hour, _, hours in rows] == [
        (datetime.fromisoformat(m["hour_utc"]), m["hours_present"]) for m in expected
    ]
    assert [mean for _, mean, _ in rows] == pytest.approx([m["mean_3h_c"] for m in expected], abs=0.001)


@pytest.mark.parametrize("kind", ["heat_index", "wind_chill", "dew_point"])
def test_derived_values_agree_with_their_tables_and_are_null_outside(query: Query, kind: str) -> None:
    rows = query(
        f"select {kind}_c from gold.hourly_weather where location_id = $place order by valid_hour_utc",
        place=f"c22_{kind}",
    )
    expected = [row["expect_c"] for row in case("C22")[kind]]
    assert [value is None for (value,) in rows] == [value is None for value in expected]
    for (value,), wanted in zip(rows, expected, strict=True):
        if wanted is not None:
            assert value == pytest.approx(wanted, abs=0.1)


def test_the_heat_index_ends_where_the_chart_of_the_weather_service_ends(query: Query) -> None:
    rows = query("select heat_index_c from gold.hourly_weather where location_id = 'chart' order by valid_hour_utc")
    found = [None if celsius is None else celsius * 1.8 + 32 for (celsius,) in rows]
    for (temperature, humidity, wanted), value in zip(CHART, found, strict=True):
        assert (value is None) == (wanted is None), (temperature, humidity, value)
        if wanted is not None:
            assert value == pytest.approx(wanted, abs=1), (temperature, humidity)


def test_a_forecast_is_of_the_first_provider_and_its_newest_version(dbt: Dbt, new_store: Callable[[], Store]) -> None:
    def steps(provider: str, first: float) -> list[dict[str, Any]]:
        return [
            {
                "location_id": "a", "provider": provider, "issued_hour_utc": DAY + 23 * HOUR,
                "valid_hour_utc": DAY + (23 + lead) * HOUR, "temperature_c": first + lead,
            }
            for lead in (0, 3, 27)
        ]  # fmt: skip

    store = new_store()
    later = {**steps("simulator", 0)[1], "issued_hour_utc": DAY + 25 * HOUR}
    with store.open() as bronze:
        for rows in (
            steps("simulator", 100), steps("openweather", 200)[:1], steps("openweather", 300)[:1],
            steps("simulator", 400)[:2], [later],
        ):  # fmt: skip
            land(bronze, FORECASTS, rows, [place("a")])
    dbt(store, "run", "--select", "forecasts")
    found = querying(store)("select lead_hours, provider, temperature_c, load_id from silver.forecasts order by 1")
    assert found == [
        (0, "openweather", 300.0, 4),
        (1, "simulator", 3.0, 5),
        (3, "simulator", 403.0, 4),
        (27, "simulator", 127.0, 1),
    ]


def test_nothing_shows_a_negative_zero(dbt: Dbt, new_store: Callable[[], Store]) -> None:
    store = new_store()
    measures = [q.name for q in OBSERVATIONS.quantities if q.lower <= 0]
    with store.open() as bronze:
        row = {"location_id": "calm", "valid_hour_utc": DAY, **dict.fromkeys(measures, -0.0)}
        north = {"location_id": "north", "wind_speed_ms": 1.0, "temperature_c": 18.0, "humidity_pct": 100.0}
        winds = [{**north, "valid_hour_utc": DAY + n * HOUR, "wind_direction_deg": d} for n, d in enumerate((350, 10))]
        land(bronze, OBSERVATIONS, [row, *winds], [place("calm"), place("north")])
    dbt(store, "build")
    with store.open(read_only=True) as tables:
        for table in sorted(tables.tables()):
            if not table.startswith("bronze."):
                values = [v for row in tables.query(f"select * from {table}") for v in row if isinstance(v, float)]
                assert not [v for v in values if v == 0 and math.copysign(1, v) < 0], table


def test_a_reading_keeps_its_sector_and_its_condition_group(dbt: Dbt, new_store: Callable[[], Store]) -> None:
    sectors = {0: "N", 11.24: "N", 11.25: "NNE", 90: "E", 181: "S", 348.74: "NNW", 348.75: "N", 359.9: "N", None: None}
    groups = {
        200: "thunderstorm", 301: "drizzle", 520: "rain", 602: "snow", 741: "atmosphere",
        800: "clear", 804: "clouds", 999: "unknown", None: "unknown",
    }  # fmt: skip
    store = new_store()
    with store.open() as bronze:
        rows = [
            {
                "location_id": "a", "valid_hour_utc": DAY + n * HOUR,
                "wind_direction_deg": d, "wind_speed_ms": 2.0, "condition_id": c,
            }
            for n, (d, c) in enumerate(zip(sectors, groups, strict=True))
        ]  # fmt: skip
        calm = {
            "location_id": "a",
            "valid_hour_utc": DAY + 24 * HOUR,
            "wind_direction_deg": 0,
            "wind_speed_ms": 0,
        }
        land(bronze, OBSERVATIONS, [*rows, calm], [place("a")])
    dbt(store, "run", "--select", "observations")
    found = querying(store)("select wind_compass, condition_group from silver.observations order by valid_hour_utc")
    assert found == [*zip(sectors.values(), groups.values(), strict=True), (None, "unknown")]
