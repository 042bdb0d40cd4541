"""Bronze checks on a real store of each engine: what passes, what fails, and what the person is told."""

import json

import pytest
from dagster import AssetCheckSeverity

from weather_dagster.checks.bronze import (
    BLOCKING,
    CHECKS,
    completeness,
    plausible_limits,
    quarantine_share,
    schema_drift,
    valid_hour_in_partition,
)
from weather_dagster.checks.outcome import EXAMPLES_PER_PLACE
from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.warehouse.base import Warehouse
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, START, land, observation, rejection


@pytest.fixture
def store(opened: Warehouse) -> Warehouse:
    """A warehouse with a complete day of two places."""
    land(opened, [observation(hour, 10.0, place=place.id) for hour in DAY for place in PLACES[:2]])
    return opened


def test_a_complete_range_passes_every_check(store: Warehouse) -> None:
    for name, check in CHECKS.items():
        assert check(store, OBSERVATIONS, PLACES[:2], DAY).passed, name


def test_a_missing_place_hour_warns_and_is_named(store: Warehouse) -> None:
    store.execute(
        "delete from bronze.observations where location_id = 'lyon' and valid_hour_utc = $hour", {"hour": START}
    )
    outcome = completeness(store, OBSERVATIONS, PLACES[:2], DAY)
    assert not outcome.passed
    assert outcome.severity == AssetCheckSeverity.WARN
    assert outcome.description == "47 of 48 place-hours present; missing at lyon"
    (row,) = outcome.metadata["missing_by_place"].records
    assert row.data == {
        "place": "lyon", "hour": "2026-03-01T00:00", "last_hour": "2026-03-01T00:00", "missing_hours": 1
    }  # fmt: skip
    assert outcome.metadata["places"].data == ["lyon"]


def test_a_range_of_which_nothing_came_is_an_error(store: Warehouse) -> None:
    outcome = completeness(store, AIR_QUALITY, PLACES[:2], DAY)
    assert (outcome.passed, outcome.severity) == (False, AssetCheckSeverity.ERROR)
    assert outcome.metadata["missing"] == 48


def test_rows_of_other_hours_or_places_do_not_fill_a_gap(store: Warehouse) -> None:
    store.execute("update bronze.observations set location_id = 'elsewhere' where location_id = 'lyon'")
    assert completeness(store, OBSERVATIONS, PLACES[:2], DAY).metadata["missing"] == 24


@pytest.mark.parametrize(
    ("change", "misfiled"),
    [
        ("observed_at_utc = valid_hour_utc - interval '31 minutes'", 48),
        ("observed_at_utc = valid_hour_utc + interval '60 minutes'", 48),
        ("observed_at_utc = valid_hour_utc - interval '30 minutes'", 0),
        ("observed_at_utc = valid_hour_utc + interval '59 minutes'", 0),
        ("valid_hour_utc = valid_hour_utc + interval '10 minutes', observed_at_utc = valid_hour_utc", 46),
    ],
)
def test_a_row_under_an_hour_that_is_not_its_own_fails(store: Warehouse, change: str, misfiled: int) -> None:
    store.execute(f"update bronze.observations set {change}")
    outcome = valid_hour_in_partition(store, OBSERVATIONS, PLACES, DAY)
    assert (outcome.passed, outcome.metadata["misfiled"]) == (misfiled == 0, misfiled)
    if misfiled:
        assert outcome.metadata["places"].data == ["lyon", "new_york"]
        data = outcome.metadata["examples"].records[0].data
        assert data["hour"].startswith("2026-03-01 00:")
        assert data["value"].startswith("observed_at_utc 2026-0")
        assert data["limit"] == "30 minutes before its hour to the end of it"


def test_a_forecast_for_an_hour_before_its_issue_fails(store: Warehouse) -> None:
    issued, valid = int(START.timestamp()), int((START - 3 * HOUR).timestamp())
    head = ("simulator", "/data/2.5/forecast", "lyon", issued, valid)
    land(store, [(*head, *[None] * len(FORECASTS.quantities), 3, 800, None, "{}", "x", 1)], dataset=FORECASTS)
    assert not valid_hour_in_partition(store, FORECASTS, PLACES, DAY).passed


def test_an_implausible_value_fails_with_quantity_value_and_limits(store: Warehouse) -> None:
    store.execute("update bronze.observations set wind_speed_ms = 468.66 where location_id = 'lyon'")
    outcome = plausible_limits(store, OBSERVATIONS, PLACES, DAY)
    assert not outcome.passed
    assert outcome.description.startswith(
        "24 values lie outside the plausible limits, such as wind_speed_ms 468.66 at lyon"
    )
    assert outcome.metadata["places"].data == ["lyon"]
    assert outcome.metadata["examples"].records[0].data == {
        "place": "lyon", "hour": "2026-03-01T00:00", "quantity": "wind_speed_ms", "value": 468.66, "limit": "0 to 115"
    }  # fmt: skip
    assert len(outcome.metadata["examples"].records) == EXAMPLES_PER_PLACE


