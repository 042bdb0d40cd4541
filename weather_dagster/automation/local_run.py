"""Running the ``hourly_weather`` job in this process, as ``weather demo`` and ``weather backfill`` do.

The run is recorded in the Dagster home that ``weather dev`` shows.
"""

from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import dagster as dg
from dagster import DagsterEventType, DagsterInstance

from weather_dagster.assets.bronze import bronze_key
from weather_dagster.datasets import DATASETS, Dataset
from weather_dagster.errors import WeatherError
from weather_dagster.hours import HourRange
from weather_dagster.partitions import range_tags

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Dagster's console logger writes several lines an event; the CLI shows progress instead."""


class RunFailed(WeatherError):
    """A run of the job failed; the text gives each failed step's own message."""


@dataclass(frozen=True)
class FailedCheck:
    """A check that did not pass in a run."""

    name: str
    severity: str
    description: str


@dataclass(frozen=True)
class RunSummary:
    """What a run of the job did."""

    run_id: str
    failed_checks: tuple[FailedCheck, ...]
    checks: int


def run_hourly_weather(
    definitions: dg.Definitions,
    hours: HourRange,
    datasets: Sequence[Dataset],
    *,
    places: Sequence[str],
    logs: Path,
    on_progress: Callable[[str, int, int], None],
) -> RunSummary:
    """Run the job over ``hours`` as one run; ``on_progress(what, done, total)`` is called as it goes.

    Args:
        datasets: the bronze datasets to land; silver, gold and report are always refreshed.
        places: ids of the only places to fetch; empty for all.
        logs: folder for what dbt prints, a file a run.

    Raises:
        RunFailed: a step failed, or a blocking check did not pass.
        KeyboardInterrupt: the run was interrupted.
    """
    job = definitions.resolve_job_def("hourly_weather")
    left_out = [bronze_key(d) for d in DATASETS.values() if d not in datasets]
    selection = sorted(set(job.asset_layer.executable_asset_keys).difference(left_out))
    partitioned = len(datasets)
    total = partitioned * len(hours) + len(selection) - partitioned
    done = 0

    def follow(event: dg.EventLogEntry) -> None:
        nonlocal done
        if event.dagster_event and event.dagster_event.event_type == DagsterEventType.ASSET_MATERIALIZATION:
            done += 1
            key = event.dagster_event.asset_key
            on_progress(key.to_user_string() if key else "", done, total)

    run_id = str(uuid4())
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{run_id}.log"
    with DagsterInstance.get() as instance, log.open("w", encoding="utf-8") as output, redirect_stdout(output):
        instance.add_event_listener(run_id, follow)
        result = job.execute_in_process(
            run_config={**QUIET, "resources": {"places": {"config": {"ids": list(places)}}}},
            instance=instance,
            raise_on_error=False,
            run_id=run_id,
            tags=range_tags(hours),
            asset_selection=selection,
        )
    evaluations = result.get_asset_check_evaluations()
    failed = tuple(
        FailedCheck(
            f"{e.asset_key.to_user_string()}: {e.check_name}", e.severity.value, (e.description or "").split("\n")[0]
        )
        for e in evaluations
        if not e.passed
    )
    if not result.success:
        if _was_interrupted(result):
            raise KeyboardInterrupt
        raise RunFailed(f"{_explain(result, failed)}\n  dbt's own output is in {log}")
    return RunSummary(result.run_id, failed, len(evaluations))


def _step_failures(result: dg.ExecuteInProcessResult) -> list[dg.DagsterEvent]:
    return [event for event in result.all_events if event.event_type == DagsterEventType.STEP_FAILURE]


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    errors = [event.step_failure_data.error for event in _step_failures(result)]
    return any(error and error.cls_name == dg.DagsterExecutionInterruptedError.__name__ for error in errors)


def _explain(result: dg.ExecuteInProcessResult, failed: Sequence[FailedCheck]) -> str:
    lines = [f"run {result.run_id} failed"]
    for event in _step_failures(result):
        data = event.step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        lines.append(f"{event.step_key}: {told or (data.error.message.strip() if data.error else 'no message')}")
    lines += [f"{check.name} ({check.severity}): {check.description}" for check in failed]
    return "\n  ".join(lines)
