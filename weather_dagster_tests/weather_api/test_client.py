"""The client in process: retries, refusals, bounds, workers, pace, and the key that never shows."""

import asyncio
import logging
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.errors import (
    AccountRefused,
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    QuotaExceeded,
    RequestRefused,
    TransientProviderError,
)
from weather_dagster.weather_api.api import Fetched
from weather_dagster.weather_api.client import MAX_BODY_BYTES, Client
from weather_dagster.weather_api.endpoints import ApiCall
from weather_dagster.weather_api.service import Limit, Patience, Window
from weather_dagster_tests.weather_api.answers import LYON, THIS_HOUR, current, endpoint_at, hours_ago, record, series
from weather_dagster_tests.weather_api.provider_apps import (
    KEY,
    QUICK,
    Replay,
    api_of,
    fetch_all,
    json_answer,
    provider_of,
)

HOUR = int(THIS_HOUR.first.timestamp())
GOOD = json_answer(series(record(HOUR - 3600)))
PAST = hours_ago(1, 1)
TRIES = QUICK.attempts


def ask(app: ASGIApp, **how: Any) -> Fetched:
    return fetch_all(api_of(app, **how), OBSERVATIONS, [LYON], PAST)


@pytest.mark.parametrize(
    "fault",
    [
        json_answer({"cod": "500", "message": "Internal error: 500001"}, 500),
        Response("<html><h1>502 Bad Gateway</h1></html>", 502, media_type="text/html"),
        Response(status_code=503),
        json_answer({"cod": 408, "message": "slow"}, 408),
        Response("<html>We will be back soon.</html>", 200),
        Response(b"", 200),
        Response(b'{"cod":"200","list":[{"dt":17', 200),
        Response(b"\xff\xfe", 200),
        json_answer({"cod": "500", "message": "Internal error"}, 200),
        json_answer({"cod": 500001, "message": "Internal error"}, 200),
    ],
)
def test_a_fault_that_may_heal_is_tried_again(fault: Response, caplog: pytest.LogCaptureFixture) -> None:
    app = Replay(fault, fault, GOOD)
    fetched = ask(app)
    assert fetched.records.num_rows == 1
    assert fetched.calls == len(app.queries) == 3
    warnings = [r for r in caplog.records if r.name == "weather_dagster.weather_api"]
    assert [r.levelno for r in warnings] == [logging.WARNING] * 2
    assert "trying again" in warnings[0].message


def test_a_lasting_fault_is_given_up_after_a_bounded_number_of_tries() -> None:
    app = Replay(Response("<html>We will be back soon.</html>", 200))
    with pytest.raises(TransientProviderError) as caught:
        ask(app)
    assert len(app.queries) == TRIES
    for part in ("openweather", "/data/2.5/history/city for lyon, 2026-11-25T12:00", "no JSON", "We will be back soon"):
        assert part in str(caught.value)
    assert f"given up after {TRIES} tries" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "error", "parts"),
    [
        (
            401,
            {"cod": 401, "message": "Invalid API key."},
            AccountRefused,
            ("Invalid API key", "up to 2 hours", "PLAN"),
        ),
        (403, {"cod": 403, "message": "no"}, AccountRefused, ("403",)),
        (404, {"cod": "404", "message": "city not found"}, RequestRefused, ("city not found", "locations file")),
        (400, {"cod": "400", "message": "wrong latitude"}, RequestRefused, ("wrong latitude", "coordinates")),
        (429, {"cod": 429, "message": "temporary blocked"}, QuotaExceeded, ("temporary blocked", "fewer hours")),
        (200, {"cod": "404", "message": "city not found"}, RequestRefused, ("answered 404: city not found",)),
        (200, {"cod": "400000", "message": "outside plan"}, RequestRefused, ("answered 400: outside plan",)),
        (200, {"cod": 429, "message": "temporary blocked"}, QuotaExceeded, ("answered 429",)),
        (301, {}, RequestRefused, ("301",)),
        (200, {"data": [1], "meta": {}}, MalformedAnswer, ("another shape", "data, meta", "list: Field required")),
        (200, [1, 2], MalformedAnswer, ("another shape", "list")),
    ],
)
def test_a_refusal_is_not_tried_again_and_says_what_to_do(
    status: int, body: Any, error: type[ProviderError], parts: tuple[str, ...]
) -> None:
    app = Replay(json_answer(body, status))
    with pytest.raises(error) as caught:
        ask(app)
    assert type(caught.value) is error
    assert len(app.queries) == 1
    assert all(part in str(caught.value) for part in (*parts, "lyon")), str(caught.value)


