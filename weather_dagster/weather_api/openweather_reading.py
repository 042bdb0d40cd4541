"""From OpenWeather's validated records to readings: the rules that its product generations share.

Belongs here: units, the order of values, place, hours, broken records. Does not belong here: the envelopes of an
endpoint (``openweather``, ``one_call``) and the paths of its fields (the contracts).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import compress
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from weather_dagster import datasets, quantities
from weather_dagster.datasets import Dataset, RejectionReason
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import Parameters
from weather_dagster.weather_api.openweather_contracts import Coordinates, Series, amount_mm
from weather_dagster.weather_api.records import (
    HOUR_SECONDS,
    Answer,
    Booleans,
    Floats,
    Instants,
    describe,
    iso,
    payload_hashes,
    plausible,
)

CURRENT_TOLERANCE = timedelta(minutes=30)
"""``dt`` of current weather is the time of calculation and lags the request."""
VISIBILITY_CAP = quantities.VISIBILITY.upper


class Units(StrEnum):
    """Systems of units that the service can be asked for; standard is what it sends unasked."""

    METRIC = "metric"
    STANDARD = "standard"
    IMPERIAL = "imperial"


def _fahrenheit_to_celsius(values: Floats) -> Floats:
    return (values - 32) * 5 / 9


def _kelvin_to_celsius(values: Floats) -> Floats:
    return values - 273.15


def _mph_to_ms(values: Floats) -> Floats:
    return values * 0.44704


CONVERSIONS: Mapping[Units, Mapping[str, Callable[[Floats], Floats]]] = {
    Units.METRIC: {},
    Units.STANDARD: {"_c": _kelvin_to_celsius},
    Units.IMPERIAL: {"_c": _fahrenheit_to_celsius, "_ms": _mph_to_ms},
}
"""By the ending of a quantity's name; the rest is the same in every system."""

Columns = Mapping[str, list[Any]]
"""Values of records by the names of their contract."""

# Quantities that a contract carries as they are; visibility, rain, snow and their sum follow.
MEASURED = quantities.WEATHER[: quantities.WEATHER.index(quantities.VISIBILITY)]

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T", int, Instants)


