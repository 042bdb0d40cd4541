"""The GitHub workflows, without GitHub: each guard passes on them, and fails on a planted fault."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from weather_dagster_tests.conftest import BIN
from weather_dagster_tests.deployment import workflow_guards as guards
from weather_dagster_tests.deployment.project import ROOT

WORKFLOWS = guards.workflows()
DEPENDABOT = guards.DEPENDABOT.read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
VALUES = (ROOT / "helm-values/dagster.yaml").read_text()
VARIABLES = (ROOT / "terraform/platform/variables.tf").read_text()

Guard = Callable[[guards.Texts, Path], list[str]]

GUARDS: dict[str, Guard] = {
    "actionlint": guards.actionlint_findings,
    "zizmor": guards.zizmor_findings,
    "pins": lambda texts, _: guards.pin_findings(texts),
    "rights": lambda texts, _: guards.right_findings(texts),
    "paths": lambda texts, _: guards.path_findings(texts, DEPENDABOT),
    "calls": lambda texts, _: guards.call_findings(texts, MAKEFILE),
    "coverage": lambda texts, _: guards.coverage_findings(texts),
    "versions": lambda texts, _: guards.version_findings(texts),
    "cluster": lambda texts, _: guards.cluster_findings(texts["kind.yml"], VALUES, VARIABLES),
}
CHECKOUT = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
FAULTS = {
    "an unknown runner": ("actionlint", "tests.yml", "ubuntu-24.04", "ubuntu-17.10", "ubuntu-17.10"),
    "an unknown output": (
        "actionlint",
        "release.yml",
        "steps.push.outputs.digest",
        "steps.pull.outputs.digest",
        '"pull"',
    ),
    "a shell fault": ("actionlint", "kind.yml", "bash -c 'until", "cd $X; bash -c 'until", "SC2086"),
    "a template in a script": (
        "zizmor",
        "release.yml",
        "files/* --repo",
        "${{ github.ref_name }} --repo",
        "template-injection",
    ),
    "a token that stays": ("zizmor", "images.yml", "persist-credentials: false", "fetch-depth: 1", "artipacked"),
    "all rights": ("zizmor", "dbt.yml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
    "a tag": ("pins", "tests.yml", CHECKOUT, "actions/checkout@v6", "actions/checkout@v6 is not"),
    "a short commit": ("pins", "tests.yml", CHECKOUT, "actions/checkout@de0fac2 # v6.0.2", "de0fac2 # v6.0.2 is not"),
    "a commit without its version": ("pins", "kind.yml", " # v6.0.2", "", "is not action@40 digits"),
    "one action at two commits": ("pins", "kind.yml", "@de0fac2e", "@00000000", "actions/checkout: at 2 commits"),
    "rights by default": ("rights", "kind.yml", "permissions: {}\n", "", "kind.yml: does not begin with"),
    "a job that writes": (
        "rights",
        "tests.yml",
        "contents: read",
        "contents: write",
        "tests.yml lint: may write contents",
    ),
    "a release that writes more": (
        "rights",
        "release.yml",
        "id-token:",
        "actions: write\n      id-token:",
        "image: may write actions",
    ),
    "a token left behind": (
        "rights",
        "dbt.yml",
        "persist-credentials: false",
        "fetch-depth: 1",
        "slim-build: leaves the token",
    ),
    "a job without end": ("rights", "images.yml", "    timeout-minutes: 45\n", "", "images.yml build: has no timeout"),
    "a stranger's code": (
        "rights",
        "dbt.yml",
        "pull_request:",
        "pull_request_target:",
        "pull_request_target is not a trigger",
    ),
    "another secret": ("rights", "release.yml", "secrets.GITHUB_TOKEN", "secrets.PAT", "reads the secret PAT"),
    "a script that is not there": (
        "paths",
        "kind.yml",
        "scripts/backfill.py http",
        "scripts/fill.py http",
        "fill.py is not there",
    ),
    "a filter on nothing": ("paths", "kind.yml", "weather_dbt/**", "weather_dbd/**", "weather_dbd/** is not there"),
    "tests that are not there": (
        "paths",
        "tests.yml",
        "weather_dagster_tests/deployment",
        "weather_dagster_tests/deploy",
        "deploy is",
    ),
    "no such target": ("calls", "tests.yml", "make lint", "make lynt", "make knows no target lynt"),
    "no such command": ("calls", "tests.yml", "weather status", "weather state", "No such command 'state'"),
    "no such option": ("calls", "images.yml", "weather ingest --from", "weather ingest --since", "No such option"),
    "no such image": (
        "calls",
        "images.yml",
        "weather-ingestor:$VERSION",
        "weather-loader:$VERSION",
        "no image weather-loader",
    ),
    "no such image to scan": (
        "calls",
        "images.yml",
        "image: weather-ingestor",
        "image: weather-loader",
        "no image weather-loader",
    ),
    "no such stage": ("calls", "release.yml", "[code-location, ingestor, superset]", "[loader]", "no image loader"),
    "another image's program": (
        "calls",
        "images.yml",
        "superset db upgrade",
        "weather status",
        "superset: weather is not a command",
    ),
    "an image that nobody runs": (
        "coverage",
        "images.yml",
        'superset:$VERSION"',
        'ingestor:$VERSION"',
        "runs the image",
    ),
    "an image that nobody scans": ("coverage", "images.yml", "image: weather-superset", "image: a", "scans the image"),
    "an image that nobody releases": (
        "coverage",
        "release.yml",
        ", superset]",
        "]",
        "nobody releases the image superset",
    ),
    "no such build argument": ("calls", "release.yml", "REVISION=", "COMMIT=", "no ARG COMMIT"),
    "a Python of tomorrow": ("versions", "resolve.yml", '"3.11"', '"3.14"', "Python 3.14 is not in"),
    "a Terraform too old": (
        "versions",
        "tests.yml",
        '"1.11.4"',
        '"1.9.0"',
        "Terraform 1.9.0 is not what terraform/ requires",
    ),
    "another namespace": (
        "cluster",
        "kind.yml",
        "--namespace weather",
        "--namespace sunshine",
        "no namespace sunshine",
    ),
    "another Service": ("cluster", "kind.yml", "weather-dagster-webserver", "weather-web", "no service/weather-web"),
    "another port": ("cluster", "kind.yml", "3000:3000", "3000:80", "with port 80"),
    "tests in the middle": ("versions", "tests.yml", '["3.11", "3.13"]', '["3.12"]', "the ends are ['3.11', '3.13']"),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_the_workflows_pass(guard: str, tmp_path: Path) -> None:
    assert GUARDS[guard](WORKFLOWS, tmp_path) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_finds(fault: str, tmp_path: Path) -> None:
    guard, file, sound, planted, finding = FAULTS[fault]
    assert sound in WORKFLOWS[file]
    found = GUARDS[guard]({**WORKFLOWS, file: WORKFLOWS[file].replace(sound, planted, 1)}, tmp_path)
    assert any(finding in line for line in found), found


def test_a_folder_that_dependabot_does_not_find_is_found() -> None:
    found = guards.path_findings(WORKFLOWS, DEPENDABOT.replace("/terraform/platform", "/terraform/form"))
    assert found == ["dependabot.yml: terraform/form is not there"]


@pytest.mark.parametrize("script", sorted(guards.SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script_and_a_planted_fault(script: Path) -> None:
    def lint(text: str) -> str:
        return subprocess.run([BIN / "shellcheck", "-"], input=text, capture_output=True, text=True).stdout

    text = script.read_text()
    assert lint(text) == ""
    assert "SC2086" in lint(text + "\nrm -r $1\n")
