"""The scripts of a workflow's job, run on this machine as a runner of GitHub runs them.

What is not as there: steps that use an action are left out, and the machine is this one.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from weather_dagster_tests.conftest import without_settings

SHELLS = {None: ("bash", "-e"), "bash": ("bash", "--noprofile", "--norc", "-eo", "pipefail")}
"""What GitHub makes of the key `shell`; a pipe's first command may fail unseen where nothing is said."""


class Runner:
    """Runs the steps of a job; what a step tells by GITHUB_OUTPUT is known to those after it."""

    def __init__(self, workflow: str, job: str, workspace: Path, **context: str) -> None:
        self._job: dict[str, Any] = yaml.safe_load(workflow)["jobs"][job]
        self._workspace = workspace
        self._context = {"github.workspace": str(workspace), **context}
        self._output = workspace / "output"

    def installed(self, *folders: str) -> None:
        """Let ``make .venv/installed`` find it done in these checkouts: with what is installed here."""
        for folder in folders:
            environment = self._workspace / folder / ".venv"
            environment.mkdir()
            for part in ("bin", "lib", "pyvenv.cfg"):
                (environment / part).symlink_to(Path(sys.prefix) / part)
            for stamp in ("installed", "installed-dev"):
                (environment / stamp).touch()

    def run(self, *names: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the scripts of these steps, up to the first that fails, which is returned, or else the last."""
        steps = {step.get("name"): step for step in self._job["steps"]}
        for name in names:
            done = self._run(steps[name], environment)
            if done.returncode:
                break
        return done

    def _run(self, step: Mapping[str, Any], environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        folder = self._workspace / step.get("working-directory", "")
        script = self._workspace / "script.sh"
        script.write_text(self._resolved(step["run"]), encoding="utf-8")
        self._output.write_text("", encoding="utf-8")
        told = {**self._job.get("env", {}), **step.get("env", {})}
        done = subprocess.run(
            [*SHELLS[step.get("shell")], script],
            cwd=folder,
            env={
                **without_settings(),
                "CI": "true",
                # The checkout, and not where the tests' own environment looks.
                "PYTHONPATH": str(folder),
                "GITHUB_OUTPUT": str(self._output),
                "GITHUB_WORKSPACE": str(self._workspace),
                **environment,
                **{name: self._resolved(str(value)) for name, value in told.items()},
            },
            capture_output=True,
            text=True,
        )
        for line in self._output.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            self._context[f"steps.{step['id']}.outputs.{name}"] = value
        return done

    def output(self, name: str) -> str:
        """What the job tells other jobs."""
        return self._resolved(self._job["outputs"][name])

    def known(self, name: str) -> str:
        """What a step told those after it, by the name that an expression gives it."""
        return self._context[name]

    def _resolved(self, text: str) -> str:
        return re.sub(r"\$\{\{ ([\w.-]+) \}\}", lambda found: self._context[found[1]], text)
