"""Guards of what is deployed: each takes values or Kubernetes objects and returns what is wrong with them."""

import importlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import yaml
from jsonschema import Draft202012Validator

from weather_dagster.settings import Settings
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
    NAMESPACE,
    PREFIX,
    VALUES,
    Object,
    Values,
    chart_data,
    containers,
    name_of,
    pods,
    with_defaults,
)

SUPPORTED_KUBERNETES = ("1.31", "1.34", "1.37")
# Objects of operators, which Kubernetes' own schemas do not know.
OPERATOR_KINDS = {"Cluster", "ScheduledBackup", "ObjectStore", "ExternalSecret"}
HOLD_DATA = {"Cluster", "ObjectStore", "PersistentVolumeClaim"}
# Read by the templates of the chart, but not in its schema.
UNLISTED_KEYS = {"nameOverride", "fullnameOverride", "rbacEnabled", "extraManifests", "pipelineRun"}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
OWN_IMAGES = {"weather-code-location": "code-location", "weather-ingestor": "ingestor"}
# The first without CVE-2026-40574 and what was found with it.
OAUTH2_PROXY = (7, 15, 2)
# Of the Barman Cloud plugin's container; with half of it restores of a small database were killed.
RESTORE_MEMORY = "1Gi"
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}

PLACES_FOLDER = "/places"
"""Where pods have the file of WEATHER_LOCATIONS."""
# By databricks.yaml, by weather-places, by the Ingress; and paths in a pod.
TOLD_OTHERWISE = {"WEATHER_ENV", "WEATHER_LOCATIONS", "WEATHER_UI_URL", "WEATHER_HOME", "WEATHER_DUCKDB_PATH"}

Findings = list[str]


def schema_findings(values: Values) -> Findings:
    """The chart's own schemas, over values merged with its defaults."""
    merged = with_defaults(values)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for schema, part in (
            ("dagster-values.schema", merged),
            ("dagster-user-deployments-values.schema", merged["dagster-user-deployments"]),
        )
        for error in Draft202012Validator(chart_data(schema)).iter_errors(part)
    ]


def typo_findings(values: Values) -> Findings:
    """Keys that the schemas let through and the templates do not read."""
    schema = chart_data("dagster-values.schema")
    users = chart_data("dagster-user-deployments-values.schema")
    subchart = values.get("dagster-user-deployments", {})
    known_below = {*schema["$defs"]["UserDeployments"]["properties"], *users["properties"], "rbacEnabled"}
    return [
        *(f"{key}: no such key" for key in values if key not in {*schema["properties"], *UNLISTED_KEYS}),
        *(f"dagster-user-deployments.{key}: no such key" for key in subchart if key not in known_below),
        *(
            f"deployment {item['name']}: no such key {key}"
            for item in subchart.get("deployments", [])
            for key in item
            if key not in users["$defs"]["UserDeployment"]["properties"]
        ),
    ]


def repetition_findings(values: Values) -> Findings:
    """What dagster.yaml says though the chart's defaults say it; what a probe asks is one thing."""

    def repeated(ours: Values, theirs: Values, above: str) -> Iterator[str]:
        for key in ours.keys() & theirs.keys():
            if ours[key] == theirs[key]:
                yield f"{above}{key}: {ours[key]} is the default"
            elif isinstance(ours[key], dict) and isinstance(theirs[key], dict) and key != "httpGet":
                yield from repeated(ours[key], theirs[key], f"{above}{key}.")

    return sorted(repeated(values, chart_data("dagster-default-values")["dagster"], ""))


