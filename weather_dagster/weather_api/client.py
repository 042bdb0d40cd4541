"""The HTTP client of all providers, and the only module that imports httpx.

Belongs here: transport, time-outs, retries, rate limit, bounds, the meaning of HTTP statuses, and keeping
the key out of every text. Does not belong here: which calls to make (``endpoints``), what answers mean
(adapters). The failure tree is in ``weather_dagster.errors``.
"""

import asyncio
import functools
import logging
import re
import ssl
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, quote_plus

import aiohttp
import httpx
import stamina
import stamina.instrumentation
from httpx_aiohttp import HttpxAiohttpClient
from pydantic import SecretStr
from pydantic_core import from_json

from weather_dagster.errors import (
    MalformedAnswer,
    ProviderError,
    QuotaExceeded,
    RequestRefused,
    TransientProviderError,
)
from weather_dagster.settings import realm
from weather_dagster.weather_api.endpoints import ApiCall
from weather_dagster.weather_api.service import PROVIDER_HEADER, Patience, Service

MAX_BODY_BYTES = 10_000_000
"""Far above the largest honest answer (a week of forecasts, about 3.5 MB)."""
MAX_QUOTED = 200
"""Characters of a provider's text that a message repeats."""
HIDDEN = "***"

Answered = tuple[ApiCall, Any, str]
"""A call, the parsed body of its answer, and the name of the provider that gave it."""

_logger = logging.getLogger("weather_dagster.weather_api")


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    if isinstance(details.caused_by, TransientProviderError):
        _logger.warning("%s; trying again in %.1f s", details.caused_by, details.wait_for)


# Instead of stamina's own hooks, which print a line without the reason.
stamina.instrumentation.set_on_retry_hooks([_log_retry])
# httpx logs each request at INFO with its full URL, key included.
logging.getLogger("httpx").addFilter(lambda record: record.levelno > logging.INFO)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """One for all clients: making it reads the certificate store, which takes longer than a request."""
    return httpx.create_ssl_context()


class _Secrets:
    """Hides secret values in the forms in which they travel, and whatever stands where a secret would."""

    def __init__(self, credentials: Mapping[str, SecretStr]) -> None:
        values = [secret.get_secret_value() for secret in credentials.values()]
        forms = {form for v in values for form in (v, quote(v), quote(v, safe=""), quote_plus(v))}
        parameters = [f"{name}=" for name in credentials]
        # A URL may be quoted in part: then only the name of the parameter gives the secret away.
        pattern = "|".join(
            [
                *(f"(?<={re.escape(p)})[^&\\s\"'<>\\\\]+" for p in parameters),
                *map(re.escape, sorted(forms, key=len, reverse=True)),
            ]
        )
        self._pattern = re.compile(pattern, re.IGNORECASE)
        self._pattern_in_body = re.compile(pattern.encode(), re.IGNORECASE)
        self._marks = [mark.encode() for mark in (*forms, *parameters)]

    def hide(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text)

    def hide_in_body(self, body: bytes) -> bytes:
        # The search for the marks is many times faster than the pattern, and nearly always all there is to do.
        if any(mark in body for mark in self._marks):
            return self._pattern_in_body.sub(HIDDEN.encode(), body)
        return body


