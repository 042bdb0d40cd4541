"""What an endpoint is, which hours it serves, and how a range of hours becomes the fewest calls.

Belongs here: provider-neutral declarations and planning. Does not belong here: HTTP (``client``), the
endpoints themselves (``openweather``).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from weather_dagster.datasets import Dataset
from weather_dagster.errors import HourNotServed
from weather_dagster.hours import HourRange, floor_hour, format_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api.records import Answer

MAX_RANGES_NAMED = 3


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

    def _bounds(self, running: datetime) -> tuple[datetime | None, datetime]:
        first = running + self.first if isinstance(self.first, timedelta) else self.first
        return first, running + self.last if isinstance(self.last, timedelta) else self.last


RUNNING_HOUR = Served(timedelta(0))


@dataclass(frozen=True)
class Endpoint:
    """One way to ask a provider for one dataset."""

    base_url: str
    path: str
    dataset: Dataset
    served: Served
    hours_per_call: int
    query: Callable[[Location, HourRange], Mapping[str, str | int | float]]
    """Query parameters, without credentials."""
    read: Callable[[Any, Answer], None]
    """Puts the parsed body into the answer; raises MalformedAnswer for another envelope."""
    tolerance: timedelta = timedelta(0)
    """How long before its hour a reading may lie and still count for it."""
    rows_per_hour: int = 1
    """Rows that an hour of a place is expected to bring."""
    tells_hour: bool = True
    """False: an answer is of the hour in which it is given, and does not say which."""


@dataclass(frozen=True)
class ApiCall:
    """One request: an endpoint, a place, and hours that the endpoint serves in one answer."""

    endpoint: Endpoint
    location: Location
    hours: HourRange

    @property
    def url(self) -> str:
        """Address without query."""
        return self.endpoint.base_url + self.endpoint.path

    @property
    def query(self) -> Mapping[str, str | int | float]:
        """Query parameters, without credentials."""
        return self.endpoint.query(self.location, self.hours)

    @property
    def expected_rows(self) -> int:
        """Rows that the answer is expected to bring."""
        return len(self.hours) * self.endpoint.rows_per_hour

    def __str__(self) -> str:
        return f"{self.endpoint.path} for {self.location.id}, {self.hours}"

    def read(self, document: Any, provider: str) -> Answer:
        """Read the parsed body of the answer to this call.

        Raises:
            MalformedAnswer: the envelope is not the endpoint's.
        """
        endpoint = self.endpoint
        answer = Answer(endpoint.dataset, provider, endpoint.path, self.location, self.hours, endpoint.tolerance)
        endpoint.read(document, answer)
        return answer


def group_loads(calls: Iterable[ApiCall], rows: int) -> Iterator[list[ApiCall]]:
    """Cut ``calls`` into runs of whole calls of at most ``rows`` expected rows, or of one call that brings more."""
    load: list[ApiCall] = []
    expected = 0
    for call in calls:
        if load and expected + call.expected_rows > rows:
            yield load
            load, expected = [], 0
        load.append(call)
        expected += call.expected_rows
    if load:
        yield load


def plan_calls(
    endpoints: Sequence[Endpoint],
    dataset: Dataset,
    locations: Sequence[Location],
    hours: HourRange,
    *,
    now: datetime,
    asked_of: str,
    ways_out: str,
) -> list[ApiCall]:
    """The fewest calls that bring ``dataset`` for every place and hour; each hour takes its first endpoint.

    Args:
        asked_of: provider and plan, for the message.
        ways_out: what a person can do about an hour that is not served.

    Raises:
        HourNotServed: naming provider, plan, dataset, hours, what is served instead, and the ways out.
    """
    running = floor_hour(now)
    candidates = [e for e in endpoints if e.dataset is dataset]

    def endpoint_of(hour: datetime) -> Endpoint | None:
        return next((e for e in candidates if e.served.covers(hour, running)), None)

    calls: list[ApiCall] = []
    not_served: list[HourRange] = []
    for endpoint, group in groupby(hours, key=endpoint_of):
        members = list(group)
        span = HourRange(members[0], members[-1])
        if endpoint is None:
            not_served.append(span)
        else:
            calls += [
                ApiCall(endpoint, location, part)
                for part in span.split(endpoint.hours_per_call)
                for location in locations
            ]
    if not_served:
        named = ", ".join(map(str, not_served[:MAX_RANGES_NAMED]))
        more = ", and more" if len(not_served) > MAX_RANGES_NAMED else ""
        served = "; ".join(f"{e.path} serves {e.served.describe(running)}" for e in candidates)
        raise HourNotServed(f"{asked_of} cannot bring {dataset.name} of {named}{more}: {served}. Ways out: {ways_out}")
    return calls
