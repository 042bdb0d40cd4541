"""Faults do what they say, to the requests they name, as often as they say."""

import asyncio
import json
import time
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import Message

from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster_tests.simulator.conftest import LYON, NOW, Get, client_of, unix

WEATHER = "/data/2.5/weather"
HISTORY = "/data/2.5/history/city"
HOUR = unix("2026-11-20T00:00")
SPAN = {"type": "hour", "start": HOUR, "end": HOUR + 3 * 3600, **LYON}
SYDNEY = {"lat": -33.87, "lon": 151.21}


def faulty(*faults: Fault) -> tuple[Get, Faults]:
    shared = Faults(faults)
    return client_of(create_app(faults=shared, clock=lambda: NOW)), shared


def history(*faults: Fault) -> list[dict]:
    get, _ = faulty(*faults)
    items: list[dict] = get(HISTORY, **SPAN).json()["list"]
    return items


def test_the_first_answers_fail_and_then_it_is_well():
    get, faults = faulty(Fault(kind="status", status=503, count=2))
    assert [get(WEATHER, **LYON).status_code for _ in range(4)] == [503, 503, 200, 200]
    assert faults.requests == {WEATHER: {503: 2, 200: 2}}


def test_an_account_is_blocked_after_some_calls():
    get, _ = faulty(Fault(kind="status", status=429, after=3))
    responses = [get(WEATHER, **LYON) for _ in range(6)]
    assert [r.status_code for r in responses] == [200, 200, 200, 429, 429, 429]
    assert responses[-1].json()["cod"] == 429
    assert "temporary blocked" in responses[-1].json()["message"]
    assert "retry-after" not in responses[-1].headers


def test_retry_after_can_be_sent():
    get, _ = faulty(Fault(kind="status", status=429, retry_after="90"))
    assert get(WEATHER, **LYON).headers["retry-after"] == "90"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"cod":"404","message":"city not found"}'),
        (500, b'{"cod":"500","message":"Internal error: 500001"}'),
    ],
)
def test_error_bodies_are_the_service_s(status: int, body: bytes):
    get, _ = faulty(Fault(kind="status", status=status))
    response = get(WEATHER, **LYON)
    assert (response.status_code, response.content) == (status, body)
    assert response.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_errors_are_html(status: int):
    get, _ = faulty(Fault(kind="status", status=status))
    response = get(WEATHER, **LYON)
    assert response.status_code == status
    assert response.headers["content-type"] == "text/html"
    assert response.text.startswith("<html>")


def test_a_fault_concerns_its_path_and_place_only():
    get, _ = faulty(Fault(kind="status", status=500, path=WEATHER, place=(45.76, 4.84)))
    assert get(WEATHER, **LYON).status_code == 500
    assert get(WEATHER, **SYDNEY).status_code == 200
    assert get("/data/2.5/forecast", **LYON).status_code == 200
    assert get(WEATHER).status_code == 400, "a request without a place is of no place"


def test_a_share_of_the_answers_fails_the_same_ones_each_time():
    def statuses() -> list[int]:
        get, _ = faulty(Fault(kind="status", status=500, probability=0.3, seed=7))
        return [get(WEATHER, **LYON).status_code for _ in range(100)]

    first = statuses()
    assert 15 < first.count(500) < 45
    assert statuses() == first


def test_bodies_that_are_no_answer():
    for kind, check in {
        "html": lambda r: r.text.startswith("<!DOCTYPE html>"),
        "empty": lambda r: r.content == b"",
        "wrong_shape": lambda r: "list" not in r.json(),
        "error_in_200": lambda r: r.json()["cod"] == 429,
    }.items():
        get, _ = faulty(Fault(kind=kind, status=429))  # type: ignore[arg-type]
        response = get(HISTORY, **SPAN)
        assert response.status_code == 200
        assert check(response), kind


def test_a_truncated_answer_is_the_beginning_of_the_right_one():
    whole = faulty()[0](HISTORY, **SPAN).content
    cut = faulty(Fault(kind="truncated"))[0](HISTORY, **SPAN)
    assert cut.status_code == 200
    assert 0 < len(cut.content) < len(whole)
    assert whole.startswith(cut.content)
    with pytest.raises(json.JSONDecodeError):
        cut.json()


def test_a_slow_answer_comes_late_and_is_right():
    get, _ = faulty(Fault(kind="slow", seconds=0.3))
    begun = time.monotonic()
    assert get(HISTORY, **SPAN).content == faulty()[0](HISTORY, **SPAN).content
    assert time.monotonic() - begun >= 0.3


