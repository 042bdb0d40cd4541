"""What reading answers costs beside Pydantic alone, ROUNDS times in turn; prints CPU seconds as JSON.

A week of hours of ten places: one body a place from OpenWeather, where a record is an object, and one for all from
Open-Meteo, where a variable is a column.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from pydantic import BaseModel, TypeAdapter, create_model

from weather_dagster.datasets import OBSERVATIONS
from weather_dagster.hours import HOUR, HourRange, floor_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.simulator.app import create_app
from weather_dagster.weather_api import open_meteo, openweather
from weather_dagster.weather_api.client import Exchange
from weather_dagster.weather_api.endpoints import ApiCall
from weather_dagster.weather_api.open_meteo_contracts import INSTANTS, NUMBERS, Instant, Number, Place
from weather_dagster.weather_api.openweather_contracts import WEATHER_SERIES, History, Weather

WEEK = 168
REPEATS = 5
Side = Callable[[], object]


def answer_to(call: ApiCall) -> bytes:
    async def ask() -> bytes:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app())) as client:
            answer = await client.get(call.url, params={**call.query, "appid": "benchmark"})
            return answer.raise_for_status().content

    return asyncio.run(ask())


def parsed(body: bytes) -> Any:
    return Exchange(200, {}, body, "").document


def reading(bodies: Sequence[tuple[ApiCall, bytes]]) -> dict[str, Side]:
    """The way of the product: to readings that are checked and filed, and on to rows and rejections."""

    def read() -> None:
        for call, body in bodies:
            call.read(parsed(body), "benchmark")

    def read_to_rows() -> int:
        rows = 0
        for call, body in bodies:
            for answer in call.read(parsed(body), "benchmark"):
                table, _ = answer.finish()
                rows += table.num_rows
        return rows

    landed = read_to_rows()
    assert landed == WEEK * 10, f"{landed} rows"
    return {"read": read, "read to rows": read_to_rows}


def of_openweather(hours: HourRange) -> dict[str, Side]:
    endpoints = openweather.plans(None)["simulator"].endpoints
    endpoint = next(endpoint for endpoint in endpoints if endpoint.dataset is OBSERVATIONS)
    calls = [ApiCall(endpoint, (place,), hours) for place in load_locations()]
    bodies = [(call, answer_to(call)) for call in calls]

    class Week(BaseModel):
        list: list[Weather]

    def pydantic() -> None:
        for _, body in bodies:
            Week.model_validate_json(body)

    def decode_and_validate() -> None:
        for _, body in bodies:
            assert WEATHER_SERIES.columns(History.model_validate(parsed(body)).list)

    return {"pydantic": pydantic, "decode, validate": decode_and_validate, **reading(bodies)}


def of_open_meteo(hours: HourRange) -> dict[str, Side]:
    endpoint = next(e for e in open_meteo.endpoints("http://simulator") if e.dataset is OBSERVATIONS)
    call = ApiCall(endpoint, tuple(load_locations()), hours)
    body = answer_to(call)
    fields = dict.fromkeys(json.loads(body)[0]["hourly"], list[Number | None]) | {"time": list[Instant]}
    hourly = create_model("Hourly", **{name: (kind, ...) for name, kind in fields.items()})  # type: ignore[call-overload]
    places = TypeAdapter(list[create_model("Columns", __base__=Place, hourly=(hourly, ...))])  # type: ignore[misc]

    def decode_and_validate() -> None:
        for part in parsed(body):
            for name, column in Place.model_validate(part).hourly.items():
                (INSTANTS if name == "time" else NUMBERS).validate_python(column)

    return {
        "pydantic": lambda: places.validate_json(body),
        "decode, validate": decode_and_validate,
        **reading([(call, body)]),
    }


def cost(side: Side) -> float:
    # What ran before leaves the caches to others.
    side()
    start = time.process_time()
    for _ in range(REPEATS):
        side()
    return (time.process_time() - start) / REPEATS


def main() -> None:
    last = floor_hour(utc_now()) - HOUR
    hours = HourRange(last - (WEEK - 1) * HOUR, last)
    providers = {"openweather": of_openweather(hours), "open_meteo": of_open_meteo(hours)}
    # As while the product fetches.
    gc.disable()
    medians: dict[str, dict[str, float]] = {}
    for provider, sides in providers.items():
        costs: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(int(sys.argv[1])):
            for name, side in sides.items():
                costs[name].append(cost(side))
        medians[provider] = {name: statistics.median(all_) for name, all_ in costs.items()}
    print(json.dumps(medians))


main()
