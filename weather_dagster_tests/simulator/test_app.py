"""The simulated provider answers as OpenWeather's endpoints are documented to."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from weather_dagster.locations import load_locations
from weather_dagster.simulator.accounts import Account
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster_tests.simulator.conftest import LYON, NOW, Get, client_of, unix

SEA = {"lat": 50.0, "lon": -30.0}
POLAR = {"lat": 78.22, "lon": 15.65}
KATHMANDU = {"lat": 27.72, "lon": 85.32}
WEATHER = "/data/2.5/weather"
FORECAST = "/data/2.5/forecast"
HISTORY = "/data/2.5/history/city"
PAST_FORECASTS = "/data/2.5/forecast/history"
AIR = "/data/2.5/air_pollution"
PATHS = (WEATHER, FORECAST, HISTORY, PAST_FORECASTS, AIR, f"{AIR}/history", f"{AIR}/forecast")


def history(get: Get, start: str, end: str, place: dict[str, float] = LYON, **more: Any) -> list[dict[str, Any]]:
    response = get(HISTORY, type="hour", start=unix(start), end=unix(end), **place, **more)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["list"]
    return items


def test_current_weather_has_the_documented_shape(get: Get):
    body = get(WEATHER, **LYON).json()
    assert body["coord"] == {"lon": 4.84, "lat": 45.76}
    assert body["cod"] == 200
    assert body["name"] == "Lyon"
    assert body["id"] > 0
    assert body["sys"]["country"] == "FR"
    assert body["timezone"] == 3600
    assert body["sys"]["sunrise"] < NOW < body["sys"]["sunset"]
    assert body["weather"][0].keys() == {"id", "main", "description", "icon"}
    assert body["weather"][0]["icon"].endswith("d")


def test_time_zones_of_a_quarter_hour_are_told_in_seconds(get: Get):
    assert get(WEATHER, **KATHMANDU).json()["timezone"] == 20700


def test_a_point_at_sea_has_no_name_and_id_zero(get: Get):
    body = get(WEATHER, **SEA).json()
    assert (body["id"], body["name"]) == (0, "")
    assert body["sys"].keys() == {"sunrise", "sunset"}
    assert body["coord"] == {"lon": -30, "lat": 50}
    assert '"lon":-30,' in get(WEATHER, **SEA).text, "whole numbers come as integers"
    assert get(FORECAST, **SEA).json()["city"]["name"] == ""


def test_levels_at_sea_are_equal(get: Get):
    items = history(get, "2026-11-01T00:00", "2026-11-05T00:00", SEA)
    levels = [item["main"] for item in items if "sea_level" in item["main"]]
    assert levels
    assert all(main["sea_level"] == main["grnd_level"] == main["pressure"] for main in levels)


def test_sunrise_and_sunset_are_zero_in_the_polar_night(get: Get):
    sun = get(WEATHER, **POLAR).json()["sys"]
    assert (sun["sunrise"], sun["sunset"]) == (0, 0)
    city = get(FORECAST, **POLAR).json()["city"]
    assert (city["sunrise"], city["sunset"]) == (0, 0)


def test_the_time_of_current_weather_lags_repeats_and_steps_back(get: Get):
    times = [get(WEATHER, **LYON).json()["dt"] for _ in range(5)]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert 0 in steps
    assert min(steps) < 0
    assert all(NOW - 900 <= t <= NOW for t in times)


def test_units_are_honoured_and_standard_is_the_default(get: Get):
    span = ("2026-11-01T00:00", "2026-11-03T00:00")
    metric, imperial, standard = (history(get, *span, units=units) for units in ("metric", "imperial", None))
    for m, i, s in zip(metric, imperial, standard, strict=True):
        assert s["main"]["temp"] == pytest.approx(m["main"]["temp"] + 273.15, abs=0.011)
        assert i["main"]["temp"] == pytest.approx(m["main"]["temp"] * 1.8 + 32, abs=0.02)
        assert s["wind"] == m["wind"]
        assert i["wind"]["speed"] == pytest.approx(m["wind"]["speed"] / 0.44704, abs=0.02)
        assert i["main"]["pressure"] == m["main"]["pressure"]
        assert i.get("rain") == m.get("rain")


def test_history_holds_every_hour_of_an_inclusive_range(get: Get):
    items = history(get, "2026-11-01T00:00", "2026-11-02T00:00")
    assert [item["dt"] for item in items] == list(range(unix("2026-11-01T00:00"), unix("2026-11-02T00:00") + 1, 3600))
    body = get(HISTORY, type="hour", start=unix("2026-11-01T00:30"), end=unix("2026-11-01T02:59"), **LYON).json()
    assert [item["dt"] for item in body["list"]] == [unix("2026-11-01T01:00"), unix("2026-11-01T02:00")]
    assert (body["cod"], body["cnt"], body["message"]) == ("200", 2, "Count: 2")


def test_history_is_cut_to_its_first_week_without_a_word(get: Get):
    items = history(get, "2026-10-01T00:00", "2026-11-01T00:00")
    assert items[0]["dt"] == unix("2026-10-01T00:00")
    assert items[-1]["dt"] == unix("2026-10-08T00:00")
    assert len(items) == 169


def test_history_takes_a_count_instead_of_an_end(get: Get):
    body = get(HISTORY, type="hour", start=unix("2026-11-01T00:00"), cnt=5, **LYON).json()
    assert body["cnt"] == 5
    assert body["list"][-1]["dt"] == unix("2026-11-01T04:00")


def test_history_ends_with_the_running_hour(get: Get):
    items = history(get, "2026-11-25T10:00", "2026-11-26T10:00")
    assert [item["dt"] for item in items][-1] == unix("2026-11-25T13:00")
    assert history(get, "2026-11-26T10:00", "2026-11-26T12:00") == []


def test_history_never_changes():
    query = {"type": "hour", "start": unix("2026-11-20T00:00"), "end": unix("2026-11-24T00:00"), **LYON}
    then, later = (client_of(create_app(clock=lambda at=at: at)) for at in (NOW, NOW + 7_000_000))
    for path in (HISTORY, PAST_FORECASTS, f"{AIR}/history"):
        first = then(path, **query).content
        assert then(path, **query).content == first
        assert later(path, **query).content == first


def test_optional_fields_are_missing_now_and_then_and_whole_numbers_are_integers(get: Get):
    items = [
        item for week in range(1, 22, 7) for item in history(get, f"2026-10-{week:02}", f"2026-10-{week + 6:02}T23:00")
    ]
    assert len(items) == 504

    def missing(*names: str) -> float:
        count = 0
        for item in items:
            part: Any = item
            for name in names[:-1]:
                part = part[name]
            count += names[-1] not in part
        return count / len(items)

    assert 0.05 < missing("wind", "gust") < 0.25
    assert 0.05 < missing("main", "sea_level") < 0.25
    assert 0.01 < missing("visibility") < 0.15
    assert 0 < missing("main", "feels_like") < 0.1
    assert 0 < missing("main", "temp_min") < 0.1
    assert 0 < missing("wind", "deg") < 0.05
    assert missing("rain") > 0.5
    assert missing("main", "temp") == missing("main", "pressure") == missing("wind", "speed") == 0
    assert {type(item["main"]["temp"]) for item in items} == {int, float}
    assert {type(item["main"]["pressure"]) for item in items} == {int}


def test_no_field_is_ever_null(get: Get):
    for path in PATHS:
        text = get(path, type="hour", start=unix("2026-11-18T00:00"), end=unix("2026-11-24T00:00"), **LYON).text
        assert "null" not in text
        assert "NaN" not in text


def test_a_forecast_has_forty_steps_from_the_next_three_hour_mark(get: Get):
    body = get(FORECAST, **LYON).json()
    assert (body["cod"], body["message"], body["cnt"]) == ("200", 0, 40)
    times = [step["dt"] for step in body["list"]]
    assert times == [unix("2026-11-25T15:00") + 10800 * i for i in range(40)]
    first = body["list"][0]
    assert first["dt_txt"] == "2026-11-25 15:00:00"
    assert first["sys"]["pod"] in ("d", "n")
    assert all(0 <= step["pop"] <= 1 for step in body["list"])
    assert all(
        step.keys() & {"rain", "snow"} == set() or "3h" in step.get("rain", step.get("snow")) for step in body["list"]
    )
    assert body["city"]["name"] == "Lyon"
    assert get(FORECAST, cnt=3, **LYON).json()["cnt"] == 3


def test_past_forecasts_are_those_that_were_issued_then(get: Get):
    start = unix("2026-11-20T00:00")
    body = get(PAST_FORECASTS, start=start, end=start + 5 * 3600, **LYON).json()
    assert (body["cod"], body["cnt"]) == ("200", 6)
    assert [entry["issued"] for entry in body["list"]] == [start + 3600 * i for i in range(6)]
    for entry in body["list"]:
        at_that_time = client_of(create_app(clock=lambda at=entry["issued"]: at + 60))
        assert at_that_time(FORECAST, **LYON).json()["list"] == entry["list"]
        assert entry["list"][0]["dt"] > entry["issued"]


def test_past_forecasts_are_cut_to_seven_days_and_to_the_running_hour(get: Get):
    start = unix("2026-11-01T00:00")
    body = get(PAST_FORECASTS, start=start, end=start + 30 * 86400, **LYON).json()
    assert body["cnt"] == 168
    assert body["list"][-1]["issued"] == start + 167 * 3600
    newest = get(PAST_FORECASTS, start=unix("2026-11-25T12:00"), end=unix("2026-11-26T00:00"), **LYON).json()
    assert [entry["issued"] for entry in newest["list"]] == [unix("2026-11-25T12:00"), unix("2026-11-25T13:00")]
    assert get(PAST_FORECASTS, start=unix("2027-01-01"), end=unix("2027-01-02"), **LYON).json()["list"] == []


def test_air_pollution_now_is_the_last_hour_of_its_history(get: Get):
    now = get(AIR, **LYON).json()
    past = get(f"{AIR}/history", start=unix("2026-11-25T00:00"), end=unix("2026-11-25T23:00"), **LYON).json()
    assert past["coord"] == {"lon": 4.84, "lat": 45.76}
    assert "cod" not in past
    assert len(past["list"]) == 14
    assert now["list"] == past["list"][-1:]
    assert now["list"][0]["components"].keys() == {"co", "no", "no2", "o3", "so2", "pm2_5", "pm10", "nh3"}


def test_air_pollution_history_begins_in_november_2020_and_is_not_cut(get: Get):
    old = get(f"{AIR}/history", start=unix("2020-11-01T00:00"), end=unix("2020-11-27T05:00"), **LYON).json()["list"]
    assert [item["dt"] for item in old] == [unix("2020-11-27T00:00") + 3600 * i for i in range(6)]
    year = get(f"{AIR}/history", start=unix("2025-01-01T00:00"), end=unix("2025-12-31T23:00"), **LYON).json()["list"]
    assert len(year) == 8760


def test_the_air_quality_index_follows_the_service_s_scale(get: Get):
    bounds = {
        "so2": (20, 80, 250, 350),
        "no2": (40, 70, 150, 200),
        "pm10": (20, 50, 100, 200),
        "pm2_5": (10, 25, 50, 75),
        "o3": (60, 100, 140, 180),
        "co": (4400, 9400, 12400, 15400),
    }
    items = get(f"{AIR}/history", start=unix("2025-01-01T00:00"), end=unix("2025-12-31T23:00"), **LYON).json()["list"]
    for item in items:
        expected = 1 + max(sum(item["components"][name] >= b for b in limits) for name, limits in bounds.items())
        assert item["main"]["aqi"] == expected
    assert {item["main"]["aqi"] for item in items} >= {1, 2, 3}
    assert {type(item["main"]["aqi"]) for item in items} == {int, float}


def test_air_pollution_forecast_reaches_four_days_ahead(get: Get):
    items = get(f"{AIR}/forecast", **LYON).json()["list"]
    assert [item["dt"] for item in items] == [unix("2026-11-25T14:00") + 3600 * i for i in range(96)]
    later = client_of(create_app(clock=lambda: NOW + 96 * 3600))
    real = later(f"{AIR}/history", start=items[0]["dt"], end=items[-1]["dt"], **LYON).json()["list"]
    error = np.array([f["components"]["no2"] - r["components"]["no2"] for f, r in zip(items, real, strict=True)])
    assert np.abs(error[:6]).mean() < np.abs(error[-48:]).mean()


@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_every_endpoint_answers_401_before_it_looks_at_parameters(get: Get, path: str):
    response = get(path, appid=None)
    assert response.status_code == 401
    assert len(response.content) == 108
    assert response.json()["cod"] == 401


def test_only_the_expected_key_is_let_in():
    get = client_of(create_app(accounts={"right": Account()}, clock=lambda: NOW))
    assert get(WEATHER, appid="right", **LYON).status_code == 200
    assert get(WEATHER, appid="wrong", **LYON).status_code == 401
    assert get(WEATHER, appid=None, APPID="right", **LYON).status_code == 401


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "Nothing to geocode"),
        ({"lat": 91, "lon": 0}, "wrong latitude"),
        ({"lat": "nan", "lon": 0}, "wrong latitude"),
        ({"lat": "north", "lon": 0}, "wrong latitude"),
        ({"lon": 0}, "wrong latitude"),
        ({"lat": 0, "lon": -181}, "wrong longitude"),
        ({"lat": 0}, "wrong longitude"),
    ],
)
def test_bad_coordinates_are_refused_in_the_service_s_words(get: Get, path: str, place: dict[str, Any], message: str):
    response = get(path, **place)
    assert response.status_code == 400
    assert response.text == f'{{"cod":"400","message":"{message}"}}'


@pytest.mark.parametrize("path", [HISTORY, PAST_FORECASTS, f"{AIR}/history"])
@pytest.mark.parametrize(
    "span",
    [
        {},
        {"start": "2026-11-01", "end": "2026-11-02"},
        {"start": 1793491200},
        {"start": 1793491200, "end": 1793491199},
        {"start": 1793491200_000, "end": 1793494800_000},
        {"start": -3600, "end": 0},
    ],
)
def test_a_bad_span_is_refused(get: Get, path: str, span: dict[str, Any]):
    response = get(path, type="hour", **span, **LYON)
    assert response.status_code == 400
    assert response.json()["cod"] == "400"


def test_history_needs_its_type(get: Get):
    assert get(HISTORY, start=unix("2026-11-01"), end=unix("2026-11-02"), **LYON).status_code == 400


def test_a_wrong_path_is_an_internal_error_with_status_404(get: Get):
    response = get("/data/2.5/onecall", **LYON)
    assert response.status_code == 404
    assert response.json() == {"cod": "404", "message": "Internal error"}


def test_headers_are_the_service_s_and_do_not_hold_the_key(get: Get):
    headers = get(WEATHER, appid="secret-key", **LYON).headers
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert headers["server"] == "openresty"
    assert headers["x-cache-key"] == "/data/2.5/weather?lat=45.76&lon=4.84&units=metric"
    assert "secret-key" not in str(headers)
    assert "retry-after" not in headers


def test_every_default_place_answers_on_every_path(get: Get):
    span = {"type": "hour", "start": unix("2026-11-25T00:00"), "end": unix("2026-11-25T05:00")}
    for location in load_locations():
        for path in PATHS:
            response = get(path, lat=location.latitude, lon=location.longitude, **span)
            assert response.status_code == 200
            assert response.json()


def test_the_clock_of_the_app_is_the_machine_s_by_default():
    before = datetime.now(UTC).timestamp()
    dt = client_of(create_app())(WEATHER, **LYON).json()["dt"]
    assert before - 900 < dt <= datetime.now(UTC).timestamp()


def test_answers_say_that_they_are_simulated(get: Get):
    for path in (WEATHER, FORECAST, AIR):
        assert get(path, **LYON).headers["X-Weather-Provider"] == "simulator", path
    faulty = client_of(create_app(clock=lambda: NOW, faults=Faults([Fault(kind="duplicates")])))
    assert faulty(FORECAST, **LYON).headers["X-Weather-Provider"] == "simulator"
