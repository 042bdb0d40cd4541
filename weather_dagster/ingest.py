"""Landing a range of hours in bronze: plan, compare with the budget, fetch, check, write. No Dagster here.

The Dagster assets and the independent ingestor (``weather ingest``) both call ``land_range``.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from weather_dagster import logs
from weather_dagster.datasets import Dataset
from weather_dagster.errors import ConfigurationError, ProviderError, RangeIncomplete, WarehouseError
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import realm
from weather_dagster.warehouse.base import Load, Warehouse
from weather_dagster.weather_api.api import Closed, Failure, Fetched, WeatherApi
from weather_dagster.weather_api.endpoints import ApiCall
from weather_dagster.weather_api.ledger import LandedCall
from weather_dagster.weather_api.plan import Plan

OpenWarehouse = Callable[[], AbstractContextManager[Warehouse]]

MAX_CALLS_NAMED = 5

_logger = logging.getLogger(__name__)


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
    empty: list[ApiCall] = field(default_factory=list)
    """Calls that were answered well, without a row. They are not asked again: there may be nothing to tell."""
    stopped: ProviderError | None = None
    """Why not all calls were made."""

    @property
    def offered(self) -> bool:
        """Whether any provider has data of this kind."""
        return self.plan is not None

    @property
    def empty_answers(self) -> str:
        """The calls that were answered without a row, in words; empty when there are none."""
        return "; ".join(_named([str(call) for call in self.empty]))

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
        told = _named([f"{failure.call}: {failure.error}" for failure in self.failures])
        if self.stopped:
            told.append(f"not all calls were made: {self.stopped}")
        raise RangeIncomplete(
            f"{self.dataset.name} of {self.hours} are incomplete, {self.rows_received:,} rows came and landed; "
            "run the same range again, which asks only for what is missing. " + "; ".join(told)
        )


def _named(calls: list[str]) -> list[str]:
    more = len(calls) - MAX_CALLS_NAMED
    return [*calls[:MAX_CALLS_NAMED], f"and {more:,} more calls"] if more > 0 else calls


def resume(api: WeatherApi, warehouse: Warehouse, plan: Plan) -> Plan:
    """The plan without the calls whose answers a run that was left unfinished has brought into this very store.

    The ledger tells which calls have landed, and the newest load of the store that they landed in. Only where that
    load is, what it and those before it brought is too: not in a new store, another one, or an older copy.
    """
    landed = api.landed_calls(plan)
    if not landed:
        return plan
    oldest = min(call.load_id for call in landed)
    sql = "select load_id, run_id from bronze.loads where load_id >= $oldest"
    loads = set(warehouse.query(sql, {"oldest": oldest}))
    held = {call.key for call in landed if (call.load_id, call.run_id) in loads}
    return replace(plan, landed=frozenset(call.key for _, call in plan.calls() if call.key in held))


def land_range(
    api: WeatherApi,
    open_warehouse: OpenWarehouse,
    dataset: Dataset,
    locations: Sequence[Location],
    hours: HourRange,
    *,
    run_id: str,
    on_call: Callable[[int, int], None] | None = None,
    closed: Closed | None = None,
) -> Landing:
    """Fetch ``hours`` of ``dataset`` for all places and land them; running it again adds no row.

    The warehouse is opened before the first call, so that a store that cannot be written costs no
    call, and is not held while the provider answers. Each load of calls is one transaction. A call that comes
    to nothing does not keep the others from landing: ``Landing.require_complete`` tells of it. The same range
    asked for again then asks only for what is missing.

    Args:
        closed: as in ``WeatherApi.fetch``; to be shared by ranges that are landed one after the other.

    Raises:
        HourNotServed, BudgetExceeded: before any call.
        WarehouseError: the store cannot be opened or written, or holds data of another realm than the answers'.
        ConfigurationError: one provider answers with live data, another with made-up data.
    """
    landing = Landing(dataset, (api.provider,), hours)
    with logs.bound(run_id=run_id, dataset=dataset.name):
        if api.offers(dataset):
            _fetch_and_land(landing, api, open_warehouse, locations, run_id, on_call, closed)
            _log_summary(landing, len(locations))
    return landing


def _log_summary(landing: Landing, places: int) -> None:
    counts = {
        "places": places,
        "calls": landing.calls,
        "failed_calls": len(landing.failures),
        "rows_added": landing.rows_added,
        "quarantined": landing.quarantined,
        "seconds": round(landing.fetch_seconds + landing.land_seconds, 3),
    }
    told = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    _logger.info(
        "%s of %s landed: %s", landing.dataset.name, landing.hours, told, extra={"hours": str(landing.hours), **counts}
    )


def _fetch_and_land(
    landing: Landing,
    api: WeatherApi,
    open_warehouse: OpenWarehouse,
    locations: Sequence[Location],
    run_id: str,
    on_call: Callable[[int, int], None] | None,
    closed: Closed | None,
) -> None:
    plan = api.plan(landing.dataset, locations, landing.hours)
    with open_warehouse() as warehouse:
        held = _held_realms(warehouse)
        plan = landing.plan = resume(api, warehouse, plan)
    # Only of a stand-in it takes an answer to know whose data it gives.
    known = [provider.name for provider in plan.providers if not provider.is_stand_in]
    for name in known:
        _require_same_realm(held, name)

    def meet(asked: str, told: str) -> None:
        _require_same_realm(held, told)
        if others := [name for name in known if name != asked and realm(name) != realm(told)]:
            raise ConfigurationError(
                f"{asked} answered with {told} data, which is never mixed with that of {' and '.join(others)}, where "
                "this range is asked for too; let OPENWEATHER_BASE_URL and OPEN_METEO_BASE_URL both name the "
                "simulator, or neither"
            )

    landing.budget = [str(need) for need in api.require_budget([plan])]
    landing.resumed = len(plan.landed)
    asked_at = time.perf_counter()
    providers: dict[str, None] = {}
    with closing(api.fetch(plan, run_id=run_id, on_call=on_call, on_provider=meet, closed=closed)) as loads:
        try:
            for fetched in loads:
                fetched_at = time.perf_counter()
                landing.fetch_seconds += fetched_at - asked_at
                with open_warehouse() as warehouse:
                    _land(warehouse, landing, fetched, locations, run_id)
                    _copy_calls(api, warehouse)
                    newest = warehouse.query("select load_id, run_id from bronze.loads order by load_id desc limit 1")
                api.note_landed(plan, [LandedCall(call.key, *load) for load in newest for call in fetched.answered])
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


def _land(warehouse: Warehouse, landing: Landing, fetched: Fetched, locations: Sequence[Location], run_id: str) -> None:
    dataset, records = landing.dataset, fetched.records
    if records.num_rows:
        _require_same_realm(_held_realms(warehouse), fetched.provider)
    if records.num_rows or fetched.rejections:
        landed = warehouse.land(
            Load(
                dataset,
                records,
                fetched.rejections,
                locations,
                provider=fetched.provider,
                hours=fetched.hours,
                run_id=run_id,
                now=utc_now(),
            )
        )
        landing.rows_added += landed.rows_added
        landing.quarantined += landed.quarantined
    landing.calls += fetched.calls
    landing.wasted += fetched.wasted
    landing.failures += fetched.failures
    landing.empty += fetched.empty
    by_hour = records.group_by(dataset.partition_column).aggregate([([], "count_all")])
    landing.received_by_hour.update(
        dict(zip(by_hour[dataset.partition_column].to_pylist(), by_hour["count_all"].to_pylist(), strict=True))
    )
    landing.rejected_by_hour.update(datetime.fromtimestamp(r.hour_utc, UTC) for r in fetched.rejections)


def _copy_calls(api: WeatherApi, warehouse: Warehouse) -> None:
    """Bring ``bronze.api_calls`` up to the ledger."""
    with api.ledger() as ledger:
        calls = ledger.calls_to_copy()
        if calls.num_rows:
            warehouse.record_calls(calls)
            ledger.note_copied(calls["call_id"].to_pylist())


def _held_realms(warehouse: Warehouse) -> set[str]:
    return {realm(name) for name in warehouse.providers()}


def _require_same_realm(held: AbstractSet[str], provider: str) -> None:
    if others := held - {realm(provider)}:
        raise WarehouseError(
            f"this warehouse holds {' and '.join(sorted(others))} data, beside which {provider} data is not landed; "
            "let WEATHER_HOME name another folder, WEATHER_DUCKDB_PATH another file, WEATHER_POSTGRES_URL another "
            "database, or DATABRICKS_CATALOG another catalog"
        )
