"""The two clocks of freshness on a store of each engine: what keeps them going, what cannot set them, who is late."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from dagster import AssetCheckSeverity

from weather_dagster.checks.freshness import FRESHNESS, fetched_recently, weather_recently
from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS, Dataset, payload_hash
from weather_dagster.hours import HOUR, HourRange, floor_hour
from weather_dagster.ingest import land_range
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.base import Load, Warehouse
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.providers import build_providers
from weather_dagster_tests.conftest import KEY
from weather_dagster_tests.records import to_arrow
from weather_dagster_tests.warehouse.test_duckdb import PLACES, START, observation

MINUTE = timedelta(minutes=1)
NOW = START + 5 * MINUTE
LYON, NEW_YORK = PLACES[:2]
TWO = (LYON, NEW_YORK)
ERROR, WARN = AssetCheckSeverity.ERROR, AssetCheckSeverity.WARN


@pytest.fixture
def store(opened: Warehouse) -> Warehouse:
    return opened


def land(
    store: Warehouse,
    hour: datetime,
    at: datetime,
    *,
    temperature: float | None = 10.0,
    places: Sequence[Location] = TWO,
    told: Sequence[Location] | None = None,
    observed_at: datetime | None = None,
) -> None:
    """Land an hour of places at an instant; ``told`` are the places that the landing knows of."""
    rows = [observation(hour, temperature, place=place.id, observed_at=observed_at) for place in places]  # type: ignore[arg-type]
    store.land(Load(
        OBSERVATIONS, to_arrow(OBSERVATIONS, rows), (), places if told is None else told,
        provider="simulator", hours=HourRange(hour, hour), run_id="r", now=at,
    ))  # fmt: skip


def land_forecast(store: Warehouse, issued: datetime, at: datetime, lead: timedelta = 24 * HOUR) -> None:
    values = [5.0, *[None] * (len(FORECASTS.quantities) - 1)]
    valid = int((issued + lead).timestamp())
    rows = [
        ("simulator", "/data/2.5/forecast", place.id, int(issued.timestamp()), valid, *values, 3, 800, None, "{}",
         payload_hash(valid, values), 1)
        for place in TWO
    ]  # fmt: skip
    store.land(Load(
        FORECASTS, to_arrow(FORECASTS, rows), (), TWO,
        provider="simulator", hours=HourRange(issued, issued), run_id="r", now=at,
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("age", "passed", "severity"),
    [
        (2.5 * HOUR, True, WARN),
        (2.5 * HOUR + timedelta(microseconds=1), False, WARN),
        (6 * HOUR, False, WARN),
        (6 * HOUR + timedelta(microseconds=1), False, ERROR),
    ],
)
def test_fetching_warns_beyond_two_and_a_half_hours_and_is_an_error_beyond_six(
    store: Warehouse, age: timedelta, passed: bool, severity: AssetCheckSeverity
) -> None:
    land(store, START, NOW)
    outcome = fetched_recently(store, OBSERVATIONS, TWO, NOW + age)
    assert (outcome.passed, outcome.severity) == (passed, severity)


@pytest.mark.parametrize(
    ("age", "passed", "severity"),
    [
        (3 * HOUR, True, WARN),
        (3 * HOUR + timedelta(microseconds=1), False, WARN),
        (6 * HOUR, False, WARN),
        (6 * HOUR + timedelta(microseconds=1), False, ERROR),
    ],
)
def test_weather_warns_beyond_three_hours_and_is_an_error_beyond_six(
    store: Warehouse, age: timedelta, passed: bool, severity: AssetCheckSeverity
) -> None:
    land(store, START, NOW)
    outcome = weather_recently(store, OBSERVATIONS, TWO, START + age)
    assert (outcome.passed, outcome.severity) == (passed, severity)


def test_a_late_place_is_named_with_hour_age_and_limit_and_the_others_are_not(store: Warehouse) -> None:
    land(store, START, NOW)
    land(store, START + 7 * HOUR, NOW + 7 * HOUR, places=[NEW_YORK], told=TWO)
    outcome = fetched_recently(store, OBSERVATIONS, TWO, NOW + 7 * HOUR)
    assert outcome.description == "1 of 2 places are fresh, limit 2.5 h; late: lyon (7 h old)"
    assert outcome.metadata["places"].data == ["lyon"]
    (row,) = outcome.metadata["late_places"].records
    assert row.data == {"place": "lyon", "hour": "2026-03-01T00:05", "value": "7 h old", "limit": "6 h"}


def test_a_backfill_of_old_hours_keeps_no_clock_going(store: Warehouse) -> None:
    land(store, START, NOW)
    now = NOW + 10 * HOUR
    land(store, START + HOUR, now)
    land(store, START - 48 * HOUR, now)
    for check in (fetched_recently, weather_recently):
        outcome = check(store, OBSERVATIONS, TWO, now)
        assert (outcome.passed, outcome.severity) == (False, ERROR), check.__name__
    assert outcome.metadata["oldest_hours"] == pytest.approx(9 + 5 / 60), "the weather of the hour that was filled"


@pytest.mark.parametrize(("delay", "passed"), [(2 * HOUR, True), (2 * HOUR + timedelta(seconds=1), False)])
def test_a_row_counts_as_fetched_in_time_within_two_hours_of_its_hour(
    store: Warehouse, delay: timedelta, passed: bool
) -> None:
    land(store, START, START + delay)
    assert fetched_recently(store, OBSERVATIONS, TWO, START + delay).passed is passed


def test_a_row_of_an_hour_to_come_keeps_no_clock_going(store: Warehouse) -> None:
    land(store, START, NOW)
    now = NOW + 10 * HOUR
    land(store, floor_hour(now) + HOUR, now)
    for check in (fetched_recently, weather_recently):
        assert check(store, OBSERVATIONS, TWO, now).metadata["late"] == 2, check.__name__


def test_a_row_from_the_future_of_the_clock_keeps_none_going(store: Warehouse) -> None:
    land(store, START, NOW)
    land(store, START + 8 * HOUR, NOW + 8 * HOUR)
    now = NOW + 7 * HOUR
    assert fetched_recently(store, OBSERVATIONS, TWO, now).metadata["oldest_hours"] == 7
    assert weather_recently(store, OBSERVATIONS, TWO, now).metadata["oldest_hours"] == pytest.approx(7 + 5 / 60)


def test_an_hour_without_its_main_value_is_fetched_but_tells_no_weather(store: Warehouse) -> None:
    land(store, START, NOW)
    now = NOW + 7 * HOUR
    land(store, START + 7 * HOUR, now, temperature=None)
    assert fetched_recently(store, OBSERVATIONS, TWO, now).passed
    assert weather_recently(store, OBSERVATIONS, TWO, now).severity == ERROR


def test_one_reading_that_counts_for_two_hours_is_as_old_as_itself(store: Warehouse) -> None:
    reading = START - 20 * MINUTE
    for hour in (START - HOUR, START):
        land(store, hour, hour + 5 * MINUTE, observed_at=reading)
    assert not weather_recently(store, OBSERVATIONS, TWO, reading + 3 * HOUR + MINUTE).passed


def test_a_forecast_goes_by_the_hour_of_its_issue_however_far_it_looks(store: Warehouse) -> None:
    land_forecast(store, START, NOW)
    assert set(FRESHNESS[FORECASTS.name]) == {"fetched_recently"}
    assert fetched_recently(store, FORECASTS, TWO, NOW + 2 * HOUR).passed
    assert fetched_recently(store, FORECASTS, TWO, NOW + 7 * HOUR).severity == ERROR
    land_forecast(store, START - 24 * HOUR, NOW + 7 * HOUR, lead=5 * 24 * HOUR)
    assert not fetched_recently(store, FORECASTS, TWO, NOW + 7 * HOUR).passed, "an old vintage that came late"


def test_a_place_that_runs_know_and_that_never_had_a_row_fails_by_name(store: Warehouse) -> None:
    land(store, START, NOW, places=[LYON], told=TWO)
    now = NOW + 3 * HOUR
    land(store, START + 2 * HOUR, now, places=[LYON], told=TWO)
    for check in (fetched_recently, weather_recently):
        outcome = check(store, OBSERVATIONS, TWO, now)
        assert outcome.severity == ERROR
        assert outcome.metadata["places"].data == ["new_york"]
        assert "within 7 days" in outcome.metadata["late_places"].records[0].data["value"]


@pytest.mark.parametrize(("wait", "passed"), [(2.5 * HOUR, True), (2.5 * HOUR + timedelta(seconds=1), False)])
def test_a_place_added_just_now_has_grace_until_runs_have_known_it_for_two_and_a_half_hours(
    store: Warehouse, wait: timedelta, passed: bool
) -> None:
    land(store, START, NOW, places=[LYON])
    outcome = fetched_recently(store, OBSERVATIONS, TWO, NOW)
    assert outcome.passed
    assert outcome.description == "1 of 1 places are fresh, limit 2.5 h; without a first run yet: new_york"
    land(store, START + HOUR, NOW + HOUR, places=[LYON], told=TWO)
    land(store, START + 2 * HOUR, NOW + 2 * HOUR, places=[LYON], told=TWO)
    assert fetched_recently(store, OBSERVATIONS, TWO, NOW + HOUR + wait).passed is passed


def test_a_place_whose_last_row_is_long_ago_is_late_and_not_new(store: Warehouse) -> None:
    land(store, START, NOW)
    outcome = weather_recently(store, OBSERVATIONS, TWO, NOW + 100 * 24 * HOUR)
    assert outcome.severity == ERROR
    assert outcome.metadata["late"] == 2


def test_a_place_that_left_the_file_is_watched_no_more(store: Warehouse) -> None:
    land(store, START, NOW)
    land(store, START + 7 * HOUR, NOW + 7 * HOUR, places=[LYON])
    assert fetched_recently(store, OBSERVATIONS, [LYON], NOW + 7 * HOUR).passed


def test_a_dataset_that_nobody_offers_passes_and_says_so(store: Warehouse) -> None:
    for dataset in DATASETS.values():
        for check in FRESHNESS[dataset.name].values():
            outcome = check(store, dataset, (), NOW)
            assert outcome.passed
            assert outcome.description == "no provider offers this dataset"


def test_an_empty_store_has_no_place_that_is_late(store: Warehouse) -> None:
    outcome = fetched_recently(store, AIR_QUALITY, TWO, NOW)
    assert outcome.passed
    assert "without a first run yet: lyon, new_york" in outcome.description


class Live:
    """A live account at the simulated service, fetched hour by hour at minute 5."""

    def __init__(self, home: Path) -> None:
        self.now = NOW
        self.faults = Faults()
        settings = Settings.load(
            _env_file=None, weather_home=home, weather_provider="openweather", openweather_plan="free",
            openweather_api_key=KEY, openweather_base_url="http://openweather", open_meteo_base_url="http://open-meteo",
        )  # fmt: skip
        app = create_app(faults=self.faults, clock=lambda: self.now.timestamp())
        providers = [dataclasses.replace(provider, app=app) for provider in build_providers(settings)]
        self.api = WeatherApi(providers, clock=lambda: self.now)
        self.warehouse = partial(open_warehouse, settings.duckdb_path)

    def fetch(self, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        hour = floor_hour(self.now)
        monkeypatch.setattr("weather_dagster.ingest.utc_now", lambda: self.now)
        land_range(self.api, self.warehouse, dataset, TWO, HourRange(hour, hour), run_id="r")


def test_a_provider_that_is_frozen_at_one_place_makes_that_place_late(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = Live(clean_environment)
    severities = []
    for hour in range(9):
        live.now = NOW + hour * HOUR
        if hour:
            # Whenever it is asked, Lyon has the time of the first answer.
            frozen = Fault(kind="stale", place=(LYON.latitude, LYON.longitude), seconds=hour * 3600)
            live.faults.replace([frozen])
        live.fetch(OBSERVATIONS, monkeypatch)
        with live.warehouse() as store:
            outcome = weather_recently(store, OBSERVATIONS, TWO, live.now)
        severities.append(None if outcome.passed else outcome.severity)
        if not outcome.passed:
            assert outcome.metadata["places"].data == ["lyon"]
    assert severities == [None, None, None, *[WARN] * 3, *[ERROR] * 3]
    live.faults.replace([])
    live.fetch(OBSERVATIONS, monkeypatch)
    with live.warehouse() as store:
        assert weather_recently(store, OBSERVATIONS, TWO, live.now).passed, "well again with the first new reading"


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)
def test_the_hourly_fetch_of_a_live_provider_is_fresh_until_the_next_one(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    live = Live(clean_environment)
    live.fetch(dataset, monkeypatch)
    with live.warehouse() as store:
        for name, check in FRESHNESS[dataset.name].items():
            outcome = check(store, dataset, TWO, NOW + HOUR)
            assert outcome.passed, name
            assert outcome.metadata["watched"] == 2
