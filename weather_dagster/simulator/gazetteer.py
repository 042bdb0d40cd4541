"""The places that the simulated services know by name: the default places and some more cities.

Some names stand for several places, as in the world. Coordinates are those of the city centres, rounded.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from weather_dagster.locations import load_locations

_NEAR_DEGREES = 0.05
_REGION_DEGREES = 0.5


@dataclass(frozen=True)
class Named:
    """A place with a name; coordinates in degrees, country as two letters."""

    name: str
    country: str
    latitude: float
    longitude: float
    time_zone: str
    state: str | None = None


_CITIES = (
    Named("London", "GB", 51.51, -0.13, "Europe/London", "England"),
    Named("London", "CA", 42.98, -81.25, "America/Toronto", "Ontario"),
    Named("Paris", "FR", 48.86, 2.35, "Europe/Paris", "Ile-de-France"),
    Named("Paris", "US", 33.66, -95.56, "America/Chicago", "Texas"),
    Named("Paris", "US", 36.30, -88.33, "America/Chicago", "Tennessee"),
    Named("Valencia", "ES", 39.47, -0.38, "Europe/Madrid"),
    Named("Valencia", "VE", 10.16, -68.0, "America/Caracas"),
    Named("Berlin", "DE", 52.52, 13.41, "Europe/Berlin"),
    Named("Madrid", "ES", 40.42, -3.7, "Europe/Madrid"),
    Named("São Paulo", "BR", -23.55, -46.63, "America/Sao_Paulo"),
    Named("Zürich", "CH", 47.37, 8.54, "Europe/Zurich"),
    Named("Tokyo", "JP", 35.69, 139.69, "Asia/Tokyo"),
    Named("Nairobi", "KE", -1.29, 36.82, "Africa/Nairobi"),
    Named("Reykjavik", "IS", 64.15, -21.94, "Atlantic/Reykjavik"),
)


def _default_places() -> tuple[Named, ...]:
    return tuple(
        Named(place.name, place.country, place.latitude, place.longitude, place.time_zone)
        for place in load_locations()
        if place.country is not None
    )


class Gazetteer:
    """All named places."""

    def __init__(self) -> None:
        self.places = _default_places() + _CITIES

    def at(self, latitude: float, longitude: float) -> Named | None:
        """The place whose name a point bears."""
        return next(iter(self._within(latitude, longitude, _NEAR_DEGREES)), None)

    def around(self, latitude: float, longitude: float) -> Sequence[Named]:
        """The places around a point, the nearest first."""
        return self._within(latitude, longitude, _REGION_DEGREES)

    def _within(self, latitude: float, longitude: float, degrees: float) -> Sequence[Named]:
        def distance(place: Named) -> float:
            return max(abs(place.latitude - latitude), abs(place.longitude - longitude))

        return sorted((place for place in self.places if distance(place) < degrees), key=distance)

    def search(self, name: str, *, prefix: bool = False) -> Sequence[Named]:
        """The places of this name, or whose names begin so; case and accents do not count."""
        wanted = _folded(name)
        return [
            place
            for place in self.places
            if _folded(place.name) == wanted or (prefix and _folded(place.name).startswith(wanted))
        ]


def time_zone_of(longitude: float, named: Named | None) -> str:
    """IANA zone of a named place, elsewhere of the nautical zone."""
    if named is not None:
        return named.time_zone
    # POSIX counts west of Greenwich as positive.
    hours = -round(longitude / 15)
    return f"Etc/GMT{hours:+d}" if hours else "Etc/GMT"


def _folded(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return "".join(c for c in plain if not unicodedata.combining(c)).strip().casefold()
