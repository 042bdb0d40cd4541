"""The scripts in the manifests do what they say, on a real Postgres of the version that they name."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster_tests.conftest import Weather
from weather_dagster_tests.deployment.conftest import (
    BINARIES,
    PASSWORDS,
    Postgres,
    bare_postgres,
    platform_postgres,
    script,
)
from weather_dagster_tests.deployment.guards import images
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
    PROJECT,
    Object,
    containers,
    documents,
    manifests,
    stack,
)

pytestmark = pytest.mark.integration


def test_the_server_of_the_tests_is_of_the_version_on_the_cluster(postgres: Postgres) -> None:
    told = postgres.sql("dagster", "dagster", "show server_version").stdout.strip()
    (tag,) = {image.rpartition(":")[2] for image in images(stack("kind")) if "postgres" in image}
    assert told.split(".")[0] == tag.split(".")[0]


ROLES = PASSWORDS.keys() - {"postgres"}
OWN = {(user, "dagster" if user == "dagster" else "weather") for user in ROLES}


def opened(postgres: Postgres) -> set[tuple[str, str]]:
    """Which role may connect to which database."""
    databases = ("weather", "dagster", "postgres", "template1")
    return {
        (user, database)
        for user in ROLES
        for database in databases
        if postgres.sql(user, database, "select 1").returncode == 0
    }


def test_each_role_opens_its_own_database_and_no_other(postgres: Postgres) -> None:
    assert opened(postgres) == OWN


def test_a_database_that_is_open_to_all_is_found(postgres: Postgres) -> None:
    assert postgres.sql("postgres", "postgres", "grant connect on database dagster to public").returncode == 0
    try:
        assert opened(postgres) == OWN | {(user, "dagster") for user in ROLES}
    finally:
        assert postgres.sql("postgres", "postgres", "revoke connect on database dagster from public").returncode == 0


def cluster_of_production() -> Object:
    """What CloudNativePG is told of the server."""
    clusters = [thing for thing in manifests("production") if thing["kind"] == "Cluster"]
    if not clusters:
        pytest.skip("Postgres is a managed one")
    spec: Object = clusters[0]["spec"]
    if "initdb" not in spec["bootstrap"]:
        pytest.skip("the server begins with the archive of another")
    return spec


@contextmanager
def production_postgres(spec: Object) -> Iterator[Postgres]:
    """A server with what CloudNativePG makes in it at first, in its order, by the statements of ``spec``."""
    told = spec["bootstrap"]["initdb"]
    with bare_postgres() as postgres:

        def say(database: str, statement: str) -> None:
            said = postgres.sql("postgres", database, statement)
            assert said.returncode == 0, said.stderr

        say("postgres", f"create role {told['owner']} login")
        for statement in told["postInitSQL"]:
            say("postgres", statement)
        say("postgres", f"create database {told['database']} owner {told['owner']}")
        for statement in told["postInitApplicationSQL"]:
            say(told["database"], statement)
        known = postgres.sql("postgres", "postgres", "select rolname from pg_roles").stdout.split()
        for role in spec["managed"]["roles"]:
            if role["name"] not in known:
                say("postgres", f"create role {role['name']}")
        for role in spec["managed"]["roles"]:
            say("postgres", f"alter role {role['name']} login password '{PASSWORDS[role['name']]}'")
            for group in role.get("inRoles", []):
                say("postgres", f"grant {group} to {role['name']}")
        yield postgres


def test_in_production_too_each_role_opens_its_own_database(weather: Weather, tmp_path: Path) -> None:
    with production_postgres(cluster_of_production()) as postgres:
        migrate(postgres, weather, tmp_path)
        # CloudNativePG's own database stays open: its replicas come back through it.
        assert opened(postgres) == OWN | {(user, "postgres") for user in ROLES}
        # What Dagster does first.
        assert postgres.sql("dagster", "dagster", "create table runs (id int)").returncode == 0
        # As Postgres leaves it where nothing is revoked.
        assert postgres.sql("postgres", "postgres", "grant connect on database dagster to public").returncode == 0
        assert ("weather_reader", "dagster") in opened(postgres)


def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    url = postgres.url("weather_owner").replace(PASSWORDS["weather_owner"], PASSWORDS["weather_writer"])
    answer = subprocess.run(
        [BINARIES / "psql", "--command", "select 1", url], capture_output=True, text=True, check=False
    )
    assert "password authentication failed" in answer.stderr


def test_only_the_owner_makes_schemas(postgres: Postgres) -> None:
    assert postgres.sql("weather_owner", "weather", "create schema if not exists probe").returncode == 0
    for user in ("weather_writer", "weather_reader"):
        answer = postgres.sql(user, "weather", f"create schema {user}_probe")
        assert "permission denied" in answer.stderr


def back_up(
    postgres: Postgres, folder: Path, backups: Path, *, url: str | None = None, keep_days: int = 14
) -> subprocess.CompletedProcess[str]:
    """As the CronJob does it."""
    return postgres.run(
        script("backup", "weather-backup", "backup.sh"),
        folder,
        BACKUP_DIR=str(backups),
        KEEP_DAYS=str(keep_days),
        WAREHOUSE_URL=url or postgres.url("weather_owner"),
        PGPASSWORD=PASSWORDS["dagster"],
    )


def restoring(postgres: Postgres, folder: Path, backups: Path) -> subprocess.Popen[str]:
    """The restore, which goes on by itself."""
    told = script("backup", "weather-backup", "restore.sh")
    return postgres.started(told, folder, BACKUP_DIR=str(backups), AT="", PGPASSWORD=PASSWORDS["postgres"])


def restore(postgres: Postgres, folder: Path, backups: Path, at: str = "") -> subprocess.CompletedProcess[str]:
    """As the Job does it."""
    return postgres.run(
        script("backup", "weather-backup", "restore.sh"),
        folder,
        BACKUP_DIR=str(backups),
        AT=at,
        PGPASSWORD=PASSWORDS["postgres"],
    )


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
    done = back_up(postgres, tmp_path, backups)
    assert done.returncode == 0, done.stderr
    assert not left_over.exists()
    assert [len(list(backups.glob(f"{name}-*.dump"))) for name in ("warehouse", "dagster")] == [1, 1]
    assert postgres.sql("weather_writer", "weather", "drop table probe.hours").returncode == 0
    restored = restore(postgres, tmp_path, backups)
    assert restored.returncode == 0, restored.stderr
    assert postgres.sql("weather_writer", "weather", "select sum(hour) from probe.hours").stdout.strip() == "500500"
    # The writer can go on.
    assert postgres.sql("weather_writer", "weather", "insert into probe.hours values (1001)").returncode == 0


def databases(postgres: Postgres) -> list[str]:
    """Names and identities of all databases."""
    told = postgres.sql("postgres", "postgres", "select datname, oid from pg_database order by 1")
    assert told.returncode == 0, told.stderr
    return told.stdout.split()


def two_nights(postgres: Postgres, folder: Path) -> tuple[Path, str, str]:
    """A folder of backups of an older and a newer night, which are one in content."""
    # What a restore keeps is named after the second, and another test's may be of this one.
    kept = postgres.sql("postgres", "postgres", "select datname from pg_database where datname like '%_before_%'")
    for name in kept.stdout.split():
        assert postgres.sql("postgres", "postgres", f"drop database {name}").returncode == 0
    backups = folder / "backups"
    backups.mkdir()
    done = back_up(postgres, folder, backups)
    assert done.returncode == 0, done.stderr
    (newer,) = (path.stem.removeprefix("dagster-") for path in backups.glob("dagster-*.dump"))
    older = "2026-01-01T0237Z"
    for name in ("warehouse", "dagster"):
        shutil.copy(backups / f"{name}-{newer}.dump", backups / f"{name}-{older}.dump")
    return backups, older, newer


@pytest.mark.parametrize("at", ["2026-01-01T0237", "2026-01-02T0237Z"])
def test_a_night_that_there_is_not_leaves_both_databases_as_they_are(
    postgres: Postgres, tmp_path: Path, at: str
) -> None:
    backups, older, _ = two_nights(postgres, tmp_path)
    before = databases(postgres)
    done = restore(postgres, tmp_path, backups, at)
    assert done.returncode != 0
    assert f"Nothing is restored, for want of {backups}/warehouse-{at}.dump" in done.stderr
    assert f"dagster-{older}.dump" in done.stderr
    assert databases(postgres) == before


def test_half_a_night_is_refused_and_the_newest_whole_one_is_taken(postgres: Postgres, tmp_path: Path) -> None:
    backups, older, newer = two_nights(postgres, tmp_path)
    (backups / f"dagster-{newer}.dump").unlink()
    before = databases(postgres)
    done = restore(postgres, tmp_path, backups, newer)
    assert done.returncode != 0
    assert databases(postgres) == before
    done = restore(postgres, tmp_path, backups)
    assert done.returncode == 0, done.stderr
    assert f"weather and dagster are those of {older}" in done.stdout
    (backups / f"warehouse-{older}.dump").unlink()
    before = databases(postgres)
    assert restore(postgres, tmp_path, backups).returncode != 0
    assert databases(postgres) == before


def test_a_dump_that_cannot_be_read_to_its_end_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    backups, _, newer = two_nights(postgres, tmp_path)
    dump = backups / f"dagster-{newer}.dump"
    dump.write_bytes(dump.read_bytes()[:-100])
    before = databases(postgres)
    done = restore(postgres, tmp_path, backups, newer)
    assert done.returncode != 0
    assert f"for want of {dump}" in done.stderr
    assert databases(postgres) == before


def test_nothing_is_restored_while_someone_is_connected(postgres: Postgres, tmp_path: Path) -> None:
    backups, _, newer = two_nights(postgres, tmp_path)
    before = databases(postgres)
    with psycopg.connect(postgres.url("dagster", "dagster")):
        done = restore(postgres, tmp_path, backups, newer)
        assert done.returncode != 0
        assert "is being accessed by other users" in done.stderr
        assert databases(postgres) == before
    done = restore(postgres, tmp_path, backups, newer)
    assert done.returncode == 0, done.stderr


def test_a_restore_that_fails_on_its_way_puts_both_databases_back(postgres: Postgres, tmp_path: Path) -> None:
    # A dump that wants a role which is gone.
    assert postgres.sql("postgres", "postgres", "create role passing").returncode == 0
    assert postgres.sql("dagster", "dagster", "create table kept as select 1 as id").returncode == 0
    assert postgres.sql("dagster", "dagster", "grant select on kept to passing").returncode == 0
    backups, _, newer = two_nights(postgres, tmp_path)
    assert postgres.sql("postgres", "dagster", "drop owned by passing; drop role passing").returncode == 0
    before = databases(postgres)
    done = restore(postgres, tmp_path, backups, newer)
    assert done.returncode != 0
    assert 'role "passing" does not exist' in done.stderr
    assert "Both databases are as they were." in done.stderr
    assert databases(postgres) == before
    assert postgres.sql("dagster", "dagster", "drop table kept").returncode == 0


def test_a_restore_that_is_stopped_on_its_way_puts_both_databases_back(postgres: Postgres, tmp_path: Path) -> None:
    # A view that is made at once, and takes minutes when it comes back.
    slow = "create table pace as select 0 as seconds"
    slow += "; create materialized view slow as select pg_sleep(seconds)::text from pace; update pace set seconds = 300"
    assert postgres.sql("dagster", "dagster", slow).returncode == 0
    backups, _, _ = two_nights(postgres, tmp_path)
    before = databases(postgres)
    with restoring(postgres, tmp_path, backups) as stopped:
        asked = "select count(*) from pg_stat_activity where query like '%REFRESH MATERIALIZED VIEW public.slow%'"
        asked += " and wait_event = 'PgSleep'"
        within(60, lambda: postgres.sql("postgres", "postgres", asked).stdout.strip() == "1")
        assert databases(postgres) != before
        stopped.terminate()
        _, said = stopped.communicate(timeout=30)
    assert stopped.returncode == 1
    assert "Both databases are as they were." in said
    assert databases(postgres) == before
    assert postgres.sql("dagster", "dagster", "drop materialized view slow; drop table pace").returncode == 0


def within(seconds: float, holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_backup_that_fails_leaves_the_old_ones_and_no_new_one(postgres: Postgres, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    old = backups / "warehouse-2026-01-01T0237Z.dump"
    old.write_bytes(b"kept")
    url = postgres.url("weather_reader").replace(PASSWORDS["weather_reader"], "wrong")
    done = back_up(postgres, tmp_path, backups, url=url, keep_days=0)
    assert done.returncode != 0
    assert [path.name for path in backups.glob("*.dump")] == [old.name]


def migrate(postgres: Postgres, weather: Weather, home: Path) -> None:
    """What the migration Job does, container after container."""
    (job,) = documents(MANIFESTS / "jobs" / "migrate.yaml")
    secrets = {
        ("weather-warehouse-owner", "url"): postgres.url("weather_owner"),
        ("weather-postgres", "url"): postgres.url("postgres"),
    }
    for container in containers(job["spec"]["template"]):
        environment = {"WEATHER_HOME": str(home)}
        for entry in container["env"]:
            reference = entry.get("valueFrom", {}).get("secretKeyRef", {})
            value = entry.get("value") or secrets[reference["name"], reference["key"]]
            environment.setdefault(entry["name"], value)
        program, *arguments = container["command"]
        assert program == "weather"
        done = weather(*arguments, **environment)
        assert done.returncode == 0, done.stderr


def test_the_migration_job_makes_the_schema_and_gives_the_roles_their_rights(
    postgres: Postgres, weather: Weather, tmp_path: Path
) -> None:
    # As each upgrade does it.
    for _ in range(2):
        migrate(postgres, weather, tmp_path)
    hour = format_hour(floor_hour(utc_now()))
    landed = weather(
        *("ingest", "--from", hour, "--to", hour, "--place", "quito"),
        WEATHER_ENV="cluster",
        WEATHER_HOME=str(tmp_path),
        WEATHER_POSTGRES_URL=postgres.url("weather_writer"),
    )
    assert landed.returncode == 0, landed.stderr
    assert postgres.sql("weather_writer", "weather", "create table gold.shown as select 1 as hour").returncode == 0
    require_rights(postgres)
    assert opened(postgres) == OWN
    # A restore brings the rights back too.
    backups = tmp_path / "backups"
    backups.mkdir()
    for done in (back_up(postgres, tmp_path, backups), restore(postgres, tmp_path, backups)):
        assert done.returncode == 0, done.stderr
    require_rights(postgres)
    assert opened(postgres) == OWN


def test_the_way_to_another_server_brings_rows_and_rights(weather: Weather, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("kind", "production")]
    for folder in folders:
        folder.mkdir()
    with platform_postgres(folders[0]) as here, platform_postgres(folders[1]) as there:
        cluster = {"WEATHER_ENV": "cluster", "WEATHER_HOME": str(tmp_path)}
        for server in (here, there):
            for command, user in (("migrate", "weather_owner"), ("roles", "postgres")):
                done = weather("warehouse", command, WEATHER_POSTGRES_URL=server.url(user), **cluster)
                assert done.returncode == 0, done.stderr
        hour = format_hour(floor_hour(utc_now()))
        line = ("ingest", "--from", hour, "--to", hour, "--place", "quito")
        landed = weather(*line, WEATHER_POSTGRES_URL=here.url("weather_writer"), **cluster)
        assert landed.returncode == 0, landed.stderr
        assert here.sql("weather_writer", "weather", "create table gold.shown as select 1 as hour").returncode == 0
        document = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
        told = "\n".join(re.findall(r"^pg_(?:dump|restore) .*", document, re.MULTILINE))
        for said, server in (("$(url kind-weather 5432)", here), ("$(url prod 5433)", there)):
            assert said in told
            told = told.replace(said, server.url("postgres"))
        moved = here.run(f"set -eu\ncd {tmp_path}\n{told}", tmp_path)
        assert moved.returncode == 0, moved.stderr
        require_rights(there)


def require_rights(postgres: Postgres) -> None:
    """Bronze is the owner's, filled by the writer; gold is the writer's, and read by the reader."""
    counted = "select count(*) from bronze.observations"
    assert postgres.sql("weather_writer", "weather", counted).stdout.strip() == "1"
    for refused in ("drop table bronze.observations", "create table bronze.more (id int)"):
        assert postgres.sql("weather_writer", "weather", refused).returncode != 0, refused
    assert postgres.sql("weather_writer", "weather", "insert into gold.shown values (1)").returncode == 0
    assert postgres.sql("weather_reader", "weather", "select max(hour) from gold.shown").stdout.strip() == "1"
    for refused in (counted, "insert into gold.shown values (2)"):
        assert postgres.sql("weather_reader", "weather", refused).returncode != 0, refused
