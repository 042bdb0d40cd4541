"""What an hourly tick takes of a Postgres server with a long history: PLACES YEARS. Prints milliseconds by part.

The history is made by the server itself: observations and air quality of every place and hour, forecasts of the last
week, their loads and calls. The tick is the real one: the running hour from the simulator, landed, and all checks of
bronze. The server tells in its log how long each statement took.
"""

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from pydantic import SecretStr

from weather_dagster.checks.anomalies import providers_agree, usual_row_counts
from weather_dagster.checks.bronze import CHECKS
from weather_dagster.checks.freshness import FRESHNESS
from weather_dagster.datasets import DATASETS, OBSERVATIONS, Dataset, DatasetName
from weather_dagster.hours import HOUR, HourRange, floor_hour
from weather_dagster.ingest import land_range
from weather_dagster.locations import load_locations
from weather_dagster.settings import Settings
from weather_dagster.warehouse.postgres import BY_MONTH, PostgresStore
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster_tests.postgres import PostgresServer, fresh_database, running_server

PAYLOAD = """'{"dt": 1, "main": {"temp": 10.5, "pressure": 1013, "humidity": 80}, "wind": {"speed": 3.1, "deg": 200},
"clouds": {"all": 75}, "weather": [{"id": 800, "main": "Clear"}]}'"""
STEPS = 40
"""Hours ahead of a forecast, three apart."""


def fill(
    connection: psycopg.Connection[tuple[object, ...]], dataset: Dataset, begin: datetime, hours: HourRange, places: int
) -> None:
    """Rows of every place and hour, each hour a load."""
    made = {
        "provider": "'simulator'", "endpoint": "'/data/2.5/history/city'", "location_id": "'p' || place",
        "issued_hour_utc": "hour", "observed_at_utc": "hour", "valid_hour_utc": "hour + step * interval '3 hours'",
        "rejected_fields": "null", "payload": PAYLOAD, "contract_version": "1",
        "payload_hash": "md5(place || ' ' || hour || ' ' || step)",
        "ingested_at_utc": "hour", "run_id": "'r'", "precipitation_hours": "1", "condition_id": "800",
        "provider_aqi": "1", "load_id": "3 * (extract(epoch from hour - %(begin)s)::bigint / 3600) + %(offset)s",
        **{quantity.name: str((quantity.lower + quantity.upper) / 2) for quantity in dataset.quantities},
    }  # fmt: skip
    names = [column.name for column in dataset.columns]
    span = {"first": hours.first, "last": hours.last, "begin": begin, "offset": list(DATASETS).index(dataset.name) + 1}
    connection.execute(
        f"select bronze.add_month('{dataset.name}', month::date) "
        "from generate_series(date_trunc('month', %(first)s), %(last)s, interval '1 month') as months (month)"
        if dataset.name in BY_MONTH else "select 1 where %(first)s < %(last)s",
        span,
    )  # fmt: skip
    connection.execute(
        f"""
        insert into bronze.{dataset.name} ({", ".join(names)})
        select {", ".join(made[name] for name in names)}
        from generate_series(%(first)s, %(last)s, interval '1 hour') as hours (hour)
        cross join generate_series(0, {places - 1}) as places (place)
        cross join generate_series(0, {STEPS - 1 if dataset.name == DatasetName.FORECASTS else 0}) as steps (step)
        """,
        span,
    )
    connection.execute(
        f"""
        insert into bronze.loads
        select 3 * (extract(epoch from hour - %(begin)s)::bigint / 3600) + %(offset)s, '{dataset.name}', 'simulator',
            'r', hour, hour, {places}, 0, hour
        from generate_series(%(begin)s, %(last)s, interval '1 hour') as hours (hour)
        """,
        span,
    )


@contextmanager
def telling(server: PostgresServer, part: str, spent: dict[str, float]) -> Iterator[None]:
    """Note what CPU the statements of a part took, in milliseconds."""
    log = server.folder / "log"
    begin = log.stat().st_size
    yield
    # The server writes its log a moment after its answer.
    time.sleep(0.2)
    took = re.findall(r"([\d.]+) s user, ([\d.]+) s system, [\d.]+ s elapsed", log.read_bytes()[begin:].decode())
    spent[part] = sum(float(user) + float(system) for user, system in took) * 1000


def main() -> None:
    """Fill a store, run a tick on it, print what the server was busy with."""
    count, years = int(sys.argv[1]), float(sys.argv[2])
    now = floor_hour(datetime.now(UTC))
    begin = now - int(years * 365 * 24) * HOUR
    base = load_locations()
    places = [base[n % len(base)].model_copy(update={"id": f"p{n}", "name": f"Place {n}"}) for n in range(count)]
    spent: dict[str, float] = {}
    with running_server() as server, fresh_database(server.url) as url, tempfile.TemporaryDirectory() as home:
        store = PostgresStore(SecretStr(url))
        with store.open():
            pass
        with psycopg.connect(url, autocommit=True) as connection:
            for dataset in DATASETS.values():
                first = now - 7 * 24 * HOUR if dataset.name == DatasetName.FORECASTS else begin
                fill(connection, dataset, begin, HourRange(first, now - HOUR), count)
            connection.execute("vacuum analyze")
            connection.execute("alter system set log_statement_stats = on")
            connection.execute("select pg_reload_conf()")
            # It answers before its processes have read the settings again.
            time.sleep(0.5)
        api = WeatherApi.from_settings(Settings.load(weather_provider="simulator", weather_home=Path(home)))
        # The first connection of a server's life reads its catalogue from disk.
        for hours in (HourRange(now - HOUR, now - HOUR), HourRange(now, now)):
            for dataset in DATASETS.values():
                with telling(server, f"{dataset.name}: landing", spent):
                    land_range(api, store.open, dataset, places, hours, run_id="tick").require_complete()
                with store.open(read_only=True) as warehouse:
                    for name, check in {**CHECKS, usual_row_counts.__name__: usual_row_counts}.items():
                        with telling(server, f"{dataset.name}: {name}", spent):
                            check(warehouse, dataset, places, hours)
                    for name, fresh in FRESHNESS[dataset.name].items():
                        with telling(server, f"{dataset.name}: {name}", spent):
                            fresh(warehouse, dataset, places, now)
                    if dataset is OBSERVATIONS:
                        with telling(server, "observations: providers_agree", spent):
                            providers_agree(warehouse, dataset, places, hours)
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
