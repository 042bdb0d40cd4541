"""The measured quantities: name with unit, plausible physical limits, description.

Declared once; contracts, bronze tables, asset checks, dbt tests and chart axes derive from here.
Limits are those of weather on this planet with a margin, not of a climate: a value outside is an
instrument or unit fault. Sources: WMO World Weather and Climate Extremes Archive for the records
named in the descriptions; provider documentation for codes and caps.

Beside the limits stands what is unlikely of a series, where that can be told at all: wind, humidity, visibility and
cloud cross most of their scale within an hour behind a front, and stay at 0 or 100 for days.

- ``max_hourly_change``: NOAA's surface quality control (MADIS, tolerance limits of the temporal checks) takes a change
  of 35 °F, or of 15 hPa, within an hour for a fault. The record, 32 °C within 27 minutes (Spearfish, 1943), lies
  beyond: such a warning is worth a look all the same. The most in three station-years of New York (2013) is 7.6 °C
  and 3.7 hPa.
- ``max_constant_hours``: the sun moves temperature, and its tide pressure, in the course of a day, so that neither
  has one value all day; in the same station-years the longest stretch is 14 hours of temperature, 5 of pressure.
- ``max_disagreement``: between two providers for a place and hour. Models and stations lie 1 to 3 °C, 1 to 2 hPa and
  1 to 3 m/s apart; what is several times that is another unit, another place, or pressure at ground level.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One measured column. All limits are inclusive and in the unit that ends the name."""

    name: str
    lower: float
    upper: float
    description: str
    max_hourly_change: float | None = None
    """Largest difference between two hours in a row; None: any is possible."""
    max_constant_hours: int | None = None
    """How many hours in a row may have the very same value; None: any number."""
    max_disagreement: float | None = None
    """Largest difference between two providers; None: they may differ at will."""

    def is_plausible(self, value: float) -> bool:
        """Whether ``value`` lies within the limits; NaN never does."""
        return self.lower <= value <= self.upper


TEMPERATURE = Quantity(
    "temperature_c",
    -95,
    60,
    "Air temperature, °C (records: -89.2 and 56.7)",
    max_hourly_change=19.4,
    max_constant_hours=23,
    max_disagreement=10,
)
APPARENT_TEMPERATURE = Quantity("apparent_temperature_c", -120, 90, "Temperature as felt, the provider's formula, °C")
TEMPERATURE_MIN = Quantity("temperature_min_c", -95, 60, "Lowest current temperature within the city, °C")
TEMPERATURE_MAX = Quantity("temperature_max_c", -95, 60, "Highest current temperature within the city, °C")
PRESSURE = Quantity(
    "pressure_hpa",
    850,
    1100,
    "Air pressure at sea level, hPa (records: 870 and 1084.8)",
    max_hourly_change=15,
    max_constant_hours=23,
    max_disagreement=10,
)
GROUND_PRESSURE = Quantity(
    "ground_pressure_hpa", 300, 1100, "Air pressure at ground level, hPa", max_hourly_change=15, max_constant_hours=23
)
HUMIDITY = Quantity("humidity_pct", 0, 105, "Relative humidity, %; instruments report slight supersaturation")
WIND_SPEED = Quantity("wind_speed_ms", 0, 115, "Mean wind speed, m/s (record gust: 113)", max_disagreement=12)
WIND_DIRECTION = Quantity("wind_direction_deg", 0, 360, "Direction the wind comes from, degrees")
WIND_GUST = Quantity("wind_gust_ms", 0, 130, "Wind gust, m/s; may be below the mean")
CLOUD_COVER = Quantity("cloud_cover_pct", 0, 100, "Cloud cover, %")
VISIBILITY = Quantity("visibility_m", 0, 10_000, "Visibility, m; capped at 10 km by the contract")
RAIN = Quantity("rain_mm", 0, 400, "Rain of the accumulation period, mm (record hour: 305)")
SNOW = Quantity("snow_mm", 0, 400, "Snow of the accumulation period, mm of water")
PRECIPITATION = Quantity("precipitation_mm", 0, 400, "Rain and snow of the accumulation period, mm of water")
PRECIPITATION_PROBABILITY = Quantity("precipitation_probability", 0, 1, "Probability of precipitation, 0 to 1")

CARBON_MONOXIDE = Quantity("carbon_monoxide_ug_m3", 0, 100_000, "Carbon monoxide, µg/m³")
NITROGEN_MONOXIDE = Quantity("nitrogen_monoxide_ug_m3", 0, 10_000, "Nitrogen monoxide, µg/m³")
NITROGEN_DIOXIDE = Quantity("nitrogen_dioxide_ug_m3", 0, 10_000, "Nitrogen dioxide, µg/m³")
OZONE = Quantity("ozone_ug_m3", 0, 5_000, "Ozone, µg/m³")
SULPHUR_DIOXIDE = Quantity("sulphur_dioxide_ug_m3", 0, 10_000, "Sulphur dioxide, µg/m³")
PM2_5 = Quantity("pm2_5_ug_m3", 0, 10_000, "Particles up to 2.5 µm, µg/m³")
PM10 = Quantity("pm10_ug_m3", 0, 20_000, "Particles up to 10 µm, µg/m³; dust storms reach thousands")
AMMONIA = Quantity("ammonia_ug_m3", 0, 10_000, "Ammonia, µg/m³")

WEATHER = (
    TEMPERATURE,
    APPARENT_TEMPERATURE,
    TEMPERATURE_MIN,
    TEMPERATURE_MAX,
    PRESSURE,
    GROUND_PRESSURE,
    HUMIDITY,
    WIND_SPEED,
    WIND_DIRECTION,
    WIND_GUST,
    CLOUD_COVER,
    VISIBILITY,
    RAIN,
    SNOW,
    PRECIPITATION,
)
FORECAST = (*WEATHER, PRECIPITATION_PROBABILITY)
AIR_QUALITY = (
    CARBON_MONOXIDE,
    NITROGEN_MONOXIDE,
    NITROGEN_DIOXIDE,
    OZONE,
    SULPHUR_DIOXIDE,
    PM2_5,
    PM10,
    AMMONIA,
)
