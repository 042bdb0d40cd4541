"""Whatever the platform asks its warehouse, Databricks answers as DuckDB does where both hold the same.

Databricks is the stand-in, by the real connector. Each question is asked by the function that asks it in a run.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from weather_dagster.automation.healing import find_holes
from weather_dagster.automation.retention import prune_versions
from weather_dagster.automation.watermarks import waiting_load
from weather_dagster.checks import anomalies
from weather_dagster.checks.bronze import CHECKS
from weather_dagster.checks.freshness import FRESHNESS
from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS, DatasetName
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import load_locations
from weather_dagster.metrics import WeatherCollector
from weather_dagster.quarantine import entries, known_places, summary
from weather_dagster.report.data import read_report_data
from weather_dagster.settings import Settings
from weather_dagster.simulator.app import create_app
from weather_dagster.status import place_statuses
from weather_dagster.warehouse.base import Store, Warehouse
from weather_dagster.warehouse.databricks import DatabricksStore, DatabricksWarehouse
from weather_dagster.warehouse.duckdb import DuckDBStore, DuckDBWarehouse
from weather_dagster_tests.databricks.stand_in import StandIn
from weather_dagster_tests.test_quarantine import again, fetch, record
from weather_dagster_tests.weather_api.provider_apps import api_of
from weather_dagster_tests.weather_dbt.bronze import land
from weather_dagster_tests.weather_dbt.conftest import PROJECT, Dbt
from weather_dagster_tests.weather_dbt.test_increments import KEYS
from weather_dagster_tests.weather_dbt.test_two_engines import START, Landing, landing

pytestmark = pytest.mark.integration

HOURS = 9 * 24
LAST = START + (HOURS - 1) * HOUR
NOW = LAST + timedelta(minutes=20)
LAST_DAY = HourRange(LAST - 23 * HOUR, LAST)
WATCHED = load_locations()[:4]
"""Of the last one nothing ever came."""
FETCHED = WATCHED[:3]
FROZEN = {"temperature_c": 4.5, "pressure_hpa": 1013.25}


def landings() -> Iterator[Landing]:
    """Nine days with gaps, corrections, a second opinion, values that stand still, a late place, and rejections."""
    observed = landing(OBSERVATIONS, range(HOURS), "simulator", FETCHED, gaps=0.02)
    for row in observed.rows:
        if row["location_id"] == FETCHED[0].id and row["valid_hour_utc"] > LAST - 20 * HOUR:
            row |= FROZEN
    is_late = lambda row: row["location_id"] == FETCHED[2].id and row["valid_hour_utc"] > LAST - 5 * HOUR  # noqa: E731
    yield replace(observed, rows=[row for row in observed.rows if not is_late(row)])
    yield landing(OBSERVATIONS, range(HOURS - 60, HOURS), "station", FETCHED[1:2], gaps=0.3)
    yield landing(OBSERVATIONS, range(HOURS - 90, HOURS - 40), "simulator", FETCHED, version=2, gaps=0.7)
    yield landing(AIR_QUALITY, range(HOURS), "simulator", FETCHED, gaps=0.1)
    yield landing(FORECASTS, range(5, HOURS, 6), "simulator", FETCHED)


def fill(warehouse: Warehouse) -> None:
    """Land everything."""
    fetch(warehouse, record(0), record(1, temp=65), record(2, temp="warm"))
    for one in landings():
        # A message for each, so that lists of them have one order.
        rejections = [replace(told, message=f"implausible at {told.location_id}") for told in one.rejections]
        land(warehouse, one.dataset, one.rows, WATCHED, rejections=rejections, now=NOW)


def copy_refined(source: DuckDBWarehouse, target: DatabricksWarehouse) -> None:
    """Silver and gold as they are there; that dbt makes the same is proved by its own tests."""
    for schema in ("silver", "gold"):
        target.script(f"create schema if not exists {schema}")
    for name in KEYS:
        rows = source.connection.sql(f"select * from {name}").to_arrow_table()
        columns = ", ".join(
            # A file that travels has instants alone.
            f"cast({field.name} as timestamp_ntz) as {field.name}" if field.type == pa.timestamp("us") else field.name
            for field in rows.schema
        )
        with target.registered("refined", rows):
            target.script(f"create table {name} using delta as select {columns} from refined")


Stores = Mapping[str, tuple[Store, Settings]]


@pytest.fixture(scope="module")
def stores(
    databricks_server: StandIn, tmp_path_factory: pytest.TempPathFactory, postgres_server: str
) -> Iterator[Stores]:
    """The same data in both, and the settings that lead there."""
    home: Path = tmp_path_factory.mktemp("answers")
    databricks_server.reset()
    common = {"_env_file": None, "weather_provider": "simulator", "weather_home": home}
    settings = {
        "duckdb": Settings.load(**common, weather_duckdb_path=home / "warehouse.duckdb"),
        "databricks": Settings.load(
            **common,
            weather_env="databricks",
            weather_postgres_url=postgres_server,
            **{name.lower(): value for name, value in databricks_server.settings.items()},
        ),
    }
    duckdb_store, databricks_store = DuckDBStore(home / "warehouse.duckdb"), DatabricksStore.of(settings["databricks"])
    with duckdb_store.open() as warehouse:
        fill(warehouse)
    Dbt(PROJECT, home / "dbt")(duckdb_store, "run")
    with databricks_store.open() as target, duckdb_store.open(read_only=True) as source:
        fill(target)
        copy_refined(source, target)
    yield {
        "duckdb": (duckdb_store, settings["duckdb"]),
        "databricks": (databricks_store, settings["databricks"]),
    }
    databricks_server.reset()


Question = Callable[[Warehouse], Any]

QUESTIONS: dict[str, Question] = {
    **{
        f"{name} of {dataset.name}": lambda store, ask=check, of=dataset: ask(store, of, WATCHED, LAST_DAY)
        for dataset in DATASETS.values()
        for name, check in {**CHECKS, "usual_row_counts": anomalies.usual_row_counts}.items()
    },
    **{
        f"{name} of {dataset}": lambda store, ask=check, of=DATASETS[dataset]: ask(store, of, WATCHED, NOW)
        for dataset, checks in FRESHNESS.items()
        for name, check in checks.items()
    },
    "providers_agree": lambda store: anomalies.providers_agree(store, OBSERVATIONS, WATCHED, LAST_DAY),
    "values_move": lambda store: anomalies.values_move(store, LAST_DAY),
    "changes_are_gradual": lambda store: anomalies.changes_are_gradual(store, LAST_DAY),
    "find_holes": lambda store: find_holes(
        store,
        api_of(create_app(clock=NOW.timestamp), plan="free", is_stand_in=True, clock=lambda: NOW),
        DATASETS.values(),
        WATCHED,
        NOW,
        start_hour=START,
    ),
    "place_statuses": lambda store: place_statuses(store, WATCHED, NOW),
    "summary of the quarantine": summary,
    "entries of the quarantine": lambda store: entries(store, limit=25),
    "chosen entries of the quarantine": lambda store: entries(
        store,
        dataset=DatasetName.OBSERVATIONS,
        place=FETCHED[1].id,
        since=NOW - HOUR,
        limit=25,
        include_resolved=True,
    ),
    "known_places of the quarantine": known_places,
    "the report": lambda store: read_report_data(store, {place.id for place in WATCHED}),
    "waiting_load": waiting_load,
    "providers": Warehouse.providers,
    "versions to prune": lambda store: prune_versions(store, NOW + HOUR, dry_run=True),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_databricks_answers_as_duckdb_does(stores: Stores, question: str) -> None:
    answers = []
    for store, _ in stores.values():
        with store.open(read_only=True) as warehouse:
            answers.append(QUESTIONS[question](warehouse))
    by_duckdb, by_databricks = answers
    assert by_databricks == by_duckdb


def test_what_is_asked_finds_something_here(stores: Stores) -> None:
    store, _ = stores["databricks"]
    with store.open(read_only=True) as warehouse:

        def told(question: str) -> Any:
            return QUESTIONS[question](warehouse)

        assert not told("completeness of observations").passed
        assert not told("fetched_recently of observations").passed
        assert told("usual_row_counts of forecasts").metadata["compared"]
        assert told("values_move").metadata["frozen"]
        assert told("changes_are_gradual").metadata["jumps"]
        assert told("providers_agree").metadata["disagreements"]
        holes = told("find_holes")
        assert holes.open
        assert holes.lost
        assert len(told("entries of the quarantine")) == 25
        assert told("versions to prune") > 5
        assert len(told("the report").places) == len(WATCHED)


def test_a_scrape_tells_the_same_of_both(stores: Stores) -> None:
    told = []
    for _, settings in stores.values():
        metrics = CollectorRegistry()
        metrics.register(WeatherCollector(settings, None, clock=lambda: NOW))
        told.append(generate_latest(metrics).decode())
    by_duckdb, by_databricks = told
    assert "weather_store_readable 1.0" in by_databricks
    assert by_databricks.count("weather_newest_hour_timestamp_seconds{") == len(DATASETS) * len(FETCHED)
    assert by_databricks == by_duckdb


def test_what_is_pruned_and_driven_again_is_the_same(stores: Stores) -> None:
    done = []
    for store, _ in stores.values():
        with store.open() as warehouse:
            pruned = prune_versions(warehouse, NOW + HOUR, dry_run=False)
            left = prune_versions(warehouse, NOW + HOUR, dry_run=True)
            done.append((pruned, left, again(warehouse), summary(warehouse)))
    by_duckdb, by_databricks = done
    assert by_databricks == by_duckdb
    assert by_databricks[0] > by_databricks[1] == 0
    assert by_databricks[2].tried == by_databricks[2].still_rejected + by_databricks[2].superseded > 0
