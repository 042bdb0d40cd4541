"""Checks for what is possible, but unlikely: fewer or more rows than usual, a frozen sensor, a jump, two opinions.

All are WARN: somebody should look, and nothing is held back. Each is one query over the hours of its run and the hours
before them that it compares with, so that its cost does not grow with the store.

Rows are counted, and providers compared, in bronze, where what every provider delivered is kept. A frozen value and a
jump are those of silver: bronze holds several versions, readings and providers of an hour, of which silver takes one,
and only a series with one row an hour can freeze or jump. They are checks of silver, so they run after dbt.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any

import dagster as dg

from weather_dagster.checks.outcome import EXAMPLES, Outcome, named, place_table, table
from weather_dagster.datasets import Dataset
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HourRange, format_hour
from weather_dagster.locations import Location
from weather_dagster.quantities import PRESSURE, TEMPERATURE, WEATHER, Quantity
from weather_dagster.warehouse.base import Warehouse

BASELINE_DAYS = 14
BASELINE_MIN_DAYS = 7
"""The same hour of fewer days says little of what is usual: nothing is judged by it."""
ROWS_MIN_SHARE = 0.1
ROWS_MIN_DIFFERENCE = 1
"""A smaller share of the usual number of rows is no anomaly, nor is one row: a single place that is missing has its own
check."""
ROWS_MAX_DEVIATIONS = 5
"""In median absolute deviations."""
CONSTANT_TOGETHER = (TEMPERATURE, PRESSURE)
MAX_CONSTANT_TOGETHER_HOURS = 5
"""Temperature and pressure stand still together for 4 hours at most in three station-years of New York (2013); longer,
the provider repeats itself under new hours."""


def usual_row_counts(store: Warehouse, dataset: Dataset, locations: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether an endpoint brings about as many rows as at the same hour of the last 14 days. Always WARN."""
    # Versions and readings of the same hour count once; a place counts when it is usual too, so that adding one is no
    # anomaly. An endpoint that has no row in an hour did not serve it: completeness tells of places without any.
    hour = dataset.partition_column
    sql = f"""
        with delivered as (
            select endpoint, location_id, {hour} as hour_utc, count(distinct valid_hour_utc) as delivered
            from bronze.{dataset.name}
            where {hour} between $first::timestamptz - interval '{BASELINE_DAYS} days' and $last::timestamptz
                and extract(hour from {hour})::integer = any($hours_of_day::integer[])
                and location_id = any($places::varchar[])
            group by endpoint, location_id, {hour}
        ),
        looked_at as (
            select hour_utc, days_back, hour_utc - days_back * interval '1 day' as earlier_hour_utc
            from generate_series($first::timestamptz, $last::timestamptz, interval '1 hour') as grid(hour_utc)
            cross join generate_series(0, {BASELINE_DAYS}) as back(days_back)
        ),
        compared as (
            select endpoint, location_id, looked_at.hour_utc, days_back, delivered
            from looked_at
            inner join delivered on delivered.hour_utc = looked_at.earlier_hour_utc
        ),
        usual_places as (
            select endpoint, location_id, hour_utc
            from compared
            where days_back > 0
            group by endpoint, location_id, hour_utc
            having count(*) >= {BASELINE_MIN_DAYS}
        ),
        totals as (
            select endpoint, hour_utc, days_back, sum(delivered)::bigint as delivered
            from compared
            inner join usual_places using (endpoint, location_id, hour_utc)
            group by endpoint, hour_utc, days_back
        )
        select hour_utc, endpoint,
            max(delivered) filter (where days_back = 0) as delivered,
            array_agg(delivered) filter (where days_back > 0) as delivered_before
        from totals
        group by hour_utc, endpoint
        having count(*) filter (where days_back = 0) = 1
            and count(*) filter (where days_back > 0) >= {BASELINE_MIN_DAYS}
    """
    parameters = {
        "first": hours.first,
        "last": hours.last,
        "hours_of_day": sorted({each.hour for each in hours}),
        "places": [location.id for location in locations],
    }
    judged = sorted(store.query(sql, parameters))
    unusual = []
    for hour_utc, endpoint, delivered, delivered_before in judged:
        usual = median(delivered_before)
        deviation = median(abs(before - usual) for before in delivered_before)
        allowed = max(ROWS_MAX_DEVIATIONS * deviation, ROWS_MIN_SHARE * usual, ROWS_MIN_DIFFERENCE)
        if abs(delivered - usual) > allowed:
            unusual.append(
                {
                    "endpoint": endpoint,
                    "hour": format_hour(hour_utc),
                    "value": delivered,
                    "usual": float(usual),
                    "deviation": float(deviation),
                    "days": len(delivered_before),
                    "limit": f"{usual - allowed:.4g} to {usual + allowed:.4g}",
                }
            )
    worst = max(unusual, key=lambda row: abs(row["value"] - row["usual"]), default=None)
    return _warning(
        f"{len(unusual)} of {len(judged)} counts of rows are unusual"
        + (
            f", such as {worst['value']} from {worst['endpoint']} at {worst['hour']}, where {worst['limit']} are usual"
            if worst
            else ""
        ),
        unusual,
        {"compared": len(judged), "unusual": len(unusual), **table("unusual_counts", unusual[:EXAMPLES])},
    )


