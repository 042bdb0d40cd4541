"""Anomaly checks on a real store of each engine: what is unusual is told with numbers, what is ordinary is not."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from dagster import AssetCheckSeverity
from hypothesis import given, settings
from hypothesis import strategies as st

from weather_dagster.checks.anomalies import (
    CONSTANT_TOGETHER,
    MAX_CONSTANT_TOGETHER_HOURS,
    changes_are_gradual,
    providers_agree,
    usual_row_counts,
    values_move,
)
from weather_dagster.checks.outcome import Outcome
from weather_dagster.datasets import FORECASTS, OBSERVATIONS, payload_hash
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.quantities import PRESSURE, TEMPERATURE, WIND_SPEED, Quantity
from weather_dagster.warehouse.base import Load, Warehouse
from weather_dagster_tests.postgres import ENGINES, bronze_store
from weather_dagster_tests.records import to_arrow
from weather_dagster_tests.warehouse.test_duckdb import PLACES, START

IDS = [place.id for place in PLACES]
DAY = 24 * HOUR
TODAY = START + 14 * DAY


@pytest.fixture
def store(opened: Warehouse) -> Warehouse:
    return opened


def at(hour: datetime) -> HourRange:
    return HourRange(hour, hour)


def records(outcome: Outcome, table: str) -> list[dict[str, Any]]:
    assert outcome.severity == AssetCheckSeverity.WARN
    return [record.data for record in outcome.metadata[table].records]


# Numbers of rows


def deliver(
    store: Warehouse,
    issued: datetime,
    steps: int,
    *,
    places: Sequence[str] = IDS,
    endpoint: str = "/data/2.5/forecast",
    temperature: float = 5.0,
) -> None:
    values = [temperature, *[None] * (len(FORECASTS.quantities) - 1)]
    rows = []
    for place in places:
        for step in range(steps):
            valid = int((issued + step * 3 * HOUR).timestamp())
            head = ("simulator", endpoint, place, int(issued.timestamp()), valid)
            rows.append((*head, *values, 3, 800, None, "{}", payload_hash(valid, values), 1))
    store.land(Load(
        FORECASTS, to_arrow(FORECASTS, rows), (), PLACES,
        provider="simulator", hours=at(issued), run_id="r", now=issued,
    ))  # fmt: skip


def deliver_days(store: Warehouse, days: int, steps: int = 40, **how: Any) -> None:
    for back in range(1, days + 1):
        deliver(store, TODAY - back * DAY, steps, **how)


def test_a_shortened_forecast_is_told_with_its_usual_number_of_rows(store: Warehouse) -> None:
    deliver_days(store, 14)
    deliver(store, TODAY, 16)
    outcome = usual_row_counts(store, FORECASTS, PLACES, at(TODAY))
    assert not outcome.passed
    assert outcome.description == (
        "1 of 1 counts of rows are unusual, such as 160 from /data/2.5/forecast at 2026-03-15T00:00, "
        "where 360 to 440 are usual"
    )
    assert records(outcome, "unusual_counts") == [
        {
            "endpoint": "/data/2.5/forecast", "hour": "2026-03-15T00:00", "value": 160,
            "usual": 400.0, "deviation": 0.0, "days": 14, "limit": "360 to 440",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(("steps", "passed"), [(36, True), (35, False), (44, True), (45, False)])
def test_a_tenth_more_or_less_than_usual_is_usual(store: Warehouse, steps: int, passed: bool) -> None:
    deliver_days(store, 14)
    deliver(store, TODAY, steps)
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).passed is passed


@pytest.mark.parametrize(("missing", "passed"), [(1, True), (2, False)])
def test_a_single_row_that_is_missing_is_left_to_completeness(store: Warehouse, missing: int, passed: bool) -> None:
    deliver_days(store, 14, steps=1, places=IDS[:3])
    deliver(store, TODAY, 1, places=IDS[missing:3])
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).passed is passed


def test_what_always_varied_may_vary(store: Warehouse) -> None:
    for back in range(1, 15):
        deliver(store, TODAY - back * DAY, 30 if back % 2 else 50)
    deliver(store, TODAY, 20)
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).passed
    # Median 400, median absolute deviation 100 rows of ten places: from -100 to 900.
    deliver(store, TODAY, 95)
    assert not usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).passed


@pytest.mark.parametrize(("days", "compared"), [(6, 0), (7, 1)])
def test_less_than_a_week_of_history_says_nothing(store: Warehouse, days: int, compared: int) -> None:
    deliver_days(store, days)
    deliver(store, TODAY, 10)
    outcome = usual_row_counts(store, FORECASTS, PLACES, at(TODAY))
    assert outcome.metadata["compared"] == compared
    assert outcome.passed is (compared == 0)


def test_older_days_and_other_hours_of_the_day_are_no_history(store: Warehouse) -> None:
    for back in range(1, 15):
        deliver(store, TODAY - back * DAY + HOUR, 40)
        deliver(store, TODAY - (back + 14) * DAY, 40)
    deliver(store, TODAY, 10)
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).metadata["compared"] == 0


def test_another_endpoint_has_a_usual_number_of_its_own(store: Warehouse) -> None:
    deliver_days(store, 14)
    deliver(store, TODAY, 5, endpoint="previous-runs-api/v1/forecast")
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).metadata["compared"] == 0


def test_a_place_that_is_new_or_no_longer_watched_changes_nothing(store: Warehouse) -> None:
    deliver_days(store, 14, places=IDS[:5])
    deliver(store, TODAY, 40, places=IDS[1:])
    outcome = usual_row_counts(store, FORECASTS, PLACES[1:], at(TODAY))
    assert (outcome.passed, outcome.metadata["compared"]) == (True, 1)


def test_a_version_more_is_not_a_row_more(store: Warehouse) -> None:
    deliver_days(store, 14)
    for temperature in (5.0, 6.0, 7.0):
        deliver(store, TODAY, 40, temperature=temperature)
    assert usual_row_counts(store, FORECASTS, PLACES, at(TODAY)).passed


def test_every_hour_of_a_range_is_compared_with_its_own_days(store: Warehouse) -> None:
    for hour in (TODAY, TODAY + HOUR):
        for back in range(15):
            deliver(store, hour - back * DAY, 40 if back else 10)
    outcome = usual_row_counts(store, FORECASTS, PLACES, HourRange(TODAY - DAY, TODAY + HOUR))
    assert outcome.metadata["compared"] == 4
    assert [row["hour"] for row in records(outcome, "unusual_counts")] == ["2026-03-15T00:00", "2026-03-15T01:00"]


# Two opinions


def tell(store: Warehouse, provider: str, values: dict[Quantity, float], **how: Any) -> None:
    place, hour = how.get("place", "lyon"), how.get("hour", START)
    observed = int((how.get("observed_at") or hour).timestamp())
    measures = [values.get(q) for q in OBSERVATIONS.quantities]
    row = (
        provider, "e", place, int(hour.timestamp()), observed, *measures, 1, 800, None, "{}",
        payload_hash(observed, measures), 1,
    )  # fmt: skip
    table = to_arrow(OBSERVATIONS, [row])
    store.land(Load(OBSERVATIONS, table, (), PLACES, provider=provider, hours=at(hour), run_id="r", now=hour))


@pytest.mark.parametrize("quantity", [TEMPERATURE, PRESSURE, WIND_SPEED], ids=lambda q: q.name)
def test_providers_that_differ_by_more_than_the_declared_limit_are_told(store: Warehouse, quantity: Quantity) -> None:
    value, most = {TEMPERATURE: 12.0, PRESSURE: 1000.0, WIND_SPEED: 3.0}[quantity], quantity.max_disagreement
    assert most is not None
    tell(store, "openweather", {quantity: value})
    tell(store, "open_meteo", {quantity: value + most})
    assert providers_agree(store, OBSERVATIONS, PLACES, at(START)).passed
    tell(store, "open_meteo", {quantity: value + most + 0.5})
    outcome = providers_agree(store, OBSERVATIONS, PLACES, at(START))
    assert outcome.metadata["places"].data == ["lyon"]
    assert records(outcome, "disagreements_by_place") == [
        {
            "place": "lyon",
            "hour": "2026-03-01T00:00",
            "quantity": quantity.name,
            "value": f"{value + most + 0.5:.4g} of open_meteo, {value:.4g} of openweather",
            "limit": f"{most:g} apart",
        }
    ]


def test_versions_and_farther_readings_of_one_provider_are_no_disagreement(store: Warehouse) -> None:
    tell(store, "openweather", {TEMPERATURE: 40.0})
    tell(store, "openweather", {TEMPERATURE: 10.0})
    tell(store, "openweather", {TEMPERATURE: 40.0}, observed_at=START + HOUR / 2)
    assert providers_agree(store, OBSERVATIONS, PLACES, at(START)).passed
    tell(store, "open_meteo", {TEMPERATURE: 11.0})
    assert providers_agree(store, OBSERVATIONS, PLACES, at(START)).passed


def test_providers_of_other_places_or_hours_are_not_compared(store: Warehouse) -> None:
    tell(store, "openweather", {TEMPERATURE: 40.0})
    tell(store, "open_meteo", {TEMPERATURE: 10.0}, place="quito")
    tell(store, "open_meteo", {TEMPERATURE: 10.0}, hour=START + HOUR)
    tell(store, "open_meteo", {PRESSURE: 1000.0})
    assert providers_agree(store, OBSERVATIONS, PLACES, HourRange(START, START + HOUR)).passed


# Series of silver

Hour = tuple[float | None, float | None]
"""Temperature and pressure."""


@pytest.fixture(scope="module", params=ENGINES)
def silver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A warehouse with the columns of silver.observations that series are judged by, without rows."""
    with bronze_store(request, tmp_path_factory.mktemp("silver")) as store, store.open() as warehouse:
        measures = ", ".join(f"{q.name} double precision" for q in OBSERVATIONS.quantities)
        warehouse.script(
            "create schema silver; create table silver.observations"
            f"(location_id varchar, valid_hour_utc timestamptz, provider varchar, {measures})"
        )
        yield warehouse


