"""The facade that ingestion uses: a dataset, places and hours in, canonical records and rejections out."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from weather_dagster.datasets import Dataset, Rejection
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.weather_api.endpoints import ApiCall, plan_calls
from weather_dagster.weather_api.providers import Provider, build_provider
from weather_dagster.weather_api.service import Patience

NETWORK_CONCURRENCY = 8


@dataclass(frozen=True)
class Fetched:
    """What a fetch brought."""

    provider: str
    records: pa.Table
    """Schema ``dataset.arrow_schema``."""
    rejections: list[Rejection]
    calls: int
    """Requests that went out, retries included."""


class WeatherApi:
    """One configured provider.

    Args:
        concurrency: calls in flight. In process they would only fill memory, the app answers one at a time.
    """

    def __init__(self, provider: Provider, *, concurrency: int | None = None, patience: Patience | None = None) -> None:
        self._provider = provider
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
        """Name, as in WEATHER_PROVIDER and in the rows."""
        return self._provider.name

    def offers(self, dataset: Dataset) -> bool:
        """Whether the provider has any endpoint for ``dataset``."""
        return any(endpoint.dataset is dataset for endpoint in self._provider.endpoints)

    def fetch(
        self,
        dataset: Dataset,
        locations: Sequence[Location],
        hours: HourRange,
        *,
        now: datetime | None = None,
        on_call: Callable[[int, int], None] | None = None,
    ) -> Fetched:
        """Bring ``dataset`` for every place and hour in the fewest calls; nothing when it is not offered.

        Args:
            now: the instant that tells the running hour, the current one when left out.
            on_call: told the calls done and the calls to do after each answer.

        Raises:
            HourNotServed: before any call, when no endpoint serves one of the hours.
            ProviderError: the first call that came to nothing, after retries where they can help.
        """
        if not self.offers(dataset):
            return Fetched(self.provider, dataset.arrow_schema.empty_table(), [], 0)
        calls = self._plan(dataset, locations, hours, now or utc_now())
        with _without_cycle_search():
            return asyncio.run(self._fetch(dataset, calls, on_call))

    def require_served(self, dataset: Dataset, hours: HourRange, *, now: datetime) -> None:
        """Refuse a range before anything is done about it.

        Raises:
            HourNotServed: no endpoint serves one of the hours.
        """
        self._plan(dataset, (), hours, now)

    def _plan(
        self, dataset: Dataset, locations: Sequence[Location], hours: HourRange, now: datetime
    ) -> Sequence[ApiCall]:
        return plan_calls(
            self._provider.endpoints,
            dataset,
            locations,
            hours,
            now=now,
            asked_of=self._provider.description,
            ways_out=self._provider.ways_out,
        )

    async def _fetch(
        self, dataset: Dataset, calls: Sequence[ApiCall], on_call: Callable[[int, int], None] | None
    ) -> Fetched:
        # Here, not above: its libraries are a fifth of the time in which the code location loads.
        from weather_dagster.weather_api.client import Client

        tables = [dataset.arrow_schema.empty_table()]
        rejections: list[Rejection] = []
        client = Client(
            self._provider.service, app=self._provider.app, concurrency=self._concurrency, patience=self._patience
        )
        async with client, aclosing(client.fetch(calls)) as answers:
            async for call, document in answers:
                records, rejected = call.read(document, self.provider).finish()
                tables.append(records)
                rejections += rejected
                if on_call:
                    on_call(len(tables) - 1, len(calls))
        return Fetched(self.provider, pa.concat_tables(tables), rejections, client.calls_sent)


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
