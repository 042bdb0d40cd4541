"""The registry of providers: from a name in the settings to what can be asked, how, and of whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from weather_dagster.errors import ConfigurationError
from weather_dagster.settings import HistoryProviderName, ProviderName, Settings
from weather_dagster.state import ledger_place
from weather_dagster.weather_api import open_meteo, openweather
from weather_dagster.weather_api.endpoints import Endpoint
from weather_dagster.weather_api.service import Service

NO_KEY = SecretStr("no-key-needed")
"""The simulator takes any key, but as the real service it wants one."""
OTHER_HOURS = "ask for hours that are served"
MADE_UP = "set WEATHER_PROVIDER=simulator for made-up weather of any hour"


@dataclass(frozen=True)
class Provider:
    """A provider as configured."""

    service: Service
    description: str
    """Name and plan, for messages."""
    endpoints: tuple[Endpoint, ...]
    ways_out: str
    """What a person can do about an hour that no endpoint serves."""
    ways_to_more_calls: str
    """What a person can do about a limit that is used up, beside waiting and asking for less."""
    geocoder_url: str
    """Host of the geocoder, whose calls count as ``geocoder_product``."""
    geocoder_product: str
    prices: Mapping[str, openweather.Price] = field(default_factory=dict)
    """By product; one that is not named costs nothing by the call."""
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
            "(free at openweathermap.org), set WEATHER_PROVIDER=open_meteo, which needs none, or unset "
            "WEATHER_PROVIDER for the simulator"
        )
    plan = settings.openweather_plan
    if plan not in openweather.PLAN_NAMES:
        raise ConfigurationError(f"OPENWEATHER_PLAN is {plan!r}; known plans: {', '.join(openweather.PLAN_NAMES)}")
    subscribe = _other_plans(settings)
    ways = [OTHER_HOURS, subscribe, MADE_UP]
    if settings.weather_history_provider is HistoryProviderName.NONE:
        ways.insert(1, "set WEATHER_HISTORY_PROVIDER=open_meteo, which serves past hours without a key")
    base_url = _base_url("OPENWEATHER_BASE_URL", settings.openweather_base_url)
    chosen = openweather.plans(base_url, one_call_per_day=settings.openweather_one_call_per_day)[plan]
    service = Service(
        name="openweather",
        credentials={"appid": SecretStr(key.get_secret_value().strip())},
        verdict=openweather.verdict,
        hint=openweather.hint,
        limits=chosen.limits,
        ledger=ledger_place(settings),
    )
    more_calls = [subscribe]
    if "one_call" in chosen.limits:
        more_calls.append(
            "raise OPENWEATHER_ONE_CALL_PER_DAY, above 1,000 of which every call is charged, as far as the cap that "
            "the account has set"
        )
    return Provider(
        service,
        f"openweather (plan {plan})",
        chosen.endpoints,
        "; ".join(ways),
        "; ".join([*more_calls, "set WEATHER_PROVIDER=open_meteo, which needs no key"]),
        base_url or openweather.API_URL,
        "free",
        prices=chosen.prices,
        is_stand_in=base_url is not None,
    )


def _other_plans(settings: Settings) -> str:
    names = [name for name in openweather.PLAN_NAMES if name not in (settings.openweather_plan, "free")]
    return f"set OPENWEATHER_PLAN to {' or '.join(names)} if the account has that subscription"


def _open_meteo(settings: Settings) -> Provider:
    base_url = _base_url("OPEN_METEO_BASE_URL", settings.open_meteo_base_url)
    service = Service(
        name="open_meteo",
        credentials={},
        verdict=open_meteo.verdict,
        hint=open_meteo.hint,
        limits=open_meteo.LIMITS,
        ledger=ledger_place(settings),
        blocked_for=open_meteo.blocked_for,
        concurrency=open_meteo.CONCURRENCY,
    )
    return Provider(
        service,
        "open_meteo",
        open_meteo.endpoints(base_url),
        "; ".join([OTHER_HOURS, MADE_UP]),
        "set WEATHER_PROVIDER=openweather with a key of your own",
        f"{base_url}/geocoding-api" if base_url else "https://geocoding-api.open-meteo.com",
        open_meteo.PRODUCT,
        is_stand_in=base_url is not None,
    )


def _simulator(settings: Settings) -> Provider:
    from weather_dagster.simulator.app import create_app

    return _in_process("simulator", [OTHER_HOURS], settings, create_app())


def _recorded(settings: Settings) -> Provider:
    from weather_dagster.simulator.recorded import create_app

    return _in_process("recorded", [OTHER_HOURS, MADE_UP], settings, create_app())


def _in_process(name: str, ways_out: list[str], settings: Settings, app: Callable[..., Any]) -> Provider:
    chosen = openweather.plans(None)[name]
    service = Service(
        name=name,
        credentials={"appid": NO_KEY},
        verdict=openweather.verdict,
        hint=openweather.hint,
        limits=chosen.limits,
        ledger=ledger_place(settings),
    )
    return Provider(service, name, chosen.endpoints, "; ".join(ways_out), "", openweather.API_URL, "free", app=app)


def _base_url(setting: str, url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(
            f"{setting} is no address of the form http://host:port ({error}); correct or unset it"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ConfigurationError(
            f"{setting} is no address of the form http://host:port (scheme {parts.scheme!r}, "
            f"host {parts.hostname!r}); correct or unset it"
        )
    return url.rstrip("/")


PROVIDERS: Mapping[ProviderName, Callable[[Settings], Provider]] = {
    ProviderName.OPENWEATHER: _openweather,
    ProviderName.OPEN_METEO: _open_meteo,
    ProviderName.SIMULATOR: _simulator,
    ProviderName.RECORDED: _recorded,
}


def build_providers(settings: Settings) -> list[Provider]:
    """The provider that the settings ask for, and behind it the one that hours it does not serve are rerouted to.

    Raises:
        ConfigurationError: unknown plan, missing key, unusable base URL.
    """
    chosen = [PROVIDERS[settings.provider](settings)]
    is_rerouted = settings.weather_history_provider is HistoryProviderName.OPEN_METEO
    if settings.provider is ProviderName.OPENWEATHER and is_rerouted:
        # Its own way to more calls leads to openweather, which is configured already.
        chosen.append(replace(_open_meteo(settings), ways_to_more_calls=_other_plans(settings)))
    return chosen


def known_endpoints() -> tuple[Endpoint, ...]:
    """Every endpoint of every provider and plan, to read again what any of them has sent."""
    plans = openweather.plans(None).values()
    return (*dict.fromkeys(endpoint for plan in plans for endpoint in plan.endpoints), *open_meteo.endpoints(None))
