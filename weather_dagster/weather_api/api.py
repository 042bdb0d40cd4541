"""The facade that ingestion uses: a dataset, places and hours in, canonical records and rejections out.

Belongs here: carrying a plan out and what came of it, load by load. Which provider is asked for which hour and what
that costs is in ``plan``.
"""

import asyncio
import gc
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from weather_dagster.datasets import Dataset, Rejection, RejectionReason
from weather_dagster.errors import ConfigurationError, MalformedAnswer, ProviderError, TransientProviderError
from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.weather_api.endpoints import ApiCall, group_loads, route
from weather_dagster.weather_api.ledger import LandedCall, Ledger, Pause, Spent, open_ledger
from weather_dagster.weather_api.openweather import Price
from weather_dagster.weather_api.plan import Need, Plan, owners, plan_range, require_budget
from weather_dagster.weather_api.providers import Provider, build_providers
from weather_dagster.weather_api.records import Answer, payload_text
from weather_dagster.weather_api.service import Patience

if TYPE_CHECKING:
    from weather_dagster.weather_api.client import Client

ROWS_PER_LOAD = 300_000
"""It bounds memory, and keeps what came of a long range: a month of forecasts for ten places."""
CALLS_PER_LOAD = 500
"""So that a range that takes a call an hour and place loses no more than these when its run is killed."""