def series(store: Warehouse, hours: Sequence[Hour | None], *, place: str = "lyon") -> HourRange:
    """One hour after the other from START on, None for a gap; nothing else is in silver. The last hour."""
    store.execute("delete from silver.observations")
    for i, hour in enumerate(hours):
        if hour is not None:
            store.execute(
                "insert into silver.observations (location_id, valid_hour_utc, provider, temperature_c, pressure_hpa) "
                "values ($place, $hour, 'simulator', $temperature, $pressure)",
                {"place": place, "hour": START + i * HOUR, "temperature": hour[0], "pressure": hour[1]},
            )
    return at(START + (len(hours) - 1) * HOUR)


def moving(count: int) -> list[Hour | None]:
    return [(10 + i / 10, 1010 + i / 10) for i in range(count)]


def frozen(count: int) -> list[Hour | None]:
    return [(4.0, 1000.0)] * count


def test_temperature_and_pressure_that_stand_still_together_are_told(silver: Warehouse) -> None:
    most = MAX_CONSTANT_TOGETHER_HOURS
    assert values_move(silver, series(silver, moving(3) + frozen(most))).passed
    outcome = values_move(silver, series(silver, moving(3) + frozen(most + 1)))
    assert outcome.metadata["places"].data == ["lyon"]
    assert records(outcome, "frozen_values") == [
        {
            "place": "lyon",
            "hour": "2026-03-01T08:00",
            "quantity": " and ".join(q.name for q in CONSTANT_TOGETHER),
            "value": "4.0 and 1000.0 for 6 hours since 2026-03-01T03:00",
            "limit": "5 hours",
        }
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_one_value_alone_may_stand_still_for_most_of_a_day(silver: Warehouse, which: int) -> None:
    def hours(count: int) -> list[Hour | None]:
        return [(4.0, 1000.0 + i) if which == 0 else (4.0 + i, 1000.0) for i in range(count)]

    assert values_move(silver, series(silver, hours(23))).passed
    outcome = values_move(silver, series(silver, hours(24)))
    (row,) = records(outcome, "frozen_values")
    assert (row["quantity"], row["limit"]) == ((TEMPERATURE, PRESSURE)[which].name, "23 hours")


@pytest.mark.parametrize("check", [values_move, changes_are_gradual])
def test_without_silver_the_way_to_it_is_told(
    store: Warehouse, check: Callable[[Warehouse, HourRange], Outcome]
) -> None:
    with pytest.raises(WarehouseError, match=r"no silver\.observations to check yet; run the job hourly_weather"):
        check(store, at(START))


def test_a_gap_or_a_missing_value_ends_a_standstill(silver: Warehouse) -> None:
    assert values_move(silver, series(silver, [*frozen(4), None, *frozen(4)])).passed
    assert values_move(silver, series(silver, [*frozen(4), (None, 1000.0), *frozen(4)])).passed
    assert values_move(silver, series(silver, [(None, None)] * 30)).passed


def test_a_standstill_that_was_over_before_the_hours_of_the_run_is_told_no_more(silver: Warehouse) -> None:
    last = series(silver, frozen(9) + moving(2))
    assert values_move(silver, last).passed
    assert not values_move(silver, HourRange(START, last.last)).passed
    assert not values_move(silver, HourRange(START + 8 * HOUR, last.last)).passed
    assert values_move(silver, HourRange(START + 9 * HOUR, last.last)).passed


@given(
    st.lists(st.tuples(st.sampled_from([4.0, 5.0, None]), st.sampled_from([1000.0, 1001.0])), min_size=1, max_size=40)
)
@settings(max_examples=30, deadline=None)
def test_standstills_are_those_of_a_plain_count(silver: Warehouse, hours: list[Hour]) -> None:
    last = series(silver, hours)
    expected = set()
    for name, key, most in (
        ("temperature_c and pressure_hpa", lambda hour: hour, 5),
        ("temperature_c", lambda hour: hour[0], 23),
        ("pressure_hpa", lambda hour: hour[1], 23),
    ):
        run = 1
        for before, hour in zip([None, *hours], hours, strict=False):
            told = key(hour) is not None and not (isinstance(key(hour), tuple) and None in key(hour))
            run = run + 1 if before is not None and told and key(before) == key(hour) else 1
            if run > most:
                expected.add(name)
    outcome = values_move(silver, HourRange(START, last.last))
    assert {row["quantity"] for row in records(outcome, "frozen_values")} if expected else outcome.passed
    assert outcome.passed is not bool(expected)


@pytest.mark.parametrize(
    ("quantity", "start"), [(TEMPERATURE, 10.0), (PRESSURE, 1000.0)], ids=["temperature", "pressure"]
)
@pytest.mark.parametrize("sign", [1, -1], ids=["rise", "fall"])
def test_a_change_beyond_the_declared_rate_is_told_with_both_values(
    silver: Warehouse, quantity: Quantity, start: float, sign: int
) -> None:
    assert quantity.max_hourly_change is not None

    def step(size: float) -> list[Hour | None]:
        change = start + sign * size
        return [(start, 1000.0), (change, 1000.0)] if quantity is TEMPERATURE else [(10.0, start), (10.0, change)]

    assert changes_are_gradual(silver, series(silver, step(quantity.max_hourly_change - 0.1))).passed
    outcome = changes_are_gradual(silver, series(silver, step(quantity.max_hourly_change + 0.1)))
    (row,) = records(outcome, "jumps_by_place")
    assert row == {
        "place": "lyon",
        "hour": "2026-03-01T01:00",
        "quantity": quantity.name,
        "value": f"{start + sign * (quantity.max_hourly_change + 0.1):.4g} after {start:.4g}",
        "limit": f"a change of {quantity.max_hourly_change:g}",
    }


def test_a_change_over_a_gap_or_from_one_provider_to_another_is_no_jump(silver: Warehouse) -> None:
    assert changes_are_gradual(silver, series(silver, [(0.0, None), None, (30.0, None)])).passed
    assert changes_are_gradual(silver, series(silver, [(0.0, None), (None, None), (30.0, None)])).passed
    last = series(silver, [(0.0, None), (30.0, None)])
    assert not changes_are_gradual(silver, last).passed
    silver.execute("update silver.observations set provider = 'other' where temperature_c = 30")
    assert changes_are_gradual(silver, last).passed


def test_a_jump_is_told_by_the_run_of_its_hour_alone(silver: Warehouse) -> None:
    last = series(silver, [(0.0, None), (30.0, None), (30.5, None)])
    assert changes_are_gradual(silver, last).passed
    assert not changes_are_gradual(silver, at(START + HOUR)).passed
    assert changes_are_gradual(silver, at(START)).passed