def test_a_long_text_of_the_provider_is_cut() -> None:
    with pytest.raises(RequestRefused) as caught:
        ask(Replay(Response("x" * 100_000, 400)))
    assert len(str(caught.value)) < 600


def test_a_body_without_end_is_not_read_to_the_end() -> None:
    app = Replay(Response(b" " * (MAX_BODY_BYTES + 1), 200))
    with pytest.raises(MalformedAnswer, match="sent more than 10,000,000 bytes"):
        ask(app)
    assert len(app.queries) == 1


def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    patience = Patience(attempt=0.05, attempts=2, wait_initial=0.001, wait_max=0.001, wait_jitter=0)
    started = time.monotonic()
    with pytest.raises(TransientProviderError, match="TimeoutError"):
        ask(silent, patience=patience)
    assert time.monotonic() - started < 5


class Counting:
    """An ASGI app that takes a moment, and counts calls in flight and tasks."""

    def __init__(self, failing: int | None = None, status: int = 401) -> None:
        self._status = status
        self.in_flight = self.most_in_flight = self.most_tasks = self.calls = 0
        self._failing = failing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        failing = self.calls == self._failing
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0.002)
        self.in_flight -= 1
        await JSONResponse({"cod": self._status, "message": "no"} if failing else series())(scope, receive, send)


def call_many(count: int) -> Iterator[ApiCall]:
    endpoint = endpoint_at("/data/2.5/history/city")
    return (ApiCall(endpoint, (LYON.model_copy(update={"id": f"place_{i}"}),), PAST) for i in range(count))


async def consume(client: Client, calls: Iterator[ApiCall]) -> list[str]:
    async with client:
        return [answer.call.locations[0].id async for answer in client.fetch(calls)]


def client_of(app: ASGIApp, **how: Any) -> Client:
    provider = provider_of(app, limits=how.pop("limits", None))
    return Client(provider.service, app=app, patience=QUICK, **how)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_fixed_set_of_workers_answers_every_call_once(concurrency: int) -> None:
    app = Counting()
    answered = asyncio.run(consume(client_of(app, concurrency=concurrency), call_many(100)))
    assert sorted(answered) == sorted(f"place_{i}" for i in range(100))
    assert app.most_in_flight == concurrency
    assert app.most_tasks <= concurrency + 2


def test_calls_are_drawn_only_as_they_are_needed() -> None:
    drawn = []

    def source() -> Iterator[ApiCall]:
        for call in call_many(1000):
            drawn.append(call)
            yield call

    async def take_one() -> None:
        async with client_of(Counting(), concurrency=3) as client:
            answers = client.fetch(source())
            await anext(answers)
            await asyncio.sleep(0.1)
            await answers.aclose()

    asyncio.run(take_one())
    assert len(drawn) <= 8


def test_a_refused_account_cancels_the_rest() -> None:
    app = Counting(failing=5)
    with pytest.raises(AccountRefused):
        asyncio.run(consume(client_of(app, concurrency=3), call_many(1000)))
    assert app.calls < 20


def test_a_refused_request_leaves_the_others_alone() -> None:
    app = Counting(failing=5, status=404)

    async def errors() -> list[str]:
        async with client_of(app, concurrency=3) as client:
            return [str(answer.error) async for answer in client.fetch(call_many(20)) if answer.error]

    (error,) = asyncio.run(errors())
    assert "answered 404" in error
    assert app.calls == 20


