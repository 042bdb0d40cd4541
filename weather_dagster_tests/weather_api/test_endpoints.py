"""Which hours are served, and how many calls a range costs."""

from datetime import UTC, datetime, timedelta

import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset
from weather_dagster.errors import HourNotServed
from weather_dagster.hours import HourRange
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.api import ROWS_PER_LOAD, WeatherApi
from weather_dagster.weather_api.endpoints import ApiCall, group_loads, plan_calls
from weather_dagster.weather_api.providers import build_provider
from weather_dagster_tests.weather_api.answers import LYON, NOW, THIS_HOUR, current, hours_ago, series
from weather_dagster_tests.weather_api.provider_apps import Replay, api_of, fetch_all, json_answer

YEAR_2025 = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))


def planned(plan: str, dataset: Dataset, hours: HourRange, now: datetime = NOW) -> list[ApiCall]:
    endpoints = openweather.plans(None)[plan].endpoints
    return plan_calls(endpoints, dataset, [LYON], hours, now=now, asked_of=plan, ways_out="wait")


@pytest.mark.parametrize(
    ("plan", "dataset", "hours", "calls"),
    [
        ("free", OBSERVATIONS, THIS_HOUR, 1),
        ("free", FORECASTS, THIS_HOUR, 1),
        ("free", AIR_QUALITY, hours_ago(400), 1),
        ("professional", OBSERVATIONS, hours_ago(168, 1), 1),
        ("professional", OBSERVATIONS, hours_ago(169, 1), 2),
        ("professional", OBSERVATIONS, hours_ago(168, 0), 2),
        ("simulator", OBSERVATIONS, YEAR_2025, 53),
        ("simulator", FORECASTS, hours_ago(335), 2),
        ("simulator", AIR_QUALITY, YEAR_2025, 1),
        ("recorded", OBSERVATIONS, HourRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC)), 1),
    ],
)
def test_a_range_costs_the_fewest_calls(plan: str, dataset: Dataset, hours: HourRange, calls: int) -> None:
    assert len(planned(plan, dataset, hours)) == calls


@pytest.mark.parametrize(
    ("dataset", "hours", "loads"),
    [
        (FORECASTS, hours_ago(31 * 24 - 1), [297_600]),
        (FORECASTS, hours_ago(32 * 24 - 1), [299_520, 7_680]),
        (OBSERVATIONS, YEAR_2025, [87_600]),
        (AIR_QUALITY, YEAR_2025, [87_600]),
    ],
)
def test_a_load_takes_whole_calls_up_to_a_month_of_forecasts(
    dataset: Dataset, hours: HourRange, loads: list[int]
) -> None:
    endpoints = openweather.plans(None)["simulator"].endpoints
    calls = plan_calls(endpoints, dataset, load_locations(), hours, now=NOW, asked_of="", ways_out="")
    grouped = list(group_loads(calls, ROWS_PER_LOAD))
    assert [call for load in grouped for call in load] == calls
    assert [sum(call.expected_rows for call in load) for load in grouped] == loads


def test_a_call_that_alone_brings_more_than_a_load_is_a_load() -> None:
    assert [len(load) for load in group_loads(planned("simulator", OBSERVATIONS, hours_ago(500)), 10)] == [1, 1, 1]


def test_the_calls_of_a_range_hold_each_hour_once() -> None:
    hours = hours_ago(500)
    asked = [hour for call in planned("professional", OBSERVATIONS, hours) for hour in call.hours]
    assert asked == list(hours)


def test_the_running_hour_is_asked_of_current_weather_and_the_past_of_the_history() -> None:
    calls = planned("professional", OBSERVATIONS, hours_ago(2))
    assert [(call.endpoint.path, len(call.hours)) for call in calls] == [
        ("/data/2.5/history/city", 2),
        ("/data/2.5/weather", 1),
    ]


@pytest.mark.parametrize("now", [NOW.replace(minute=0), NOW.replace(minute=59, second=59)])
def test_the_running_hour_is_the_one_that_holds_now(now: datetime) -> None:
    assert len(planned("free", OBSERVATIONS, THIS_HOUR, now)) == 1
    with pytest.raises(HourNotServed):
        planned("free", OBSERVATIONS, THIS_HOUR, now + timedelta(hours=1))


@pytest.mark.parametrize(
    ("plan", "dataset", "hours"),
    [
        ("free", OBSERVATIONS, hours_ago(1, 1)),
        ("free", FORECASTS, hours_ago(1)),
        ("professional", OBSERVATIONS, hours_ago(31 * 24)),
        ("simulator", OBSERVATIONS, hours_ago(1, -1)),
        ("simulator", AIR_QUALITY, HourRange(datetime(2020, 11, 26, tzinfo=UTC), datetime(2020, 11, 27, tzinfo=UTC))),
        ("recorded", OBSERVATIONS, HourRange(datetime(2013, 12, 31, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC))),
    ],
)
def test_a_range_with_an_hour_that_is_not_served_is_refused(plan: str, dataset: Dataset, hours: HourRange) -> None:
    with pytest.raises(HourNotServed):
        planned(plan, dataset, hours)


def test_the_refusal_comes_before_any_call_and_names_plan_dataset_hours_and_ways_out() -> None:
    app = Replay(json_answer(current(int(NOW.timestamp()))))
    with pytest.raises(HourNotServed) as caught:
        api_of(app, plan="free").fetch(OBSERVATIONS, [LYON], hours_ago(3))
    assert app.queries == []
    for part in (
        "openweather (plan",
        "observations of 2026-11-25T10:00 to 2026-11-25T12:00",
        "/data/2.5/weather serves the running hour only (2026-11-25T13:00)",
        "ask for hours that are served",
        "WEATHER_PROVIDER=simulator",
    ):
        assert part in str(caught.value)


def test_a_free_account_is_told_of_the_other_plan() -> None:
    settings = Settings(_env_file=None, weather_provider="openweather", openweather_api_key="k")
    with pytest.raises(HourNotServed, match=r"plan free.*OPENWEATHER_PLAN=professional"):
        WeatherApi(build_provider(settings), clock=lambda: NOW).require_served(OBSERVATIONS, hours_ago(3))


def test_an_inclusive_end_and_an_exclusive_one_mean_the_same_hours() -> None:
    app = Replay(json_answer(series()))
    hours = hours_ago(5, 1)
    fetch_all(api_of(app), OBSERVATIONS, [LYON], hours)
    (query,) = app.queries
    assert int(query["start"]) == hours.first.timestamp()
    assert int(query["end"]) == hours.end.timestamp() - 1
    assert (query["type"], query["units"]) == ("hour", "metric")


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
    assert list(api.fetch(FORECASTS, [LYON], THIS_HOUR)) == []
    assert app.queries == []
