"""``weather status`` and ``weather metrics``: is it healthy, for people, cron and Prometheus."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import format_hour, utc_now
from weather_dagster.settings import Settings

out = Console()


def status(json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """Show on one screen whether it is healthy; exit code 1 when it is not."""
    from weather_dagster.budget import outlook
    from weather_dagster.status import daemon_remedy, examine

    settings, now = Settings.load(), utc_now()
    told = examine(settings, now)
    if json:
        out.print_json(data={"healthy": not told.faults, **asdict(told)}, default=_plain)
    else:
        verdict = "[green]healthy[/]" if not told.faults else "[red]not healthy[/]"
        out.print(f"{told.provider} at {now:%Y-%m-%dT%H:%M}Z: {verdict}", highlight=False)
        for fault in told.faults:
            out.print(f"  [red]{escape(fault)}[/]", highlight=False, soft_wrap=True)
        places = Table("place", "newest hour", "age", "24 h", "7 d", title="Observed weather")
        for place in told.places:
            newest = format_hour(place.newest_hour_utc) if place.newest_hour_utc else "–"
            places.add_row(
                place.location_id, newest, _span(place.age), f"{place.day_share:.0%}", f"{place.week_share:.0%}"
            )
        out.print(places)
        if told.alerts:
            alerts = Table("severity", "what", "place", "since", "times", "text", title="Problems that last")
            for alert in told.alerts:
                since = f"{alert.opened_at:%m-%d %H:%M}"
                row = (alert.severity, escape(alert.source), alert.subject, since, f"{alert.times:,}")
                alerts.add_row(*row, escape(alert.text))
            out.print(alerts)
        for line in outlook(told.spent, now):
            out.print(
                f"Calls of {line.provider}, {line.product}, a {line.window}: {line.spent:,.10g} of {line.limit:,.10g}",
                highlight=False,
            )
        runs = Table("run", "job", "status", "began", "seconds", title="Last runs")
        for run in told.runs:
            began = f"{run.started_at:%m-%d %H:%M}" if run.started_at else "–"
            runs.add_row(run.run_id[:8], run.job, run.status, began, f"{run.seconds:.0f}" if run.seconds else "–")
        if told.runs:
            out.print(runs)
        daemon = "running" if told.is_daemon_up else f"not running, so nothing is fetched by itself; {daemon_remedy()}"
        out.print(f"Dagster's daemon: {daemon}", highlight=False, soft_wrap=True)
    if told.faults:
        raise typer.Exit(1)


def metrics(
    textfile: Annotated[Path | None, typer.Option(help="Write this file once, for node_exporter's collector.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Serve /metrics on this port.")] = None,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
) -> None:
    """Tell Prometheus calls, budget, rows, quarantine, ages, runs and alerts; without an option on the screen."""
    from prometheus_client import generate_latest, start_http_server

    from weather_dagster.automation.instance import recorded_instance
    from weather_dagster.metrics import registry, write_textfile

    if textfile and port:
        raise ConfigurationError("--textfile and --port exclude each other; give one of them")
    settings = Settings.load()
    with recorded_instance(settings) as instance:
        figures = registry(settings, instance)
        if textfile:
            write_textfile(textfile, figures)
        elif port:
            try:
                _, thread = start_http_server(port, host, figures)
            except OSError as error:
                raise ConfigurationError(
                    f"cannot listen on {host}:{port}: {error.strerror}; let --port name another"
                ) from None
            out.print(f"Serving on http://{host}:{port}/metrics; stop with Ctrl-C", highlight=False)
            thread.join()
        else:
            typer.echo(generate_latest(figures).decode(), nl=False)


def _span(age: timedelta | None) -> str:
    if age is None:
        return "–"
    hours, seconds = divmod(int(age.total_seconds()), 3600)
    return f"{hours} h {seconds // 60:02} min"


def _plain(value: object) -> object:
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
