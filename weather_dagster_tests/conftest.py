"""Fixtures that every room's tests share."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import uvicorn
from playwright.sync_api import Browser, Error, sync_playwright
from starlette.types import ASGIApp

from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Faults
from weather_dagster_tests.databricks.fixtures import (  # noqa: F401 - fixtures
    databricks,
    databricks_server,
    databricks_store,
)
from weather_dagster_tests.ports import free_port as free_port
from weather_dagster_tests.postgres import (  # noqa: F401 - fixtures
    bronze,
    bronze_database,
    opened,
    postgres_server,
    postgres_store,
    postgres_url,
    store,
)
from weather_dagster_tests.state import place  # noqa: F401 - a fixture

KEY = "0123456789abcdef0123456789abcdef"
"""A key of OpenWeather's shape that no account has; searched for in whatever a live run writes."""
BIN = Path(sys.executable).parent
LONGEST = (
    "test_alerting.py",
    "test_databricks.py",
    "test_two_engines.py",
    "test_increments.py",
    "test_cluster.py",
    "test_pods.py",
    "test_dagster_dev.py",
    "test_databricks_environment.py",
    "test_postgres.py",
    "test_recorded_year.py",
    "test_downtime.py",
    "test_retention_at_scale.py",
)
"""Files that take minutes."""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Parse the dbt project before there are workers: two of them would write one manifest at once."""
    # Dagster takes seconds to import, and only this needs it here.
    from weather_dagster.dbt_project import load_dbt_project
    from weather_dagster.environments import ENVIRONMENTS

    for environment in ENVIRONMENTS.values():
        load_dbt_project(environment.dbt_target)


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests be alike however they are started."""
    # A job in the background ignores interrupts, and so does all that it starts; Dagster takes an end for one.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # A worker's parent has readline, which exports a terminal's size, which Rich takes.
    if hasattr(config, "workerinput"):
        os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long files begin first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.get_closest_marker("integration") is None))


def without_settings() -> dict[str, str]:
    """The environment without any of our settings, and as outside a pod."""
    ours = ("WEATHER_", "OPENWEATHER_", "DAGSTER_HOME", "DBT_", "KUBERNETES_SERVICE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """What a test tells Dagster or dbt through this process's environment is not told to the next test."""
    with patch.dict(os.environ):
        yield


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, and none of the settings in the environment."""
    for name in os.environ.keys() - without_settings().keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Weather = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def weather(tmp_path: Path) -> Weather:
    """Runs ``weather ARGUMENTS`` in an empty folder; keyword arguments are settings."""

    def run(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        environment = {**without_settings(), "COLUMNS": "200", **settings}
        return subprocess.run(
            [BIN / "weather", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@dataclass(frozen=True)
class Provider:
    """A simulated provider behind a real socket."""

    url: str
    faults: Faults

    @property
    def live(self) -> dict[str, str]:
        """Settings of a live account at this provider."""
        return {
            "WEATHER_PROVIDER": "openweather",
            "OPENWEATHER_API_KEY": KEY,
            "OPENWEATHER_PLAN": "professional",
            "OPENWEATHER_BASE_URL": self.url,
            "OPEN_METEO_BASE_URL": self.url,
        }


@contextmanager
def serving(app: ASGIApp, **how: Any) -> Iterator[int]:
    """The app behind a real socket, in a thread; yields its port. ``how`` is for uvicorn."""
    config = uvicorn.Config(app, log_level="critical", server_header=False, date_header=False, **how)
    server = uvicorn.Server(config)
    # Bound here: a port that was only looked up could be taken by another worker of the tests.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline, "the simulator did not start"
            time.sleep(0.02)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A simulated OpenWeather on a port of its own; its faults can be set at any time."""
    faults = Faults()
    with serving(create_app(faults=faults)) as port:
        yield Provider(f"http://127.0.0.1:{port}", faults)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of this machine, else Playwright's own. Without either: a failure under CI, elsewhere a skip.

    One per module: as long as it lives, Playwright's event loop counts as running in this thread, and
    ``asyncio.run`` in a test of another module would refuse to start.
    """
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_ARGUMENTS)
        except Error as error:
            reason = f"no Chromium can be started; install one, or run `playwright install chromium`: {error.message}"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)
        yield chromium
        chromium.close()
