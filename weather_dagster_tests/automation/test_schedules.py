"""The schedule: what a tick asks for."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import time_machine

from weather_dagster.definitions import build_definitions
from weather_dagster.settings import ProviderName, Settings

TICK = datetime(2026, 11, 25, 13, 5, tzinfo=UTC)


def requested(tick: datetime, now: datetime, **settings: object) -> dg.RunRequest | str:
    """The one run that a tick asks for, or why it asks for none."""
    defs = build_definitions(Settings.load(**settings))
    schedule = defs.get_repository_def().get_schedule_def("hourly_weather")
    context = dg.build_schedule_context(scheduled_execution_time=tick, repository_def=defs.get_repository_def())
    with time_machine.travel(now, tick=False):
        data = schedule.evaluate_tick(context)
    if data.skip_message:
        return data.skip_message
    (request,) = data.run_requests or []
    return request


def test_a_tick_asks_once_for_the_running_hour_with_its_partition(clean_environment: Path) -> None:
    request = requested(TICK, TICK + timedelta(seconds=20))
    assert isinstance(request, dg.RunRequest)
    assert (request.run_key, request.partition_key) == ("2026-11-25-13:00", "2026-11-25-13:00")
    assert request.tags["dagster/partition"] == "2026-11-25-13:00"
    assert request.tags["weather/trigger"] == "schedule"


def test_a_tick_that_comes_when_its_hour_is_over_leaves_it_to_the_sensor(clean_environment: Path) -> None:
    assert requested(TICK, TICK + timedelta(hours=1)) == (
        "2026-11-25T13:00 is over; the sensor heal_missing_hours asks for it"
    )


def test_a_grid_that_has_not_begun_is_waited_for(clean_environment: Path) -> None:
    told = requested(TICK, TICK, weather_start_hour=TICK.replace(hour=14, minute=0))
    assert told == "the grid begins at 2026-11-25T14:00"


def test_automation_runs_by_itself_from_the_first_start(clean_environment: Path) -> None:
    repository = build_definitions(Settings.load()).get_repository_def()
    assert {s.name: s.default_status for s in repository.schedule_defs} == {
        "hourly_weather": dg.DefaultScheduleStatus.RUNNING,
        "retention": dg.DefaultScheduleStatus.RUNNING,
    }
    running = {s.name for s in repository.sensor_defs if s.default_status is dg.DefaultSensorStatus.RUNNING}
    assert running == {"heal_missing_hours", "refresh_waiting_loads", "alerts"}
    schedule = repository.get_schedule_def("hourly_weather")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("5 * * * *", "UTC")


@pytest.mark.parametrize("provider", [ProviderName.RECORDED])
def test_a_recording_has_no_automation(clean_environment: Path, provider: ProviderName) -> None:
    repository = build_definitions(Settings.load(weather_provider=provider)).get_repository_def()
    assert not repository.schedule_defs
    assert not {"heal_missing_hours", "refresh_waiting_loads"} & {s.name for s in repository.sensor_defs}
