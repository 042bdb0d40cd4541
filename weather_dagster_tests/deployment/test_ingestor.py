"""What a day of the ingestor's CronJob takes of each plan's calls, by the platform's own plan of its command."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from weather_dagster.datasets import DATASETS
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, parse_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.openweather import PLAN_NAMES
from weather_dagster.weather_api.plan import needs_of
from weather_dagster.weather_api.service import Window
from weather_dagster_tests.deployment.rendering import Object, manifests

pytestmark = pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh on the PATH")

TICKS = {Window.HOUR: 1, Window.DAY: 24, Window.MONTH: 31 * 24}
"""Of a CronJob that runs each hour; a minute's limit only sets the pace."""
CHOICES = {
    "open_meteo": {"weather_provider": ProviderName.OPEN_METEO},
    **{plan: {"openweather_plan": plan, "openweather_api_key": "0" * 32} for plan in PLAN_NAMES},
}


def cron_job() -> Object:
    (found,) = manifests("ingestor")
    return found


def asked(job: Object) -> HourRange:
    """The hours of a tick, as the shell makes them."""
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    shell, option, line = container["command"]
    told = line.replace("exec weather ingest", "echo")
    assert told != line
    said = subprocess.run([shell, option, told], capture_output=True, text=True, check=True).stdout
    hours = re.fullmatch(r"--from (\S+) --to (\S+)\n", said)
    assert hours, said
    return HourRange(parse_hour(hours[1], option="--from"), parse_hour(hours[2], option="--to"))


def above_the_limit(job: Object, settings: Settings) -> list[str]:
    """Limits that the CronJob's ticks would go beyond, had they been untouched."""
    assert re.fullmatch(r"\d+ \* \* \* \*", job["spec"]["schedule"])
    api = WeatherApi.from_settings(settings)
    places = load_locations(settings.locations_path)
    hours = asked(job)
    plans = [api.plan(dataset, places, hours) for dataset in DATASETS.values() if api.offers(dataset)]
    needs = needs_of(api.providers, plans, now=utc_now())
    assert needs
    return [
        f"{need.spent.product}: {need.weight * ticks:g} a {limit.window}, above {limit.amount:g}"
        for need in needs
        for limit in (need.spent.limit,)
        for ticks in (TICKS.get(limit.window, 0),)
        if need.weight * ticks > limit.amount
    ]


@pytest.fixture(params=CHOICES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return Settings.load(_env_file=None, weather_home=tmp_path, **CHOICES[request.param])


def test_a_day_of_ticks_has_enough_calls(settings: Settings) -> None:
    assert above_the_limit(cron_job(), settings) == []


def test_a_tick_asks_for_the_running_hour() -> None:
    now = floor_hour(utc_now())
    assert asked(cron_job()) in [HourRange(hour, hour) for hour in (now, now - HOUR)]


@pytest.mark.parametrize(
    ("plan", "back", "finding"),
    [
        ("one_call_4", 1, "one_call: 1200 a day, above 1000"),
        ("one_call_3", 3, "one_call: 1200 a day, above 1000"),
    ],
)
def test_a_tick_that_asks_for_too_much_is_found(plan: str, back: int, finding: str, tmp_path: Path) -> None:
    job = cron_job()
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    first = format_hour(floor_hour(utc_now()) - back * HOUR)
    container["command"][-1] = re.sub(r'--from "[^"]*"', f"--from {first}", container["command"][-1])
    settings = Settings.load(_env_file=None, weather_home=tmp_path, **CHOICES[plan])
    assert above_the_limit(job, settings) == [finding]
