"""What the report shows, read from gold, silver and the bronze ledgers. No words and no HTML here."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from weather_dagster.errors import WarehouseError
from weather_dagster.quantities import NITROGEN_DIOXIDE, OZONE, PM2_5, PM10
from weather_dagster.warehouse.base import Warehouse

HOURLY_DAYS = 31
"""Days of each place, counted back from its newest hour, for which the page carries hourly values."""

QUARANTINE_SHOWN = 10
"""Newest entries of the quarantine that the page quotes."""

MEAN_NEEDS_HOURS = {"24h": 12, "7d": 84}
"""Hours with a temperature, half of the frame, below which a moving mean is left out: it would follow the hours."""

CHARTED_POLLUTANTS = (PM2_5, PM10, OZONE, NITROGEN_DIOXIDE)

Row = dict[str, Any]
Columns = dict[str, list[Any]]

_TABLES = frozenset(
    {
        "bronze.loads",
        "bronze.locations",
        "bronze.quarantine",
        "gold.daily_weather",
        "gold.hourly_weather",
        "gold.latest_conditions",
        "gold.temperature_moving_averages",
        "silver.air_quality",
    }
)

_CONDITIONS = (
    "latitude",
    "longitude",
    "valid_hour_utc",
    "local_time",
    "provider",
    "observed_at_utc",
    "temperature_c",
    "apparent_temperature_c",
    "humidity_pct",
    "pressure_hpa",
    "wind_speed_ms",
    "wind_gust_ms",
    "wind_direction_deg",
    "wind_compass",
    "rain_mm",
    "snow_mm",
    "precipitation_mm",
    "condition_id",
    "condition_group",
)
_HOURLY = {
    "temperature_c": "weather.temperature_c",
    "mean_3h_c": "averages.mean_3h_c",
    **{
        f"mean_{frame}_c": f"case when averages.hours_present_{frame} >= {hours} then averages.mean_{frame}_c end"
        for frame, hours in MEAN_NEEDS_HOURS.items()
    },
    "rain_mm": "weather.rain_mm",
    "snow_mm": "weather.snow_mm",
    "wind_speed_ms": "weather.wind_speed_ms",
    "wind_gust_ms": "weather.wind_gust_ms",
    "wind_direction_deg": "round(weather.wind_direction_deg)::integer",
    "wind_compass": "weather.wind_compass",
    **{q.name: f"air.{q.name}" for q in CHARTED_POLLUTANTS},
}
_HOURLY_DIGITS = {
    **dict.fromkeys(_HOURLY.keys() - {"wind_direction_deg", "wind_compass"}, 1),
    "rain_mm": 2,
    "snow_mm": 2,
}
_DAILY_COUNTS = ("hours_present", "temperature_hours", "precipitation_hours_present")
_DAILY_MEASURES = (
    "temperature_mean_c",
    "temperature_min_c",
    "temperature_max_c",
    "precipitation_mm",
    "rain_mm",
    "snow_mm",
    "wind_speed_mean_ms",
    "wind_gust_max_ms",
    "wind_direction_mean_deg",
    "humidity_mean_pct",
    "pressure_mean_hpa",
    "heating_degree_days",
    "cooling_degree_days",
)
_DAILY_DIGITS = dict.fromkeys(_DAILY_MEASURES, 1)


# Sums of the same hours, taken hour by hour or day by day, differ in the last bits of a double alone.
_TOTALS_SQL = ", ".join(
    f"round(sum({name})::decimal(18, 3), 1)::double precision as {name}"
    for name in ("precipitation_mm", "rain_mm", "snow_mm")
)


@dataclass(frozen=True)
class ReportData:
    """Everything on the page, for the watched places alone where nothing else is said.

    Places are in the order of their names; instants are aware, in UTC.
    """

    places: list[Row]
    """location_id, name, country, time_zone, columns of gold.latest_conditions or None, and the newest air
    quality index up to the hour of the reading, with its hour and provider."""
    unwatched: list[str]
    """Names of the places in the warehouse that are watched no longer."""
    first_hour: datetime | None
    """None when gold holds no hour at all."""
    last_hour: datetime | None
    hourly: dict[str, Columns]
    """By place, columnar: every hour of the last ``HOURLY_DAYS`` days, missing ones as None; ``time`` is local, naive,
    and None in a row that only breaks the lines (clocks went back)."""
    hourly_is_cut: bool
    """Whether gold holds hours older than ``hourly``."""
    daily: dict[str, Columns]
    """By place, columnar: every local day from the place's first hour to the last hour of all places.

    ``hours_in_period`` counts the hours of the day within that span: less than ``hours_in_day`` on the
    first day, when it began late, and on the last, when it is not over yet.
    """
    hourly_totals: dict[str, Row]
    """By place: mm of precipitation, rain and snow, and wet hours, in the hours of ``hourly``; from unrounded
    values."""
    daily_totals: dict[str, Row]
    """By place: mm of precipitation, rain and snow in the days of ``daily``; from unrounded values."""
    providers: dict[str, dict[str, int]]
    """By place, watched or not: provider -> hours in gold."""
    weather_providers: list[str]
    """Of the weather that is on the page."""
    air_quality_providers: list[str]
    """Of the air quality that is on the page."""
    rejected_fields: dict[str, dict[str, int]]
    """By place, watched or not: quantity -> hours whose value was implausible and is null in gold."""
    quarantined: dict[str, dict[str, int]]
    """By place, watched or not: reason -> open entries of bronze.quarantine, of all datasets."""
    newest_quarantined: list[Row]
    """Of all places, watched or not."""
    loads: list[Row]
    """The newest load of each dataset."""


def read_report_data(warehouse: Warehouse, watched: Collection[str]) -> ReportData:
    """Read all that the page shows.

    Args:
        watched: ids of the places that are fetched now; the warehouse may hold others, and lack some.

    Raises:
        WarehouseError: dbt has not built gold yet, or it holds none of the places.
    """
    _require_tables(warehouse)
    names = dict(warehouse.query("select location_id, name from bronze.locations"))
    ids = [location_id for location_id in names if location_id in watched]
    places = warehouse.query_rows(_PLACES_SQL, {"watched": ids})
    if not places:
        raise WarehouseError(
            "the warehouse holds none of the watched places yet; "
            "run `weather demo` or `weather backfill`, then this again"
        )
    ((first_hour, last_hour),) = warehouse.query(
        "select min(valid_hour_utc), max(valid_hour_utc) from gold.hourly_weather "
        "where location_id = any($watched::varchar[])",
        {"watched": ids},
    )
    reach = {"watched": ids, "hours_before": HOURLY_DAYS * 24 - 1}
    return ReportData(
        places=sorted(places, key=itemgetter("name", "location_id")),
        unwatched=sorted(name for location_id, name in names.items() if location_id not in watched),
        first_hour=first_hour,
        last_hour=last_hour,
        hourly=_hourly(warehouse, reach),
        hourly_is_cut=first_hour is not None and (last_hour - first_hour).days >= HOURLY_DAYS,
        daily=_daily(warehouse, {"watched": ids, "last_hour": last_hour}),
        hourly_totals=_by_place(warehouse, _HOURLY_TOTALS_SQL, reach),
        daily_totals=_by_place(
            warehouse,
            f"""
            select location_id, {_TOTALS_SQL}
            from gold.daily_weather
            where location_id = any($watched::varchar[])
            group by location_id
            """,
            {"watched": ids},
        ),
        providers=_counts(
            warehouse.query(
                "select location_id, provider, count(*) from gold.hourly_weather group by location_id, provider"
            )
        ),
        weather_providers=_providers(warehouse, "gold.hourly_weather", ids),
        air_quality_providers=_providers(warehouse, "silver.air_quality", ids),
        rejected_fields=_counts(
            (location_id, name.strip(), count)
            for location_id, rejected_fields, count in warehouse.query(
                """
                select location_id, rejected_fields, count(*)
                from gold.hourly_weather
                where rejected_fields is not null
                group by location_id, rejected_fields
                """
            )
            for name in rejected_fields.split(",")
        ),
        quarantined=_counts(
            warehouse.query(
                """
                select location_id, reason, count(*)
                from bronze.quarantine
                where resolved_load_id is null
                group by location_id, reason
                """
            )
        ),
        newest_quarantined=warehouse.query_rows(
            """
            select coalesce(place.name, entry.location_id) as place, dataset, hour_utc, reason, message
            from bronze.quarantine as entry
            left join bronze.locations as place on place.location_id = entry.location_id
            where resolved_load_id is null
            order by entry.load_id desc, hour_utc desc, message
            limit $shown
            """,
            {"shown": QUARANTINE_SHOWN},
        ),
        loads=sorted(
            warehouse.query_rows(
                """
                select dataset, provider, load_id, first_hour_utc, last_hour_utc, rows_added, quarantined, landed_at_utc
                from bronze.loads
                where load_id in (select max(load_id) from bronze.loads group by dataset)
                """
            ),
            key=itemgetter("dataset"),
        ),
    )


def _require_tables(warehouse: Warehouse) -> None:
    if missing := sorted(_TABLES - warehouse.tables()):
        raise WarehouseError(
            f"the warehouse has no {', '.join(missing)} to report from; run `weather demo` or `weather backfill`, "
            "which build them, then this again"
        )


_PLACES_SQL = f"""
    with newest_air as (
        select air.location_id, max(air.valid_hour_utc) as valid_hour_utc
        from silver.air_quality as air
        inner join gold.latest_conditions as weather on weather.location_id = air.location_id
        where air.provider_aqi is not null and air.valid_hour_utc <= weather.valid_hour_utc
        group by air.location_id
    )
    select place.location_id, place.name, place.country, place.time_zone,
        {", ".join(f"weather.{name}" for name in _CONDITIONS)},
        air.valid_hour_utc as air_quality_hour_utc, air.provider_aqi, air.provider as air_quality_provider
    from bronze.locations as place
    left join gold.latest_conditions as weather on weather.location_id = place.location_id
    left join newest_air on newest_air.location_id = place.location_id
    left join silver.air_quality as air
        on air.location_id = newest_air.location_id and air.valid_hour_utc = newest_air.valid_hour_utc
    where place.location_id = any($watched::varchar[])
