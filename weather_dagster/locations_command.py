"""``weather locations ...``: shows, finds, adds and checks places. Parses, calls, prints.

Geocoding, which brings numpy along, is imported by the commands that need it.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from slugify import slugify

from weather_dagster.attribution import GEONAMES
from weather_dagster.errors import ConfigurationError, WeatherError
from weather_dagster.locations import Location, add_location, load_locations, make_location
from weather_dagster.settings import ProviderName, Settings

if TYPE_CHECKING:
    from weather_dagster.geocoding import Ask, Finding, Match

Connect = Callable[[Settings], "AbstractContextManager[Ask]"]
"""Opens the way to the geocoder of the provider that the settings name; ``GEOCODERS`` says in which format."""

OWN_FILE = Path("locations.yaml")
"""Where places go when WEATHER_LOCATIONS names no file; in the current folder."""
MAX_ID_LENGTH = 63
DECIMALS = 4
"""Of a degree: some ten metres, finer than any provider's grid."""

out = Console()
err = Console(stderr=True)


def create_app(connect: Connect) -> typer.Typer:
    """The commands, over this way to the geocoders."""
    app = typer.Typer(help="The places that are watched.", no_args_is_help=True)

    @app.command(name="list")
    def list_() -> None:
        """Show the places, after checking their file."""
        settings = Settings.load()
        table = Table(
            "id", "name", "country", "latitude", "longitude", "time zone", title=escape(str(settings.locations_path))
        )
        for place in load_locations(settings.locations_path):
            table.add_row(
                place.id,
                escape(place.name),
                place.country or "–",
                str(place.latitude),
                str(place.longitude),
                place.time_zone,
            )
        out.print(table)

    @app.command()
    def search(
        name: Annotated[str, typer.Argument(help="As in Oslo, or with the country: Paris,FR.")],
        pick: Annotated[int | None, typer.Option(min=1, help="Write this match into the places file.")] = None,
        id_: Annotated[str | None, typer.Option("--id", help="The id to write; made from the name by default.")] = None,
        count: Annotated[int, typer.Option(min=1, max=100, help="How many matches; OpenWeather gives 5 at most.")] = 5,
    ) -> None:
        """Find places by name with the provider's geocoder, and write the one that is picked into the places file."""
        from weather_dagster.geocoding import GEOCODERS
        from weather_dagster.geocoding import search as search_places

        settings = Settings.load()
        if settings.provider == ProviderName.RECORDED:
            raise ConfigurationError(
                "the places of the recorded hours are fixed, none can be added; "
                "choose another provider (WEATHER_PROVIDER) to search"
            )
        if not name.strip():
            raise ConfigurationError("the name to search for is blank; give one, such as Oslo or Paris,FR")
        with connect(settings) as ask:
            matches = search_places(GEOCODERS[settings.provider], ask, name, count)
        if not matches:
            raise ConfigurationError(
                f"{settings.provider} knows no place named {name!r}; try another spelling, the English name, "
                "or the name with its country code, such as Paris,FR"
            )
        out.print(_show_matches(matches))
        if settings.provider == ProviderName.OPEN_METEO:
            out.print(f"{GEONAMES.credit.text} ({GEONAMES.credit.url}).", highlight=False)
        if pick is None and sys.stdin.isatty():
            answer = typer.prompt("Number to write into the places file, 0 for none", type=int, default=0)
            pick = answer or None
            if pick is None:
                return
        if pick is None:
            out.print("Give --pick with a number to write that place into the places file.", highlight=False)
            return
        if not 1 <= pick <= len(matches):
            raise ConfigurationError(
                f"no match has the number {pick}; pick 1 to {len(matches)}, or raise --count to see more"
            )
        file = settings.weather_locations or OWN_FILE
        place = _add(file, matches[pick - 1], id_)
        out.print(f"{place.id} written into {escape(str(file))}.", highlight=False, soft_wrap=True)
        if settings.weather_locations is None:
            out.print(f"Set WEATHER_LOCATIONS={file} to watch the places of that file.", highlight=False)

    @app.command()
    def check() -> None:
        """Compare each place with its time zone, its neighbours and the provider's geocoder; exit code 1 for a fault.

        The geocoder is called once a place, twice for a doubtful one.
        """
        from weather_dagster.geocoding import GEOCODERS, check_names, check_offline

        settings = Settings.load()
        places = load_locations(settings.locations_path)
        title = escape(str(settings.locations_path))
        findings = check_offline(places)
        unknown: Sequence[Location] = ()
        if geocoder := GEOCODERS.get(settings.provider):
            try:
                with connect(settings) as ask, err.status(f"Asking {settings.provider} for {len(places)} places"):
                    by_name, unknown = check_names(geocoder, ask, places)
            except WeatherError:
                # What was found without the provider is worth knowing all the same.
                if findings:
                    out.print(_show_findings(findings, title=title))
                raise
            findings += by_name
        else:
            out.print(f"{settings.provider} has no geocoder: names were not compared.", highlight=False)
        if unknown:
            ids = ", ".join(place.id for place in unknown)
            out.print(
                f"Not compared, as {settings.provider} knows no such name in that country or they lie at sea: {ids}",
                highlight=False,
                soft_wrap=True,
            )
        if findings:
            out.print(_show_findings(findings, title=title))
            raise typer.Exit(1)
        out.print(f"{len(places)} places checked, nothing is wrong.", highlight=False)

    return app


