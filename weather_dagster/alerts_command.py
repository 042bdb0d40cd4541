"""``weather alerts``: what lasts, whether people can be reached, and quiet for a while."""

import re
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import utc_now
from weather_dagster.settings import Settings
from weather_dagster.state import alerts_place

alerts = typer.Typer(help="Problems that people are told of.", no_args_is_help=True)
out = Console()

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@alerts.command("list")
def list_alerts(
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show the problems that last, since when and how often they were found."""
    from weather_dagster.alerts.book import State, open_book

    settings, now = Settings.load(), utc_now()
    with open_book(alerts_place(settings), read_only=True) as book:
        found, silences, deliveries = book.alerts(open_only=not every), book.silences(now), book.deliveries()
    if json:
        told = {
            "alerts": [asdict(alert) for alert in found],
            "silences": [asdict(silence) for silence in silences],
            "deliveries": deliveries,
        }
        out.print_json(data=told, default=str)
        return
    table = Table("since", "times", "last told of", "what", title="Alerts", show_lines=True)
    for alert in found:
        quiet = [silence.until for silence in silences if alert.matches(silence.pattern)]
        told_at = f"silent until {max(quiet):%m-%d %H:%M}" if quiet else _minute(alert.announced_at)
        over = f" – {alert.resolved_at:%m-%d %H:%M}" if alert.resolved_at else ""
        what = f"{alert.severity.upper()} {alert.source}" + (f" ({alert.subject})" if alert.subject else "")
        table.add_row(
            _minute(alert.opened_at) + over,
            f"{alert.times:,}",
            told_at,
            f"[bold]{escape(what)}[/]\n{escape(alert.text)}",
        )
    out.print(table if found else "No problem lasts." if not every else "No problem is known.")
    if unsent := sum(deliveries.get(state, 0) for state in (State.PENDING, State.UNKNOWN, State.FAILED)):
        states = ", ".join(f"{count:,} {state}" for state, count in deliveries.items() if state is not State.SENT)
        out.print(f"[yellow]{unsent:,} deliveries did not surely arrive:[/] {states}")


@alerts.command()
def test() -> None:
    """Send a test message to every target of WEATHER_ALERT_URLS."""
    from weather_dagster.alerts.delivery import read_targets, send
    from weather_dagster.alerts.messages import Kind, Message
    from weather_dagster.alerts.reports import Severity

    targets = read_targets(Settings.load().weather_alert_urls)
    if not targets:
        raise ConfigurationError(
            "WEATHER_ALERT_URLS is not set, so alerts are kept in a table and in the log alone; set it to Apprise "
            "URLs, such as json://127.0.0.1:8080/hook"
        )
    message = Message(
        str(uuid4()),
        Kind.RECOVERED,
        Severity.WARN,
        "Test of the weather platform's alerts",
        "If you read this, they reach you.",
    )
    failed = []
    for target in targets:
        error = send(target, message)
        out.print(f"{target}: {escape(error or 'delivered')}", highlight=False, soft_wrap=True)
        failed += [str(target)] if error else []
    if failed:
        raise ConfigurationError(f"{', '.join(failed)} could not be reached")


@alerts.command()
def silence(
    pattern: Annotated[str, typer.Argument(help="Source or fingerprint as `list` shows them; * stands for anything.")],
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="Such as 30m, 4h or 2d.")],
    reason: Annotated[str, typer.Option(help="Why, for those who ask.")] = "",
) -> None:
    """Tell nobody of matching problems for a while; those that last longer are told of afterwards."""
    from weather_dagster.alerts.book import open_book

    until = utc_now() + read_duration(for_)
    with open_book(alerts_place(Settings.load())) as book:
        book.silence(pattern, until, reason)
        matching = [alert.fingerprint for alert in book.alerts(open_only=True) if alert.matches(pattern)]
    told = ", ".join(matching) if matching else "none that lasts now"
    out.print(f"Silent until {until:%Y-%m-%dT%H:%MZ}: {escape(told)}", highlight=False, soft_wrap=True)


def read_duration(text: str) -> timedelta:
    """A duration such as ``30m``, ``4h`` or ``2d``.

    Raises:
        ConfigurationError: it is none, or not longer than nothing.
    """
    read = re.fullmatch(r"([1-9]\d{0,4})([mhd])", text)
    if not read:
        raise ConfigurationError(f"--for is {text!r}, which is no duration; write it like 30m, 4h or 2d")
    return int(read[1]) * _UNITS[read[2]]


def _minute(instant: object) -> str:
    return f"{instant:%m-%d %H:%M}" if instant else "–"
