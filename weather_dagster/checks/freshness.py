"""Two clocks of each place: when something was last fetched, and how old the newest weather is.

They look at the present, whatever hours a run covers, so that a sensor can ask them without a run. ERROR never
blocks: what is there is as good as it was. What the clocks go by, and why it cannot be set by the wrong row:

- fetching: only what was landed while its own hour was young. A backfill of old hours, a re-drive, and a row of an
  hour that is still to come are no sign that the hourly fetch works.
- weather: the provider's own time of a reading, at most that of its hour. A provider that repeats one reading, which
  may count for two hours, stays as old as that reading; an hour without its main value tells no weather.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from weather_dagster.checks.outcome import Outcome, named, place_table
from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, DatasetName
from weather_dagster.hours import HOUR, format_hour
from weather_dagster.locations import Location
from weather_dagster.quantities import PM2_5, TEMPERATURE, Quantity
from weather_dagster.warehouse.base import Warehouse


@dataclass(frozen=True)
class Limits:
    """Ages up to which a clock is in order; beyond ``warn`` it is a warning, beyond ``error`` an error."""

    warn: timedelta
    error: timedelta


FETCH_LIMITS = Limits(warn=2.5 * HOUR, error=6 * HOUR)
"""An hourly fetch at minute 5 leaves an age of an hour at most: one that fails is no news, two are, and the next one
has its time to land."""
WEATHER_LIMITS = Limits(warn=3 * HOUR, error=6 * HOUR)
"""A reading may lie half an hour before its hour, and the hour is an hour old before the next one is fetched."""
MAIN_VALUES: dict[DatasetName, Quantity] = {OBSERVATIONS.name: TEMPERATURE, AIR_QUALITY.name: PM2_5}
"""What a row must tell to count as weather."""
LANDED_WITHIN = 2 * HOUR
"""How long after its hour began a row may be landed to count as fetched in time: the hour, and one more to heal it."""
LOOK_BACK = timedelta(days=7)
"""Older is not told apart: it bounds what is read."""
GRACE = FETCH_LIMITS.warn
"""How long a place may be known without a row: that of another dataset may have made it known a moment ago."""

NOT_OFFERED = "no provider offers this dataset"


def fetched_recently(store: Warehouse, dataset: Dataset, locations: Sequence[Location], now: datetime) -> Outcome:
    """Whether something was fetched for every place within the last 2.5 hours (ERROR: 6), backfills left aside."""
    hour = dataset.partition_column
    clock = f"""
        max(ingested_at_utc) filter (
            where ingested_at_utc between {hour} and {hour} + interval '{LANDED_WITHIN // HOUR} hours'
            and ingested_at_utc <= $now::timestamptz
        )
    """
    return _judged(store, dataset, locations, now, clock, FETCH_LIMITS, "fetched in time")


def weather_recently(store: Warehouse, dataset: Dataset, locations: Sequence[Location], now: datetime) -> Outcome:
    """Whether the newest weather of every place is at most 3 hours old (ERROR: 6), the future left aside."""
    value = MAIN_VALUES[dataset.name].name
    clock = f"max(least(valid_hour_utc, observed_at_utc)) filter (where {value} is not null)"
    return _judged(store, dataset, locations, now, clock, WEATHER_LIMITS, f"an hour with {value}")


FreshnessCheck = Callable[[Warehouse, Dataset, Sequence[Location], datetime], Outcome]
"""Store, dataset, the places of the file (none: nobody offers the dataset), the present instant (aware)."""
FRESHNESS: dict[DatasetName, dict[str, FreshnessCheck]] = {
    OBSERVATIONS.name: {"fetched_recently": fetched_recently, "weather_recently": weather_recently},
    FORECASTS.name: {"fetched_recently": fetched_recently},
    AIR_QUALITY.name: {"fetched_recently": fetched_recently, "weather_recently": weather_recently},
}
"""By dataset and name of the check. The only clock of a forecast is that of fetching: its valid hours lie ahead."""


def _judged(
    store: Warehouse,
    dataset: Dataset,
    locations: Sequence[Location],
    now: datetime,
    clock: str,
    limits: Limits,
    what: str,
) -> Outcome:
    """Compare a clock with its limits.

    Args:
        clock: aggregate over the rows of a place up to ``$now``; null is as old as what is read.
        what: what the clock shows, in words.
    """
    if not locations:
        return Outcome(passed=True, description=NOT_OFFERED)
    ids = [location.id for location in locations]
    seen = _newest(store, dataset, clock, now)
    new = _new_places(store, dataset, [place for place in ids if place not in seen], now)
    newest = {place: instant for place, instant in seen.items() if instant is not None}
    ages = {place: now - newest[place] if place in newest else LOOK_BACK for place in ids if place not in new}
    late = sorted((place for place in ages if ages[place] > limits.warn), key=lambda place: -ages[place])
    rows = [
        {
            "place": place,
            "hour": format_hour(newest[place]) if place in newest else None,
            "value": _told(ages[place], what),
            "limit": _hours(limits.error if ages[place] > limits.error else limits.warn),
        }
        for place in late
    ]
    return Outcome(
        passed=not late,
        description=f"{len(ages) - len(late)} of {len(ages)} places are fresh, limit {_hours(limits.warn)}"
        + (f"; late: {named(f'{place} ({_told(ages[place], what)})' for place in late)}" if late else "")
        + (f"; without a first run yet: {named(new)}" if new else ""),
        metadata={
            "watched": len(ids),
            "late": len(late),
            **({"oldest_hours": max(ages.values()) / HOUR} if ages else {}),
            "warn_hours": limits.warn / HOUR,
            "error_hours": limits.error / HOUR,
            **place_table("late_places", rows),
        },
        severity=dg.AssetCheckSeverity.ERROR
        if any(age > limits.error for age in ages.values())
        else dg.AssetCheckSeverity.WARN,
    )


def _newest(store: Warehouse, dataset: Dataset, clock: str, now: datetime) -> dict[str, datetime | None]:
    """What the clock shows for each place that has a row of the last days."""
    sql = f"""
        select location_id, {clock}
        from bronze.{dataset.name}
        where {dataset.partition_column} between $first::timestamptz and $now::timestamptz
        group by location_id
    """
    return dict(store.query(sql, {"first": now - LOOK_BACK, "now": now}))


def _new_places(store: Warehouse, dataset: Dataset, ids: Sequence[str], now: datetime) -> list[str]:
    """Those of the places that no run can have fetched yet: they never had a row, and no landing knew them before.

    Places are told to the store by every landing, whether anything came of them or not.
    """
    if not ids:
        return []
    sql = f"""
        select place.location_id
        from unnest($places::varchar[]) as place(location_id)
        where not exists (select 1 from bronze.{dataset.name} as had where had.location_id = place.location_id)
            and not exists (
                select 1
                from bronze.locations as known
                inner join bronze.loads on loads.load_id = known.load_id
                where known.location_id = place.location_id and loads.landed_at_utc < $known_before::timestamptz
            )
    """
    return sorted(place for (place,) in store.query(sql, {"places": list(ids), "known_before": now - GRACE}))


def _told(age: timedelta, what: str) -> str:
    return f"nothing {what} within {LOOK_BACK.days} days" if age >= LOOK_BACK else f"{_hours(age)} old"


def _hours(span: timedelta) -> str:
    return f"{span / HOUR:.4g} h"
