"""What reaches a person: the real daemon on a moved clock, a provider behind a port, and a receiver of alerts.

The tests of the daemon go on from each other: they are one stretch of hours in one home.
"""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import psutil
import pytest
import time_machine
from dagster import DagsterEventType, DagsterInstance
from starlette.applications import Starlette
from starlette.routing import Route

from weather_dagster.alerts.book import State, open_book
from weather_dagster.assets.bronze import bronze_key
from weather_dagster.automation.local_run import QUIET
from weather_dagster.automation.schedules import HEALING, TRIGGER_TAG
from weather_dagster.automation.sensors import HEALING_TAG
from weather_dagster.datasets import DATASETS
from weather_dagster.definitions import build_definitions
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.partitions import partition_key, range_tags
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.state import alerts_place
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.alerts.test_delivery import Receiver
from weather_dagster_tests.clock import Clock
from weather_dagster_tests.conftest import BIN, Provider, free_port, serving, without_settings
from weather_dagster_tests.test_dagster_dev import Dagster, wait_for

pytestmark = pytest.mark.integration

START = floor_hour(utc_now()).replace(hour=5) + timedelta(days=1)
"""Ahead of the real time, and after the nightly retention, so that whenever the tests begin no other run comes."""
MINUTE = timedelta(minutes=1)
SPEED = 6
"""A look of the alert sensor every five seconds, while a run has half a minute to start."""
WINDOW = timedelta(minutes=100)
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
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
        processes = [parent, *parent.children(recursive=True)]
        # All at once: a daemon that outlives the code server by a moment would note that it is gone.
        for process in processes:
            process.suspend()
        for process in processes:
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
        """Wait until nothing runs, and all that ended was looked at, and nothing came of that."""
        is_over = False
        while not is_over:
            wait_for(self.is_idle, bool, timeout=180)
            before = self.looks()
            wait_for(self.looks, lambda now, before=before: now >= before + looks, timeout=60)
            is_over = self.is_idle()

    def is_idle(self) -> bool:
        """Whether no run is in flight."""
        return not {run["status"] for run in self.runs()} & IN_FLIGHT

    def live_through(self, hour: datetime) -> None:
        """Go on to the schedule's minute of an hour, and until its run has ended."""
        self.clock.set(hour + timedelta(minutes=4, seconds=50))
        wait_for(lambda: self.scheduled(hour), lambda told: told in ("SUCCESS", "FAILURE"), timeout=180)
        self.rest()

    def kill_run(self, run_id: str) -> None:
        """End the process of a run."""
        with self.instance() as instance:
            records = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records
        events = [record.event_log_entry.dagster_event for record in records]
        pids = [
            event.engine_event_data.metadata["pid"] for event in events if "pid" in event.engine_event_data.metadata
        ]
        psutil.Process(int(str(next(filter(None, pids)).value))).kill()

    def deliveries(self) -> dict[State, int]:
        """How many deliveries stand where."""
        with open_book(self.home / "live" / "alerts.sqlite") as book:
            return book.deliveries()

    def told(self) -> list[str]:
        """Titles of what the receiver got since the last time."""
        titles, self.receiver.received[:] = self.receiver.titles, []
        return titles


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver of alerts on a port."""
    receiver = Receiver()
    with serving(Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])) as receiver.port:
        yield receiver


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    clock = Clock(folder / "clock.json", at=START)
    faults = Faults()
    weather = create_app(faults=faults, clock=lambda: clock.now().timestamp())
    with serving(weather) as provider_port, receiving() as receiver:
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
    assert opened["title"] == "WARN: check bronze/observations: quarantine_share (lyon)"
    for part in (format_hour(START + 3 * HOUR), "temperature_c is 999, outside -95 to 60"):
        assert part in opened["message"]
    assert opened["message"].endswith(f"/runs/{town.runs()[-1]['id']}")
    town.told()

    town.kill()
    town.start()
    town.live_through(START + 4 * HOUR)
    assert town.told() == []
    town.stop()
    town.start()
    town.live_through(START + 5 * HOUR)
    (still,) = town.receiver.received
    assert still["title"] == "Still WARN: check bronze/observations: quarantine_share (lyon)"
    assert "found 2 times" in still["message"]
    town.told()

    town.provider.faults.replace([])
    town.live_through(START + 6 * HOUR)
    (over,) = town.receiver.received
    assert over["title"] == "Recovered: check bronze/observations: quarantine_share (lyon)"
    assert "found 3 times" in over["message"]
    town.told()


def test_neither_a_receiver_that_is_down_nor_a_kill_during_delivery_loses_or_doubles_a_message(town: Town) -> None:
    hour = START + 7 * HOUR
    town.receiver.status = 503
    town.provider.faults.replace([Fault(kind="slow", seconds=20)])
    town.clock.set(hour + timedelta(minutes=4, seconds=50))
    wait_for(lambda: town.scheduled(hour), lambda status: status == "STARTED", timeout=120)
    town.kill_run(town.runs()[-1]["id"])
    town.provider.faults.replace([])
    wait_for(lambda: town.scheduled(hour), lambda status: status == "FAILURE", timeout=120)
    town.rest()
    dagster = Dagster(town.port)
    state = dagster.ask(SCHEDULE)["scheduleOrError"]["scheduleState"]
    assert "ScheduleStateResult" in str(dagster.ask(STOP, id=state["id"]))
    town.rest()
    assert town.told() == []
    assert town.deliveries()[State.PENDING] == 2

    town.clock.jump(10 * MINUTE)
    town.rest()
    assert town.told() == []
    town.receiver.status, town.receiver.delay = 200, 12
    town.clock.jump(10 * MINUTE)
    wait_for(lambda: town.receiver.titles, bool, timeout=60)
    town.kill()
    assert town.deliveries()[State.SENDING] == 1
    town.receiver.delay = 0
    town.start()
    town.clock.jump(10 * MINUTE)
    town.rest()
    assert town.receiver.titles == ["ERROR: run hourly_weather", "WARN: automation hourly_weather"]
    crashed, stopped = town.receiver.received
    # Dagster's monitor and our own look at dead runs come in no fixed order.
    assert "signal 9" in crashed["message"] or "The process of this run is gone" in crashed["message"]
    assert "hourly_weather is stopped" in stopped["message"]
    assert town.deliveries()[State.UNKNOWN] == 1
    town.told()

    assert "ScheduleStateResult" in str(Dagster(town.port).ask(RUNNING_AGAIN))
    town.rest()
    assert town.told() == ["Recovered: automation hourly_weather"]
    town.live_through(floor_hour(town.clock.now()) + HOUR)
    assert town.told() == ["Recovered: run hourly_weather"]


class Desk:
    """Runs of bronze in this process at any time, and the alert sensor over them."""

    def __init__(self, instance: DagsterInstance, provider: Provider, receiver: Receiver) -> None:
        self.instance, self.provider, self.receiver = instance, provider, receiver
        self.settings = Settings.load()
        self.definitions = build_definitions(self.settings)
        self.repository = self.definitions.get_repository_def()
        self.job = self.definitions.resolve_job_def("hourly_weather")
        self.cursor: str | None = None

    def run(self, hours: HourRange, at: datetime, **tags: str) -> dg.ExecuteInProcessResult:
        """Bronze and its checks, as a run that began at an instant."""
        with time_machine.travel(at, tick=True):
            return self.job.execute_in_process(
                run_config=QUIET,
                instance=self.instance,
                raise_on_error=False,
                tags={**range_tags(hours), **tags},
                asset_selection=[bronze_key(dataset) for dataset in DATASETS.values()],
            )

    def look(self, at: datetime) -> list[str]:
        """Titles of what arrives when the sensor looks at an instant."""
        with (
            time_machine.travel(at, tick=True),
            dg.build_sensor_context(
                instance=self.instance, repository_def=self.repository, cursor=self.cursor
            ) as context,
        ):
            self.cursor = self.repository.get_sensor_def("alerts").evaluate_tick(context).cursor
        titles, self.receiver.received[:] = self.receiver.titles, []
        return titles

    def live_through(self, hour: datetime, **tags: str) -> list[str]:
        """The run of an hour at its fifth minute, and looks until the sensor takes old data for old."""
        self.run(HourRange(hour, hour), hour + 5 * MINUTE, **tags)
        return [title for minute in (6, 10, 14, 17) for title in self.look(hour + minute * MINUTE)]

    def open(self) -> set[tuple[str, str]]:
        """Source and subject of what lasts."""
        with open_book(alerts_place(self.settings)) as book:
            return {(alert.source, alert.subject) for alert in book.alerts(open_only=True)}

    def execute(self, sql: str) -> None:
        """Change the store."""
        with open_warehouse(self.settings.duckdb_path) as store:
            store.connection.execute(sql)


@pytest.fixture
def desk(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[Desk]:
    with receiving() as receiver, dg.instance_for_test() as instance:
        for name, value in {
            **provider.live,
            "WEATHER_START_HOUR": format_hour(NOON - 12 * HOUR),
            "WEATHER_ALERT_URLS": receiver.url,
            "WEATHER_ALERT_WINDOW_MINUTES": "180",
        }.items():
            monkeypatch.setenv(name, value)
        desk = Desk(instance, provider, receiver)
        desk.look(NOON - HOUR)
        desk.run(HourRange(NOON - 12 * HOUR, NOON - HOUR), NOON - 50 * MINUTE)
        assert desk.look(NOON - 45 * MINUTE) == []
        yield desk


def test_eight_hours_without_a_temperature_at_one_place_are_one_message_two_summaries_and_an_end(desk: Desk) -> None:
    desk.provider.faults.replace(IMPOSSIBLE)
    told = {n: titles for n in range(8) if (titles := desk.live_through(NOON + n * HOUR))}
    share = "check bronze/observations: quarantine_share"
    assert told.pop(0) == [f"WARN: {share} (lyon)"]
    assert told == {3: [f"Still WARN: {share} (lyon)"], 6: [f"Still WARN: {share} (lyon)"]}
    # Known, and no news: the place has had no weather for longer than its limit of an error.
    assert desk.open() == {(share, "lyon"), ("check bronze/observations: weather_recently", "lyon")}

    old = HourRange(NOON - 12 * HOUR, NOON - 6 * HOUR)
    desk.provider.faults.replace([])
    assert desk.run(old, NOON + 7 * HOUR + 20 * MINUTE).success
    ahead = f"'{NOON + 10 * HOUR}'::timestamptz"
    desk.execute(f"""
        insert into bronze.observations
        select * replace ({ahead} as valid_hour_utc, {ahead} as observed_at_utc, 20 as temperature_c)
        from bronze.observations
        where location_id = 'lyon' and valid_hour_utc = '{NOON}'
    """)
    assert desk.look(NOON + 7 * HOUR + 21 * MINUTE) == []
    assert len(desk.open()) == 2, "neither good old hours nor one of the future end anything"
    (over,) = desk.live_through(NOON + 8 * HOUR)
    assert over.startswith("Recovered: ")
    assert desk.open() == set()


def test_a_provider_that_repeats_itself_is_one_message_however_often_healing_tries(desk: Desk) -> None:
    desk.provider.faults.replace([Fault(kind="patch", values={"dt": int((NOON - HOUR).timestamp())})])
    first = desk.run(HourRange(NOON, NOON), NOON + 5 * MINUTE)
    assert first.success, "an ERROR that blocks nothing"
    (opened,) = desk.look(NOON + 6 * MINUTE)
    assert opened.startswith("ERROR: ")
    told = []
    for n in range(4):
        hour = NOON + n * HOUR
        desk.run(HourRange(NOON, hour), hour + 20 * MINUTE, **{TRIGGER_TAG: HEALING, HEALING_TAG: "true"})
        told += desk.look(hour + 22 * MINUTE) + desk.live_through(hour + HOUR)
    assert [title.split(":")[0] for title in told] == ["Still ERROR"]
    sources = {source for source, _ in desk.open()}
    assert {"check bronze/observations: weather_recently", "healing observations"} <= sources, "they follow from it"

    desk.provider.faults.replace([])
    given_up, over = sorted(desk.live_through(NOON + 5 * HOUR))
    assert over.startswith("Recovered: 5 problems"), over
    assert given_up.startswith("ERROR: 3 problems, first healing air_quality"), given_up


def test_a_blocking_failure_is_told_by_its_check_alone(desk: Desk) -> None:
    hours = HourRange(NOON, NOON)
    desk.run(hours, NOON + 5 * MINUTE)
    assert desk.look(NOON + 6 * MINUTE) == []
    desk.execute(
        f"update bronze.observations set temperature_c = 999 where location_id = 'lyon' and valid_hour_utc = '{NOON}'"
    )
    assert not desk.run(hours, NOON + 7 * MINUTE).success
    assert desk.look(NOON + 8 * MINUTE) == ["ERROR: check bronze/observations: plausible_limits (lyon)"]
    for minute in (12, 16, 20):
        assert desk.look(NOON + minute * MINUTE) == []
