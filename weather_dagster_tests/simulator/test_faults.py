"""Faults do what they say, to the requests they name, as often as they say."""

import json
import time

import pytest
from pydantic import ValidationError

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
