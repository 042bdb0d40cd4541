"""What the spent calls of a month come to, in calls and in money: the outlook that ``weather budget`` shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from weather_dagster.weather_api.ledger import Spent, window_end, window_start
from weather_dagster.weather_api.openweather import Price
from weather_dagster.weather_api.service import Window

LEAST_SHARE = 0.02
"""Of a window that must be over before its end is foretold: half an hour of a day, half a day of a month."""


@dataclass(frozen=True)
class Outlook:
    """A limit, what is spent and left of it, and what will be spent by the end of its window at the pace so far."""

    provider: str
    product: str
    window: Window
    limit: float
    spent: float
    left: float
    expected: float | None
    """None as long as too little of the window is over, and for a minute."""


def outlook(spent: Iterable[tuple[str, Spent]], now: datetime) -> list[Outlook]:
    """The outlook of each limit of each provider, given as (provider, spent)."""
    return [
        Outlook(
            provider,
            each.product,
            each.limit.window,
            each.limit.amount,
            each.amount,
            each.left,
            _expected(each.amount, each.limit.window, now),
        )
        for provider, each in spent
    ]


@dataclass(frozen=True)
class Cost:
    """What the calls of a product cost this month, in the price's currency."""

    provider: str
    product: str
    price: str
    """In words."""
    currency: str
    so_far: float
    expected: float | None
    """By the end of the month at the pace so far; None as long as too little of it is over."""


def costs(priced: Iterable[tuple[str, str, Price, Sequence[int]]], now: datetime) -> list[Cost]:
    """The cost of each product, given as (provider, product, price, calls of each day of this month)."""
    told = []
    for provider, product, price, days in priced:
        so_far = sum(map(price.of_a_day, days))
        expected = _expected(so_far, Window.MONTH, now)
        told.append(Cost(provider, product, str(price), price.currency, so_far, expected))
    return told


def _expected(amount: float, window: Window, now: datetime) -> float | None:
    if window is Window.MINUTE:
        return None
    start, end = window_start(window, now), window_end(window, now)
    share = (now - start) / (end - start)
    return amount / share if share >= LEAST_SHARE else None
