"""The ledger: pace and budget hold for all that ask under one key, and blocks outlast runs."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from weather_dagster.datasets import AIR_QUALITY, OBSERVATIONS
from weather_dagster.errors import BudgetExceeded, ConfigurationError, QuotaExceeded
from weather_dagster.hours import HOUR, floor_hour, utc_now
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.client import Inquiry
from weather_dagster.weather_api.ledger import Pause, open_ledger
from weather_dagster.weather_api.providers import build_providers
from weather_dagster.weather_api.service import Limit, Patience, Service, Window
from weather_dagster_tests.conftest import free_port
from weather_dagster_tests.weather_api.provider_apps import (
    KEY,
    NOW,
    Replay,
    a_ledger,
    api_of,
    fetch_all,
    hours_ago,
    json_answer,
    provider_of,
    record,
    series,
)

CALLS = 8
SECONDS = 0.5
EARLY = 0.02
"""How much later than another a call may take from its start to the server, in seconds."""
PLACES = load_locations()
PAST = hours_ago(1, 1)

PROCESS = """
import sys
from datetime import datetime, timedelta
from pathlib import Path

from weather_dagster.datasets import DATASETS
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.weather_api import ledger
from weather_dagster.weather_api.service import Limit, Window
from weather_dagster_tests.weather_api.provider_apps import api_of

url, folder, calls, seconds, dataset, hour = sys.argv[1:]
ledger.MINUTE = timedelta(seconds=float(seconds))
limit = (Limit(int(calls), Window.MINUTE),)
limits = {"free": limit, "history": limit}
api = api_of(None, base_url=url, limits=limits, ledger=Path(folder, "ledger.sqlite"), clock=utc_now, plan="simulator")
at = datetime.fromisoformat(hour)
list(api.fetch(api.plan(DATASETS[dataset], load_locations() * 2, HourRange(at, at))))
"""


class Noting:
    """An ASGI app that notes when requests come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.moments: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.moments.append(time.monotonic())
        await self._app(scope, receive, send)


class Ticking:
    """A clock that runs on from the instant that the tests take for now."""

    def __init__(self) -> None:
        self._began = utc_now()

    def __call__(self) -> datetime:
        return NOW + (utc_now() - self._began)


def most_in_a_window(moments: list[float]) -> int:
    """The most requests that came within any ``SECONDS``, but for ``EARLY``."""
    return max(sum(first <= moment < first + SECONDS - EARLY for moment in moments) for first in moments)


def test_the_limit_holds_across_ranges_datasets_and_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.ledger.MINUTE", timedelta(seconds=SECONDS))
    app, clock = Noting(create_app(clock=NOW.timestamp)), Ticking()
    for dataset in (OBSERVATIONS, AIR_QUALITY, OBSERVATIONS):
        api = api_of(
            app,
            plan="simulator",
            is_stand_in=True,
            limits={"free": (Limit(CALLS, Window.MINUTE),)},
            ledger=tmp_path / "ledger.sqlite",
            clock=clock,
        )
        store = partial(open_warehouse, tmp_path / "w.duckdb")
        land_range(api, store, dataset, PLACES, hours_ago(5, 3), run_id="r").require_complete()
    assert len(app.moments) == 3 * len(PLACES)
    assert most_in_a_window(sorted(app.moments)) == CALLS


@pytest.fixture
def served() -> Iterator[tuple[str, Noting]]:
    app, port = Noting(create_app()), free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", app
    server.should_exit = True
    thread.join(10)


@pytest.mark.integration
def test_the_limit_holds_across_processes(served: tuple[str, Noting], tmp_path: Path) -> None:
    url, app = served
    hour = (floor_hour(utc_now()) - 2 * HOUR).isoformat()
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, tmp_path, str(CALLS), str(SECONDS), dataset, hour],
            env={**os.environ, "PYTHONPATH": str(root)},
            cwd=tmp_path,
        )
        for dataset in ("observations", "air_quality")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(app.moments) == 4 * len(PLACES)
    assert most_in_a_window(sorted(app.moments)) <= CALLS


