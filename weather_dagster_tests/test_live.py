"""Live weather as a whole: every plan and provider from the settings to the store, against one simulated service."""

import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from starlette.types import Message, Receive, Scope, Send

from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS, Dataset
from weather_dagster.dbt_command import DBT_DIR
from weather_dagster.errors import ConfigurationError, HourNotServed, RangeIncomplete
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, utc_now
from weather_dagster.ingest import Landing, land_range
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import Settings
from weather_dagster.simulator import model
from weather_dagster.simulator.accounts import account_of_plan
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.openweather_reading import CURRENT_TOLERANCE
from weather_dagster.weather_api.providers import build_providers
from weather_dagster.weather_api.service import Patience
from weather_dagster_tests.conftest import KEY, Provider, Weather, serving
from weather_dagster_tests.weather_api.answers import NOW, hours_ago
from weather_dagster_tests.weather_api.provider_apps import QUICK

PLACES = load_locations()
THREE = PLACES[:3]
WEEK = hours_ago(7 * 24 - 1)
PAST_WEEK = hours_ago(7 * 24, 1)
TEN_DAYS = hours_ago(10 * 24, 1)
RUNNING = WEEK.last

FREE = {"weather_provider": "openweather", "openweather_plan": "free"}
FREE_ALONE = {**FREE, "weather_history_provider": "none"}
ONE_CALL_3 = {**FREE, "openweather_plan": "one_call_3"}
ONE_CALL_4 = {**FREE, "openweather_plan": "one_call_4"}
PROFESSIONAL = {**FREE, "openweather_plan": "professional"}
OPEN_METEO = {"weather_provider": "open_meteo"}
SIMULATOR = {"weather_provider": "simulator"}


class World:
    """A configured home and the simulated service that it asks, in process."""

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, Any],
        *,
        faults: Sequence[Fault] = (),
        clock: Callable[[], datetime] = lambda: NOW,
        patience: Patience = QUICK,
        has_limits: bool = True,
    ) -> None:
        self.settings = Settings.load(
            _env_file=None,
            weather_home=home,
            openweather_api_key=KEY,
            openweather_base_url="http://openweather",
            open_meteo_base_url="http://open-meteo",
            **settings,
        )
        self.faults = Faults(faults)
        plan = settings.get("openweather_plan")
        accounts = {KEY: account_of_plan(plan)} if plan else None
        app = create_app(accounts, faults=self.faults, clock=lambda: clock().timestamp())
        providers = [dataclasses.replace(provider, app=app) for provider in build_providers(self.settings)]
        if not has_limits:
            providers = [
                dataclasses.replace(provider, service=dataclasses.replace(provider.service, limits={}))
                for provider in providers
            ]
        self.api = WeatherApi(providers, patience=patience, clock=clock)
        self.store = partial(open_warehouse, self.settings.duckdb_path)

    def land(
        self, dataset: Dataset, hours: HourRange, places: Sequence[Location] = THREE, *, run_id: str = "r"
    ) -> Landing:
        landing = land_range(self.api, self.store, dataset, places, hours, run_id=run_id)
        assert KEY not in f"{landing} {[str(failure.error) for failure in landing.failures]} {landing.stopped}"
        return landing

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with self.store() as warehouse:
            return warehouse.query(sql)

    @property
    def calls(self) -> dict[str, int]:
        """Calls by path, as the service counts them."""
        return {path: sum(by_status.values()) for path, by_status in self.faults.requests.items()}