def test_a_reset_ends_the_answer_within():
    get, faults = faulty(Fault(kind="reset", count=1))
    with pytest.raises(ConnectionResetError):
        get(HISTORY, **SPAN)
    assert get(HISTORY, **SPAN).status_code == 200
    assert faults.requests == {HISTORY: {200: 2}}


def test_kelvin_comes_although_metric_was_asked():
    for metric, kelvin in zip(history(), history(Fault(kind="kelvin")), strict=True):
        assert kelvin["main"]["temp"] == pytest.approx(metric["main"]["temp"] + 273.15, abs=0.011)


def test_another_place_answers():
    get, _ = faulty(Fault(kind="other_place"))
    assert get(WEATHER, **LYON).json()["coord"] == {"lat": 45.76, "lon": -10.16}


def test_stale_answers_are_of_an_earlier_time():
    get, _ = faulty(Fault(kind="stale", seconds=7200))
    assert faulty()[0](WEATHER, **LYON).json()["dt"] - get(WEATHER, **LYON).json()["dt"] == 7200
    past = {"start": HOUR, "end": HOUR, **LYON}
    (entry,) = get("/data/2.5/forecast/history", **past).json()["list"]
    (right,) = faulty()[0]("/data/2.5/forecast/history", **past).json()["list"]
    assert right["list"][0]["dt"] - entry["list"][0]["dt"] == 7200


def test_duplicates_and_reversed_order_add_up():
    right = history()
    both = history(Fault(kind="duplicates"), Fault(kind="reversed"))
    assert both == [item for item in reversed(right) for _ in range(2)]


def test_hours_can_be_dropped():
    get, _ = faulty(Fault(kind="drop", hours=(HOUR + 3600,)))
    body = get(HISTORY, **SPAN).json()
    assert [item["dt"] for item in body["list"]] == [HOUR, HOUR + 2 * 3600, HOUR + 3 * 3600]
    assert body["cnt"] == 3
    assert history(Fault(kind="drop")) == []


def test_one_hour_can_be_corrected():
    right = history()
    patched = history(Fault(kind="patch", hours=(HOUR,), values={"main.temp": 999.5, "snow.1h": 2, "wind": None}))
    assert patched[0]["main"] == right[0]["main"] | {"temp": 999.5}
    assert patched[0]["snow"] == {"1h": 2}
    assert patched[0]["wind"] is None
    assert patched[1:] == right[1:]


def test_a_patch_reaches_every_step_of_a_forecast_issued_in_an_hour():
    get, _ = faulty(Fault(kind="patch", hours=(HOUR,), values={"main.temp": -300}))
    first, second = get("/data/2.5/forecast/history", start=HOUR, end=HOUR + 3600, **LYON).json()["list"]
    assert {step["main"]["temp"] for step in first["list"]} == {-300}
    assert -300 not in {step["main"]["temp"] for step in second["list"]}


def test_errors_of_the_provider_itself_pass_unedited():
    get, _ = faulty(Fault(kind="patch", values={"main.temp": 1}))
    assert get(WEATHER, lat=99, lon=0).text == '{"cod":"400","message":"wrong latitude"}'


def test_faults_are_set_and_cleared_over_the_control_route():
    get, _ = faulty()
    wanted = json.dumps([{"kind": "status", "status": 500, "place": [45.76, 4.84]}]).encode()
    response = get("/simulator/faults", method="PUT", content=wanted)
    assert response.json()[0]["status"] == 500
    assert get("/simulator/faults").json() == response.json()
    assert get(WEATHER, **LYON).status_code == 500
    get("/simulator/faults", method="PUT", content=b"[]")
    assert get(WEATHER, **LYON).status_code == 200


def test_a_mistyped_fault_is_refused_and_changes_nothing():
    get, faults = faulty(Fault(kind="empty"))
    response = get("/simulator/faults", method="PUT", content=b'[{"kind": "no_such"}]')
    assert response.status_code == 422
    assert "no_such" in response.text
    assert [fault.kind for fault in faults.active] == ["empty"]
    with pytest.raises(ValidationError):
        Fault(kind="empty", wrong_name=1)  # type: ignore[call-arg]


def test_requests_are_counted_by_path_and_status_without_the_control_routes():
    get, _ = faulty()
    get(WEATHER, **LYON)
    get(WEATHER)
    get("/data/9/other", **LYON)
    assert get("/simulator/requests").json() == {WEATHER: {"200": 1, "400": 1}, "other": {"404": 1}}
    get("/simulator/requests", method="DELETE")
    assert get("/simulator/requests").json() == {}


