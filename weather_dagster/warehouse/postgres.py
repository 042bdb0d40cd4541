"""The Postgres warehouse: many writers at once, one transaction per landing.

Rows go by binary COPY into temporary tables first. Then one lock of all landings is taken, and with it the next
``load_id``; it is held for the upsert and to the commit, so that load ids grow in commit order: a reader who has seen
one has seen all below it.
"""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import tenacity
from pydantic import SecretStr
from pydantic_core import from_json

from weather_dagster.datasets import CONTRACT_VERSION, DATASETS, Dataset, DatasetName
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
from weather_dagster.warehouse.postgres_connection import Address, connect, explain, is_connection_lost
from weather_dagster.warehouse.postgres_copy import stage
from weather_dagster.warehouse.schema import migrations, require_current, upgrade
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA

MIGRATIONS = migrations("postgres")
ROLES = Path(__file__).parent / "roles.sql"

BY_MONTH = frozenset({DatasetName.OBSERVATIONS, DatasetName.FORECASTS})
"""Tables with a partition for each month."""

DBT_PATIENCE = timedelta(hours=1)
"""How long a dbt waits for another, which may be refreshing everything."""

PAYLOADS_READ = 5_000
"""Of more, this many are looked at for their fields."""

ATTEMPTS = 5
"""How often work is begun that another transaction, or the end of a connection, has undone."""

_LANDING_LOCK = 0x5745_0001
_MIGRATION_LOCK = 0x5745_0002
_DBT_LOCK = 0x5745_0003
"""Keys of advisory locks, which are a database's own."""

_JSON_OF = {str(d.name): [c.name for c in d.columns if c.kind == "json"] for d in DATASETS.values()}

T = TypeVar("T")

_logger = logging.getLogger(__name__)


