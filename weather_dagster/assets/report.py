"""The HTML report as an asset, below gold: a failed blocking check anywhere above it stops it too."""

import dagster as dg

from weather_dagster.assets.bronze import OWNERS
from weather_dagster.failures import failing_clearly
from weather_dagster.hours import utc_now
from weather_dagster.partitions import POOL
from weather_dagster.report.page import write_report
from weather_dagster.resources import LocationsResource, WarehouseResource
from weather_dagster.settings import Settings

GOLD_INPUTS = ("hourly_weather", "daily_weather", "temperature_moving_averages", "latest_conditions")


@dg.asset(
    key=["report", "weather_report"],
    description="Self-contained HTML page: current conditions, charts by place, data quality.",
    group_name="report",
    owners=OWNERS,
    kinds={"python", "html"},
    tags={"layer": "report", "domain": "weather"},
    deps=[*(["gold", name] for name in GOLD_INPUTS), ["silver", "air_quality"]],
    pool=POOL,
)
def weather_report(
    warehouse: dg.ResourceParam[WarehouseResource], places: LocationsResource
) -> dg.MaterializeResult[None]:
    """Write the page into the home folder."""
    settings = Settings.load()
    with failing_clearly(), warehouse.warehouse(read_only=True) as store:
        watched = [place.id for place in places.locations()]
        page = write_report(store, settings.report_path, now=utc_now(), provider=settings.provider, watched=watched)
    return dg.MaterializeResult(
        metadata={"path": dg.MetadataValue.path(page), "bytes": dg.MetadataValue.int(page.stat().st_size)}
    )
