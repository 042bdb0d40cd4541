"""What the ledger and the alert book stand on: one truth for all processes, on one machine and on a cluster."""

import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.cli import app
from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import Settings
from weather_dagster.state import Place, alerts_place, ledger_place
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster.weather_api.client import Inquiry
from weather_dagster.weather_api.ledger import open_ledger
from weather_dagster.weather_api.service import Limit, Service, Window
from weather_dagster_tests.postgres import with_parts
from weather_dagster_tests.state import plain_connection, text_of
from weather_dagster_tests.weather_api.provider_apps import provider_of

NOW = datetime(2026, 11, 25, 14, 10, tzinfo=UTC)
QUESTION = Inquiry("http://test/x", "/x", {}, "free")
ROOT = Path(__file__).parents[1]
PROCESSES, LIMIT = 3, 20

PROCESS = """
import sys
from datetime import timedelta

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.weather_api.ledger import open_ledger
from weather_dagster_tests.state import place_of
from weather_dagster_tests.test_state import LIMIT, NOW, QUESTION, service

place = place_of(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with open_ledger(service(place, LIMIT)) as ledger:
    for _ in range(LIMIT):
        print("call" if isinstance(ledger.admit(QUESTION, "r", lambda: NOW), str) else "pause")
with open_book(place) as book:
    for number in range(LIMIT):
        book.apply([Report("run x", NOW, (Problem("lyon", Severity.ERROR, "it broke"),), f"r{number}")], NOW)
        for message in book.compose([("t", None)], timedelta(hours=6), "", NOW):
            print(message.kind)
        for delivery in book.due("t", NOW, 10):
            print("sent" if book.claim(delivery, NOW) else "taken")
"""


def service(place: Place, limit: int) -> Service:
    """One that gives so many calls a day."""
    return provider_of(None, ledger=place, limits={"free": (Limit(limit, Window.DAY),)}).service


@pytest.mark.integration
def test_processes_that_begin_at_once_with_nothing_keep_a_limit_and_tell_people_once(place: Place) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, text_of(place)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    told = Counter(line for process in processes for line in process.communicate(timeout=60)[0].split())
    assert [process.returncode for process in processes] == [0] * PROCESSES
    taken = told.pop("taken", 0)
    assert told == {"call": LIMIT, "pause": (PROCESSES - 1) * LIMIT, "opened": 1, "sent": 1}
    assert taken < PROCESSES
    with open_book(place, read_only=True) as book:
        assert [alert.times for alert in book.alerts(open_only=True)] == [LIMIT]


def test_reading_what_is_not_there_reads_nothing_and_makes_nothing(place: Place) -> None:
    with open_ledger(service(place, 1), read_only=True) as ledger:
        assert [spent.left for spent in ledger.spent(NOW)] == [1]
        assert (ledger.outcomes(), ledger.block(NOW), ledger.last_success()) == ([], None, None)
        assert ledger.calls_to_copy().num_rows == 0
    with open_book(place, read_only=True) as book:
        assert (book.alerts(open_only=False), book.silences(NOW), book.deliveries()) == ([], [], {})
    if isinstance(place, Path):
        assert list(place.parent.iterdir()) == []
    else:
        with psycopg.connect(text_of(place)) as connection:
            rows = connection.execute("select nspname from pg_namespace where nspname like 'weather%'").fetchall()
        assert rows == []


def test_reading_what_is_there_reads_it_and_writes_nothing(place: Place) -> None:
    with open_ledger(service(place, 2)) as ledger:
        ledger.admit(QUESTION, "r", lambda: NOW)
    with open_ledger(service(place, 2), read_only=True) as ledger:
        assert [spent.left for spent in ledger.spent(NOW)] == [1]
        with pytest.raises(ConfigurationError, match=r"read-?only"):
            ledger.admit(QUESTION, "r", lambda: NOW)
        assert [spent.left for spent in ledger.spent(NOW)] == [1]


def test_a_table_that_a_newer_version_wants_is_made_beside_those_that_are_there(place: Place) -> None:
    with open_ledger(service(place, 2)) as ledger:
        ledger.admit(QUESTION, "r", lambda: NOW)
    with plain_connection(place) as connection:
        connection.execute("drop table forgotten_calls")
    with open_ledger(service(place, 2), read_only=True) as ledger:
        assert ledger.outcomes() == []
        assert [spent.left for spent in ledger.spent(NOW)] == [1]


