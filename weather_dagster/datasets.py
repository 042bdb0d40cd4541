"""The three bronze datasets: columns, keys, and what an adapter hands over to a warehouse.

An adapter yields a table of ``Dataset.arrow_schema``, which a warehouse lands, and ``Rejection`` for what
it turns away. The warehouse adds the columns of ``LANDING``.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

import pyarrow as pa

from weather_dagster import quantities
from weather_dagster.quantities import Quantity

CONTRACT_VERSION = 1
"""Raised whenever the reading of a payload changes, so that a re-drive knows what was read by whom."""

Kind = Literal["text", "instant", "double", "integer", "json"]

ARROW_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "instant": pa.timestamp("s", "UTC"),
    "double": pa.float64(),
    "integer": pa.int64(),
    "json": pa.string(),
}


@dataclass(frozen=True)
class Column:
    """One column of a bronze table."""

    name: str
    kind: Kind
    description: str
    nullable: bool = True


def _text(name: str, description: str, *, nullable: bool = False) -> Column:
    return Column(name, "text", description, nullable)


def _instant(name: str, description: str) -> Column:
    return Column(name, "instant", description, nullable=False)


def _integer(name: str, description: str, *, nullable: bool = True) -> Column:
    return Column(name, "integer", description, nullable)


PROVIDER = _text("provider", "Who delivered the row")
ENDPOINT = _text("endpoint", "Path of the provider's endpoint")
LOCATION_ID = _text("location_id", "Place, as in bronze.locations")
ISSUED_HOUR = _instant("issued_hour_utc", "Hour in which the forecast was issued; the partition")
VALID_HOUR = _instant("valid_hour_utc", "Start of the UTC hour that the values are for")
OBSERVED_AT = _instant("observed_at_utc", "The provider's own time of the values")
CONDITION_ID = _integer("condition_id", "OpenWeather condition code; the set is open")
PRECIPITATION_HOURS = _integer(
    "precipitation_hours", "Hours over which precipitation is summed, ending at valid_hour_utc"
)
PROVIDER_AQI = _integer("provider_aqi", "The provider's own index, 1 (good) to 5 (very poor) for OpenWeather")
TRAILING = (
    _text(
        "rejected_fields",
        "Names of implausible values, comma separated: null here, kept in quarantine",
        nullable=True,
    ),
    Column("payload", "json", "The provider's record as it came", nullable=False),
    _text("payload_hash", "Hash of the canonical values and the provider's own time"),
    _integer("contract_version", "Version of the contract that read the payload", nullable=False),
)
LANDING = (
    _instant("ingested_at_utc", "When the row was landed"),
    _text("run_id", "Run that landed the row"),
    _integer("load_id", "Landing transaction, as in bronze.loads; grows in commit order", nullable=False),
)


def _measures(group: Sequence[Quantity]) -> tuple[Column, ...]:
    return tuple(Column(q.name, "double", q.description) for q in group)


class DatasetName(StrEnum):
    """Names of the datasets: bronze tables and asset keys."""

    OBSERVATIONS = "observations"
    FORECASTS = "forecasts"
    AIR_QUALITY = "air_quality"


@dataclass(frozen=True)
class Dataset:
    """A bronze table. ``version_key`` names what identifies a reading; versions differ in payload_hash."""

    name: DatasetName
    description: str
    partition_column: str
    version_key: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    record_columns: tuple[Column, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of the bronze table, in order."""
        return self.record_columns + LANDING

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Schema of what an adapter hands over."""
        return pa.schema([pa.field(c.name, ARROW_TYPES[c.kind], nullable=c.nullable) for c in self.record_columns])


OBSERVATIONS = Dataset(
    name=DatasetName.OBSERVATIONS,
    description="Observed weather, one version of one reading a row",
    partition_column=VALID_HOUR.name,
    version_key=("provider", "location_id", "valid_hour_utc", "observed_at_utc"),
    quantities=quantities.WEATHER,
    record_columns=(
        PROVIDER, ENDPOINT, LOCATION_ID, VALID_HOUR, OBSERVED_AT,
        *_measures(quantities.WEATHER), PRECIPITATION_HOURS, CONDITION_ID, *TRAILING,
    ),
)  # fmt: skip
FORECASTS = Dataset(
    name=DatasetName.FORECASTS,
    description="Forecasts, one version of one vintage and valid hour a row",
    partition_column=ISSUED_HOUR.name,
    version_key=("provider", "location_id", "issued_hour_utc", "valid_hour_utc"),
    quantities=quantities.FORECAST,
    record_columns=(
        PROVIDER, ENDPOINT, LOCATION_ID, ISSUED_HOUR, VALID_HOUR,
        *_measures(quantities.FORECAST), PRECIPITATION_HOURS, CONDITION_ID, *TRAILING,
    ),
)  # fmt: skip
AIR_QUALITY = Dataset(
    name=DatasetName.AIR_QUALITY,
    description="Air quality, one version of one place-hour a row",
    partition_column=VALID_HOUR.name,
    version_key=("provider", "location_id", "valid_hour_utc", "observed_at_utc"),
    quantities=quantities.AIR_QUALITY,
    record_columns=(
        PROVIDER, ENDPOINT, LOCATION_ID, VALID_HOUR, OBSERVED_AT,
        *_measures(quantities.AIR_QUALITY), PROVIDER_AQI, *TRAILING,
    ),
)  # fmt: skip
DATASETS = {d.name: d for d in (OBSERVATIONS, FORECASTS, AIR_QUALITY)}


class RejectionReason(StrEnum):
    """Why a record, or one value of it, was turned away."""

    CONTRACT = "contract"
    IMPLAUSIBLE_VALUE = "implausible_value"
    OTHER_PLACE = "other_place"
    OUTSIDE_HOUR = "outside_hour"
    BEFORE_ISSUE = "before_issue"
    CONFLICTING = "conflicting"
    OTHER_UNIT = "other_unit"
    PLACE_NOT_TOLD = "place_not_told"
    UNREADABLE = "unreadable"


REASON_HELP = {
    RejectionReason.CONTRACT: "the record does not fit the contract of its endpoint",
    RejectionReason.IMPLAUSIBLE_VALUE: "one value lies outside the plausible limits; the rest of the record landed",
    RejectionReason.OTHER_PLACE: "the answer is for another place than the one asked for",
    RejectionReason.OUTSIDE_HOUR: "the reading lies outside the hours that were asked for",
    RejectionReason.BEFORE_ISSUE: "the forecast step lies before the hour of issue",
    RejectionReason.CONFLICTING: "a later record of the answer tells other values for the same reading and landed",
    RejectionReason.OTHER_UNIT: "one value came in another unit than the one asked for; the rest of the record landed",
    RejectionReason.PLACE_NOT_TOLD: "the answer has no usable coordinates; its records landed, unconfirmed",
    RejectionReason.UNREADABLE: "the body of the answer could not be read, after all tries; nothing of it landed",
}


@dataclass(frozen=True)
class Rejection:
    """A record, or with ``field`` one value of it, that did not land; kept in bronze.quarantine."""

    dataset: DatasetName
    provider: str
    endpoint: str
    location_id: str
    hour_utc: int
    """The partition's hour in unix seconds: the record's own where it tells one that was asked for, else the
    first that was."""
    reason: RejectionReason
    field: str | None
    message: str
    """Names field, value and limit."""
    payload: str
    payload_hash: str


_NOTHING = float("nan")


def payload_hash(instant: int, values: Sequence[float | None]) -> str:
    """Hash of the canonical values and the provider's own time (unix seconds), 32 hex digits.

    Raw text has no part in it: key order, generation times, ``1`` for ``1.0`` and ``-0.0`` change nothing.
    """
    canonical = [_NOTHING if v is None else v + 0.0 for v in values]
    return hashlib.blake2b(struct.pack(f"<q{len(canonical)}d", instant, *canonical), digest_size=16).hexdigest()
