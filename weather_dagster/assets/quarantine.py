"""The quarantine as an asset: its materialization drives the open records again. Nothing hangs on it.

Rows that land here reach silver in the same run or the next: increments follow loads, in whatever order.
"""

import dataclasses

import dagster as dg

from weather_dagster.assets.bronze import OWNERS, bronze_key
from weather_dagster.datasets import DATASETS, REASON_HELP, RejectionReason
from weather_dagster.failures import failing_clearly
from weather_dagster.hours import utc_now
from weather_dagster.partitions import POOL
from weather_dagster.quarantine import redrive, summary
from weather_dagster.resources import LocationsResource, WarehouseResource
from weather_dagster.weather_api.providers import known_endpoints

COLUMNS = dg.TableSchema(
    columns=[
        dg.TableColumn("dataset", "text", "Where the record would have landed"),
        dg.TableColumn("provider", "text", "Who delivered it"),
        dg.TableColumn("endpoint", "text", "Path of the provider's endpoint"),
        dg.TableColumn("location_id", "text", "Place, as in bronze.locations"),
        dg.TableColumn("hour_utc", "timestamp with time zone", "The partition's hour"),
        dg.TableColumn("reason", "text", "Why it was turned away"),
        dg.TableColumn("field", "text", "The one value that was; null for a whole record"),
        dg.TableColumn("message", "text", "Names field, value and limit"),
        dg.TableColumn("payload", "text", "The record as it came"),
        dg.TableColumn("payload_hash", "text", "Hash of its values"),
        dg.TableColumn("contract_version", "bigint", "Version of the contract that read it first"),
        dg.TableColumn("quarantined_at_utc", "timestamp with time zone", "When it was kept"),
        dg.TableColumn("run_id", "text", "Run that kept it"),
        dg.TableColumn("load_id", "bigint", "Load that kept it"),
        dg.TableColumn("resolved_load_id", "bigint", "Load that settled it; null as long as it is open"),
    ]
)


@dg.asset(
    key=["bronze", "quarantine"],
    description="Records and values that were turned away, with reason and payload. A run reads the open ones again "
    "with the contracts of today, without calling a provider, and lands what is good now.",
    group_name="bronze",
    owners=OWNERS,
    kinds={"python"},
    tags={"layer": "bronze", "domain": "weather"},
    metadata={"dagster/table_name": "bronze.quarantine", "dagster/column_schema": COLUMNS},
    deps=[bronze_key(dataset) for dataset in DATASETS.values()],
    pool=POOL,
)
def quarantine(
    context: dg.AssetExecutionContext, places: LocationsResource, warehouse: dg.ResourceParam[WarehouseResource]
) -> dg.MaterializeResult[None]:
    """Drive the open records again and count what is there."""
    with failing_clearly(), warehouse.warehouse() as store:
        driven = redrive(store, known_endpoints(), places.locations(), run_id=context.run.run_id, now=utc_now())
        counts = summary(store)
    table = [
        dg.TableRecord({**dataclasses.asdict(count), "meaning": REASON_HELP[RejectionReason(count.reason)]})
        for count in counts
    ]
    return dg.MaterializeResult(
        metadata={
            "open": sum(count.open for count in counts),
            "resolved": sum(count.resolved for count in counts),
            **dataclasses.asdict(driven),
            **({"by_dataset_and_reason": dg.MetadataValue.table(table)} if table else {}),
        }
    )
