"""What Dagster's chart makes of our values, as far as guards need it.

The chart itself cannot be had without a network; its templates were read, and this module says in Python what they do
with the keys that we set. `test_helm_values.py` compares both when DAGSTER_CHART names the real chart.
Its schemas and default values are data of the chart (Apache-2.0), in ``chart/``.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
VALUES = PROJECT / "helm-values"
MANIFESTS = VALUES / "manifests"
CHART = Path(__file__).parent / "chart"
RELEASE = NAMESPACE = "weather"
PREFIX = f"{RELEASE}-dagster"
USER_PREFIX = f"{PREFIX}-user-deployments"
# What an installation is made of: the overlays beside dagster.yaml, and the folder of manifests.
STACKS = {
    "kind": (["kind"], "kind"),
    "production": (["production"], "production"),
    "databricks on kind": (["kind", "databricks"], "kind"),
    "databricks in production": (["production", "databricks"], "production"),
}

Object = dict[str, Any]
Values = dict[str, Any]


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Values:
    """As Helm does: maps merge, everything else is replaced, a null takes the key away."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


@cache
def chart_data(name: str) -> Values:
    """A file of the chart's own data."""
    data: Values = json.loads((CHART / f"{name}.json").read_text(encoding="utf-8"))
    return data


def own_values(*overlays: str) -> Values:
    """dagster.yaml with overlays, without the chart's defaults."""
    values: Values = {}
    for name in ("dagster", *overlays):
        for document in documents(VALUES / f"{name}.yaml"):
            values = merge(values, document)
    return values


def with_defaults(values: Values) -> Values:
    """The values as the chart's templates see them."""
    defaults = chart_data("dagster-default-values")
    merged = merge(defaults["dagster"], values)
    below = merge(defaults["dagster-user-deployments"], merged["dagster-user-deployments"])
    merged["dagster-user-deployments"] = merge(below, {"global": merged["global"]})
    return merged


def instance_config(values: Values) -> Values:
    """The dagster.yaml of webserver and daemon; runs get it as an argument."""
    postgres = values["postgresql"]
    storage = {
        "postgres_db": {
            "username": postgres["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": postgres["postgresqlHost"],
            "db_name": postgres["postgresqlDatabase"],
            "port": postgres["service"]["port"],
            "params": postgres["postgresqlParams"],
            **({"scheme": postgres["postgresqlScheme"]} if postgres["postgresqlScheme"] else {}),
        }
    }
    daemon = values["dagsterDaemon"]
    monitoring = daemon["runMonitoring"]
    queue = daemon["runCoordinator"]["config"]["queuedRunCoordinator"]
    config = {
        "scheduler": {"module": "dagster.core.scheduler", "class": "DagsterDaemonScheduler"},
        "schedule_storage": {
            "module": "dagster_postgres.schedule_storage",
            "class": "PostgresScheduleStorage",
            "config": storage,
        },
        "run_storage": {"module": "dagster_postgres.run_storage", "class": "PostgresRunStorage", "config": storage},
        "event_log_storage": {
            "module": "dagster_postgres.event_log",
            "class": "PostgresEventLogStorage",
            "config": storage,
        },
        "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": _launcher_config(values)},
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {
                "dequeue_use_threads": queue["dequeueUseThreads"],
                "dequeue_num_workers": queue["dequeueNumWorkers"],
            },
        },
        "compute_logs": {
            "module": "dagster.core.storage.noop_compute_log_manager",
            "class": "NoOpComputeLogManager",
        },
        "python_logs": _snake({key: value for key, value in values["pythonLogs"].items() if value}, depth=1),
        "run_monitoring": _snake(monitoring),
        "run_retries": _snake(daemon["runRetries"]),
        "sensors": _snake(daemon["sensors"]),
        "schedules": _snake(daemon["schedules"]),
        "telemetry": {"enabled": values["telemetry"]["enabled"]},
        "retention": {
            _snake_name(kind): {"purge_after_days": values["retention"][kind]["purgeAfterDays"]}
            for kind in ("schedule", "sensor", "autoMaterialize")
        },
        "concurrency": {
            "pools": _snake(values["concurrency"]["pools"]),
            "runs": _snake(values["concurrency"]["runs"]),
        },
        **values["additionalInstanceConfig"],
    }
    # A key that is set twice would be a fault of the chart's YAML; a switch that is off leaves the key out.
    return {
        key: value
        for key, value in config.items()
        if not (key == "concurrency" and not values["concurrency"]["enabled"])
        and not (key == "retention" and not values["retention"]["enabled"])
    }


