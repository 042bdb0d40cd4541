"""What `weather status` and the metrics tell."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from weather_dagster.hours import HOUR, HourRange
from weather_dagster.status import place_statuses
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster_tests.warehouse.test_duckdb import PLACES, START, land, observation

LYON, OTHER = PLACES[:2]
RUNNING = START + 200 * HOUR
NOW = RUNNING + timedelta(minutes=30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBWarehouse]:
    with open_warehouse(tmp_path / "w.duckdb") as warehouse:
        yield warehouse


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
    store.connection.execute("update bronze.observations set temperature_c = null where valid_hour_utc < ?", [RUNNING])
    (status,) = place_statuses(store, [LYON], NOW)
    assert (status.newest_hour_utc, status.age, status.week_share) == (None, None, 0)


def test_places_come_in_their_order_also_those_that_nothing_is_known_of(store):
    land(store, [observation(RUNNING - HOUR, 10.0, place=LYON.id)])
    assert [(s.location_id, s.day_share > 0) for s in place_statuses(store, [OTHER, LYON], NOW)] == [
        (OTHER.id, False),
        (LYON.id, True),
    ]
