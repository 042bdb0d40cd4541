"""People are told: the real daemon on a clock that the test moves, a served provider, and a receiver over HTTP."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterInstance
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weather_dagster.automation.local_run import WORKSPACE_FILE
from weather_dagster.hours import HOUR, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster_tests.automation.test_downtime import weather_dev
from weather_dagster_tests.clock import Clock
from weather_dagster_tests.conftest import BIN, KEY, serving, without_settings
from weather_dagster_tests.test_dagster_dev import wait_for

pytestmark = pytest.mark.integration

START = floor_hour(utc_now()) + HOUR
MINUTE = timedelta(minutes=1)
TICK = timedelta(seconds=31)
"""A little more than the alert sensor's interval."""
LYON = next(place for place in load_locations() if place.id == "lyon")
IMPOSSIBLE = [
    Fault(kind="patch", path=path, place=(LYON.latitude, LYON.longitude), values={"main.temp": 999.0})
    for path in ("/data/2.5/weather", "/data/2.5/history/city")
]


@dataclass
class Receiver:
    """Where alerts arrive."""

    status: int = 200
    delay: float = 0
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        body = await request.json()
        if self.status == 200:
            self.titles.append(body["title"])
            self.texts.append(body["message"])
        await asyncio.sleep(self.delay)
        return Response(status_code=self.status)

    def count(self, word: str) -> int:
        return sum(title.startswith(word) for title in self.titles)


@dataclass
class World:
    """A live home, its provider, its receiver and the clock that all of them follow."""

    home: Path
    environment: dict[str, str]
    clock: Clock
    faults: Faults
    receiver: Receiver

    @property
    def runs(self) -> list[dg.DagsterRun]:
        folder = self.home / "live" / "dagster"
        if not (folder / "history").exists():
            return []
        with DagsterInstance.from_config(str(folder)) as instance:
            return list(reversed(instance.get_runs()))

    def hour_arrives(self, hour: datetime) -> None:
        """Put the clock to six past the hour and wait until its run has ended well and the alerts were looked at."""
        self.clock.set(hour + 6 * MINUTE)
        key = hour.strftime("%Y-%m-%d-%H:%M")

        def status() -> list[str]:
            return [run.status.value for run in self.runs if run.tags.get("dagster/partition") == key]

        wait_for(status, lambda told: told == ["SUCCESS"], timeout=200)
        self.look()

    def look(self) -> None:
        """Let the alert sensor tick, twice: the first one may have begun before."""
        for _ in range(2):
            before = self.ticks()
            self.clock.jump(TICK)
            wait_for(self.ticks, lambda count, before=before: count > before, timeout=60)

    @contextmanager
    def dev(self) -> Iterator[None]:
        """`weather dev`, once its daemon has looked around."""
        before = self.ticks()
        with weather_dev(self.environment):
            wait_for(self.ticks, lambda count: count > before, timeout=120)
            yield

    def ticks(self) -> int:
        """How often the alert sensor has ended a tick."""
        folder = self.home / "live" / "dagster"
        if not (folder / "schedules").exists():
            return 0
        with DagsterInstance.from_config(str(folder)) as instance:
            return sum(
                tick.status.value in ("SKIPPED", "SUCCESS")
                for sensor in instance.all_instigator_state()
                if sensor.instigator_name == "alerts"
                for tick in instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id)
            )

    def switch(self, word: str) -> None:
        """Stop or start the schedule, as the UI does."""
        home = str(self.home / "live" / "dagster")
        subprocess.run(
            [BIN / "dagster", "schedule", word, "hourly_weather", "-w", WORKSPACE_FILE, "-l", "weather"],
            env={**self.environment, "DAGSTER_HOME": home}, check=True, capture_output=True,
        )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    home = tmp_path / "home"
    home.mkdir()
    clock = Clock(tmp_path / "clock.json", at=START + 3 * MINUTE)
    faults, receiver = Faults(), Receiver()
    provider = create_app(faults=faults, clock=lambda: clock.now().timestamp())
    hook = Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])
    with serving(provider) as port, serving(hook) as hook_port:
        environment = {
            **without_settings(),
            **clock.environment,
            "WEATHER_HOME": str(home),
            "WEATHER_PROVIDER": "openweather",
            "WEATHER_START_HOUR": format_hour(START),
            "WEATHER_ALERT_URLS": f"json://127.0.0.1:{hook_port}/secret-token",
            "WEATHER_ALERT_WINDOW_MINUTES": "150",
            "OPENWEATHER_API_KEY": KEY,
            "OPENWEATHER_PLAN": "professional",
            "OPENWEATHER_BASE_URL": f"http://127.0.0.1:{port}",
            "OPEN_METEO_BASE_URL": f"http://127.0.0.1:{port}",
        }
        yield World(home, environment, clock, faults, receiver)


