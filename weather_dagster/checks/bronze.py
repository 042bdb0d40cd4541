"""Asset checks on bronze: completeness, valid hour, plausible limits, quarantine share, schema drift.

Each looks at the hours of its run; run by itself, at the last day of the grid. Drift looks at a day at least.
What must not reach silver blocks: a row outside its partition or outside the plausible limits. A missing place
does not: what came is good, and the check names what is missing.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import dagster as dg

from weather_dagster.checks.outcome import EXAMPLES, Outcome, named, place_table, table
from weather_dagster.datasets import Dataset
from weather_dagster.hours import HOUR, HourRange, format_hour
from weather_dagster.locations import Location
from weather_dagster.warehouse.base import Source, Warehouse
from weather_dagster.weather_api.known_fields import KNOWN_FIELDS
from weather_dagster.weather_api.openweather_reading import CURRENT_TOLERANCE

READING_TOLERANCE = CURRENT_TOLERANCE
"""How far before its hour a reading may lie: the widest tolerance that an endpoint declares."""
MAX_QUARANTINE_SHARE = 0.01
DRIFT_HOURS = HOUR * 24
"""The least that the drift check looks at: an hour of a few places says little of a field."""
DRIFT_BASELINE = HOUR * 24 * 7
"""What is compared with: the last week before, of which a source has rows."""
DRIFT_MIN_ROWS = 24
"""A field that fewer rows lack, or that is told by fewer rows of the baseline, is not called vanished."""
DRIFT_MIN_SHARE = 0.9
"""A field that a smaller share of the baseline has is rare, as rain or gusts are, and never vanishes."""


def completeness(store: Warehouse, dataset: Dataset, locations: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether every place has a row in every hour. ERROR when nothing came at all, else WARN."""
    sql = f"""
        select place.location_id, count(*), min(grid.hour_utc), max(grid.hour_utc)
        from unnest($places::varchar[]) as place(location_id)
        cross join generate_series($first::timestamptz, $last::timestamptz, interval '1 hour') as grid(hour_utc)
        left join bronze.{dataset.name} as landed
            on landed.location_id = place.location_id and landed.{dataset.partition_column} = grid.hour_utc
            and landed.{dataset.partition_column} between $first and $last
        where landed.location_id is null
        group by place.location_id
    """
    ids = [location.id for location in locations]
    missing = sorted(store.query(sql, {"places": ids, "first": hours.first, "last": hours.last}))
    expected = len(ids) * len(hours)
    absent = sum(count for _, count, _, _ in missing)
    places = [
        {"place": place, "hour": format_hour(first), "last_hour": format_hour(last), "missing_hours": count}
        for place, count, first, last in missing
    ]
    return Outcome(
        passed=absent == 0,
        description=f"{expected - absent} of {expected} place-hours present"
        + (f"; missing at {named(place for place, *_ in missing)}" if missing else ""),
        metadata={"expected": expected, "missing": absent, **place_table("missing_by_place", places)},
        severity=dg.AssetCheckSeverity.ERROR if absent == expected else dg.AssetCheckSeverity.WARN,
    )


