"""Open-Meteo's hosts tell the same weather, in columns, in their own units and within their own windows."""

import math
from typing import Any

import numpy as np
import pytest

from weather_dagster.simulator.accounts import WeightLimits
from weather_dagster.simulator.app import create_app
from weather_dagster_tests.simulator.conftest import LYON, NOW, Get, client_of, unix

FORECAST = "/api/v1/forecast"
ARCHIVE = "/archive-api/v1/archive"
HISTORICAL = "/historical-forecast-api/v1/forecast"
PREVIOUS = "/previous-runs-api/v1/forecast"
AIR = "/air-quality-api/v1/air-quality"
SEARCH = "/geocoding-api/v1/search"
HOURLY_PATHS = (FORECAST, ARCHIVE, HISTORICAL, PREVIOUS, AIR)
WEATHER_PATHS = HOURLY_PATHS[:4]

POINT = {"latitude": LYON["lat"], "longitude": LYON["lon"]}
SI = {"timeformat": "unixtime", "wind_speed_unit": "ms"}
RUNNING = unix("2026-11-25T13:00")
NO_UNIT = "Cannot initialize TemperatureUnit from invalid String value"
NO_VARIABLE = "Cannot initialize ForecastVariable from invalid String value"
DAY = {"start_date": "2026-11-20", "end_date": "2026-11-20"}


def hourly(get: Get, path: str, *names: str, **more: Any) -> dict[str, list[Any]]:
    response = get(path, appid=None, units=None, **{**POINT, **SI, "hourly": ",".join(names), **more})
    assert response.status_code == 200, response.text
    columns: dict[str, list[Any]] = response.json()["hourly"]
    return columns


def reason(get: Get, path: str, **query: Any) -> str:
    response = get(path, appid=None, units=None, **query)
    assert response.status_code == 400
    body = response.json()
    assert body["error"] is True
    return str(body["reason"])


def test_an_answer_has_the_documented_shape(get: Get):
    names = ("temperature_2m", "wind_speed_10m", "weather_code")
    response = get(FORECAST, appid=None, units=None, hourly=",".join(names), **POINT, **DAY)
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    assert response.headers["x-weather-provider"] == "simulator"
    body = response.json()
    assert list(body) == [
        "latitude",
        "longitude",
        "generationtime_ms",
        "utc_offset_seconds",
        "timezone",
        "timezone_abbreviation",
        "elevation",
        "hourly_units",
        "hourly",
    ]
    assert (body["latitude"], body["longitude"]) == (45.8, 4.8)
    assert (body["timezone"], body["utc_offset_seconds"]) == ("GMT", 0)
    assert body["hourly_units"] == {
        "time": "iso8601",
        "temperature_2m": "°C",
        "wind_speed_10m": "km/h",
        "weather_code": "wmo code",
    }
    assert body["hourly"]["time"] == [f"2026-11-20T{hour:02}:00" for hour in range(24)]
    assert all(len(column) == 24 for column in body["hourly"].values())


@pytest.mark.parametrize("path", WEATHER_PATHS)
def test_past_hours_are_those_of_openweather(get: Get, path: str):
    items = get("/data/2.5/history/city", type="hour", start=unix("2026-11-20"), cnt=24, **LYON).json()["list"]
    names = ("temperature_2m", "relative_humidity_2m", "pressure_msl", "cloud_cover", "wind_speed_10m", "precipitation")
    columns = hourly(get, path, *names, **DAY)
    assert columns["time"] == [item["dt"] for item in items]
    for i, item in enumerate(items):
        assert columns["temperature_2m"][i] == pytest.approx(item["main"]["temp"], abs=0.06)
        assert columns["relative_humidity_2m"][i] == item["main"]["humidity"]
        assert columns["pressure_msl"][i] == pytest.approx(item["main"]["pressure"], abs=0.56)
        assert columns["cloud_cover"][i] == item["clouds"]["all"]
        assert columns["wind_speed_10m"][i] == item["wind"]["speed"]
        water = sum(item.get(kind, {}).get("1h", 0) for kind in ("rain", "snow"))
        assert columns["precipitation"][i] == pytest.approx(water, abs=0.011)


