"""What was turned away: counting it, listing it, and driving it again after a fix. No Dagster, no provider here.

A re-drive reads the stored payloads with the contracts of today, and asks nobody. What reads well now lands as
any record does, and its entries are resolved: they keep reason, message and contract version of the day on which
they were turned away, which is their history, and get ``resolved_load_id``, the landing that settled them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

import pyarrow as pa
from pydantic_core import from_json

from weather_dagster.datasets import DATASETS, Dataset, DatasetName, Rejection, RejectionReason
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HOUR, HourRange, floor_hour
from weather_dagster.locations import Location
from weather_dagster.warehouse.base import Load, QuarantineKey, Warehouse
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint

EXCERPT = 300
"""Characters of a payload that a list shows."""

TOLD_BY_ENVELOPE = (RejectionReason.OTHER_PLACE, RejectionReason.OTHER_UNIT)
"""Found in what surrounds the records of an answer."""
ENVELOPE_FIELDS = ("latitude", "units")
"""A record that has one of these brings point and units along, as far as they are others than those asked for."""


@dataclass(frozen=True)
class Count:
    """Entries of one dataset, reason and endpoint."""

    dataset: str
    reason: str
    endpoint: str
    open: int
    resolved: int


@dataclass(frozen=True)
class Entry:
    """One entry of the quarantine, for people."""

    dataset: str
    provider: str
    endpoint: str
    location_id: str
    hour_utc: datetime
    reason: str
    field: str | None
    message: str
    payload_excerpt: str
    contract_version: int
    quarantined_at_utc: datetime
    resolved_load_id: int | None


@dataclass
class Redriven:
    """What a re-drive did, in distinct payloads where nothing else is said."""

    tried: int = 0
    """Read again: landed, superseded or still rejected."""
    landed: int = 0
    rows_added: int = 0
    """Rows new to bronze."""
    superseded: int = 0
    """Resolved without landing: bronze holds a later and good row of the reading."""
    still_rejected: int = 0
    unknown_endpoint: int = 0
    """Not tried: no provider has their endpoint any more."""


def summary(store: Warehouse) -> list[Count]:
    """Entries by dataset, reason and endpoint, open and resolved."""
    rows = store.query(
        """
        select dataset, reason, endpoint, count(*) - count(resolved_load_id), count(resolved_load_id)
        from bronze.quarantine
        group by dataset, reason, endpoint
        """
    )
    return [Count(*row) for row in sorted(rows)]


def entries(
    store: Warehouse,
    *,
    dataset: DatasetName | None = None,
    reason: RejectionReason | None = None,
    place: str | None = None,
    since: datetime | None = None,
    limit: int,
    include_resolved: bool = False,
) -> list[Entry]:
    """The newest entries.

    Args:
        place: id of a place.
        since: turned away at this instant (aware) or later.
    """
    rows = store.query(
        """
        select dataset, provider, endpoint, location_id, hour_utc, reason, field, message,
            left(payload, $excerpt::integer), contract_version, quarantined_at_utc, resolved_load_id
        from bronze.quarantine
        where ($dataset::varchar is null or dataset = $dataset)
            and ($reason::varchar is null or reason = $reason)
            and ($place::varchar is null or location_id = $place)
            and ($since::timestamptz is null or quarantined_at_utc >= $since)
            and ($include_resolved::boolean or resolved_load_id is null)
        order by load_id desc, hour_utc desc, location_id, message
        limit $limit
        """,
        {
            "excerpt": EXCERPT,
            "dataset": dataset,
            "reason": reason,
            "place": place,
            "since": since,
            "include_resolved": include_resolved,
            "limit": limit,
        },
    )
    return [Entry(*row) for row in rows]


def known_places(store: Warehouse) -> list[str]:
    """Ids of the places that have entries."""
    return sorted(place for (place,) in store.query("select distinct location_id from bronze.quarantine"))


@dataclass
class _Payload:
    """A stored payload and its open entries."""

    dataset: Dataset
    provider: str
    endpoint: str
    location_id: str
    hour_utc: datetime
    text: str
    load_id: int
    """The newest load that turned it away."""
    keys: list[QuarantineKey]
    needs_envelope: bool
    """What surrounded the records of its answer told another place or unit, or no place."""
    rows: pa.Table | None = None
    rejections: list[Rejection] = field(default_factory=list)

    @property
    def reasons(self) -> set[str]:
        return {key.reason for key in self.keys}

    @property
    def healed(self) -> list[QuarantineKey]:
        """Entries that today's contract does not make again."""
        fields = {r.field for r in self.rejections if r.field}
        whole = {r.reason for r in self.rejections if r.field is None and r.payload == self.text}
        return [k for k in self.keys if (k.field not in fields if k.field else k.reason not in whole)]

    @property
    def new_rejections(self) -> Iterator[Rejection]:
        """What today's contract turns away and no entry tells yet."""
        fields = {key.field for key in self.keys}
        for rejection in self.rejections:
            if rejection.field not in fields if rejection.field else rejection.payload != self.text:
                yield rejection


