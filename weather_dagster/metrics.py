"""The platform's figures for Prometheus: calls from the ledger, rows and ages from bronze, runs from Dagster.

Every figure is read when it is asked for. A store that another process holds, or that is not there yet, leaves its
figures out and says so in ``weather_store_readable``.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Severity
from weather_dagster.datasets import DATASETS, Dataset
from weather_dagster.environments import store_of
from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.hours import HOUR, floor_hour, utc_now
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import Settings
from weather_dagster.state import alerts_place
from weather_dagster.status import BEGINNING, WEEK_HOURS, daemon_is_up, last_runs, place_statuses
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.weather_api.api import WeatherApi

if TYPE_CHECKING:
    from dagster import DagsterInstance

RUNS_LOOKED_AT = 100
LOCK_PATIENCE = timedelta(seconds=2)
"""How long a scrape waits for the store: it has to answer before its scraper gives up."""


class WeatherCollector(Collector):
    """Reads all figures anew at each scrape."""

    def __init__(
        self, settings: Settings, instance: "DagsterInstance | None", clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._settings = settings
        self._instance = instance
        self._clock = clock

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry would read everything once more to learn the names."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        now = self._clock()
        yield from self._calls()
        yield from self._runs(now)
        yield from self._alerts()
        readable = GaugeMetricFamily("weather_store_readable", "1 when bronze could be read, else 0")
        try:
            with store_of(self._settings).open(read_only=True, patience=LOCK_PATIENCE) as store:
                yield from _stored(store, load_locations(self._settings.locations_path), now)
            readable.add_metric([], 1)
        except WarehouseError:
            readable.add_metric([], 0)
        yield readable

    def _calls(self) -> Iterator[Metric]:
        api = WeatherApi.from_settings(self._settings)
        calls = CounterMetricFamily(
            "weather_api_calls", "Calls to a provider, by how they ended", labels=["provider", "product", "outcome"]
        )
        for provider, product, outcome, count in api.outcomes():
            calls.add_metric([provider, product, outcome], count)
        yield calls
        labels = ["provider", "product", "window"]
        limit = GaugeMetricFamily("weather_api_budget_limit", "Calls, by weight, that a window allows", labels=labels)
        spent = GaugeMetricFamily("weather_api_budget_spent", "Calls, by weight, spent in the window", labels=labels)
        for provider, each in api.spent():
            limit.add_metric([provider, each.product, each.limit.window], each.limit.amount)
            spent.add_metric([provider, each.product, each.limit.window], each.amount)
        yield from (limit, spent)

    def _runs(self, now: datetime) -> Iterator[Metric]:
        up = GaugeMetricFamily("weather_daemon_up", "1 when Dagster's daemon gave a sign of life lately")
        up.add_metric([], int(self._instance is not None and daemon_is_up(self._instance, now)))
        labels = ["job", "status"]
        seconds = GaugeMetricFamily("weather_run_duration_seconds", "Duration of the newest ended run", labels=labels)
        began = GaugeMetricFamily("weather_run_start_timestamp_seconds", "Start of that run", labels=labels)
        told = set()
        for run in last_runs(self._instance, RUNS_LOOKED_AT) if self._instance else ():
            if run.seconds is not None and run.started_at and (run.job, run.status) not in told:
                told.add((run.job, run.status))
                seconds.add_metric([run.job, run.status], run.seconds)
                began.add_metric([run.job, run.status], run.started_at.timestamp())
        yield from (up, seconds, began)

    def _alerts(self) -> Iterator[Metric]:
        alerts = GaugeMetricFamily("weather_alerts_open", "Problems that last, silenced ones too", labels=["severity"])
        with open_book(alerts_place(self._settings), read_only=True) as book:
            severities = [alert.severity for alert in book.alerts(open_only=True)]
        for severity in Severity:
            alerts.add_metric([severity], severities.count(severity))
        yield alerts


def _stored(store: Warehouse, locations: Iterable[Location], now: datetime) -> Iterator[Metric]:
    rows = CounterMetricFamily("weather_rows_landed", "Rows added to bronze", labels=["dataset", "provider"])
    sql = "select dataset, provider, sum(rows_added)::bigint from bronze.loads group by dataset, provider"
    for dataset, provider, count in sorted(store.query(sql)):
        rows.add_metric([dataset, provider], count)
    yield rows
    quarantined = GaugeMetricFamily(
        "weather_quarantine_open", "Records in quarantine, not resolved", labels=["dataset", "reason"]
    )
    sql = """
        select dataset, reason, count(*) from bronze.quarantine
        where resolved_load_id is null
        group by dataset, reason
    """
    for dataset, reason, count in sorted(store.query(sql)):
        quarantined.add_metric([dataset, reason], count)
    yield quarantined
    newest = GaugeMetricFamily(
        "weather_newest_hour_timestamp_seconds",
        "Newest hour of a place that is not in the future; of forecasts the hour of issue",
        labels=["dataset", "location_id"],
    )
    for each in DATASETS.values():
        for place, hour in sorted(_newest_hours(store, each, floor_hour(now)).items()):
            newest.add_metric([each.name, place], hour.timestamp())
    yield newest
    complete = GaugeMetricFamily(
        "weather_completeness_ratio",
        "Share of the hours of observed weather that are there",
        labels=["location_id", "window"],
    )
    for status in place_statuses(store, tuple(locations), now):
        complete.add_metric([status.location_id, "24h"], status.day_share)
        complete.add_metric([status.location_id, "7d"], status.week_share)
    yield complete


def _newest_hours(store: Warehouse, dataset: Dataset, running: datetime) -> dict[str, datetime]:
    """By place; all that there is, is looked through for those alone of which the last week has nothing."""
    column = dataset.partition_column
    sql = f"""
        select location_id, max({column})
        from bronze.{dataset.name}
        where {column} between $since and $running and location_id = any($places::varchar[])
        group by location_id
    """
    known = {place for (place,) in store.query("select location_id from bronze.locations")}
    newest: dict[str, datetime] = {}
    for since in (running - WEEK_HOURS * HOUR, BEGINNING):
        if places := sorted(known - newest.keys()):
            newest |= dict(store.query(sql, {"since": since, "running": running, "places": places}))
    return newest


def registry(settings: Settings, instance: "DagsterInstance | None") -> CollectorRegistry:
    """A registry of these figures alone."""
    made = CollectorRegistry()
    made.register(WeatherCollector(settings, instance))
    return made


def write_textfile(path: Path, metrics: CollectorRegistry) -> None:
    """Write for node_exporter's textfile collector, whole or not at all.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    try:
        write_to_textfile(str(path), metrics)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}; let --textfile name a file in a folder that can be"
        ) from None
