"""Open-Meteo's hosts over the simulated weather, each under a path prefix: the first label of its real name.

The same weather as at the simulated OpenWeather, for the point asked for; only the coordinates told are
those of a grid cell. Hours after the running one are forecasts that it issues. The archive has none of
them, no visibility and no showers of its own; other values are null before the data of a host begin.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pydantic_core
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weather_dagster.simulator import model
from weather_dagster.simulator.accounts import Scales, WeightLimits, weight
from weather_dagster.simulator.faults import open_meteo_error
from weather_dagster.simulator.gazetteer import Gazetteer, Named, time_zone_of
from weather_dagster.simulator.model import Array, Place, Weather
from weather_dagster.simulator.protocol import JSON_TYPE, Refusal
from weather_dagster.simulator.wire import Json
from weather_dagster.weather_api.service import PROVIDER_HEADER

MOST_PLACES = 1000
PREVIOUS_RUNS_START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORICAL_FORECAST_START = datetime(2022, 1, 1, tzinfo=UTC)
AIR_QUALITY_START = datetime(2022, 8, 1, tzinfo=UTC)

_Choice = TypeVar("_Choice")

_PREVIOUS_DAY = re.compile(r"(.+)_previous_day([1-7])")
_UNCAPPED_VISIBILITY_M = 24_140.0
"""What a clear sky is given as: the service does not stop at ten kilometres."""
_EUROPE = (30.0, 72.0, -25.0, 45.0)
"""South, north, west, east of the regional air quality model, the only one with ammonia and NO."""

_WMO_CODES = dict.fromkeys((200, 201, 202), 95) | {300: 51, 500: 61, 501: 63, 502: 65, 520: 80, 521: 81, 522: 82}
_WMO_CODES |= {600: 71, 601: 73, 602: 75, 741: 45, 800: 0, 801: 1, 802: 1, 803: 2, 804: 3}
# Mist and mixed rain and snow have no code in the service's own subset: the coarse ones.
_WMO_CODES |= {616: 73, 701: 45}


class _Unit(NamedTuple):
    text: str
    convert: Callable[[Array], Array]
    decimals: int


def _scaled(text: str, factor: float, decimals: int) -> _Unit:
    return _Unit(text, lambda values: values * factor, decimals)


_TEMPERATURES = {
    "celsius": _scaled("°C", 1.0, 1),
    "fahrenheit": _Unit("°F", lambda celsius: celsius * 1.8 + 32.0, 1),
}
_SPEEDS = {
    "kmh": _scaled("km/h", 3.6, 1),
    "ms": _scaled("m/s", 1.0, 2),
    "mph": _scaled("mp/h", 2.237, 1),
    "kn": _scaled("kn", 1.94384, 1),
}
_AMOUNTS = {"mm": _scaled("mm", 1.0, 2), "inch": _scaled("inch", 1 / 25.4, 3)}
_SNOW_DEPTHS = {"mm": _scaled("cm", 1.0, 2), "inch": _scaled("inch", 1 / 2.54, 3)}
_LENGTHS = {"mm": _scaled("m", 1.0, 0), "inch": _scaled("ft", 3.28084, 0)}
_PERCENT, _PRESSURE, _DEGREES = _scaled("%", 1.0, 0), _scaled("hPa", 1.0, 1), _scaled("°", 1.0, 0)
_CODE, _NOTHING, _CONCENTRATION = _scaled("wmo code", 1.0, 0), _scaled("", 1.0, 2), _scaled("\u03bcg/m³", 1.0, 1)
_FLAG = _scaled("", 1.0, 0)

_ENUMERATIONS = {
    "temperature_unit": "TemperatureUnit",
    "wind_speed_unit": "WindspeedUnit",
    "precipitation_unit": "PrecipitationUnit",
    "timeformat": "Timeformat",
}


def _is_shower(weather: Weather) -> Array:
    return np.isin(weather.condition_id // 10, (20, 52)).astype(np.float64)


def _visibility(weather: Weather) -> Array:
    return np.where(weather.visibility_m >= 10_000.0, _UNCAPPED_VISIBILITY_M, weather.visibility_m)


_WEATHER: Mapping[str, Callable[[Weather], Array]] = {
    "temperature_2m": lambda w: w.temperature_c,
    "relative_humidity_2m": lambda w: w.humidity_pct,
    "dew_point_2m": lambda w: w.dew_point_c,
    "apparent_temperature": lambda w: w.apparent_temperature_c,
    "pressure_msl": lambda w: w.pressure_hpa,
    "surface_pressure": lambda w: w.ground_pressure_hpa,
    "cloud_cover": lambda w: w.cloud_cover_pct,
    "visibility": _visibility,
    "wind_speed_10m": lambda w: w.wind_speed_ms,
    "wind_direction_10m": lambda w: w.wind_direction_deg,
    "wind_gusts_10m": lambda w: w.wind_gust_ms,
    "precipitation": lambda w: w.rain_mm + w.snow_mm,
    "rain": lambda w: w.rain_mm * (1.0 - _is_shower(w)),
    "showers": lambda w: w.rain_mm * _is_shower(w),
    # Centimetres of snow: ten millimetres of water make seven.
    "snowfall": lambda w: w.snow_mm * 0.7,
    "precipitation_probability": lambda w: 100.0 * w.precipitation_probability,
    "weather_code": lambda w: np.vectorize(_WMO_CODES.__getitem__, otypes=[np.float64])(w.condition_id),
    "is_day": lambda w: w.is_day.astype(np.float64),
}
_AIR = {
    "pm10": "pm10",
    "pm2_5": "pm2_5",
    "carbon_monoxide": "co",
    "nitrogen_dioxide": "no2",
    "sulphur_dioxide": "so2",
    "ozone": "o3",
    "ammonia": "nh3",
    "nitrogen_monoxide": "no",
}


@dataclass(frozen=True)
class _Host:
    """One of the hosts with hourly values."""

    path: str
    cell_degrees: float
    days_back: int | date
    """First day accepted: so many before today, or a fixed one."""
    days_ahead: int
    default_days: int | None
    """Days given when no range is asked for; None where a range must be."""
    data_start: datetime | None = None
    variables: frozenset[str] = frozenset(_WEATHER)

    def window(self, today: date) -> tuple[date, date]:
        back = self.days_back
        return back if isinstance(back, date) else today - timedelta(back), today + timedelta(self.days_ahead)


_ARCHIVE_PATH = "/archive-api/v1/archive"
_PREVIOUS_RUNS_PATH = "/previous-runs-api/v1/forecast"
_AIR_PATH = "/air-quality-api/v1/air-quality"
_SEARCH_PATH = "/geocoding-api/v1/search"
_HOSTS = (
    _Host("/api/v1/forecast", 0.1, 93, 15, 7),
    _Host(_ARCHIVE_PATH, 0.25, date(1940, 1, 1), 0, None),
    _Host("/historical-forecast-api/v1/forecast", 0.1, date(2016, 1, 1), 15, 7, HISTORICAL_FORECAST_START),
    _Host(_PREVIOUS_RUNS_PATH, 0.1, date(2016, 1, 1), 15, 7, HISTORICAL_FORECAST_START),
    _Host(_AIR_PATH, 0.4, date(2013, 1, 1), 6, 5, AIR_QUALITY_START, frozenset({*_AIR, "uv_index"})),
)


class OpenMeteo:
    """All hosts: one counter of weight for all of them, and no key."""

    def __init__(self, clock: Callable[[], float], gazetteer: Gazetteer, limits: WeightLimits) -> None:
        self._clock = clock
        self._gazetteer = gazetteer
        self._scales = Scales(limits, clock)

    @property
    def routes(self) -> list[Route]:
        """A route for each host, and one for what a host does not have."""
        hourly = [Route(host.path, self._endpoint(partial(self._hourly, host))) for host in _HOSTS]
        found = [*hourly, Route(_SEARCH_PATH, self._endpoint(self._search))]
        prefixes = [route.path.split("/")[1] for route in found]
        return found + [Route(f"/{prefix}/{{rest:path}}", self._endpoint(_not_found)) for prefix in prefixes]

    def _endpoint(self, handler: Callable[[QueryParams], tuple[object, float]]) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            status, cost = 200, 1.0
            try:
                self._check_limits()
                document, cost = handler(request.query_params)
                body = pydantic_core.to_json(document)
            except Refusal as refusal:
                status, body = refusal.status, refusal.body
            self._scales.spend(cost)
            return Response(body, status, {"Content-Type": JSON_TYPE, PROVIDER_HEADER: "simulator"})

        return answer

    def _check_limits(self) -> None:
        if (reason := self._scales.refusal()) is not None:
            raise Refusal(429, open_meteo_error(reason))

    def _hourly(self, host: _Host, given: QueryParams) -> tuple[object, float]:
        begun = time.perf_counter()
        query = _HourlyQuery(given)
        points, names = query.points(), query.variables(host)
        units = query.units()
        offsets = [query.zone(self._zone_of(point), self._clock()) for point in points]
        answers: list[Json] = []
        days = 0.0
        for i, (point, (zone, offset)) in enumerate(zip(points, offsets, strict=True)):
            hours = query.hours(host, self._clock(), offset)
            days = len(hours) / 24
            place = Place.at(*point)
            answer = {
                "latitude": _cell_centre(point[0], host.cell_degrees),
                "longitude": _cell_centre(point[1], host.cell_degrees),
                "generationtime_ms": (time.perf_counter() - begun) * 1000,
                "utc_offset_seconds": offset,
                "timezone": zone,
                "timezone_abbreviation": zone if zone == "GMT" else f"GMT{offset / 3600:+g}",
                "elevation": float(round(place.altitude_m)),
                **({"location_id": i} if i else {}),
            }
            if names:
                columns = self._columns(host, place, hours, names)
                answer["hourly_units"] = {
                    "time": query.time_format,
                    **{name: units[_plain(name)].text for name in names},
                }
                answer["hourly"] = {
                    "time": query.times(hours, offset),
                    **{name: _cells(columns[name], units[_plain(name)]) for name in names},
                }
            answers.append(answer)
        return answers if len(answers) > 1 else answers[0], weight(len(names), days, len(points))

    def _zone_of(self, point: tuple[float, float]) -> str:
        return time_zone_of(point[1], self._gazetteer.at(*point))

    def _columns(self, host: _Host, place: Place, hours: Array, names: Sequence[str]) -> dict[str, Array]:
        """Values by variable, in the model's units; NaN where the host has none."""
        now = self._clock() / 3600.0
        columns: dict[str, Array] = {}
        runs: dict[int, Weather] = {}
        absent = np.zeros(len(hours), np.bool_)
        if host.data_start is not None:
            absent |= hours < host.data_start.timestamp() / 3600.0
        if host.path == _ARCHIVE_PATH:
            absent |= hours > now
        latest = model.known(place, hours, now=now)
        air = model.known_air_quality(place, hours, now=now) if host.path == _AIR_PATH else None
        for name in names:
            if (previous := _PREVIOUS_DAY.fullmatch(name)) is not None:
                plain, days = previous[1], int(previous[2])
                issued = hours.astype(np.int64) - 24 * days
                if days not in runs:
                    runs[days] = model.hourly_forecast(place, hours, issued)
                is_there = (hours >= PREVIOUS_RUNS_START.timestamp() / 3600.0) & (issued <= now)
                columns[name] = np.where(is_there, _WEATHER[plain](runs[days]), np.nan)
            elif name == "uv_index":
                columns[name] = np.where(absent, np.nan, model.uv_index(place, latest))
            elif air is not None:
                nowhere = name in ("ammonia", "nitrogen_monoxide") and not _is_in_europe(place)
                columns[name] = np.where(absent | nowhere, np.nan, getattr(air, _AIR[name]))
            else:
                columns[name] = np.where(absent, np.nan, _value(host, name, latest))
        return columns

    def _search(self, given: QueryParams) -> tuple[object, float]:
        begun = time.perf_counter()
        count = _whole_number(given, "count", 10)
        if not 1 <= count <= 100:
            raise _refusal("Parameter count must be between 1 and 100.")
        name, *regions = (part.strip() for part in given.get("name", "").split(","))
        found = self._gazetteer.search(name, prefix=len(name) > 2) if len(name) > 1 else []
        country = given.get("countryCode", "").upper()
        results = [
            _found(place, self._gazetteer.places.index(place))
            for place in found
            if country in ("", place.country)
            and all(
                region.casefold() in (place.country.casefold(), (place.state or "").casefold()) for region in regions
            )
        ]
        answer: Json = {"results": results[:count]} if results else {}
        return answer | {"generationtime_ms": (time.perf_counter() - begun) * 1000}, 1.0


