"""OpenWeather: its endpoints, plans and the reading of its answers. The simulator and the recorded hours speak it too.

Source of paths, parameters, spans and plans: OpenWeather's API documentation and price page of July 2026.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import attrgetter
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from weather_dagster import datasets, quantities
from weather_dagster.datasets import RejectionReason, payload_hash
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import RUNNING_HOUR, Endpoint, Parameters, Served
from weather_dagster.weather_api.openweather_contracts import (
    AIR_POLLUTION_RECORDS,
    FORECAST_STEPS,
    WEATHER_SERIES,
    AirPollution,
    AirPollutionSeries,
    Coordinates,
    CurrentWeather,
    Forecast,
    ForecastStep,
    History,
    Vintage,
    Weather,
    amount_mm,
)
from weather_dagster.weather_api.records import HOUR_SECONDS, Answer
from weather_dagster.weather_api.service import Limit, Window

API_URL = "https://api.openweathermap.org"
HISTORY_URL = "https://history.openweathermap.org"

CURRENT_TOLERANCE = timedelta(minutes=30)
"""``dt`` of current weather is the time of calculation and lags the request."""
WEEK_HOURS = 7 * 24
YEAR_HOURS = 366 * 24
"""No longest span is documented for air pollution; a year keeps an answer at about a megabyte."""
PROFESSIONAL_HISTORY = timedelta(days=30)
AIR_POLLUTION_START = datetime(2020, 11, 27, tzinfo=UTC)
FORECAST_STEPS_PER_ISSUE = 40
FORECAST_HORIZON_SECONDS = int(timedelta(days=5, hours=3).total_seconds())
RECORDED = Served(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 12, 31, 23, tzinfo=UTC))
VISIBILITY_CAP = quantities.VISIBILITY.upper
MAX_FAULTS_NAMED = 3
MAX_QUOTED = 200

HINTS = {
    400: "Check the coordinates in the locations file and the hours against the plan (OPENWEATHER_PLAN)",
    401: "Check OPENWEATHER_API_KEY (a new key works after up to 2 hours) and that OPENWEATHER_PLAN is what the "
    "account has subscribed to: a product outside the plan is refused in this way too",
    404: "Check the coordinates in the locations file, and OPENWEATHER_BASE_URL if it is set",
    429: "The account is over its limit and blocked for some hours, at times for days; more calls make it longer. "
    "Wait, and ask for fewer hours or places",
}


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
_MEASURED = quantities.WEATHER[: quantities.WEATHER.index(quantities.VISIBILITY)]
_measured = attrgetter(*(q.name for q in _MEASURED))
_pollutants = attrgetter(*(q.name for q in quantities.AIR_QUALITY))

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True)
class Reader:
    """Reads answers that were asked for in ``units`` into canonical values."""

    units: Units = Units.METRIC

    def current(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/weather``: one record, the answer itself."""
        if not isinstance(document, dict) or "dt" not in document or "main" not in document:
            raise _malformed(answer, "an object with dt and main", document)
        try:
            record = CurrentWeather.model_validate(document)
        except ValidationError as error:
            answer.reject(RejectionReason.CONTRACT, _describe(error), document, hour=answer.first_hour)
            return
        if fault := _block_fault(document, "main", "wind", "clouds"):
            answer.reject(RejectionReason.CONTRACT, fault, document, hour=answer.first_hour)
            return
        values = self._observation(record)
        digest = payload_hash(record.dt, values)
        hour = answer.first_hour
        if elsewhere := _elsewhere(record.coord, answer):
            answer.reject(RejectionReason.OTHER_PLACE, elsewhere, document, hour=hour, digest=digest)
        elif not hour - answer.tolerance_seconds <= record.dt < hour + HOUR_SECONDS:
            message = (
                f"the reading is of {_iso(record.dt)}; for {_iso(hour)} it may be up to "
                f"{answer.tolerance_seconds // 60} minutes older, and younger than the next hour"
            )
            answer.reject(RejectionReason.OUTSIDE_HOUR, message, document, hour=hour, digest=digest)
        else:
            answer.add(hour, record.dt, [*values, 1, record.condition_id], document)

    def history(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/history/city``: hourly records, without coordinates."""
        records = _envelope(History, document, answer).list
        for raw, record in _validated(records, WEATHER_SERIES, Weather, answer):
            values = self._observation(record)
            if None in values and (fault := _block_fault(raw, "main", "wind", "clouds")):
                answer.reject(RejectionReason.CONTRACT, fault, raw, hour=_hour_of(record.dt))
            elif _was_asked(record.dt, answer, raw):
                answer.add(_hour_of(record.dt), record.dt, [*values, 1, record.condition_id], raw)

    def forecast(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/forecast``, filed as issued in the hour that was asked for."""
        envelope = _envelope(Forecast, document, answer)
        elsewhere = _elsewhere(envelope.city.coord if envelope.city else None, answer)
        self._steps(answer.first_hour, envelope.list, elsewhere, answer)

    def forecast_history(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/forecast/history``, an extension of the simulator: forecasts by their hour of issue."""
        envelope = _envelope(Forecast, document, answer)
        elsewhere = _elsewhere(envelope.city.coord if envelope.city else None, answer)
        for raw in envelope.list:
            try:
                vintage = Vintage.model_validate(raw)
            except ValidationError as error:
                answer.reject(RejectionReason.CONTRACT, _describe(error), raw, hour=None)
                continue
            if _was_asked(vintage.issued, answer, raw):
                self._steps(_hour_of(vintage.issued), vintage.list, elsewhere, answer)

    def air_pollution(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/air_pollution/history``: hourly records."""
        envelope = _envelope(AirPollutionSeries, document, answer)
        coord = envelope.coord
        if isinstance(coord, tuple):
            coord = Coordinates(lat=coord[0], lon=coord[1])
        elsewhere = _elsewhere(coord, answer)
        for raw, record in _validated(envelope.list, AIR_POLLUTION_RECORDS, AirPollution, answer):
            values = _pollutants(record)
            hour = _hour_of(record.dt)
            if None in values and (fault := _block_fault(raw, "components", "main")):
                answer.reject(RejectionReason.CONTRACT, fault, raw, hour=hour)
            elif elsewhere:
                answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=hour)
            elif _was_asked(record.dt, answer, raw):
                answer.add(hour, record.dt, [*values, record.provider_aqi], raw)

    def _steps(self, issued: int, steps: list[Any], elsewhere: str | None, answer: Answer) -> None:
        for raw, step in _validated(steps, FORECAST_STEPS, ForecastStep, answer, hour=issued):
            values = self._weather(step, amount_mm(step.rain, 3), amount_mm(step.snow, 3))
            values.append(step.precipitation_probability)
            valid = _hour_of(step.dt)
            if None in values and (fault := _block_fault(raw, "main", "wind", "clouds")):
                answer.reject(RejectionReason.CONTRACT, fault, raw, hour=issued)
            elif elsewhere:
                answer.reject(RejectionReason.OTHER_PLACE, elsewhere, raw, hour=issued)
            elif valid < issued:
                message = f"the step is for {_iso(step.dt)}, before the hour of issue {_iso(issued)}"
                answer.reject(RejectionReason.BEFORE_ISSUE, message, raw, hour=issued)
            elif valid - issued > FORECAST_HORIZON_SECONDS:
                message = f"the step is for {_iso(step.dt)}, more than 5 days after the hour of issue {_iso(issued)}"
                answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=issued)
            else:
                answer.add(issued, valid, [*values, 3, step.condition_id], raw)

    def _observation(self, record: Weather) -> Values:
        return self._weather(record, amount_mm(record.rain, 1), amount_mm(record.snow, 1))

    def _weather(self, record: Weather, rain: float | None, snow: float | None) -> Values:
        """Values of ``quantities.WEATHER``, in their order and units."""
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
            for index, quantity in enumerate(_MEASURED):
                value = values[index]
                if value is not None and quantity.name.endswith(ending):
                    values[index] = convert(value)
        return values


