"""Storing ranges of 720 hours x 10 places in Postgres: URL ROUNDS. Prints seconds as JSON.

``storing``: CPU of this process for one range, by the warehouse, and by a binary COPY by hand of tuples that are there
already, or that are made of the same Arrow table. ``writers``: wall clock of eight ranges by one process and by eight
at once; half of the hours of each range are its neighbour's too.
"""

import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from multiprocessing.synchronize import Barrier

import psycopg
import pyarrow as pa
from pydantic import SecretStr

from weather_dagster.datasets import OBSERVATIONS, payload_hash
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import load_locations
from weather_dagster.warehouse.base import Load
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.postgres import fresh_database
from weather_dagster_tests.records import to_arrow

START = datetime(2026, 1, 1, tzinfo=UTC)
PLACES = load_locations()[:10]
HOURS = 720
WRITERS = 8
PAYLOAD = (
    '{"dt":%d,"main":{"temp":10.5,"feels_like":9.9,"temp_min":9.1,"temp_max":11.2,"pressure":1013,"humidity":80},'
    '"wind":{"speed":3.1,"deg":200,"gust":7.4},"clouds":{"all":75},"visibility":10000,"rain":{"1h":0.2},'
    '"weather":[{"id":500,"main":"Rain","description":"light rain","icon":"10d"}]}'
)
KINDS = {"text": "text", "json": "text", "instant": "timestamptz", "double": "float8", "integer": "int8"}


def hours_of(number: int) -> HourRange:
    first = START + number * (HOURS // 2) * HOUR
    return HourRange(first, first + (HOURS - 1) * HOUR)


def rows_of(hours: HourRange) -> list[tuple[object, ...]]:
    """Records as an adapter hands them over, instants as unix seconds."""
    rows = []
    for place, hour in ((place, hour) for place in PLACES for hour in hours):
        second = int(hour.timestamp())
        values = [second % 1000 / 10 + n if n % 5 else None for n in range(len(OBSERVATIONS.quantities))]
        head = ("simulator", "/data/2.5/history/city", place.id, second, second)
        rows.append((*head, *values, 1, 500, None, PAYLOAD % second, payload_hash(second, values), 1))
    return rows


def ours(url: str, table: pa.Table, hours: HourRange) -> int:
    with PostgresStore(SecretStr(url)).open() as warehouse:
        landed = warehouse.land(
            Load(OBSERVATIONS, table, [], PLACES, provider="simulator", hours=hours, run_id="benchmark", now=START)
        )
        return landed.rows_added


def by_hand(url: str, rows: list[tuple[object, ...]]) -> int:
    names = ", ".join(column.name for column in OBSERVATIONS.record_columns)
    kinds = [KINDS[column.kind] for column in OBSERVATIONS.record_columns]
    columns = ", ".join(f"{c.name} {kind}" for c, kind in zip(OBSERVATIONS.record_columns, kinds, strict=True))
    with psycopg.connect(url) as connection:
        connection.execute(f"create temporary table incoming ({columns}) on commit drop")
        with connection.cursor().copy("copy incoming from stdin (format binary)") as copy:
            copy.set_types(kinds)
            for row in rows:
                copy.write_row(row)
        return connection.execute(
            f"insert into bronze.observations ({names}, ingested_at_utc, run_id, load_id) "
            f"select {names.replace('payload,', 'payload::json,')}, now(), 'r', 1 from incoming on conflict do nothing"
        ).rowcount


def write(url: str, numbers: list[int], start: Barrier, end: Barrier) -> None:
    """Land ranges as soon as all writers are ready; the end of a process is not counted."""
    tables = [(to_arrow(OBSERVATIONS, rows_of(hours_of(number))), hours_of(number)) for number in numbers]
    start.wait()
    for table, hours in tables:
        ours(url, table, hours)
    end.wait()


def writers(server: str, processes: int) -> float:
    """Wall clock of all ranges."""
    with fresh_database(server) as url:
        with PostgresStore(SecretStr(url)).open():
            pass
        context = multiprocessing.get_context("spawn")
        start, end = context.Barrier(processes + 1), context.Barrier(processes + 1)
        shares = [list(range(WRITERS))[n::processes] for n in range(processes)]
        running = [context.Process(target=write, args=(url, share, start, end)) for share in shares]
        for process in running:
            process.start()
        start.wait()
        begin = time.perf_counter()
        end.wait()
        wall = time.perf_counter() - begin
        for process in running:
            process.join()
        with psycopg.connect(url) as connection:
            ((rows,),) = connection.execute("select count(*) from bronze.observations").fetchall()
        assert rows == 10 * HOURS // 2 * (WRITERS + 1), rows
        return wall


def cpu(work: Callable[[], int]) -> float:
    begin = time.process_time()
    assert work() == 10 * HOURS
    return time.process_time() - begin


def main() -> None:
    """Each side in turn, the first round dropped."""
    server, rounds = sys.argv[1], int(sys.argv[2])
    hours = hours_of(0)
    rows = rows_of(hours)
    table = to_arrow(OBSERVATIONS, rows)
    instants = {n for n, column in enumerate(OBSERVATIONS.record_columns) if column.kind == "instant"}
    tuples = [tuple(datetime.fromtimestamp(v, UTC) if n in instants else v for n, v in enumerate(row)) for row in rows]
    stores: dict[str, Callable[[str], int]] = {
        "COPY of tuples": lambda url: by_hand(url, tuples),
        "COPY from Arrow": lambda url: by_hand(url, [*zip(*(c.to_pylist() for c in table.columns), strict=True)]),
        "ours": lambda url: ours(url, table, hours),
    }
    sides: dict[str, list[float]] = {side: [] for side in stores}
    walls: dict[str, list[float]] = {"one writer": [], f"{WRITERS} writers": []}
    for _ in range(rounds + 1):
        for side, store in stores.items():
            with fresh_database(server) as url:
                with PostgresStore(SecretStr(url)).open() as warehouse:
                    warehouse.query("select bronze.add_month('observations', '2026-01-01')")
                sides[side].append(cpu(partial(store, url)))
        walls["one writer"].append(writers(server, 1))
        walls[f"{WRITERS} writers"].append(writers(server, WRITERS))
    print(
        json.dumps(
            {
                "storing": {side: statistics.median(all_[1:]) for side, all_ in sides.items()},
                "writers": {side: statistics.median(all_[1:]) for side, all_ in walls.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
