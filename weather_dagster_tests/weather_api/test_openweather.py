"""How answers of OpenWeather become rows and rejections."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, Rejection, RejectionReason
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.openweather import PLAN_NAMES, Refusal
from weather_dagster.weather_api.openweather_reading import Units
from weather_dagster.weather_api.service import Limit, Window
from weather_dagster_tests.weather_api.answers import LYON, THIS_HOUR, current, endpoint_at, hours_ago, record, series

HOUR = int(THIS_HOUR.first.timestamp())
CURRENT = ("free", "/data/2.5/weather")
FORECAST = ("free", "/data/2.5/forecast")
HISTORY = ("simulator", "/data/2.5/history/city")
AIR = ("simulator", "/data/2.5/air_pollution/history")
VINTAGES = ("simulator", "/data/2.5/forecast/history")


def read(
    endpoint: tuple[str, str], document: Any, hours: HourRange = THIS_HOUR
) -> tuple[list[dict[str, Any]], list[Rejection]]:
    plan, path = endpoint
    return rows_of(endpoint_at(path, plan), document, hours)


def rows_of(
    endpoint: Endpoint, document: Any, hours: HourRange = THIS_HOUR, place: Location = LYON
) -> tuple[list[dict[str, Any]], list[Rejection]]:
    (answer,) = ApiCall(endpoint, (place,), hours).read(document, "openweather")
    records, rejections = answer.finish()
    return records.to_pylist(), rejections


def air(dt: int, **components: float) -> dict[str, Any]:
    names = ("co", "no", "no2", "o3", "so2", "pm2_5", "pm10", "nh3")
    return {"dt": dt, "main": {"aqi": 2}, "components": {**dict.fromkeys(names, 1), **components}}


@pytest.mark.parametrize(
    ("offset_seconds", "lands"),
    [(-1801, False), (-1800, True), (0, True), (3599, True), (3600, False), (-90000, False)],
)
def test_a_current_reading_counts_from_half_an_hour_before_its_hour_to_its_end(
    offset_seconds: int, lands: bool
) -> None:
    rows, rejections = read(CURRENT, current(HOUR + offset_seconds))
    assert len(rows) == lands
    assert [r.reason for r in rejections] == ([] if lands else [RejectionReason.OUTSIDE_HOUR])
    if lands:
        assert rows[0]["valid_hour_utc"] == THIS_HOUR.first
        assert rows[0]["observed_at_utc"] == datetime.fromtimestamp(HOUR + offset_seconds, UTC)


def test_hours_of_a_series_beyond_the_range_are_left_out_without_fuss() -> None:
    rows, rejections = read(HISTORY, series(*(record(HOUR + 3600 * i) for i in range(-3, 4))), hours_ago(1))
    assert [r["valid_hour_utc"] for r in rows] == list(hours_ago(1))
    assert rejections == []


def test_a_record_of_a_series_that_is_no_whole_hour_and_outside_the_range_is_kept_in_quarantine() -> None:
    rows, rejections = read(HISTORY, series(record(HOUR), record(HOUR + 7217)))
    assert len(rows) == 1
    assert [r.reason for r in rejections] == [RejectionReason.OUTSIDE_HOUR]


def test_a_silent_cut_lands_what_came() -> None:
    rows, _ = read(HISTORY, series(record(HOUR - 7200)), hours_ago(2))
    assert [r["valid_hour_utc"] for r in rows] == [hours_ago(2).first]


def test_milliseconds_are_no_time() -> None:
    rows, rejections = read(HISTORY, series(record(HOUR), record(HOUR * 1000)))
    assert len(rows) == 1
    assert rejections[0].reason is RejectionReason.CONTRACT
    assert "dt" in rejections[0].message


@pytest.mark.parametrize(
    ("rain", "snow", "expected"),
    [
        ({}, {}, (0.0, 0.0, 0.0)),
        ({"1h": 1.5}, None, (1.5, 0.0, 1.5)),
        ({"1h": 1.5, "3h": 4}, {"1h": 1}, (1.5, 1.0, 2.5)),
        ({"3h": 4}, None, (None, 0.0, None)),
        (0.4, None, (0.4, 0.0, 0.4)),
        ({"1h": -1}, {"1h": 2}, (None, 2.0, None)),
    ],
)
def test_an_observation_sums_the_rain_and_snow_of_one_hour(
    rain: Any, snow: Any, expected: tuple[float | None, ...]
) -> None:
    rows, _ = read(HISTORY, series(record(HOUR, rain=rain, snow=snow)))
    assert (rows[0]["rain_mm"], rows[0]["snow_mm"], rows[0]["precipitation_mm"]) == expected
    assert rows[0]["precipitation_hours"] == 1


@pytest.mark.parametrize(("rain", "expected"), [({"3h": 4}, 4.0), ({"1h": 4}, None), ({}, 0.0)])
def test_a_forecast_step_sums_three_hours(rain: Any, expected: float | None) -> None:
    rows, _ = read(FORECAST, series(record(HOUR + 7200, rain=rain, pop=0.3)))
    assert (rows[0]["precipitation_mm"], rows[0]["precipitation_hours"]) == (expected, 3)
    assert rows[0]["precipitation_probability"] == 0.3


@pytest.mark.parametrize("optional", ["wind", "clouds", "rain", "snow", "weather", "visibility"])
@pytest.mark.parametrize("absence", ["null", "left out"])
def test_an_optional_part_may_be_null_or_left_out(optional: str, absence: str) -> None:
    item = record(HOUR, rain={"1h": 1}, snow={"1h": 1})
    if absence == "null":
        item[optional] = None
    else:
        del item[optional]
    rows, rejections = read(HISTORY, series(item))
    assert rows[0]["temperature_c"] == 7.5
    assert rejections == []


@pytest.mark.parametrize(
    "broken",
    [
        {"main": None},
        {"main": [281]},
        {"main": {"temp": "7.5 °C"}},
        {"main": {"temp": True}},
        {"main": {"temp": float("nan")}},
        {"wind": "calm"},
        {"wind": {"speed": {"value": 3}}},
        {"clouds": 40},
        {"weather": [{"id": "rain"}]},
        {"rain": {"1h": "much"}},
        {"dt": "noon"},
        {"dt": -5},
    ],
)
def test_a_record_that_breaks_its_contract_goes_to_quarantine_and_those_beside_it_land(broken: dict[str, Any]) -> None:
    rows, rejections = read(
        HISTORY, series(record(HOUR - 3600), {**record(HOUR), **broken}, record(HOUR + 3600)), hours_ago(1, -1)
    )
    assert len(rows) == 2
    (rejection,) = rejections
    assert rejection.reason is RejectionReason.CONTRACT
    assert next(iter(broken)) in rejection.message
    json.loads(rejection.payload, parse_constant=pytest.fail)


@pytest.mark.parametrize("item", [None, 5, "text", [], {}])
def test_an_item_that_is_no_record_goes_to_quarantine(item: Any) -> None:
    rows, rejections = read(HISTORY, series(record(HOUR), item))
    assert (len(rows), [r.reason for r in rejections]) == (1, [RejectionReason.CONTRACT])


@pytest.mark.parametrize("endpoint", [CURRENT, FORECAST, HISTORY, AIR, VINTAGES])
@pytest.mark.parametrize("document", [None, [], 5, "text", {}, {"list": {}}, {"data": [1]}])
def test_another_envelope_is_an_error_that_names_endpoint_and_place(endpoint: tuple[str, str], document: Any) -> None:
    with pytest.raises(MalformedAnswer, match=f"{endpoint[1]} for lyon"):
        read(endpoint, document)


def test_whole_numbers_floats_and_negative_zero_give_the_same_row() -> None:
    rows = [
        read(HISTORY, series(record(HOUR, main={"temp": temperature, "humidity": humidity})))[0][0]
        for temperature, humidity in ((0, 70), (0.0, 70.0), (-0.0, 70))
    ]
    assert len({row["payload_hash"] for row in rows}) == 1
    assert all(str(row["temperature_c"]) == "0.0" for row in rows)


def test_extra_fields_and_the_time_of_generation_change_no_hash() -> None:
    plain, _ = read(HISTORY, series(record(HOUR)))
    noisy, _ = read(HISTORY, series(record(HOUR, generated=1.234, sys={"pod": "n"}), calctime=9.9))
    assert plain[0]["payload_hash"] == noisy[0]["payload_hash"]


def test_a_changed_value_and_a_changed_time_change_the_hash() -> None:
    rows = [
        read(CURRENT, current(HOUR + seconds, visibility=visibility))[0][0]
        for seconds, visibility in ((0, 9000), (60, 9000), (0, 9001))
    ]
    assert len({row["payload_hash"] for row in rows}) == 3


def test_an_exact_repetition_is_dropped() -> None:
    rows, rejections = read(HISTORY, series(record(HOUR), record(HOUR - 3600), record(HOUR)), hours_ago(1))
    assert [row["valid_hour_utc"] for row in rows] == list(hours_ago(1))
    assert rejections == []


@pytest.mark.parametrize("told", [[5, 9000], [9000, 5], [9000, 5, 9000], [5, 5, 9000]])
def test_of_two_records_for_one_reading_the_last_lands_and_the_other_is_kept_in_quarantine(told: list[int]) -> None:
    rows, (rejection,) = read(HISTORY, series(*(record(HOUR, visibility=v) for v in told), record(HOUR + 3600)))
    (other,) = {*told} - {told[-1]}
    assert [row["visibility_m"] for row in rows] == [told[-1]]
    assert json.loads(rows[0]["payload"])["visibility"] == told[-1]
    assert (rejection.reason, rejection.field, rejection.hour_utc) == (RejectionReason.CONFLICTING, None, HOUR)
    assert json.loads(rejection.payload)["visibility"] == other
    assert f"2026-11-25T13:00:00Z, which landed: visibility_m is {other} here and {told[-1]} there" in rejection.message


def test_a_conflict_tells_what_is_missing_and_names_a_few_values_at_most() -> None:
    bare = {"dt": HOUR, "main": {"temp": 1, "humidity": 70}}
    rows, (rejection,) = read(HISTORY, series(bare, record(HOUR)))
    assert [row["temperature_c"] for row in rows] == [7.5]
    assert "temperature_c is 1 here and 7.5 there" in rejection.message
    assert "is missing here and 6.5 there" in rejection.message
    assert rejection.message.endswith(", and more")


def test_steps_of_a_forecast_conflict_within_their_issue_alone() -> None:
    vintages = [
        {"issued": HOUR - 3600, "list": [record(HOUR + 3600, visibility=1), record(HOUR + 3600, visibility=2)]},
        {"issued": HOUR, "list": [record(HOUR + 3600, visibility=3)]},
    ]
    rows, rejections = read(VINTAGES, series(*vintages), hours_ago(1))
    assert [row["visibility_m"] for row in rows] == [2, 3]
    assert [(r.reason, r.hour_utc) for r in rejections] == [(RejectionReason.CONFLICTING, HOUR - 3600)]


def test_a_conflict_beside_an_implausible_value_is_two_rejections() -> None:
    rows, rejections = read(HISTORY, series(record(HOUR, visibility=-1), record(HOUR, visibility=5)))
    assert [(row["visibility_m"], row["rejected_fields"]) for row in rows] == [(5, None)]
    assert [r.reason for r in rejections] == [RejectionReason.IMPLAUSIBLE_VALUE, RejectionReason.CONFLICTING]


@pytest.mark.parametrize("broken", [{}, {"dt": "noon"}, {"dt": 5}, {"dt": HOUR + 7200, "main": 5}, None])
def test_a_rejection_without_an_hour_that_was_asked_for_counts_for_the_first_that_was(broken: Any) -> None:
    _, (rejection,) = read(HISTORY, series(broken), hours_ago(3))
    assert rejection.hour_utc == HOUR - 3 * 3600


def test_a_rejection_with_an_hour_that_was_asked_for_keeps_it() -> None:
    _, (rejection,) = read(HISTORY, series({"dt": HOUR - 3600}), hours_ago(3))
    assert rejection.hour_utc == HOUR - 3600


def test_implausible_values_are_null_named_and_quarantined_one_by_one() -> None:
    wind = {"speed": 999, "deg": 361, "gust": 4}
    rows, rejections = read(HISTORY, series(record(HOUR, wind=wind), record(HOUR - 3600)), hours_ago(1))
    assert [row["rejected_fields"] for row in rows] == [None, "wind_speed_ms,wind_direction_deg"]
    assert (rows[1]["wind_speed_ms"], rows[1]["wind_direction_deg"], rows[1]["wind_gust_ms"]) == (None, None, 4)
    assert [(r.field, r.hour_utc) for r in rejections] == [("wind_speed_ms", HOUR), ("wind_direction_deg", HOUR)]
    assert "wind_speed_ms is 999, outside 0 to 115" in rejections[0].message


def test_readings_that_differ_in_implausible_values_alone_are_one_row_and_two_rejections() -> None:
    rows, rejections = read(HISTORY, series(record(HOUR, visibility=-1), record(HOUR, visibility=-2)))
    assert [row["visibility_m"] for row in rows] == [None]
    assert len(rejections) == 2


def test_another_implausible_value_is_another_rejection() -> None:
    (first,), (second,) = (read(HISTORY, series(record(HOUR, visibility=v)))[1] for v in (-1, -2))
    assert first.payload_hash != second.payload_hash


@pytest.mark.parametrize(
    ("endpoint", "document"),
    [
        (CURRENT, current(HOUR) | {"coord": {"lat": 40.71, "lon": -74.01}}),
        (FORECAST, series(record(HOUR), city={"coord": {"lat": 45.7, "lon": 4.95}})),
        (VINTAGES, series({"issued": HOUR, "list": [record(HOUR)]}, city={"coord": {"lat": 0, "lon": 0}})),
        (AIR, {"coord": {"lon": -175.15, "lat": -45.75}, "list": [air(HOUR)]}),
        (AIR, {"coord": [4.85, 45.75], "list": [air(HOUR)]}),
    ],
)
def test_the_answer_of_another_place_lands_nothing(endpoint: tuple[str, str], document: Any) -> None:
    rows, rejections = read(endpoint, document)
    assert rows == []
    assert [r.reason for r in rejections] == [RejectionReason.OTHER_PLACE]
    assert "km from lyon" in rejections[0].message


@pytest.mark.parametrize("coord", [[45.75, 4.85], {"lat": 45.75, "lon": 4.85}, {"lat": 45.76, "lon": 4.84}, None])
def test_air_pollution_may_echo_the_point_as_an_object_or_as_latitude_and_longitude(coord: Any) -> None:
    rows, rejections = read(AIR, {"coord": coord, "list": [air(HOUR, co=201.94, pm2_5=0.5)]})
    (row,) = rows
    assert (row["carbon_monoxide_ug_m3"], row["pm2_5_ug_m3"], row["provider_aqi"]) == (201.94, 0.5, 2)
    assert row["observed_at_utc"] == row["valid_hour_utc"] == THIS_HOUR.first
    assert rejections == []


def test_a_place_on_the_date_line_is_not_far_from_its_echo() -> None:
    place = LYON.model_copy(update={"longitude": 180.0})
    echo = current(HOUR) | {"coord": {"lat": 45.75, "lon": -180}}
    rows, _ = rows_of(endpoint_at("/data/2.5/weather", "free"), echo, place=place)
    assert len(rows) == 1


@pytest.mark.parametrize(
    "coord", [[1000, 4.85], [45.75], [45.75, 4.85, 170], ["north", 4.85], {"lat": 91, "lon": 0}, 5]
)
def test_an_echo_that_is_no_point_is_another_envelope(coord: Any) -> None:
    with pytest.raises(MalformedAnswer, match="coord"):
        read(AIR, {"coord": coord, "list": [air(HOUR)]})


def test_the_error_for_another_envelope_tells_nothing_of_what_stands_beside_the_missing_part() -> None:
    with pytest.raises(MalformedAnswer) as caught:
        read(HISTORY, {"next": "http://h/?appid=SECRET"})
    assert "list: Field required" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_sentinel_instead_of_an_air_quality_index_is_quarantined() -> None:
    sentinel = {**air(HOUR, co=-9999), "main": {"aqi": -9999}}
    rows, rejections = read(AIR, {"list": [sentinel]})
    assert (rows, [r.reason for r in rejections]) == ([], [RejectionReason.CONTRACT])


def test_an_air_quality_index_may_be_a_float() -> None:
    rows, _ = read(AIR, {"list": [{**air(HOUR), "main": {"aqi": 4.0}}]})
    assert rows[0]["provider_aqi"] == 4


def test_the_history_of_air_pollution_may_run_backwards() -> None:
    rows, _ = read(AIR, {"list": [air(HOUR - 3600 * i) for i in range(5)]}, hours_ago(4))
    assert [row["valid_hour_utc"] for row in rows] == list(hours_ago(4))


def test_each_vintage_is_filed_under_its_hour_of_issue() -> None:
    vintages = [
        {"issued": HOUR - 3600 * age, "list": [record(HOUR + 3600 * lead, pop=0) for lead in (2, 5)]}
        for age in (2, 1, 0, -1)
    ]
    rows, rejections = read(VINTAGES, series(*vintages), hours_ago(1))
    assert [(row["issued_hour_utc"], row["valid_hour_utc"].hour) for row in rows] == [
        (hour, 13 + lead) for hour in hours_ago(1) for lead in (2, 5)
    ]
    assert rejections == []


def test_a_broken_vintage_and_a_broken_step_leave_the_others() -> None:
    steps = [record(HOUR + 3600), {"dt": HOUR}, record(HOUR + 7200)]
    rows, rejections = read(VINTAGES, series({"issued": "now"}, {"issued": HOUR, "list": steps}))
    assert len(rows) == 2
    assert [r.reason for r in rejections] == [RejectionReason.CONTRACT] * 2
    assert [r.hour_utc for r in rejections] == [HOUR, HOUR]


@pytest.mark.parametrize(
    ("lead_hours", "reason"),
    [
        (-1, RejectionReason.BEFORE_ISSUE),
        (0, None),
        (123, None),
        (124, RejectionReason.OUTSIDE_HOUR),
        (24 * 365, RejectionReason.OUTSIDE_HOUR),
    ],
)
def test_a_step_lies_between_its_issue_and_the_end_of_the_forecast(
    lead_hours: int, reason: RejectionReason | None
) -> None:
    rows, rejections = read(FORECAST, series(record(HOUR + 3600 * lead_hours)))
    assert [r.reason for r in rejections] == ([reason] if reason else [])
    assert len(rows) == (reason is None)


@pytest.mark.parametrize(
    ("units", "temperature", "speed"),
    [(Units.METRIC, 20.0, 10.0), (Units.STANDARD, 293.15, 10.0), (Units.IMPERIAL, 68.0, 22.36936)],
)
def test_every_system_of_units_comes_out_metric(units: Units, temperature: float, speed: float) -> None:
    main = {"temp": temperature, "feels_like": temperature, "pressure": 1012, "humidity": 70}
    body = series(record(HOUR - 3600, main=main, wind={"speed": speed, "gust": speed, "deg": 90}, rain={"1h": 2}))
    endpoint = next(e for e in openweather.plans(None, units)["professional"].endpoints if e.path == HISTORY[1])
    ((row,), _) = rows_of(endpoint, body, hours_ago(1, 1))
    expected = {
        "temperature_c": 20.0,
        "apparent_temperature_c": 20.0,
        "wind_speed_ms": 10.0,
        "wind_gust_ms": 10.0,
        "wind_direction_deg": 90.0,
        "pressure_hpa": 1012.0,
        "humidity_pct": 70.0,
        "rain_mm": 2.0,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dataset", [OBSERVATIONS, FORECASTS, AIR_QUALITY])
def test_records_have_the_schema_of_their_dataset_even_when_there_are_none(dataset: Dataset) -> None:
    endpoint = {"observations": HISTORY, "forecasts": VINTAGES, "air_quality": AIR}[dataset.name]
    call = ApiCall(endpoint_at(endpoint[1]), (LYON,), THIS_HOUR)
    items: dict[str, list[Any]] = {
        "observations": [record(HOUR)],
        "forecasts": [{"issued": HOUR, "list": [record(HOUR)]}],
        "air_quality": [air(HOUR)],
    }
    for records in ([], items[dataset.name]):
        (answer,) = call.read(series(*records), "openweather")
        table, _ = answer.finish()
        assert table.schema == dataset.arrow_schema
        assert table.num_rows == len(records)
        table.validate(full=True)
        assert isinstance(table, pa.Table)


def test_the_row_tells_provider_endpoint_place_and_payload() -> None:
    ((row,), _) = read(HISTORY, series(record(HOUR, extra=1)))
    assert (row["provider"], row["endpoint"], row["location_id"]) == ("openweather", "/data/2.5/history/city", "lyon")
    assert json.loads(row["payload"]) == record(HOUR, extra=1)


def test_a_reading_before_its_hour_says_how_old_it_may_be() -> None:
    _, (rejection,) = read(CURRENT, current(HOUR - int(timedelta(hours=2).total_seconds())))
    assert "2026-11-25T11:00:00Z" in rejection.message
    assert "30 minutes" in rejection.message


NO_ONE_CALL = (
    "Please note that using One Call 3.0 requires a separate subscription to the One Call by Call plan. "
    "If you have a valid subscription, but still receive this error, then please see the FAQ."
)


@pytest.mark.parametrize(
    ("status", "message", "cause", "ways_out"),
    [
        (401, NO_ONE_CALL, Refusal.NO_ONE_CALL, ["OPENWEATHER_PLAN=one_call_4", "no subscription"]),
        (401, "Invalid API key. Please see the FAQ.", Refusal.KEY, ["mistyped", "2 hours", "OPENWEATHER_PLAN"]),
        (401, "", Refusal.KEY, ["OPENWEATHER_API_KEY"]),
        (400, "requested time is out of range (code 400000)", Refusal.OUTSIDE_SPAN, ["month"]),
        (400, "wrong latitude", Refusal.REQUEST, ["locations file"]),
        (404, "Internal error", Refusal.NOT_FOUND, ["OPENWEATHER_BASE_URL", "no data"]),
        (429, "Your account is temporary blocked", Refusal.BLOCKED, ["Wait"]),
        (500, "Internal error: 500001", None, []),
    ],
)
def test_the_cause_of_a_refusal_is_told_from_its_message(
    status: int, message: str, cause: Refusal | None, ways_out: list[str]
) -> None:
    assert openweather.refusal(status, message) is cause
    hint = openweather.hint(status, message)
    assert (hint is None) == (cause is None)
    assert all(way in str(hint) for way in ways_out)


@pytest.mark.parametrize(
    ("document", "verdict"),
    [
        ({"cod": 200}, (200, None)),
        ({"cod": "200", "message": 0}, (200, None)),
        ({"cod": 401, "message": "Invalid API key"}, (401, "Invalid API key")),
        ({"cod": "400000", "message": "too early"}, (400, "too early (code 400000)")),
        ({"cod": 400000}, (400, "no message (code 400000)")),
        ({"cod": "700"}, (None, None)),
        ([], (None, None)),
    ],
)
def test_a_body_declares_status_and_message(document: Any, verdict: tuple[int | None, str | None]) -> None:
    assert openweather.verdict(document) == verdict


def test_a_code_of_six_digits_reaches_the_hint() -> None:
    status, message = openweather.verdict({"cod": "400000", "message": "no data for this period"})
    assert openweather.refusal(status or 0, message or "") is Refusal.OUTSIDE_SPAN


def test_every_plan_that_a_person_can_set_has_limits_for_each_of_its_products() -> None:
    table = openweather.plans(None)
    assert {*table} == {*PLAN_NAMES, "simulator", "recorded"}
    for name in PLAN_NAMES:
        plan = table[name]
        assert {e.product for e in plan.endpoints} <= {*plan.limits}
        assert {e.dataset.name for e in plan.endpoints} == {"observations", "forecasts", "air_quality"}
        assert {*plan.prices} <= {*plan.limits}


def test_one_call_has_the_calls_of_a_day_that_are_free_of_charge_unless_told_otherwise() -> None:
    assert openweather.plans(None)["one_call_3"].limits["one_call"] == (Limit(1_000, Window.DAY),)
    assert openweather.plans(None, one_call_per_day=2_000)["one_call_4"].limits["one_call"] == (
        Limit(2_000, Window.DAY),
    )
    assert openweather.plans(None)["one_call_4"].limits["free"] == openweather.plans(None)["free"].limits["free"]


@pytest.mark.parametrize(("calls", "cost"), [(0, 0), (1_000, 0), (1_001, 0.0012), (2_000, 1.2)])
def test_only_calls_above_those_of_the_day_cost(calls: int, cost: float) -> None:
    price = openweather.plans(None)["one_call_3"].prices["one_call"]
    assert price.of_a_day(calls) == pytest.approx(cost)
    assert str(price) == "0.0012 GBP a call above 1,000 a day"