def redrive(
    store: Warehouse,
    endpoints: Sequence[Endpoint],
    locations: Sequence[Location],
    *,
    run_id: str,
    now: datetime,
    reasons: Sequence[RejectionReason] | None = None,
) -> Redriven:
    """Read every open payload again, and land what is good now: one landing for each dataset and provider.

    A payload never replaces what came later: where bronze has a row of the same reading (``version_key``) with a
    higher ``load_id`` than the entry's, and the field in question is not nulled in it, the entry is resolved and
    nothing lands. Of several payloads of one reading the newest lands. The loser of a conflict within an answer
    stays open as long as the winner stands. A record that was found to be of another place, or in another unit, by
    what surrounded it, is not read without it. What is rejected again stays open, as it was.

    Args:
        endpoints: all that any provider has; those with the label of an entry read it.
        locations: the places of today; for others bronze.locations is asked.
        reasons: only payloads with an entry of these reasons; their other entries go with them.
    """
    outcome = Redriven()
    payloads = _open_payloads(store, reasons)
    if not payloads:
        return outcome
    places = {place.id: place for place in (*_landed_locations(store), *locations)}
    for (dataset, provider), group in groupby(payloads, key=lambda p: (p.dataset, p.provider)):
        batch = []
        for payload in group:
            candidates = [e for e in endpoints if e.dataset is dataset and e.label == payload.endpoint]
            if not candidates:
                outcome.unknown_endpoint += 1
                continue
            outcome.tried += 1
            if payload.location_id in places:
                _read(payload, candidates, places[payload.location_id])
            if payload.rows is None:
                outcome.still_rejected += 1
            else:
                batch.append(payload)
        if batch:
            _land(store, dataset, provider, batch, places, outcome, run_id=run_id, now=now)
    return outcome


def _open_payloads(store: Warehouse, reasons: Sequence[RejectionReason] | None) -> list[_Payload]:
    """Distinct payloads with open entries; datasets and providers together, the newest first."""
    rows = store.query(
        """
        select dataset, provider, endpoint, location_id, hour_utc, payload, load_id, reason, field, payload_hash,
            reason = $place_not_told or exists (
                select 1
                from bronze.quarantine as beside
                where beside.reason = any($told_by_envelope::varchar[])
                    and beside.provider = entry.provider
                    and beside.endpoint = entry.endpoint
                    and beside.location_id = entry.location_id
                    and beside.load_id = entry.load_id
            )
        from bronze.quarantine as entry
        where resolved_load_id is null
        """,
        {"told_by_envelope": list(TOLD_BY_ENVELOPE), "place_not_told": RejectionReason.PLACE_NOT_TOLD},
    )
    payloads: dict[tuple[object, ...], _Payload] = {}
    for *identity, load_id, reason, field_name, payload_hash, needs_envelope in rows:
        dataset, provider, endpoint, place, hour, text = identity
        payload = payloads.setdefault(
            tuple(identity),
            _Payload(DATASETS[dataset], provider, endpoint, place, hour, text, load_id, keys=[], needs_envelope=False),
        )
        payload.keys.append(QuarantineKey(dataset, provider, place, hour, reason, field_name, payload_hash))
        payload.load_id = max(payload.load_id, load_id)
        payload.needs_envelope |= needs_envelope
    wanted = (p for p in payloads.values() if reasons is None or not p.reasons.isdisjoint(reasons))
    return sorted(
        wanted, key=lambda p: (p.dataset.name, p.provider, -p.load_id, min(key.payload_hash for key in p.keys))
    )


def _landed_locations(store: Warehouse) -> Iterator[Location]:
    names = ("id", "name", "country", "latitude", "longitude", "time_zone")
    for row in store.query("select location_id, name, country, latitude, longitude, time_zone from bronze.locations"):
        yield Location(**dict(zip(names, row, strict=True)))


