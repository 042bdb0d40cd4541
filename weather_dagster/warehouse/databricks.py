"""The Databricks warehouse: Delta tables, one writer at a time, one commit per landing.

Delta has transactions of one table alone. So a landing writes its rows first and its row in ``bronze.loads`` last, and
that last statement is the commit: what is read are views that show rows of finished landings alone
(``migrations/databricks``). A landing that dies half-way is never seen.

Writers take turns. ``bronze.turn`` has one row: who lands, until when, and the highest ``load_id`` that was given out.
It is taken by comparing and setting, which Delta does for one writer at a time. Who does not give the turn back within
``LEASE`` has died: the next one removes its rows. A load id is given out once, so that rows which a dead writer's last
statement may still bring belong to no landing. A landing that was slow and has lost its turn cannot commit: its row in
``bronze.loads`` depends on the turn, and Databricks ends that statement before the turn can be lost meanwhile. So load
ids grow in commit order; some may be left out.

Rows travel as Parquet files through the volume ``bronze.staging``; a process that dies may leave one there.
"""

import io
import itertools
import json
import logging
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import tenacity
from databricks.sql.client import Connection, Cursor

from weather_dagster.datasets import CONTRACT_VERSION, DATASETS, Dataset
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.warehouse.base import (
    LOCK_TIMEOUT,
    Landed,
    Load,
    PayloadFields,
    QuarantineKey,
    Source,
    Warehouse,
    payload_paths,
    quarantine_key_table,
    rejection_table,
)
from weather_dagster.warehouse.databricks_connection import (
    STATEMENT_TIMEOUT,
    Account,
    connect,
    errors_explained,
    is_conflict,
)
from weather_dagster.warehouse.databricks_sql import Parameters, translated
from weather_dagster.warehouse.schema import migrations, require_current, upgrade
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA

_logger = logging.getLogger(__name__)

MIGRATIONS = migrations("databricks")

LEASE = timedelta(minutes=5)
"""For how long a writer has its turn, longer than a landing takes by far."""
ATTEMPTS = 5
"""How often a statement is begun that another writer of the same table has undone."""

_ROWS = (*(f"bronze.{dataset.name}_rows" for dataset in DATASETS.values()), "bronze.locations_rows")
_QUARANTINE_KEY = tuple(field.name for field in fields(QuarantineKey))
_LOCATION_COLUMNS = ("location_id", "name", "country", "latitude", "longitude", "time_zone")
_MAKE_SCHEMA = "create schema if not exists bronze"
_MAKE_TURN = """
    create table if not exists bronze.turn using delta as
    select cast(0 as bigint) as load_id, cast(null as string) as writer, cast(null as timestamp) as ends_at_utc
"""
_READ_TURN = """
    select load_id, writer, ends_at_utc, writer is null or ends_at_utc < current_timestamp() from bronze.turn
"""


@dataclass
class _Turn:
    """The right to land, and the load id that came with it."""

    writer: str
    load_id: int
    is_used: bool = True
    """False when nothing was written: the load id is given to the next one."""
    is_committing: bool = False


