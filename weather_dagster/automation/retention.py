"""Retention: what is old and superseded goes, so that neither Dagster's storage nor the store grows for ever.

What stays, whatever its age: of each kind of event the newest for each asset and partition with the run it is of, so
that every partition looks as before; the newest evaluation of each check and outcome; the newest version of each
reading; the whole quarantine; how many calls there were. Dagster prunes its ticks itself (``dagster.yaml``), but
neither runs nor events.
"""

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import sqlalchemy as sa
from dagster import DagsterInstance
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from pydantic import Field, field_validator

from weather_dagster.alerts.book import open_book
from weather_dagster.automation.healing import LOOK_BACK
from weather_dagster.datasets import DATASETS
from weather_dagster.failures import failing_clearly
from weather_dagster.hours import utc_now
from weather_dagster.partitions import POOL
from weather_dagster.resources import WarehouseResource
from weather_dagster.settings import Settings
from weather_dagster.state import alerts_place
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.weather_api.api import WeatherApi

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
BATCH = 500
"""Runs that one statement names."""
LOCK_SECONDS = 30
events, checks, tags = SqlEventLogStorageTable, AssetCheckExecutionsTable, AssetEventTagsTable

T = TypeVar("T")


@dataclass(frozen=True)
class Pruned:
    """What went, or in a dry run would go."""

    runs: int
    """Forgotten whole."""
    runs_without_events: int
    """Of which the partitions still need the newest events; their other events and logs went."""
    events: int
    """Of the storage that tells the state of assets; the logs of runs come on top."""
    check_evaluations: int


