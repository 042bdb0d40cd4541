"""OpenWeather: its endpoints, plans and the reading of its answers. The simulator and the recorded hours speak it too.

Source of paths, parameters, spans, plans and prices: OpenWeather's API documentation and price page of July 2026. One
Call has a module of its own (``one_call``); the plan table is here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from pydantic import ValidationError

from weather_dagster import datasets, quantities
from weather_dagster.datasets import RejectionReason
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api import one_call
from weather_dagster.weather_api.endpoints import RUNNING_HOUR, Endpoint, Parameters, Served
from weather_dagster.weather_api.openweather_contracts import (
    AIR_POLLUTION_RECORDS,
    CURRENT_RECORDS,
    FORECAST_STEPS,
    WEATHER_SERIES,
    AirPollutionSeries,
    Forecast,
    ForecastStep,
    History,
    Vintage,
)
from weather_dagster.weather_api.openweather_reading import (
    CURRENT_TOLERANCE,
    Units,
    WeatherReader,
    block_fault,
    envelope_of,
    hour_of,
    of_one_place,
    point,
    query_now,
    sound,
    take_hours,
    validated,
    was_asked,
)
from weather_dagster.weather_api.records import Answer, Floats, describe
from weather_dagster.weather_api.service import Limit, Window

API_URL = "https://api.openweathermap.org"
HISTORY_URL = "https://history.openweathermap.org"

PLAN_NAMES = ("free", "one_call_3", "one_call_4", "professional")
"""What OPENWEATHER_PLAN may say."""

WEEK_HOURS = 7 * 24
YEAR_HOURS = 366 * 24
"""No longest span is documented for air pollution; a year keeps an answer at about a megabyte."""
PROFESSIONAL_HISTORY = timedelta(days=30)
AIR_POLLUTION_START = datetime(2020, 11, 27, tzinfo=UTC)
FORECAST_STEPS_PER_ISSUE = 40
FORECAST_HORIZON = timedelta(days=5, hours=3)
RECORDED = Served(datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 12, 31, 23, tzinfo=UTC))

# A block that is none leaves these without a value.
_IN_MAIN_WIND_CLOUDS = [
    quantities.WEATHER.index(quantity)
    for quantity in (quantities.TEMPERATURE, quantities.WIND_SPEED, quantities.CLOUD_COVER)
]


class Refusal(StrEnum):
    """What a refusal of the service comes from, as far as its answer tells."""

    REQUEST = "request"
    OUTSIDE_SPAN = "outside_span"
    KEY = "key"
    NO_ONE_CALL = "no_one_call"
    NOT_FOUND = "not_found"
    BLOCKED = "blocked"


HINTS = {
    Refusal.REQUEST: "Check the coordinates in the locations file and the hours against the plan (OPENWEATHER_PLAN)",
    Refusal.OUTSIDE_SPAN: "The hours lie outside what the account's plan keeps, for professional the last month: ask "
    "for later hours, or let another provider bring them (WEATHER_HISTORY_PROVIDER)",
    Refusal.KEY: "Check OPENWEATHER_API_KEY: it is mistyped, or not active yet (a new key works after up to 2 hours), "
    "or what was asked for lies outside the account's plan (OPENWEATHER_PLAN), which is refused in this way too",
    Refusal.NO_ONE_CALL: "The account has no subscription to One Call of this generation. One that was taken out "
    "lately is for 4.0 alone: set OPENWEATHER_PLAN=one_call_4; without any, OPENWEATHER_PLAN=free",
    Refusal.NOT_FOUND: "Check the coordinates in the locations file, and OPENWEATHER_BASE_URL if it is set; One Call "
    "answers so, too, for hours of which it has no data",
    Refusal.BLOCKED: "The account is over its limit and blocked for some hours, at times for days; more calls make it "
    "longer. Wait, and ask for fewer hours or places",
}


class Reader(WeatherReader):
    """Reads the endpoints below ``/data/2.5``."""

    def faults(self, raws: Sequence[Any], numbers: Floats) -> Mapping[int, str]:
        """Blocks of values that are none."""
        suspects = np.flatnonzero(np.isnan(numbers[:, _IN_MAIN_WIND_CLOUDS]).any(axis=1)).tolist()
        return {row: fault for row in suspects if (fault := block_fault(raws[row], "main", "wind", "clouds"))}

    def current(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/weather``: one record, the answer itself."""
        if not isinstance(document, dict) or "dt" not in document or "main" not in document:
            raise answer.malformed("an object with dt and main", document)
        self.take_current(document, CURRENT_RECORDS, answer)

    def history(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/history/city``: hourly records, without coordinates."""
        records = envelope_of(History, document, answer).list
        self.take_series(records, WEATHER_SERIES, None, answer)

    def forecast(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/forecast``, filed as issued in the hour that was asked for."""
        envelope = envelope_of(Forecast, document, answer)
        self._steps([answer.first_hour] * len(envelope.list), envelope.list, envelope, answer)

    def forecast_history(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/forecast/history``, an extension of the simulator: forecasts by their hour of issue."""
        envelope = envelope_of(Forecast, document, answer)
        issued: list[int] = []
        steps: list[Any] = []
        for raw in envelope.list:
            try:
                vintage = Vintage.model_validate(raw)
            except ValidationError as error:
                answer.reject(RejectionReason.CONTRACT, describe(error), raw, hour=None)
                continue
            if was_asked(vintage.issued, answer, raw):
                issued += [hour_of(vintage.issued)] * len(vintage.list)
                steps += vintage.list
        self._steps(issued, steps, envelope, answer)

    def air_pollution(self, document: Any, answer: Answer) -> None:
        """``/data/2.5/air_pollution/history``: hourly records."""
        envelope = envelope_of(AirPollutionSeries, document, answer)
        raws, columns, _ = validated(envelope.list, AIR_POLLUTION_RECORDS, answer)
        instants = np.array(columns["dt"], dtype=np.int64)
        names = [*(quantity.name for quantity in quantities.AIR_QUALITY), datasets.PROVIDER_AQI.name]
        numbers = np.column_stack([np.array(columns[name], dtype=np.float64) for name in names])
        suspects = np.flatnonzero(np.isnan(numbers[:, : len(quantities.AIR_QUALITY)]).any(axis=1)).tolist()
        faults = {row: fault for row in suspects if (fault := block_fault(raws[row], "components", "main"))}
        is_sound = sound(raws, hour_of(instants), faults, envelope.coord, answer)
        take_hours(instants, numbers, raws, is_sound, answer)

    def _steps(self, issued: list[int], steps: list[Any], envelope: Forecast, answer: Answer) -> None:
        coord = envelope.city.coord if envelope.city else None
        self.take_steps(
            issued, steps, FORECAST_STEPS, coord, answer, step_hours=ForecastStep.STEP_HOURS, horizon=FORECAST_HORIZON
        )


def verdict(document: Any) -> tuple[int | None, str | None]:
    """Status and message that a body declares. ``cod`` is int or text.

    Error codes have six digits, of which the first three are the status: 400000 is a 400. The message then ends in the
    code, which tells more than the status.
    """
    if not isinstance(document, dict):
        return None, None
    code = re.fullmatch(r"([1-5]\d\d)(\d{3})?", str(document.get("cod")), re.ASCII)
    told = document.get("message")
    message = told if isinstance(told, str) and told else None
    if code and code[2]:
        message = f"{message or 'no message'} (code {code[0]})"
    return int(code[1]) if code else None, message


def refusal(status: int, message: str) -> Refusal | None:
    """What a refusal comes from.

    Args:
        message: of the body, as ``verdict`` gives it. The causes of a 401 differ in it alone.
    """
    if status == 400:
        return Refusal.OUTSIDE_SPAN if "code 400000" in message else Refusal.REQUEST
    if status == 401:
        return Refusal.NO_ONE_CALL if "one call" in message.lower() else Refusal.KEY
    return {404: Refusal.NOT_FOUND, 429: Refusal.BLOCKED}.get(status)


def hint(status: int, message: str) -> str | None:
    """What a person can do about a refusal, None when nothing is known of it."""
    cause = refusal(status, message)
    return HINTS[cause] if cause else None


@dataclass(frozen=True)
class Price:
    """What the calls of a product cost beyond those that a day has free of charge."""

    per_call: float
    free_a_day: int
    currency: str = "GBP"

    def of_a_day(self, calls: int) -> float:
        """Cost of so many calls on one UTC day, in ``currency``."""
        return max(0, calls - self.free_a_day) * self.per_call

    def __str__(self) -> str:
        return f"{self.per_call:g} {self.currency} a call above {self.free_a_day:,} a day"


ONE_CALL_PRICE = Price(0.0012, 1_000)


@dataclass(frozen=True)
class Plan:
    """What can be asked under a plan; of several endpoints for an hour the first is taken."""

    endpoints: tuple[Endpoint, ...]
    limits: Mapping[str, tuple[Limit, ...]]
    """By product; price page of July 2026."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By product; one that is not named costs nothing by the call."""


def plans(
    base_url: str | None, units: Units = Units.METRIC, *, one_call_per_day: int = ONE_CALL_PRICE.free_a_day
) -> Mapping[str, Plan]:
    """The plan table: OpenWeather's plans and, below, what the simulator's side serves of the same interface.

    Args:
        base_url: replaces both of OpenWeather's hosts: a proxy, or a simulator that runs as a server.
        one_call_per_day: limit for One Call. So many are free of charge; the account itself stops at 2,000 unless a
            person sets it otherwise.
    """
    reader = Reader(units)
    api, history_api = base_url or API_URL, base_url or HISTORY_URL

    def pollution_span(places: Sequence[Location], hours: HourRange) -> Parameters:
        # Both bounds are inclusive; the last second of the last hour is right for an exclusive end too.
        return {**point(*places), "start": int(hours.first.timestamp()), "end": int(hours.end.timestamp()) - 1}

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
            of_one_place(reader.history),
            _in_list,
            product=product,
        )

    current = Endpoint(
        api,
        "/data/2.5/weather",
        datasets.OBSERVATIONS,
        RUNNING_HOUR,
        1,
        query_now(units),
        of_one_place(reader.current),
        _alone,
        CURRENT_TOLERANCE,
    )
    forecast = Endpoint(
        api,
        "/data/2.5/forecast",
        datasets.FORECASTS,
        RUNNING_HOUR,
        1,
        query_now(units),
        of_one_place(reader.forecast),
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
        of_one_place(reader.forecast_history),
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
        of_one_place(reader.air_pollution),
        _in_list,
    )
    last_month = history(Served(-PROFESSIONAL_HISTORY, -HOUR), "history")
    free = {"free": (*_per_minute(50), Limit(1_000_000, Window.MONTH))}
    professional = _per_minute(25_000)

    def with_one_call(endpoints: tuple[Endpoint, ...]) -> Plan:
        limits = {**free, one_call.PRODUCT: (Limit(one_call_per_day, Window.DAY),)}
        return Plan((*endpoints, air_pollution), limits, {one_call.PRODUCT: ONE_CALL_PRICE})

    return {
        "free": Plan((current, forecast, air_pollution), free),
        "one_call_3": with_one_call(one_call.endpoints_3(api, units)),
        "one_call_4": with_one_call(one_call.endpoints_4(api, units)),
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


def _alone(record: Any, _: HourRange) -> Any:
    return record


def _in_list(record: Any, _: HourRange) -> Any:
    return {"list": [record]}


def _in_vintage(record: Any, hours: HourRange) -> Any:
    is_vintage = isinstance(record, dict) and "issued" in record
    return _in_list(record if is_vintage else {"issued": int(hours.first.timestamp()), "list": [record]}, hours)
