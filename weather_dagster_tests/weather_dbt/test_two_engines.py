"""The same bronze gives the same silver and gold on DuckDB and Postgres, to the last bit of every float."""

import math
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, Rejection, RejectionReason
from weather_dagster.hours import HOUR
from weather_dagster.locations import Location, load_locations
from weather_dagster.warehouse.base import Store
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.conftest import BIN, without_settings
from weather_dagster_tests.weather_dbt.bronze import land
from weather_dagster_tests.weather_dbt.conftest import ENGINES, Dbt
from weather_dagster_tests.weather_dbt.test_increments import KEYS, Landings

pytestmark = pytest.mark.integration

START = datetime(2026, 3, 22, tzinfo=UTC)
HOURS = 14 * 24
"""Two weeks in which clocks change in Europe and on Lord Howe Island."""
PLACES = {place.id: place for place in load_locations()}
PROVIDERS = ("openweather", "open_meteo", "simulator", "station")
"""The last has no declared precedence."""
SILVER_AND_GOLD = list(KEYS)
BRONZE = [f"bronze.{name}" for name in ("observations", "forecasts", "air_quality", "locations", "quarantine", "loads")]


@dataclass(frozen=True)
class Landing:
    """One landing transaction."""

    dataset: Dataset
    rows: Sequence[dict[str, Any]]
    places: Sequence[Location]
    rejections: Sequence[Rejection] = ()


History = Iterator[list[Landing]]
"""What is landed between two runs of dbt, run after run."""


def reading(dataset: Dataset, place: str, provider: str, hour: int, version: int) -> dict[str, Any]:
    """A plausible record with all digits of its doubles; the same arguments make the same one."""
    values = random.Random(f"{dataset.name} {place} {provider} {hour} {version}")  # noqa: S311
    row: dict[str, Any] = {q.name: values.uniform(q.lower, q.upper) for q in dataset.quantities}
    for name in values.sample(list(row), len(row) // 6):
        row[name] = None
    if dataset is not AIR_QUALITY:
        row["temperature_c"] = values.choice([None, -0.0, *(values.uniform(-15, 45) for _ in range(12))])
        row["wind_direction_deg"] = values.choice([None, 0, 360, *(values.uniform(0, 360) for _ in range(5))])
        row["condition_id"] = values.choice([None, 500, 741, 800, 999])
    if values.random() < 0.1:
        rejected = dataset.quantities[values.randrange(len(dataset.quantities))].name
        row |= {rejected: None, "rejected_fields": rejected}
    time = START + hour * HOUR
    if dataset is FORECASTS:
        row |= {"issued_hour_utc": time, "valid_hour_utc": time + values.choice([0, 1, 3, 27]) * HOUR}
    else:
        row |= {"valid_hour_utc": time, "observed_at_utc": time + values.choice([0, 0, -10, 10, 25]) * HOUR / 60}
    return {"location_id": place, "provider": provider, **row}


def landing(
    dataset: Dataset, hours: range, provider: str, places: Sequence[Location], *, version: int = 1, gaps: float = 0.0
) -> Landing:
    """The records of these hours, without some of them, and the entries of the quarantine that come with them."""
    gap = random.Random(f"{dataset.name} {hours} {provider} {version}")  # noqa: S311
    rows = [
        reading(dataset, place.id, provider, hour, version)
        for place in places
        for hour in hours
        if gap.random() >= gaps
    ] or [reading(dataset, places[0].id, provider, hours[0], version)]
    rejections = [
        Rejection(
            dataset=dataset.name,
            provider=provider,
            endpoint="/test",
            location_id=row["location_id"],
            hour_utc=int(row[dataset.partition_column].timestamp()),
            reason=RejectionReason.IMPLAUSIBLE_VALUE,
            field=row["rejected_fields"],
            message="implausible",
            payload="{}",
            payload_hash="0",
        )
        for row in rows
        if row.get("rejected_fields")
    ]
    return Landing(dataset, rows, places, rejections)


def changed(place: str) -> Location:
    """The place under another name, on the other side of the date line."""
    return PLACES[place].model_copy(update={"name": "Elsewhere", "time_zone": "Pacific/Pago_Pago"})


def hour_after_hour() -> History:
    """Thirteen days at once, then hour after hour, with corrections and a place that moves."""
    places = list(PLACES.values())
    past = range(HOURS - 8)
    yield [
        landing(OBSERVATIONS, past, "simulator", places, gaps=0.05),
        landing(AIR_QUALITY, past, "openweather", places, gaps=0.05),
        landing(FORECASTS, range(0, HOURS - 8, 6), "simulator", places),
    ]
    for hour in range(HOURS - 8, HOURS):
        present = range(hour, hour + 1)
        landings = [
            landing(OBSERVATIONS, present, "simulator", places),
            landing(AIR_QUALITY, present, "openweather", places, gaps=0.2),
        ]
        if hour % 3 == 0:
            landings.append(landing(OBSERVATIONS, range(hour - 30, hour), "simulator", places, version=2, gaps=0.8))
        if hour % 4 == 0:
            landings.append(landing(FORECASTS, present, "openweather", places))
        if hour == HOURS - 4:
            places = [changed(place.id) if place.id == "kiritimati" else place for place in places]
        yield landings


def shuffled_ranges() -> History:
    """Ranges of several providers that overlap, in any order, with corrections before what they correct."""
    choose = random.Random(6)  # noqa: S311
    places = list(PLACES.values())
    ranges = [
        landing(dataset, range(first, min(first + 100, HOURS)), provider, places, version=version, gaps=0.6)
        for dataset in (OBSERVATIONS, AIR_QUALITY, FORECASTS)
        for provider, version in [*((name, 1) for name in PROVIDERS), ("simulator", 2)]
        for first in range(0, HOURS, 84)
    ]
    choose.shuffle(ranges)
    for first in range(0, len(ranges), 12):
        if first == 36:
            places = [changed(place.id) if place.id in ("lyon", "quito") else place for place in places]
        yield [replace(one, places=places) for one in ranges[first : first + 12]]


HISTORIES: dict[str, Callable[[], History]] = {
    "hour after hour": hour_after_hour,
    "shuffled ranges": shuffled_ranges,
}


def exact(value: object) -> object:
    """What is equal for two values of the same type, and only when every bit of them is the same."""
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, datetime) and value.tzinfo:
        return value.astimezone(UTC)
    return (type(value), value)


