"""What can be made to go wrong at a simulated provider, on request.

A fault says what happens (``kind``), to which requests (``path``, ``place``), and how often (``after``,
``count``, ``probability``). Faults work on requests and answers from outside, so every provider app has
them all, and several can hold at once: the first that answers by itself wins, the others add up.
"""

import asyncio
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weather_dagster.simulator.accounts import Rate

Kind = Literal[
    "status",  # an error with the service's body for `status`; 502 to 504 as HTML
    "error_in_200",  # the same body, but as HTTP 200
    "html",  # a maintenance page as HTTP 200
    "empty",  # HTTP 200 without a body
    "wrong_shape",  # HTTP 200 with JSON of another shape
    "truncated",  # the right answer, cut in the middle
    "slow",  # the right answer after `seconds`
    "reset",  # the connection ends within the body
    "kelvin",  # the answer in the units nobody asked for: standard, at Open-Meteo km/h and °F
    "other_place",  # the answer for a point 15 degrees of longitude away
    "stale",  # every time in the answer `seconds` earlier
    "duplicates",  # every entry twice
    "reversed",  # entries in reverse order
    "drop",  # entries of `hours` missing
    "patch",  # entries of `hours` with `values` put in
    "nulls",  # every value null in entries of `hours`, else in the `newest` ones
    "nan",  # Open-Meteo's coordinates as a bare -nan, which is no JSON
    "bom",  # a byte order mark before the answer
    "huge",  # the right answer with more than ten megabytes of blanks behind it
    "endless",  # HTTP 200 and a body that goes on for ever
    "date_skew",  # the Date header `seconds` ahead
]

_BYTE_EDITS = frozenset({"truncated", "bom", "huge"})
_EDITS = frozenset({"stale", "duplicates", "reversed", "drop", "patch", "nulls", "nan"})
_HUGE = 10 * 1024 * 1024 + 1
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
    """Latitude and longitude of the only place it concerns; None for all. A request for several places is
    concerned when this is one of them; edits then change this place's part of the answer alone."""
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
    seconds: float = 3600.0
    hours: tuple[int, ...] | None = None
    """Unix seconds (``dt``, ``issued``, or ``time``) of the entries to drop, patch or empty; None for all."""
    newest: Annotated[int, Field(ge=1)] = 1
    """So many of the last entries are emptied by ``nulls`` when it has no ``hours``."""
    values: dict[str, Any] = {}
    """New values by dotted name, such as ``{"main.temp": 999.0}``, or by variable; missing parts are made."""


FAULT_LIST = TypeAdapter(list[Fault])


class Faults:
    """The active faults of an app, with the count of its answers. Change them at any time."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.requests: dict[str, dict[int, int]] = {}
        """Answers by path and status; paths that the provider does not have count as "other"."""
        self._rates: dict[str, Rate] = {}
        self.replace(faults)

    @property
    def most_in_any_minute(self) -> dict[str, int]:
        """The most answers within 60 s of the app's clock, by path and, as "all", over all of them."""
        return {path: rate.most for path, rate in self._rates.items()}

    def forget_requests(self) -> None:
        """Start all counts anew."""
        self.requests.clear()
        self._rates.clear()

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

    def count(self, path: str, status: int, instant: float) -> None:
        """Note an answer at an instant (unix seconds)."""
        for name in (path, "all"):
            self._rates.setdefault(name, Rate()).note(instant)
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
    return place is None or any(_is_near(place, asked) for asked in _places(query))


def _is_near(place: tuple[float, float], asked: tuple[float, float]) -> bool:
    return all(abs(here - there) < 0.01 for here, there in zip(asked, place, strict=True))


def _places(query: dict[str, str]) -> list[tuple[float, float]]:
    """The points asked for, by OpenWeather's or Open-Meteo's names; none when they cannot be read."""
    latitudes = query.get("lat", query.get("latitude", "")).split(",")
    longitudes = query.get("lon", query.get("longitude", "")).split(",")
    try:
        return [(float(lat), float(lon)) for lat, lon in zip(latitudes, longitudes, strict=True)]
    except ValueError:
        return []


