"""What reaches a person: the real daemon on a moved clock, a provider behind a port, and a receiver of alerts.

The tests of the daemon go on from each other: they are one stretch of hours in one home.
"""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import httpx
import psutil
import pytest
from dagster import DagsterEventType, DagsterInstance
from starlette.applications import Starlette
from starlette.routing import Route

from weather_dagster.alerts.book import State, open_book
from weather_dagster.hours import HOUR, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.partitions import partition_key
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster_tests.alerts.test_delivery import Receiver
from weather_dagster_tests.clock import Clock
from weather_dagster_tests.conftest import BIN, Provider, free_port, serving, without_settings
from weather_dagster_tests.test_dagster_dev import Dagster, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("alerting")]

START = floor_hour(utc_now()) + HOUR
MINUTE = timedelta(minutes=1)
SPEED = 6
"""A look of the alert sensor every five seconds, while a run has half a minute to start."""
WINDOW = timedelta(minutes=100)
LYON = next(place for place in load_locations() if place.id == "lyon")
IMPOSSIBLE = [
    Fault(kind="patch", place=(LYON.latitude, LYON.longitude), path=path, values={name: 999.0})
    for path, name in (
        ("/data/2.5/weather", "main.temp"),
        ("/data/2.5/history/city", "main.temp"),
        ("/api/v1/forecast", "temperature_2m"),
    )
]
STOP = """
mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename ... on PythonError { message } } }
"""
RUNNING_AGAIN = """
mutation { startSchedule(scheduleSelector: {
  repositoryLocationName: "weather", repositoryName: "__repository__", scheduleName: "hourly_weather"
}) { __typename ... on PythonError { message } } }
"""
SCHEDULE = """
query { scheduleOrError(scheduleSelector: {
  repositoryLocationName: "weather", repositoryName: "__repository__", scheduleName: "hourly_weather"
}) { ... on Schedule { scheduleState { id status } } } }
"""
IN_FLIGHT = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}


class Town:
    """A home, the clock of its processes, the provider it asks and the receiver of its alerts."""

    def __init__(self, folder: Path, clock: Clock, provider: Provider, receiver: Receiver) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.clock, self.provider, self.receiver = clock, provider, receiver
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **without_settings(),
            **provider.live,
            **clock.environment,
            "WEATHER_HOME": str(self.home),
            "WEATHER_START_HOUR": format_hour(START),
            "WEATHER_ALERT_URLS": receiver.url,
            "WEATHER_ALERT_WINDOW_MINUTES": str(WINDOW // MINUTE),
        }

    def start(self) -> None:
        """`weather dev`, until its alert sensor has looked once."""
        before = self.looks()
        with (self.home / "dev.log").open("ab") as output:
            self.process = subprocess.Popen(
                [BIN / "weather", "dev", "--port", str(self.port)],
                env=self.environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        wait_for(self.looks, lambda looks: looks > before, timeout=120)

    def kill(self) -> None:
        """End the daemon, and all that it started, as a power cut does."""
        assert self.process
        parent = psutil.Process(self.process.pid)
        for process in [parent, *parent.children(recursive=True)]:
            process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """End it as a person does."""
        if self.process:
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    @contextmanager
    def instance(self) -> Iterator[DagsterInstance]:
        with DagsterInstance.from_config(str(self.home / "live" / "dagster")) as instance:
            yield instance

    def looks(self) -> int:
        """How often the alert sensor has looked at things to the end."""
        if not (self.home / "live" / "dagster" / "schedules").exists():
            return 0
        with self.instance() as instance:
            (state,) = [s for s in instance.all_instigator_state() if s.instigator_name == "alerts"] or [None]
            if state is None:
                return 0
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
            failed = [tick.error for tick in ticks if tick.error]
            assert not failed, failed
            return sum(tick.is_completed for tick in ticks)

    def runs(self) -> list[dict[str, str]]:
        """Id, status and tags of the runs, the oldest first."""
        with self.instance() as instance:
            return [
                {"id": run.run_id, "status": run.status.value, **run.tags}
                for run in reversed(instance.get_runs(dg.RunsFilter()))
            ]

    def scheduled(self, hour: datetime) -> str | None:
        """Status of the run that the schedule asked for."""
        for run in self.runs():
            if run.get("weather/trigger") == "schedule" and run.get("dagster/partition") == partition_key(hour):
                return run["status"]
        return None

    def rest(self, looks: int = 2) -> None:
        """Wait until nothing runs, and all that ended was looked at."""
        wait_for(lambda: {run["status"] for run in self.runs()}, lambda told: not told & IN_FLIGHT, timeout=180)
        before = self.looks()
        wait_for(self.looks, lambda now: now >= before + looks, timeout=60)

    def live_through(self, hour: datetime) -> None:
        """Go on to the schedule's minute of an hour, and until its run has ended."""
        self.clock.set(hour + timedelta(minutes=4, seconds=50))
        wait_for(lambda: self.scheduled(hour), lambda told: told in ("SUCCESS", "FAILURE"), timeout=180)
        self.rest()

    def told(self) -> list[str]:
        """Titles of what the receiver got since the last time."""
        titles, self.receiver.received[:] = self.receiver.titles, []
        return titles


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    clock = Clock(folder / "clock.json", at=START)
    faults, receiver = Faults(), Receiver()
    inbox = Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])
    weather = create_app(faults=faults, clock=lambda: clock.now().timestamp())
    with serving(weather) as provider_port, serving(inbox) as receiver.port:
        town = Town(folder, clock, Provider(f"http://127.0.0.1:{provider_port}", faults), receiver)
        town.start()
        clock.run_at(SPEED)
        try:
            yield town
        finally:
            receiver.delay = 0
            town.stop()


def test_three_scheduled_hours_arrive_without_a_hand(town: Town) -> None:
    hours = [START + n * HOUR for n in range(3)]
    for hour in hours:
        town.live_through(hour)
    runs = town.runs()
    assert [(run["weather/trigger"], run["status"]) for run in runs] == [("schedule", "SUCCESS")] * 3
    with duckdb.connect(town.home / "live" / "warehouse.duckdb", read_only=True) as store:
        rows = store.execute(
            "select valid_hour_utc, count(*) from gold.hourly_weather group by all order by all"
        ).fetchall()
    assert [(floor_hour(hour), count) for hour, count in rows] == [(hour, 10) for hour in hours]
    assert town.told() == []


def test_an_impossible_temperature_is_told_once_summed_up_and_ended_once(town: Town) -> None:
    town.provider.faults.replace(IMPOSSIBLE)
    town.live_through(START + 3 * HOUR)
    (opened,) = town.receiver.received
    print(opened, town.runs())
    assert opened["title"].startswith("WARN: 2 problems, first check bronze/observations: completeness (lyon)")
    assert "999" in opened["message"]
    assert re.search(r"/runs/[0-9a-f-]{36}$", opened["message"])
    town.told()

    town.kill()
    town.start()
    town.live_through(START + 4 * HOUR)
    assert town.told() == []
    town.live_through(START + 5 * HOUR)
    (still,) = town.receiver.received
    print(still)
    assert still["title"].startswith("Still WARN: 2 problems")
    town.told()
    town.stop()
    town.start()
    town.live_through(START + 6 * HOUR)
    assert town.told() == []

    town.provider.faults.replace([])
    town.live_through(START + 7 * HOUR)
    (over,) = town.receiver.received
    print(over, town.runs())
    assert over["title"].startswith("Recovered: 2 problems")
    town.told()
