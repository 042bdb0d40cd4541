"""Retention on a real Dagster storage and a real store: what goes, what stays, and that partitions look as before."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine
from dagster import DagsterEventType
from pydantic import ValidationError

from weather_dagster.automation.healing import LOOK_BACK
from weather_dagster.automation.retention import RetentionConfig, prune_files, prune_runs, prune_versions, retention
from weather_dagster.hours import HOUR
from weather_dagster.partitions import hourly_grid, partition_key
from weather_dagster.resources import DuckDBWarehouseResource
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, land, observation, rejection

START = datetime(2026, 10, 1, tzinfo=UTC)
LATER = START + timedelta(days=90)
GRID = hourly_grid(START)
PROPER = dg.AssetKey(["bronze", "thing"])


@dg.asset(key=PROPER, partitions_def=GRID)
def thing(context: dg.AssetExecutionContext) -> None:
    if context.run.tags.get("breaks"):
        raise ValueError("no way")


@dg.asset(deps=[PROPER])
def whole() -> None: ...


@dg.asset_check(asset=PROPER)
def checked() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, hour: datetime, at: datetime, *, breaks: bool = False) -> str:
    """A run of the hour that ends at an instant; its id."""
    with time_machine.travel(at, tick=True):
        result = dg.materialize(
            [thing, whole, checked],
            instance=instance,
            partition_key=partition_key(hour),
            raise_on_error=False,
            tags={"breaks": "yes"} if breaks else None,
        )
    return result.run_id


def state(instance: dg.DagsterInstance) -> dict[str, object]:
    """What the UI shows of each partition and check."""
    storage = instance.event_log_storage
    records = storage.get_latest_asset_check_execution_by_key([dg.AssetCheckKey(PROPER, "checked")])
    newest = instance.get_latest_materialization_event(dg.AssetKey("whole"))
    return {
        "materialized": storage.get_materialized_partitions(PROPER),
        "without": storage.get_latest_asset_partition_materialization_attempts_without_materializations(PROPER),
        "storage ids": storage.get_latest_storage_id_by_partition(PROPER, DagsterEventType.ASSET_MATERIALIZATION),
        "checks": {key: (record.status, record.run_id) for key, record in records.items()},
        "whole": newest and newest.run_id,
    }


def test_a_run_that_a_newer_one_replaced_goes_and_every_partition_looks_as_before(instance, tmp_path):
    replaced = run(instance, START, START + HOUR)
    newest = run(instance, START, START + 2 * HOUR)
    other = run(instance, START + HOUR, START + 2 * HOUR)
    failed = run(instance, START + 5 * HOUR, START + 6 * HOUR, breaks=True)
    before = state(instance)
    assert set(before["without"]) == {partition_key(START + 5 * HOUR)}
    with time_machine.travel(LATER):
        pruned = prune_runs(instance, LATER - timedelta(days=30), dry_run=False)
    assert pruned.runs == 1
    assert {r.run_id for r in instance.get_runs()} == {newest, other, failed}
    assert state(instance) == before
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "history" / "runs").glob("*.db")}
    assert replaced not in sizes
    assert sizes[newest] < 50_000
    assert instance.all_logs(newest) == []
    assert instance.get_run_by_id(failed).status is dg.DagsterRunStatus.FAILURE


def test_runs_that_are_young_or_still_going_are_left_alone(instance):
    young = run(instance, START, LATER - timedelta(days=2))
    run(instance, START, LATER - timedelta(days=1))
    going = instance.create_run_for_job(
        dg.define_asset_job("j", [thing]).resolve(asset_graph=dg.Definitions([thing]).resolve_asset_graph())
    )
    with time_machine.travel(LATER):
        pruned = prune_runs(instance, LATER - timedelta(days=30), dry_run=False)
    assert pruned.runs == 0
    assert {young, going.run_id} <= {r.run_id for r in instance.get_runs()}
    assert instance.all_logs(young)


def test_a_dry_run_counts_and_changes_nothing(instance, tmp_path):
    for hours in (1, 2, 3):
        run(instance, START, START + hours * HOUR)
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    before = state(instance)
    told = prune_runs(instance, LATER, dry_run=True)
    assert told.runs == 2
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files
    assert len(instance.get_runs()) == 3
    assert state(instance) == before
    assert prune_runs(instance, LATER, dry_run=False) == told


def test_pruning_again_finds_nothing_more_and_a_later_run_replaces_what_was_kept(instance):
    kept = run(instance, START, START + HOUR)
    prune_runs(instance, LATER, dry_run=False)
    assert prune_runs(instance, LATER, dry_run=False).runs == 0
    run(instance, START, START + 2 * HOUR)
    assert prune_runs(instance, LATER, dry_run=False).runs == 1
    assert instance.get_run_by_id(kept) is None


def test_versions_that_newer_ones_replaced_go_by_age_and_the_quarantine_stays(opened):
    for value in (10.0, 11.0, 12.0):
        land(opened, [observation(DAY.first, value, place=PLACES[0].id)], rejections=(rejection(),))
    land(opened, [observation(DAY.first, 1.0, place=PLACES[1].id)])
    cutoff = datetime.now(UTC) + HOUR
    assert prune_versions(opened, START - timedelta(days=900), dry_run=False) == 0
    assert prune_versions(opened, cutoff, dry_run=True) == 2
    assert prune_versions(opened, cutoff, dry_run=False) == 2
    rows = opened.query("select location_id, temperature_c, load_id from bronze.observations order by load_id")
    assert [row[1] for row in rows] == [12.0, 1.0]
    assert land(opened, [observation(DAY.first, 12.0, place=PLACES[0].id)]).rows_added == 0
    assert opened.query("select count(*) from bronze.quarantine") == [(1,)]


def test_files_go_by_the_time_they_were_last_touched(tmp_path):
    old, young = tmp_path / "old", tmp_path / "young.log"
    old.mkdir()
    (old / "f").touch()
    young.touch()
    os.utime(old, (0, 0))
    assert prune_files([old, young], START, dry_run=True) == 1
    assert old.exists()
    assert prune_files([old, young], START, dry_run=False) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young.log"]


def test_the_job_only_counts_until_it_is_told_otherwise(instance, tmp_path, clean_environment):
    warehouse = DuckDBWarehouseResource(database=str(tmp_path / "w.duckdb"))
    run(instance, START, START + HOUR)
    run(instance, START, START + 2 * HOUR)
    with time_machine.travel(LATER, tick=True):
        assert retention.execute_in_process(instance=instance, resources={"warehouse": warehouse}).success
        runs = len(instance.get_runs())
        told = retention.execute_in_process(
            instance=instance,
            resources={"warehouse": warehouse},
            run_config={"ops": {"prune": {"config": {"dry_run": False}}}},
        )
    assert runs == 3
    assert told.success
    assert len(instance.get_runs()) == 3


def test_runs_that_healing_still_counts_are_not_pruned():
    shortest = LOOK_BACK.days + 1
    assert RetentionConfig(run_days=shortest).run_days == shortest
    with pytest.raises(ValidationError, match=f"run_days is {shortest - 1}, and the least is {shortest}: healing"):
        RetentionConfig(run_days=shortest - 1)