def _envelope(model: type[R], document: Any, answer: Answer) -> R:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _malformed(
            answer, f"an envelope with {', '.join(model.model_fields)}, but {_describe(error)}", document
        ) from None


def _malformed(answer: Answer, expected: str, document: Any) -> MalformedAnswer:
    got = f"an object of {', '.join(document) or 'nothing'}" if isinstance(document, dict) else type(document).__name__
    return MalformedAnswer(
        f"{answer.provider} answered in another shape than the endpoint's ({answer.endpoint} for {answer.location.id}, "
        f"{answer.hours}): expected {expected}; got {got[:MAX_QUOTED]}"
    )


def _validated(
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
                RejectionReason.CONTRACT, _describe(error), raw, hour=_told_hour(raw) if hour is None else hour
            )
            continue
        yield raw, record


def _describe(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False)
    named = (f"{'.'.join(map(str, f['loc']))}: {f['msg']} (is {repr(f['input'])[:60]})" for f in faults)
    return "; ".join(text for text, _ in zip(named, range(MAX_FAULTS_NAMED), strict=False))


def _block_fault(raw: dict[str, Any], required: str, *optional: str) -> str | None:
    """What is wrong with the blocks of a record. Paths of a contract read a block of another type as left out."""
    if not isinstance(raw.get(required), dict):
        return f"{required}: is {repr(raw.get(required))[:60]} where an object of values must be"
    for name in optional:
        if not isinstance(raw.get(name), dict | None):
            return f"{name}: is {repr(raw[name])[:60]} where an object of values may be"
    return None


