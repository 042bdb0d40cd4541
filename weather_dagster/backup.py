"""Backup and restore of a home, warehouse and Dagster state together, while it is in use.

The order makes the copy agree with itself: Dagster's state first, the warehouse last. Rows land before their
partition is recorded, so what the copy calls materialized has its rows in the copy. What has landed but was not
recorded, or came after, is found by its absence or by its load as after any other stop.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import duckdb
from pydantic import BaseModel, ValidationError

from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.settings import DBT_RUNS
from weather_dagster.warehouse.duckdb import open_warehouse

MANIFEST = "manifest.json"
WAREHOUSE = "warehouse.duckdb"
SQLITE_HEADER = b"SQLite format 3\x00"
PASSING = ("-wal", "-shm", "-journal", ".wal", ".lock", ".tmp")
"""Endings of files that databases keep beside themselves: a copy through the database has what is in them."""


class CopiedFile(BaseModel):
    """A file of a backup."""

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a backup holds, written last: a folder without it is no backup."""

    made_at_utc: datetime
    realm: str
    """``simulator``, ``recorded`` or ``live``: whose data it is."""
    files: dict[str, CopiedFile]
    """By path within the backup."""


def make_backup(home: Path, warehouse: Path, target: Path, *, realm: str, now: datetime) -> Manifest:
    """Copy ``home`` and its warehouse to the new folder ``target``; whole or not at all.

    Raises:
        ConfigurationError: there is nothing to copy, ``target`` is there already or lies in the home, or cannot
            be written.
        WarehouseError: the warehouse cannot be read, or is held by another process for too long.
    """
    if not warehouse.exists():
        raise ConfigurationError(f"there is no warehouse at {warehouse} yet, so there is nothing to back up")
    if target.exists():
        raise ConfigurationError(f"{target} is there already; let --to name a new folder")
    if target.is_relative_to(home):
        raise ConfigurationError(f"{target} lies in {home}, which is to be copied; let --to name a folder elsewhere")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for path in _files_of(home, warehouse):
            _copy(path, partial / "home" / path.relative_to(home))
        _copy_warehouse(warehouse, partial / WAREHOUSE)
        manifest = Manifest(made_at_utc=now, realm=realm, files=_describe(partial))
        (partial / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
        partial.rename(target)
    except OSError as error:
        raise ConfigurationError(f"cannot write the backup {target}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def restore_backup(source: Path, home: Path, warehouse: Path, *, realm: str) -> Manifest:
    """Put a backup into a home that has nothing yet, after every file was compared with its checksum.

    Raises:
        ConfigurationError: ``source`` is no whole backup, is of another realm, or there is something in the home.
    """
    manifest = _read_manifest(source)
    if manifest.realm != realm:
        raise ConfigurationError(
            f"{source} holds {manifest.realm} data, the configured provider's is {realm}; set WEATHER_PROVIDER to match"
        )
    for place in (home, warehouse):
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ConfigurationError(
                f"{place} is not empty, and a restore overwrites nothing; move it aside, or let WEATHER_HOME name "
                "another folder"
            )
    found = _describe(source)
    if damaged := sorted(name for name, told in manifest.files.items() if found.get(name) != told):
        raise ConfigurationError(
            f"the backup {source} is damaged or incomplete: {', '.join(damaged[:5])}"
            f"{f' and {len(damaged) - 5} more files' if len(damaged) > 5 else ''}; take another one"
        )
    try:
        shutil.copytree(source / "home", home, dirs_exist_ok=True)
        warehouse.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / WAREHOUSE, warehouse)
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename}: {error.strerror}") from None
    return manifest


def _read_manifest(source: Path) -> Manifest:
    try:
        return Manifest.model_validate_json((source / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        raise ConfigurationError(f"{source} is no backup, or was not finished: it has no readable {MANIFEST}") from None


def _files_of(home: Path, warehouse: Path) -> Iterator[Path]:
    """The home's files but the warehouse and what dbt left.

    Dagster's runs come before their events, which tell the partitions' state.
    """
    left_out = {warehouse, home / DBT_RUNS}
    files = (path for path in home.rglob("*") if path.is_file() and left_out.isdisjoint((path, *path.parents)))
    kept = [path for path in files if not path.name.endswith(PASSING)]
    yield from sorted(kept, key=lambda path: (path.name != "runs.db", path))


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("rb") as file:
            is_sqlite = file.read(len(SQLITE_HEADER)) == SQLITE_HEADER
        if not is_sqlite:
            shutil.copyfile(path, target)
            return
    except FileNotFoundError:
        return  # A log or a run that was tidied away meanwhile.
    # Read only: one that vanishes meanwhile would be made anew, and empty, where it was.
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)
    except sqlite3.OperationalError:
        if path.exists():
            raise


def _copy_warehouse(warehouse: Path, target: Path) -> None:
    # Waits for a writer and names it. Others may read while the copy is made; who wants to write waits.
    with open_warehouse(warehouse, read_only=True) as store:
        try:
            ((name,),) = store.query("select current_database()")
            quoted = str(target).replace("'", "''")
            store.connection.execute(f"attach '{quoted}' as copied (read_write)")
            store.connection.execute(f'copy from database "{name}" to copied')
            store.connection.execute("detach copied")
        except duckdb.Error as error:
            raise WarehouseError(f"the warehouse {warehouse} cannot be copied to {target}: {error}") from None


def _describe(folder: Path) -> dict[str, CopiedFile]:
    described = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            described[path.relative_to(folder).as_posix()] = CopiedFile(bytes=path.stat().st_size, sha256=digest)
    return described
