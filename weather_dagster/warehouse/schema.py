"""Versions of the bronze schema: plain SQL files, each applied once, in order, all that are due in one transaction.

``migrations/ENGINE/NNNN_name.sql``, numbered from 1 without gaps. A file that has been released is never changed again:
what comes later is a file of its own. Which were applied stands in ``bronze.schema_versions``.
"""

import logging
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from weather_dagster.errors import WarehouseError
from weather_dagster.hours import utc_now

FOLDER = Path(__file__).parent / "migrations"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Migration:
    """One step from a version of the schema to the next."""

    version: int
    name: str
    sql: str


class Migratable(Protocol):
    """What a store needs for its schema to be brought up to date."""

    def schema_version(self) -> int:
        """The newest migration that was applied; 0 when there are no bronze tables."""

    def migrating(self) -> AbstractContextManager[None]:
        """A transaction for the migrations. Another process that wants one too waits, and then finds it done."""
        ...

    def script(self, sql: str) -> None:
        """Run several statements."""

    def execute(self, sql: str, parameters: dict[str, Any]) -> int:
        """Run one INSERT."""
        ...


def migrations(engine: str, folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The migrations of an engine, in order."""
    found = []
    for version, file in enumerate(sorted(folder.joinpath(engine).glob("*.sql")), 1):
        name = re.fullmatch(rf"{version:04}_(\w+)", file.stem)
        if not name:
            raise ValueError(f"{file} is no migration; number {version} of {engine} is {version:04}_name.sql")
        found.append(Migration(version, name[1], file.read_text(encoding="utf-8")))
    return tuple(found)


def require_known(where: str, version: int, known: Sequence[Migration]) -> None:
    """Refuse a store that a newer program has made or upgraded.

    Raises:
        WarehouseError: naming both versions.
    """
    if version > len(known):
        raise WarehouseError(
            f"{where} has version {version} of the bronze schema, and this program knows {len(known)} at most: "
            "a newer one has upgraded it; update this one, or let it use another warehouse"
        )


def require_current(where: str, version: int, known: Sequence[Migration]) -> None:
    """Refuse to read a store whose tables are not those that this program's SQL is written for.

    Raises:
        WarehouseError: naming both versions.
    """
    require_known(where, version, known)
    if version < len(known):
        raise WarehouseError(
            f"{where} has version {version} of the bronze schema, and this program reads version {len(known)}; "
            "`weather warehouse migrate` upgrades it, as does whatever lands data"
        )


def upgrade(where: str, store: Migratable, known: Sequence[Migration]) -> int:
    """Apply what is due, all of it or nothing; how many migrations that were.

    Raises:
        WarehouseError: the store is newer than this program.
    """
    require_known(where, store.schema_version(), known)
    if store.schema_version() == len(known):
        return 0
    with store.migrating():
        version = store.schema_version()
        due = known[version:]
        for migration in due:
            store.script(migration.sql)
            store.execute(
                "insert into bronze.schema_versions values ($version, $name, $now)",
                {"version": migration.version, "name": migration.name, "now": utc_now()},
            )
    for migration in due:
        _logger.info("%s: version %d of the bronze schema, %s", where, migration.version, migration.name)
    return len(due)