def test_precipitation_is_rain_and_showers_and_the_water_of_the_snow(get: Get):
    for latitude in (-0.18, 78.22):
        names = ("precipitation", "rain", "showers", "snowfall", "weather_code")
        columns = hourly(get, HISTORICAL, *names, latitude=latitude, start_date="2025-11-01", end_date="2026-03-31")
        total, rain, showers, snowfall, codes = (np.array(columns[name]) for name in names)
        assert np.abs(total - rain - showers - snowfall / 0.7).max() < 0.03
        assert total.max() > 1
        assert set(codes[total == 0]) <= {0, 1, 2, 3, 45}
        assert ((codes >= 51) == (total > 0)).all()


def test_every_condition_has_a_weather_code(get: Get):
    for latitude in range(-80, 81, 20):
        columns = hourly(
            get, HISTORICAL, "weather_code", latitude=latitude, start_date="2025-01-01", end_date="2025-12-31"
        )
        assert {type(code) for code in columns["weather_code"]} == {int}


@pytest.mark.parametrize(
    ("parameter", "unit", "name", "text", "factor"),
    [
        ("wind_speed_unit", "kmh", "wind_speed_10m", "km/h", 3.6),
        ("wind_speed_unit", "mph", "wind_speed_10m", "mp/h", 2.237),
        ("wind_speed_unit", "kn", "wind_gusts_10m", "kn", 1.944),
        ("precipitation_unit", "inch", "precipitation", "inch", 1 / 25.4),
        ("precipitation_unit", "inch", "snowfall", "inch", 1 / 2.54),
        ("precipitation_unit", "inch", "visibility", "ft", 3.281),
    ],
)
def test_units_are_honoured_and_named(get: Get, parameter: str, unit: str, name: str, text: str, factor: float):
    week = {"start_date": "2026-11-10", "end_date": "2026-11-20", "latitude": 78.22}
    right = hourly(get, FORECAST, name, **week)[name]
    asked = {**POINT, **SI, **week, parameter: unit}
    body = get(FORECAST, appid=None, units=None, hourly=name, **asked).json()
    assert body["hourly_units"][name] == text
    assert body["hourly"][name] == pytest.approx([value * factor for value in right], rel=0.01, abs=0.07)


def test_fahrenheit_is_honoured(get: Get):
    celsius = hourly(get, FORECAST, "temperature_2m", **DAY)["temperature_2m"]
    fahrenheit = hourly(get, FORECAST, "temperature_2m", temperature_unit="fahrenheit", **DAY)["temperature_2m"]
    assert fahrenheit == pytest.approx([value * 1.8 + 32 for value in celsius], abs=0.15)


def test_several_places_make_an_array_in_their_order(get: Get):
    places = {"latitude": "45.76,-33.87,50", "longitude": "4.84,151.21,-30"}
    body = get(FORECAST, appid=None, units=None, hourly="temperature_2m", **places, **SI, **DAY).json()
    assert [place.get("location_id") for place in body] == [None, 1, 2]
    alone = hourly(get, FORECAST, "temperature_2m", latitude=-33.87, longitude=151.21, **DAY)
    assert body[1]["hourly"] == alone
    assert [place["elevation"] for place in body][2] == 0


@pytest.mark.parametrize(("path", "cell"), [(FORECAST, 0.1), (HISTORICAL, 0.1), (ARCHIVE, 0.25), (AIR, 0.4)])
def test_coordinates_are_those_of_the_grid_cell(get: Get, path: str, cell: float):
    for latitude, longitude in ((45.76, 4.84), (-33.87, 151.21), (90, 180), (0.07, -0.07)):
        body = get(path, latitude=latitude, longitude=longitude, **DAY).json()
        for told, asked in ((body["latitude"], latitude), (body["longitude"], longitude)):
            assert math.isclose(told / cell, round(told / cell), abs_tol=1e-6)
            assert abs(told - asked) <= cell / 2 + 1e-9


def test_hours_are_inclusive_and_floored(get: Get):
    asked = {"start_hour": "2026-11-20T06:59", "end_hour": "2026-11-20T08"}
    for path in HOURLY_PATHS:
        assert hourly(get, path, **asked, hourly="pm10" if path == AIR else "temperature_2m")["time"] == [
            unix(f"2026-11-20T0{hour}:00") for hour in (6, 7, 8)
        ]