def prune_runs(instance: DagsterInstance, before: datetime, *, dry_run: bool) -> Pruned:
    """Forget what runs that ended before an instant (aware) left in Dagster's storage, SQLite or Postgres.

    Running it again goes on where it was stopped.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        raise TypeError(f"{type(storage).__name__} is no SQL storage")
    old = [
        record.dagster_run.run_id
        for record in instance.get_run_records(dg.RunsFilter(statuses=ENDED, updated_before=before))
    ]
    with storage.index_connection() as connection:
        newest = sa.select(sa.func.max(events.c.id)).where(events.c.asset_key.is_not(None))
        by_partition = newest.group_by(events.c.dagster_event_type, events.c.asset_key, events.c.partition)
        old_events, needed = _superseded(connection, events, by_partition, old)
        # The newest may be one that a failed run only planned: Dagster then asks for the newest that has ended.
        by_check = sa.select(sa.func.max(checks.c.id)).group_by(
            checks.c.asset_key, checks.c.check_name, checks.c.partition, checks.c.execution_status
        )
        old_checks, needed_by_checks = _superseded(connection, checks, by_check, old)
        needed |= needed_by_checks
        if not dry_run:
            for column, ids in ((events.c.id, old_events), (tags.c.event_id, old_events), (checks.c.id, old_checks)):
                for batch in _batches(ids):
                    connection.execute(sa.delete(column.table).where(column.in_(batch)))
    if not dry_run:
        for run_id in old:
            instance.compute_log_manager.delete_logs(prefix=[run_id])
            if run_id not in needed:
                # Its events went above; `instance.delete_run` would open the file of each run to look for more.
                instance.run_storage.delete_run(run_id)
        if isinstance(storage, SqliteEventLogStorage):
            _shrink(storage, forgotten=[run_id for run_id in old if run_id not in needed], emptied=sorted(needed))
    return Pruned(len(old) - len(needed), len(needed), len(old_events), len(old_checks))


def _superseded(
    connection: sa.Connection, table: sa.Table, newest: sa.Select[Any], run_ids: Sequence[str]
) -> tuple[list[int], set[str]]:
    """Ids of the rows of these runs that ``newest`` does not name, and the runs that have one which it names."""
    named = {row for (row,) in connection.execute(newest)}
    superseded: list[int] = []
    needed: set[str] = set()
    for batch in _batches(run_ids):
        rows: Any = connection.execute(sa.select(table.c.id, table.c.run_id).where(table.c.run_id.in_(batch)))
        for row, run_id in rows:
            if row in named:
                needed.add(run_id)
            else:
                superseded.append(row)
    return superseded, needed


def _shrink(storage: SqliteEventLogStorage, *, forgotten: Sequence[str], emptied: Sequence[str]) -> None:
    """Give the space back: on SQLite each run has an event file of its own, beside those of all."""
    for run_id in forgotten:
        for ending in ("", "-wal", "-shm"):
            Path(storage.path_for_shard(run_id) + ending).unlink(missing_ok=True)
    for run_id in emptied:
        path = Path(storage.path_for_shard(run_id))
        if path.exists() and _has_events(path):
            # A file without a row still has a page for each table and index: small pages make it small.
            _execute(path, "delete from event_logs", "pragma journal_mode = delete", "pragma page_size = 512", "vacuum")
    index = Path(storage.path_for_shard("index"))
    _execute(index, "vacuum")
    # SQLite lets the tags of a deleted run stay, where Postgres deletes them with it.
    orphans = "delete from run_tags where run_id not in (select run_id from runs)"
    _execute(index.parent.with_suffix(".db"), orphans, "vacuum")


def _has_events(path: Path) -> bool:
    """Whether it was not emptied already: what partitions need grows by a run an hour, and is met every night."""
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as connection:
        return bool(connection.execute("select exists (select 1 from event_logs)").fetchone()[0])


def _execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def prune_versions(store: Warehouse, before: datetime, *, dry_run: bool) -> int:
    """Forget the versions of readings that landed before an instant (aware) and that a newer one replaced; how many.

    Silver and gold never see them: the newest version has the highest ``load_id`` of its reading.
    """
    total = 0
    for dataset in DATASETS.values():
        same = " and ".join(f"newer.{column} = old.{column}" for column in dataset.version_key)
        replaced = f"""
            from bronze.{dataset.name} as old
            where old.ingested_at_utc < $before and exists (
                select 1 from bronze.{dataset.name} as newer where {same} and newer.load_id > old.load_id
            )
        """
        if dry_run:
            ((count,),) = store.query(f"select count(*) {replaced}", {"before": before})
        else:
            count = store.execute(f"delete {replaced}", {"before": before})
        total += count
    return total


def prune_files(paths: Iterable[Path], before: datetime, *, dry_run: bool) -> int:
    """Remove the files and folders that nobody has touched since an instant (aware); how many."""
    old = [path for path in paths if path.stat().st_mtime < before.timestamp()]
    if not dry_run:
        for path in old:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    return len(old)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


class RetentionConfig(dg.Config):
    """Ages in days. A run that a person starts only tells what would go, until they say otherwise."""

    dry_run: bool = Field(default=True, description="Only count what would go.")
    run_days: int = Field(default=30, description="Runs, their events and logs, what dbt left in its target.")
    version_days: int = Field(default=90, ge=1, description="Versions of a reading that a newer one replaced.")
    call_days: int = Field(default=400, ge=32, description="Calls in the ledger that the store has too.")

    @field_validator("run_days")
    @classmethod
    def _outlasts_healing(cls, value: int) -> int:
        shortest = LOOK_BACK.days + 1
        if value < shortest:
            raise ValueError(
                f"run_days is {value}, and the least is {shortest}: healing looks {LOOK_BACK.days} days back and "
                "counts by their runs how often it has tried an hour; without them it would try for ever"
            )
        return value


@dg.op(pool=POOL, description="Forget what is old and superseded, in Dagster's storage, the store and on disk.")
def prune(
    context: dg.OpExecutionContext, config: RetentionConfig, warehouse: dg.ResourceParam[WarehouseResource]
) -> None:
    """Prune everything, and put what went into the run's log."""
    settings, now = Settings.load(), utc_now()
    runs_before = now - timedelta(days=config.run_days)
    with failing_clearly():
        pruned = prune_runs(context.instance, runs_before, dry_run=config.dry_run)
        with warehouse.warehouse() as store:
            versions = prune_versions(store, now - timedelta(days=config.version_days), dry_run=config.dry_run)
        with WeatherApi.from_settings(settings).ledger() as ledger:
            calls = ledger.prune(now - timedelta(days=config.call_days), dry_run=config.dry_run)
        leftovers = (*settings.dbt_runs_path.glob("*"), *(settings.home / "logs").glob("*.log"))
        files = prune_files(leftovers, runs_before, dry_run=config.dry_run)
        if not config.dry_run:
            with open_book(alerts_place(settings)) as book:
                book.prune(runs_before)
    context.add_output_metadata({**asdict(pruned), "versions": versions, "calls": calls, "files": files})


@dg.job(description="Prune runs, events, replaced versions, calls and logs by age; dry_run tells first what would go.")
def retention() -> None:
    """The job that the schedule starts every night."""
    prune()


retention_schedule = dg.ScheduleDefinition(
    name="retention",
    job=retention,
    cron_schedule="35 3 * * *",
    execution_timezone="UTC",
    run_config={"ops": {"prune": {"config": {"dry_run": False}}}},
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night.",
)
