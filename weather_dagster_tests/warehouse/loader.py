"""Pod-like processes that land days of made-up readings. Days are counted from ``test_duckdb.START``."""

import dataclasses
import multiprocessing
from datetime import timedelta
from multiprocessing.process import BaseProcess

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


def start_loader(url: str, first: int, last: int) -> BaseProcess:
    """A process that lands these days. All come from one that has imported everything: the machine is small."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=land_days, args=(PostgresStore(SecretStr(url)), first, last), daemon=True)
    process.start()
    return process