def not_subscribed(path: str) -> bytes:
    """The body of status 401 at One Call without its subscription."""
    generation = "4.0" if path.startswith("/data/4.0/") else "3.0"
    return (
        f'{{"cod":401, "message": "Please note that using One Call {generation} requires a separate subscription to '
        "the One Call by Call plan. Learn more here https://openweathermap.org/price. If you have a valid subscription "
        "to the One Call by Call plan, but still receive this error, then please see "
        'https://openweathermap.org/faq#error401 for more info."}'
    ).encode()


def is_open_meteo(path: str) -> bool:
    """Whether a path is Open-Meteo's: those begin with the first label of the real host."""
    return path.split("/")[1] == "api" or path.split("/")[1].endswith("-api")


_OPEN_METEO_REASONS = {
    404: "Not Found",
    429: "Minutely API request limit exceeded. Please try again in one minute.",
    503: "The service is overloaded",
}


def open_meteo_error(reason: str) -> bytes:
    """Open-Meteo's body for any error."""
    return pydantic_core.to_json({"error": True, "reason": reason})


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

    def __init__(self, app: ASGIApp, faults: Faults, paths: frozenset[str], clock: Callable[[], float]) -> None:
        self._app = app
        self._faults = faults
        self._paths = paths
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"].startswith("/simulator/"):
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = dict(pairs)
        faults = self._faults.drawn(path, query)
        kinds = {fault.kind for fault in faults}

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                now = self._clock()
                self._faults.count(path if path in self._paths else "other", message["status"], now)
                skew = sum(fault.seconds for fault in faults if fault.kind == "date_skew")
                date = (b"date", formatdate(now + skew, usegmt=True).encode())
                message = {**message, "headers": [*message["headers"], date]}
            await send(message)

        for fault in faults:
            if fault.kind == "slow":
                await asyncio.sleep(fault.seconds)
        for fault in faults:
            if (answer := _REPLACEMENTS.get(fault.kind)) is not None:
                await _send(counted, *answer(fault, path))
                return
        if "endless" in kinds:
            await _go_on(receive, counted)
            return
        if kinds <= {"slow", "date_skew"}:
            await self._app(scope, receive, counted)
            return
        changed = {**scope, "query_string": urlencode(_rewrite(pairs, kinds)).encode("latin-1")}
        collected: list[Message] = []

        async def collect(message: Message) -> None:
            collected.append(message)

        await self._app(changed, receive, collect)
        start, *parts = collected
        body = b"".join(part.get("body", b"") for part in parts)
        if start["status"] == 200:
            body = _edit(body, _places(query), faults)
        headers = [(k, v) for k, v in start["headers"] if k.lower() != b"content-length"]
        if "reset" in kinds:
            await _break_off(counted, start["status"], headers, body)
        await _send(counted, start["status"], headers, body)


_Headers = Sequence[tuple[bytes, bytes]]
_Answer = tuple[int, _Headers, bytes]
_JSON = ((b"content-type", b"application/json; charset=utf-8"),)
_HTML = ((b"content-type", b"text/html"),)
_MAINTENANCE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>"


def _body(status: int, path: str) -> bytes:
    if is_open_meteo(path) and status not in (502, 504):
        return open_meteo_error(_OPEN_METEO_REASONS.get(status, "Something went wrong."))
    return error_body(status)


def _status(fault: Fault, path: str) -> _Answer:
    body = _body(fault.status, path)
    headers: _Headers = _HTML if body.startswith(b"<") else _JSON
    if fault.retry_after is not None:
        headers = (*headers, (b"retry-after", fault.retry_after.encode("latin-1")))
    return fault.status, headers, body


_REPLACEMENTS: dict[str, Callable[[Fault, str], _Answer]] = {
    "status": _status,
    "error_in_200": lambda fault, path: (200, _JSON, _body(fault.status, path)),
    "html": lambda _fault, _path: (200, _HTML, _MAINTENANCE),
    "empty": lambda _fault, _path: (200, _JSON, b""),
    "wrong_shape": lambda _fault, _path: (200, _JSON, b'{"data":[{"value":1}],"meta":{"page":1}}'),
}


def _rewrite(pairs: Sequence[tuple[str, str]], kinds: Collection[str]) -> list[tuple[str, str]]:
    changed = list(pairs)
    if "kelvin" in kinds:
        unit_names = ("units", "wind_speed_unit", "temperature_unit")
        changed = [(name, value) for name, value in changed if name not in unit_names]
        if any(name == "latitude" for name, _ in pairs):
            changed.append(("temperature_unit", "fahrenheit"))
    if "other_place" in kinds:
        changed = [(name, _moved(value) if name in ("lon", "longitude") else value) for name, value in changed]
    return changed