def danger_findings(values: Values) -> Findings:
    """Defaults of the chart that must not come back, and traps of its templates."""
    merged = with_defaults(values)
    launcher = merged["runLauncher"]["config"]["k8sRunLauncher"]
    webserver = merged["dagsterWebserver"]
    bad = {
        "postgresql.enabled: a database with the password 'test'": merged["postgresql"]["enabled"],
        "generatePostgresqlPasswordSecret: writes the password 'test'": merged["generatePostgresqlPasswordSecret"],
        "rabbitmq or redis: withdrawn images": merged["rabbitmq"]["enabled"] or merged["redis"]["enabled"],
        "telemetry.enabled": merged["telemetry"]["enabled"],
        "ingress.enabled: a web server without a lock": merged["ingress"]["enabled"],
        "global.fullnameOverride: Roles of chart and subchart clash": merged["global"].get("fullnameOverride"),
        "migrate.enabled: its Job cannot be upgraded": merged["migrate"]["enabled"],
        "includeInstance: a ConfigMap that does not exist": merged["dagster-user-deployments"]["includeInstance"],
        "rbacEnabled: code and runs may start pods": merged["dagster-user-deployments"]["rbacEnabled"],
        "k8sRunLauncher.image: not that of the code server": launcher.get("image"),
        "a web server on a privileged port": webserver["service"]["port"] < 1024,
        "postgresqlScheme: SQLAlchemy would look for psycopg 3": merged["postgresql"]["postgresqlScheme"]
        != "postgresql+psycopg2",
        "run monitoring is off": not merged["dagsterDaemon"]["runMonitoring"]["enabled"],
        # A run must end as it began: steps of a dead pod are not resumed, the run is repeated.
        "maxResumeRunAttempts: code server and runs would need a token": merged["dagsterDaemon"]["runMonitoring"][
            "maxResumeRunAttempts"
        ],
        "run retries are off": not all(
            merged["dagsterDaemon"]["runRetries"].get(key) for key in ("enabled", "maxRetries")
        ),
        "retention is off": not merged["retention"]["enabled"],
        "no pools": not (merged["concurrency"]["enabled"] and merged["concurrency"]["pools"]["defaultLimit"]),
        "Jobs of runs stay for ever": not launcher["runK8sConfig"]
        .get("jobSpecConfig", {})
        .get("ttlSecondsAfterFinished"),
        "a log format other than json": {"json"}
        != {webserver.get("logFormat"), merged["dagsterDaemon"].get("logFormat")},
    }
    findings = [what for what, is_bad in bad.items() if is_bad]
    for item in merged["dagster-user-deployments"]["deployments"]:
        if "--log-format json" not in " ".join(item["dagsterApiGrpcArgs"]):
            findings.append(f"deployment {item['name']}: a log format other than json")
        if not isinstance(item["env"], list):
            findings.append(f"deployment {item['name']}: env is a map, which is written to a ConfigMap")
        elif literal := [entry["name"] for entry in item["env"] if "value" in entry and is_secret(entry["name"])]:
            findings.append(f"deployment {item['name']}: {', '.join(literal)} written out")
        elif "$(" in str(item["env"]):
            # Kubernetes would put the value into the copy of the environment that the code server hands to runs.
            findings.append(f"deployment {item['name']}: a variable within a variable")
    return findings


def is_secret(variable: str) -> bool:
    """Whether a variable of that name holds something to hide."""
    return re.search("KEY|TOKEN|PASSWORD|SECRET|_URLS?$", variable) is not None and variable != "WEATHER_UI_URL"


def instance_findings(config: Values) -> Findings:
    """What Dagster itself says of a dagster.yaml, the configuration of its storages, launcher and loggers included."""
    from dagster import DagsterError, DagsterInstance
    from dagster._check import CheckError
    from dagster._config import resolve_to_config_type, validate_config
    from dagster._core.instance.config import dagster_instance_config
    from dagster._utils.warnings import disable_dagster_warnings

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        try:
            dagster_instance_config(folder)
        except (DagsterError, CheckError) as error:
            return [str(error)]
    findings = []
    for key, part in config.items():
        if "class" in part:
            # The chart writes names of old, which Dagster knows.
            module = importlib.import_module(part["module"].replace("dagster.core.", "dagster._core."))
            configurable = getattr(module, part["class"])
            schema = resolve_to_config_type(configurable.config_type())
            errors = validate_config(schema, part.get("config", {})).errors or []
            findings += [f"{key}: {error.message}" for error in errors]
        if key.endswith("_storage"):
            findings += [f"{key}: {finding}" for finding in _driver_findings(part["config"])]
    try:
        with disable_dagster_warnings():
            DagsterInstance.ephemeral(settings={"python_logs": config["python_logs"]}).get_handlers()
    except (ValueError, TypeError) as error:
        findings.append(f"python_logs: {error}: {error.__cause__}")
    return findings


def _driver_findings(config: Values) -> Findings:
    """What SQLAlchemy makes of the URL that dagster-postgres makes; nothing is reached."""
    from dagster_postgres.utils import pg_url_from_config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError

    try:
        url = pg_url_from_config({"postgres_db": {**config["postgres_db"], "password": "none"}})
        driver = create_engine(url).driver
    except (ArgumentError, ImportError) as error:
        return [str(error)]
    return [] if driver == "psycopg2" else [f"SQLAlchemy takes {driver}, dagster-postgres catches errors of psycopg2"]


def kubernetes_findings(objects: Iterable[Object], versions: Sequence[str] = SUPPORTED_KUBERNETES) -> Findings:
    """Strict schemas of Kubernetes: unknown fields are errors."""
    return [
        f"{version} {thing['kind']} {name_of(thing)}: {error}"
        for thing in objects
        if thing["kind"] not in OPERATOR_KINDS
        for version in versions
        if (error := _kubernetes_error(json.dumps(thing), version))
    ]


@cache
def _kubernetes_error(document: str, version: str) -> str | None:
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return None


def restricted_findings(objects: list[Object]) -> Findings:
    """The level "restricted" of Pod Security, and a root file system that is read-only."""
    return [
        f"{pod}: {what}"
        for pod, template in pods(objects)
        for what in _restricted(template["spec"], containers(template))
    ]


