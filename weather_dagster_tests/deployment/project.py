"""What the project says of itself: setup.py, the Makefile, the command line."""

import re
import runpy
import shlex
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from weather_dagster.cli import app

ROOT = Path(__file__).parents[2]


@cache
def setup() -> dict[str, Any]:
    """What setup.py gives to setuptools, which need not be here."""
    given: dict[str, Any] = {}
    setuptools = ModuleType("setuptools")
    setuptools.__dict__.update(find_packages=lambda **_: [], setup=given.update)
    with patch.dict(sys.modules, setuptools=setuptools):
        runpy.run_path(str(ROOT / "setup.py"))
    return given


def closure(requirements: Iterable[str]) -> set[str]:
    """Normalized names of what installing ``requirements`` brings, as far as it is installed here."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = {name, *(f"{name}[{extra}]" for extra in requirement.extras)}
        if wanted <= found:
            continue
        found |= wanted
        try:
            needed = [Requirement(text) for text in requires(name) or ()]
        except PackageNotFoundError:
            continue
        waiting += [
            one
            for one in needed
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras))
        ]
    return {name for name in found if "[" not in name}


def make_targets(makefile: str) -> set[str]:
    """Names that `make` knows, with variables put in."""
    variables = dict(re.findall(r"^(\w+) := (\S+)$", makefile, re.MULTILINE))
    names = re.findall(r"^([\w$()./-]+):(?!=)", makefile, re.MULTILINE)
    return {re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), name) for name in names}


def command_findings(words: list[str]) -> list[str]:
    """What is wrong with a `weather` command line: an unknown command, option or argument. Nothing is run."""
    asked = CliRunner().invoke(app, [*words[1:], "--help"])
    return [] if asked.exit_code == 0 else [f"{shlex.join(words)}: {asked.output}"]