OPEN_METEO = "/historical-forecast-api/v1/forecast"
TWO_PLACES = {
    "latitude": "45.76,-33.87",
    "longitude": "4.84,151.21",
    "hourly": "temperature_2m,wind_speed_10m",
    "timeformat": "unixtime",
    "wind_speed_unit": "ms",
    "start_hour": "2026-11-20T00:00",
    "end_hour": "2026-11-20T03:00",
}


def columns(*faults: Fault, **query: Any) -> list[dict[str, Any]]:
    """The ``hourly`` block of each of two places."""
    get, _ = faulty(*faults)
    return [place["hourly"] for place in get(OPEN_METEO, **TWO_PLACES, **query).json()]


def turned(block: dict[str, list[Any]], *positions: int) -> dict[str, list[Any]]:
    return {name: [column[i] for i in positions] for name, column in block.items()}


def test_columns_are_edited_by_the_hour():
    right = columns()
    assert columns(Fault(kind="drop", hours=(HOUR + 3600,))) == [turned(block, 0, 2, 3) for block in right]
    assert columns(Fault(kind="duplicates")) == [turned(block, 0, 0, 1, 1, 2, 2, 3, 3) for block in right]
    assert columns(Fault(kind="reversed")) == [turned(block, 3, 2, 1, 0) for block in right]
    stale = columns(Fault(kind="stale", seconds=7200))
    assert [block | {"time": [t + 7200 for t in block["time"]]} for block in stale] == right
    assert columns(Fault(kind="drop")) == [turned(block) for block in right]


def test_one_place_of_a_batch_is_edited_alone():
    lyon, sydney = columns()
    fault = Fault(kind="patch", place=(-33.87, 151.21), hours=(HOUR,), values={"temperature_2m": 999, "new": 1})
    patched = columns(fault)
    assert patched[0] == lyon
    assert patched[1]["temperature_2m"] == [999, *sydney["temperature_2m"][1:]]
    assert patched[1]["new"] == [1, None, None, None]
    assert columns(fault.model_copy(update={"place": (10.0, 10.0)})) == [lyon, sydney]


def test_local_times_of_columns_are_edited_too():
    right = columns(timezone="Asia/Tokyo")
    get, _ = faulty(Fault(kind="stale", seconds=3600))
    shown = get(OPEN_METEO, **TWO_PLACES | {"timeformat": "iso8601", "timezone": "Asia/Tokyo"}).json()
    assert shown[0]["hourly"]["time"][:2] == ["2026-11-19T23:00", "2026-11-20T00:00"]
    assert columns(Fault(kind="drop", hours=(right[0]["time"][0],)), timezone="Asia/Tokyo")[0] == turned(
        right[0], 1, 2, 3
    )


def test_the_newest_hours_can_be_null_in_every_variable():
    right = columns()
    for block, emptied in zip(right, columns(Fault(kind="nulls", newest=2)), strict=True):
        assert emptied["time"] == block["time"]
        assert emptied["temperature_2m"] == [*block["temperature_2m"][:2], None, None]
        assert emptied["wind_speed_10m"] == [*block["wind_speed_10m"][:2], None, None]
    chosen = columns(Fault(kind="nulls", hours=(HOUR,)))[0]
    assert chosen["temperature_2m"] == [None, *right[0]["temperature_2m"][1:]]
    assert history(Fault(kind="nulls"))[-1]["main"] is None


def test_other_units_come_from_open_meteo_although_others_were_asked():
    get, _ = faulty(Fault(kind="kelvin"))
    body = get(OPEN_METEO, **TWO_PLACES).json()[0]
    assert body["hourly_units"] == {"time": "unixtime", "temperature_2m": "°F", "wind_speed_10m": "km/h"}
    right = columns()[0]
    assert body["hourly"]["wind_speed_10m"] == pytest.approx([v * 3.6 for v in right["wind_speed_10m"]], abs=0.1)
    assert body["hourly"]["temperature_2m"] == pytest.approx([v * 1.8 + 32 for v in right["temperature_2m"]], abs=0.2)


def test_other_places_answer_from_open_meteo():
    get, _ = faulty(Fault(kind="other_place"))
    assert [place["longitude"] for place in get(OPEN_METEO, **TWO_PLACES).json()] == [-10.2, 136.2]


