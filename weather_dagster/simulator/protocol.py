"""OpenWeather over HTTP: keys, parameters, error bodies, headers, and the control routes of a simulator.

Open-Meteo's own ways over HTTP are in ``open_meteo``; its routes join the same app.

Who answers (simulated weather or recorded hours) is a table of handlers. The order of checks is the
reference's: key (401), parameters (400), data (404).
"""

from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlencode

import pydantic_core
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from weather_dagster.simulator.accounts import Account, Gate, Refused, product_of
from weather_dagster.simulator.faults import FAULT_LIST, FaultLayer, Faults, error_body, not_subscribed
from weather_dagster.simulator.wire import Units
from weather_dagster.weather_api.service import PROVIDER_HEADER

JSON_TYPE = "application/json; charset=utf-8"
_NO_MILLISECONDS = 10**11


class Refusal(Exception):
    """An answer with an error status and the service's own body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(body.decode())
        self.status = status
        self.body = body

    @classmethod
    def bad_request(cls, message: str, *, code: str | int = "400", parameter: str | None = None) -> "Refusal":
        """A parameter is missing or wrong: 400. One Call writes its code as a number and names the parameter."""
        named = {} if parameter is None else {"parameters": [parameter]}
        return cls(400, pydantic_core.to_json({"cod": code, "message": message, **named}))

    @classmethod
    def not_found(cls) -> "Refusal":
        """No data for the place: 404."""
        return cls(404, error_body(404))


class Query:
    """The parameters of one request. Every reader raises ``Refusal`` with the service's message."""

    def __init__(self, parameters: QueryParams, url: str = "") -> None:
        self._parameters = parameters
        self.url = url
        """Where the request went: host and path."""

    @property
    def key(self) -> str | None:
        """The key, a secret."""
        return self._parameters.get("appid")

    def text(self, name: str) -> str | None:
        """The parameter as it is; None when it is missing."""
        return self._parameters.get(name)

    @property
    def coordinates(self) -> tuple[float, float]:
        """Latitude and longitude, degrees."""
        if "lat" not in self._parameters and "lon" not in self._parameters:
            raise Refusal.bad_request("Nothing to geocode")
        return self._degrees("lat", "latitude", 90.0), self._degrees("lon", "longitude", 180.0)

    def _degrees(self, name: str, spelled: str, limit: float) -> float:
        try:
            value = float(self._parameters.get(name, ""))
        except ValueError:
            raise Refusal.bad_request(f"wrong {spelled}") from None
        if not -limit <= value <= limit:
            raise Refusal.bad_request(f"wrong {spelled}")
        return value

    @property
    def units(self) -> Units:
        """The unit system; an unknown name means the default, as at the service."""
        match self._parameters.get("units"):
            case "metric":
                return "metric"
            case "imperial":
                return "imperial"
            case _:
                return "standard"

    def count(self, most: int) -> int:
        """``cnt``, the number of entries wanted; ``most`` when it is not given or larger."""
        return min(self._whole_number("cnt", "wrong cnt"), most) if "cnt" in self._parameters else most

    def limit(self, most: int) -> int:
        """``limit``, the number of places wanted; ``most`` when it is not given or larger."""
        return min(self._whole_number("limit", "wrong limit"), most) if "limit" in self._parameters else most

    def instant(self, name: str, message: str) -> int:
        """Unix seconds in a parameter of One Call."""
        try:
            return int(self._parameters.get(name, ""))
        except ValueError:
            raise Refusal.bad_request(message, code=400, parameter=name) from None

    def span(self) -> tuple[int, int]:
        """``start`` and ``end``, unix seconds, both inclusive."""
        start = self._whole_number("start", "wrong start time")
        end = self._whole_number("end", "wrong end time")
        if end < start:
            raise Refusal.bad_request("end time is before start time")
        return start, end

    def span_or_count(self, most_seconds: int) -> tuple[int, int]:
        """``start`` with ``end`` or with ``cnt`` hours; ``end`` is cut to ``most_seconds`` after ``start``."""
        if "end" in self._parameters:
            start, end = self.span()
        else:
            start = self._whole_number("start", "wrong start time")
            end = start + (self._whole_number("cnt", "wrong cnt") - 1) * 3600
        return start, min(end, start + most_seconds)

    def require(self, name: str, value: str) -> None:
        """The parameter must be there with this value."""
        if self._parameters.get(name) != value:
            raise Refusal.bad_request(f"wrong {name}")

    def _whole_number(self, name: str, message: str) -> int:
        try:
            value = int(self._parameters.get(name, ""))
        except ValueError:
            raise Refusal.bad_request(message) from None
        if not 0 <= value < _NO_MILLISECONDS:
            raise Refusal.bad_request(message)
        return value


