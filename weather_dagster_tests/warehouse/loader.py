"""A pod-like process that lands days of made-up readings, each day one landing: ``loader.py URL FIRST LAST``.

Days are counted from ``test_duckdb.START``. It says ``ready``, begins when a line is read, and says each day that is
landed.
"""

import dataclasses
import sys
from datetime import timedelta

from pydantic import SecretStr

from weather_dagster.hours import HourRange
from weather_dagster.warehouse.base import Store
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, land, observation, rejection


def land_days(store: Store, first: int, last: int) -> None:
    """Each day in a connection of its own, as a range run lands its calls; one of its records is turned away."""
    for number in range(first, last + 1):
        hours = HourRange(DAY.first + timedelta(days=number), DAY.last + timedelta(days=number))
        rows = [observation(hour, 10.0 + number, place=place.id) for place in PLACES for hour in hours]
        odd = dataclasses.replace(rejection(f"day {number}"), hour_utc=int(hours.first.timestamp()))
        with store.open() as warehouse:
            land(warehouse, rows, hours=hours, rejections=(odd,))
        print(number, flush=True)  # noqa: T201 - for the process that started this one


if __name__ == "__main__":
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    land_days(PostgresStore(SecretStr(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