def test_days_around_today_are_the_default(get: Get):
    default = hourly(get, FORECAST, "temperature_2m")["time"]
    assert (default[0], len(default)) == (unix("2026-11-25"), 168)
    assert len(hourly(get, AIR, "pm10")["time"]) == 120
    assert hourly(get, FORECAST, "weather_code", "rain", forecast_days=0) == {
        "time": [],
        "weather_code": [],
        "rain": [],
    }
    chosen = hourly(get, FORECAST, "temperature_2m", past_days=2, forecast_days=1)["time"]
    assert (chosen[0], chosen[-1]) == (unix("2026-11-23"), unix("2026-11-25T23:00"))


def test_ranges_are_read_in_the_zone_asked_for(get: Get):
    body = get(
        FORECAST, appid=None, units=None, hourly="temperature_2m", timezone="Europe/Paris", **POINT, **DAY
    ).json()
    assert (body["timezone"], body["utc_offset_seconds"]) == ("Europe/Paris", 3600)
    assert body["hourly"]["time"][0] == "2026-11-20T00:00"
    in_unix = hourly(get, FORECAST, "temperature_2m", timezone="Europe/Paris", **DAY)
    assert in_unix["time"][0] == unix("2026-11-19T23:00")
    assert in_unix["temperature_2m"] == body["hourly"]["temperature_2m"]
    assert get(FORECAST, timezone="auto", **POINT, **DAY).json()["timezone"] == "Europe/Paris"


def test_the_offset_of_today_shifts_the_whole_answer(get: Get):
    summer = hourly(
        get, ARCHIVE, "temperature_2m", timezone="Europe/Paris", start_date="2026-07-01", end_date="2026-07-01"
    )
    assert summer["time"][0] == unix("2026-06-30T23:00")


def test_hours_to_come_are_forecasts_and_the_archive_has_none(get: Get):
    tomorrow = {"start_date": "2026-11-25", "end_date": "2026-11-26"}
    coming = hourly(get, FORECAST, "temperature_2m", **tomorrow)["temperature_2m"]
    became = hourly(client_of(create_app(clock=lambda: NOW + 2 * 86400)), FORECAST, "temperature_2m", **tomorrow)[
        "temperature_2m"
    ]
    assert coming[:14] == became[:14]
    assert coming[14:] != became[14:]
    archived = hourly(get, ARCHIVE, "temperature_2m", start_date="2026-11-25", end_date="2026-11-25")["temperature_2m"]
    assert archived[:14] == coming[:14]
    assert archived[14:] == [None] * 10


def test_a_range_can_begin_years_ago_and_end_in_days_to_come(get: Get):
    for path, name in ((HISTORICAL, "temperature_2m"), (AIR, "pm10")):
        values = hourly(get, path, name, start_date="2016-01-01", end_date="2026-12-01")[name]
        assert values[0] is None
        assert None not in values[-24 * 365 * 4 :]


def test_the_archive_has_no_visibility_and_counts_showers_as_rain(get: Get):
    asked = {"latitude": -0.18, "longitude": -78.47, "start_date": "2026-01-01", "end_date": "2026-06-30"}
    archive = hourly(get, ARCHIVE, "visibility", "showers", "rain", **asked)
    forecast = hourly(get, HISTORICAL, "visibility", "showers", "rain", **asked)
    assert set(archive["visibility"]) == set(archive["showers"]) == {None}
    assert max(forecast["visibility"]) > 10_000, "the service does not stop at ten kilometres"
    assert max(forecast["showers"]) > 0
    both = [rain + showers for rain, showers in zip(forecast["rain"], forecast["showers"], strict=True)]
    assert archive["rain"] == pytest.approx(both)


