"""Who may call what, and how often: accounts of the simulated OpenWeather, and Open-Meteo's limits by weight.

All instants are those of the app's clock, so a clock that stands still is one endless minute.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Product = Literal["free", "one_call_3", "one_call_4", "history"]
Refused = Literal["unknown", "not_subscribed", "blocked"]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Account:
    """What a key opens. The same object under several keys is one account, and their calls count together."""

    products: frozenset[Product] = frozenset({"free"})
    active_from: float | None = None
    """Unix seconds before which the key is unknown."""
    blocked_until: float | None = None
    """Unix seconds before which every call is refused."""
    calls_per_minute: int | None = None
    """Calls let in within any 60 s, over all products."""
    calls_per_day: int | None = None
    """Calls let in from 00:00 UTC on, of each product."""


_PLANS = {
    "free": Account(calls_per_minute=60),
    "one_call_3": Account(frozenset({"free", "one_call_3"}), calls_per_day=2000),
    "one_call_4": Account(frozenset({"free", "one_call_4"}), calls_per_day=2000),
    "professional": Account(frozenset({"free", "history"}), calls_per_minute=30_000),
}
"""Limits as sold, where one number says them for all products of the account: One Call has no limit by the
minute and a new subscription a cap of 2000 a day; Professional's 5000 a day hold for its history only."""


def account_of_plan(name: str) -> Account:
    """An account on OpenWeather's plan ``name``, with the limits of that plan.

    Raises:
        ValueError: naming the plans.
    """
    if name not in _PLANS:
        raise ValueError(f"no account is known for the plan {name!r}; plans: {', '.join(_PLANS)}")
    return _PLANS[name]


def product_of(path: str) -> Product:
    """The product that a path of OpenWeather's belongs to. The history of forecasts goes with history."""
    if path.startswith("/data/3.0/"):
        return "one_call_3"
    if path.startswith("/data/4.0/"):
        return "one_call_4"
    return "history" if path in ("/data/2.5/history/city", "/data/2.5/forecast/history") else "free"


class Rate:
    """How many events lay in the last minute, and the most in any minute so far."""

    def __init__(self) -> None:
        self._instants: deque[float] = deque()
        self.most = 0

    def now(self, instant: float) -> int:
        """Events in the 60 seconds that end at ``instant``."""
        while self._instants and self._instants[0] <= instant - _MINUTE:
            self._instants.popleft()
        return len(self._instants)

    def note(self, instant: float) -> None:
        """An event."""
        self._instants.append(instant)
        self.most = max(self.most, self.now(instant))


@dataclass
class _Usage:
    rate: Rate = field(default_factory=Rate)
    day: int = 0
    calls: dict[Product, int] = field(default_factory=dict)


class Gate:
    """Lets calls of OpenWeather's accounts in, or says why not."""

    def __init__(self, accounts: Mapping[str, Account] | None, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._clock = clock
        self._usage: dict[int, _Usage] = {}

    def admit(self, key: str | None, product: Product) -> Refused | None:
        """Why a call is refused; None lets it in and counts it. Without accounts every key opens everything."""
        if self._accounts is None:
            return None if key else "unknown"
        account, now = self._accounts.get(key or ""), self._clock()
        if account is None or (account.active_from is not None and now < account.active_from):
            return "unknown"
        if product not in account.products:
            return "not_subscribed"
        usage = self._usage.setdefault(id(account), _Usage())
        if usage.day != now // _DAY:
            usage.day, usage.calls = int(now // _DAY), {}
        today = usage.calls.get(product, 0)
        if (
            (account.blocked_until is not None and now < account.blocked_until)
            or (account.calls_per_minute is not None and usage.rate.now(now) >= account.calls_per_minute)
            or (account.calls_per_day is not None and today >= account.calls_per_day)
        ):
            return "blocked"
        usage.rate.note(now)
        usage.calls[product] = today + 1
        return None


@dataclass(frozen=True)
class WeightLimits:
    """Open-Meteo's limits for one caller, in weight; None has no limit."""

    per_minute: float | None = None
    per_hour: float | None = None
    per_day: float | None = None


class Scales:
    """Open-Meteo's counters: fixed windows from each full minute, hour and UTC day, looked at before a call."""

    def __init__(self, limits: WeightLimits, clock: Callable[[], float]) -> None:
        self._windows = ((_MINUTE, limits.per_minute), (_HOUR, limits.per_hour), (_DAY, limits.per_day))
        self._clock = clock
        self._spent = dict.fromkeys((_MINUTE, _HOUR, _DAY), (0, 0.0))

    def refusal(self) -> str | None:
        """The reason text when a window is used up."""
        now = self._clock()
        for seconds, limit in self._windows:
            window, spent = self._spent[seconds]
            if limit is not None and window == now // seconds and spent >= limit:
                return _LIMIT_REASONS[seconds]
        return None

    def spend(self, weight: float) -> None:
        """Count a call, a failed one as 1."""
        now = self._clock()
        for seconds, (window, spent) in self._spent.items():
            running = int(now // seconds)
            self._spent[seconds] = (running, weight + (spent if window == running else 0.0))


def weight(variables: int, days: float, places: int) -> float:
    """What a call costs: 1 for up to 10 variables, more for more of them or for over 14 days, for each place."""
    return places * max(1.0, variables / 10, variables / 10 * days / 14)


_LIMIT_REASONS = {
    _MINUTE: "Minutely API request limit exceeded. Please try again in one minute.",
    _HOUR: "Hourly API request limit exceeded. Please try again in the next hour.",
    _DAY: "Daily API request limit exceeded. Please try again tomorrow.",
}