def _show_matches(matches: "Sequence[Match]") -> Table:
    headers = ("no.", "name", "region", "country", "latitude", "longitude", "time zone")
    # What a narrow terminal cuts off, nobody can write down.
    table = Table(*(Column(header, overflow="fold") for header in headers))
    for number, match in enumerate(matches, start=1):
        table.add_row(
            str(number),
            escape(match.name),
            escape(match.admin or "–"),
            match.country or "–",
            f"{match.latitude:.{DECIMALS}f}",
            f"{match.longitude:.{DECIMALS}f}",
            _zone_or_dash(match),
        )
    return table


def _zone_or_dash(match: "Match") -> str:
    """A match without a zone is told in full when it is picked."""
    from weather_dagster.geocoding import zone_of

    try:
        return zone_of(match)
    except ConfigurationError:
        return "–"


def _show_findings(findings: "Sequence[Finding]", *, title: str) -> Table:
    table = Table("place", "what is wrong", "way out", title=title)
    for finding in sorted(findings, key=lambda finding: finding.place):
        table.add_row(finding.place, escape(finding.what), escape(finding.way_out))
    return table


def _add(file: Path, match: "Match", id_: str | None) -> Location:
    """Write the match into the file.

    Raises:
        ConfigurationError: its id or place is there already, or the file cannot take it.
    """
    from weather_dagster.geocoding import twin_of, zone_of

    known = load_locations(file) if file.exists() else ()
    ids = {place.id for place in known}
    if id_ in ids:
        raise ConfigurationError(f"the id {id_!r} is taken in {file}; give another one with --id")
    place = make_location(
        id=_make_id(match.name, ids) if id_ is None else id_,
        name=match.name,
        country=match.country,
        latitude=round(match.latitude, DECIMALS),
        longitude=round(match.longitude, DECIMALS),
        time_zone=zone_of(match),
    )
    if twin := twin_of(place, known):
        raise ConfigurationError(
            f"{place.name} ({place.latitude}, {place.longitude}) is in {file} already, as {twin.id!r} "
            f"({twin.latitude}, {twin.longitude}); change that entry to move or rename it"
        )
    add_location(file, place)
    return place


def _make_id(name: str, taken: set[str]) -> str:
    """The name in small Latin letters and digits, with a number behind it when another place has it."""
    # Room for the number.
    stem = slugify(name, separator="_", max_length=MAX_ID_LENGTH - 5)
    if not stem:
        raise ConfigurationError(f"no id can be made of the name {name!r}; give one with --id")
    id_, number = stem, 2
    while id_ in taken:
        id_, number = f"{stem}_{number}", number + 1
    return id_
