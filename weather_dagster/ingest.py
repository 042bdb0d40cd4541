"""Landing a range of hours in bronze: plan, compare with the budget, fetch, check, write. No Dagster here.

The Dagster assets and the independent ingestor (``weather ingest``) both call ``land_range``.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weather_dagster.datasets import Dataset
from weather_dagster.errors import ProviderError, RangeIncomplete, WarehouseError
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import realm
from weather_dagster.warehouse.duckdb import DuckDBWarehouse
from weather_dagster.weather_api.api import Failure, Fetched, Plan, WeatherApi

OpenWarehouse = Callable[[], AbstractContextManager[DuckDBWarehouse]]

MAX_FAILURES_NAMED = 5


@dataclass
class Landing:
    """What landing a range did. Counts by hour are keyed by the partition's hour, aware, UTC."""

    dataset: Dataset
    providers: tuple[str, ...]
    """Who gave the answers; the configured provider as long as there is none."""
    hours: HourRange
    plan: Plan | None = None
    """None: no provider has anything of this kind, no call was made."""
    budget: list[str] = field(default_factory=list)
    """What was needed of each limit, beside what was left, before the first call."""
    calls: int = 0
    """Requests that went out, retries included."""
    wasted: int = 0
    """Those of them that brought nothing."""
    resumed: int = 0
    """Calls that were not made, because an earlier run that was not finished had brought their answers in."""
    rows_added: int = 0
    quarantined: int = 0
    fetch_seconds: float = 0.0
    """Calling the provider and checking its answers, wall clock."""
    land_seconds: float = 0.0
    """Waiting for the store and writing, wall clock."""
    received_by_hour: Counter[datetime] = field(default_factory=Counter)
    rejected_by_hour: Counter[datetime] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    """Calls that came to nothing."""
    stopped: ProviderError | None = None
    """Why no more calls were made."""

    @property
    def offered(self) -> bool:
        """Whether any provider has data of this kind."""
        return self.plan is not None

    @property
    def rows_received(self) -> int:
        """Rows the provider delivered, new to the store or not."""
        return self.received_by_hour.total()

    def require_complete(self) -> None:
        """Fail when not everything that was asked for has come.

        Raises:
            ProviderError: the provider's own, when nothing at all came; else RangeIncomplete, naming what is missing.
        """
        if not (self.failures or self.stopped):
            return
        if self.stopped and not (self.failures or self.rows_received):
            raise self.stopped
        told = [f"{failure.call}: {failure.error}" for failure in self.failures[:MAX_FAILURES_NAMED]]
        if more := len(self.failures) - len(told):
            told.append(f"and {more:,} more calls")
        if self.stopped:
            told.append(f"then no more calls were made: {self.stopped}")
        raise RangeIncomplete(
            f"{self.dataset.name} of {self.hours} are incomplete, {self.rows_received:,} rows came and landed; "
            "run the same range again, which asks only for what is missing. " + "; ".join(told)
        )


def land_range(
    api: WeatherApi,
    open_warehouse: OpenWarehouse,
    dataset: Dataset,
    locations: Sequence[Location],
    hours: HourRange,
    *,
    run_id: str,
    on_call: Callable[[int, int], None] | None = None,
) -> Landing:
    """Fetch ``hours`` of ``dataset`` for all places and land them; running it again adds no row.

    The warehouse is opened before the first call, so that a store that cannot be written costs no
    call, and is not held while the provider answers. Each load of calls is one transaction. A call that comes
    to nothing does not keep the others from landing: ``Landing.require_complete`` tells of it. The same range
    asked for again then asks only for what is missing.

    Raises:
        HourNotServed, BudgetExceeded: before any call.
        WarehouseError: the store cannot be opened or written, or holds data of another realm than the answers'.
    """
    landing = Landing(dataset, (api.provider,), hours)
    if not api.offers(dataset):
        return landing
    plan = landing.plan = api.plan(dataset, locations, hours)
    with open_warehouse() as warehouse:
        if not api.is_stand_in:
            _require_same_realm(warehouse, api.provider)
        if not warehouse.query("select load_id from bronze.loads limit 1"):
            # A new file: what had landed in another one is not here.
            api.finish(plan)
    landing.budget = [str(need) for need in api.require_budget([plan])]
    landing.resumed = len(api.landed_calls(plan))
    asked_at = time.perf_counter()
    providers: dict[str, None] = {}
    with closing(api.fetch(plan, run_id=run_id, on_call=on_call)) as loads:
        try:
            for fetched in loads:
                fetched_at = time.perf_counter()
                landing.fetch_seconds += fetched_at - asked_at
                with open_warehouse() as warehouse:
                    _land(warehouse, landing, fetched, locations, run_id)
                    _copy_calls(api, warehouse)
                api.note_landed(plan, fetched.answered)
                providers[fetched.provider] = None
                asked_at = time.perf_counter()
                landing.land_seconds += asked_at - fetched_at
        except ProviderError as error:
            landing.stopped = error
    landing.providers = tuple(providers) or landing.providers
    if landing.stopped:
        with open_warehouse() as warehouse:
            _copy_calls(api, warehouse)
    if not (landing.failures or landing.stopped):
        api.finish(plan)
    return landing


def _land(
    warehouse: DuckDBWarehouse, landing: Landing, fetched: Fetched, locations: Sequence[Location], run_id: str
) -> None:
    dataset, records = landing.dataset, fetched.records
    if records.num_rows:
        _require_same_realm(warehouse, fetched.provider)
    if records.num_rows or fetched.rejections:
        landed = warehouse.land(
            dataset,
            records,
            fetched.rejections,
            locations,
            provider=fetched.provider,
            hours=fetched.hours,
            run_id=run_id,
            now=utc_now(),
        )
        landing.rows_added += landed.rows_added
        landing.quarantined += landed.quarantined
    landing.calls += fetched.calls
    landing.wasted += fetched.wasted
    landing.failures += fetched.failures
    by_hour = records.group_by(dataset.partition_column).aggregate([([], "count_all")])
    landing.received_by_hour.update(
        dict(zip(by_hour[dataset.partition_column].to_pylist(), by_hour["count_all"].to_pylist(), strict=True))
    )
    landing.rejected_by_hour.update(datetime.fromtimestamp(r.hour_utc, UTC) for r in fetched.rejections)


def _copy_calls(api: WeatherApi, warehouse: DuckDBWarehouse) -> None:
    """Bring ``bronze.api_calls`` up to the ledger."""
    with api.ledger() as ledger:
        calls = ledger.calls_to_copy()
        if calls.num_rows:
            warehouse.record_calls(calls)
            ledger.note_copied(calls["call_id"].to_pylist())


def _require_same_realm(warehouse: DuckDBWarehouse, provider: str) -> None:
    # A load without rows keeps bodies that nobody could read: whose they were is not known.
    held = {
        realm(name) for (name,) in warehouse.query("select distinct provider from bronze.loads where rows_added > 0")
    }
    if others := held - {realm(provider)}:
        raise WarehouseError(
            f"this warehouse holds {' and '.join(sorted(others))} data, beside which {provider} data is not landed; "
            "let WEATHER_HOME name another folder, or WEATHER_DUCKDB_PATH another file"
        )
