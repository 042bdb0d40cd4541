"""Portable SQL in the words of Databricks."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import exp

from weather_dagster.datasets import DATASETS

Parameters = Mapping[str, Any] | Sequence[Any] | None


def translated(sql: str, parameters: Parameters) -> tuple[str, dict[str, Any] | list[Any]]:
    """A statement and its parameters as Databricks takes them: ``:name`` or ``?``, lists written out."""
    tree = _parsed(sql)
    if not isinstance(parameters, Mapping):
        return _text(tree), list(parameters or ())
    lists = {name: value for name, value in parameters.items() if isinstance(value, list | tuple)}
    if lists:
        tree = tree.copy()
        _write_out(tree, lists)
    used = {placeholder.name for placeholder in tree.find_all(exp.Placeholder)}
    return _text(tree), {name: value for name, value in parameters.items() if name in used}


def _text(tree: exp.Expr) -> str:
    return tree.sql("databricks")


@lru_cache(maxsize=256)
def _parsed(sql: str) -> exp.Expr:
    tree = sqlglot.parse_one(sql, read="duckdb")
    _make_series_tables(tree)
    for local in [*tree.find_all(exp.AtTimeZone)]:
        # What Databricks makes of an instant and a zone is an instant again.
        local.replace(exp.cast(local.copy(), exp.DType.TIMESTAMPNTZ))
    for part in [*tree.find_all(exp.Extract)]:
        if part.name == "EPOCH":
            part.replace(exp.cast(part.expression, exp.DType.DOUBLE))
    if isinstance(tree, exp.Query):
        _name_columns(tree)
    return _deleting_rows(tree) if isinstance(tree, exp.Delete) else tree


def _name_columns(query: exp.Query) -> None:
    """Let each column of a result have a name of its own: the connector fails on two that are alike."""
    for place, column in enumerate(query.selects):
        if not isinstance(column, exp.Column | exp.Star | exp.Alias):
            column.replace(exp.alias_(column.copy(), f"column_{place}"))


def _write_out(tree: exp.Expr, lists: Mapping[str, Sequence[Any]]) -> None:
    """Lists of parameters as literals: ``= any($names)`` is ``in ('a', 'b')``, elsewhere they are arrays."""
    for placeholder in [*tree.find_all(exp.Placeholder)]:
        if placeholder.name not in lists:
            continue
        values = [exp.convert(value) for value in lists[placeholder.name]]
        comparison = placeholder.find_ancestor(exp.EQ)
        if comparison and isinstance(comparison.expression, exp.Any):
            comparison.replace(exp.In(this=comparison.this, expressions=values) if values else exp.false())
        else:
            placeholder.replace(exp.array(*values, dialect="databricks"))


def _make_series_tables(tree: exp.Expr) -> None:
    """Let ``unnest`` and ``generate_series`` that are read as tables be made by ``explode``."""
    for table in [*tree.find_all(exp.Unnest, exp.Table, exp.Lateral)]:
        if isinstance(table, exp.Unnest):
            array = table.expressions[0]
        elif isinstance(table.this, exp.GenerateSeries):
            array = _sequence(table.this)
        else:
            continue
        alias, rows = table.args["alias"], exp.Explode(this=array)
        if isinstance(table, exp.Lateral) and table.parent and table.parent_select:
            table.parent_select.append("laterals", exp.Lateral(this=rows, view=True, alias=alias.copy()))
            table.parent.pop()
        else:
            (column,) = alias.columns
            table.replace(exp.select(rows.as_(column)).subquery(alias.this))


def _sequence(series: exp.GenerateSeries) -> exp.Expr:
    """The same numbers or instants; without a step Databricks would count backwards where there are none."""
    step = series.args.get("step") or exp.Literal.number(1)
    return exp.func("sequence", series.args["start"], series.args["end"], step, dialect="databricks")


def _deleting_rows(delete: exp.Delete) -> exp.Expr:
    """A deletion from a view of bronze as one from its rows.

    By MERGE, because Databricks allows no query within a query in the condition of DELETE, and the view has one.
    """
    target = delete.this
    dataset = {f"bronze.{name}": dataset for name, dataset in DATASETS.items()}.get(f"{target.db}.{target.name}")
    if dataset is None:
        return delete
    key = [*dataset.version_key, "load_id"]
    where = delete.args.get("where")
    gone = exp.select(*(exp.column(name, table=target.alias_or_name) for name in key)).from_(target.copy())
    if where:
        gone = gone.where(where.this.copy())
    same = " and ".join(f"kept.{name} = gone.{name}" for name in key)
    return sqlglot.parse_one(
        f"merge into bronze.{dataset.name}_rows as kept using ({gone.distinct().sql('databricks')}) as gone "
        f"on {same} when matched then delete",
        read="databricks",
    )