@dataclass(frozen=True)
class WeatherReader(ABC):
    """Reads answers that were asked for in ``units`` into canonical values."""

    units: Units = Units.METRIC

    @abstractmethod
    def faults(self, raws: Sequence[Any], numbers: Floats) -> Mapping[int, str]:
        """What is wrong with records although their contract took them, by row."""

    def take_current(self, record: Any, series: Series, answer: Answer, coord: Coordinates | None = None) -> None:
        """A record of current weather, filed under the asked hour when it lies in it or just before.

        Args:
            coord: the point of an envelope; a record that tells its own has it in its contract.
        """
        hour = answer.first_hour
        raws, columns, _ = validated([record], series, answer, [hour])
        if not raws:
            return
        (raw,) = raws
        (instant,) = columns["dt"]
        (coord,) = columns.get("coord", [coord])
        numbers = self._numbers(columns, 1, answer.dataset)
        instants = np.array([instant])
        (digest,) = payload_hashes(instants, numbers[:, : len(answer.dataset.quantities)])
        if fault := self.faults([raw], numbers).get(0):
            answer.reject(RejectionReason.CONTRACT, fault, raw, hour=hour)
        elif coord and (elsewhere := answer.elsewhere(coord.lat, coord.lon)):
            answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=hour, digest=digest)
        elif not hour - answer.tolerance_seconds <= instant < hour + HOUR_SECONDS:
            message = (
                f"the reading is of {iso(instant)}; for {iso(hour)} it may be up to "
                f"{answer.tolerance_seconds // 60} minutes older, and younger than the next hour"
            )
            answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=hour, digest=digest)
        else:
            answer.add(np.array([hour]), instants, numbers, [raw])

    def take_series(
        self,
        records: list[Any],
        series: Series,
        coord: Coordinates | None,
        answer: Answer,
        *,
        may_bring_more: bool = True,
    ) -> None:
        """Hourly records, each filed under its own hour.

        Args:
            may_bring_more: whole hours beyond the range are then only more than was asked for.
        """
        raws, columns, _ = validated(records, series, answer)
        instants = np.array(columns["dt"], dtype=np.int64)
        numbers = self._numbers(columns, 1, answer.dataset)
        is_sound = sound(raws, hour_of(instants), self.faults(raws, numbers), coord, answer)
        take_hours(instants, numbers, raws, is_sound, answer, may_bring_more=may_bring_more)

    def take_steps(
        self,
        issued: Sequence[int],
        steps: list[Any],
        series: Series,
        coord: Coordinates | None,
        answer: Answer,
        *,
        step_hours: int,
        horizon: timedelta,
    ) -> None:
        """Steps of forecasts.

        Args:
            issued: hour of issue of each step.
            step_hours: hours that the sums of a step are over.
            horizon: how far after its issue the last step may lie.
        """
        raws, columns, kept = validated(steps, series, answer, issued)
        hours = np.array(issued, dtype=np.int64)[kept]
        valid = hour_of(np.array(columns["dt"], dtype=np.int64))
        numbers = self._numbers(columns, step_hours, answer.dataset)
        is_sound = sound(raws, hours, self.faults(raws, numbers), coord, answer)
        lead = valid - hours
        is_in_time = (lead >= 0) & (lead <= horizon.total_seconds())
        for row in np.flatnonzero(is_sound & ~is_in_time).tolist():
            told, hour = iso(columns["dt"][row]), int(hours[row])
            if lead[row] < 0:
                reason = RejectionReason.BEFORE_ISSUE
                message = f"the step is for {told}, before the hour of issue {iso(hour)}"
            else:
                reason = RejectionReason.OUTSIDE_HOUR
                message = (
                    f"the step is for {told}, more than {horizon.total_seconds() / HOUR_SECONDS:g} hours "
                    f"after the hour of issue {iso(hour)}"
                )
            answer.reject(reason, message, raws[row], hour=hour)
        is_taken = is_sound & is_in_time
        answer.add(hours[is_taken], valid[is_taken], numbers[is_taken], compress(raws, is_taken.tolist()))

    def _numbers(self, columns: Columns, sum_hours: int, dataset: Dataset) -> Floats:
        """What ``Answer.add`` takes of the records; rain and snow over ``sum_hours`` hours."""
        count = len(columns["dt"])
        known: Columns = {
            **columns,
            **{
                quantity.name: [amount_mm(amount, sum_hours) for amount in columns[name]]
                for quantity, name in ((quantities.RAIN, "rain"), (quantities.SNOW, "snow"))
            },
            datasets.PRECIPITATION_HOURS.name: [sum_hours] * count,
        }
        integers = (datasets.PRECIPITATION_HOURS.name, datasets.CONDITION_ID.name)
        names = [*(quantity.name for quantity in dataset.quantities), *integers]
        nothing = [None] * count
        numbers = np.array([known.get(name, nothing) for name in names], dtype=np.float64)
        rows = dict(zip(names, numbers, strict=True))
        for ending, convert in CONVERSIONS[self.units].items():
            for quantity in MEASURED:
                if quantity.name.endswith(ending):
                    rows[quantity.name][:] = convert(rows[quantity.name])
        visibility, rain, snow = (rows[q.name] for q in (quantities.VISIBILITY, quantities.RAIN, quantities.SNOW))
        np.minimum(visibility, VISIBILITY_CAP, out=visibility)
        # A total of which a part is implausible would hide that part.
        is_total = plausible(quantities.RAIN, rain) & plausible(quantities.SNOW, snow)
        rows[quantities.PRECIPITATION.name][is_total] = (rain + snow)[is_total]
        return numbers.T


