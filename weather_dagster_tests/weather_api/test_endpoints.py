"""Which hours are served, and how many calls a range costs."""

import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location, load_locations
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint, Stretch, group_loads, not_served_message, route
from weather_dagster_tests.weather_api.answers import LYON, NOW, THIS_HOUR, endpoint_at, hours_ago

YEAR_2025 = HourRange(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 12, 31, 23, tzinfo=UTC))


def planned(
    plan: str, dataset: Dataset, hours: HourRange, now: datetime = NOW, places: Sequence[Location] = (LYON,)
) -> list[ApiCall]:
    stretches, not_served = route(openweather.plans(None)[plan].endpoints, dataset, hours, now=now)
    assert not_served == []
    return [call for stretch in stretches for call in stretch.calls(places)]


@pytest.mark.parametrize(
    ("plan", "dataset", "hours", "calls"),
    [
        ("free", OBSERVATIONS, THIS_HOUR, 1),
        ("free", FORECASTS, THIS_HOUR, 1),
        ("free", AIR_QUALITY, hours_ago(400), 1),
        ("free", AIR_QUALITY, hours_ago(168, 1), 1),
        ("free", AIR_QUALITY, hours_ago(720, 1), 1),
        ("one_call_3", OBSERVATIONS, THIS_HOUR, 1),
        ("one_call_3", OBSERVATIONS, hours_ago(168, 1), 168),
        ("one_call_3", OBSERVATIONS, hours_ago(720, 1), 720),
        ("one_call_3", OBSERVATIONS, hours_ago(719), 720),
        ("one_call_3", FORECASTS, THIS_HOUR, 1),
        ("one_call_3", AIR_QUALITY, hours_ago(720, 1), 1),
        ("one_call_4", OBSERVATIONS, THIS_HOUR, 1),
        ("one_call_4", OBSERVATIONS, hours_ago(20, 1), 1),
        ("one_call_4", OBSERVATIONS, hours_ago(168, 1), 9),
        ("one_call_4", OBSERVATIONS, hours_ago(720, 1), 36),
        ("one_call_4", OBSERVATIONS, hours_ago(720), 37),
        ("one_call_4", FORECASTS, THIS_HOUR, 1),
        ("one_call_4", AIR_QUALITY, hours_ago(720, 1), 1),
        ("professional", OBSERVATIONS, hours_ago(168, 1), 1),
        ("professional", OBSERVATIONS, hours_ago(169, 1), 2),
        ("professional", OBSERVATIONS, hours_ago(168, 0), 2),
        ("professional", OBSERVATIONS, hours_ago(720, 1), 5),
        ("simulator", OBSERVATIONS, hours_ago(167), 1),
        ("simulator", OBSERVATIONS, YEAR_2025, 53),
        ("simulator", FORECASTS, hours_ago(335), 2),
        ("simulator", AIR_QUALITY, YEAR_2025, 1),
        ("recorded", OBSERVATIONS, HourRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 7, tzinfo=UTC)), 1),
        ("recorded", OBSERVATIONS, HourRange(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 30, tzinfo=UTC)), 5),
    ],
)
def test_a_range_costs_the_fewest_calls_and_as_many_for_every_place(
    plan: str, dataset: Dataset, hours: HourRange, calls: int
) -> None:
    places = load_locations()
    assert len(planned(plan, dataset, hours)) == calls
    assert len(planned(plan, dataset, hours, places=places)) == calls * len(places)


@pytest.mark.parametrize(
    ("plan", "pages"), [("free", 1), ("one_call_3", 1), ("one_call_4", 3), ("professional", 1), ("simulator", 1)]
)
def test_a_call_says_how_many_requests_a_forecast_takes(plan: str, pages: int) -> None:
    assert {call.endpoint.pages for call in planned(plan, FORECASTS, THIS_HOUR)} == {pages}


