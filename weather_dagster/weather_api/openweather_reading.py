"""From OpenWeather's validated records to readings: the rules that its product generations share.

Belongs here: units, the order of values, place, hours, broken records. Does not belong here: the envelopes of an
endpoint (``openweather``, ``one_call``) and the paths of its fields (the contracts).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from weather_dagster import quantities
from weather_dagster.datasets import RejectionReason, payload_hash
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import Parameters
from weather_dagster.weather_api.openweather_contracts import Conditions, Coordinates, Step, amount_mm
from weather_dagster.weather_api.records import HOUR_SECONDS, Answer, describe, iso

CURRENT_TOLERANCE = timedelta(minutes=30)
"""``dt`` of current weather is the time of calculation and lags the request."""
VISIBILITY_CAP = quantities.VISIBILITY.upper


class Units(StrEnum):
    """Systems of units that the service can be asked for; standard is what it sends unasked."""

    METRIC = "metric"
    STANDARD = "standard"
    IMPERIAL = "imperial"


def _fahrenheit_to_celsius(value: float) -> float:
    return (value - 32) * 5 / 9


def _kelvin_to_celsius(value: float) -> float:
    return value - 273.15


def _mph_to_ms(value: float) -> float:
    return value * 0.44704


CONVERSIONS: Mapping[Units, Mapping[str, Callable[[float], float]]] = {
    Units.METRIC: {},
    Units.STANDARD: {"_c": _kelvin_to_celsius},
    Units.IMPERIAL: {"_c": _fahrenheit_to_celsius, "_ms": _mph_to_ms},
}
"""By the ending of a quantity's name; the rest is the same in every system."""

Values = list[float | None]

# Quantities that a contract carries as they are; visibility, rain, snow and their sum follow.
MEASURED = quantities.WEATHER[: quantities.WEATHER.index(quantities.VISIBILITY)]
_measured = attrgetter(*(q.name for q in MEASURED))

R = TypeVar("R", bound=BaseModel)
C = TypeVar("C", bound=Conditions)
S = TypeVar("S", bound=Step)


@dataclass(frozen=True)
class WeatherReader(ABC):
    """Reads answers that were asked for in ``units`` into canonical values."""

    units: Units = Units.METRIC

    @abstractmethod
    def fault(self, raw: Any, values: Values) -> str | None:
        """What is wrong with a record although its contract took it."""

    def add_current(self, raw: Any, record: Conditions, coord: Coordinates | None, answer: Answer) -> None:
        """A record of current weather, filed under the asked hour when it lies in it or just before."""
        hour = answer.first_hour
        values = self._values(record, 1)
        digest = payload_hash(record.dt, values)
        if fault := self.fault(raw, values):
            answer.reject(RejectionReason.CONTRACT, fault, raw, hour=hour)
        elif coord and (elsewhere := answer.elsewhere(coord.lat, coord.lon)):
            answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=hour, digest=digest)
        elif not hour - answer.tolerance_seconds <= record.dt < hour + HOUR_SECONDS:
            message = (
                f"the reading is of {iso(record.dt)}; for {iso(hour)} it may be up to "
                f"{answer.tolerance_seconds // 60} minutes older, and younger than the next hour"
            )
            answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=hour, digest=digest)
        else:
            answer.add(hour, record.dt, [*values, 1, record.condition_id], raw)

    def take_series(
        self,
        records: list[Any],
        many: TypeAdapter[list[C]],
        one: type[C],
        coord: Coordinates | None,
        answer: Answer,
        *,
        may_bring_more: bool = True,
    ) -> None:
        """Hourly records, each filed under its own hour.

        Args:
            may_bring_more: whole hours beyond the range are then only more than was asked for.
        """
        elsewhere = answer.elsewhere(coord.lat, coord.lon) if coord else None
        for raw, record in validated(records, many, one, answer):
            values = self._values(record, 1)
            hour = hour_of(record.dt)
            if None in values and (fault := self.fault(raw, values)):
                answer.reject(RejectionReason.CONTRACT, fault, raw, hour=hour)
            elif elsewhere:
                answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=hour)
            elif was_asked(record.dt, answer, raw, may_bring_more=may_bring_more):
                answer.add(hour, record.dt, [*values, 1, record.condition_id], raw)

    def take_steps(
        self,
        issued: int,
        steps: list[Any],
        many: TypeAdapter[list[S]],
        one: type[S],
        coord: Coordinates | None,
        answer: Answer,
        *,
        horizon: timedelta,
    ) -> None:
        """Steps of a forecast, filed as issued in the hour ``issued``; the last one may lie ``horizon`` after it."""
        elsewhere = answer.elsewhere(coord.lat, coord.lon) if coord else None
        for raw, step in validated(steps, many, one, answer, hour=issued):
            values = self._values(step, one.STEP_HOURS)
            fault = self.fault(raw, values) if None in values else None
            values.append(step.precipitation_probability)
            valid = hour_of(step.dt)
            if fault:
                answer.reject(RejectionReason.CONTRACT, fault, raw, hour=issued)
            elif elsewhere:
                answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=issued)
            elif valid < issued:
                message = f"the step is for {iso(step.dt)}, before the hour of issue {iso(issued)}"
                answer.reject(RejectionReason.BEFORE_ISSUE, message, raw, hour=issued)
            elif valid - issued > horizon.total_seconds():
                message = (
                    f"the step is for {iso(step.dt)}, more than {horizon.total_seconds() / HOUR_SECONDS:g} hours "
                    f"after the hour of issue {iso(issued)}"
                )
                answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=issued)
            else:
                answer.add(issued, valid, [*values, one.STEP_HOURS, step.condition_id], raw)

    def _values(self, record: Conditions, sum_hours: int) -> Values:
        """Values of ``quantities.WEATHER``, in their order and units; rain and snow over ``sum_hours`` hours."""
        rain, snow = amount_mm(record.rain, sum_hours), amount_mm(record.snow, sum_hours)
        visibility = record.visibility_m
        if visibility is not None and visibility > VISIBILITY_CAP:
            visibility = VISIBILITY_CAP
        total = None
        # A total of which a part is implausible would hide that part.
        if (
            rain is not None
            and snow is not None
            and quantities.RAIN.is_plausible(rain)
            and quantities.SNOW.is_plausible(snow)
        ):
            total = rain + snow
        values = [*_measured(record), visibility, rain, snow, total]
        for ending, convert in CONVERSIONS[self.units].items():
            for index, quantity in enumerate(MEASURED):
                value = values[index]
                if value is not None and quantity.name.endswith(ending):
                    values[index] = convert(value)
        return values


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
    records: list[Any], many: TypeAdapter[list[R]], one: type[R], answer: Answer, *, hour: int | None = None
) -> Iterable[tuple[Any, R]]:
    """Each raw record with its contract; broken ones are turned away. A clean list is validated in one go."""
    try:
        return zip(records, many.validate_python(records), strict=True)
    except ValidationError:
        return _validated_singly(records, one, answer, hour)


def _validated_singly(records: list[Any], one: type[R], answer: Answer, hour: int | None) -> Iterator[tuple[Any, R]]:
    for raw in records:
        try:
            record = one.model_validate(raw)
        except ValidationError as error:
            answer.reject(
                RejectionReason.CONTRACT, describe(error), raw, hour=_told_hour(raw) if hour is None else hour
            )
            continue
        yield raw, record


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


def hour_of(instant: int) -> int:
    """The start of the hour that holds ``instant``, unix seconds."""
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
