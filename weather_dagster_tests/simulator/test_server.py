"""The provider as a process of its own."""

import itertools
import socket
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from weather_dagster.errors import ConfigurationError
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.server import serve
from weather_dagster_tests.simulator.conftest import LYON, client_of, unix

SCRIPT = """
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.server import serve

serve(create_app(), "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True))
"""
HISTORY = {"type": "hour", "start": unix("2025-01-01"), "end": unix("2025-01-02"), "appid": "secret-key", **LYON}


@pytest.fixture
def server() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


@pytest.mark.integration
def test_a_server_answers_as_the_app_in_process_does_and_logs_no_key(server: tuple[str, subprocess.Popen[str]]):
    url, process = server
    with httpx.Client(base_url=url) as client:
        answer = client.get("/data/2.5/history/city", params=HISTORY)
        assert answer.content == client_of(create_app())("/data/2.5/history/city", **HISTORY | {"units": None}).content
        assert answer.headers.get_list("server") == ["openresty"]
        assert len(answer.headers.get_list("date")) == 1

        client.put("/simulator/faults", json=[{"kind": "reset", "count": 1}]).raise_for_status()
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/data/2.5/history/city", params=HISTORY)
        assert client.get("/data/2.5/history/city", params=HISTORY).content == answer.content

        client.put("/simulator/faults", json=[{"kind": "slow", "seconds": 600}]).raise_for_status()
        with pytest.raises(httpx.ReadTimeout):
            client.get("/data/2.5/history/city", params=HISTORY, timeout=0.2)

        client.put("/simulator/faults", json=[{"kind": "endless", "count": 1}]).raise_for_status()
        with client.stream("GET", "/data/2.5/history/city", params=HISTORY) as endless:
            assert len(list(itertools.islice(endless.iter_raw(1024), 5))) == 5
        assert client.get("/data/2.5/history/city", params=HISTORY).content == answer.content
        counts = client.get("/simulator/requests").json()["/data/2.5/history/city"]
        assert counts["200"] >= 3
    process.terminate()
    output, errors = process.communicate(timeout=20)
    assert "secret-key" not in output + errors


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1 port {port}: Address already in use"):
            serve(create_app(), "127.0.0.1", port)
