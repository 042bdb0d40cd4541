"""The fields that the providers document for a record, read by a contract or not. What else comes is drift.

Paths are two levels deep, as ``Warehouse.payload_fields`` gives them; in a list the first element counts.
Sources: OpenWeather's and Open-Meteo's API documentation of July 2026.
"""

from collections.abc import Iterable, Mapping


def _block(name: str, *fields: str) -> frozenset[str]:
    return frozenset({name, *(f"{name}.{field}" for field in fields)})


_RAIN_AND_SNOW = _block("rain", "1h", "3h") | _block("snow", "1h", "3h")
_CONDITION = _block("weather", "id", "main", "description", "icon")
_LEVELS = ("sea_level", "grnd_level")
_RECORD = (
    frozenset({"dt", "visibility"})
    | _block("main", "temp", "feels_like", "temp_min", "temp_max", "pressure", "humidity", *_LEVELS)
    | _block("wind", "speed", "deg", "gust")
    | _block("clouds", "all")
    | _RAIN_AND_SNOW
    | _CONDITION
)
_CURRENT = (
    _RECORD
    | {"base", "timezone", "id", "name", "cod"}
    | _block("coord", "lat", "lon")
    | _block("sys", "type", "id", "message", "country", "sunrise", "sunset")
)
_STEP = _RECORD | {"main.temp_kf", "pop", "dt_txt"} | _block("sys", "pod")
_AIR = (
    frozenset({"dt"})
    | _block("main", "aqi")
    | _block("components", *["co", "no", "no2", "o3", "so2", "pm2_5", "pm10", "nh3"])
)
_ONE_CALL = (
    frozenset(
        [
            "dt",
            "sunrise",
            "sunset",
            "temp",
            "feels_like",
            "pressure",
            "humidity",
            "dew_point",
            "uvi",
            "clouds",
            "visibility",
            "wind_speed",
            "wind_deg",
            "wind_gust",
            "pop",
        ]
    )
    | _RAIN_AND_SNOW
    | _CONDITION
)
_ONE_CALL_4 = _ONE_CALL | {"alerts"}


def _open_meteo(variables: Iterable[str], lead_days: Iterable[int] = ()) -> frozenset[str]:
    """A row of the columns: its time, the variables asked for, and point and units where they are not as asked for."""
    suffixes = [f"_previous_day{days}" for days in lead_days] or [""]
    names = [variable + suffix for variable in variables for suffix in suffixes]
    return frozenset({"time", "latitude", "longitude", *names}) | _block("units", *names)


_HOURLY = [
    "temperature_2m",
    "apparent_temperature",
    "pressure_msl",
    "surface_pressure",
    "relative_humidity_2m",
    "wind_speed_10m",
    "wind_direction_10m",
    "wind_gusts_10m",
    "cloud_cover",
    "visibility",
    "rain",
    "showers",
    "snowfall",
    "precipitation",
    "precipitation_probability",
    "weather_code",
]
_HOURLY_AIR = [
    "carbon_monoxide",
    "nitrogen_monoxide",
    "nitrogen_dioxide",
    "ozone",
    "sulphur_dioxide",
    "pm2_5",
    "pm10",
    "ammonia",
]

KNOWN_FIELDS: Mapping[str, frozenset[str]] = {
    "/data/2.5/weather": _CURRENT,
    "/data/2.5/history/city": _RECORD,
    "/data/2.5/forecast": _STEP,
    "/data/2.5/forecast/history": _STEP,
    "/data/2.5/air_pollution/history": _AIR,
    "/data/3.0/onecall": _ONE_CALL,
    "/data/3.0/onecall/timemachine": _ONE_CALL,
    "/data/4.0/onecall/current": _ONE_CALL_4,
    "/data/4.0/onecall/timeline/1h": _ONE_CALL_4,
    "api/v1/forecast": _open_meteo(_HOURLY),
    "historical-forecast-api/v1/forecast": _open_meteo(_HOURLY),
    "archive-api/v1/archive": _open_meteo(_HOURLY),
    "previous-runs-api/v1/forecast": _open_meteo(_HOURLY, range(1, 8)),
    "air-quality-api/v1/air-quality": _open_meteo(_HOURLY_AIR),
}
"""By the endpoint's label, which is what a row's ``endpoint`` holds."""