"""

_WATCHED_SQL = """
    watched as (
        select location_id, time_zone from bronze.locations where location_id = any($watched::varchar[])
    )
"""

# Weather and air quality share one frame of hours, so that a hole in either shows as a hole.
_FRAME_SQL = f"""
    with {_WATCHED_SQL},
    hours as (
        select location_id, valid_hour_utc from gold.hourly_weather
        union all
        select location_id, valid_hour_utc from silver.air_quality
    ),
    spans as (
        select location_id, time_zone, min(valid_hour_utc) as first_hour, max(valid_hour_utc) as last_hour
        from hours
        inner join watched using (location_id)
        group by location_id, time_zone
    ),
    frame as (
        select location_id, time_zone, valid_hour_utc
        from spans
        cross join lateral generate_series(
            greatest(first_hour, last_hour - $hours_before::integer * interval '1 hour'),
            last_hour,
            interval '1 hour'
        ) as grid(valid_hour_utc)
    )
"""

_HOURLY_SQL = f"""
    {_FRAME_SQL}
    select location_id, valid_hour_utc at time zone frame.time_zone, {", ".join(_HOURLY.values())}
    from frame
    left join gold.hourly_weather as weather using (location_id, valid_hour_utc)
    left join gold.temperature_moving_averages as averages using (location_id, valid_hour_utc)
    left join silver.air_quality as air using (location_id, valid_hour_utc)
    order by location_id, valid_hour_utc
