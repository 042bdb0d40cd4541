"""Retention on a home of 2,000 runs, on SQLite and on Postgres: it shrinks, and the UI shows what it showed."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
import time_machine
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable

from weather_dagster.automation.retention import prune_runs
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.partitions import partition_key, range_tags
from weather_dagster_tests.automation.test_retention import LATER, PROPER, START, checked, thing, whole
from weather_dagster_tests.conftest import BIN, free_port, without_settings
from weather_dagster_tests.postgres import running_server
from weather_dagster_tests.test_dagster_dev import wait_for

pytestmark = pytest.mark.integration

RUNS = 2000
DAY = timedelta(days=1)
CUTOFF = LATER - 30 * DAY


defs = dg.Definitions(assets=[thing, whole], asset_checks=[checked])
SHOWN = """
query ($keys: [String!]) { assetNodes { assetKey { path }
  partitionStats { numMaterialized numFailed numMaterializing numPartitions }
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
  latestMaterializationByPartition(partitions: $keys) { runId partition timestamp }
  assetMaterializations(limit: 1) { runId timestamp }
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
    runId status timestamp evaluation { success severity } } } } }
} }
"""


@dataclass(frozen=True)
class Home:
    """A Dagster home, and how large its storage is."""

    folder: Path
    instance: dg.DagsterInstance
    bytes: Callable[[], int]


def bytes_of(folder: Path) -> int:
    """What the files of a folder take, as a disk counts."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@contextmanager
def sqlite_home(folder: Path) -> Iterator[Home]:
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}", encoding="utf-8")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        yield Home(folder, instance, lambda: bytes_of(folder))


