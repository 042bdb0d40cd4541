"""How a range of a dataset becomes calls: who serves which hours, what that takes of each limit, whether it fits.

Belongs here: routing between providers, and the refusal of what is above the budget. Does not belong here: making the
calls (``api``), what an endpoint is (``endpoints``), counting what was spent (``ledger``).
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from weather_dagster.datasets import Dataset
from weather_dagster.errors import BudgetExceeded, HourNotServed
from weather_dagster.hours import HourRange, format_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint, Stretch, not_served_message, route
from weather_dagster.weather_api.ledger import Spent, open_ledger, window_end
from weather_dagster.weather_api.providers import Provider
from weather_dagster.weather_api.service import Window


@dataclass(frozen=True)
class Plan:
    """How a range of a dataset is asked for: who serves which hours, and the calls that takes."""

    dataset: Dataset
    locations: tuple[Location, ...]
    hours: HourRange
    stretches: tuple[tuple[Provider, Stretch], ...]
    primary: str
    """Name of the configured provider; hours of any other are rerouted."""
    landed: frozenset[str] = frozenset()
    """Keys of its calls that are not made, because a run that was left unfinished has landed their answers."""

    def calls(self) -> Iterator[tuple[Provider, ApiCall]]:
        """All its calls, landed or not, in the order in which they are made.

        What only the running hour serves comes first, before the clock passes it. Then, provider by provider and
        product by product, those that may turn out to be another than they are called.
        """

        def order(owned: tuple[Provider, Stretch]) -> tuple[bool, bool, str, str]:
            provider, stretch = owned
            is_longer = not stretch.endpoint.served.is_running_hour_only
            return is_longer, not provider.is_stand_in, provider.name, stretch.endpoint.product

        for provider, stretch in sorted(self.stretches, key=order):
            for call in stretch.calls(self.locations):
                yield provider, call

    def todo(self) -> Iterator[tuple[Provider, ApiCall]]:
        """The calls that are to be made, in their order."""
        return (owned for owned in self.calls() if owned[1].key not in self.landed)

    @property
    def providers(self) -> list[Provider]:
        """Who is asked."""
        return list({provider.name: provider for provider, _ in self.stretches}.values())

    @property
    def routes(self) -> list[dict[str, Any]]:
        """Provider, endpoint, hours and whether it stands in for the configured one, as rows to show."""
        return [
            {
                "provider": provider.name,
                "endpoint": stretch.endpoint.label,
                "first_hour": format_hour(stretch.hours.first),
                "last_hour": format_hour(stretch.hours.last),
                "hours": len(stretch.hours),
                "rerouted": provider.name != self.primary,
            }
            for provider, stretch in self.stretches
        ]

    @property
    def request(self) -> str:
        """The same for the same range of the same dataset and places."""
        places = ",".join(sorted(location.id for location in self.locations))
        text = f"{self.primary} {self.dataset.name} {self.hours} {places}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def owners(providers: Sequence[Provider]) -> dict[Endpoint, Provider]:
    """Every endpoint in order of preference, and the first of the providers that has it."""
    owner: dict[Endpoint, Provider] = {}
    for provider in providers:
        for endpoint in provider.endpoints:
            owner.setdefault(endpoint, provider)
    return owner


def plan_range(
    providers: Sequence[Provider], dataset: Dataset, locations: Sequence[Location], hours: HourRange, *, now: datetime
) -> Plan:
    """Who of the providers, in order of preference, is asked for which hours.

    Raises:
        HourNotServed: no endpoint serves one of the hours.
    """
    owner = owners(providers)
    stretches, not_served = route(list(owner), dataset, hours, now=now)
    if not_served:
        raise HourNotServed(
            not_served_message(
                list(owner),
                dataset,
                not_served,
                now=now,
                asked_of=" with ".join(provider.description for provider in providers),
                ways_out=providers[0].ways_out,
            )
        )
    owned = tuple((owner[stretch.endpoint], stretch) for stretch in stretches)
    return Plan(dataset, tuple(locations), hours, owned, providers[0].name)


@dataclass(frozen=True)
class Need:
    """What a plan takes of a limit, beside what is left of it."""

    provider: str
    spent: Spent
    calls: int
    weight: float

    @property
    def fits(self) -> bool:
        """Whether it can be had. A minute's limit only sets the pace."""
        return self.spent.limit.window is Window.MINUTE or self.weight <= self.spent.left

    def __str__(self) -> str:
        limit = self.spent.limit
        return (
            f"{self.spent.product} of {self.provider}: {self.calls:,} calls (weight {self.weight:,.10g}) needed, "
            f"{self.spent.left:,.10g} of {limit.amount:,.10g} a {limit.window} left"
        )


