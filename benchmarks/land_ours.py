"""Land a range with the library call: FIRST LAST URL FOLDER. Without arguments: the imports alone."""

import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.hours import HourRange
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi

if sys.argv[1:]:
    first, last, _, folder = sys.argv[1:]
    landing = land_range(
        WeatherApi.from_settings(Settings.load()),
        partial(open_warehouse, Path(folder, "warehouse.duckdb")),
        OBSERVATIONS,
        load_locations(),
        HourRange(datetime.fromisoformat(first), datetime.fromisoformat(last)),
        run_id="benchmark",
    )
    print(landing.rows_added)
