"""The HTTP client of all providers, and the only module that imports httpx.

Belongs here: transport, time-outs, retries, waiting for the ledger's leave, bounds and the meaning of HTTP
statuses; no text leaves it with the key. Does not belong here: which calls to make (``endpoints``),
what answers mean (adapters), what may be spent (``ledger``), the forms of a secret (``redaction``). The failure
tree is in ``weather_dagster.errors``.
"""

import asyncio
import codecs
import functools
import logging
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType, TracebackType
from typing import Any, Literal, Self

import aiohttp
import httpx
import stamina
import stamina.instrumentation
from httpx_aiohttp import HttpxAiohttpClient
from pydantic_core import from_json

from weather_dagster import logs
from weather_dagster.errors import (
    AccountRefused,
    BudgetExceeded,
    MalformedAnswer,
    ProviderError,
    QuotaExceeded,
    RequestRefused,
    TransientProviderError,
)
from weather_dagster.hours import utc_now
from weather_dagster.settings import realm
from weather_dagster.weather_api.endpoints import ApiCall, Parameters
from weather_dagster.weather_api.http_dates import retry_after
from weather_dagster.weather_api.ledger import Ledger, Pause, Question, open_ledger
from weather_dagster.weather_api.records import MAX_QUOTED, without_nan
from weather_dagster.weather_api.redaction import Secrets
from weather_dagster.weather_api.service import PROVIDER_HEADER, Patience, Service

MAX_BODY_BYTES = 10_000_000
"""Far above the largest honest answer (a week of forecasts, about 3.5 MB)."""
MAX_BODY_KEPT = 100_000
"""Characters of an unreadable body that an error carries."""


@dataclass(frozen=True)
class Answered:
    """A call and what came of it: the parsed body of its answer, or why there is none."""

    call: ApiCall
    document: Any = None
    provider: str = ""
    """Who gave the answer."""
    call_id: str = ""
    """Of the ledger, whose ``amend_outcome`` wants it when the body is not what was asked for."""
    is_last_page: bool = True
    error: ProviderError | None = None


