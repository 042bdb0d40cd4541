"""What the spent calls of a month come to: the outlook that ``weather budget`` shows."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from weather_dagster.weather_api.ledger import Spent, window_end, window_start
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

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


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
            _expected(each, now),
        )
        for provider, each in spent
    ]


def _expected(spent: Spent, now: datetime) -> float | None:
    window = spent.limit.window
    if window is Window.MINUTE:
        return None
    start, end = window_start(window, now), window_end(window, now)
    share = (now - start) / (end - start)
    return spent.amount / share if share >= LEAST_SHARE else None
