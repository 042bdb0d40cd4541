"""Arrow tables into temporary tables, by binary COPY."""

from datetime import UTC, datetime
from typing import Any, LiteralString, cast

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

ROWS_AT_ONCE = 10_000
"""As many are Python objects at one time."""

_EPOCH = int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""Postgres sends an instant as the microseconds since then, Arrow as those since 1970."""


def sql_type(kind: pa.DataType) -> LiteralString:
    """The column type that holds values of an Arrow type."""
    return _types(kind)[0]


def _types(kind: pa.DataType) -> tuple[LiteralString, LiteralString]:
    # Column type, and the type whose binary form psycopg makes of the Python values: the same bytes, more cheaply.
    if pa.types.is_timestamp(kind):
        return "timestamptz", "int8"
    if pa.types.is_string(kind):
        return "text", "text"
    if pa.types.is_floating(kind):
        return "double precision", "float8"
    if pa.types.is_integer(kind):
        return "bigint", "int8"
    if pa.types.is_boolean(kind):
        return "boolean", "bool"
    raise TypeError(f"no Postgres type is known for Arrow's {kind}")


def stage(cursor: psycopg.Cursor[Any], name: str, table: pa.Table, *, drop: bool) -> None:
    """Make a temporary table with the rows of ``table``.

    Args:
        drop: with the end of the transaction.
    """
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(sql_type(field.type))) for field in table.schema
    )
    end = sql.SQL(" on commit drop" if drop else "")
    cursor.execute(sql.SQL("create temporary table {} ({}){}").format(sql.Identifier(name), columns, end))
    if not table.num_rows:
        return
    with cursor.copy(sql.SQL("copy {} from stdin (format binary)").format(sql.Identifier(name))) as copy:
        copy.set_types([_types(field.type)[1] for field in table.schema])
        for batch in table.to_batches(ROWS_AT_ONCE):
            for row in zip(*map(_values, batch.columns), strict=True):
                copy.write_row(row)


def _values(column: pa.Array) -> list[Any]:
    if column.null_count == len(column):
        return [None] * len(column)
    if pa.types.is_timestamp(column.type):
        return _plain(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()), less=_EPOCH)
    if pa.types.is_string(column.type) and b"\0" in memoryview(column.buffers()[2] or b"").tobytes():
        # A body that nobody could read may hold it, and Postgres has no text with it.
        column = pc.replace_substring(column, "\0", "\N{SYMBOL FOR NULL}")
    if not pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type):
        return cast("list[Any]", column.to_numpy(zero_copy_only=False).tolist())
    return _plain(column, less=0)


def _plain(column: pa.Array, *, less: int) -> list[Any]:
    if not column.null_count:
        numbers = column.to_numpy()
        return cast("list[Any]", (numbers - less if less else numbers).tolist())
    numbers = (column.fill_null(0).to_numpy() - less).astype(object)
    numbers[column.is_null().to_numpy(zero_copy_only=False)] = None
    return cast("list[Any]", numbers.tolist())
