"""The sensors, on a real Dagster instance and a real store."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from dagster import DagsterInstance
from dagster._core.events import EngineEventData

from weather_dagster.alerts.book import open_book
from weather_dagster.automation.healing import BACK_OFF, MAX_TRIES
from weather_dagster.automation.sensors import look_for_holes
from weather_dagster.datasets import DATASETS
from weather_dagster.definitions import build_definitions
from weather_dagster.hours import HourRange, floor_hour
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.partitions import hours_of_run
from weather_dagster.settings import Settings
from weather_dagster.state import alerts_place
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster_tests.conftest import BIN

NOW = datetime(2026, 11, 25, 13, 20, tzinfo=UTC)
RUNNING = floor_hour(NOW)
LOOKED_AT = HourRange(RUNNING - timedelta(hours=3), RUNNING)
DOWNSTREAM = {"bronze/quarantine", "silver/observations", "gold/daily_weather", "report/weather_report"}


@cache
def definitions() -> dg.Definitions:
    """Made once: sensors read the settings at each look."""
    return build_definitions(Settings.load())


class Home:
    """A home with a Dagster instance, whose grid began three hours ago."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.instance = instance
        self.settings = Settings.load()
        self.definitions = definitions()
        self.repository = self.definitions.get_repository_def()

    def tick(self, sensor: str, now: datetime = NOW) -> dg.RunRequest | str:
        """The one run that a look of the sensor asks for, or why it asks for none."""
        with (
            time_machine.travel(now, tick=True),
            dg.build_sensor_context(instance=self.instance, repository_def=self.repository) as context,
        ):
            data = self.repository.get_sensor_def(sensor).evaluate_tick(context)
        if data.skip_message:
            return data.skip_message
        (request,) = data.run_requests or []
        return request

    def run(self, request: dg.RunRequest, status: dg.DagsterRunStatus, now: datetime) -> str:
        """A run as the daemon makes it of a request, that ended so."""
        with time_machine.travel(now, tick=True):
            run = self.instance.create_run_for_job(
                self.definitions.resolve_job_def(request.job_name or "hourly_weather"),
                run_config=request.run_config,
                tags={**request.tags, "dagster/run_key": request.run_key or ""},
                asset_selection=frozenset(request.asset_selection or ()),
                status=dg.DagsterRunStatus.STARTED,
            )
            if status is dg.DagsterRunStatus.FAILURE:
                self.instance.report_run_failed(run)
            elif status is dg.DagsterRunStatus.SUCCESS:
                event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, run.job_name)
                self.instance.report_dagster_event(event, run.run_id)
            return run.run_id

    def land(self, hours: HourRange = LOOKED_AT) -> None:
        """Land an hour range of everything, as `weather ingest` does."""
        api, places = WeatherApi.from_settings(self.settings), load_locations()
        for dataset in DATASETS.values():
            land_range(api, partial(open_warehouse, self.settings.duckdb_path), dataset, places, hours, run_id="r")

    def execute(self, sql: str) -> None:
        """Change the store."""
        with open_warehouse(self.settings.duckdb_path) as store:
            store.connection.execute(sql)


@pytest.fixture
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("WEATHER_START_HOUR", LOOKED_AT.first.strftime("%Y-%m-%dT%H:%M"))
    with dg.instance_for_test() as instance:
        yield Home(instance)


def heal(home: Home, now: datetime = NOW) -> dg.RunRequest:
    request = home.tick("heal_missing_hours", now)
    assert isinstance(request, dg.RunRequest), request
    return request


def test_a_new_clone_asks_for_its_look_back_as_one_run_of_everything(home: Home) -> None:
    request = heal(home)
    assert hours_of_run(request.tags) == LOOKED_AT
    assert (request.tags["weather/healing"], request.tags["weather/trigger"]) == ("true", "healing")
    assert request.run_config == {"resources": {"places": {"config": {"ids": []}}}}
    keys = {key.to_user_string() for key in request.asset_selection or ()}
    assert keys == {k.to_user_string() for k in home.definitions.resolve_asset_graph().executable_asset_keys}


def test_one_hole_is_asked_for_with_its_dataset_and_place_alone_and_all_that_follows(home: Home) -> None:
    home.land()
    home.execute(f"delete from bronze.observations where location_id = 'lyon' and valid_hour_utc = '{LOOKED_AT.first}'")
    request = heal(home)
    assert hours_of_run(request.tags) == HourRange(LOOKED_AT.first, LOOKED_AT.first)
    assert request.run_config == {"resources": {"places": {"config": {"ids": ["lyon"]}}}}
    keys = {key.to_user_string() for key in request.asset_selection or ()}
    assert keys >= {"bronze/observations", *DOWNSTREAM}
    assert not {"bronze/forecasts", "bronze/air_quality"} & keys


def test_a_whole_store_is_left_alone(home: Home) -> None:
    home.land()
    assert home.tick("heal_missing_hours") == "nothing is missing"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
@pytest.mark.parametrize("sensor", ["heal_missing_hours", "refresh_waiting_loads"])
def test_no_sensor_asks_for_a_run_while_one_is_in_flight(home: Home, sensor: str, status: dg.DagsterRunStatus) -> None:
    run = home.instance.create_run_for_job(home.definitions.resolve_job_def("hourly_weather"), status=status)
    told = home.tick(sensor)
    assert told == f"run {run.run_id} of hourly_weather is {status.value.lower()}"


