"""Bronze rows for the tests of silver and gold, landed through the real warehouse."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from weather_dagster.datasets import Dataset, Rejection, payload_hash
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.warehouse.base import Landed, Load, Warehouse
from weather_dagster_tests.records import to_arrow

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def place(location_id: str, time_zone: str = "UTC", name: str | None = None) -> Location:
    """A place of which only the zone matters."""
    return Location(id=location_id, name=name or location_id.title(), latitude=0, longitude=0, time_zone=time_zone)


def land(
    warehouse: Warehouse,
    dataset: Dataset,
    rows: Iterable[Mapping[str, Any]],
    places: Sequence[Location],
    *,
    rejections: Sequence[Rejection] = (),
    now: datetime = NOW,
) -> Landed:
    """Land rows given by column name (instants aware); what a row leaves out is missing or a plain default."""
    defaults = {"provider": "simulator", "endpoint": "/test", "payload": "{}", "contract_version": 1}
    instants = [c.name for c in dataset.record_columns if c.kind == "instant"]
    measures = [*(q.name for q in dataset.quantities), "condition_id"]
    tuples, hours, providers = [], [], set()
    for given in rows:
        row = {**defaults, **given}
        row.setdefault("observed_at_utc", row["valid_hour_utc"])
        hours.append(row[dataset.partition_column])
        providers.add(row["provider"])
        row |= {name: int(row[name].timestamp()) for name in instants}
        row["payload_hash"] = payload_hash(row[instants[-1]], [row.get(name) for name in measures])
        tuples.append(tuple(row.get(c.name) for c in dataset.record_columns))
    return warehouse.land(
        Load(
            dataset,
            to_arrow(dataset, tuples),
            rejections,
            places,
            provider=",".join(sorted(providers)),
            hours=HourRange(min(hours), max(hours)),
            run_id="test",
            now=now,
        )
    )
