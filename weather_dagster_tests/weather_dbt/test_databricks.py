"""The same bronze gives the same silver and gold on Databricks as on DuckDB: on the stand-in, by the real adapter.

Floats may differ by 1e-9: sines, logarithms and powers are those of another library.
"""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from weather_dagster.automation.retention import prune_versions
from weather_dagster.automation.watermarks import waiting_load
from weather_dagster.checks.anomalies import changes_are_gradual, providers_agree, usual_row_counts, values_move
from weather_dagster.checks.bronze import completeness
from weather_dagster.datasets import DATASETS, OBSERVATIONS
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.quarantine import entries
from weather_dagster.report.data import read_report_data
from weather_dagster.status import place_statuses
from weather_dagster.warehouse.base import Store, Warehouse
from weather_dagster.warehouse.databricks import DatabricksStore
from weather_dagster.warehouse.duckdb import DuckDBStore
from weather_dagster_tests.databricks.fixtures import emptied, store_at
from weather_dagster_tests.databricks.stand_in import StandIn
from weather_dagster_tests.weather_dbt.bronze import NOW
from weather_dagster_tests.weather_dbt.conftest import Dbt
from weather_dagster_tests.weather_dbt.test_increments import KEYS
from weather_dagster_tests.weather_dbt.test_two_engines import (
    BRONZE,
    HISTORIES,
    HOURS,
    PLACES,
    START,
    land_all,
    landing,
)

pytestmark = pytest.mark.integration

TOLERANCE = 1e-9
STEPS = {"hour after hour": (1, 4, 1, 3), "shuffled ranges": (2, 2, 1)}
"""How many steps of a history are landed before dbt runs, run after run: each costs seconds here."""
EVERY = {"hour after hour": 1, "shuffled ranges": 2}
"""Which of its landings: every one, or every second."""


Tables = dict[str, list[dict[str, Any]]]
"""Rows by the names of tables."""


def rows_of(store: Store, tables: Sequence[str]) -> Tables:
    """Rows of tables, each table in an order of its own keys."""
    with store.open(read_only=True) as warehouse:
        return {name: sorted(warehouse.query_rows(f"select * from {name}"), key=_order) for name in tables}


def _order(row: dict[str, Any]) -> list[str]:
    return [repr(_plain(value)) for value in row.values() if not isinstance(value, float)]


def _plain(value: object) -> object:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def difference(left: Store, right: Store, tables: Sequence[str]) -> str | None:
    """The first difference between tables of two stores."""
    return first_difference(rows_of(left, tables), rows_of(right, tables))


def first_difference(one: Tables, other: Tables) -> str | None:
    """The first difference between the same tables of two stores, or of one at two times."""
    for table in one:
        if len(one[table]) != len(other[table]):
            return f"{table}: {len(one[table])} rows and {len(other[table])}"
        for row, other_row in zip(one[table], other[table], strict=True):
            if row.keys() != other_row.keys():
                return f"{table}: {row.keys() ^ other_row.keys()}"
            for column, value in row.items():
                if not _is_same(value, other_row[column]):
                    return f"{table}.{column}: {value!r} and {other_row[column]!r} in {row}"
    return None


def _is_same(value: object, other: object) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(value) is type(other) and _plain(value) == _plain(other)


@pytest.fixture(scope="module", params=HISTORIES)
def both(
    request: pytest.FixtureRequest, dbt: Dbt, databricks_server: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DuckDBStore, DatabricksStore]]:
    """A store of each after the same history, only to be read: the stand-in takes a minute for it.

    What empties the stand-in comes after all tests of it.
    """
    with emptied(databricks_server):
        both = DuckDBStore(tmp_path_factory.mktemp("store") / "warehouse.duckdb"), store_at(databricks_server)
        steps = HISTORIES[request.param]()
        for count in STEPS[request.param]:
            landings = [one for step in islice(steps, count) for one in step[:: EVERY[request.param]]]
            for store in both:
                land_all(store, landings)
                dbt(store, "run")
        assert not list(steps)
        yield both


def test_the_same_bronze_gives_the_same_silver_and_gold(both: tuple[DuckDBStore, DatabricksStore]) -> None:
    assert difference(*both, BRONZE) is None, "it is not the same bronze"
    assert difference(*both, list(KEYS)) is None
    zones = {row["time_zone"] for row in rows_of(both[1], ["gold.daily_weather"])["gold.daily_weather"]}
    assert len(zones) > len(PLACES) - 2
    assert "Pacific/Pago_Pago" in zones


def test_the_comparison_sees_what_is_more_than_the_last_digits(
    both: tuple[DuckDBStore, DatabricksStore], tmp_path: Path
) -> None:
    table = ["gold.daily_weather"]
    other = DuckDBStore(tmp_path / "warehouse.duckdb")
    shutil.copy(both[0].path, other.path)
    assert difference(other, both[1], table) is None
    with other.open() as warehouse:
        warehouse.execute("update gold.daily_weather set pressure_mean_hpa = pressure_mean_hpa + 1e-5")
    assert "pressure_mean_hpa" in str(difference(other, both[1], table))


PLACE = next(iter(PLACES))
EVERYWHERE = list(PLACES.values())
SPAN = HourRange(START, START + (HOURS + 10) * HOUR)
READERS: dict[str, Callable[[Warehouse], object]] = {
    "status": lambda store: place_statuses(store, EVERYWHERE, SPAN.last),
    "completeness": lambda store: completeness(store, OBSERVATIONS, EVERYWHERE, SPAN).description,
    "providers": lambda store: providers_agree(store, OBSERVATIONS, EVERYWHERE, SPAN).description,
    "counts": lambda store: usual_row_counts(store, OBSERVATIONS, EVERYWHERE, SPAN).description,
    "jumps": lambda store: changes_are_gradual(store, SPAN).description,
    "standstill": lambda store: values_move(store, SPAN).description,
    "quarantine": lambda store: entries(store, limit=5),
    "waiting": waiting_load,
    "report": lambda store: read_report_data(store, {PLACE}).hourly[PLACE]["time"],
    "versions": lambda store: prune_versions(store, NOW, dry_run=True),
}


def test_what_reads_a_store_reads_the_same(both: tuple[DuckDBStore, DatabricksStore]) -> None:
    told = []
    for store in both:
        with store.open(read_only=True) as warehouse:
            told.append({name: read(warehouse) for name, read in READERS.items()})
    assert told[0] == told[1]


def test_a_build_from_nothing_passes_its_tests_and_equals_the_increments(
    dbt: Dbt, databricks_store: DatabricksStore
) -> None:
    places = list(PLACES.values())[:3]
    for hours in (range(40), range(40, 44)):
        land_all(databricks_store, [landing(data, hours, "simulator", places) for data in DATASETS.values()])
        dbt(databricks_store, "build")
    increments = rows_of(databricks_store, list(KEYS))
    dbt(databricks_store, "run", "--full-refresh")
    assert first_difference(increments, rows_of(databricks_store, list(KEYS))) is None
    assert all(increments.values())
