"""The GitHub workflows, without GitHub: each guard passes on them, and fails on a planted fault."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from weather_dagster.hours import HOUR, floor_hour, utc_now
from weather_dagster.partitions import partition_key
from weather_dagster_tests.conftest import BIN, free_port
from weather_dagster_tests.deployment import workflow_guards as guards
from weather_dagster_tests.deployment.guards import OWN_IMAGES, images
from weather_dagster_tests.deployment.project import ROOT, setup
from weather_dagster_tests.deployment.rendering import STACKS, stack
from weather_dagster_tests.deployment.runner import Runner

WORKFLOWS = guards.workflows()
DEPENDABOT = guards.DEPENDABOT.read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
VERSION = setup()["version"]
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
    "release": lambda texts, _: guards.release_findings(texts),
    "suite": lambda texts, _: guards.suite_findings(texts),
    "filter": lambda texts, _: guards.filter_findings(texts["kind.yml"], DOCKERFILE),
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
    "no such option": ("calls", "tests.yml", "weather demo --days", "weather demo --hours", "No such option"),
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
    "no such stage": ("calls", "release.yml", "[code-location, ingestor", "[loader, ingestor", "no image loader"),
    "a release that is not run": (
        "release",
        "release.yml",
        ".github/scripts/check_image.sh",
        "echo",
        "no check_image.sh before the tag",
    ),
    "a release that is not scanned": (
        "release",
        "release.yml",
        "anchore/scan-action",
        "anchore/sbom-action",
        "no anchore/scan-action before the tag",
    ),
    "a tag too early": ("release", "release.yml", "          sbom: true", "          tags: a", "pushes with a tag"),
    "a release without tests": (
        "release",
        "release.yml",
        "[check, tests, kind]",
        "[check, kind]",
        "no tests.yml before the images",
    ),
    "a workflow that is not there": ("pins", "release.yml", "workflows/kind.yml", "workflows/k.yml", "k.yml # zizmor"),
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
    "tests without a browser": ("suite", "tests.yml", "playwright install", "playwright help", "test: has no browser"),
    "tests without Terraform": (
        "suite",
        "resolve.yml",
        "          terraform_wrapper: false\n",
        "",
        "resolve.yml fresh: has no Terraform",
    ),
    "pods without root": (
        "suite",
        "resolve.yml",
        "PYTEST_ADDOPTS: --ignore=weather_dagster_tests/deployment/test_pods.py",
        "PYTEST_ADDOPTS: -v",
        "fresh: runs the pods without root",
    ),
    "pods that nobody runs": ("suite", "tests.yml", "sudo env CI=true", "sudo", "test: does not run the pods"),
    "a file whose change installs nothing": (
        "filter",
        "kind.yml",
        "      - workspace.yaml\n",
        "",
        "a change of workspace.yaml installs nothing",
    ),
    "a folder whose change installs nothing": (
        "filter",
        "kind.yml",
        "      - weather_dbt/**\n",
        "",
        "a change of weather_dbt installs nothing",
    ),
    "a script whose change installs nothing": (
        "filter",
        "kind.yml",
        "      - .github/scripts/backfill.py\n",
        "",
        "a change of .github/scripts/backfill.py installs nothing",
    ),
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


def test_a_lock_that_is_missing_or_stale_is_told(tmp_path: Path) -> None:
    steps = yaml.safe_load(WORKFLOWS["tests.yml"])["jobs"]["terraform"]["steps"]
    (script,) = (step["run"] for step in steps if "lock" in step.get("name", ""))

    def told() -> str:
        return subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    lock = tmp_path / ".terraform.lock.hcl"
    git(tmp_path, "init")
    # As `terraform init` leaves it where none was committed.
    lock.write_text("version = 1")
    assert told().startswith("::warning::.terraform.lock.hcl is missing or stale")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "Lock")
    assert told() == ""
    lock.write_text("version = 2")
    assert "stale" in told()


def test_a_folder_that_dependabot_does_not_find_is_found() -> None:
    found = guards.path_findings(WORKFLOWS, DEPENDABOT.replace("/terraform/platform", "/terraform/form"))
    assert found == ["dependabot.yml: terraform/form is not there"]


@pytest.mark.parametrize(
    ("sound", "planted", "finding"),
    [
        ("", "", []),
        (
            '"/helm-values/manifests/*"',
            '"/helm-values/manifests/[!p]*"',
            ["/helm-values/manifests/production: Dependabot passes over quay.io/oauth2-proxy/oauth2-proxy"],
        ),
        ('"weather-*"', '"weather-ingestor"', ["weather-code-location: Dependabot looks for it in a registry"]),
        (
            '"weather-*"',
            '"*/postgres"\n      - dependency-name: "weather-*"',
            [
                f"/helm-values/manifests/{folder}: Dependabot passes over docker.io/library/postgres"
                for folder in ("backup", "jobs", "kind")
            ],
        ),
    ],
)
def test_dependabot_keeps_up_the_images_of_others(sound: str, planted: str, finding: list[str]) -> None:
    assert sound in DEPENDABOT
    assert guards.update_findings(DEPENDABOT.replace(sound, planted) if sound else DEPENDABOT) == finding


@pytest.mark.parametrize("script", sorted(guards.SCRIPTS.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_finds_nothing_in_a_script_and_a_planted_fault(script: Path) -> None:
    def lint(text: str) -> str:
        return subprocess.run([BIN / "shellcheck", "-"], input=text, capture_output=True, text=True).stdout

    text = script.read_text()
    assert lint(text) == ""
    assert "SC2086" in lint(text + "\nrm -r $1\n")


def test_the_script_of_a_backfill_says_where_nobody_answers() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, guards.SCRIPTS / "backfill.py", url, "2026-01-01-00:00"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{url} does not answer: ")


@pytest.mark.skipif(sys.platform != "linux", reason="the workflow's runner is one of Linux, whose date counts hours")
def test_the_cluster_of_kind_is_asked_for_two_hours_that_are_over(tmp_path: Path) -> None:
    steps = yaml.safe_load(WORKFLOWS["kind.yml"])["jobs"]["install"]["steps"]
    (script,) = (step["run"] for step in steps if "backfill" in step.get("name", ""))
    line = script[script.index("python3 ") :]
    (tmp_path / "python3").write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "python3").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-ec", line], env={"PATH": path}, capture_output=True, text=True, check=True)
    now = floor_hour(utc_now())
    told = done.stdout.splitlines()
    assert told[:2] == [".github/scripts/backfill.py", "http://127.0.0.1:3000"]
    # Begun before the hour was over.
    assert told[2:] in [[partition_key(hour - ago * HOUR) for ago in (3, 2)] for hour in (now, now - HOUR)]


needs_a_runner = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "git", "make"))), reason="bash, git and make are not all on the PATH"
)


def git(folder: Path, *arguments: str) -> None:
    """Let git do something, as somebody."""
    person = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", *person, *arguments], cwd=folder, check=True, capture_output=True)


def repository(folder: Path, *sources: str) -> Path:
    """A repository with one commit: these files and folders of the project, as they are here."""
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "target", "logs", ".user.yml")
            shutil.copytree(path, folder / source, ignore=ignored)
        else:
            (folder / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / source)
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--message=first")
    return folder


PLATFORM = (
    *("Makefile", "constraints.txt", "requirements-ingest.txt", "setup.py"),
    *("dagster.yaml", "workspace.yaml", "weather_dagster", "weather_dbt"),
)


@needs_a_runner
def test_a_release_is_named_in_lower_case_whoever_makes_it(tmp_path: Path) -> None:
    told = {"matrix.target": "ingestor", "needs.check.outputs.version": VERSION}
    job = Runner(WORKFLOWS["release.yml"], "image", tmp_path, **told)
    job.run("Name of the image", GITHUB_REPOSITORY_OWNER="Acme-Weather")
    assert job.known("steps.image.outputs.name") == "ghcr.io/acme-weather/weather-ingestor"


@needs_a_runner
@pytest.mark.parametrize(
    ("tag", "branch", "finding"),
    [
        (f"v{VERSION}", "main", ""),
        ("v9.9.9", "main", f"the tag is v9.9.9, setup.py has {VERSION}"),
        (f"v{VERSION}", "aside", "is not on main; merge it, then tag the merge"),
    ],
)
def test_a_release_is_of_a_commit_of_main_with_its_version(tag: str, branch: str, finding: str, tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", "Makefile", "setup.py")
    git(origin, "switch", "--create=aside")
    git(origin, "commit", "--allow-empty", "--message=second")
    git(origin, "tag", tag, branch)
    # As actions/checkout does with the whole history.
    workspace = tmp_path / "workspace"
    git(tmp_path, "init", str(workspace))
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    git(workspace, "fetch", origin.as_uri(), *everything)
    git(workspace, "checkout", f"refs/tags/{tag}")

    job = Runner(WORKFLOWS["release.yml"], "check", workspace)
    done = job.run("The tag names the version of a commit of main", GITHUB_REF_NAME=tag)
    assert finding in done.stderr
    assert (done.returncode == 0) == (finding == "")
    if not finding:
        assert job.output("version") == VERSION


@pytest.mark.integration
@needs_a_runner
def test_every_image_of_others_is_scanned_and_a_new_one_without_a_word(tmp_path: Path) -> None:
    def scanned() -> set[str]:
        job = Runner(WORKFLOWS["scan.yml"], "list", workspace)
        done = job.run("Images of others that the stacks name")
        assert done.returncode == 0, done.stdout + done.stderr
        return set(json.loads(job.output("images")))

    workspace = repository(tmp_path / "workspace", *PLATFORM, "weather_dagster_tests", "helm-values")
    Runner(WORKFLOWS["scan.yml"], "list", workspace).installed("")
    every = {image for name in STACKS for image in images(stack(name))}
    ours = {image for image in every if image.startswith("weather-")}
    assert scanned() == every - ours
    assert {image.partition(":")[0] for image in ours} == set(OWN_IMAGES)

    postgres = workspace / "helm-values/manifests/kind/postgres.yaml"
    postgres.write_text(postgres.read_text().replace("library/postgres:18.4", "someone/postgres:1.0"))
    assert "docker.io/someone/postgres:1.0" in scanned()


MODEL = "weather_dbt/models/gold/hourly_weather.sql"


def built(checkout: Path) -> set[str]:
    """The models that dbt has just built."""
    results = json.loads((checkout / "weather_dbt/target/duckdb/run_results.json").read_text())["results"]
    models = [result["unique_id"].split(".") for result in results if result["status"] == "success"]
    return {name for kind, _, name, *_ in models if kind == "model"}


@pytest.mark.integration
@needs_a_runner
def test_a_pull_request_builds_the_model_that_it_modifies_and_those_below(tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", *PLATFORM)
    git(origin, "switch", "--create=pull")
    (origin / MODEL).write_text((origin / MODEL).read_text() + "\n-- modified\n")
    git(origin, "commit", "--all", "--message=second")
    git(origin, "switch", "main")
    git(origin, "merge", "--no-ff", "pull")
    workspace = tmp_path / "workspace"
    git(tmp_path, "clone", "--depth=2", origin.as_uri(), str(workspace / "change"))

    *steps, last = ("Base", "Data and manifest of the base", "Build what is modified; what is not comes from the base")
    # All that the step does, for a day.
    text = WORKFLOWS["dbt.yml"].replace("demo --days 3", "demo --days 1")
    assert text != WORKFLOWS["dbt.yml"]
    job = Runner(text, "slim-build", workspace)
    assert job.run("Base").returncode == 0
    job.installed("base", "change")
    done = job.run(*steps[1:], last)
    assert done.returncode == 0, done.stdout + done.stderr
    assert built(workspace / "change") == {"hourly_weather", "daily_weather", "latest_conditions"}

    git(workspace / "change", "checkout", "HEAD^1", "--", MODEL)
    done = job.run(last)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing to do" in done.stdout

    assert "/target/duckdb" in text
    done = Runner(text.replace("/target/duckdb", "/target"), "slim-build", workspace).run(last)
    assert done.returncode != 0
    assert "no comparison manifest" in done.stdout