def providers_agree(store: Warehouse, dataset: Dataset, _: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether providers that tell of the same place and hour tell about the same. Always WARN."""
    limits = {q.name: q.max_disagreement for q in dataset.quantities if q.max_disagreement is not None}
    # Of each provider the reading and version that silver would take if it were alone.
    sql = f"""
        with ranked as (
            select provider, location_id, valid_hour_utc, {", ".join(limits)},
                row_number() over (
                    partition by provider, location_id, valid_hour_utc
                    order by abs(extract(epoch from observed_at_utc) - extract(epoch from valid_hour_utc)),
                        observed_at_utc, load_id desc
                ) as ranking
            from bronze.{dataset.name}
            where valid_hour_utc between $first and $last
        ),
        told as (
            select * from ranked where ranking = 1
        ),
        pairs as (
            select
                one.location_id, one.valid_hour_utc, one.provider as one, other.provider as other,
                {", ".join(f"one.{name} as one_{name}, other.{name} as other_{name}" for name in limits)}
            from told as one
            inner join told as other
                on other.location_id = one.location_id and other.valid_hour_utc = one.valid_hour_utc
            where one.provider < other.provider
        )
        {_each(limits, _DISAGREEMENT)}
    """
    found = store.query(sql, {"first": hours.first, "last": hours.last})
    found.sort(key=lambda row: (-abs(row[4] - row[6]) / limits[row[2]], *row))
    rows = [
        {
            "place": place,
            "hour": format_hour(hour),
            "quantity": quantity,
            "value": f"{value:.4g} of {provider}, {other_value:.4g} of {other}",
            "limit": f"{limits[quantity]:g} apart",
        }
        for place, hour, quantity, provider, value, other, other_value in found
    ]
    return _warning(
        f"{len(rows)} values differ too much between providers" + _example(rows),
        rows,
        {"disagreements": len(rows), **place_table("disagreements_by_place", rows)},
    )


def values_move(store: Warehouse, hours: HourRange) -> Outcome:
    """Whether no value of silver.observations stands still for longer than weather can. Always WARN."""
    rows = [
        {
            "place": place,
            "hour": format_hour(until),
            "quantity": quantity,
            "value": f"{value} for {constant_hours} hours since {format_hour(since)}",
            "limit": f"{allowed} hours",
        }
        for constant_hours, place, quantity, value, since, until, allowed in _standstills(store, hours)
    ]
    return _warning(
        f"{len(rows)} values stand still for too long" + _example(rows),
        rows,
        {"frozen": len(rows), **place_table("frozen_values", rows)},
    )


def changes_are_gradual(store: Warehouse, hours: HourRange) -> Outcome:
    """Whether no value of silver.observations jumps further within an hour than weather can. Always WARN."""
    # Between two providers a step is a disagreement, which bronze tells of.
    limits = {q.name: q.max_hourly_change for q in WEATHER if q.max_hourly_change is not None}
    found = _query_silver(store, f"{_steps(limits, 1)} {_each(limits, _JUMP)}", hours)
    found.sort(key=lambda row: (-abs(row[4] - row[3]) / limits[row[2]], *row))
    rows = [
        {
            "place": place,
            "hour": format_hour(hour),
            "quantity": quantity,
            "value": f"{value:.4g} after {before:.4g}",
            "limit": f"a change of {limits[quantity]:g}",
        }
        for place, hour, quantity, before, value in found
    ]
    return _warning(
        f"{len(rows)} values jump further than weather does within an hour" + _example(rows),
        rows,
        {"jumps": len(rows), **place_table("jumps_by_place", rows)},
    )


def _standstills(store: Warehouse, hours: HourRange) -> list[tuple[int, str, str, str, datetime, datetime, int]]:
    """The longest first: hours, place, quantity, value, first and last hour, hours allowed."""
    groups: list[tuple[Sequence[Quantity], int]] = [(CONSTANT_TOGETHER, MAX_CONSTANT_TOGETHER_HOURS)]
    groups += [((q,), q.max_constant_hours) for q in WEATHER if q.max_constant_hours is not None]
    columns = list(dict.fromkeys(q.name for group, _ in groups for q in group))
    runs = " union all ".join(
        f"""
        select {index} as combination, location_id, count(*) as constant_hours, min(valid_hour_utc) as since,
            max(valid_hour_utc) as until, min({group[0].name}) as first_value, min({group[-1].name}) as last_value
        from (
            select *, sum(is_new) over (partition by location_id order by valid_hour_utc) as run
            from (
                select *, case when valid_hour_utc - hour_before = interval '1 hour'
                    and {" and ".join(f"{q.name} = {q.name}_before" for q in group)} then 0 else 1 end as is_new
                from steps
            ) as compared
        ) as runs
        group by location_id, run
        having count(*) > {most} and max(valid_hour_utc) >= $first
        """
        for index, (group, most) in enumerate(groups)
    )
    sql = f"{_steps(columns, max(most for _, most in groups))} {runs}"
    found = []
    for index, place, constant_hours, since, until, *values in _query_silver(store, sql, hours):
        group, most = groups[index]
        quantity = " and ".join(q.name for q in group)
        value = " and ".join(map(str, values[: len(group)]))
        found.append((constant_hours, place, quantity, value, since, until, most))
    return sorted(found, key=lambda row: (-row[0], *row[1:]))


_JUMP = """
    select location_id, valid_hour_utc, '{name}' as quantity, {name}_before as before, {name} as value
    from steps
    where valid_hour_utc >= $first and valid_hour_utc - hour_before = interval '1 hour'
        and provider = provider_before and abs({name} - {name}_before) > {limit}
"""
_DISAGREEMENT = """
    select location_id, valid_hour_utc, '{name}' as quantity, one, one_{name} as value,
        other, other_{name} as other_value
    from pairs
    where abs(one_{name} - other_{name}) > {limit}
"""


def _each(limits: Mapping[str, float], query: str) -> str:
    """The query for each of the quantities, together."""
    return " union all ".join(query.format(name=name, limit=limit) for name, limit in limits.items())


def _steps(names: Iterable[str], hours_before: int) -> str:
    """SQL: each hour of silver beside the one before it, from so many hours before the first."""
    before = "".join(f"{name}, lag({name}) over place as {name}_before, " for name in names)
    return f"""
        with steps as (
            select location_id, valid_hour_utc, provider, {before}
                lag(valid_hour_utc) over place as hour_before, lag(provider) over place as provider_before
            from silver.observations
            where valid_hour_utc between $first::timestamptz - interval '{hours_before} hours' and $last::timestamptz
            window place as (partition by location_id order by valid_hour_utc)
        )
    """


def _query_silver(store: Warehouse, sql: str, hours: HourRange) -> list[tuple[Any, ...]]:
    if "silver.observations" not in store.tables():
        raise WarehouseError(
            "there is no silver.observations to check yet; run the job hourly_weather, or materialize its asset"
        )
    return store.query(sql, {"first": hours.first, "last": hours.last})


def _warning(description: str, rows: Sequence[dict[str, Any]], metadata: dict[str, Any]) -> Outcome:
    return Outcome(not rows, description, metadata, dg.AssetCheckSeverity.WARN)


def _example(rows: Sequence[dict[str, Any]]) -> str:
    """The first of the rows in words, and which places are concerned."""
    if not rows:
        return ""
    first = rows[0]
    return (
        f", such as {first['quantity']} {first['value']} at {first['place']}, {first['hour']}, "
        f"limit {first['limit']}; places: {named(row['place'] for row in rows)}"
    )
