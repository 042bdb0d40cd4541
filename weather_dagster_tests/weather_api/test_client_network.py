"""The client over real sockets: what aiohttp's transport makes of broken connections, slow servers and proxies."""

import gzip
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic_core import to_json

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.errors import MalformedAnswer, TransientProviderError
from weather_dagster.hours import HOUR, HourRange, floor_hour, utc_now
from weather_dagster.weather_api.api import Fetched
from weather_dagster.weather_api.client import MAX_BODY_BYTES
from weather_dagster.weather_api.service import Patience
from weather_dagster_tests.conftest import Provider, free_port
from weather_dagster_tests.weather_api.answers import LYON, hours_ago, record, series
from weather_dagster_tests.weather_api.provider_apps import api_of, fetch_all
from weather_dagster_tests.weather_api.test_client import everything_said_by, forms_of_the_key

pytestmark = pytest.mark.integration

PAST = hours_ago(1, 1)
HURRIED = Patience(
    connect=0.3, read=0.3, attempt=1, attempts=2, wait_initial=0.001, wait_max=0.001, wait_jitter=0
)  # fmt: skip


def http(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def good_body() -> bytes:
    return to_json(series(record(int(PAST.first.timestamp()))))


Behaviour = Callable[[socket.socket], None]


@contextmanager
def raw_server(*behaviours: Behaviour) -> Iterator[tuple[str, list[bytes]]]:
    """A server that treats its connections as told, the last way for ever; yields its URL and the requests' heads."""
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for number in range(100):
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    requests.append(connection.recv(65536))
                    behaviours[min(number, len(behaviours) - 1)](connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        listener.shutdown(socket.SHUT_RDWR)


def answer(raw: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(raw)

    return behave


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def hang(connection: socket.socket) -> None:
    time.sleep(0.6)


def drip(connection: socket.socket) -> None:
    """A byte now and then: no read time-out ever strikes."""
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.1)
    except OSError:
        return


def flood(connection: socket.socket) -> None:
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(10 * MAX_BODY_BYTES // 65536):
            connection.sendall(b" " * 65536)
    except OSError:
        return


def ask(url: str, patience: Patience = HURRIED) -> Fetched:
    return fetch_all(api_of(None, base_url=url, patience=patience), OBSERVATIONS, [LYON], PAST)


FAULTS: dict[str, Behaviour] = {
    "reset": reset,
    "closed without an answer": answer(b""),
    "closed within the head": answer(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closed within the body": answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"),
    "no HTTP": answer(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "damaged gzip": answer(http(b"no gzip", "Content-Encoding: gzip")),
    "damaged chunk": answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "no answer in time": hang,
    "dripping": drip,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_connection_is_tried_again_and_the_key_stays_hidden(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with raw_server(FAULTS[name]) as (url, requests), pytest.raises(TransientProviderError) as caught:
        ask(url)
    # aiohttp repeats a request by itself, once, when the connection ended before any answer.
    assert HURRIED.attempts <= len(requests) <= 2 * HURRIED.attempts
    assert "could not be reached" in str(caught.value)
    said = everything_said_by(caught.value) + "\n".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    assert not [form for form in forms_of_the_key() if form in said]


@pytest.mark.parametrize("name", ["reset", "closed within the body", "no HTTP"])
def test_a_connection_that_heals_brings_the_answer(name: str) -> None:
    with raw_server(FAULTS[name], answer(http(good_body()))) as (url, requests):
        assert ask(url).records.num_rows == 1
    assert len(requests) == 2


def test_nobody_listening_is_named_with_the_address() -> None:
    port = free_port()
    with pytest.raises(TransientProviderError, match=f"127.0.0.1:{port}"):
        ask(f"http://127.0.0.1:{port}")


def test_a_flood_is_cut_off() -> None:
    with raw_server(flood) as (url, requests), pytest.raises(MalformedAnswer, match="sent more than"):
        ask(url, Patience(attempts=3))
    assert len(requests) == 1


def test_a_small_body_that_unpacks_to_a_flood_is_cut_off() -> None:
    bomb = http(gzip.compress(b" " * (5 * MAX_BODY_BYTES)), "Content-Encoding: gzip")
    with raw_server(answer(bomb)) as (url, _), pytest.raises(MalformedAnswer, match="sent more than"):
        ask(url, Patience(attempts=3))


def test_gzip_is_understood() -> None:
    packed = http(gzip.compress(good_body()), "Content-Encoding: gzip")
    with raw_server(answer(packed)) as (url, requests):
        assert ask(url).records.num_rows == 1
    assert b"gzip" in requests[0].lower()


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with raw_server(answer(http(good_body()))) as (url, requests):
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("http_proxy", url)
        assert ask("http://weather.invalid").records.num_rows == 1
    assert requests[0].startswith(b"GET http://weather.invalid/data/2.5/history/city?")


def test_each_call_reaches_the_server_once(provider: Provider) -> None:
    places = [LYON.model_copy(update={"id": f"place_{i}"}) for i in range(40)]
    api = api_of(None, base_url=provider.url, concurrency=4, clock=utc_now)
    two_hours_ago = floor_hour(utc_now()) - 2 * HOUR
    fetched = fetch_all(api, OBSERVATIONS, places, HourRange(two_hours_ago, two_hours_ago))
    assert (fetched.records.num_rows, fetched.calls) == (40, 40)
    assert provider.faults.requests == {"/data/2.5/history/city": {200: 40}}