class PostgresWarehouse(Warehouse):
    """A connection to a Postgres database. Get one from ``PostgresStore``."""

    def __init__(self, address: Address, *, read_only: bool, patience: timedelta) -> None:
        self.address = address
        self._read_only = read_only
        self._patience = patience
        self._connection = self._connect()
        self._in_work = False
        self._registered = 0

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """See ``Warehouse.query``."""
        return self._repeating(lambda: self._execute(sql, parameters).fetchall())

    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """See ``Warehouse.query_rows``."""

        def rows() -> list[dict[str, Any]]:
            cursor = self._execute(sql, parameters)
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]

        return self._repeating(rows)

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """See ``Warehouse.execute``."""
        # Whether it was committed is not known when the connection is lost; doing it twice is the caller's choice.
        return self._repeating(lambda: self._execute(sql, parameters).rowcount, when_lost=False)

    def land(self, load: Load) -> Landed:
        """See ``Warehouse.land``. What was committed before a connection was lost is found when it is repeated."""

        def once() -> Landed:
            self._add_months(load.dataset, load.records)
            with self._connection.transaction() as transaction, self._connection.cursor() as cursor:
                if load.records.num_rows:
                    stage(cursor, "staged_records", load.records, drop=True)
                if load.rejections:
                    stage(cursor, "staged_rejections", rejection_table(load.rejections), drop=True)
                if load.resolved:
                    stage(cursor, "staged_settled", quarantine_key_table(load.resolved), drop=True)
                cursor.execute("select pg_advisory_xact_lock(%s)", [_LANDING_LOCK])
                ((load_id,),) = cursor.execute("select coalesce(max(load_id), 0) + 1 from bronze.loads").fetchall()
                rows_added = self._insert_records(load, load_id)
                quarantined = self._insert_rejections(load, load_id)
                settled = self._resolve(load.resolved, load_id)
                places_changed = self._upsert_locations(load.locations, load_id)
                if not (rows_added or quarantined or settled or places_changed):
                    raise psycopg.Rollback(transaction)
                self._insert_load(load_id, load.row(rows_added, quarantined))
                return Landed(load_id, rows_added, quarantined, settled)
            return Landed(None, 0, 0)

        return self._repeating(once)

    def record_calls(self, calls: pa.Table) -> int:
        """See ``Warehouse.record_calls``."""
        names = ", ".join(API_CALLS_SCHEMA.names)

        def once() -> int:
            with self.registered("calls", calls):
                return self.execute(
                    f"insert into bronze.api_calls ({names}) select {names} from calls on conflict (call_id) do nothing"
                )

        return self._repeating(once)

    def payload_fields(
        self, dataset: Dataset, hours: HourRange, source: Source | None = None
    ) -> dict[Source, PayloadFields]:
        """See ``Warehouse.payload_fields``: they are read here, which the server would take ten times as long for."""
        there = f"""
            from bronze.{dataset.name}
            where {dataset.partition_column} between $first and $last
                and ($provider::text is null or (provider = $provider and endpoint = $endpoint))
        """
        values = {
            "first": hours.first,
            "last": hours.last,
            "provider": source and source.provider,
            "endpoint": source and source.endpoint,
        }
        ((count,),) = self.query(f"select count(*) {there}", values)
        # Hashes are spread evenly: those below a limit are a fair share of the rows.
        share = PAYLOADS_READ / count if count > PAYLOADS_READ else 1.0
        if share < 1:
            there += ' and payload_hash collate "C" < $limit'
        found: dict[Source, PayloadFields] = {}
        rows = self.query(
            f"select provider, endpoint, payload {there}", {**values, "limit": f"{int(share * 2**32):08x}"}
        )
        for provider, endpoint, payload in rows:
            fields = found.setdefault(Source(provider, endpoint), PayloadFields())
            fields.rows += 1
            fields.counts.update(payload_paths(from_json(payload)))
        return found

    @contextmanager
    def registered(self, name: str, table: pa.Table) -> Iterator[None]:
        """See ``Warehouse.registered``: a temporary table."""

        @contextmanager
        def writing() -> Iterator[psycopg.Cursor[Any]]:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                # A connection that only reads has temporary tables all the same.
                cursor.execute("set transaction read write")
                yield cursor

        def make() -> None:
            with writing() as cursor:
                stage(cursor, name, table, drop=False)

        def drop() -> None:
            with writing() as cursor:
                cursor.execute(f'drop table "{name}"')

        self._repeating(make)
        self._registered += 1
        try:
            yield
        finally:
            self._registered -= 1
            if not self._connection.closed:
                self._repeating(drop, when_lost=False)

    def providers(self) -> set[str]:
        """See ``Warehouse.providers``: from one to the next in an index, which ``distinct`` would read to its end."""
        rows = self.query(
            """
            with recursive known (provider) as (
                select min(provider) from bronze.loads where rows_added > 0
                union all
                select (select min(provider) from bronze.loads where rows_added > 0 and provider > known.provider)
                from known where known.provider is not null
            )
            select provider from known where provider is not null
            """
        )
        return {name for (name,) in rows}

    def tables(self) -> set[str]:
        """See ``Warehouse.tables``; partitions are parts of theirs."""
        rows = self.query(
            """
            select nspname || '.' || relname
            from pg_class inner join pg_namespace on pg_namespace.oid = relnamespace
            where nspname in ('bronze', 'silver', 'gold') and relkind in ('r', 'p', 'v', 'm') and not relispartition
            """
        )
        return {name for (name,) in rows}

    def schema_version(self) -> int:
        """See ``schema.Migratable``."""
        # The catalogue is asked: to_regclass would remember what it found before a lock was waited for.
        if not self.query(
            "select 1 from pg_class where relname = 'schema_versions' "
            "and relnamespace = (select oid from pg_namespace where nspname = 'bronze')"
        ):
            return 0
        ((version,),) = self.query("select coalesce(max(version), 0) from bronze.schema_versions")
        return int(version)

    @contextmanager
    def migrating(self) -> Iterator[None]:
        """See ``schema.Migratable``."""
        with self._connection.transaction():
            self._connection.execute("select pg_advisory_xact_lock(%s)", [_MIGRATION_LOCK])
            # A new index takes as long as the store is large.
            self._connection.execute("set local statement_timeout = 0")
            yield

    def script(self, sql: str) -> None:
        """See ``schema.Migratable``."""
        self._connection.execute(sql)

    def upgrade(self) -> int:
        """Bring the schema of bronze up to date; how many migrations that took.

        Raises:
            WarehouseError: the store is newer, or the role may not.
        """
        # Nothing of it is left when it fails: it may begin again.
        return self._repeating(lambda: upgrade(f"the warehouse {self.address}", self, MIGRATIONS))

    def make_roles(self) -> None:
        """Make owner, writer and reader, and give each what it needs (``roles.sql``); again, to put it right.

        Raises:
            WarehouseError: the role that asks may not make roles, or does not own the tables.
        """
        self._repeating(lambda: self.script(ROLES.read_text(encoding="utf-8")))

    def take_over(self, tables: Mapping[str, pa.Table], *, after: int) -> None:
        """Take loads as another store has made them, with their ids, all of them in one transaction.

        Args:
            tables: by the name of the bronze table.
            after: the newest load that is there.

        Raises:
            WarehouseError: another load is there meanwhile.
        """

        def once() -> None:
            for dataset in DATASETS.values():
                self._add_months(dataset, tables[dataset.name])
            with self._connection.transaction(), self._connection.cursor() as cursor:
                for name, table in tables.items():
                    stage(cursor, f"staged_{name}", table, drop=True)
                cursor.execute("select pg_advisory_xact_lock(%s)", [_LANDING_LOCK])
                ((newest,),) = cursor.execute("select coalesce(max(load_id), 0) from bronze.loads").fetchall()
                if newest != after:
                    raise WarehouseError(
                        f"{self.address} has load {newest} where load {after} is the newest of the copy: somebody "
                        "lands there; let the copy be the only one, into an empty database"
                    )
                for name, table in tables.items():
                    names = ", ".join(table.column_names)
                    values = ", ".join(f"{c}::json" if c in _JSON_OF.get(name, ()) else c for c in table.column_names)
                    cursor.execute(f"insert into bronze.{name} ({names}) select {values} from staged_{name}")

        # Whether it was committed is told by the next load's number.
        self._repeating(once, when_lost=False)

    def _add_months(self, dataset: Dataset, records: pa.Table) -> None:
        if dataset.name not in BY_MONTH or not records.num_rows:
            return
        months = pc.unique(pc.floor_temporal(records[dataset.partition_column], unit="month")).to_pylist()
        self._connection.execute(
            "select bronze.add_month(%s, first_day) from unnest(%s::date[]) as months (first_day)",
            [str(dataset.name), [month.date() for month in months]],
        )

    def _insert_records(self, load: Load, load_id: int) -> int:
        if not load.records.num_rows:
            return 0
        dataset = load.dataset
        names = ", ".join(c.name for c in dataset.record_columns)
        values = ", ".join(
            f"record.{c.name}::json" if c.kind == "json" else f"record.{c.name}" for c in dataset.record_columns
        )
        key = ", ".join(dataset.version_key)
        same = " and ".join(f"kept.{column} = record.{column}" for column in dataset.version_key)
        return self._execute(
            f"""
            insert into bronze.{dataset.name} ({names}, ingested_at_utc, run_id, load_id)
            select {values}, $now, $run_id, $load_id
            from (select distinct on ({key}) * from staged_records order by {key}, payload_hash collate "C") as record
            left join lateral (
                select kept.payload_hash from bronze.{dataset.name} as kept
                where {same}
                order by kept.load_id desc
                limit 1
            ) as newest on true
            where newest.payload_hash is distinct from record.payload_hash
            """,
            load.origin(load_id),
        ).rowcount

    def _insert_rejections(self, load: Load, load_id: int) -> int:
        if not load.rejections:
            return 0
        return self._execute(
            f"""
            insert into bronze.quarantine ({QUARANTINE_COLUMNS})
            select dataset, provider, endpoint, location_id, hour_utc, reason, field, message, payload, payload_hash,
                $contract_version, $now, $run_id, $load_id
            from staged_rejections
            on conflict do nothing
            """,
            {"contract_version": CONTRACT_VERSION, **load.origin(load_id)},
        ).rowcount

    def _resolve(self, entries: Sequence[QuarantineKey], load_id: int) -> int:
        if not entries:
            return 0
        return self._execute(
            """
            update bronze.quarantine as kept
            set resolved_load_id = $load_id
            from staged_settled as settled
            where kept.resolved_load_id is null
                and kept.dataset = settled.dataset
                and kept.provider = settled.provider
                and kept.location_id = settled.location_id
                and kept.hour_utc = settled.hour_utc
                and kept.reason = settled.reason
                and kept.field is not distinct from settled.field
                and kept.payload_hash = settled.payload_hash
            """,
            {"load_id": load_id},
        ).rowcount

    def _upsert_locations(self, locations: Sequence[Location], load_id: int) -> int:
        columns = ("id", "name", "country", "latitude", "longitude", "time_zone")
        return self._execute(
            """
            insert into bronze.locations as kept (location_id, name, country, latitude, longitude, time_zone, load_id)
            select *, $load_id from unnest(
                $id::text[], $name::text[], $country::text[], $latitude::float8[], $longitude::float8[],
                $time_zone::text[]
            )
            on conflict (location_id) do update
            set name = excluded.name, country = excluded.country, latitude = excluded.latitude,
                longitude = excluded.longitude, time_zone = excluded.time_zone, load_id = excluded.load_id
            where (kept.name, kept.country, kept.latitude, kept.longitude, kept.time_zone) is distinct from
                (excluded.name, excluded.country, excluded.latitude, excluded.longitude, excluded.time_zone)
            """,
            {"load_id": load_id, **{name: [getattr(place, name) for place in locations] for name in columns}},
        ).rowcount

    def _connect(self) -> psycopg.Connection[Any]:
        return connect(self.address, read_only=self._read_only, patience=self._patience)

    def _execute(self, sql: str, parameters: Mapping[str, Any] | None) -> psycopg.Cursor[tuple[Any, ...]]:
        if parameters is not None:
            sql = _NAMED.sub(_psycopg_form, sql)
        return self._connection.execute(sql, parameters)

    def _repeating(self, work: Callable[[], T], *, when_lost: bool = True) -> T:
        """Do what can be done again after it failed: a deadlock and a lost connection have undone it.

        Args:
            when_lost: whether it may be done again even if it was committed before the connection was lost.

        Raises:
            WarehouseError: of the outermost work, for any error of the server.
        """
        if self._in_work:
            return work()

        def again(error: BaseException) -> bool:
            if is_connection_lost(error):
                # Temporary tables were lost too.
                return when_lost and not self._registered
            return isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected)

        def prepare(_: tenacity.RetryCallState) -> None:
            if self._connection.closed:
                self._connection = self._connect()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(again),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential_jitter(multiplier=0.05, max=1, jitter=0.1),
            before_sleep=prepare,
            reraise=True,
        )
        self._in_work = True
        try:
            return retrying(work)
        except psycopg.Error as error:
            raise WarehouseError(self._explain(error)) from error
        finally:
            self._in_work = False

    def _explain(self, error: psycopg.Error) -> str:
        told = explain(self.address, error)
        if isinstance(error, psycopg.errors.LockNotAvailable):
            try:
                holders = self._connection.execute(
                    """
                    select application_name || ' (PID ' || pid || ')' from pg_stat_activity
                    where pid in (
                        select pid from pg_locks where locktype = 'advisory' and granted and objid in (%s, %s)
                    ) and datname = current_database()
                    """,
                    [_LANDING_LOCK, _MIGRATION_LOCK],
                ).fetchall()
            except psycopg.Error:
                return told  # The first error is the one to tell.
            told += "".join(f"; {holder} is landing or upgrading" for (holder,) in holders)
        return told


