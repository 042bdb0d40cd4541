"""What the rendered objects say, done: a node of the cluster on this machine does an hour of work on a real Postgres.

`node.py` tells what of a pod is real and what is not. It needs Linux and root; without, these tests are skipped, and
under CI they fail.
"""

import copy
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("pods are processes of Linux", allow_module_level=True)

from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.environments import ENVIRONMENTS
from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.partitions import partition_key
from weather_dagster_tests.deployment.conftest import PASSWORDS, Postgres, platform_postgres
from weather_dagster_tests.deployment.guards import ACCOUNT, PLACES_FOLDER
from weather_dagster_tests.deployment.node import TOKEN, Node, Pod, own_network
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
    PROJECT,
    Object,
    Values,
    containers,
    documents,
    manifests,
    merge,
    name_of,
    own_values,
    rendered,
    with_defaults,
    with_settings,
)
from weather_dagster_tests.test_dagster_dev import BACKFILL, BRONZE, LAUNCH_CHECK, Dagster, wait_for

pytestmark = pytest.mark.integration

GRID = timedelta(hours=72)
PLACES_FILE = "places.yaml"
OWN = """
locations:
  - {id: nuuk, name: Nuuk, country: GL, latitude: 64.18, longitude: -51.72, time_zone: America/Nuuk}
  - {id: la_paz, name: La Paz, country: BO, latitude: -16.5, longitude: -68.15, time_zone: America/La_Paz}
  - {id: apia, name: Apia, country: WS, latitude: -13.83, longitude: -171.77, time_zone: Pacific/Apia}
"""
PLACES = 3
WEB_PORT = 3000


def values(**others: Any) -> Values:
    """Those of kind, with the read-only web server."""
    return merge(own_values("kind"), {"dagsterWebserver": {"enableReadOnly": True}, **others})


def installation() -> list[Object]:
    """The objects of kind, with a grid that begins some days ago and places of one's own."""
    objects = [
        *rendered(with_defaults(values())),
        *manifests("kind"),
        *manifests("ingestor"),
        *documents(MANIFESTS / "jobs" / "migrate.yaml"),
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "weather-places"}, "data": {PLACES_FILE: OWN}},
    ]
    start = format_hour(floor_hour(utc_now()) - GRID)
    return with_settings(objects, WEATHER_START_HOUR=start, WEATHER_LOCATIONS=f"{PLACES_FOLDER}/{PLACES_FILE}")


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """Of the whole module."""
    if os.geteuid():
        reason = "pods have another user and a root of their own; run this as root"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with own_network():
        yield


