"""Is it healthy? What each place has, what ran last, what is open: the facts behind ``weather status`` and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance

from weather_dagster.alerts.book import Alert, open_book
from weather_dagster.alerts.reports import Severity
from weather_dagster.automation.instance import recorded_instance
from weather_dagster.automation.schedules import TRIGGER_TAG
from weather_dagster.checks.freshness import WEATHER_LIMITS
from weather_dagster.environments import is_in_pod, store_of
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HOUR, floor_hour
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.state import alerts_place
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.ledger import Spent

DAY_HOURS = 24
WEEK_HOURS = 24 * 7
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
"""Before all weather."""
RUNS_SHOWN = 5
LOCK_PATIENCE = timedelta(seconds=10)
DAEMON_SILENT = timedelta(minutes=5)
"""After so long without a heartbeat the daemon is taken to be off."""


@dataclass(frozen=True)
class PlaceStatus:
    """What bronze holds of a place's observed weather."""

    location_id: str
    newest_hour_utc: datetime | None
    """The newest hour, not in the future, that has a temperature."""
    age: timedelta | None
    """From the end of that hour, or now when it is running."""
    day_share: float
    """Of the 24 whole hours before the running one, those that have arrived."""
    week_share: float
    """Of the 168."""


@dataclass(frozen=True)
class RunStatus:
    """A run of Dagster's."""

    run_id: str
    job: str
    status: str
    started_at: datetime | None
    seconds: float | None


@dataclass(frozen=True)
class Status:
    """Everything that one screen tells."""

    provider: str
    faults: tuple[str, ...]
    """Why it is not healthy, a line each."""
    places: tuple[PlaceStatus, ...]
    alerts: tuple[Alert, ...]
    """Those that last, silenced ones too."""
    spent: tuple[tuple[str, Spent], ...]
    runs: tuple[RunStatus, ...]
    is_daemon_up: bool


def examine(settings: Settings, now: datetime) -> Status:
    """Look at everything. What is old, missing or alerted of as an error makes it unhealthy.

    Raises:
        ConfigurationError: settings or the file of places are wrong.
    """
    locations = load_locations(settings.locations_path)
    faults: list[str] = []
    places: list[PlaceStatus] = []
    try:
        with store_of(settings).open(read_only=True, patience=LOCK_PATIENCE) as store:
            places = place_statuses(store, locations, now)
    except WarehouseError as error:
        faults.append(str(error))
    is_live = settings.provider is not ProviderName.RECORDED
    old = [place.location_id for place in places if place.age is None or place.age > WEATHER_LIMITS.error]
    if old and is_live:
        faults.append(f"the newest weather is older than {WEATHER_LIMITS.error / HOUR:.0f} hours at {', '.join(old)}")
    with open_book(alerts_place(settings), read_only=True) as book:
        alerts = book.alerts(open_only=True)
    faults += [f"{a.source} {a.subject}: {a.text}" for a in alerts if a.severity is Severity.ERROR]
    runs: list[RunStatus] = []
    is_daemon_up = False
    with recorded_instance(settings) as instance:
        if instance:
            runs, is_daemon_up = last_runs(instance, RUNS_SHOWN), daemon_is_up(instance, now)
            scheduled = instance.get_runs(dg.RunsFilter(tags={TRIGGER_TAG: "schedule"}), limit=1)
            if scheduled and not is_daemon_up:
                faults.append("Dagster's daemon does not run: nothing is fetched by itself; " + daemon_remedy())
    spent = WeatherApi.from_settings(settings).spent()
    return Status(
        settings.provider, tuple(faults), tuple(places), tuple(alerts), tuple(spent), tuple(runs), is_daemon_up
    )


def place_statuses(store: Warehouse, locations: Sequence[Location], now: datetime) -> list[PlaceStatus]:
    """The state of each place, in their order."""
    running = floor_hour(now)
    day, week = running - DAY_HOURS * HOUR, running - WEEK_HOURS * HOUR
    sql = """
        with hours as (
            select distinct location_id, valid_hour_utc
            from bronze.observations
            where valid_hour_utc between $since and $running and temperature_c is not null
                and location_id = any($places::varchar[])
        )
        select location_id, max(valid_hour_utc),
            count(*) filter (where valid_hour_utc < $running and valid_hour_utc >= $day),
            count(*) filter (where valid_hour_utc < $running and valid_hour_utc >= $week)
        from hours
        group by location_id
    """
    found: dict[str, tuple[datetime, int, int]] = {}
    # All that there is, is looked through for those places alone of which the last week has nothing.
    for since in (week, BEGINNING):
        if places := [location.id for location in locations if location.id not in found]:
            parameters = {"since": since, "running": running, "day": day, "week": week, "places": places}
            for place, newest_hour, day_hours, week_hours in store.query(sql, parameters):
                found[place] = newest_hour.astimezone(UTC), day_hours, week_hours
    statuses = []
    for location in locations:
        newest, day_hours, week_hours = found.get(location.id, (None, 0, 0))
        age = max(now - newest - HOUR, timedelta(0)) if newest else None
        statuses.append(PlaceStatus(location.id, newest, age, day_hours / DAY_HOURS, week_hours / WEEK_HOURS))
    return statuses


def last_runs(instance: DagsterInstance, limit: int) -> list[RunStatus]:
    """The newest runs, newest first."""
    runs = []
    for record in instance.get_run_records(limit=limit):
        start, end = record.start_time, record.end_time
        runs.append(
            RunStatus(
                record.dagster_run.run_id,
                record.dagster_run.job_name,
                record.dagster_run.status.value,
                datetime.fromtimestamp(start, UTC) if start else None,
                end - start if start and end else None,
            )
        )
    return runs


def daemon_remedy() -> str:
    """What to do about a daemon that does not run."""
    return "`kubectl logs deployment/weather-dagster-daemon` says why" if is_in_pod() else "`weather dev` starts it"


def daemon_is_up(instance: DagsterInstance, now: datetime) -> bool:
    """Whether Dagster's daemon, which starts what is scheduled, gave a sign of life lately."""
    heartbeats = [beat.timestamp for beat in instance.get_daemon_heartbeats().values()]
    return bool(heartbeats) and now.timestamp() - max(heartbeats) < DAEMON_SILENT.total_seconds()