@pytest.mark.parametrize("plan", openweather.plans(None))
def test_the_calls_of_every_plan_hold_each_place_and_hour_once_and_only_served_ones(plan: str) -> None:
    places = load_locations()[:3]
    for endpoint in openweather.plans(None)[plan].endpoints:
        hours = HourRange(datetime(2013, 2, 1, tzinfo=UTC), datetime(2013, 3, 2, 7, tzinfo=UTC))
        if plan != "recorded":
            hours = hours_ago(719, 0)
        stretches, not_served = route([endpoint], endpoint.dataset, hours, now=NOW)
        calls = [call for stretch in stretches for call in stretch.calls(places)]
        asked = [(place.id, hour) for call in calls for place in call.locations for hour in call.hours]
        served = [hour for hour in hours if endpoint.served.covers(hour, THIS_HOUR.first)]
        assert sorted(asked) == sorted((place.id, hour) for place in places for hour in served)
        assert sorted([*served, *(hour for gap in not_served for hour in gap)]) == list(hours)


def broad(places: int, hours: int, together: int | None) -> Endpoint:
    endpoint = endpoint_at("/data/2.5/history/city")
    return dataclasses.replace(endpoint, places_per_call=places, hours_per_call=hours, place_hours_per_call=together)


@pytest.mark.parametrize(
    ("endpoint", "places", "hours", "shape", "calls"),
    [
        (broad(1, 168, None), 10, 720, (1, 168), 50),
        (broad(100, 720, None), 10, 720, (10, 720), 1),
        (broad(100, 720, None), 250, 721, (84, 720), 6),
        (broad(100, 720, 1000), 10, 720, (5, 200), 8),
        (broad(100, 720, 1000), 10, 100, (10, 100), 1),
        (broad(100, 8760, 1000), 10, 333, (3, 333), 4),
        (broad(5, 24, 24), 5, 24, (1, 24), 5),
        (broad(5, 24, 3), 5, 1, (3, 1), 2),
        (broad(5, 24, 1), 5, 24, (1, 1), 120),
    ],
)
def test_a_call_for_many_places_has_the_shape_that_costs_the_fewest_calls(
    endpoint: Endpoint, places: int, hours: int, shape: tuple[int, int], calls: int
) -> None:
    stretch = Stretch(endpoint, hours_ago(hours, 1))
    locations = [LYON.model_copy(update={"id": f"place_{number}"}) for number in range(places)]
    made = list(stretch.calls(locations))
    assert len(made) == calls
    together, hours_together = stretch.shape(places)
    assert math.ceil(places / together) == math.ceil(places / shape[0])
    assert min(hours_together, hours) == shape[1]
    most = endpoint.place_hours_per_call or places * hours
    assert all(len(call.locations) * len(call.hours) <= most for call in made)
    assert sum(len(call.locations) * len(call.hours) for call in made) == places * hours


@pytest.mark.parametrize(("places", "hours", "most"), list(product((1, 2, 7), (1, 5, 13), (1, 4, 6, 30, None))))
def test_no_other_shape_of_a_call_needs_fewer_calls(places: int, hours: int, most: int | None) -> None:
    endpoint = broad(4, 6, most)
    made = len(list(Stretch(endpoint, hours_ago(hours, 1)).calls([LYON] * places)))
    assert made == min(
        math.ceil(places / together) * math.ceil(hours / length)
        for together, length in product(range(1, 5), range(1, 7))
        if most is None or together * length <= most
    )


def test_loads_take_whole_calls_up_to_so_many_rows() -> None:
    calls = planned("simulator", FORECASTS, hours_ago(32 * 24 - 1), places=load_locations())
    grouped = list(group_loads(calls, 300_000, 500))
    assert [call for load in grouped for call in load] == calls
    assert [sum(call.expected_rows for call in load) for load in grouped] == [299_520, 7_680]


def test_loads_take_at_most_so_many_calls() -> None:
    calls = planned("one_call_3", OBSERVATIONS, hours_ago(4, 1))
    assert [len(load) for load in group_loads(calls, 300_000, 2)] == [2, 2]
    assert [len(load) for load in group_loads(calls, 300_000, 3)] == [3, 1]


