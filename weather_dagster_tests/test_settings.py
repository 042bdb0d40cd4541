"""Settings: what decides the provider, where things are written, and what is said about a bad value."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import RECORDED_FIRST_HOUR, RECORDED_LOCATIONS, ProviderName, Settings


def test_without_any_setting_the_simulator_serves(clean_environment: Path) -> None:
    settings = Settings.load()
    assert settings.provider == "simulator"
    assert settings.home == clean_environment / ".weather" / "simulator"


def test_a_key_alone_goes_live_with_a_warehouse_of_its_own(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = Settings.load()
    monkeypatch.setenv("OPENWEATHER_API_KEY", "0123456789abcdef0123456789abcdef")
    live = Settings.load()
    assert live.provider == "openweather"
    assert live.duckdb_path != demo.duckdb_path
    assert live.dagster_home_path != demo.dagster_home_path


def test_a_dotenv_file_is_read_and_the_environment_wins(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clean_environment / ".env").write_text("WEATHER_PROVIDER=recorded\nWEATHER_HOME=here\n", encoding="utf-8")
    assert Settings.load().home == clean_environment / "here" / "recorded"
    monkeypatch.setenv("WEATHER_PROVIDER", "simulator")
    assert Settings.load().home == clean_environment / "here" / "simulator"


def test_the_key_is_not_shown_when_settings_are_printed(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("OPENWEATHER_API_KEY", key)
    settings = Settings.load()
    assert key not in f"{settings!r} {settings}"


def test_the_grid_starts_at_a_fixed_hour(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().start_hour == datetime(2025, 1, 1, tzinfo=UTC)
    assert Settings.load(weather_provider="recorded").start_hour == datetime(2013, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("WEATHER_START_HOUR", "2020-06-01T05:00")
    assert Settings.load().start_hour == datetime(2020, 6, 1, 5, tzinfo=UTC)


def test_a_start_that_is_no_hour_is_refused_by_name(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_START_HOUR", "soon")
    with pytest.raises(ConfigurationError, match="WEATHER_START_HOUR is 'soon'"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "known"),
    [("WEATHER_PROVIDER", ("openweather", "open_meteo", "simulator", "recorded")), ("WEATHER_ENV", ("local",))],
)
def test_an_unknown_name_is_refused_with_the_known_ones(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, name: str, known: tuple[str, ...]
) -> None:
    monkeypatch.setenv(name, "moon")
    with pytest.raises(ConfigurationError, match=f"{name} is 'moon'; known names: {', '.join(known)}"):
        Settings.load()


def test_the_recording_keeps_its_own_places_and_hours(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_LOCATIONS", "mine.yaml")
    monkeypatch.setenv("WEATHER_START_HOUR", "2026-01-01")
    recorded = Settings.load(weather_provider="recorded")
    assert recorded.locations_path == RECORDED_LOCATIONS
    assert recorded.start_hour == RECORDED_FIRST_HOUR
    assert Settings.load().locations_path == clean_environment / "mine.yaml"


def test_a_tilde_is_the_home_of_the_person(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_HOME", "~/weather")
    assert Settings.load().home == Path.home() / "weather" / "simulator"


def test_a_dagster_home_of_the_persons_own_is_not_taken_for_a_providers(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(clean_environment / "mine"))
    homes = {Settings.load(weather_provider=name).dagster_home_path for name in ProviderName}
    assert len(homes) == 3
    assert clean_environment / "mine" not in homes


def test_an_empty_variable_is_no_setting(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_PROVIDER", "")
    monkeypatch.setenv("OPENWEATHER_API_KEY", "")
    assert Settings.load().provider == "simulator"
