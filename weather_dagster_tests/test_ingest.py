"""Landing a range: calls, loads, and whose rows may lie beside whose."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS
from weather_dagster.errors import HourNotServed, RangeIncomplete, WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster_tests.conftest import Provider
from weather_dagster_tests.weather_api.answers import LYON, NOW, THIS_HOUR, current, hours_ago, series
from weather_dagster_tests.weather_api.provider_apps import Replay, a_ledger, api_of, json_answer

PLACES = load_locations()
YEAR_2025 = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))

Store = Callable[[], AbstractContextManager[DuckDBWarehouse]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return partial(open_warehouse, tmp_path / "w.duckdb")


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store() as warehouse:
        return warehouse.query(sql)


def simulated(faults: Faults | None = None, **how: Any) -> WeatherApi:
    return api_of(create_app(faults=faults, clock=NOW.timestamp), **{"plan": "simulator", "is_stand_in": True, **how})


@pytest.mark.parametrize(("dataset", "calls"), [(AIR_QUALITY, 1), (OBSERVATIONS, 53)])
def test_a_year_of_a_place_costs_the_fewest_calls_and_is_one_load(store: Store, dataset: Any, calls: int) -> None:
    landing = land_range(simulated(), store, dataset, [LYON], YEAR_2025, run_id="r")
    assert (landing.calls, landing.rows_added, landing.rows_received) == (calls, 8760, 8760)
    assert rows(store, "select first_hour_utc, last_hour_utc, rows_added from bronze.loads") == [
        (YEAR_2025.first, YEAR_2025.last, 8760)
    ]


def test_loads_are_whole_calls_that_hold_their_hours_and_progress_runs_over_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.api.ROWS_PER_LOAD", 2 * 2 * 168)
    told: list[tuple[int, int]] = []
    hours = hours_ago(5 * 168 - 1)
    landing = land_range(
        simulated(), store, OBSERVATIONS, PLACES[:2], hours, run_id="r", on_call=lambda *n: told.append(n)
    )
    loads = rows(store, "select first_hour_utc, last_hour_utc, rows_added from bronze.loads order by load_id")
    assert [n for _, _, n in loads] == [672, 672, 336]
    assert [first for first, _, _ in loads] == [hours.first + i * 336 * HOUR for i in range(3)]
    assert all(last - first + HOUR == n // 2 * HOUR for first, last, n in loads)
    assert told == [(n, 10) for n in range(1, 11)]
    assert landing.received_by_hour == Counter(dict.fromkeys(hours, 2))


def test_what_came_before_a_refusal_stays_and_the_rest_comes_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.api.ROWS_PER_LOAD", 168)
    faults = Faults([Fault(kind="status", status=401, after=2)])
    ledger = a_ledger()
    landing = land_range(
        simulated(faults, ledger=ledger), store, OBSERVATIONS, [LYON], hours_ago(4 * 168 - 1), run_id="r"
    )
    with pytest.raises(RangeIncomplete, match=r"336 rows came and landed; run the same range again.*answered 401"):
        landing.require_complete()
    assert rows(store, "select count(*) from bronze.observations") == [(2 * 168,)]
    landing = land_range(simulated(ledger=ledger), store, OBSERVATIONS, [LYON], hours_ago(4 * 168 - 1), run_id="r")
    assert (landing.rows_added, landing.calls, landing.resumed) == (2 * 168, 2, 2)


def test_an_unfinished_range_is_asked_for_whole_when_the_store_is_new(store: Store, tmp_path: Path) -> None:
    ledger, hours = a_ledger(), hours_ago(4 * 168 - 1)
    faults = Faults([Fault(kind="status", status=401, after=2)])
    land_range(simulated(faults, ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="r")
    other = partial(open_warehouse, tmp_path / "other.duckdb")
    landing = land_range(simulated(ledger=ledger), other, OBSERVATIONS, [LYON], hours, run_id="r")
    assert (landing.rows_added, landing.resumed) == (4 * 168, 0)


def test_an_unfinished_range_is_asked_for_whole_in_a_store_that_holds_other_hours(store: Store, tmp_path: Path) -> None:
    ledger, hours = a_ledger(), hours_ago(4 * 168 - 1)
    other = partial(open_warehouse, tmp_path / "other.duckdb")
    for number in range(3):
        earlier = HourRange(hours.first - (number + 1) * HOUR, hours.first - (number + 1) * HOUR)
        land_range(simulated(), other, OBSERVATIONS, [LYON], earlier, run_id=f"other {number}")
    faults = Faults([Fault(kind="status", status=401, after=2)])
    land_range(simulated(faults, ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="first")
    landing = land_range(simulated(ledger=ledger), other, OBSERVATIONS, [LYON], hours, run_id="second")
    assert (landing.rows_added, landing.resumed) == (4 * 168, 0)


def test_an_unfinished_range_is_asked_for_whole_in_an_older_copy_of_its_store(store: Store, tmp_path: Path) -> None:
    ledger, hours = a_ledger(), hours_ago(4 * 168 - 1)
    land_range(simulated(), store, AIR_QUALITY, [LYON], hours_ago(3), run_id="earlier")
    copy = shutil.copy(tmp_path / "w.duckdb", tmp_path / "copy.duckdb")
    faults = Faults([Fault(kind="status", status=401, after=2)])
    land_range(simulated(faults, ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="first")
    shutil.copy(copy, tmp_path / "w.duckdb")
    # Its number is the one that the lost load had.
    land_range(simulated(), store, AIR_QUALITY, [LYON], hours_ago(5), run_id="later")
    landing = land_range(simulated(ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="second")
    assert (landing.rows_added, landing.resumed) == (4 * 168, 0)


def test_what_came_again_unchanged_is_not_asked_for_a_third_time(store: Store) -> None:
    ledger, hours = a_ledger(), hours_ago(4 * 168 - 1)
    land_range(simulated(ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="first")
    faults = Faults([Fault(kind="status", status=401, after=2)])
    again = land_range(simulated(faults, ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="second")
    assert (again.rows_received, again.rows_added) == (2 * 168, 0)
    landing = land_range(simulated(ledger=ledger), store, OBSERVATIONS, [LYON], hours, run_id="third")
    assert (landing.calls, landing.resumed, landing.rows_added) == (2, 2, 0)


def test_a_range_of_many_calls_lands_in_pieces(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.api.CALLS_PER_LOAD", 2)
    land_range(simulated(), store, OBSERVATIONS, [LYON], hours_ago(5 * 168 - 1), run_id="r")
    loads = rows(store, "select rows_added from bronze.loads order by load_id")
    assert loads == [(336,), (336,), (168,)]


def test_an_answer_of_another_shape_is_called_malformed_where_calls_are_kept(tmp_path: Path) -> None:
    api = api_of(Replay(json_answer({"list": "nothing of the kind"})), ledger=a_ledger())
    store = partial(open_warehouse, tmp_path / "w.duckdb")
    landing = land_range(api, store, OBSERVATIONS, [LYON], hours_ago(3, 1), run_id="r")
    assert [type(failure.error).__name__ for failure in landing.failures] == ["MalformedAnswer"]
    with store() as warehouse:
        assert warehouse.query("select outcome, status from bronze.api_calls") == [("malformed", 200)]


def test_an_answer_without_a_row_is_told_and_not_asked_for_again(store: Store) -> None:
    api = api_of(Replay(json_answer(series())), ledger=a_ledger())
    landing = land_range(api, store, OBSERVATIONS, PLACES[:2], hours_ago(3, 1), run_id="r")
    landing.require_complete()
    assert [call.locations for call in landing.empty] == [(PLACES[0],), (PLACES[1],)]
    assert PLACES[1].id in landing.empty_answers
    full = land_range(simulated(), store, OBSERVATIONS, PLACES[:2], hours_ago(3, 1), run_id="r")
    assert (full.empty, full.empty_answers) == ([], "")


def test_nothing_is_in_flight_while_a_load_is_landed_nor_the_store_open_while_one_is_fetched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.weather_api.api.ROWS_PER_LOAD", 168)
    events: list[str] = []
    simulator = create_app(clock=NOW.timestamp)

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        events.append("asked")
        await simulator(scope, receive, send)
        events.append("answered")

    @contextmanager
    def noting_store() -> Iterator[DuckDBWarehouse]:
        events.append("opened")
        with store() as warehouse:
            yield warehouse
        events.append("closed")

    api = api_of(noting, plan="simulator", concurrency=4)
    land_range(api, noting_store, OBSERVATIONS, [LYON], hours_ago(3 * 168 - 1), run_id="r")
    assert events == ["opened", "closed", *["asked", "answered", "opened", "closed"] * 3]


def test_an_hour_that_is_not_served_is_refused_before_any_call_and_before_the_store_is_made(tmp_path: Path) -> None:
    app = Replay(json_answer(current(int(NOW.timestamp()))))
    store = partial(open_warehouse, tmp_path / "w.duckdb")
    with pytest.raises(HourNotServed):
        land_range(api_of(app, plan="free"), store, OBSERVATIONS, [LYON], hours_ago(2), run_id="r")
    assert app.queries == []
    assert list(tmp_path.iterdir()) == []


def test_a_forecast_that_comes_after_its_hour_is_refused(store: Store) -> None:
    asked = 0

    def clock() -> datetime:
        # The last second of the hour, and with the second answer the next hour.
        return THIS_HOUR.end - timedelta(seconds=1) if asked < 2 else THIS_HOUR.end

    simulator = create_app(clock=lambda: clock().timestamp())

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        await simulator(scope, receive, send)
        asked += 1

    api = api_of(counting, plan="free", clock=clock)
    expected = r"hour turned.*/data/2.5/forecast for .*2026-11-25T13:00.*run this again for 2026-11-25T14:00"
    landing = land_range(api, store, FORECASTS, PLACES[:2], THIS_HOUR, run_id="r")
    with pytest.raises(RangeIncomplete, match=expected):
        landing.require_complete()
    assert rows(store, "select count(*) from bronze.forecasts") == [(0,)]
    next_hour = HourRange(THIS_HOUR.end, THIS_HOUR.end)
    assert land_range(api, store, FORECASTS, PLACES[:2], next_hour, run_id="r").rows_added == 80


def test_a_current_reading_of_the_next_hour_is_a_failure(store: Store) -> None:
    at = THIS_HOUR.end - timedelta(seconds=1)
    late = Replay(json_answer(current(int(THIS_HOUR.end.timestamp()))))

    async def turning(scope: Any, receive: Any, send: Any) -> None:
        nonlocal at
        at = THIS_HOUR.end
        await late(scope, receive, send)

    api = api_of(turning, plan="free", clock=lambda: at)
    landing = land_range(api, store, OBSERVATIONS, [LYON], THIS_HOUR, run_id="r")
    (failure,) = landing.failures
    assert "the hour turned while openweather was asked" in str(failure.error)
    assert (landing.rows_received, landing.wasted) == (0, 1)
    assert rows(store, "select reason from bronze.quarantine") == [("outside_hour",)]


def test_readings_with_a_time_of_their_own_may_come_after_their_hour(store: Store) -> None:
    instants = iter([NOW, NOW])
    api = api_of(
        Replay(json_answer(current(int(THIS_HOUR.first.timestamp())))),
        plan="free",
        clock=lambda: next(instants, NOW + HOUR),
    )
    assert land_range(api, store, OBSERVATIONS, [LYON], THIS_HOUR, run_id="r").rows_added == 1


def test_simulated_answers_are_labelled_so_whatever_was_asked_for(store: Store) -> None:
    landing = land_range(simulated(), store, OBSERVATIONS, [LYON], hours_ago(3), run_id="r")
    assert landing.providers == ("simulator",)
    for table in ("observations", "loads"):
        assert rows(store, f"select distinct provider from bronze.{table}") == [("simulator",)]


def test_rejections_of_simulated_answers_are_labelled_so_too(store: Store) -> None:
    faults = Faults([Fault(kind="patch", values={"main.temp": "warm"})])
    land_range(simulated(faults), store, OBSERVATIONS, [LYON], hours_ago(3), run_id="r")
    assert rows(store, "select distinct provider from bronze.quarantine") == [("simulator",)]


def test_simulated_answers_never_lie_beside_live_ones(store: Store) -> None:
    live = api_of(Replay(json_answer(current(int(THIS_HOUR.first.timestamp())))), plan="free")
    assert land_range(live, store, OBSERVATIONS, [LYON], THIS_HOUR, run_id="r").providers == ("openweather",)
    with pytest.raises(WarehouseError, match="holds live data, beside which simulator data is not landed"):
        land_range(simulated(), store, OBSERVATIONS, [LYON], hours_ago(3), run_id="r")
    assert rows(store, "select count(*) from bronze.observations") == [(1,)]


def test_made_up_answers_for_a_live_store_end_everything_with_the_first(store: Store) -> None:
    live = api_of(Replay(json_answer(current(int(THIS_HOUR.first.timestamp())))), plan="free")
    land_range(live, store, OBSERVATIONS, [LYON], THIS_HOUR, run_id="r")
    faults = Faults()
    with pytest.raises(WarehouseError, match="holds live data, beside which simulator data is not landed"):
        land_range(simulated(faults), store, AIR_QUALITY, PLACES, hours_ago(3), run_id="r")
    # Two more were out when the first was read.
    assert list(faults.requests.values()) == [{200: 3}]


def test_a_store_of_another_realm_costs_no_call(store: Store) -> None:
    land_range(simulated(), store, OBSERVATIONS, [LYON], hours_ago(3), run_id="r")
    app = Replay(json_answer(current(int(THIS_HOUR.first.timestamp()))))
    with pytest.raises(WarehouseError, match="holds simulator data, beside which openweather data is not landed"):
        land_range(api_of(app, plan="free"), store, OBSERVATIONS, [LYON], THIS_HOUR, run_id="r")
    assert app.queries == []


@pytest.mark.integration
def test_a_simulator_behind_the_address_of_a_live_account_stays_labelled(
    store: Store, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in provider.live.items():
        monkeypatch.setenv(name, value)
    api = WeatherApi.from_settings(Settings.load(_env_file=None, weather_home=tmp_path))
    two_hours_ago = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 2 * HOUR
    hours = HourRange(two_hours_ago, two_hours_ago)
    for dataset in (OBSERVATIONS, AIR_QUALITY):
        assert land_range(api, store, dataset, PLACES, hours, run_id="r").providers == ("simulator",)
    assert rows(store, "select distinct provider from bronze.loads") == [("simulator",)]
