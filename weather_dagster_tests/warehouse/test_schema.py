"""Versions of the bronze schema, on real stores: from every earlier one, with data in it, to the newest."""

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.warehouse import duckdb as duckdb_module
from weather_dagster.warehouse import postgres as postgres_module
from weather_dagster.warehouse import schema
from weather_dagster.warehouse.base import Landed, Store
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster.warehouse.postgres import PostgresStore
from weather_dagster_tests.conftest import without_settings
from weather_dagster_tests.warehouse.test_duckdb import DAY, land, observation, rejection

LATER = {
    "0002_stations.sql": "; ".join(
        f"alter table bronze.{table} add column station {{text}}"
        for table in ("observations", "locations", "quarantine", "loads")
    ),
    "0003_notes.sql": "create table bronze.notes (note {text}); "
    "insert into bronze.notes select name from bronze.locations",
}
"""Migrations that a later program might bring."""


@pytest.fixture
def later(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Later":
    return Later(store, tmp_path / "migrations", monkeypatch)


class Later:
    """Programs with more migrations than ours has."""

    def __init__(self, store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        is_duckdb = isinstance(store, DuckDBStore)
        self.engine, self._module = ("duckdb", duckdb_module) if is_duckdb else ("postgres", postgres_module)
        self._folder, self._monkeypatch = folder, monkeypatch
        shutil.copytree(schema.FOLDER / self.engine, folder / self.engine)

    def add(self, name: str, sql: str) -> None:
        """One more migration."""
        text = "varchar" if self.engine == "duckdb" else "text"
        (self._folder / self.engine / name).write_text(sql.format(text=text), encoding="utf-8")
        self._monkeypatch.setattr(self._module, "MIGRATIONS", schema.migrations(self.engine, self._folder))

    def undo(self) -> None:
        """Back to the program of today."""
        self._monkeypatch.undo()


ROWS = [observation(hour, 10.0) for hour in DAY]


@pytest.mark.parametrize("steps", [1, 2], ids=["one by one", "both at once"])
def test_a_store_with_data_is_upgraded_step_by_step(store: Store, later: Later, steps: int) -> None:
    with store.open() as opened:
        land(opened, ROWS, rejections=(rejection(),))
    names = list(LATER)
    for first in range(0, 2, steps):
        for name in names[first : first + steps]:
            later.add(name, LATER[name])
        with store.open() as opened:
            assert land(opened, ROWS[:-1], rejections=(rejection(),)) == Landed(None, 0, 0), "all is there as it was"
            assert land(opened, [observation(DAY.last, 11.0 + first)], rejections=(rejection(str(first)),)).rows_added
    with store.open() as opened:
        # A partition that is made now is as its table.
        next_month = DAY.first + 40 * 24 * HOUR
        later_rows = [observation(next_month, 10.0)]
        assert land(opened, later_rows, hours=HourRange(next_month, next_month)).rows_added == 1
    with store.open(read_only=True) as opened:
        assert opened.query("select version, name from bronze.schema_versions order by version") == [
            (1, "bronze"),
            (2, "stations"),
            (3, "notes"),
        ]
        assert opened.query("select count(station), count(*) > 0 from bronze.locations") == [(0, True)]
        assert opened.query("select (select count(*) from bronze.notes) = count(*) from bronze.locations") == [(True,)]


def test_an_upgrade_that_fails_leaves_the_store_as_it_was(store: Store, later: Later) -> None:
    with store.open() as opened:
        land(opened, ROWS)
    later.add("0002_stations.sql", LATER["0002_stations.sql"])
    later.add("0003_broken.sql", "select 1 from bronze.nowhere")
    with pytest.raises(Exception, match="nowhere"), store.open():
        pass
    later.undo()
    with store.open() as opened:
        assert opened.query("select max(version) from bronze.schema_versions") == [(1,)]
        assert land(opened, ROWS) == Landed(None, 0, 0)


def test_a_store_that_a_newer_program_upgraded_is_refused(store: Store, later: Later) -> None:
    later.add("0002_stations.sql", LATER["0002_stations.sql"])
    with store.open():
        pass
    later.undo()
    for read_only in (False, True):
        with (
            pytest.raises(
                WarehouseError, match=r"has version 2 of the bronze schema, and this program knows 1 .*update"
            ),
            store.open(read_only=read_only),
        ):
            pass


def test_a_reader_does_not_read_the_tables_of_an_older_program(store: Store, later: Later) -> None:
    with store.open():
        pass
    later.add("0002_stations.sql", LATER["0002_stations.sql"])
    with (
        pytest.raises(WarehouseError, match=r"has version 1 .* reads version 2; `weather warehouse migrate` upgrades"),
        store.open(read_only=True),
    ):
        pass


def test_a_duckdb_file_from_before_versions_were_kept_is_read_and_adopted(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "w.duckdb")
    with store.open() as opened:
        land(opened, ROWS, rejections=(rejection(),))
    with duckdb.connect(store.path) as connection:
        connection.execute("drop table bronze.schema_versions")
    with store.open(read_only=True) as opened:
        assert opened.query("select count(*) from bronze.observations") == [(24,)]
        assert "bronze.schema_versions" not in opened.tables()
    with store.open() as opened:
        assert land(opened, ROWS, rejections=(rejection(),)) == Landed(None, 0, 0)
        assert opened.query("select version, name from bronze.schema_versions") == [(1, "bronze")]


START = """
import sys
from pydantic import SecretStr
from weather_dagster.warehouse.postgres import PostgresStore
sys.stdin.readline()
with PostgresStore(SecretStr(sys.argv[1])).open() as warehouse:
    print(warehouse.query("select count(*) from bronze.schema_versions"))
"""


def test_of_starters_at_once_one_makes_the_tables_and_the_others_find_them(postgres_url: str) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START, postgres_url],
            env=without_settings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdin
        starter.stdin.write("\n")
        starter.stdin.flush()
    outcomes = [starter.communicate(timeout=60) for starter in starters]
    assert [output for output, _ in outcomes] == ["[(1,)]\n"] * 3, outcomes


def test_a_gap_in_the_numbers_is_no_set_of_migrations(tmp_path: Path) -> None:
    (tmp_path / "duckdb").mkdir()
    for name in ("0001_bronze.sql", "0003_notes.sql"):
        (tmp_path / "duckdb" / name).touch()
    with pytest.raises(ValueError, match=r"0003_notes\.sql is no migration; number 2 of duckdb is 0002_name\.sql"):
        schema.migrations("duckdb", tmp_path)


def test_a_postgres_of_nothing_has_nothing_to_read(postgres_store: PostgresStore) -> None:
    assert not postgres_store.exists()
    with (
        pytest.raises(WarehouseError, match=r"has no bronze tables yet; `weather ingest`"),
        postgres_store.open(read_only=True),
    ):
        pass
