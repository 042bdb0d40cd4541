"""The DuckDB warehouse: one file, one writer at a time, one transaction per landing.

DuckDB locks its file for a whole process, readers included: open late, close early, wait for a lock
that another process holds, and never keep a connection across a call to dbt.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import tenacity

from weather_dagster.datasets import CONTRACT_VERSION, Dataset
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.warehouse.base import (
    LOCK_TIMEOUT,
    QUARANTINE_COLUMNS,
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
from weather_dagster.warehouse.schema import migrations, require_current, upgrade
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA

_logger = logging.getLogger(__name__)

MEMORY_LIMIT = "512MB"
"""What DuckDB may take before it spills to disk, so that landing a month of forecasts fits a small machine."""

MIGRATIONS = migrations("duckdb")


class DuckDBWarehouse(Warehouse):
    """An open DuckDB file. Get one from ``open_warehouse``."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def schema_version(self) -> int:
        """See ``schema.Migratable``."""
        if not self.has_bronze("schema_versions"):
            return 0
        ((version,),) = self.query("select coalesce(max(version), 0) from bronze.schema_versions")
        return int(version)

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """See ``schema.Migratable``."""
        self.connection.begin()
        try:
            yield
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise

    def script(self, sql: str) -> None:
        """See ``schema.Migratable``."""
        self.connection.execute(sql)

    def has_bronze(self, table: str) -> bool:
        """Whether there is such a table in bronze."""
        found = self.query(
            "select 1 from duckdb_tables() where schema_name = 'bronze' and table_name = $table", {"table": table}
        )
        return bool(found)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of one SELECT."""
        return self.connection.execute(sql, parameters or {}).fetchall()

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same, each row by the names of its columns."""
        cursor = self.connection.execute(sql, parameters or {})
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run one INSERT, UPDATE or DELETE; how many rows it changed."""
        ((rows,),) = self.query(sql, parameters)
        return int(rows)

    def land(self, load: Load) -> Landed:
        """See ``Warehouse.land``."""
        connection = self.connection
        connection.begin()
        try:
            ((load_id,),) = self.query("select coalesce(max(load_id), 0) + 1 from bronze.loads")
            rows_added = self._insert_records(load, load_id)
            quarantined = self._insert_rejections(load, load_id)
            settled = self._resolve(load.resolved, load_id)
            places_changed = self._upsert_locations(load.locations, load_id)
            if not (rows_added or quarantined or settled or places_changed):
                connection.rollback()
                return Landed(None, 0, 0)
            self._insert_load(load_id, load.row(rows_added, quarantined))
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        return Landed(load_id, rows_added, quarantined, settled)

    def record_calls(self, calls: pa.Table) -> int:
        """See ``Warehouse.record_calls``."""
        names = ", ".join(API_CALLS_SCHEMA.names)
        sql = f"""
            insert into bronze.api_calls ({names})
            select {names} from calls anti join bronze.api_calls using (call_id)
        """
        with self.registered("calls", calls):
            ((rows,),) = self.query(sql)
        return int(rows)

    def payload_fields(
        self, dataset: Dataset, hours: HourRange, source: Source | None = None
    ) -> dict[Source, PayloadFields]:
        """See ``Warehouse.payload_fields``."""
        # Payloads of one structure are taken together: some hundred structures stand for any number of rows.
        structures = self.query(
            f"""
            select provider, endpoint, json_structure(payload)::varchar, count(*)
            from bronze.{dataset.name}
            where {dataset.partition_column} between $first and $last
                and ($provider is null or (provider = $provider and endpoint = $endpoint))
            group by all
            """,
            {
                "first": hours.first,
                "last": hours.last,
                "provider": source and source.provider,
                "endpoint": source and source.endpoint,
            },
        )
        found: dict[Source, PayloadFields] = {}
        for provider, endpoint, structure, rows in structures:
            fields = found.setdefault(Source(provider, endpoint), PayloadFields())
            fields.rows += rows
            told = json.loads(structure, object_hook=_without_nulls)
            fields.counts.update(dict.fromkeys(payload_paths(told), rows))
        return found

    def _insert_records(self, load: Load, load_id: int) -> int:
        dataset, records, hours = load.dataset, load.records, load.hours
        names = ", ".join(c.name for c in dataset.record_columns)
        key = ", ".join(dataset.version_key)
        # Only keys and hashes are compared and ranked; the wide rows stream from Arrow into the table.
        sql = f"""
            insert into bronze.{dataset.name} ({names}, ingested_at_utc, run_id, load_id)
            with distinct_readings as (
                select {key}, payload_hash, row_index from records
                qualify row_number() over (partition by {key} order by payload_hash) = 1
            ),
            newest as (
                select {key}, arg_max(payload_hash, load_id) as payload_hash
                from bronze.{dataset.name}
                where {dataset.partition_column} >= $first and {dataset.partition_column} < $end
                group by all
            ),
            new as (
                select row_index
                from distinct_readings
                left join newest using ({key})
                where newest.payload_hash is distinct from distinct_readings.payload_hash
            )
            select {names}, $now, $run_id, $load_id
            from records
            semi join new using (row_index)
        """
        indexed = records.append_column("row_index", pa.array(range(records.num_rows), pa.int64()))
        with self.registered("records", indexed):
            ((rows,),) = self.query(
                sql,
                {"first": hours.first, "end": hours.end, **load.origin(load_id)},
            )
        return int(rows)

    def _insert_rejections(self, load: Load, load_id: int) -> int:
        if not load.rejections:
            return 0
        sql = f"""
            insert into bronze.quarantine ({QUARANTINE_COLUMNS})
            select dataset, provider, endpoint, location_id, hour_utc, reason, field, message,
                payload, payload_hash, $contract_version::bigint, $now::timestamptz, $run_id, $load_id::bigint
            from rejections
            anti join bronze.quarantine as kept
                on kept.dataset = rejections.dataset
                and kept.provider = rejections.provider
                and kept.location_id = rejections.location_id
                and kept.hour_utc = rejections.hour_utc
                and kept.reason = rejections.reason
                and kept.field is not distinct from rejections.field
                and kept.payload_hash = rejections.payload_hash
        """
        with self.registered("rejections", rejection_table(load.rejections)):
            ((rows,),) = self.query(sql, {"contract_version": CONTRACT_VERSION, **load.origin(load_id)})
        return int(rows)

    def _resolve(self, entries: Sequence[QuarantineKey], load_id: int) -> int:
        if not entries:
            return 0
        sql = """
            update bronze.quarantine as kept
            set resolved_load_id = $load_id::bigint
            from settled
            where kept.resolved_load_id is null
                and kept.dataset = settled.dataset
                and kept.provider = settled.provider
                and kept.location_id = settled.location_id
                and kept.hour_utc = settled.hour_utc
                and kept.reason = settled.reason
                and kept.field is not distinct from settled.field
                and kept.payload_hash = settled.payload_hash
        """
        with self.registered("settled", quarantine_key_table(entries)):
            ((rows,),) = self.query(sql, {"load_id": load_id})
        return int(rows)

    def _upsert_locations(self, locations: Sequence[Location], load_id: int) -> int:
        table = pa.Table.from_pylist([location.model_dump() for location in locations], schema=_LOCATION_SCHEMA)
        sql = """
            insert or replace into bronze.locations
                (location_id, name, country, latitude, longitude, time_zone, load_id)
            select id, name, country, latitude, longitude, time_zone, $load_id::bigint from (
                select id, name, country, latitude, longitude, time_zone from places
                except
                select location_id, name, country, latitude, longitude, time_zone from bronze.locations
            )
        """
        with self.registered("places", table):
            ((rows,),) = self.query(sql, {"load_id": load_id})
        return int(rows)

    @contextmanager
    def registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """Let SQL name an Arrow table for a while."""
        self.connection.register(name, table)
        yield
        # Not after a failure: the aborted transaction would refuse it and hide the cause. The roll-back drops it.
        self.connection.unregister(name)


def _without_nulls(structure: dict[str, Any]) -> dict[str, Any]:
    """A level of a payload's structure, in which null stands as the type ``NULL``."""
    return {name: None if kind == "NULL" else kind for name, kind in structure.items()}


