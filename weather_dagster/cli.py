"""``weather ...``: parses, calls, prints. Dagster is imported by the commands that run it, and by no other."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import typer
from dotenv import load_dotenv
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from weather_dagster import locations_command, logs, status_command
from weather_dagster.alerts_command import alerts
from weather_dagster.environments import environment_of, store_of
from weather_dagster.errors import ConfigurationError, HourNotServed, ProviderError, WarehouseError, WeatherError
from weather_dagster.hours import HOUR, HourRange, floor_hour, parse_hour, require_in_grid, utc_now
from weather_dagster.quarantine_command import quarantine
from weather_dagster.settings import LogFormat, ProviderName, Settings
from weather_dagster.warehouse_command import warehouse

if TYPE_CHECKING:
    from weather_dagster.datasets import Dataset
    from weather_dagster.geocoding import Ask
    from weather_dagster.locations import Location
    from weather_dagster.weather_api.api import WeatherApi

app = typer.Typer(
    help="Weather data platform: fetch, check, refine and show hourly weather.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
simulator = typer.Typer(help="The built-in weather provider.", no_args_is_help=True)
app.add_typer(simulator, name="simulator")


@contextmanager
def connect(settings: Settings) -> Iterator["Ask"]:
    """The way to the geocoder of the configured provider."""
    from weather_dagster.weather_api.api import WeatherApi

    with WeatherApi.from_settings(settings).asking() as ask:
        yield ask


app.add_typer(locations_command.create_app(connect), name="locations")
app.add_typer(quarantine, name="quarantine")
app.add_typer(alerts, name="alerts")
app.add_typer(warehouse, name="warehouse")
app.command()(status_command.status)
app.command()(status_command.metrics)

INTERRUPTED = 130
"""Exit code that Typer gives to Ctrl-C."""

out = Console()
err = Console(stderr=True)

From = Annotated[
    str,
    typer.Option("--from", metavar="HOUR", help="First UTC hour, as 2026-11-24T13:00; of a bare date the first."),
]
To = Annotated[str, typer.Option("--to", metavar="HOUR", help="Last UTC hour, inclusive; of a bare date the last.")]
Place = Annotated[
    list[str] | None,
    typer.Option("--place", metavar="ID", help="Only this place; can be given again."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]


def main() -> None:
    """Entry point of ``weather``: a mistake of the user's ends in one message and exit code 1."""
    # For Dagster, which reads secrets from the environment alone.
    load_dotenv(".env")
    try:
        logs.configure(as_json=os.environ.get("WEATHER_LOG_FORMAT") == LogFormat.JSON)
        app()
    except WeatherError as error:
        err.print("[bold red]Error:[/]", escape(str(error)), highlight=False, soft_wrap=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            err.print("Interrupted. What was landed stays; run the same range again to complete it.")
        raise


@app.command()
def demo(
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days, up to the running hour.")] = 14,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="All of 2013 at three New York airports, as recorded.")
    ] = False,
) -> None:
    """Run everything once on built-in data: no key, no network."""
    os.environ["WEATHER_PROVIDER"] = provider = ProviderName.RECORDED if recorded else ProviderName.SIMULATOR
    settings = Settings.load()
    if recorded:
        hours = read_range("2013-01-01", "2013-12-31")
    else:
        running = floor_hour(utc_now())
        hours = HourRange(running - timedelta(days=days) + HOUR, running)
    run_job(settings, hours)
    print_latest(settings)
    out.print(
        f"\nReport     {settings.report_path}\nWarehouse  {store_of(settings)}\n\n"
        f"Next: open the report in a browser; `WEATHER_PROVIDER={provider} weather dev` shows every asset in the "
        "Dagster UI;\n"
        "set OPENWEATHER_API_KEY in .env to go live (.env.example names all settings).",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def backfill(from_: From, to: To, place: Place = None) -> None:
    """Run the whole way over a range of hours, as one Dagster run."""
    settings = Settings.load()
    run_job(settings, read_range(from_, to), place or ())
    print_latest(settings)


@app.command()
def ingest(from_: From, to: To, place: Place = None) -> None:
    """Land a range of hours in bronze alone, without Dagster; the next dbt run takes it on to gold."""
    from weather_dagster.datasets import DATASETS
    from weather_dagster.ingest import land_range
    from weather_dagster.locations import load_locations, select_locations
    from weather_dagster.weather_api.api import Closed, WeatherApi

    settings = Settings.load()
    store = store_of(settings)
    hours = read_range(from_, to)
    require_in_grid(hours, settings.start_hour)
    api = WeatherApi.from_settings(settings)
    places = select_locations(load_locations(settings.locations_path), place or ())
    run_id = f"ingest-{uuid4()}"
    with logs.bound(run_id=run_id):
        served, failed = plan_served(api, settings, places, hours)
    table = Table("dataset", "hours", "calls", "wasted", "rows received", "rows added", "quarantined")
    landings = []
    closed: Closed = {}
    with progress_bar() as advance:
        for dataset in served:
            landing = land_range(
                api,
                store.open,
                dataset,
                places,
                hours,
                run_id=run_id,
                on_call=partial(advance, dataset.name),
                closed=closed,
            )
            landings.append(landing)
            counts = (len(hours), landing.calls, landing.wasted, landing.rows_received, landing.rows_added)
            table.add_row(dataset.name, *(f"{n:,}" for n in (*counts, landing.quarantined)))
            try:
                landing.require_complete()
            except ProviderError as error:
                # Who refuses everything refuses it once.
                if error not in failed:
                    failed.append(error)
    for dataset in DATASETS.values():
        if not api.offers(dataset):
            table.add_row(dataset.name, "not offered")
    out.print(table)
    for landing in landings:
        if landing.empty:
            told = escape(f"{landing.dataset.name} answered without a row: {landing.empty_answers}")
            out.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)
    some = "what came of " if any(landing.rows_received or landing.resumed for landing in landings) else "nothing of "
    out.print(
        f"{api.provider}: {some if failed else ''}{hours} landed in {store}",
        highlight=False,
        soft_wrap=True,
    )
    raise_all(failed)