def test_a_provider_that_is_down_is_not_asked_for_everything() -> None:
    app = Replay(json_answer({"cod": "500", "message": "no"}, 500))
    with pytest.raises(TransientProviderError, match="5 calls in a row came to nothing, so no more are made"):
        asyncio.run(consume(client_of(app), call_many(1000)))
    assert len(app.queries) == 5 * TRIES


def in_turn(*statuses: int) -> Replay:
    return Replay(*(json_answer({"cod": str(status), "message": "no", "list": []}, status) for status in statuses))


@pytest.mark.parametrize("answered", [404, 200])
def test_a_provider_that_answers_now_and_then_is_not_down(answered: int) -> None:
    app = in_turn(*(*[500] * 4 * TRIES, answered) * 3)
    assert len(asyncio.run(consume(client_of(app), call_many(15)))) == 15


def test_an_over_long_answer_shows_that_the_provider_is_not_down() -> None:
    long = Response(b" " * (MAX_BODY_BYTES + 1), 200)
    down = json_answer({"cod": "500", "message": "no"}, 500)
    app = Replay(*[down] * 4 * TRIES, long, *[down] * 4 * TRIES, GOOD)
    assert len(asyncio.run(consume(client_of(app), call_many(10)))) == 10


@pytest.mark.parametrize(
    ("status", "headers"), [(401, {}), (429, {}), (503, {"retry-after": "9000"}), (500, {})], ids=str
)
def test_what_the_provider_said_last_is_kept_with_the_error_that_ends_everything(
    status: int, headers: dict[str, str]
) -> None:
    app = Replay(Response(b'{"message":"so it is"}', status, headers=headers))
    with pytest.raises(ProviderError) as caught:
        asyncio.run(consume(client_of(app), call_many(10)))
    assert caught.value.body == '{"message":"so it is"}'


def test_an_answer_names_its_call_in_the_ledger() -> None:
    async def outcomes() -> dict[str, str]:
        async with client_of(Counting()) as client:
            ids = [answer.call_id async for answer in client.fetch(call_many(3))]
            client.ledger.amend_outcome(ids[1], "malformed")
            rows = client.ledger.calls_to_copy().to_pylist()
        told = {row["call_id"]: row["outcome"] for row in rows}
        return {call_id: told[call_id] for call_id in ids}

    assert list(asyncio.run(outcomes()).values()) == ["ok", "malformed", "ok"]


def test_no_task_is_left_behind_after_a_refusal() -> None:
    async def ask_and_count() -> int:
        with pytest.raises(AccountRefused):
            await consume(client_of(Counting(failing=2), concurrency=4), call_many(50))
        return len(asyncio.all_tasks())

    assert asyncio.run(ask_and_count()) == 1


def test_a_repeated_call_counts_against_the_limit_too() -> None:
    app = Replay(json_answer({"cod": "500", "message": "no"}, 500))
    client = client_of(app, limits={"free": (Limit(1, Window.MINUTE),)})
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(consume(client, call_many(1)), 0.5))
    assert len(app.queries) == 1


