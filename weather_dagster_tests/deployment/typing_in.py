"""What the pages tell a person to type, typed into a shell with stand-ins for programs that need a cluster."""

import os
import re
import subprocess
from pathlib import Path
from textwrap import dedent

from weather_dagster_tests.conftest import BIN, without_settings
from weather_dagster_tests.deployment.conftest import BINARIES
from weather_dagster_tests.deployment.rendering import PROJECT

DEPLOYMENT = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")
OPERATIONS = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
TERRAFORM = (PROJECT / "terraform" / "README.md").read_text(encoding="utf-8")


def block(page: str, part: str, language: str = "sh") -> str:
    """The one block of a page in which a text is."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page, re.DOTALL | re.MULTILINE)
    (found,) = [dedent(told) for _, told in blocks if part in told]
    return found


def stand_in(folder: Path, script: str, *names: str) -> None:
    """Programs that do what a script says."""
    for name in names:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)


def type_in(told: str, folder: Path, options: str = "-eu", **variables: str) -> subprocess.CompletedProcess[str]:
    """Type lines into a shell, in which stand-ins come first; by its options the first that fails ends it."""
    environment = {**without_settings(), "PATH": f"{folder}:{BIN}:{BINARIES}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["sh", *options.split()],
        input=told, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
