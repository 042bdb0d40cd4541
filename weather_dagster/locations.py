"""The places the platform watches: their file, read, checked and added to. Their ids key every table."""

import os
import shutil
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any
from zoneinfo import available_timezones

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from weather_dagster.errors import ConfigurationError

DEFAULT_FILE = Path(__file__).with_name("locations.yaml")


_zones = cache(available_timezones)
"""The names, looked up in the file system once."""


def is_known_zone(name: str) -> bool:
    """Whether a place may have this time zone."""
    # Names without a region, such as CET or localtime, mean different things to different engines.
    return name in _zones() and ("/" in name or name == "UTC")


def _known_zone(name: str) -> str:
    if not is_known_zone(name):
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


def make_location(**values: Any) -> Location:
    """A place that was not read from a file.

    Raises:
        ConfigurationError: naming each value that no place can have.
    """
    try:
        return Location(**values)
    except ValidationError as error:
        raise ConfigurationError(f"{values['name']} cannot be a place: {_faults(error)}") from None


def add_location(file: Path, location: Location) -> None:
    """Write one more place into a locations file, which is made when it is missing.

    What stands there stays as it is, byte by byte; the file is replaced in one step, after the new one was read
    back and checked.

    Raises:
        ConfigurationError: the file cannot be read or written, is broken, or is laid out in a way in which no
            entry can be added; the entry is then named, to be written by hand.
    """
    target = file.resolve()
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists():
            before = load_locations(file)
            # Opened for writing, so that a file its owner has closed to changes is not replaced.
            with target.open("r+", encoding="utf-8", newline="") as opened:
                text = _with_entry(opened.read(), location)
        else:
            before = ()
            text = f"locations:\n  - {_flow(location)}\n"
        try:
            with draft.open("w", encoding="utf-8", newline="") as opened:
                opened.write(text)
            if target.exists():
                shutil.copymode(target, draft)
            if _read_back(draft) != (*before, location):
                raise ConfigurationError(
                    f"locations file {file} is laid out in a way to which no entry can be added; "
                    f"write it by hand: {_flow(location)}"
                )
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"locations file {file} cannot be written: {error.strerror}; "
            "give write access to it and its folder, or name another file in WEATHER_LOCATIONS"
        ) from None


def _read_back(draft: Path) -> tuple[Location, ...] | None:
    try:
        return load_locations(draft)
    except ConfigurationError:
        return None


def _with_entry(text: str, location: Location) -> str:
    """The text of a locations file with one more entry behind the last one, in the layout of that."""
    top: Any = yaml.compose(text, yaml.SafeLoader)
    entries = next(value for key, value in top.value if key.value == "locations")
    last = entries.value[-1]
    if entries.flow_style:
        end = last.end_mark.index
        return f"{text[:end]}, {_flow(location)}{text[end:]}"
    lines = _flow(location) if last.flow_style else _dump(location, flow=False)
    dash = " " * entries.start_mark.column
    gap = " " * (last.start_mark.column - entries.start_mark.column - 1)
    entry = f"{dash}-{gap}" + indent(lines, " " * last.start_mark.column).lstrip()
    # A block ends for the parser where the next one begins, behind the comments between them; a value at its last sign.
    end_mark = last.end_mark if last.flow_style else last.value[-1][1].end_mark
    newline = "\r\n" if "\r\n" in text else "\n"
    entry = entry.replace("\n", newline)
    end_of_line = text.find("\n", end_mark.index)
    if end_of_line < 0:
        return f"{text}{newline}{entry}{newline}"
    return f"{text[: end_of_line + 1]}{entry}{newline}{text[end_of_line + 1 :]}"


def _flow(location: Location) -> str:
    return _dump(location, flow=True)


def _dump(location: Location, *, flow: bool) -> str:
    return yaml.safe_dump(
        location.model_dump(), default_flow_style=flow, sort_keys=False, allow_unicode=True, width=float("inf")
    ).strip()


def _read_entry(file: Path, number: int, entry: Any) -> Location:
    try:
        return Location.model_validate(entry)
    except ValidationError as error:
        name = f" ({entry['id']!r})" if isinstance(entry, dict) and "id" in entry else ""
        raise ConfigurationError(f"locations file {file}, entry {number}{name}: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'entry'} is "
        + ("missing" if fault["type"] == "missing" else f"{fault['input']!r}: {fault['msg']}")
        for fault in error.errors(include_url=False)
    )
