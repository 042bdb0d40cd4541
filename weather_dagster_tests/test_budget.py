"""What `weather budget` foretells: calls by the end of a window, and money by the end of the month."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weather_dagster.budget import Cost, costs
from weather_dagster.settings import Settings
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.client import Inquiry
from weather_dagster.weather_api.openweather import Price
from weather_dagster.weather_api.providers import build_providers
from weather_dagster_tests.weather_api.provider_apps import NOW

PRICE = Price(0.5, 10)


@pytest.mark.parametrize(
    ("days", "so_far", "expected"),
    [
        ([], 0, 0),
        # Free calls of a day that are left do not pay for another day.
        ([10, 1, 14], 2, 4),
    ],
)
def test_each_day_is_charged_above_its_free_calls_and_the_month_foretold(
    days: list[int], so_far: float, expected: float
) -> None:
    middle = datetime(2026, 11, 16, tzinfo=UTC)
    assert costs([("openweather", "one_call", PRICE, days)], middle) == [
        Cost("openweather", "one_call", "0.5 GBP a call above 10 a day", "GBP", so_far, expected)
    ]


def test_nothing_is_foretold_when_the_month_has_just_begun() -> None:
    (cost,) = costs([("openweather", "one_call", PRICE, [12])], datetime(2026, 11, 1, 5, tzinfo=UTC))
    assert (cost.so_far, cost.expected) == (1, None)


def test_calls_are_priced_by_their_day_of_the_running_month_in_utc(tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None,
        weather_provider="openweather",
        openweather_api_key="k",
        openweather_plan="one_call_3",
        openweather_one_call_per_day=2_000,
        weather_home=tmp_path,
    )
    api = WeatherApi(build_providers(settings), clock=lambda: NOW)
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    second = timedelta(seconds=1)
    with api.ledger() as ledger:
        for product, instants in {
            "one_call": [midnight.replace(day=1) - second, midnight.replace(day=1), midnight - second, midnight, NOW],
            "free": [NOW],
        }.items():
            for instant in instants:
                ledger.admit(Inquiry("http://test/x", "/x", {}, product), "r", lambda instant=instant: instant)
    ((provider, product, price, days),) = api.priced_calls()
    assert (provider, product, str(price)) == ("openweather", "one_call", "0.0012 GBP a call above 1,000 a day")
    assert sorted(days) == [1, 1, 2]
