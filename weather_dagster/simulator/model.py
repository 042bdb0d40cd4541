"""The simulated weather: a deterministic function of place and time, and forecasts of it.

No wire format and no clock here. Everything rests on hashed noise in 64-bit integers, so a place-hour
has the same weather on every machine. Instants are unix hours (unix seconds / 3600, fractions allowed).

The weather of a place is climate (latitude, season, sun, land or sea) plus a few slow drivers: pressure
waves that pass within days, warm and cold air around them, moisture, showers, wind. A forecast replaces
the drivers step by step with those of another, equally plausible world as lead time grows: its error
starts small and ends at the spread of the climate, and all quantities stay consistent with each other.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

FORECAST_STEPS = 40
STEP_HOURS = 3

_DAY = 24.0
_YEAR = 365.2422 * _DAY
_NORTHERN_SOLSTICE = 171.6 * _DAY
"""Hours from the start of 1970 to its June solstice."""
_TILT = math.radians(23.44)
_HORIZON = math.sin(math.radians(-0.833))
"""Sine of the sun's elevation when its upper edge touches the horizon, refraction included."""
_FORECAST_SKILL_HOURS = 100.0
_ANALYSIS_HOURS = 3.0
"""The error of a forecast starts as if it were this old: the present is not known exactly either."""

_OCEANS = (
    # south, north, west, east: open water only, far from the continents' coasts.
    (-60.0, 60.0, -50.0, -32.0),
    (5.0, 60.0, -32.0, -20.0),
    (-60.0, -5.0, -32.0, 5.0),
    (-60.0, 50.0, -180.0, -130.0),
    (-60.0, 45.0, 155.0, 180.0),
    (-60.0, -12.0, 58.0, 95.0),
)


@dataclass(frozen=True)
class Place:
    """A point on earth, told apart at 0.01 degrees."""

    latitude: float
    longitude: float
    is_sea: bool
    """Open water all around: mild seasons, no daily range, strong wind. Small islands count."""
    seed: Hashes

    @classmethod
    def at(cls, latitude: float, longitude: float) -> "Place":
        """The place at a latitude and longitude in degrees."""
        cell = round(latitude * 100) * 100_000 + round(longitude * 100)
        is_sea = any(s <= latitude <= n and w <= longitude <= e for s, n, w, e in _OCEANS)
        return cls(latitude, longitude, is_sea, _mix(np.array([cell], np.int64).astype(np.uint64)))

    @property
    def altitude_m(self) -> float:
        """Metres above the sea."""
        return 0.0 if self.is_sea else 400.0 * self.trait(1)

    def trait(self, number: int) -> float:
        """A constant of the place, evenly spread over 0 to 1."""
        return float(_uniform(_stream(self.seed, number), np.zeros(1, np.int64))[0])


class Drivers(NamedTuple):
    """What moves the weather away from climate; each around 0 and mostly within -1 to 1."""

    pressure: Array
    tendency: Array
    """Positive while pressure falls: mild air ahead of a front, cold air behind it."""
    warmth: Array
    moisture: Array
    showers: Array
    eastward: Array
    northward: Array
    gustiness: Array

    def blend(self, other: "Drivers", angle: Array) -> "Drivers":
        """Turn from these drivers (0) to the ``other`` (a quarter turn) with the spread unchanged."""
        kept, replaced = np.cos(angle), np.sin(angle)
        return Drivers(*(kept * mine + replaced * its for mine, its in zip(self, other, strict=True)))

    def take(self, index: Integers) -> "Drivers":
        """The drivers at positions of their arrays."""
        return Drivers(*(values[index] for values in self))


@dataclass(frozen=True)
class Weather:
    """Weather at some instants; all arrays have the same shape, units as in the names."""

    hours: Array
    temperature_c: Array
    apparent_temperature_c: Array
    temperature_min_c: Array
    temperature_max_c: Array
    pressure_hpa: Array
    ground_pressure_hpa: Array
    humidity_pct: Array
    dew_point_c: Array
    wind_speed_ms: Array
    wind_direction_deg: Array
    wind_gust_ms: Array
    cloud_cover_pct: Array
    visibility_m: Array
    rain_mm: Array
    snow_mm: Array
    precipitation_probability: Array
    condition_id: Integers
    is_day: npt.NDArray[np.bool_]
    lottery: Hashes
    """Random bits for each instant, from which a provider's habit of leaving fields out is drawn."""


