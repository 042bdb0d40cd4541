"""``weather-dbt``: dbt on this project's warehouse, with a ``--version`` that costs nothing.

dagster-dbt asks ``dbt --version`` in every run; dbt answers by importing all adapters and asking the
package index for newer releases, which takes longer than the build itself.
"""

import os
import sys
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

REFINES = {"build", "clone", "retry", "run", "run-operation", "seed", "snapshot", "test"}
CONNECTS = REFINES | {"compile", "debug", "docs", "show", "source"}
DBT_DIR = Path(__file__).parents[1] / "weather_dbt"


def main() -> None:
    """Run dbt with the process's arguments on this project and the settings' warehouse, from any folder."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"Core:\n  - installed: {version('dbt-core')}\n")
        return
    from weather_dagster.environments import dbt_turn, environment_of
    from weather_dagster.errors import WeatherError
    from weather_dagster.settings import Settings

    os.environ.setdefault("DBT_PROJECT_DIR", str(DBT_DIR))
    os.environ.setdefault("DBT_PROFILES_DIR", str(DBT_DIR))
    with ExitStack() as stack:
        try:
            settings = Settings.load()
            environment = environment_of(settings)
            os.environ["WEATHER_DBT_TARGET"] = environment.dbt_target
            os.environ.setdefault("DBT_TARGET_PATH", str(DBT_DIR / "target" / environment.dbt_target))
            if CONNECTS & set(sys.argv[1:]):
                store = environment.store(settings)
                os.environ.update(store.dbt_environment())
                if "DAGSTER_DBT_CLI" not in os.environ:
                    # Waits for a file that is locked, names its holder, and makes bronze where there is none yet.
                    # Under Dagster the asset has done so already.
                    with store.open():
                        pass
            if REFINES & set(sys.argv[1:]):
                stack.enter_context(dbt_turn(settings))
        except WeatherError as error:
            sys.exit(f"weather-dbt: {error}")
        from dbt.cli.main import cli

        cli()
