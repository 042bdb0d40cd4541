"""The swap table: WEATHER_ENV decides the resources. Assets never ask in which environment they run."""

import os
from collections.abc import Callable
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject

from weather_dagster.dbt_project import dbt_executable
from weather_dagster.resources import DbtResource, DuckDBWarehouseResource, LocationsResource, WeatherApiResource
from weather_dagster.settings import EnvironmentName, Settings

API_KEY = "OPENWEATHER_API_KEY"

Resources = dict[str, Any]


def _local(settings: Settings, project: DbtProject) -> Resources:
    return {
        # Dagster takes a variable by its exact name; the settings find it in any case, and in .env.
        "weather_api": WeatherApiResource(openweather_api_key=dg.EnvVar(API_KEY) if os.environ.get(API_KEY) else None),
        "places": LocationsResource(),
        "warehouse": DuckDBWarehouseResource(database=str(settings.duckdb_path)),
        "dbt": DbtResource(
            project_dir=str(project.project_dir),
            profiles_dir=str(project.project_dir),
            dbt_executable=dbt_executable(),
        ),
    }


ENVIRONMENTS: dict[EnvironmentName, Callable[[Settings, DbtProject], Resources]] = {EnvironmentName.LOCAL: _local}


def resources_for(settings: Settings, project: DbtProject) -> Resources:
    """Resources of the environment that WEATHER_ENV names."""
    return ENVIRONMENTS[settings.weather_env](settings, project)