class Clock:
    """A clock that stands where it was set."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def service(path: Path, *limits: Limit, key: str = KEY) -> Service:
    return provider_of(None, key=key, ledger=path, limits={"free": limits}).service


QUESTION = Inquiry("http://test/x", "/x", {}, "free")


def test_another_key_has_a_limit_of_its_own_and_no_key_is_written(tmp_path: Path) -> None:
    for key in ("first-secret", "second-secret"):
        with open_ledger(service(tmp_path / "l.sqlite", Limit(1, Window.MONTH), key=key)) as ledger:
            assert isinstance(ledger.admit(QUESTION, "r", NOW), str)
            assert isinstance(ledger.admit(QUESTION, "r", NOW), Pause)
    assert not [file for file in tmp_path.iterdir() if b"secret" in file.read_bytes()]


@pytest.mark.parametrize(
    ("window", "until"),
    [
        (Window.MINUTE, datetime(2026, 11, 25, 13, 21, tzinfo=UTC)),
        (Window.HOUR, datetime(2026, 11, 25, 14, tzinfo=UTC)),
        (Window.DAY, datetime(2026, 11, 26, tzinfo=UTC)),
        (Window.MONTH, datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_full_window_holds_calls_up_until_it_ends(tmp_path: Path, window: Window, until: datetime) -> None:
    with open_ledger(service(tmp_path / "l.sqlite", Limit(2, window))) as ledger:
        for _ in range(2):
            assert isinstance(ledger.admit(QUESTION, "r", NOW), str)
        pause = ledger.admit(QUESTION, "r", NOW)
        assert isinstance(pause, Pause)
        assert (pause.until, pause.window) == (until, window)
        assert isinstance(ledger.admit(QUESTION, "r", until), str)


def test_calls_count_by_their_weight(tmp_path: Path) -> None:
    heavy = Inquiry("http://test/x", "/x", {}, "free", weight=7.5)
    with open_ledger(service(tmp_path / "l.sqlite", Limit(10, Window.DAY))) as ledger:
        assert isinstance(ledger.admit(heavy, "r", NOW), str)
        assert isinstance(ledger.admit(heavy, "r", NOW), Pause)
        assert isinstance(ledger.admit(QUESTION, "r", NOW), str)
        assert [(each.amount, each.left) for each in ledger.spent(NOW)] == [(8.5, 1.5)]


def test_a_clock_that_was_set_back_does_not_block_calls(tmp_path: Path) -> None:
    with open_ledger(service(tmp_path / "l.sqlite", Limit(1, Window.DAY))) as ledger:
        ledger.admit(QUESTION, "r", NOW + HOUR)
        assert isinstance(ledger.admit(QUESTION, "r", NOW), str)


def test_a_file_that_cannot_be_kept_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, and in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "ledger.sqlite"):
        with pytest.raises(ConfigurationError, match=r"file.*WEATHER_HOME"), open_ledger(service(path)):
            pass


def test_a_live_plan_is_limited_in_its_home_and_built_in_data_is_not(tmp_path: Path) -> None:
    def service_of(provider: str) -> Service:
        settings = Settings(
            _env_file=None, weather_provider=provider, openweather_api_key="k", weather_home=tmp_path
        )  # fmt: skip
        return build_providers(settings)[0].service

    live = service_of("openweather")
    assert live.ledger == (tmp_path / "live" / "ledger.sqlite")
    assert live.limits["free"] == (Limit(50, Window.MINUTE), Limit(1_000_000, Window.MONTH))
    assert (service_of("simulator").limits, service_of("recorded").limits) == ({}, {})


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "Wed, 25 Nov 2026 13:22:30 GMT", "date": "Wed, 25 Nov 2026 13:20:00 GMT"}, 150),
        (429, {"retry-after": "Wed, 25 Nov 2026 13:22:30 GMT"}, 150),
        (429, {"retry-after": "90"}, 90),
        (503, {"retry-after": "90"}, 90),
        (503, {"retry-after": "Wed, 25 Nov 2026 13:22:30 GMT"}, 150),
        (429, {"retry-after": "soon"}, 600),
        (429, {}, 600),
    ],
)
def test_a_provider_that_asks_to_wait_is_left_alone_by_every_process(
    status: int, headers: dict[str, str], seconds: int
) -> None:
    path = a_ledger()
    refusing = Replay(Response(json.dumps({"cod": status, "message": "blocked"}), status, headers=headers))
    at = Clock()
    patience = Patience(attempts=1, longest_pause=10)
    with pytest.raises(QuotaExceeded, match="No call is made before"):
        fetch_all(api_of(refusing, ledger=path, clock=at, patience=patience), OBSERVATIONS, PLACES[:1], PAST)
    assert len(refusing.queries) == 1
    other = Replay(json_answer(series(record(int(PAST.first.timestamp())))))
    at.now = NOW + timedelta(seconds=seconds - 11)
    with pytest.raises(QuotaExceeded, match=r"openweather is not asked before .*answered (429|503): blocked"):
        fetch_all(api_of(other, ledger=path, clock=at, patience=patience), OBSERVATIONS, PLACES[:1], PAST)
    assert other.queries == []
    at.now = NOW + timedelta(seconds=seconds)
    assert fetch_all(api_of(other, ledger=path, clock=at), OBSERVATIONS, PLACES[:1], PAST).records.num_rows == 1


def test_a_short_pause_is_waited_out_within_the_run() -> None:
    began = time.monotonic()
    refusing = Response(b'{"cod":429,"message":"slow down"}', 429, headers={"retry-after": "1"})
    app = Replay(refusing, json_answer(series(record(int(PAST.first.timestamp())))))
    fetched = fetch_all(api_of(app, clock=Ticking()), OBSERVATIONS, PLACES[:1], PAST)
    assert (fetched.records.num_rows, fetched.calls, fetched.wasted) == (1, 2, 1)
    assert time.monotonic() - began >= 1


def test_a_pause_that_is_over_leaves_our_own_pace() -> None:
    refusing = Response(
        b'{"cod":429,"message":"slow down"}', 429, headers={"retry-after": "Wed, 25 Nov 2026 13:19:00 GMT"}
    )
    app = Replay(refusing, json_answer(series(record(int(PAST.first.timestamp())))))
    assert fetch_all(api_of(app), OBSERVATIONS, PLACES[:1], PAST).calls == 2


def test_a_day_that_is_used_up_ends_the_run_and_what_came_stays(tmp_path: Path) -> None:
    app = create_app(clock=NOW.timestamp)
    limits = {"history": (Limit(3, Window.DAY),)}
    api = api_of(app, limits=limits, ledger=tmp_path / "l.sqlite")
    plan = api.plan(OBSERVATIONS, PLACES[:5], PAST)
    loads = api.fetch(plan)
    assert next(loads).records.num_rows == 3
    with pytest.raises(BudgetExceeded, match="the limit of 3 a day of history is used up"):
        next(loads)
