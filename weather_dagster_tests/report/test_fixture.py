"""The gold made by hand has the columns that the dbt models promise, or the report's tests would prove nothing."""

from pathlib import Path

import pytest
import yaml

from weather_dagster.dbt_command import DBT_DIR
from weather_dagster.warehouse.duckdb import DuckDBWarehouse

MODELS = ("gold/daily_weather", "gold/hourly_weather", "gold/latest_conditions", "gold/temperature_moving_averages")


@pytest.mark.parametrize("model", [*MODELS, "silver/air_quality"])
def test_the_hand_made_tables_have_the_columns_of_the_dbt_models(
    model: str, fortnight_warehouse: DuckDBWarehouse
) -> None:
    (declared,) = yaml.safe_load(Path(DBT_DIR, "models", f"{model}.yml").read_text(encoding="utf-8"))["models"]
    schema, table = model.split("/")
    rows = fortnight_warehouse.query(
        "select column_name from information_schema.columns where table_schema = ? and table_name = ?", [schema, table]
    )
    assert sorted(name for (name,) in rows) == sorted(column["name"] for column in declared["columns"])
