"""The hourly grid: one partition key is one UTC hour, ``YYYY-MM-DD-HH:MM``."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from weather_dagster.hours import HOUR, HourRange, floor_hour

POOL = "warehouse"
"""Pool of every op that opens the warehouse; its limit is the instance's: one at a time where that is a DuckDB file."""

_KEY_FORMAT = "%Y-%m-%d-%H:%M"
RANGE_START_TAG = "dagster/asset_partition_range_start"
PARTITION_TAG = "dagster/partition"
RANGE_END_TAG = "dagster/asset_partition_range_end"


def hourly_grid(start_hour: datetime) -> dg.HourlyPartitionsDefinition:
    """The grid from a fixed hour to the running hour, which is part of it."""
    return dg.HourlyPartitionsDefinition(start_date=start_hour, timezone="UTC", end_offset=1)


def partition_key(hour: datetime) -> str:
    """Key of a UTC hour."""
    return hour.strftime(_KEY_FORMAT)


def range_tags(hours: HourRange) -> dict[str, str]:
    """Run tags that make one run cover the whole range."""
    return {RANGE_START_TAG: partition_key(hours.first), RANGE_END_TAG: partition_key(hours.last)}


def hours_of_run(tags: Mapping[str, str]) -> HourRange | None:
    """The hours that a run is for, from its tags; None when it is for no partition."""
    first = tags.get(RANGE_START_TAG) or tags.get(PARTITION_TAG)
    last = tags.get(RANGE_END_TAG) or tags.get(PARTITION_TAG)
    return HourRange(_hour_of(first), _hour_of(last)) if first and last else None


def _hour_of(key: str) -> datetime:
    return datetime.strptime(key, _KEY_FORMAT).replace(tzinfo=UTC)


def window_hours(window: dg.TimeWindow) -> HourRange:
    """The hours of a run's partition window, whose end is exclusive."""
    return HourRange(floor_hour(window.start), floor_hour(window.end) - HOUR)
