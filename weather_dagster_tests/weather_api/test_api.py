"""What the facade does with a range: refuse it before any call, ask for every place, tell how far it is."""

from datetime import UTC, datetime

import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset
from weather_dagster.errors import HourNotServed
from weather_dagster.hours import HourRange
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.api import CALLS_PER_LOAD, ROWS_PER_LOAD, WeatherApi
from weather_dagster.weather_api.endpoints import group_loads, route
from weather_dagster_tests.weather_api.answers import LYON, NOW, THIS_HOUR, current, hours_ago, series
from weather_dagster_tests.weather_api.provider_apps import Replay, api_of, fetch_all, json_answer

YEAR_2025 = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))


@pytest.mark.parametrize(
    ("dataset", "hours", "loads"),
    [
        (FORECASTS, hours_ago(31 * 24 - 1), [297_600]),
        (FORECASTS, hours_ago(32 * 24 - 1), [299_520, 7_680]),
        (OBSERVATIONS, YEAR_2025, [84_000, 3_600]),
        (AIR_QUALITY, YEAR_2025, [87_600]),
    ],
)
def test_a_load_takes_whole_calls_up_to_a_month_of_forecasts_or_so_many_of_them(
    dataset: Dataset, hours: HourRange, loads: list[int]
) -> None:
    (stretch,), _ = route(openweather.plans(None)["simulator"].endpoints, dataset, hours, now=NOW)
    calls = list(stretch.calls(load_locations()))
    grouped = list(group_loads(calls, ROWS_PER_LOAD, CALLS_PER_LOAD))
    assert [call for load in grouped for call in load] == calls
    assert [sum(call.expected_rows for call in load) for load in grouped] == loads


def test_the_refusal_comes_before_any_call_and_names_plan_dataset_hours_and_ways_out() -> None:
    app = Replay(json_answer(current(int(NOW.timestamp()))))
    with pytest.raises(HourNotServed) as caught:
        fetch_all(api_of(app, plan="free"), OBSERVATIONS, [LYON], hours_ago(3))
    assert app.queries == []
    for part in (
        "openweather (plan",
        "observations of 2026-11-25T10:00 to 2026-11-25T12:00",
        "/data/2.5/weather serves the running hour only (2026-11-25T13:00)",
        "ask for hours that are served",
        "WEATHER_PROVIDER=simulator",
    ):
        assert part in str(caught.value)


def test_a_free_account_is_told_of_the_other_plans() -> None:
    settings = Settings(
        _env_file=None, weather_provider="openweather", openweather_api_key="k", weather_history_provider="none"
    )
    with pytest.raises(HourNotServed, match=r"plan free.*OPENWEATHER_PLAN.*professional"):
        WeatherApi.from_settings(settings).plan(OBSERVATIONS, [LYON], hours_ago(3))


def test_every_place_is_asked_and_progress_is_told() -> None:
    places, told = load_locations(), []
    app = Replay(json_answer(series()))
    fetched = fetch_all(
        api_of(app, concurrency=3),
        OBSERVATIONS,
        places,
        hours_ago(200, 1),
        on_call=lambda done, total: told.append((done, total)),
    )
    assert fetched.calls == len(app.queries) == 2 * len(places)
    assert told == [(done, 20) for done in range(1, 21)]


def test_a_dataset_that_is_not_offered_costs_no_call() -> None:
    app = Replay(json_answer({}))
    api = api_of(app, plan="recorded")
    assert api.offers(OBSERVATIONS)
    assert not api.offers(FORECASTS)
    with pytest.raises(HourNotServed):
        api.plan(FORECASTS, [LYON], THIS_HOUR)
    assert app.queries == []