def test_a_run_whose_process_is_gone_holds_nothing_up(home: Home) -> None:
    job = home.definitions.resolve_job_def("hourly_weather")
    run = home.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    home.instance.report_engine_event("started", run, EngineEventData({"pid": dg.MetadataValue.text(str(gone.pid))}))
    heal(home)
    ended = home.instance.get_run_by_id(run.run_id)
    assert ended
    assert ended.status is dg.DagsterRunStatus.FAILURE


def test_a_try_that_failed_is_repeated_later_with_another_key_and_in_the_end_given_up(home: Home) -> None:
    now, keys = NOW, set()
    for number in range(1, MAX_TRIES + 1):
        request = heal(home, now)
        assert hours_of_run(request.tags).first == LOOKED_AT.first
        keys.add(request.run_key)
        home.run(request, dg.DagsterRunStatus.FAILURE, now)
        told = "120 missing place-hours wait for their next try" if number == 1 else "wait for their next try"
        assert told in str(home.tick("heal_missing_hours", now)) or number == MAX_TRIES
        now += BACK_OFF[min(number, MAX_TRIES - 1)] + timedelta(minutes=2)
    assert len(keys) == MAX_TRIES
    report = look_for_holes(home.instance, home.settings, now).reports[0]
    assert {problem.subject for problem in report.problems} == {place.id for place in load_locations()}
    assert "given up after 4 tries, of which 4 failed and 0 brought nothing" in report.problems[0].text


def test_the_same_tick_repeated_after_a_crash_asks_with_the_same_key(home: Home) -> None:
    assert heal(home).run_key == heal(home, NOW + timedelta(seconds=50)).run_key


def test_a_store_that_another_process_holds_is_looked_at_again_later(home: Home) -> None:
    home.land()
    code = "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    held = [sys.executable, "-c", code, home.settings.duckdb_path]
    with subprocess.Popen(held, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        told = [home.tick("heal_missing_hours"), home.tick("refresh_waiting_loads")]
        holder.kill()
    assert all(isinstance(text, str) and "is locked by" in text for text in told), told


def test_without_a_store_nothing_is_refreshed(home: Home) -> None:
    told = home.tick("refresh_waiting_loads")
    assert str(told).startswith(f"there is no warehouse at {home.settings.duckdb_path} yet")


def test_a_broken_file_of_places_is_told_of_once_and_its_mending_too(
    home: Home, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.land()
    places = clean_environment / "places.yaml"
    places.write_text("locations: [", encoding="utf-8")
    monkeypatch.setenv("WEATHER_LOCATIONS", str(places))
    for minute in (0, 2):
        home.tick("alerts", NOW + timedelta(minutes=minute))
    with open_book(alerts_place(home.settings)) as book:
        (alert,) = [each for each in book.alerts(open_only=True) if each.source == "look at data"]
    assert str(places) in alert.text
    monkeypatch.delenv("WEATHER_LOCATIONS")
    home.tick("alerts", NOW + timedelta(minutes=4))
    with open_book(alerts_place(home.settings)) as book:
        assert not [each for each in book.alerts(open_only=True) if each.source == "look at data"]


def test_loads_that_dbt_has_not_seen_are_refreshed_and_a_failed_run_is_repeated_later(home: Home) -> None:
    home.land()
    request = home.tick("refresh_waiting_loads")
    assert isinstance(request, dg.RunRequest), request
    assert request.tags["weather/load"] == "3"
    assert not request.asset_selection, "the whole job"
    request = request.with_replaced_attrs(job_name="refresh_models")
    home.run(request, dg.DagsterRunStatus.FAILURE, NOW)
    told = home.tick("refresh_waiting_loads", NOW + timedelta(minutes=9))
    assert "load 3 still waits after run" in str(told)
    again = home.tick("refresh_waiting_loads", NOW + timedelta(minutes=11))
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != request.run_key
    home.run(request, dg.DagsterRunStatus.FAILURE, NOW + timedelta(minutes=11))
    assert "still waits" in str(home.tick("refresh_waiting_loads", NOW + timedelta(minutes=30)))
    home.land(HourRange(LOOKED_AT.first - timedelta(hours=1), LOOKED_AT.first))
    new = home.tick("refresh_waiting_loads", NOW + timedelta(minutes=30))
    assert isinstance(new, dg.RunRequest), "a new load is not held up by an old failure"


@pytest.mark.integration
def test_a_dbt_build_by_hand_leaves_no_load_waiting_and_one_that_was_cut_off_does(home: Home) -> None:
    home.land()
    build = [BIN / "weather-dbt", "build", "--exclude-resource-type", "unit_test"]
    subprocess.run([*build, "--select", "bronze+1"], check=True, capture_output=True)
    assert isinstance(home.tick("refresh_waiting_loads"), dg.RunRequest), "gold lags behind silver"
    subprocess.run(build, check=True, capture_output=True)
    assert home.tick("refresh_waiting_loads") == "no load waits"
    home.land(HourRange(LOOKED_AT.first - timedelta(days=40), LOOKED_AT.first - timedelta(days=40)))
    assert isinstance(home.tick("refresh_waiting_loads"), dg.RunRequest)
    subprocess.run(build, check=True, capture_output=True)
    assert home.tick("refresh_waiting_loads") == "no load waits", "an old hour is taken on too"