def _elsewhere(coord: Coordinates | None, answer: Answer) -> str | None:
    """Why the answer is not for the place that was asked for, None when it is or does not tell."""
    distance = answer.distance_from(coord.lat, coord.lon) if coord else None
    if coord is None or distance is None:
        return None
    return (
        f"the answer is for {coord.lat:g}, {coord.lon:g}, {distance:.1f} km from {answer.location.id} "
        f"({answer.location.latitude:g}, {answer.location.longitude:g})"
    )


def _was_asked(instant: int, answer: Answer, raw: Any) -> bool:
    """Whether the hour of ``instant`` was asked for. Whole hours beyond the range are only more than was asked for."""
    hour = _hour_of(instant)
    if answer.first_hour <= hour <= answer.last_hour:
        return True
    if instant != hour:
        message = (
            f"{_iso(instant)} is no whole hour and lies outside {_iso(answer.first_hour)} to {_iso(answer.last_hour)}"
        )
        answer.reject(RejectionReason.OUTSIDE_HOUR, message, raw, hour=hour)
    return False


def _hour_of(instant: int) -> int:
    return instant - instant % HOUR_SECONDS


def _told_hour(raw: Any) -> int | None:
    instant = raw.get("dt") if isinstance(raw, dict) else None
    return _hour_of(instant) if isinstance(instant, int) and 0 <= instant < 10**11 else None


def _iso(instant: int) -> str:
    return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def verdict(document: Any) -> tuple[int | None, str | None]:
    """Status and message that a body declares. ``cod`` is int or text; error codes have six digits: 400000 is a 400."""
    if not isinstance(document, dict):
        return None, None
    code = re.fullmatch(r"([1-5]\d\d)(\d{3})?", str(document.get("cod")), re.ASCII)
    message = document.get("message")
    return int(code[1]) if code else None, message if isinstance(message, str) and message else None


@dataclass(frozen=True)
class Plan:
    """What can be asked under a plan; of several endpoints for an hour the first is taken."""

    endpoints: tuple[Endpoint, ...]
    limits: Mapping[str, tuple[Limit, ...]]
    """By product; price page of July 2026."""


