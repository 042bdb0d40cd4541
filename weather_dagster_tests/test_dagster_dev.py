"""`weather dev` as a person uses it: the real webserver, daemon and queue, driven over GraphQL."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import httpx
import pytest

from weather_dagster.automation.instance import WORKSPACE_FILE
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, utc_now
from weather_dagster.partitions import partition_key
from weather_dagster.settings import realm
from weather_dagster_tests.conftest import BIN, KEY, free_port, without_settings
from weather_dagster_tests.deployment.workflow_guards import SCRIPTS

pytestmark = pytest.mark.integration

T = TypeVar("T")
PLACES = 10
SCRIPT = SCRIPTS / "backfill.py"
"""With which .github/workflows/kind.yml starts a backfill."""
BRONZE = [["bronze", name] for name in ("observations", "forecasts", "air_quality")]

LAUNCH_JOB = """
mutation ($tags: [ExecutionTag!]!, $location: String!) {
  launchPipelineExecution(executionParams: {
    selector: {repositoryLocationName: $location, repositoryName: "__repository__", jobName: "hourly_weather"},
    executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
LAUNCH_CHECK = """
mutation ($location: String!) {
  launchPipelineExecution(executionParams: {
    selector: {
      repositoryLocationName: $location, repositoryName: "__repository__", jobName: "__ASSET_JOB", assetSelection: [],
      assetCheckSelection: [{assetKey: {path: ["bronze", "observations"]}, name: "completeness"}]
    }
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
BACKFILL = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status runs(limit: 50) { runId status assetSelection { path } tags { key value } }
} } }
"""
ASSETS = """
query { assetNodes { assetKey { path } description owners { ... on TeamAssetOwner { team } } kinds
  tags { key value } isMaterializable isPartitioned
  metadataEntries { label __typename }
  partitionStats { numMaterialized numFailed }
  assetChecksOrError { ... on AssetChecks { checks { name executionForLatestMaterialization {
    status evaluation { severity description } } } } }
} }
"""

BACKFILLS = "query { partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { id } } } }"
CANCEL = "mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
RESOURCES = """
query { allTopLevelResourceDetailsOrError(repositorySelector: {
  repositoryLocationName: "weather", repositoryName: "__repository__"
}) { ... on ResourceDetailsList { results { name configuredValues { key value } configFields { name } } } } }
"""


class Dagster:
    """A running `weather dev`, spoken to over GraphQL."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of an answer without errors."""
        answer = self.client.post("/graphql", json={"query": query, "variables": variables}).json()
        assert "errors" not in answer, json.dumps(answer["errors"])[:2000]
        return answer["data"]

    def launch(self, tags: dict[str, str]) -> str:
        launched = self.ask(LAUNCH_JOB, location="weather", tags=[{"key": k, "value": v} for k, v in tags.items()])[
            "launchPipelineExecution"
        ]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def wait_for_run(self, run_id: str) -> str:
        return wait_for(
            lambda: self.ask(RUN, id=run_id)["runOrError"]["status"],
            lambda status: status in ("SUCCESS", "FAILURE", "CANCELED"),
            timeout=180,
        )

    def newest_backfill(self) -> Any:
        """The one that was launched last, in a list, which is empty before the first."""
        return self.ask(BACKFILLS)["partitionBackfillsOrError"]["results"]

    def assets(self) -> dict[str, Any]:
        return {"/".join(node["assetKey"]["path"]): node for node in self.ask(ASSETS)["assetNodes"]}


def wait_for(ask: Callable[[], T], done: Callable[[T], bool], *, timeout: float) -> T:
    """Ask until the answer is the one waited for."""
    deadline = time.monotonic() + timeout
    while not done(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer} after {timeout} s"
        time.sleep(1)
    return answer


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A new home on the simulator."""
    return {
        **without_settings(),
        "WEATHER_HOME": str(tmp_path_factory.mktemp("home")),
        "WEATHER_PROVIDER": "simulator",
        "OPENWEATHER_API_KEY": KEY,
    }


INGESTED = floor_hour(utc_now()) - timedelta(hours=90)
"""An hour that `weather ingest` lands before Dagster is up."""


def switch_off(environment: dict[str, str], kind: str, name: str) -> None:
    """Switch a schedule or sensor off, so that the tests here see their own runs alone."""
    home = Path(environment["WEATHER_HOME"]) / "simulator" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [BIN / "dagster", kind, "stop", name, "-w", WORKSPACE_FILE, "-l", "weather"],
        env={**environment, "DAGSTER_HOME": str(home)}, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dagster(environment: dict[str, str]) -> Iterator[Dagster]:
    """`weather dev` on a free port, over a home in which only the ingestor ran; stopped as a person stops it."""
    switch_off(environment, "schedule", "hourly_weather")
    switch_off(environment, "sensor", "heal_missing_hours")
    switch_off(environment, "sensor", "refresh_waiting_loads")
    hour = format_hour(INGESTED)
    subprocess.run([BIN / "weather", "ingest", "--from", hour, "--to", hour], env=environment, check=True)
    assert query(environment, "select count(*) from bronze.observations") == [(PLACES,)]
    port = free_port()
    log = Path(environment["WEATHER_HOME"]) / "dev.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "weather", "dev", "--port", str(port)],
            env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    server = Dagster(port)

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return "assetNodes" in server.ask("query { assetNodes { id } }")
        except httpx.TransportError:
            return False

    try:
        wait_for(is_up, bool, timeout=120)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def query(environment: dict[str, str], sql: str) -> list[tuple[Any, ...]]:
    """Rows of the home's warehouse, between the writers' turns."""
    path = Path(environment["WEATHER_HOME"]) / realm(environment["WEATHER_PROVIDER"]) / "warehouse.duckdb"

    def ask() -> list[tuple[Any, ...]] | None:
        try:
            with duckdb.connect(path, read_only=True) as connection:
                return connection.execute(sql).fetchall()
        except duckdb.IOException:
            return None

    rows = wait_for(ask, lambda answer: answer is not None, timeout=30)
    assert rows is not None
    return rows


def test_the_graph_reads_by_itself(dagster: Dagster) -> None:
    assets = {key: node for key, node in dagster.assets().items() if node["isMaterializable"]}
    assert {"bronze/observations", "silver/observations", "gold/daily_weather", "report/weather_report"} <= set(assets)
    for key, node in assets.items():
        assert node["description"], key
        assert node["owners"], key
        assert node["kinds"], key
        assert node["tags"], key
        if not key.startswith("report/"):
            assert "TableSchemaMetadataEntry" in [e["__typename"] for e in node["metadataEntries"]], key


def test_the_resource_pages_do_not_show_the_key(dagster: Dagster) -> None:
    shown = dagster.ask(RESOURCES)["allTopLevelResourceDetailsOrError"]["results"]
    assert {resource["name"] for resource in shown} == {"weather_api", "places", "warehouse", "dbt"}
    assert KEY not in json.dumps(shown)


def test_one_partition_runs_from_bronze_to_the_report(dagster: Dagster, environment: dict[str, str]) -> None:
    hour = floor_hour(utc_now()) - timedelta(hours=60)
    run_id = dagster.launch({"dagster/partition": partition_key(hour)})
    assert dagster.wait_for_run(run_id) == "SUCCESS"
    assets = dagster.assets()
    for key in BRONZE:
        assert assets["/".join(key)]["partitionStats"] == {"numMaterialized": 1, "numFailed": 0}
    rows = query(environment, "select valid_hour_utc, count(*) from gold.hourly_weather group by all order by all")
    assert [(floor_hour(valid), count) for valid, count in rows] == [(INGESTED, PLACES), (hour, PLACES)], (
        "what was ingested while Dagster was down comes along"
    )


def test_a_check_can_be_executed_alone_on_the_last_day(dagster: Dagster) -> None:
    launched = dagster.ask(LAUNCH_CHECK, location="weather")["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    assert dagster.wait_for_run(launched["run"]["runId"]) == "SUCCESS"
    checks = dagster.assets()["bronze/observations"]["assetChecksOrError"]["checks"]
    (evaluated,) = [check for check in checks if check["name"] == "completeness"]
    evaluation = evaluated["executionForLatestMaterialization"]["evaluation"]
    # Nothing was landed in the last day yet.
    assert evaluation["description"].startswith("0 of 240 place-hours present")


def test_a_backfill_of_48_hours_is_one_bronze_run_and_one_dbt_run(
    dagster: Dagster, environment: dict[str, str]
) -> None:
    last = floor_hour(utc_now()) - 2 * HOUR
    hours = HourRange(last - 47 * HOUR, last)
    before = {key: node["partitionStats"] for key, node in dagster.assets().items()}
    done = subprocess.run(
        [sys.executable, SCRIPT, dagster.url, *map(partition_key, hours)], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'status': 'COMPLETED_SUCCESS'" in done.stdout
    assert done.stdout.count("'status': 'SUCCESS'") == 2
    (backfill,) = dagster.newest_backfill()
    state = dagster.ask(BACKFILL, id=backfill["id"])["partitionBackfillOrError"]
    layers = [{asset["path"][0] for asset in run["assetSelection"]} for run in state["runs"]]
    # The quarantine is of bronze, but has no partitions: it runs with the models.
    assert sorted(layers, key=len) == [{"bronze"}, {"bronze", "silver", "gold", "report"}]

    assets = dagster.assets()
    for path in BRONZE:
        key = "/".join(path)
        new = assets[key]["partitionStats"]["numMaterialized"] - before[key]["numMaterialized"]
        assert (new, assets[key]["partitionStats"]["numFailed"]) == (48, 0), key
    for key, node in assets.items():
        for check in node["assetChecksOrError"].get("checks", []):
            execution = check["executionForLatestMaterialization"]
            assert execution, f"{key}: {check['name']} was not evaluated"
            # The newest weather is here, but most of it was fetched long after its hour, and this check says so.
            expected = "FAILED" if check["name"] == "fetched_recently" else "SUCCEEDED"
            assert execution["status"] == expected, f"{key}: {check['name']} {execution}"
    ((rows,),) = query(
        environment,
        f"select count(*) from gold.hourly_weather where valid_hour_utc between '{hours.first}' and '{hours.last}'",
    )
    assert rows == PLACES * 48


def test_the_script_of_the_workflow_fails_when_there_is_no_such_hour_and_when_the_backfill_is_cancelled(
    dagster: Dagster,
) -> None:
    command = [sys.executable, SCRIPT, dagster.url]
    done = subprocess.run([*command, "2026-01-01T00:00"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "2026-01-01T00:00" in done.stderr

    before = dagster.newest_backfill()
    hour = partition_key(floor_hour(utc_now()) - timedelta(hours=70))
    process = subprocess.Popen([*command, hour], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    (backfill,) = wait_for(dagster.newest_backfill, lambda found: found != before, timeout=60)
    dagster.ask(CANCEL, id=backfill["id"])
    _, told = process.communicate(timeout=180)
    assert (process.returncode, told) == (1, "the backfill failed\n")