def test_coordinates_can_be_words_that_are_no_json():
    get, _ = faulty(Fault(kind="nan", place=(45.76, 4.84)))
    text = get(OPEN_METEO, **TWO_PLACES).text
    assert text.count('"latitude":-nan,"longitude":-nan,') == 1
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert json.loads(text.replace("-nan", "null"))[0]["hourly"] == columns()[0]


def test_errors_of_open_meteo_have_its_shape():
    for status, reason in ((429, "Minutely API request limit"), (500, "Something went wrong."), (503, "overloaded")):
        get, _ = faulty(Fault(kind="status", status=status))
        response = get(OPEN_METEO, **TWO_PLACES)
        assert response.status_code == status
        assert response.json()["error"] is True
        assert reason in response.json()["reason"]
    get, _ = faulty(Fault(kind="status", status=502))
    assert get(OPEN_METEO, **TWO_PLACES).text.startswith("<html>")


def test_repeated_parameters_survive_a_fault():
    get, _ = faulty(Fault(kind="reversed"))
    body = get(OPEN_METEO, **TWO_PLACES | {"hourly": ["temperature_2m", "cloud_cover"]}).json()
    assert body[0]["hourly"].keys() == {"time", "temperature_2m", "cloud_cover"}


def test_records_of_one_call_are_edited():
    start = {"start": HOUR, "cnt": 3, **LYON}
    path = "/data/4.0/onecall/timeline/1h"
    right = faulty()[0](path, **start).json()["data"]

    def data(*faults: Fault) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = faulty(*faults)[0](path, **start).json()["data"]
        return records

    assert data(Fault(kind="drop", hours=(HOUR,))) == right[1:]
    assert data(Fault(kind="reversed")) == right[::-1]
    assert data(Fault(kind="patch", hours=(HOUR,), values={"temp": 99})) == [right[0] | {"temp": 99}, *right[1:]]
    assert data(Fault(kind="stale", seconds=60))[0]["dt"] == HOUR - 60
    everything = faulty(Fault(kind="stale", seconds=60))[0]("/data/3.0/onecall", **LYON).json()
    whole = faulty()[0]("/data/3.0/onecall", **LYON).json()
    for part in ("hourly", "daily"):
        assert everything[part][0]["dt"] == whole[part][0]["dt"] - 60
    assert everything["current"]["dt"] == whole["current"]["dt"] - 60


def test_edits_leave_the_geocoders_alone():
    kinds = ("drop", "reversed", "patch", "nulls", "stale", "nan")
    # mypy takes the names that are looped over for any text.
    get, _ = faulty(*(Fault(kind=kind) for kind in kinds))  # type: ignore[arg-type]
    assert len(get("/geo/1.0/direct", q="London").json()) == 2
    assert len(get("/geocoding-api/v1/search", name="London").json()["results"]) == 2


def test_a_byte_order_mark_stands_before_the_answer():
    right = faulty()[0](HISTORY, **SPAN).content
    assert faulty(Fault(kind="bom"))[0](HISTORY, **SPAN).content == b"\xef\xbb\xbf" + right


def test_a_huge_answer_has_more_than_ten_megabytes():
    response = faulty(Fault(kind="huge"))[0](HISTORY, **SPAN)
    assert len(response.content) > 10 * 1024 * 1024
    assert response.json() == faulty()[0](HISTORY, **SPAN).json()


def test_an_endless_answer_never_ends():
    arrived: list[int] = []

    async def listen() -> None:
        app = create_app(faults=Faults([Fault(kind="endless")]), clock=lambda: NOW)
        hang_up = asyncio.Event()

        async def receive() -> Message:
            await hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            assert message.get("more_body", True)
            arrived.append(len(message.get("body", b"")))
            if len(arrived) == 10:
                hang_up.set()

        scope = {"type": "http", "method": "GET", "path": WEATHER, "query_string": b"appid=k", "headers": []}
        async with asyncio.timeout(5):
            await app(scope, receive, send)

    asyncio.run(listen())
    assert len(arrived) >= 10, "and it stops when the client goes"


def test_the_date_is_told_once_and_can_be_skewed():
    response = faulty()[0](WEATHER, **LYON)
    assert response.headers.get_list("date") == ["Wed, 25 Nov 2026 13:20:00 GMT"]
    for seconds, told in ((3600, "14:20:00"), (-7200, "11:20:00")):
        skewed = faulty(Fault(kind="date_skew", seconds=seconds))[0](WEATHER, **LYON)
        assert skewed.headers.get_list("date") == [f"Wed, 25 Nov 2026 {told} GMT"]
        assert skewed.status_code == 200