_LOCATION_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("id", "name", "country"), pa.string()),
        **dict.fromkeys(("latitude", "longitude"), pa.float64()),
        "time_zone": pa.string(),
    }
)


@dataclass(frozen=True)
class DuckDBStore:
    """A DuckDB file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def open(
        self, *, read_only: bool = False, patience: timedelta = LOCK_TIMEOUT
    ) -> AbstractContextManager[DuckDBWarehouse]:
        """See ``open_warehouse``."""
        return open_warehouse(self.path, read_only=read_only, lock_timeout=patience)

    def dbt_environment(self) -> dict[str, str]:
        """The profile's path of the file."""
        return {"WEATHER_DUCKDB_PATH": str(self.path)}


@contextmanager
def open_warehouse(
    path: Path, *, read_only: bool = False, lock_timeout: timedelta = LOCK_TIMEOUT
) -> Iterator[DuckDBWarehouse]:
    """Open the warehouse file, with its bronze tables, and close it whatever happens.

    Raises:
        WarehouseError: the file is missing (``read_only``), its folder cannot be written, it is no
            DuckDB file, or another process held it for longer than ``lock_timeout``.
    """
    if read_only and not path.exists():
        raise WarehouseError(f"there is no warehouse at {path} yet; `weather demo` or `weather backfill` makes it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _waiting_for_lock(path, lock_timeout)(duckdb.connect, path, read_only=read_only)
    except OSError as error:
        raise WarehouseError(
            f"cannot make the folder of the warehouse {path}: {error.strerror}; "
            "set WEATHER_HOME or WEATHER_DUCKDB_PATH to a place that can be written"
        ) from None
    except duckdb.Error as error:
        raise WarehouseError(_explain(path, error)) from None
    try:
        connection.execute(
            f"set TimeZone = 'UTC'; set memory_limit = '{MEMORY_LIMIT}'; set preserve_insertion_order = false"
        )
        warehouse = DuckDBWarehouse(connection)
        if not read_only:
            upgrade(f"the warehouse {path}", warehouse, MIGRATIONS)
        elif not warehouse.has_bronze("loads"):
            raise WarehouseError(f"{path} has no bronze tables yet; `weather ingest` or `weather backfill` makes them")
        else:
            # A file that was made before versions were kept is as the first one makes it.
            require_current(f"the warehouse {path}", warehouse.schema_version() or 1, MIGRATIONS)
        yield warehouse
    finally:
        connection.close()


def _waiting_for_lock(path: Path, timeout: timedelta) -> tenacity.Retrying:
    def tell(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            _logger.warning("Waiting: %s", _explain(path, state.outcome.exception()))

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_lock_error),
        stop=tenacity.stop_after_delay(timeout),
        wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=1, jitter=0.1),
        before_sleep=tell,
        reraise=True,
    )


def _is_lock_error(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "lock" in str(error)


def _explain(path: Path, error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    if error and _is_lock_error(error):
        holder = re.search(r"held in (.+?\(PID \d+\))", text)
        return (
            f"the warehouse {path} is locked by {holder[1] if holder else 'another process'}; "
            "wait for it, or close it, and run this again"
        )
    if "permission" in text.lower():
        return f"the warehouse {path} cannot be opened: {text}; set WEATHER_HOME to a place that can be written"
    return (
        f"the warehouse {path} cannot be opened: {text}; if it is damaged, move it and its .wal file aside, "
        "bronze can be filled again by `weather backfill`"
    )