def _restricted(spec: Object, inside: list[Object]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    for volume in spec.get("volumes", []):
        if kinds := volume.keys() - {"name"} - RESTRICTED_VOLUMES:
            yield f"volume {volume['name']} is a {kinds.pop()}"
    around = spec.get("securityContext", {})
    if around.get("sysctls"):
        yield "sysctls"
    for container in inside:
        context = {**around, **container.get("securityContext", {})}
        capabilities = context.get("capabilities", {})
        for what, is_bad in {
            "may run as root": context.get("runAsNonRoot") is not True,
            "no numeric user": not isinstance(context.get("runAsUser"), int) or context["runAsUser"] == 0,
            "may escalate": context.get("allowPrivilegeEscalation") is not False,
            "privileged": context.get("privileged"),
            "keeps capabilities": "ALL" not in capabilities.get("drop", []),
            "adds capabilities": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
            "no seccomp profile": context.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"},
            "unmasked /proc": context.get("procMount", "Default") != "Default",
            "a port of the host": any(port.get("hostPort") for port in container.get("ports", [])),
            "writable root file system": context.get("readOnlyRootFilesystem") is not True,
        }.items():
            if is_bad:
                yield f"{container['name']}: {what}"


def token_findings(objects: list[Object]) -> Findings:
    """Containers with a token of the cluster's API that neither start nor watch runs.

    Kubernetes mounts it where nothing says no, and nothing is mounted already.
    """
    return [
        f"{pod}: {container['name']}: has a token"
        for pod, template in pods(objects)
        for container in containers(template)
        if template["spec"].get("serviceAccountName") != PREFIX
        and template["spec"].get("automountServiceAccountToken", True)
        and ACCOUNT not in {mount["mountPath"] for mount in container.get("volumeMounts", [])}
    ]


def resource_findings(objects: list[Object]) -> Findings:
    """Requests and limits of CPU and memory in every container; a bound for every folder in memory or on the node."""
    findings = []
    for pod, template in pods(objects):
        for container in containers(template):
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory"} - container.get("resources", {}).get(kind, {}).keys()
                findings += [f"{pod}: {container['name']}: no {resource} in {kind}" for resource in sorted(missing)]
        findings += [
            f"{pod}: volume {volume['name']} without a sizeLimit"
            for volume in template["spec"].get("volumes", [])
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]
        ]
    return findings


def probe_findings(objects: list[Object]) -> Findings:
    """Long-running containers tell that they live; a probe has time for the process that it starts."""
    findings = []
    for pod, template in pods([thing for thing in objects if thing["kind"] in {"Deployment", "StatefulSet"}]):
        for container in template["spec"]["containers"]:
            probes = {
                name: container[name]
                for name in ("startupProbe", "readinessProbe", "livenessProbe")
                if name in container
            }
            if "livenessProbe" not in probes or not probes.keys() & {"startupProbe", "readinessProbe"}:
                findings.append(f"{pod}: {container['name']}: probes are {', '.join(probes) or 'none'}")
            for name, probe in probes.items():
                is_python = "exec" in probe and probe["exec"]["command"][0].startswith("dagster")
                if probe.get("timeoutSeconds", 1) < (20 if is_python else 5):
                    findings.append(f"{pod}: {name}: timeoutSeconds is {probe.get('timeoutSeconds', 1)}")
                ports = container.get("ports", [])
                port = probe.get("httpGet", {}).get("port")
                if port and port not in {value for entry in ports for value in (entry["name"], entry["containerPort"])}:
                    findings.append(f"{pod}: {name}: no port {port}")
    return findings


def secret_references(objects: list[Object]) -> Iterator[tuple[str, str, str | None, bool]]:
    """Who names which Secret, which key (None: all of it), and whether it may be missing."""
    for pod, template in pods(objects):
        for container in containers(template):
            for entry in container.get("env", []):
                if reference := entry.get("valueFrom", {}).get("secretKeyRef"):
                    yield pod, reference["name"], reference["key"], reference.get("optional", False)
            for source in container.get("envFrom", []):
                if reference := source.get("secretRef"):
                    yield pod, reference["name"], None, reference.get("optional", False)
        for volume in template["spec"].get("volumes", []):
            if reference := volume.get("secret"):
                for item in reference.get("items", [{"key": None}]):
                    yield pod, reference["secretName"], item["key"], reference.get("optional", False)
    for thing in objects:
        who = f"{thing['kind']} {name_of(thing)}"
        if thing["kind"] == "Cluster":
            for role in thing["spec"]["managed"]["roles"]:
                yield who, role["passwordSecret"]["name"], None, False
            (beginning,) = thing["spec"]["bootstrap"].values()
            yield who, beginning["secret"]["name"], None, False
            yield who, thing["spec"]["superuserSecret"]["name"], None, False
        elif thing["kind"] == "ObjectStore":
            for reference in thing["spec"]["configuration"]["s3Credentials"].values():
                yield who, reference["name"], reference["key"], False
        elif thing["kind"] == "Ingress":
            for tls in thing["spec"]["tls"]:
                yield who, tls["secretName"], None, False


