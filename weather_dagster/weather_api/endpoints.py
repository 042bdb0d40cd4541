"""What an endpoint is, which hours it serves, and how a range of hours becomes the fewest calls.

Belongs here: provider-neutral declarations and planning. Does not belong here: HTTP (``client``), the
endpoints themselves (``openweather``, ``open_meteo``).
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from weather_dagster.datasets import Dataset
from weather_dagster.hours import HourRange, floor_hour, format_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api.records import Answer

MAX_RANGES_NAMED = 3
MAX_PLACES_NAMED = 3


@dataclass(frozen=True)
class Served:
    """The hours an endpoint can answer for, both ends inclusive.

    An offset counts from the running hour; ``first=None`` means without limit.
    """

    first: datetime | timedelta | None
    last: datetime | timedelta = timedelta(0)

    def covers(self, hour: datetime, running: datetime) -> bool:
        """Whether ``hour`` is served while ``running`` is the running hour."""
        first, last = self._bounds(running)
        return (first is None or first <= hour) and hour <= last

    def describe(self, running: datetime) -> str:
        """The served hours in words, for a message."""
        first, last = self._bounds(running)
        if first == last == running:
            return f"the running hour only ({format_hour(running)})"
        return f"{'any hour up' if first is None else format_hour(first)} to {format_hour(last)}"

    @property
    def is_running_hour_only(self) -> bool:
        """Whether no hour is served but the running one."""
        return self == RUNNING_HOUR

    def _bounds(self, running: datetime) -> tuple[datetime | None, datetime]:
        first = running + self.first if isinstance(self.first, timedelta) else self.first
        return first, running + self.last if isinstance(self.last, timedelta) else self.last


RUNNING_HOUR = Served(timedelta(0))


Parameters = Mapping[str, str | int | float]


def _one_call(places: int, hours: HourRange) -> float:
    return 1.0


@dataclass(frozen=True)
class Endpoint:
    """One way to ask a provider for one dataset."""

    base_url: str
    path: str
    dataset: Dataset
    served: Served
    hours_per_call: int
    query: Callable[[Sequence[Location], HourRange], Parameters]
    """Query parameters, without credentials."""
    read: Callable[[Any, Sequence[Answer]], None]
    """Puts the parsed body into the answers, one a place in the order of the call; raises MalformedAnswer for another
    envelope."""
    wrap: Callable[[Any, HourRange], Any]
    """The body that a provider would have sent around one record of these hours, so that a kept record can be read
    again."""
    tolerance: timedelta = timedelta(0)
    """How long before its hour a reading may lie and still count for it."""
    place_tolerance_km: float = 5.0
    """How far the point that an answer is for may lie from the place: providers round it, or move it to a grid."""
    rows_per_hour: int = 1
    """Rows that an hour of a place is expected to bring."""
    tells_hour: bool = True
    """False: an answer is of the hour in which it is given, and does not say which."""
    places_per_call: int = 1
    place_hours_per_call: int | None = None
    """Bounds places times hours of a call where both can be many."""
    product: str = "free"
    """What the calls are counted under, a key of ``Service.limits``."""
    weigh: Callable[[int, HourRange], float] = _one_call
    """Price of one request for so many places and these hours, in the unit of the product's limits."""
    pages: int = 1
    """Requests that one call takes to bring everything."""
    follow: "Callable[[Any, ApiCall], ApiCall | None] | None" = None
    """The call for the next page, from the parsed body; None when it was the last one."""
    name: str | None = None
    """For a provider whose hosts share a path: what tells the endpoint from the others."""

    @property
    def label(self) -> str:
        """What rows and messages call the endpoint."""
        return self.name or self.path


@dataclass(frozen=True)
class ApiCall:
    """One request: an endpoint, places, and hours that the endpoint serves in one answer."""

    endpoint: Endpoint
    locations: tuple[Location, ...]
    hours: HourRange
    page: Parameters = field(default_factory=dict)
    """Parameters that ask for a later page of the answer."""

    @property
    def url(self) -> str:
        """Address without query."""
        return self.endpoint.base_url + self.endpoint.path

    @property
    def query(self) -> Parameters:
        """Query parameters, without credentials."""
        return {**self.endpoint.query(self.locations, self.hours), **self.page}

    @property
    def product(self) -> str:
        """What it is counted under."""
        return self.endpoint.product

    @property
    def entry(self) -> Mapping[str, Any]:
        """Endpoint, dataset, places and hours (unix seconds), as the ledger keeps them."""
        return {
            "endpoint": self.endpoint.label,
            "dataset": self.endpoint.dataset.name,
            "location_ids": ",".join(location.id for location in self.locations),
            "first_hour_utc": int(self.hours.first.timestamp()),
            "last_hour_utc": int(self.hours.last.timestamp()),
        }

    @property
    def key(self) -> str:
        """The same for the same question, whatever page of it."""
        question = f"{self.url} {self.hours} {sorted(self.endpoint.query(self.locations, self.hours).items())}"
        return hashlib.blake2b(question.encode(), digest_size=16).hexdigest()

    @property
    def weight(self) -> float:
        """Price of one request of this call."""
        return self.endpoint.weigh(len(self.locations), self.hours)

    @property
    def expected_rows(self) -> int:
        """Rows that the answer is expected to bring."""
        return len(self.locations) * len(self.hours) * self.endpoint.rows_per_hour

    def __str__(self) -> str:
        named = ", ".join(location.id for location in self.locations[:MAX_PLACES_NAMED])
        more = len(self.locations) - MAX_PLACES_NAMED
        return f"{self.endpoint.label} for {named}{f' and {more} more' if more > 0 else ''}, {self.hours}"

    def read(self, document: Any, provider: str) -> list[Answer]:
        """Read the parsed body of the answer to this call; one answer a place, in their order.

        Raises:
            MalformedAnswer: the envelope is not the endpoint's.
        """
        endpoint = self.endpoint
        answers = [
            Answer(
                endpoint.dataset,
                provider,
                endpoint.label,
                location,
                self.hours,
                endpoint.tolerance,
                endpoint.place_tolerance_km,
            )
            for location in self.locations
        ]
        endpoint.read(document, answers)
        return answers

    def next_page(self, document: Any) -> "ApiCall | None":
        """The call that goes on where this answer ends."""
        return self.endpoint.follow(document, self) if self.endpoint.follow else None


