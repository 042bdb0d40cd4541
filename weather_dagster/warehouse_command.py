"""``weather warehouse``: its schema, its roles, and the way from one engine to another."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from weather_dagster.environments import postgres_of, store_of
from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import Settings

warehouse = typer.Typer(help="The store itself: schema, roles, moving it.", no_args_is_help=True)
out = Console()
err = Console(stderr=True)


class Engine(StrEnum):
    """Engines that bronze is copied between."""

    DUCKDB = "duckdb"
    POSTGRES = "postgres"


@warehouse.command()
def migrate() -> None:
    """Bring the bronze schema up to date; whatever lands data does so too, if its role may."""
    store = store_of(Settings.load())
    with store.open() as opened:
        ((version,),) = opened.query("select max(version) from bronze.schema_versions")
    out.print(f"{store} has version {version} of the bronze schema", highlight=False, soft_wrap=True)


@warehouse.command()
def roles() -> None:
    """Make the roles owner, writer and reader in Postgres, as an administrator of WEATHER_POSTGRES_URL's database."""
    store = postgres_of(Settings.load())
    with store.open() as opened:
        opened.make_roles()
    out.print(
        f"weather_owner, weather_writer and weather_reader have their rights in {store}. Who has no password yet "
        "cannot log in: set it with `\\password weather_writer` in psql, and so on",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


@warehouse.command()
def copy(
    from_: Annotated[Engine, typer.Option("--from", help="Where bronze is: the file of WEATHER_DUCKDB_PATH.")],
    to: Annotated[Engine, typer.Option("--to", help="Where it goes: the database of WEATHER_POSTGRES_URL.")],
) -> None:
    """Copy bronze to an empty store of another engine and compare both; run it again if it was broken off."""
    if (from_, to) != (Engine.DUCKDB, Engine.POSTGRES):
        raise ConfigurationError(f"bronze is copied --from duckdb --to postgres, not from {from_} to {to}")
    from weather_dagster.warehouse.copying import copy_bronze
    from weather_dagster.warehouse.duckdb import DuckDBStore

    settings = Settings.load()
    source, target = DuckDBStore(settings.duckdb_path), postgres_of(settings)
    columns = (TextColumn("loads"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        source.open(read_only=True) as here,
        target.open() as there,
        Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress,
    ):
        task = progress.add_task("", total=None)
        counts = copy_bronze(here, there, lambda done, all_: progress.update(task, completed=done, total=all_))
    table = Table("table", "rows, the same in both")
    for name, rows in counts.items():
        table.add_row(f"bronze.{name}", f"{rows:,}")
    out.print(table)
    out.print(
        f"{source} is in {target}; `weather-dbt build` with WEATHER_ENV=cluster makes silver and gold of it",
        highlight=False,
        soft_wrap=True,
    )
