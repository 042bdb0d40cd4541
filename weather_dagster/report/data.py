"""What the report shows, read from gold, silver and the bronze ledgers. No words and no HTML here."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from weather_dagster.errors import WarehouseError
from weather_dagster.quantities import NITROGEN_DIOXIDE, OZONE, PM2_5, PM10
from weather_dagster.warehouse.duckdb import DuckDBWarehouse

HOURLY_DAYS = 31
"""Days of each place, counted back from its newest hour, for which the page carries hourly values."""

QUARANTINE_SHOWN = 10
"""Newest entries of the quarantine that the page quotes."""

CHARTED_POLLUTANTS = (PM2_5, PM10, OZONE, NITROGEN_DIOXIDE)

Row = dict[str, Any]

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
    "mean_24h_c": "round(averages.mean_24h_c, 1) + 0.0",
    "mean_7d_c": "round(averages.mean_7d_c, 1) + 0.0",
    "rain_mm": "round(weather.rain_mm, 1) + 0.0",
    "snow_mm": "round(weather.snow_mm, 1) + 0.0",
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


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. Places are in the order of their names; instants are aware, in UTC."""

    places: list[Row]
    """location_id, name, country, time_zone, columns of gold.latest_conditions or None, air quality index."""
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

    ``hours_in_period`` counts the hours of the day within that span: less than ``hours_expected`` on
    its first and last day.
    """
    providers: dict[str, dict[str, int]]
    """By place: provider -> hours in gold."""
    rejected_fields: dict[str, dict[str, int]]
    """By place: quantity -> hours whose value was implausible and is null in gold."""
    quarantined: dict[str, dict[str, int]]
    """By place: reason -> entries of bronze.quarantine, of all datasets."""
    newest_quarantined: list[Row]
    loads: list[Row]
    """The newest load of each dataset."""


def read_report_data(warehouse: DuckDBWarehouse) -> ReportData:
    """Read all that the page shows.

    Raises:
        WarehouseError: dbt has not built gold yet, or there is no place.
    """
    _require_tables(warehouse)
    places = _rows(warehouse, _PLACES_SQL)
    if not places:
        raise WarehouseError(
            "the warehouse holds no place yet; run `weather demo` or `weather backfill`, then this again"
        )
    ((first_hour, last_hour),) = warehouse.query(
        "select min(valid_hour_utc), max(valid_hour_utc) from gold.hourly_weather"
    )
    frames = _by_place(warehouse, _HOURLY_SQL, [HOURLY_DAYS * 24 - 1])
    return ReportData(
        places=places,
        first_hour=first_hour,
        last_hour=last_hour,
        hourly={place: _break_where_clocks_go_back(columns) for place, columns in frames.items()},
        hourly_is_cut=first_hour is not None and (last_hour - first_hour).days >= HOURLY_DAYS,
        daily=_by_place(warehouse, _DAILY_SQL),
        providers=_counts(
            warehouse, "select location_id, provider, count(*) from gold.hourly_weather group by all order by 3 desc, 2"
        ),
        rejected_fields=_counts(
            warehouse,
            """
            select location_id, trim(rejected.field), count(*)
            from gold.hourly_weather, unnest(string_split(rejected_fields, ',')) as rejected(field)
            group by all order by 3 desc, 2
            """,
        ),
        quarantined=_counts(
            warehouse, "select location_id, reason, count(*) from bronze.quarantine group by all order by 3 desc, 2"
        ),
        newest_quarantined=_rows(
            warehouse,
            """
            select coalesce(place.name, location_id) as place, dataset, hour_utc, reason, message
            from bronze.quarantine left join bronze.locations as place using (location_id)
            order by quarantine.load_id desc, hour_utc desc, message limit ?
            """,
            [QUARANTINE_SHOWN],
        ),
        loads=_rows(
            warehouse,
            """
            select * from bronze.loads
            qualify row_number() over (partition by dataset order by load_id desc) = 1 order by dataset
            """,
        ),
    )


def _require_tables(warehouse: DuckDBWarehouse) -> None:
    found = {
        name for (name,) in warehouse.query("select table_schema || '.' || table_name from information_schema.tables")
    }
    if missing := sorted(_TABLES - found):
        raise WarehouseError(
            f"the warehouse has no {', '.join(missing)} to report from; run `weather demo` or `weather backfill`, "
            "which build them, then this again"
        )


_PLACES_SQL = """
    with newest_air as (
        select location_id, max(valid_hour_utc) as air_quality_hour_utc,
            arg_max(provider_aqi, valid_hour_utc) as provider_aqi,
            arg_max(provider, valid_hour_utc) as air_quality_provider
        from silver.air_quality where provider_aqi is not null group by location_id
    )
    select place.location_id, place.name, place.country, place.time_zone,
        weather.* exclude (location_id, location_name, country, time_zone),
        newest_air.* exclude (location_id)
    from bronze.locations as place
    left join gold.latest_conditions as weather on weather.location_id = place.location_id
    left join newest_air on newest_air.location_id = place.location_id
    order by place.name, place.location_id
