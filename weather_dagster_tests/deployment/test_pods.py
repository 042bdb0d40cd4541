"""What the rendered objects say, done: a node of the cluster on this machine does an hour of work on a real Postgres.

`node.py` tells what of a pod is real and what is not. It needs Linux and root; without, these tests are skipped, and
under CI they fail.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("pods are processes of Linux", allow_module_level=True)

from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.environments import ENVIRONMENTS
from weather_dagster.hours import HourRange, floor_hour, format_hour, utc_now
from weather_dagster.partitions import partition_key
from weather_dagster_tests.deployment.conftest import PASSWORDS, Postgres, platform_postgres
from weather_dagster_tests.deployment.node import Node, Pod, own_network
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
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
)
from weather_dagster_tests.test_dagster_dev import BACKFILL, BRONZE, LAUNCH_BACKFILL, Dagster, wait_for

pytestmark = pytest.mark.integration

PLACES = 10
GRID = timedelta(hours=72)
WEB_PORT = 3000


def values(**others: Any) -> Values:
    """Those of kind, with the read-only web server, and a grid that begins some days ago."""
    (settings,) = own_values("kind")["extraManifests"]
    start = format_hour(floor_hour(utc_now()) - GRID)
    settings["data"]["WEATHER_START_HOUR"] = start
    return merge(
        own_values("kind"), {"extraManifests": [settings], "dagsterWebserver": {"enableReadOnly": True}, **others}
    )


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
    objects = [
        *rendered(with_defaults(values())),
        *manifests("kind"),
        *manifests("ingestor"),
        *documents(MANIFESTS / "jobs" / "migrate.yaml"),
    ]
    host = "weather-postgres:5432"
    secrets = {
        "dagster-postgresql": {
            "postgresql-password": PASSWORDS["dagster"],
            "url": f"postgresql://dagster:{PASSWORDS['dagster']}@{host}/dagster",
        },
        "weather-postgres": {"postgres-password": PASSWORDS["postgres"]},
        "weather-warehouse": {"url": f"postgresql://weather_writer:{PASSWORDS['weather_writer']}@{host}/weather"},
        "weather-warehouse-owner": {"url": f"postgresql://weather_owner:{PASSWORDS['weather_owner']}@{host}/weather"},
    }
    node = Node(tmp_path_factory.mktemp("node"), objects, secrets)
    try:
        with node.api():
            template = node.find("Job", "weather-migrate-")["spec"]["template"]
            for which, _ in enumerate(containers(template)):
                pod = node.start("migrate", template, which)
                assert pod.wait(60) == 0, pod.output
            yield node
    finally:
        node.close()


def deployed(node: Node, name: str) -> Object:
    """The template of a Deployment's pods."""
    template: Object = node.find("Deployment", name)["spec"]["template"]
    return template


@dataclass
class Platform:
    """The Deployments, started."""

    code: Pod
    webserver: Pod
    daemon: Pod
    dagster: Dagster
