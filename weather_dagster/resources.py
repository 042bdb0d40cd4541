"""Dagster resources: what assets and checks ask for. Nothing is opened or read before a run needs it."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import duckdb
from dagster_dbt import DbtCliResource, DbtProject
from dagster_duckdb import DuckDBResource
from pydantic import Field

from weather_dagster.dbt_project import dbt_executable
from weather_dagster.environments import environment_of, store_of
from weather_dagster.locations import Location, load_locations, select_locations
from weather_dagster.settings import Settings
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.warehouse.duckdb import DuckDBStore, DuckDBWarehouse
from weather_dagster.weather_api.api import WeatherApi

API_KEY = "OPENWEATHER_API_KEY"


class WeatherApiResource(dg.ConfigurableResource[WeatherApi]):
    """The configured provider."""

    openweather_api_key: str | None = None
    """Given as ``EnvVar``, so that Dagster stores and shows the name of the variable alone; None where the settings
    are to find it themselves."""

    def api(self) -> WeatherApi:
        """The client of the configured provider.

        Raises:
            ConfigurationError: unknown provider or plan, or no key.
        """
        key = {"openweather_api_key": self.openweather_api_key} if self.openweather_api_key else {}
        return WeatherApi.from_settings(Settings.load(**key))


class LocationsResource(dg.ConfigurableResource[tuple[Location, ...]]):
    """The places to fetch, read by each run from the file that the settings name."""

    ids: list[str] = Field(default_factory=list)
    """The only places that a run fetches; empty for all of the file."""

    def locations(self) -> tuple[Location, ...]:
        """The checked places of the file, or those of ``ids``.

        Raises:
            ConfigurationError: naming file, entry and value, or the unknown id.
        """
        return select_locations(self.watched(), self.ids)

    def watched(self) -> tuple[Location, ...]:
        """All checked places of the file, whichever the run fetches.

        Raises:
            ConfigurationError: naming file, entry and value.
        """
        return load_locations(Settings.load().locations_path)


class DbtResource(DbtCliResource):
    """dbt as a command alone.

    dagster-dbt would load the project a second time in this process, a third of a run's CPU, for row
    counts and column metadata that are read through dbt's adapter; we fetch neither, and on DuckDB the
    adapter would hold the file.
    """

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> Any:
        return None


class WarehouseResource(Protocol):
    """The warehouse of the environment, as assets and checks ask for it."""

    def warehouse(self, *, read_only: bool = False) -> AbstractContextManager[Warehouse]:
        """The open warehouse; see ``Store.open`` for the errors."""

    def dbt_environment(self) -> dict[str, str]:
        """What dbt, in a process of its own and in another folder, needs to find the same store."""


class DuckDBWarehouseResource(DuckDBResource):
    """dagster-duckdb's resource, with a connection that waits for a lock and is closed when a step fails.

    The inherited ``get_connection`` leaves the file open, and so locked, after an exception.
    """

    def warehouse(self, *, read_only: bool = False) -> AbstractContextManager[DuckDBWarehouse]:
        """The open file."""
        return self._store.open(read_only=read_only)

    def dbt_environment(self) -> dict[str, str]:
        """The path of the same file."""
        return self._store.dbt_environment()

    @property
    def _store(self) -> DuckDBStore:
        return DuckDBStore(Path(self.database))

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A plain connection to the same file."""
        with self.warehouse() as warehouse:
            yield warehouse.connection


class SharedWarehouseResource(dg.ConfigurableResource[Warehouse]):
    """The warehouse that the settings name. Its secrets are read when it is opened, and kept nowhere."""

    def warehouse(self, *, read_only: bool = False) -> AbstractContextManager[Warehouse]:
        """The open warehouse."""
        return store_of(Settings.load()).open(read_only=read_only)

    def dbt_environment(self) -> dict[str, str]:
        """Address and secrets."""
        return store_of(Settings.load()).dbt_environment()


def resources_for(settings: Settings, project: DbtProject) -> dict[str, Any]:
    """The resources of the environment that WEATHER_ENV names."""
    return {
        # Dagster takes a variable by its exact name; the settings find it in any case, and in .env.
        "weather_api": WeatherApiResource(openweather_api_key=dg.EnvVar(API_KEY) if os.environ.get(API_KEY) else None),
        "places": LocationsResource(),
        "warehouse": environment_of(settings).resource(settings),
        "dbt": DbtResource(
            project_dir=str(project.project_dir),
            profiles_dir=str(project.project_dir),
            dbt_executable=dbt_executable(),
        ),
    }
