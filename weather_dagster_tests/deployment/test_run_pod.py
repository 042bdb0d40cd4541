"""The Job of a run: made by Dagster's own launcher from our values, sent to an API that writes down what it gets.

Storage is a real Postgres, the instance is the one the values make. What is not real: the cluster, and the pod.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import FileCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from weather_dagster_tests.deployment.conftest import HOST, PASSWORDS, Postgres
from weather_dagster_tests.deployment.guards import (
    ACCOUNT,
    certificate_findings,
    declared_secrets,
    kubernetes_findings,
    network_findings,
    reference_findings,
    resource_findings,
    restricted_findings,
    secret_findings,
    token_findings,
)
from weather_dagster_tests.deployment.rendering import (
    STACKS,
    Object,
    Values,
    container_context,
    image_name,
    instance_config,
    merge,
    own_values,
    stack,
    with_defaults,
)

pytestmark = pytest.mark.integration

CODE = """
import os

import dagster as dg


@dg.op
def look(context):
    context.log.info("home is %s", os.environ["WEATHER_HOME"])


@dg.job
def probe():
    look()


@dg.repository
def repository():
    return [probe]
"""


@dataclass
class Cluster:
    """An API server that accepts every Job and keeps it."""

    kubeconfig: Path
    jobs: list[Object] = field(default_factory=list)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    kept = Cluster(tmp_path / "kubeconfig")

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/apis/batch/v1/namespaces/weather/jobs"
            kept.jobs.append(json.loads(body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = {"cluster": {"server": f"http://127.0.0.1:{server.server_port}"}, "name": "here"}
    kept.kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [entry],
                "contexts": [{"context": {"cluster": "here", "user": "me"}, "name": "here"}],
                "current-context": "here",
                "users": [{"name": "me", "user": {}}],
            }
        ),
        encoding="utf-8",
    )
    yield kept
    server.shutdown()
    server.server_close()


def launch(values: Values, cluster: Cluster, postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Launch a run as the daemon does; its Job is in ``cluster``."""
    here = {
        "postgresql": {
            "postgresqlHost": HOST,
            "service": {"port": postgres.port},
            "postgresqlParams": {"sslmode": "disable"},
        },
        "runLauncher": {
            "config": {"k8sRunLauncher": {"loadInclusterConfig": False, "kubeconfigFile": str(cluster.kubeconfig)}}
        },
    }
    values = with_defaults(merge(values, here))
    (home / "dagster.yaml").write_text(yaml.safe_dump(instance_config(values)), encoding="utf-8")
    (home / "code.py").write_text(CODE, encoding="utf-8")
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", PASSWORDS["dagster"])
    (item,) = values["dagster-user-deployments"]["deployments"]
    pointer = FileCodePointer(str(home / "code.py"), "repository", str(home))
    origin = RepositoryPythonOrigin(
        executable_path=sys.executable,
        code_pointer=pointer,
        container_image=image_name(item["image"]),
        entry_point=["dagster"],
        container_context=container_context(values, item),
    )
    repository = pointer.load_target()
    assert isinstance(repository, dg.RepositoryDefinition)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.create_run_for_job(
            repository.get_job("probe"),
            job_code_origin=JobPythonOrigin("probe", origin),
        )
        instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        return run.run_id


