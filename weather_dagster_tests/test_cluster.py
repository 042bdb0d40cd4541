"""WEATHER_ENV=cluster on a real Postgres: the same commands, with the warehouse and Dagster's records there."""

import re
import secrets
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from pydantic import SecretStr

from weather_dagster.automation.sensors import HEALING_TAG
from weather_dagster.environments import tell_dagster
from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.settings import Settings
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.automation.test_downtime import weather_dev
from weather_dagster_tests.conftest import BIN, Weather, without_settings
from weather_dagster_tests.postgres import fresh_database, with_parts
from weather_dagster_tests.test_dagster_dev import wait_for

pytestmark = pytest.mark.integration

PLACES = 10
DAYS = 2


@pytest.fixture(scope="module")
def password() -> str:
    """One that stands nowhere else."""
    return secrets.token_hex(16)


@pytest.fixture(scope="module")
def url(postgres_server: str, password: str) -> Iterator[str]:
    """An empty database of a role that owns it and is nothing else."""
    role = f"owner_{password[:8]}"
    with psycopg.connect(postgres_server, autocommit=True) as server:
        server.execute(f"create role {role} login password '{password}'".encode())
        with fresh_database(postgres_server) as database:
            own = with_parts(database, user=role, password=password)
            server.execute(f'alter database "{own.rpartition("/")[2]}" owner to {role}'.encode())
            yield own
        server.execute(f"drop role {role}".encode())