@app.command()
def budget(json: Json = False) -> None:
    """Show the calls that are spent and left under the plan, and where the month ends at this pace."""
    from weather_dagster.budget import costs, outlook
    from weather_dagster.weather_api.api import WeatherApi

    api = WeatherApi.from_settings(Settings.load())
    lines = outlook(api.spent(), utc_now())
    charges = costs(api.priced_calls(), utc_now())
    blocks = api.blocks()
    if json:
        told = {
            "limits": [asdict(line) for line in lines],
            "costs": [asdict(charge) for charge in charges],
            "blocked": {name: {"until": block.until, "reason": block.reason} for name, block in blocks.items()},
        }
        out.print_json(data=told, default=str)
        return
    table = Table("provider", "product", "window", "limit", "spent", "left", "by its end", title="Calls, by weight")
    for line in lines:
        table.add_row(
            line.provider,
            line.product,
            line.window,
            f"{line.limit:,.10g}",
            f"{line.spent:,.10g}",
            f"{line.left:,.10g}",
            "–" if line.expected is None else f"{line.expected:,.0f}",
        )
    out.print(table if lines else f"{api.provider} has no limits.")
    for charge in charges:
        by_the_end = "" if charge.expected is None else f", {charge.expected:,.2f} by its end at this pace"
        out.print(
            f"{charge.product} of {charge.provider}: {charge.price}; this month {charge.so_far:,.2f} "
            f"{charge.currency} so far{by_the_end}",
            highlight=False,
            soft_wrap=True,
        )
    for name, block in blocks.items():
        out.print(
            f"[yellow]{name} is not asked before {block.until:%Y-%m-%dT%H:%M:%SZ}[/]: {escape(block.reason)}",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
def report() -> None:
    """Make the HTML report again from what gold holds."""
    from weather_dagster.locations import load_locations
    from weather_dagster.report.page import write_report

    settings = Settings.load()
    watched = [place.id for place in load_locations(settings.locations_path)]
    with store_of(settings).open(read_only=True) as warehouse:
        page = write_report(warehouse, settings.report_path, now=utc_now(), provider=settings.provider, watched=watched)
    out.print(f"Report written to {page}", highlight=False, soft_wrap=True)


@app.command()
def dev(port: Port = 3000, host: Host = "127.0.0.1") -> None:
    """Open the Dagster UI with daemon: `dagster dev` in the home of the configured provider."""
    from weather_dagster.automation.instance import WORKSPACE_FILE, prepare_dagster_home

    settings = Settings.load()
    prepare_dagster_home(settings)
    form = "json" if settings.weather_log_format is LogFormat.JSON else "colored"
    dagster = str(Path(sys.executable).with_name("dagster"))
    arguments = [dagster, "dev", "-w", str(WORKSPACE_FILE), "--log-format", form, "--host", host, "--port", str(port)]
    if sys.platform == "win32":
        import subprocess

        sys.exit(subprocess.call(arguments))  # noqa: S603 - our own arguments
    os.execv(dagster, arguments)  # noqa: S606 - no shell is wanted


@app.command()
def backup(
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="New folder for the copy; default: in WEATHER_HOME.")
    ] = None,
) -> None:
    """Copy warehouse and Dagster state while they are in use; `weather restore` brings them back."""
    from weather_dagster.backup import make_backup

    settings = load_settings_of_files()
    now = utc_now()
    target = (to or settings.weather_home / "backups" / f"{settings.home.name}-{now:%Y%m%dT%H%M%SZ}").absolute()
    with err.status(f"Copying {settings.home}"):
        manifest = make_backup(settings.home, settings.duckdb_path, target, realm=settings.home.name, now=now)
    size = sum(file.bytes for file in manifest.files.values())
    out.print(f"{len(manifest.files)} files, {size / 1e6:,.1f} MB: {target}", highlight=False, soft_wrap=True)


