"""The facade that ingestion uses: a dataset, places and hours in, canonical records and rejections out."""

import asyncio
import gc
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from weather_dagster.datasets import Dataset, Rejection
from weather_dagster.errors import ConfigurationError, TransientProviderError
from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.weather_api.endpoints import ApiCall, group_loads, plan_calls
from weather_dagster.weather_api.providers import Provider, build_provider
from weather_dagster.weather_api.service import Patience

if TYPE_CHECKING:
    from weather_dagster.weather_api.client import Client

NETWORK_CONCURRENCY = 8
ROWS_PER_LOAD = 300_000
"""It bounds memory, and keeps what came of a long range: a month of forecasts for ten places."""


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


class WeatherApi:
    """One configured provider.

    Args:
        concurrency: calls in flight. In process they would only fill memory, the app answers one at a time.
        clock: tells the running hour.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        concurrency: int | None = None,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._provider = provider
        self._clock = clock
        self._concurrency = concurrency or (1 if provider.app else NETWORK_CONCURRENCY)
        self._patience = patience or Patience()

    @classmethod
    def from_settings(cls, settings: Settings) -> "WeatherApi":
        """The provider that the settings ask for.

        Raises:
            ConfigurationError: unknown provider or plan, missing key, unusable base URL.
        """
        return cls(build_provider(settings))

    @property
    def provider(self) -> str:
        """Name, as in WEATHER_PROVIDER and, unless another stands in, in the rows."""
        return self._provider.name

    @property
    def is_stand_in(self) -> bool:
        """Whether another host is asked than the provider's own, so that only ``Fetched`` tells who answers."""
        return self._provider.is_stand_in

    def offers(self, dataset: Dataset) -> bool:
        """Whether the provider has any endpoint for ``dataset``."""
        return any(endpoint.dataset is dataset for endpoint in self._provider.endpoints)

    def fetch(
        self,
        dataset: Dataset,
        locations: Sequence[Location],
        hours: HourRange,
        *,
        on_call: Callable[[int, int], None] | None = None,
    ) -> Generator[Fetched, None, None]:
        """Bring ``dataset`` for every place and hour in the fewest calls, load by load; no load when it is not offered.

        Between two loads no call is in flight, however long the caller takes. Close what is returned
        (``contextlib.closing``) when it is left early.

        Args:
            on_call: told the calls done and the calls to do after each answer.

        Raises:
            HourNotServed: at once and before any call, when no endpoint serves one of the hours.
            ProviderError: the first call that came to nothing, after retries where they can help.
        """
        calls = self._plan(dataset, locations, hours) if self.offers(dataset) else []
        return self._fetch(dataset, calls, on_call or (lambda done, total: None))

    def require_served(self, dataset: Dataset, hours: HourRange) -> None:
        """Refuse a range before anything is done about it.

        Raises:
            HourNotServed: no endpoint serves one of the hours.
        """
        self._plan(dataset, (), hours)

    def _plan(self, dataset: Dataset, locations: Sequence[Location], hours: HourRange) -> Sequence[ApiCall]:
        return plan_calls(
            self._provider.endpoints,
            dataset,
            locations,
            hours,
            now=self._clock(),
            asked_of=self._provider.description,
            ways_out=self._provider.ways_out,
        )

    def _fetch(
        self, dataset: Dataset, calls: Sequence[ApiCall], on_call: Callable[[int, int], None]
    ) -> Generator[Fetched, None, None]:
        if not calls:
            return
        # Here, not above: its libraries are a fifth of the time in which the code location loads.
        from weather_dagster.weather_api.client import Client

        client = Client(
            self._provider.service, app=self._provider.app, concurrency=self._concurrency, patience=self._patience
        )
        done = itertools.count(1)

        def answered() -> None:
            on_call(next(done), len(calls))

        with asyncio.Runner() as runner:
            runner.run(client.__aenter__())
            try:
                for load in group_loads(calls, ROWS_PER_LOAD):
                    with _without_cycle_search():
                        fetched = runner.run(self._fetch_load(client, dataset, load, answered))
                    yield fetched
            finally:
                runner.run(client.__aexit__(None, None, None))

    async def _fetch_load(
        self, client: "Client", dataset: Dataset, load: Sequence[ApiCall], answered: Callable[[], None]
    ) -> Fetched:
        tables = [dataset.arrow_schema.empty_table()]
        rejections: list[Rejection] = []
        providers = set()
        calls_before = client.calls_sent
        async with aclosing(client.fetch(load)) as answers:
            async for call, document, provider in answers:
                self._require_own_hour(call)
                records, rejected = call.read(document, provider).finish()
                tables.append(records)
                rejections += rejected
                providers.add(provider)
                answered()
        if len(providers) > 1:
            raise ConfigurationError(
                f"the answers came from {' and '.join(sorted(providers))}, which are never mixed; "
                "check OPENWEATHER_BASE_URL"
            )
        hours = HourRange(min(call.hours.first for call in load), max(call.hours.last for call in load))
        return Fetched(providers.pop(), hours, pa.concat_tables(tables), rejections, client.calls_sent - calls_before)

    def _require_own_hour(self, call: ApiCall) -> None:
        """Refuse an answer that does not tell its hour once that hour is over: it may be of the next one."""
        running = floor_hour(self._clock())
        if not call.endpoint.tells_hour and running not in call.hours:
            raise TransientProviderError(
                f"the hour turned while {self.provider} was asked ({call}): the answer may be of "
                f"{format_hour(running)} and does not land; run this again for {format_hour(running)}"
            )


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