def plans(base_url: str | None, units: Units = Units.METRIC) -> Mapping[str, Plan]:
    """The plan table: OpenWeather's plans and, below, what the simulator's side serves of the same interface.

    Args:
        base_url: replaces both of OpenWeather's hosts: a proxy, or a simulator that runs as a server.
    """
    reader = Reader(units)
    api, history_api = base_url or API_URL, base_url or HISTORY_URL

    def now(places: Sequence[Location], _: HourRange) -> Parameters:
        return {**_point(*places), "units": units}

    def pollution_span(places: Sequence[Location], hours: HourRange) -> Parameters:
        # Both bounds are inclusive; the last second of the last hour is right for an exclusive end too.
        return {**_point(*places), "start": int(hours.first.timestamp()), "end": int(hours.end.timestamp()) - 1}

    def span(places: Sequence[Location], hours: HourRange) -> Parameters:
        return {**pollution_span(places, hours), "type": "hour", "units": units}

    def history(served: Served, product: str) -> Endpoint:
        return Endpoint(
            history_api,
            "/data/2.5/history/city",
            datasets.OBSERVATIONS,
            served,
            WEEK_HOURS,
            span,
            _of_one_place(reader.history),
            _in_list,
            product=product,
        )

    current = Endpoint(
        api,
        "/data/2.5/weather",
        datasets.OBSERVATIONS,
        RUNNING_HOUR,
        1,
        now,
        _of_one_place(reader.current),
        _alone,
        CURRENT_TOLERANCE,
    )
    forecast = Endpoint(
        api,
        "/data/2.5/forecast",
        datasets.FORECASTS,
        RUNNING_HOUR,
        1,
        now,
        _of_one_place(reader.forecast),
        _in_list,
        rows_per_hour=FORECAST_STEPS_PER_ISSUE,
        tells_hour=False,
    )
    forecast_history = Endpoint(
        api,
        "/data/2.5/forecast/history",
        datasets.FORECASTS,
        Served(None),
        WEEK_HOURS,
        span,
        _of_one_place(reader.forecast_history),
        _in_vintage,
        rows_per_hour=FORECAST_STEPS_PER_ISSUE,
    )
    air_pollution = Endpoint(
        api,
        "/data/2.5/air_pollution/history",
        datasets.AIR_QUALITY,
        Served(AIR_POLLUTION_START),
        YEAR_HOURS,
        pollution_span,
        _of_one_place(reader.air_pollution),
        _in_list,
    )
    last_month = history(Served(-PROFESSIONAL_HISTORY, -HOUR), "history")
    free, professional = _per_minute(50), _per_minute(25_000)
    return {
        "free": Plan((current, forecast, air_pollution), {"free": (*free, Limit(1_000_000, Window.MONTH))}),
        "professional": Plan(
            (current, last_month, forecast, air_pollution),
            {
                "free": (*professional, Limit(1_000_000_000, Window.MONTH)),
                "history": (*professional, Limit(5_000, Window.DAY)),
            },
        ),
        "simulator": Plan((history(Served(None), "free"), forecast_history, air_pollution), {}),
        "recorded": Plan((history(RECORDED, "free"),), {}),
    }


def _per_minute(calls: int) -> tuple[Limit, ...]:
    """Below what the plan allows (60 and 30,000): other programs may share the account."""
    return (Limit(calls, Window.MINUTE),)


def _point(location: Location) -> dict[str, str | int | float]:
    return {"lat": location.latitude, "lon": location.longitude}


def _of_one_place(read: Callable[[Any, Answer], None]) -> Callable[[Any, Sequence[Answer]], None]:
    return lambda document, answers: read(document, *answers)


def _alone(record: Any, _: HourRange) -> Any:
    return record


def _in_list(record: Any, _: HourRange) -> Any:
    return {"list": [record]}


def _in_vintage(record: Any, hours: HourRange) -> Any:
    is_vintage = isinstance(record, dict) and "issued" in record
    return _in_list(record if is_vintage else {"issued": int(hours.first.timestamp()), "list": [record]}, hours)