def _launcher_config(values: Values) -> Values:
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    config = {
        "load_incluster_config": launcher["loadInclusterConfig"],
        "kubeconfig_file": launcher.get("kubeconfigFile"),
        "job_namespace": launcher.get("jobNamespace") or NAMESPACE,
        "image_pull_policy": launcher["imagePullPolicy"],
        "service_account_name": values["global"]["serviceAccountName"] or PREFIX,
        "dagster_home": values["global"]["dagsterHome"],
        "instance_config_map": f"{PREFIX}-instance",
        "postgres_password_secret": values["global"]["postgresqlSecretName"],
        "env_config_maps": [source["name"] for source in launcher["envConfigMaps"]],
        "env_secrets": [source["name"] for source in launcher["envSecrets"]],
        "image_pull_secrets": values["imagePullSecrets"],
        "env_vars": launcher["envVars"],
        "volumes": launcher["volumes"],
        "volume_mounts": launcher["volumeMounts"],
        "labels": launcher["labels"],
        "resources": launcher["resources"],
        "security_context": launcher["securityContext"],
        "fail_pod_on_run_failure": launcher["failPodOnRunFailure"],
        "run_k8s_config": _snake(launcher["runK8sConfig"], depth=1),
    }
    return {key: value for key, value in config.items() if value not in (None, [], {})}


def container_context(values: Values, deployment: Values) -> Values:
    """What the code server tells the launcher of its runs, in DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT."""
    context = {
        "image_pull_policy": deployment["image"]["pullPolicy"],
        "env_config_maps": [
            f"{USER_PREFIX}-{deployment['name']}-user-env",
            *(source["name"] for source in deployment["envConfigMaps"]),
        ],
        "env_secrets": [source["name"] for source in deployment.get("envSecrets", [])],
        "image_pull_secrets": values["dagster-user-deployments"]["imagePullSecrets"],
        "env": deployment["env"],
        "volumes": deployment["volumes"],
        "volume_mounts": deployment["volumeMounts"],
        "labels": deployment["labels"],
        "resources": deployment["resources"],
        "namespace": NAMESPACE,
        "service_account_name": code_account(values),
        "run_k8s_config": {"pod_spec_config": {"automount_service_account_token": True}},
    }
    return {"k8s": {key: value for key, value in context.items() if value}}


def code_account(values: Values) -> str:
    """The service account of code server and runs."""
    account = values["dagster-user-deployments"]["serviceAccount"]["name"]
    return str(values["global"]["serviceAccountName"] or account or f"{USER_PREFIX}-user-deployments")


def image_name(image: Values) -> str:
    """As in a pod."""
    return f"{image['repository']}:{image['tag']}"


def rendered(values: Values) -> list[Object]:
    """Workloads, Services, ConfigMaps and accounts that the chart makes; no Roles."""
    webserver = values["dagsterWebserver"]
    code = values["dagster-user-deployments"]
    shared_env = {"DAGSTER_HOME": values["global"]["dagsterHome"]}
    command = f"dagster-webserver -h 0.0.0.0 -p {webserver['service']['port']} -w /dagster-workspace/workspace.yaml"
    command += f" --log-format {webserver['logFormat']}"
    servers = [("dagster-webserver", command)]
    if webserver["enableReadOnly"]:
        servers.append(("dagster-webserver-read-only", f"{command} --read-only"))
    objects: list[Object] = [
        _config_map(f"{PREFIX}-instance", {"dagster.yaml": yaml.safe_dump(instance_config(values))}),
        _config_map(f"{PREFIX}-workspace-yaml", {"workspace.yaml": yaml.safe_dump(workspace(values))}),
        _config_map(f"{PREFIX}-webserver-env", shared_env),
        _config_map(f"{PREFIX}-daemon-env", shared_env),
        _config_map(f"{USER_PREFIX}-user-deployments-shared-env", shared_env),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": PREFIX}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": code_account(values)}},
    ]
    for component, line in servers:
        labels = {"component": component}
        pod = _dagster_pod(values, webserver, ["/bin/bash", "-c", line], "webserver-env")
        pod["containers"][0]["ports"] = [{"name": "http", "containerPort": webserver["service"]["port"]}]
        objects.append(
            _deployment(f"{RELEASE}-{component}", labels, webserver["labels"], pod, webserver["replicaCount"])
        )
        objects.append(_service(f"{RELEASE}-{component}", labels, "http", webserver["service"]["port"]))
    daemon = values["dagsterDaemon"]
    line = f"dagster-daemon run -w /dagster-workspace/workspace.yaml --log-format {daemon['logFormat']}"
    pod = _dagster_pod(values, daemon, ["/bin/bash", "-c", line], "daemon-env")
    labels = {"component": "dagster-daemon", "deployment": "daemon"}
    objects.append(_deployment(f"{PREFIX}-daemon", labels, daemon["labels"], pod, 1))
    for item in code["deployments"]:
        labels = {"component": "user-deployments", "deployment": item["name"]}
        server = _deployment(
            f"{USER_PREFIX}-{item['name']}", labels, item["labels"], _code_pod(values, item), item["replicaCount"]
        )
        server["spec"]["template"]["metadata"]["annotations"] = item.get("annotations", {})
        objects += [
            _config_map(f"{USER_PREFIX}-{item['name']}-user-env", {}),
            server,
            _service(item["name"], labels, "grpc", item["port"]),
        ]
    return objects


