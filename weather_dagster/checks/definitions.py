"""The checks as Dagster knows them: which asset has which, what they look at, what blocks.

Checks of hours look at the hours of their run; run by itself, or with dbt alone, at the last day of the grid. The
clocks of freshness look at the present and at all places of the file, whatever the run covers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg

from weather_dagster.assets.bronze import bronze_key
from weather_dagster.checks.anomalies import changes_are_gradual, providers_agree, usual_row_counts, values_move
from weather_dagster.checks.bronze import BLOCKING, CHECKS
from weather_dagster.checks.freshness import FRESHNESS
from weather_dagster.checks.outcome import Outcome
from weather_dagster.datasets import DATASETS, OBSERVATIONS, Dataset
from weather_dagster.failures import failing_clearly
from weather_dagster.hours import HOUR, HourRange, floor_hour, utc_now
from weather_dagster.locations import Location
from weather_dagster.partitions import POOL, window_hours
from weather_dagster.resources import LocationsResource, WarehouseResource, WeatherApiResource
from weather_dagster.warehouse.base import Warehouse

HourCheck = Callable[[Warehouse, Dataset, Sequence[Location], HourRange], Outcome]
SILVER_OBSERVATIONS = dg.AssetKey(["silver", "observations"])
SILVER_CHECKS = {check.__name__: check for check in (values_move, changes_are_gradual)}


def asset_checks(grid: dg.HourlyPartitionsDefinition, *, is_live: bool) -> list[dg.AssetChecksDefinition]:
    """The checks of bronze and silver that are not dbt's.

    Args:
        is_live: whether the provider tells of the present; a recording is as old as it is.
    """
    return [*(_bronze_checks(dataset, grid, is_live=is_live) for dataset in DATASETS.values()), _silver_checks(grid)]


def _bronze_checks(dataset: Dataset, grid: dg.HourlyPartitionsDefinition, *, is_live: bool) -> dg.AssetChecksDefinition:
    of_hours: dict[str, HourCheck] = {**CHECKS, usual_row_counts.__name__: usual_row_counts}
    if dataset is OBSERVATIONS:
        of_hours[providers_agree.__name__] = providers_agree
    of_present = FRESHNESS[dataset.name] if is_live else {}

    @dg.multi_asset_check(
        specs=_specs(bronze_key(dataset), {**of_hours, **of_present}),
        name=f"{dataset.name}_checks",
        can_subset=True,
        pool=POOL,
    )
    def dataset_checks(
        context: dg.AssetCheckExecutionContext,
        weather_api: WeatherApiResource,
        places: LocationsResource,
        warehouse: dg.ResourceParam[WarehouseResource],
    ) -> Iterator[dg.AssetCheckResult]:
        hours = _hours_to_check(context, grid)
        with failing_clearly(), warehouse.warehouse(read_only=True) as store:
            is_offered = weather_api.api().offers(dataset)
            locations = places.locations() if is_offered else ()
            watched = places.watched() if is_offered else ()
            results = [
                _result(key, of_hours[key.name](store, dataset, locations, hours), hours)
                if key.name in of_hours
                else _result(key, of_present[key.name](store, dataset, watched, utc_now()))
                for key in sorted(context.selected_asset_check_keys)
            ]
        yield from results

    return dataset_checks


def _silver_checks(grid: dg.HourlyPartitionsDefinition) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        specs=_specs(SILVER_OBSERVATIONS, SILVER_CHECKS), name="silver_checks", can_subset=True, pool=POOL
    )
    def silver_checks(
        context: dg.AssetCheckExecutionContext, warehouse: dg.ResourceParam[WarehouseResource]
    ) -> Iterator[dg.AssetCheckResult]:
        hours = _hours_to_check(context, grid)
        with failing_clearly(), warehouse.warehouse(read_only=True) as store:
            results = [
                _result(key, SILVER_CHECKS[key.name](store, hours), hours)
                for key in sorted(context.selected_asset_check_keys)
            ]
        yield from results

    return silver_checks


def _specs(asset: dg.AssetKey, checks: Mapping[str, Callable[..., Outcome]]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(name, asset=asset, description=check.__doc__, blocking=name in BLOCKING)
        for name, check in checks.items()
    ]


def _result(key: dg.AssetCheckKey, outcome: Outcome, hours: HourRange | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=outcome.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=outcome.severity,
        description=outcome.description,
        metadata={**({"hours": str(hours)} if hours else {}), **outcome.metadata},
    )


def _hours_to_check(context: dg.AssetCheckExecutionContext, grid: dg.HourlyPartitionsDefinition) -> HourRange:
    if context.has_partition_key or context.has_partition_key_range:
        return window_hours(context.partition_time_window)
    last = floor_hour(utc_now())
    return HourRange(max(last - 23 * HOUR, floor_hour(grid.start)), last)