def contents(store: Store, tables: Sequence[str]) -> dict[str, tuple[list[tuple[str, str]], list[tuple[Any, ...]]]]:
    """Columns and rows of tables; types by the names that DuckDB has for them."""
    found = {}
    with store.open(read_only=True) as warehouse:
        for name in tables:
            schema, table = name.split(".")
            columns = warehouse.query(
                "select column_name, data_type from information_schema.columns"
                " where table_schema = $schema and table_name = $table order by ordinal_position",
                {"schema": schema, "table": table},
            )
            rows = [tuple(map(exact, row)) for row in warehouse.query(f"select * from {name}")]
            found[name] = ([(column, str(duckdb.sqltype(kind))) for column, kind in columns], sorted(rows, key=repr))
    return found


def difference(stores: Sequence[Store], tables: Sequence[str]) -> str | None:
    """The first difference between tables of two stores."""
    one, other = (contents(store, tables) for store in stores)
    for table in tables:
        (columns, rows), (other_columns, other_rows) = one[table], other[table]
        if columns != other_columns:
            return f"{table}: {set(columns) ^ set(other_columns)}"
        if len(rows) != len(other_rows):
            return f"{table}: {len(rows)} rows and {len(other_rows)}"
        for row, other_row in zip(rows, other_rows, strict=True):
            if row != other_row:
                found = [c for c, a, b in zip(columns, row, other_row, strict=True) if a != b]
                return f"{table}: {found} in {row} and {other_row}"
    return None


def land_all(store: Store, landings: Sequence[Landing]) -> None:
    with store.open() as bronze:
        for one in landings:
            land(bronze, one.dataset, one.rows, one.places, rejections=one.rejections)


@pytest.mark.parametrize("history", HISTORIES)
def test_the_same_bronze_gives_the_same_silver_and_gold_to_the_bit(
    dbt: Dbt, stores: Callable[[str], Store], history: str
) -> None:
    duckdb_store, postgres_store = both = [stores(engine) for engine in ENGINES]
    assert isinstance(postgres_store, PostgresStore)
    with postgres_store.open() as warehouse:
        # No instant depends on the zone of a session; that of DuckDB's is UTC.
        warehouse.execute(f"alter database \"{postgres_store.address.database}\" set timezone = 'Asia/Kathmandu'")
    for landings in HISTORIES[history]():
        for store in both:
            land_all(store, landings)
            dbt(store, "run")
    assert difference(both, BRONZE) is None, "it is not the same bronze"
    assert difference(both, SILVER_AND_GOLD) is None
    increments = contents(postgres_store, SILVER_AND_GOLD)
    for store in both:
        dbt(store, "build", "--full-refresh")
    assert difference(both, SILVER_AND_GOLD) is None
    assert contents(duckdb_store, SILVER_AND_GOLD) == increments
    with postgres_store.open(read_only=True) as warehouse:
        ((places, hours),) = warehouse.query(
            "select count(distinct location_id), max(hours_present_7d) from gold.temperature_moving_averages"
        )
        days = warehouse.query("select time_zone, providers from gold.daily_weather")
    assert places == len(PLACES)
    assert hours > 140
    assert len([zone for zone, _ in days if zone == "Pacific/Pago_Pago"]) >= 14
    most = max((providers for _, providers in days), key=len)
    assert most == ("open_meteo,openweather,simulator,station" if history == "shuffled ranges" else "simulator")


