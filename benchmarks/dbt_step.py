"""Run the dbt assets as a step of a Dagster run in a loaded process; prints wall s, CPU s (children too), 0."""

import json
import resource
import time

import dagster as dg

from weather_dagster.automation.instance import prepare_dagster_home
from weather_dagster.automation.local_run import QUIET
from weather_dagster.settings import Settings

prepare_dagster_home(Settings.load())

from weather_dagster.definitions import defs  # noqa: E402 - the home has to be known first


def cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


job = defs.resolve_job_def("hourly_weather")
models = [key for key in job.asset_layer.executable_asset_keys if key.path[0] in ("silver", "gold")]
with dg.DagsterInstance.get() as instance:
    start, used = time.perf_counter(), cpu()
    job.execute_in_process(instance=instance, run_config=QUIET, asset_selection=models)
    print(json.dumps([time.perf_counter() - start, cpu() - used, 0]))
