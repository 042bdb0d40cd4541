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
        for placeholder in [*tree.find_all(exp.Placeholder)]:
            if placeholder.name in lists:
                placeholder.replace(exp.array(*map(exp.convert, lists[placeholder.name]), dialect="databricks"))
    used = {placeholder.name for placeholder in tree.find_all(exp.Placeholder)}
    return _text(tree), {name: value for name, value in parameters.items() if name in used}


def _text(tree: exp.Expr) -> str:
    return tree.sql("databricks")


@lru_cache(maxsize=256)
def _parsed(sql: str) -> exp.Expr:
    tree = sqlglot.parse_one(sql, read="duckdb").transform(_in_own_words)
    if isinstance(tree, exp.Query):
        # Spark names a column without a name by its text, a count by all but its filter: two could have one name.
        for number, column in enumerate(tree.selects):
            if not isinstance(column, exp.Alias | exp.Column | exp.Star):
                column.replace(exp.alias_(column.copy(), f"column_{number}"))
    return _deleting_rows(tree) if isinstance(tree, exp.Delete) else tree


def _in_own_words(node: exp.Expr) -> exp.Expr:
    """What sqlglot leaves as it is, or makes something else of."""
    match node:
        case exp.GenerateSeries() if isinstance(node.parent, exp.Table | exp.Lateral):
            return exp.Anonymous(this="explode", expressions=[node])
        case exp.Extract() if node.name.upper() == "EPOCH":
            return exp.cast(node.expression, "double")
        case exp.AtTimeZone():
            # Of an instant: what clocks in the zone show has none itself.
            return exp.cast(
                exp.func("from_utc_timestamp", node.this, node.args["zone"]), "timestamp_ntz", dialect="spark"
            )
    return node


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
