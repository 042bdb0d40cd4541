"""Open-Meteo: its endpoints, limits and the reading of its answers. It needs no key.

Values are of models, not of stations. Amounts and gusts are of the hour that ends at the time of a value. Source of
paths, variables, spans, limits and weights: Open-Meteo's documentation and server code of August 2026.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import compress
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from weather_dagster import datasets, quantities
from weather_dagster.datasets import Dataset, RejectionReason
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api.endpoints import RUNNING_HOUR, Endpoint, Parameters, Served
from weather_dagster.weather_api.open_meteo_contracts import (
    INSTANT,
    INSTANTS,
    LOCAL_TEXT,
    LOCAL_TIME,
    NUMBER,
    NUMBERS,
    Place,
)
from weather_dagster.weather_api.records import HOUR_SECONDS, Answer, Fault, Floats, Instants, describe, iso, plausible
from weather_dagster.weather_api.service import Limit, Window

PRODUCT = "open_meteo"
LIMITS: Mapping[str, tuple[Limit, ...]] = MappingProxyType(
    {
        PRODUCT: (
            # Below the 600 that are allowed: the provider's minutes are not ours, and others may share the address.
            Limit(500, Window.MINUTE),
            Limit(5_000, Window.HOUR),
            Limit(10_000, Window.DAY),
            Limit(300_000, Window.MONTH),
        )
    }
)
"""Of the free service, in weight."""
CONCURRENCY = 1
"""Calls that the free service works on at once for one address; it lets a few more wait."""

HINTS = {
    400: "Check the coordinates in the locations file and the hours that are asked for, and OPEN_METEO_BASE_URL if it "
    "is set: an older server may not know every variable",
    403: "The service may have blocked this address; see its terms of use",
    404: "Check OPEN_METEO_BASE_URL if it is set: below it stand api, archive-api, historical-forecast-api, "
    "previous-runs-api and air-quality-api",
    429: "The limits of the free service count the weight of calls, by address; wait, or ask for fewer hours",
}

RECENT = timedelta(days=90)
"""The service says 92 days; the rest is a margin for the hour that begins between planning and asking."""
ARCHIVE_START = datetime(1940, 1, 1, tzinfo=UTC)
HISTORICAL_FORECAST_START = datetime(2022, 1, 1, tzinfo=UTC)
PREVIOUS_RUNS_START = datetime(2024, 1, 1, tzinfo=UTC)
AIR_QUALITY_START = datetime(2013, 1, 1, tzinfo=UTC)
"""For Europe; elsewhere the values before August 2022 are null."""
FORECAST_HOURS = 120
LEAD_DAYS = (1, 2, 3, 4, 5)
PLACE_TOLERANCE_KM = 50.0
"""The echoed point is the centre of a model's cell, and cells are up to 0.4 degrees wide."""

# A value takes some six bytes, so that these keep a body below 5 MB; the weight of a call stays below 300.
PLACES_PER_CALL = 100
PLACE_HOURS_PER_CALL = 50_000
PLACES_PER_PREVIOUS_RUNS_CALL = 30
PLACE_HOURS_PER_PREVIOUS_RUNS_CALL = 10_000

SNOW_CM_PER_MM = 0.7
"""Centimetres of snow that hold a millimetre of water, as the service reckons."""


class Variable(NamedTuple):
    """A variable of the service, the unit it is asked for in, and the column that it goes into."""

    name: str
    unit: str
    column: str


_RAIN = Variable("rain", "mm", quantities.RAIN.name)
_SHOWERS = Variable("showers", "mm", quantities.RAIN.name)
_CLOUD_COVER = Variable("cloud_cover", "%", quantities.CLOUD_COVER.name)
_SNOWFALL = Variable("snowfall", "cm", quantities.SNOW.name)
_PRECIPITATION = Variable("precipitation", "mm", quantities.PRECIPITATION.name)
_WEATHER_CODE = Variable("weather_code", "wmo code", datasets.CONDITION_ID.name)
_GUSTS = Variable("wind_gusts_10m", "m/s", quantities.WIND_GUST.name)
_VISIBILITY = Variable("visibility", "m", quantities.VISIBILITY.name)
_PROBABILITY = Variable("precipitation_probability", "%", quantities.PRECIPITATION_PROBABILITY.name)

