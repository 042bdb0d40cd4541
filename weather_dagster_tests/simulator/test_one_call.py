"""One Call 3.0 and 4.0 tell the same weather as the other endpoints, in their own shapes."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from weather_dagster.simulator.app import create_app
from weather_dagster_tests.simulator.conftest import LYON, NOW, Get, client_of, unix

EVERYTHING = "/data/3.0/onecall"
TIMEMACHINE = "/data/3.0/onecall/timemachine"
CURRENT = "/data/4.0/onecall/current"
TIMELINE = "/data/4.0/onecall/timeline/1h"
POLAR = {"lat": 78.22, "lon": 15.65}
SEA = {"lat": 50.5, "lon": -31.0}
RUNNING = unix("2026-11-25T13:00")


def as_one_call(item: dict[str, Any]) -> dict[str, Any]:
    """An item of /history/city under One Call's names, without what only one of the two has."""
    flat = {name: item["main"][name] for name in ("temp", "feels_like", "pressure", "humidity") if name in item["main"]}
    flat |= {f"wind_{name}": value for name, value in item["wind"].items()}
    flat |= {name: item[name] for name in ("dt", "visibility", "weather", "rain", "snow") if name in item}
    return flat | {"clouds": item["clouds"]["all"]}


def shared(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("dew_point", "uvi", "sunrise", "sunset")}


@pytest.mark.parametrize("units", ["metric", "imperial", None])
def test_past_hours_are_those_of_the_history(get: Get, units: str | None):
    start = unix("2026-11-10T00:00")
    history = get("/data/2.5/history/city", type="hour", start=start, cnt=20, units=units, **LYON).json()["list"]
    page = get(TIMELINE, start=start, units=units, **LYON).json()["data"]
    assert [shared(record) for record in page] == [as_one_call(item) for item in history]
    for item in history[::7]:
        (record,) = get(TIMEMACHINE, dt=item["dt"], units=units, **LYON).json()["data"]
        assert shared(record) == as_one_call(item)


def test_everything_has_the_documented_parts(get: Get):
    body = get(EVERYTHING, **LYON).json()
    assert list(body) == ["lat", "lon", "timezone", "timezone_offset", "current", "hourly", "daily"]
    assert (body["lat"], body["lon"]) == (45.76, 4.84)
    assert (body["timezone"], body["timezone_offset"]) == ("Europe/Paris", 3600)
    assert body["current"]["dt"] == NOW
    assert [record["dt"] for record in body["hourly"]] == [RUNNING + 3600 * i for i in range(48)]
    assert all(0 <= record["pop"] <= 1 for record in body["hourly"])
    assert [day["dt"] for day in body["daily"]] == [unix("2026-11-25T11:00") + 86400 * i for i in range(8)]
    assert body["daily"][0]["temp"].keys() == {"morn", "day", "eve", "night", "min", "max"}


def test_rain_is_an_object_by_the_hour_and_a_number_by_the_day(get: Get):
    bodies = [get(EVERYTHING, lat=lat, lon=-78.47).json() for lat in (-0.18, -1.18, -2.18, -3.18)]
    by_hour = [record["rain"] for body in bodies for record in body["hourly"] if "rain" in record]
    by_day = [day["rain"] for body in bodies for day in body["daily"] if "rain" in day]
    assert by_hour
    assert by_day
    assert all(rain.keys() == {"1h"} for rain in by_hour)
    assert all(isinstance(rain, int | float) for rain in by_day)


def test_parts_can_be_excluded(get: Get):
    assert get(EVERYTHING, exclude="minutely,daily,hourly", **LYON).json().keys() == {
        "lat",
        "lon",
        "timezone",
        "timezone_offset",
        "current",
    }


def test_places_without_a_name_have_a_nautical_zone(get: Get):
    body = get(CURRENT, **SEA).json()
    assert (body["timezone"], body["timezone_offset"]) == ("Etc/GMT+2", -7200)


def test_the_polar_night_has_no_sunrise(get: Get):
    assert "sunrise" not in get(EVERYTHING, **POLAR).json()["current"]
    assert "sunrise" in get(EVERYTHING, **LYON).json()["current"]