def test_hours_arrive_by_themselves_and_what_is_wrong_is_told_once_whatever_happens_meanwhile(world: World) -> None:
    receiver = world.receiver

    # Hours arrive without a hand, and all is well.
    with world.dev():
        for hour in range(3):
            world.hour_arrives(START + hour * HOUR)
        assert receiver.titles == []
        assert {run.tags["weather/trigger"] for run in world.runs} == {"schedule"}

        # A place reports an impossible temperature: one message, with place, value, limit and run.
        world.faults.replace(IMPOSSIBLE)
        world.hour_arrives(START + 3 * HOUR)
        (title,) = receiver.titles
        assert title == "WARN: check bronze/observations: quarantine_share (lyon)"
        assert "999" in receiver.texts[0]
        assert f"/runs/{world.runs[-1].run_id}" in receiver.texts[0]

    # It lasts, over a restart of everything: no second message, but one summary a window.
    with world.dev():
        world.hour_arrives(START + 4 * HOUR)
        world.hour_arrives(START + 5 * HOUR)
        assert receiver.count("WARN") == 1
        assert receiver.count("Still") == 0
        world.hour_arrives(START + 6 * HOUR)
        assert receiver.count("Still WARN") == 1
        assert "found 4 times" in receiver.texts[-1]

        # The receiver is down for ten minutes while another thing begins: it arrives afterwards, once.
        receiver.status = 503
        world.switch("stop")
        for _ in range(10):
            world.look()
        receiver.status = 200
        for _ in range(10):
            world.look()
        assert receiver.titles[2:] == ["WARN: automation hourly_weather"]
        world.switch("start")
        world.look()
        assert receiver.titles[3:] == ["Recovered: automation hourly_weather"]

        # It is over; everything is killed while the receiver holds the message.
        world.faults.replace([])
        receiver.delay = 60
        world.clock.set(START + 7 * HOUR + 6 * MINUTE)
        wait_for(_tick_until(world, lambda: receiver.count("Recovered")), lambda count: count == 2, timeout=200)
        _kill(world)
        receiver.delay = 0

    # The message is not sent twice, and nothing else is told.
    with world.dev():
        for _ in range(6):
            world.look()
        assert receiver.titles[4:] == ["Recovered: check bronze/observations: quarantine_share (lyon)"]
    assert not any(KEY in text or "secret-token" in text for text in receiver.texts)
    written = [path for path in world.home.rglob("*") if path.is_file()]
    assert not [path for path in written if KEY.encode() in path.read_bytes() or b"secret-token" in path.read_bytes()]


def _tick_until(world: World, ask: Callable[[], int]) -> Callable[[], int]:
    """Moves the clock on between two questions."""

    def asking() -> int:
        if all(run.is_finished for run in world.runs):
            world.clock.jump(TICK)
        time.sleep(1)
        return ask()

    return asking


def _kill(world: World) -> None:
    """``kill -9`` of `weather dev` and all that it started."""
    import psutil

    for process in psutil.process_iter(["environ"]):
        environ: dict[str, Any] = process.info["environ"] or {}
        if environ.get("WEATHER_HOME") == str(world.home) and process.pid != os.getpid():
            process.send_signal(signal.SIGKILL)