"""

# Weather and air quality share one frame of hours, so that a hole in either shows as a hole.
_HOURLY_SQL = f"""
    with hours as (
        select location_id, valid_hour_utc from gold.hourly_weather
        union all
        select location_id, valid_hour_utc from silver.air_quality
    ),
    spans as (
        select location_id, min(valid_hour_utc) as first_hour, max(valid_hour_utc) as last_hour
        from hours group by location_id
    ),
    frame as (
        select location_id,
            unnest(generate_series(greatest(first_hour, last_hour - to_hours(?)), last_hour, interval 1 hour))
                as valid_hour_utc
        from spans
    )
    select frame.location_id,
        list(strftime(timezone(place.time_zone, valid_hour_utc), '%Y-%m-%d %H:%M') order by valid_hour_utc) as time,
        {", ".join(f"list({sql} order by valid_hour_utc) as {name}" for name, sql in _HOURLY.items())}
    from frame
    join bronze.locations as place using (location_id)
    left join gold.hourly_weather as weather using (location_id, valid_hour_utc)
    left join gold.temperature_moving_averages as averages using (location_id, valid_hour_utc)
    left join silver.air_quality as air using (location_id, valid_hour_utc)
    group by frame.location_id
"""

_DAILY_SQL = f"""
    with spans as (
        select location_id, min(valid_hour_utc) as first_hour,
            (select max(valid_hour_utc) from gold.hourly_weather) as last_hour
        from gold.hourly_weather group by location_id
    ),
    hours as (
        select location_id, place.time_zone,
            unnest(generate_series(first_hour, last_hour, interval 1 hour)) as valid_hour_utc
        from spans join bronze.locations as place using (location_id)
    ),
    days as (
        select location_id, timezone(time_zone, valid_hour_utc)::date as local_date, count(*) as hours_in_period
        from hours group by all
    )
    select location_id,
        list(strftime(local_date, '%Y-%m-%d') order by local_date) as date,
        list(hours_in_period order by local_date) as hours_in_period,
        list(coalesce(hours_expected, hours_in_period) order by local_date) as hours_expected,
        {", ".join(f"list(coalesce({name}, 0) order by local_date) as {name}" for name in _DAILY_COUNTS)},
        {", ".join(f"list(round({name}, 1) + 0.0 order by local_date) as {name}" for name in _DAILY_MEASURES)}
    from days left join gold.daily_weather as daily using (location_id, local_date)
    group by location_id
"""


def _rows(warehouse: DuckDBWarehouse, sql: str, parameters: list[Any] | None = None) -> list[Row]:
    cursor = warehouse.connection.execute(sql, parameters or [])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _by_place(
    warehouse: DuckDBWarehouse, sql: str, parameters: list[Any] | None = None
) -> dict[str, dict[str, list[Any]]]:
    return {row.pop("location_id"): row for row in _rows(warehouse, sql, parameters)}


def _counts(warehouse: DuckDBWarehouse, sql: str) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for location_id, name, count in warehouse.query(sql):
        counts.setdefault(location_id, {})[name] = count
    return counts


def _break_where_clocks_go_back(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Put a row without values before each local time that does not lie after the one before.

    The hour that is repeated in autumn is then drawn twice, not joined by a line that runs backwards.
    """
    times = columns["time"]
    for i in reversed([i for i in range(1, len(times)) if times[i] <= times[i - 1]]):
        for values in columns.values():
            values.insert(i, None)
    return columns