def test_the_time_machine_tells_the_instant_asked_for(get: Get):
    for dt in (unix("1979-01-01"), unix("2026-11-20T10:00") + 777, int(NOW) + 4 * 86400):
        (record,) = get(TIMEMACHINE, dt=dt, **LYON).json()["data"]
        assert record["dt"] == dt
        assert record["dew_point"] <= record["temp"] + 0.01


@pytest.mark.parametrize("dt", [unix("1979-01-01") - 1, int(NOW) + 4 * 86400 + 1, "2026-11-20", None])
def test_the_time_machine_refuses_other_times(get: Get, dt: Any):
    response = get(TIMEMACHINE, dt=dt, **LYON)
    assert response.status_code == 400
    assert response.json()["cod"] == 400
    assert response.json()["parameters"] == ["dt"]


def test_the_uv_index_is_told_for_the_last_days_only(get: Get):
    assert "uvi" in get(TIMEMACHINE, dt=RUNNING - 4 * 86400, **LYON).json()["data"][0]
    assert "uvi" not in get(TIMEMACHINE, dt=RUNNING - 6 * 86400, **LYON).json()["data"][0]


def test_the_future_is_the_forecast_of_the_running_hour(get: Get):
    steps = get("/data/2.5/forecast", **LYON).json()["list"]
    hourly = {record["dt"]: record for record in get(EVERYTHING, **LYON).json()["hourly"]}
    for step in steps[:15]:
        assert hourly[step["dt"]]["temp"] == pytest.approx(step["main"]["temp"], abs=0.5)
    later = client_of(create_app(clock=lambda: NOW + 2 * 86400))
    became = later(TIMEMACHINE, dt=RUNNING + 40 * 3600, **LYON).json()["data"][0]
    assert became["temp"] != hourly[RUNNING + 40 * 3600]["temp"]


def test_a_timeline_starts_now_and_ends_two_days_ahead(get: Get):
    first = get(TIMELINE, **LYON).json()
    assert [record["dt"] for record in first["data"]] == [RUNNING + 3600 * i for i in range(20)]
    last = get(TIMELINE, start=RUNNING + 40 * 3600, **LYON).json()
    assert [record["dt"] for record in last["data"]] == [RUNNING + 3600 * i for i in range(40, 49)]
    assert "next" not in last
    assert get(TIMELINE, start=RUNNING + 49 * 3600, **LYON).json()["data"] == []


def test_a_timeline_begins_with_the_hour_of_its_start(get: Get):
    body = get(TIMELINE, start=unix("2026-11-10T07:00") + 1234, dt=5, cnt=3, **LYON).json()
    assert [record["dt"] for record in body["data"]] == [unix("2026-11-10T07:00") + 3600 * i for i in range(3)]


def test_a_timeline_reaches_back_47_years(get: Get):
    assert len(get(TIMELINE, start=unix("1980-01-01"), **LYON).json()["data"]) == 20
    assert get(TIMELINE, start=unix("1970-01-01"), **LYON).json()["data"] == []


def test_page_links_are_plain_http_and_hold_the_key(get: Get):
    body = get(TIMELINE, start=unix("2026-11-10T00:00"), appid="se/cret", **LYON).json()
    for name, start in (("next", unix("2026-11-10T20:00")), ("prev", unix("2026-11-09T04:00"))):
        link = urlsplit(body[name])
        assert (link.scheme, link.netloc, link.path) == ("http", "simulator", TIMELINE)
        query = parse_qs(link.query)
        assert (query["start"], query["appid"], query["units"]) == ([str(start)], ["se/cret"], ["metric"])


def test_a_date_as_start_is_refused(get: Get):
    response = get(TIMELINE, start="2026-11-10T00:00", **LYON)
    assert response.status_code == 400
    assert response.json()["message"] == "wrong start time"


def test_there_is_no_time_machine_in_the_fourth_generation(get: Get):
    assert get("/data/4.0/onecall/timemachine", dt=RUNNING, **LYON).status_code == 404