class _HourlyQuery:
    """The parameters of one request for hourly values. Readers raise ``Refusal`` with the service's reason."""

    def __init__(self, given: QueryParams) -> None:
        self._given = given
        self.time_format = self._choice("timeformat", {"iso8601": "iso8601", "unixtime": "unixtime"})

    def points(self) -> list[tuple[float, float]]:
        """Latitudes and longitudes, degrees."""
        latitudes, longitudes = self._degrees("latitude", 90), self._degrees("longitude", 180)
        if len(latitudes) != len(longitudes):
            raise _refusal("Parameter 'latitude' and 'longitude' must have the same number of elements")
        if len(latitudes) > MOST_PLACES:
            raise _refusal(f"Only up to {MOST_PLACES} locations can be requested at once")
        return list(zip(latitudes, longitudes, strict=True))

    def _degrees(self, name: str, limit: int) -> list[float]:
        values = []
        for text in self._given.get(name, "").split(","):
            try:
                value = float(text)
            except ValueError:
                raise _invalid(name, "Float", text) from None
            if not -limit <= value <= limit:
                raise _refusal(f"{name.capitalize()} must be in range of -{limit} to {limit}°. Given: {value}.")
            values.append(value)
        return values

    def variables(self, host: _Host) -> list[str]:
        """The names in ``hourly``, as a list or repeated."""
        names = [name for text in self._given.getlist("hourly") for name in text.split(",") if name]
        for name in names:
            plain = _plain(name) if host.path == _PREVIOUS_RUNS_PATH else name
            if plain not in host.variables:
                raise _invalid("hourly", "ForecastVariable", name)
        return list(dict.fromkeys(names))

    def units(self) -> dict[str, _Unit]:
        """The unit of each variable."""
        temperature = self._choice("temperature_unit", _TEMPERATURES)
        speed = self._choice("wind_speed_unit", _SPEEDS)
        amount = self._choice("precipitation_unit", _AMOUNTS)
        snow, length = (self._choice("precipitation_unit", table) for table in (_SNOW_DEPTHS, _LENGTHS))
        return {
            **dict.fromkeys(("temperature_2m", "dew_point_2m", "apparent_temperature"), temperature),
            **dict.fromkeys(("relative_humidity_2m", "cloud_cover", "precipitation_probability"), _PERCENT),
            **dict.fromkeys(("pressure_msl", "surface_pressure"), _PRESSURE),
            **dict.fromkeys(("wind_speed_10m", "wind_gusts_10m"), speed),
            **dict.fromkeys(("precipitation", "rain", "showers"), amount),
            **dict.fromkeys(_AIR, _CONCENTRATION),
            "snowfall": snow,
            "visibility": length,
            "wind_direction_10m": _DEGREES,
            "weather_code": _CODE,
            "is_day": _FLAG,
            "uv_index": _NOTHING,
        }

    def _choice(self, name: str, table: Mapping[str, _Choice]) -> _Choice:
        given = self._given.get(name, next(iter(table)))
        if given not in table:
            raise _invalid(name, _ENUMERATIONS[name], given)
        return table[given]

    def zone(self, own: str, now: float) -> tuple[str, int]:
        """Name of the zone and its offset today, seconds; ``own`` is the place's zone for ``auto``."""
        name = self._given.get("timezone", "GMT")
        name = own if name == "auto" else name
        try:
            offset = datetime.fromtimestamp(now, ZoneInfo(name)).utcoffset() or timedelta()
        except (ZoneInfoNotFoundError, ValueError):
            raise _refusal("Invalid timezone") from None
        return name, int(offset.total_seconds())

    def hours(self, host: _Host, now: float, offset: int) -> Array:
        """The unix hours asked for. Ranges are in local time, whose minutes of offset the grid leaves out."""
        shift = offset // 3600
        today = datetime.fromtimestamp(now + offset, UTC).date()
        kind = next((kind for kind in ("hour", "date") if f"start_{kind}" in self._given), None)
        if kind is None:
            first, last = self._days_around(host, today)
        else:
            first, last = self._range(host, kind, today)
        return np.arange(first.timestamp() // 3600 - shift, last.timestamp() // 3600 - shift + 1)

    def _range(self, host: _Host, kind: str, today: date) -> tuple[datetime, datetime]:
        for name in ("past_days", "forecast_days"):
            if _whole_number(self._given, name, 0):
                raise _refusal(f"Parameter '{name}' is mutually exclusive with 'start_date' and 'end_date'")
        bounds = []
        earliest, latest = host.window(today)
        for name in (f"start_{kind}", f"end_{kind}"):
            instant = _local_time(self._given.get(name, ""), is_date=kind == "date")
            if not earliest <= instant.date() <= latest:
                raise _refusal(f"Parameter '{name}' is out of allowed range from {earliest} to {latest}")
            bounds.append(instant)
        first, last = bounds
        if last < first:
            raise _refusal("End-date must be larger or equals than start-date")
        return first, last + timedelta(hours=23) if kind == "date" else last

    def _days_around(self, host: _Host, today: date) -> tuple[datetime, datetime]:
        if host.default_days is None:
            raise _refusal("Parameter 'start_date' and 'end_date' must be set")
        past = _whole_number(self._given, "past_days", 0)
        if not 0 <= past <= 93:
            raise _refusal(f"Past days is invalid. Allowed range 0 to 93. Given {past}.")
        ahead, most = _whole_number(self._given, "forecast_days", host.default_days), host.days_ahead + 1
        if not 0 <= ahead <= most:
            raise _refusal(f"Forecast days is invalid. Allowed range 0 to {most}. Given {ahead}.")
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
        return midnight - timedelta(days=past), midnight + timedelta(days=ahead, hours=-1)

    def times(self, hours: Array, offset: int) -> list[int] | list[str]:
        """The time axis: unix seconds, or local time without a zone."""
        instants = np.rint(hours * 3600).astype(np.int64)
        if self.time_format == "unixtime":
            unix: list[int] = instants.tolist()
            return unix
        local = (instants + offset // 3600 * 3600).astype("datetime64[s]")
        texts: list[str] = np.datetime_as_string(local, unit="m").tolist()
        return texts


def _local_time(text: str, *, is_date: bool) -> datetime:
    form = r"\d{4}-\d\d-\d\d" if is_date else r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d)?)?)?"
    if not re.fullmatch(form, text):
        raise _refusal("Invalid date format. Make sure to use 'YYYY-MM-DD'")
    try:
        return datetime.fromisoformat(text).replace(minute=0, second=0, tzinfo=UTC)
    except ValueError:
        raise _refusal("Invalid date") from None


