"""The Postgres warehouse on a real server: many writers, roles, and what a server can do to one."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.warehouse import postgres, postgres_connection
from weather_dagster.warehouse.base import Landed, Store
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore, PostgresWarehouse
from weather_dagster.warehouse.schema import Migration
from weather_dagster_tests.conftest import without_settings
from weather_dagster_tests.ports import free_port
from weather_dagster_tests.postgres import PostgresServer, fresh_database, running_server, with_parts
from weather_dagster_tests.warehouse.loader import land_days, start_loader
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, START, land, observation, rejection

ROWS = [observation(hour, 10.0) for hour in DAY]
MONTH = HourRange(START, START + 719 * HOUR)
SOON = timedelta(seconds=0.3)
SECRET = "hunter2 & co/@"


def store_of(url: str, **parts: str | int) -> PostgresStore:
    return PostgresStore(SecretStr(with_parts(url, **parts)))


# Many writers


def content(store: Store) -> dict[str, Counter[tuple[object, ...]]]:
    """What bronze holds, without what every load has of its own."""
    with store.open(read_only=True) as warehouse:
        return {
            table: Counter(
                tuple(value for name, value in row.items() if name not in ("load_id", "run_id"))
                for row in warehouse.query_rows(f"select * from bronze.{table}")
            )
            for table in ("observations", "quarantine", "locations")
        }


def test_sixty_days_by_eight_processes_one_of_them_killed_are_those_of_one_process(
    postgres_url: str, tmp_path: Path
) -> None:
    ranges = [(7 * number, 7 * number + 10) for number in range(8)]
    # Long, so that it is killed in the midst of it: after a day that no other process lands.
    ranges[3] = (21, 45)
    reached = START + timedelta(days=25)
    store = store_of(postgres_url)
    with store.open() as watcher:
        processes = [start_loader(postgres_url, *days) for days in ranges]
        victim, seen = processes[3], 0
        while any(process.is_alive() for process in processes):
            # Load ids grow in commit order: who sees one sees all below it.
            ((count, newest, is_midway),) = watcher.query(
                "select count(*), coalesce(max(load_id), 0), coalesce(bool_or(first_hour_utc = $reached), false) "
                "from bronze.loads",
                {"reached": reached},
            )
            assert count == newest >= seen
            seen = newest
            if is_midway and victim.is_alive():
                victim.kill()
            time.sleep(0.01)
        assert [process.exitcode for process in processes] == [0, 0, 0, -signal.SIGKILL, 0, 0, 0, 0]
        wrong = "select count(*) from bronze.observations where load_id = loads.load_id having count(*) <> rows_added"
        assert watcher.query(f"select load_id from bronze.loads where exists ({wrong})") == [], "each load is whole"
    again = start_loader(postgres_url, *ranges[3])
    again.join(60)
    assert again.exitcode == 0
    serial = DuckDBStore(tmp_path / "serial.duckdb")
    land_days(serial, 0, 59)
    assert content(store) == content(serial)


HOLD = """
import sys, time
from pydantic import SecretStr
from weather_dagster.warehouse.postgres import PostgresStore, PostgresWarehouse
from weather_dagster_tests.warehouse.test_postgres import ROWS, land

def hold(*_):
    print("all rows inserted", flush=True)
    time.sleep(60)

PostgresWarehouse._upsert_locations = hold
with PostgresStore(SecretStr(sys.argv[1])).open() as warehouse:
    land(warehouse, ROWS)