@dataclass(frozen=True)
class Stretch:
    """Consecutive hours that one endpoint serves, for all places."""

    endpoint: Endpoint
    hours: HourRange

    def shape(self, places: int) -> tuple[int, int]:
        """Places and hours of a full call, such that the fewest calls cover ``places`` places."""
        endpoint = self.endpoint
        most = endpoint.place_hours_per_call

        def hours_with(together: int) -> int:
            return min(endpoint.hours_per_call, max(1, most // together) if most else endpoint.hours_per_call)

        def calls_with(together: int) -> int:
            return math.ceil(places / together) * math.ceil(len(self.hours) / hours_with(together))

        most_places = min(places, endpoint.places_per_call, most or places)
        together = min(range(1, max(1, most_places) + 1), key=calls_with)
        return together, hours_with(together)

    def cost(self, places: int) -> tuple[int, float]:
        """Requests, and their price, that it takes for so many places."""
        together, hours = self.shape(places)
        groups = [together] * (places // together) + [places % together] * (places % together > 0)
        parts = list(self.hours.split(hours))
        weight = sum(self.endpoint.weigh(group, part) for part in parts for group in groups)
        return len(parts) * len(groups) * self.endpoint.pages, weight * self.endpoint.pages

    def calls(self, locations: Sequence[Location]) -> Iterator[ApiCall]:
        """The fewest calls, hours first."""
        together, hours = self.shape(len(locations))
        for part in self.hours.split(hours):
            for places in (tuple(locations[i : i + together]) for i in range(0, len(locations), together)):
                yield ApiCall(self.endpoint, places, part)


def group_loads(calls: Iterable[ApiCall], rows: int, most: int) -> Iterator[list[ApiCall]]:
    """Cut into runs of at most ``most`` whole calls and ``rows`` expected rows, or of one call that brings more."""
    load: list[ApiCall] = []
    expected = 0
    for call in calls:
        if load and (len(load) >= most or expected + call.expected_rows > rows):
            yield load
            load, expected = [], 0
        load.append(call)
        expected += call.expected_rows
    if load:
        yield load


def route(
    endpoints: Sequence[Endpoint], dataset: Dataset, hours: HourRange, *, now: datetime
) -> tuple[list[Stretch], list[HourRange]]:
    """For every hour the first endpoint that serves it: stretches in the order of hours, and the hours of none."""
    running = floor_hour(now)
    candidates = [e for e in endpoints if e.dataset is dataset]

    def endpoint_of(hour: datetime) -> Endpoint | None:
        return next((e for e in candidates if e.served.covers(hour, running)), None)

    stretches: list[Stretch] = []
    not_served: list[HourRange] = []
    for endpoint, group in groupby(hours, key=endpoint_of):
        members = list(group)
        span = HourRange(members[0], members[-1])
        if endpoint is None:
            not_served.append(span)
        else:
            stretches.append(Stretch(endpoint, span))
    return stretches, not_served


def not_served_message(
    endpoints: Sequence[Endpoint],
    dataset: Dataset,
    not_served: Sequence[HourRange],
    *,
    now: datetime,
    asked_of: str,
    ways_out: str,
) -> str:
    """Which hours of what nobody serves, what is served instead, and the ways out.

    Args:
        asked_of: provider and plan.
        ways_out: what a person can do about it.
    """
    running = floor_hour(now)
    named = ", ".join(map(str, not_served[:MAX_RANGES_NAMED]))
    more = ", and more" if len(not_served) > MAX_RANGES_NAMED else ""
    served = "; ".join(f"{e.label} serves {e.served.describe(running)}" for e in endpoints if e.dataset is dataset)
    return f"{asked_of} cannot bring {dataset.name} of {named}{more}: {served}. Ways out: {ways_out}"
