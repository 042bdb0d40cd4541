"""Keys open what their accounts subscribed to, as often as the accounts allow."""

import dataclasses

import pytest

from weather_dagster.simulator.accounts import Account, account_of_plan, weight
from weather_dagster.simulator.app import create_app
from weather_dagster_tests.simulator.conftest import LYON, NOW, Get, client_of, unix

WEATHER = "/data/2.5/weather"
HISTORY = "/data/2.5/history/city"
THIRD = "/data/3.0/onecall"
FOURTH = "/data/4.0/onecall/current"
PAST = {"type": "hour", "start": unix("2026-11-20"), "end": unix("2026-11-21"), **LYON}


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock | None = None, **accounts: Account) -> Get:
    return client_of(create_app(accounts, clock=clock or Clock()))


@pytest.mark.parametrize(
    ("plan", "statuses"),
    [
        ("free", [200, 401, 401, 401]),
        ("one_call_3", [200, 401, 200, 401]),
        ("one_call_4", [200, 401, 401, 200]),
        ("professional", [200, 200, 401, 401]),
    ],
)
def test_a_plan_opens_its_products(plan: str, statuses: list[int]):
    get = opened(key=account_of_plan(plan))
    assert [get(path, appid="key", **PAST).status_code for path in (WEATHER, HISTORY, THIRD, FOURTH)] == statuses


def test_an_unknown_plan_is_named():
    with pytest.raises(ValueError, match="'golden'; plans: free, one_call_3, one_call_4, professional"):
        account_of_plan("golden")


def test_one_call_says_which_subscription_is_missing_and_history_does_not():
    get = opened(key=Account())
    for path, generation in ((THIRD, "3.0"), (FOURTH, "4.0")):
        assert (
            f"One Call {generation} requires a separate subscription"
            in get(path, appid="key", **LYON).json()["message"]
        )
    assert get(HISTORY, appid="key", **PAST).json()["message"].startswith("Invalid API key")
    assert get(THIRD, appid="other", **LYON).json()["message"].startswith("Invalid API key")


def test_a_new_key_is_unknown_until_it_is_active():
    clock = Clock()
    get = opened(clock, key=Account(active_from=NOW + 100))
    assert get(WEATHER, appid="key", **LYON).status_code == 401
    clock.now += 100
    assert get(WEATHER, appid="key", **LYON).status_code == 200


def test_a_blocked_account_is_refused_until_the_block_ends():
    clock = Clock()
    get = opened(clock, key=Account(blocked_until=NOW + 100))
    response = get(WEATHER, appid="key", **LYON)
    assert response.status_code == 429
    assert "temporary blocked" in response.json()["message"]
    clock.now += 100
    assert get(WEATHER, appid="key", **LYON).status_code == 200


def test_the_limit_by_the_minute_holds_in_any_sixty_seconds():
    clock = Clock()
    get = opened(clock, key=Account(calls_per_minute=3))
    statuses = []
    for pause in (0, 30, 20, 0, 9.9, 0.1, 0, 30):
        clock.now += pause
        statuses.append(get(WEATHER, appid="key", **LYON).status_code)
    assert statuses == [200, 200, 200, 429, 429, 200, 429, 200]


def test_the_limit_by_the_day_is_each_product_s_and_starts_anew_at_midnight_utc():
    clock = Clock()
    get = opened(clock, key=dataclasses.replace(account_of_plan("one_call_3"), calls_per_day=1))
    assert [get(path, appid="key", **LYON).status_code for path in (THIRD, THIRD, WEATHER)] == [200, 429, 200]
    clock.now = unix("2026-11-25T23:59")
    assert get(THIRD, appid="key", **LYON).status_code == 429
    clock.now = unix("2026-11-26T00:00")
    assert get(THIRD, appid="key", **LYON).status_code == 200


def test_keys_of_one_account_share_its_limit():
    account = Account(calls_per_minute=2)
    get = opened(one=account, two=account, three=Account(calls_per_minute=2))
    assert [get(WEATHER, appid=key, **LYON).status_code for key in ("one", "two", "two", "one", "three")] == [
        200,
        200,
        429,
        429,
        200,
    ]


def test_the_highest_rate_is_told():
    clock = Clock()
    get = opened(clock, key=Account())
    for pause in (0, 30, 29.9, 30, 600):
        clock.now += pause
        get(WEATHER, appid="key", **LYON)
    get("/data/2.5/forecast", appid="key", **LYON)
    assert get("/simulator/rates").json() == {"most_in_any_minute": {WEATHER: 3, "/data/2.5/forecast": 1, "all": 3}}
    get("/simulator/requests", method="DELETE")
    assert get("/simulator/rates").json() == {"most_in_any_minute": {}}


@pytest.mark.parametrize(
    ("variables", "days", "places", "expected"),
    [(12, 7, 1, 1.2), (12, 31, 1, 2.66), (12, 365, 1, 31.3), (12, 7, 100, 120), (1, 1, 5, 5)],
)
def test_the_weight_of_a_call_is_the_documented_one(variables: int, days: float, places: int, expected: float):
    assert weight(variables, days, places) == pytest.approx(expected, abs=0.02)