Closed = dict[tuple[str, str], ProviderError]
"""Providers and products of which no call can succeed now, and why."""


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
    empty: list[ApiCall]
    """Those of them that brought neither a row nor a rejection."""
    failures: list[Failure]


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

    def offers(self, dataset: Dataset) -> bool:
        """Whether any provider has an endpoint for ``dataset``."""
        return any(endpoint.dataset is dataset for endpoint in owners(self._providers))

    def not_served(self, dataset: Dataset, hours: HourRange) -> list[HourRange]:
        """The hours among these that no endpoint serves now."""
        _, not_served = route(list(owners(self._providers)), dataset, hours, now=self._clock())
        return not_served

    def plan(self, dataset: Dataset, locations: Sequence[Location], hours: HourRange) -> Plan:
        """Who is asked for which hours, before anything is done about it.

        Raises:
            HourNotServed: no endpoint serves one of the hours.
        """
        return plan_range(self._providers, dataset, locations, hours, now=self._clock())

    def landed_calls(self, plan: Plan) -> set[LandedCall]:
        """The calls that an earlier, unfinished run of the same plan has brought into whatever store it had."""
        with self.ledger() as ledger:
            return ledger.landed_calls(plan.request, self._clock())

    def note_landed(self, plan: Plan, calls: Iterable[LandedCall]) -> None:
        """The answers to these calls are in the store."""
        with self.ledger() as ledger:
            ledger.note_landed(plan.request, calls, self._clock())

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
            with open_ledger(provider.service, read_only=True) as ledger:
                told += [(provider.name, spent) for spent in ledger.spent(self._clock())]
        return told

    def priced_calls(self) -> list[tuple[str, str, Price, list[int]]]:
        """Provider, product, price and the calls of each day of this month, for all that costs by the call."""
        told = []
        for provider in self._providers:
            with open_ledger(provider.service, read_only=True) as ledger:
                told += [
                    (provider.name, product, price, ledger.calls_by_day(product, self._clock()))
                    for product, price in provider.prices.items()
                ]
        return told

    def outcomes(self) -> list[tuple[str, str, str, int]]:
        """Ended calls by provider, product and how they ended."""
        told = []
        for provider in self._providers:
            with open_ledger(provider.service, read_only=True) as ledger:
                told += [(provider.name, *counted) for counted in ledger.outcomes()]
        return told

    def blocks(self) -> dict[str, Pause]:
        """The providers that have closed their door on us, and until when."""
        told = {}
        for provider in self._providers:
            with open_ledger(provider.service, read_only=True) as ledger:
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

    def require_budget(self, plans: Sequence[Plan]) -> list[Need]:
        """What the plans, for the same hours, take of each limit; refuses what takes more calls than are left.

        Raises:
            BudgetExceeded: naming what is needed, what is left, what would fit, and the ways out.
        """
        return require_budget(self._providers, plans, now=self._clock())

    def fetch(
        self,
        plan: Plan,
        *,
        run_id: str = "",
        on_call: Callable[[int, int], None] | None = None,
        on_provider: Callable[[str, str], None] | None = None,
        closed: Closed | None = None,
    ) -> Generator[Fetched, None, None]:
        """Carry a plan out in the fewest calls, load by load. What has landed of it is not asked for again.

        Between two loads no call is in flight, however long the caller takes. Close what is returned
        (``contextlib.closing``) when it is left early.

        Args:
            on_call: told the calls done and the calls to do after each answer.
            on_provider: told who was asked and who gave the answer, before any of its load is yielded; what it raises
                ends everything.
            closed: who is not asked. Who lets no call succeed any more is added.

        Raises:
            ProviderError: some were not asked, or not to the end; what the others brought has been yielded.
        """
        closed = {} if closed is None else closed
        todo = list(plan.todo())
        done = itertools.count(1)
        met: list[ProviderError] = []

        def answered() -> None:
            if on_call:
                on_call(next(done), len(todo))

        for (name, product), group in itertools.groupby(todo, key=lambda each: (each[0].name, each[1].product)):
            owned = list(group)
            if (name, product) not in closed:
                calls = [call for _, call in owned]
                try:
                    yield from self._fetch_from(owned[0][0], plan.dataset, calls, run_id, answered, on_provider)
                except ProviderError as error:
                    closed[name, product] = error
            if (error_met := closed.get((name, product))) and error_met not in met:
                met.append(error_met)
        if len(met) == 1:
            raise met[0]
        if met:
            raise ProviderError("; ".join(map(str, met)))

    def _fetch_from(
        self,
        provider: Provider,
        dataset: Dataset,
        calls: Sequence[ApiCall],
        run_id: str,
        answered: Callable[[], None],
        on_provider: Callable[[str, str], None] | None,
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
                for load in group_loads(calls, ROWS_PER_LOAD, CALLS_PER_LOAD):
                    with _without_cycle_search():
                        fetched, fatal = runner.run(self._fetch_load(client, dataset, load, answered, on_provider))
                    if fetched:
                        yield fetched
                    if fatal:
                        raise fatal
            finally:
                runner.run(client.__aexit__(None, None, None))

    async def _fetch_load(
        self,
        client: "Client",
        dataset: Dataset,
        load: Sequence[ApiCall],
        answered: Callable[[], None],
        on_provider: Callable[[str, str], None] | None,
    ) -> tuple[Fetched | None, ProviderError | None]:
        tables = [dataset.arrow_schema.empty_table()]
        rejections: list[Rejection] = []
        providers: set[str] = set()
        complete: list[ApiCall] = []
        failures: list[Failure] = []
        sent_before, wasted_before = client.calls_sent, client.calls_wasted
        unusable = 0
        failed: set[str] = set()
        fruitful: set[str] = set()
        fatal = None
        try:
            async with aclosing(client.fetch(load)) as answers:
                async for answer in answers:
                    call, error = answer.call, answer.error
                    if error is None:
                        try:
                            self._require_hour(call, answer.provider, is_own=call.endpoint.tells_hour)
                            is_own = True
                            for read in call.read(answer.document, answer.provider):
                                records, rejected = read.finish()
                                tables.append(records)
                                rejections += rejected
                                if records.num_rows or rejected:
                                    fruitful.add(call.key)
                                is_own &= all(r.reason is not RejectionReason.OUTSIDE_HOUR for r in rejected)
                            # A body of another shape may be anybody's.
                            if on_provider and answer.provider not in providers:
                                on_provider(client.service.name, answer.provider)
                            providers.add(answer.provider)
                            self._require_hour(call, answer.provider, is_own=is_own)
                        except MalformedAnswer as malformed:
                            error = MalformedAnswer(str(malformed), body=payload_text(answer.document))
                            client.ledger.amend_outcome(answer.call_id, "malformed")
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
            [call for call in complete if call.key not in fruitful],
            failures,
        )
        return fetched, fatal

    def _require_hour(self, call: ApiCall, provider: str, *, is_own: bool) -> None:
        """Refuse an answer for the running hour that is not known to be its own once that hour is over."""
        running = floor_hour(self._clock())
        if call.endpoint.served.is_running_hour_only and not is_own and running not in call.hours:
            raise TransientProviderError(
                f"the hour turned while {provider} was asked ({call}): the answer may be of "
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