def envelope_of(model: type[R], document: Any, answer: Answer) -> R:
    """The parsed body as ``model``.

    Raises:
        MalformedAnswer: it is another one.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        expected = f"an envelope with {', '.join(model.model_fields)}, but {describe(error)}"
        raise answer.malformed(expected, document) from None


def validated(
    records: list[Any], series: Series, answer: Answer, hours: Sequence[int] | None = None
) -> tuple[list[Any], Columns, Instants]:
    """The records that keep their contract, their columns, and where they stood. The others are turned away.

    Args:
        hours: the partition of each record; without it a broken one counts for the hour that it tells.
    """
    columns = series.columns(records)
    if columns is not None:
        return records, columns, np.arange(len(records))
    kept: dict[int, BaseModel] = {}
    for row, raw in enumerate(records):
        try:
            kept[row] = series.contract.model_validate(raw)
        except ValidationError as error:
            hour = _told_hour(raw) if hours is None else hours[row]
            answer.reject(RejectionReason.CONTRACT, describe(error), raw, hour=hour)
    rows = np.array(list(kept), dtype=np.int64)
    return [records[row] for row in kept], series.columns_singly(list(kept.values())), rows


def sound(
    raws: Sequence[Any], hours: Instants, faults: Mapping[int, str], coord: Coordinates | None, answer: Answer
) -> Booleans:
    """Which records have no fault and are of the place that was asked for; the others are turned away."""
    elsewhere = answer.elsewhere(coord.lat, coord.lon) if coord else None
    is_sound = np.full(len(raws), elsewhere is None)
    is_sound[list(faults)] = False
    for row in np.flatnonzero(~is_sound).tolist():
        hour = int(hours[row])
        if row in faults:
            answer.reject(RejectionReason.CONTRACT, faults[row], raws[row], hour=hour)
        elif elsewhere:
            answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raws[row], hour=hour)
    return is_sound


def take_hours(
    instants: Instants,
    numbers: Floats,
    raws: Sequence[Any],
    is_sound: Booleans,
    answer: Answer,
    *,
    may_bring_more: bool = True,
) -> None:
    """Add what is sound and was asked for, each record under the hour of its instant."""
    hours = hour_of(instants)
    is_asked = (answer.first_hour <= hours) & (hours <= answer.last_hour)
    for row in np.flatnonzero(is_sound & ~is_asked).tolist():
        was_asked(int(instants[row]), answer, raws[row], may_bring_more=may_bring_more)
    taken = is_sound & is_asked
    answer.add(hours[taken], instants[taken], numbers[taken], compress(raws, taken.tolist()))


def block_fault(raw: dict[str, Any], required: str, *optional: str) -> str | None:
    """What is wrong with the blocks of a record. Paths of a contract read a block of another type as left out."""
    if not isinstance(raw.get(required), dict):
        return f"{required}: is {repr(raw.get(required))[:60]} where an object of values must be"
    for name in optional:
        if not isinstance(raw.get(name), dict | None):
            return f"{name}: is {repr(raw[name])[:60]} where an object of values may be"
    return None


def was_asked(instant: int, answer: Answer, raw: Any, *, may_bring_more: bool = True) -> bool:
    """Whether the hour of ``instant`` was asked for; if not, the record is turned away.

    Args:
        may_bring_more: whole hours beyond the range are then only more than was asked for, and left out.
    """
    hour = hour_of(instant)
    if answer.first_hour <= hour <= answer.last_hour:
        return True
    if instant != hour or not may_bring_more:
        message = (
            f"{iso(instant)} {'is no whole hour and ' if instant != hour else ''}"
            f"lies outside {iso(answer.first_hour)} to {iso(answer.last_hour)}"
        )
        answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=hour)
    return False


def hour_of(instant: T) -> T:
    """The start of the hour that holds an instant, unix seconds."""
    return instant - instant % HOUR_SECONDS


def _told_hour(raw: Any) -> int | None:
    instant = raw.get("dt") if isinstance(raw, dict) else None
    return hour_of(instant) if isinstance(instant, int) and 0 <= instant < 10**11 else None


def point(location: Location) -> dict[str, str | int | float]:
    """The query parameters that name a place."""
    return {"lat": location.latitude, "lon": location.longitude}


def query_now(units: Units) -> Callable[[Sequence[Location], HourRange], Parameters]:
    """The query of an endpoint that answers for now."""
    return lambda places, _: {**point(*places), "units": units}


def of_one_place(read: Callable[[Any, Answer], None]) -> Callable[[Any, Sequence[Answer]], None]:
    """A reader of one place as one of many: no endpoint here takes more than one."""
    return lambda document, answers: read(document, *answers)
