"""Pydantic contracts of what the OpenWeather adapters read.

Flat on purpose: each field carries the canonical name and the path to it, so a contract reads as the map
from wire to canonical, costs one object a record, and a field that is left out or null is None. Extra
fields are ignored. Numbers may come as ints or floats but not as text or booleans. Values stay in the
units of the answer; plausible limits are applied later, to canonical values.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import AliasPath, BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Instant = Annotated[int, Field(ge=0, lt=10**11)]
"""Whole unix seconds; the bound catches milliseconds."""


def _at(*path: str | int) -> Any:
    return Field(default=None, validation_alias=AliasPath(path[0], *path[1:]))  # type: ignore[arg-type]


class Accumulation(BaseModel):
    """Amounts by the hours they are summed over, mm."""

    one_hour: Annotated[Number | None, Field(alias="1h")] = None
    three_hours: Annotated[Number | None, Field(alias="3h")] = None


Precipitation = Accumulation | Number | None
"""Rain or snow: an object of amounts, or in daily records one plain number; left out when there is none."""


def amount_mm(precipitation: Precipitation, hours: int) -> float | None:
    """Amount over ``hours`` (1 or 3) hours, mm: 0.0 when left out, None when only the other period is told."""
    if precipitation is None:
        return 0.0
    if isinstance(precipitation, float):
        return precipitation
    wanted, other = precipitation.one_hour, precipitation.three_hours
    if hours == 3:
        wanted, other = other, wanted
    return 0.0 if wanted is None and other is None else wanted


class Conditions(BaseModel):
    """What every record of weather has under the same names. Subclasses add the measured quantities."""

    dt: Instant
    visibility_m: Number | None = _at("visibility")
    rain: Precipitation = None
    snow: Precipitation = None
    condition_id: Annotated[int, Field(ge=0, lt=2**31)] | None = _at("weather", 0, "id")


class Step(Conditions):
    """What every step of a forecast has besides; rain and snow are sums over the hours that end at ``dt``."""

    STEP_HOURS: ClassVar[int]

    precipitation_probability: Number | None = _at("pop")


class Weather(Conditions):
    """A record of the hourly history, and the measured part of current weather and forecast steps."""

    temperature_c: Number | None = _at("main", "temp")
    apparent_temperature_c: Number | None = _at("main", "feels_like")
    temperature_min_c: Number | None = _at("main", "temp_min")
    temperature_max_c: Number | None = _at("main", "temp_max")
    pressure_hpa: Number | None = _at("main", "pressure")
    ground_pressure_hpa: Number | None = _at("main", "grnd_level")
    humidity_pct: Number | None = _at("main", "humidity")
    wind_speed_ms: Number | None = _at("wind", "speed")
    wind_direction_deg: Number | None = _at("wind", "deg")
    wind_gust_ms: Number | None = _at("wind", "gust")
    cloud_cover_pct: Number | None = _at("clouds", "all")


class ForecastStep(Weather, Step):
    """A step of the 5-day forecast."""

    STEP_HOURS: ClassVar[int] = 3


class Coordinates(BaseModel):
    """The point that an answer is for, degrees."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]


class CurrentWeather(Weather):
    """The answer of current weather, which is one record."""

    coord: Coordinates | None = None


class OneCallWeather(Conditions):
    """A record of One Call, current or hourly, in both of its generations: flat, and without some quantities."""

    temperature_c: Number | None = _at("temp")
    apparent_temperature_c: Number | None = _at("feels_like")
    temperature_min_c: ClassVar[None] = None
    temperature_max_c: ClassVar[None] = None
    pressure_hpa: Number | None = _at("pressure")
    ground_pressure_hpa: ClassVar[None] = None
    humidity_pct: Number | None = _at("humidity")
    wind_speed_ms: Number | None = _at("wind_speed")
    wind_direction_deg: Number | None = _at("wind_deg")
    wind_gust_ms: Number | None = _at("wind_gust")
    cloud_cover_pct: Number | None = _at("clouds")


class OneCallStep(OneCallWeather, Step):
    """An hour ahead in One Call."""

    STEP_HOURS: ClassVar[int] = 1