class AirQuality(NamedTuple):
    """Air quality at some instants, µg/m³, by the provider's names."""

    co: Array
    no: Array
    no2: Array
    o3: Array
    so2: Array
    pm2_5: Array
    pm10: Array
    nh3: Array


def _mix(x: Hashes) -> Hashes:
    """Scatter the bits: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash(seed: Hashes, index: Integers) -> Hashes:
    return _mix(seed + index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15))


def _stream(seed: Hashes, number: int) -> Hashes:
    return _hash(seed, np.full(1, -1 - number, np.int64))


def _uniform(seed: Hashes, index: Integers) -> Array:
    return (_hash(seed, index) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _wave(seed: Hashes, stream: int, hours: Array, period: float) -> Array:
    """Smooth noise in -1 to 1 whose ups and downs take about ``period`` hours."""
    knots = _stream(seed, stream)
    x: Array = hours / period + (knots >> np.uint64(40)).astype(np.float64) * 2.0**-24
    knot = np.floor(x)
    into = x - knot
    index = knot.astype(np.int64)
    left = _uniform(knots, index)
    right = _uniform(knots, index + 1)
    return 2.0 * (left + (right - left) * (into * into * (3.0 - 2.0 * into))) - 1.0


def _pressure_wave(seed: Hashes, hours: Array) -> Array:
    return 0.8 * _wave(seed, 1, hours, 72.0) + 0.35 * _wave(seed, 2, hours, 29.0)


def _drivers(seed: Hashes, hours: Array) -> Drivers:
    pressure = _pressure_wave(seed, hours)
    return Drivers(
        pressure=pressure,
        tendency=_pressure_wave(seed, hours - 15.0) - pressure,
        warmth=0.7 * _wave(seed, 3, hours, 96.0) + 0.3 * _wave(seed, 4, hours, 31.0),
        moisture=0.75 * _wave(seed, 5, hours, 40.0) + 0.35 * _wave(seed, 6, hours, 13.0),
        showers=_wave(seed, 7, hours, 4.0),
        eastward=0.8 * _wave(seed, 8, hours, 38.0) + 0.3 * _wave(seed, 9, hours, 9.0),
        northward=0.8 * _wave(seed, 10, hours, 38.0) + 0.3 * _wave(seed, 11, hours, 9.0),
        gustiness=_wave(seed, 12, hours, 6.0),
    )


def _declination(hours: Array) -> Array:
    return _TILT * np.cos(2.0 * np.pi * (hours - _NORTHERN_SOLSTICE) / _YEAR)


def sun_height(place: Place, hours: Array) -> Array:
    """Sine of the sun's elevation; the equation of time (at most 16 minutes) is left out."""
    latitude = math.radians(place.latitude)
    declination = _declination(hours)
    hour_angle = 2.0 * np.pi * (hours / _DAY - 0.5) + math.radians(place.longitude)
    return math.sin(latitude) * np.sin(declination) + math.cos(latitude) * np.cos(declination) * np.cos(hour_angle)


def sun_times(place: Place, hour: float) -> tuple[int, int] | None:
    """Sunrise and sunset (unix seconds) of the solar day around ``hour``; None in polar day and night."""
    latitude = math.radians(place.latitude)
    noon = math.floor((hour + place.longitude / 15.0) / _DAY) * _DAY + 12.0 - place.longitude / 15.0
    declination = float(_declination(np.array(noon)))
    across = math.cos(latitude) * math.cos(declination)
    along = _HORIZON - math.sin(latitude) * math.sin(declination)
    if abs(along) >= across:
        return None
    half = math.acos(along / across) * 12.0 / math.pi
    return round((noon - half) * 3600), round((noon + half) * 3600)


def _wetness(place: Place, hours: Array, drivers: Drivers) -> Array:
    """Above about 0.5 it rains; low pressure, moist air and tropical afternoons raise it."""
    tropical = max(0.0, 1.0 - abs(place.latitude) / 30.0)
    afternoon = np.maximum(sun_height(place, hours - 3.0), 0.0)
    return 0.75 * drivers.moisture - 0.5 * drivers.pressure + tropical * (0.45 * afternoon - 0.05)


