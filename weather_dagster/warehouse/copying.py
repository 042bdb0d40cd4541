"""Moving bronze from a DuckDB file to Postgres, so that a laptop's history goes on in a cluster.

Loads go over in order, many in a transaction, each with its own ``load_id``: what Postgres has is always the beginning
of what the file has, and a copy that was broken off is taken up there. Silver and gold are made anew by dbt.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa

from weather_dagster.datasets import DATASETS
from weather_dagster.errors import WarehouseError
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.warehouse.duckdb import DuckDBWarehouse
from weather_dagster.warehouse.postgres import PostgresWarehouse

ROWS_AT_ONCE = 50_000
"""Rows of a transaction, as whole loads; a larger load is one by itself."""

BY_LOAD = (*(str(name) for name in DATASETS), "quarantine", "loads")
"""Tables whose rows come with a load and stay; of an entry of the quarantine, whether it is resolved may change."""
TABLES = (*BY_LOAD, "locations", "api_calls")


def copy_bronze(
    source: DuckDBWarehouse, target: PostgresWarehouse, on_progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Copy what ``target`` lacks and compare all of it; rows by table.

    Args:
        on_progress: is told how many loads are there, and of how many.

    Raises:
        WarehouseError: ``target`` holds something else, somebody lands there meanwhile, or a table differs at the end.
    """
    columns = _columns(target)
    loads = source.query("select load_id, rows_added + quarantined from bronze.loads order by load_id")
    done = _already_copied(source, target)
    for first, last in _batches([load for load in loads if load[0] > done]):
        between = f"where load_id between {first} and {last}"
        target.take_over({table: _read(source, table, columns[table], between) for table in BY_LOAD}, after=done)
        done = last
        if on_progress:
            on_progress(sum(load_id <= done for load_id, _ in loads), len(loads))
    _copy_what_changes(source, target, columns)
    return _compare(source, target, columns)


def _columns(target: Warehouse) -> dict[str, list[str]]:
    rows = target.query(
        "select table_name, column_name from information_schema.columns where table_schema = 'bronze' "
        "order by table_name, ordinal_position"
    )
    return {table: [column for name, column in rows if name == table] for table in TABLES}


def _already_copied(source: Warehouse, target: Warehouse) -> int:
    """The newest load of ``target``, all of whose loads are those of ``source``; 0 when it is empty."""
    whole = "select * from bronze.loads order by load_id"
    there = target.query(whole)
    if not there:
        if full := [table for table in TABLES if target.query(f"select 1 from bronze.{table} limit 1")]:
            raise WarehouseError(
                f"the target has rows in bronze.{full[0]} and no load of the source: it holds other data; "
                "let WEATHER_POSTGRES_URL name an empty database"
            )
        return 0
    of_source = source.query(whole)
    for number, load in enumerate(there):
        if number >= len(of_source) or of_source[number] != load:
            raise WarehouseError(
                f"load {load[0]} of the target ({load[1]} of {load[2]}, run {load[3]}) is not one of the source: it "
                "holds other data, or data was landed there; let WEATHER_POSTGRES_URL name an empty database"
            )
    return int(there[-1][0])


def _batches(loads: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """First and last load of each transaction."""
    first, rows = None, 0
    for number, (load_id, count) in enumerate(loads):
        first = load_id if first is None else first
        rows += count
        if rows >= ROWS_AT_ONCE or number == len(loads) - 1:
            yield first, load_id
            first, rows = None, 0


def _read(source: DuckDBWarehouse, table: str, columns: Sequence[str], condition: str = "") -> pa.Table:
    sql = f"select {', '.join(columns)} from bronze.{table} {condition}"
    return source.connection.sql(sql).to_arrow_table()


def _copy_what_changes(source: DuckDBWarehouse, target: PostgresWarehouse, columns: Mapping[str, list[str]]) -> None:
    places = columns["locations"]
    with target.registered("copied", _read(source, "locations", places)):
        values = ", ".join(f"{column} = excluded.{column}" for column in places)
        names = ", ".join(places)
        target.execute(
            f"insert into bronze.locations ({names}) select {names} from copied "
            f"on conflict (location_id) do update set {values}"
        )
    entries = _read(source, "quarantine", columns["quarantine"], "where resolved_load_id is not null")
    with target.registered("copied", entries):
        target.execute(
            """
            update bronze.quarantine as kept set resolved_load_id = copied.resolved_load_id
            from copied
            where kept.resolved_load_id is distinct from copied.resolved_load_id
                and kept.dataset = copied.dataset and kept.provider = copied.provider
                and kept.location_id = copied.location_id and kept.hour_utc = copied.hour_utc
                and kept.reason = copied.reason and kept.field is not distinct from copied.field
                and kept.payload_hash = copied.payload_hash
            """
        )
    target.record_calls(_read(source, "api_calls", columns["api_calls"]))


def _compare(source: Warehouse, target: Warehouse, columns: Mapping[str, list[str]]) -> dict[str, int]:
    counts = {}
    kinds = {
        (table, column): kind
        for table, column, kind in target.query(
            "select table_name, column_name, data_type from information_schema.columns where table_schema = 'bronze'"
        )
    }
    for table in TABLES:
        row = " || '|' || ".join(f"coalesce({_text(c, kinds[table, c])}, '~')" for c in columns[table])
        ((rows, digest),) = source.query(
            f"select count(*), coalesce(bit_xor(('0x' || left(md5(replace({row}, chr(0), '␀')), 16))::ubigint), 0) "
            f"from bronze.{table}"
        )
        ((rows_there, digest_there),) = target.query(
            f"select count(*), coalesce(bit_xor(('x' || left(md5({row}), 16))::bit(64)::bigint), 0) from bronze.{table}"
        )
        if (rows, digest) != (rows_there, digest_there % 2**64):
            raise WarehouseError(
                f"bronze.{table} differs after the copy: {rows:,} rows with digest {digest:016x} in the source, "
                f"{rows_there:,} with {digest_there % 2**64:016x} in the target; something else has written there: "
                "begin again with an empty database"
            )
        counts[table] = rows
    return counts


def _text(column: str, kind: str) -> str:
    """The value as both engines write it alike."""
    if kind == "timestamp with time zone":
        return f"cast(cast(extract(epoch from {column}) * 1000000 as bigint) as varchar)"
    if kind == "double precision":
        return f"cast(cast(floor({column} * 1000000) as bigint) as varchar)"
    return f"cast({column} as varchar)"
