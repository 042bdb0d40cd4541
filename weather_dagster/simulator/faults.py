"""What can be made to go wrong at a simulated provider, on request.

A fault says what happens (``kind``), to which requests (``path``, ``place``), and how often (``after``,
``count``, ``probability``). Faults work on requests and answers from outside, so every provider app has
them all, and several can hold at once: the first that answers by itself wins, the others add up.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

Kind = Literal[
    "status",  # an error with the service's body for `status`; 502 to 504 as HTML
    "error_in_200",  # the same body, but as HTTP 200
    "html",  # a maintenance page as HTTP 200
    "empty",  # HTTP 200 without a body
    "wrong_shape",  # HTTP 200 with JSON of another shape
    "truncated",  # the right answer, cut in the middle
    "slow",  # the right answer after `seconds`
    "reset",  # the connection ends within the body
    "kelvin",  # the answer in standard units, whatever was asked
    "other_place",  # the answer for a point 15 degrees of longitude away
    "stale",  # every time in the answer `seconds` earlier
    "duplicates",  # every entry twice
    "reversed",  # entries in reverse order
    "drop",  # entries of `hours` missing
    "patch",  # entries of `hours` with `values` put in
]

_EDITS = frozenset({"truncated", "stale", "duplicates", "reversed", "drop", "patch"})
_GATEWAY = {502: "Bad Gateway", 503: "Service Temporarily Unavailable", 504: "Gateway Time-out"}
_BLOCKED = (
    "Your account is temporary blocked due to exceeding of requests limitation of your subscription type. "
    "Please choose the proper subscription https://openweathermap.org/price"
)


class Fault(BaseModel):
    """One thing that goes wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    path: str | None = None
    """The only path it concerns, such as ``/data/2.5/weather``; None for all."""
    place: tuple[float, float] | None = None
    """Latitude and longitude of the only place it concerns; None for all."""
    after: Annotated[int, Field(ge=0)] = 0
    """So many of the requests concerned pass before the first is hit."""
    count: Annotated[int, Field(ge=0)] | None = None
    """So many are hit; None for all that follow."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the requests concerned that is hit, drawn from ``seed``."""
    seed: int = 0
    status: Annotated[int, Field(ge=400, le=599)] = 500
    retry_after: str | None = None
    """Value of a Retry-After header beside ``status``; the service itself sends none."""
    seconds: Annotated[float, Field(ge=0)] = 3600.0
    hours: tuple[int, ...] | None = None
    """Unix seconds (``dt``, or ``issued``) of the entries to drop or patch; None for all."""
    values: dict[str, Any] = {}
    """New values by dotted name, such as ``{"main.temp": 999.0}``; parts that are missing are made."""


FAULT_LIST = TypeAdapter(list[Fault])


class Faults:
    """The active faults of an app, with the count of its answers. Change them at any time."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.requests: dict[str, dict[int, int]] = {}
        """Answers by path and status; paths that the provider does not have count as "other"."""
        self.replace(faults)

    @property
    def active(self) -> list[Fault]:
        """The faults, whether used up or not."""
        return [state.fault for state in self._states]

    def replace(self, faults: Iterable[Fault]) -> None:
        """Let these faults hold from now on, and no other."""
        self._states = [_State(fault) for fault in faults]

    def drawn(self, path: str, query: dict[str, str]) -> list[Fault]:
        """The faults that hit this request; counts it for each fault concerned."""
        return [state.fault for state in self._states if state.hits(path, query)]

    def count(self, path: str, status: int) -> None:
        """Note an answer."""
        by_status = self.requests.setdefault(path, {})
        by_status[status] = by_status.get(status, 0) + 1


class _State:
    """A fault and how often it was met."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._met = 0
        self._hit = 0
        self._random = np.random.default_rng(fault.seed)

    def hits(self, path: str, query: dict[str, str]) -> bool:
        fault = self.fault
        if fault.path not in (None, path) or not _is_place(fault.place, query):
            return False
        self._met += 1
        if self._met <= fault.after or (fault.count is not None and self._hit >= fault.count):
            return False
        if self._random.random() >= fault.probability:
            return False
        self._hit += 1
        return True


def _is_place(place: tuple[float, float] | None, query: dict[str, str]) -> bool:
    if place is None:
        return True
    try:
        asked = float(query["lat"]), float(query["lon"])
    except (KeyError, ValueError):
        return False
    return all(abs(here - there) < 0.01 for here, there in zip(asked, place, strict=True))


def error_body(status: int) -> bytes:
    """The service's body for an error status, byte for byte where a capture exists."""
    match status:
        case 401:
            return (
                b'{"cod":401, "message": "Invalid API key. '
                b'Please see https://openweathermap.org/faq#error401 for more info."}'
            )
        case 404:
            return b'{"cod":"404","message":"city not found"}'
        case 429:
            return f'{{"cod":429, "message": "{_BLOCKED}"}}'.encode()
        case 502 | 503 | 504:
            title = f"{status} {_GATEWAY[status]}"
            return (
                f"<html>\r\n<head><title>{title}</title></head>\r\n"
                f"<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
            ).encode()
        case _:
            return pydantic_core.to_json({"cod": str(status), "message": f"Internal error: {status}001"})