def _precipitation(wetness: Array, drivers: Drivers) -> Array:
    """Millimetres in an hour."""
    rate = 9.0 * np.maximum(wetness - 0.5, 0.0) ** 1.4 * np.maximum(1.0 + 1.2 * drivers.showers, 0.0)
    return np.where(rate < 0.1, 0.0, rate)


def truth(place: Place, hours: Array) -> Weather:
    """The weather at ``hours``; precipitation is that of the hour ending then."""
    drivers = _drivers(place.seed, hours)
    amount = _precipitation(_wetness(place, hours, drivers), drivers)
    return _weather(place, hours, drivers, amount, 1, _hash(_stream(place.seed, 20), _seconds(hours)))


def forecast_hours(issued: Integers) -> Integers:
    """Valid hours of forecasts issued in the unix hours ``issued``: a row each, multiples of 3 h after it."""
    first = (issued // STEP_HOURS + 1) * STEP_HOURS
    return first[:, None] + STEP_HOURS * np.arange(FORECAST_STEPS)


def forecast(place: Place, issued: Integers) -> Weather:
    """Forecasts issued in the unix hours ``issued``, shape (issues, steps); precipitation over 3 hours."""
    valid = forecast_hours(issued)
    hours = valid.astype(np.float64)
    run = _run_seed(place, issued)[:, None]
    angle = _error_angle(hours - issued[:, None])
    other = _drivers(run, hours)
    first = int(valid.min()) - STEP_HOURS
    grid = np.arange(first, int(valid.max()) + 1, dtype=np.float64)
    real = _drivers(place.seed, grid)
    amount = np.zeros_like(hours)
    for back in range(STEP_HOURS):
        blended = real.take(valid - back - first).blend(other, angle)
        amount += _precipitation(_wetness(place, hours - back, blended), blended)
    drivers = real.take(valid - first).blend(other, angle)
    return _weather(place, hours, drivers, amount, STEP_HOURS, _hash(_stream(run, 20), _seconds(hours)))


def hourly_forecast(place: Place, hours: Array, issued: Integers) -> Weather:
    """Forecasts of ``hours``, each issued in the unix hour beside it; precipitation is that of the hour ending then."""
    run = _run_seed(place, issued)
    drivers = _drivers(place.seed, hours).blend(_drivers(run, hours), _error_angle(hours - issued))
    amount = _precipitation(_wetness(place, hours, drivers), drivers)
    return _weather(place, hours, drivers, amount, 1, _hash(_stream(run, 20), _seconds(hours)))


def known(place: Place, hours: Array, *, now: float) -> Weather:
    """The weather at ``hours`` as far as it is known at ``now``: the truth, and after it the forecast issued last."""
    future = hours > now
    if not future.any():
        return truth(place, hours)
    issued = np.full(hours.shape, math.floor(now), np.int64)
    was, comes = truth(place, hours), hourly_forecast(place, hours, issued)
    return Weather(*(np.where(future, theirs, ours) for ours, theirs in zip(_values(was), _values(comes), strict=True)))


def _values(weather: Weather) -> list[npt.NDArray[Any]]:
    return [getattr(weather, part.name) for part in fields(weather)]


def _seconds(hours: Array) -> Integers:
    return np.rint(hours * 3600).astype(np.int64)


def _run_seed(place: Place, issued: Integers) -> Hashes:
    return _hash(_stream(place.seed, 30), issued)


def _error_angle(lead: Array) -> Array:
    return 0.5 * np.pi * (1.0 - np.exp(-(np.maximum(lead, 0.0) + _ANALYSIS_HOURS) / _FORECAST_SKILL_HOURS))


def _weather(
    place: Place, hours: Array, drivers: Drivers, amount: Array, amount_hours: int, lottery: Hashes
) -> Weather:
    latitude = math.radians(place.latitude)
    poleward = abs(math.sin(latitude))
    height = sun_height(place, hours)
    wetness = _wetness(place, hours, drivers)
    cloud = 1.0 / (1.0 + np.exp(-5.0 * wetness - 0.5 * drivers.showers))
    cloud = np.where(amount > 0.0, np.maximum(cloud, 0.6), cloud)

    season = math.sin(latitude) * np.cos(
        2.0 * np.pi * (hours - _NORTHERN_SOLSTICE - (50.0 if place.is_sea else 30.0) * _DAY) / _YEAR
    )
    late_height = sun_height(place, hours - 2.5)
    warming = 0.55 * np.maximum(late_height, 0.0) + 0.45 * late_height - 0.12
    temperature = (
        27.0
        - 33.0 * poleward**2.3
        + (5.0 if place.is_sea else 14.0) * season
        + (1.5 if place.is_sea else 10.0) * (1.0 - 0.6 * cloud) * warming
        + (2.0 + 8.0 * poleward) * (0.4 if place.is_sea else 1.0) * (0.8 * drivers.warmth + 0.7 * drivers.tendency)
    )

    local_hour = hours + place.longitude / 15.0
    tide = 1.2 * math.cos(latitude) ** 2 * np.cos(4.0 * np.pi * (local_hour - 10.0) / _DAY)
    pressure = 1013.0 + (4.0 + 34.0 * poleward**2) * drivers.pressure + tide

    strength = (9.0 if place.is_sea else 5.0) * (0.6 + 0.8 * poleward)
    eastward = -4.0 * math.cos(4.0 * latitude) + strength * drivers.eastward
    northward = strength * drivers.northward
    daily = 1.0 if place.is_sea else 0.75 + 0.5 * np.maximum(height, 0.0)
    wind = np.hypot(eastward, northward) * daily * (1.0 + 0.8 * np.maximum(-drivers.pressure, 0.0))
    gust = wind * (1.4 + 0.45 * drivers.gustiness) + 0.5 * np.maximum(drivers.showers, 0.0)

    rate = amount / amount_hours
    humidity = (80.0 + 10.0 * wetness - 3.0 * height) if place.is_sea else (70.0 + 24.0 * wetness - 26.0 * warming)
    humidity = np.clip(np.where(rate > 0.0, np.maximum(humidity, 84.0), humidity), 8.0, 100.0)
    vapour_hpa = humidity / 100.0 * 6.105 * np.exp(17.27 * temperature / (237.7 + temperature))
    steam = np.log(vapour_hpa / 6.105)
    # Apparent temperature after Steadman (1994), as the Australian Bureau of Meteorology gives it.
    apparent = temperature + 0.33 * vapour_hpa - 0.7 * wind - 4.0

    snow_share = np.clip((2.0 - temperature) / 2.0, 0.0, 1.0)
    snow = amount * snow_share
    fog = (humidity >= 94.0) & (wind < 3.0) & (rate == 0.0)
    visibility = 10_000.0 / (1.0 + 0.25 * rate + 1.5 * rate * snow_share)
    visibility = np.where(fog, 300.0 + 900.0 * np.abs(drivers.gustiness), visibility)
    visibility = np.where(~fog & (humidity >= 92.0), np.minimum(visibility, 4500.0), visibility)

    city_spread = 0.0 if place.is_sea else 1.2
    return Weather(
        hours=hours,
        temperature_c=temperature,
        apparent_temperature_c=apparent,
        temperature_min_c=temperature - city_spread * np.maximum(drivers.showers, 0.0),
        temperature_max_c=temperature + city_spread * np.maximum(drivers.gustiness, 0.0),
        pressure_hpa=pressure,
        ground_pressure_hpa=pressure * np.exp(-place.altitude_m / 8000.0),
        humidity_pct=humidity,
        dew_point_c=237.7 * steam / (17.27 - steam),
        wind_speed_ms=wind,
        wind_direction_deg=np.degrees(np.arctan2(-eastward, -northward)) % 360.0,
        wind_gust_ms=gust,
        cloud_cover_pct=100.0 * cloud,
        visibility_m=visibility,
        rain_mm=amount - snow,
        snow_mm=snow,
        precipitation_probability=np.clip(0.1 + 1.6 * (wetness - 0.3), 0.0, 1.0),
        condition_id=_condition(temperature, humidity, cloud, visibility, rate, snow_share, height, drivers),
        is_day=height > _HORIZON,
        lottery=lottery,
    )


def _condition(
    temperature: Array,
    humidity: Array,
    cloud: Array,
    visibility: Array,
    rate: Array,
    snow_share: Array,
    height: Array,
    drivers: Drivers,
) -> Integers:
    """OpenWeather condition codes, the strongest phenomenon first."""
    wet = rate > 0.0
    thunder = wet & (temperature > 17.0) & (drivers.showers > 0.3) & (rate > 1.0)
    snowing = wet & (snow_share > 0.8)
    mixed = wet & (snow_share > 0.0)
    drizzle = wet & (rate < 0.3) & (humidity > 88.0)
    steady = wet & (drivers.showers < 0.4)
    choices = (
        (thunder & (rate > 4.0), 202),
        (thunder & (rate > 2.0), 201),
        (thunder, 200),
        (snowing & (rate > 2.5), 602),
        (snowing & (rate > 0.8), 601),
        (snowing, 600),
        (mixed, 616),
        (drizzle, 300),
        (steady & (rate > 7.6), 502),
        (steady & (rate > 2.5), 501),
        (steady, 500),
        (wet & (rate > 7.6), 522),
        (wet & (rate > 2.5), 521),
        (wet, 520),
        (visibility < 1500.0, 741),
        (visibility < 5000.0, 701),
        (cloud >= 0.845, 804),
        (cloud >= 0.505, 803),
        (cloud >= 0.25, 802),
        (cloud >= 0.11, 801),
    )
    return np.select([c for c, _ in choices], [np.int64(code) for _, code in choices], np.int64(800))


def air_quality(place: Place, hours: Array, *, issued: int | None = None) -> AirQuality:
    """Air quality at ``hours``: traffic and heating against wind, rain, sun and the depth of mixed air.

    Args:
        issued: unix hour of issue, for a forecast; None for what was.
    """
    drivers = _drivers(place.seed, hours)
    if issued is not None:
        other = _drivers(_run_seed(place, np.array([issued])), hours)
        drivers = drivers.blend(other, _error_angle(hours - issued))
    amount = _precipitation(_wetness(place, hours, drivers), drivers)
    weather = _weather(place, hours, drivers, amount, 1, _hash(place.seed, _seconds(hours)))
    burden = 0.1 if place.is_sea else 0.4 + 2.2 * place.trait(2) ** 2
    clock = (hours + place.longitude / 15.0) % _DAY
    rush = np.exp(-(((clock - 8.0) / 1.8) ** 2)) + 0.8 * np.exp(-(((clock - 18.5) / 2.5) ** 2))
    sun = np.maximum(sun_height(place, hours - 1.5), 0.0)
    trapped = 1.6 / (0.5 + 0.25 * weather.wind_speed_ms) / (1.0 + 0.8 * sun) / (1.0 + 0.3 * amount)
    load = burden * trapped * (1.0 + 0.25 * drivers.gustiness)
    heating = 1.0 + 0.02 * np.clip(15.0 - weather.temperature_c, 0.0, 30.0)
    no2 = load * (8.0 + 22.0 * rush)
    no = load * 9.0 * rush * (1.0 - np.minimum(sun, 0.9))
    fine = 2.0 + load * (9.0 + 4.0 * rush) * heating
    clear_sun = sun * (1.0 - 0.006 * weather.cloud_cover_pct)
    ozone = 45.0 + 55.0 * clear_sun * (0.7 + 0.3 * min(burden, 2.0)) + 8.0 * drivers.warmth - 0.6 * no2
    return AirQuality(
        co=180.0 + load * (110.0 + 160.0 * rush) * heating,
        no=no,
        no2=no2,
        o3=np.maximum(ozone, 0.0),
        so2=load * (2.0 + 1.5 * heating),
        pm2_5=fine,
        pm10=1.4 * fine + 0.4 * weather.wind_speed_ms * (1.0 + drivers.showers),
        nh3=load * (1.5 + np.clip(0.1 * weather.temperature_c, 0.0, 3.0)),
    )


def known_air_quality(place: Place, hours: Array, *, now: float) -> AirQuality:
    """Air quality at ``hours`` as far as it is known at ``now``, as in ``known``."""
    future = hours > now
    was = air_quality(place, hours)
    if not future.any():
        return was
    comes = air_quality(place, hours, issued=math.floor(now))
    return AirQuality(*(np.where(future, theirs, ours) for ours, theirs in zip(was, comes, strict=True)))


def uv_index(place: Place, weather: Weather) -> Array:
    """UV index: the sun's height, dimmed by cloud."""
    sun = np.maximum(sun_height(place, weather.hours), 0.0)
    dimmed: Array = 12.5 * sun**2.4 * (1.0 - 0.006 * weather.cloud_cover_pct)
    return dimmed
