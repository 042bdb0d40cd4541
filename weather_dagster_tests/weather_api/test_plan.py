"""Which calls a range becomes and in which order, and what is said when they are more than are left."""

import dataclasses
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from weather_dagster.datasets import FORECASTS, OBSERVATIONS, Dataset
from weather_dagster.errors import BudgetExceeded
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.client import Inquiry
from weather_dagster.weather_api.ledger import Spent
from weather_dagster.weather_api.plan import Need
from weather_dagster.weather_api.providers import build_providers
from weather_dagster.weather_api.service import Limit, Window
from weather_dagster_tests.weather_api.answers import NOW, hours_ago, series
from weather_dagster_tests.weather_api.provider_apps import KEY, Replay, api_of, json_answer

PLACES = load_locations()
FREE = {"weather_provider": "openweather", "openweather_plan": "free"}


def configured(home: Path, settings: Mapping[str, Any], limits: Mapping[str, tuple[Limit, ...]] | None = None) -> Any:
    """The facade as the settings have it; ``limits`` take the place of those of Open-Meteo."""
    loaded = Settings.load(_env_file=None, weather_home=home, openweather_api_key=KEY, **settings)
    providers = [
        dataclasses.replace(each, service=dataclasses.replace(each.service, limits=limits))
        if limits and each.name == "open_meteo"
        else each
        for each in build_providers(loaded)
    ]
    return WeatherApi(providers, clock=lambda: NOW)


@pytest.mark.parametrize(
    ("settings", "dataset", "endpoints"),
    [
        (FREE, OBSERVATIONS, ["/data/2.5/weather", "api/v1/forecast"]),
        (
            {**FREE, "openweather_plan": "one_call_3"},
            OBSERVATIONS,
            ["/data/3.0/onecall", "/data/3.0/onecall/timemachine"],
        ),
        ({**FREE, "openweather_plan": "professional"}, OBSERVATIONS, ["/data/2.5/weather", "/data/2.5/history/city"]),
        ({"weather_provider": "open_meteo"}, FORECASTS, ["api/v1/forecast", "previous-runs-api/v1/forecast"]),
    ],
)
def test_what_only_the_running_hour_serves_is_asked_first(
    tmp_path: Path, settings: Mapping[str, Any], dataset: Dataset, endpoints: list[str]
) -> None:
    plan = configured(tmp_path, settings).plan(dataset, PLACES[:2], hours_ago(48))
    assert [label for label, _ in groupby(call.endpoint.label for _, call in plan.calls())] == endpoints


def test_a_range_above_the_budget_makes_no_call_and_says_what_would_fit() -> None:
    app = Replay(json_answer(series()))
    api = api_of(app, limits={"history": (Limit(5, Window.DAY),)})
    with pytest.raises(BudgetExceeded) as caught:
        api.require_budget([api.plan(OBSERVATIONS, PLACES[:2], hours_ago(700, 1))])
    for part in (
        "10 calls",
        "5 of 5 a day left",
        "336 of 700 hours would fit: --from 2026-10-27T09:00 --to 2026-11-10T08:00.",
        "WEATHER_PROVIDER=open_meteo",
    ):
        assert part in str(caught.value)
    # Ten calls are more than any day has.
    assert "wait until" not in str(caught.value)
    assert app.queries == []


def test_to_wait_is_a_way_out_where_the_next_window_has_enough() -> None:
    api = api_of(Replay(json_answer(series())), limits={"history": (Limit(5, Window.DAY),)})
    with api.ledger() as ledger:
        for _ in range(3):
            ledger.admit(Inquiry("http://test/x", "/x", {}, "history"), "r", lambda: NOW)
    with pytest.raises(BudgetExceeded, match=r"2 of 5 a day left.*wait until 2026-11-26T00:00:00Z"):
        api.require_budget([api.plan(OBSERVATIONS, PLACES[:2], hours_ago(300, 1))])


def test_the_ways_out_are_those_of_the_provider_that_is_short(tmp_path: Path) -> None:
    api = configured(tmp_path, FREE, {"open_meteo": (Limit(1, Window.DAY),)})
    with pytest.raises(BudgetExceeded) as caught:
        api.require_budget([api.plan(OBSERVATIONS, PLACES, hours_ago(2_000))])
    ways_out = str(caught.value).partition("Ways out: ")[2]
    assert ways_out == (
        "ask for fewer hours or places; "
        "set OPENWEATHER_PLAN to one_call_3 or one_call_4 or professional if the account has that subscription"
    )


def test_calls_that_have_landed_need_no_budget_and_a_shorter_range_is_told_to_ask_for_them_again() -> None:
    limit = Limit(3, Window.DAY)
    api = api_of(Replay(json_answer(series())), limits={"history": (limit,)})
    plan = api.plan(OBSERVATIONS, PLACES[:2], hours_ago(700, 1))
    keys = [call.key for _, call in plan.calls()]
    assert api.require_budget([dataclasses.replace(plan, landed=frozenset(keys[:7]))]) == [
        Need("openweather", Spent("history", limit, 0), 3, 3)
    ]
    with pytest.raises(BudgetExceeded, match=r"168 of 700 hours would fit: .*, which asks for all of them, landed or"):
        api.require_budget([dataclasses.replace(plan, landed=frozenset(keys[:6]))])
