"""Where a name lies and which time zone a point has: geocoders, zones, and the check of the places against both.

Belongs here: what is asked of a geocoder and how its answer is read. Does not belong here: the HTTP, which comes
in as ``ask``, and the places file (``weather_dagster.locations``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import tzfpy
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from weather_dagster.errors import ConfigurationError, MalformedAnswer
from weather_dagster.locations import Location, is_known_zone
from weather_dagster.weather_api.records import distance_km

SAME_PLACE_KM = 1.0
"""Places nearer to each other than this are one place under two ids."""
SAME_NAME_KM = 50.0
"""How far a place may lie from the point a geocoder gives for its name: outskirts, airports, islands."""
KM_PER_DEGREE = 111.0
"""A degree of latitude has at least that many kilometres on the sphere that distances are taken on."""
OPENWEATHER_LIMIT = 5
MATCHES_COMPARED = 5
MAX_FAULTS_NAMED = 3

Parameters = Mapping[str, str | int]
Ask = Callable[[str, Parameters], Any]
"""Path below the geocoder's host and parameters in, parsed JSON out; raises ``ProviderError``."""


@dataclass(frozen=True)
class Match:
    """A place that a geocoder knows. Degrees (WGS 84), north and east positive; country as in ISO 3166 alpha-2."""

    name: str
    country: str | None
    admin: str | None
    """State, region or province."""
    latitude: float
    longitude: float
    time_zone: str | None
    """As the geocoder tells it; ``zone_of`` gives the one to use."""


@dataclass(frozen=True)
class Geocoder:
    """One provider's place search: what to ask, and how to read the answer."""

    name: str
    request: Callable[[str, int, str | None], tuple[str, Parameters]]
    read: Callable[[Any], list[Match]]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a place, and what to do about it."""

    place: str
    """Its id."""
    what: str
    way_out: str


def _text_or_none(value: Any) -> Any:
    return None if value == "" else value


Name = Annotated[str, Field(min_length=1)]
Text = Annotated[str | None, BeforeValidator(_text_or_none)]
Country = Annotated[str | None, Field(pattern=r"^[A-Z]{2}$"), BeforeValidator(_text_or_none)]
Latitude = Annotated[float, Field(ge=-90, le=90)]
Longitude = Annotated[float, Field(ge=-180, le=180)]


class _Contract(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False, str_strip_whitespace=True)


class OpenWeatherPlace(_Contract):
    """An item of ``/geo/1.0/direct``, whose answer is a list of them."""

    name: Name
    lat: Latitude
    lon: Longitude
    country: Country = None
    state: Text = None


class OpenMeteoPlace(_Contract):
    """An item of ``results`` of ``/v1/search``. Empty fields are left out there."""

    name: Name
    latitude: Latitude
    longitude: Longitude
    country_code: Country = None
    admin1: Text = None
    timezone: Text = None


class OpenMeteoSearch(_Contract):
    """The answer of ``/v1/search``; without a match ``results`` is missing."""

    error: Literal[False] = False
    results: list[OpenMeteoPlace] = []


OPENWEATHER_PLACES = TypeAdapter(list[OpenWeatherPlace])


def openweather_request(name: str, limit: int, country: str | None = None) -> tuple[str, Parameters]:
    """Path and parameters of OpenWeather's search, which gives five matches at most.

    Args:
        name: may carry a state (United States only) and a country: ``Springfield,IL,US``.
        country: ISO 3166 alpha-2; matches of other countries are left out.
    """
    parts = [part.strip() for part in name.split(",")] + ([country] if country else [])
    return "/geo/1.0/direct", {"q": ",".join(parts), "limit": min(limit, OPENWEATHER_LIMIT)}


def read_openweather(document: Any) -> list[Match]:
    """The matches of an answer of OpenWeather's, none when it knows no such place.

    Raises:
        MalformedAnswer: the answer has another shape.
    """
    try:
        places = OPENWEATHER_PLACES.validate_python(document)
    except ValidationError as error:
        raise _malformed("openweather", "/geo/1.0/direct", error) from None
    return [Match(p.name, p.country, p.state, p.lat, p.lon, None) for p in places]


def open_meteo_request(name: str, limit: int, country: str | None = None) -> tuple[str, Parameters]:
    """Path and parameters of Open-Meteo's search; see ``openweather_request``. Gives 100 matches at most."""
    within = {"countryCode": country} if country else {}
    return "/v1/search", {"name": name.strip(), "count": limit, "language": "en", "format": "json", **within}