def _read(payload: _Payload, endpoints: Iterable[Endpoint], place: Location) -> None:
    """Read with the first endpoint to which the payload brings rows; without one it stays as it is."""
    try:
        record = from_json(payload.text)
    except ValueError:
        return
    hour = floor_hour(payload.hour_utc)
    for endpoint in endpoints:
        if RejectionReason.UNREADABLE in payload.reasons:
            # A whole body, of hours from this one on; each of its records tells its own.
            document, hours = record, HourRange(hour, hour + (endpoint.hours_per_call - 1) * HOUR)
        else:
            hours = HourRange(hour, hour)
            document = endpoint.wrap(record, hours)
            if payload.needs_envelope and document is not record and not _brings_envelope(record):
                # Wrapped anew it would pass for a record of the right place, in the right unit.
                continue
        try:
            (answer,) = ApiCall(endpoint, (place,), hours).read(document, payload.provider)
        except MalformedAnswer:
            continue
        rows, rejections = answer.finish()
        if rows.num_rows:
            payload.rows, payload.rejections = rows, rejections
            return


def _brings_envelope(record: Any) -> bool:
    return isinstance(record, dict) and any(name in record for name in ENVELOPE_FIELDS)


def _land(
    store: Warehouse,
    dataset: Dataset,
    provider: str,
    payloads: Sequence[_Payload],
    places: dict[str, Location],
    outcome: Redriven,
    *,
    run_id: str,
    now: datetime,
) -> None:
    """Decide for each row between landing, superseded and still rejected; then one landing."""
    rows = pa.concat_tables(payload.rows for payload in payloads)
    owners = [payload for payload in payloads for _ in range(payload.rows.num_rows if payload.rows else 0)]
    held = _held_readings(store, dataset, rows, owners)
    readings = list(zip(*(rows[name].to_pylist() for name in dataset.version_key), strict=True))
    nulled = [set(filter(None, (text or "").split(","))) for text in rows["rejected_fields"].to_pylist()]
    landing: dict[Any, int] = {}
    resolved: list[QuarantineKey] = []
    rejections: list[Rejection] = []
    first = 0
    for payload in payloads:
        own = range(first, first + (payload.rows.num_rows if payload.rows else 0))
        first = own.stop
        healed, settled, lands = payload.healed, set[QuarantineKey](), False
        for row in own:
            is_held, nulled_later = held.get(row, (False, None))
            if readings[row] in landing:
                nulled_later = nulled[landing[readings[row]]]
            if nulled_later is not None:
                settled.update(key for key in payload.keys if key.field not in nulled_later)
            elif healed and not (is_held and RejectionReason.CONFLICTING in payload.reasons):
                landing[readings[row]] = row
                settled.update(healed)
                lands = True
        resolved += settled
        if lands:
            outcome.landed += 1
            rejections += payload.new_rejections
        elif settled:
            outcome.superseded += 1
        else:
            outcome.still_rejected += 1
    if resolved:
        landed_rows = rows.take(pa.array(landing.values(), pa.int64()))
        told_hours = [*landed_rows[dataset.partition_column].to_pylist(), *(key.hour_utc for key in resolved)]
        used = {key.location_id for key in resolved}
        landed = store.land(
            Load(
                dataset,
                landed_rows,
                rejections,
                [place for place in places.values() if place.id in used],
                provider=provider,
                hours=HourRange(floor_hour(min(told_hours)), floor_hour(max(told_hours))),
                run_id=run_id,
                now=now,
                resolved=resolved,
            )
        )
        outcome.rows_added += landed.rows_added


def _held_readings(
    store: Warehouse, dataset: Dataset, rows: pa.Table, owners: Sequence[_Payload]
) -> dict[int, tuple[bool, set[str] | None]]:
    """By row whose reading bronze has: True, and the fields nulled in its newest version if that came later."""
    keys = rows.select(dataset.version_key)
    keys = keys.append_column("row_index", pa.array(range(rows.num_rows), pa.int64()))
    hours = rows[dataset.partition_column].to_pylist()
    sql = f"""
        select row_index, load_id, coalesce(rejected_fields, '')
        from (
            select row_index, load_id, rejected_fields,
                row_number() over (partition by row_index order by load_id desc) as ranking
            from readings
            inner join bronze.{dataset.name} using ({", ".join(dataset.version_key)})
            where {dataset.partition_column} between $first and $last
        ) as versions
        where ranking = 1
    """
    with store.registered("readings", keys):
        newest = store.query(sql, {"first": min(hours), "last": max(hours)})
    return {
        row: (True, set(filter(None, nulled.split(","))) if load_id > owners[row].load_id else None)
        for row, load_id, nulled in newest
    }
