"""The Dagster instance of `weather` commands: its home, where its records are, and runs whose process is gone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psutil
import sqlalchemy as sa
import yaml
from dagster import DagsterEventType, DagsterInstance
from dagster._core.storage.runs.sqlite import SqliteRunStorage

from weather_dagster.environments import STORAGE_URL, environment_of, tell_dagster
from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import Settings

PROJECT = Path(__file__).parents[2]
INSTANCE_FILE = PROJECT / "dagster.yaml"
WORKSPACE_FILE = PROJECT / "workspace.yaml"
IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_CAN_KEEP = """
    select case
        when to_regclass('event_logs') is null then has_schema_privilege(current_schema(), 'create')
        else has_table_privilege('event_logs', 'insert')
    end
"""
CLOCK_SKEW_SECONDS = 60
"""The start of a process is known to a second at best, and a clock may have been set since."""


def prepare_dagster_home(settings: Settings) -> Path:
    """Make the provider's Dagster home with the instance of the environment, and free it of dead runs.

    DAGSTER_HOME names it from here on. One that a person has set is left alone: it may be that of
    another provider, or of another project.

    Raises:
        ConfigurationError: the folder cannot be written, or the database of Dagster's records cannot be used.
    """
    home = settings.dagster_home_path
    _write_instance(settings, home)
    os.environ["DAGSTER_HOME"] = str(home)
    with DagsterInstance.get() as instance:
        release_dead_runs(instance)
    return home


def _write_instance(settings: Settings, home: Path) -> None:
    """Put the ``dagster.yaml`` of the environment into a home, and tell Dagster the secrets that it names."""
    config = yaml.safe_load(INSTANCE_FILE.read_text(encoding="utf-8"))
    config |= environment_of(settings).instance
    if url := tell_dagster(settings):
        _require_reachable(url)
    try:
        home.mkdir(parents=True, exist_ok=True)
        (home / INSTANCE_FILE.name).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write the Dagster home {home}: {error.strerror}; set WEATHER_HOME to a folder that can be written"
        ) from None


def _require_reachable(url: str) -> None:
    """Connect once: Dagster itself would try for long and end in a page of its own calls."""
    try:
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            can_keep = connection.scalar(sa.text(_CAN_KEEP))
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        cause = getattr(error, "orig", None) or error
        raise ConfigurationError(
            f"the database of Dagster's records cannot be used: {' '.join(str(cause).split())}; "
            f"{STORAGE_URL} names it, and without that WEATHER_POSTGRES_URL"
        ) from None
    engine.dispose()
    if not can_keep:
        raise ConfigurationError(
            f"{engine.url.username!r} may not keep Dagster's records in the tables of the database "
            f"{engine.url.database!r}; let {STORAGE_URL} name a database that belongs to its role"
        )


def release_dead_runs(instance: DagsterInstance) -> None:
    """Fail the runs whose process is gone, and free the pool slots they hold.

    A killed process cannot give back its slot in the pool, and every later run would wait for it for ever. Records
    that several machines share tell nothing of processes here: there Dagster's run monitoring does this.
    """
    if not isinstance(instance.run_storage, SqliteRunStorage):
        return
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        if _is_alive(instance, run.run_id):
            continue
        # Its process may have ended well since the runs were listed.
        now = instance.get_run_by_id(run.run_id)
        if now and now.status in IN_PROGRESS:
            instance.report_run_failed(run, "The process of this run is gone; run the same range again to complete it.")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _is_alive(instance: DagsterInstance, run_id: str) -> bool:
    """Whether the process that the run's own events name last still is the one that started it."""
    for record in reversed(instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records):
        event = record.event_log_entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event else None
        if pid is not None:
            try:
                process = psutil.Process(int(str(pid.value)))
                started_it = process.create_time() <= record.event_log_entry.timestamp + CLOCK_SKEW_SECONDS
                return started_it and process.status() != psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return False
    return True


@contextmanager
def recorded_instance(settings: Settings) -> Iterator[DagsterInstance | None]:
    """What Dagster has recorded in the home, for reading; None when it never ran there."""
    home = settings.dagster_home_path
    if environment_of(settings).is_shared:
        _write_instance(settings, home)
    elif not (home / "history").exists():
        yield None
        return
    with DagsterInstance.from_config(str(home)) as instance:
        yield instance
