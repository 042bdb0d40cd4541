"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as the current one, and none of the settings in the environment."""
    for name in list(os.environ):
        if name.startswith(("WEATHER_", "OPENWEATHER_", "DAGSTER_HOME", "DBT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
