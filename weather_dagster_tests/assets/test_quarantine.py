"""The quarantine in the UI: a materialization drives the open records again and shows the counts."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from weather_dagster.assets.quarantine import quarantine
from weather_dagster.definitions import build_definitions
from weather_dagster.resources import DuckDBWarehouseResource, LocationsResource
from weather_dagster.settings import Settings
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.test_quarantine import fetch, record, temperatures
from weather_dagster_tests.weather_dbt.conftest import PROJECT, Dbt


@pytest.fixture
def dbt(tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """The project as it is."""
    return Dbt(PROJECT, tmp_path_factory.mktemp("dbt"))


def materialize(path: Path) -> dict[str, Any]:
    """Metadata of one materialization."""
    result = dg.materialize(
        [quarantine],
        resources={"places": LocationsResource(), "warehouse": DuckDBWarehouseResource(database=str(path))},
        instance=dg.DagsterInstance.ephemeral(),
    )
    (event,) = result.get_asset_materialization_events()
    return {
        name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in event.materialization.metadata.items()
    }


def test_a_materialization_lands_what_is_good_now_and_counts_by_dataset_and_reason(clean_environment: Path) -> None:
    path = clean_environment / "warehouse.duckdb"
    with open_warehouse(path) as store:
        fetch(store, record(0, temp="warm"), record(1, temp=65))
        store.connection.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    told = materialize(path)
    assert {name: told[name] for name in ("open", "resolved", "tried", "landed", "rows_added", "still_rejected")} == {
        "open": 1, "resolved": 1, "tried": 2, "landed": 1, "rows_added": 1, "still_rejected": 1,
    }  # fmt: skip
    counts = {(row.data["dataset"], row.data["reason"]): row.data for row in told["by_dataset_and_reason"]}
    assert counts["observations", "contract"]["resolved"] == 1
    assert counts["observations", "implausible_value"]["open"] == 1
    assert "outside the plausible limits" in str(counts["observations", "implausible_value"]["meaning"])
    with open_warehouse(path) as store:
        assert temperatures(store) == [9, None]


def test_an_empty_quarantine_takes_no_landing(clean_environment: Path) -> None:
    path = clean_environment / "warehouse.duckdb"
    assert materialize(path)["tried"] == 0
    with open_warehouse(path) as store:
        assert store.query("select count(*) from bronze.loads") == [(0,)]


def test_nothing_waits_for_the_quarantine(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load()).resolve_asset_graph()
    assert graph.get(dg.AssetKey(["bronze", "quarantine"])).child_keys == set()
    checked = {key.asset_key for key in graph.asset_check_keys}
    assert dg.AssetKey(["bronze", "quarantine"]) not in checked


@pytest.mark.integration
def test_a_record_that_was_driven_again_reaches_gold_as_in_a_full_refresh(
    dbt: Dbt, clean_environment: Path, tmp_path: Path
) -> None:
    path = tmp_path / "warehouse.duckdb"

    def gold() -> list[tuple[Any, ...]]:
        with open_warehouse(path) as store:
            return store.query(
                "select valid_hour_utc, temperature_c, load_id from gold.hourly_weather order by valid_hour_utc"
            )

    with open_warehouse(path) as store:
        fetch(store, *(record(hour, temp=5 if hour else "warm") for hour in range(4)))
    dbt(path, "run")
    assert [temperature for _, temperature, _ in gold()] == [5, 5, 5]
    with open_warehouse(path) as store:
        store.connection.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    materialize(path)
    dbt(path, "run")
    incremental = gold()
    assert [temperature for _, temperature, _ in incremental] == [9, 5, 5, 5]
    dbt(path, "run", "--full-refresh")
    assert gold() == incremental
