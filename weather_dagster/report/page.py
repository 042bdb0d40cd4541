"""The report as one HTML file that needs no network: words, links and layout around ``data.read_report_data``."""

import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from weather_dagster import quantities
from weather_dagster.attribution import Attribution, attribution
from weather_dagster.datasets import REASON_HELP, RejectionReason
from weather_dagster.errors import WarehouseError
from weather_dagster.quantities import Quantity
from weather_dagster.report.data import (
    HOURLY_DAYS,
    MEAN_NEEDS_HOURS,
    ReportData,
    Row,
    read_report_data,
)
from weather_dagster.warehouse.base import Warehouse

NOTHING = "\N{EN DASH}"
STALE_AFTER = timedelta(hours=3)
"""Age from which a reading of a live provider is marked as old."""
AIR_QUALITY_REACH = timedelta(hours=3)
"""How much older than the reading beside it an air quality may be."""


@dataclass(frozen=True)
class Source:
    """How the page announces a provider; whom it credits is in ``weather_dagster.attribution``."""

    label: str
    note: str = ""
    is_live: bool = True
    tells_snow: bool = True
    """Whether rain and snow are told apart."""


SOURCES = {
    "simulator": Source(
        label="SIMULATED DATA",
        note="Every value on this page was computed by the built-in simulator; nothing here was measured. "
        "Set OPENWEATHER_API_KEY to see real weather.",
    ),
    "recorded": Source(
        label="Recorded hours of 2013",
        note="Real observations, replayed: hourly readings of 2013 at three airports of New York. "
        "There is no air quality in this recording, and rain and snow are not told apart.",
        is_live=False,
        tells_snow=False,
    ),
    "openweather": Source(label="Live data from OpenWeather"),
    "open_meteo": Source(label="Live data from Open-Meteo"),
}

CONDITIONS = {
    "thunderstorm": "Thunderstorm",
    "drizzle": "Drizzle",
    "rain": "Rain",
    "snow": "Snow",
    "atmosphere": "Mist, haze or dust",
    "clear": "Clear sky",
    "clouds": "Clouds",
}

OPENWEATHER_AQI = {1: "good", 2: "fair", 3: "moderate", 4: "poor", 5: "very poor"}
"""Names of OpenWeather's own index, which the simulator speaks too; other providers' numbers stay without a word."""

_UNITS = {
    "_c": "°C",
    "_hpa": "hPa",
    "_pct": "%",
    "_ms": "m/s",
    "_deg": "°",
    "_m": "m",
    "_mm": "mm",
    "_ug_m3": "µg/m³",
}


def write_report(warehouse: Warehouse, path: Path, *, now: datetime, provider: str, watched: Collection[str]) -> Path:
    """Write the report, replacing an older one in one step.

    Args:
        warehouse: open, read-only is enough.
        now: instant that ages are counted to, until the page's script counts them anew.
        provider: name by which the page says where its data come from.
        watched: ids of the configured places. Others that the warehouse holds are named and no more.

    Returns:
        ``path``, absolute.

    Raises:
        WarehouseError: gold has not been built yet or holds none of the places, or the file cannot be written.
    """
    html = render_report(read_report_data(warehouse, watched), now=now, provider=provider)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, html)
    except OSError as error:
        raise WarehouseError(
            f"cannot write the report to {path}: {error.strerror}; "
            "give a path that can be written, or set WEATHER_HOME to one"
        ) from None
    return path


