"""What is wrong with an installation, and what still works: settings, places, folders, stores, daemon, alerts,
clock, provider.

Live providers are asked once for each product of the plan; with a key that cannot be right, or while the account is
blocked, not at all.
"""

import asyncio
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

from weather_dagster.environments import environment_of, store_of
from weather_dagster.errors import (
    BudgetExceeded,
    ConfigurationError,
    MalformedAnswer,
    ProviderError,
    QuotaExceeded,
    WeatherError,
)
from weather_dagster.geocoding import check_offline
from weather_dagster.hours import HOUR, HourRange, floor_hour, utc_now
from weather_dagster.locations import Location, load_locations
from weather_dagster.settings import ProviderName, Settings
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.client import Client, Exchange, Unreachable
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.http_dates import http_date
from weather_dagster.weather_api.ledger import Pause, open_ledger
from weather_dagster.weather_api.providers import Provider, build_providers
from weather_dagster.weather_api.service import Patience, Window

KEY_SHAPE = re.compile(r"[0-9a-f]{32}")
"""The keys that OpenWeather gives out."""
SKEW_ALLOWED = timedelta(minutes=1)
LOCK_PATIENCE = timedelta(seconds=2)
IMPATIENT = Patience(connect=5, read=10, attempt=15, attempts=1, longest_pause=1)
ALMOST_SPENT = 0.9


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
    home = _home(settings)
    yield home
    if home.verdict is Verdict.OK:
        yield _warehouse(settings)
        yield (found := _dagster_home(settings))
        if found.verdict is Verdict.OK and settings.provider is not ProviderName.RECORDED:
            yield from _daemon(settings)
    if settings.provider is not ProviderName.RECORDED:
        yield _alert_targets(settings)
    try:
        providers = build_providers(settings)
    except ConfigurationError as error:
        key = settings.openweather_api_key
        no_key = settings.provider is ProviderName.OPENWEATHER and not (key and key.get_secret_value().strip())
        yield Finding("provider", Verdict.FAIL, str(error), cause=Cause.NO_KEY if no_key else None)
        return
    for provider in providers:
        try:
            yield from _provider(provider, places)
        except ConfigurationError as error:
            yield Finding(f"{provider.name} ledger", Verdict.FAIL, str(error))


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
    try:
        store = store_of(settings)
        if not store.exists():
            return Finding("warehouse", Verdict.OK, f"none at {store} yet; the first run makes it")
        # What others share is not to be upgraded by looking at it.
        is_shared = environment_of(settings).is_shared
        with store.open(read_only=is_shared, patience=LOCK_PATIENCE) as warehouse:
            ((rows,),) = warehouse.query("select count(*) from bronze.loads")
    except WeatherError as error:
        return Finding("warehouse", Verdict.WARN if "locked by" in str(error) else Verdict.FAIL, str(error))
    return Finding("warehouse", Verdict.OK, f"{store} opens; {rows:,} loads")


def _dagster_home(settings: Settings) -> Finding:
    home = settings.dagster_home_path
    if not home.exists():
        return Finding("dagster home", Verdict.OK, f"none at {home} yet; the first run makes it")
    for file in sorted(home.rglob("*.db")):
        try:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("select count(*) from sqlite_master")
        except sqlite3.Error as error:
            return Finding(
                "dagster home",
                Verdict.FAIL,
                f"{file} cannot be read: {error}",
                "move it aside; runs are then forgotten",
            )
    return Finding("dagster home", Verdict.OK, f"{home} can be read")


def _daemon(settings: Settings) -> Iterator[Finding]:
    if not (environment_of(settings).is_shared or (settings.dagster_home_path / "history").exists()):
        return
    # Here, not above: Dagster takes a second to import, and a new home has nothing of it.
    from weather_dagster.automation.instance import recorded_instance
    from weather_dagster.status import daemon_is_up, daemon_remedy

    try:
        with recorded_instance(settings) as instance:
            if instance and daemon_is_up(instance, utc_now()):
                yield Finding("daemon", Verdict.OK, "Dagster's daemon runs")
                return
    except ConfigurationError as error:
        yield Finding("daemon", Verdict.FAIL, str(error))
        return
    yield Finding(
        "daemon",
        Verdict.WARN,
        "Dagster's daemon does not run, so nothing is fetched by itself and nobody is told of problems",
        daemon_remedy(),
    )


