"""The hourly grid: one partition key is one UTC hour, ``YYYY-MM-DD-HH:MM``."""

from collections.abc import Mapping
from datetime import datetime

import dagster as dg

from weather_dagster.hours import HOUR, HourRange, floor_hour

POOL = "duckdb"
"""Pool of every op that opens the DuckDB file: one at a time."""

_KEY_FORMAT = "%Y-%m-%d-%H:%M"
RANGE_START_TAG = "dagster/asset_partition_range_start"
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


def tagged_hours(tags: Mapping[str, str]) -> HourRange:
    """The hours of a run with ``range_tags``."""
    first, last = (
        datetime.strptime(f"{tags[tag]} +0000", f"{_KEY_FORMAT} %z") for tag in (RANGE_START_TAG, RANGE_END_TAG)
    )
    return HourRange(floor_hour(first), floor_hour(last))


def window_hours(window: dg.TimeWindow) -> HourRange:
    """The hours of a run's partition window, whose end is exclusive."""
    return HourRange(floor_hour(window.start), floor_hour(window.end) - HOUR)
