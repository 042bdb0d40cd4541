"""The places the platform watches, read from YAML and checked. Their ids key every table."""

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from weather_dagster.errors import ConfigurationError

DEFAULT_FILE = Path(__file__).with_name("locations.yaml")


def _known_zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("is no IANA time zone, such as Europe/Paris")
    return name


class Location(BaseModel):
    """A place. Latitude and longitude in degrees (WGS 84), north and east positive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$")]
    name: Annotated[str, Field(min_length=1)]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
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


def _read_entry(file: Path, number: int, entry: Any) -> Location:
    try:
        return Location.model_validate(entry)
    except ValidationError as error:
        name = f" ({entry['id']!r})" if isinstance(entry, dict) and "id" in entry else ""
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'entry'} is {fault['input']!r}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        )
        raise ConfigurationError(f"locations file {file}, entry {number}{name}: {faults}") from None
