"""The pace of calls holds for all that ask under one key: loops, runs and processes."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from weather_dagster.datasets import AIR_QUALITY, OBSERVATIONS
from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import HOUR, floor_hour, utc_now
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.providers import build_provider
from weather_dagster.weather_api.rate import RateLimiter
from weather_dagster.weather_api.service import RateLimit
from weather_dagster_tests.conftest import free_port
from weather_dagster_tests.weather_api.provider_apps import NOW, api_of, hours_ago, provider_of

CALLS = 8
SECONDS = 0.5
EARLY = 0.02
"""How much later than another a call may take from its start to the server, in seconds."""
PLACES = load_locations()

PROCESS = """
import sys
from datetime import datetime
from pathlib import Path

from weather_dagster.datasets import DATASETS
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.weather_api.service import RateLimit
from weather_dagster_tests.weather_api.provider_apps import api_of

url, folder, calls, seconds, dataset, hour = sys.argv[1:]
limit = RateLimit(int(calls), Path(folder, "rate.sqlite"), float(seconds))
api = api_of(None, base_url=url, rate_limit=limit, clock=utc_now)
at = datetime.fromisoformat(hour)
list(api.fetch(DATASETS[dataset], load_locations() * 2, HourRange(at, at)))
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


def most_in_a_window(moments: list[float]) -> int:
    """The most requests that came within any ``SECONDS``, but for ``EARLY``."""
    return max(sum(first <= moment < first + SECONDS - EARLY for moment in moments) for first in moments)


def test_the_limit_holds_across_ranges_datasets_and_instances(tmp_path: Path) -> None:
    app = Noting(create_app(clock=NOW.timestamp))
    for dataset in (OBSERVATIONS, AIR_QUALITY, OBSERVATIONS):
        api = api_of(
            app, plan="simulator", is_stand_in=True, rate_limit=RateLimit(CALLS, tmp_path / "rate.sqlite", SECONDS)
        )
        store = partial(open_warehouse, tmp_path / "w.duckdb")
        land_range(api, store, dataset, PLACES, hours_ago(5, 3), run_id="r")
    assert len(app.moments) == 3 * len(PLACES)
    assert most_in_a_window(sorted(app.moments)) == CALLS
    assert app.moments[-1] - app.moments[0] < 3 * 2 * SECONDS, "slower than the limit asks"


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


def limiter(path: Path, key: str = "k", seconds: float = 60, calls: int = 1) -> RateLimiter:
    return RateLimiter(RateLimit(calls, path, seconds), provider_of(None, key=key).service)


def test_another_key_has_a_limit_of_its_own_and_no_key_is_written(tmp_path: Path) -> None:
    async def take_one_each() -> None:
        for key in ("first-secret", "second-secret"):
            async with limiter(tmp_path / "rate.sqlite", key) as limit:
                await asyncio.wait_for(limit.acquire(), 1)

    asyncio.run(take_one_each())
    assert not [file for file in tmp_path.iterdir() if b"secret" in file.read_bytes()]


def test_a_clock_that_was_set_back_does_not_block_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_one() -> None:
        async with limiter(tmp_path / "rate.sqlite") as limit:
            await asyncio.wait_for(limit.acquire(), 1)

    real = time.time_ns
    with monkeypatch.context() as ahead:
        ahead.setattr("pyrate_limiter.buckets.sqlite_bucket.time_ns", lambda: real() + 3600 * 10**9)
        asyncio.run(take_one())
    asyncio.run(take_one())


def test_a_file_that_cannot_be_kept_is_named_with_the_way_out(tmp_path: Path) -> None:
    async def open_it(path: Path) -> None:
        async with limiter(path):
            pass

    (tmp_path / "file").write_text("no database, and in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "rate.sqlite"):
        with pytest.raises(ConfigurationError, match=r"file.*WEATHER_HOME"):
            asyncio.run(open_it(path))


def test_a_live_plan_is_limited_in_its_home_and_built_in_data_is_not(tmp_path: Path) -> None:
    def limit_of(provider: str) -> RateLimit | None:
        settings = Settings(
            _env_file=None, weather_provider=provider, openweather_api_key="k", weather_home=tmp_path
        )  # fmt: skip
        return build_provider(settings).service.rate_limit

    assert limit_of("openweather") == RateLimit(50, tmp_path / "live" / "rate.sqlite", 60)
    assert (limit_of("simulator"), limit_of("recorded")) == (None, None)