def read_open_meteo(document: Any) -> list[Match]:
    """The matches of an answer of Open-Meteo's, none when it knows no such place.

    Raises:
        MalformedAnswer: the answer has another shape.
    """
    try:
        places = OpenMeteoSearch.model_validate(document).results
    except ValidationError as error:
        raise _malformed("open_meteo", "/v1/search", error) from None
    return [Match(p.name, p.country_code, p.admin1, p.latitude, p.longitude, p.timezone) for p in places]


def _malformed(provider: str, path: str, error: ValidationError) -> MalformedAnswer:
    faults = error.errors(include_url=False, include_context=False)[:MAX_FAULTS_NAMED]
    named = "; ".join(
        f"{'.'.join(map(str, f['loc'])) or 'the answer'}: {f['msg']} (is {repr(f['input'])[:60]})" for f in faults
    )
    return MalformedAnswer(f"{provider} answered in another shape than its place search ({path}): {named}")


OPENWEATHER = Geocoder("openweather", openweather_request, read_openweather)
OPEN_METEO = Geocoder("open_meteo", open_meteo_request, read_open_meteo)
GEOCODERS: Mapping[str, Geocoder] = {
    "openweather": OPENWEATHER,
    "simulator": replace(OPENWEATHER, name="simulator"),
    "open_meteo": OPEN_METEO,
}
"""By provider. The recorded hours have none: their places are fixed."""


def search(geocoder: Geocoder, ask: Ask, name: str, limit: int, country: str | None = None) -> list[Match]:
    """The places of that name, best match first, none when the geocoder knows none.

    Raises:
        ProviderError: the call came to nothing.
    """
    return geocoder.read(ask(*geocoder.request(name, limit, country)))


def zones_at(latitude: float, longitude: float) -> tuple[str, ...]:
    """The IANA zones of a point, by the map that comes with tzfpy: mostly one, more where people keep two times.

    Args:
        latitude: degrees, north positive.
        longitude: degrees, east positive. At sea the zone is ``Etc/GMT`` with an offset.
    """
    return tuple(tzfpy.get_tzs(longitude, latitude))


def zone_of(match: Match) -> str:
    """The time zone to write for a match: the one at its coordinates; see ``choose_zone``."""
    return choose_zone(match, zones_at(match.latitude, match.longitude))


def choose_zone(match: Match, zones: Sequence[str]) -> str:
    """Of the zones at its coordinates the one that the geocoder tells, else the first that a place may have.

    Raises:
        ConfigurationError: there is none.
    """
    for zone in sorted(zones, key=lambda zone: zone != match.time_zone):
        if is_known_zone(zone):
            return zone
    raise ConfigurationError(
        f"the time zone of {match.name} ({match.latitude:g}, {match.longitude:g}) is {' or '.join(zones) or 'unknown'}"
        "; the installed zone rules (package tzdata) have no such one: upgrade tzdata, or write the place by hand "
        "with an IANA zone of the same hours"
    )


def check_offline(locations: Sequence[Location]) -> list[Finding]:
    """What is wrong with places as far as no provider is needed: zones that are not those of the coordinates,
    and places within a kilometre of each other."""
    findings = [finding for place in locations if (finding := _check_zone(place))]
    return findings + list(_find_twins(locations))


def check_names(geocoder: Geocoder, ask: Ask, locations: Iterable[Location]) -> tuple[list[Finding], list[Location]]:
    """Compare places with what a geocoder knows under their names: one call for each, two for a doubtful one.

    Returns:
        What is wrong, and the places that were not compared: the geocoder does not know them by name.

    Raises:
        ProviderError: a call came to nothing.
    """
    findings, unknown = [], []
    for place in locations:
        # A point at sea has a name of the reader's own.
        if place.country is None and any(zone.startswith("Etc/") for zone in zones_at(place.latitude, place.longitude)):
            unknown.append(place)
            continue
        matches = search(geocoder, ask, place.name, MATCHES_COMPARED, place.country)
        if any(_is_near(match, place.latitude, place.longitude) and _same_country(match, place) for match in matches):
            continue
        if place.country:
            matches += search(geocoder, ask, place.name, MATCHES_COMPARED)
        if finding := _compare(place, matches, geocoder.name):
            findings.append(finding)
        else:
            unknown.append(place)
    return findings, unknown


