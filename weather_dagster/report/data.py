"""What the report shows, read from gold, silver and the bronze ledgers. No words and no HTML here."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

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

_WATCHED_SCHEMA = pa.schema(dict.fromkeys(("location_id", "name", "country", "time_zone"), pa.string()))

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

# Adding 0.0 turns the -0.0 that rounding leaves of small negative values into 0.0.
_HOURLY = {
    "temperature_c": "round(weather.temperature_c, 1) + 0.0",
    "mean_3h_c": "round(averages.mean_3h_c, 1) + 0.0",
    **{
        f"mean_{frame}_c": f"case when averages.hours_present_{frame} >= {hours} "
        f"then round(averages.mean_{frame}_c, 1) + 0.0 end"
        for frame, hours in MEAN_NEEDS_HOURS.items()
    },
    "rain_mm": "round(weather.rain_mm, 2) + 0.0",
    "snow_mm": "round(weather.snow_mm, 2) + 0.0",
    "wind_speed_ms": "round(weather.wind_speed_ms, 1) + 0.0",
    "wind_gust_ms": "round(weather.wind_gust_ms, 1) + 0.0",
    "wind_direction_deg": "weather.wind_direction_deg::integer",
    "wind_compass": "weather.wind_compass",
    **{q.name: f"round(air.{q.name}, 1) + 0.0" for q in CHARTED_POLLUTANTS},
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


# Sums of the same hours, taken hour by hour or day by day, differ in the last bits of a double alone.
_TOTALS_SQL = ", ".join(
    f"round(sum({name})::decimal(18, 3), 1)::double as {name}" for name in ("precipitation_mm", "rain_mm", "snow_mm")
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
    hourly: dict[str, dict[str, list[Any]]]
    """By place, columnar: every hour of the last ``HOURLY_DAYS`` days, missing ones as None; ``time`` is local, naive,
    and None in a row that only breaks the lines (clocks went back)."""
    hourly_is_cut: bool
    """Whether gold holds hours older than ``hourly``."""
    daily: dict[str, dict[str, list[Any]]]
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
    known = warehouse.query_rows("select location_id, name, country, time_zone from bronze.locations")
    there = [place for place in known if place["location_id"] in watched]
    with warehouse.registered("watched", pa.Table.from_pylist(there, schema=_WATCHED_SCHEMA)):
        return _read(warehouse)


def _read(warehouse: Warehouse) -> ReportData:
    places = _rows(warehouse, _PLACES_SQL)
    if not places:
        raise WarehouseError(
            "the warehouse holds none of the watched places yet; "
            "run `weather demo` or `weather backfill`, then this again"
        )
    ((first_hour, last_hour),) = warehouse.query(
        "select min(valid_hour_utc), max(valid_hour_utc) from gold.hourly_weather semi join watched using (location_id)"
    )
    reach = [HOURLY_DAYS * 24 - 1]
    frames = _by_place(warehouse, _HOURLY_SQL, reach)
    return ReportData(
        places=places,
        unwatched=[
            name
            for (name,) in warehouse.query(
                "select name from bronze.locations anti join watched using (location_id) order by name"
            )
        ],
        first_hour=first_hour,
        last_hour=last_hour,
        hourly={place: _break_where_clocks_go_back(columns) for place, columns in frames.items()},
        hourly_is_cut=first_hour is not None and (last_hour - first_hour).days >= HOURLY_DAYS,
        daily=_by_place(warehouse, _DAILY_SQL),
        hourly_totals=_by_place(warehouse, _HOURLY_TOTALS_SQL, reach),
        daily_totals=_by_place(
            warehouse,
            f"""
            select location_id, {_TOTALS_SQL} from gold.daily_weather semi join watched using (location_id)
            group by location_id
            """,
        ),
        providers=_counts(
            warehouse, "select location_id, provider, count(*) from gold.hourly_weather group by all order by 3 desc, 2"
        ),
        weather_providers=_providers(warehouse, "gold.hourly_weather"),
        air_quality_providers=_providers(warehouse, "silver.air_quality"),
        rejected_fields=_counts(
            warehouse,
            """
            select location_id, trim(rejected.field), count(*)
            from gold.hourly_weather, unnest(string_split(rejected_fields, ',')) as rejected(field)
            group by all order by 3 desc, 2
            """,
        ),
        quarantined=_counts(
            warehouse,
            "select location_id, reason, count(*) from bronze.quarantine where resolved_load_id is null "
            "group by all order by 3 desc, 2",
        ),
        newest_quarantined=_rows(
            warehouse,
            """
            select coalesce(place.name, location_id) as place, dataset, hour_utc, reason, message
            from bronze.quarantine left join bronze.locations as place using (location_id)
            where resolved_load_id is null
            order by quarantine.load_id desc, hour_utc desc, message limit ?
            """,
            [QUARANTINE_SHOWN],
        ),
        loads=_rows(
            warehouse,
            """
            select dataset, provider, load_id, first_hour_utc, last_hour_utc, rows_added, quarantined, landed_at_utc
            from bronze.loads
            qualify row_number() over (partition by dataset order by load_id desc) = 1 order by dataset
            """,
        ),
    )


def _require_tables(warehouse: Warehouse) -> None:
    if missing := sorted(_TABLES - warehouse.tables()):
        raise WarehouseError(
            f"the warehouse has no {', '.join(missing)} to report from; run `weather demo` or `weather backfill`, "
            "which build them, then this again"
        )


_PLACES_SQL = """
    with air as (
        select location_id, max(air.valid_hour_utc) as air_quality_hour_utc,
            arg_max(provider_aqi, air.valid_hour_utc) as provider_aqi,
            arg_max(air.provider, air.valid_hour_utc) as air_quality_provider
        from silver.air_quality as air join gold.latest_conditions as weather using (location_id)
        where provider_aqi is not null and air.valid_hour_utc <= weather.valid_hour_utc
        group by location_id
    )
    select place.location_id, place.name, place.country, place.time_zone,
        weather.* exclude (location_id, location_name, country, time_zone),
        air.* exclude (location_id)
    from watched as place
    left join gold.latest_conditions as weather on weather.location_id = place.location_id
    left join air on air.location_id = place.location_id
    order by place.name, place.location_id
