"""What an environment finds by its settings, however they are spelled, and never shows."""

import os
from pathlib import Path

import dagster as dg
import pytest

from weather_dagster.dbt_project import load_dbt_project
from weather_dagster.environments import STORAGE_URL, tell_dagster
from weather_dagster.errors import ConfigurationError
from weather_dagster.resources import WeatherApiResource, resources_for
from weather_dagster.settings import Settings

KEY = "5e1ec7ed5e1ec7ed"
NAME = "OPENWEATHER_API_KEY"


@pytest.mark.parametrize("spelled", [NAME, NAME.lower(), "OpenWeather_Api_Key"])
@pytest.mark.parametrize("is_in_file", [True, False])
def test_a_run_finds_the_key_in_any_spelling_and_shows_it_nowhere(
    spelled: str,
    is_in_file: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (NAME, NAME.lower(), "WEATHER_PROVIDER"):
        monkeypatch.delenv(name, raising=False)
    if is_in_file:
        (tmp_path / ".env").write_text(f"{spelled}={KEY}\n")
    else:
        monkeypatch.setenv(spelled, KEY)
    resource = resources_for(Settings.load(), load_dbt_project("duckdb"))["weather_api"]
    providers: list[str] = []

    @dg.op
    def ask(weather_api: WeatherApiResource) -> None:
        providers.append(weather_api.api().provider)

    @dg.job(resource_defs={"weather_api": resource})
    def asking() -> None:
        ask()

    assert asking.execute_in_process().success
    assert providers == ["openweather"]
    assert KEY not in f"{resource!r} {resource._config_schema.default_value}" + caplog.text + "".join(
        capfd.readouterr()
    )


def shared(url: str) -> Settings:
    return Settings.load(_env_file=None, weather_env="cluster", weather_dagster_storage_url=url)


@pytest.mark.parametrize(
    "rest",
    ["me:s3cret/%40@host:5432/records", "host/records", "me@[::1]:5432/records?sslmode=require", ":5432/records"],
)
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_dagster_is_told_the_database_of_its_records(scheme: str, rest: str) -> None:
    assert tell_dagster(shared(f"{scheme}://{rest}")) == f"postgresql+psycopg2://{rest}" == os.environ[STORAGE_URL]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3@cret@host/records",
        "postgresql://me:s3cret@host:port/records",
        "postgresql://me:s3cret/records",
        "mysql://me:s3cret@host/records",
    ],
)
def test_a_url_that_dagster_would_take_apart_wrongly_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot be read; .* in {STORAGE_URL}") as refusal:
        tell_dagster(shared(url))
    assert "cret" not in str(refusal.value)
