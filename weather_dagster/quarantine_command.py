"""``weather quarantine ...``: parses, calls, prints. No Dagster here."""

import dataclasses
import json
from collections import Counter
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weather_dagster.datasets import REASON_HELP, DatasetName, RejectionReason
from weather_dagster.environments import store_of
from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import format_hour, utc_now
from weather_dagster.settings import Settings

quarantine = typer.Typer(help="Records that were turned away, and a second reading of them.", no_args_is_help=True)

out = Console()


@quarantine.command(name="list")
def list_entries(
    *,
    dataset: Annotated[DatasetName | None, typer.Option(help="Only entries of this dataset.")] = None,
    reason: Annotated[RejectionReason | None, typer.Option(help="Only entries with this reason.")] = None,
    place: Annotated[str | None, typer.Option(metavar="ID", help="Only entries of this place.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Show the resolved ones too.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many of the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Counts and entries as JSON.")] = False,
) -> None:
    """Count and show what was turned away, and why."""
    from weather_dagster.locations import load_locations
    from weather_dagster.quarantine import entries, known_places, summary

    settings = Settings.load()
    with store_of(settings).open(read_only=True) as store:
        if place is not None:
            watched = [location.id for location in load_locations(settings.locations_path)]
            known = dict.fromkeys((*watched, *known_places(store)))
            if place not in known:
                raise ConfigurationError(f"no place has the id {place!r}; known places: {', '.join(known)}")
        counts = summary(store)
        found = entries(store, dataset=dataset, reason=reason, place=place, limit=limit, include_resolved=resolved)
    if as_json:
        document = {
            "counts": [dataclasses.asdict(count) for count in counts],
            "entries": [dataclasses.asdict(entry) for entry in found],
        }
        typer.echo(json.dumps(document, indent=2, default=lambda instant: instant.isoformat(), ensure_ascii=False))
        return
    if not counts:
        out.print("Nothing was ever turned away.")
        return
    still_open, settled = Counter[str](), Counter[str]()
    for count in counts:
        still_open[count.reason] += count.open
        settled[count.reason] += count.resolved
    table = Table("reason", "open", "resolved", "what it means", title="All entries")
    for name in sorted(still_open):
        meaning = REASON_HELP[RejectionReason(name)]
        table.add_row(name, f"{still_open[name]:,}", f"{settled[name]:,}", meaning)
    out.print(table)
    for entry in found:
        state = "" if entry.resolved_load_id is None else f", resolved in load {entry.resolved_load_id}"
        out.print(
            f"\n[bold]{entry.reason}[/] {entry.dataset} of {entry.location_id}, {format_hour(entry.hour_utc)}, "
            f"{entry.provider} {escape(entry.endpoint)}{state}\n  {escape(entry.message)}\n"
            f"  [dim]{escape(entry.payload_excerpt)}[/]",
            highlight=False,
            soft_wrap=True,
        )


@quarantine.command()
def redrive(
    reason: Annotated[
        list[RejectionReason] | None, typer.Option(help="Only payloads with this reason; can be given again.")
    ] = None,
) -> None:
    """Read the open payloads again, after a fix, and land what is good now. No provider is called."""
    from weather_dagster.locations import load_locations
    from weather_dagster.quarantine import redrive as drive_again
    from weather_dagster.weather_api.providers import known_endpoints

    settings = Settings.load()
    places = load_locations(settings.locations_path)
    store = store_of(settings)
    if not store.exists():
        out.print("There is no warehouse yet, so nothing was turned away.")
        return
    with store.open() as warehouse:
        done = drive_again(
            warehouse, known_endpoints(), places, run_id=f"redrive-{uuid4()}", now=utc_now(), reasons=reason or None
        )
    out.print(
        f"{done.tried:,} payloads read again: {done.landed:,} landed ({done.rows_added:,} rows added), "
        f"{done.superseded:,} superseded by later rows, {done.still_rejected:,} still rejected",
        highlight=False,
        soft_wrap=True,
    )
    if done.unknown_endpoint:
        out.print(f"{done.unknown_endpoint:,} are of endpoints that no provider has any more", highlight=False)
    if done.landed:
        out.print("The next dbt run takes the rows on to gold.")
