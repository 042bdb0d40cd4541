"""The values fit Dagster's chart, Dagster takes the instance they make, and versions and names agree everywhere."""

import copy
import os
import re
import shlex
import shutil
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from weather_dagster.cli import app
from weather_dagster.settings import EnvironmentName, Settings
from weather_dagster_tests.deployment.guards import (
    Findings,
    danger_findings,
    instance_findings,
    own_variables,
    repetition_findings,
    schema_findings,
    typo_findings,
)
from weather_dagster_tests.deployment.rendering import (
    CHART,
    MANIFESTS,
    NAMESPACE,
    PROJECT,
    RELEASE,
    STACKS,
    VALUES,
    Object,
    Values,
    containers,
    instance_config,
    merge,
    name_of,
    own_values,
    pods,
    rendered,
    stack,
    with_defaults,
    workspace,
)

# Typer brings its own copy of Click.
USAGE_ERRORS = (click.UsageError, typer.BadParameter.__bases__[0])
OVERLAYS = {name: overlays for name, (overlays, _) in STACKS.items()}


@pytest.fixture(params=OVERLAYS)
def values(request: pytest.FixtureRequest) -> Values:
    return own_values(*OVERLAYS[request.param])


def planted(path: str, value: Any) -> Values:
    """Good values with ``value`` at ``path``; a number in it is a place in a list."""
    values = own_values("kind")
    *above, last = [int(key) if key.isdigit() else key for key in path.split("/")]
    below: Any = values
    for key in above:
        below = below[key]
    below[last] = value
    return values


def test_values_fit_the_schemas_of_the_chart(values: Values) -> None:
    assert schema_findings(values) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dagsterWebserver/replicas", 2),
        ("dagsterDaemon/heartbeatTolerance", "long"),
        ("concurrency/pools/defaultLimit", "many"),
        ("runLauncher/config/k8sRunLauncher/ttl", 60),
        ("dagster-user-deployments/deployments/0/port", "grpc"),
        ("dagster-user-deployments/deployments/0/image/tag", 0.1),
        ("dagster-user-deployments/deployments/0/resources", {"requests": 1}),
    ],
)
def test_a_value_of_the_wrong_kind_is_found(path: str, value: Any) -> None:
    assert schema_findings(planted(path, value))


def test_no_value_has_a_name_that_the_chart_does_not_read(values: Values) -> None:
    assert typo_findings(values) == []


@pytest.mark.parametrize(
    "path",
    ["dagsterDemon", "dagster-user-deployments/deployment", "dagster-user-deployments/deployments/0/volumesMounts"],
)
def test_a_misspelt_name_is_found(path: str) -> None:
    assert not schema_findings(planted(path, {})), "the schema alone would do"
    assert typo_findings(planted(path, {}))


def test_no_value_says_what_the_chart_says_anyway() -> None:
    assert repetition_findings(own_values()) == []
    said = merge(own_values(), {"runLauncher": {"type": "K8sRunLauncher"}})
    assert repetition_findings(said) == ["runLauncher.type: K8sRunLauncher is the default"]


def test_no_dangerous_default_of_the_chart_is_left(values: Values) -> None:
    assert danger_findings(values) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("postgresql/enabled", True),
        ("generatePostgresqlPasswordSecret", True),
        ("redis", {"enabled": True}),
        ("telemetry/enabled", True),
        ("ingress", {"enabled": True}),
        ("global/fullnameOverride", "weather"),
        ("migrate", {"enabled": True}),
        ("dagster-user-deployments/includeInstance", True),
        ("dagster-user-deployments/rbacEnabled", True),
        ("runLauncher/config/k8sRunLauncher/image", {"repository": "x", "tag": "1", "pullPolicy": "Always"}),
        ("dagsterWebserver/service/port", 80),
        ("postgresql/postgresqlScheme", ""),
        ("dagsterDaemon/runMonitoring/enabled", False),
        ("dagsterDaemon/runMonitoring/maxResumeRunAttempts", 1),
        ("dagsterDaemon/runRetries/enabled", False),
        ("dagsterDaemon/runRetries/maxRetries", 0),
        ("retention/enabled", False),
        ("concurrency/enabled", False),
        ("runLauncher/config/k8sRunLauncher/runK8sConfig/jobSpecConfig", {}),
        ("dagsterDaemon/logFormat", "colored"),
        ("dagster-user-deployments/deployments/0/dagsterApiGrpcArgs", ["-m", "weather_dagster.definitions"]),
        ("dagster-user-deployments/deployments/0/env", {"WEATHER_HOME": "/var/lib/weather"}),
        ("dagster-user-deployments/deployments/0/env/3", {"name": "OPENWEATHER_API_KEY", "value": "abc"}),
        ("dagster-user-deployments/deployments/0/env/0", {"name": "HOME", "value": "$(DAGSTER_PG_PASSWORD)"}),
    ],
)
def test_a_dangerous_value_is_found(path: str, value: Any) -> None:
    assert danger_findings(planted(path, value))