# What the endpoints have in common.
_PREVIOUS_RUNS = (
    Variable("temperature_2m", "°C", quantities.TEMPERATURE.name),
    Variable("apparent_temperature", "°C", quantities.APPARENT_TEMPERATURE.name),
    Variable("pressure_msl", "hPa", quantities.PRESSURE.name),
    Variable("surface_pressure", "hPa", quantities.GROUND_PRESSURE.name),
    Variable("relative_humidity_2m", "%", quantities.HUMIDITY.name),
    Variable("wind_speed_10m", "m/s", quantities.WIND_SPEED.name),
    Variable("wind_direction_10m", "°", quantities.WIND_DIRECTION.name),
    _CLOUD_COVER,
    _RAIN,
    _SHOWERS,
    _SNOWFALL,
    _PRECIPITATION,
    _WEATHER_CODE,
)
# The archive has showers within rain, and no visibility.
_ARCHIVE = (*(variable for variable in _PREVIOUS_RUNS if variable is not _SHOWERS), _GUSTS)
_WEATHER = (*_PREVIOUS_RUNS, _GUSTS, _VISIBILITY)
_FORECAST = (*_WEATHER, _PROBABILITY)
_AIR_QUALITY = tuple(
    Variable(name, "μg/m³", quantity.name)
    for name, quantity in (
        ("carbon_monoxide", quantities.CARBON_MONOXIDE),
        ("nitrogen_monoxide", quantities.NITROGEN_MONOXIDE),
        ("nitrogen_dioxide", quantities.NITROGEN_DIOXIDE),
        ("ozone", quantities.OZONE),
        ("sulphur_dioxide", quantities.SULPHUR_DIOXIDE),
        ("pm2_5", quantities.PM2_5),
        ("pm10", quantities.PM10),
        ("ammonia", quantities.AMMONIA),
    )
)

_OWM_BY_WMO = np.full(100, np.nan)
for _wmo, _owm in {
    0: 800, 45: 741, 48: 741, 51: 300, 53: 301, 55: 302, 56: 511, 57: 511, 61: 500, 63: 501, 65: 502, 66: 511, 67: 511,
    71: 600, 73: 601, 75: 602, 77: 600, 80: 520, 81: 521, 82: 522, 85: 620, 86: 622,
}.items():  # fmt: skip
    _OWM_BY_WMO[_wmo] = _owm
_CLOUDS = (1, 2, 3)
_THUNDERSTORMS = (95, 96, 99)

NO_TIME = -1


def condition_ids(codes: Floats, cloud_cover: Floats, precipitation: Floats) -> Floats:
    """OpenWeather's condition codes for WMO codes; NaN where there is none.

    Args:
        codes: WMO table 4677, in the service's selection.
        cloud_cover: %, tells the kinds of clouds apart; without it clouds have no code.
        precipitation: mm in the hour, tells the kinds of thunderstorms apart.
    """
    ids = np.full(len(codes), np.nan)
    known = (codes >= 0) & (codes < len(_OWM_BY_WMO)) & (codes == np.floor(codes))
    ids[known] = _OWM_BY_WMO[codes[known].astype(np.int64)]
    unknown = ~plausible(quantities.CLOUD_COVER, cloud_cover)
    clouds = np.select(
        [unknown, cloud_cover < 11, cloud_cover <= 25, cloud_cover <= 50, cloud_cover <= 84],
        [np.nan, 800, 801, 802, 803],
        804,
    )
    dry = ~plausible(quantities.PRECIPITATION, precipitation) | (precipitation == 0)
    storms = np.select([dry, precipitation < 2.5, precipitation <= 7.6], [211, 200, 201], 202)
    ids = np.where(np.isin(codes, _CLOUDS), clouds, ids)
    return np.where(np.isin(codes, _THUNDERSTORMS), storms, ids)


def _sum(parts: Sequence[Floats], quantity: quantities.Quantity) -> Floats:
    """The sum of parts; where one is implausible that one, which a sum would hide."""
    total: Floats = np.sum(parts, axis=0)
    for part in parts:
        total = np.where(plausible(quantity, part) | np.isnan(part), total, part)
    return total


def weight(variables: int, days: int, places: int) -> float:
    """What the service counts for a call."""
    return places * max(1, variables / 10 * max(1, days / 14))


def _same(hours: HourRange) -> HourRange:
    return hours


def _whole_days(hours: HourRange) -> HourRange:
    return HourRange(hours.first.replace(hour=0), hours.last.replace(hour=23))