def secret_findings(objects: list[Object], declared: Mapping[str, Any]) -> Findings:
    """Secrets and keys that nobody declares, or that are needed though they may be missing."""
    findings = []
    for who, name, key, may_miss in secret_references(objects):
        if name not in declared:
            findings.append(f"{who}: Secret {name} is not in secrets.yaml")
        elif key is not None and key not in declared[name]["keys"]:
            findings.append(f"{who}: Secret {name} has no key {key}")
        elif declared[name].get("optional", False) and not may_miss:
            findings.append(f"{who}: Secret {name} may be missing, and is needed")
    return findings


WRITTEN_OUT = re.compile(r"://[\w.-]+:[^\s@{$\"]+@")
"""A URL with a password that is no template."""
# Who reads the Secrets of owner and superuser; web servers and daemon read Dagster's alone, and what is no secret.
READERS = {
    "weather-warehouse-owner": {
        "Job weather-migrate-",
        "CronJob weather-backup",
        "StatefulSet weather-postgres",
        "Cluster weather-postgres",
    },
    "weather-postgres": {
        "Job weather-migrate-",
        "Job weather-restore-",
        "StatefulSet weather-postgres",
        "Cluster weather-postgres",
    },
}
SERVERS = ("Deployment weather-dagster-webserver", "Deployment weather-dagster-daemon")
READ_BY_SERVERS = {"dagster-postgresql", "weather-postgres-ca"}


def written_secret_findings(objects: list[Object]) -> Findings:
    """Secrets among the objects, and passwords and keys that are written out in others."""
    findings = []
    for thing in objects:
        who = f"{thing['kind']} {name_of(thing)}"
        if thing["kind"] == "Secret":
            findings.append(f"{who} is in the repository")
        literal = thing.get("data", {}) if thing["kind"] == "ConfigMap" else {}
        findings += [f"{who}: {name} written out" for name in literal if is_secret(name) and "_URL" not in name]
        findings += [f"{who}: a URL with its password" for _ in WRITTEN_OUT.findall(json.dumps(thing))]
    for pod, template in pods(objects):
        written = [entry["name"] for c in containers(template) for entry in c.get("env", []) if "value" in entry]
        findings += [f"{pod}: {name} written out" for name in written if is_secret(name)]
    return findings


def reader_findings(objects: list[Object]) -> Findings:
    """Who reads a Secret that is not for it."""
    return sorted(
        {
            f"{who} reads {name}"
            for who, name, _, _ in secret_references(objects)
            if who not in READERS.get(name, {who}) or (who.startswith(SERVERS) and name not in READ_BY_SERVERS)
        }
    )


def namespace_findings(objects: list[Object]) -> Findings:
    """Objects in another namespace, and two of one name."""
    names = [f"{thing['kind']} {name_of(thing)}" for thing in objects]
    return [
        *(
            f"{thing['kind']} {name_of(thing)} is in {thing['metadata']['namespace']}"
            for thing in objects
            if thing["metadata"].get("namespace", NAMESPACE) != NAMESPACE
        ),
        *(f"{name} is there twice" for name in sorted(set(names)) if names.count(name) > 1),
    ]


def external_secret_findings(objects: list[Object], declared: Mapping[str, Any]) -> Findings:
    """Needed Secrets that External Secrets do not make, or not with every key."""
    made = {}
    for thing in objects:
        if thing["kind"] == "ExternalSecret":
            target = thing["spec"]["target"]
            template = target.get("template", {}).get("data")
            # All that the store has; what that is, its owner says.
            extracted = declared[target["name"]]["keys"] if "dataFrom" in thing["spec"] else []
            listed = [entry["secretKey"] for entry in thing["spec"].get("data", [])]
            made[target["name"]] = set(template or [*listed, *extracted])
    # The certificate is cert-manager's.
    needed = {name for _, name, _, _ in secret_references(objects)} - {"weather-tls"}
    return [
        f"Secret {name}: {', '.join(sorted(missing))} is made by no ExternalSecret"
        for name in sorted(needed)
        if not declared[name].get("optional", False)
        and (missing := set(declared[name]["keys"]) - made.get(name, set()))
    ]