def test_a_call_that_alone_brings_more_than_a_load_is_a_load() -> None:
    assert [len(load) for load in group_loads(planned("simulator", OBSERVATIONS, hours_ago(500)), 10, 500)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("plan", "past"),
    [
        ("professional", [("/data/2.5/history/city", 2), ("/data/2.5/weather", 1)]),
        (
            "one_call_3",
            [("/data/3.0/onecall/timemachine", 1), ("/data/3.0/onecall/timemachine", 1), ("/data/3.0/onecall", 1)],
        ),
        ("one_call_4", [("/data/4.0/onecall/timeline/1h", 2), ("/data/4.0/onecall/current", 1)]),
    ],
)
def test_the_running_hour_is_asked_of_current_weather_and_the_past_of_the_history(
    plan: str, past: list[tuple[str, int]]
) -> None:
    calls = planned(plan, OBSERVATIONS, hours_ago(2))
    assert [(call.endpoint.path, len(call.hours)) for call in calls] == past


@pytest.mark.parametrize("now", [NOW.replace(minute=0), NOW.replace(minute=59, second=59)])
def test_the_running_hour_is_the_one_that_holds_now(now: datetime) -> None:
    assert len(planned("free", OBSERVATIONS, THIS_HOUR, now)) == 1
    endpoints = openweather.plans(None)["free"].endpoints
    later = now + timedelta(hours=1)
    assert route(endpoints, OBSERVATIONS, THIS_HOUR, now=later) == ([], [THIS_HOUR])


@pytest.mark.parametrize(
    ("plan", "dataset", "hours", "not_served"),
    [
        ("free", OBSERVATIONS, hours_ago(1, 1), hours_ago(1, 1)),
        ("free", FORECASTS, hours_ago(1), hours_ago(1, 1)),
        ("one_call_3", FORECASTS, hours_ago(3), hours_ago(3, 1)),
        ("one_call_4", FORECASTS, hours_ago(3), hours_ago(3, 1)),
        ("one_call_4", OBSERVATIONS, hours_ago(1, -1), hours_ago(-1, -1)),
        ("professional", OBSERVATIONS, hours_ago(31 * 24), hours_ago(31 * 24, 30 * 24 + 1)),
        ("simulator", OBSERVATIONS, hours_ago(1, -1), hours_ago(-1, -1)),
        (
            "simulator",
            AIR_QUALITY,
            HourRange(datetime(2020, 11, 26, tzinfo=UTC), datetime(2020, 11, 27, tzinfo=UTC)),
            HourRange(datetime(2020, 11, 26, tzinfo=UTC), datetime(2020, 11, 26, 23, tzinfo=UTC)),
        ),
        (
            "recorded",
            OBSERVATIONS,
            HourRange(datetime(2013, 12, 31, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)),
            HourRange(datetime(2014, 1, 1, tzinfo=UTC), datetime(2014, 1, 1, tzinfo=UTC)),
        ),
    ],
)
def test_hours_that_no_endpoint_serves_are_told_and_the_others_are_asked_for(
    plan: str, dataset: Dataset, hours: HourRange, not_served: HourRange
) -> None:
    stretches, gaps = route(openweather.plans(None)[plan].endpoints, dataset, hours, now=NOW)
    assert gaps == [not_served]
    assert sum(len(stretch.hours) for stretch in stretches) == len(hours) - len(not_served)


def test_the_refusal_names_plan_dataset_hours_what_is_served_and_ways_out() -> None:
    endpoints = openweather.plans(None)["free"].endpoints
    _, gaps = route(endpoints, OBSERVATIONS, hours_ago(3), now=NOW)
    message = not_served_message(
        endpoints, OBSERVATIONS, gaps, now=NOW, asked_of="openweather (plan free)", ways_out="wait"
    )
    assert message == (
        "openweather (plan free) cannot bring observations of 2026-11-25T10:00 to 2026-11-25T12:00: "
        "/data/2.5/weather serves the running hour only (2026-11-25T13:00). Ways out: wait"
    )


def test_an_inclusive_end_and_an_exclusive_one_mean_the_same_hours() -> None:
    hours = hours_ago(5, 1)
    (call,) = planned("simulator", OBSERVATIONS, hours)
    assert call.query["start"] == hours.first.timestamp()
    assert call.query["end"] == hours.end.timestamp() - 1
    assert (call.query["type"], call.query["units"]) == ("hour", "metric")