def valid_hour_in_partition(store: Warehouse, dataset: Dataset, _: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether each row's own time belongs to the hour it is filed under."""
    if "issued_hour_utc" in dataset.version_key:
        misfiled = "valid_hour_utc < issued_hour_utc"
        limit = "not before the hour of issue"
    else:
        tolerance = int(READING_TOLERANCE.total_seconds())
        misfiled = f"""
            observed_at_utc < valid_hour_utc - interval '{tolerance} seconds'
            or observed_at_utc >= valid_hour_utc + interval '1 hour'
        """
        limit = f"{tolerance // 60} minutes before its hour to the end of it"
    partition, own_time = dataset.partition_column, dataset.version_key[-1]
    rows = store.query(
        f"""
        select location_id, {partition}, {own_time}
        from bronze.{dataset.name}
        where {partition} between $first and $last
            and ({partition} <> date_trunc('hour', {partition}) or {misfiled})
        """,
        {"first": hours.first, "last": hours.last},
    )
    rows.sort(key=lambda row: (row[1], row[0]))
    examples = [
        {"place": place, "hour": str(hour), "value": f"{own_time} {time}", "limit": limit} for place, hour, time in rows
    ]
    return Outcome(
        passed=not rows,
        description=f"{len(rows)} rows are filed under an hour that is not theirs"
        + (f": {named(place for place, *_ in rows)}" if rows else ""),
        metadata={"misfiled": len(rows), **place_table("examples", examples)},
    )


def plausible_limits(store: Warehouse, dataset: Dataset, _: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether every stored value lies within the limits of its quantity."""
    partition = dataset.partition_column
    outside = " or ".join(f"{q.name} not between {q.lower} and {q.upper}" for q in dataset.quantities)
    rows = store.query_rows(
        f"""
        select location_id, {partition}, {", ".join(q.name for q in dataset.quantities)}
        from bronze.{dataset.name}
        where {partition} between $first and $last and ({outside})
        """,
        {"first": hours.first, "last": hours.last},
    )
    rows.sort(key=lambda row: (row[partition], row["location_id"]))
    examples = [
        {
            "place": row["location_id"],
            "hour": format_hour(row[partition]),
            "quantity": q.name,
            "value": row[q.name],
            "limit": f"{q.lower} to {q.upper}",
        }
        for row in rows
        for q in dataset.quantities
        if row[q.name] is not None and not q.lower <= row[q.name] <= q.upper
    ]
    first = examples[0] if examples else None
    return Outcome(
        passed=not examples,
        description=f"{len(examples)} values lie outside the plausible limits"
        + (f", such as {first['quantity']} {first['value']} at {first['place']}" if first else ""),
        metadata={"implausible": len(examples), **place_table("examples", examples)},
    )


def quarantine_share(store: Warehouse, dataset: Dataset, _: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether few records lie in quarantine unresolved. Always WARN: the good rows are good."""
    ((kept,),) = store.query(
        f"select count(*) from bronze.{dataset.name} where {dataset.partition_column} between $first and $last",
        {"first": hours.first, "last": hours.last},
    )
    rows = store.query(
        """
        select location_id, hour_utc, reason, field, message
        from bronze.quarantine
        where dataset = $dataset and hour_utc between $first and $last and resolved_load_id is null
        """,
        {"dataset": dataset.name, "first": hours.first, "last": hours.last},
    )
    rows.sort(key=lambda row: (row[0], row[2], row[3] is None, row[3], row[4]))
    rows.sort(key=lambda row: row[1], reverse=True)
    rejected = len(rows)
    share = rejected / (kept + rejected) if rejected else 0.0
    entries = [
        {"place": place, "hour": format_hour(hour), "reason": reason, "field": field, "message": message}
        for place, hour, reason, field, message in rows
    ]
    by_reason = Counter(entry["reason"] for entry in entries)
    examples = {entry["reason"]: entry["message"] for entry in entries}
    reasons = [
        {"reason": reason, "records": count, "example": examples[reason]} for reason, count in sorted(by_reason.items())
    ]
    return Outcome(
        passed=share <= MAX_QUARANTINE_SHARE,
        description=f"{rejected} of {kept + rejected} records in quarantine, limit {MAX_QUARANTINE_SHARE:.0%}",
        metadata={
            "quarantined": rejected,
            "share": share,
            **table("reasons", reasons),
            **place_table("entries", entries),
        },
        severity=dg.AssetCheckSeverity.WARN,
    )


def schema_drift(store: Warehouse, dataset: Dataset, _: Sequence[Location], hours: HourRange) -> Outcome:
    """Whether payloads still have the fields they had. Always WARN; fields that nobody documents are only counted."""
    hours = HourRange(min(hours.first, hours.last - DRIFT_HOURS + HOUR), hours.last)
    unknown, vanished = [], []
    for source, fields in sorted(store.payload_fields(dataset, hours).items()):
        known = KNOWN_FIELDS.get(source.endpoint, frozenset())
        unknown += [
            {"endpoint": source.endpoint, "field": path, "rows": count, "of": fields.rows}
            for path, count in fields.counts.most_common()
            if path not in known
        ]
        if fields.rows >= DRIFT_MIN_ROWS:
            vanished += [
                {"provider": source.provider, "endpoint": source.endpoint, "field": path, "had_it": f"{share:.0%}"}
                for path, share in _usual_fields(store, dataset, source, hours.first).items()
                if path in known and path not in fields.counts
            ]
    named = ", ".join(f"{v['field']} from {v['endpoint']}" for v in vanished[:EXAMPLES])
    return Outcome(
        passed=not vanished,
        description=(f"fields that were usual are gone: {named}" if vanished else "no usual field is gone")
        + (f"; {len(unknown)} unknown fields" if unknown else ""),
        metadata={
            "hours": str(hours),
            "unknown_fields": len(unknown),
            "vanished_fields": len(vanished),
            **table("unknown", unknown),
            **table("vanished", vanished),
        },
        severity=dg.AssetCheckSeverity.WARN,
    )


def _usual_fields(store: Warehouse, dataset: Dataset, source: Source, before: datetime) -> dict[str, float]:
    """Fields that nearly every earlier row of a source has, and their share."""
    ((last,),) = store.query(
        f"""
        select max({dataset.partition_column}) from bronze.{dataset.name}
        where provider = $provider and endpoint = $endpoint and {dataset.partition_column} < $before
        """,
        {"provider": source.provider, "endpoint": source.endpoint, "before": before},
    )
    if last is None:
        return {}
    earlier = store.payload_fields(dataset, HourRange(last - DRIFT_BASELINE + HOUR, last), source).get(source)
    if earlier is None or earlier.rows < DRIFT_MIN_ROWS:
        return {}
    shares = {path: count / earlier.rows for path, count in sorted(earlier.counts.items())}
    return {path: share for path, share in shares.items() if share >= DRIFT_MIN_SHARE}


BLOCKING = {"valid_hour_in_partition", "plausible_limits"}
CHECKS: dict[str, Callable[[Warehouse, Dataset, Sequence[Location], HourRange], Outcome]] = {
    check.__name__: check
    for check in (completeness, valid_hour_in_partition, plausible_limits, quarantine_share, schema_drift)
}
