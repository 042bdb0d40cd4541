"""Bronze from a DuckDB file to a real Postgres: whole, broken off and taken up, refused."""

import dataclasses
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pytest

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, payload_hash
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.warehouse import copying
from weather_dagster.warehouse.base import Landed, Store, Warehouse
from weather_dagster.warehouse.copying import TABLES, copy_bronze
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA
from weather_dagster_tests.conftest import Weather, without_settings
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, START, land, observation, rejection
from weather_dagster_tests.warehouse.test_landing import call, settled

NIGHT = HourRange(START - 6 * HOUR, START - HOUR)


@pytest.fixture
def source(tmp_path: Path) -> DuckDBStore:
    """Six loads over two months: corrections, quarantine, all datasets, a place that moved, calls."""
    store = DuckDBStore(tmp_path / "w.duckdb")
    moved = PLACES[0].model_copy(update={"time_zone": "Europe/London"})
    unreadable = dataclasses.replace(rejection("not\0JSON"), field=None, payload="not\0JSON, ❄")
    with store.open() as warehouse:
        land(warehouse, [observation(hour, 10.1 + hour.hour / 7) for hour in DAY], rejections=(rejection(), unreadable))
        land(warehouse, [observation(hour, -0.05) for hour in NIGHT], hours=NIGHT)
        land(warehouse, [observation(START, 11.0)], places=(moved, *PLACES[1:]), resolved=(settled(),))
        instant = int(START.timestamp())
        values = [5e-05, *[None] * (len(FORECASTS.quantities) - 1)]
        forecast = ("simulator", "/f", "lyon", instant, instant, *values, 3, 800, "wind_gust_ms", '{"a": "é"}')
        land(warehouse, [(*forecast, payload_hash(instant, values), 1)], dataset=FORECASTS)
        values = [0.1 + 0.2, *[None] * (len(AIR_QUALITY.quantities) - 1)]
        air = ("simulator", "/a", "lyon", instant, instant, *values, 2, None, '{"dt": 1}')
        land(warehouse, [(*air, payload_hash(instant, values), 1)], dataset=AIR_QUALITY)
        land(warehouse, [observation(hour, 12.0) for hour in DAY])
        warehouse.record_calls(pa.Table.from_pylist([call("a"), call("b", status=None)], API_CALLS_SCHEMA))
    return store


def copied(source: DuckDBStore, target: PostgresStore) -> dict[str, int]:
    with source.open(read_only=True) as here, target.open() as there:
        return copy_bronze(here, there)


def rows(store: Store, table: str) -> list[str]:
    """All rows, whole, in an order of their own."""
    with store.open(read_only=True) as warehouse:
        found = warehouse.query(f"select * from bronze.{table}")
    return sorted(str([v.isoformat() if isinstance(v, datetime) else v for v in row]) for row in found)


def test_a_copy_has_every_row_with_its_load_and_goes_on_from_there(
    source: DuckDBStore, postgres_store: PostgresStore
) -> None:
    counts = copied(source, postgres_store)
    assert counts == {
        "observations": 55, "forecasts": 1, "air_quality": 1, "quarantine": 2, "loads": 6, "locations": len(PLACES),
        "api_calls": 2,
    }  # fmt: skip
    for table in TABLES:
        # Postgres has no text with a NUL: its symbol stands for it.
        assert rows(postgres_store, table) == [row.replace("\\x00", "␀") for row in rows(source, table)], table
    again = [observation(hour, 12.0) for hour in DAY]
    for store in (source, postgres_store):
        with store.open() as warehouse:
            assert land(warehouse, again, rejections=(rejection(),), places=()) == Landed(None, 0, 0)
            assert land(warehouse, [observation(START, 13.0)], places=()).load_id == 7


COPY = """
import sys, time
from pathlib import Path
from pydantic import SecretStr
from weather_dagster.warehouse import copying
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore

def tell(done, all_):
    print(done, flush=True)
    if done == 3:
        time.sleep(60)

copying.ROWS_AT_ONCE = 1
with DuckDBStore(Path(sys.argv[1])).open(read_only=True) as here, PostgresStore(SecretStr(sys.argv[2])).open() as there:
    copying.copy_bronze(here, there, tell)
"""