def _whole_number(given: QueryParams, name: str, default: int) -> int:
    text = given.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise _invalid(name, "Int", text) from None


def _refusal(reason: str) -> Refusal:
    return Refusal(400, open_meteo_error(reason))


def _invalid(parameter: str, kind: str, value: str) -> Refusal:
    return _refusal(
        f"Data corrupted at path '{parameter}'. Cannot initialize {kind} from invalid String value {value}."
    )


def _not_found(_: QueryParams) -> tuple[object, float]:
    raise Refusal(404, open_meteo_error("Not Found"))


def _plain(name: str) -> str:
    previous = _PREVIOUS_DAY.fullmatch(name)
    return name if previous is None else previous[1]


def _value(host: _Host, name: str, weather: Weather) -> Array:
    if host.path == _ARCHIVE_PATH:
        if name in ("visibility", "showers", "precipitation_probability"):
            return np.full(weather.hours.shape, np.nan)
        if name == "rain":
            return weather.rain_mm
    return _WEATHER[name](weather)


def _is_in_europe(place: Place) -> bool:
    south, north, west, east = _EUROPE
    return south <= place.latitude <= north and west <= place.longitude <= east


def _cell_centre(degrees: float, cell: float) -> float:
    return round(round(degrees / cell) * cell, 4)


def _cells(values: Array, unit: _Unit) -> list[Any]:
    """Values in a unit, null for NaN; units without decimals are written as integers."""
    rounded = np.round(unit.convert(values), unit.decimals)
    absent = np.isnan(rounded)
    cells: list[Any] = (np.where(absent, 0, rounded).astype(np.int64) if unit.decimals == 0 else rounded).tolist()
    for i in np.flatnonzero(absent):
        cells[i] = None
    return cells


def _found(place: Named, number: int) -> Json:
    item = {
        "id": 2_000_000 + number,
        "name": place.name,
        "latitude": place.latitude,
        "longitude": place.longitude,
        "feature_code": "PPL",
        "country_code": place.country,
        "timezone": place.time_zone,
    }
    return item if place.state is None else item | {"admin1": place.state}