def render_report(data: ReportData, *, now: datetime, provider: str) -> str:
    """The page as text. Everything it needs is inside; a policy in its head forbids any request."""
    environment = Environment(
        loader=PackageLoader("weather_dagster.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False, "allow_nan": False}
    environment.filters |= {
        "number": _number,
        "age": lambda instant: _age(now - instant),
        "iso": lambda instant: instant.astimezone(UTC).isoformat(),
        "minute": lambda instant: instant.strftime("%Y-%m-%d %H:%M") if instant else NOTHING,
        "utc": lambda instant: instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if instant else NOTHING,
        "label": lambda column: _LABELS.get(column, column),
    }
    source = _source(provider)
    credited = _credits(data)
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        data=data,
        source=source,
        credits=credited,
        names_sources=not credited.keys() <= {provider},
        simulated_hours=sum(counts.get("simulator", 0) for counts in data.providers.values()),
        is_simulator=provider == "simulator",
        conditions=[_condition(place, now) for place in data.places],
        quality=[_quality(place, data) for place in data.places],
        reasons={reason.value: REASON_HELP[reason] for reason in RejectionReason},
        charts=_CHARTS,
        hourly_days=HOURLY_DAYS,
        mean_needs=MEAN_NEEDS_HOURS,
        stale_minutes=STALE_AFTER // timedelta(minutes=1),
        now=now,
        nothing=NOTHING,
        document=_document(data),
        plotly=Markup(plotly),  # noqa: S704 - a script of the installed package, not text of ours
    )


def _source(provider: str) -> Source:
    return SOURCES.get(provider) or Source(f"Data from {provider}")


def _credits(data: ReportData) -> dict[str, list[Attribution]]:
    """Whom the page has to name: by provider of what it shows, those behind its weather and its air quality."""
    shown: dict[str, list[Attribution]] = {}
    for provider in sorted({*data.weather_providers, *data.air_quality_providers}):
        own = attribution(provider)
        shown[provider] = [own]
        if own.air_quality and provider in data.air_quality_providers:
            shown[provider].append(own.air_quality)
    return shown


def _document(data: ReportData) -> Row:
    """What the page's script draws from."""
    return {
        "places": [
            {
                "id": place["location_id"],
                "name": place["name"],
                "zone": place["time_zone"],
                "hourly": _without_empty(data.hourly.get(place["location_id"], {})),
                "daily": _without_empty(data.daily.get(place["location_id"], {})),
                "hourlyTotals": data.hourly_totals.get(place["location_id"], {}),
                "dailyTotals": data.daily_totals.get(place["location_id"], {}),
                "tellsSnow": _tells_snow(data.providers.get(place["location_id"], ())),
            }
            for place in data.places
        ],
        "limits": {q.name: [q.lower, q.upper] for q in _AXES},
    }


def _tells_snow(providers: Iterable[str]) -> bool:
    """Whether rain and snow are told apart in every hour; one that is not makes a sum of snow meaningless."""
    return all(_source(provider).tells_snow for provider in providers)


def _without_empty(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns with a value at all; the script treats an absent column as one without values."""
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _condition(place: Row, now: datetime) -> Row:
    """Words for the card of one place."""
    valid, observed, local = place["valid_hour_utc"], place["observed_at_utc"], place["local_time"]
    if valid is None:
        return {**place, "has_reading": False}
    source = _source(place["provider"])
    known = place["condition_group"] in CONDITIONS
    icon = place["condition_group"] if known else "unknown"
    if icon == "clear" and is_night(place["latitude"], place["longitude"], observed):
        icon = "clear-night"
    return {
        **place,
        "has_reading": True,
        "offset": _offset(local - valid.astimezone(UTC).replace(tzinfo=None)),
        "condition": CONDITIONS.get(
            place["condition_group"],
            "Sky not reported" if place["condition_id"] is None else f"Unknown condition {place['condition_id']}",
        ),
        "icon": icon,
        "air_quality": _air_quality(place),
        "sources": _sources(place),
        "tells_snow": source.tells_snow,
        "is_live": source.is_live,
        "is_stale": source.is_live and now - observed > STALE_AFTER,
    }


def _air_quality(place: Row) -> str:
    """The index with its word, or a dash; a dash too, with the reason, for one of long before the reading."""
    aqi = place["provider_aqi"]
    if aqi is None:
        return NOTHING
    behind = place["valid_hour_utc"] - place["air_quality_hour_utc"]
    if behind > AIR_QUALITY_REACH:
        return f"{NOTHING} (last {behind // timedelta(hours=1)} h before)"
    word = OPENWEATHER_AQI.get(aqi) if place["air_quality_provider"] in ("openweather", "simulator") else None
    return f"{aqi} ({word})" if word else str(aqi)


def _sources(place: Row) -> str:
    """Who delivered the reading, and its air quality where that is of another provider."""
    weather, air_quality = place["provider"], place["air_quality_provider"]
    name = attribution(weather).name
    return name if air_quality in (None, weather) else f"{name}; air quality {attribution(air_quality).name}"


def is_night(latitude: float, longitude: float, instant: datetime) -> bool:
    """Whether the sun is below the horizon at a place (degrees, north and east positive), to about 20 minutes."""
    days = (instant - datetime(2000, 1, 1, 12, tzinfo=UTC)) / timedelta(days=1)
    declination = math.radians(-23.44) * math.cos(2 * math.pi * (days + 10.5) / 365.2422)
    hour_angle = 2 * math.pi * days + math.radians(longitude)
    height = math.sin(math.radians(latitude)) * math.sin(declination)
    height += math.cos(math.radians(latitude)) * math.cos(declination) * math.cos(hour_angle)
    # Refraction, and the sun's radius: its upper edge is the last to go.
    return height < math.sin(math.radians(-0.833))


def _quality(place: Row, data: ReportData) -> Row:
    """The row of one place in the table of data quality."""
    location_id = place["location_id"]
    daily = data.daily.get(location_id, {})
    expected, present = sum(daily.get("hours_in_period", ())), sum(daily.get("hours_present", ()))
    days = list(zip(*(daily.get(f"hours_{name}", ()) for name in ("present", "in_period", "in_day")), strict=True))
    hours = data.providers.get(location_id, {})
    return {
        "name": place["name"],
        "complete_days": sum(present == in_day for present, _, in_day in days),
        "partial_days": sum(present == in_period < in_day for present, in_period, in_day in days),
        "days_with_gaps": sum(present < in_period for present, in_period, _ in days),
        "expected": expected,
        "present": present,
        "missing": expected - present,
        "share_present": 100 * present / expected if expected else None,
        "quarantined": data.quarantined.get(location_id, {}),
        "rejected_fields": data.rejected_fields.get(location_id, {}),
        "providers": {name: 100 * count / sum(hours.values()) for name, count in hours.items()},
    }


def quantity_label(quantity: Quantity) -> str:
    """The head of the description, without unit, remarks and records: ``Air temperature``."""
    head = quantity.description
    for mark in (" of the accumulation", ", ", "; ", " ("):
        head = head.split(mark)[0]
    return head


def unit(column: str) -> str:
    """Unit of a measured column, from the end of its name.

    Raises:
        KeyError: the name ends in no unit we know.
    """
    for ending in sorted(_UNITS, key=len, reverse=True):
        if column.endswith(ending):
            return _UNITS[ending]
    raise KeyError(column)


_AXES = (quantities.TEMPERATURE, quantities.PRECIPITATION, quantities.WIND_GUST, quantities.OZONE)
"""Each chart's axis keeps to the limits of one of these."""

_LABELS = {q.name: quantity_label(q) for q in (*quantities.WEATHER, *quantities.AIR_QUALITY)}


def _heading(quantity: Quantity, addition: str = "") -> str:
    return f"{quantity_label(quantity)}{addition}, {unit(quantity.name)}"


_CHARTS = {
    "temperature": _heading(quantities.TEMPERATURE),
    "precipitation": f"Precipitation, {unit(quantities.PRECIPITATION.name)} per hour",
    "wind": f"Wind and gusts, {unit(quantities.WIND_SPEED.name)}",
    "air-quality": f"Air quality, {unit(quantities.PM2_5.name)}",
    "daily-temperature": _heading(quantities.TEMPERATURE, " by day"),
    "daily-precipitation": f"Precipitation by day, {unit(quantities.PRECIPITATION.name)}",
}
"""Titles of the charts of one place, by the id that the page's script draws to."""


def _number(value: float | None, digits: int = 1) -> str:
    """Fixed digits with a typographic minus; adding 0.0 keeps ``-0.0`` out."""
    if value is None:
        return NOTHING
    return f"{round(value, digits) + 0.0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _age(age: timedelta) -> str:
    minutes = max(0, int(age / timedelta(minutes=1)))
    hours, days = minutes // 60, minutes // 1440
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days} days" if days < 730 else f"{days // 365} years"


def _offset(offset: timedelta) -> str:
    """``UTC+5:45``, or ``UTC``."""
    if not offset:
        return "UTC"
    hours, minutes = divmod(abs(offset) // timedelta(minutes=1), 60)
    sign = "+" if offset > timedelta() else "\N{MINUS SIGN}"
    return f"UTC{sign}{hours}{f':{minutes:02d}' if minutes else ''}"


def _replace(path: Path, text: str) -> None:
    """Readers see the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
