"""The sensors that keep the store whole: missing hours are asked for again, waiting loads are refined."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Report
from weather_dagster.assets.bronze import bronze_key
from weather_dagster.automation.healing import BACK_OFF, Healing, Try, find_holes, hours_to_heal, plan_healing
from weather_dagster.automation.instance import release_dead_runs
from weather_dagster.automation.jobs import DATA_JOBS, hourly_weather, refresh_models
from weather_dagster.automation.schedules import HEALING, TRIGGER_TAG
from weather_dagster.automation.watch import (
    Cursor,
    automation_reports,
    budget_reports,
    check_report,
    ended_looks,
    freshness,
    look_report,
    news_for_the_ui,
    places_of_run,
    run_reports,
)
from weather_dagster.automation.watermarks import waiting_load
from weather_dagster.datasets import DATASETS
from weather_dagster.environments import store_of
from weather_dagster.errors import WarehouseError, WeatherError
from weather_dagster.hours import utc_now
from weather_dagster.locations import load_locations
from weather_dagster.partitions import hours_of_run, range_tags
from weather_dagster.settings import Settings
from weather_dagster.state import alerts_place
from weather_dagster.weather_api.api import WeatherApi

HEALING_TAG = "weather/healing"
LOAD_TAG = "weather/load"
"""The newest load that a run of ``refresh_models`` was started for."""
INTERVAL_SECONDS = 60
ALERT_INTERVAL_SECONDS = 30
DELIVERY_SECONDS = 20
"""Of a tick, which Dagster ends after a minute."""
LOCK_TIMEOUT = timedelta(seconds=2)
"""A sensor waits only so long for the store; it looks again in a minute."""
MAX_RUNS = 1000
"""So many earlier runs are looked at; within the look-back there are far fewer."""
IN_FLIGHT = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class EndedRun:
    """A run of the past, as Dagster keeps it."""

    run: dg.DagsterRun
    ended_at: datetime

    @property
    def succeeded(self) -> bool:
        """Whether it did all it had to."""
        return self.run.status is dg.DagsterRunStatus.SUCCESS


def healing_sensor(downstream: Iterable[dg.AssetKey]) -> dg.SensorDefinition:
    """The sensor that asks for missing hours again.

    Args:
        downstream: what runs with bronze whatever is asked for.
    """
    follow = sorted(downstream)

    @dg.sensor(
        name="heal_missing_hours",
        job=hourly_weather,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks for the place-hours of the last days that bronze lacks, as few runs over ranges of hours; "
        "one at a time, newest first, within what the schedule leaves of the budget.",
    )
    def heal_missing_hours(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        release_dead_runs(instance)
        if reason := busy(instance):
            return dg.SkipReason(reason)
        now = utc_now()
        try:
            healing = look_for_holes(instance, Settings.load(), now)
        except WarehouseError as error:
            return dg.SkipReason(str(error))
        if healing.run is None:
            return dg.SkipReason(healing.why_not)
        run = healing.run
        earlier = _ended(instance, {HEALING_TAG: "true"}, limit=1)
        return dg.RunRequest(
            # Differs from try to try, and is the same again when this tick is repeated after a crash.
            run_key=f"{run.hours} after {earlier[0].run.run_id if earlier else 'none'}",
            asset_selection=[*map(bronze_key, run.datasets), *follow],
            run_config={"resources": {"places": {"config": {"ids": list(run.places)}}}},
            tags={**range_tags(run.hours), TRIGGER_TAG: HEALING, HEALING_TAG: "true"},
        )

    return heal_missing_hours


def refresh_sensor() -> dg.SensorDefinition:
    """The sensor that lets dbt take on what landed without it."""

    @dg.sensor(
        name="refresh_waiting_loads",
        job=refresh_models,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Refreshes silver and gold when bronze holds loads that no dbt run has seen, such as those of "
        "`weather ingest`.",
    )
    def refresh_waiting_loads(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        instance = context.instance
        if reason := busy(instance):
            return dg.SkipReason(reason)
        try:
            with store_of(Settings.load()).open(read_only=True, patience=LOCK_TIMEOUT) as warehouse:
                load = waiting_load(warehouse)
        except WarehouseError as error:
            return dg.SkipReason(str(error))
        if load is None:
            return dg.SkipReason("no load waits")
        earlier = _ended(instance, {LOAD_TAG: str(load)}, limit=len(BACK_OFF))
        if earlier:
            due_at = earlier[0].ended_at + BACK_OFF[min(len(earlier), len(BACK_OFF) - 1)]
            if utc_now() < due_at:
                return dg.SkipReason(
                    f"load {load} still waits after run {earlier[0].run.run_id}; the next try is at "
                    f"{due_at:%Y-%m-%dT%H:%M:%SZ}"
                )
        return dg.RunRequest(
            run_key=f"load {load} after {earlier[0].run.run_id if earlier else 'none'}",
            tags={TRIGGER_TAG: "refresh", LOAD_TAG: str(load)},
        )

    return refresh_waiting_loads


def alert_sensor() -> dg.SensorDefinition:
    """The sensor that tells people what is wrong."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=ALERT_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people once of failed checks and runs, of data that grows old, of hours given up, of a "
        "budget near its end and of automation that was stopped; and once more when it is over.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # Here, not above: Apprise is slow to import, and the code location has to load fast.
        from weather_dagster.alerts.delivery import deliver, log, usable_targets

        instance, settings, now = context.instance, Settings.load(), utc_now()
        cursor = Cursor.model_validate_json(context.cursor) if context.cursor else Cursor.start(instance, now)
        reports, cursor = run_reports(instance, cursor.ticked(now))
        reports += automation_reports(instance, now)
        targets, faults = usable_targets(settings.weather_alert_urls)
        reports.append(look_report("alert targets", faults, now))
        looked, evaluations = look_at_data(instance, settings, now, is_settled=cursor.settled)
        reports += looked
        shown, cursor = news_for_the_ui(evaluations, cursor, now)
        with open_book(alerts_place(settings)) as book:
            book.apply([*reports, *ended_looks(book.alerts(open_only=True), reports, now)], now)
            window = timedelta(minutes=settings.weather_alert_window_minutes)
            routes = [(target.key, target.severity) for target in targets]
            messages = book.compose(routes, window, settings.weather_ui_url, now)
            log(messages)
            deliver(book, targets, now, seconds=DELIVERY_SECONDS)
        return dg.SensorResult(
            cursor=cursor.model_dump_json(),
            asset_events=shown,
            skip_reason=f"{len(reports)} looks, {len(messages)} messages",
        )

    return alerts


