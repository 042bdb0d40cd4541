"""A client that talks to a provider app as any other would, over HTTP semantics in process."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from weather_dagster.simulator.app import create_app

NOW = datetime(2026, 11, 25, 13, 20, tzinfo=UTC).timestamp()
LYON = {"lat": 45.76, "lon": 4.84}

Get = Callable[..., httpx.Response]


def unix(text: str) -> int:
    """Unix seconds of a UTC instant such as 2026-11-25T13:00."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def client_of(app: ASGIApp) -> Get:
    """``get(path, **parameters)`` with a key and metric units unless given otherwise (None leaves out)."""

    def get(path: str, *, method: str = "GET", content: bytes | None = None, **parameters: Any) -> httpx.Response:
        given = {"appid": "any-key", "units": "metric"} | parameters
        query = {name: value for name, value in given.items() if value is not None}

        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator") as client:
                return await client.request(method, path, params=query, content=content)

        return asyncio.run(call())

    return get


@pytest.fixture
def get() -> Get:
    """A simulator whose clock stands at ``NOW``."""
    return client_of(create_app(clock=lambda: NOW))