def test_every_place_is_named_and_shown_however_many_rows_the_first_has(store: Warehouse) -> None:
    land(store, [observation(START, 10.0, place=f"place_{n:03}") for n in range(200)])
    store.execute("update bronze.observations set wind_speed_ms = 468.66")
    metadata = plausible_limits(store, OBSERVATIONS, PLACES, DAY).metadata
    assert len(metadata["places"].data) == 202
    assert {record.data["place"] for record in metadata["examples"].records} == set(metadata["places"].data)


def test_the_hours_outside_the_range_are_not_looked_at(store: Warehouse) -> None:
    store.execute("update bronze.observations set wind_speed_ms = 468.66 where valid_hour_utc = $hour", {"hour": START})
    later = type(DAY)(START + HOUR, DAY.last)
    assert plausible_limits(store, OBSERVATIONS, PLACES, later).passed


def test_a_share_of_rejected_records_above_the_limit_warns_with_reasons(store: Warehouse) -> None:
    land(store, [], rejections=(rejection("{}"),))
    outcome = quarantine_share(store, OBSERVATIONS, PLACES, DAY)
    assert (outcome.passed, outcome.severity) == (False, AssetCheckSeverity.WARN)
    assert outcome.metadata["quarantined"] == 1
    (row,) = outcome.metadata["reasons"].records
    assert row.data["reason"] == "implausible_value"
    assert "291.42" in str(row.data["example"])
    assert outcome.metadata["places"].data == ["lyon"]
    (entry,) = outcome.metadata["entries"].records
    assert entry.data == {
        "place": "lyon",
        "hour": "2026-03-01T00:00",
        "reason": "implausible_value",
        "field": "temperature_c",
        "message": "temperature_c is 291.42, limits -95 to 60",
    }


def test_only_what_must_not_reach_silver_blocks() -> None:
    assert {"valid_hour_in_partition", "plausible_limits"} == BLOCKING
    assert set(CHECKS) > BLOCKING
    assert len(DATASETS) == 3


def with_payload(store: Warehouse, payload: object, where: str = "true") -> None:
    store.execute(
        f"update bronze.observations set payload = $payload::json where {where}", {"payload": json.dumps(payload)}
    )


WEEK = HourRange(START, START + 6 * 24 * HOUR + 23 * HOUR)
NEXT_DAY = HourRange(WEEK.end, WEEK.end + 23 * HOUR)
RECORD = {"dt": 1, "main": {"temp": 7.5, "humidity": 70}, "weather": [{"id": 800}], "wind": {"speed": 3, "gust": 5}}


@pytest.fixture
def eight_days(store: Warehouse) -> Warehouse:
    """The store with a week of records as documented, and the day after it."""
    hours = HourRange(START, NEXT_DAY.last)
    land(store, [observation(hour, 10.0, place=place.id) for hour in hours for place in PLACES[:2]], hours=hours)
    with_payload(store, RECORD)
    return store


def test_documented_payloads_show_no_drift(eight_days: Warehouse) -> None:
    outcome = schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY)
    assert outcome.passed
    assert outcome.metadata["unknown_fields"] == outcome.metadata["vanished_fields"] == 0


def test_unknown_fields_are_counted_by_endpoint_and_fail_nothing(eight_days: Warehouse) -> None:
    grown = RECORD | {"uv": 3, "wind": {"speed": 3, "gust": 5, "lull": 1}}
    with_payload(eight_days, grown, f"valid_hour_utc >= '{NEXT_DAY.first}' and location_id = 'lyon'")
    outcome = schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY)
    assert outcome.passed
    assert outcome.description == "no usual field is gone; 2 unknown fields"
    assert {(r.data["endpoint"], r.data["field"], r.data["rows"]) for r in outcome.metadata["unknown"].records} == {
        ("/data/2.5/history/city", "uv", 24),
        ("/data/2.5/history/city", "wind.lull", 24),
    }


@pytest.mark.parametrize("wind", [{"gust": 5}, {"speed": None, "gust": 5}])
def test_a_usual_field_that_no_payload_has_any_more_warns_with_endpoint_and_field(
    eight_days: Warehouse, wind: dict[str, object]
) -> None:
    with_payload(eight_days, RECORD | {"wind": wind}, f"valid_hour_utc >= '{NEXT_DAY.first}'")
    outcome = schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY)
    assert (outcome.passed, outcome.severity) == (False, AssetCheckSeverity.WARN)
    assert outcome.description == "fields that were usual are gone: wind.speed from /data/2.5/history/city"
    (row,) = outcome.metadata["vanished"].records
    assert row.data["provider"] == "simulator"


def test_a_field_that_one_payload_still_has_is_not_gone(eight_days: Warehouse) -> None:
    hours = f"valid_hour_utc >= '{NEXT_DAY.first}'"
    with_payload(eight_days, RECORD | {"wind": {}}, f"{hours} and valid_hour_utc < '{NEXT_DAY.last}'")
    assert schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).passed