def look_at_data(
    instance: DagsterInstance, settings: Settings, now: datetime, *, is_settled: bool
) -> tuple[list[Report], list[dg.AssetCheckEvaluation]]:
    """What budget, missing hours and freshness tell. What cannot be looked at is told of, and the rest still is.

    Args:
        is_settled: whether what is old counts already.
    """
    reports: list[Report] = []
    evaluations: list[dg.AssetCheckEvaluation] = []
    faults: list[WeatherError] = []
    try:
        api = WeatherApi.from_settings(settings)
        reports += budget_reports(api.spent(), now)
        reports += look_for_holes(instance, settings, now).reports
        with store_of(settings).open(read_only=True, patience=LOCK_TIMEOUT) as warehouse:
            evaluations = freshness(warehouse, api, load_locations(settings.locations_path), now)
        if is_settled:
            reports += [check_report(evaluation, None, now) for evaluation in evaluations]
    except WarehouseError:
        pass  # There is none yet, or a run holds it: it is looked at the next time, and runs tell of any other fault.
    except WeatherError as error:
        faults.append(error)
    return [*reports, look_report("data", faults, now)], evaluations


def look_for_holes(instance: DagsterInstance, settings: Settings, now: datetime) -> Healing:
    """What is missing in the store, the run that is due for it, and the reports for the alerts.

    Raises:
        WarehouseError: the store is held by another process.
        ConfigurationError: settings or the file of places are wrong.
    """
    api = WeatherApi.from_settings(settings)
    locations = load_locations(settings.locations_path)
    datasets = DATASETS.values()
    store = store_of(settings)
    if store.exists():
        with store.open(read_only=True, patience=LOCK_TIMEOUT) as warehouse:
            holes = find_holes(warehouse, api, datasets, locations, now, start_hour=settings.start_hour)
    else:
        holes = find_holes(None, api, datasets, locations, now, start_hour=settings.start_hour)
    tries = healing_tries(instance, settings.start_hour, now) if holes.open else []
    return plan_healing(holes, api, datasets, locations, tries, now)


def healing_tries(instance: DagsterInstance, start_hour: datetime, now: datetime) -> list[Try]:
    """The healing runs that have ended and whose hours reach into the look-back."""
    looked_at = hours_to_heal(start_hour, now)
    tries = []
    for ended in _ended(instance, {HEALING_TAG: "true"}, limit=MAX_RUNS):
        run = ended.run
        hours = hours_of_run(run.tags)
        if looked_at is None or hours is None or hours.last < looked_at.first:
            continue
        selection = run.asset_selection or frozenset()
        datasets = frozenset(name for name, dataset in DATASETS.items() if bronze_key(dataset) in selection)
        tries.append(Try(hours, datasets, places_of_run(run), ended.ended_at, ended.succeeded))
    return tries


def busy(instance: DagsterInstance) -> str:
    """Which run writes the store now or will soon; empty when none does."""
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_FLIGHT)):
        if run.job_name in DATA_JOBS:
            return f"run {run.run_id} of {run.job_name} is {run.status.value.lower()}"
    return ""


def _ended(instance: DagsterInstance, tags: dict[str, str], *, limit: int) -> Sequence[EndedRun]:
    """Runs with these tags that have ended, the newest first."""
    return [
        EndedRun(
            record.dagster_run,
            datetime.fromtimestamp(record.end_time, UTC) if record.end_time else record.update_timestamp,
        )
        for record in instance.get_run_records(dg.RunsFilter(tags=tags, statuses=ENDED), limit=limit)
    ]
