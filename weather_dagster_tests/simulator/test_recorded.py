"""The recorded provider replays the hours of 2013 as they are, gaps and absurdity included."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from weather_dagster.locations import load_locations
from weather_dagster.settings import RECORDED_FIRST_HOUR, RECORDED_LOCATIONS
from weather_dagster.simulator.accounts import account_of_plan
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.simulator.recorded import LAST_HOUR, create_app
from weather_dagster_tests.simulator.conftest import Get, client_of, unix

HISTORY = "/data/2.5/history/city"
AIRPORTS = {
    location.id: {"lat": location.latitude, "lon": location.longitude}
    for location in load_locations(RECORDED_LOCATIONS)
}
EWR, JFK = AIRPORTS["ewr"], AIRPORTS["jfk"]


@pytest.fixture(scope="module")
def get() -> Get:
    return client_of(create_app())


@pytest.fixture(scope="module")
def year(get: Get) -> dict[str, dict[datetime, dict[str, Any]]]:
    """Everything, fetched week by week: items by airport and UTC hour."""

    def fetch(place: dict[str, float]) -> dict[datetime, dict[str, Any]]:
        items: dict[datetime, dict[str, Any]] = {}
        start = RECORDED_FIRST_HOUR
        while start <= LAST_HOUR:
            end = start + timedelta(days=7, hours=-1)
            span = {"start": int(start.timestamp()), "end": int(end.timestamp())}
            body = get(HISTORY, type="hour", **span, **place).json()
            assert body["cnt"] == len(body["list"])
            for item in body["list"]:
                instant = datetime.fromtimestamp(item["dt"], UTC)
                assert instant not in items
                items[instant] = item
            start = end + timedelta(hours=1)
        return items

    return {name: fetch(place) for name, place in AIRPORTS.items()}


def local_day(items: dict[datetime, dict[str, Any]], day: str) -> list[dict[str, Any]]:
    zone = ZoneInfo("America/New_York")
    return [item for hour, item in items.items() if hour.astimezone(zone).date().isoformat() == day]


@pytest.mark.parametrize(("airport", "hours", "missing"), [("ewr", 8703, 27), ("jfk", 8706, 24), ("lga", 8706, 24)])
def test_every_recorded_hour_is_there_and_every_gap_is_a_gap(year: dict, airport: str, hours: int, missing: int):
    items = year[airport]
    first, last = min(items), max(items)
    assert len(items) == hours
    assert first == datetime(2013, 1, 1, 6, tzinfo=UTC)
    assert last == datetime(2013, 12, 30, 23, tzinfo=UTC)
    assert (last - first) / timedelta(hours=1) + 1 - hours == missing


def test_local_days_hold_what_was_counted_apart(year: dict):
    jfk = year["jfk"]
    spring = local_day(jfk, "2013-03-10")
    assert len(spring) == 23
    assert sum(item["main"]["temp"] for item in spring) / 23 == pytest.approx(3.274, abs=0.001)
    assert len(local_day(jfk, "2013-11-03")) == 24
    assert len(local_day(jfk, "2013-10-25")) == 20
    assert max(item["main"]["temp"] for item in local_day(jfk, "2013-07-18")) == 36.7


def test_the_impossible_wind_is_served_as_it_is(year: dict):
    assert year["ewr"][datetime(2013, 2, 12, 8, tzinfo=UTC)]["wind"]["speed"] == 468.66
    speeds = [item["wind"]["speed"] for items in year.values() for item in items.values() if "speed" in item["wind"]]
    assert sorted(speeds)[-2] < 25


def test_empty_values_are_left_out(year: dict):
    everything = [item for items in year.values() for item in items.values()]
    assert len(everything) == 26_115
    assert sum("temp" not in item["main"] for item in everything) == 1
    assert "temp" not in year["ewr"][datetime(2013, 8, 22, 13, tzinfo=UTC)]["main"]
    assert sum("humidity" not in item["main"] for item in everything) == 1
    assert sum("pressure" not in item["main"] for item in everything) == 2729
    assert sum("speed" not in item["wind"] for item in everything) == 4
    assert sum("deg" not in item["wind"] for item in everything) == 460
    assert sum("gust" in item["wind"] for item in everything) == 26_115 - 20_778
    assert sum("rain" in item for item in everything) == 1749
    assert all(None not in item["main"].values() for item in everything)


def test_what_was_not_recorded_is_not_made_up(year: dict):
    for item in year["lga"].values():
        assert item["weather"] == []
        assert item.keys() <= {"dt", "main", "weather", "wind", "visibility", "rain"}
        assert item["main"].keys() <= {"temp", "pressure", "humidity"}


def test_the_first_hour_at_newark_is_converted_from_its_own_units(get: Get):
    at = {"type": "hour", "start": unix("2013-01-01T06:00"), "end": unix("2013-01-01T06:00"), **EWR}
    # 39.02 °F, 59.37 %, 270 degrees, 10.357 mph, 0 inch, 1012 hPa, 10 miles
    (metric,) = get(HISTORY, **at).json()["list"]
    assert metric["main"] == {"temp": 3.9, "pressure": 1012, "humidity": 59.37}
    assert metric["wind"] == {"speed": 4.63, "deg": 270}
    assert metric["visibility"] == 16093
    (imperial,) = get(HISTORY, **at | {"units": "imperial"}).json()["list"]
    assert imperial["main"]["temp"] == 39.02
    assert imperial["wind"]["speed"] == pytest.approx(10.357, abs=0.01)
    (standard,) = get(HISTORY, **at | {"units": None}).json()["list"]
    assert standard["main"]["temp"] == 277.05


def test_precipitation_is_the_rain_of_the_hour(year: dict):
    # 0.13 inch
    assert year["ewr"][datetime(2013, 8, 22, 13, tzinfo=UTC)]["rain"] == {"1h": 3.302}


def test_a_longer_range_is_cut_to_a_week(get: Get):
    body = get(HISTORY, type="hour", start=unix("2013-05-01"), end=unix("2013-06-01"), **JFK).json()
    assert body["list"][-1]["dt"] == unix("2013-05-08")


def test_other_places_are_not_found(get: Get):
    response = get(HISTORY, type="hour", start=unix("2013-05-01"), end=unix("2013-05-02"), lat=45.76, lon=4.84)
    assert (response.status_code, response.json()) == (404, {"cod": "404", "message": "city not found"})
    near = {"lat": JFK["lat"] + 0.005, "lon": JFK["lon"]}
    assert get(HISTORY, type="hour", start=unix("2013-05-01"), end=unix("2013-05-02"), **near).json()["cnt"] == 25


@pytest.mark.parametrize("start", ["2012-06-01", "2014-01-01", "2026-11-25"])
def test_other_years_are_refused_by_the_documented_code(get: Get, start: str):
    response = get(HISTORY, type="hour", start=unix(start), end=unix(start) + 3600, **JFK)
    assert (response.status_code, response.json()["cod"]) == (400, "400000")


def test_key_and_faults_work_as_at_the_simulator():
    faults = Faults([Fault(kind="status", status=500, count=1)])
    get = client_of(create_app(faults=faults, accounts={"right": account_of_plan("professional")}))
    span = {"type": "hour", "start": unix("2013-05-01"), "end": unix("2013-05-02"), **JFK}
    assert [get(HISTORY, appid=key, **span).status_code for key in ("right", "wrong", "right")] == [500, 401, 200]
    assert faults.requests == {HISTORY: {500: 1, 401: 1, 200: 1}}


def test_there_are_no_forecasts(get: Get):
    assert get("/data/2.5/forecast", **JFK).status_code == 404


def test_answers_say_that_they_are_recorded(get: Get):
    assert get(HISTORY, type="hour", start=0, end=2_000_000_000, **EWR).headers["X-Weather-Provider"] == "recorded"
