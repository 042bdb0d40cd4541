"""The code location: assembles what the other modules define."""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from weather_dagster.assets.bronze import bronze_assets
from weather_dagster.assets.dbt import dbt_model_assets
from weather_dagster.assets.quarantine import quarantine
from weather_dagster.assets.report import weather_report
from weather_dagster.automation.jobs import hourly_weather
from weather_dagster.checks.bronze import bronze_checks
from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.environments import resources_for
from weather_dagster.partitions import hourly_grid
from weather_dagster.settings import LogFormat, Settings


def build_definitions(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The code location for ``settings``; ``overrides`` replace resources by name."""
    # `backfill_policy` is beta in Dagster 1.13 and warns at each load.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    project = load_dbt_project()
    grid = hourly_grid(settings.start_hour)
    return dg.Definitions(
        assets=[*bronze_assets(grid), quarantine, dbt_model_assets(project), weather_report],
        asset_checks=bronze_checks(grid),
        jobs=[hourly_weather],
        resources={**resources_for(settings, project), **(overrides or {})},
        loggers={"console": dg.json_console_logger} if settings.weather_log_format is LogFormat.JSON else None,
        # One process a run: DuckDB has one writer, and each process of a step would import everything again.
        executor=dg.in_process_executor,
    )


defs = build_definitions(Settings.load())