def _compare(place: Location, matches: Sequence[Match], geocoder: str) -> Finding | None:
    """What is wrong with a place none of whose matches is near and in its country; None when none says anything."""

    def distance(match: Match) -> float:
        return distance_km(place.latitude, place.longitude, match.latitude, match.longitude)

    by_distance = sorted(matches, key=distance)
    if by_distance and distance(nearest := by_distance[0]) <= SAME_NAME_KM:
        return Finding(
            place.id,
            f"{place.name} lies in {nearest.country} according to {geocoder}; the file says {place.country}",
            f'write country: "{nearest.country}"',
        )
    for mistake, latitude, longitude in _mistakes(place):
        for match in by_distance:
            if _is_near(match, latitude, longitude):
                return _misplaced(place, match, distance(match), geocoder, f"; {mistake}")
    at_home = [match for match in by_distance if _same_country(match, place)]
    return _misplaced(place, at_home[0], distance(at_home[0]), geocoder, "") if at_home else None


def _misplaced(place: Location, match: Match, distance: float, geocoder: str, mistake: str) -> Finding:
    name = ", ".join(filter(None, (match.name, match.admin, match.country)))
    return Finding(
        place.id,
        f"{place.latitude:g}, {place.longitude:g} is {distance:,.0f} km from {name} as {geocoder} knows it{mistake}",
        f"write latitude: {match.latitude:.4f}, longitude: {match.longitude:.4f}, or give the name of what is meant",
    )


def _same_country(match: Match, place: Location) -> bool:
    return match.country is None or place.country is None or match.country == place.country


def _is_near(match: Match, latitude: float, longitude: float) -> bool:
    return distance_km(latitude, longitude, match.latitude, match.longitude) <= SAME_NAME_KM


def _mistakes(place: Location) -> list[tuple[str, float, float]]:
    """The usual slips in writing coordinates, each with the point that was meant."""
    latitude, longitude = place.latitude, place.longitude
    slips = [
        ("latitude and longitude are swapped", longitude, latitude),
        ("the sign of the longitude is wrong", latitude, -longitude),
        ("the sign of the latitude is wrong", -latitude, longitude),
        ("the signs of latitude and longitude are wrong", -latitude, -longitude),
    ]
    return [slip for slip in slips if abs(slip[1]) <= 90]


def _check_zone(place: Location) -> Finding | None:
    zones = tuple(filter(is_known_zone, zones_at(place.latitude, place.longitude)))
    if not zones or any(_same_clock(place.time_zone, zone) for zone in zones):
        return None
    fault = f"the time zone at {place.latitude:g}, {place.longitude:g} is {' or '.join(zones)}, not {place.time_zone}"
    for mistake, latitude, longitude in _mistakes(place):
        if place.time_zone in zones_at(latitude, longitude):
            way_out = f"write latitude: {latitude:g}, longitude: {longitude:g}, or time_zone: {zones[0]}"
            return Finding(place.id, f"{fault}: {mistake}", way_out)
    return Finding(place.id, fault, f"write time_zone: {zones[0]}, or correct the coordinates")


@cache
def _same_clock(zone: str, other: str) -> bool:
    """Whether two zones have shown the same time at noon of every day from 1970 to 2037: two names of one zone do."""
    if zone == other:
        return True
    one, two = ZoneInfo(zone), ZoneInfo(other)
    noon, last = datetime(1970, 1, 1, 12, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)
    while noon < last:
        if noon.astimezone(one).utcoffset() != noon.astimezone(two).utcoffset():
            return False
        noon += timedelta(days=1)
    return True


def twin_of(place: Location, locations: Iterable[Location]) -> Location | None:
    """One of the places that lies within a kilometre of this one."""
    return next((other for other in locations if _apart(place, other) <= SAME_PLACE_KM), None)


def _find_twins(locations: Sequence[Location]) -> Iterable[Finding]:
    northward = sorted(locations, key=lambda place: place.latitude)
    for index, place in enumerate(northward):
        for other in northward[index + 1 :]:
            if (other.latitude - place.latitude) * KM_PER_DEGREE > SAME_PLACE_KM:
                break
            if (distance := _apart(place, other)) <= SAME_PLACE_KM:
                yield Finding(
                    place.id,
                    f"is {distance * 1000:.0f} m from {other.id}: every call for the two is made twice",
                    f"leave {place.id} or {other.id} out",
                )


def _apart(one: Location, other: Location) -> float:
    return distance_km(one.latitude, one.longitude, other.latitude, other.longitude)