@pytest.fixture(scope="module")
def settings(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("cluster")
    start = floor_hour(utc_now()) - timedelta(days=DAYS + 1)
    return {
        "WEATHER_ENV": "cluster",
        "WEATHER_POSTGRES_URL": url,
        "WEATHER_HOME": str(home),
        "WEATHER_START_HOUR": format_hour(start),
    }


def instance(settings: dict[str, str]) -> dg.DagsterInstance:
    """Dagster's records."""
    tell_dagster(Settings.load(_env_file=None, **{name.lower(): value for name, value in settings.items()}))
    return dg.DagsterInstance.from_config(str(Path(settings["WEATHER_HOME"], "simulator", "dagster")))


def hours_in_gold(url: str) -> int:
    with psycopg.connect(url) as connection:
        ((count,),) = connection.execute("select count(*) from gold.hourly_weather").fetchall()
    return int(count)


def test_the_demo_fills_gold_in_postgres_and_keeps_dagsters_records_there(
    settings: dict[str, str], weather: Weather
) -> None:
    result = weather("demo", "--days", str(DAYS), **settings)
    assert result.returncode == 0, result.stderr
    assert "@127.0.0.1" in result.stdout, "it tells where the warehouse is"
    assert hours_in_gold(settings["WEATHER_POSTGRES_URL"]) == DAYS * 24 * PLACES
    assert list(Path(settings["WEATHER_HOME"]).rglob("*.sqlite")) == [], "a pod's home is its own"
    with instance(settings) as records:
        (run,) = records.get_runs()
        assert run.status is dg.DagsterRunStatus.SUCCESS
        evaluated = records.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    told = [record.event_log_entry.dagster_event.asset_check_evaluation_data for record in evaluated]
    failed = [
        (evaluation.asset_key.to_user_string(), evaluation.check_name) for evaluation in told if not evaluation.passed
    ]
    assert len(told) > 50
    assert failed == []
    home = Path(settings["WEATHER_HOME"])
    assert not list(home.rglob("*.db")), "no record is in a file of this machine"
    assert not list(home.rglob("*.duckdb"))
    status = weather("status", **settings)
    assert f"{PLACES}" in status.stdout
    assert status.returncode == 0, status.stdout


def test_daemon_and_sensors_fill_what_is_missing(settings: dict[str, str]) -> None:
    before = hours_in_gold(settings["WEATHER_POSTGRES_URL"])
    with weather_dev({**without_settings(), **settings}), instance(settings) as records:

        def healed() -> list[str]:
            return [run.status.value for run in records.get_runs(dg.RunsFilter(tags={HEALING_TAG: "true"}))]

        wait_for(healed, lambda told: "SUCCESS" in told or "FAILURE" in told, timeout=240)
        assert healed() == ["SUCCESS"]
        ticks = {
            state.instigator_name: records.get_ticks(state.instigator_origin_id, state.selector_id)
            for state in records.all_instigator_state()
        }
    assert hours_in_gold(settings["WEATHER_POSTGRES_URL"]) - before >= 24 * PLACES
    for sensor in ("alerts", "heal_missing_hours", "refresh_waiting_loads"):
        assert any(tick.is_completed or tick.is_skipped for tick in ticks[sensor]), sensor
    assert not [tick.error for told in ticks.values() for tick in told if tick.error]


def test_one_dbt_waits_for_another(settings: dict[str, str]) -> None:
    store = PostgresStore(SecretStr(settings["WEATHER_POSTGRES_URL"]))
    command = [BIN / "weather-dbt", "build", "--quiet", "--select", "latest_conditions"]
    environment = {**without_settings(), **settings, "DBT_LOG_PATH": settings["WEATHER_HOME"]}
    # A server may end sessions that do nothing, and who has the turn does nothing with it.
    database = settings["WEATHER_POSTGRES_URL"].rpartition("/")[2]
    with psycopg.connect(settings["WEATHER_POSTGRES_URL"], autocommit=True) as connection:
        connection.execute(f'alter database "{database}" set idle_session_timeout = 500'.encode())
    with store.dbt_turn():
        with psycopg.connect(settings["WEATHER_POSTGRES_URL"], autocommit=True) as connection:
            connection.execute(f'alter database "{database}" reset idle_session_timeout'.encode())
        second = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert second.stderr
        assert "another dbt is at work" in second.stderr.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(3)
        # Who only looks does not wait.
        command = [BIN / "weather-dbt", "debug", "--connection"]
        looked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert "Connection test: [OK connection ok]" in re.sub(r"\x1b\[\d*m", "", looked.stdout)
        assert looked.returncode == 0
    assert second.wait(120) == 0, second.stderr.read()


def test_the_password_is_in_no_file_and_in_no_table(settings: dict[str, str], password: str) -> None:
    files = [path for path in Path(settings["WEATHER_HOME"]).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if password.encode() in path.read_bytes()]
    with psycopg.connect(settings["WEATHER_POSTGRES_URL"]) as connection:
        tables = connection.execute(
            "select format('%I.%I', table_schema, table_name) from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert len(tables) > 30
        for (table,) in tables:
            found = connection.execute(
                f"select count(*) from {table} as told where told::text like %s".encode(), [f"%{password}%"]
            ).fetchall()
            assert found == [(0,)], table


@pytest.mark.parametrize("tables", ["", "create table event_logs (id int)"], ids=["none yet", "another's"])
def test_a_role_that_may_not_keep_dagsters_records_is_told_where_to(
    postgres_server: str, password: str, weather: Weather, tables: str
) -> None:
    role = f"lander_{password[:8]}"
    with psycopg.connect(postgres_server, autocommit=True) as server, fresh_database(postgres_server) as database:
        with psycopg.connect(database, autocommit=True) as owner:
            owner.execute(tables.encode())
        server.execute(f"create role {role} login password '{password}'".encode())
        try:
            own = with_parts(database, user=role, password=password)
            result = weather("dev", WEATHER_ENV="cluster", WEATHER_POSTGRES_URL=own)
        finally:
            server.execute(f"drop role {role}".encode())
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: '{role}' may not keep Dagster's records")
    assert "WEATHER_DAGSTER_STORAGE_URL" in error


@pytest.mark.parametrize("command", [("backup",), ("restore", "folder")])
def test_files_of_a_home_are_not_taken_for_the_backup_of_databases(command: tuple[str, ...], weather: Weather) -> None:
    result = weather(*command, WEATHER_ENV="cluster", WEATHER_POSTGRES_URL="postgresql://weather@127.0.0.1:1/weather")
    assert result.returncode == 1
    assert "pg_dump" in result.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "WEATHER_POSTGRES_URL is not set"),
        ({"WEATHER_DUCKDB_PATH": "warehouse.duckdb"}, "WEATHER_POSTGRES_URL is not set"),
        ({"WEATHER_POSTGRES_URL": "postgresql://weather:s3cret@127.0.0.1:1/weather"}, "127.0.0.1"),
        ({"WEATHER_POSTGRES_URL": "mysql://weather:s3cret@127.0.0.1/weather"}, "cannot be read"),
    ],
    ids=["no URL", "a DuckDB file", "nobody there", "another database"],
)
@pytest.mark.parametrize("command", [("backfill", "--from", "2026-11-01", "--to", "2026-11-01"), ("report",)])
def test_what_the_cluster_lacks_is_named(
    given: dict[str, str], told: str, command: tuple[str, ...], weather: Weather, tmp_path: Path
) -> None:
    result = weather(*command, WEATHER_ENV="cluster", WEATHER_HOME=str(tmp_path / "home"), **given)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error:")
    assert told in error
    assert "s3cret" not in result.stdout + result.stderr
    assert not list(tmp_path.rglob("*.duckdb"))