"""

_HOURLY_TOTALS_SQL = f"""
    {_FRAME_SQL}
    select location_id, {_TOTALS_SQL}, count(*) filter (where precipitation_mm > 0) as wet_hours
    from frame
    inner join gold.hourly_weather using (location_id, valid_hour_utc)
    group by location_id
"""

# Two days beyond the span show how many hours its first and last day have.
_DAILY_SQL = f"""
    with {_WATCHED_SQL},
    spans as (
        select location_id, watched.time_zone, min(valid_hour_utc) as first_hour
        from gold.hourly_weather
        inner join watched using (location_id)
        group by location_id, watched.time_zone
    ),
    hours as (
        select location_id, (valid_hour_utc at time zone time_zone)::date as local_date,
            valid_hour_utc between first_hour and $last_hour as is_in_period
        from spans
        cross join lateral generate_series(
            first_hour - interval '2 days', $last_hour::timestamptz + interval '2 days', interval '1 hour'
        ) as grid(valid_hour_utc)
    ),
    days as (
        select location_id, local_date, count(*) as hours_in_day,
            count(*) filter (where is_in_period) as hours_in_period
        from hours
        group by location_id, local_date
    )
    select location_id, local_date, hours_in_period, hours_in_day,
        {", ".join(f"coalesce({name}, 0)" for name in _DAILY_COUNTS)},
        {", ".join(_DAILY_MEASURES)}
    from days
    left join gold.daily_weather using (location_id, local_date)
    where hours_in_period > 0
    order by location_id, local_date
