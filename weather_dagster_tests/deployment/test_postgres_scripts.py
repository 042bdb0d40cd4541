"""The scripts in the manifests do what they say, on a real Postgres of the version that they name."""

import subprocess
from pathlib import Path

import pytest

from weather_dagster_tests.deployment.conftest import BINARIES, PASSWORDS, Postgres, script
from weather_dagster_tests.deployment.guards import images
from weather_dagster_tests.deployment.rendering import stack

pytestmark = pytest.mark.integration


def test_the_server_of_the_tests_is_of_the_version_on_the_cluster(postgres: Postgres) -> None:
    told = postgres.sql("dagster", "dagster", "show server_version").stdout.strip()
    (tag,) = {image.rpartition(":")[2] for image in images(stack("kind")) if "postgres" in image}
    assert told.split(".")[0] == tag.split(".")[0]


def test_each_role_opens_its_own_database_and_no_other(postgres: Postgres) -> None:
    for user in PASSWORDS:
        for database in ("weather", "dagster", "postgres"):
            is_own = database == ("dagster" if user == "dagster" else "weather")
            answer = postgres.sql(user, database, "select 1")
            assert (answer.returncode == 0) == is_own, (user, database, answer.stderr)


def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    url = postgres.url("weather_owner", "weather").replace(PASSWORDS["weather_owner"], PASSWORDS["weather_writer"])
    answer = subprocess.run(
        [BINARIES / "psql", "--command", "select 1", url], capture_output=True, text=True, check=False
    )
    assert "password authentication failed" in answer.stderr


def test_only_the_owner_makes_schemas(postgres: Postgres) -> None:
    assert postgres.sql("weather_owner", "weather", "create schema if not exists probe").returncode == 0
    for user in ("weather_writer", "weather_reader"):
        answer = postgres.sql(user, "weather", f"create schema {user}_probe")
        assert "permission denied" in answer.stderr


def test_a_backup_brings_back_what_was_there(postgres: Postgres, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    left_over = backups / "warehouse-2026-01-01T0237Z.dump.part"
    left_over.write_bytes(b"half")
    assert postgres.sql("weather_owner", "weather", "create schema if not exists probe").returncode == 0
    assert (
        postgres.sql("weather_owner", "weather", "grant usage, create on schema probe to weather_writer").returncode
        == 0
    )
    # dbt's tables belong to the writer; the owner dumps them.
    made = postgres.sql(
        "weather_writer", "weather", "create table probe.hours as select generate_series(1, 1000) as hour"
    )
    assert made.returncode == 0, made.stderr
    done = postgres.run(
        script("backup", "weather-backup", "backup.sh"),
        tmp_path,
        BACKUP_DIR=str(backups),
        KEEP_DAYS="14",
        WAREHOUSE_URL=postgres.url("weather_owner", "weather"),
        POSTGRES_HOST=str(postgres.socket),
        PGPASSWORD=PASSWORDS["dagster"],
    )
    assert done.returncode == 0, done.stderr
    assert not left_over.exists()
    assert [len(list(backups.glob(f"{name}-*.dump"))) for name in ("warehouse", "dagster")] == [1, 1]
    assert postgres.sql("weather_writer", "weather", "drop table probe.hours").returncode == 0
    restored = postgres.run(
        script("backup", "weather-backup", "restore.sh"),
        tmp_path,
        BACKUP_DIR=str(backups),
        AT="",
        POSTGRES_HOST=str(postgres.socket),
        WAREHOUSE_URL=postgres.secret("weather_owner"),
    )
    assert restored.returncode == 0, restored.stderr
    assert postgres.sql("weather_writer", "weather", "select sum(hour) from probe.hours").stdout.strip() == "500500"
    # The writer can go on.
    assert postgres.sql("weather_writer", "weather", "insert into probe.hours values (1001)").returncode == 0


def test_a_backup_that_fails_leaves_the_old_ones_and_no_new_one(postgres: Postgres, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    old = backups / "warehouse-2026-01-01T0237Z.dump"
    old.write_bytes(b"kept")
    done = postgres.run(
        script("backup", "weather-backup", "backup.sh"),
        tmp_path,
        BACKUP_DIR=str(backups),
        KEEP_DAYS="0",
        WAREHOUSE_URL=postgres.url("weather_reader", "weather").replace(PASSWORDS["weather_reader"], "wrong"),
        POSTGRES_HOST=str(postgres.socket),
        PGPASSWORD=PASSWORDS["dagster"],
    )
    assert done.returncode != 0
    assert [path.name for path in backups.glob("*.dump")] == [old.name]