@dataclass
class Client:
    """Asks one provider; an async context manager.

    Args:
        service: the provider.
        app: an ASGI application to ask in process instead of the network.
        concurrency: number of workers, so of calls in flight.
    """

    service: Service
    app: Callable[..., Any] | None = None
    concurrency: int = 1
    patience: Patience = field(default_factory=Patience)
    calls_sent: int = field(default=0, init=False)
    """Requests so far, retries included. aiohttp may add one when a connection ends before any answer."""

    def __post_init__(self) -> None:
        self._secrets = _Secrets(self.service.credentials)
        self._try = stamina.AsyncRetryingCaller(
            attempts=self.patience.attempts,
            timeout=None,
            wait_initial=self.patience.wait_initial,
            wait_max=self.patience.wait_max,
            wait_jitter=self.patience.wait_jitter,
        ).on(TransientProviderError)

    async def __aenter__(self) -> Self:
        params = {name: secret.get_secret_value() for name, secret in self.service.credentials.items()}
        timeout = httpx.Timeout(self.patience.read, connect=self.patience.connect, pool=None)
        if self.app is not None:
            transport = httpx.ASGITransport(app=self.app)
            self._http = httpx.AsyncClient(transport=transport, params=params, timeout=timeout)
        else:
            # aiohttp's transport: httpx's own slows down with the square of the calls in flight.
            limits = httpx.Limits(max_connections=self.concurrency)
            self._http = HttpxAiohttpClient(verify=_tls_context(), params=params, timeout=timeout, limits=limits)
        async with AsyncExitStack() as opening:
            await opening.enter_async_context(self._http)
            self._limiter = None
            if limit := self.service.rate_limit:
                # Here: an unlimited provider has no use for its libraries.
                from weather_dagster.weather_api.rate import RateLimiter

                self._limiter = await opening.enter_async_context(RateLimiter(limit, self.service))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def fetch(self, calls: Iterable[ApiCall]) -> AsyncGenerator[Answered, None]:
        """Answers as they come. A fixed set of workers draws from ``calls``.

        Close it (``contextlib.aclosing``) when it is left early.

        Raises:
            ProviderError: the first call that came to nothing; the others are cancelled.
        """
        source = iter(calls)
        answers: asyncio.Queue[Answered | None] = asyncio.Queue()
        room = asyncio.Semaphore()

        async def work() -> None:
            for call in source:
                document, provider = await self._get(call)
                await room.acquire()
                answers.put_nowait((call, document, provider))

        async def run() -> None:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self.concurrency):
                    workers.create_task(work())

        running = asyncio.create_task(run())
        running.add_done_callback(lambda _: answers.put_nowait(None))
        try:
            while (answer := await answers.get()) is not None:
                room.release()
                yield answer
            await running
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _get(self, call: ApiCall) -> tuple[Any, str]:
        try:
            return await self._try(self._attempt, call)
        except TransientProviderError as error:
            raise TransientProviderError(
                f"{error}; given up after {self.patience.attempts} tries, run this again later"
            ) from None

    async def _attempt(self, call: ApiCall) -> tuple[Any, str]:
        if self._limiter:
            await self._limiter.acquire()
        self.calls_sent += 1
        try:
            async with asyncio.timeout(self.patience.attempt):
                status, body, provider = await self._exchange(call)
        except (httpx.RequestError, aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
        else:
            return self._judge(call, status, self._secrets.hide_in_body(body)), provider
        # Outside the handler: the original error carries the request, and with it the key.
        raise TransientProviderError(self._message(call, f"could not be reached ({self._quote(reason)})"))

    async def _exchange(self, call: ApiCall) -> tuple[int, bytes, str]:
        body = bytearray()
        async with self._http.stream("GET", call.url, params=call.query) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise MalformedAnswer(self._message(call, f"sent more than {MAX_BODY_BYTES:,} bytes"))
        told = response.headers.get(PROVIDER_HEADER, "")
        # Only made-up and recorded weather may take another name than the one that was asked for.
        provider = self.service.name if realm(told) == "live" else told
        return response.status_code, bytes(body), provider

    def _judge(self, call: ApiCall, status: int, body: bytes) -> Any:
        """The parsed body of a good answer; any other raises its error. An error status inside a 200 counts as such."""
        declared = told = None
        try:
            document = from_json(body)
        except ValueError:
            pass  # An error status tells more than its body; both are told below.
        else:
            declared, told = self.service.verdict(document)
            if status == httpx.codes.OK and declared is not None:
                status = declared
            if status == httpx.codes.OK:
                return document
        quoted = self._quote(told or body.decode(errors="replace")) or "an empty body"
        if status != httpx.codes.OK:
            hint = self.service.hints.get(status)
            raise _error_class(status)(
                self._message(call, f"answered {status}: {quoted}") + (f". {hint}" if hint else "")
            )
        raise TransientProviderError(self._message(call, f"answered with a body that is no JSON: {quoted}"))

    def _message(self, call: ApiCall, what: str) -> str:
        return f"{self.service.name} {what} ({call})"

    def _quote(self, text: str) -> str:
        hidden = self._secrets.hide(" ".join(text.split()))
        return hidden if len(hidden) <= MAX_QUOTED else hidden[:MAX_QUOTED] + "…"


def _error_class(status: int) -> type[ProviderError]:
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return QuotaExceeded
    if status == httpx.codes.REQUEST_TIMEOUT or not 300 <= status < 500:
        return TransientProviderError
    return RequestRefused