"""


def _hourly(warehouse: Warehouse, parameters: Mapping[str, Any]) -> dict[str, Columns]:
    places = _columns_by_place(("time", *_HOURLY), warehouse.query(_HOURLY_SQL, parameters), _HOURLY_DIGITS)
    for columns in places.values():
        columns["time"] = [time.isoformat(" ", "minutes") for time in columns["time"]]
        _break_where_clocks_go_back(columns)
    return places


def _daily(warehouse: Warehouse, parameters: Mapping[str, Any]) -> dict[str, Columns]:
    names = ("date", "hours_in_period", "hours_in_day", *_DAILY_COUNTS, *_DAILY_MEASURES)
    places = _columns_by_place(names, warehouse.query(_DAILY_SQL, parameters), _DAILY_DIGITS)
    for columns in places.values():
        columns["date"] = [day.isoformat() for day in columns["date"]]
    return places


def _columns_by_place(
    names: Sequence[str], rows: Iterable[tuple[Any, ...]], digits: Mapping[str, int]
) -> dict[str, Columns]:
    """Turn rows, which begin with their place and lie together by it, into columns, some of them rounded."""
    places = {}
    for place, of_place in groupby(rows, key=itemgetter(0)):
        _, *columns = zip(*of_place, strict=True)
        places[place] = {
            name: _rounded(values, digits[name]) if name in digits else list(values)
            for name, values in zip(names, columns, strict=True)
        }
    return places


def _rounded(values: Iterable[float | None], digits: int) -> list[float | None]:
    # Adding 0.0 turns the -0.0 that rounding leaves of small negative values into 0.0.
    return [None if value is None else round(value, digits) + 0.0 for value in values]


def _by_place(warehouse: Warehouse, sql: str, parameters: Mapping[str, Any]) -> dict[str, Row]:
    return {row.pop("location_id"): row for row in warehouse.query_rows(sql, parameters)}


def _counts(rows: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    """By place and name, the most first."""
    counts = Counter[tuple[str, str]]()
    for location_id, name, count in rows:
        counts[location_id, name] += count
    by_place: dict[str, dict[str, int]] = {}
    for (location_id, name), count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        by_place.setdefault(location_id, {})[name] = count
    return by_place


def _providers(warehouse: Warehouse, table: str, watched: Sequence[str]) -> list[str]:
    sql = f"select distinct provider from {table} where location_id = any($watched::varchar[])"
    return sorted(provider for (provider,) in warehouse.query(sql, {"watched": watched}))


def _break_where_clocks_go_back(columns: Columns) -> None:
    """Put a row without values before each local time that does not lie after the one before.

    The hour that is repeated in autumn is then drawn twice, not joined by a line that runs backwards.
    """
    times = columns["time"]
    for i in reversed([i for i in range(1, len(times)) if times[i] <= times[i - 1]]):
        for values in columns.values():
            values.insert(i, None)