@contextmanager
def postgres_home(folder: Path) -> Iterator[Home]:
    with running_server() as server:
        # Dagster's own Postgres storage speaks through psycopg2, which SQLAlchemy does not choose by itself.
        url = server.url.replace("postgresql:", "postgresql+psycopg2:", 1)
        (folder / "dagster.yaml").write_text(
            json.dumps({"telemetry": {"enabled": False}, "storage": {"postgres": {"postgres_url": url}}}),
            encoding="utf-8",
        )
        with dg.DagsterInstance.from_config(str(folder)) as instance:

            def size() -> int:
                # What is deleted is used again, and given back when somebody asks for it.
                with sa.create_engine(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    connection.execute(sa.text("vacuum full"))
                    return int(connection.execute(sa.text("select pg_database_size('postgres')")).scalar_one())

            yield Home(folder, instance, size)


@pytest.fixture(params=[sqlite_home, postgres_home], ids=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    with request.param(tmp_path) as home:
        yield home
    # Hundreds of megabytes, which pytest would keep for three sessions.
    shutil.rmtree(tmp_path)


def execute(instance: dg.DagsterInstance, hours: HourRange, at: datetime, *, breaks: bool = False) -> dg.DagsterRun:
    """A real run over a range of hours."""
    with time_machine.travel(at, tick=True):
        result = dg.materialize(
            [thing, whole, checked],
            instance=instance,
            raise_on_error=False,
            tags={**range_tags(hours), **({"breaks": "yes"} if breaks else {})},
        )
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def repeat(home: Home, original: dg.DagsterRun, runs: Sequence[tuple[timedelta, datetime]]) -> None:
    """Put runs into the storage that are as the original was, but later: by how much its hours, and when they ended.

    Row by row as Dagster wrote them, in one transaction of each storage: 2,000 real runs would take ten minutes.
    """
    storage = home.instance.event_log_storage
    events, checks = SqlEventLogStorageTable, AssetCheckExecutionsTable
    copies = [(shift, at, str(uuid4())) for shift, at in runs]
    with storage.index_transaction() as connection:
        kept, kept_checks = rows_of(connection, events, original), rows_of(connection, checks, original)
        for shift, at, run_id in copies:
            shifted = later(original.run_id, run_id, shift)
            new_ids = {}
            for row in kept:
                values = shifted(row) | {"timestamp": at.replace(tzinfo=None)}
                new_ids[row["id"]] = connection.execute(sa.insert(events).values(values)).inserted_primary_key[0]
            for row in kept_checks:
                ids = ("evaluation_event_storage_id", "materialization_event_storage_id")
                moved = {name: new_ids.get(row[name], row[name]) for name in ids}
                connection.execute(sa.insert(checks).values(shifted(row) | moved))
            if isinstance(storage, SqliteEventLogStorage):
                copy_run_file(storage, original.run_id, run_id, shifted)
    with home.instance.run_storage.connect() as connection, transaction(connection):
        (kept_run,), kept_tags = rows_of(connection, RunsTable, original), rows_of(connection, RunTagsTable, original)
        for shift, at, run_id in copies:
            shifted, end = later(original.run_id, run_id, shift), at.replace(tzinfo=None)
            ended = {"create_timestamp": end, "update_timestamp": end, "end_time": at.timestamp()}
            connection.execute(sa.insert(RunsTable).values(shifted(kept_run) | ended))
            connection.execute(sa.insert(RunTagsTable).values([shifted(tag) for tag in kept_tags]))
            logs = home.folder / "storage" / run_id / "compute_logs"
            logs.mkdir(parents=True)
            (logs / "step.out").write_text("line\n" * 200)


def rows_of(connection: sa.Connection, table: sa.Table, run: dg.DagsterRun) -> list[dict[str, Any]]:
    """A run's rows of a table, in the order in which they were written."""
    rows = connection.execute(sa.select(table).where(table.c.run_id == run.run_id).order_by(table.c.id))
    return [dict(row) for row in rows.mappings()]


@contextmanager
def transaction(connection: sa.Connection) -> Iterator[None]:
    """One for all that follows, also where Dagster's connections commit each statement."""
    if connection.in_transaction():
        yield
    else:
        with connection.execution_options(isolation_level="READ COMMITTED").begin():
            yield


def later(old_id: str, run_id: str, shift: timedelta) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A row without its id, with another run's id and with partition keys so much later."""

    def move(key: re.Match[str]) -> str:
        return partition_key(datetime.strptime(f"{key[0]}+0000", "%Y-%m-%d-%H:%M%z") + shift)

    def change(row: dict[str, Any]) -> dict[str, Any]:
        return {
            name: re.sub(r"2026-\d\d-\d\d-\d\d:00", move, value.replace(old_id, run_id))
            if isinstance(value, str)
            else value
            for name, value in row.items()
            if name != "id"
        }

    return change


def copy_run_file(
    storage: SqliteEventLogStorage, old_id: str, run_id: str, shifted: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """The events of a run in a file of its own, as Dagster's SQLite storage has it."""
    path = storage.path_for_shard(run_id)
    shutil.copyfile(storage.path_for_shard(old_id), path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma synchronous = off")
        connection.create_function("shifted", 1, lambda text: shifted({"text": text})["text"])
        connection.execute(
            "update event_logs set run_id = shifted(run_id), event = shifted(event), partition = shifted(partition)"
        )


def fill(home: Home) -> int:
    """``RUNS`` runs of 90 days: hourly, many repeated, some failed and left so, some over a day; how many are old."""
    hourly = execute(home.instance, HourRange(START, START), START + 25 * HOUR)
    failed = execute(home.instance, HourRange(START, START), START + 25 * HOUR, breaks=True)
    day = execute(home.instance, HourRange(START, START + 23 * HOUR), START + 25 * HOUR)
    # A file that was written lately has rows beside it, which a copy has to have.
    home.instance.event_log_storage.dispose()
    hours = [n * HOUR for n in range(24, 24 + 1050)]
    repeat(home, failed, [(n, START + n + HOUR) for n in hours[::12]])
    repeat(home, hourly, [(n, START + n + 2 * HOUR) for n in hours if n % DAY != 5 * HOUR])
    # An hour of each day fails twice and is left.
    left = [n for n in hours if n % DAY == 5 * HOUR]
    repeat(home, failed, [(n, START + n + wait) for n in left for wait in (HOUR, 2 * HOUR)])
    repeat(home, hourly, [(n, START + 55 * DAY) for n in hours[:397] if n % DAY != 5 * HOUR])
    repeat(home, day, [(n * DAY, START + 56 * DAY) for n in range(20, 40)])
    old = len(home.instance.get_runs())
    repeat(home, failed, [(hours[0], LATER - 2 * DAY)])
    young = RUNS - 1 - len(home.instance.get_runs())
    repeat(home, hourly, [((1000 + n) * HOUR, LATER - 20 * DAY + n * HOUR) for n in range(young)])
    execute(home.instance, HourRange(START, START), LATER - DAY)
    return old


@contextmanager
def webserver(home: Home) -> Iterator[Callable[[], dict[str, Any]]]:
    """The real webserver; ask it what it tells the UI of every asset, partition and check."""
    port = free_port()
    command = [BIN / "dagster-webserver", "-m", __name__, "-p", str(port)]
    with (home.folder / "webserver.log").open("wb") as output:
        server = subprocess.Popen(
            command, env={**without_settings(), "DAGSTER_HOME": str(home.folder)}, stdout=output, stderr=output
        )
    keys = [partition_key(START + n * HOUR) for n in range(90 * 24)]

    def ask() -> Any:
        assert server.poll() is None, (home.folder / "webserver.log").read_text()[-2000:]
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/graphql", json={"query": SHOWN, "variables": {"keys": keys}}, timeout=60
            )
        except httpx.TransportError:
            return None
        return answer.json()

    def shown() -> dict[str, Any]:
        for key in (PROPER, whole.key):
            # Else Dagster would tell what it had worked out before.
            home.instance.event_log_storage.wipe_asset_cached_status(key)
        answer = wait_for(ask, bool, timeout=60)
        assert "errors" not in answer, answer
        return {"/".join(node["assetKey"]["path"]): node for node in answer["data"]["assetNodes"]}

    try:
        yield shown
    finally:
        server.terminate()
        server.wait(30)


def completed(home: Home) -> dict[str, Any]:
    """The newest evaluation that ended, of each check, which Dagster asks for beside the newest."""
    key = dg.AssetCheckKey(PROPER, "checked")
    (record,) = home.instance.event_log_storage.get_asset_check_summary_records([key]).values()
    last = record.last_completed_check_execution_record
    assert last
    assert record.last_check_execution_record
    return {"completed": (last.run_id, last.status), "newest": record.last_check_execution_record.run_id}


def test_a_home_of_two_thousand_runs_shrinks_and_the_ui_shows_what_it_showed(home: Home) -> None:
    old = fill(home)
    assert len(home.instance.get_runs()) == RUNS
    with webserver(home) as shown:
        before, completed_before = shown(), completed(home)
        stats = before["bronze/thing"]["partitionStats"]
        assert stats["numMaterialized"] > 1000
        assert stats["numFailed"] > 10
        size = home.bytes()

        told = prune_runs(home.instance, CUTOFF, dry_run=True)
        assert home.bytes() == size
        assert prune_runs(home.instance, CUTOFF, dry_run=False) == told
        smaller = home.bytes()

        assert told.runs + told.runs_without_events == old
        assert told.runs > RUNS / 3
        assert smaller < size / 2
        assert shown() == before
        assert completed(home) == completed_before
        kept = {run.run_id for run in home.instance.get_runs()}
        assert len(kept) == RUNS - told.runs
        with home.instance.run_storage.connect() as connection:
            assert set(connection.execute(sa.select(RunTagsTable.c.run_id)).scalars()) == kept
        assert {path.name for path in (home.folder / "storage").iterdir() if any(path.iterdir())} <= kept
        assert prune_runs(home.instance, CUTOFF, dry_run=True).runs == 0

        newest = execute(home.instance, HourRange(START, START), LATER)
        (materialization,) = shown()["bronze/thing"]["assetMaterializations"]
        assert materialization["runId"] == newest.run_id, "the server shows what it read before"
