"""From the readings of one answer to canonical rows and rejections, whoever the provider is.

Belongs here: plausible limits, hashes, duplicates, hours asked for, the place, how faults are told. Does not belong
here: the shape of a provider's payload (its contracts and adapter).
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError
from pydantic_core import to_json

from weather_dagster import quantities
from weather_dagster.datasets import CONTRACT_VERSION, Dataset, Rejection, RejectionReason
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location

EARTH_RADIUS_KM = 6371.0
MAX_NAMED = 3
MAX_QUOTED = 200
FULL_CIRCLE = 360
HOUR_SECONDS = int(HOUR.total_seconds())

Floats = npt.NDArray[np.float64]
Instants = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
Fault = tuple[RejectionReason, str, str]
"""Why one value of a reading is turned away: reason, the column that it would have been in, message."""

_WORD_OUTSIDE_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+]?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL)


def distance_km(latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float) -> float:
    """Great-circle distance on a sphere of the Earth's mean radius; degrees in, km out (haversine formula)."""
    phi_1, phi_2 = math.radians(latitude_1), math.radians(latitude_2)
    half_phi, half_lambda = (phi_2 - phi_1) / 2, math.radians(longitude_2 - longitude_1) / 2
    chord = math.sin(half_phi) ** 2 + math.cos(phi_1) * math.cos(phi_2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def plausible(quantity: quantities.Quantity, values: Floats) -> Booleans:
    """Which values lie within the limits of the quantity; NaN never does."""
    return (values >= quantity.lower) & (values <= quantity.upper)


def payload_text(record: Any) -> str:
    """The record as JSON. NaN and infinities, which no store takes as JSON, become strings."""
    return to_json(record, inf_nan_mode="strings").decode()


def without_nan(body: bytes) -> bytes:
    """The body with null for each bare ``nan`` or ``inf`` outside of texts: C's words, which are no JSON."""
    return _WORD_OUTSIDE_TEXT.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", body)


def iso(instant: int) -> str:
    """Unix seconds as people read them."""
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def describe(error: ValidationError) -> str:
    """The first faults, with the value where there is one."""
    named = (
        f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}"
        # The input of a missing field is all that stands around it: a page link with a key, for example.
        + ("" if fault["type"] == "missing" else f" (is {repr(fault['input'])[:60]})")
        for fault in error.errors(include_url=False, include_context=False)
    )
    return "; ".join(text for text, _ in zip(named, range(MAX_NAMED), strict=False))


def payload_hashes(instants: Sequence[int] | Instants, numbers: Floats) -> list[str]:
    """``datasets.payload_hash`` of many readings at once, one a row of ``numbers``; NaN stands for None."""
    clock = np.array(instants, dtype="<i8").view("<f8").reshape(-1, 1)
    # One bit pattern for every NaN, and 0.0 for -0.0.
    canonical = np.where(np.isnan(numbers), np.nan, numbers + 0.0)
    block = np.hstack([clock, canonical]).astype("<f8", copy=False)
    size = block.shape[1] * block.itemsize
    packed = memoryview(block.tobytes())
    return [
        hashlib.blake2b(packed[start : start + size], digest_size=16).hexdigest()
        for start in range(0, len(packed), size)
    ]


def _is_as_the_next(hours: Instants, instants: Instants) -> Booleans:
    """Of readings in their order, all but the last: whether the one that follows is of the same hour and instant."""
    is_same: Booleans = (hours[1:] == hours[:-1]) & (instants[1:] == instants[:-1])
    return is_same


@dataclass(frozen=True)
class _Readings:
    """Readings side by side, each column in the same order."""

    hours: Instants
    instants: Instants
    numbers: Floats
    records: Sequence[Any]
    faults: Sequence[tuple[Fault, ...]]
    digests: list[str]


def _array_of(column: Any, kind: pa.DataType) -> pa.Array:
    if not isinstance(column, pa.Array):
        return pa.array(column, kind)
    return column if column.type == kind else column.cast(kind)


