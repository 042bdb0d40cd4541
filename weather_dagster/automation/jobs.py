"""Jobs."""

import dagster as dg

HOURLY_WEATHER = "hourly_weather"
REFRESH_MODELS = "refresh_models"
DATA_JOBS = (HOURLY_WEATHER, REFRESH_MODELS, "__ASSET_JOB")
"""Jobs that write the store; the last one is Dagster's own, of backfills and of assets chosen in the UI."""

hourly_weather = dg.define_asset_job(
    HOURLY_WEATHER,
    selection=dg.AssetSelection.all(),
    description="The whole way for an hour or a range of hours: bronze, silver, gold, report and all checks.",
)
refresh_models = dg.define_asset_job(
    REFRESH_MODELS,
    selection=dg.AssetSelection.all() - dg.AssetSelection.groups("bronze"),
    description="Silver, gold and report, from what bronze holds: no provider is called.",
)
