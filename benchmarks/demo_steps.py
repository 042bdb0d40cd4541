"""Seconds of each step of the newest run in the Dagster home, bronze split by what it waited for."""

import json

import dagster as dg
from dagster import DagsterEventType

from weather_dagster.automation.instance import prepare_dagster_home
from weather_dagster.settings import Settings

prepare_dagster_home(Settings.load())
steps: dict[str, float] = {}
with dg.DagsterInstance.get() as instance:
    (run,) = instance.get_run_records(limit=1)
    for stats in instance.get_run_step_stats(run.dagster_run.run_id):
        if stats.start_time and stats.end_time:
            steps[stats.step_key] = stats.end_time - stats.start_time
    for record in instance.get_records_for_run(
        run.dagster_run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION
    ).records:
        materialization = record.event_log_entry.asset_materialization
        if materialization and "fetch_seconds" in materialization.metadata:
            name = "__".join(materialization.asset_key.path)
            steps[f"  {name}: fetch and check"] = float(materialization.metadata["fetch_seconds"].value)
            steps[f"  {name}: land"] = float(materialization.metadata["land_seconds"].value)
    if run.start_time and run.end_time:
        steps["run, all steps and their events"] = run.end_time - run.start_time
print(json.dumps(steps))
