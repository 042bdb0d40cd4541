"""docs/operations.md names what there is, and all of what a person may meet."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from weather_dagster.automation.jobs import DATA_JOBS
from weather_dagster.automation.watch import ON_BY_DEFAULT
from weather_dagster.checks.bronze import CHECKS
from weather_dagster.checks.definitions import SILVER_CHECKS
from weather_dagster.checks.freshness import FRESHNESS
from weather_dagster.cli import app
from weather_dagster_tests.deployment.conftest import BINARIES, PASSWORDS, Postgres
from weather_dagster_tests.deployment.guards import declared_secrets, quota_findings, schema_findings, typo_findings
from weather_dagster_tests.deployment.rendering import (
    PROJECT,
    has_own_server,
    manifests,
    merge,
    name_of,
    own_values,
    pods,
    stack,
    undated,
)
from weather_dagster_tests.deployment.test_helm_values import USAGE_ERRORS, parse
from weather_dagster_tests.deployment.test_terraform import MODULES, Findings, read

DOCUMENT = PROJECT / "docs" / "operations.md"
PAGES = sorted(
    page.relative_to(PROJECT).as_posix()
    for pattern in ("*.md", "docs/*.md", "terraform/*.md", "benchmarks/*.md")
    for page in PROJECT.glob(pattern)
)
READERS_OWN = {
    *(f"terraform/platform/{name}.yaml" for name in ("mine", "places")),
    *(f"terraform/{module}/{name}" for module in MODULES for name in ("settings.auto.tfvars", "terraform.tfstate")),
}
"""Files that who follows the pages, or Terraform, writes."""
ALERTS = {
    *CHECKS,
    *SILVER_CHECKS,
    *(name for checks in FRESHNESS.values() for name in checks),
    *(f"automation {name}" for name in ON_BY_DEFAULT),
    *(f"run {job}" for job in (*DATA_JOBS, "retention")),
    "usual_row_counts",
    "providers_agree",
    "budget PROVIDER",
    "healing",
    "look at data",
    "look at alert targets",
}


def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def left_out(document: str) -> Findings:
    """Alerts and Secrets that the document says nothing of."""
    _, _, rotation = document.partition("## Rotate a Secret")
    _, _, alerts = document.partition("## What each alert means")
    return [
        *(
            f"Secret {name}"
            for name in map(undated, declared_secrets())
            if f"`{name}`" not in rotation.partition("\n## ")[0]
        ),
        *(f"alert {name}" for name in sorted(ALERTS) if not re.search(rf"{name}\b", alerts)),
    ]


def unknown(document: str) -> Findings:
    """Objects, commands, variables and files in the document that there are not."""
    objects = {
        f"{thing['kind'].lower()}/{name_of(thing).rstrip('-')}"
        for name in ("kind", "production")
        for thing in [*stack(name), *manifests("ingestor")]
    }
    named = set(re.findall(r"(?<![/\w])((?:deployment|statefulset|cronjob|service|cluster)/[\w-]+)", document))
    told = re.findall(r"(?:get|patch|describe) (cluster|cronjob|resourcequota) ([\w-]+)", document)
    named |= {f"{kind}/{name}" for kind, name in told}
    # The Service is one that CloudNativePG makes.
    findings = sorted(named - objects - {"service/weather-postgres-rw"})
    group = typer.main.get_command(app)
    commands = getattr(group, "commands", {})
    for command, below in re.findall(r"on_cluster weather ([a-z]+)(?: ([a-z]+))?", document):
        if command not in commands or (below and below not in getattr(commands[command], "commands", {below})):
            findings.append(f"weather {command} {below}")
    findings += [line for line in command_lines(document) if not is_command(line)]
    variables = {*read("platform")["variable"], *read("cluster")["variable"]}
    used = re.findall(r"TF_VAR_(\w+)", document) + re.findall(r"(\w+_revision)\b", document)
    used += re.findall(r"['`](\w+) = [\"\[]", document)
    findings += [f"variable {name}" for name in sorted(set(used) - variables)]
    findings += unknown_ways(document)
    paths = set(re.findall(r"(?<![/.\w-])((?:helm-values|terraform|weather_dagster)/[\w./-]*\w)", document))
    # Who has a managed Postgres has taken the file of ours away.
    gone = set() if has_own_server(stack("production")) else {"helm-values/manifests/production/postgres.yaml"}
    return findings + [name for name in sorted(paths - READERS_OWN - gone) if not (PROJECT / name).exists()]


def unknown_ways(document: str) -> Findings:
    """Labels that no pod or Job has, and ports that no Service has."""
    objects = [thing for name in ("kind", "production") for thing in [*stack(name), *manifests("ingestor")]]
    labels = [template["metadata"].get("labels", {}) for _, template in pods(objects)]
    # Of the Jobs that Dagster's launcher makes.
    labels.append({"app.kubernetes.io/component": "run_worker"})
    asked = [part.split("=") for part in re.findall(r"--selector ([\w./-]+=[\w-]+)", document)]
    for key, values in re.findall(r"--selector '([\w./-]+) in \(([^)]+)\)'", document):
        asked += [[key, value.strip()] for value in values.split(",")]
    findings = [f"label {key}={value}" for key, value in asked if all(one.get(key) != value for one in labels)]
    ports = {
        (name_of(thing), port["port"])
        for thing in objects
        if thing["kind"] == "Service"
        for port in thing["spec"]["ports"]
    }
    forwards = re.findall(r"port-forward service/([\w-]+) (?:\d+:)?(\d+)", document)
    return findings + [
        f"service {name} has no port {port}"
        for name, port in forwards
        if (name, int(port)) not in {*ports, ("weather-postgres-rw", 5432)}
    ]


def command_lines(document: str) -> list[str]:
    """The `weather` command lines, with a value for each placeholder."""
    lines = re.findall(r'(?:^ *|`|&& |" |on_cluster )(weather [a-z][^`\n|&;]*)', document, re.MULTILINE)
    return [line.strip().replace("HOUR", "2026-01-01T00:00") for line in lines]


def is_command(line: str) -> bool:
    """Whether `weather` knows command, options and choices; nothing is run."""
    try:
        parse(shlex.split(line))
    except USAGE_ERRORS:
        return False
    return True


def once_only(document: str) -> Findings:
    """Commands that go wrong when they are given again, or beside what is there."""
    return [
        *(
            f"kubectl create job {name}"
            for name in re.findall(r"kubectl create job ([\w-]+)(?=\s)", document)
            if f"kubectl delete job {name}\n" not in document
        ),
        *re.findall(r"metadata: \{name: \"[\w-]+\"\}", document),
    ]


def test_what_is_made_has_a_name_of_its_own_each_time() -> None:
    assert once_only(text()) == []
    assert once_only("kubectl create job before --from=cronjob/weather-backup") == ["kubectl create job before"]
    assert once_only("jq '{metadata: {name: \"restored\"}}'") == ['metadata: {name: "restored"}']


def scale_out_findings(document: str) -> Findings:
    """What is wrong with the own values that the document shows: as values of the chart, and for the namespace."""
    (told,) = re.findall(r"mine\.yaml <<'YAML'\n(.*?)\nYAML\n", document, re.DOTALL)
    own = yaml.safe_load(told)
    values = merge(own_values("production"), own)
    runs = values["concurrency"]["runs"]["maxConcurrentRuns"]
    return [*schema_findings(values), *typo_findings(values), *quota_findings(stack("production", own), runs)]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("", "", None),
        ("maxConcurrentRuns: 16", "maxConcurrentRuns: 32", "limits.cpu: "),
        ("replicaCount: 3", "replicaCount: 30", "pods: "),
        ("replicaCount: 3", "replicas: 3", "'replicas' was unexpected"),
        ("dagsterWebserver:", "dagsterWebServer:", "dagsterWebServer: no such key"),
    ],
)
def test_the_namespace_has_room_for_what_is_scaled_out(before: str, after: str, finding: str | None) -> None:
    assert before in text()
    found = scale_out_findings(text().replace(before, after) if before else text())
    assert (found == []) if finding is None else any(finding in line for line in found), found


def test_every_alert_and_every_secret_has_its_place() -> None:
    assert left_out(text()) == []


def test_what_is_named_exists() -> None:
    assert unknown(text()) == []


@pytest.mark.parametrize("page", ["docs/deployment.md", "terraform/README.md"])
def test_what_the_pages_on_installing_name_exists(page: str) -> None:
    told = (PROJECT / page).read_text(encoding="utf-8")
    assert unknown(told) == []
    assert "helm-values/manifests/snowflake" in unknown(told.replace("manifests/databricks", "manifests/snowflake"))


def broken_links(page: str, told: str) -> Findings:
    """Files and headings that a page links to and that there are not."""
    findings = []
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", told):
        name, _, anchor = link.partition("#")
        target = (PROJECT / page).parent / name if name else PROJECT / page
        text = told if not name else target.read_text(encoding="utf-8") if anchor and target.is_file() else ""
        # As GitHub makes them.
        headings = {
            re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")
            for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        if not target.exists() or (anchor and anchor not in headings):
            findings.append(link)
    return findings


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_the_pages_leads_somewhere(page: str) -> None:
    told = (PROJECT / page).read_text(encoding="utf-8")
    assert broken_links(page, told) == []
    planted = f"{told}\n[gone](#no-such-heading) [gone](no-such-file.md)"
    assert broken_links(page, planted) == ["#no-such-heading", "no-such-file.md"]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("`weather-archive`", "`the archive`", "Secret weather-archive"),
        ("schema_drift", "drift", "alert schema_drift"),
        ("`run hourly_weather`", "`a run`", "alert run hourly_weather"),
    ],
)
def test_what_is_left_out_is_found(before: str, after: str, finding: str) -> None:
    assert finding in left_out(text().replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("deployment/weather-viewers", "deployment/viewers", "deployment/viewers"),
        ("weather doctor", "weather physician", "weather physician "),
        ("weather alerts test", "weather alerts try", "weather alerts try"),
        (
            "--from duckdb --to postgres",
            "--from duckdb --to oracle",
            "weather warehouse copy --from duckdb --to oracle",
        ),
        ("weather backup", "weather backup --now", "weather backup --now"),
        ("passwords_revision", "password_revision", "variable password_revision"),
        ('`warehouse = "databricks"`', '`store = "databricks"`', "variable store"),
        ("'name = \"drill\"'", "'named = \"drill\"'", "variable named"),
        ("jobs/restore.yaml", "jobs/bring-back.yaml", "helm-values/manifests/jobs/bring-back.yaml"),
        ("cronjob/weather-backup", "cronjob/backup", "cronjob/backup"),
        ("component=dagster-daemon", "component=daemon", "label component=daemon"),
        ("user-deployments)", "code-server)", "label component=code-server"),
        (
            "service/weather-postgres 5432:5432",
            "service/weather-postgres 5432:80",
            "service weather-postgres has no port 80",
        ),
    ],
)
def test_what_does_not_exist_is_found(before: str, after: str, finding: str) -> None:
    assert before in text()
    assert finding in unknown(text().replace(before, after))


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh on the PATH")
def test_the_rotation_gives_every_role_its_new_password_and_takes_the_old_one(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (told,) = re.findall(r"sh -s <<'SCRIPT'\n(.*?)   SCRIPT\n", text(), re.DOTALL)
    before = dict(PASSWORDS)

    def rotate(suffix: str) -> subprocess.CompletedProcess[str]:
        # In the pod the server trusts its own socket.
        administrator = PASSWORDS["postgres"]
        for user, password in before.items():
            monkeypatch.setitem(PASSWORDS, user, password + suffix)
        return postgres.run(
            told,
            tmp_path,
            OWNER_URL=postgres.url("weather_owner"),
            WRITER_URL=postgres.url("weather_writer"),
            READER_URL=postgres.url("weather_reader"),
            DAGSTER_PASSWORD=PASSWORDS["dagster"],
            POSTGRES_PASSWORD=PASSWORDS["postgres"],
            PGPASSWORD=administrator,
        )

    def urls() -> dict[str, str]:
        return {user: postgres.url(user, "dagster" if user == "dagster" else "weather") for user in before}

    old = urls()
    try:
        done = rotate("New")
        assert done.returncode == 0, done.stderr
        assert [user for user, url in urls().items() if not signs_in(url)] == []
        assert [user for user, url in old.items() if signs_in(url)] == []
    finally:
        assert rotate("").returncode == 0
    assert [user for user, url in old.items() if not signs_in(url)] == []


def signs_in(url: str) -> bool:
    line = [BINARIES / "psql", "--command", "select 1", url]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "asked", ["sslmode=disable", "sslmode=verify-full&sslrootcert=/var/run/secrets/postgres/ca.crt"]
)
@pytest.mark.skipif(not shutil.which("sed"), reason="there is no sed on the PATH")
def test_a_url_of_a_secret_is_led_through_the_port_forward(asked: str) -> None:
    ways = re.findall(r"^ *url\(\) .* \| sed (['\"])(.*)\1; \}$", text(), re.MULTILINE)
    url = f"postgresql://postgres:secret@weather-postgres-rw:5432/weather?{asked}"
    led = []
    for _, expression in ways:
        line = ["sed", expression.replace("$2", "5433")]
        led.append(subprocess.run(line, input=url, capture_output=True, text=True, check=True).stdout.strip())
    # The name in the server's certificate is not that of the port-forward.
    assert led == [f"postgresql://postgres:secret@127.0.0.1:{port}/weather" for port in (5432, 5433)]