@pytest.fixture(params=STACKS)
def stack_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_job_of_a_run_is_what_the_values_say(
    stack_name: str, cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launch(own_values(*STACKS[stack_name][0]), cluster, postgres, tmp_path, monkeypatch)
    (job,) = cluster.jobs
    assert job["metadata"]["name"] == f"dagster-run-{run_id}"
    assert {key: value for key, value in job["spec"].items() if key != "template"} == {
        "backoffLimit": 0,
        "ttlSecondsAfterFinished": 86400,
    }
    template = job["spec"]["template"]
    assert template["metadata"]["annotations"] == {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    pod = template["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["enableServiceLinks"] is False
    # The account without rights, not the daemon's.
    assert pod["serviceAccountName"] == "weather-dagster-user-deployments-user-deployments"
    (container,) = pod["containers"]
    assert container["image"] == "weather-code-location:0.1.0"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert "command" not in container
    assert container["args"][:3] == ["dagster", "api", "execute_run"]
    literal = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    assert literal == {
        "DAGSTER_HOME": "/opt/dagster/dagster_home",
        "DAGSTER_RUN_JOB_NAME": "probe",
        "WEATHER_HOME": "/var/lib/weather",
    }
    secrets = {
        entry["name"]: tuple(entry["valueFrom"]["secretKeyRef"].get(key) for key in ("name", "key"))
        for entry in container["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert secrets == {
        "DAGSTER_PG_PASSWORD": ("dagster-postgresql", "postgresql-password"),
        "WEATHER_POSTGRES_URL": ("weather-warehouse", "url"),
        "WEATHER_DAGSTER_STORAGE_URL": ("dagster-postgresql", "url"),
        "OPENWEATHER_API_KEY": ("weather-provider", "OPENWEATHER_API_KEY"),
        "WEATHER_ALERT_URLS": ("weather-alerts", "WEATHER_ALERT_URLS"),
        **{key: ("weather-databricks", key) for key in declared_secrets()["weather-databricks"]["keys"]},
    }
    (address,) = [entry for entry in container["env"] if "configMapKeyRef" in entry.get("valueFrom", {})]
    assert address["name"] == "WEATHER_UI_URL"
    assert address["valueFrom"]["configMapKeyRef"]["optional"] is True
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == [
        "weather-dagster-user-deployments-weather-user-env",
        "weather-settings",
    ]
    assert {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]} == {
        "/tmp": "tmp",  # noqa: S108 - a mount of the pod
        "/opt/dagster/dagster_home": "dagster-home",
        "/var/lib/weather": "weather-home",
        "/places": "places",
        ACCOUNT: "no-token",
        "/var/run/secrets/postgres": "postgres-ca",
    }
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "2Gi"}
    assert PASSWORDS["dagster"] not in json.dumps(job)


def test_a_run_pulls_its_image_with_the_secret_of_the_code_server(
    cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"imagePullSecrets": [{"name": "ghcr"}]}
    values = merge(own_values("kind"), {"dagster-user-deployments": secrets})
    launch(values, cluster, postgres, tmp_path, monkeypatch)
    (job,) = cluster.jobs
    assert job["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "ghcr"}]


def test_the_job_of_a_run_passes_the_guards(
    stack_name: str, cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(own_values(*STACKS[stack_name][0]), cluster, postgres, tmp_path, monkeypatch)
    assert findings(cluster.jobs, stack_name) == []


def findings(jobs: list[Object], stack_name: str) -> list[str]:
    """What the guards say of Jobs among the objects of a stack."""
    objects = [*stack(stack_name), *jobs]
    return [
        *kubernetes_findings(jobs),
        *restricted_findings(jobs),
        *resource_findings(jobs),
        *token_findings(jobs),
        *secret_findings(jobs, declared_secrets()),
        *reference_findings(objects),
        *certificate_findings(objects),
        *network_findings(objects),
    ]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"securityContext": None}, "writable root file system"),
        ({"runK8sConfig": {"podSpecConfig": {"securityContext": None}}}, "may run as root"),
        (
            {"envVars": ["PGPASSWORD=x"], "labels": {"access.weather/intranet": "true"}},
            "no policy for access.weather/intranet",
        ),
        ({"envSecrets": [{"name": "openweather"}]}, "Secret openweather is not in secrets.yaml"),
        ({"envConfigMaps": [{"name": "settings"}]}, "no ConfigMap settings"),
        ({"runK8sConfig": {"podSpecConfig": {"hostNetwork": True}}}, "hostNetwork"),
    ],
)
def test_a_fault_in_the_launcher_s_values_is_found_in_the_job(
    fault: Values, word: str, cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = merge(own_values("kind"), {"runLauncher": {"config": {"k8sRunLauncher": fault}}})
    launch(values, cluster, postgres, tmp_path, monkeypatch)
    assert word in "\n".join(findings(cluster.jobs, "kind"))


def test_a_run_with_a_token_of_the_cluster_is_found(
    cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = own_values("kind")
    (item,) = values["dagster-user-deployments"]["deployments"]
    item["volumeMounts"] = [mount for mount in item["volumeMounts"] if mount["mountPath"] != ACCOUNT]
    launch(values, cluster, postgres, tmp_path, monkeypatch)
    assert "dagster: has a token" in "\n".join(findings(cluster.jobs, "kind"))


def test_the_command_of_the_pod_completes_the_run(
    cluster: Cluster, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = launch(own_values("kind"), cluster, postgres, tmp_path, monkeypatch)
    (container,) = cluster.jobs[0]["spec"]["template"]["spec"]["containers"]
    written = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    empty = tmp_path / "home"
    empty.mkdir()
    done = subprocess.run(
        container["args"],
        env={
            **written,
            "DAGSTER_HOME": str(empty),
            "DAGSTER_PG_PASSWORD": PASSWORDS["dagster"],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.SUCCESS
