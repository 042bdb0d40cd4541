"""What is wrong with an installation, and what still works: settings, places, folders, stores, clock, provider.

Live providers are asked once for each product of the plan; with a key that cannot be right, not at all.
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus

from weather_dagster.errors import ConfigurationError, QuotaExceeded, WeatherError
from weather_dagster.geocoding import check_offline
from weather_dagster.hours import HOUR, HourRange, floor_hour, utc_now
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.client import Client, Exchange, Unreachable
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.ledger import open_ledger
from weather_dagster.weather_api.providers import Provider, build_providers
from weather_dagster.weather_api.service import Patience, Window

KEY_SHAPE = re.compile(r"[0-9a-f]{32}")
"""The keys that OpenWeather gives out."""
SKEW_ALLOWED = timedelta(minutes=1)
LOCK_PATIENCE = timedelta(seconds=2)
IMPATIENT = Patience(connect=5, read=10, attempt=15, attempts=1, longest_pause=1)
ALMOST_SPENT = 0.9
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Cause(StrEnum):
    """Why a provider cannot be used, or not for everything."""

    NO_KEY = "no key"
    MALFORMED_KEY = "malformed key"
    KEY_NOT_ACTIVE = "key not active yet"
    KEY_WITHDRAWN = "key no longer accepted"
    PRODUCT_MISSING = "key without this product"
    ACCOUNT_BLOCKED = "account blocked"
    NETWORK = "network or proxy fault"
    TLS = "TLS fault"
    OTHER = "unexpected answer"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    message: str
    way_out: str = ""
    cause: Cause | None = None


def examine() -> Iterator[Finding]:
    """Check everything, cheap things first; never raises for what is wrong."""
    try:
        settings = Settings.load()
        yield Finding("settings", Verdict.OK, f"WEATHER_PROVIDER is {settings.provider}, home {settings.home}")
    except ConfigurationError as error:
        yield Finding("settings", Verdict.FAIL, str(error))
        return
    try:
        places = load_locations(settings.locations_path)
    except ConfigurationError as error:
        yield Finding("places", Verdict.FAIL, str(error))
        places = ()
    else:
        faults = check_offline(places)
        yield Finding("places", Verdict.OK, f"{len(places)} places in {settings.locations_path}")
        for fault in faults:
            yield Finding("places", Verdict.WARN, f"{fault.place}: {fault.what}", fault.way_out)
    yield _home(settings)
    yield _warehouse(settings)
    yield _dagster_home(settings)
    try:
        providers = build_providers(settings)
    except ConfigurationError as error:
        no_key = settings.provider is ProviderName.OPENWEATHER and not settings.openweather_api_key
        yield Finding("provider", Verdict.FAIL, str(error), cause=Cause.NO_KEY if no_key else None)
        return
    for provider in providers:
        yield from _provider(provider, places)


def _home(settings: Settings) -> Finding:
    probe = settings.home / ".writable"
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(
            "home",
            Verdict.FAIL,
            f"{settings.home} cannot be written: {error.strerror}",
            "set WEATHER_HOME to a folder that can be written",
        )
    return Finding("home", Verdict.OK, f"{settings.home} can be written")


def _warehouse(settings: Settings) -> Finding:
    path = settings.duckdb_path
    if not path.exists():
        return Finding("warehouse", Verdict.OK, f"none at {path} yet; the first run makes it")
    try:
        with open_warehouse(path, lock_timeout=LOCK_PATIENCE) as warehouse:
            ((rows,),) = warehouse.query("select count(*) from bronze.loads")
    except WeatherError as error:
        return Finding("warehouse", Verdict.WARN if "locked by" in str(error) else Verdict.FAIL, str(error))
    return Finding("warehouse", Verdict.OK, f"{path} opens; {rows:,} loads")


def _dagster_home(settings: Settings) -> Finding:
    home = settings.dagster_home_path
    if not home.exists():
        return Finding("dagster home", Verdict.OK, f"none at {home} yet; the first run makes it")
    for file in sorted(home.rglob("*.db")):
        try:
            with sqlite3.connect(file) as connection:
                connection.execute("select count(*) from sqlite_master")
        except sqlite3.Error as error:
            return Finding(
                "dagster home",
                Verdict.FAIL,
                f"{file} cannot be read: {error}",
                "move it aside; runs are then forgotten",
            )
    return Finding("dagster home", Verdict.OK, f"{home} can be read")


def _provider(provider: Provider, places: tuple[Location, ...]) -> Iterator[Finding]:
    name = provider.name
    with open_ledger(provider.service) as ledger:
        now = utc_now()
        for spent in ledger.spent(now):
            if spent.limit.window is not Window.MINUTE and spent.amount >= ALMOST_SPENT * spent.limit.amount:
                limit = f"{spent.limit.amount:,.10g} a {spent.limit.window} of {spent.product}"
                told = f"{spent.amount:,.10g} of {limit} spent"
                yield Finding(f"{name} budget", Verdict.WARN, told, provider.ways_to_more_calls)
        worked = ledger.last_success()
    if provider.app is not None:
        yield Finding(name, Verdict.OK, "built in: no key, no network")
        return
    key = provider.service.credentials.get("appid")
    if key and not provider.is_stand_in and not KEY_SHAPE.fullmatch(key.get_secret_value()):
        yield Finding(
            f"{name} key",
            Verdict.FAIL,
            "OPENWEATHER_API_KEY is not 32 digits and letters from a to f, so it is no key of OpenWeather's",
            "copy it again from the account's page of keys, without quotes and blanks",
            Cause.MALFORMED_KEY,
        )
        return
    if places:
        yield from asyncio.run(_ask(provider, places[0], worked))


async def _ask(provider: Provider, place: Location, worked: datetime | None) -> list[Finding]:
    """One call for each product, the free ones first; the first that tells against all ends it."""
    findings: list[Finding] = []
    working: list[str] = []
    skew_told = False
    async with Client(provider.service, patience=IMPATIENT, run_id="doctor") as client:
        for endpoint in _cheapest(provider):
            served = _served(provider, endpoint.product)
            try:
                found = await client.probe(_probe(endpoint, place))
            except QuotaExceeded as error:
                findings.append(Finding(f"{provider.name}", Verdict.FAIL, str(error), cause=Cause.ACCOUNT_BLOCKED))
                break
            if isinstance(found, Exchange) and not skew_told:
                findings += _skew(provider, found)
                skew_told = True
            finding = _judge(provider, endpoint, found, worked, working)
            findings.append(finding)
            if finding.verdict is Verdict.OK:
                working.append(served)
            elif finding.cause is not Cause.PRODUCT_MISSING:
                break
    if any(finding.verdict is Verdict.FAIL for finding in findings):
        still = f"{provider.name} still serves {'; '.join(working)}" if working else f"nothing of {provider.name} works"
        findings.append(Finding(f"{provider.name} still works", Verdict.OK if working else Verdict.WARN, still))
    return findings


def _cheapest(provider: Provider) -> list[Endpoint]:
    """An endpoint of each product, those of the running hour first, what every key may ask before all."""
    first: dict[str, Endpoint] = {}
    for endpoint in sorted(provider.endpoints, key=lambda e: e.product != "free"):
        first.setdefault(endpoint.product, endpoint)
    return list(first.values())


def _served(provider: Provider, product: str) -> str:
    return ", ".join(
        f"{endpoint.dataset.name} ({endpoint.label})" for endpoint in provider.endpoints if endpoint.product == product
    )


def _probe(endpoint: Endpoint, place: Location) -> ApiCall:
    running = floor_hour(utc_now())
    hour = running if endpoint.served.covers(running, running) else running - HOUR
    return ApiCall(endpoint, (place,), HourRange(hour, hour))


def _skew(provider: Provider, found: Exchange) -> list[Finding]:
    try:
        told = parsedate_to_datetime(found.headers["date"])
    except (KeyError, ValueError):
        return []
    skew = utc_now() - told
    if abs(skew) <= SKEW_ALLOWED:
        return [Finding("clock", Verdict.OK, f"agrees with {provider.name}'s to {abs(skew).total_seconds():.0f} s")]
    ahead = "ahead of" if skew > timedelta(0) else "behind"
    return [
        Finding(
            "clock",
            Verdict.FAIL,
            f"this machine's clock is {abs(skew).total_seconds():.0f} s {ahead} {provider.name}'s, so current weather "
            "would be asked for another hour than the running one",
            "set the clock by NTP",
        )
    ]


def _judge(
    provider: Provider,
    endpoint: Endpoint,
    found: Exchange | Unreachable,
    worked: datetime | None,
    others: Sequence[str],
) -> Finding:
    name = f"{provider.name} {endpoint.label}"
    if isinstance(found, Unreachable):
        return _unreachable(name, endpoint, found)
    service = provider.service
    try:
        declared, told = service.verdict(found.document)
    except ValueError:
        told = f"{len(found.body)} bytes that are no JSON"
        return Finding(name, Verdict.FAIL, f"answered {found.status}: {told}", "try again later", Cause.OTHER)
    status, message = declared or found.status, told or ""
    if status == HTTPStatus.OK:
        return Finding(name, Verdict.OK, "answers")
    hint = service.hint(status, message) or ""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Finding(name, Verdict.FAIL, f"answered 429: {message}", hint, Cause.ACCOUNT_BLOCKED)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _refused(name, message, hint, worked, others)
    return Finding(name, Verdict.FAIL, f"answered {status}: {message}", hint, Cause.OTHER)


def _refused(name: str, message: str, hint: str, worked: datetime | None, others: Sequence[str]) -> Finding:
    if others or "subscription" in message:
        return Finding(
            name,
            Verdict.FAIL,
            f"the key works, but not for this product: {message}",
            hint or "set OPENWEATHER_PLAN to what the account has subscribed to",
            Cause.PRODUCT_MISSING,
        )
    if worked:
        return Finding(
            name,
            Verdict.FAIL,
            f"the key was accepted until {worked:%Y-%m-%dT%H:%MZ} and is not any more: {message}",
            "see on the account's page of keys whether it was deleted or the account closed",
            Cause.KEY_WITHDRAWN,
        )
    return Finding(
        name,
        Verdict.FAIL,
        f"the key has the right shape and was never accepted: {message}",
        "a new key works after up to 2 hours, at times a day; compare an older one with the account's page of keys",
        Cause.KEY_NOT_ACTIVE,
    )


def _unreachable(name: str, endpoint: Endpoint, found: Unreachable) -> Finding:
    if found.fault == "tls":
        return Finding(
            name,
            Verdict.FAIL,
            f"the certificate of {endpoint.base_url} is not trusted: {found.reason}",
            "behind a proxy that opens TLS, give its certificate in SSL_CERT_FILE; else check the clock and the host",
            Cause.TLS,
        )
    proxies = [variable for variable in PROXY_VARIABLES if os.environ.get(variable)]
    way_out = "check the connection, a firewall, and the host"
    if proxies:
        way_out = f"check the proxy in {' and '.join(proxies)}, then the connection"
    elif found.fault == "name":
        way_out = "check the connection and the name server; behind a proxy set HTTPS_PROXY"
    return Finding(name, Verdict.FAIL, f"{endpoint.base_url} cannot be reached: {found.reason}", way_out, Cause.NETWORK)