class AirPollution(BaseModel):
    """A record of air pollution, µg/m³."""

    dt: Instant
    carbon_monoxide_ug_m3: Number | None = _at("components", "co")
    nitrogen_monoxide_ug_m3: Number | None = _at("components", "no")
    nitrogen_dioxide_ug_m3: Number | None = _at("components", "no2")
    ozone_ug_m3: Number | None = _at("components", "o3")
    sulphur_dioxide_ug_m3: Number | None = _at("components", "so2")
    pm2_5_ug_m3: Number | None = _at("components", "pm2_5")
    pm10_ug_m3: Number | None = _at("components", "pm10")
    ammonia_ug_m3: Number | None = _at("components", "nh3")
    provider_aqi: Annotated[int, Field(ge=1, le=5)] | None = _at("main", "aqi")


class City(BaseModel):
    """The place block of a forecast."""

    coord: Coordinates | None = None


class History(BaseModel):
    """Envelope of the hourly history, which echoes no coordinates."""

    list: list[Any]


class Forecast(BaseModel):
    """Envelope of the 5-day forecast."""

    list: list[Any]
    city: City | None = None


class Vintage(BaseModel):
    """One forecast of the past in the simulator's extension: hour of issue and its steps."""

    issued: Instant
    list: list[Any]


def _named(point: Any) -> Any:
    return dict(zip(("lat", "lon"), point, strict=True)) if isinstance(point, list) and len(point) == 2 else point


class AirPollutionSeries(BaseModel):
    """Envelope of air pollution. The documentation shows the point as [latitude, longitude], answers hold an object."""

    list: list[Any]
    coord: Annotated[Coordinates | None, BeforeValidator(_named)] = None


class OneCall(BaseModel):
    """What surrounds every answer of One Call."""

    lat: Annotated[float, Field(ge=-90, le=90)] | None = None
    lon: Annotated[float, Field(ge=-180, le=180)] | None = None

    @property
    def coord(self) -> Coordinates | None:
        """The point that the answer is for, None when it does not tell."""
        if self.lat is None or self.lon is None:
            return None
        return Coordinates(lat=self.lat, lon=self.lon)


class OneCallCurrent(OneCall):
    """One Call 3.0, asked for current weather alone."""

    current: Any


class OneCallHourly(OneCall):
    """One Call 3.0, asked for the hours ahead alone."""

    hourly: list[Any]


class OneCallData(OneCall):
    """Envelope of every answer of One Call 4.0, and of ``timemachine`` in 3.0."""

    data: list[Any]


class Series:
    """Records of one contract by the columns of its fields, each validated whole: half the cost of an object a record.

    A contract for it judges each field alone, and what is left out is None.
    """

    def __init__(self, contract: type[BaseModel]) -> None:
        self.contract = contract
        self._columns: list[tuple[str, tuple[str | int, ...], TypeAdapter[list[Any]]]] = []
        for name, field in contract.model_fields.items():
            alias = field.validation_alias
            path = tuple(alias.path) if isinstance(alias, AliasPath) else (name,)
            self._columns.append((name, path, TypeAdapter(list[field.rebuild_annotation()])))  # type: ignore[misc]
        blocks = {path[:length] for _, path, _ in self._columns for length in range(1, len(path))}
        self._blocks = sorted(blocks, key=len)

    def columns(self, records: Sequence[Any]) -> dict[str, list[Any]] | None:
        """Values by the contract's names, None when a record breaks it or has another shape.

        Whether it is good nevertheless, as one with null for a block, only the contract itself can say.
        """
        found: dict[tuple[str | int, ...], Sequence[Any]] = {(): records}
        try:
            for *outer, step in self._blocks:
                blocks = found[tuple(outer)]
                # An empty block is as good as none, and so is what is inside of it.
                found[*outer, step] = (
                    [block[step] if block else _NOTHING for block in blocks]
                    if isinstance(step, int)
                    else [block.get(step, _NOTHING) for block in blocks]
                )
            return {
                name: adapter.validate_python([block.get(last) for block in found[tuple(outer)]])
                for name, (*outer, last), adapter in self._columns
            }
        except (AttributeError, LookupError, TypeError, ValidationError):
            return None

    def columns_singly(self, records: Sequence[BaseModel]) -> dict[str, list[Any]]:
        """The same of records that the contract has taken."""
        return {name: [getattr(record, name) for record in records] for name, _, _ in self._columns}


_NOTHING: dict[Any, Any] = {}

CURRENT_RECORDS = Series(CurrentWeather)
WEATHER_SERIES = Series(Weather)
FORECAST_STEPS = Series(ForecastStep)
AIR_POLLUTION_RECORDS = Series(AirPollution)
ONE_CALL_RECORDS = Series(OneCallWeather)
ONE_CALL_STEPS = Series(OneCallStep)
