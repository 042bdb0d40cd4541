"""How Open-Meteo is asked, and how its answers become rows and rejections."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, Rejection, RejectionReason
from weather_dagster.errors import MalformedAnswer, WeatherError
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour
from weather_dagster.locations import Location, load_locations
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint, route
from weather_dagster.weather_api.open_meteo import LIMITS, blocked_for, endpoints, verdict, weight
from weather_dagster.weather_api.records import without_nan
from weather_dagster.weather_api.service import Window

NOW = datetime(2026, 11, 25, 13, 20, tzinfo=UTC)
RUNNING = floor_hour(NOW)
LYON = Location(id="lyon", name="Lyon", latitude=45.75, longitude=4.85, time_zone="Europe/Paris")
OSLO = Location(id="oslo", name="Oslo", latitude=59.91, longitude=10.75, time_zone="Europe/Oslo")
POINT = {"latitude": 45.76, "longitude": 4.84}
HERE = "api/v1/forecast"
ARCHIVE = "archive-api/v1/archive"
HISTORY = "historical-forecast-api/v1/forecast"
PREVIOUS = "previous-runs-api/v1/forecast"
AIR = "air-quality-api/v1/air-quality"
UNITS = {
    "temperature_2m": "°C",
    "apparent_temperature": "°C",
    "pressure_msl": "hPa",
    "surface_pressure": "hPa",
    "relative_humidity_2m": "%",
    "wind_speed_10m": "m/s",
    "wind_direction_10m": "°",
    "wind_gusts_10m": "m/s",
    "cloud_cover": "%",
    "visibility": "m",
    "rain": "mm",
    "showers": "mm",
    "snowfall": "cm",
    "precipitation": "mm",
    "precipitation_probability": "%",
    "weather_code": "wmo code",
    "pm10": "μg/m³",
    "ammonia": "μg/m³",
}

Rows = list[dict[str, Any]]


def endpoint_of(dataset: Dataset = OBSERVATIONS, label: str = HERE) -> Endpoint:
    (found,) = (e for e in endpoints() if e.dataset is dataset and e.label == label)
    return found


def hours_ago(first: int, last: int = 0) -> HourRange:
    return HourRange(RUNNING - first * HOUR, RUNNING - last * HOUR)


def unix(hour: datetime) -> int:
    return int(hour.timestamp())


def place(
    times: Sequence[Any],
    *,
    units: Mapping[str, str] | None = None,
    envelope: Mapping[str, Any] | None = None,
    **values: Any,
) -> dict[str, Any]:
    """A well-formed answer for one place."""
    told = {name: UNITS[name.split("_previous_day")[0]] for name in values}
    return {
        **POINT,
        "generationtime_ms": 0.2,
        "utc_offset_seconds": 0,
        "timezone": "GMT",
        "elevation": 170.0,
        "hourly_units": {"time": "unixtime", **told, **(units or {})},
        "hourly": {"time": list(times), **values},
        **(envelope or {}),
    }


def times_of(hours: HourRange) -> list[int]:
    return [unix(hour) for hour in hours]


def read(
    document: Any, hours: HourRange, endpoint: Endpoint | None = None, location: Location = LYON
) -> tuple[Rows, list[Rejection]]:
    (answer,) = ApiCall(endpoint or endpoint_of(), (location,), hours).read(document, "open_meteo")
    table, rejections = answer.finish()
    table.validate(full=True)
    return table.to_pylist(), rejections


def one(**values: Any) -> dict[str, Any]:
    """The row of one hour with these values."""
    (row,), _ = read(place([unix(RUNNING)], **{name: [value] for name, value in values.items()}), hours_ago(0))
    return row


def case(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(
        (Path(__file__).parents[1] / "cases" / f"{name}.json").read_text(encoding="utf-8")
    )
    return loaded


def read_case(entry: dict[str, Any], endpoint: Endpoint | None = None) -> tuple[Rows, list[Rejection]]:
    """The answer of a case, as it is read when all the hours it tells were asked for."""
    response, request = entry["response"], entry["request"]
    body = response["text"].encode() if "text" in response else json.dumps(response["json"]).encode()
    document = from_json(without_nan(body))
    told, offset = document["hourly"]["time"], document["utc_offset_seconds"]
    if isinstance(told[0], str):
        told = [unix(datetime.fromisoformat(text).replace(tzinfo=UTC)) - offset for text in told]
    hours = HourRange(*(datetime.fromtimestamp(instant, UTC) for instant in (told[0], told[-1])))
    asked = Location(
        id="asked", name="Asked", latitude=request["latitude"], longitude=request["longitude"], time_zone="UTC"
    )
    return read(document, hours, endpoint, asked)


def column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def test_c08_good_hours_under_bare_nan_coordinates_land_and_one_rejection_tells_it() -> None:
    entry = case("C08")
    with pytest.raises(ValueError, match="invalid number"):
        from_json(entry["response"]["text"])
    rows, (rejection,) = read_case(entry)
    assert column(rows, "temperature_c") == entry["expect"]["either"]["temperature_c"]
    assert (rejection.reason, rejection.field) == (RejectionReason.PLACE_NOT_TOLD, None)
    assert rejection.hour_utc == 1788847200


def test_c09_fill_values_and_negative_sums_are_turned_away_alone() -> None:
    entry = case("C09")
    rows, rejections = read_case(entry)
    expected = entry["expect"]
    assert column(rows, "precipitation_mm") == expected["precipitation_1h_mm"]
    assert column(rows, "snow_mm") == expected["snow_1h_mm"]
    assert column(rows, "temperature_c") == expected["temperature_c"]
    assert [r.reason for r in rejections] == [RejectionReason.IMPLAUSIBLE_VALUE] * expected["rejected_values"]


def test_c10_hours_without_any_value_are_not_received() -> None:
    entry = case("C10")
    rows, rejections = read_case(entry)
    assert len(rows) == entry["expect"]["rows_received"]
    assert rows[-1]["valid_hour_utc"] == datetime.fromisoformat(entry["expect"]["newest_hour_for_freshness"])
    assert rejections == []


def test_c11_the_delivered_total_wins_and_snow_is_water() -> None:
    entry = case("C11")
    rows, rejections = read_case(entry)
    for name in ("precipitation", "snow", "rain"):
        assert column(rows, f"{name}_mm") == pytest.approx(entry["expect"][f"{name}_1h_mm"]), name
    assert rejections == []


def test_c12_wind_in_another_unit_is_refused_and_north_is_zero() -> None:
    entry = case("C12")
    rows, rejections = read_case(entry, endpoint_of(label=ARCHIVE))
    assert column(rows, "wind_direction_deg") == entry["expect"]["wind_direction_deg"]
    assert column(rows, "wind_speed_ms") == column(rows, "wind_gust_ms") == [None, None]
    assert column(rows, "rejected_fields") == ["wind_speed_ms,wind_gust_ms"] * 2
    assert {r.reason for r in rejections} == {RejectionReason.OTHER_UNIT}
    assert [r.field for r in rejections] == ["wind_speed_ms", "wind_gust_ms"] * 2
    assert "wind_speed_10m 36 came in km/h, m/s was asked for" in rejections[0].message


def test_c13_local_times_are_read_with_the_offset_of_their_answer() -> None:
    entry = case("C13")
    rows, rejections = read_case(entry)
    expected = [datetime.fromisoformat(text) for text in entry["expect"]["valid_hour_utc"]]
    assert column(rows, "valid_hour_utc") == expected
    assert rejections == []


@pytest.mark.parametrize("plan", case("C16")["plans"], ids=lambda plan: plan["label"])
def test_c16_the_weight_is_the_services(plan: dict[str, Any]) -> None:
    assert weight(plan["v"], plan["days"], plan["places"]) == pytest.approx(plan["expect_weight"], abs=0.01)


SPANS = [
    (OBSERVATIONS, hours_ago(90 * 24)),
    (OBSERVATIONS, HourRange(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 12, 31, 23, tzinfo=UTC))),
    (OBSERVATIONS, HourRange(datetime(1940, 1, 1, tzinfo=UTC), datetime(1959, 12, 31, 23, tzinfo=UTC))),
    (OBSERVATIONS, hours_ago(0)),
    (FORECASTS, hours_ago(0)),
    (FORECASTS, hours_ago(1, 1)),
    (FORECASTS, hours_ago(400, 1)),
    (AIR_QUALITY, hours_ago(365 * 24)),
]


@pytest.mark.parametrize("places", [1, 10, 100, 300])
@pytest.mark.parametrize(("dataset", "hours"), SPANS)
def test_no_call_weighs_more_than_a_minute_allows(dataset: Dataset, hours: HourRange, places: int) -> None:
    (minute,) = (limit.amount for limit in LIMITS["open_meteo"] if limit.window is Window.MINUTE)
    (stretch,), missing = route(endpoints(), dataset, hours, now=NOW)
    calls = list(stretch.calls([LYON] * places))
    assert missing == []
    assert max(call.weight for call in calls) < 300 < minute
    assert sum(len(call.locations) * len(call.hours) for call in calls) == places * len(hours)
    # A value of a year takes some six bytes.
    for call in calls:
        asked = len(call.query["hourly"].split(",")) * len(call.endpoint.weigh.__self__.asked(call.hours))
        assert asked * len(call.locations) * 6 < 6_000_000


def test_a_call_for_a_day_of_thirty_places_weighs_its_variables() -> None:
    assert ApiCall(endpoint_of(), (LYON,) * 30, hours_ago(23)).weight == pytest.approx(30 * 1.5)
    assert ApiCall(endpoint_of(label=ARCHIVE), (LYON,), hours_ago(29 * 24)).weight == pytest.approx(1.3 * 30 / 14)


def test_forecasts_of_the_past_weigh_every_lead_and_the_days_behind() -> None:
    call = ApiCall(endpoint_of(FORECASTS, PREVIOUS), (LYON,), hours_ago(15 * 24, 1))
    assert call.weight == pytest.approx(13 * 5 / 10 * 19 / 14)


@pytest.mark.parametrize(
    ("dataset", "hour", "label"),
    [
        (OBSERVATIONS, RUNNING, HERE),
        (OBSERVATIONS, RUNNING - timedelta(days=90), HERE),
        (OBSERVATIONS, RUNNING - timedelta(days=90, hours=1), HISTORY),
        (OBSERVATIONS, datetime(2022, 1, 1, tzinfo=UTC), HISTORY),
        (OBSERVATIONS, datetime(2021, 12, 31, 23, tzinfo=UTC), ARCHIVE),
        (OBSERVATIONS, datetime(1940, 1, 1, tzinfo=UTC), ARCHIVE),
        (OBSERVATIONS, datetime(1939, 12, 31, 23, tzinfo=UTC), None),
        (OBSERVATIONS, RUNNING + HOUR, None),
        (FORECASTS, RUNNING, HERE),
        (FORECASTS, RUNNING - HOUR, PREVIOUS),
        (FORECASTS, datetime(2024, 1, 1, tzinfo=UTC), PREVIOUS),
        (FORECASTS, datetime(2023, 12, 31, 23, tzinfo=UTC), None),
        (AIR_QUALITY, RUNNING, AIR),
        (AIR_QUALITY, datetime(2013, 1, 1, tzinfo=UTC), AIR),
        (AIR_QUALITY, datetime(2012, 12, 31, 23, tzinfo=UTC), None),
    ],
)
def test_every_hour_is_asked_of_the_first_endpoint_that_has_it(
    dataset: Dataset, hour: datetime, label: str | None
) -> None:
    stretches, _ = route(endpoints(), dataset, HourRange(hour, hour), now=NOW)
    assert [stretch.endpoint.label for stretch in stretches] == ([label] if label else [])


def test_real_hosts_and_paths_below_a_base_are_told_apart_by_the_first_label() -> None:
    assert {ApiCall(e, (LYON,), hours_ago(0)).url for e in endpoints(None)} == {
        "https://api.open-meteo.com/v1/forecast",
        "https://historical-forecast-api.open-meteo.com/v1/forecast",
        "https://archive-api.open-meteo.com/v1/archive",
        "https://previous-runs-api.open-meteo.com/v1/forecast",
        "https://air-quality-api.open-meteo.com/v1/air-quality",
    }
    urls = [ApiCall(e, (LYON,), hours_ago(0)).url for e in endpoints("http://localhost:8000/")]
    assert urls[1] == "http://localhost:8000/historical-forecast-api/v1/forecast"
    assert [e.label for e in endpoints("http://localhost:8000")] == [e.label for e in endpoints()]


@pytest.mark.parametrize("endpoint", endpoints(), ids=lambda e: f"{e.dataset.name}-{e.label}")
def test_units_and_time_zone_are_always_asked_for(endpoint: Endpoint) -> None:
    query = ApiCall(endpoint, (LYON, OSLO), hours_ago(0)).query
    asked = {name: query[name] for name in ("timezone", "timeformat", "temperature_unit", "wind_speed_unit")}
    assert asked == {
        "timezone": "GMT",
        "timeformat": "unixtime",
        "temperature_unit": "celsius",
        "wind_speed_unit": "ms",
    }
    assert query["precipitation_unit"] == "mm"
    assert (query["latitude"], query["longitude"]) == ("45.75,59.91", "4.85,10.75")


def test_the_hours_asked_for_are_inclusive_and_whole_days_at_the_archive() -> None:
    query = ApiCall(endpoint_of(), (LYON,), hours_ago(2, 1)).query
    assert (query["start_hour"], query["end_hour"]) == ("2026-11-25T11:00", "2026-11-25T12:00")
    old = HourRange(datetime(2020, 2, 28, 13, tzinfo=UTC), datetime(2020, 2, 29, 2, tzinfo=UTC))
    archive = ApiCall(endpoint_of(label=ARCHIVE), (LYON,), old)
    assert (archive.query["start_date"], archive.query["end_date"]) == ("2020-02-28", "2020-02-29")
    assert "start_hour" not in archive.query
    assert "showers" not in archive.query["hourly"].split(",")


def test_forecasts_ask_for_the_hours_that_their_issues_look_at() -> None:
    now = ApiCall(endpoint_of(FORECASTS, HERE), (LYON,), hours_ago(0)).query
    assert (now["start_hour"], now["end_hour"]) == ("2026-11-25T14:00", "2026-11-30T13:00")
    past = ApiCall(endpoint_of(FORECASTS, PREVIOUS), (LYON,), hours_ago(5, 3)).query
    assert past["start_hour"] == format_hour(RUNNING - 5 * HOUR + timedelta(days=1))
    assert past["end_hour"] == format_hour(RUNNING - 3 * HOUR + timedelta(days=5))
    assert {name.rsplit("_", 1)[1] for name in past["hourly"].split(",")} == {f"day{n}" for n in range(1, 6)}


def test_a_row_tells_endpoint_clocks_and_its_own_values_as_payload() -> None:
    hours = hours_ago(1)
    ((_, row), rejections) = read(place(times_of(hours), temperature_2m=[7, 8.5], rain=[0, 0.2]), hours)
    assert rejections == []
    assert (row["provider"], row["endpoint"], row["location_id"]) == ("open_meteo", HERE, "lyon")
    assert row["valid_hour_utc"] == row["observed_at_utc"] == RUNNING
    assert row["precipitation_hours"] == 1
    assert json.loads(row["payload"]) == {"time": unix(RUNNING), "temperature_2m": 8.5, "rain": 0.2}


def test_the_forecast_of_the_running_hour_has_the_next_hours_and_no_past_ones() -> None:
    times = [unix(RUNNING) + 3600 * i for i in range(-2, 124)]
    document = place(times, temperature_2m=[1.0] * 126, precipitation_probability=[40] * 126)
    endpoint = endpoint_of(FORECASTS, HERE)
    rows, rejections = read(document, hours_ago(0), endpoint)
    assert (len(rows), rejections) == (endpoint.rows_per_hour, [])
    assert {row["issued_hour_utc"] for row in rows} == {RUNNING}
    assert column(rows, "valid_hour_utc") == [RUNNING + i * HOUR for i in range(1, 121)]
    assert rows[0]["precipitation_probability"] == 0.4
    assert not endpoint.tells_hour


def test_what_was_forecast_days_before_is_filed_under_the_hour_of_its_issue() -> None:
    endpoint = endpoint_of(FORECASTS, PREVIOUS)
    issued = hours_ago(4, 3)
    span = times_of(HourRange(issued.first + timedelta(days=1), issued.last + timedelta(days=5)))
    values = {f"pressure_msl_previous_day{days}": [900 + days] * len(span) for days in range(1, 6)}
    values |= {f"rain_previous_day{days}": [0] * len(span) for days in range(1, 6)}
    rows, rejections = read(place(span, **values), issued, endpoint)
    assert rejections == []
    assert len(rows) == ApiCall(endpoint, (LYON,), issued).expected_rows == 10
    leads = [(row["valid_hour_utc"] - row["issued_hour_utc"]) / timedelta(days=1) for row in rows]
    assert leads == [1, 2, 3, 4, 5] * 2
    assert column(rows, "pressure_hpa") == [901, 902, 903, 904, 905] * 2
    assert column(rows, "issued_hour_utc") == [issued.first] * 5 + [issued.last] * 5
    assert set(json.loads(rows[1]["payload"])) == {"time", "pressure_msl_previous_day2", "rain_previous_day2"}


def test_a_lead_without_values_is_not_received() -> None:
    issued = hours_ago(4, 4)
    span = times_of(HourRange(issued.first + timedelta(days=1), issued.last + timedelta(days=5)))
    document = place(
        span, temperature_2m_previous_day1=[3] * len(span), temperature_2m_previous_day5=[None] * len(span)
    )
    rows, rejections = read(document, issued, endpoint_of(FORECASTS, PREVIOUS))
    assert column(rows, "valid_hour_utc") == [issued.first + timedelta(days=1)]
    assert rejections == []


def test_air_quality_has_no_index_and_may_lack_pollutants() -> None:
    hours = hours_ago(1)
    document = place(
        times_of(hours), pm10=[20.5, None], ammonia=[None, None], units={"ammonia": "undefined", "pm10": "µg/m³"}
    )
    (row,), rejections = read(document, hours, endpoint_of(AIR_QUALITY, AIR))
    assert (row["pm10_ug_m3"], row["ammonia_ug_m3"], row["provider_aqi"]) == (20.5, None, None)
    assert rejections == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"rain": 1.5, "showers": 0.5}, {"rain_mm": 2.0, "precipitation_mm": None}),
        ({"rain": 1.5, "showers": None}, {"rain_mm": None}),
        ({"rain": 1.5}, {"rain_mm": 1.5}),
        ({"showers": 1.5}, {"rain_mm": None}),
        ({"rain": -1.0, "showers": 2.0}, {"rain_mm": None, "rejected_fields": "rain_mm"}),
        ({"snowfall": 0.7}, {"snow_mm": 1.0}),
        ({"precipitation": 0.8, "rain": 0, "showers": 0}, {"precipitation_mm": 0.8, "rain_mm": 0.0}),
        ({"visibility": 24140}, {"visibility_m": 10_000}),
        ({"visibility": -1}, {"visibility_m": None, "rejected_fields": "visibility_m"}),
        ({"wind_direction_10m": 360}, {"wind_direction_deg": 0.0}),
        ({"wind_direction_10m": 361}, {"wind_direction_deg": None, "rejected_fields": "wind_direction_deg"}),
    ],
)
def test_columns_come_from_variables(values: dict[str, Any], expected: dict[str, Any]) -> None:
    row = one(temperature_2m=1.0, **values)
    assert {name: row[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"weather_code": 0}, 800),
        ({"weather_code": 3.0, "cloud_cover": 100}, 804),
        ({"weather_code": 1, "cloud_cover": 10}, 800),
        ({"weather_code": 1, "cloud_cover": 25}, 801),
        ({"weather_code": 2, "cloud_cover": 50}, 802),
        ({"weather_code": 2, "cloud_cover": 84}, 803),
        ({"weather_code": 2}, None),
        ({"weather_code": 48}, 741),
        ({"weather_code": 67}, 511),
        ({"weather_code": 65}, 502),
        ({"weather_code": 86}, 622),
        ({"weather_code": 95, "precipitation": 0}, 211),
        ({"weather_code": 95}, 211),
        ({"weather_code": 96, "precipitation": 2.4}, 200),
        ({"weather_code": 99, "precipitation": 7.6}, 201),
        ({"weather_code": 99, "precipitation": 7.7}, 202),
        ({"weather_code": 19}, None),
        ({"weather_code": 500}, None),
        ({"weather_code": -1}, None),
        ({"weather_code": 61.5}, None),
        ({"weather_code": None}, None),
    ],
)
def test_the_condition_comes_from_the_wmo_code(values: dict[str, Any], expected: int | None) -> None:
    assert one(temperature_2m=1.0, **values)["condition_id"] == expected


def test_hours_that_were_not_asked_for_are_left_out_and_order_does_not_matter() -> None:
    times = [unix(RUNNING) + 3600 * i for i in (2, 0, -1, -5, 1)]
    rows, rejections = read(place(times, temperature_2m=[2.0, 0.0, -1.0, -5.0, 1.0]), hours_ago(1))
    assert column(rows, "temperature_c") == [-1.0, 0.0]
    assert rejections == []


def test_of_two_values_for_an_hour_the_last_lands_and_the_other_is_kept_aside() -> None:
    document = place([unix(RUNNING)] * 3, temperature_2m=[1.0, 2.0, 2.0])
    rows, rejections = read(document, hours_ago(0))
    assert column(rows, "temperature_c") == [2.0]
    assert [r.reason for r in rejections] == [RejectionReason.CONFLICTING]


@pytest.mark.parametrize("minutes", [30, -200])
def test_a_time_that_is_no_whole_hour_is_turned_away(minutes: int) -> None:
    odd = unix(RUNNING) + 60 * minutes
    rows, (rejection,) = read(place([unix(RUNNING), odd], temperature_2m=[1.0, 2.0]), hours_ago(0))
    assert column(rows, "temperature_c") == [1.0]
    assert rejection.reason is RejectionReason.OUTSIDE_HOUR
    assert json.loads(rejection.payload) == {"time": odd, "temperature_2m": 2.0}


@pytest.mark.parametrize("time", [None, "soon", "2026-11-25T13:00Z", "2026-13-45T13:00", True, 1.5, -3600, 10**13])
def test_what_is_no_time_is_turned_away_with_its_values(time: Any) -> None:
    rows, (rejection,) = read(place([unix(RUNNING), time], temperature_2m=[1.0, 2.0]), hours_ago(0))
    assert column(rows, "temperature_c") == [1.0]
    assert rejection.reason is RejectionReason.CONTRACT
    assert repr(time) in rejection.message


@pytest.mark.parametrize("bad", ["7.5", True, [], float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_turned_away_alone(bad: Any) -> None:
    hours = hours_ago(1)
    rows, (rejection,) = read(place(times_of(hours), temperature_2m=[bad, 2.0], rain=[0.1, 0.2]), hours)
    assert column(rows, "temperature_c") == [None, 2.0]
    assert column(rows, "rain_mm") == [0.1, 0.2]
    assert column(rows, "rejected_fields") == ["temperature_c", None]
    assert (rejection.reason, rejection.field) == (RejectionReason.CONTRACT, "temperature_c")
    assert "temperature_2m" in rejection.message
    assert rejection.hour_utc == unix(hours.first)


def test_a_value_without_a_unit_is_turned_away() -> None:
    document = place([unix(RUNNING)], temperature_2m=[2.0], rain=[0.1])
    del document["hourly_units"]["rain"]
    (row,), (rejection,) = read(document, hours_ago(0))
    assert (row["rain_mm"], row["temperature_c"]) == (None, 2.0)
    assert (rejection.reason, rejection.field) == (RejectionReason.OTHER_UNIT, "rain_mm")
    assert "rain 0.1 came without a unit" in rejection.message


def test_many_places_are_read_in_the_order_asked_for() -> None:
    hours = hours_ago(0)
    oslo = place([unix(RUNNING)], temperature_2m=[-3], envelope={"latitude": 59.9, "longitude": 10.7, "location_id": 1})
    document = [place([unix(RUNNING)], temperature_2m=[8]), oslo]
    answers = ApiCall(endpoint_of(), (LYON, OSLO), hours).read(document, "open_meteo")
    told = [(row["location_id"], row["temperature_c"]) for a in answers for row in a.finish()[0].to_pylist()]
    assert told == [("lyon", 8.0), ("oslo", -3.0)]
    for broken, named in (
        (document[:1], "an array of 2 places, but it is 1"),
        (document[0], "no array"),
        ([document[0], {**oslo, "location_id": 2}], "place 1 of those asked for, but location_id is 2"),
    ):
        with pytest.raises(MalformedAnswer, match=named):
            ApiCall(endpoint_of(), (LYON, OSLO), hours).read(broken, "open_meteo")


def test_bad_coordinates_of_one_place_leave_the_others_untouched() -> None:
    hours = hours_ago(1)
    nowhere = {"latitude": None, "longitude": float("nan"), "location_id": 1}
    document = [
        place(times_of(hours), temperature_2m=[8, 9]),
        place(times_of(hours), temperature_2m=[1, 2], envelope=nowhere),
    ]
    lyon, oslo = ApiCall(endpoint_of(), (LYON, OSLO), hours).read(document, "open_meteo")
    assert lyon.finish()[1] == []
    table, (rejection,) = oslo.finish()
    assert table.num_rows == 2
    assert (rejection.reason, rejection.location_id) == (RejectionReason.PLACE_NOT_TOLD, "oslo")


@pytest.mark.parametrize(("latitude", "lands"), [(46.1, True), (46.3, False)])
def test_a_cell_centre_may_be_off_but_not_another_place(latitude: float, lands: bool) -> None:
    hours = hours_ago(1)
    document = place(times_of(hours), temperature_2m=[1, None], envelope={"latitude": latitude})
    rows, rejections = read(document, hours)
    assert len(rows) == lands
    assert [r.reason for r in rejections] == ([] if lands else [RejectionReason.OTHER_PLACE])
    if not lands:
        assert "61.2 km from lyon" in rejections[0].message


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        ({"hourly": {"time": [unix(RUNNING)], "rain": [1, 2]}}, r"times \(1\), but rain has 2"),
        ({"hourly": {"time": [unix(RUNNING)], "rain": []}}, "but rain has 0"),
        ({"hourly": {"time": [unix(RUNNING)]}}, "the variables asked for"),
        ({"hourly": {"rain": [1]}}, "hourly with time"),
        ({"hourly": None}, "hourly"),
        ({"hourly_units": None}, "hourly_units"),
        ({"utc_offset_seconds": None}, "utc_offset_seconds"),
    ],
)
def test_another_envelope_is_an_error_that_names_the_part(damage: dict[str, Any], named: str) -> None:
    with pytest.raises(MalformedAnswer, match=named):
        read({**place([unix(RUNNING)], rain=[1]), **damage}, hours_ago(0))


@pytest.mark.parametrize("document", [None, [], "text", 3, {}, [{}]])
def test_what_is_no_answer_is_an_error(document: Any) -> None:
    with pytest.raises(MalformedAnswer):
        read(document, hours_ago(0))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"units": {"rain": "inch", "temperature_2m": "°F"}},
        {"temperature_2m": ["warm", 3.0]},
        {"envelope": {"latitude": 10.0}},
        {"rain": [-5, 0.3]},
    ],
)
def test_a_kept_record_is_read_again_to_the_same_end(changes: dict[str, Any]) -> None:
    hours = hours_ago(1)
    values = {"temperature_2m": [4.5, 3.0], "rain": [0.1, 0.0], "weather_code": [61, 0], **changes}
    rows, rejections = read(place(times_of(hours), **values), hours)
    endpoint = endpoint_of()
    for payload in {entry["payload"] for entry in rows} | {r.payload for r in rejections}:
        rows_again, rejections_again = read(endpoint.wrap(json.loads(payload), hours), hours)
        assert rows_again == [row for row in rows if row["payload"] == payload]
        assert rejections_again == [r for r in rejections if r.payload == payload]


def test_a_kept_record_without_a_unit_is_turned_away_again() -> None:
    document = place([unix(RUNNING)], temperature_2m=[2.0])
    document["hourly_units"] = {"time": "unixtime"}
    _, (rejection,) = read(document, hours_ago(0))
    assert read(endpoint_of().wrap(json.loads(rejection.payload), hours_ago(0)), hours_ago(0))[1] == [rejection]


def test_the_forecast_of_the_past_is_read_again_from_one_lead() -> None:
    issued = hours_ago(4, 4)
    endpoint = endpoint_of(FORECASTS, PREVIOUS)
    span = times_of(HourRange(issued.first + timedelta(days=1), issued.last + timedelta(days=5)))
    rows, _ = read(place(span, temperature_2m_previous_day3=[3] * len(span)), issued, endpoint)
    assert len(rows) == 1
    assert read(endpoint.wrap(json.loads(rows[0]["payload"]), issued), issued, endpoint)[0] == rows


def test_generation_time_and_key_order_change_no_hash() -> None:
    first = place([unix(RUNNING)], temperature_2m=[2.0], wind_direction_10m=[360])
    again = place([unix(RUNNING)], wind_direction_10m=[0], temperature_2m=[2], envelope={"generationtime_ms": 9.9})
    hashes = {read(document, hours_ago(0))[0][0]["payload_hash"] for document in (first, again)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("body", "repaired"),
    [
        (b'{"latitude":-nan,"longitude":nan}', b'{"latitude":null,"longitude":null}'),
        (b"[inf,-inf,+Infinity,NaN, -nan ]", b"[null,null,null,null, null ]"),
        (b'{"nan":"nan, -nan","a \\"nan":1}', b'{"nan":"nan, -nan","a \\"nan":1}'),
        (b'{"info":1,"reason":"banana"}', b'{"info":1,"reason":"banana"}'),
        ('{"zone":"Nançay nan","v":nan}'.encode(), '{"zone":"Nançay nan","v":null}'.encode()),
        (b"", b""),
    ],
)
def test_bare_words_for_no_number_become_null_outside_of_texts(body: bytes, repaired: bytes) -> None:
    assert without_nan(body) == repaired


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"error": True, "reason": "Invalid date"}, (400, "Invalid date")),
        ({"reason": "Invalid date", "error": True}, (400, "Invalid date")),
        ([{"hourly": {}}, {"error": True, "reason": "No data"}], (400, "No data")),
        ({"error": True}, (400, None)),
        ({"error": False, "reason": "x"}, (None, None)),
        ({"hourly": {}}, (None, None)),
        ([], (None, None)),
        (None, (None, None)),
    ],
)
def test_the_body_tells_an_error(document: Any, expected: tuple[int | None, str | None]) -> None:
    assert verdict(document) == expected


@pytest.mark.parametrize(
    ("reason", "wait"),
    [
        ("Minutely API request limit exceeded. Please try again in one minute.", timedelta(minutes=1)),
        ("Hourly API request limit exceeded. Please try again in the next hour.", timedelta(minutes=40)),
        ("Daily API request limit exceeded. Please try again tomorrow.", timedelta(hours=10, minutes=40)),
        ("Too many concurrent requests", timedelta(seconds=5)),
        ("", timedelta(minutes=10)),
    ],
)
def test_the_reason_tells_how_long_not_to_ask(reason: str, wait: timedelta) -> None:
    assert blocked_for(reason, NOW) == wait


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(unix(RUNNING) - 10**4, unix(RUNNING) + 10**6)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -0.0, 360, "2026-11-25T13:00", "km/h", "°C"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(document: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document where something can be put."""
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [here, *(path for key, child in children for path in paths(child, (*here, key)))]