def test_a_copy_that_was_killed_is_taken_up_where_it_was(
    source: DuckDBStore, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert postgres_store.url
    process = subprocess.Popen(
        [sys.executable, "-c", COPY, source.path, postgres_store.url.get_secret_value()],
        env=without_settings(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert [process.stdout.readline() for _ in range(3)] == ["1\n", "2\n", "3\n"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 1)
    told: list[tuple[int, int]] = []
    with source.open(read_only=True) as here, postgres_store.open() as there:
        counts = copy_bronze(here, there, lambda done, all_: told.append((done, all_)))
    assert told == [(4, 6), (5, 6), (6, 6)]
    assert counts["observations"] == 55


def test_what_the_source_has_landed_since_is_brought_by_the_next_copy(
    source: DuckDBStore, postgres_store: PostgresStore
) -> None:
    copied(source, postgres_store)
    with source.open() as warehouse:
        (entry,) = warehouse.query_rows("select * from bronze.quarantine where resolved_load_id is null")
        key = settled(reason=entry["reason"], field=entry["field"], payload_hash=entry["payload_hash"])
        assert land(warehouse, [observation(START, 14.0)], resolved=(key,)).resolved == 1
        warehouse.record_calls(pa.Table.from_pylist([call("c")], API_CALLS_SCHEMA))
    counts = copied(source, postgres_store)
    assert (counts["loads"], counts["api_calls"]) == (7, 3)
    with postgres_store.open(read_only=True) as warehouse:
        assert warehouse.query("select count(*) from bronze.quarantine where resolved_load_id = 7") == [(1,)]


def land_other(warehouse: Warehouse) -> None:
    land(warehouse, [observation(START, 99.0)])


def test_a_target_with_other_data_is_refused_and_left_as_it_is(
    source: DuckDBStore, postgres_store: PostgresStore
) -> None:
    with postgres_store.open() as warehouse:
        land_other(warehouse)
    with pytest.raises(
        WarehouseError, match=r"load 1 of the target \(observations of simulator, run r\) is not one of"
    ):
        copied(source, postgres_store)
    assert len(rows(postgres_store, "observations")) == 1


def test_a_target_that_has_only_calls_is_refused(source: DuckDBStore, postgres_store: PostgresStore) -> None:
    with postgres_store.open() as warehouse:
        warehouse.record_calls(pa.Table.from_pylist([call("z")], API_CALLS_SCHEMA))
    with pytest.raises(WarehouseError, match=r"rows in bronze\.api_calls and no load of the source"):
        copied(source, postgres_store)


def test_who_lands_in_the_target_meanwhile_ends_the_copy(
    source: DuckDBStore, postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "ROWS_AT_ONCE", 1)
    with source.open(read_only=True) as here, postgres_store.open() as there:
        other = [*range(2)]

        def meanwhile(done: int, _: int) -> None:
            if done == 2 and other.pop():
                land_other(there)

        with pytest.raises(WarehouseError, match=r"has load 3 where load 2 is the newest of the copy: somebody lands"):
            copy_bronze(here, there, meanwhile)


def test_a_value_that_differs_is_found(source: DuckDBStore, postgres_store: PostgresStore) -> None:
    copied(source, postgres_store)
    with postgres_store.open() as warehouse:
        warehouse.execute("update bronze.forecasts set temperature_c = temperature_c + 0.001")
    with pytest.raises(WarehouseError, match=r"bronze\.forecasts differs after the copy: 1 rows with digest"):
        copied(source, postgres_store)


def test_the_command_copies_and_says_what_it_compared(source: DuckDBStore, postgres_url: str, weather: Weather) -> None:
    settings = {"WEATHER_DUCKDB_PATH": str(source.path), "WEATHER_POSTGRES_URL": postgres_url}
    done = weather("warehouse", "copy", "--from", "duckdb", "--to", "postgres", **settings)
    assert done.returncode == 0, done.stderr
    assert "bronze.observations │ 55" in done.stdout
    assert "`weather-dbt build` with WEATHER_ENV=cluster makes silver and gold of it" in done.stdout
    back = weather("warehouse", "copy", "--from", "postgres", "--to", "duckdb", **settings)
    assert back.returncode == 1
    assert "bronze is copied --from duckdb --to postgres, not from postgres to duckdb" in back.stderr
    nowhere = weather("warehouse", "copy", "--from", "duckdb", "--to", "postgres", WEATHER_DUCKDB_PATH=str(source.path))
    assert "WEATHER_POSTGRES_URL is not set" in nowhere.stderr


def test_the_commands_for_schema_and_roles_say_what_they_did(postgres_url: str, weather: Weather) -> None:
    cluster = {"WEATHER_ENV": "cluster", "WEATHER_POSTGRES_URL": postgres_url}
    migrated = weather("warehouse", "migrate", **cluster)
    assert "has version 1 of the bronze schema" in migrated.stdout, migrated.stderr
    assert "version 1 of the bronze schema" in weather("warehouse", "migrate").stdout
    made = weather("warehouse", "roles", **cluster)
    assert "weather_owner, weather_writer and weather_reader have their rights in" in made.stdout, made.stderr
    assert "correct" not in made.stdout, "the password"