def test_text_that_not_every_database_takes_is_kept(place: Place) -> None:
    with open_ledger(service(place, 1)) as ledger:
        ledger.open_block(NOW + timedelta(hours=1), "wait\0, please")
        block = ledger.block(NOW)
    assert block
    assert block.reason == "wait\N{REPLACEMENT CHARACTER}, please"
    with open_book(place) as book:
        book.apply([Report("run x", NOW, (Problem("lyon", Severity.WARN, "\0"),), muted_by=("\0",))], NOW)
        (alert,) = book.alerts(open_only=True)
    assert (alert.text, alert.muted_by) == ("\N{REPLACEMENT CHARACTER}", ("\0",))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"password": "5e1ec7ed"}, "password for 'postgres' is wrong"),
        ({"password": "5e1ec7ed", "port": 1}, "nothing answers"),
        ({"dbname": "nowhere"}, "no database 'nowhere'"),
    ],
    ids=["password", "port", "database"],
)
def test_a_postgres_that_cannot_be_used_is_named_without_its_password(
    parts: dict[str, str | int], told: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weather_dagster.state.LOCK_SECONDS", 0.1)
    place = SecretStr(with_parts(postgres_url, **parts))
    secrets = ("5e1ec7ed", "correct horse", "correct%20horse")
    for opening in (open_ledger(service(place, 1)), open_book(place), open_book(place, read_only=True)):
        with pytest.raises(ConfigurationError, match=told) as raised, opening:
            pass
        assert "WEATHER_POSTGRES_URL" in str(raised.value)
        assert not any(secret in repr(raised.value) for secret in secrets)
    assert not any(secret in repr(service(place, 1)) for secret in secrets)


def test_a_role_that_may_not_make_the_schema_is_told_so_and_one_that_may_only_read_reads(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("drop role if exists state_reader")
        owner.execute("create role state_reader login password 'reader'")
    place = SecretStr(with_parts(postgres_url, user="state_reader", password="reader"))
    try:
        with pytest.raises(ConfigurationError, match=r"weather_state.*permission denied"), open_book(place):
            pass
        with open_book(SecretStr(postgres_url)) as book:
            book.apply([Report("run x", NOW, (Problem("lyon", Severity.WARN, "bad"),))], NOW)
        with psycopg.connect(postgres_url, autocommit=True) as owner:
            owner.execute("grant usage on schema weather_state to state_reader")
            owner.execute("grant select on all tables in schema weather_state to state_reader")
        with open_book(place, read_only=True) as book:
            assert len(book.alerts(open_only=True)) == 1
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as owner:
            owner.execute("drop owned by state_reader")
            owner.execute("drop role state_reader")


def test_a_connection_that_was_lost_is_told_of_once_and_made_again(postgres_url: str) -> None:
    place = SecretStr(postgres_url)

    def lose_connections() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )

    with open_ledger(service(place, 3)) as ledger:
        call = str(ledger.admit(QUESTION, "r", lambda: NOW))
        lose_connections()
        with pytest.raises(ConfigurationError, match=r"the ledger of calls cannot be kept.*terminat"):
            ledger.close_call(call, "ok", 200, 0.1)
        ledger.close_call(call, "ok", 200, 0.1)
        lose_connections()
        with pytest.raises(ConfigurationError, match=r"the ledger of calls cannot be kept.*terminat"):
            ledger.admit(QUESTION, "r", lambda: NOW)
        ledger.admit(QUESTION, "r", lambda: NOW)
        assert [spent.left for spent in ledger.spent(NOW)] == [1]


def test_the_writer_goes_on_with_what_an_administrator_began(postgres_url: str) -> None:
    with open_ledger(service(SecretStr(postgres_url), 3)) as ledger:
        ledger.admit(QUESTION, "r", lambda: NOW)
    with PostgresStore(SecretStr(postgres_url)).open() as warehouse:
        warehouse.make_roles()
    with plain_connection(SecretStr(postgres_url)) as administrator:
        administrator.execute("alter role weather_writer password 'secret'")
        administrator.execute("drop table forgotten_calls")
    place = SecretStr(with_parts(postgres_url, user="weather_writer", password="secret"))
    with open_ledger(service(place, 3)) as ledger:
        ledger.admit(QUESTION, "r", lambda: NOW)
        assert [spent.left for spent in ledger.spent(NOW)] == [1]
        assert ledger.outcomes() == []


def test_a_machine_keeps_its_state_in_the_home_and_pods_share_a_postgres(tmp_path: Path) -> None:
    def settings(**more: object) -> Settings:
        return Settings(_env_file=None, weather_home=tmp_path, weather_provider="simulator", **more)

    assert ledger_place(settings()) == tmp_path / "simulator" / "ledger.sqlite"
    assert alerts_place(settings()) == tmp_path / "simulator" / "alerts.sqlite"
    url = SecretStr("postgresql://u:p@h/d")
    shared = settings(weather_env="cluster", weather_postgres_url=url)
    assert ledger_place(shared) == alerts_place(shared) == url
    with pytest.raises(ConfigurationError, match="WEATHER_POSTGRES_URL"):
        alerts_place(settings(weather_env="cluster"))


@pytest.mark.parametrize(
    "command", [["status"], ["metrics"], ["alerts", "list"], ["budget"], ["doctor"]], ids=lambda command: command[0]
)
def test_a_command_that_only_looks_makes_no_file(command: list[str], clean_environment: Path) -> None:
    result = CliRunner().invoke(app, command, env={"WEATHER_HOME": str(clean_environment / "home")})
    assert result.output
    assert [path for path in clean_environment.rglob("*") if path.is_file()] == []
