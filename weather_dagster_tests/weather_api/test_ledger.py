"""The ledger: pace and budget hold for all that ask under one key, and blocks outlast runs."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from weather_dagster.datasets import AIR_QUALITY, OBSERVATIONS
from weather_dagster.errors import AccountRefused, BudgetExceeded, ConfigurationError, QuotaExceeded
from weather_dagster.hours import HOUR, floor_hour, utc_now
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.state import Place
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.client import Inquiry
from weather_dagster.weather_api.http_dates import MAX_PAUSE_SECONDS, retry_after
from weather_dagster.weather_api.ledger import LandedCall, Ledger, Pause, open_ledger
from weather_dagster.weather_api.providers import build_providers
from weather_dagster.weather_api.service import Limit, Patience, Service, Window
from weather_dagster_tests.conftest import free_port
from weather_dagster_tests.state import plain_connection, text_of
from weather_dagster_tests.weather_api.answers import NOW, hours_ago, record, series
from weather_dagster_tests.weather_api.provider_apps import (
    KEY,
    Replay,
    a_ledger,
    api_of,
    fetch_all,
    json_answer,
    provider_of,
)

CALLS = 8
SECONDS = 0.5
PLACES = load_locations()
PAST = hours_ago(1, 1)

PROCESS = """
import sys
from datetime import datetime, timedelta
from weather_dagster.datasets import DATASETS
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.weather_api import ledger
from weather_dagster.weather_api.service import Limit, Window
from weather_dagster_tests.state import place_of
from weather_dagster_tests.weather_api.provider_apps import api_of

url, place, calls, seconds, dataset, hour = sys.argv[1:]
ledger.MINUTE = timedelta(seconds=float(seconds))
limit = (Limit(int(calls), Window.MINUTE),)
limits = {"free": limit, "history": limit}
api = api_of(None, base_url=url, limits=limits, ledger=place_of(place), clock=utc_now, plan="simulator")
at = datetime.fromisoformat(hour)
list(api.fetch(api.plan(DATASETS[dataset], load_locations() * 2, HourRange(at, at))))
"""


class Noting:
    """An ASGI app that counts the requests that come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests += 1
        await self._app(scope, receive, send)


class Ticking:
    """A clock that runs on from the instant that the tests take for now."""

    def __init__(self) -> None:
        self._began = utc_now()

    def __call__(self) -> datetime:
        return NOW + (utc_now() - self._began)


def moments_in(ledger: Place) -> list[float]:
    """When calls were let out. A busy machine brings them to the server later, and not evenly so."""
    with plain_connection(ledger) as connection:
        return [moment for (moment,) in connection.execute("select asked_at_utc from calls").fetchall()]


def most_in_a_window(moments: list[float]) -> int:
    """The most calls within any ``SECONDS``, but for what a float of that size leaves out."""
    return max(sum(first <= moment < first + SECONDS - 1e-3 for moment in moments) for first in moments)


def test_the_limit_holds_across_ranges_datasets_and_instances(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.ledger.MINUTE", timedelta(seconds=SECONDS))
    app, clock = Noting(create_app(clock=NOW.timestamp)), Ticking()
    for dataset in (OBSERVATIONS, AIR_QUALITY, OBSERVATIONS):
        api = api_of(
            app,
            plan="simulator",
            is_stand_in=True,
            limits={"free": (Limit(CALLS, Window.MINUTE),)},
            ledger=place,
            clock=clock,
        )
        store = partial(open_warehouse, tmp_path / "w.duckdb")
        land_range(api, store, dataset, PLACES, hours_ago(5, 3), run_id="r").require_complete()
    moments = moments_in(place)
    assert app.requests == len(moments) == 3 * len(PLACES)
    assert most_in_a_window(moments) == CALLS


@pytest.fixture
def served() -> Iterator[tuple[str, Noting]]:
    app, port = Noting(create_app()), free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    # uvicorn tells by this flag alone that it listens, so it is looked at again and again.
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}", app
    server.should_exit = True
    thread.join(10)


