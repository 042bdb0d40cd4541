"""The roles of Postgres beside the real dbt: it runs as the writer, and the reader reads what it makes."""

from datetime import UTC, datetime

import psycopg
import pytest
from pydantic import SecretStr

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.postgres import with_parts
from weather_dagster_tests.weather_dbt.bronze import land, place
from weather_dagster_tests.weather_dbt.conftest import Dbt

pytestmark = pytest.mark.integration

HOUR = datetime(2026, 6, 1, tzinfo=UTC)
GOLD = "select table_name from information_schema.tables where table_schema = 'gold' order by 1"


def test_the_reader_reads_all_of_gold_and_no_silver_also_after_dbt_has_rebuilt_it(dbt: Dbt, postgres_url: str) -> None:
    with PostgresStore(SecretStr(postgres_url)).open() as warehouse:
        land(warehouse, OBSERVATIONS, [{"location_id": "a", "valid_hour_utc": HOUR}], [place("a")])
        warehouse.make_roles()
    with psycopg.connect(postgres_url, autocommit=True) as administrator:
        for role in ("weather_writer", "weather_reader"):
            administrator.execute(f"alter role {role} password 'secret'".encode())
    writer = PostgresStore(SecretStr(with_parts(postgres_url, user="weather_writer", password="secret")))
    reading = with_parts(postgres_url, user="weather_reader", password="secret")
    for arguments in (("build",), ("build", "--full-refresh")):
        dbt(writer, *arguments)
        with psycopg.connect(reading, autocommit=True) as reader:
            tables = [name for (name,) in reader.execute(GOLD).fetchall()]
            assert len(tables) == 5
            for table in tables:
                reader.execute(f"select * from gold.{table}".encode())
            assert reader.execute("select count(*) from gold.hourly_weather").fetchall() == [(1,)]
            for statement in (b"select * from silver.observations", b"delete from gold.hourly_weather"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(statement)
