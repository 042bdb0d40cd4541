"""The facade that ingestion uses: a dataset, places and hours in, canonical records and rejections out.

Belongs here: which provider is asked for which hour, what that costs, and what came of it, load by load.
"""

import asyncio
import gc
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from weather_dagster.datasets import Dataset, Rejection
from weather_dagster.errors import (
    BudgetExceeded,
    ConfigurationError,
    HourNotServed,
    MalformedAnswer,
    ProviderError,
    TransientProviderError,
)
from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.weather_api.endpoints import (
    ApiCall,
    Endpoint,
    Stretch,
    group_loads,
    not_served_message,
    route,
)
from weather_dagster.weather_api.ledger import Ledger, Pause, Spent, open_ledger, window_end
from weather_dagster.weather_api.providers import Provider, build_providers
from weather_dagster.weather_api.records import Answer, payload_text
from weather_dagster.weather_api.service import Patience, Window

if TYPE_CHECKING:
    from weather_dagster.weather_api.client import Client

ROWS_PER_LOAD = 300_000
"""It bounds memory, and keeps what came of a long range: a month of forecasts for ten places."""


@dataclass(frozen=True)
class Failure:
    """A call that came to nothing."""

    call: ApiCall
    error: ProviderError


@dataclass(frozen=True)
class Fetched:
    """What a load of calls brought, to be landed in one transaction."""

    provider: str
    """Who gave the answers: not the configured provider when a simulator stands in for it."""
    hours: HourRange
    """From the first to the last hour that its calls asked for."""
    records: pa.Table
    """Schema ``dataset.arrow_schema``."""
    rejections: list[Rejection]
    calls: int
    """Requests that went out, retries included."""
    wasted: int
    """Those of them that brought nothing."""
    answered: list[ApiCall]
    failures: list[Failure]


@dataclass(frozen=True)
class Plan:
    """How a range of a dataset is asked for: who serves which hours, and the calls that takes."""

    dataset: Dataset
    locations: tuple[Location, ...]
    hours: HourRange
    stretches: tuple[tuple[Provider, Stretch], ...]
    primary: str
    """Name of the configured provider; hours of any other are rerouted."""

    def calls(self) -> Iterator[tuple[Provider, ApiCall]]:
        """The calls, provider by provider."""
        for provider, group in itertools.groupby(
            sorted(self.stretches, key=lambda each: each[0].name), key=lambda each: each[0]
        ):
            for _, stretch in group:
                for call in stretch.calls(self.locations):
                    yield provider, call

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