def _coming(hours: HourRange) -> HourRange:
    return HourRange(hours.first + HOUR, hours.last + FORECAST_HOURS * HOUR)


def _after_leads(hours: HourRange) -> HourRange:
    return HourRange(hours.first + timedelta(days=min(LEAD_DAYS)), hours.last + timedelta(days=max(LEAD_DAYS)))


@dataclass(frozen=True)
class Column:
    """One variable of an answer: as it came, and as numbers in the unit that was asked for."""

    variable: Variable
    raw: Sequence[Any]
    numbers: Floats
    faults: Mapping[int, Fault]
    """By place in the column; the numbers there are NaN."""


@dataclass(frozen=True)
class Reader:
    """What an endpoint is asked for, and the reading of its answers."""

    dataset: Dataset
    variables: tuple[Variable, ...]
    asked: Callable[[HourRange], HourRange] = _same
    """The hours that the server is asked for, from the partitions'."""
    lead_days: tuple[int, ...] = ()
    """For forecasts of the past: how many days before its hour a value was forecast."""

    @property
    def parts(self) -> Iterator[tuple[str, int]]:
        """Ends of the variables' names, and the seconds between hour of issue and valid hour that they mean."""
        if not self.lead_days:
            yield "", 0
        for days in self.lead_days:
            yield f"_previous_day{days}", days * 24 * HOUR_SECONDS

    @property
    def names(self) -> list[str]:
        """All that the server is asked for."""
        return [variable.name + suffix for suffix, _ in self.parts for variable in self.variables]

    def query(self, places: Sequence[Location], hours: HourRange) -> Parameters:
        """Query parameters. Units are never left to the server, whose wind is in km/h."""
        asked = self.asked(hours)
        return {**self._common(places), "start_hour": format_hour(asked.first), "end_hour": format_hour(asked.last)}

    def query_days(self, places: Sequence[Location], hours: HourRange) -> Parameters:
        """Query parameters of the archive, for which only days are documented."""
        asked = self.asked(hours)
        days = {"start_date": f"{asked.first:%Y-%m-%d}", "end_date": f"{asked.last:%Y-%m-%d}"}
        return {**self._common(places), **days}

    def _common(self, places: Sequence[Location]) -> dict[str, str | int | float]:
        return {
            "latitude": ",".join(str(place.latitude) for place in places),
            "longitude": ",".join(str(place.longitude) for place in places),
            "hourly": ",".join(self.names),
            "timezone": "GMT",
            "timeformat": "unixtime",
            "temperature_unit": "celsius",
            "wind_speed_unit": "ms",
            "precipitation_unit": "mm",
        }

    def weigh(self, places: int, hours: HourRange) -> float:
        """The weight of a call, of the hours that the server is asked for."""
        return weight(len(self.names), math.ceil(len(self.asked(hours)) / 24), places)

    def wrap(self, record: Any, hours: HourRange) -> Any:
        """The answer for one place that would have carried one hour."""
        if not isinstance(record, dict):
            return record
        units = record.get("units")
        units = units if isinstance(units, dict) else {}
        series = {name: [record[name]] for name in ("time", *self.names) if name in record}
        asked = {v.name + suffix: v.unit for suffix, _ in self.parts for v in self.variables}
        told = {name: units.get(name, unit) for name, unit in asked.items() if name in series}
        return {
            **{name: record[name] for name in ("latitude", "longitude") if name in record},
            "utc_offset_seconds": 0,
            "hourly_units": {"time": "unixtime", **{name: unit for name, unit in told.items() if unit is not None}},
            "hourly": series,
        }

    def read(self, document: Any, answers: Sequence[Answer]) -> None:
        """One place is an object, many are an array of them in the order asked for."""
        if len(answers) == 1:
            self._place(document, answers[0])
            return
        if not isinstance(document, list) or len(document) != len(answers):
            got = f"{len(document)}" if isinstance(document, list) else "no array"
            raise answers[0].malformed(f"an array of {len(answers)} places, but it is {got}", document)
        for index, (part, answer) in enumerate(zip(document, answers, strict=True)):
            self._place(part, answer, index)

    def _place(self, document: Any, answer: Answer, index: int = 0) -> None:
        try:
            place = Place.model_validate(document)
        except ValidationError as error:
            raise answer.malformed(f"the columns of a place, but {describe(error)}", document) from None
        if place.location_id is not None and place.location_id != index:
            raise answer.malformed(
                f"place {index} of those asked for, but location_id is {place.location_id}", document
            )
        series = {name: place.hourly[name] for name in self.names if name in place.hourly}
        if "time" not in place.hourly or not series:
            raise answer.malformed("hourly with time and the variables asked for", place.hourly)
        raw_times = place.hourly["time"]
        for name, values in series.items():
            if len(values) != len(raw_times):
                expected = f"as many values as times ({len(raw_times)}), but {name} has {len(values)}"
                raise answer.malformed(expected, place.hourly)
        extra = self._extra(place, series)
        elsewhere = None
        if place.latitude is not None and place.longitude is not None:
            elsewhere = answer.elsewhere(place.latitude, place.longitude)
        if elsewhere:
            extra |= {"latitude": place.latitude, "longitude": place.longitude}
        times = self._times(raw_times, place, series, extra, answer)
        kept = 0
        for suffix, lead in self.parts:
            columns = [
                self._column(variable, suffix, place) for variable in self.variables if variable.name + suffix in series
            ]
            if columns:
                kept += self._part(columns, suffix, lead, times, extra, elsewhere, answer)
        if kept and place.hides_place:
            told = {name: document.get(name) for name in ("latitude", "longitude")}
            message = f"the answer has no usable coordinates ({told}), so nothing tells that it is for this place"
            answer.reject(RejectionReason.PLACE_NOT_TOLD, message, told, hour=None)

    def _extra(self, place: Place, series: Mapping[str, Any]) -> dict[str, Any]:
        """What a record needs beside its values to be read again in the same way: units other than those asked for."""
        others = {
            variable.name + suffix: place.hourly_units.get(variable.name + suffix)
            for suffix, _ in self.parts
            for variable in self.variables
            if variable.name + suffix in series
            and not _is_unit(place.hourly_units.get(variable.name + suffix), variable.unit)
        }
        return {"units": others} if others else {}

    def _times(
        self,
        raw_times: list[Any],
        place: Place,
        series: Mapping[str, Sequence[Any]],
        extra: dict[str, Any],
        answer: Answer,
    ) -> Instants:
        """Unix seconds; ``NO_TIME`` for what is no whole hour and is turned away with its values."""
        try:
            instants: list[int] = INSTANTS.validate_python(raw_times)
        except ValidationError:
            instants = [_instant(raw, place.utc_offset_seconds) for raw in raw_times]
        times = np.array(instants, dtype=np.int64)
        for row in np.flatnonzero(times % HOUR_SECONDS != 0).tolist():
            instant = instants[row]
            record = {"time": raw_times[row] if instant == NO_TIME else instant}
            record |= {name: values[row] for name, values in series.items()} | extra
            if instant == NO_TIME:
                message = f"time: is {repr(raw_times[row])[:60]}, which is neither unix seconds nor a local time"
                answer.reject(RejectionReason.CONTRACT, message, record, hour=None)
            else:
                message = f"{iso(instant)} is no whole hour"
                hour = instant - instant % HOUR_SECONDS
                answer.reject(RejectionReason.OUTSIDE_HOUR, message, record, hour=hour)
            times[row] = NO_TIME
        return times

    def _column(self, variable: Variable, suffix: str, place: Place) -> Column:
        raw = place.hourly[variable.name + suffix]
        faults: dict[int, Fault] = {}
        try:
            values = NUMBERS.validate_python(raw)
        except ValidationError:
            values = []
            for row, value in enumerate(raw):
                number, fault = _number(value)
                values.append(number)
                if fault:
                    message = f"{variable.name}{suffix}: {fault}"
                    faults[row] = (RejectionReason.CONTRACT, variable.column, message)
        numbers = np.array(values, dtype=np.float64)
        unit = place.hourly_units.get(variable.name + suffix)
        if not _is_unit(unit, variable.unit):
            told = f"came in {unit}" if unit else "came without a unit"
            for row in np.flatnonzero(~np.isnan(numbers)).tolist():
                message = f"{variable.name}{suffix} {numbers[row]:g} {told}, {variable.unit} was asked for"
                faults[row] = (RejectionReason.OTHER_UNIT, variable.column, message)
            numbers[:] = np.nan
        return Column(variable, raw, numbers, faults)

    def _part(
        self,
        columns: Sequence[Column],
        suffix: str,
        lead: int,
        times: Instants,
        extra: Mapping[str, Any],
        elsewhere: str | None,
        answer: Answer,
    ) -> int:
        """The hours of one lead, or of an answer without leads; how many there are."""
        if self.dataset is datasets.FORECASTS and not self.lead_days:
            # Issued in the hour of asking; what is for that hour itself is no forecast.
            hours = np.full(len(times), answer.first_hour)
            wanted = (times > answer.first_hour) & (times <= answer.first_hour + FORECAST_HOURS * HOUR_SECONDS)
        else:
            hours = times - lead
            wanted = (times != NO_TIME) & (hours >= answer.first_hour) & (hours <= answer.last_hour)
        told = np.zeros(len(times), dtype=np.bool_)
        faults: dict[int, tuple[Fault, ...]] = {}
        for column in columns:
            told |= ~np.isnan(column.numbers)
            for row, fault in column.faults.items():
                told[row] = True
                faults[row] = (*faults.get(row, ()), fault)
        received = wanted & told
        names = ("time", *(column.variable.name + suffix for column in columns))
        others = _of_record(extra, names)
        rows = np.flatnonzero(received)
        raws = zip(times.tolist(), *(column.raw for column in columns), strict=True)
        records = [dict(zip(names, raw, strict=True)) for raw in compress(raws, received.tolist())]
        if others:
            records = [record | others for record in records]
        if elsewhere:
            for record, hour in zip(records, hours[rows].tolist(), strict=True):
                answer.reject(RejectionReason.OTHER_PLACE, elsewhere, record, hour=hour)
        else:
            told_faults = {place: faults[row] for place, row in enumerate(rows.tolist()) if row in faults}
            answer.add(hours[rows], times[rows], self._numbers(columns)[rows], records, told_faults)
        return len(rows)

    def _numbers(self, columns: Sequence[Column]) -> Floats:
        """One row an hour: the dataset's quantities in their order, then its integers."""
        length = len(columns[0].raw)
        nothing = np.full(length, np.nan)
        found = {column.variable.name: column.numbers for column in columns}
        values = {column.variable.column: column.numbers for column in columns}
        if self.dataset is datasets.AIR_QUALITY:
            # The service's own indices are on other scales.
            integers = [datasets.PROVIDER_AQI.name]
        else:
            values |= _derived(found, nothing)
            integers = [datasets.PRECIPITATION_HOURS.name, datasets.CONDITION_ID.name]
        names = [*(q.name for q in self.dataset.quantities), *integers]
        return np.column_stack([values.get(name, nothing) for name in names])