"""

# Weather and air quality share one frame of hours, so that a hole in either shows as a hole.
_FRAME_SQL = """
    with hours as (
        select location_id, valid_hour_utc from gold.hourly_weather
        union all
        select location_id, valid_hour_utc from silver.air_quality
    ),
    spans as (
        select location_id, time_zone, min(valid_hour_utc) as first_hour, max(valid_hour_utc) as last_hour
        from hours join watched using (location_id) group by all
    ),
    frame as (
        select location_id, time_zone,
            unnest(generate_series(greatest(first_hour, last_hour - to_hours(?)), last_hour, interval 1 hour))
                as valid_hour_utc
        from spans
    )
"""

_HOURLY_SQL = f"""
    {_FRAME_SQL}
    select frame.location_id,
        list(strftime(timezone(frame.time_zone, valid_hour_utc), '%Y-%m-%d %H:%M') order by valid_hour_utc) as time,
        {", ".join(f"list({sql} order by valid_hour_utc) as {name}" for name, sql in _HOURLY.items())}
    from frame
    left join gold.hourly_weather as weather using (location_id, valid_hour_utc)
    left join gold.temperature_moving_averages as averages using (location_id, valid_hour_utc)
    left join silver.air_quality as air using (location_id, valid_hour_utc)
    group by frame.location_id
"""

_HOURLY_TOTALS_SQL = f"""
    {_FRAME_SQL}
    select location_id, {_TOTALS_SQL}, count_if(precipitation_mm > 0) as wet_hours
    from frame join gold.hourly_weather using (location_id, valid_hour_utc)
    group by location_id
"""

# Two days beyond the span show how many hours its first and last day have.
_DAILY_SQL = f"""
    with spans as (
        select location_id, watched.time_zone, min(valid_hour_utc) as first_hour,
            (select max(valid_hour_utc) from gold.hourly_weather semi join watched using (location_id)) as last_hour
        from gold.hourly_weather join watched using (location_id) group by all
    ),
    hours as (
        select *,
            unnest(generate_series(first_hour - interval 2 day, last_hour + interval 2 day, interval 1 hour))
                as valid_hour_utc
        from spans
    ),
    days as (
        select location_id, timezone(time_zone, valid_hour_utc)::date as local_date, count(*) as hours_in_day,
            count_if(valid_hour_utc between first_hour and last_hour) as hours_in_period
        from hours group by all having hours_in_period > 0
    )
    select location_id,
        list(strftime(local_date, '%Y-%m-%d') order by local_date) as date,
        list(hours_in_period order by local_date) as hours_in_period,
        list(hours_in_day order by local_date) as hours_in_day,
        {", ".join(f"list(coalesce({name}, 0) order by local_date) as {name}" for name in _DAILY_COUNTS)},
        {", ".join(f"list(round({name}, 1) + 0.0 order by local_date) as {name}" for name in _DAILY_MEASURES)}
    from days left join gold.daily_weather as daily using (location_id, local_date)
    group by location_id
"""


def _rows(warehouse: Warehouse, sql: str, parameters: list[Any] | None = None) -> list[Row]:
    return warehouse.query_rows(sql, parameters)


def _by_place(warehouse: Warehouse, sql: str, parameters: list[Any] | None = None) -> dict[str, dict[str, Any]]:
    return {row.pop("location_id"): row for row in _rows(warehouse, sql, parameters)}


def _counts(warehouse: Warehouse, sql: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for location_id, name, count in warehouse.query(sql):
        counts.setdefault(location_id, {})[name] = count
    return counts


def _providers(warehouse: Warehouse, table: str) -> list[str]:
    rows = warehouse.query(
        f"select distinct provider from {table} semi join watched using (location_id) order by provider"
    )
    return [provider for (provider,) in rows]


def _break_where_clocks_go_back(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Put a row without values before each local time that does not lie after the one before.

    The hour that is repeated in autumn is then drawn twice, not joined by a line that runs backwards.
    """
    times = columns["time"]
    for i in reversed([i for i in range(1, len(times)) if times[i] <= times[i - 1]]):
        for values in columns.values():
            values.insert(i, None)
    return columns
