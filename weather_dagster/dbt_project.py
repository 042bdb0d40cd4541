"""The dbt project and its manifest, which is parsed when it is missing or older than the project."""

import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

from dagster_dbt import DbtProject

from weather_dagster.dbt_command import DBT_DIR
from weather_dagster.errors import ConfigurationError, WarehouseError


def dbt_executable() -> str:
    """Path of ``weather-dbt``, which stands beside the interpreter, on PATH or not."""
    beside = Path(sys.executable).parent
    found = shutil.which("weather-dbt", path=beside) or shutil.which("weather-dbt")
    if found is None:
        raise ConfigurationError(f"weather-dbt is not in {beside}; install the project with `pip install -e .`")
    return found


def load_dbt_project(target: str) -> DbtProject:
    """The project with a current manifest of a target of its profile; no store is asked.

    Raises:
        WarehouseError: dbt could not parse the project; its own message is in the text.
    """
    project = DbtProject(project_dir=DBT_DIR, profiles_dir=DBT_DIR, target_path=Path("target", target))
    if not _is_current(project.manifest_path):
        parsed = subprocess.run(
            [
                dbt_executable(),
                "parse",
                "--quiet",
                "--target",
                target,
                "--target-path",
                str(project.manifest_path.parent),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if parsed.returncode:
            raise WarehouseError(f"dbt could not parse {DBT_DIR}:\n{parsed.stdout}{parsed.stderr}")
    return project


def _is_current(manifest: Path) -> bool:
    if not manifest.exists():
        return False
    # Folders too: their time tells that a file was taken away.
    sources = chain(
        DBT_DIR.glob("*.yml"), *(DBT_DIR.joinpath(folder).rglob("*") for folder in ("models", "macros", "tests"))
    )
    parsed_at = manifest.stat().st_mtime
    return all(source.stat().st_mtime <= parsed_at for source in sources)
