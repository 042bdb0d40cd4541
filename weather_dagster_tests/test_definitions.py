"""The code location: what it holds, in every environment, without a key, a network or a store."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from weather_dagster.definitions import build_definitions
from weather_dagster.environments import ENVIRONMENTS
from weather_dagster.hours import floor_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.partitions import hourly_grid, partition_key
from weather_dagster.resources import DuckDBWarehouseResource, LocationsResource
from weather_dagster.settings import EnvironmentName, Settings
from weather_dagster_tests.conftest import BIN, without_settings

ROOT = Path(__file__).parents[1]
BRONZE = {"bronze/observations", "bronze/forecasts", "bronze/air_quality"}
ASSETS = BRONZE | {
    "bronze/quarantine",
    "silver/observations",
    "silver/forecasts",
    "silver/air_quality",
    "gold/hourly_weather",
    "gold/daily_weather",
    "gold/daily_air_quality",
    "gold/temperature_moving_averages",
    "gold/latest_conditions",
    "report/weather_report",
}
CHECKS_OF_HOURS = (
    "completeness",
    "valid_hour_in_partition",
    "plausible_limits",
    "quarantine_share",
    "schema_drift",
    "usual_row_counts",
)
SILVER_CHECKS = {"values_move", "changes_are_gradual"}
FRESHNESS = {
    ("bronze/observations", "fetched_recently"),
    ("bronze/observations", "weather_recently"),
    ("bronze/forecasts", "fetched_recently"),
    ("bronze/air_quality", "fetched_recently"),
    ("bronze/air_quality", "weather_recently"),
}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_has_the_same_assets_checks_and_resources(environment: str, clean_environment: Path) -> None:
    defs = build_definitions(Settings.load(weather_env=environment))
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.executable_asset_keys} == ASSETS
    assert {
        (key.asset_key.to_user_string(), key.name)
        for key in graph.asset_check_keys
        if key.asset_key.path[0] == "bronze"
    } == {(asset, check) for asset in BRONZE for check in CHECKS_OF_HOURS} | FRESHNESS | {
        ("bronze/observations", "providers_agree")
    }
    silver = {key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["silver", "observations"])}
    assert silver >= SILVER_CHECKS
    gold = {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.asset_key.path[0] == "gold"}
    assert gold == {asset for asset in ASSETS if asset.startswith("gold/")}, "each gold table has a data test"
    assert set(defs.resources or {}) == {"weather_api", "places", "warehouse", "dbt"}


def test_only_what_must_not_reach_silver_blocks(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load()).resolve_asset_graph()
    ours = [key for key in graph.asset_check_keys if key.asset_key.path[0] == "bronze"]
    ours += [dg.AssetCheckKey(dg.AssetKey(["silver", "observations"]), name) for name in SILVER_CHECKS]
    blocking = {key.name for key in ours if graph.get_check_spec(key).blocking}
    assert blocking == {"valid_hour_in_partition", "plausible_limits"}


def test_a_recording_has_no_checks_of_freshness(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load(weather_provider="recorded")).resolve_asset_graph()
    names = {key.name for key in graph.asset_check_keys}
    assert "completeness" in names
    assert names.isdisjoint({"fetched_recently", "weather_recently"})


def test_every_check_says_what_it_checks(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load()).resolve_asset_graph()
    descriptions = {key.name: graph.get_check_spec(key).description or "" for key in graph.asset_check_keys}
    assert [name for name, text in descriptions.items() if not text.endswith(".") or "{" in text] == []
    assert descriptions["gold_daily_weather_key_is_unique"] == "One row for each location_id, local_date."


def test_groups_are_layers_and_bronze_alone_is_partitioned(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load()).resolve_asset_graph()
    for key in graph.executable_asset_keys:
        node = graph.get(key)
        assert node.group_name == key.path[0]
        assert node.is_partitioned == (key.to_user_string() in BRONZE)


def test_gold_hangs_on_silver_and_silver_on_bronze(clean_environment: Path) -> None:
    graph = build_definitions(Settings.load()).resolve_asset_graph()
    above = {
        key.to_user_string(): {p.to_user_string() for p in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert above["silver/observations"] == {"bronze/observations", "bronze/locations"}
    assert above["gold/hourly_weather"] == {"silver/observations"}
    assert above["report/weather_report"] >= {"gold/hourly_weather", "silver/air_quality"}


def test_the_job_is_the_whole_way(clean_environment: Path) -> None:
    job = build_definitions(Settings.load()).resolve_job_def("hourly_weather")
    assert {key.to_user_string() for key in job.asset_layer.executable_asset_keys} == ASSETS


def test_refreshing_the_models_is_the_way_without_bronze(clean_environment: Path) -> None:
    job = build_definitions(Settings.load()).resolve_job_def("refresh_models")
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert keys == {asset for asset in ASSETS if not asset.startswith("bronze/")}


def test_every_environment_is_in_the_swap_table() -> None:
    assert set(ENVIRONMENTS) == set(EnvironmentName)


def test_a_connection_of_the_warehouse_resource_is_closed_when_the_work_fails(tmp_path: Path) -> None:
    resource = DuckDBWarehouseResource(database=str(tmp_path / "w.duckdb"))
    with pytest.raises(ZeroDivisionError), resource.get_connection() as connection:
        _ = 1 / 0
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("select 1")


def test_a_run_of_one_place_still_watches_all_of_the_file(clean_environment: Path) -> None:
    places = LocationsResource(ids=["lyon"])
    assert [place.id for place in places.locations()] == ["lyon"]
    assert places.watched() == load_locations()


def test_an_override_replaces_a_resource_by_name(clean_environment: Path) -> None:
    other = dg.ResourceDefinition.hardcoded_resource("other")
    defs = build_definitions(Settings.load(), {"warehouse": other})
    assert (defs.resources or {})["warehouse"] is other


def test_the_grid_begins_at_a_fixed_hour_and_includes_the_running_one(clean_environment: Path) -> None:
    grid = hourly_grid(Settings.load().start_hour)
    assert grid.get_first_partition_key() == "2025-01-01-00:00"
    assert grid.get_last_partition_key() == partition_key(floor_hour(utc_now()))


@pytest.mark.integration
def test_dagster_itself_accepts_the_workspace_without_a_key_or_a_store(tmp_path: Path) -> None:
    environment = {**without_settings(), "WEATHER_HOME": str(tmp_path / "never-made")}
    result = subprocess.run(
        [BIN / "dagster", "definitions", "validate", "-w", ROOT / "workspace.yaml"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "never-made").exists()


def test_importing_the_ingestor_imports_no_dagster_and_no_dbt() -> None:
    code = "import sys, weather_dagster.ingest, weather_dagster.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "weather_dagster.ingest" in loaded
    assert [name for name in loaded if name.split(".")[0] in ("dagster", "dbt", "dagster_dbt", "dagster_duckdb")] == []


INGEST = """
import sys
sys.argv = ["weather", "ingest", "--from", "2026-01-01T00:00", "--to", "2026-01-01T01:00"]
from weather_dagster import cli
try:
    cli.main()
finally:
    print("loaded", *sys.modules)
"""


def test_the_whole_ingest_command_imports_no_dagster(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", INGEST],
        cwd=tmp_path, env=without_settings(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = result.stdout.split("loaded ")[1].split()
    assert (tmp_path / ".weather" / "simulator" / "warehouse.duckdb").exists()
    assert [name for name in loaded if name.split(".")[0].startswith(("dagster", "dbt"))] == []
