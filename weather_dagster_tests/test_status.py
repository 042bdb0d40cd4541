"""What `weather status` and the metrics tell."""

from datetime import timedelta
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun
from prometheus_client import generate_latest

from weather_dagster.automation.instance import prepare_dagster_home, recorded_instance
from weather_dagster.automation.schedules import TRIGGER_TAG
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import load_locations
from weather_dagster.metrics import registry
from weather_dagster.settings import Settings
from weather_dagster.status import examine, place_statuses
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.warehouse.test_duckdb import PLACES, START, land, observation

LYON, OTHER = PLACES[:2]
RUNNING = START + 200 * HOUR
NOW = RUNNING + timedelta(minutes=30)


@pytest.fixture
def store(opened: Warehouse) -> Warehouse:
    return opened


def test_age_counts_from_the_end_of_the_newest_hour_and_shares_from_the_whole_hours_before_the_running_one(store):
    week = HourRange(RUNNING - 168 * HOUR, RUNNING - HOUR)
    land(store, [observation(hour, 10.0, place=LYON.id) for hour in week if hour != week.last - 2 * HOUR])
    (status,) = place_statuses(store, [LYON], NOW)
    assert status.newest_hour_utc == RUNNING - HOUR
    assert status.age == timedelta(minutes=30)
    assert (status.day_share, status.week_share) == (23 / 24, 167 / 168)


def test_the_running_hour_makes_it_fresh_and_no_more_complete(store):
    land(store, [observation(RUNNING, 10.0, place=LYON.id)])
    (status,) = place_statuses(store, [LYON], NOW)
    assert (status.age, status.day_share) == (timedelta(0), 0)


def test_an_hour_of_the_future_and_an_hour_without_a_temperature_are_no_news(store):
    land(
        store, [observation(RUNNING + HOUR, 10.0, place=LYON.id), observation(RUNNING - 5 * HOUR, 10.0, place=LYON.id)]
    )
    store.execute(
        "update bronze.observations set temperature_c = null where valid_hour_utc < $running", {"running": RUNNING}
    )
    (status,) = place_statuses(store, [LYON], NOW)
    assert (status.newest_hour_utc, status.age, status.week_share) == (None, None, 0)


def test_places_come_in_their_order_also_those_that_nothing_is_known_of(store):
    land(store, [observation(RUNNING - HOUR, 10.0, place=LYON.id)])
    assert [(s.location_id, s.day_share > 0) for s in place_statuses(store, [OTHER, LYON], NOW)] == [
        (OTHER.id, False),
        (LYON.id, True),
    ]


def test_status_and_metrics_of_an_empty_folder_make_no_store_and_no_dagster_home(clean_environment: Path) -> None:
    settings = Settings.load(_env_file=None)
    assert any("no warehouse" in fault for fault in examine(settings, NOW).faults)
    with recorded_instance(settings) as instance:
        assert instance is None
        generate_latest(registry(settings, instance))
    assert not settings.dagster_home_path.exists()
    assert not settings.duckdb_path.exists()


def test_old_weather_of_the_recording_is_no_fault_and_of_a_live_home_it_is(clean_environment: Path) -> None:
    hours = {"recorded": [], "simulator": ["the newest weather is older than 6 hours"]}
    for provider, expected in hours.items():
        settings = Settings.load(_env_file=None, weather_provider=provider)
        with open_warehouse(settings.duckdb_path) as store:
            for place in load_locations(settings.locations_path):
                land(store, [observation(RUNNING - 99 * HOUR, 10.0, place=place.id)])
        faults = examine(settings, NOW).faults
        assert [fault.split(" at ")[0] for fault in faults] == expected, provider


def test_a_daemon_that_is_off_is_a_fault_where_the_schedule_ran_before(clean_environment: Path) -> None:
    settings = Settings.load(_env_file=None)
    prepare_dagster_home(settings)
    with DagsterInstance.from_config(str(settings.dagster_home_path)) as instance:
        assert "Dagster's daemon" not in str(examine(settings, NOW).faults)
        instance.add_run(DagsterRun(job_name="hourly_weather", tags={TRIGGER_TAG: "schedule"}))
    assert "Dagster's daemon does not run" in str(examine(settings, NOW).faults)