def require_key_nowhere(*folders: Path) -> list[Path]:
    """Fails when the key stands in a file below the folders, or in a table of a warehouse there; the files."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
    for file in files:
        if file.suffix == ".duckdb":
            # Compressed pages would not show it to a search of bytes.
            with open_warehouse(file, read_only=True) as warehouse:
                for (table,) in warehouse.query("select schema_name || '.' || table_name from duckdb_tables()"):
                    assert KEY not in repr(warehouse.query(f"select * from {table}")), table
    return files


@pytest.fixture
def home(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Path]:
    """Folder of everything that a scenario writes. In the end the key must stand in none of it."""
    yield tmp_path / "home"
    require_key_nowhere(tmp_path)
    assert KEY not in caplog.text


@dataclasses.dataclass(frozen=True)
class Week:
    """What the week up to the running hour takes and brings for three places."""

    settings: Mapping[str, Any]
    calls: Mapping[str, int]
    past: tuple[str, str, str]
    """Endpoints of the hours that are over: observations, forecasts, air quality."""
    running: tuple[str, str, str]
    """The same of the running hour."""
    steps: int
    """Of a forecast that is issued in the running hour."""
    rerouted: tuple[int, int]
    """Hours of observations and of forecasts that another provider than the configured one brings."""
    past_steps: int = 5
    """Of a forecast that was issued before: one for each of five days ahead."""


AIR = "/data/2.5/air_pollution/history"
OM = "api/v1/forecast"
OM_RUNS = "previous-runs-api/v1/forecast"
WEEKS = {
    "free": Week(
        FREE,
        {"/data/2.5/weather": 3, "/data/2.5/forecast": 3, AIR: 3, f"/{OM}": 1, f"/{OM_RUNS}": 1},
        (OM, OM_RUNS, AIR),
        ("/data/2.5/weather", "/data/2.5/forecast", AIR),
        40,
        (167, 167),
    ),
    "one_call_3": Week(
        ONE_CALL_3,
        # An hour a call; the running hour once for its weather and once for what is ahead.
        {"/data/3.0/onecall/timemachine": 3 * 167, "/data/3.0/onecall": 3 + 3, AIR: 3, f"/{OM_RUNS}": 1},
        ("/data/3.0/onecall/timemachine", OM_RUNS, AIR),
        ("/data/3.0/onecall", "/data/3.0/onecall", AIR),
        48,
        (0, 167),
    ),
    "one_call_4": Week(
        ONE_CALL_4,
        # Twenty hours a page: 167 past ones take nine, 48 ahead take three.
        {"/data/4.0/onecall/timeline/1h": 3 * 9 + 3 * 3, "/data/4.0/onecall/current": 3, AIR: 3, f"/{OM_RUNS}": 1},
        ("/data/4.0/onecall/timeline/1h", OM_RUNS, AIR),
        ("/data/4.0/onecall/current", "/data/4.0/onecall/timeline/1h", AIR),
        # The page begins with the running hour and ends 48 hours after it.
        49,
        (0, 167),
    ),
    "professional": Week(
        PROFESSIONAL,
        {
            "/data/2.5/weather": 3,
            "/data/2.5/history/city": 3,
            "/data/2.5/forecast": 3,
            AIR: 3,
            f"/{OM_RUNS}": 1,
        },
        ("/data/2.5/history/city", OM_RUNS, AIR),
        ("/data/2.5/weather", "/data/2.5/forecast", AIR),
        40,
        (0, 167),
    ),
    "open_meteo": Week(
        OPEN_METEO,
        # All places and hours in one call a dataset; forecasts of the past are another host's.
        {f"/{OM}": 1 + 1, f"/{OM_RUNS}": 1, "/air-quality-api/v1/air-quality": 1},
        (OM, OM_RUNS, "air-quality-api/v1/air-quality"),
        (OM, OM, "air-quality-api/v1/air-quality"),
        120,
        (0, 0),
    ),
    "simulator": Week(
        SIMULATOR,
        {"/data/2.5/history/city": 3, "/data/2.5/forecast/history": 3, AIR: 3},
        ("/data/2.5/history/city", "/data/2.5/forecast/history", AIR),
        ("/data/2.5/history/city", "/data/2.5/forecast/history", AIR),
        40,
        (0, 0),
        past_steps=40,
    ),
}


@pytest.mark.parametrize("plan", WEEKS)
def test_a_week_takes_the_fewest_calls_and_every_row_lies_in_its_own_hour(home: Path, plan: str) -> None:
    week = WEEKS[plan]
    world = World(home, week.settings)
    landings = [world.land(dataset, WEEK) for dataset in DATASETS.values()]
    for landing in landings:
        landing.require_complete()
        assert (landing.wasted, landing.quarantined, landing.providers) == (0, 0, ("simulator",))
    assert world.calls == week.calls
    assert sum(landing.calls for landing in landings) == sum(week.calls.values())
    assert world.rows("select count(*) from bronze.quarantine") == [(0,)]

    rerouted = [
        sum(route["hours"] for route in landing.plan.routes if route["rerouted"])
        for landing in landings
        if landing.plan
    ]
    assert rerouted == [*week.rerouted, 0]
    for index, dataset in enumerate(DATASETS.values()):
        found = world.rows(
            f"select location_id, {dataset.partition_column}, provider, endpoint, count(*) "
            f"from bronze.{dataset.name} group by all"
        )
        past, running = (week.past_steps, week.steps) if dataset is FORECASTS else (1, 1)
        assert Counter(found) == Counter(
            (
                place.id,
                hour,
                "simulator",
                (week.running if hour == RUNNING else week.past)[index],
                running if hour == RUNNING else past,
            )
            for place in THREE
            for hour in WEEK
        )
    require_own_hours(world)
    require_true_temperatures(world)


def require_own_hours(world: World) -> None:
    """Every row stands where the time in its payload says, and forecasts lie ahead of their hour of issue."""
    told = "epoch_ms(coalesce(payload ->> '$.dt', payload ->> '$.time')::bigint * 1000) at time zone 'UTC'"
    for dataset, own in (
        (OBSERVATIONS, "observed_at_utc"),
        (AIR_QUALITY, "observed_at_utc"),
        (FORECASTS, "valid_hour_utc"),
    ):
        assert world.rows(f"select count(*) from bronze.{dataset.name} where {told} is distinct from {own}") == [(0,)]
    for dataset in (OBSERVATIONS, AIR_QUALITY):
        times = world.rows(f"select valid_hour_utc, observed_at_utc from bronze.{dataset.name}")
        assert all(at == hour for hour, at in times if hour != RUNNING)
        assert all(hour - CURRENT_TOLERANCE <= at < hour + HOUR for hour, at in times)
    (lead,) = world.rows("select min(valid_hour_utc - issued_hour_utc) from bronze.forecasts")
    assert lead[0] >= timedelta(0)


def require_true_temperatures(world: World) -> None:
    """Observed temperatures are those of the simulated weather at that place and time, within what is rounded."""
    for place in THREE:
        rows = world.rows(
            "select epoch(observed_at_utc), temperature_c from bronze.observations "
            f"where location_id = '{place.id}' order by all"
        )
        instants, temperatures = np.array(rows, dtype=np.float64).T
        truth = model.truth(model.Place.at(place.latitude, place.longitude), instants / 3600)
        np.testing.assert_allclose(temperatures, truth.temperature_c, atol=0.051)


def test_a_free_account_asked_for_last_week_is_rerouted_and_its_own_weather_is_not_asked(home: Path) -> None:
    world = World(home, FREE)
    for dataset in DATASETS.values():
        world.land(dataset, PAST_WEEK).require_complete()
    assert world.calls == {f"/{OM}": 1, f"/{OM_RUNS}": 1, AIR: 3}
    assert world.rows("select endpoint, count(*) from bronze.observations group by all") == [(OM, 3 * 168)]
    assert world.rows("select endpoint, count(*) from bronze.forecasts group by all") == [(OM_RUNS, 3 * 168 * 5)]
    assert world.rows("select endpoint, count(*) from bronze.air_quality group by all") == [(AIR, 3 * 168)]
    require_own_hours(world)


def test_without_a_history_provider_last_week_is_refused_with_the_ways_out_and_air_quality_served(home: Path) -> None:
    world = World(home, FREE_ALONE)
    for dataset in (OBSERVATIONS, FORECASTS):
        for hours in (PAST_WEEK, WEEK):
            with pytest.raises(HourNotServed) as refused:
                world.land(dataset, hours)
            for way_out in ("WEATHER_HISTORY_PROVIDER=open_meteo", "OPENWEATHER_PLAN", "WEATHER_PROVIDER=simulator"):
                assert way_out in str(refused.value)
    assert world.calls == {}
    world.land(AIR_QUALITY, WEEK).require_complete()
    assert world.calls == {AIR: 3}
    assert world.rows("select count(*) from bronze.air_quality") == [(3 * 168,)]
    for dataset in (OBSERVATIONS, FORECASTS):
        assert world.rows(f"select count(*) from bronze.{dataset.name}") == [(0,)]


@pytest.mark.integration
def test_one_command_of_a_free_account_lands_what_is_served_and_names_the_ways_to_the_rest(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    last = floor_hour(utc_now()) - HOUR
    settings = {
        **provider.live,
        "OPENWEATHER_PLAN": "free",
        "WEATHER_HISTORY_PROVIDER": "none",
        "WEATHER_HOME": str(tmp_path / "home"),
    }
    hours = ("--from", format_hour(last - 167 * HOUR), "--to", format_hour(last))
    result = weather("ingest", *hours, "--place", "lyon", **settings)
    assert result.returncode == 1
    for dataset in ("observations", "forecasts"):
        assert f"openweather (plan free) cannot bring {dataset} of" in result.stderr
    assert "WEATHER_HISTORY_PROVIDER=open_meteo" in result.stderr
    assert provider.faults.requests == {AIR: {200: 1}}
    with open_warehouse(tmp_path / "home" / "live" / "warehouse.duckdb", read_only=True) as warehouse:
        for dataset, rows in {"observations": 0, "forecasts": 0, "air_quality": 168, "quarantine": 0}.items():
            assert warehouse.query(f"select count(*) from bronze.{dataset}") == [(rows,)], dataset
    assert KEY not in result.stdout + result.stderr
    require_key_nowhere(tmp_path)


def test_every_call_is_kept_once_with_what_it_was_for_and_how_it_ended(home: Path) -> None:
    world = World(home, FREE, faults=[Fault(kind="status", status=500, path=AIR, count=1)])
    first = world.land(AIR_QUALITY, WEEK, run_id="first")
    second = world.land(OBSERVATIONS, WEEK, run_id="second")
    third = world.land(AIR_QUALITY, WEEK, run_id="third")
    assert (first.calls, first.wasted, second.calls, third.calls, third.rows_added) == (4, 1, 4, 3, 0)
    kept = world.rows(
        "select run_id, provider, product, endpoint, dataset, location_ids, weight, status, outcome, seconds > 0, "
        "first_hour_utc, last_hour_utc, asked_at_utc from bronze.api_calls"
    )

    def air(run: str, place: Location, status: int = 200, outcome: str = "ok") -> tuple[Any, ...]:
        return (run, "openweather", "free", AIR, "air_quality", place.id, 1.0, status, outcome, True, *span(WEEK))

    def span(hours: HourRange) -> tuple[datetime, datetime, datetime]:
        return hours.first, hours.last, NOW

    now, past = HourRange(RUNNING, RUNNING), HourRange(WEEK.first, RUNNING - HOUR)
    ids = ",".join(place.id for place in THREE)
    # 15 variables of 7 days at 3 places.
    rerouted = ("second", "open_meteo", "open_meteo", OM, "observations", ids, pytest.approx(4.5), 200, "ok", True)
    by_run = Counter(row[0] for row in kept)
    assert by_run == {"first": 4, "second": 4, "third": 3}
    expected = [
        *(air(run, place) for run in ("first", "third") for place in THREE),
        air("first", THREE[0], 500, "failed"),
        *(
            (
                "second",
                "openweather",
                "free",
                "/data/2.5/weather",
                "observations",
                p.id,
                1.0,
                200,
                "ok",
                True,
                *span(now),
            )
            for p in THREE
        ),
        (*rerouted, *span(past)),
    ]
    assert all(row in expected for row in kept)
    assert all(row in kept for row in expected)
    with world.api.ledger() as ledger:
        assert ledger.calls_to_copy().num_rows == 0


FAULTS = {
    "status 500": Fault(kind="status", status=500),
    "status 502": Fault(kind="status", status=502),
    "status 503": Fault(kind="status", status=503),
    "status 429, wait 0 s": Fault(kind="status", status=429, retry_after="0"),
    "status 429, wait 1 s": Fault(kind="status", status=429, retry_after="1", count=2),
    **{
        kind: Fault(kind=kind)
        for kind in (
            "html", "empty", "truncated", "reset", "wrong_shape", "error_in_200", "nulls", "drop", "bom",
            "kelvin", "other_place", "duplicates", "reversed", "nan",
        )
    },
    "stale": Fault(kind="stale", seconds=1800),
}  # fmt: skip
WASTING = ("status", "error_in_200", "html", "empty", "truncated", "reset", "wrong_shape")
"""Faults of which every hit is a call for nothing. Others bring a part, or all."""
MOST_RERUNS = 12


Asked = tuple[Sequence[Location], HourRange]
DAYS = [(PLACES, day) for day in TEN_DAYS.split(24)]
BY_PLACE = [((place,), TEN_DAYS) for place in PLACES]
Undisturbed = Callable[[Mapping[str, Any], Dataset], list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    """What ten days at ten places bring when nothing goes wrong, by settings and dataset."""
    folder = tmp_path_factory.mktemp("undisturbed")
    found: dict[str, list[tuple[Any, ...]]] = {}

    def rows(settings: Mapping[str, Any], dataset: Dataset) -> list[tuple[Any, ...]]:
        name = f"{settings['weather_provider']}_{dataset.name}"
        if name not in found:
            world = World(folder / name, settings)
            world.land(dataset, TEN_DAYS, PLACES).require_complete()
            found[name] = winners(world, dataset)
        return found[name]

    yield rows
    require_key_nowhere(folder)


@pytest.mark.no_cover
@pytest.mark.integration
@pytest.mark.parametrize("name", [name for name in FAULTS if name != "nan"])
def test_ten_days_at_ten_places_are_whole_and_right_after_reruns_through_openweather(
    home: Path, undisturbed: Undisturbed, name: str
) -> None:
    # History does not tell its place; what comes for another one is seen in the pollution of the air alone.
    dataset = AIR_QUALITY if name == "other_place" else OBSERVATIONS
    world = disturbed(home, PROFESSIONAL, name)
    landings = bring(world, dataset, [(PLACES, TEN_DAYS)], BY_PLACE)
    require_healed(world, dataset, name, landings, undisturbed(PROFESSIONAL, dataset))


@pytest.mark.no_cover
@pytest.mark.integration
@pytest.mark.parametrize("name", FAULTS)
def test_ten_days_at_ten_places_are_whole_and_right_after_reruns_through_open_meteo(
    home: Path, undisturbed: Undisturbed, name: str
) -> None:
    # Day by day, for one call would bring it all.
    world = disturbed(home, OPEN_METEO, name)
    landings = bring(world, OBSERVATIONS, DAYS, DAYS)
    require_healed(world, OBSERVATIONS, name, landings, undisturbed(OPEN_METEO, OBSERVATIONS))


def disturbed(home: Path, settings: Mapping[str, Any], name: str) -> World:
    """A service at which three calls in ten meet the fault. Its pace is no matter here."""
    began = time.monotonic()
    return World(
        home,
        settings,
        faults=[FAULTS[name].model_copy(update={"probability": 0.3, "seed": 7})],
        # It goes on, or a block would never end.
        clock=lambda: NOW + timedelta(seconds=time.monotonic() - began),
        patience=dataclasses.replace(QUICK, attempts=2),
        has_limits=False,
    )


def bring(world: World, dataset: Dataset, first: Sequence[Asked], then: Sequence[Asked]) -> list[Landing]:
    """What a person does: run until nothing is told to be missing, look, and ask again for what does not look right."""
    landings = []
    for places, hours in first:
        for _ in range(MOST_RERUNS):
            landings.append(world.land(dataset, hours, places))
            if not (landings[-1].failures or landings[-1].stopped):
                break
    for _ in range(MOST_RERUNS):
        whole = place_hours(world, dataset)
        lacking = [
            asked for asked in then if not {(place.id, hour) for place in asked[0] for hour in asked[1]} <= whole
        ]
        if not lacking:
            return landings
        landings += [world.land(dataset, hours, places) for places, hours in lacking]
    pytest.fail(f"{MOST_RERUNS} reruns were not enough")


def place_hours(world: World, dataset: Dataset) -> set[tuple[str, datetime]]:
    """What silver would have, told for its very hour and with no value turned away."""
    names = [c.name for c in dataset.record_columns if c.name != "payload"]
    rows = [dict(zip(names, row, strict=True)) for row in winners(world, dataset)]
    return {
        (row["location_id"], row["valid_hour_utc"])
        for row in rows
        if row["observed_at_utc"] == row["valid_hour_utc"] and row["rejected_fields"] is None
    }


def require_healed(
    world: World, dataset: Dataset, name: str, landings: Sequence[Landing], expected: list[tuple[Any, ...]]
) -> None:
    assert winners(world, dataset) == expected
    assert len(expected) == len(PLACES) * len(TEN_DAYS)
    assert sum(landing.calls for landing in landings) == sum(world.calls.values())
    wasted = sum(landing.wasted for landing in landings)
    ((for_nothing,),) = world.rows("select count(*) from bronze.api_calls where outcome <> 'ok'")
    assert wasted == for_nothing
    assert (wasted > 0) == (FAULTS[name].kind in WASTING)


def winners(world: World, dataset: Dataset) -> list[tuple[Any, ...]]:
    """The version of each place-hour that silver takes: the one that is told for the hour, and of these the newest."""
    names = ", ".join(c.name for c in dataset.record_columns if c.name != "payload")
    return world.rows(
        f"""
        select {names} from bronze.{dataset.name}
        qualify row_number() over (
            partition by location_id, valid_hour_utc
            order by abs(epoch(observed_at_utc) - epoch(valid_hour_utc)), load_id desc
        ) = 1
        order by all
        """
    )


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (500, 4)])
def test_a_place_that_fails_loses_no_other_and_is_asked_for_alone_next_time(
    home: Path, status: int, tries: int
) -> None:
    lost = THREE[1]
    world = World(
        home,
        PROFESSIONAL,
        faults=[Fault(kind="status", status=status, place=(lost.latitude, lost.longitude))],
    )
    path = "/data/2.5/history/city"
    landing = world.land(OBSERVATIONS, PAST_WEEK)
    with pytest.raises(RangeIncomplete, match=rf"{lost.id}.*answered {status}") as told:
        landing.require_complete()
    assert not any(place.id in str(told.value) for place in THREE if place is not lost)
    assert [failure.call.locations for failure in landing.failures] == [(lost,)]
    assert (landing.calls, landing.wasted) == (2 + tries, tries)
    assert world.rows("select location_id, count(*) from bronze.observations group by all order by all") == sorted(
        (place.id, 168) for place in THREE if place is not lost
    )

    world.faults.replace([])
    world.faults.forget_requests()
    landing = world.land(OBSERVATIONS, PAST_WEEK)
    landing.require_complete()
    assert (world.faults.requests, landing.resumed, landing.rows_added) == ({path: {200: 1}}, 2, 168)
    assert world.rows("select count(*) from bronze.observations") == [(3 * 168,)]

    world.faults.forget_requests()
    landing = world.land(OBSERVATIONS, PAST_WEEK)
    assert (world.faults.requests, landing.resumed, landing.rows_added) == ({path: {200: 3}}, 0, 0)


@pytest.mark.parametrize(
    ("refusing", "rows", "calls"),
    [("/data/2.5/weather", 3 * 167, {"/data/2.5/weather": 1, f"/{OM}": 1}), (f"/{OM}", 3, None)],
)
def test_a_provider_that_refuses_everything_leaves_the_other_ones_hours(
    home: Path, refusing: str, rows: int, calls: dict[str, int] | None
) -> None:
    world = World(home, FREE, faults=[Fault(kind="status", status=401, path=refusing)])
    landing = world.land(OBSERVATIONS, WEEK)
    with pytest.raises(RangeIncomplete, match="answered 401"):
        landing.require_complete()
    assert (landing.rows_added, world.rows("select count(*) from bronze.observations")) == (rows, [(rows,)])
    assert world.calls == (calls or {"/data/2.5/weather": 3, f"/{OM}": 1})
    world.faults.replace([])
    again = world.land(OBSERVATIONS, WEEK)
    again.require_complete()
    assert again.rows_added == 3 * 168 - rows


def test_a_simulator_in_place_of_one_of_two_providers_ends_everything_with_its_first_answer(home: Path) -> None:
    world = World(home, FREE)
    live = [
        dataclasses.replace(provider, is_stand_in=provider.name == "openweather") for provider in world.api.providers
    ]
    world.api = WeatherApi(live, patience=QUICK, clock=lambda: NOW)
    with pytest.raises(ConfigurationError, match=r"simulator data.*that of open_meteo.*OPENWEATHER_BASE_URL and OPEN_"):
        world.land(OBSERVATIONS, WEEK, PLACES)
    # Two more were out when the first was read.
    assert world.calls == {"/data/2.5/weather": 3}
    assert world.rows("select count(*) from bronze.loads") == [(0,)]


@pytest.mark.integration
def test_one_command_goes_on_with_the_provider_that_answers_and_asks_the_other_one_no_more(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    settings = {**provider.live, "OPENWEATHER_PLAN": "free", "WEATHER_HOME": str(tmp_path / "home")}
    provider.faults.replace([Fault(kind="status", status=403, path=path) for path in (f"/{OM}", f"/{OM_RUNS}")])
    last = floor_hour(utc_now()) - HOUR
    hours = ("--from", format_hour(last - 23 * HOUR), "--to", format_hour(last), "--place", "lyon")
    result = weather("ingest", *hours, **settings)
    assert result.returncode == 1
    assert provider.faults.requests == {f"/{OM}": {403: 1}, AIR: {200: 1}}
    assert result.stderr.count("answered 403") == 1
    assert f"what came of {format_hour(last - 23 * HOUR)}" in result.stdout
    with open_warehouse(tmp_path / "home" / "live" / "warehouse.duckdb", read_only=True) as warehouse:
        assert warehouse.query("select count(*) from bronze.air_quality") == [(24,)]


@pytest.mark.integration
def test_what_is_above_the_budget_makes_no_call_and_what_would_fit_fits(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    home = tmp_path / "home"
    settings = {
        **provider.live,
        "WEATHER_HOME": str(home),
        "OPENWEATHER_PLAN": "one_call_3",
        "OPENWEATHER_ONE_CALL_PER_DAY": "50",
    }
    last = floor_hour(utc_now()) - 3 * HOUR
    places = ("--place", "lyon", "--place", "sydney")
    two_days = ("--from", format_hour(last - 47 * HOUR), "--to", format_hour(last), *places)
    for command in ("backfill", "ingest"):
        refused = weather(command, *two_days, **settings)
        assert refused.returncode == 1
        assert "96 calls (weight 96) needed, 50 of 50 a day left" in refused.stderr
        ((first, to),) = re.findall(r"25 of 48 hours would fit: --from (\S+) --to (\S+)\.", refused.stderr)
        assert "OPENWEATHER_ONE_CALL_PER_DAY" in refused.stderr
        assert KEY not in refused.stdout + refused.stderr
    assert provider.faults.requests == {}

    landed = weather("ingest", "--from", first, "--to", to, *places, **settings)
    assert landed.returncode == 0, landed.stderr
    assert provider.faults.requests["/data/3.0/onecall/timemachine"] == {200: 50}
    shown = weather("budget", "--json", **settings)
    (one_call,) = (line for line in json.loads(shown.stdout)["limits"] if line["product"] == "one_call")
    assert [one_call[name] for name in ("provider", "window", "limit", "spent", "left")] == [
        "openweather", "day", 50, 50, 0
    ]  # fmt: skip
    (cost,) = json.loads(shown.stdout)["costs"]
    assert (cost["price"], cost["so_far"]) == ("0.0012 GBP a call above 1,000 a day", 0)
    assert "0.0012 GBP a call above 1,000 a day; this month 0.00 GBP so far" in weather("budget", **settings).stdout
    again = weather("ingest", "--from", first, "--to", to, *places, **settings)
    assert again.returncode == 1
    assert "Not even one hour would fit" in again.stderr
    assert sum(provider.faults.requests["/data/3.0/onecall/timemachine"].values()) == 50
    for said in (landed, shown, again):
        assert KEY not in said.stdout + said.stderr
    require_key_nowhere(tmp_path)


@pytest.mark.integration
def test_the_key_of_a_backfill_through_pages_that_link_on_is_in_nothing_it_wrote(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    last = floor_hour(utc_now())
    settings = {**provider.live, "WEATHER_HOME": str(tmp_path / "home"), "OPENWEATHER_PLAN": "one_call_4"}
    hours = ("--from", format_hour(last - 47 * HOUR), "--to", format_hour(last), "--place", "lyon")
    # A body that cannot be read is kept, and the links of these pages hold the key.
    provider.faults.replace([Fault(kind="truncated", path="/data/4.0/onecall/timeline/1h", count=4)])
    for exit_code in (1, 0):
        result = weather("backfill", *hours, **settings)
        assert result.returncode == exit_code, result.stderr
        assert KEY not in result.stdout + result.stderr
    written = require_key_nowhere(tmp_path, DBT_DIR)
    assert {".duckdb", ".sqlite", ".db", ".html", ".log"} <= {file.suffix for file in written}


@pytest.mark.integration
def test_a_backfill_hour_by_hour_keeps_as_many_calls_in_flight_as_are_allowed(home: Path) -> None:
    simulator = create_app()
    in_flight = most = 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal in_flight, most

        async def sending(message: Message) -> None:
            nonlocal in_flight
            # Before it leaves: the next call may be here before this one has returned.
            in_flight -= message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        if scope["type"] == "http":
            in_flight += 1
            most = max(most, in_flight)
            await anyio.sleep(0.005)
        await simulator(scope, receive, sending)

    with serving(slow) as port:
        url = f"http://127.0.0.1:{port}"
        settings = Settings.load(
            _env_file=None, weather_home=home, openweather_api_key=KEY, openweather_base_url=url, **ONE_CALL_3
        )
        last = floor_hour(datetime.now(UTC)) - 3 * HOUR
        landing = land_range(
            WeatherApi.from_settings(settings),
            partial(open_warehouse, settings.duckdb_path),
            OBSERVATIONS,
            PLACES[:2],
            HourRange(last - 59 * HOUR, last),
            run_id="r",
        )
    landing.require_complete()
    assert (landing.calls, landing.rows_added, most) == (120, 120, 8)