"""


def test_a_process_that_dies_within_its_landing_leaves_nothing_and_nobody_waits(postgres_url: str) -> None:
    store = store_of(postgres_url)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, postgres_url], env=without_settings(), stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "all rows inserted\n"
    with (
        store.open(patience=SOON) as warehouse,
        pytest.raises(WarehouseError, match=rf"for too long: .* weather \S+:{holder.pid} \(PID \d+\) is landing"),
    ):
        land(warehouse, ROWS)
    holder.kill()
    holder.wait()
    with store.open() as warehouse:
        assert warehouse.query("select count(*) from bronze.observations") == [(0,)]
        assert land(warehouse, ROWS) == Landed(1, 24, 0)


def test_partitions_are_made_for_the_months_that_have_rows(postgres_store: PostgresStore) -> None:
    months = HourRange(START - HOUR, START)
    with postgres_store.open() as warehouse:
        land(warehouse, [observation(hour, 10.0) for hour in months], hours=months)
        parts = "select inhrelid::regclass::text from pg_inherits where inhparent = 'bronze.observations'::regclass"
        assert sorted(warehouse.query(parts)) == [("bronze.observations_2026_02",), ("bronze.observations_2026_03",)]
        # The newest version of a reading is looked for in its month alone.
        ((plan,),) = warehouse.query(
            "explain (format json) select 1 from bronze.observations where valid_hour_utc = $hour", {"hour": START}
        )
        assert "observations_2026_03" in plan
        assert "observations_2026_02" not in plan


def test_a_deadlock_is_tried_again(postgres_store: PostgresStore) -> None:
    with postgres_store.open() as one, postgres_store.open() as other:
        land(one, ROWS, rejections=(rejection(),))
        with closing(psycopg.connect(postgres_store.url.get_secret_value())) as rival:  # type: ignore[union-attr]
            rival.execute("update bronze.quarantine set message = 'mine'")
            done: list[int] = []

            def both() -> None:
                changed = "with first as (update bronze.loads set run_id = 'x' returning 1) "
                changed += "update bronze.quarantine set message = 'ours' where (select count(*) from first) > 0"
                done.append(other.execute(changed))

            thread = threading.Thread(target=both)
            thread.start()
            waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            while one.query(waits) == [(0,)]:
                time.sleep(0.01)
            # Now each waits for the other, and the server ends what ``other`` does, or what the rival does.
            rival.execute("set deadlock_timeout = '60s'")
            rival.execute("update bronze.loads set run_id = 'y'")
            rival.commit()
            thread.join(30)
        assert done == [1]
        assert one.query("select message from bronze.quarantine") == [("ours",)]


# Roles


@pytest.fixture
def roles(postgres_url: str) -> dict[str, PostgresStore]:
    """Owner, writer and reader of a warehouse that has rows, each with a password."""
    with store_of(postgres_url).open() as warehouse:
        land(warehouse, ROWS)
        warehouse.make_roles()
        warehouse.make_roles()
    names = ("weather_owner", "weather_writer", "weather_reader")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"alter role {name} password 'secret'".encode())
    return {name.removeprefix("weather_"): store_of(postgres_url, user=name, password="secret") for name in names}


def rebuild(writer: PostgresStore, value: int) -> None:
    """Replace a table of gold and one of silver as dbt does: a new one takes the name of the old one."""
    with writer.open() as warehouse:
        for schema in ("silver", "gold"):
            warehouse.script(f"create schema if not exists {schema}")
            warehouse.script(f"create table {schema}.weather__dbt_tmp as select {value} as value")
            warehouse.script(f"alter table if exists {schema}.weather rename to weather__dbt_backup")
            warehouse.script(f"alter table {schema}.weather__dbt_tmp rename to weather")
            warehouse.script(f"drop table if exists {schema}.weather__dbt_backup cascade")
        warehouse.script("create or replace view gold.latest as select * from gold.weather")


FORBIDDEN = [
    "select * from bronze.loads",
    "select * from silver.weather",
    "insert into gold.weather values (1)",
    "update gold.weather set value = 1",
    "delete from gold.weather",
    "truncate gold.weather",
    "drop table gold.weather",
    "alter table gold.weather add column more integer",
    "create index on gold.weather (value)",
    "create table gold.mine (value integer)",
    "create table public.mine (value integer)",
    "create temporary table mine (value integer)",
    "create schema mine",
    "create role mine",
    "set role weather_writer",
    "select bronze.add_month('observations', '2030-01-01')",
    "copy (select 1) to program 'true'",
    "select pg_read_file('postgresql.conf')",
    "select passwd from pg_shadow",
]


def is_allowed(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def test_the_reader_reads_gold_and_nothing_else_also_after_rebuilds(roles: dict[str, PostgresStore]) -> None:
    url = roles["reader"].url
    assert url
    for value in (1, 2):
        rebuild(roles["writer"], value)
        with psycopg.connect(url.get_secret_value(), autocommit=True) as reader:
            assert reader.execute("select * from gold.weather union all select * from gold.latest").fetchall() == [
                (value,),
                (value,),
            ]
            assert [statement for statement in FORBIDDEN if is_allowed(reader, statement)] == []
    for read_only in (False, True):
        with (
            pytest.raises(
                WarehouseError, match=r"'weather_reader' may not do this: permission denied .*weather_writer"
            ),
            roles["reader"].open(read_only=read_only),
        ):
            pass


def test_the_writer_lands_new_months_too_and_leaves_the_schema_alone(roles: dict[str, PostgresStore]) -> None:
    new_month = HourRange(START + 40 * 24 * HOUR, START + 40 * 24 * HOUR)
    with roles["writer"].open() as warehouse:
        assert land(warehouse, [observation(new_month.first, 10.0)], hours=new_month).rows_added == 1
        assert warehouse.execute("delete from bronze.observations where valid_hour_utc = $h", {"h": START}) == 1
        for statement in (
            "update bronze.schema_versions set version = 9",
            "drop table bronze.loads",
            "truncate bronze.observations",
            "alter table bronze.observations add column more integer",
        ):
            with pytest.raises(WarehouseError, match="'weather_writer' may not do this"):
                warehouse.execute(statement)


def test_the_owner_upgrades_and_the_writer_says_who_may(
    roles: dict[str, PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    later = Migration(2, "notes", "create table bronze.notes (note text)")
    monkeypatch.setattr(postgres, "MIGRATIONS", (*postgres.MIGRATIONS, later))
    with (
        pytest.raises(WarehouseError, match=r"'weather_writer' may not .* weather_owner to upgrade the schema"),
        roles["writer"].open(),
    ):
        pass
    with roles["owner"].open() as warehouse:
        assert warehouse.schema_version() == 2
    with roles["writer"].open() as warehouse:
        assert warehouse.execute("insert into bronze.notes values ('x')") == 1


# What can be wrong from the start


def refusal(store: PostgresStore) -> str:
    with pytest.raises((WarehouseError, ConfigurationError)) as caught, store.open(patience=SOON):
        pass
    return str(caught.value)


def test_an_unreachable_server_is_named_soon(postgres_url: str) -> None:
    port = free_port()
    begun = time.monotonic()
    told = refusal(store_of(postgres_url, port=port, password=SECRET))
    assert time.monotonic() - begun < 5
    assert f"@127.0.0.1:{port}/weather_" in told
    assert "nothing answers there; is the server up, and are host and port in WEATHER_POSTGRES_URL right?" in told
    assert SECRET not in told


def test_a_wrong_password_is_told_and_not_repeated(postgres_url: str) -> None:
    told = refusal(store_of(postgres_url, password=SECRET))
    assert "the password for 'postgres' is wrong; correct it in WEATHER_POSTGRES_URL" in told
    assert SECRET not in told
    assert "hunter2" not in told


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"dbname": "nowhere"}, "there is no database 'nowhere'; make it (`createdb nowhere`)"),
        ({"host": "no.invalid"}, "the host 'no.invalid' is not known"),
        ({"sslmode": "require"}, "see sslmode in WEATHER_POSTGRES_URL"),
    ],
)
def test_what_the_url_names_and_is_not_there_is_named(postgres_url: str, parts: dict[str, str], told: str) -> None:
    assert told in refusal(store_of(postgres_url, **parts))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@host:port/weather",
        f"postgres:me:{SECRET}",
        f"mysql://me:{SECRET}@host/weather",
        # libpq reads these, and takes a part of the password for the host, the port or the database.
        "postgresql://me:hunter2/co@host:5432/weather",
        "postgresql://me:12/hunter2@host:5432/weather",
        "postgresql://me:co@hunter2@host:5432/weather",
        "postgresql://me:hunter2/weather",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    told = refusal(PostgresStore(SecretStr(url)))
    assert "WEATHER_POSTGRES_URL cannot be read; write it like postgresql://" in told
    assert "hunter2" not in told


def test_dbt_is_told_all_that_the_url_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    asked = "?sslmode=verify-full&sslrootcert=%2Fca.crt&options=-c%20geqo%3Doff"
    told = PostgresStore(SecretStr(f"postgresql://me:hunter2@host:5433/weather{asked}")).dbt_environment()
    assert told == {
        "WEATHER_POSTGRES_HOST": "host",
        "WEATHER_POSTGRES_PORT": "5433",
        "WEATHER_POSTGRES_USER": "me",
        "WEATHER_POSTGRES_DATABASE": "weather",
        "DBT_ENV_SECRET_POSTGRES_PASSWORD": "hunter2",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca.crt",
        "PGOPTIONS": "-c geqo=off",
    }


def test_a_server_that_is_too_old_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_connection, "OLDEST_SERVER", 99)
    assert re.search(r"is on PostgreSQL \d\d; upgrade the server to 99 or newer", refusal(store_of(postgres_url)))


def test_no_extension_is_needed(postgres_store: PostgresStore) -> None:
    with postgres_store.open() as warehouse:
        assert warehouse.query("select extname from pg_extension") == [("plpgsql",)], "which every server has"


# What can happen in the middle


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that can be stopped without harm to other tests."""
    with running_server() as server:
        yield server


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_between_two_landings_and_within_one_is_survived(own_server: PostgresServer, mode: str) -> None:
    with fresh_database(own_server.url) as url, store_of(url).open() as warehouse:
        land(warehouse, ROWS[:12])
        own_server.stop(mode)
        own_server.start()
        assert warehouse.query("select count(*) from bronze.observations") == [(12,)]
        own_server.stop(mode)
        own_server.start()
        assert land(warehouse, ROWS).rows_added == 12
        # What may have been done is not done twice unasked.
        own_server.stop(mode)
        own_server.start()
        with pytest.raises(WarehouseError, match=r"connection was lost: .*what was not committed is undone"):
            warehouse.execute("delete from bronze.observations")
        assert warehouse.query("select count(*) from bronze.observations") == [(24,)]


