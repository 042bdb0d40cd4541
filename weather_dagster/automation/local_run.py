"""Running the ``hourly_weather`` job in this process, as ``weather demo`` and ``weather backfill`` do.

The run is recorded in the Dagster home that ``weather dev`` shows.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psutil
from dagster import DagsterEventType, DagsterInstance

from weather_dagster.assets.bronze import bronze_key
from weather_dagster.datasets import DATASETS, Dataset
from weather_dagster.errors import ConfigurationError, WeatherError
from weather_dagster.hours import HourRange
from weather_dagster.partitions import POOL, range_tags
from weather_dagster.settings import Settings

PROJECT = Path(__file__).parents[2]
INSTANCE_FILE = PROJECT / "dagster.yaml"
WORKSPACE_FILE = PROJECT / "workspace.yaml"
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


def prepare_dagster_home(settings: Settings) -> Path:
    """Make the Dagster home with the project's ``dagster.yaml``, let DAGSTER_HOME name it, free it of dead runs.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    home = settings.dagster_home_path
    try:
        home.mkdir(parents=True, exist_ok=True)
        # A home of the user's own keeps its own file.
        if settings.dagster_home is None or not (home / INSTANCE_FILE.name).exists():
            shutil.copyfile(INSTANCE_FILE, home / INSTANCE_FILE.name)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the Dagster home {home}: {error.strerror}; "
            "set WEATHER_HOME (or DAGSTER_HOME) to a folder that can be written"
        ) from None
    os.environ["DAGSTER_HOME"] = str(home)
    with DagsterInstance.get() as instance:
        release_dead_runs(instance)
    return home


def release_dead_runs(instance: DagsterInstance) -> list[str]:
    """Fail the runs whose process is gone, and free the pool slots they hold; their ids.

    A killed process cannot give back its slot in the pool, and every later run would wait for it for ever.
    """
    storage = instance.event_log_storage
    held = storage.get_concurrency_info(POOL)
    released = []
    for run_id in sorted({*held.active_run_ids, *held.pending_run_ids}):
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            if _is_alive(instance, run_id):
                continue
            instance.report_run_failed(run, "The process of this run is gone; run the same range again to complete it.")
        storage.free_concurrency_slots_for_run(run_id)
        released.append(run_id)
    return released


def _is_alive(instance: DagsterInstance, run_id: str) -> bool:
    """Whether the process that the run's own events name last still is the one that started it."""
    for record in reversed(instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records):
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            try:
                return psutil.Process(int(str(pid.value))).create_time() <= record.event_log_entry.timestamp
            except psutil.NoSuchProcess:
                return False
    return True


def run_hourly_weather(
    definitions: dg.Definitions,
    hours: HourRange,
    datasets: Sequence[Dataset],
    *,
    on_progress: Callable[[str, int, int], None],
    log: Path,
) -> RunSummary:
    """Run the job over ``hours`` as one run; ``on_progress(what, done, total)`` is called as it goes.

    Args:
        datasets: the bronze datasets to land; silver, gold and report are always refreshed.
        log: file for what dbt prints.

    Raises:
        RunFailed: a step failed, or a blocking check did not pass.
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
    with DagsterInstance.get() as instance, log.open("w", encoding="utf-8") as output, redirect_stdout(output):
        instance.add_event_listener(run_id, follow)
        result = job.execute_in_process(
            run_config=QUIET,
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
        raise RunFailed(f"{_explain(result, failed)}\n  dbt's own output is in {log}")
    return RunSummary(result.run_id, failed, len(evaluations))


def _explain(result: dg.ExecuteInProcessResult, failed: Sequence[FailedCheck]) -> str:
    lines = [f"run {result.run_id} failed"]
    for event in result.all_events:
        if event.event_type == DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            told = data.user_failure_data.description if data.user_failure_data else None
            lines.append(f"{event.step_key}: {told or (data.error.message.strip() if data.error else 'no message')}")
    lines += [f"{check.name} ({check.severity}): {check.description}" for check in failed]
    return "\n  ".join(lines)
