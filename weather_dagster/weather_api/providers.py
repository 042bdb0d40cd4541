"""The registry of providers: from a name in the settings to what can be asked, how, and of whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import Endpoint
from weather_dagster.weather_api.service import RateLimit, Service

OPENWEATHER_PLANS = ("free", "professional")
NO_KEY = SecretStr("no-key-needed")
"""The simulator takes any key, but as the real service it wants one."""
RATE_FILE = "rate.sqlite"


@dataclass(frozen=True)
class Provider:
    """A provider as configured."""

    service: Service
    description: str
    """Name and plan, for messages."""
    endpoints: tuple[Endpoint, ...]
    ways_out: str
    """What a person can do about an hour that no endpoint serves."""
    app: Callable[..., Any] | None = None
    """ASGI application that answers in process, None for the network."""
    is_stand_in: bool = False
    """Another host is asked than the provider's own: who answers is told by the answers alone."""

    @property
    def name(self) -> str:
        """As in WEATHER_PROVIDER and in the rows."""
        return self.service.name


def _openweather(settings: Settings) -> Provider:
    key = settings.openweather_api_key
    if key is None or not key.get_secret_value().strip():
        raise ConfigurationError(
            "WEATHER_PROVIDER is openweather, which needs a key: set OPENWEATHER_API_KEY "
            "(free at openweathermap.org), or unset WEATHER_PROVIDER for the simulator"
        )
    plan = settings.openweather_plan
    if plan not in OPENWEATHER_PLANS:
        raise ConfigurationError(f"OPENWEATHER_PLAN is {plan!r}; known plans: {', '.join(OPENWEATHER_PLANS)}")
    ways = ["ask for hours that are served"]
    if plan == "free":
        ways.append("set OPENWEATHER_PLAN=professional if the account has that subscription")
    ways.append("set WEATHER_PROVIDER=simulator for made-up weather of any hour")
    secret = SecretStr(key.get_secret_value().strip())
    base_url = _base_url(settings)
    built = _build(
        "openweather", f"openweather (plan {plan})", plan, ways, base_url=base_url, key=secret, home=settings.home
    )
    return replace(built, is_stand_in=base_url is not None)


def _simulator(settings: Settings) -> Provider:
    from weather_dagster.simulator.app import create_app

    ways = ["ask for hours that are served"]
    return _build("simulator", "simulator", "simulator", ways, home=settings.home, app=create_app())


def _recorded(settings: Settings) -> Provider:
    from weather_dagster.simulator.recorded import create_app

    ways = ["ask for hours that are served", "set WEATHER_PROVIDER=simulator for made-up weather of any hour"]
    return _build("recorded", "recorded", "recorded", ways, home=settings.home, app=create_app())


def _build(
    name: str,
    description: str,
    plan: str,
    ways_out: list[str],
    *,
    home: Path,
    base_url: str | None = None,
    key: SecretStr = NO_KEY,
    app: Callable[..., Any] | None = None,
) -> Provider:
    chosen = openweather.plans(base_url)[plan]
    calls = chosen.calls_per_minute
    service = Service(
        name=name,
        credentials={"appid": key},
        verdict=openweather.verdict,
        hints=openweather.HINTS,
        rate_limit=RateLimit(calls, home / RATE_FILE) if calls else None,
    )
    return Provider(service, description, chosen.endpoints, "; ".join(ways_out), app)


def _base_url(settings: Settings) -> str | None:
    url = settings.openweather_base_url
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ConfigurationError(
            f"OPENWEATHER_BASE_URL is no address of the form http://host:port (scheme {parts.scheme!r}, "
            f"host {parts.hostname!r}); correct or unset it"
        )
    return url.rstrip("/")


PROVIDERS: Mapping[ProviderName, Callable[[Settings], Provider]] = {
    ProviderName.OPENWEATHER: _openweather,
    ProviderName.SIMULATOR: _simulator,
    ProviderName.RECORDED: _recorded,
}


def build_provider(settings: Settings) -> Provider:
    """The provider that the settings ask for.

    Raises:
        ConfigurationError: unknown plan, missing key, unusable base URL.
    """
    return PROVIDERS[settings.provider](settings)