class DatabricksWarehouse(Warehouse):
    """A session with a SQL warehouse. Get one from ``DatabricksStore``."""

    def __init__(self, account: Account, *, read_only: bool, patience: timedelta) -> None:
        self.account = account
        self._read_only = read_only
        self._patience = patience
        self._connection: Connection = connect(account)

    def close(self) -> None:
        """End the session."""
        with errors_explained(self.account):
            self._connection.close()

    def query(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """See ``Warehouse.query``."""
        with self._executed(*translated(sql, parameters)) as cursor:
            return [tuple(map(_in_utc, row)) for row in cursor.fetchall()]

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """See ``Warehouse.query_rows``."""
        with self._executed(*translated(sql, parameters)) as cursor:
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, map(_in_utc, row), strict=True)) for row in cursor.fetchall()]

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None = None) -> int:
        """See ``Warehouse.execute``."""
        return self._modify(*translated(sql, parameters))

    def land(self, load: Load) -> Landed:
        """See ``Warehouse.land``."""
        with ExitStack() as files:
            # What takes long is done before there is a turn that others wait for.
            staged = {
                name: files.enter_context(self._staged(table))
                for name, table in {
                    "records": load.records,
                    "rejections": rejection_table(load.rejections),
                    "settled": quarantine_key_table(load.resolved),
                }.items()
                if table.num_rows
            }
            with self._turn() as turn:
                rows_added = quarantined = settled = 0
                if "records" in staged:
                    rows_added = self._insert_records(staged["records"], load, turn.load_id)
                if "rejections" in staged:
                    quarantined = self._insert_rejections(staged["rejections"], load, turn.load_id)
                if "settled" in staged:
                    settled = self._resolve(staged["settled"], turn.load_id)
                places_changed = self._add_locations(load.locations, turn.load_id)
                if not (rows_added or quarantined or settled or places_changed):
                    turn.is_used = False
                    return Landed(None, 0, 0)
                self._commit(turn, load.row(rows_added, quarantined))
                return Landed(turn.load_id, rows_added, quarantined, settled)

    def record_calls(self, calls: pa.Table) -> int:
        """See ``Warehouse.record_calls``."""
        names = ", ".join(API_CALLS_SCHEMA.names)
        values = ", ".join(f"calls.{name}" for name in API_CALLS_SCHEMA.names)
        with self._staged(calls) as file:
            return self._modify(
                f"""
                merge into bronze.api_calls as kept using {file} as calls on kept.call_id = calls.call_id
                when not matched then insert ({names}) values ({values})
                """
            )

    def payload_fields(
        self, dataset: Dataset, hours: HourRange, source: Source | None = None
    ) -> dict[Source, PayloadFields]:
        """See ``Warehouse.payload_fields``."""
        sql = f"""
            select provider, endpoint, payload
            from bronze.{dataset.name}
            where {dataset.partition_column} between :first and :last
        """
        parameters: dict[str, Any] = {"first": hours.first, "last": hours.last}
        if source:
            sql += " and provider = :provider and endpoint = :endpoint"
            parameters |= source._asdict()
        found: dict[Source, PayloadFields] = {}
        with self._executed(sql, parameters) as cursor:
            while rows := cursor.fetchmany(10_000):
                for provider, endpoint, payload in rows:
                    fields = found.setdefault(Source(provider, endpoint), PayloadFields())
                    fields.rows += 1
                    fields.counts.update(set(payload_paths(json.loads(payload))))
        return found

    @contextmanager
    def registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """See ``Warehouse.registered``: a temporary view, which is this session's own."""
        with self._staged(table) as file:
            self._run(f"create or replace temporary view {name} as select * from {file}")
            yield
            self._run(f"drop view {name}")

    def tables(self) -> set[str]:
        """See ``Warehouse.tables``; what landings keep to themselves is none of them."""
        return {name for name in super().tables() if name != "bronze.turn" and not name.endswith("_rows")}

    def schema_version(self) -> int:
        """See ``schema.Migratable``."""
        if "bronze.schema_versions" not in self.tables():
            return 0
        ((version,),) = self.query("select coalesce(max(version), 0) from bronze.schema_versions")
        return int(version)

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """See ``schema.Migratable``. What was done of a migration that failed is done again."""
        self._run(_MAKE_SCHEMA)
        self._run(_MAKE_TURN)
        with self._turn() as turn:
            turn.is_used = False
            yield

    def script(self, sql: str) -> None:
        """See ``schema.Migratable``."""
        for statement in sql.split(";\n"):
            if statement.strip():
                self._run(statement)

    def _insert_records(self, file: str, load: Load, load_id: int) -> int:
        dataset, hours = load.dataset, load.hours
        names = ", ".join(c.name for c in dataset.record_columns)
        values = ", ".join(f"record.{c.name}" for c in dataset.record_columns)
        key = ", ".join(dataset.version_key)
        return self._modify(
            f"""
            insert into bronze.{dataset.name}_rows ({names}, ingested_at_utc, run_id, load_id)
            with readings as (
                select *, row_number() over (partition by {key} order by payload_hash) as repetition from {file}
            ),
            newest as (
                select {key}, max_by(payload_hash, load_id) as payload_hash
                from bronze.{dataset.name}
                where {dataset.partition_column} >= :first and {dataset.partition_column} < :end
                group by {key}
            )
            select {values}, :now as ingested_at_utc, :run_id as run_id, :load_id as load_id
            from readings as record
            left join newest on {_same("newest", "record", dataset.version_key)}
            where record.repetition = 1 and not (newest.payload_hash <=> record.payload_hash)
            """,
            {"first": hours.first, "end": hours.end, **load.origin(load_id)},
        )

    def _insert_rejections(self, file: str, load: Load, load_id: int) -> int:
        return self._modify(
            f"""
            insert into bronze.quarantine_rows
            select told.dataset, told.provider, told.endpoint, told.location_id, told.hour_utc, told.reason,
                told.field, told.message, told.payload, told.payload_hash, :contract_version as contract_version,
                :now as quarantined_at_utc, :run_id as run_id, :load_id as load_id, cast(null as bigint)
            from {file} as told
            left anti join bronze.quarantine as kept on {_same("kept", "told", _QUARANTINE_KEY)}
            """,
            {"contract_version": CONTRACT_VERSION, **load.origin(load_id)},
        )

    def _resolve(self, file: str, load_id: int) -> int:
        return self._modify(
            f"""
            merge into bronze.quarantine_rows as kept
            using (select distinct * from {file}) as settled
            on kept.resolved_load_id is null and {_same("kept", "settled", _QUARANTINE_KEY)}
            when matched then update set resolved_load_id = :load_id
            """,
            {"load_id": load_id},
        )

    def _add_locations(self, locations: Sequence[Location], load_id: int) -> int:
        known = {row[0]: row for row in self.query(f"select {', '.join(_LOCATION_COLUMNS)} from bronze.locations")}
        told = [(p.id, p.name, p.country, p.latitude, p.longitude, p.time_zone) for p in locations]
        changed = [dict(zip(_LOCATION_COLUMNS, row, strict=True)) for row in told if row != known.get(row[0])]
        if not changed:
            return 0
        with self._staged(pa.Table.from_pylist(changed, _LOCATION_SCHEMA)) as file:
            return self._modify(
                f"insert into bronze.locations_rows select {', '.join(_LOCATION_COLUMNS)}, :load_id from {file}",
                {"load_id": load_id},
            )

    def _commit(self, turn: _Turn, load: Mapping[str, Any]) -> None:
        """Let the landing be seen, if its turn lasts longer than this statement may take."""
        turn.is_committing = True
        committed = self._modify(
            f"""
            insert into bronze.loads (load_id, {", ".join(load)})
            select load_id, {", ".join(f":{name} as {name}" for name in load)} from bronze.turn
            where writer = :writer and load_id = :load_id
                and ends_at_utc > current_timestamp() + {_interval(STATEMENT_TIMEOUT)}
            """,
            {**load, "writer": turn.writer, "load_id": turn.load_id},
        )
        if not committed:
            raise WarehouseError(
                f"the warehouse {self.account}: this landing took so long that another writer may have taken over; "
                "nothing of it was landed: run it again, over fewer hours"
            )

    @contextmanager
    def _turn(self) -> Iterator[_Turn]:
        """Wait for the turn, and give it back. What a landing wrote that failed before its commit is removed."""
        turn = self._take_turn()
        try:
            yield turn
        except BaseException:
            # Whether a commit has failed, or only its answer was lost, is for the next writer to see, when the turn is
            # over. So is what cannot be removed.
            if not turn.is_committing:
                with suppress(WarehouseError):
                    self._forget_rows(turn.load_id, turn.load_id)
                    self._give_back(turn)
            raise
        self._give_back(turn)

    def _take_turn(self) -> _Turn:
        deadline = time.monotonic() + (LEASE + self._patience).total_seconds()
        writer = f"{socket.gethostname()}, PID {os.getpid()}, {uuid4().hex[:8]}"
        for attempt in itertools.count(1):
            ((load_id, holder, ends_at, is_free),) = self.query(_READ_TURN)
            if is_free:
                taken = self._modify(
                    f"""
                    update bronze.turn
                    set load_id = load_id + 1, writer = :writer, ends_at_utc = current_timestamp() + {_interval(LEASE)}
                    where load_id = :load_id and writer <=> :holder
                    """,
                    {"writer": writer, "load_id": load_id, "holder": holder},
                )
                if taken:
                    if holder is not None:
                        _logger.warning("%s: %s died while it landed; its rows are removed", self.account, holder)
                        ((committed,),) = self.query("select coalesce(max(load_id), 0) from bronze.loads")
                        self._forget_rows(committed + 1, load_id)
                    return _Turn(writer, load_id + 1)
            elif time.monotonic() > deadline:
                raise WarehouseError(
                    f"the warehouse {self.account} is held by another writer ({holder}), until {ends_at:%H:%M:%S} UTC "
                    "at most; wait for it, and run this again"
                )
            elif attempt == 1:
                _logger.warning("Waiting: another writer (%s) lands in %s", holder, self.account)
            time.sleep(random.uniform(0.1, min(attempt, 5)))  # noqa: S311 - no secret
        raise AssertionError

    def _give_back(self, turn: _Turn) -> None:
        self._modify(
            "update bronze.turn set writer = null, load_id = :load_id where writer = :writer",
            {"load_id": turn.load_id if turn.is_used else turn.load_id - 1, "writer": turn.writer},
        )

    def _forget_rows(self, first: int, last: int) -> None:
        """Remove what landings that were not finished have left."""
        span = {"first": first, "last": last}
        for table in (*_ROWS, "bronze.quarantine_rows"):
            self._modify(f"delete from {table} where load_id between :first and :last", span)
        self._modify(
            "update bronze.quarantine_rows set resolved_load_id = null where resolved_load_id between :first and :last",
            span,
        )

    @contextmanager
    def _staged(self, table: pa.Table) -> Iterator[str]:
        """The table as a file of the volume, in words of SQL."""
        path = f"/Volumes/{self.account.catalog}/bronze/staging/{uuid4().hex}.parquet"
        content = io.BytesIO()
        pq.write_table(_in_microseconds(table), content)
        content.seek(0)
        self._run(f"put '__input_stream__' into '{path}' overwrite", input_stream=content)
        try:
            yield f"parquet.`{path}`"
        finally:
            # A file that stays harms nobody, and what went wrong before is to be told.
            with suppress(WarehouseError):
                self._run(f"remove '{path}'")

    def _modify(self, sql: str, parameters: Parameters = None) -> int:
        """Run one statement that changes a table; how many rows it changed."""
        if self._read_only:
            raise WarehouseError(f"the warehouse {self.account} was opened read-only")
        with self._executed(sql, parameters) as cursor:
            return int(cursor.fetchall()[0][0])

    def _run(self, sql: str, *, input_stream: io.BytesIO | None = None) -> None:
        with errors_explained(self.account), self._connection.cursor() as cursor:
            cursor.execute(sql, input_stream=input_stream)

    @contextmanager
    def _executed(self, sql: str, parameters: Parameters = None) -> Iterator[Cursor]:
        """A cursor on the results. A statement that another writer has undone is begun again: nothing of it is left."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_conflict),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(multiplier=0.2, max=5, jitter=0.5),
            reraise=True,
        )
        with errors_explained(self.account), self._connection.cursor() as cursor:
            yield retrying(cursor.execute, sql, parameters or None)


_LOCATION_SCHEMA = pa.schema(
    {name: pa.float64() if name in ("latitude", "longitude") else pa.string() for name in _LOCATION_COLUMNS}
)


def _same(left: str, right: str, columns: Sequence[str]) -> str:
    return " and ".join(f"{left}.{column} <=> {right}.{column}" for column in columns)


def _interval(span: timedelta) -> str:
    return f"interval '{span.total_seconds():.0f}' second"


def _in_utc(value: Any) -> Any:
    """Instants in the zone that Python names UTC; the connector may name it otherwise."""
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def _in_microseconds(table: pa.Table) -> pa.Table:
    """Instants as Delta keeps them."""
    fields = [f.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))


@dataclass(frozen=True)
class DatabricksStore:
    """A catalog of Databricks, through one of its SQL warehouses."""

    account: Account

    @classmethod
    def of(cls, settings: Settings) -> "DatabricksStore":
        """The store that the settings name; what is missing is told when it is used."""
        return cls(
            Account(
                host=settings.databricks_host,
                http_path=settings.databricks_http_path,
                catalog=settings.databricks_catalog,
                token=settings.databricks_token,
                client_id=settings.databricks_client_id,
                client_secret=settings.databricks_client_secret,
            )
        )

    def __str__(self) -> str:
        return str(self.account)

    def exists(self) -> bool:
        """Whether there are bronze tables.

        Raises:
            WarehouseError: the warehouse cannot be reached.
        """
        with self._connected(read_only=True, patience=LOCK_TIMEOUT) as warehouse:
            return warehouse.schema_version() > 0

    @contextmanager
    def open(self, *, read_only: bool = False, patience: timedelta = LOCK_TIMEOUT) -> Iterator[DatabricksWarehouse]:
        """See ``Store.open``. A writer that has died is waited for as long as its turn lasts, beyond ``patience``."""
        with self._connected(read_only=read_only, patience=patience) as warehouse:
            where = f"the warehouse {self}"
            if not read_only:
                upgrade(where, warehouse, MIGRATIONS)
            elif not (version := warehouse.schema_version()):
                raise WarehouseError(
                    f"{where} has no bronze tables yet; `weather ingest` or `weather backfill` makes them"
                )
            else:
                require_current(where, version, MIGRATIONS)
            yield warehouse

    def dbt_environment(self) -> dict[str, str]:
        """What dbt's profile reads to find the same catalog."""
        account = self.account
        account.require()
        secrets = {
            "DBT_ENV_SECRET_DATABRICKS_TOKEN": account.token,
            "DBT_ENV_SECRET_DATABRICKS_CLIENT_SECRET": account.client_secret,
        }
        return {
            "DATABRICKS_HOST": account.url.removeprefix("https://"),
            "DATABRICKS_HTTP_PATH": account.path,
            "DATABRICKS_CATALOG": account.catalog,
            "DATABRICKS_CLIENT_ID": account.client_id or "",
            **{name: secret.get_secret_value() if secret else "" for name, secret in secrets.items()},
        }

    @contextmanager
    def _connected(self, *, read_only: bool, patience: timedelta) -> Iterator[DatabricksWarehouse]:
        warehouse = DatabricksWarehouse(self.account, read_only=read_only, patience=patience)
        try:
            yield warehouse
        finally:
            warehouse.close()