_NAMED = re.compile(r"('(?:[^']|'')*')|\$([A-Za-z_]\w*)|%")


def _psycopg_form(found: re.Match[str]) -> str:
    text, name = found.groups()
    if name:
        return f"%({name})s"
    return (text or "%").replace("%", "%%")


@dataclass(frozen=True)
class PostgresStore:
    """A Postgres database."""

    url: SecretStr

    def __str__(self) -> str:
        return str(self.address)

    @property
    def address(self) -> Address:
        """Where it is.

        Raises:
            ConfigurationError: the URL cannot be read.
        """
        return Address.read(self.url)

    def exists(self) -> bool:
        """Whether there are bronze tables.

        Raises:
            WarehouseError: the server cannot be reached.
        """
        with self._connected(read_only=True, patience=LOCK_TIMEOUT) as warehouse:
            return warehouse.schema_version() > 0

    @contextmanager
    def open(self, *, read_only: bool = False, patience: timedelta = LOCK_TIMEOUT) -> Iterator[PostgresWarehouse]:
        """See ``Store.open``."""
        with self._connected(read_only=read_only, patience=patience) as warehouse:
            if not read_only:
                warehouse.upgrade()
            elif not (version := warehouse.schema_version()):
                raise WarehouseError(
                    f"the warehouse {self} has no bronze tables yet; `weather ingest` or `weather backfill` makes them"
                )
            else:
                require_current(f"the warehouse {self}", version, MIGRATIONS)
            yield warehouse

    def dbt_environment(self) -> dict[str, str]:
        """What dbt's profile reads to find the same database."""
        address = self.address
        return {
            **address.others,
            "WEATHER_POSTGRES_HOST": address.host,
            "WEATHER_POSTGRES_PORT": address.port,
            "WEATHER_POSTGRES_USER": address.user,
            "WEATHER_POSTGRES_DATABASE": address.database,
            "DBT_ENV_SECRET_POSTGRES_PASSWORD": address.password,
        }

    @contextmanager
    def dbt_turn(self) -> Iterator[None]:
        """Wait until no other dbt is at work. The turn is held by a connection, and ends with it."""
        with self._connected(read_only=False, patience=LOCK_TIMEOUT) as warehouse:
            ((is_free,),) = warehouse.query("select pg_try_advisory_lock($lock)", {"lock": _DBT_LOCK})
            if not is_free:
                _logger.warning("Waiting: another dbt is at work, says %s", self)
                patience = f"{DBT_PATIENCE.total_seconds():.0f}s"
                warehouse.query(
                    "select set_config('lock_timeout', $patience, false), set_config('statement_timeout', '0', false)",
                    {"patience": patience},
                )
                warehouse.query("select pg_advisory_lock($lock)", {"lock": _DBT_LOCK})
            yield

    @contextmanager
    def _connected(self, *, read_only: bool, patience: timedelta) -> Iterator[PostgresWarehouse]:
        warehouse = PostgresWarehouse(self.address, read_only=read_only, patience=patience)
        try:
            yield warehouse
        finally:
            warehouse.close()
