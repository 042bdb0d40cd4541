"""The places of the ledger and the alert book, each an empty one: a file, and a Postgres."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from weather_dagster.state import SCHEMA, Place


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A file that is not there yet, and an empty Postgres database."""
    if request.param == "sqlite":
        return tmp_path / "l.sqlite"
    return SecretStr(request.getfixturevalue("postgres_url"))


def text_of(place: Place) -> str:
    """A place as an argument for another process."""
    return place.get_secret_value() if isinstance(place, SecretStr) else str(place)


def place_of(text: str) -> Place:
    """And back."""
    return SecretStr(text) if text.startswith("postgresql:") else Path(text)


@contextmanager
def plain_connection(place: Place) -> Iterator[Any]:
    """Beside all our own code: each statement stands for itself, and tables need no schema."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place, isolation_level=None)) as connection:
            yield connection
    else:
        with psycopg.connect(text_of(place), autocommit=True, options=f"-c search_path={SCHEMA}") as server:
            yield server