@pytest.fixture(scope="module")
def postgres(network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """At the port that objects name."""
    with platform_postgres(tmp_path_factory.mktemp("postgres"), port=5432) as server:
        yield server


@pytest.fixture(scope="module")
def node(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with the warehouse's schema and roles, made by the migration Job."""
    for environment in ENVIRONMENTS.values():
        # As the image's build does.
        load_dbt_project(environment.dbt_target)
    secrets = {
        "dagster-postgresql": {"postgresql-password": PASSWORDS["dagster"], "url": secret_url("dagster", "dagster")},
        "weather-postgres": {"postgres-password": PASSWORDS["postgres"], "url": secret_url("postgres")},
        "weather-warehouse": {"url": secret_url("weather_writer")},
        "weather-warehouse-owner": {"url": secret_url("weather_owner")},
    }
    node = Node(tmp_path_factory.mktemp("node"), installation(), secrets)
    try:
        with node.api():
            template = node.find("Job", "weather-migrate-")["spec"]["template"]
            for container in containers(template):
                pod = node.start("migrate", template, container)
                assert pod.wait(60) == 0, pod.output
            yield node
    finally:
        node.close()


def secret_url(user: str, database: str = "weather") -> str:
    """As Terraform makes it."""
    return f"postgresql://{user}:{PASSWORDS[user]}@weather-postgres:5432/{database}?sslmode=disable"


def deployed(node: Node, name: str) -> Object:
    """The template of a Deployment's pods."""
    template: Object = node.find("Deployment", name)["spec"]["template"]
    return template


CODE = "weather-dagster-user-deployments-weather"
WEBSERVER = "weather-dagster-webserver"
DAEMON = "weather-dagster-daemon"
LAUNCH_BACKFILL = """
mutation ($assets: [AssetKeyInput!]!, $partitions: [String!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $partitions}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
STOP_SENSOR = """
mutation ($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""
SENSOR = """
query ($name: String!) { sensorOrError(sensorSelector: {
  repositoryLocationName: "weather", repositoryName: "__repository__", sensorName: $name
}) { __typename ... on Sensor { id } } }
"""


@dataclass
class Platform:
    """The Deployments, started."""

    node: Node
    code: Pod
    webserver: Pod
    daemon: Pod
    dagster: Dagster
    backfill_id: str

    def backfill(self) -> Any:
        """What Dagster says of the backfill."""
        return self.dagster.ask(BACKFILL, id=self.backfill_id)["partitionBackfillOrError"]

    def backfill_runs(self) -> dict[str, str]:
        """The statuses of its runs."""
        return {run["runId"]: run["status"] for run in self.backfill()["runs"]}

    def run(self, run_id: str) -> Pod:
        """The pod of a run."""
        _, pod = self.node.jobs[f"dagster-run-{run_id}"]
        return pod


@pytest.fixture(scope="module")
def platform(node: Node) -> Platform:
    """Code server, web server and daemon, each by its Deployment. A backfill waits for the daemon's first look."""
    code = node.start("code", deployed(node, CODE))
    code.wait_until_started()
    webserver = node.start("webserver", deployed(node, WEBSERVER))
    webserver.wait_until_started()
    dagster = Dagster(WEB_PORT)
    for name in ("heal_missing_hours", "refresh_waiting_loads"):
        # They would begin runs of their own in between.
        stopped = dagster.ask(STOP_SENSOR, id=dagster.ask(SENSOR, name=name)["sensorOrError"]["id"])
        assert stopped["stopSensor"]["__typename"] == "StopSensorMutationResult", stopped
    launched = dagster.ask(
        LAUNCH_BACKFILL,
        assets=[{"path": path} for path in BRONZE],
        partitions=[partition_key(hour) for hours in backfilled() for hour in hours],
    )["launchPartitionBackfill"]
    return Platform(
        node, code, webserver, node.start("daemon", deployed(node, DAEMON)), dagster, launched["backfillId"]
    )


def backfilled() -> list[HourRange]:
    """Ranges with hours between them: each is a run, and on kind one of them at a time."""
    now = floor_hour(utc_now())
    return [HourRange(now - timedelta(hours=ago), now - timedelta(hours=ago - 11)) for ago in (40, 20)]


def count(postgres: Postgres, table: str, hours: HourRange) -> int:
    """Rows of a range of hours, which the reader sees in gold alone."""
    user = "weather_reader" if table.startswith("gold.") else "weather_writer"
    asked = postgres.sql(
        user,
        "weather",
        f"select count(*) from {table} where valid_hour_utc between '{hours.first}' and '{hours.last}'",
    )
    assert asked.returncode == 0, asked.stderr
    return int(asked.stdout)


def ingestor(node: Node) -> Object:
    """The template of the CronJob's pods."""
    template: Object = node.find("CronJob", "weather-ingestor")["spec"]["jobTemplate"]["spec"]["template"]
    return template


def test_the_ingestor_lands_the_running_hour_of_the_places_that_are_chosen(node: Node, postgres: Postgres) -> None:
    pod = node.start("ingestor", ingestor(node))
    assert pod.wait(60) == 0, pod.output
    now = floor_hour(utc_now())
    # Begun before the hour was over.
    assert count(postgres, "bronze.observations", HourRange(now - timedelta(hours=1), now)) == PLACES
    landed = postgres.sql("weather_writer", "weather", "select distinct location_id from bronze.observations")
    assert sorted(landed.stdout.split()) == ["apia", "la_paz", "nuuk"]


def test_the_ingestor_keeps_to_the_first_hour_that_is_chosen(node: Node) -> None:
    template = copy.deepcopy(ingestor(node))
    (container,) = template["spec"]["containers"]
    container["command"][-1] = container["command"][-1].replace("date -u", "date -u -d '-80 hours'")
    pod = node.start("too-early", template)
    assert pod.wait(60) != 0
    assert "lies before the first hour of the grid" in pod.output


def test_a_backfill_outlives_an_upgrade_of_the_code_server(platform: Platform, postgres: Postgres) -> None:
    blue = platform.code
    wait_for(platform.backfill_runs, lambda told: sorted(told.values()) == ["QUEUED", "STARTED"], timeout=120)
    (running,) = [run_id for run_id, status in platform.backfill_runs().items() if status == "STARTED"]
    pid = platform.run(running).pid
    # All of the upgrade falls into the run, and no code is there when the daemon looks at the backfill: worse than an
    # upgrade, in which the new one is ready before the old one goes.
    os.kill(pid, signal.SIGSTOP)
    assert token_of(platform.run(running)) == ""
    blue.stop()
    wait_for(lambda: platform.daemon.output, lambda told: "The backfill will resume" in told, timeout=90)
    platform.code = platform.node.start("green", upgraded("0.2.0"))
    platform.code.wait_until_started()
    assert sorted(platform.backfill_runs().values()) == ["QUEUED", "STARTED"]
    os.kill(pid, signal.SIGCONT)

    done = wait_for(platform.backfill_runs, lambda told: set(told.values()) <= {"SUCCESS", "FAILURE"}, timeout=120)
    assert list(done.values()) == ["SUCCESS"] * 2
    assert [count(postgres, "bronze.observations", hours) for hours in backfilled()] == [12 * PLACES] * 2
    # A run has the image of the code that it was made by, the one that was queued too.
    assert {platform.run(run_id).container["image"] for run_id in done} == {blue.container["image"]}
    assert platform.code.container["image"] != blue.container["image"]


def test_a_run_of_the_queue_brings_an_hour_to_gold(platform: Platform, postgres: Postgres) -> None:
    hour = floor_hour(utc_now()) - timedelta(hours=1)
    run_id = platform.dagster.launch({"dagster/partition": partition_key(hour)})
    status = platform.dagster.wait_for_run(run_id)
    pod = platform.run(run_id)
    assert status == "SUCCESS", pod.output
    assert pod.wait(30) == 0, pod.output
    assert count(postgres, "gold.hourly_weather", HourRange(hour, hour)) == PLACES
    # After the upgrade the new one.
    assert pod.container["image"] == platform.code.container["image"]


def test_the_backfill_is_complete(platform: Platform) -> None:
    ended = wait_for(platform.backfill, lambda told: told["status"] not in ("REQUESTED", "FAILING"), timeout=60)
    assert ended["status"] == "COMPLETED_SUCCESS"


def test_every_probe_of_the_deployments_is_passed(platform: Platform) -> None:
    for pod in (platform.code, platform.webserver, platform.daemon):
        probes = [probe for probe in pod.container if probe.endswith("Probe")]
        assert {"startupProbe", "livenessProbe"} <= set(probes), pod.name
        assert [probe for probe in strictest(pod.container, probes) if not pod.answers(probe)] == [], pod.name


def strictest(container: Object, probes: list[str]) -> list[str]:
    """Of those that ask the same the one that waits the shortest: what passes it passes the others."""

    def wait(probe: str) -> int:
        return int(container[probe]["timeoutSeconds"])

    def asked(probe: str) -> str:
        return json.dumps([container[probe].get(handler) for handler in ("exec", "httpGet", "tcpSocket", "grpc")])

    return list({asked(probe): probe for probe in sorted(probes, key=wait, reverse=True)}.values())


def test_a_pod_has_the_rights_of_its_object_and_no_more(platform: Platform) -> None:
    for pod in (platform.code, platform.webserver, platform.daemon):
        process = pod.exec("cat", "/proc/1/status").stdout
        told = dict(line.split(":\t", 1) for line in process.splitlines())
        assert told["Uid"].split() == told["Gid"].split() == ["10001"] * 4
        assert (told["NoNewPrivs"], told["CapEff"].strip("0"), told["CapBnd"].strip("0")) == ("1", "", "")
        mounts = {mount["mountPath"] for mount in pod.container["volumeMounts"]}
        for folder in ("/", "/etc", "/usr", "/opt/weather", "/opt/dagster/dagster_home", "/var/lib/weather", "/tmp"):  # noqa: S108 - of the pod
            written = pod.exec("touch", f"{folder}/probe")
            assert (written.returncode == 0) == (folder in mounts), f"{pod.name}: {folder} {written.stderr}"


def test_each_command_of_the_operations_does_its_work_in_the_code_server(
    platform: Platform, postgres: Postgres
) -> None:
    hour = floor_hour(utc_now()) - timedelta(hours=60)
    document = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    lines = sorted(set(re.findall(r"on_cluster (weather[^`\n|;]*)", document)))
    assert "weather ingest --from HOUR --to HOUR" in lines
    # Those that look are right when they find something wrong, and there is nobody to tell of it.
    may_end_with_1 = ("weather status", "weather doctor", "weather locations check", "weather alerts test")
    for line in lines:
        told = line.replace("HOUR", format_hour(hour)).replace("PLACE", "apia").replace("PATTERN", "check *")
        done = platform.code.exec(*shlex.split(told.partition(" && ")[0]))
        said = done.stdout + done.stderr
        assert done.returncode == 0 or (done.returncode == 1 and line.startswith(may_end_with_1)), f"{line}:\n{said}"
        assert "Traceback" not in said, f"{line}:\n{said}"
        assert [name for name, password in PASSWORDS.items() if password in said] == [], line
    assert count(postgres, "bronze.observations", HourRange(hour, hour)) == PLACES
    assert count(postgres, "gold.hourly_weather", HourRange(hour, hour)) == PLACES


def test_a_run_beside_the_cluster_s_own_is_refused_in_the_code_server(platform: Platform) -> None:
    refused = platform.code.exec("weather", "demo", "--days", "1")
    assert (refused.returncode, "in a pod" in refused.stderr) == (1, True), refused.stderr


def token_of(pod: Pod) -> str:
    """What a pod has of the cluster's API."""
    return pod.exec("sh", "-c", f"cat {ACCOUNT}/token || true").stdout


def test_only_who_starts_runs_has_a_token(platform: Platform) -> None:
    assert {pod.name: token_of(pod) for pod in (platform.webserver, platform.daemon)} == {
        "webserver": TOKEN,
        "daemon": TOKEN,
    }
    assert token_of(platform.code) == ""
    template = copy.deepcopy(deployed(platform.node, CODE))
    (container,) = template["spec"]["containers"]
    container["volumeMounts"] = [mount for mount in container["volumeMounts"] if mount["mountPath"] != ACCOUNT]
    container["args"] = ["cat", f"{ACCOUNT}/token"]
    pod = platform.node.start("with-token", template)
    assert pod.wait(30) == 0
    assert pod.output == TOKEN


def test_without_its_writable_folders_the_code_server_does_not_start(platform: Platform) -> None:
    template = copy.deepcopy(deployed(platform.node, CODE))
    template["spec"]["containers"][0]["volumeMounts"] = []
    pod = platform.node.start("without-folders", template)
    assert pod.wait(60) != 0
    assert "Read-only file system: '/opt/dagster/dagster_home" in pod.output
    assert not pod.answers("livenessProbe")


def test_the_web_server_for_those_who_look_changes_nothing(platform: Platform) -> None:
    platform.webserver.stop()
    pod = platform.node.start("read-only", deployed(platform.node, f"{WEBSERVER}-read-only"))
    pod.wait_until_started()
    assert pod.answers("livenessProbe")
    told = Dagster(WEB_PORT).ask(LAUNCH_CHECK, location="weather")["launchPipelineExecution"]
    assert told["__typename"] == "UnauthorizedError"


def test_servers_and_ingestor_begin_with_json(platform: Platform) -> None:
    told = [pod for pod in platform.node.pods if pod.name in ("code", "green", "webserver", "daemon", "ingestor")]
    assert len(told) >= 3
    for pod in told:
        assert isinstance(json.loads(pod.output.splitlines()[0]), dict), pod.name


def test_no_secret_is_in_what_pods_say(platform: Platform) -> None:
    assert {"migrate", "code", "webserver", "daemon"} <= {pod.name for pod in platform.node.pods}
    for pod in platform.node.pods:
        assert [name for name, password in PASSWORDS.items() if password in pod.output] == [], pod.name
    for job, _ in platform.node.jobs.values():
        assert [name for name, password in PASSWORDS.items() if password in json.dumps(job)] == []


def upgraded(tag: str) -> Object:
    """The template of the code server with another image."""
    told = values()["dagster-user-deployments"]["deployments"][0]
    item = {**told, "image": {**told["image"], "tag": tag}}
    objects = rendered(with_defaults(values(**{"dagster-user-deployments": {"deployments": [item]}})))
    (found,) = [thing for thing in objects if (thing["kind"], name_of(thing)) == ("Deployment", CODE)]
    template: Object = found["spec"]["template"]
    return template