def reference_findings(objects: list[Object]) -> Findings:
    """ConfigMaps, claims, accounts, volumes and ports that somebody names and nobody has."""
    names = {
        kind: {name_of(thing) for thing in objects if thing["kind"] == kind} for kind in {o["kind"] for o in objects}
    }
    findings = []
    for pod, template in pods(objects):
        spec = template["spec"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        claimed = _claim_templates(objects, pod)
        for container in containers(template):
            read = [source.get("configMapRef", {}) for source in container.get("envFrom", [])]
            read += [entry.get("valueFrom", {}).get("configMapKeyRef", {}) for entry in container.get("env", [])]
            wanted = [reference["name"] for reference in read if reference and not reference.get("optional", False)]
            findings += [f"{pod}: no ConfigMap {name}" for name in wanted if name not in names["ConfigMap"]]
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
            findings += [f"{pod}: {path} is mounted twice" for path in set(paths) if paths.count(path) > 1]
            findings += [
                f"{pod}: no volume {mount['name']}"
                for mount in container.get("volumeMounts", [])
                if mount["name"] not in {*volumes, *claimed}
            ]
        for name, volume in volumes.items():
            config_map = volume.get("configMap", {})
            if config_map and not config_map.get("optional") and config_map["name"] not in names["ConfigMap"]:
                findings.append(f"{pod}: no ConfigMap {config_map['name']}")
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and claim not in names.get("PersistentVolumeClaim", set()):
                findings.append(f"{pod}: no claim {claim}")
            if not any(mount["name"] == name for c in containers(template) for mount in c.get("volumeMounts", [])):
                findings.append(f"{pod}: volume {name} is not mounted")
        account = spec.get("serviceAccountName")
        if account and account not in names["ServiceAccount"]:
            findings.append(f"{pod}: no ServiceAccount {account}")
    return findings


def _claim_templates(objects: list[Object], pod: str) -> set[str]:
    for thing in objects:
        if f"{thing['kind']} {name_of(thing)}" == pod:
            return {name_of(claim) for claim in thing["spec"].get("volumeClaimTemplates", [])}
    return set()


def choosable() -> set[str]:
    """Variables that people choose in weather-settings: all settings but secrets and what is told otherwise."""
    names = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" not in str(field.annotation)}
    return {name for name in names - TOLD_OTHERWISE if not name.startswith("DATABRICKS_")}


def choice_findings(objects: list[Object]) -> Findings:
    """Containers with the warehouse that what people choose does not reach, or in which something else wins over it."""
    findings = []
    for pod, template in pods(objects):
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        for container in containers(template):
            written = {entry["name"] for entry in container.get("env", [])}
            if "WEATHER_POSTGRES_URL" not in written:
                continue
            who = f"{pod}: {container['name']}"
            if {"configMapRef": {"name": "weather-settings"}} not in container.get("envFrom", []):
                findings.append(f"{who}: no weather-settings")
            mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container.get("volumeMounts", [])}
            places = mounted.get(PLACES_FOLDER, {}).get("configMap")
            if places != {"name": "weather-places", "optional": True}:
                findings.append(f"{who}: {PLACES_FOLDER} is {places}")
            findings += [f"{who}: {name} is written out" for name in sorted(written & choosable())]
    return findings


def service_findings(objects: list[Object], postgres_host: str) -> Findings:
    """Selectors without pods, ports that no pod has, hosts that are no Service, budgets for nothing."""
    labels = {pod: template["metadata"]["labels"] for pod, template in pods(objects)}
    ports = {
        pod: {value for c in template["spec"]["containers"] for port in c.get("ports", []) for value in port.values()}
        for pod, template in pods(objects)
    }
    findings = []
    services: dict[str, set[Any]] = {}
    for thing in objects:
        if thing["kind"] == "Service":
            chosen = [pod for pod in labels if thing["spec"]["selector"].items() <= labels[pod].items()]
            if not chosen:
                findings.append(f"Service {name_of(thing)} selects no pod")
            for port in thing["spec"]["ports"]:
                findings += [
                    f"Service {name_of(thing)}: {pod} has no port {port['targetPort']}"
                    for pod in chosen
                    if port["targetPort"] not in ports[pod]
                ]
            services[name_of(thing)] = {value for port in thing["spec"]["ports"] for value in port.values()}
        elif thing["kind"] == "Cluster":
            services |= {f"{name_of(thing)}-{role}": {5432} for role in ("rw", "ro", "r")}
        elif thing["kind"] == "PodDisruptionBudget":
            wanted = thing["spec"]["selector"]["matchLabels"].items()
            # A base shared by all stacks has one for the read-only server that kind does without.
            is_absent = ("component", "dagster-webserver-read-only") in wanted
            if not is_absent and not any(wanted <= have.items() for have in labels.values()):
                findings.append(f"PodDisruptionBudget {name_of(thing)} selects no pod")
    if postgres_host not in services:
        findings.append(f"postgresqlHost: no Service {postgres_host}")
    for thing in objects:
        if thing["kind"] == "Ingress":
            for path in (path for rule in thing["spec"]["rules"] for path in rule["http"]["paths"]):
                backend = path["backend"]["service"]
                if not set(backend["port"].values()) <= services.get(backend["name"], set()):
                    findings.append(f"Ingress {name_of(thing)}: no Service {backend['name']} with {backend['port']}")
        elif thing["kind"] == "StatefulSet" and thing["spec"]["serviceName"] not in services:
            findings.append(f"StatefulSet {name_of(thing)}: no Service {thing['spec']['serviceName']}")
    ways_in = {rule["host"] for thing in objects if thing["kind"] == "Ingress" for rule in thing["spec"]["rules"]}
    told = set(re.findall(r"WEATHER_UI_URL: https://([\w.-]+)$", yaml.safe_dump(objects), re.MULTILINE))
    if (ways_in and not told) or told - ways_in:
        findings.append(f"WEATHER_UI_URL leads to {sorted(told) or 'a laptop'}, the Ingress to {sorted(ways_in)}")
    for host, port in re.findall(r"http://([\w-]+):(\d+)", yaml.safe_dump(objects)):
        if int(port) not in services.get(host, set()):
            findings.append(f"http://{host}:{port}: no such Service")
    for host, port in re.findall(r"@([\w-]+):(\d+)/", yaml.safe_dump(objects)):
        if int(port) not in services.get(host, set()):
            findings.append(f"a URL of Postgres: no Service {host}:{port}")
    return findings


