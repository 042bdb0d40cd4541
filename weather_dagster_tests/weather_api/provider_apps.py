"""Small providers for tests of the real client: apps that replay given answers, and the facade in front of them."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from weather_dagster.datasets import Dataset
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location
from weather_dagster.settings import Settings
from weather_dagster.state import Place
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.api import Fetched, WeatherApi
from weather_dagster.weather_api.openweather_reading import Units
from weather_dagster.weather_api.providers import Provider, build_providers
from weather_dagster.weather_api.service import Limit, Patience
from weather_dagster_tests.weather_api.answers import NOW

_FOLDER = TemporaryDirectory()

KEY = "5e1ec7ed+k/y"
QUICK = Patience(wait_initial=0.001, wait_max=0.001, wait_jitter=0)


class Replay:
    """An ASGI app that gives its answers in turn, the last one for ever, and keeps the queries."""

    def __init__(self, *answers: Response) -> None:
        self._answers = list(answers)
        self.queries: list[Mapping[str, str]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.queries.append(dict(Request(scope).query_params))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        await answer(scope, receive, send)


def json_answer(document: Any, status: int = 200) -> Response:
    """An answer as the service gives it."""
    return Response(json.dumps(document), status, media_type="application/json")


def provider_of(
    app: ASGIApp | None,
    *,
    plan: str = "professional",
    key: str = KEY,
    units: Units = Units.METRIC,
    base_url: str | None = None,
    limits: Mapping[str, tuple[Limit, ...]] | None = None,
    ledger: Place | None = None,
    is_stand_in: bool = False,
) -> Provider:
    """OpenWeather as configured in production, but for the app that answers and the pace."""
    settings = Settings(
        _env_file=None,
        weather_provider="openweather",
        openweather_api_key=key,
        openweather_plan="professional" if plan in ("simulator", "recorded") else plan,
        openweather_base_url=base_url,
        weather_history_provider="none",
    )
    (provider,) = build_providers(settings)
    return dataclasses.replace(
        provider,
        app=app,
        is_stand_in=is_stand_in or provider.is_stand_in,
        endpoints=openweather.plans(base_url, units)[plan].endpoints,
        service=dataclasses.replace(provider.service, limits=limits or {}, ledger=ledger or a_ledger()),
    )


def a_ledger() -> Path:
    """A ledger file that no other provider has."""
    return Path(_FOLDER.name, f"{uuid4()}.sqlite")


def api_of(
    app: ASGIApp | None,
    *,
    patience: Patience = QUICK,
    concurrency: int | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
    **how: Any,
) -> WeatherApi:
    """The facade in front of ``app``."""
    return WeatherApi([provider_of(app, **how)], patience=patience, concurrency=concurrency, clock=clock)


def open_meteo_api_of(
    app: ASGIApp | None,
    *,
    patience: Patience = QUICK,
    clock: Callable[[], datetime] = lambda: NOW,
    base_url: str | None = None,
) -> WeatherApi:
    """The facade in front of ``app`` as Open-Meteo, without limits."""
    settings = Settings(_env_file=None, weather_provider="open_meteo", open_meteo_base_url=base_url)
    (provider,) = build_providers(settings)
    service = dataclasses.replace(provider.service, limits={}, ledger=a_ledger())
    return WeatherApi([dataclasses.replace(provider, app=app, service=service)], patience=patience, clock=clock)


def fetch_all(
    api: WeatherApi,
    dataset: Dataset,
    places: Sequence[Location],
    hours: HourRange,
    *,
    on_call: Callable[[int, int], None] | None = None,
) -> Fetched:
    """All loads of a fetch as one. The first call that came to nothing is raised."""
    loads = []
    for load in api.fetch(api.plan(dataset, places, hours), on_call=on_call):
        if load.failures:
            raise load.failures[0].error
        loads.append(load)
    (provider,) = {load.provider for load in loads}
    return Fetched(
        provider,
        hours,
        pa.concat_tables(load.records for load in loads),
        [rejection for load in loads for rejection in load.rejections],
        sum(load.calls for load in loads),
        sum(load.wasted for load in loads),
        [call for load in loads for call in load.answered],
        [call for load in loads for call in load.empty],
        [],
    )