def _derived(found: Mapping[str, Floats], nothing: Floats) -> dict[str, Floats]:
    """The columns of weather that are not the value of one variable as it came."""
    derived = {
        datasets.PRECIPITATION_HOURS.name: np.ones(len(nothing)),
        datasets.CONDITION_ID.name: condition_ids(
            *(found.get(variable.name, nothing) for variable in (_WEATHER_CODE, _CLOUD_COVER, _PRECIPITATION))
        ),
    }
    # Showers alone would pass for all the rain.
    rain = [found[variable.name] for variable in (_RAIN, _SHOWERS) if variable.name in found]
    derived[quantities.RAIN.name] = _sum(rain, quantities.RAIN) if _RAIN.name in found else nothing
    if _SNOWFALL.name in found:
        derived[quantities.SNOW.name] = found[_SNOWFALL.name] / SNOW_CM_PER_MM
    if _VISIBILITY.name in found:
        derived[quantities.VISIBILITY.name] = np.minimum(found[_VISIBILITY.name], quantities.VISIBILITY.upper)
    if _PROBABILITY.name in found:
        derived[quantities.PRECIPITATION_PROBABILITY.name] = found[_PROBABILITY.name] / 100
    return derived


def _of_record(extra: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``extra`` without the units of variables that the record does not have."""
    units = {name: unit for name, unit in extra.get("units", {}).items() if name in names}
    point = {name: value for name, value in extra.items() if name != "units"}
    return {**point, "units": units} if units else point


def _is_unit(told: str | None, asked: str) -> bool:
    # Two signs are in use for micro.
    return told is not None and unicodedata.normalize("NFKC", told) == unicodedata.normalize("NFKC", asked)


def _number(value: Any) -> tuple[float | None, str | None]:
    """The value as a number, or None and why it is none."""
    try:
        return NUMBER.validate_python(value), None
    except ValidationError as error:
        return None, describe(error)


def _instant(raw: Any, utc_offset_seconds: int) -> int:
    """Unix seconds of one entry of ``time``, ``NO_TIME`` when it is none.

    A local text is read with the one offset of the answer, whatever the rules of the zone say for its date: so it was
    written.
    """
    try:
        if not isinstance(raw, str):
            return INSTANT.validate_python(raw)
        local = LOCAL_TIME.validate_python(LOCAL_TEXT.validate_python(raw))
    except ValidationError:
        return NO_TIME
    instant = int(local.replace(tzinfo=UTC).timestamp()) - utc_offset_seconds
    return instant if instant >= 0 else NO_TIME


def endpoints(base_url: str | None = None) -> tuple[Endpoint, ...]:
    """The endpoints in the order of preference.

    Args:
        base_url: replaces the hosts by paths below it, each named by the host's first label: a proxy or the simulator.
    """

    def endpoint(host: str, path: str, reader: Reader, served: Served, **how: Any) -> Endpoint:
        return Endpoint(
            f"{base_url.rstrip('/')}/{host}" if base_url else f"https://{host}.open-meteo.com",
            path,
            reader.dataset,
            served,
            how.pop("hours_per_call", PLACE_HOURS_PER_CALL),
            how.pop("query", reader.query),
            reader.read,
            reader.wrap,
            place_tolerance_km=PLACE_TOLERANCE_KM,
            places_per_call=how.pop("places_per_call", PLACES_PER_CALL),
            place_hours_per_call=how.pop("place_hours_per_call", PLACE_HOURS_PER_CALL),
            product=PRODUCT,
            weigh=reader.weigh,
            name=host + path,
            **how,
        )

    archive = Reader(datasets.OBSERVATIONS, _ARCHIVE, _whole_days)
    return (
        endpoint("api", "/v1/forecast", Reader(datasets.OBSERVATIONS, _WEATHER), Served(-RECENT)),
        endpoint(
            "historical-forecast-api",
            "/v1/forecast",
            Reader(datasets.OBSERVATIONS, _WEATHER),
            Served(HISTORICAL_FORECAST_START, -RECENT),
        ),
        endpoint(
            "archive-api",
            "/v1/archive",
            archive,
            Served(ARCHIVE_START, HISTORICAL_FORECAST_START - HOUR),
            query=archive.query_days,
        ),
        endpoint(
            "api",
            "/v1/forecast",
            Reader(datasets.FORECASTS, _FORECAST, _coming),
            RUNNING_HOUR,
            hours_per_call=1,
            rows_per_hour=FORECAST_HOURS,
            tells_hour=False,
        ),
        endpoint(
            "previous-runs-api",
            "/v1/forecast",
            Reader(datasets.FORECASTS, _PREVIOUS_RUNS, _after_leads, LEAD_DAYS),
            Served(PREVIOUS_RUNS_START, -HOUR),
            rows_per_hour=len(LEAD_DAYS),
            places_per_call=PLACES_PER_PREVIOUS_RUNS_CALL,
            place_hours_per_call=PLACE_HOURS_PER_PREVIOUS_RUNS_CALL,
        ),
        endpoint(
            "air-quality-api", "/v1/air-quality", Reader(datasets.AIR_QUALITY, _AIR_QUALITY), Served(AIR_QUALITY_START)
        ),
    )


def verdict(document: Any) -> tuple[int | None, str | None]:
    """Status and message that a body declares, also as one of the places of an array."""
    for part in document if isinstance(document, list) else [document]:
        if isinstance(part, dict) and part.get("error") is True:
            reason = part.get("reason")
            return 400, reason if isinstance(reason, str) and reason else None
    return None, None


def hint(status: int, message: str) -> str | None:
    """What a person can do about a refusal, None when nothing is known of it; the message adds nothing."""
    return HINTS.get(status)


def blocked_for(message: str, now: datetime) -> timedelta:
    """How long not to ask, from the reason of a 429: the service counts by minute, by hour and by day in UTC."""
    reason = message.lower()
    if "concurrent" in reason:
        return timedelta(seconds=5)
    if "minutely" in reason:
        return timedelta(minutes=1)
    if "hourly" in reason:
        return floor_hour(now) + HOUR - now
    if "daily" in reason:
        return floor_hour(now).replace(hour=0) + timedelta(days=1) - now
    return timedelta(minutes=10)