@pytest.mark.integration
def test_the_limit_holds_across_processes(served: tuple[str, Noting], place: Place, tmp_path: Path) -> None:
    url, app = served
    hour = (floor_hour(utc_now()) - 2 * HOUR).isoformat()
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, url, text_of(place), str(CALLS), str(SECONDS), dataset, hour],
            env={**os.environ, "PYTHONPATH": str(root)},
            cwd=tmp_path,
        )
        for dataset in ("observations", "air_quality")
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    moments = moments_in(place)
    assert app.requests == len(moments) == 4 * len(PLACES)
    assert most_in_a_window(moments) <= CALLS


class Clock:
    """A clock that stands where it was set."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def service(place: Place, *limits: Limit, key: str = KEY) -> Service:
    return provider_of(None, key=key, ledger=place, limits={"free": limits}).service


QUESTION = Inquiry("http://test/x", "/x", {}, "free")


def test_another_key_has_a_limit_of_its_own_and_no_key_is_written(place: Place) -> None:
    for key in ("first-secret", "second-secret"):
        with open_ledger(service(place, Limit(1, Window.MONTH), key=key)) as ledger:
            assert isinstance(ledger.admit(QUESTION, "r", Clock(NOW)), str)
            assert isinstance(ledger.admit(QUESTION, "r", Clock(NOW)), Pause)
    with plain_connection(place) as connection:
        assert "secret" not in str(connection.execute("select * from calls").fetchall())
    if isinstance(place, Path):
        assert not [file for file in place.parent.iterdir() if b"secret" in file.read_bytes()]


@pytest.mark.parametrize(
    ("window", "until"),
    [
        (Window.MINUTE, datetime(2026, 11, 25, 13, 21, tzinfo=UTC)),
        (Window.HOUR, datetime(2026, 11, 25, 14, tzinfo=UTC)),
        (Window.DAY, datetime(2026, 11, 26, tzinfo=UTC)),
        (Window.MONTH, datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_full_window_holds_calls_up_until_it_ends(place: Place, window: Window, until: datetime) -> None:
    with open_ledger(service(place, Limit(2, window))) as ledger:
        for _ in range(2):
            assert isinstance(ledger.admit(QUESTION, "r", Clock(NOW)), str)
        pause = ledger.admit(QUESTION, "r", Clock(NOW))
        assert isinstance(pause, Pause)
        assert (pause.until, pause.window) == (until, window)
        assert isinstance(ledger.admit(QUESTION, "r", Clock(until)), str)


def test_calls_count_by_their_weight(place: Place) -> None:
    heavy = Inquiry("http://test/x", "/x", {}, "free", weight=7.5)
    with open_ledger(service(place, Limit(10, Window.DAY))) as ledger:
        assert isinstance(ledger.admit(heavy, "r", Clock(NOW)), str)
        assert isinstance(ledger.admit(heavy, "r", Clock(NOW)), Pause)
        assert isinstance(ledger.admit(QUESTION, "r", Clock(NOW)), str)
        assert [(each.amount, each.left) for each in ledger.spent(NOW)] == [(8.5, 1.5)]


def test_a_clock_that_was_set_back_does_not_block_calls(place: Place) -> None:
    with open_ledger(service(place, Limit(1, Window.DAY))) as ledger:
        ledger.admit(QUESTION, "r", Clock(NOW + HOUR))
        assert isinstance(ledger.admit(QUESTION, "r", Clock(NOW)), str)


def test_a_file_that_cannot_be_kept_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, and in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "ledger.sqlite"):
        with pytest.raises(ConfigurationError, match=r"file.*WEATHER_HOME"), open_ledger(service(path)):
            pass


LANDED = LandedCall("call", 1, "r")
EVERY_METHOD: dict[str, Callable[[Ledger], object]] = {
    "admit": lambda ledger: ledger.admit(QUESTION, "r", Clock()),
    "close_call": lambda ledger: ledger.close_call("c", "ok", 200, 0.1),
    "amend_outcome": lambda ledger: ledger.amend_outcome("c", "malformed"),
    "open_block": lambda ledger: ledger.open_block(NOW, "blocked"),
    "landed_calls": lambda ledger: ledger.landed_calls("range", NOW),
    "note_landed": lambda ledger: ledger.note_landed("range", [LANDED], NOW),
    "finish": lambda ledger: ledger.finish("range"),
    "note_copied": lambda ledger: ledger.note_copied(["c"]),
    "prune": lambda ledger: ledger.prune(NOW, dry_run=False),
    "outcomes": lambda ledger: ledger.outcomes(),
    "block": lambda ledger: ledger.block(NOW),
    "spent": lambda ledger: ledger.spent(NOW),
    "last_success": lambda ledger: ledger.last_success(),
    "calls_to_copy": lambda ledger: ledger.calls_to_copy(),
}
READING = ("outcomes", "block", "spent", "last_success", "calls_to_copy")


ALONE = ("admit", "open_block", "note_landed", "note_copied", "prune")
"""What reads before it writes, or writes more than once."""


@pytest.mark.parametrize("name", sorted(EVERY_METHOD.keys() - set(READING)))
def test_a_file_that_another_holds_too_long_is_named_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.state.LOCK_SECONDS", 0.05)
    path = tmp_path / "l.sqlite"
    with open_ledger(service(path)) as ledger, plain_connection(path) as other:
        other.execute("begin immediate")
        with pytest.raises(ConfigurationError, match=r"l\.sqlite: database is locked.*WEATHER_HOME"):
            EVERY_METHOD[name](ledger)
        other.execute("rollback")
        EVERY_METHOD[name](ledger)


@pytest.mark.parametrize("name", ALONE)
def test_a_postgres_that_another_holds_too_long_is_named_with_the_way_out(
    name: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.state.LOCK_SECONDS", 0.05)
    place = SecretStr(postgres_url)
    with open_ledger(service(place)) as ledger, open_ledger(service(place)) as other:
        with other._database.transaction(), pytest.raises(ConfigurationError, match=r"lock timeout.*WEATHER_POSTGRES"):
            EVERY_METHOD[name](ledger)
        EVERY_METHOD[name](ledger)


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_a_ledger_that_was_damaged_since_it_was_opened_is_named_with_the_way_out(name: str, place: Place) -> None:
    told = r"l\.sqlite: no such table.*move it aside" if isinstance(place, Path) else r"schema weather_state.*does not"
    with open_ledger(service(place, Limit(2, Window.DAY))) as ledger:
        with plain_connection(place) as other:
            for table in ("calls", "blocks", "landed"):
                other.execute(f"drop table {table}")
        with pytest.raises(ConfigurationError, match=told):
            EVERY_METHOD[name](ledger)


def test_a_full_disk_is_named_and_the_ledger_works_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with open_ledger(service(path)) as ledger:
        connection = ledger._database._connection
        connection.exec_driver_sql("pragma max_page_count = 1")
        with pytest.raises(ConfigurationError, match=r"l\.sqlite: database or disk is full.*make room"):
            ledger.note_landed("range", (LandedCall(str(n), 1, "r") for n in range(10_000)), NOW)
        connection.exec_driver_sql("pragma max_page_count = 100000")
        ledger.note_landed("range", [LANDED], NOW)
        assert ledger.landed_calls("range", NOW) == {LANDED}


def test_a_ledger_that_is_lost_in_a_run_ends_it_with_the_way_out(place: Place) -> None:
    async def losing(scope: Scope, receive: Receive, send: Send) -> None:
        with plain_connection(place) as other:
            other.execute("drop table if exists calls")
        await json_answer(series())(scope, receive, send)

    with pytest.raises(ConfigurationError, match="the ledger of calls cannot be kept"):
        fetch_all(api_of(losing, ledger=place), OBSERVATIONS, PLACES[:3], PAST)


def test_the_clock_is_read_while_no_other_can_ask(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weather_dagster.state.LOCK_SECONDS", 0.05)
    held: list[ConfigurationError] = []

    with open_ledger(service(place)) as ledger, open_ledger(service(place)) as other:

        def clock() -> datetime:
            try:
                other.admit(QUESTION, "r", Clock())
            except ConfigurationError as error:
                held.append(error)
            return NOW

        ledger.admit(QUESTION, "r", clock)
    assert len(held) == 1


def test_a_closed_call_can_turn_out_to_be_another_thing(place: Place) -> None:
    with open_ledger(service(place)) as ledger:
        first, second = (str(ledger.admit(QUESTION, "r", Clock())) for _ in range(2))
        for call_id in (first, second):
            ledger.close_call(call_id, "ok", 200, 0.1)
        ledger.amend_outcome(first, "malformed")
        told = {row["call_id"]: row["outcome"] for row in ledger.calls_to_copy().to_pylist()}
    assert told == {first: "malformed", second: "ok"}


def test_old_calls_that_the_store_has_are_forgotten_and_their_number_and_the_running_month_stay(place: Place) -> None:
    clock = Clock(NOW - timedelta(days=500))
    month = Limit(10, Window.MONTH)
    with open_ledger(service(place, month)) as ledger:
        copied, uncopied = (str(ledger.admit(QUESTION, "r", clock)) for _ in range(2))
        clock.now = NOW
        recent = str(ledger.admit(QUESTION, "r", clock))
        for call_id in (copied, uncopied, recent):
            ledger.close_call(call_id, "ok", 200, 0.1)
        ledger.note_copied([copied, recent])
        before = ledger.outcomes(), ledger.spent(NOW), ledger.last_success()
        assert before[0] == [("free", "ok", 3)]
        cutoff = NOW - timedelta(days=400)
        assert ledger.prune(cutoff, dry_run=True) == 1
        assert [ledger.prune(cutoff, dry_run=False) for _ in range(2)] == [1, 0]
        assert (ledger.outcomes(), ledger.spent(NOW), ledger.last_success()) == before
        assert [row["call_id"] for row in ledger.calls_to_copy().to_pylist()] == [uncopied]
        ledger.note_copied([uncopied])
        assert ledger.prune(cutoff, dry_run=False) == 1
        assert ledger.outcomes() == before[0]


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


def test_a_later_and_shorter_block_does_not_end_a_longer_one(place: Place) -> None:
    with open_ledger(service(place)) as ledger:
        for seconds in (3600, 60):
            ledger.open_block(NOW + timedelta(seconds=seconds), "blocked")
        block = ledger.block(NOW)
    assert block is not None
    assert block.until == NOW + HOUR


@pytest.mark.parametrize("value", ["9" * 11, "9" * 5_000, "Wed, 25 Nov 9026 13:20:00 GMT"], ids=len)
def test_a_pause_without_end_is_taken_as_a_month(value: str) -> None:
    assert retry_after(value, None, NOW) == timedelta(seconds=MAX_PAUSE_SECONDS)


def test_a_pause_until_a_date_is_told_by_the_clock_of_who_told_it() -> None:
    told = retry_after("Wed, 25 Nov 2026 14:22:30 GMT", "Wed, 25 Nov 2026 14:20:00 GMT", NOW)
    assert told == timedelta(seconds=150)


def test_a_refusal_with_a_pause_closes_the_way_for_nobody() -> None:
    path = a_ledger()
    refusing = Replay(Response(b'{"cod":401,"message":"no"}', 401, headers={"retry-after": "9000"}))
    with pytest.raises(AccountRefused):
        fetch_all(api_of(refusing, ledger=path), OBSERVATIONS, PLACES[:1], PAST)
    with open_ledger(service(path)) as ledger:
        assert ledger.block(NOW) is None


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


def test_a_day_that_is_used_up_ends_the_run_and_what_came_stays(place: Place) -> None:
    app = create_app(clock=NOW.timestamp)
    limits = {"history": (Limit(3, Window.DAY),)}
    api = api_of(app, limits=limits, ledger=place)
    plan = api.plan(OBSERVATIONS, PLACES[:5], PAST)
    loads = api.fetch(plan)
    assert next(loads).records.num_rows == 3
    with pytest.raises(BudgetExceeded, match="the limit of 3 a day of history is used up"):
        next(loads)