def needs_of(providers: Sequence[Provider], plans: Sequence[Plan], *, now: datetime) -> list[Need]:
    """What these plans take of every limit they touch. A call may be tried again, which is not foreseen here."""
    calls: Counter[tuple[str, str]] = Counter()
    weights: defaultdict[tuple[str, str], float] = defaultdict(float)
    for plan in plans:
        if plan.landed:
            for provider, call in plan.todo():
                calls[provider.name, call.product] += call.endpoint.pages
                weights[provider.name, call.product] += call.weight * call.endpoint.pages
        else:
            for provider, stretch in plan.stretches:
                count, weight = stretch.cost(len(plan.locations))
                calls[provider.name, stretch.endpoint.product] += count
                weights[provider.name, stretch.endpoint.product] += weight
    needs = []
    for provider in providers:
        with open_ledger(provider.service, read_only=True) as ledger:
            for spent in ledger.spent(now):
                counted = provider.name, spent.product
                if calls[counted]:
                    needs.append(Need(provider.name, spent, calls[counted], weights[counted]))
    return needs


def require_budget(providers: Sequence[Provider], plans: Sequence[Plan], *, now: datetime) -> list[Need]:
    """Refuse what takes more calls than are left, before the first of them.

    Args:
        plans: for the same hours.

    Raises:
        BudgetExceeded: naming what is needed, what is left, what would fit, and the ways out.
    """
    needs = needs_of(providers, plans, now=now)
    short = [need for need in needs if not need.fits]
    if not short:
        return needs
    ways = ["ask for fewer hours or places"]
    if all(need.weight <= need.spent.limit.amount for need in short):
        until = max(window_end(need.spent.limit.window, now) for need in short)
        ways.append(f"wait until {until:%Y-%m-%dT%H:%M:%SZ}")
    lacking = {need.provider for need in short}
    ways += [provider.ways_to_more_calls for provider in providers if provider.name in lacking]
    raise BudgetExceeded(
        f"more calls than are left, so none is made: {'; '.join(map(str, short))}. "
        f"{_what_would_fit(providers, plans, now)} Ways out: {'; '.join(filter(None, ways))}"
    )


def _what_would_fit(providers: Sequence[Provider], plans: Sequence[Plan], now: datetime) -> str:
    """The longest part of the range, from its first hour on, that the budget allows.

    Another range than the one that was left unfinished: it is asked for whole, whatever of it has landed.
    """
    hours = plans[0].hours
    fitting, too_many = 0, len(hours)
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        part = next(hours.split(middle))
        shorter = [plan_range(providers, plan.dataset, plan.locations, part, now=now) for plan in plans]
        if all(need.fits for need in needs_of(providers, shorter, now=now)):
            fitting = middle
        else:
            too_many = middle
    if not fitting:
        return "Not even one hour would fit."
    part = next(hours.split(fitting))
    anew = ", which asks for all of them, landed or not" if any(plan.landed for plan in plans) else ""
    return (
        f"{fitting:,} of {len(hours):,} hours would fit: --from {format_hour(part.first)} "
        f"--to {format_hour(part.last)}{anew}."
    )
