"""Land a range by hand: FIRST LAST URL STORE. Without arguments: the imports alone.

The same client (httpx over aiohttp's transport, a fixed set of workers), the same columns, payload and
hash, one insert; no contract, no limits, no quarantine, no retries, no versions. STORE is a folder, for an Arrow table
into a DuckDB file, or the URL of a database, for a binary COPY of the tuples into Postgres.
"""

import asyncio
import hashlib
import struct
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import yaml
from httpx_aiohttp import HttpxAiohttpClient
from pydantic_core import from_json, to_json

WEEK = timedelta(days=7)
WORKERS = 8
PLACES = Path(__file__).parents[1] / "weather_dagster" / "locations.yaml"
TEXTS = ["provider", "endpoint", "location_id", "payload", "payload_hash"]
NUMBERS = [
    "temperature_c", "apparent_temperature_c", "temperature_min_c", "temperature_max_c", "pressure_hpa",
    "ground_pressure_hpa", "humidity_pct", "wind_speed_ms", "wind_direction_deg", "wind_gust_ms",
    "cloud_cover_pct", "visibility_m", "rain_mm", "snow_mm", "precipitation_mm", "precipitation_hours",
    "condition_id",
]  # fmt: skip
INSTANTS = ["valid_hour_utc", "observed_at_utc"]
NOTHING = struct.pack("<d", float("nan"))


def rows_of(place: str, body: bytes) -> Iterator[tuple[Any, ...]]:
    for item in from_json(body)["list"]:
        main, wind = item["main"], item.get("wind", {})
        rain, snow = item.get("rain", {}).get("1h", 0.0), item.get("snow", {}).get("1h", 0.0)
        values = (
            main["temp"], main.get("feels_like"), main.get("temp_min"), main.get("temp_max"), main.get("pressure"),
            main.get("grnd_level"), main.get("humidity"), wind.get("speed"), wind.get("deg"), wind.get("gust"),
            item.get("clouds", {}).get("all"), item.get("visibility"), rain, snow, rain + snow, 1,
            item["weather"][0]["id"] if item["weather"] else None,
        )  # fmt: skip
        packed = b"".join(NOTHING if v is None else struct.pack("<d", v) for v in values)
        digest = hashlib.blake2b(packed, digest_size=16).hexdigest()
        texts = ("openweather", "/data/2.5/history/city", place, to_json(item).decode(), digest)
        yield (*texts, *values, item["dt"], item["dt"])


async def fetch(first: datetime, last: datetime, url: str) -> list[tuple[Any, ...]]:
    places = yaml.safe_load(PLACES.read_text())["locations"]
    starts = [first + i * WEEK for i in range(-(-(last - first + timedelta(hours=1)) // WEEK))]
    calls = iter([(place, start, min(start + WEEK - timedelta(hours=1), last)) for place in places for start in starts])
    rows: list[tuple[Any, ...]] = []
    async with HttpxAiohttpClient(base_url=url) as client:

        async def work() -> None:
            for place, start, end in calls:
                params = {
                    "lat": place["latitude"], "lon": place["longitude"], "type": "hour", "units": "metric",
                    "start": int(start.timestamp()), "end": int(end.timestamp()), "appid": "benchmark",
                }  # fmt: skip
                answer = await client.get("/data/2.5/history/city", params=params)
                rows.extend(rows_of(place["id"], answer.raise_for_status().content))

        await asyncio.gather(*(work() for _ in range(WORKERS)))
    return rows


def into_duckdb(rows: list[tuple[Any, ...]], folder: str) -> int:
    columns = list(zip(*rows, strict=True))
    names = [*TEXTS, *NUMBERS, *INSTANTS]
    types = [pa.string()] * len(TEXTS) + [pa.float64()] * len(NUMBERS)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=False)]
    arrays += [pa.array(column, pa.int64()).cast(pa.timestamp("s", "UTC")) for column in columns[-len(INSTANTS) :]]
    table = pa.table(arrays, names=names)
    with duckdb.connect(Path(folder, "warehouse.duckdb")) as connection:
        connection.register("incoming", table)
        connection.begin()
        connection.execute(
            "create table observations as select *, now() as ingested_at_utc, 1 as load_id from incoming"
        )
        connection.commit()
        return int(connection.execute("select count(*) from observations").fetchall()[0][0])


def into_postgres(rows: list[tuple[Any, ...]], url: str) -> int:
    kinds = ["text"] * len(TEXTS) + ["float8"] * len(NUMBERS) + ["timestamptz"] * len(INSTANTS)
    columns = ", ".join(f"{name} {kind}" for name, kind in zip([*TEXTS, *NUMBERS, *INSTANTS], kinds, strict=True))
    with psycopg.connect(url) as connection:
        connection.execute(
            f"create table if not exists observations ({columns}, ingested_at_utc timestamptz, load_id bigint, "
            "primary key (valid_hour_utc, location_id, provider, observed_at_utc))"
        )
        connection.execute(f"create temporary table incoming ({columns}) on commit drop")
        with connection.cursor().copy("copy incoming from stdin (format binary)") as copy:
            copy.set_types(kinds)
            for row in rows:
                instants = (datetime.fromtimestamp(second, UTC) for second in row[-len(INSTANTS) :])
                copy.write_row((*row[: -len(INSTANTS)], *instants))
        return connection.execute(
            "insert into observations select *, now(), 1 from incoming on conflict do nothing"
        ).rowcount


if sys.argv[1:]:
    start, end, address, store = sys.argv[1:]
    fetched = asyncio.run(fetch(datetime.fromisoformat(start), datetime.fromisoformat(end), address))
    print(into_postgres(fetched, store) if store.startswith("postgresql:") else into_duckdb(fetched, store))