def workspace(values: Values) -> Values:
    """The workspace.yaml of webserver and daemon."""
    return {
        "load_from": [
            {"grpc_server": {"host": item["name"], "port": item["port"], "location_name": item["name"]}}
            for item in values["dagster-user-deployments"]["deployments"]
        ]
    }


def _dagster_pod(values: Values, component: Values, command: list[str], environment: str) -> Object:
    """Webserver and daemon: instance and workspace mounted, init containers that wait."""
    home = values["global"]["dagsterHome"]
    postgres = values["postgresql"]
    wait = f"until pg_isready -h {postgres['postgresqlHost']} -p {postgres['service']['port']}; do sleep 2; done"
    waits = [("check-db-ready", postgres["image"], wait)]
    for item in values["dagster-user-deployments"]["deployments"]:
        wait = f"until nslookup {item['name']}; do sleep 2; done"
        waits.append((f"init-user-deployment-{item['name']}", values["busybox"]["image"], wait))
    return {
        "imagePullSecrets": values["imagePullSecrets"],
        "serviceAccountName": PREFIX,
        "automountServiceAccountToken": True,
        "securityContext": component["podSecurityContext"],
        "initContainers": [
            {
                "name": name,
                "image": image_name(image),
                "imagePullPolicy": image["pullPolicy"],
                "command": ["sh", "-c", wait],
                "securityContext": component["securityContext"],
                "resources": component["initContainerResources"],
            }
            for name, image, wait in waits
        ],
        "containers": [
            {
                "name": "dagster",
                "image": image_name(component["image"]),
                "imagePullPolicy": component["image"]["pullPolicy"],
                "command": command,
                "securityContext": component["securityContext"],
                "resources": component["resources"],
                "env": [_password(values), *component["env"]],
                "envFrom": [{"configMapRef": {"name": f"{PREFIX}-{environment}"}}],
                "volumeMounts": [
                    {"name": "dagster-instance", "mountPath": f"{home}/dagster.yaml", "subPath": "dagster.yaml"},
                    {"name": "dagster-workspace-yaml", "mountPath": "/dagster-workspace/"},
                    *component["volumeMounts"],
                ],
                **_probes(component),
            }
        ],
        "volumes": [
            {"name": "dagster-instance", "configMap": {"name": f"{PREFIX}-instance"}},
            {"name": "dagster-workspace-yaml", "configMap": {"name": f"{PREFIX}-workspace-yaml"}},
            *component["volumes"],
        ],
    }


def _code_pod(values: Values, item: Values) -> Object:
    check = {"command": ["dagster", "api", "grpc-health-check", "-p", str(item["port"])]}
    context = json.dumps(container_context(values, item))
    return {
        "imagePullSecrets": values["dagster-user-deployments"]["imagePullSecrets"],
        "serviceAccountName": code_account(values),
        "automountServiceAccountToken": True,
        "securityContext": item["podSecurityContext"],
        "containers": [
            {
                "name": "dagster-user-deployments",
                "image": image_name(item["image"]),
                "imagePullPolicy": item["image"]["pullPolicy"],
                "args": [
                    "dagster",
                    "api",
                    "grpc",
                    "-h",
                    "0.0.0.0",  # noqa: S104 - of a pod
                    "-p",
                    str(item["port"]),
                    *item["dagsterApiGrpcArgs"],
                ],
                "securityContext": item["securityContext"],
                "resources": item["resources"],
                "env": [
                    {"name": "DAGSTER_CURRENT_IMAGE", "value": image_name(item["image"])},
                    _password(values),
                    {"name": "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT", "value": context},
                    *item["env"],
                ],
                "envFrom": [
                    {"configMapRef": {"name": f"{USER_PREFIX}-user-deployments-shared-env"}},
                    {"configMapRef": {"name": f"{USER_PREFIX}-{item['name']}-user-env"}},
                    *({"configMapRef": source} for source in item["envConfigMaps"]),
                    *({"secretRef": source} for source in item.get("envSecrets", [])),
                ],
                "ports": [{"name": "grpc", "containerPort": item["port"]}],
                "volumeMounts": item["volumeMounts"],
                **{name: {"exec": check, **probe} for name, probe in _probes(item).items()},
            }
        ],
        "volumes": item["volumes"],
    }


