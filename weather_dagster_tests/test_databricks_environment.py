"""WEATHER_ENV=databricks: the same commands, with the warehouse at the stand-in and Dagster's records in Postgres."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from weather_dagster.environments import tell_dagster
from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.settings import Settings
from weather_dagster.warehouse.databricks import DatabricksStore
from weather_dagster_tests.conftest import Weather
from weather_dagster_tests.databricks.stand_in import TOKEN, StandIn
from weather_dagster_tests.postgres import fresh_database

pytestmark = pytest.mark.integration

PLACES = 10


@pytest.fixture(scope="module")
def settings(
    databricks_server: StandIn, postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    databricks_server.reset()
    with fresh_database(postgres_server) as url:
        yield {
            "WEATHER_ENV": "databricks",
            "WEATHER_POSTGRES_URL": url,
            "WEATHER_HOME": str(tmp_path_factory.mktemp("databricks_home")),
            **databricks_server.settings,
        }
    databricks_server.reset()


def loaded(settings: dict[str, str]) -> Settings:
    return Settings.load(_env_file=None, **{name.lower(): value for name, value in settings.items()})


def test_the_demo_fills_gold_at_databricks_and_keeps_dagsters_records_in_postgres(
    settings: dict[str, str], databricks_server: StandIn, weather: Weather
) -> None:
    result = weather("demo", "--days", "1", **settings)
    assert result.returncode == 0, result.stderr
    assert f"weather at {databricks_server.url}" in result.stdout, "it tells where the warehouse is"
    assert [told["error"] for told in databricks_server.statements() if "error" in told] == []
    with DatabricksStore.of(loaded(settings)).open(read_only=True) as warehouse:
        rows = {
            table: warehouse.query(f"select count(*) from gold.{table}")[0][0]
            for table in ("hourly_weather", "temperature_moving_averages", "latest_conditions")
        }
    assert rows == {
        "hourly_weather": 24 * PLACES,
        "temperature_moving_averages": 24 * PLACES,
        "latest_conditions": PLACES,
    }

    tell_dagster(loaded(settings))
    home = Path(settings["WEATHER_HOME"])
    with dg.DagsterInstance.from_config(str(home / "simulator" / "dagster")) as records:
        (run,) = records.get_runs()
        assert run.status is dg.DagsterRunStatus.SUCCESS
        evaluated = records.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    told = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in evaluated]
    assert len(told) > 50
    assert [(each.asset_key.to_user_string(), each.check_name) for each in told if not each.passed] == []
    assert [*home.rglob("*.db"), *home.rglob("*.sqlite"), *home.rglob("*.duckdb")] == [], "no record is in a file"

    status = weather("status", **settings)
    assert status.returncode == 0, status.stdout
    assert "healthy" in status.stdout


def test_the_token_is_in_no_file_and_in_no_table(settings: dict[str, str]) -> None:
    files = [path for path in Path(settings["WEATHER_HOME"]).rglob("*") if path.is_file()]
    assert {".html", ".log"} <= {path.suffix for path in files}
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
    with psycopg.connect(settings["WEATHER_POSTGRES_URL"]) as connection:
        tables = connection.execute(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            found = connection.execute(
                f"select count(*) from {table} as told where told::text like %s".encode(), [f"%{TOKEN}%"]
            ).fetchall()
            assert found == [(0,)], table


@pytest.mark.parametrize("command", ["ingest", "report"])
def test_a_token_that_has_expired_is_told_in_a_line(
    settings: dict[str, str], databricks_server: StandIn, weather: Weather, command: str
) -> None:
    hour = format_hour(floor_hour(utc_now()) - timedelta(hours=2))
    databricks_server.fail(is_token_expired=True)
    try:
        refused = weather(command, *(("--from", hour, "--to", hour) if command == "ingest" else ()), **settings)
    finally:
        databricks_server.fail(is_token_expired=False)
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        f"Error: the warehouse weather at {databricks_server.url}: {databricks_server.url} does not accept "
        "DATABRICKS_TOKEN: it has expired, was revoked, or is of another workspace"
    )