def certificate_findings(objects: list[Object]) -> Findings:
    """Ways to CloudNativePG's primary without a look at who answers, and containers without the file to look with."""
    ways = re.findall(r'@([\w-]+-rw):\d+/\w+\?([^"]*)', json.dumps(objects))
    for thing in objects:
        if thing["kind"] == "ConfigMap" and "dagster.yaml" in thing["data"]:
            postgres = yaml.safe_load(thing["data"]["dagster.yaml"])["run_storage"]["config"]["postgres_db"]
            params = "&".join(f"{key}={value}" for key, value in postgres["params"].items())
            ways += [(postgres["hostname"], params)] if postgres["hostname"].endswith("-rw") else []
    findings = [f"{host}?{params}: does not verify" for host, params in ways if "sslmode=verify-full" not in params]
    files = {name for _, params in ways for name in re.findall(r"sslrootcert=([^&]+)", params)}
    for pod, template in pods(objects):
        items = {
            volume["name"]: volume.get("secret", {}).get("items", []) for volume in template["spec"].get("volumes", [])
        }
        for container in containers(template):
            if {entry["name"] for entry in container.get("env", [])} & {"DAGSTER_PG_PASSWORD", "WEATHER_POSTGRES_URL"}:
                there = {
                    f"{mount['mountPath']}/{item['path']}"
                    for mount in container.get("volumeMounts", [])
                    for item in items[mount["name"]]
                }
                findings += [f"{pod}: {container['name']}: no {name}" for name in sorted(files - there)]
    return findings


def network_findings(objects: list[Object]) -> Findings:
    """Pods that lack the way they need, have one they do not need, or a label that no policy knows."""
    policies = [thing["spec"] for thing in objects if thing["kind"] == "NetworkPolicy"]
    findings = []
    if {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} not in policies:
        findings.append("no policy denies everything")
    if any('"cnpg.io/cluster": "' in json.dumps(policy) for policy in policies):
        findings.append("a policy names one server of CloudNativePG; the one that a restore makes would have no way")
    for policy in policies:
        for rule in [*policy.get("ingress", []), *policy.get("egress", [])]:
            is_bound = rule.get("ports") and all("port" in port for port in rule["ports"])
            findings += [] if is_bound else [f"a rule without a port: {rule}"]
    known = {key for policy in policies for key in policy["podSelector"].get("matchLabels", {})}
    chosen = [template["metadata"].get("labels", {}) for _, template in pods(objects)]
    chosen += [thing["spec"]["inheritedMetadata"]["labels"] for thing in objects if thing["kind"] == "Cluster"]
    # A pod that cert-manager makes.
    chosen.append({"acme.cert-manager.io/http01-solver": "true"})
    findings += [
        f"a policy selects no pod: {wanted}"
        for wanted in (policy["podSelector"].get("matchLabels", {}) for policy in policies)
        if not any(wanted.items() <= labels.items() for labels in chosen)
    ]
    for pod, template in pods(objects):
        labels = template["metadata"].get("labels", {})
        findings += [
            f"{pod}: no policy for {key}" for key in labels if key.startswith("access.weather/") and key not in known
        ]
        variables = {entry["name"] for container in containers(template) for entry in container.get("env", [])}
        is_server = labels.get("access.weather/server") == "postgres"
        for way, needs in {
            "postgres": variables & {"DAGSTER_PG_PASSWORD", "WEATHER_POSTGRES_URL", "PGPASSWORD"} and not is_server,
            "internet": variables & {"OPENWEATHER_API_KEY", "WEATHER_ALERT_URLS", "OAUTH2_PROXY_CLIENT_ID"},
            # Those that start and watch runs.
            "kubernetes": template["spec"].get("serviceAccountName") == PREFIX,
        }.items():
            if bool(needs) != (f"access.weather/{way}" in labels):
                findings.append(f"{pod}: access.weather/{way} is {'missing' if needs else 'not needed'}")
    return findings


