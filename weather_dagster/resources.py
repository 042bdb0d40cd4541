"""Dagster resources: what assets and checks ask for. Nothing is opened or read before a run needs it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
from dagster_dbt import DbtCliResource
from dagster_duckdb import DuckDBResource
from pydantic import Field

from weather_dagster.locations import Location, load_locations, select_locations
from weather_dagster.settings import Settings
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster.weather_api.api import WeatherApi


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


class DuckDBWarehouseResource(DuckDBResource):
    """dagster-duckdb's resource, with a connection that waits for a lock and is closed when a step fails.

    The inherited ``get_connection`` leaves the file open, and so locked, after an exception.
    """

    @contextmanager
    def warehouse(self, *, read_only: bool = False) -> Iterator[DuckDBWarehouse]:
        """The open warehouse; see ``open_warehouse`` for the errors."""
        with open_warehouse(Path(self.database), read_only=read_only) as warehouse:
            yield warehouse

    def dbt_environment(self) -> dict[str, str]:
        """What dbt's profile reads to find the same store."""
        return {"WEATHER_DUCKDB_PATH": self.database}

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A plain connection to the same file."""
        with self.warehouse() as warehouse:
            yield warehouse.connection
