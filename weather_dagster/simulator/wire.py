"""OpenWeather's JSON objects from arrays: units, rounding, and fields left out as the service leaves them out.

No HTTP here. Whole numbers are written as integers, values with at most two decimals.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from weather_dagster.simulator.model import AirQuality, Array, Weather

Units = Literal["standard", "metric", "imperial"]
Json = dict[str, Any]

_MILES_PER_HOUR = 3600 / 1609.344

TEMPERATURE: dict[Units, Callable[[Array], Array]] = {
    "standard": lambda celsius: celsius + 273.15,
    "metric": lambda celsius: celsius,
    "imperial": lambda celsius: celsius * 1.8 + 32.0,
}
SPEED: dict[Units, Callable[[Array], Array]] = {
    "standard": lambda ms: ms,
    "metric": lambda ms: ms,
    "imperial": lambda ms: ms * _MILES_PER_HOUR,
}

_CONDITION_TEXTS = {
    200: ("Thunderstorm", "thunderstorm with light rain", "11"),
    201: ("Thunderstorm", "thunderstorm with rain", "11"),
    202: ("Thunderstorm", "thunderstorm with heavy rain", "11"),
    300: ("Drizzle", "light intensity drizzle", "09"),
    500: ("Rain", "light rain", "10"),
    501: ("Rain", "moderate rain", "10"),
    502: ("Rain", "heavy intensity rain", "10"),
    520: ("Rain", "light intensity shower rain", "09"),
    521: ("Rain", "shower rain", "09"),
    522: ("Rain", "heavy intensity shower rain", "09"),
    600: ("Snow", "light snow", "13"),
    601: ("Snow", "snow", "13"),
    602: ("Snow", "heavy snow", "13"),
    616: ("Snow", "rain and snow", "13"),
    701: ("Mist", "mist", "50"),
    741: ("Fog", "fog", "50"),
    800: ("Clear", "clear sky", "01"),
    801: ("Clouds", "few clouds", "02"),
    802: ("Clouds", "scattered clouds", "03"),
    803: ("Clouds", "broken clouds", "04"),
    804: ("Clouds", "overcast clouds", "04"),
}
_CONDITIONS = {
    (code, is_day): {"id": code, "main": main, "description": text, "icon": icon + ("d" if is_day else "n")}
    for code, (main, text, icon) in _CONDITION_TEXTS.items()
    for is_day in (True, False)
}

# Upper bounds of the indices 1 to 4, µg/m³; the worst pollutant decides, NO and NH3 do not count.
_AQI_BOUNDS = {
    "so2": (20, 80, 250, 350),
    "no2": (40, 70, 150, 200),
    "pm10": (20, 50, 100, 200),
    "pm2_5": (10, 25, 50, 75),
    "o3": (60, 100, 140, 180),
    "co": (4400, 9400, 12400, 15400),
}


def numbers(values: Array, decimals: int) -> list[Any]:
    """Rounded values; whole ones as ``int``, NaN as None."""
    rounded = np.round(values, decimals)
    if decimals == 0 and not np.isnan(rounded).any():
        whole_numbers: list[Any] = rounded.astype(np.int64).tolist()
        return whole_numbers
    cells: list[Any] = rounded.tolist()
    for i in np.flatnonzero(rounded == np.floor(rounded)):
        cells[i] = int(cells[i])
    for i in np.flatnonzero(np.isnan(rounded)):
        cells[i] = None
    return cells


def _without(values: list[Any], absent: npt.NDArray[np.bool_]) -> list[Any]:
    for i in np.flatnonzero(absent):
        values[i] = None
    return values


def weather_items(weather: Weather, units: Units, accumulation: Literal["1h", "3h"] = "1h") -> list[Json]:
    """One object an instant (arrays are read flat), with the parts that all weather endpoints share.

    From time to time a field is missing: gust (1 in 8), sea_level and grnd_level (1 in 8), visibility
    (1 in 16), feels_like (1 in 32), temp_min and temp_max (1 in 32), deg (1 in 64).
    """
    lottery = weather.lottery.ravel()

    def drawn(shift: int, one_in: int) -> npt.NDArray[np.bool_]:
        absent: npt.NDArray[np.bool_] = (lottery >> np.uint64(shift)) % np.uint64(one_in) == 0
        return absent

    def read(values: Array, decimals: int) -> list[Any]:
        return numbers(values.ravel(), decimals)

    temperature, speed = TEMPERATURE[units], SPEED[units]
    no_extremes, no_levels = drawn(0, 32), drawn(5, 8)
    columns = zip(
        np.rint(weather.hours.ravel() * 3600).astype(np.int64).tolist(),
        read(temperature(weather.temperature_c), 2),
        _without(read(temperature(weather.apparent_temperature_c), 2), drawn(8, 32)),
        _without(read(temperature(weather.temperature_min_c), 2), no_extremes),
        _without(read(temperature(weather.temperature_max_c), 2), no_extremes),
        read(weather.pressure_hpa, 0),
        _without(read(weather.ground_pressure_hpa, 0), no_levels),
        read(weather.humidity_pct, 0),
        read(speed(weather.wind_speed_ms), 2),
        _without(read(weather.wind_direction_deg, 0), drawn(13, 64)),
        _without(read(speed(weather.wind_gust_ms), 2), drawn(19, 8)),
        read(weather.cloud_cover_pct, 0),
        _without(read(weather.visibility_m, 0), drawn(22, 16)),
        read(weather.rain_mm, 2),
        read(weather.snow_mm, 2),
        weather.condition_id.ravel().tolist(),
        weather.is_day.ravel().tolist(),
        strict=True,
    )
    items: list[Json] = []
    for (
        dt,
        temp,
        felt,
        lowest,
        highest,
        pressure,
        ground,
        humidity,
        wind_speed,
        deg,
        gust,
        clouds,
        visibility,
        rain,
        snow,
        code,
        is_day,
    ) in columns:
        main: Json = {"temp": temp}
        if felt is not None:
            main["feels_like"] = felt
        main["pressure"] = pressure
        main["humidity"] = humidity
        if lowest is not None:
            main["temp_min"] = lowest
            main["temp_max"] = highest
        if ground is not None:
            main["sea_level"] = pressure
            main["grnd_level"] = ground
        wind: Json = {"speed": wind_speed}
        if deg is not None:
            wind["deg"] = deg
        if gust is not None:
            wind["gust"] = gust
        item: Json = {
            "dt": dt,
            "main": main,
            "weather": [_CONDITIONS[code, is_day]],
            "clouds": {"all": clouds},
            "wind": wind,
        }
        if visibility is not None:
            item["visibility"] = visibility
        if rain:
            item["rain"] = {accumulation: rain}
        if snow:
            item["snow"] = {accumulation: snow}
        items.append(item)
    return items


def one_call_items(weather: Weather, uv_index: Array, units: Units) -> list[Json]:
    """The records of One Call, read flat: the same values as ``weather_items``, under flat names."""
    items: list[Json] = []
    dew_points = numbers(TEMPERATURE[units](weather.dew_point_c.ravel()), 2)
    for item, dew_point, uvi in zip(
        weather_items(weather, units), dew_points, numbers(uv_index.ravel(), 2), strict=True
    ):
        main, wind = item["main"], item["wind"]
        flat: Json = {"dt": item["dt"], **{name: main[name] for name in ("temp", "feels_like") if name in main}}
        flat |= {"pressure": main["pressure"], "humidity": main["humidity"], "dew_point": dew_point, "uvi": uvi}
        flat["clouds"] = item["clouds"]["all"]
        flat |= {name: item[name] for name in ("visibility",) if name in item}
        flat |= {f"wind_{name}": value for name, value in wind.items()}
        flat |= {name: item[name] for name in ("weather", "rain", "snow") if name in item}
        items.append(flat)
    return items


def forecast_items(weather: Weather, units: Units) -> list[Json]:
    """The steps of /forecast, read flat."""
    items = weather_items(weather, units, "3h")
    texts = {dt: f"{datetime.fromtimestamp(dt, UTC):%Y-%m-%d %H:%M:%S}" for dt in {item["dt"] for item in items}}
    probabilities = numbers(weather.precipitation_probability.ravel(), 2)
    for item, probability, is_day in zip(items, probabilities, weather.is_day.ravel().tolist(), strict=True):
        item["main"]["temp_kf"] = 0
        item["pop"] = probability
        item["sys"] = {"pod": "d" if is_day else "n"}
        item["dt_txt"] = texts[item["dt"]]
    return items


def air_quality_items(hours: Array, air: AirQuality) -> list[Json]:
    """The records of the air pollution endpoints; the index is now and then written as a float."""
    rounded = [np.round(values, 2) for values in air]
    index = np.max(
        [
            np.searchsorted(_AQI_BOUNDS[name], values, side="right")
            for name, values in zip(AirQuality._fields, rounded, strict=True)
            if name in _AQI_BOUNDS
        ],
        axis=0,
    )
    indices = (index + 1).tolist()
    instants = np.rint(hours * 3600).astype(np.int64).tolist()
    rows = zip(*(numbers(values, 2) for values in rounded), strict=True)
    return [
        {
            "main": {"aqi": float(aqi) if dt // 3600 % 11 == 0 else aqi},
            "components": dict(zip(AirQuality._fields, row, strict=True)),
            "dt": dt,
        }
        for dt, aqi, row in zip(instants, indices, rows, strict=True)
    ]


def whole(number: float) -> float | int:
    """``number`` with at most four decimals, whole ones as ``int``: how the service echoes coordinates."""
    rounded = round(number, 4)
    return int(rounded) if math.floor(rounded) == rounded else rounded
