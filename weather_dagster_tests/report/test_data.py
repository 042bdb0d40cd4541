"""What the report reads is the same, whichever engine holds the tables."""

import shutil
from pathlib import Path

import pytest

from weather_dagster.report.data import read_report_data
from weather_dagster.warehouse.duckdb import DuckDBWarehouse, open_warehouse
from weather_dagster.warehouse.postgres import PostgresStore, PostgresWarehouse
from weather_dagster_tests.report.conftest import WATCHED

LEDGERS = ("bronze.loads", "bronze.locations", "bronze.quarantine")


def copy(source: DuckDBWarehouse, target: PostgresWarehouse, table: str) -> None:
    """Make a table of gold, or fill one of bronze. Days and local times cross as text: Arrow's would be instants."""
    schema, name = table.split(".")
    columns = source.query(
        "select column_name, data_type from information_schema.columns where table_schema = $schema "
        "and table_name = $name order by ordinal_position",
        {"schema": schema, "name": name},
    )
    local = {column: kind for column, kind in columns if kind in ("DATE", "TIMESTAMP")}
    told = ", ".join(f"{column}::varchar as {column}" if column in local else column for column, _ in columns)
    taken = ", ".join(f"{column}::{local[column]}" if column in local else column for column, _ in columns)
    with target.registered("copied", source.connection.sql(f"select {told} from {table}").to_arrow_table()):
        if table in target.tables():
            target.execute(f"insert into {table} ({taken}) select {taken} from copied")
        else:
            target.script(f"create schema if not exists {schema}; create table {table} as select {taken} from copied")


@pytest.mark.parametrize("watched", [WATCHED, WATCHED[:3]], ids=["all places", "three places"])
def test_the_report_reads_the_same_from_both_engines(
    fortnight: Path, tmp_path: Path, postgres_store: PostgresStore, watched: list[str]
) -> None:
    path = Path(shutil.copy(fortnight, tmp_path))
    with open_warehouse(path) as here, postgres_store.open() as there:
        here.execute(
            "update gold.hourly_weather set rejected_fields = 'wind_gust_ms, temperature_c', temperature_c = null "
            "where rejected_fields is not null"
        )
        for table in here.tables():
            if not table.startswith("bronze.") or table in LEDGERS:
                copy(here, there, table)
        expected, data = read_report_data(here, watched), read_report_data(there, watched)
    assert sum(len(columns["time"]) for columns in data.hourly.values()) > 24 * 13 * (len(watched) - 2)
    assert data.newest_quarantined
    assert data == expected