def _text_hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Answer:
    """Collects what one call brought: ``add`` readings, ``reject`` records, then take ``finish``.

    Hours and instants are whole unix seconds. Readings come and are checked column by column, which costs a fraction
    of doing it one by one.
    """

    def __init__(
        self,
        dataset: Dataset,
        provider: str,
        endpoint: str,
        location: Location,
        hours: HourRange,
        tolerance: timedelta,
        place_tolerance_km: float,
    ) -> None:
        self.dataset = dataset
        self.provider = provider
        self.endpoint = endpoint
        self.location = location
        self.hours = hours
        self.first_hour = int(hours.first.timestamp())
        self.last_hour = int(hours.last.timestamp())
        self.tolerance_seconds = int(tolerance.total_seconds())
        self.place_tolerance_km = place_tolerance_km
        self._hours: list[Instants] = []
        self._instants: list[Instants] = []
        self._numbers: list[Floats] = []
        self._records: list[Any] = []
        self._faults: dict[int, tuple[Fault, ...]] = {}
        self._rejections: dict[Rejection, None] = {}

    def elsewhere(self, latitude: float, longitude: float) -> str | None:
        """Why an echoed point is another place than the one asked for, None within the tolerance."""
        distance = distance_km(self.location.latitude, self.location.longitude, latitude, longitude)
        if distance <= self.place_tolerance_km:
            return None
        return (
            f"the answer is for {latitude:g}, {longitude:g}, {distance:.1f} km from {self.location.id} "
            f"({self.location.latitude:g}, {self.location.longitude:g})"
        )

    def malformed(self, expected: str, document: Any) -> MalformedAnswer:
        """The error for a body that is not the endpoint's. Of the body it tells the names, not what stands in it."""
        got = (
            f"an object of {', '.join(map(str, document)) or 'nothing'}"
            if isinstance(document, dict)
            else type(document).__name__
        )
        return MalformedAnswer(
            f"{self.provider} answered in another shape than the endpoint's ({self.endpoint} for {self.location.id}, "
            f"{self.hours}): expected {expected}; got {got[:MAX_QUOTED]}"
        )

    def add(
        self,
        hours: Instants,
        instants: Instants,
        numbers: Floats,
        records: Iterable[Any],
        faults: Mapping[int, tuple[Fault, ...]] | None = None,
    ) -> None:
        """Take readings, in the order in which they came.

        Args:
            hours: the partitions: valid hours, or hours of issue.
            instants: the provider's own times; for a forecast the valid hours.
            numbers: a row for each reading: one for each of ``dataset.quantities`` in their order and units, then
                the integers that stand between them and ``rejected_fields`` in the row. Finite; NaN stands for None.
            records: the parsed records as they came.
            faults: values that the adapter turns away alone, by place among these readings; they are NaN in
                ``numbers``.
        """
        before = len(self._records)
        self._hours.append(hours)
        self._instants.append(instants)
        self._numbers.append(numbers)
        self._records += records
        self._faults |= {before + row: told for row, told in (faults or {}).items()}

    def reject(
        self, reason: RejectionReason, message: str, record: Any, *, hour: int | None, digest: str | None = None
    ) -> None:
        """Turn a whole record away.

        Args:
            hour: the partition it would have had, None when it does not tell. One that was not asked for, or
                none, counts for the first hour that was, so that whoever looks at what was asked sees it.
            digest: hash of its canonical values where they could be read; else the payload's own is taken.
        """
        payload = payload_text(record)
        self._reject(reason, message, payload, digest or _text_hash(payload), hour, None)

    def reject_body(self, message: str, body: str) -> None:
        """Keep a body that could not be read; it counts for the first hour that was asked for."""
        digest = hashlib.blake2b(body.encode(), digest_size=16).hexdigest()
        self._reject(RejectionReason.UNREADABLE, message, body, digest, None, None)

    def finish(self) -> tuple[pa.Table, list[Rejection]]:
        """Rows in the order of hour and instant, schema ``dataset.arrow_schema``, and what was turned away.

        An exact repetition is dropped; an implausible value is turned away alone; of several records for
        one reading the last stays and the others are turned away. Wind from 360 degrees is wind from 0.
        """
        schema = self.dataset.arrow_schema
        if not self._records:
            return schema.empty_table(), list(self._rejections)
        readings = self._distinct_readings()
        instants, numbers, digests = readings.instants, readings.numbers, readings.digests
        hours = readings.hours.tolist()
        payloads = [payload_text(record) for record in readings.records]
        digests_as_told = digests.copy()
        rejected: list[Sequence[str]] = [()] * len(payloads)
        for row, told in enumerate(readings.faults):
            if told:
                rejected[row] = self._turn_away_told(hours[row], told, payloads[row])
        implausible = self._implausible(numbers)
        for row in np.flatnonzero(implausible.any(axis=1)).tolist():
            names = self._turn_away(hours[row], numbers[row], implausible[row], payloads[row], digests[row])
            rejected[row] = (*rejected[row], *names)
            numbers[row, implausible[row]] = np.nan
            (digests[row],) = payload_hashes(instants[row : row + 1], numbers[row : row + 1])
        columns: list[Any] = [
            *(pa.repeat(text, len(payloads)) for text in (self.provider, self.endpoint, self.location.id)),
            pa.array(readings.hours),
            pa.array(instants),
            # In from_pandas lies the reading of NaN as null.
            *(pa.array(column, from_pandas=True) for column in (numbers + 0.0).T),
            [",".join(dict.fromkeys(names)) or None for names in rejected],
            payloads,
            digests,
            pa.repeat(CONTRACT_VERSION, len(payloads)),
        ]
        table = pa.Table.from_arrays(
            [_array_of(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
        )
        # Rows of one reading stand side by side in the order of the answer, so the last one is left here.
        is_last = np.append(~_is_as_the_next(readings.hours, instants), True)
        if not is_last.all():
            last_rows = np.flatnonzero(is_last)
            for row in np.flatnonzero(~is_last).tolist():
                kept = last_rows[np.searchsorted(last_rows, row)]
                # Readings that differed in implausible values alone are the same without them.
                if digests[row] != digests[kept]:
                    message = self._conflict(int(instants[row]), numbers[row], numbers[kept])
                    self._reject(
                        RejectionReason.CONFLICTING, message, payloads[row], digests_as_told[row], hours[row], None
                    )
            table = table.filter(pa.array(is_last))
        return table, list(self._rejections)

    def _distinct_readings(self) -> _Readings:
        """The readings and their hashes, each once. Sorted by hour, instant and where in the answer they stood last."""
        hours, instants = np.concatenate(self._hours), np.concatenate(self._instants)
        numbers = np.concatenate(self._numbers)
        if quantities.WIND_DIRECTION in self.dataset.quantities:
            direction = numbers[:, self.dataset.quantities.index(quantities.WIND_DIRECTION)]
            direction[direction == FULL_CIRCLE] = 0
        in_order = np.lexsort((instants, hours))
        hours, instants = hours[in_order], instants[in_order]
        if _is_as_the_next(hours, instants).any():
            every = zip(
                hours.tolist(),
                instants.tolist(),
                payload_hashes(instants, numbers[in_order]),
                (self._faults.get(index) for index in in_order.tolist()),
                strict=True,
            )
            kept = sorted({reading: row for row, reading in enumerate(every)}.values())
            in_order, hours, instants = in_order[kept], hours[kept], instants[kept]
        numbers = numbers[in_order]
        return _Readings(
            hours,
            instants,
            numbers,
            [self._records[index] for index in in_order.tolist()],
            [self._faults.get(index, ()) for index in in_order.tolist()],
            payload_hashes(instants, numbers),
        )

    def _implausible(self, numbers: Floats) -> Booleans:
        """Which numbers lie outside the limits of their quantity; integers have none."""
        integers = numbers.shape[1] - len(self.dataset.quantities)
        lower = [q.lower for q in self.dataset.quantities] + [-np.inf] * integers
        upper = [q.upper for q in self.dataset.quantities] + [np.inf] * integers
        return (numbers < lower) | (numbers > upper)

    def _turn_away_told(self, hour: int, faults: tuple[Fault, ...], payload: str) -> list[str]:
        """One rejection for each fault that the adapter told of a reading; returns the columns."""
        # The canonical values lack the ones that are turned away, so the hash is the payload's.
        digest = _text_hash(payload)
        for reason, column, message in faults:
            self._reject(reason, message, payload, digest, hour, column)
        return [column for _, column, _ in faults]

    def _turn_away(self, hour: int, numbers: Floats, implausible: Booleans, payload: str, digest: str) -> list[str]:
        """One rejection for each implausible value of a reading; returns their names."""
        names = []
        for index in np.flatnonzero(implausible).tolist():
            quantity = self.dataset.quantities[index]
            names.append(quantity.name)
            message = (
                f"{quantity.name} is {numbers[index]:g}, outside {quantity.lower:g} to {quantity.upper:g}; "
                "an instrument fault or another unit than the one asked for"
            )
            self._reject(RejectionReason.IMPLAUSIBLE_VALUE, message, payload, digest, hour, quantity.name)
        return names

    def _conflict(self, instant: int, numbers: Floats, kept: Floats) -> str:
        """In what a reading differs from the one that is kept."""
        head = [column.name for column in self.dataset.record_columns].index(self.dataset.quantities[0].name)
        names = [column.name for column in self.dataset.record_columns[head : head + len(numbers)]]
        differing = np.flatnonzero(~((numbers == kept) | (np.isnan(numbers) & np.isnan(kept)))).tolist()

        def told(value: float) -> str:
            return "missing" if np.isnan(value) else f"{value:g}"

        named = ", ".join(
            f"{names[i]} is {told(numbers[i])} here and {told(kept[i])} there" for i in differing[:MAX_NAMED]
        )
        more = ", and more" if len(differing) > MAX_NAMED else ""
        return f"the answer has a later record for {iso(instant)}, which landed: {named}{more}"

    def _reject(
        self, reason: RejectionReason, message: str, payload: str, digest: str, hour: int | None, field: str | None
    ) -> None:
        if hour is None or not self.first_hour <= hour <= self.last_hour:
            hour = self.first_hour
        rejection = Rejection(
            dataset=self.dataset.name,
            provider=self.provider,
            endpoint=self.endpoint,
            location_id=self.location.id,
            hour_utc=hour,
            reason=reason,
            field=field,
            message=message,
            payload=payload,
            payload_hash=digest,
        )
        self._rejections[rejection] = None
