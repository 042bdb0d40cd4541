"""The dbt project as Dagster and readers see it: nothing drifts from the package, everything is described."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from weather_dagster.assets.dbt import require_readable_events
from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import HOUR
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.weather_dbt import generated
from weather_dagster_tests.weather_dbt.bronze import land, place
from weather_dagster_tests.weather_dbt.conftest import Dbt

# Names of column types that DuckDB and Postgres both know; a contract cannot choose by engine.
SHARED_TYPES = {"text", "bigint", "float8", "boolean", "date", "timestamp", "timestamptz"}
REGENERATE = "run: python -m weather_dagster_tests.weather_dbt.generated"


def test_limits_in_dbt_are_those_of_the_quantities() -> None:
    assert generated.LIMITS_FILE.read_text(encoding="utf-8") == generated.limits_macro(), REGENERATE


def test_descriptions_in_dbt_are_those_of_the_quantities() -> None:
    assert generated.DESCRIPTIONS_FILE.read_text(encoding="utf-8") == generated.description_blocks(), REGENERATE


def test_a_model_reads_bronze_or_one_other_model(dbt: Dbt) -> None:
    """Loads land while dbt runs: of two models one may know a load that the other lacks (``macros/increments.sql``)."""
    for node in dbt.manifest().nodes.values():
        if node.resource_type == "model":
            kinds = [each.partition(".")[0] for each in set(node.depends_on.nodes)]
            assert kinds == ["model"] or set(kinds) == {"source"}, node.name


def test_a_password_that_dbt_would_hide_in_the_names_of_models_is_refused() -> None:
    manifest = load_dbt_project("postgres").manifest_path
    for password in ("weather", "gold", "data", "a", "pass", "success", "error", "Node"):
        with pytest.raises(ConfigurationError, match="take a longer password") as refused:
            require_readable_events({"DBT_ENV_SECRET_POSTGRES_PASSWORD": password}, manifest)
        assert f"'{password}'" not in str(refused.value)
    for variable, value in (("DBT_ENV_SECRET_POSTGRES_PASSWORD", "postgres"), ("WEATHER_POSTGRES_DATABASE", "weather")):
        require_readable_events({variable: value}, manifest)


@pytest.mark.integration
def test_every_model_is_described_and_every_column_of_its_table_too(dbt: Dbt, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    with open_warehouse(warehouse):
        pass
    dbt(warehouse, "build")
    models = [n for n in dbt.manifest().nodes.values() if n.resource_type == "model"]
    assert {(m.fqn[1], m.name) for m in models} == {
        ("silver", "observations"),
        ("silver", "forecasts"),
        ("silver", "air_quality"),
        ("gold", "hourly_weather"),
        ("gold", "daily_weather"),
        ("gold", "daily_air_quality"),
        ("gold", "temperature_moving_averages"),
        ("gold", "latest_conditions"),
    }
    with duckdb.connect(warehouse, read_only=True) as connection:
        for model in models:
            table = connection.sql(f"describe {model.schema}.{model.name}").fetchall()
            types = {name: kind for name, kind, *_ in table}
            assert types == {c.name: str(duckdb.sqltype(c.data_type)) for c in model.columns.values()}
            assert SHARED_TYPES.issuperset(c.data_type for c in model.columns.values())
            assert model.description
            assert all(c.description for c in model.columns.values())
            assert model.config.contract.enforced == (model.schema == "gold")


@pytest.mark.integration
def test_a_key_is_tested_in_every_model(dbt: Dbt) -> None:
    tests = [n for n in dbt.manifest().nodes.values() if n.resource_type == "test"]
    keyed = {t.attached_node for t in tests if t.test_metadata.name == "unique_combination"}
    assert keyed == {n.unique_id for n in dbt.manifest().nodes.values() if n.resource_type == "model"}


@pytest.mark.integration
def test_an_old_bad_row_fails_its_own_loads_and_not_every_later_one(dbt: Dbt, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    checks = ("test", "--select", "hourly_weather,test_type:data")
    hour = datetime(2026, 6, 1, tzinfo=UTC)
    with open_warehouse(warehouse) as bronze:
        land(bronze, OBSERVATIONS, [{"location_id": "a", "valid_hour_utc": hour, "humidity_pct": 400}], [place("a")])
    dbt(warehouse, "run")
    with pytest.raises(AssertionError, match="gold_hourly_weather_within_plausible_limits"):
        dbt(warehouse, *checks)
    with open_warehouse(warehouse) as bronze:
        bronze.connection.execute("update bronze.loads set load_id = 100")
        land(bronze, OBSERVATIONS, [{"location_id": "a", "valid_hour_utc": hour + HOUR}], [place("a")])
    dbt(warehouse, "run")
    dbt(warehouse, *checks)
    with pytest.raises(AssertionError, match="silver_observations_within_plausible_limits"):
        dbt(warehouse, "build", "--full-refresh")


@pytest.mark.integration
def test_a_fresh_row_is_not_unique_beside_an_old_one(dbt: Dbt, tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    checks = ("test", "--select", "hourly_weather,test_type:data")
    hour = datetime(2026, 6, 1, tzinfo=UTC)
    with open_warehouse(warehouse) as bronze:
        land(bronze, OBSERVATIONS, [{"location_id": "a", "valid_hour_utc": hour}], [place("a")])
    dbt(warehouse, "run")
    dbt(warehouse, *checks)
    with duckdb.connect(warehouse) as connection:
        connection.execute("update gold.hourly_weather set load_id = 200")
        connection.execute(
            "insert into gold.hourly_weather from (select * replace (1 as load_id) from gold.hourly_weather)"
        )
    with pytest.raises(AssertionError, match="gold_hourly_weather_key_is_unique"):
        dbt(warehouse, *checks)