@st.composite
def damaged_answers(draw: st.DrawFn) -> tuple[Endpoint, Any]:
    """An answer of some endpoint with up to three parts replaced by anything."""
    endpoint = draw(st.sampled_from(endpoints()))
    lead = "_previous_day1" if endpoint.label == PREVIOUS else ""
    names = ["pm10", "ammonia"] if endpoint.dataset is AIR_QUALITY else ["temperature_2m", "rain", "weather_code"]
    times = [unix(RUNNING) + 3600 * i for i in (-2, -1, 0, 22, 23)]
    document = place(times, **{name + lead: [1.5, None, 3.0, 2.0, 61] for name in names})
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(paths(document)[1:]))
        target: Any = document
        for key in parents:
            target = target[key]
        target[last] = draw(anything)
    return endpoint, document


@settings(max_examples=300, deadline=None)
@given(damaged_answers())
def test_a_damaged_answer_ends_in_rows_that_keep_the_invariants_rejections_or_our_error(
    damaged: tuple[Endpoint, Any],
) -> None:
    endpoint, document = damaged
    hours = hours_ago(2)
    try:
        rows, rejections = read(document, hours, endpoint)
    except WeatherError:
        return
    assert len({tuple(row[name] for name in endpoint.dataset.version_key) for row in rows}) == len(rows)
    for row in rows:
        assert row[endpoint.dataset.partition_column] in hours
        assert row.get("issued_hour_utc", row["valid_hour_utc"]) <= row["valid_hour_utc"]
        named = set((row["rejected_fields"] or "").split(",")) - {""}
        assert all(row[name] is None for name in named)
        for quantity in endpoint.dataset.quantities:
            assert row[quantity.name] is None or quantity.is_plausible(row[quantity.name]), quantity.name
    for rejection in rejections:
        from_json(rejection.payload, allow_inf_nan=False)
        assert datetime.fromtimestamp(rejection.hour_utc, UTC) in hours


def test_a_year_of_ten_places_is_two_calls() -> None:
    hours = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))
    (stretch,), _ = route(endpoints(), OBSERVATIONS, hours, now=NOW)
    calls = list(stretch.calls(load_locations()[:10]))
    assert len(calls) == 2
    assert math.isclose(sum(call.weight for call in calls), 10 * 1.5 * 365 / 14, rel_tol=0.02)