def leaking_apps() -> list[Any]:
    url = f"https://api.example/data?lat=1&appid={KEY}"

    async def resetting(scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionResetError(f"reset while reading {url}")

    async def echoing(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(f"<html>{Request(scope).url}</html>", 502)(scope, receive, send)

    return [
        pytest.param(resetting, id="reset"),
        pytest.param(echoing, id="html with the url"),
        *(
            pytest.param(Replay(json_answer({"cod": status, "message": f"key {KEY} at {url}"}, status)), id=str(status))
            for status in (400, 401, 404, 429, 500)
        ),
        pytest.param(Replay(Response(f"<p>{url}", 200)), id="html with 200"),
        pytest.param(Replay(Response(f'{{"link": "{url}', 200)), id="cut JSON"),
        pytest.param(Replay(Response(KEY.upper(), 401)), id="in capitals"),
        pytest.param(Replay(Response("x" * 195 + KEY, 401)), id="at the place of the cut"),
        pytest.param(Replay(json_answer({KEY: 1})), id="as a name in another shape"),
    ]


def everything_said_by(error: BaseException) -> str:
    """The text of an error, of all it was raised from or during, and of their attributes."""
    said, seen = ["".join(traceback.format_exception(error))], set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            said += [str(one), repr(one), repr(vars(one)), *map(str, getattr(one, "__notes__", []))]
            if request := getattr(one, "_request", None):
                said.append(str(request.url))
            pending += [one.__cause__, one.__context__]
    return "\n".join(said)


def forms_of_the_key() -> list[str]:
    return [KEY, KEY.upper(), "5e1ec7ed%2Bk%2Fy", "5e1ec7ed%2bk%2fy", "5e1ec7ed"]


@pytest.mark.parametrize("app", leaking_apps())
def test_the_key_is_in_no_error_and_no_log(
    app: ASGIApp, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError) as caught:
        ask(app)
    logged = "\n".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    printed = "".join(capfd.readouterr())
    for form in forms_of_the_key():
        for text in (everything_said_by(caught.value), logged, printed):
            assert form not in text


def test_the_key_travels_in_every_request_and_yet_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "aiohttp"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    app = Replay(GOOD)
    ask(app)
    assert [query["appid"] for query in app.queries] == [KEY]
    logged = "\n".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    assert not [form for form in forms_of_the_key() if form in logged]


def test_the_key_is_in_no_payload_even_when_the_provider_echoes_it() -> None:
    echo = {"link": f"https://api.example/page?appid={KEY}", "encoded": "appid=5e1ec7ed%2Bk%2Fy"}
    fetched = ask(Replay(json_answer(series(record(HOUR - 3600, **echo), {**echo, "dt": 1}))))
    payloads = [*fetched.records["payload"].to_pylist(), *(r.payload for r in fetched.rejections)]
    assert len(payloads) == 2
    assert not [form for form in forms_of_the_key() for payload in payloads if form in payload]
    assert "appid=***" in payloads[0]


def test_a_repr_of_client_or_provider_hides_the_key() -> None:
    provider = provider_of(None)
    assert KEY not in repr(provider) + repr(Client(provider.service))


@pytest.mark.parametrize(
    ("told", "name"),
    [("simulator", "simulator"), ("recorded", "recorded"), ("open_meteo", "openweather"), ("", "openweather")],
)
def test_only_made_up_and_recorded_weather_takes_another_name_than_that_of_who_was_asked(told: str, name: str) -> None:
    answer = json_answer(series(record(HOUR - 3600), {"dt": 1}))
    answer.headers["x-weather-provider"] = told
    fetched = ask(Replay(answer))
    assert fetched.provider == name
    assert fetched.records["provider"].to_pylist() == [name]
    assert [r.provider for r in fetched.rejections] == [name]


def test_answers_of_two_providers_are_not_mixed() -> None:
    other = json_answer(series(record(HOUR - 3600)))
    other.headers["x-weather-provider"] = "simulator"
    places = [LYON, LYON.model_copy(update={"id": "other"})]
    with pytest.raises(ConfigurationError, match=r"from openweather and simulator.*OPENWEATHER_BASE_URL"):
        fetch_all(api_of(Replay(other, GOOD)), OBSERVATIONS, places, PAST)


def test_a_reading_survives_the_way_through_the_client() -> None:
    fetched = fetch_all(api_of(Replay(json_answer(current(HOUR + 60)))), OBSERVATIONS, [LYON], THIS_HOUR)
    assert fetched.provider == "openweather"
    assert fetched.records["temperature_c"].to_pylist() == [7.5]