@pytest.mark.parametrize(
    ("path", "name", "start"),
    [
        (AIR, "pm2_5", "2022-08-01"),
        (HISTORICAL, "temperature_2m", "2022-01-01"),
        (PREVIOUS, "temperature_2m_previous_day1", "2024-01-01"),
    ],
)
def test_values_are_null_before_the_data_of_a_host_begin(get: Get, path: str, name: str, start: str):
    first = unix(start)
    before = f"{np.datetime64(first - 7200, 's')}"[:16]
    values = hourly(get, path, name, start_hour=before, end_hour=f"{start}T01:00")[name]
    assert values[:2] == [None, None]
    assert None not in values[2:]
    assert len(values) == 4


def test_air_quality_is_that_of_openweather(get: Get):
    items = get(
        "/data/2.5/air_pollution/history", start=unix("2026-11-20"), end=unix("2026-11-20T23:00"), **LYON
    ).json()
    names = {"pm10": "pm10", "pm2_5": "pm2_5", "ozone": "o3", "nitrogen_dioxide": "no2", "carbon_monoxide": "co"}
    columns = hourly(get, AIR, *names, "ammonia", **DAY)
    for name, theirs in names.items():
        values = [item["components"][theirs] for item in items["list"]]
        assert columns[name] == pytest.approx(values, abs=0.06)
    assert None not in columns["ammonia"]
    elsewhere = hourly(get, AIR, "ammonia", "nitrogen_monoxide", "pm10", **DAY, latitude=-33.87, longitude=151.21)
    assert set(elsewhere["ammonia"]) == set(elsewhere["nitrogen_monoxide"]) == {None}
    assert None not in elsewhere["pm10"]


def test_previous_runs_err_the_more_the_older_they_are(get: Get):
    names = [f"temperature_2m_previous_day{day}" for day in range(1, 8)]
    columns = hourly(get, PREVIOUS, "temperature_2m", *names, start_date="2025-01-01", end_date="2025-12-31")
    latest = np.array(columns["temperature_2m"])
    errors = [float(np.sqrt(np.mean((np.array(columns[name]) - latest) ** 2))) for name in names]
    assert 0.3 < errors[0] < errors[1] < errors[3] < errors[6]


def test_a_previous_run_is_the_forecast_issued_then(get: Get):
    valid = unix("2026-11-22T12:00")
    (value,) = hourly(
        get, PREVIOUS, "temperature_2m_previous_day2", start_hour="2026-11-22T12:00", end_hour="2026-11-22T12:00"
    )["temperature_2m_previous_day2"]
    then = client_of(create_app(clock=lambda: valid - 48 * 3600))
    step = next(step for step in then("/data/2.5/forecast", **LYON).json()["list"] if step["dt"] == valid)
    assert value == pytest.approx(step["main"]["temp"], abs=0.06)