def _probes(component: Values) -> dict[str, Object]:
    probes = {}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = dict(component.get(name) or {})
        if probe.pop("enabled", True) and probe:
            probes[name] = probe
    return probes


def _password(values: Values) -> Object:
    key = {"name": values["global"]["postgresqlSecretName"], "key": "postgresql-password"}
    return {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": key}}


def _config_map(name: str, data: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}


def _deployment(name: str, selector: Object, labels: Object, pod: Object, replicas: int) -> Object:
    identity = {"app.kubernetes.io/instance": RELEASE, **selector}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": identity},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": identity},
            "template": {"metadata": {"labels": {**identity, **labels}}, "spec": pod},
        },
    }


def _service(name: str, selector: Object, port_name: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": [{"name": port_name, "port": port, "targetPort": port_name}]},
    }


def _snake_name(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _snake(values: Mapping[str, Any], depth: int = 9) -> Values:
    """Keys of ``values`` in snake case; what is null is left out."""
    return {
        _snake_name(key): _snake(value, depth - 1) if isinstance(value, Mapping) and depth > 1 else value
        for key, value in values.items()
        if value is not None
    }


def manifests(folder: str) -> list[Object]:
    """The objects of a folder's kustomization, those of the folders it names included."""
    path = MANIFESTS / folder
    kustomization = yaml.safe_load((path / "kustomization.yaml").read_text(encoding="utf-8"))
    objects: list[Object] = []
    for resource in kustomization["resources"]:
        if resource.endswith(".yaml"):
            objects += documents(path / resource)
        else:
            objects += manifests((path / resource).resolve().name)
    return objects


def documents(path: Path) -> list[Object]:
    """What is in a file, to be changed at will."""
    return copy.deepcopy(_read(path))


@cache
def _read(path: Path) -> list[Object]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def stack(name: str, own: Values | None = None) -> list[Object]:
    """All objects of an installation: chart, with ``own`` values last, manifests, and what is applied beside them."""
    overlays, folder = STACKS[name]
    # CloudNativePG restores by itself.
    jobs = ["migrate", "restore"] if folder == "kind" else ["migrate"]
    # On kind Terraform makes the Secret.
    beside = ["databricks"] if folder == "production" and "databricks" in overlays else []
    objects = [
        *rendered(with_defaults(merge(own_values(*overlays), own or {}))),
        *(thing for each in [folder, *beside] for thing in manifests(each)),
        *manifests("ingestor"),
        *(thing for job in jobs for thing in documents(MANIFESTS / "jobs" / f"{job}.yaml")),
    ]
    return with_settings(objects, **({"WEATHER_ENV": "databricks"} if "databricks" in overlays else {}))


def with_settings(objects: list[Object], **settings: str) -> list[Object]:
    """The objects, with more in the ConfigMap of what people choose."""
    (chosen,) = [thing for thing in objects if (thing["kind"], name_of(thing)) == ("ConfigMap", "weather-settings")]
    chosen["data"] |= settings
    return objects


def has_own_server(objects: list[Object]) -> bool:
    """Whether Postgres is among the objects; a managed one is not."""
    return any(thing["kind"] in {"Cluster", "StatefulSet"} for thing in objects)


def undated(text: str) -> str:
    """A text with the server's name as it was before a restore put a date behind it."""
    return re.sub(r"\bweather-postgres-\d{8}\b", "weather-postgres", text)


def before_restores(objects: list[Object]) -> list[Object]:
    """The objects, with the server's first name."""
    renamed: list[Object] = json.loads(undated(json.dumps(objects)))
    return renamed


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Name, and the template (metadata and spec) of every pod that ``objects`` start."""
    for thing in objects:
        spec = thing.get("spec", {})
        if thing["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        template = spec.get("template") if isinstance(spec, Mapping) else None
        if template and "spec" in template:
            yield f"{thing['kind']} {name_of(thing)}", template


def containers(template: Object) -> list[Object]:
    """Init containers too."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def name_of(thing: Object) -> str:
    """An object's name, or the beginning of it."""
    metadata = thing["metadata"]
    return str(metadata.get("name") or metadata["generateName"])