def sign_in_findings(objects: list[Object]) -> Findings:
    """Proxies that can be got round: a version with known ways, no group, or headers that anyone may send."""
    maps = {name_of(thing): thing["data"] for thing in objects if thing["kind"] == "ConfigMap"}
    findings = []
    for pod, template in pods(objects):
        for container in containers(template):
            name, _, tag = container["image"].rpartition(":")
            if not name.endswith("/oauth2-proxy"):
                continue
            version = tuple(map(int, tag.removeprefix("v").split(".")))
            if version < OAUTH2_PROXY:
                least = ".".join(map(str, OAUTH2_PROXY))
                findings.append(f"{pod}: oauth2-proxy {tag} has known ways round the sign-in; take {least} or later")
            if not any(argument.startswith("--allowed-group=") for argument in container["args"]):
                findings.append(f"{pod}: without a group the domain of an address is all that is asked for")
            told = {entry["name"]: entry.get("value") for entry in container["env"]}
            for source in container["envFrom"]:
                told |= maps[source["configMapRef"]["name"]]
            if told.get("OAUTH2_PROXY_REVERSE_PROXY") == "true" and not told.get("OAUTH2_PROXY_TRUSTED_PROXY_IPS"):
                findings.append(f"{pod}: believes headers of anyone; name OAUTH2_PROXY_TRUSTED_PROXY_IPS")
    return findings


def name_findings(objects: list[Object]) -> Findings:
    """Clusters in which no pod could resolve a name, and a way to the node that leads to more than its DNS."""
    peers = []
    findings = []
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "NetworkPolicy" and spec["podSelector"] == {}:
            for rule in spec.get("egress", []):
                peers += [peer["ipBlock"]["cidr"] for peer in rule.get("to", []) if "ipBlock" in peer]
                peers += re.findall(r"kube-dns|node-local-dns", json.dumps(rule.get("to", [])))
                findings += [f"every pod may reach port {port['port']}" for port in rule["ports"] if port["port"] != 53]
    wanted = {"kube-dns", "node-local-dns", "169.254.20.10/32", "169.254.169.254/32"}
    return findings + [f"no way to the DNS at {peer}" for peer in sorted(wanted - set(peers))]


def quota_findings(objects: list[Object], runs: int) -> Findings:
    """Whether the namespace has room for all pods, as many runs at once, the surge of an upgrade, and a restore."""
    quota = next(thing["spec"]["hard"] for thing in objects if thing["kind"] == "ResourceQuota")
    bound = next(thing["spec"]["limits"][0]["max"] for thing in objects if thing["kind"] == "LimitRange")
    resources = dict.fromkeys(("requests.cpu", "requests.memory", "limits.cpu", "limits.memory"), 0.0)
    number = 0
    findings = []
    for pod, inside, count in _counted_pods(objects, runs):
        number += count
        for name, container in inside:
            _add(resources, container, count)
            findings += [
                f"{pod}: {name}: {resource} is above the LimitRange"
                for resource, most in bound.items()
                if quantity(container["limits"][resource]) > quantity(most)
            ]
    sizes = [
        thing["spec"]["resources"]["requests"]["storage"]
        for thing in objects
        if thing["kind"] == "PersistentVolumeClaim"
    ]
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "StatefulSet":
            claims = [claim["spec"]["resources"]["requests"]["storage"] for claim in spec["volumeClaimTemplates"]]
            sizes += claims * spec["replicas"]
        elif thing["kind"] == "Cluster":
            sizes += [spec["storage"]["size"], spec["walStorage"]["size"]] * 2 * spec["instances"]
    claimed = {"requests.storage": sum(map(quantity, sizes)), "persistentvolumeclaims": len(sizes)}
    return findings + [
        f"{resource}: {amount:g} needed, {quota[resource]} in the quota"
        for resource, amount in {**resources, **claimed, "pods": number}.items()
        if amount > quantity(quota[resource])
    ]


def _counted_pods(objects: list[Object], runs: int) -> Iterator[tuple[str, list[tuple[str, Object]], int]]:
    """Each kind of pod, names and resources of its containers, and how many there may be at once."""
    for pod, template in pods(objects):
        thing = next(thing for thing in objects if pod == f"{thing['kind']} {name_of(thing)}")
        is_code = template["metadata"]["labels"].get("component") == "user-deployments"
        inside = [(container["name"], container["resources"]) for container in template["spec"]["containers"]]
        yield pod, inside, thing["spec"].get("replicas", 1) + (1 + runs if is_code else 0)
    for thing in objects:
        if thing["kind"] == "Cluster":
            sidecars = [(name, spec["resources"]) for name, spec in _sidecars(thing, objects) if "resources" in spec]
            # A restore makes a second one beside it.
            yield (
                f"Cluster {name_of(thing)}",
                [("postgres", thing["spec"]["resources"]), *sidecars],
                2 * thing["spec"]["instances"],
            )


def _sidecars(cluster: Object, objects: list[Object]) -> list[tuple[str, Object]]:
    """What the Barman Cloud plugin puts beside each instance of a server, as its ObjectStore has it."""
    named = {plugin["parameters"]["barmanObjectName"] for plugin in cluster["spec"]["plugins"]}
    return [
        (f"sidecar of ObjectStore {name_of(thing)}", thing["spec"].get("instanceSidecarConfiguration", {}))
        for thing in objects
        if thing["kind"] == "ObjectStore" and name_of(thing) in named
    ]