def _alert_targets(settings: Settings) -> Finding:
    from weather_dagster.alerts.delivery import read_targets

    try:
        targets = read_targets(settings.weather_alert_urls)
    except ConfigurationError as error:
        return Finding("alerts", Verdict.FAIL, str(error))
    if not targets:
        return Finding(
            "alerts",
            Verdict.WARN,
            "WEATHER_ALERT_URLS is not set, so nobody is told of problems; `weather alerts list` shows them",
            "set it to Apprise URLs, such as mailto://user:password@host, and try them by `weather alerts test`",
        )
    return Finding("alerts", Verdict.OK, f"told to {', '.join(map(str, targets))}")


def _provider(provider: Provider, places: tuple[Location, ...]) -> Iterator[Finding]:
    name = provider.name
    with open_ledger(provider.service, read_only=True) as ledger:
        now = utc_now()
        for spent in ledger.spent(now):
            if spent.limit.window is not Window.MINUTE and spent.amount >= ALMOST_SPENT * spent.limit.amount:
                limit = f"{spent.limit.amount:,.10g} a {spent.limit.window} of {spent.product}"
                told = f"{spent.amount:,.10g} of {limit} spent"
                yield Finding(f"{name} budget", Verdict.WARN, told, provider.ways_to_more_calls)
        worked = ledger.last_success()
        block = ledger.block(now)
    if provider.app is not None:
        yield Finding(name, Verdict.OK, "built in: no key, no network")
        return
    key = provider.service.credentials.get("appid")
    is_odd = key is not None and not KEY_SHAPE.fullmatch(key.get_secret_value())
    if is_odd and not provider.is_stand_in:
        yield _malformed_key(name)
        yield _still(provider, ())
    elif block:
        yield _blocked(provider, block)
        yield _still(provider, ())
    elif places:
        yield from asyncio.run(_ask(provider, places[0], worked, is_odd=is_odd))


def _malformed_key(name: str) -> Finding:
    return Finding(
        f"{name} key",
        Verdict.FAIL,
        "OPENWEATHER_API_KEY is not 32 digits and letters from a to f, so it is no key of OpenWeather's",
        "copy it again from the account's page of keys, without quotes and blanks",
        Cause.MALFORMED_KEY,
    )


def _blocked(provider: Provider, block: Pause) -> Finding:
    return Finding(
        provider.name,
        Verdict.FAIL,
        f"not asked before {block.until:%Y-%m-%dT%H:%M:%SZ}: {block.reason}",
        provider.service.hint(HTTPStatus.TOO_MANY_REQUESTS, "") or "",
        Cause.ACCOUNT_BLOCKED,
    )


async def _ask(provider: Provider, place: Location, worked: datetime | None, *, is_odd: bool) -> list[Finding]:
    """One call for each product, the free ones first; the first that tells against all ends it.

    Args:
        is_odd: the key has not OpenWeather's shape, which a stand-in need not mind.
    """
    findings: list[Finding] = []
    working: list[str] = []
    skew_told = False
    async with Client(provider.service, patience=IMPATIENT, run_id="doctor") as client:
        for endpoint in _cheapest(provider):
            name = f"{provider.name} {endpoint.label}"
            call = _probe(endpoint, place)
            try:
                found = await client.probe(call)
            except BudgetExceeded as error:
                # Of this product alone.
                findings.append(Finding(f"{provider.name} budget", Verdict.WARN, str(error)))
                continue
            except QuotaExceeded as error:
                # Another process has met it in the meantime.
                findings.append(Finding(provider.name, Verdict.FAIL, str(error), cause=Cause.ACCOUNT_BLOCKED))
                break
            except ProviderError as error:
                findings.append(Finding(name, Verdict.FAIL, str(error), "try again later", Cause.OTHER))
                break
            if isinstance(found, Exchange):
                if is_odd and found.provider == provider.name:
                    findings.append(_malformed_key(provider.name))
                    break
                if not skew_told:
                    findings += _skew(provider, found)
                    skew_told = True
            finding = _judge(provider, call, found, worked, working)
            findings.append(finding)
            if finding.verdict is Verdict.OK:
                working.append(_served(provider, endpoint.product))
            elif finding.cause is not Cause.PRODUCT_MISSING:
                break
    if any(finding.verdict is Verdict.FAIL and finding.check != "clock" for finding in findings):
        findings.append(_still(provider, working))
    return findings


