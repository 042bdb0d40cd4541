"""The places the platform watches, read from YAML and checked. Their ids key every table."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from weather_dagster.errors import ConfigurationError

DEFAULT_FILE = Path(__file__).with_name("locations.yaml")


def _known_zone(name: str) -> str:
    # Names without a region, such as CET or localtime, mean different things to different engines.
    if name not in available_timezones() or ("/" not in name and name != "UTC"):
        raise ValueError("give an IANA time zone by region, such as Europe/Paris")
    return name


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        # Pydantic takes a ValueError alone.
        raise ValueError('YAML reads a bare no, yes, on and off as a truth value; quote texts such as "NO"')  # noqa: TRY004
    return value


class Location(BaseModel):
    """A place. Latitude and longitude in degrees (WGS 84), north and east positive."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
    name: Annotated[str, Field(min_length=1)]
    country: Annotated[str | None, Field(pattern=r"^[A-Z]{2}$"), BeforeValidator(_no_truth)] = None
    latitude: Annotated[float, Field(ge=-90, le=90), BeforeValidator(_no_truth)]
    longitude: Annotated[float, Field(ge=-180, le=180), BeforeValidator(_no_truth)]
    time_zone: Annotated[str, AfterValidator(_known_zone)]


def load_locations(file: Path = DEFAULT_FILE) -> tuple[Location, ...]:
    """Read and check a locations file.

    Raises:
        ConfigurationError: naming file, entry and value, for a file that is missing, is no YAML of the
            expected shape, or holds an id twice.
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"locations file {file}: {error.strerror}; correct WEATHER_LOCATIONS or unset it for the default places"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"locations file {file} is no YAML: {error}") from None
    entries = document.get("locations") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigurationError(f"locations file {file} holds no list under `locations:`; see {DEFAULT_FILE}")
    locations = tuple(_read_entry(file, number, entry) for number, entry in enumerate(entries, start=1))
    seen: dict[Hashable, int] = {}
    for number, location in enumerate(locations, start=1):
        if location.id in seen:
            raise ConfigurationError(
                f"locations file {file}, entries {seen[location.id]} and {number}: "
                f"id {location.id!r} stands twice; every place needs its own id"
            )
        seen[location.id] = number
    return locations


def select_locations(locations: Sequence[Location], ids: Sequence[str]) -> tuple[Location, ...]:
    """The places with these ids; all of them when no id is given.

    Raises:
        ConfigurationError: naming the unknown ids and the known ones.
    """
    known = {location.id: location for location in locations}
    if unknown := [name for name in ids if name not in known]:
        raise ConfigurationError(
            f"no place has the id {', '.join(map(repr, unknown))}; known places: {', '.join(known)}"
        )
    return tuple(known[name] for name in dict.fromkeys(ids)) or tuple(locations)


def _read_entry(file: Path, number: int, entry: Any) -> Location:
    try:
        return Location.model_validate(entry)
    except ValidationError as error:
        name = f" ({entry['id']!r})" if isinstance(entry, dict) and "id" in entry else ""
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'entry'} is "
            + ("missing" if fault["type"] == "missing" else f"{fault['input']!r}: {fault['msg']}")
            for fault in error.errors(include_url=False)
        )
        raise ConfigurationError(f"locations file {file}, entry {number}{name}: {faults}") from None
