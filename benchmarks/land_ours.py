"""Land a range with the library call: FIRST LAST URL STORE. Without arguments: the imports alone.

STORE is a folder, for a DuckDB file in it, or the URL of a Postgres database.
"""

import sys
from datetime import datetime
from pathlib import Path

from pydantic import SecretStr

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.hours import HourRange
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster.weather_api.api import WeatherApi

FILE = "warehouse.duckdb"

if sys.argv[1:]:
    first, last, _, target = sys.argv[1:]
    store = PostgresStore(SecretStr(target)) if target.startswith("postgresql:") else DuckDBStore(Path(target, FILE))
    landing = land_range(
        WeatherApi.from_settings(Settings.load()),
        store.open,
        OBSERVATIONS,
        load_locations(),
        HourRange(datetime.fromisoformat(first), datetime.fromisoformat(last)),
        run_id="benchmark",
    )
    print(landing.rows_added)
