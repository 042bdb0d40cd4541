"""The schedule of the hourly job.

It asks for the running hour and never for hours that passed while it was down or switched off: Dagster runs a plain
schedule for its newest tick alone, and the sensor ``heal_missing_hours`` fills what is missing.
"""

from datetime import datetime

import dagster as dg

from weather_dagster.automation.jobs import HOURLY_WEATHER, hourly_weather
from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.partitions import partition_key

TRIGGER_TAG = "weather/trigger"
"""Who asked for a run: ``schedule``, ``healing`` or ``refresh``."""
HEALING = "healing"
MINUTE = 5


def hourly_schedule(start_hour: datetime) -> dg.ScheduleDefinition:
    """The schedule on a grid that begins at ``start_hour``.

    The partition key goes to the bronze assets, which have partitions; silver, gold and report have none and run with
    them, once.
    """

    @dg.schedule(
        name=HOURLY_WEATHER,
        job=hourly_weather,
        cron_schedule=f"{MINUTE} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"The running hour, {MINUTE} minutes after it began.",
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        hour = floor_hour(context.scheduled_execution_time)
        if hour < floor_hour(utc_now()):
            # Some endpoints tell the running hour alone; the sensor asks for a past one, where it is served.
            return dg.SkipReason(f"{format_hour(hour)} is over; the sensor heal_missing_hours asks for it")
        if hour < start_hour:
            return dg.SkipReason(f"the grid begins at {format_hour(start_hour)}")
        key = partition_key(hour)
        return dg.RunRequest(run_key=key, partition_key=key, tags={TRIGGER_TAG: "schedule"})

    return schedule
