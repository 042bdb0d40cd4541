"""The resources of an environment find the key however it is spelled, and never show it."""

from pathlib import Path

import dagster as dg
import pytest

from weather_dagster.dbt_project import load_dbt_project
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
