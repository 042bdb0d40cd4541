"""What the alert sensor looks at: runs that ended with their checks, freshness, the budget, whether automation is on.

Each look becomes a ``Report``; what is new in it and who hears of it is the alert book's business.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
from dagster import DagsterEventType, DagsterInstance
from pydantic import BaseModel

from weather_dagster.alerts.book import Alert
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.assets.bronze import bronze_key
from weather_dagster.automation.schedules import HEALING, TRIGGER_TAG
from weather_dagster.checks.freshness import FRESHNESS
from weather_dagster.datasets import DATASETS
from weather_dagster.errors import ConfigurationError, WeatherError
from weather_dagster.hours import HourRange, floor_hour, parse_hour
from weather_dagster.locations import Location
from weather_dagster.partitions import hours_of_run
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.ledger import Spent
from weather_dagster.weather_api.service import Window

ENDINGS: Final = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)
RUNS_A_TICK = 100
"""Of each ending; what is left waits for the next tick."""
RECENT = timedelta(hours=72)
"""Hours before these are history: what is found wrong in them is told once, and newer hours do not end it."""
BUDGET_SHARE = 0.9
"""Share of a day's or month's calls from which on a person hears of it."""
SETTLED = timedelta(minutes=10)
"""How long the sensor must have been awake before what is old counts as a problem: after a pause, the schedule and
healing come first."""
LONGEST_GAP = timedelta(minutes=5)
"""Between two ticks; after a longer one the sensor counts as having slept."""
FRESHNESS_CHECKS = sorted({name for checks in FRESHNESS.values() for name in checks})
SHOWN_EVERY = timedelta(hours=1)
"""How often the UI is told of freshness that has not changed."""
ON_BY_DEFAULT = ("hourly_weather", "heal_missing_hours", "refresh_waiting_loads")
"""The schedule and the sensors that a person may stop and forget."""


class Shown(BaseModel):
    """What the UI shows of a freshness check."""

    passed: bool
    severity: str
    at: datetime


class Cursor(BaseModel):
    """Where the sensor left off."""

    endings: dict[str, int] = {}
    """The newest storage id seen, by kind of ending."""
    ticked_at: datetime
    awake_since: datetime
    freshness: dict[str, Shown] = {}
    """What the UI was last told of each freshness check."""

    @classmethod
    def start(cls, instance: DagsterInstance, now: datetime) -> "Cursor":
        """At the head: what ended before the sensor first ran alerts nobody."""
        heads = {}
        for ending in ENDINGS:
            newest = instance.fetch_run_status_changes(ending, limit=1).records
            heads[ending.value] = newest[0].storage_id if newest else 0
        return cls(endings=heads, ticked_at=now, awake_since=now)

    def ticked(self, now: datetime) -> "Cursor":
        """The cursor of a tick at ``now``."""
        # A clock that was put back is a pause as well.
        slept = abs(now - self.ticked_at) > LONGEST_GAP
        awake_since = now if slept else min(self.awake_since, now)
        return self.model_copy(update={"ticked_at": now, "awake_since": awake_since})

    @property
    def settled(self) -> bool:
        """Whether schedule and healing have had their time since the last pause."""
        return self.ticked_at - self.awake_since >= SETTLED


def run_reports(instance: DagsterInstance, cursor: Cursor) -> tuple[list[Report], Cursor]:
    """What the runs that ended since ``cursor`` tell, in the order in which they ended, and the cursor behind them."""
    ended, endings = [], dict(cursor.endings)
    for ending in ENDINGS:
        wanted = dg.RunStatusChangeRecordsFilter(event_type=ending, after_storage_id=endings[ending.value])
        for record in instance.fetch_run_status_changes(wanted, limit=RUNS_A_TICK, ascending=True).records:
            endings[ending.value] = record.storage_id
            ended.append(record.event_log_entry)
    reports: list[Report] = []
    for entry in sorted(ended, key=lambda entry: entry.timestamp):
        run = instance.get_run_by_id(entry.run_id)
        if run:
            reports += _reports_of(instance, run, entry)
    return reports, cursor.model_copy(update={"endings": endings})


def _reports_of(instance: DagsterInstance, run: dg.DagsterRun, ending: dg.EventLogEntry) -> Iterator[Report]:
    at = datetime.fromtimestamp(ending.timestamp, UTC)
    evaluations = _evaluations(instance, run.run_id)
    steps_of_failed_checks = {
        step for step, _, e in evaluations if not e.passed and e.severity is dg.AssetCheckSeverity.ERROR
    }
    failed_steps = {
        record.event_log_entry.step_key: record.event_log_entry.dagster_event
        for record in instance.get_records_for_run(run.run_id, of_type=DagsterEventType.STEP_FAILURE).records
    }
    places = places_of_run(run)
    # What healing cannot fill, it tells itself in the end.
    is_retry = run.tags.get(TRIGGER_TAG) == HEALING
    for step, told_at, evaluation in evaluations:
        stopped = "the run ended there" if step in failed_steps and not evaluation.passed else ""
        report = check_report(evaluation, run.run_id, told_at, explains=stopped)
        # The bad rows that a blocking check found stay, and nobody tries them again.
        yield replace(report, subjects=places, is_retry=is_retry and not stopped)
    hours = hours_of_run(run.tags)
    source = _source(f"run {run.job_name}", hours, at)
    # A step that ended because a check of it failed is told by the check.
    unexplained = {step: event for step, event in failed_steps.items() if step not in steps_of_failed_checks}
    if run.status is dg.DagsterRunStatus.FAILURE and (unexplained or not failed_steps):
        told = [f"{step}: {_message(event)}" for step, event in unexplained.items() if event] or [
            *_told_from_outside(instance, run.run_id, ending)
        ]
        problem = Problem("", Severity.ERROR, "; ".join(told))
        is_event = _is_history(hours, at)
        yield Report(source, at, (problem,), run.run_id, hours, run.run_id, is_event=is_event, is_retry=is_retry)
    elif run.status is dg.DagsterRunStatus.SUCCESS:
        yield Report(source, at, (), run.run_id, hours, run.run_id, is_retry=is_retry)


def places_of_run(run: dg.DagsterRun) -> frozenset[str]:
    """The only places that a run fetches; empty for all."""
    config: Any = run.run_config
    return frozenset(config.get("resources", {}).get("places", {}).get("config", {}).get("ids", []))


def _evaluations(instance: DagsterInstance, run_id: str) -> list[tuple[str | None, datetime, dg.AssetCheckEvaluation]]:
    found = []
    for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION).records:
        entry = record.event_log_entry
        if entry.dagster_event:
            at = datetime.fromtimestamp(entry.timestamp, UTC)
            found.append((entry.step_key, at, entry.dagster_event.asset_check_evaluation_data))
    return found


def _told_from_outside(instance: DagsterInstance, run_id: str, ending: dg.EventLogEntry) -> list[str]:
    """How a run ended whose process could not tell: Dagster gives the signal that killed it in an event of its own."""
    records = instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records
    events = [ending.dagster_event, *(record.event_log_entry.dagster_event for record in records[-1:])]
    return [event.message for event in events if event and event.message]


def _message(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "no message"


def check_report(
    evaluation: dg.AssetCheckEvaluation, run_id: str | None, at: datetime, *, explains: str = ""
) -> Report:
    """What an evaluation of an asset check tells: a problem for each place that its metadata names, else one."""
    hours = _hours_of(evaluation.metadata)
    name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
    problems: list[Problem] = []
    if not evaluation.passed:
        severity = Severity.ERROR if evaluation.severity is dg.AssetCheckSeverity.ERROR else Severity.WARN
        description = evaluation.description or "failed"
        places = _places(evaluation.metadata)
        rows = _rows_by_place(evaluation.metadata)
        problems = [Problem(place, severity, rows.get(place, description)) for place in places] or [
            Problem("", severity, description)
        ]
    return Report(
        _source(f"check {name}", hours, at),
        at,
        tuple(problems),
        reference=run_id or "",
        hours=hours,
        run_id=run_id,
        explains=explains,
        muted_by=_causes(evaluation.asset_check_key),
        is_event=_is_history(hours, at),
    )


def _causes(check: dg.AssetCheckKey) -> tuple[str, ...]:
    """Sources of which a failure of this check is only what follows."""
    same_asset = f"check {check.asset_key.to_user_string()}: "
    if check.name in FRESHNESS_CHECKS:
        others = ("completeness", "quarantine_share", *(name for name in FRESHNESS_CHECKS if name < check.name))
        return ("run hourly_weather", "automation hourly_weather", *(same_asset + name for name in others))
    return (same_asset + "completeness",) if check.name == "usual_row_counts" else ()


def _source(base: str, hours: HourRange | None, at: datetime) -> str:
    return f"{base} of {hours}" if _is_history(hours, at) else base


def _is_history(hours: HourRange | None, at: datetime) -> bool:
    return hours is not None and hours.last < floor_hour(at) - RECENT


def _hours_of(metadata: Mapping[str, dg.MetadataValue]) -> HourRange | None:
    told = metadata.get("hours")
    if not isinstance(told, dg.TextMetadataValue) or told.text is None:
        return None
    first, _, last = told.text.partition(" to ")
    try:
        return HourRange(parse_hour(first, option="hours"), parse_hour(last or first, option="hours"))
    except ConfigurationError:
        return None  # A check of somebody else's, who means another thing by the word.


def _places(metadata: Mapping[str, dg.MetadataValue]) -> list[str]:
    told = metadata.get("places")
    return [str(place) for place in told.data] if isinstance(told, dg.JsonMetadataValue) and told.data else []


def _rows_by_place(metadata: Mapping[str, dg.MetadataValue]) -> dict[str, str]:
    """Of each place the first row of a table that has one, as text."""
    rows: dict[str, str] = {}
    for value in metadata.values():
        if isinstance(value, dg.TableMetadataValue):
            for record in value.records:
                data = record.data
                if "place" in data:
                    rows.setdefault(str(data["place"]), _sentence(data))
    return rows


def _sentence(row: Mapping[str, object]) -> str:
    """A row without its place: the hour, what a message says of it, and the other columns with their names."""
    rest = [f"{name} {value}" for name, value in row.items() if name not in ("place", "hour", "message")]
    return ", ".join([str(row[name]) for name in ("hour", "message") if name in row] + rest)


def freshness(
    store: Warehouse, api: WeatherApi, locations: Sequence[Location], now: datetime
) -> list[dg.AssetCheckEvaluation]:
    """The freshness checks, which must be looked at also when no run comes."""
    evaluations = []
    for dataset in DATASETS.values():
        watched = locations if api.offers(dataset) else ()
        for name, check in FRESHNESS[dataset.name].items():
            outcome = check(store, dataset, watched, now)
            evaluations.append(
                dg.AssetCheckEvaluation(
                    asset_key=bronze_key(dataset),
                    check_name=name,
                    passed=outcome.passed,
                    severity=outcome.severity,
                    description=outcome.description,
                    metadata=outcome.metadata,
                )
            )
    return evaluations


def news_for_the_ui(
    evaluations: Iterable[dg.AssetCheckEvaluation], cursor: Cursor, now: datetime
) -> tuple[list[dg.AssetCheckEvaluation], Cursor]:
    """Those that differ from what the UI shows, or that it has shown for long, and the cursor behind them."""
    news, shown = [], dict(cursor.freshness)
    for evaluation in evaluations:
        key = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
        before, state = shown.get(key), (evaluation.passed, evaluation.severity.value)
        if before is None or (before.passed, before.severity) != state or now - before.at >= SHOWN_EVERY:
            news.append(evaluation)
            shown[key] = Shown(passed=evaluation.passed, severity=evaluation.severity.value, at=now)
    return news, cursor.model_copy(update={"freshness": shown})


def budget_reports(spent: Iterable[tuple[str, Spent]], now: datetime) -> list[Report]:
    """Whether the calls of a day or month run out. ``spent`` as ``WeatherApi.spent`` gives it."""
    reports = []
    for provider, each in spent:
        limit = each.limit
        if limit.window not in (Window.DAY, Window.MONTH):
            continue
        source = f"budget {provider} {each.product} a {limit.window}"
        text = f"{each.amount:,.10g} of {limit.amount:,.10g} calls a {limit.window} are spent, {each.left:,.10g} left"
        near = each.amount >= BUDGET_SHARE * limit.amount
        problems = (Problem("", Severity.WARN, text),) if near else ()
        reports.append(Report(source, now, problems))
    return reports


def automation_reports(instance: DagsterInstance, now: datetime) -> list[Report]:
    """Whether the schedule and the sensors that keep the data whole are on."""
    stopped = {state.instigator_name for state in instance.all_instigator_state() if not state.is_running}
    reports = []
    for name in ON_BY_DEFAULT:
        text = f"{name} is stopped: nothing of it runs until it is switched on in the UI"
        problems = (Problem("", Severity.WARN, text),) if name in stopped else ()
        source = f"automation {name}"
        reports.append(Report(source, now, problems))
    return reports


def look_report(what: str, faults: Sequence[WeatherError], now: datetime) -> Report:
    """Whether something could be looked at."""
    problems = (Problem("", Severity.ERROR, "; ".join(map(str, faults))),) if faults else ()
    return Report(f"look at {what}", now, problems)


def ended_looks(alerts: Iterable[Alert], reports: Sequence[Report], now: datetime) -> list[Report]:
    """An all-well for budgets and healing that are not looked at any more, since provider or plan are others now."""
    looked = {report.source for report in reports}
    families = {source.split()[0] for source in looked}.intersection(("budget", "healing"))
    return [
        Report(alert.source, now)
        for alert in alerts
        if alert.source.split()[0] in families and alert.source not in looked
    ]