@app.command()
def restore(folder: Annotated[Path, typer.Argument(help="Folder that `weather backup` made.")]) -> None:
    """Put a backup into an empty home; what it lacks is then fetched as after any other pause."""
    from weather_dagster.backup import restore_backup

    settings = load_settings_of_files()
    manifest = restore_backup(folder, settings.home, settings.duckdb_path, realm=settings.home.name)
    out.print(
        f"{len(manifest.files)} files of {manifest.made_at_utc:%Y-%m-%dT%H:%M:%SZ} restored to {settings.home}",
        highlight=False,
        soft_wrap=True,
    )


def load_settings_of_files() -> Settings:
    """The settings, where everything is in files of the home.

    Raises:
        ConfigurationError: it is in databases, which have a backup of their own.
    """
    settings = Settings.load()
    if environment_of(settings).is_shared:
        raise ConfigurationError(
            f"with WEATHER_ENV={settings.weather_env} everything is in databases, of which `pg_dump` and `pg_restore` "
            "make and read backups; docs/operations.md has the steps"
        )
    return settings


@simulator.command()
def serve(
    port: Port = 8010,
    host: Host = "127.0.0.1",
    recorded: Annotated[bool, typer.Option("--recorded", help="Replay the recorded hours of 2013.")] = False,
) -> None:
    """Serve OpenWeather's endpoints; point OPENWEATHER_BASE_URL at it."""
    from weather_dagster.simulator import app as simulated
    from weather_dagster.simulator import recorded as replayed
    from weather_dagster.simulator.server import serve as run_server

    run_server(
        replayed.create_app() if recorded else simulated.create_app(),
        host,
        port,
        on_ready=lambda url: out.print(f"Serving on {url}; stop with Ctrl-C", highlight=False),
    )


@app.command()
def doctor(json: Json = False) -> None:
    """Check settings, places, folders, stores, clock and provider, and say what still works."""
    from weather_dagster.doctor import Verdict, examine

    findings = []
    colors = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}
    for finding in examine():
        findings.append(finding)
        if not json:
            cause = f" [bold]{finding.cause}:[/]" if finding.cause else ""
            way_out = f"\n     {escape(finding.way_out)}" if finding.way_out else ""
            out.print(
                f"[{colors[finding.verdict]}]{finding.verdict:4}[/] {escape(finding.check)}:{cause} "
                f"{escape(finding.message)}{way_out}",
                highlight=False,
                soft_wrap=True,
            )
    if json:
        out.print_json(data=[asdict(finding) for finding in findings])
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        raise typer.Exit(1)


def read_range(first: str, last: str) -> HourRange:
    """The range that ``--from`` and ``--to`` name."""
    return HourRange(parse_hour(first, option="--from"), parse_hour(last, option="--to", last_of_day=True))


