"""Backup and restore of a home: what the copy holds, and what is refused."""

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from weather_dagster.backup import make_backup, restore_backup
from weather_dagster.errors import ConfigurationError
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, land, observation

NOW = datetime(2026, 11, 25, 14, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a warehouse, an SQLite file that is being written, and a plain file."""
    home = tmp_path / "home"
    with open_warehouse(home / "warehouse.duckdb") as store:
        land(store, [observation(hour, 10.0, place=PLACES[0].id) for hour in DAY])
        store.connection.execute(
            "create schema gold; create view gold.v as select count(*) as n from bronze.observations"
        )
    with closing(sqlite3.connect(home / "ledger.sqlite")) as ledger:
        ledger.executescript("pragma journal_mode = wal; create table calls (id); insert into calls values (1)")
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}")
    return home


def backup(home: Path, target: Path, realm: str = "simulator"):
    return make_backup(home, home / "warehouse.duckdb", target, realm=realm, now=NOW)


def restore(source: Path, home: Path, realm: str = "simulator"):
    return restore_backup(source, home, home / "warehouse.duckdb", realm=realm)


def test_a_restored_home_holds_what_the_copied_one_held_while_it_was_written(home, tmp_path):
    with closing(sqlite3.connect(home / "ledger.sqlite", isolation_level=None)) as writing:
        writing.execute("insert into calls values (2)")
        writing.execute("begin immediate")
        writing.execute("insert into calls values (3)")
        backup(home, tmp_path / "b")
        writing.execute("commit")
    restore(tmp_path / "b", tmp_path / "other")
    with open_warehouse(tmp_path / "other" / "warehouse.duckdb") as store:
        assert store.query("select n from gold.v") == [(24,)]
        assert land(store, [observation(DAY.first, 10.0, place=PLACES[0].id)]).rows_added == 0
        with pytest.raises(duckdb.ConstraintException):
            store.connection.execute("insert into bronze.loads select * from bronze.loads")
    with closing(sqlite3.connect(tmp_path / "other" / "ledger.sqlite")) as ledger:
        assert ledger.execute("select id from calls").fetchall() == [(1,), (2,)]
    assert (tmp_path / "other" / "dagster" / "dagster.yaml").read_text() == "telemetry: {enabled: false}"


def test_a_warehouse_outside_the_home_is_part_of_the_copy(home, tmp_path):
    shutil.move(home / "warehouse.duckdb", tmp_path / "elsewhere.duckdb")
    make_backup(home, tmp_path / "elsewhere.duckdb", tmp_path / "b", realm="live", now=NOW)
    restore_backup(tmp_path / "b", tmp_path / "other", tmp_path / "third.duckdb", realm="live")
    with open_warehouse(tmp_path / "third.duckdb", read_only=True) as store:
        assert store.query("select count(*) from bronze.observations") == [(24,)]


def test_a_file_that_was_changed_in_the_backup_is_named_and_nothing_is_restored(home, tmp_path):
    backup(home, tmp_path / "b")
    (tmp_path / "b" / "home" / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: true}")
    with pytest.raises(ConfigurationError, match=r"damaged or incomplete: home/dagster/dagster\.yaml"):
        restore(tmp_path / "b", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_restore_overwrites_nothing(home, tmp_path):
    backup(home, tmp_path / "b")
    with pytest.raises(ConfigurationError, match="is not empty"):
        restore(tmp_path / "b", home)


def test_a_backup_of_simulated_weather_does_not_become_live(home, tmp_path):
    backup(home, tmp_path / "b")
    with pytest.raises(ConfigurationError, match="simulator data, the configured provider's is live"):
        restore(tmp_path / "b", tmp_path / "other", realm="live")


def test_a_backup_that_did_not_finish_leaves_nothing_behind_that_looks_like_one(home, tmp_path):
    (home / "warehouse.duckdb").write_bytes(b"no database at all" * 1000)
    with pytest.raises(Exception, match="cannot be opened"):
        backup(home, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize(("target", "told"), [("home/b", "lies in"), ("taken", "is there already")])
def test_a_target_that_cannot_be_used_is_named(home, tmp_path, target, told):
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigurationError, match=told):
        backup(home, tmp_path / target)


def test_a_folder_that_is_no_backup_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="is no backup"):
        restore(tmp_path, tmp_path / "other")