def test_dagster_takes_the_instance_that_the_values_make(values: Values) -> None:
    assert instance_findings(instance_config(with_defaults(values))) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run_monitering", {"enabled": True}),
        ("concurrency", {"pools": {"default_limit": "many"}}),
        ("run_monitoring", {"start_timeout_seconds": "soon"}),
        ("run_launcher", {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": {"service_account": "x"}}),
    ],
)
def test_an_instance_that_dagster_refuses_is_found(key: str, value: Any) -> None:
    assert instance_findings({**instance_config(with_defaults(own_values())), key: value})


def json_formatter(name: str) -> Values:
    """A handler as a person would write it for JSON lines."""
    return {
        "formatters": {"json": {"class": name}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    }


@pytest.mark.parametrize(
    ("path", "value", "finding"),
    [
        ("postgresql/postgresqlScheme", "", "run_storage: SQLAlchemy takes psycopg,"),
        ("postgresql/postgresqlScheme", "postgresql+pg9000", "schedule_storage: Can't load plugin"),
        ("pythonLogs/dagsterHandlerConfig", json_formatter("dagster._utils.log.JsonFormatter"), "log.JsonFormatter"),
        ("pythonLogs/dagsterHandlerConfig", {"handlers": {"console": {"class": "logging.Streamer"}}}, "Streamer"),
        ("pythonLogs/managedPythonLoggers", [{"weather_dagster": "INFO"}], "managed_python_loggers"),
    ],
)
def test_an_instance_that_would_not_start_is_found(path: str, value: Any, finding: str) -> None:
    found = instance_findings(instance_config(with_defaults(planted(path, value))))
    assert any(finding in line for line in found), found


def test_a_formatter_that_is_installed_is_not_refused() -> None:
    values = planted("pythonLogs/dagsterHandlerConfig", json_formatter("logging.Formatter"))
    assert instance_findings(instance_config(with_defaults(values))) == []


def difference(config: Values, local: Values) -> Findings:
    """Keys that the cluster's instance and the local one must agree on, and do not."""
    pairs = {
        "retention.schedule": (config["retention"]["schedule"], local["retention"]["schedule"]),
        "retention.sensor": (config["retention"]["sensor"], local["retention"]["sensor"]),
        "python_logs": (config["python_logs"], local["python_logs"]),
        "telemetry": (config["telemetry"], local["telemetry"]),
        "nux": (config["nux"], local["nux"]),
        "granularity": (config["concurrency"]["pools"]["granularity"], local["concurrency"]["pools"]["granularity"]),
        "max_runtime_seconds": (
            config["run_monitoring"]["max_runtime_seconds"],
            local["run_monitoring"]["max_runtime_seconds"],
        ),
    }
    return [key for key, (here, there) in pairs.items() if here != there]


def test_cluster_and_laptop_agree_where_they_need_not_differ() -> None:
    config = instance_config(with_defaults(own_values()))
    local = yaml.safe_load((PROJECT / "dagster.yaml").read_text(encoding="utf-8"))
    assert difference(config, local) == []
    assert difference(merge(config, {"telemetry": {"enabled": True}}), local) == ["telemetry"]


def location_findings(values: Values) -> Findings:
    """Where the code location of the cluster is another than the local one."""
    local = yaml.safe_load((PROJECT / "workspace.yaml").read_text(encoding="utf-8"))
    (here,) = workspace(with_defaults(values))["load_from"]
    (there,) = local["load_from"]
    (item,) = values["dagster-user-deployments"]["deployments"]
    pairs = {
        "name": (here["grpc_server"]["location_name"], there["python_module"]["location_name"]),
        "module": (item["dagsterApiGrpcArgs"][-2:], ["-m", there["python_module"]["module_name"]]),
    }
    return [what for what, (ours, local_one) in pairs.items() if ours != local_one]


def test_the_code_location_has_one_name_everywhere() -> None:
    assert location_findings(own_values()) == []


@pytest.mark.parametrize(
    ("path", "value", "finding"),
    [
        ("dagster-user-deployments/deployments/0/name", "weather-dataops", "name"),
        ("dagster-user-deployments/deployments/0/dagsterApiGrpcArgs/3", "weather_dagster.definition", "module"),
    ],
)
def test_another_code_location_is_found(path: str, value: str, finding: str) -> None:
    assert location_findings(planted(path, value)) == [finding]


def locked() -> str:
    return (PROJECT / "constraints.txt").read_text(encoding="utf-8")


def pinned(package: str, constraints: str) -> str:
    """A package's version in constraints.txt."""
    (found,) = re.findall(rf"^{package}==(\S+)", constraints, flags=re.MULTILINE)
    return str(found)


def chart_versions(text: str) -> set[str]:
    """Versions of the chart that a text names: an option of helm, or a local of Terraform."""
    return set(re.findall(r"(?:--version |chart_version\W+)(1\.\d+\.\d+)", text))


def test_chart_and_dagster_are_of_one_version() -> None:
    dagster = pinned("dagster", locked())
    texts = [VALUES / "dagster.yaml", PROJECT / "docs" / "deployment.md", *PROJECT.glob("terraform/**/*.tf")]
    for path in texts:
        assert chart_versions(path.read_text(encoding="utf-8")) <= {dagster}, path
    assert chart_versions((VALUES / "dagster.yaml").read_text(encoding="utf-8")) == {dagster}
    assert chart_versions("helm upgrade --version 1.12.0") == {"1.12.0"}
    assert chart_versions('dagster_chart_version = "1.12.1"') == {"1.12.1"}


def integration_findings(constraints: str) -> Findings:
    """Integrations of Dagster that are not of its release, or not the ones installed here."""
    patch = pinned("dagster", constraints).removeprefix("1.13.")
    return [
        f"{package} is {found}, expected {wanted}"
        for package in ("dagster-k8s", "dagster-postgres")
        for found in (pinned(package, constraints),)
        for wanted in (f"0.29.{patch}", version(package))
        if found != wanted
    ]


def test_dagsters_integrations_are_of_its_release() -> None:
    assert integration_findings(locked()) == []


def test_an_integration_of_another_release_is_found() -> None:
    faulty = locked().replace(f"dagster-k8s=={version('dagster-k8s')}", "dagster-k8s==0.28.9")
    assert integration_findings(faulty) == [
        f"dagster-k8s is 0.28.9, expected {wanted}" for wanted in [version("dagster-k8s")] * 2
    ]


def command_lines(objects: list[Object]) -> list[list[str]]:
    """What containers and probes run of ours and of Dagster; values that a shell would make are a word."""
    lines = []
    for _, template in pods(objects):
        for container in containers(template):
            probes = [container.get(name, {}).get("exec", {}) for name in ("startupProbe", "livenessProbe")]
            for line in [
                container.get("command", []) + container.get("args", []),
                *(p.get("command", []) for p in probes),
            ]:
                if line[1:2] == ["-c"]:
                    line = shlex.split(re.sub(r"\$\([^)]*\)", "word", line[2]).removeprefix("exec "))
                if line and line[0].split("-")[0] in {"dagster", "weather"}:
                    lines.append(line)
    return lines


def parse(line: list[str]) -> None:
    """Let the program's own parser read a command line, without running it."""
    from dagster._cli import create_dagster_cli
    from dagster._daemon.cli import create_dagster_daemon_cli
    from dagster_webserver.cli import dagster_webserver

    programs: dict[str, Any] = {
        "dagster": create_dagster_cli,
        "dagster-daemon": create_dagster_daemon_cli,
        "dagster-webserver": lambda: dagster_webserver,
        "weather": lambda: typer.main.get_command(app),
    }
    command: Any = programs[line[0]]()
    arguments = [
        str(PROJECT / "workspace.yaml") if word == "/dagster-workspace/workspace.yaml" else word for word in line[1:]
    ]
    context = None
    while command is not None:
        context = command.make_context(line[0], arguments, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        _, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("name", STACKS)
def test_every_command_line_is_one_that_its_program_knows(name: str) -> None:
    lines = command_lines(stack(name))
    assert {line[0] for line in lines} == {"dagster", "dagster-daemon", "dagster-webserver", "weather"}
    for line in lines:
        parse(line)


@pytest.mark.parametrize(
    "line", ["dagster-daemon run --log-fromat json", "weather ingest --since 2026-01-01", "dagster api grpcc -p 3030"]
)
def test_a_command_line_with_a_mistake_is_found(line: str) -> None:
    with pytest.raises(USAGE_ERRORS):
        parse(line.split())


def unknown_variables(objects: list[Object]) -> set[str]:
    """Variables of ours that no setting reads."""
    return own_variables(objects) - {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", STACKS)
def test_every_variable_is_a_setting(name: str) -> None:
    assert unknown_variables(stack(name)) == set()


def test_a_variable_that_no_setting_reads_is_found() -> None:
    objects = stack("kind")
    next(thing for thing in objects if name_of(thing) == "weather-settings")["data"]["WEATHER_HOEM"] = "/x"
    assert "WEATHER_HOEM" in unknown_variables(objects)


def environments(objects: list[Object]) -> set[str]:
    """What WEATHER_ENV is in ConfigMaps and containers."""
    found = {thing["data"]["WEATHER_ENV"] for thing in objects if "WEATHER_ENV" in thing.get("data", {})}
    written = [entry for _, template in pods(objects) for c in containers(template) for entry in c.get("env", [])]
    return found | {entry["value"] for entry in written if entry["name"] == "WEATHER_ENV"}


def warehouses(objects: list[Object]) -> dict[str, str]:
    """What WEATHER_ENV is in each pod that has one."""
    maps = {name_of(thing): thing["data"] for thing in objects if thing["kind"] == "ConfigMap"}
    found = {}
    for pod, template in pods(objects):
        for container in containers(template):
            variables: dict[str, str] = {}
            for source in container.get("envFrom", []):
                if "configMapRef" in source:
                    variables |= maps[source["configMapRef"]["name"]]
            variables |= {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
            if "WEATHER_ENV" in variables:
                found[pod] = variables["WEATHER_ENV"]
    return found


@pytest.mark.parametrize("name", STACKS)
def test_all_that_lands_lands_in_one_warehouse(name: str) -> None:
    objects = stack(name)
    warehouse = "databricks" if "databricks" in name else "cluster"
    told = {
        "Deployment weather-dagster-user-deployments-weather": warehouse,
        "CronJob weather-ingestor": warehouse,
        # What is in Postgres whatever the warehouse is.
        "Job weather-migrate-": "cluster",
    }
    assert warehouses(objects) == told
    (ingestor,) = (template for pod, template in pods(objects) if pod == "CronJob weather-ingestor")
    env = ingestor["spec"]["containers"][0]["env"]
    env.append({"name": "WEATHER_ENV", "value": "local"})
    assert warehouses(objects) == {**told, "CronJob weather-ingestor": "local"}


def untold_settings(values: Values) -> set[str]:
    """Settings of Databricks that the code location does not get."""
    (item,) = values["dagster-user-deployments"]["deployments"]
    wanted = {name.upper() for name in Settings.model_fields if name.startswith("databricks_")}
    return wanted - {entry["name"] for entry in item["env"]}


def test_the_code_location_gets_all_that_databricks_needs() -> None:
    values = own_values("production", "databricks")
    assert untold_settings(values) == set()
    (item,) = values["dagster-user-deployments"]["deployments"]
    item["env"] = [entry for entry in item["env"] if entry["name"] != "DATABRICKS_CLIENT_ID"]
    assert untold_settings(values) == {"DATABRICKS_CLIENT_ID"}


@pytest.mark.parametrize("name", STACKS)
def test_every_environment_is_one_of_ours(name: str) -> None:
    assert environments(stack(name)) - set(EnvironmentName) == set()


@pytest.mark.parametrize("place", ["weather-settings", "weather-migrate-"])
def test_an_environment_that_there_is_not_is_found(place: str) -> None:
    objects = stack("kind")
    (thing,) = [thing for thing in objects if name_of(thing) == place]
    if thing["kind"] == "ConfigMap":
        thing["data"]["WEATHER_ENV"] = "snowflake"
    else:
        env = containers(thing["spec"]["template"])[0]["env"]
        next(entry for entry in env if entry["name"] == "WEATHER_ENV")["value"] = "snowflake"
    assert environments(objects) - set(EnvironmentName) == {"snowflake"}


def render(chart: Path, values: Values, scratch: Path) -> list[Object]:
    """The objects that the real chart makes, with its schemas as they resolve without a network."""
    from helm_python import Chart

    if chart.is_file():
        with tarfile.open(chart) as archive:
            archive.extractall(scratch, filter="data")
    else:
        shutil.copytree(chart, scratch / "dagster")
    copy_of = scratch / "dagster"
    for schema, folder in (
        ("dagster-values.schema", copy_of),
        ("dagster-user-deployments-values.schema", copy_of / "charts" / "dagster-user-deployments"),
    ):
        shutil.copy(CHART / f"{schema}.json", folder / "values.schema.json")
    with Chart.load(copy_of) as loaded:
        texts = loaded.render(values, name=RELEASE, namespace=NAMESPACE)
    return [thing for text in texts.values() for thing in yaml.safe_load_all(text) if thing]


COMPARED = {
    *("image", "securityContext", "resources", "volumeMounts"),
    *("startupProbe", "readinessProbe", "livenessProbe"),
}


def disagreements(ours: list[Object], theirs: list[Object]) -> Findings:
    """Where our model of the chart says otherwise than the chart does, in what the guards look at."""
    found = {(thing["kind"], name_of(thing)): thing for thing in theirs}
    findings = [
        f"{thing['kind']} {name_of(thing)} is not made"
        for thing in ours
        if (thing["kind"], name_of(thing)) not in found
    ]
    inside = {
        f"{pod}: {container['name']}": (container, template)
        for pod, template in pods(theirs)
        for container in containers(template)
    }
    for pod, template in pods(ours):
        for container in containers(template):
            name = f"{pod}: {container['name']}"
            if name not in inside:
                findings.append(f"{name} is not made")
                continue
            real, around = inside[name]
            findings += [
                f"{name}: {key}: {real.get(key)}"
                for key in COMPARED & container.keys()
                if container[key] != real.get(key)
            ]
            if not template["metadata"]["labels"].items() <= around["metadata"]["labels"].items():
                findings.append(f"{name}: labels: {around['metadata']['labels']}")
            missing = {e["name"] for e in container.get("env", [])} - {e["name"] for e in real.get("env", [])}
            findings += [f"{name}: no variable {variable}" for variable in sorted(missing)]
    instance = yaml.safe_load(found["ConfigMap", f"{RELEASE}-dagster-instance"]["data"]["dagster.yaml"])
    ours_instance = yaml.safe_load(
        next(o for o in ours if name_of(o) == f"{RELEASE}-dagster-instance")["data"]["dagster.yaml"]
    )
    return findings + [
        f"dagster.yaml: {key}: {instance.get(key)}" for key in ours_instance if instance.get(key) != ours_instance[key]
    ]


@pytest.mark.skipif(
    "DAGSTER_CHART" not in os.environ,
    reason="DAGSTER_CHART names no chart: `helm pull dagster --repo https://dagster-io.github.io/helm` brings it, "
    "`pip install helm-python-sdk` renders it",
)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_real_chart_makes_what_we_think(name: str, tmp_path: Path) -> None:
    values = own_values(*OVERLAYS[name])
    theirs = render(Path(os.environ["DAGSTER_CHART"]), values, tmp_path)
    assert disagreements(rendered(with_defaults(values)), theirs) == []


def test_a_chart_that_makes_something_else_is_found() -> None:
    ours = rendered(with_defaults(own_values("kind")))
    theirs = copy.deepcopy(ours)
    assert disagreements(ours, theirs) == []
    next(pods(theirs))[1]["spec"]["containers"][0]["image"] = "docker.io/dagster/dagster-celery-k8s:1.13.27"
    assert disagreements(ours, theirs)


def unused(values: Path) -> Findings:
    """Overlays and folders of manifests that no stack is made of, and those that are not there."""
    overlays = {path.stem for path in values.glob("*.yaml")} - {"dagster", "secrets"}
    folders = {path.name for path in (values / MANIFESTS.name).iterdir()}
    return sorted(
        overlays ^ {name for names in OVERLAYS.values() for name in names}
        | folders ^ {"base", "kind", "production", "backup", "databricks", "ingestor", "jobs"}
    )


def test_each_overlay_is_used_by_a_stack(tmp_path: Path) -> None:
    assert unused(VALUES) == []
    planted_in = shutil.copytree(VALUES, tmp_path / VALUES.name)
    (planted_in / "staging.yaml").write_text("{}", encoding="utf-8")
    (planted_in / MANIFESTS.name / "staging").mkdir()
    (planted_in / "kind.yaml").unlink()
    assert unused(planted_in) == ["kind", "staging"]