def archive_findings(objects: list[Object]) -> Findings:
    """Servers without an archive, and one whose container has too little memory for base backups and restores."""
    findings = []
    for thing in objects:
        if thing["kind"] == "Cluster":
            sidecars = _sidecars(thing, objects)
            findings += [] if sidecars else [f"Cluster {name_of(thing)}: no ObjectStore"]
            for name, spec in sidecars:
                memory = spec.get("resources", {}).get("limits", {}).get("memory", "0")
                if quantity(memory) < quantity(RESTORE_MEMORY):
                    findings.append(f"{name}: {memory} of memory, a restore needs {RESTORE_MEMORY}")
    return findings


def _add(needed: dict[str, float], resources: Object, count: int) -> None:
    for key in needed:
        kind, resource = key.split(".")
        needed[key] += count * quantity(resources[kind][resource])


def quantity(text: str | int) -> float:
    """A Kubernetes quantity as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(m|Ki|Mi|Gi|Ti)?", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}[unit]


def keep_findings(objects: list[Object]) -> Findings:
    """Things with data in them that Helm would take away, and servers that would not say where their archive is."""
    findings = [
        f"{thing['kind']} {name_of(thing)}: holds data, and Helm does not keep it"
        for thing in objects
        if thing["kind"] in HOLD_DATA
        and thing["metadata"].get("annotations", {}).get("helm.sh/resource-policy") != "keep"
    ]
    return findings + [
        f"Cluster {name_of(thing)}: no serverName; one made anew under its name would meet its archive"
        for thing in objects
        if thing["kind"] == "Cluster"
        for plugin in thing["spec"]["plugins"]
        if plugin.get("isWALArchiver") and not plugin["parameters"].get("serverName")
    ]


def images(objects: list[Object]) -> set[str]:
    """All images that ``objects`` name."""
    inside = {container["image"] for _, template in pods(objects) for container in containers(template)}
    return inside | {thing["spec"]["imageName"] for thing in objects if thing["kind"] == "Cluster"}


def image_findings(objects: list[Object], project_version: str) -> Findings:
    """Own images of another version than the project's, others without an exact tag, Postgres of two versions."""
    findings = []
    postgres = set()
    for image in sorted(images(objects)):
        name, _, tag = image.rpartition(":")
        if name in OWN_IMAGES:
            if tag != project_version:
                findings.append(f"{image}: the project is {project_version}")
        elif name.startswith("weather"):
            findings.append(f"{image}: no such image of ours")
        elif not re.match(r"v?\d+\.\d+", tag):
            findings.append(f"{image}: not an exact version")
        if "postgres" in name:
            postgres.add(tag.split("-")[0])
    return findings + ([f"Postgres of versions {', '.join(sorted(postgres))}"] if len(postgres) > 1 else [])


def service_link_findings(objects: list[Object], settings: Iterable[str]) -> Findings:
    """Services whose link variables (NAME_PORT, NAME_SERVICE_HOST, ...) would pass for a setting of ours.

    One without an address of its own has none.
    """
    findings = []
    for thing in objects:
        if thing["kind"] == "Service" and thing["spec"].get("clusterIP") != "None":
            prefix = name_of(thing).upper().replace("-", "_")
            clash = [name for name in settings if re.fullmatch(f"{prefix}_(PORT|SERVICE)(_.*)?", name)]
            findings += [f"Service {name_of(thing)} would set {name}" for name in clash]
    return findings


def own_variables(objects: list[Object]) -> set[str]:
    """Variables of the platform's own that pods get."""
    maps = {name_of(thing): thing["data"] for thing in objects if thing["kind"] == "ConfigMap"}
    variables = set()
    for _, template in pods(objects):
        for container in containers(template):
            variables |= {entry["name"] for entry in container.get("env", [])}
            for source in container.get("envFrom", []):
                variables |= maps.get(source.get("configMapRef", {}).get("name"), {}).keys()
    return {name for name in variables if name.startswith(("WEATHER_", "OPENWEATHER_", "OPEN_METEO_", "DATABRICKS_"))}


def kustomization_findings(folder: Path = MANIFESTS) -> Findings:
    """Files that no kustomization applies, and the reverse."""
    findings = []
    for path in folder.glob("*/kustomization.yaml"):
        named = {
            name for name in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"] if name.endswith(".yaml")
        }
        there = {file.name for file in path.parent.glob("*.yaml")} - {path.name}
        findings += [f"{path.parent.name}: {name}" for name in sorted(named ^ there)]
    return findings


def declared_secrets() -> dict[str, Any]:
    """The table of Secrets."""
    table: dict[str, Any] = yaml.safe_load((VALUES / "secrets.yaml").read_text(encoding="utf-8"))
    return table
