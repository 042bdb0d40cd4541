"""Land a range with dlt: FIRST LAST URL FOLDER. Without arguments: the imports alone.

A resource that yields the records of each answer, fetched in parallel by dlt's own deferred calls with
its requests helper, into a DuckDB destination.
"""

import os
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dlt
import yaml
from dlt.sources.helpers import requests

WEEK = timedelta(days=7)
PLACES = Path(__file__).parents[1] / "weather_dagster" / "locations.yaml"


@dlt.defer
def answer(url: str, place: dict[str, Any], start: datetime, end: datetime) -> list[dict[str, Any]]:
    params = {
        "lat": place["latitude"], "lon": place["longitude"], "type": "hour", "units": "metric",
        "start": int(start.timestamp()), "end": int(end.timestamp()), "appid": "benchmark",
    }  # fmt: skip
    items: list[dict[str, Any]] = requests.get(f"{url}/data/2.5/history/city", params=params).json()["list"]
    return [{"location_id": place["id"], **item} for item in items]


@dlt.resource(name="observations", write_disposition="append", max_table_nesting=1)
def observations(first: datetime, last: datetime, url: str) -> Iterator[Any]:
    for place in yaml.safe_load(PLACES.read_text())["locations"]:
        start = first
        while start <= last:
            yield answer(url, place, start, min(start + WEEK - timedelta(hours=1), last))
            start += WEEK


if sys.argv[1:]:
    begin, end, address, folder = sys.argv[1:]
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    pipeline = dlt.pipeline(
        "benchmark",
        pipelines_dir=folder,
        destination=dlt.destinations.duckdb(str(Path(folder, "warehouse.duckdb"))),
        dataset_name="bronze",
    )
    pipeline.run(observations(datetime.fromisoformat(begin), datetime.fromisoformat(end), address))
    with pipeline.sql_client() as client, client.execute_query("select count(*) from observations") as cursor:
        print(cursor.fetchall()[0][0])
