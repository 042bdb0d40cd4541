"""Jobs."""

import dagster as dg

hourly_weather = dg.define_asset_job(
    "hourly_weather",
    selection=dg.AssetSelection.all(),
    description="The whole way for an hour or a range of hours: bronze, silver, gold, report and all checks.",
)
