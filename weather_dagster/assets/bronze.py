"""Bronze assets: one hour of one dataset a partition, a range of hours a run."""

import dagster as dg

from weather_dagster.datasets import DATASETS, Column, Dataset, Kind
from weather_dagster.failures import failing_clearly
from weather_dagster.ingest import Landing, land_range
from weather_dagster.partitions import POOL, partition_key, window_hours
from weather_dagster.resources import LocationsResource, WarehouseResource, WeatherApiResource

OWNERS = ["team:data-platform"]

ROUTE_SCHEMA = dg.TableSchema(
    columns=[
        dg.TableColumn("provider", "text"),
        dg.TableColumn("endpoint", "text"),
        dg.TableColumn("first_hour", "text", "UTC"),
        dg.TableColumn("last_hour", "text", "UTC, inclusive"),
        dg.TableColumn("hours", "bigint"),
        dg.TableColumn("rerouted", "boolean", "Whether another provider than the configured one is asked"),
    ]
)

COLUMN_TYPES: dict[Kind, str] = {
    "text": "text",
    "instant": "timestamp with time zone",
    "double": "double",
    "integer": "bigint",
    "json": "json",
}


def bronze_assets(grid: dg.HourlyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The bronze assets on ``grid``."""
    return [_bronze_asset(dataset, grid) for dataset in DATASETS.values()]


def bronze_key(dataset: Dataset) -> dg.AssetKey:
    """Asset key of a dataset."""
    return dg.AssetKey(["bronze", dataset.name.value])


def _bronze_asset(dataset: Dataset, grid: dg.HourlyPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=bronze_key(dataset),
        description=f"{dataset.description}. Append-only, as the provider delivered it; a partition is "
        f"{dataset.partition_column}. Running an hour again adds only what changed.",
        group_name="bronze",
        owners=OWNERS,
        kinds={"python"},
        tags={"layer": "bronze", "domain": "weather"},
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=[_table_column(c) for c in dataset.columns]),
            "dagster/table_name": f"bronze.{dataset.name}",
        },
        partitions_def=grid,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def bronze_asset(
        context: dg.AssetExecutionContext,
        weather_api: WeatherApiResource,
        places: LocationsResource,
        warehouse: dg.ResourceParam[WarehouseResource],
    ) -> dg.MaterializeResult[None]:
        hours = window_hours(context.partition_time_window)
        with failing_clearly():
            landing = land_range(
                weather_api.api(),
                warehouse.warehouse,
                dataset,
                places.locations(),
                hours,
                run_id=context.run.run_id,
            )
        metadata = _metadata(landing)
        with failing_clearly(metadata):
            landing.require_complete()
        _describe_partitions(context, landing)
        return dg.MaterializeResult(metadata=metadata)

    return bronze_asset


def _table_column(column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        column.name,
        COLUMN_TYPES[column.kind],
        column.description,
        constraints=dg.TableColumnConstraints(nullable=column.nullable),
    )


def _describe_partitions(context: dg.AssetExecutionContext, landing: Landing) -> None:
    """Add what differs from hour to hour to the partitions' own materializations."""
    for hour in landing.hours:
        context.add_asset_metadata(
            {
                "dagster/partition_row_count": landing.received_by_hour[hour],
                "quarantined": landing.rejected_by_hour[hour],
            },
            asset_key=context.asset_key,
            partition_key=partition_key(hour),
        )


def _metadata(landing: Landing) -> dict[str, dg.MetadataValue]:
    routes = landing.plan.routes if landing.plan else []
    return {
        "provider": dg.MetadataValue.text(", ".join(landing.providers)),
        "offered_by_provider": dg.MetadataValue.bool(landing.offered),
        "routes": dg.MetadataValue.table([dg.TableRecord(route) for route in routes], ROUTE_SCHEMA),
        "budget": dg.MetadataValue.text("; ".join(landing.budget) or "no limits"),
        "hours": dg.MetadataValue.int(len(landing.hours)),
        "calls": dg.MetadataValue.int(landing.calls),
        "calls_wasted": dg.MetadataValue.int(landing.wasted),
        "calls_resumed": dg.MetadataValue.int(landing.resumed),
        "calls_without_rows": dg.MetadataValue.int(len(landing.empty)),
        "answered_without_rows": dg.MetadataValue.text(landing.empty_answers or "none"),
        "rows_received": dg.MetadataValue.int(landing.rows_received),
        "rows_added": dg.MetadataValue.int(landing.rows_added),
        "quarantined_in_range": dg.MetadataValue.int(landing.rejected_by_hour.total()),
        "quarantined_new": dg.MetadataValue.int(landing.quarantined),
        "fetch_seconds": dg.MetadataValue.float(landing.fetch_seconds),
        "land_seconds": dg.MetadataValue.float(landing.land_seconds),
    }
