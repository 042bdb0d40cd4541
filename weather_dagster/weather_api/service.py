"""What the client must know of a provider, and how patient it is: values, without the client's libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from pydantic import SecretStr

from weather_dagster.state import Place

PROVIDER_HEADER = "X-Weather-Provider"
"""Header in which made-up and recorded weather names itself, whoever was thought to be asked."""


class Window(StrEnum):
    """Periods that a provider counts calls in. A minute is any 60 seconds; the others are of the calendar, in UTC."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True)
class Limit:
    """At most ``amount`` of a product in a window, in calls or, where calls differ in price, in their weight."""

    amount: float
    window: Window


def _ten_minutes(message: str, now: datetime) -> timedelta:
    return timedelta(minutes=10)


@dataclass(frozen=True)
class Service:
    """What the client must know of a provider."""

    name: str
    credentials: Mapping[str, SecretStr]
    """Query parameters that are secret."""
    verdict: Callable[[Any], tuple[int | None, str | None]]
    """HTTP status and message that a parsed body itself declares, where it does."""
    hint: Callable[[int, str], str | None]
    """Way out by HTTP status and the provider's message."""
    limits: Mapping[str, tuple[Limit, ...]]
    """By product, as the plan that is configured has them."""
    ledger: Place
    """Database that tells of the calls made; all who name the same one share the limits."""
    blocked_for: Callable[[str, datetime], timedelta] = _ten_minutes
    """From the message of a 429 without Retry-After and the current instant: how long not to ask."""
    concurrency: int = 8
    """Calls that the provider takes at once."""


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try, seconds."""

    connect: float = 10
    read: float = 30
    attempt: float = 120
    """Bounds a whole attempt: a server that drips bytes never runs into the read time-out."""
    attempts: int = 4
    wait_initial: float = 0.5
    wait_max: float = 15
    wait_jitter: float = 1
    longest_pause: float = 300
    """A provider that says to wait longer ends the run; a shorter pause is waited out."""
    failures: int = 5
    """After so many calls in a row that came to nothing, the provider is taken to be down and no more are made."""
