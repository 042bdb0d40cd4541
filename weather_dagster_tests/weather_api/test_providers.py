"""From settings to a provider."""

import re
from pathlib import Path
from typing import Any

import pytest

import weather_dagster
from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.providers import PROVIDERS, build_providers


def settings(**chosen: Any) -> Settings:
    return Settings(_env_file=None, **{"openweather_api_key": "k", **chosen})


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_registered_provider_can_be_built_and_carries_its_name(name: str) -> None:
    assert WeatherApi.from_settings(settings(weather_provider=name)).provider == name


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            {"weather_provider": "weather_bug"},
            r"'weather_bug'; known names: openweather, open_meteo, simulator, recorded",
        ),
        (
            {"openweather_plan": "platinum"},
            r"OPENWEATHER_PLAN is 'platinum'; known plans: free, one_call_3, one_call_4, professional",
        ),
        (
            {"openweather_plan": "simulator"},
            r"OPENWEATHER_PLAN is 'simulator'; known plans: free, one_call_3, one_call_4, professional",
        ),
        ({"weather_provider": "openweather", "openweather_api_key": None}, r"set OPENWEATHER_API_KEY"),
        ({"weather_provider": "openweather", "openweather_api_key": "  "}, r"set OPENWEATHER_API_KEY"),
        ({"openweather_base_url": "api.example"}, r"OPENWEATHER_BASE_URL"),
        ({"openweather_base_url": "ftp://api.example"}, r"scheme 'ftp'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build_providers(settings(**chosen))


def test_the_base_url_replaces_both_hosts() -> None:
    built, *_ = build_providers(
        settings(openweather_plan="professional", openweather_base_url="http://127.0.0.1:8900/")
    )
    assert {endpoint.base_url for endpoint in built.endpoints} == {"http://127.0.0.1:8900"}


def test_without_a_base_url_the_history_has_its_own_host() -> None:
    built, *_ = build_providers(settings(openweather_plan="professional"))
    assert {endpoint.base_url for endpoint in built.endpoints} == {
        "https://api.openweathermap.org",
        "https://history.openweathermap.org",
    }


@pytest.mark.parametrize("name", ["simulator", "recorded"])
def test_built_in_data_answers_in_process_whatever_a_live_account_is_set_to(name: str) -> None:
    served = settings(weather_provider=name, openweather_base_url="http://127.0.0.1:8900")
    (built,) = build_providers(served)
    assert built.app is not None


def test_the_simulator_is_never_sent_the_real_key() -> None:
    built, *_ = build_providers(settings(weather_provider="simulator", openweather_api_key="real"))
    assert "real" not in [secret.get_secret_value() for secret in built.service.credentials.values()]


def test_the_client_alone_imports_httpx() -> None:
    package = Path(weather_dagster.__file__).parent
    importing = [
        file.relative_to(package).as_posix()
        for file in package.rglob("*.py")
        if re.search(r"^\s*(import|from) httpx", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == ["weather_api/client.py"]


def test_every_provider_name_is_in_the_registry() -> None:
    assert set(PROVIDERS) == set(ProviderName)
