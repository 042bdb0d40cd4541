"""Well-formed answers of OpenWeather as parsed bodies, and the endpoints, the place and the hours they are for."""

from datetime import UTC, datetime, timedelta
from typing import Any

from weather_dagster.datasets import Dataset
from weather_dagster.hours import HourRange, floor_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import Endpoint

NOW = datetime(2026, 11, 25, 13, 20, tzinfo=UTC)
THIS_HOUR = HourRange(floor_hour(NOW), floor_hour(NOW))
LYON = Location(id="lyon", name="Lyon", latitude=45.75, longitude=4.85, time_zone="Europe/Paris")


def hours_ago(first: int, last: int = 0) -> HourRange:
    """The hours from ``first`` to ``last`` hours before the running one."""
    running = floor_hour(NOW)
    return HourRange(running - timedelta(hours=first), running - timedelta(hours=last))


def endpoint_at(path: str, plan: str = "simulator", dataset: Dataset | None = None) -> Endpoint:
    """An endpoint of a plan; ``dataset`` where two have the same path."""
    endpoints = openweather.plans(None)[plan].endpoints
    return next(e for e in endpoints if e.path == path and dataset in (None, e.dataset))


def record(dt: int, **blocks: Any) -> dict[str, Any]:
    """A well-formed weather record."""
    return {
        "dt": dt,
        "main": {"temp": 7.5, "feels_like": 6.5, "pressure": 1012, "humidity": 70},
        "weather": [{"id": 802, "main": "Clouds", "description": "scattered clouds", "icon": "03d"}],
        "clouds": {"all": 40},
        "wind": {"speed": 3, "deg": 220, "gust": 5},
        "visibility": 10000,
        **blocks,
    }


def current(dt: int, **blocks: Any) -> dict[str, Any]:
    """A well-formed answer of current weather at Lyon."""
    return {"coord": {"lat": 45.75, "lon": 4.85}, "cod": 200, "name": "Lyon", **record(dt, **blocks)}


def series(*records: Any, **envelope: Any) -> dict[str, Any]:
    """An envelope of records."""
    return {"cod": "200", "message": 0, "cnt": len(records), "list": list(records), **envelope}


def flat(dt: int, **fields: Any) -> dict[str, Any]:
    """A well-formed record of One Call."""
    return {
        "dt": dt,
        "temp": 7.5,
        "feels_like": 6.5,
        "pressure": 1012,
        "humidity": 70,
        "dew_point": 2.4,
        "uvi": 0.4,
        "clouds": 40,
        "visibility": 10000,
        "wind_speed": 3,
        "wind_deg": 220,
        "wind_gust": 5,
        "weather": [{"id": 802, "main": "Clouds", "description": "scattered clouds", "icon": "03d"}],
        **fields,
    }


def one_call(**parts: Any) -> dict[str, Any]:
    """An envelope of One Call at Lyon."""
    return {"lat": 45.75, "lon": 4.85, "timezone": "Europe/Paris", "timezone_offset": 3600, **parts}