class WeatherApi:
    """The configured provider, and the one that past hours are rerouted to.

    Args:
        providers: in order of preference: of several that serve an hour the first is asked.
        concurrency: calls in flight; by default what each service takes.
        clock: tells the running hour.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        concurrency: int | None = None,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._providers = tuple(providers)
        self._owner: dict[Endpoint, Provider] = {}
        for provider in providers:
            for endpoint in provider.endpoints:
                self._owner.setdefault(endpoint, provider)
        self._clock = clock
        self._concurrency = concurrency
        self._patience = patience or Patience()

    @classmethod
    def from_settings(cls, settings: Settings) -> "WeatherApi":
        """The providers that the settings ask for.

        Raises:
            ConfigurationError: unknown provider or plan, missing key, unusable base URL.
        """
        return cls(build_providers(settings))

    @property
    def provider(self) -> str:
        """Name, as in WEATHER_PROVIDER and, unless another stands in, in the rows."""
        return self._providers[0].name

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Who is asked, in order of preference."""
        return self._providers

    @property
    def is_stand_in(self) -> bool:
        """Whether another host is asked than the provider's own, so that only ``Fetched`` tells who answers."""
        return any(provider.is_stand_in for provider in self._providers)

    def offers(self, dataset: Dataset) -> bool:
        """Whether any provider has an endpoint for ``dataset``."""
        return any(endpoint.dataset is dataset for endpoint in self._owner)

    def not_served(self, dataset: Dataset, hours: HourRange) -> list[HourRange]:
        """The hours among these that no endpoint serves now."""
        _, not_served = route(list(self._owner), dataset, hours, now=self._clock())
        return not_served

    def plan(self, dataset: Dataset, locations: Sequence[Location], hours: HourRange) -> Plan:
        """Who is asked for which hours, before anything is done about it.

        Raises:
            HourNotServed: no endpoint serves one of the hours.
        """
        now = self._clock()
        stretches, not_served = route(list(self._owner), dataset, hours, now=now)
        if not_served:
            raise HourNotServed(
                not_served_message(
                    list(self._owner),
                    dataset,
                    not_served,
                    now=now,
                    asked_of=" with ".join(provider.description for provider in self._providers),
                    ways_out=self._providers[0].ways_out,
                )
            )
        owned = tuple((self._owner[stretch.endpoint], stretch) for stretch in stretches)
        return Plan(dataset, tuple(locations), hours, owned, self.provider)

    def landed_calls(self, plan: Plan) -> set[str]:
        """Keys of the calls that an earlier, unfinished run of the same plan has brought in."""
        with self.ledger() as ledger:
            return ledger.landed_calls(plan.request, self._clock())

    def note_landed(self, plan: Plan, calls: Sequence[ApiCall]) -> None:
        """The answers to these calls are in the store."""
        with self.ledger() as ledger:
            ledger.note_landed(plan.request, [call.key for call in calls], self._clock())

    def finish(self, plan: Plan) -> None:
        """The plan is carried out whole: the next one for the same range asks for everything again."""
        with self.ledger() as ledger:
            ledger.finish(plan.request)

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, which all providers share; opened as that of the configured one."""
        with open_ledger(self._providers[0].service) as ledger:
            yield ledger

    def spent(self) -> list[tuple[str, Spent]]:
        """Every limit of every provider with what is used of it."""
        told = []
        for provider in self._providers:
            with open_ledger(provider.service) as ledger:
                told += [(provider.name, spent) for spent in ledger.spent(self._clock())]
        return told

    def blocks(self) -> dict[str, Pause]:
        """The providers that have closed their door on us, and until when."""
        told = {}
        for provider in self._providers:
            with open_ledger(provider.service) as ledger:
                if block := ledger.block(self._clock()):
                    told[provider.name] = block
        return told

    @contextmanager
    def asking(self) -> Iterator[Callable[[str, Mapping[str, str | int]], Any]]:
        """A way to ask the configured provider's geocoder: path and parameters in, the parsed body out.

        Raises:
            ProviderError: from a question that came to nothing.
        """
        from weather_dagster.weather_api.client import Client, Inquiry

        provider = self._providers[0]
        client = Client(provider.service, app=provider.app, patience=self._patience, clock=self._clock)
        with asyncio.Runner() as runner:
            runner.run(client.__aenter__())
            try:
                yield lambda path, query: runner.run(
                    client.ask(Inquiry(provider.geocoder_url + path, path, query, provider.geocoder_product))
                )
            finally:
                runner.run(client.__aexit__(None, None, None))

    def needs(self, plans: Sequence[Plan]) -> list[Need]:
        """What these plans take of every limit they touch. A call may be tried again, which is not foreseen here."""
        calls: Counter[tuple[str, str]] = Counter()
        weights: defaultdict[tuple[str, str], float] = defaultdict(float)
        for plan in plans:
            if landed := self.landed_calls(plan):
                for provider, call in plan.calls():
                    if call.key not in landed:
                        calls[provider.name, call.product] += call.endpoint.pages
                        weights[provider.name, call.product] += call.weight * call.endpoint.pages
            else:
                for provider, stretch in plan.stretches:
                    count, weight = stretch.cost(len(plan.locations))
                    calls[provider.name, stretch.endpoint.product] += count
                    weights[provider.name, stretch.endpoint.product] += weight
        needs = []
        for provider in self._providers:
            with open_ledger(provider.service) as ledger:
                for spent in ledger.spent(self._clock()):
                    counted = provider.name, spent.product
                    if calls[counted]:
                        needs.append(Need(provider.name, spent, calls[counted], weights[counted]))
        return needs

    def require_budget(self, plans: Sequence[Plan]) -> list[Need]:
        """Refuse what takes more calls than are left, before the first of them.

        Raises:
            BudgetExceeded: naming what is needed, what is left, what would fit, and the ways out.
        """
        needs = self.needs(plans)
        short = [need for need in needs if not need.fits]
        if not short:
            return needs
        now = self._clock()
        told = "; ".join(map(str, short))
        until = max(window_end(need.spent.limit.window, now) for need in short)
        raise BudgetExceeded(
            f"more calls than are left, so none is made: {told}. {self._what_would_fit(plans)} "
            f"Ways out: ask for fewer hours or places; wait until {until:%Y-%m-%dT%H:%M:%SZ}; "
            f"{self._providers[0].ways_to_more_calls}"
        )

    def _what_would_fit(self, plans: Sequence[Plan]) -> str:
        """The longest part of the range, from its first hour on, that the budget allows."""
        hours = plans[0].hours
        fitting, too_many = 0, len(hours)
        while too_many - fitting > 1:
            middle = (fitting + too_many) // 2
            part = next(hours.split(middle))
            shorter = [self.plan(plan.dataset, plan.locations, part) for plan in plans]
            if all(need.fits for need in self.needs(shorter)):
                fitting = middle
            else:
                too_many = middle
        if not fitting:
            return "Not even one hour would fit."
        part = next(hours.split(fitting))
        return (
            f"{fitting:,} of {len(hours):,} hours would fit: --from {format_hour(part.first)} "
            f"--to {format_hour(part.last)}."
        )

    def fetch(
        self,
        plan: Plan,
        *,
        run_id: str = "",
        on_call: Callable[[int, int], None] | None = None,
    ) -> Generator[Fetched, None, None]:
        """Carry a plan out in the fewest calls, load by load. What has landed of it is not asked for again.

        Between two loads no call is in flight, however long the caller takes. Close what is returned
        (``contextlib.closing``) when it is left early.

        Args:
            on_call: told the calls done and the calls to do after each answer.

        Raises:
            ProviderError: no call can succeed now; what came before it has been yielded.
        """
        landed = self.landed_calls(plan)
        todo = [(provider, call) for provider, call in plan.calls() if call.key not in landed]
        done = itertools.count(1)

        def answered() -> None:
            if on_call:
                on_call(next(done), len(todo))

        for provider, group in itertools.groupby(todo, key=lambda each: each[0]):
            yield from self._fetch_from(provider, plan.dataset, [call for _, call in group], run_id, answered)

    def _fetch_from(
        self, provider: Provider, dataset: Dataset, calls: Sequence[ApiCall], run_id: str, answered: Callable[[], None]
    ) -> Generator[Fetched, None, None]:
        # Here, not above: its libraries are a fifth of the time in which the code location loads.
        from weather_dagster.weather_api.client import Client

        # In process more than one would only fill memory: the app answers one at a time.
        concurrency = self._concurrency or (1 if provider.app else provider.service.concurrency)
        client = Client(
            provider.service,
            app=provider.app,
            concurrency=concurrency,
            patience=self._patience,
            run_id=run_id,
            clock=self._clock,
        )
        with asyncio.Runner() as runner:
            runner.run(client.__aenter__())
            try:
                for load in group_loads(calls, ROWS_PER_LOAD):
                    with _without_cycle_search():
                        fetched, fatal = runner.run(self._fetch_load(client, dataset, load, answered))
                    if fetched:
                        yield fetched
                    if fatal:
                        raise fatal
            finally:
                runner.run(client.__aexit__(None, None, None))

    async def _fetch_load(
        self, client: "Client", dataset: Dataset, load: Sequence[ApiCall], answered: Callable[[], None]
    ) -> tuple[Fetched | None, ProviderError | None]:
        tables = [dataset.arrow_schema.empty_table()]
        rejections: list[Rejection] = []
        providers = set()
        complete: list[ApiCall] = []
        failures: list[Failure] = []
        sent_before, wasted_before = client.calls_sent, client.calls_wasted
        unusable = 0
        failed: set[str] = set()
        fatal = None
        try:
            async with aclosing(client.fetch(load)) as answers:
                async for answer in answers:
                    call, error = answer.call, answer.error
                    if error is None:
                        try:
                            self._require_own_hour(call)
                            for read in call.read(answer.document, answer.provider):
                                records, rejected = read.finish()
                                tables.append(records)
                                rejections += rejected
                            providers.add(answer.provider)
                        except MalformedAnswer as malformed:
                            error = MalformedAnswer(str(malformed), body=payload_text(answer.document))
                        except TransientProviderError as turned:
                            error = turned
                        # A good answer to the client, of which nothing lands.
                        unusable += error is not None
                    if error:
                        failed.add(call.key)
                        failures.append(Failure(call, error))
                        rejections += _unreadable(dataset, client.service.name, call, error)
                    elif answer.is_last_page and call.key not in failed:
                        # One bad page leaves the whole call to be asked again.
                        complete.append(replace(call, page={}))
                    if answer.is_last_page:
                        answered()
        except ProviderError as error:
            fatal = error
        if len(providers) > 1:
            raise ConfigurationError(
                f"the answers came from {' and '.join(sorted(providers))}, which are never mixed; "
                "check OPENWEATHER_BASE_URL and OPEN_METEO_BASE_URL"
            )
        if client.calls_sent == sent_before:
            return None, fatal
        hours = HourRange(min(call.hours.first for call in load), max(call.hours.last for call in load))
        fetched = Fetched(
            providers.pop() if providers else client.service.name,
            hours,
            pa.concat_tables(tables),
            rejections,
            client.calls_sent - sent_before,
            client.calls_wasted - wasted_before + unusable,
            complete,
            failures,
        )
        return fetched, fatal

    def _require_own_hour(self, call: ApiCall) -> None:
        """Refuse an answer that does not tell its hour once that hour is over: it may be of the next one."""
        running = floor_hour(self._clock())
        if not call.endpoint.tells_hour and running not in call.hours:
            raise TransientProviderError(
                f"the hour turned while {self.provider} was asked ({call}): the answer may be of "
                f"{format_hour(running)} and does not land; run this again for {format_hour(running)}"
            )


def _unreadable(dataset: Dataset, provider: str, call: ApiCall, error: ProviderError) -> list[Rejection]:
    """The body that came instead of an answer, filed under the first place and hour of its call."""
    if error.body is None:
        return []
    answer = Answer(dataset, provider, call.endpoint.label, call.locations[0], call.hours, call.endpoint.tolerance, 0)
    answer.reject_body(str(error), error.body)
    _, rejections = answer.finish()
    return rejections


@contextmanager
def _without_cycle_search() -> Iterator[None]:
    """Pause the garbage collector: it takes a third of the time to find no cycle among millions of parsed objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