def test_a_field_that_was_never_usual_cannot_vanish(eight_days: Warehouse) -> None:
    calm = RECORD | {"wind": {"speed": 3}}
    with_payload(eight_days, calm, f"extract(hour from valid_hour_utc) % 8 = 0 or valid_hour_utc >= '{NEXT_DAY.first}'")
    assert schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).passed


def test_an_hourly_run_looks_at_its_last_day_and_too_few_rows_say_nothing(eight_days: Warehouse) -> None:
    with_payload(eight_days, RECORD | {"wind": {}}, f"valid_hour_utc >= '{NEXT_DAY.first}'")
    last_hour = HourRange(NEXT_DAY.last, NEXT_DAY.last)
    assert not schema_drift(eight_days, OBSERVATIONS, PLACES, last_hour).passed
    eight_days.execute(
        "delete from bronze.observations where valid_hour_utc >= $first and extract(hour from valid_hour_utc) % 3 > 0",
        {"first": NEXT_DAY.first},
    )
    assert schema_drift(eight_days, OBSERVATIONS, PLACES, last_hour).passed


def test_a_source_without_an_earlier_row_has_lost_nothing(eight_days: Warehouse) -> None:
    eight_days.execute("delete from bronze.observations where valid_hour_utc < $first", {"first": NEXT_DAY.first})
    assert schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).passed


def test_a_field_that_nobody_documents_may_come_and_go(eight_days: Warehouse) -> None:
    with_payload(eight_days, RECORD | {"uv": 3}, f"valid_hour_utc < '{NEXT_DAY.first}'")
    outcome = schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY)
    assert (outcome.passed, outcome.metadata["vanished_fields"]) == (True, 0)


def test_too_few_earlier_rows_do_not_make_a_field_usual(eight_days: Warehouse) -> None:
    with_payload(eight_days, RECORD | {"wind": {}}, f"valid_hour_utc >= '{NEXT_DAY.first}'")
    eight_days.execute(
        "delete from bronze.observations where valid_hour_utc < $first", {"first": NEXT_DAY.first - 11 * HOUR}
    )
    assert schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).passed, "22 rows"
    land(eight_days, [observation(NEXT_DAY.first - 12 * HOUR, 10.0, place=place.id) for place in PLACES[:2]])
    with_payload(eight_days, RECORD, f"valid_hour_utc = '{NEXT_DAY.first - 12 * HOUR}'")
    assert not schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).passed, "24 rows"


def test_a_source_is_compared_with_its_own_last_rows(eight_days: Warehouse) -> None:
    with_payload(eight_days, RECORD | {"wind": {}}, f"valid_hour_utc >= '{NEXT_DAY.first}' and location_id = 'lyon'")
    # Lyon's provider had nothing in the week before, in which the other one went on.
    eight_days.execute(
        "delete from bronze.observations where location_id = 'lyon' and valid_hour_utc < $first",
        {"first": NEXT_DAY.first},
    )
    long_ago = HourRange(WEEK.first - 2400 * HOUR, WEEK.last - 2400 * HOUR)
    land(eight_days, [observation(hour, 10.0) for hour in long_ago], hours=long_ago)
    with_payload(eight_days, RECORD, f"valid_hour_utc <= '{long_ago.last}'")
    eight_days.execute("update bronze.observations set provider = 'openweather' where location_id = 'lyon'")
    gone = schema_drift(eight_days, OBSERVATIONS, PLACES, NEXT_DAY).metadata["vanished"].records
    assert {(row.data["provider"], row.data["field"]) for row in gone} == {
        ("openweather", "wind.gust"),
        ("openweather", "wind.speed"),
    }


def test_after_a_gap_the_fields_of_the_last_rows_before_it_still_count(eight_days: Warehouse) -> None:
    eight_days.execute("delete from bronze.observations where valid_hour_utc >= $first", {"first": NEXT_DAY.first})
    later = HourRange(NEXT_DAY.first + 2400 * HOUR, NEXT_DAY.last + 2400 * HOUR)
    land(eight_days, [observation(hour, 10.0, place=place.id) for hour in later for place in PLACES[:2]], hours=later)
    with_payload(eight_days, {"dt": 1}, f"valid_hour_utc >= '{later.first}'")
    outcome = schema_drift(eight_days, OBSERVATIONS, PLACES, later)
    gone = [row.data["field"] for row in outcome.metadata["vanished"].records]
    assert gone == ["main", "main.humidity", "main.temp", "weather", "weather.id", "wind", "wind.gust", "wind.speed"]


def test_entries_that_a_re_drive_resolved_no_longer_count(store: Warehouse) -> None:
    land(store, [], rejections=(rejection(),))
    store.execute("update bronze.quarantine set resolved_load_id = 3")
    assert quarantine_share(store, OBSERVATIONS, PLACES, DAY).passed
