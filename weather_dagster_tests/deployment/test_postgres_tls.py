"""In production every way to Postgres verifies who answers: the URLs and values of the repository, on a real Postgres.

The server of the tests is built without TLS, so a door of our own stands before it: it speaks TLS with a certificate as
CloudNativePG makes one, and hands on what is said.
"""

import select
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import yaml
from pydantic import SecretStr

if sys.platform != "linux":
    pytest.skip("certificates are made by OpenSSL 3, which Linux has", allow_module_level=True)

from weather_dagster.errors import WarehouseError
from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.conftest import BIN, Weather, without_settings
from weather_dagster_tests.deployment.conftest import HOST, PASSWORDS, Postgres, platform_postgres
from weather_dagster_tests.deployment.rendering import (
    PROJECT,
    instance_config,
    manifests,
    name_of,
    own_values,
    with_defaults,
)

pytestmark = pytest.mark.integration

MOUNTED = "/var/run/secrets/postgres"
SSL_REQUEST = struct.pack("!II", 8, 80877103)
"""What a client begins with; else it asks for Kerberos, which nobody has here."""


@dataclass(frozen=True)
class Door:
    """A port that leads to Postgres by TLS, and the folder with the certificate that pods have."""

    port: int
    folder: Path


def certificates(folder: Path, name: str) -> Path:
    """An authority, and a server's certificate that it has signed for ``name``; the authority's is ``ca.crt``."""
    folder.mkdir()
    new = "openssl req -x509 -newkey rsa:2048 -nodes -days 1"
    signed = f"-CA ca.crt -CAkey ca.key -subj /CN={name} -addext subjectAltName=DNS:{name}"
    for line in (
        f"{new} -subj /CN=authority -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.crt",
        f"{new} {signed} -keyout tls.key -out tls.crt",
    ):
        subprocess.run(line.split(), cwd=folder, capture_output=True, check=True)
    return folder


@contextmanager
def door(postgres: Postgres, served: Path, trusted: Path) -> Iterator[Door]:
    """A door with the certificate of ``served``, for clients with the authority of ``trusted``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served / "tls.crt", served / "tls.key")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(8) != SSL_REQUEST:
                self.request.sendall(b"N")
            self.request.sendall(b"S")
            try:
                inside = context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, ConnectionError):
                # The client has not liked what it saw.
                return
            with inside, socket.create_connection((HOST, postgres.port)) as server:
                while True:
                    for ready in [inside] if inside.pending() else select.select([inside, server], [], [])[0]:
                        said = ready.recv(65536)
                        if not said:
                            return
                        (server if ready is inside else inside).sendall(said)

    with socketserver.ThreadingTCPServer((HOST, 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield Door(listening.server_address[1], trusted)
        listening.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with platform_postgres(tmp_path_factory.mktemp("postgres")) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("certificates") / "ours", "weather-postgres-rw")


def urls(way: Door) -> dict[str, str]:
    """The URLs of production by Secret, by this door and with the certificate in its folder."""
    found = {}
    for thing in manifests("production"):
        template = thing["spec"]["target"].get("template", {}) if thing["kind"] == "ExternalSecret" else {}
        if url := template.get("data", {}).get("url"):
            password = PASSWORDS[template["data"]["username"]]
            url = url.replace("{{ .password | urlquery }}", password).replace(":5432/", f":{way.port}/")
            found[name_of(thing)] = url.replace(MOUNTED, str(way.folder))
    return found


HERE = {"PGHOSTADDR": HOST}
"""The name is a Service's; its address is here."""
COMMANDS = {
    "weather-warehouse-owner": "warehouse migrate",
    "weather-postgres": "warehouse roles",
    "weather-warehouse": "ingest --from HOUR --to HOUR --place quito",
}
"""What pods run of `weather`, by the Secret that they have."""


def processes(way: Door, folder: Path) -> dict[str, str]:
    """What dbt and Dagster in the pods say when they cannot connect; nothing when they can."""
    settings = {**HERE, "WEATHER_ENV": "cluster", "WEATHER_HOME": str(folder)}
    store = PostgresStore(SecretStr(urls(way)["weather-warehouse"]))
    said = {}
    done = subprocess.run(
        [BIN / "dbt", "debug", "--connection", "--target", "postgres", "--profiles-dir", ".", "--log-path", folder],
        cwd=PROJECT / "weather_dbt", env={**without_settings(), **settings, **store.dbt_environment()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said["dbt"] = done.stdout if done.returncode else ""
    values = with_defaults(own_values("production"))
    values["postgresql"]["service"]["port"] = way.port
    config = yaml.safe_dump(instance_config(values)).replace(MOUNTED, str(way.folder))
    (folder / "dagster.yaml").write_text(config, encoding="utf-8")
    own = {"DAGSTER_HOME": str(folder), "DAGSTER_PG_PASSWORD": PASSWORDS["dagster"]}
    done = subprocess.run(
        [sys.executable, "-c", "import dagster; print(dagster.DagsterInstance.get().get_runs_count())"],
        env={**without_settings(), **settings, **own}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said["dagster"] = done.stderr if done.returncode else ""
    return said


def opening(url: str) -> str:
    """What any command of `weather` says when it cannot connect; nothing when it can."""
    try:
        PostgresStore(SecretStr(url)).exists()
    except WarehouseError as error:
        return str(error)
    return ""


CLIENTS = (*COMMANDS, "dbt", "dagster")


def test_every_client_connects_to_the_server_of_that_name(
    server: Postgres, authority: Path, weather: Weather, tmp_path: Path
) -> None:
    hour = format_hour(floor_hour(utc_now()))
    settings = {**HERE, "WEATHER_ENV": "cluster", "WEATHER_HOME": str(tmp_path)}
    with door(server, authority, authority) as way:
        told = urls(way)
        for secret, line in COMMANDS.items():
            done = weather(*line.replace("HOUR", hour).split(), **settings, WEATHER_POSTGRES_URL=told[secret])
            assert done.returncode == 0, done.stderr
        assert processes(way, tmp_path) == {"dbt": "", "dagster": ""}


@pytest.mark.parametrize(
    ("name", "is_ours", "refusal"),
    [
        ("weather-postgres-r", True, "does not match host name"),
        ("weather-postgres-rw", False, "certificate verify failed"),
    ],
)
def test_every_client_refuses_another_server(
    name: str,
    is_ours: bool,
    refusal: str,
    server: Postgres,
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in HERE.items():
        monkeypatch.setenv(variable, value)
    other = certificates(tmp_path / "other", name)
    with door(server, other, other if is_ours else authority) as way:
        told = urls(way)
        said = {**{secret: opening(told[secret]) for secret in COMMANDS}, **processes(way, tmp_path)}
        assert [client for client in CLIENTS if refusal not in said[client]] == [], said
        # It is the URL that makes them look.
        without = {secret: f"{told[secret].partition('?')[0]}?sslmode=require" for secret in COMMANDS}
        assert {secret: opening(url) for secret, url in without.items()} == dict.fromkeys(COMMANDS, "")
        with psycopg.connect(without["weather-warehouse"]) as connection:
            assert connection.pgconn.ssl_in_use
