"""A fortnight of simulated weather, through client, bronze and dbt: nothing is unusual but planted faults."""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from weather_dagster.checks.anomalies import changes_are_gradual, providers_agree, usual_row_counts, values_move
from weather_dagster.checks.outcome import Outcome
from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.ingest import land_range
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.providers import build_providers
from weather_dagster_tests.warehouse.test_duckdb import PLACES, START
from weather_dagster_tests.weather_dbt.conftest import PROJECT, Dbt

pytestmark = pytest.mark.integration

FORTNIGHT = HourRange(START, START + 14 * 24 * HOUR - HOUR)
NEXT_DAY = HourRange(FORTNIGHT.end, FORTNIGHT.end + 23 * HOUR)


class World:
    """The simulator, a warehouse, and dbt on it."""

    def __init__(self, home: Path) -> None:
        self.faults = Faults()
        self.file = home / "warehouse.duckdb"
        settings = Settings.load(_env_file=None, weather_provider="simulator", weather_home=home)
        app = create_app(faults=self.faults, clock=NEXT_DAY.end.timestamp)
        providers = [dataclasses.replace(provider, app=app) for provider in build_providers(settings)]
        self._api = WeatherApi(providers, clock=lambda: NEXT_DAY.end)
        self._dbt = Dbt(PROJECT, home / "dbt")

    def run(self, hours: HourRange, faults: Sequence[Fault] = ()) -> None:
        """Land the hours of all datasets and refresh silver."""
        self.faults.replace(faults)
        for dataset in DATASETS.values():
            land_range(self._api, self._open, dataset, PLACES, hours, run_id="r").require_complete()
        self._dbt(self.file, "run", "--select", "observations")

    @contextmanager
    def _open(self) -> Iterator[DuckDBWarehouse]:
        with open_warehouse(self.file) as store:
            yield store

    def look(self, hours: HourRange) -> dict[str, Outcome]:
        """All anomaly checks over these hours."""
        with self._open() as store:
            return {
                **{f"rows of {d.name}": usual_row_counts(store, d, PLACES, hours) for d in DATASETS.values()},
                "providers": providers_agree(store, OBSERVATIONS, PLACES, hours),
                "moving": values_move(store, hours),
                "gradual": changes_are_gradual(store, hours),
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("fortnight"))
    world.run(FORTNIGHT)
    return world


def test_a_fortnight_of_ordinary_weather_raises_no_alarm(world: World) -> None:
    outcomes = world.look(FORTNIGHT)
    assert {name: outcome.description for name, outcome in outcomes.items() if not outcome.passed} == {}
    # Half of the hours have a week before them.
    for dataset in DATASETS.values():
        assert outcomes[f"rows of {dataset.name}"].metadata["compared"] == 7 * 24


def test_on_the_next_day_the_planted_faults_are_told_and_nothing_else(world: World) -> None:
    def weather(place: Location, hours: Sequence[datetime], **values: float) -> Fault:
        return Fault(
            kind="patch", path="/data/2.5/history/city", place=(place.latitude, place.longitude),
            hours=tuple(int(hour.timestamp()) for hour in hours),
            values={f"main.{name}": value for name, value in values.items()},
        )  # fmt: skip

    day = list(NEXT_DAY)
    lyon, new_york, *others = PLACES
    with open_warehouse(world.file) as store:
        ((calm, calm_pressure),) = store.query(
            "select temperature_c, pressure_hpa from silver.observations where location_id = ? and valid_hour_utc = ?",
            [new_york.id, FORTNIGHT.last],
        )
    no_forecast = [
        Fault(kind="drop", path="/data/2.5/forecast/history", place=(p.latitude, p.longitude),
              hours=(int(day[3].timestamp()),))
        for p in others[:3]
    ]  # fmt: skip
    world.run(
        NEXT_DAY,
        [
            weather(lyon, [day[10]], temp=50.0),
            weather(new_york, day[:7], temp=calm, pressure=calm_pressure),
            *no_forecast,
        ],
    )
    outcomes = world.look(NEXT_DAY)
    assert {name for name, outcome in outcomes.items() if not outcome.passed} == {
        "rows of forecasts", "moving", "gradual"
    }  # fmt: skip
    (count,) = outcomes["rows of forecasts"].metadata["unusual_counts"].records
    assert (count.data["value"], count.data["usual"], count.data["days"]) == (280, 400.0, 14)
    (frozen,) = outcomes["moving"].metadata["frozen_values"].records
    assert frozen.data["place"] == new_york.id
    assert "for 8 hours since 2026-03-14T23:00" in frozen.data["value"], "one hour of it was told before"
    jumps = [record.data for record in outcomes["gradual"].metadata["jumps_by_place"].records]
    assert {(jump["place"], jump["hour"]) for jump in jumps} == {
        (lyon.id, "2026-03-15T10:00"), (lyon.id, "2026-03-15T11:00")
    }  # fmt: skip
    assert outcomes["gradual"].metadata["places"].data == [lyon.id]


def test_the_run_of_a_single_hour_sees_what_the_hours_before_it_lead_to(world: World) -> None:
    frozen_hour, jump_hour = (HourRange(hour, hour) for hour in (NEXT_DAY.first + 6 * HOUR, NEXT_DAY.first + 10 * HOUR))
    assert not world.look(frozen_hour)["moving"].passed
    assert world.look(jump_hour)["moving"].passed
    assert not world.look(jump_hour)["gradual"].passed
    assert world.look(frozen_hour)["gradual"].passed
    assert world.look(frozen_hour)[f"rows of {AIR_QUALITY.name}"].metadata["compared"] == 1
    assert world.look(frozen_hour)[f"rows of {FORECASTS.name}"].passed