class FaultLayer:
    """ASGI: puts the active faults between a client and ``app`` and counts the answers."""

    def __init__(self, app: ASGIApp, faults: Faults, paths: frozenset[str]) -> None:
        self._app = app
        self._faults = faults
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith("/simulator/"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._faults.count(path if path in self._paths else "other", message["status"])
            await send(message)

        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        faults = self._faults.drawn(path, query)
        if not faults:
            await self._app(scope, receive, counted)
            return
        for fault in faults:
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
        for fault in faults:
            if (answer := _REPLACEMENTS.get(fault.kind)) is not None:
                await _send(counted, *answer(fault))
                return
        changed = {**scope, "query_string": urlencode(_rewrite(query, faults)).encode("latin-1")}
        collected: list[Message] = []

        async def collect(message: Message) -> None:
            collected.append(message)

        await self._app(changed, receive, collect)
        start, *parts = collected
        body = b"".join(part.get("body", b"") for part in parts)
        if start["status"] == 200:
            body = _edit(body, [fault for fault in faults if fault.kind in _EDITS])
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        if any(fault.kind == "reset" for fault in faults):
            await _break_off(counted, start["status"], headers, body)
        await _send(counted, start["status"], headers, body)


_Headers = Sequence[tuple[bytes, bytes]]
_Answer = tuple[int, _Headers, bytes]
_JSON = ((b"content-type", b"application/json; charset=utf-8"),)
_HTML = ((b"content-type", b"text/html"),)
_MAINTENANCE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>"


def _status(fault: Fault) -> _Answer:
    headers: _Headers = _HTML if fault.status in _GATEWAY else _JSON
    if fault.retry_after is not None:
        headers = (*headers, (b"retry-after", fault.retry_after.encode("latin-1")))
    return fault.status, headers, error_body(fault.status)


_REPLACEMENTS: dict[str, Callable[[Fault], _Answer]] = {
    "status": _status,
    "error_in_200": lambda fault: (200, _JSON, error_body(fault.status)),
    "html": lambda _: (200, _HTML, _MAINTENANCE),
    "empty": lambda _: (200, _JSON, b""),
    "wrong_shape": lambda _: (200, _JSON, b'{"data":[{"value":1}],"meta":{"page":1}}'),
}


def _rewrite(query: dict[str, str], faults: Iterable[Fault]) -> dict[str, str]:
    kinds = {fault.kind for fault in faults}
    if "kelvin" in kinds:
        query = query | {"units": "standard"}
    if "other_place" in kinds and "lon" in query:
        longitude = float(query["lon"])
        query = query | {"lon": str(longitude - 15 if longitude > 0 else longitude + 15)}
    return query


def _edit(body: bytes, faults: Sequence[Fault]) -> bytes:
    if any(fault.kind != "truncated" for fault in faults):
        document = pydantic_core.from_json(body)
        for fault in faults:
            _edit_document(document, fault)
        body = pydantic_core.to_json(document)
    if any(fault.kind == "truncated" for fault in faults):
        body = body[: len(body) // 2]
    return body


def _edit_document(document: dict[str, Any], fault: Fault) -> None:
    entries: list[dict[str, Any]] = document.get("list", [document])
    chosen = [entry for entry in entries if fault.hours is None or _time(entry) in fault.hours]
    match fault.kind:
        case "duplicates":
            entries[:] = [entry for entry in entries for _ in range(2)]
        case "reversed":
            entries.reverse()
        case "drop":
            entries[:] = [] if fault.hours is None else [e for e in entries if _time(e) not in fault.hours]
        case "stale":
            for step in _steps(entries):
                step["dt"] -= round(fault.seconds)
        case "patch":
            for step in _steps(chosen):
                for name, value in fault.values.items():
                    _put(step, name.split("."), value)
    if "cnt" in document:
        document["cnt"] = len(entries)


def _steps(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        yield from entry.get("list", [entry])


def _time(entry: dict[str, Any]) -> int:
    """Time of an entry: a forecast of the history extension goes by its hour of issue."""
    return int(entry["issued"] if "issued" in entry else entry["dt"])


def _put(target: dict[str, Any], names: Sequence[str], value: Any) -> None:
    *parents, last = names
    for name in parents:
        target = target.setdefault(name, {})
    target[last] = value


async def _send(send: Send, status: int, headers: _Headers, body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _break_off(send: Send, status: int, headers: _Headers, body: bytes) -> None:
    """End the connection within the body. A server closes the socket; in process the error itself arrives."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    raise ConnectionResetError("the simulator ended the connection, as it was asked to")