@dataclass(frozen=True)
class Inquiry:
    """A single question beside the datasets: a geocoder's search, a doctor's probe."""

    url: str
    """Address without query."""
    path: str
    query: Parameters
    product: str
    weight: float = 1.0

    @property
    def entry(self) -> Mapping[str, Any]:
        """As the ledger keeps it."""
        return {"endpoint": self.path, "location_ids": ""}

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Exchange:
    """What came back over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    provider: str

    @property
    def document(self) -> Any:
        """The parsed body.

        Raises:
            ValueError: it is no JSON.
        """
        return _parse(self.body)


@dataclass(frozen=True)
class _Got:
    """A good answer."""

    document: Any
    provider: str
    call_id: str


Fault = Literal["tls", "name", "network"]


@dataclass(frozen=True)
class Unreachable:
    """No answer came: the certificate, the name of the host, or the way to it is at fault."""

    fault: Fault
    reason: str


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
    run_id: str = ""
    clock: Callable[[], datetime] = utc_now
    calls_sent: int = field(default=0, init=False)
    """Requests so far, retries included. aiohttp may add one when a connection ends before any answer."""
    calls_wasted: int = field(default=0, init=False)
    """Requests so far that brought nothing."""

    def __post_init__(self) -> None:
        self._secrets = Secrets(self.service.credentials)
        self._failed_in_a_row = 0
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
            self.ledger: Ledger = opening.enter_context(open_ledger(self.service))
            self._open = opening.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._open.aclose()

    async def fetch(self, calls: Iterable[ApiCall]) -> AsyncGenerator[Answered, None]:
        """Answers as they come, page by page. A fixed set of workers draws from ``calls``.

        A call that came to nothing is answered by its error, and the others go on. Close it
        (``contextlib.aclosing``) when it is left early.

        Raises:
            ProviderError: no call can succeed now: the account is refused, blocked or has nothing left, or
                several calls in a row came to nothing. The others are cancelled.
        """
        source = iter(calls)
        answers: asyncio.Queue[Answered | None] = asyncio.Queue()
        room = asyncio.Semaphore()

        async def work() -> None:
            for first in source:
                call: ApiCall | None = first
                while call:
                    with logs.bound(places=call.entry["location_ids"]):
                        answered = await self._answer(call)
                    try:
                        await room.acquire()
                    finally:
                        # Also when another worker has ended everything: this answer is paid for.
                        answers.put_nowait(answered)
                    call = call.next_page(answered.document) if not answered.is_last_page else None

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

    async def ask(self, inquiry: Inquiry) -> Any:
        """The parsed body of the answer to a single question.

        Raises:
            ProviderError: it came to nothing.
        """
        return (await self._get(inquiry)).document

    async def probe(self, question: ApiCall | Inquiry) -> "Exchange | Unreachable":
        """What a single try brings back, whatever its status.

        Raises:
            QuotaExceeded: the ledger does not let it out.
            MalformedAnswer: the body is too long.
        """
        call_id = await self._leave_to_ask(question)
        began, status, outcome = time.perf_counter(), None, "failed"
        try:
            async with asyncio.timeout(self.patience.attempt):
                exchange = await self._exchange(question)
            status = exchange.status
            try:
                # An answer that asks for a pause is heard by every later call, whoever asked.
                self._judge(question, exchange)
                outcome = "ok"
            except ProviderError as error:
                outcome = _OUTCOMES[type(error)]
        except (httpx.RequestError, aiohttp.ClientError, OSError) as error:
            return Unreachable(_fault_of(error), self._quote(str(error) or type(error).__name__))
        finally:
            self.ledger.close_call(call_id, outcome, status, time.perf_counter() - began)
        return exchange

    async def _answer(self, call: ApiCall) -> Answered:
        try:
            got = await self._get(call)
        except (AccountRefused, QuotaExceeded):
            raise
        except TransientProviderError as error:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= self.patience.failures:
                raise TransientProviderError(
                    f"{error}; {self._failed_in_a_row} calls in a row came to nothing, so no more are made",
                    body=error.body,
                ) from None
            return Answered(call, error=error)
        except ProviderError as error:
            # A refusal too is an answer: the provider is not down.
            self._failed_in_a_row = 0
            return Answered(call, error=error)
        self._failed_in_a_row = 0
        is_last_page = call.next_page(got.document) is None
        return Answered(call, got.document, got.provider, call_id=got.call_id, is_last_page=is_last_page)

    async def _get(self, question: ApiCall | Inquiry) -> _Got:
        try:
            return await self._try(self._attempt, question)
        except TransientProviderError as error:
            raise TransientProviderError(
                f"{error}; given up after {self.patience.attempts} tries, run this again later", body=error.body
            ) from None

    async def _attempt(self, question: ApiCall | Inquiry) -> _Got:
        call_id = await self._leave_to_ask(question)
        began = time.perf_counter()
        status = None
        outcome = "cancelled"
        try:
            exchange = await self._exchange_in_time(question)
            status = exchange.status
            document = self._judge(question, exchange)
            outcome = "ok"
        except ProviderError as error:
            outcome = _OUTCOMES[type(error)]
            raise
        finally:
            if outcome != "ok":
                self.calls_wasted += 1
            self.ledger.close_call(call_id, outcome, status, time.perf_counter() - began)
        return _Got(document, exchange.provider, call_id)

    async def _leave_to_ask(self, question: Question) -> str:
        """Wait until the ledger lets one more call out, and have it written down; its id there."""
        while isinstance(admitted := self.ledger.admit(question, self.run_id, self.clock), Pause):
            seconds = (admitted.until - self.clock()).total_seconds()
            if seconds > self.patience.longest_pause:
                raise self._too_long(admitted)
            await asyncio.sleep(max(seconds, 0.01))
        self.calls_sent += 1
        return admitted

    def _too_long(self, pause: Pause) -> QuotaExceeded:
        kind = BudgetExceeded if pause.window else QuotaExceeded
        return kind(
            f"{self.service.name} is not asked before {pause.until:%Y-%m-%dT%H:%M:%SZ}: {pause.reason}; run this "
            "again then. `weather budget` shows what is left"
        )

    async def _exchange_in_time(self, question: ApiCall | Inquiry) -> Exchange:
        try:
            async with asyncio.timeout(self.patience.attempt):
                return await self._exchange(question)
        except (httpx.RequestError, aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
        # Outside the handler: the original error carries the request, and with it the key.
        raise TransientProviderError(self._message(question, f"could not be reached ({self._quote(reason)})"))

    async def _exchange(self, question: ApiCall | Inquiry) -> Exchange:
        body = bytearray()
        async with self._http.stream("GET", question.url, params=question.query) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise MalformedAnswer(self._message(question, f"sent more than {MAX_BODY_BYTES:,} bytes"))
        told = response.headers.get(PROVIDER_HEADER, "")
        # Only made-up and recorded weather may take another name than the one that was asked for.
        provider = self.service.name if realm(told) == "live" else told
        return Exchange(response.status_code, response.headers, self._secrets.hide_in_body(bytes(body)), provider)

    def _judge(self, question: ApiCall | Inquiry, exchange: Exchange) -> Any:
        """The parsed body of a good answer; any other raises its error. An error status inside a 200 counts as such."""
        status, body = exchange.status, exchange.body
        declared = told = None
        try:
            document = exchange.document
        except ValueError:
            pass  # An error status tells more than its body; both are told below.
        else:
            declared, told = self.service.verdict(document)
            if status == httpx.codes.OK and declared is not None:
                status = declared
            if status == httpx.codes.OK:
                return document
        text = body.decode(errors="replace")
        quoted = self._quote(told or text) or "an empty body"
        kept = self._secrets.hide(text)[:MAX_BODY_KEPT]
        if status == httpx.codes.OK:
            kind = exchange.headers.get("content-type", "no content type")
            raise TransientProviderError(
                self._message(question, f"answered with a body that is no JSON ({self._quote(kind)}): {quoted}"),
                body=kept,
            )
        message = self._message(question, f"answered {status}: {quoted}")
        pause = self._asked_to_wait(status, told or text, exchange.headers)
        if pause is not None:
            raise self._blocked(message, pause, status, kept)
        hint = self.service.hint(status, told or "")
        raise _error_class(status)(message + (f". {hint}" if hint else ""), body=kept)

    def _asked_to_wait(self, status: int, message: str, headers: Mapping[str, str]) -> timedelta | None:
        """How long the provider wants to be left alone, None when it does not say."""
        now = self.clock()
        # With a refusal it would be a proxy's, and hide the provider's own reason.
        may_heal = status == httpx.codes.TOO_MANY_REQUESTS or _error_class(status) is TransientProviderError
        if may_heal and (value := headers.get("retry-after")) is not None:
            told = retry_after(value, headers.get("date"), now)
            if told is not None:
                return told
        return self.service.blocked_for(message, now) if status == httpx.codes.TOO_MANY_REQUESTS else None

    def _blocked(self, message: str, pause: timedelta, status: int, body: str) -> ProviderError:
        """Close the way for every call for so long. The next try waits a short pause out; a long one ends the run."""
        until = self.clock() + pause
        self.ledger.open_block(until, message)
        if pause.total_seconds() <= self.patience.longest_pause:
            return TransientProviderError(message, body=body)
        hint = self.service.hint(status, "")
        return QuotaExceeded(
            f"{message}. No call is made before {until:%Y-%m-%dT%H:%M:%SZ}" + (f". {hint}" if hint else ""), body=body
        )

    def _message(self, question: ApiCall | Inquiry, what: str) -> str:
        return f"{self.service.name} {what} ({question})"

    def _quote(self, text: str) -> str:
        hidden = self._secrets.hide(" ".join(text.split()))
        return hidden if len(hidden) <= MAX_QUOTED else hidden[:MAX_QUOTED] + "…"


def _fault_of(error: BaseException) -> Fault:
    """What kept a request from its host, told by what the error was raised from."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, ssl.SSLError | ssl.CertificateError):
            return "tls"
        if isinstance(cause, socket.gaierror):
            return "name"
        cause = cause.__cause__ or cause.__context__
    return "network"


_OUTCOMES: Mapping[type[ProviderError], str] = MappingProxyType(
    {
        TransientProviderError: "failed",
        QuotaExceeded: "blocked",
        RequestRefused: "refused",
        AccountRefused: "refused",
        MalformedAnswer: "malformed",
    }
)


def _error_class(status: int) -> type[ProviderError]:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return AccountRefused
    if status == httpx.codes.REQUEST_TIMEOUT or not 300 <= status < 500:
        return TransientProviderError
    return RequestRefused


def _parse(body: bytes) -> Any:
    """The body as JSON. A byte order mark is skipped; where nothing else helps, bare words for no number are null."""
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError:
        return from_json(without_nan(body))
