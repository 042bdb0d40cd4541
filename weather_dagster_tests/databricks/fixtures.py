"""Fixtures of the stand-in."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from weather_dagster.warehouse.databricks import DatabricksStore
from weather_dagster.warehouse.databricks_connection import Account
from weather_dagster_tests.databricks.stand_in import HTTP_PATH, TOKEN, StandIn, serving


@pytest.fixture(scope="session")
def databricks_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """A running stand-in."""
    with serving(tmp_path_factory.mktemp("databricks")) as server:
        yield server


@contextmanager
def emptied(server: StandIn) -> Iterator[StandIn]:
    """The stand-in without tables and faults. A test that fails shows what was run."""
    server.reset()
    try:
        yield server
    finally:
        for statement in server.statements()[-40:]:
            print(json.dumps(statement)[:2000])  # noqa: T201 - pytest keeps it for a test that fails


def store_at(server: StandIn) -> DatabricksStore:
    """Its catalog."""
    return DatabricksStore(Account(server.url, HTTP_PATH, "weather", SecretStr(TOKEN)))


@pytest.fixture
def databricks(databricks_server: StandIn) -> Iterator[StandIn]:
    """The same, emptied for each test."""
    with emptied(databricks_server) as server:
        yield server


@pytest.fixture
def databricks_store(databricks: StandIn) -> DatabricksStore:
    """Its catalog."""
    return store_at(databricks)
