"""The code location: assembles what the other modules define."""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from weather_dagster.assets.bronze import bronze_assets
from weather_dagster.assets.dbt import dbt_model_assets
from weather_dagster.assets.quarantine import quarantine
from weather_dagster.assets.report import weather_report
from weather_dagster.automation.jobs import hourly_weather, refresh_models
from weather_dagster.automation.retention import retention, retention_schedule
from weather_dagster.automation.schedules import hourly_schedule
from weather_dagster.automation.sensors import alert_sensor, healing_sensor, refresh_sensor
from weather_dagster.checks.definitions import asset_checks
from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.environments import environment_of
from weather_dagster.partitions import hourly_grid
from weather_dagster.resources import resources_for
from weather_dagster.settings import ProviderName, Settings


def build_definitions(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The code location for ``settings``; ``overrides`` replace resources by name."""
    # `backfill_policy` is beta in Dagster 1.13 and warns at each load.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    project = load_dbt_project(environment_of(settings).dbt_target)
    grid = hourly_grid(settings.start_hour)
    downstream = [quarantine, dbt_model_assets(project), weather_report]
    # The hours of a recording are of the past: none is missing, none is running.
    is_automated = settings.provider is not ProviderName.RECORDED
    return dg.Definitions(
        assets=[*bronze_assets(grid), *downstream],
        asset_checks=asset_checks(grid, is_live=is_automated),
        jobs=[hourly_weather, refresh_models, retention],
        schedules=[hourly_schedule(settings.start_hour), retention_schedule] if is_automated else [],
        sensors=[healing_sensor(key for asset in downstream for key in asset.keys), refresh_sensor(), alert_sensor()]
        if is_automated
        else [],
        resources={**resources_for(settings, project), **(overrides or {})},
        # One process a run: DuckDB has one writer, and each process of a step would import everything again.
        executor=dg.in_process_executor,
    )


defs = build_definitions(Settings.load())