def test_a_landing_whose_connection_ends_before_its_commit_is_done_again(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_step = PostgresWarehouse._upsert_locations

    def lose_connection(warehouse: PostgresWarehouse, *arguments: Any) -> int:
        monkeypatch.setattr(PostgresWarehouse, "_upsert_locations", last_step)
        with postgres_store.open() as other:
            other.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction' "
                "and datname = current_database()"
            )
        return last_step(warehouse, *arguments)

    monkeypatch.setattr(PostgresWarehouse, "_upsert_locations", lose_connection)
    with postgres_store.open() as warehouse:
        assert land(warehouse, ROWS, rejections=(rejection(),)) == Landed(1, 24, 1)
        assert warehouse.query("select count(*) from bronze.observations") == [(24,)]


def test_a_server_that_is_down_for_a_while_is_waited_for(own_server: PostgresServer) -> None:
    with fresh_database(own_server.url) as url, store_of(url).open() as warehouse:
        land(warehouse, ROWS[:12])
        own_server.stop()
        starter = threading.Timer(1, own_server.start)
        starter.start()
        assert land(warehouse, ROWS).rows_added == 12
        starter.join()


@pytest.fixture
def small_disk(own_server: PostgresServer) -> Iterator[str]:
    """URL of a database on a disk of its own, of 40 MB. It takes a file system that can be mounted, and so root."""
    folder = own_server.folder / "small"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone, and not in every container")
    try:
        own_server.give(folder)
        with psycopg.connect(own_server.url, autocommit=True) as connection:
            connection.execute(f"create tablespace small location '{folder}'".encode())
            connection.execute("create database small tablespace small")
            yield with_parts(own_server.url, dbname="small")
            connection.execute("drop database small with (force)")
            connection.execute("drop tablespace small")
    finally:
        # The server may hold files that it has dropped until its next checkpoint.
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_and_after_it_has_room_a_rerun_completes(small_disk: str) -> None:
    store = store_of(small_disk)
    rows = [
        (*row[:-3], f'{{"much": "{hour:04}{"x" * 2000}"}}', *row[-2:])
        for hour in range(400)
        for row in [observation(START + hour * HOUR, 10.0)]
    ]
    with store.open() as warehouse:
        land(warehouse, ROWS[:12])
        warehouse.script("create unlogged table filler (n integer)")
        fill = "do 'begin loop insert into filler select generate_series(1, 5000); commit; end loop; end'"
        with pytest.raises(psycopg.errors.DiskFull):
            warehouse.script(fill)
        with pytest.raises(WarehouseError, match=r"the server's disk is full: could not extend file .*make room there"):
            land(warehouse, rows)
        assert warehouse.query("select count(*), max(load_id) from bronze.observations") == [(12, 1)]
        warehouse.script("drop table filler")
        assert land(warehouse, rows).rows_added == 388
        assert land(warehouse, rows) == Landed(None, 0, 0)