def _still(provider: Provider, working: Sequence[str]) -> Finding:
    check = f"{provider.name} still serves"
    return Finding(check, Verdict.OK, ", ".join(working)) if working else Finding(check, Verdict.WARN, "nothing")


def _cheapest(provider: Provider) -> list[Endpoint]:
    """An endpoint of each product, what every key may ask first."""
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
    told = http_date(found.headers.get("date", ""))
    if told is None:
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
    call: ApiCall,
    found: Exchange | Unreachable,
    worked: datetime | None,
    others: Sequence[str],
) -> Finding:
    name = f"{provider.name} {call.endpoint.label}"
    if isinstance(found, Unreachable):
        return _unreachable(name, call.endpoint, found)
    service, status = provider.service, found.status
    try:
        declared, told = service.verdict(found.document)
    except ValueError:
        told = f"{len(found.body):,} bytes that are no JSON"
        if status == HTTPStatus.OK:
            return Finding(name, Verdict.FAIL, f"answered with {told}", "try again later", Cause.OTHER)
    else:
        # An error status of HTTP tells more than the body's.
        if status == HTTPStatus.OK:
            status = declared or status
        if status == HTTPStatus.OK:
            return _readable(name, call, found)
    message = told or "no message"
    hint = service.hint(status, message) or ("try again later" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "")
    refused = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if refused and service.credentials:
        return _refused(name, status, message, worked, others)
    # Who asks without a key is known by the address alone.
    is_blocked = refused or status == HTTPStatus.TOO_MANY_REQUESTS
    cause = Cause.ACCOUNT_BLOCKED if is_blocked else Cause.OTHER
    return Finding(name, Verdict.FAIL, f"answered {status}: {message}", hint, cause)


def _readable(name: str, call: ApiCall, found: Exchange) -> Finding:
    try:
        call.read(found.document, found.provider)
    except MalformedAnswer as error:
        return Finding(name, Verdict.FAIL, str(error), "try again later", Cause.OTHER)
    return Finding(name, Verdict.OK, "answers")


def _refused(name: str, status: int, message: str, worked: datetime | None, others: Sequence[str]) -> Finding:
    no_one_call = openweather.refusal(status, message) is openweather.Refusal.NO_ONE_CALL
    if others or no_one_call:
        return Finding(
            name,
            Verdict.FAIL,
            f"the key works, but not for this product: {message}",
            openweather.HINTS[openweather.Refusal.NO_ONE_CALL]
            if no_one_call
            else "set OPENWEATHER_PLAN to what the account has subscribed to",
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
    names = (f"{urlsplit(endpoint.base_url).scheme}_proxy", "all_proxy")
    proxies = [variable for variable in sorted(os.environ) if variable.lower() in names and os.environ[variable]]
    way_out = "check the connection, a firewall, and the host"
    if proxies:
        way_out = f"check the proxy in {' and '.join(proxies)}, then the connection"
    elif found.fault == "name":
        way_out = "check the connection and the name server; behind a proxy set HTTPS_PROXY"
    return Finding(name, Verdict.FAIL, f"{endpoint.base_url} cannot be reached: {found.reason}", way_out, Cause.NETWORK)