def test_runs_of_the_future_are_unknown(get: Get):
    asked = {"start_hour": "2026-11-26T12:00", "end_hour": "2026-11-26T14:00"}
    assert hourly(get, PREVIOUS, "temperature_2m_previous_day1", **asked)["temperature_2m_previous_day1"][2] is None
    assert None not in hourly(get, PREVIOUS, "temperature_2m_previous_day2", **asked)["temperature_2m_previous_day2"]


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [
        (FORECAST, "2026-08-24", "2026-12-10"),
        (ARCHIVE, "1940-01-01", "2026-11-25"),
        (HISTORICAL, "2016-01-01", "2026-12-10"),
        (AIR, "2013-01-01", "2026-12-01"),
    ],
)
def test_each_host_has_its_window_of_days(get: Get, path: str, first: str, last: str):
    name = "pm10" if path == AIR else "temperature_2m"
    for day in (first, last):
        assert len(hourly(get, path, name, start_date=day, end_date=day)["time"]) == 24
    for day, beyond in ((first, -1), (last, 1)):
        outside = str(np.datetime64(day) + beyond)
        assert (
            reason(get, path, **POINT, hourly=name, start_date=outside, end_date=outside)
            == f"Parameter 'start_date' is out of allowed range from {first} to {last}"
        )


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"latitude": 95}, "Latitude must be in range of -90 to 90°. Given: 95.0."),
        ({"longitude": -181}, "Longitude must be in range of -180 to 180°. Given: -181.0."),
        ({"latitude": "nan"}, "Latitude must be in range of -90 to 90°. Given: nan."),
        ({"latitude": "1,2"}, "Parameter 'latitude' and 'longitude' must have the same number of elements"),
        (
            {"hourly": "temperature_2m,temprature"},
            f"Data corrupted at path 'hourly'. {NO_VARIABLE} temprature.",
        ),
        (
            {"hourly": "rain_previous_day1"},
            f"Data corrupted at path 'hourly'. {NO_VARIABLE} rain_previous_day1.",
        ),
        ({"temperature_unit": "kelvin"}, f"Data corrupted at path 'temperature_unit'. {NO_UNIT} kelvin."),
        ({"end_date": "2026-11-19"}, "End-date must be larger or equals than start-date"),
        ({"start_date": "20/11/2026"}, "Invalid date format. Make sure to use 'YYYY-MM-DD'"),
        ({"start_date": "2026-02-30"}, "Invalid date"),
        ({"timezone": "Mars/Olympus"}, "Invalid timezone"),
        ({"past_days": 1}, "Parameter 'past_days' is mutually exclusive with 'start_date' and 'end_date'"),
        (
            {"start_date": None, "end_date": None, "past_days": 120},
            "Past days is invalid. Allowed range 0 to 93. Given 120.",
        ),
        (
            {"latitude": ",".join(["1"] * 1001), "longitude": ",".join(["1"] * 1001)},
            "Only up to 1000 locations can be requested at once",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_the_service_s_words(get: Get, query: dict[str, Any], text: str):
    assert reason(get, FORECAST, **{**POINT, **DAY, "hourly": "temperature_2m", **query}) == text


def test_the_archive_needs_a_range(get: Get):
    assert "'start_date' and 'end_date'" in reason(get, ARCHIVE, **POINT, hourly="temperature_2m")


def test_a_path_that_a_host_does_not_have_is_not_found(get: Get):
    response = get("/archive-api/v1/forecast", **POINT)
    assert (response.status_code, response.json()) == (404, {"error": True, "reason": "Not Found"})


@pytest.mark.parametrize(
    ("limits", "wait", "text"),
    [
        (WeightLimits(per_minute=2), 60, "Minutely API request limit exceeded. Please try again in one minute."),
        (WeightLimits(per_hour=2), 3600, "Hourly API request limit exceeded. Please try again in the next hour."),
        (WeightLimits(per_day=2), 86400, "Daily API request limit exceeded. Please try again tomorrow."),
    ],
)
def test_weight_is_limited_in_fixed_windows_over_all_hosts(limits: WeightLimits, wait: int, text: str):
    now = [NOW]
    get = client_of(create_app(clock=lambda: now[0], weight_limits=limits))

    def status(path: str = FORECAST, **query: Any) -> int:
        return get(path, appid=None, units=None, **{**POINT, **DAY, "hourly": "temperature_2m", **query}).status_code

    # A failed call costs 1, and the count is looked at before a call: five places go through.
    assert [status(hourly="none"), status(ARCHIVE, latitude="1,2,3,4,5", longitude="1,2,3,4,5"), status()] == [
        400,
        200,
        429,
    ]
    assert get(FORECAST, **POINT).json() == {"error": True, "reason": text}
    now[0] = (NOW // wait + 1) * wait
    assert status() == 200


def test_places_are_found_by_name(get: Get):
    body = get(SEARCH, name="lond", count=10).json()
    assert [(place["name"], place["country_code"], place["timezone"]) for place in body["results"]] == [
        ("London", "GB", "Europe/London"),
        ("London", "CA", "America/Toronto"),
    ]
    assert [place["country_code"] for place in get(SEARCH, name="London", countryCode="CA").json()["results"]] == ["CA"]
    assert [place["admin1"] for place in get(SEARCH, name="Paris, Texas").json()["results"]] == ["Texas"]


@pytest.mark.parametrize("name", ["Atlantis", "lo", "l", ""])
def test_results_are_missing_when_nothing_matches(get: Get, name: str):
    response = get(SEARCH, name=name)
    assert response.status_code == 200
    assert response.json().keys() == {"generationtime_ms"}


def test_the_number_of_places_has_bounds(get: Get):
    assert reason(get, SEARCH, name="London", count=101) == "Parameter count must be between 1 and 100."