def test_of_very_many_payloads_a_fair_share_is_looked_at(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PAYLOADS_READ", 500)
    rows = [
        (*row[:-3], '{"always": 1, "half": 1}' if number % 2 else '{"always": 1}', *row[-2:])
        for number, place in enumerate(PLACES)
        for row in [observation(hour, number + step / 1000, place=place.id) for step, hour in enumerate(MONTH)]
    ]
    with postgres_store.open() as warehouse:
        land(warehouse, rows, hours=MONTH)
        (fields,) = warehouse.payload_fields(OBSERVATIONS, MONTH).values()
    assert 350 < fields.rows < 650
    assert fields.counts["always"] == fields.rows
    assert 0.4 < fields.counts["half"] / fields.rows < 0.6


def test_a_statement_that_takes_too_long_is_ended_and_told(
    postgres_store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "STATEMENT_TIMEOUT", timedelta(seconds=0.2))
    with postgres_store.open() as warehouse:
        with pytest.raises(WarehouseError, match=r"a statement was cancelled: .*statement timeout; it may take 0\.2 s"):
            warehouse.query("select pg_sleep(5)")
        assert land(warehouse, ROWS) == Landed(1, 24, 0)


def test_an_administrator_who_is_no_superuser_makes_the_roles(own_server: PostgresServer) -> None:
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        connection.execute("create role administrator login password 'secret' createrole createdb")
    server = with_parts(own_server.url, user="administrator", password="secret")
    with fresh_database(server) as url, store_of(url).open() as warehouse:
        land(warehouse, ROWS)
        warehouse.make_roles()
        owners = "select distinct pg_get_userbyid(relowner) from pg_class where relnamespace = 'bronze'::regnamespace"
        assert warehouse.query(owners) == [("weather_owner",)]
        assert land(warehouse, ROWS) == Landed(None, 0, 0)