def _moved(longitudes: str) -> str:
    moved = (degrees - 15 if degrees > 0 else degrees + 15 for degrees in map(float, longitudes.split(",")))
    return ",".join(map(str, moved))


def _edit(body: bytes, places: Sequence[tuple[float, float]], faults: Sequence[Fault]) -> bytes:
    kinds = {fault.kind for fault in faults}
    if kinds & _EDITS:
        document = pydantic_core.from_json(body)
        parts = document if isinstance(document, list) else [document]
        for fault in faults:
            for i, part in enumerate(parts):
                if fault.place is None or len(parts) != len(places) or _is_near(fault.place, places[i]):
                    _edit_document(part, fault)
        body = pydantic_core.to_json(document).replace(b'"-nan"', b"-nan")
    if "huge" in kinds:
        body += b" " * _HUGE
    if "truncated" in kinds:
        body = body[: len(body) // 2]
    return BOM_UTF8 + body if "bom" in kinds else body


def _edit_document(document: dict[str, Any], fault: Fault) -> None:
    if fault.kind == "nan" and "latitude" in document:
        document["latitude"] = document["longitude"] = "-nan"
    if "time" in (columns := document.get("hourly", ())):
        clock = _TimeColumn(document)
        entries = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for entry in entries:
            entry["dt"] = clock.read(entry["time"])
        entries = _edited(entries, fault)
        for entry in entries:
            entry["time"] = clock.write(entry.pop("dt"))
        names = dict.fromkeys([*columns, *(name for entry in entries for name in entry)])
        document["hourly"] = {name: [entry.get(name) for entry in entries] for name in names}
        return
    lists = [name for name in ("list", "data", "hourly", "daily") if name in document]
    for name in lists:
        document[name] = _edited(document[name], fault)
    for single in (document, document.get("current", {})):
        if "dt" in single:
            _edited([single], fault)
    if "cnt" in document:
        document["cnt"] = len(document["list"])


class _TimeColumn:
    """Reads and writes the times of an Open-Meteo answer as unix seconds."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._is_unix = document["hourly_units"]["time"] == "unixtime"
        self._offset = int(document["utc_offset_seconds"]) // 3600 * 3600

    def read(self, time: Any) -> int:
        if self._is_unix:
            return int(time)
        return int(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()) - self._offset

    def write(self, instant: int) -> int | str:
        return instant if self._is_unix else f"{datetime.fromtimestamp(instant + self._offset, UTC):%Y-%m-%dT%H:%M}"


def _edited(entries: list[dict[str, Any]], fault: Fault) -> list[dict[str, Any]]:
    """The entries after an edit; those that stay are changed in place."""
    chosen = [entry for entry in entries if fault.hours is None or _time(entry) in fault.hours]
    match fault.kind:
        case "duplicates":
            # Copies: a later fault must not meet the same entry twice.
            return [copy for entry in entries for copy in (entry, deepcopy(entry))]
        case "reversed":
            return entries[::-1]
        case "drop":
            return [] if fault.hours is None else [e for e in entries if _time(e) not in fault.hours]
        case "stale":
            for step in _steps(entries):
                step["dt"] -= round(fault.seconds)
        case "patch":
            for step in _steps(chosen):
                for name, value in fault.values.items():
                    _put(step, name.split("."), value)
        case "nulls":
            newest = sorted(entries, key=_time)[-fault.newest :]
            for step in _steps(newest if fault.hours is None else chosen):
                step |= {name: None for name in step if name not in ("dt", "time")}
    return entries


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


async def _go_on(receive: Receive, send: Send) -> None:
    """Drip blanks until the client goes: no pause is long enough for a read timeout, and memory fills slowly."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(gone())
    try:
        await send({"type": "http.response.start", "status": 200, "headers": [*_JSON]})
        while not leaving.done():
            await send({"type": "http.response.body", "body": b" " * 1024, "more_body": True})
            await asyncio.wait([leaving], timeout=0.02)
    finally:
        leaving.cancel()


async def _break_off(send: Send, status: int, headers: _Headers, body: bytes) -> None:
    """End the connection within the body. A server closes the socket; in process the error itself arrives."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    raise ConnectionResetError("the simulator ended the connection, as it was asked to")