def run_job(settings: Settings, hours: HourRange, places: Sequence[str] = ()) -> None:
    """Run the job over the range and print what its checks found.

    Raises:
        ConfigurationError: this is a pod of a cluster.
        HourNotServed: naming what could not be served; what could be is landed and refined all the same.
    """
    if environment_of(settings).is_shared and "KUBERNETES_SERVICE_HOST" in os.environ:
        raise ConfigurationError(
            "in a pod, Dagster's run monitoring takes a run that has no Job for a dead one, and fails it; let `weather "
            "ingest` land the hours, which the sensor refresh_waiting_loads takes on to gold, or run them in the UI"
        )
    with err.status("Loading Dagster, dbt and the project"):
        from weather_dagster.automation.instance import prepare_dagster_home
        from weather_dagster.automation.local_run import run_hourly_weather
        from weather_dagster.locations import load_locations, select_locations
        from weather_dagster.weather_api.api import WeatherApi

        require_in_grid(hours, settings.start_hour)
        api = WeatherApi.from_settings(settings)
        prepare_dagster_home(settings)
        from weather_dagster.definitions import defs
    watched = select_locations(load_locations(settings.locations_path), places)
    served, refused = plan_served(api, settings, watched, hours)
    with progress_bar() as advance:
        summary = run_hourly_weather(
            defs, hours, served, places=places, logs=settings.home / "logs", on_progress=advance
        )
    for check in summary.failed_checks:
        told = escape(f"{check.name}: {check.description}")
        out.print(f"[yellow]{check.severity}[/] {told}", highlight=False, soft_wrap=True)
    passed = summary.checks - len(summary.failed_checks)
    out.print(
        f"{api.provider}: {hours} ({len(hours):,} hours) in run {summary.run_id}; "
        f"{passed} of {summary.checks} checks passed",
        highlight=False,
        soft_wrap=True,
    )
    raise_all(refused)


def plan_served(
    api: "WeatherApi", settings: Settings, places: Sequence["Location"], hours: HourRange
) -> tuple[list["Dataset"], list[WeatherError]]:
    """The datasets that can be brought for the whole range, and why the others cannot; says where hours are rerouted.

    Raises:
        HourNotServed: none can.
        BudgetExceeded: together they take more calls than are left.
    """
    from weather_dagster.datasets import DATASETS
    from weather_dagster.ingest import resume

    plans, refused = [], []
    for dataset in filter(api.offers, DATASETS.values()):
        try:
            plans.append(api.plan(dataset, places, hours))
        except HourNotServed as error:
            refused.append(error)
    if not plans:
        raise HourNotServed("\n".join(map(str, refused)))
    with store_of(settings).open() as warehouse:
        plans = [resume(api, warehouse, plan) for plan in plans]
    for need in api.require_budget(plans):
        out.print(escape(str(need)), highlight=False, soft_wrap=True)
    for plan in plans:
        for route in plan.routes:
            if route["rerouted"]:
                out.print(
                    f"{plan.dataset.name} of {route['first_hour']} to {route['last_hour']}: rerouted to "
                    f"{route['provider']} ({route['endpoint']})",
                    highlight=False,
                    soft_wrap=True,
                )
    return [plan.dataset for plan in plans], [*refused]


def raise_all(errors: Sequence[WeatherError]) -> None:
    """Raise what went wrong, all of it, if anything did."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise WeatherError("\n".join(map(str, errors)))


def print_latest(settings: Settings) -> None:
    """Print a short table of the latest conditions of the places that are watched."""
    from weather_dagster.locations import load_locations

    watched = [place.id for place in load_locations(settings.locations_path)]
    try:
        with store_of(settings).open(read_only=True) as warehouse:
            rows = warehouse.query(
                """
                select location_name, local_time, temperature_c, condition_group, wind_speed_ms, wind_compass,
                    precipitation_mm
                from gold.latest_conditions
                where location_id = any($watched::varchar[])
                """,
                {"watched": watched},
            )
    except WarehouseError as error:
        # The run is done and good; another process has taken the file meanwhile.
        err.print("The latest conditions cannot be shown now:", escape(str(error)), highlight=False, soft_wrap=True)
        return
    table = Table("place", "local time", "°C", "sky", "wind m/s", "rain, snow mm", title="Latest conditions")
    for name, local_time, temperature, sky, wind, compass, wet in sorted(rows, key=lambda row: row[0]):
        table.add_row(
            escape(name),
            f"{local_time:%d %b %H:%M}",
            show_number(temperature),
            sky or "–",
            f"{show_number(wind)} {compass or ''}".rstrip(),
            show_number(wet),
        )
    out.print(table)


def show_number(value: float | None) -> str:
    """One decimal, never ``-0.0``; a dash for a missing value."""
    return "–" if value is None else f"{value:z.1f}"


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr; call it with what is done now, how many are done, and how many there are."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Where nobody looks, it would leave an empty line among the log's.
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("Fetching", total=None)

        def advance(what: str, done: int, total: int) -> None:
            progress.update(task, description=what, completed=done, total=total)

        yield advance