Handler = Callable[[Query], object]


def build_app(
    handlers: Mapping[str, Handler],
    *,
    provider: str,
    faults: Faults | None,
    accounts: Mapping[str, Account] | None,
    clock: Callable[[], float],
    more_routes: Sequence[Route] = (),
) -> ASGIApp:
    """A provider whose paths are answered by ``handlers``, with control routes under /simulator.

    GET, PUT /simulator/faults: the active faults as a JSON list of ``Fault``; PUT replaces them.
    GET, DELETE /simulator/requests: answers by path and status; DELETE starts all counts anew.
    GET /simulator/rates: the most answers in any minute, by path and (as "all") over all paths.

    Args:
        provider: named in a header of what the handlers answer, so that no client takes it for OpenWeather's.
        faults: what goes wrong; shared with the caller, who may change it at any time.
        accounts: by key; None lets in every key that is not empty, to every product.
        clock: the current instant in unix seconds, for accounts, rates and the Date header.
        more_routes: of another service; counted and hit by faults like the others.
    """
    faults = faults or Faults()
    gate = Gate(accounts, clock)
    routes = [Route(path, _endpoint(path, handler, provider, gate)) for path, handler in handlers.items()]
    routes += [
        *more_routes,
        Route("/simulator/faults", _faults_route(faults), methods=["GET", "PUT"]),
        Route("/simulator/requests", _requests_route(faults), methods=["GET", "DELETE"]),
        Route("/simulator/rates", _rates_route(faults)),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _wrong_path})
    return FaultLayer(app, faults, frozenset(handlers) | {route.path for route in more_routes}, clock)


def _endpoint(path: str, handler: Handler, provider: str, gate: Gate) -> Callable[[Request], object]:
    product = product_of(path)

    async def answer(request: Request) -> Response:
        query = Query(request.query_params, f"{request.url.netloc}{path}")
        status = 200
        try:
            if (refused := gate.admit(query.key, product)) is not None:
                raise _refusal(refused, path)
            body = pydantic_core.to_json(handler(query))
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        return Response(body, status, {**_headers(request), PROVIDER_HEADER: provider})

    return answer


def _refusal(refused: Refused, path: str) -> Refusal:
    if refused == "blocked":
        return Refusal(429, error_body(429))
    is_one_call = "/onecall" in path
    return Refusal(401, not_subscribed(path) if refused == "not_subscribed" and is_one_call else error_body(401))


def _headers(request: Request) -> dict[str, str]:
    # Only the lower-case name is taken out: a client that sends APPID meets its key here, as at the service.
    shown = sorted((name, value) for name, value in request.query_params.items() if name != "appid")
    return {
        "Server": "openresty",
        "Content-Type": JSON_TYPE,
        "X-Cache-Key": f"{request.url.path}?{urlencode(shown)}",
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "GET, POST",
    }


async def _wrong_path(request: Request, error: Exception) -> Response:
    body = pydantic_core.to_json({"cod": "404", "message": "Internal error"})
    return Response(body, 404, _headers(request))


def _faults_route(faults: Faults) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        if request.method == "PUT":
            try:
                faults.replace(FAULT_LIST.validate_json(await request.body()))
            except ValidationError as error:
                return Response(error.json(include_url=False), 422, media_type=JSON_TYPE)
        return Response(FAULT_LIST.dump_json(faults.active), media_type=JSON_TYPE)

    return answer


def _requests_route(faults: Faults) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        if request.method == "DELETE":
            faults.forget_requests()
        return Response(pydantic_core.to_json(faults.requests), media_type=JSON_TYPE)

    return answer


def _rates_route(faults: Faults) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        return Response(pydantic_core.to_json({"most_in_any_minute": faults.most_in_any_minute}), media_type=JSON_TYPE)

    return answer
