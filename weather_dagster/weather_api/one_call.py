"""One Call, OpenWeather's product for single places and hours, in both generations that are sold or still answer.

Source of paths, spans and pages: OpenWeather's API documentation of July 2026. 3.0 gives one past hour a call, 4.0
twenty; every request, and so every page, is a call that counts.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from weather_dagster import datasets
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import RUNNING_HOUR, ApiCall, Endpoint, Parameters, Served
from weather_dagster.weather_api.openweather_contracts import (
    ONE_CALL_RECORDS,
    ONE_CALL_STEPS,
    OneCall,
    OneCallCurrent,
    OneCallData,
    OneCallHourly,
    OneCallStep,
)
from weather_dagster.weather_api.openweather_reading import (
    CURRENT_TOLERANCE,
    MEASURED,
    Units,
    WeatherReader,
    envelope_of,
    of_one_place,
    query_now,
)
from weather_dagster.weather_api.records import HOUR_SECONDS, Answer, Floats

PRODUCT = "one_call"
TIMEMACHINE_START = datetime(1979, 1, 1, tzinfo=UTC)
TIMELINE_DEPTH = timedelta(days=47 * 365)
STEPS_AHEAD = 48
HORIZON = timedelta(hours=STEPS_AHEAD)
PAGE_HOURS = 20
PARTS = ("current", "minutely", "hourly", "daily", "alerts")


class Reader(WeatherReader):
    """Reads both generations: their records are the same, their envelopes differ."""

    def faults(self, raws: Sequence[Any], numbers: Floats) -> Mapping[int, str]:
        """Any quantity may be missing, but a record without all of them must not land as an hour without rain."""
        is_empty = np.isnan(numbers[:, : len(MEASURED)]).all(axis=1)
        return dict.fromkeys(np.flatnonzero(is_empty).tolist(), "the record has no measured value")

    def current_3(self, document: Any, answer: Answer) -> None:
        """``/data/3.0/onecall``, current weather."""
        envelope = envelope_of(OneCallCurrent, document, answer)
        self.take_current(envelope.current, ONE_CALL_RECORDS, answer, envelope.coord)

    def current_4(self, document: Any, answer: Answer) -> None:
        """``/data/4.0/onecall/current``."""
        envelope = envelope_of(OneCallData, document, answer)
        for record in envelope.data:
            self.take_current(record, ONE_CALL_RECORDS, answer, envelope.coord)

    def timemachine(self, document: Any, answer: Answer) -> None:
        """``/data/3.0/onecall/timemachine``: the record of the hour that was asked for, and no other."""
        envelope = envelope_of(OneCallData, document, answer)
        self.take_series(envelope.data, ONE_CALL_RECORDS, envelope.coord, answer, may_bring_more=False)

    def timeline(self, document: Any, answer: Answer) -> None:
        """A page of ``/data/4.0/onecall/timeline/1h``, past hours; the last page may go beyond them."""
        envelope = envelope_of(OneCallData, document, answer)
        self.take_series(envelope.data, ONE_CALL_RECORDS, envelope.coord, answer)

    def hourly_3(self, document: Any, answer: Answer) -> None:
        """``/data/3.0/onecall``, hours ahead, filed as issued in the hour that was asked for."""
        envelope = envelope_of(OneCallHourly, document, answer)
        self._ahead(envelope.hourly, envelope, answer)

    def hourly_4(self, document: Any, answer: Answer) -> None:
        """A page of ``/data/4.0/onecall/timeline/1h``, hours ahead, filed as issued in the hour that was asked for."""
        envelope = envelope_of(OneCallData, document, answer)
        self._ahead(envelope.data, envelope, answer)

    def _ahead(self, steps: list[Any], envelope: OneCall, answer: Answer) -> None:
        self.take_steps(
            [answer.first_hour] * len(steps),
            steps,
            ONE_CALL_STEPS,
            envelope.coord,
            answer,
            step_hours=OneCallStep.STEP_HOURS,
            horizon=HORIZON,
        )


def endpoints_3(base_url: str, units: Units) -> tuple[Endpoint, ...]:
    """One Call 3.0: current weather, past hours, hours ahead."""
    reader, path = Reader(units), "/data/3.0/onecall"
    now = query_now(units)

    def only(part: str) -> Mapping[str, str]:
        return {"exclude": ",".join(other for other in PARTS if other != part)}

    def timestamp(places: Sequence[Location], hours: HourRange) -> Parameters:
        return {**now(places, hours), "dt": int(hours.first.timestamp())}

    return (
        Endpoint(
            base_url,
            path,
            datasets.OBSERVATIONS,
            RUNNING_HOUR,
            1,
            lambda places, hours: {**now(places, hours), **only("current")},
            of_one_place(reader.current_3),
            lambda record, _: {"current": record},
            CURRENT_TOLERANCE,
            product=PRODUCT,
        ),
        Endpoint(
            base_url,
            f"{path}/timemachine",
            datasets.OBSERVATIONS,
            Served(TIMEMACHINE_START, -HOUR),
            1,
            timestamp,
            of_one_place(reader.timemachine),
            _in_data,
            product=PRODUCT,
        ),
        Endpoint(
            base_url,
            path,
            datasets.FORECASTS,
            RUNNING_HOUR,
            1,
            lambda places, hours: {**now(places, hours), **only("hourly")},
            of_one_place(reader.hourly_3),
            lambda record, _: {"hourly": [record]},
            rows_per_hour=STEPS_AHEAD,
            tells_hour=False,
            product=PRODUCT,
        ),
    )


def endpoints_4(base_url: str, units: Units) -> tuple[Endpoint, ...]:
    """One Call 4.0: current weather, past hours, hours ahead."""
    reader, path = Reader(units), "/data/4.0/onecall"
    now = query_now(units)

    def timeline(places: Sequence[Location], hours: HourRange) -> Parameters:
        return {**now(places, hours), "start": int(hours.first.timestamp())}

    return (
        Endpoint(
            base_url,
            f"{path}/current",
            datasets.OBSERVATIONS,
            RUNNING_HOUR,
            1,
            now,
            of_one_place(reader.current_4),
            _in_data,
            CURRENT_TOLERANCE,
            product=PRODUCT,
        ),
        Endpoint(
            base_url,
            f"{path}/timeline/1h",
            datasets.OBSERVATIONS,
            Served(-TIMELINE_DEPTH, -HOUR),
            PAGE_HOURS,
            timeline,
            of_one_place(reader.timeline),
            _in_data,
            product=PRODUCT,
            # A full page covers the call; one that is shorter is gone on from.
            follow=lambda document, call: _next_page(document, call, until=int(call.hours.end.timestamp())),
        ),
        Endpoint(
            base_url,
            f"{path}/timeline/1h",
            datasets.FORECASTS,
            RUNNING_HOUR,
            1,
            timeline,
            of_one_place(reader.hourly_4),
            _in_data,
            rows_per_hour=STEPS_AHEAD,
            tells_hour=False,
            product=PRODUCT,
            pages=-(-STEPS_AHEAD // PAGE_HOURS),
            follow=lambda document, call: _next_page(
                document, call, until=int((call.hours.first + HORIZON).timestamp())
            ),
        ),
    )


def _in_data(record: Any, _: HourRange) -> Any:
    return {"data": [record]}


def _next_page(document: Any, call: ApiCall, *, until: int) -> ApiCall | None:
    """The call for the hours after this page and before ``until`` (unix seconds), None when there are none.

    The link of the answer holds the key and may lead anywhere: only where the next page starts, and how long it is,
    is taken from it. A link that does not lead at least an hour on would be paid for without end.
    """
    link = document.get("next") if isinstance(document, dict) else None
    if not isinstance(link, str):
        return None
    try:
        told = parse_qs(urlsplit(link).query)
    except ValueError:
        return None
    page = {name: int(text) for name in ("start", "cnt") if (text := _whole_number(told.get(name, ())))}
    here = int(call.query["start"])
    if not here + HOUR_SECONDS <= page.get("start", here) < until:
        return None
    return dataclasses.replace(call, page=page)


def _whole_number(texts: Sequence[str]) -> str | None:
    return texts[0] if len(texts) == 1 and re.fullmatch(r"[1-9]\d{0,10}", texts[0], re.ASCII) else None