@pytest.mark.parametrize("seed", range(2))
def test_increments_are_the_same_after_any_sequence_of_loads(
    dbt: Dbt, stores: Callable[[str], Store], seed: int
) -> None:
    """On DuckDB those of the same seeds equal a full refresh (``test_increments``)."""
    both = [stores(engine) for engine in ENGINES]
    landings = [Landings(seed) for _ in both]
    for _ in range(5):
        for store, some in zip(both, landings, strict=True):
            with store.open() as bronze:
                some.land_some(bronze)
            dbt(store, "run")
        assert difference(both, SILVER_AND_GOLD) is None


def test_the_comparison_sees_a_last_bit_and_a_type(dbt: Dbt, stores: Callable[[str], Store]) -> None:
    both = [stores(engine) for engine in ENGINES]
    table = ["gold.daily_weather"]
    for store in both:
        land_all(store, [landing(OBSERVATIONS, range(48), "simulator", list(PLACES.values()))])
        dbt(store, "run", "--select", "+daily_weather")
    assert difference(both, table) is None
    with both[1].open() as warehouse:
        ((mean,),) = warehouse.query("select max(temperature_mean_c) from gold.daily_weather")
        warehouse.execute(
            "update gold.daily_weather set temperature_mean_c = $nearest where temperature_mean_c = $mean",
            {"mean": mean, "nearest": math.nextafter(mean, math.inf)},
        )
    assert "temperature_mean_c" in str(difference(both, table))
    with both[1].open() as warehouse:
        warehouse.execute(
            "update gold.daily_weather set temperature_mean_c = $mean where temperature_mean_c > $mean", {"mean": mean}
        )
        assert difference(both, table) is None
        warehouse.execute("alter table gold.daily_weather alter hours_present type integer")
    assert "hours_present" in str(difference(both, table))


def test_two_runs_of_dbt_at_once_take_turns(dbt: Dbt, stores: Callable[[str], Store], tmp_path: Path) -> None:
    postgres = stores("postgres")
    assert isinstance(postgres, PostgresStore)
    places = list(PLACES.values())
    land_all(postgres, [landing(OBSERVATIONS, range(30), "simulator", places)])
    dbt(postgres, "run")
    land_all(postgres, [landing(OBSERVATIONS, range(20, 40), "openweather", places)])

    def start(name: str) -> "subprocess.Popen[str]":
        settings = {
            "WEATHER_ENV": "cluster",
            "WEATHER_POSTGRES_URL": postgres.address.url.get_secret_value(),
            "WEATHER_HOME": str(tmp_path),
            "DBT_TARGET_PATH": str(tmp_path / name),
            "DBT_LOG_PATH": str(tmp_path / name),
        }
        environment = without_settings() | settings
        return subprocess.Popen([BIN / "weather-dbt", "run"], env=environment, stdout=subprocess.PIPE, text=True)

    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with psycopg.connect(postgres.address.url.get_secret_value()) as connection:
        # One comes to a halt before its first change, and the other before it.
        connection.execute("lock table silver.observations in exclusive mode")
        runs = [start("one"), start("other")]
        deadline = time.monotonic() + 120
        with postgres.open(read_only=True) as warehouse:
            while warehouse.query(waiting) != [(2,)]:
                assert time.monotonic() < deadline
                time.sleep(0.1)
    for run in runs:
        told, _ = run.communicate(timeout=120)
        assert run.returncode == 0, told
    increments = contents(postgres, SILVER_AND_GOLD)
    dbt(postgres, "run", "--full-refresh")
    assert contents(postgres, SILVER_AND_GOLD) == increments


def test_clocks_of_the_default_places_show_the_same_on_both_engines(stores: Callable[[str], Store]) -> None:
    """Each engine has its own rules of the zones; where a law is recent they may differ."""
    found = []
    for engine in ENGINES:
        store = stores(engine)
        land_all(store, [landing(OBSERVATIONS, range(1), "simulator", list(PLACES.values()))])
        with store.open(read_only=True) as warehouse:
            found.append(
                warehouse.query(
                    "select time_zone, day, timezone(time_zone, day) from bronze.locations cross join generate_series("
                    "timestamptz '2000-01-01 00:00:00Z', timestamptz '2030-12-31 00:00:00Z', interval '1 day'"
                    ") as days (day) order by location_id, day"
                )
            )
    assert len(found[0]) == len(PLACES) * 11323
    assert found[0] == found[1]
