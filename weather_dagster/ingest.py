"""Landing a range of hours in bronze: fetch, check, write. No Dagster here.

The Dagster assets and the independent ingestor (``weather ingest``) both call ``land_range``.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from weather_dagster.datasets import Dataset
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HourRange, utc_now
from weather_dagster.locations import Location
from weather_dagster.settings import realm
from weather_dagster.warehouse.duckdb import DuckDBWarehouse
from weather_dagster.weather_api.api import WeatherApi

OpenWarehouse = Callable[[], AbstractContextManager[DuckDBWarehouse]]


@dataclass
class Landing:
    """What landing a range did. Counts by hour are keyed by the partition's hour, aware, UTC."""

    dataset: Dataset
    provider: str
    """Who gave the answers; the configured provider as long as there is none."""
    hours: HourRange
    offered: bool
    """False: the provider has nothing of this kind, no call was made."""
    calls: int = 0
    rows_added: int = 0
    quarantined: int = 0
    fetch_seconds: float = 0.0
    """Calling the provider and checking its answers, wall clock."""
    land_seconds: float = 0.0
    """Waiting for the store and writing, wall clock."""
    received_by_hour: Counter[datetime] = field(default_factory=Counter)
    rejected_by_hour: Counter[datetime] = field(default_factory=Counter)

    @property
    def rows_received(self) -> int:
        """Rows the provider delivered, new to the store or not."""
        return self.received_by_hour.total()


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
    call, and is not held while the provider answers. Each load of calls is one transaction.

    Raises:
        ProviderError: an hour is not served, or a call failed for good; of that load nothing is written.
        WarehouseError: the store cannot be opened or written, or holds data of another realm than the answers'.
    """
    landing = Landing(dataset, api.provider, hours, api.offers(dataset))
    if not landing.offered:
        return landing
    api.require_served(dataset, hours)
    with open_warehouse() as warehouse:
        if not api.is_stand_in:
            _require_same_realm(warehouse, api.provider)
    asked_at = time.perf_counter()
    with closing(api.fetch(dataset, locations, hours, on_call=on_call)) as loads:
        for fetched in loads:
            fetched_at = time.perf_counter()
            landing.fetch_seconds += fetched_at - asked_at
            with open_warehouse() as warehouse:
                _require_same_realm(warehouse, fetched.provider)
                landed = warehouse.land(
                    dataset,
                    fetched.records,
                    fetched.rejections,
                    locations,
                    provider=fetched.provider,
                    hours=fetched.hours,
                    run_id=run_id,
                    now=utc_now(),
                )
            landing.provider = fetched.provider
            landing.calls += fetched.calls
            landing.rows_added += landed.rows_added
            landing.quarantined += landed.quarantined
            by_hour = fetched.records.group_by(dataset.partition_column).aggregate([([], "count_all")])
            landing.received_by_hour.update(
                dict(zip(by_hour[dataset.partition_column].to_pylist(), by_hour["count_all"].to_pylist(), strict=True))
            )
            landing.rejected_by_hour.update(datetime.fromtimestamp(r.hour_utc, UTC) for r in fetched.rejections)
            asked_at = time.perf_counter()
            landing.land_seconds += asked_at - fetched_at
    return landing


def _require_same_realm(warehouse: DuckDBWarehouse, provider: str) -> None:
    held = {realm(name) for (name,) in warehouse.query("select distinct provider from bronze.loads")}
    if others := held - {realm(provider)}:
        raise WarehouseError(
            f"this warehouse holds {' and '.join(sorted(others))} data, beside which {provider} data is not landed; "
            "let WEATHER_HOME name another folder, or WEATHER_DUCKDB_PATH another file"
        )
