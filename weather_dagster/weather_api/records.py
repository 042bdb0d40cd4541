"""From the readings of one answer to canonical rows and rejections, whoever the provider is.

Belongs here: plausible limits, hashes, duplicates, hours asked for, the place. Does not belong here: the
shape of a provider's payload (its contracts and adapter).
"""

import hashlib
import math
from collections.abc import Sequence
from datetime import timedelta
from operator import itemgetter
from typing import Any

import pyarrow as pa
from pydantic_core import to_json

from weather_dagster.datasets import CONTRACT_VERSION, Dataset, Rejection, RejectionReason, payload_hash
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location

PLACE_TOLERANCE_KM = 5.0
"""Providers echo the point they computed for, rounded or moved to a grid by a kilometre or two."""
EARTH_RADIUS_KM = 6371.0
HOUR_SECONDS = int(HOUR.total_seconds())

_by_hour_and_instant = itemgetter(3, 4)


def distance_km(latitude_1: float, longitude_1: float, latitude_2: float, longitude_2: float) -> float:
    """Great-circle distance on a sphere of the Earth's mean radius; degrees in, km out (haversine formula)."""
    phi_1, phi_2 = math.radians(latitude_1), math.radians(latitude_2)
    half_phi, half_lambda = (phi_2 - phi_1) / 2, math.radians(longitude_2 - longitude_1) / 2
    chord = math.sin(half_phi) ** 2 + math.cos(phi_1) * math.cos(phi_2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def payload_text(record: Any) -> str:
    """The record as JSON. NaN and infinities, which no store takes as JSON, become strings."""
    return to_json(record, inf_nan_mode="strings").decode()


class Answer:
    """Collects what one call brought: ``add`` readings, ``reject`` records, then take ``records``.

    Hours and instants are whole unix seconds.
    """

    def __init__(
        self,
        dataset: Dataset,
        provider: str,
        endpoint: str,
        location: Location,
        hours: HourRange,
        tolerance: timedelta = timedelta(0),
    ) -> None:
        self.dataset = dataset
        self.endpoint = endpoint
        self.location = location
        self.first_hour = int(hours.first.timestamp())
        self.last_hour = int(hours.last.timestamp())
        self.tolerance_seconds = int(tolerance.total_seconds())
        self._head = (provider, endpoint, location.id)
        self._limits = [(q.lower, q.upper) for q in dataset.quantities]
        self._rows: list[tuple[object, ...]] = []
        self._rejections: dict[Rejection, None] = {}
        self._seen: set[tuple[int, int, str]] = set()

    def records(self) -> pa.Table:
        """The rows in the order of hour and instant; schema ``dataset.arrow_schema``."""
        return self.dataset.to_arrow(sorted(self._rows, key=_by_hour_and_instant))

    @property
    def rejections(self) -> list[Rejection]:
        """What was turned away, each once."""
        return list(self._rejections)

    def distance_from(self, latitude: float, longitude: float) -> float | None:
        """Kilometres between an echoed point and the place, None within the tolerance."""
        distance = distance_km(self.location.latitude, self.location.longitude, latitude, longitude)
        return distance if distance > PLACE_TOLERANCE_KM else None

    def add(
        self, hour: int, instant: int, values: Sequence[float | None], codes: Sequence[int | None], record: Any
    ) -> None:
        """Take one reading; an exact repetition is dropped, an implausible value is turned away alone.

        Args:
            hour: the partition: valid hour, or hour of issue.
            instant: the provider's own time; for a forecast the valid hour.
            values: one for each of ``dataset.quantities``, in their order and units.
            codes: what stands between the quantities and ``rejected_fields`` in the row.
            record: the parsed record as it came.
        """
        # Adding zero turns -0.0 into 0.0.
        values = [None if v is None else v + 0.0 for v in values]
        digest = payload_hash(instant, (*values, *codes))
        key = (hour, instant, digest)
        if key in self._seen:
            return
        self._seen.add(key)
        payload = payload_text(record)
        rejected = None
        for value, (lower, upper) in zip(values, self._limits, strict=True):
            if value is not None and not lower <= value <= upper:
                rejected = self._turn_away_values(hour, values, digest, payload)
                digest = payload_hash(instant, (*values, *codes))
                break
        self._rows.append(
            (*self._head, hour, instant, *values, *codes, rejected, payload, digest, CONTRACT_VERSION)
        )  # fmt: skip

    def _turn_away_values(self, hour: int, values: list[float | None], digest: str, payload: str) -> str:
        """Set implausible values to None, one rejection each; returns their names."""
        names = []
        for index, (quantity, value) in enumerate(zip(self.dataset.quantities, values, strict=True)):
            if value is not None and not quantity.is_plausible(value):
                values[index] = None
                names.append(quantity.name)
                message = (
                    f"{quantity.name} is {value:g}, outside {quantity.lower:g} to {quantity.upper:g}; "
                    "an instrument fault or another unit than the one asked for"
                )
                reason = RejectionReason.IMPLAUSIBLE_VALUE
                self._reject(reason, message, payload, digest, hour, quantity.name)
        return ",".join(names)

    def reject(
        self, reason: RejectionReason, message: str, record: Any, *, hour: int | None, digest: str | None = None
    ) -> None:
        """Turn a whole record away.

        Args:
            digest: hash of its canonical values where they could be read; else the payload's own is taken.
        """
        payload = payload_text(record)
        digest = digest or hashlib.blake2b(payload.encode(), digest_size=16).hexdigest()
        self._reject(reason, message, payload, digest, hour, None)

    def _reject(
        self, reason: RejectionReason, message: str, payload: str, digest: str, hour: int | None, field: str | None
    ) -> None:
        provider, endpoint, location_id = self._head
        rejection = Rejection(
            dataset=self.dataset.name,
            provider=provider,
            endpoint=endpoint,
            location_id=location_id,
            hour_utc=hour,
            reason=reason,
            field=field,
            message=message,
            payload=payload,
            payload_hash=digest,
        )
        self._rejections[rejection] = None
