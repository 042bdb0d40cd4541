"""Whatever a provider sends, reading it ends in rows that keep the invariants, rejections, or an error of ours."""

import copy
import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from weather_dagster.datasets import Rejection, payload_hash
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HourRange
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.records import payload_hashes
from weather_dagster_tests.weather_api.answers import (
    LYON,
    THIS_HOUR,
    current,
    flat,
    hours_ago,
    one_call,
    record,
    series,
)

BODIES = 20_000
ENDPOINTS = {
    f"{endpoint.path} {endpoint.dataset.name}": endpoint
    for plan in openweather.plans(None).values()
    for endpoint in plan.endpoints
}
"""Every endpoint of every plan, those once that plans share."""


def asked(endpoint: Endpoint) -> HourRange:
    return THIS_HOUR if endpoint.hours_per_call == 1 else hours_ago(3)


def honest_answers() -> dict[str, Any]:
    now, start = int(THIS_HOUR.first.timestamp()), int(hours_ago(3).first.timestamp())
    city = {"coord": {"lat": 45.75, "lon": 4.85}}
    amounts = {"rain": {"1h": 1.0, "3h": 2}, "snow": {"1h": 0, "3h": 0.5}, "pop": 0.5}
    ahead = [record(now + 10800 * i, **amounts) for i in range(3)]
    past = [record(start + 3600 * i, **amounts) for i in range(3)]
    flat_ahead = [flat(now + 3600 * i, rain={"1h": 2}, pop=1) for i in range(3)]
    flat_past = [flat(start + 3600 * i, snow={"1h": 0.2}) for i in range(3)]
    names = ("co", "no", "no2", "o3", "so2", "pm2_5", "pm10", "nh3")
    air = [{"dt": start + 3600 * i, "main": {"aqi": 1}, "components": dict.fromkeys(names, 2.5 + i)} for i in range(3)]
    link = f"http://localhost/?appid=key&start={now + 72_000}&cnt=20"
    return {
        "/data/2.5/weather observations": current(now, **amounts),
        "/data/2.5/history/city observations": series(*past),
        "/data/2.5/forecast forecasts": series(*ahead, city=city),
        "/data/2.5/forecast/history forecasts": series(
            {"issued": start, "list": past}, {"issued": start + 3600, "list": ahead}, city=city
        ),
        "/data/2.5/air_pollution/history air_quality": {"coord": [45.75, 4.85], "list": air},
        "/data/3.0/onecall observations": one_call(current=flat(now + 720)),
        "/data/3.0/onecall/timemachine observations": one_call(data=[flat(now)]),
        "/data/3.0/onecall forecasts": one_call(hourly=flat_ahead),
        "/data/4.0/onecall/current observations": one_call(data=[flat(now - 60)]),
        "/data/4.0/onecall/timeline/1h observations": one_call(data=flat_past, next=link, prev=link),
        "/data/4.0/onecall/timeline/1h forecasts": one_call(data=flat_ahead, next=link, prev=link),
    }


HONEST = honest_answers()
START = int(hours_ago(3).first.timestamp())

numbers = st.one_of(
    st.integers(),
    st.integers(min_value=START - 10**4, max_value=START + 10**5),
    st.floats(),
    st.floats(min_value=-200, max_value=500),
    st.sampled_from([0, -0.0, 10**11, 10**11 - 1, 2**63, 10**400, 1e308, math.nan, math.inf, -9999, 291.4]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5) | st.sampled_from(["12.5", "-nan", "1e400", "0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
Path = tuple[str | int, ...]


def paths(document: Any, here: Path = ()) -> list[Path]:
    """Every place in a document where something can be put."""
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [here, *(path for key, child in children for path in paths(child, (*here, key)))]


def nested(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = [value] if level % 2 else {"dt": value}
    return value


def damage(draw: st.DrawFn, target: Any, key: Any) -> None:
    """Do to one part of a document what providers, proxies and bugs do."""
    value = target[key]
    how = draw(st.sampled_from(["drop", "replace", "replace", "null", "quote", "nest", "bury", "scale", "repeat"]))
    if how == "drop":
        del target[key]
    elif how == "repeat" and isinstance(target, list):
        target.append(copy.deepcopy(value))
    elif how == "scale" and isinstance(value, int | float) and not isinstance(value, bool):
        target[key] = value * draw(st.sampled_from([-1, 0, 1000, 1e-3, 1e300, 10**30]))
    elif how == "quote":
        target[key] = str(value)
    elif how == "nest":
        target[key] = draw(st.sampled_from([[value], {"value": value}, {"1h": value}, [value, value], [], {}]))
    elif how == "bury":
        target[key] = nested(value, draw(st.sampled_from([3, 60, 150, 190])))
    else:
        target[key] = None if how == "null" else draw(values)


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Any:
    """An honest answer with one to four parts damaged."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        places = paths(document)[1:]
        if not places:
            break
        *parents, last = draw(st.sampled_from(places))
        target = document
        for key in parents:
            target = target[key]
        damage(draw, target, last)
    return document


def check_reading(endpoint: Endpoint, document: Any) -> int:
    """Read as after the network; returns the rows. What is no JSON never gets as far as a reader."""
    try:
        body = from_json(json.dumps(document))
    except ValueError:
        return 0
    hours = asked(endpoint)
    call = ApiCall(endpoint, (LYON,), hours)
    check_next_page(call, body)
    try:
        (answer,) = call.read(body, "openweather")
    except MalformedAnswer:
        return 0
    table, rejections = answer.finish()
    table.validate(full=True)
    assert table.schema == endpoint.dataset.arrow_schema
    rows = table.to_pylist()
    keys = {tuple(row[name] for name in endpoint.dataset.version_key) for row in rows}
    assert len(keys) == len(rows)
    for row in rows:
        check_row(endpoint, hours, row)
    for rejection in rejections:
        check_rejection(endpoint, hours, rejection)
    return len(rows)


def check_next_page(call: ApiCall, body: Any) -> None:
    following = call.next_page(body)
    if following is not None:
        first = int(call.hours.first.timestamp())
        assert first < following.query["start"] < first + 48 * 3600
        assert set(following.page) <= {"start", "cnt"}
        assert all(type(number) is int for number in following.page.values())


def check_row(endpoint: Endpoint, hours: HourRange, row: dict[str, Any]) -> None:
    assert (row["provider"], row["endpoint"], row["location_id"]) == ("openweather", endpoint.path, "lyon")
    assert row[endpoint.dataset.partition_column] in hours
    assert row.get("issued_hour_utc", row["valid_hour_utc"]) <= row["valid_hour_utc"]
    assert row["valid_hour_utc"].minute == row["valid_hour_utc"].second == 0
    if "observed_at_utc" in row:
        early = row["valid_hour_utc"] - row["observed_at_utc"]
        assert early <= endpoint.tolerance
        assert -early.total_seconds() < 3600
    assert len(row["payload_hash"]) == 32
    from_json(row["payload"], allow_inf_nan=False)
    for quantity in endpoint.dataset.quantities:
        value = row[quantity.name]
        if value is not None:
            assert quantity.is_plausible(value), quantity.name
            assert math.copysign(1, value) == 1 or value != 0, quantity.name
    named = set((row["rejected_fields"] or "").split(",")) - {""}
    assert all(row[name] is None for name in named)


def check_rejection(endpoint: Endpoint, hours: HourRange, rejection: Rejection) -> None:
    assert (rejection.provider, rejection.endpoint, rejection.location_id) == ("openweather", endpoint.path, "lyon")
    assert rejection.message
    assert len(rejection.payload_hash) == 32
    assert datetime.fromtimestamp(rejection.hour_utc, UTC) in hours
    kept = from_json(rejection.payload, allow_inf_nan=False)
    try:
        (again,) = ApiCall(endpoint, (LYON,), hours).read(endpoint.wrap(kept, hours), "openweather")
    except MalformedAnswer:
        return
    again.finish()


def test_every_endpoint_of_every_plan_has_an_honest_answer_here() -> None:
    assert {*HONEST} == {*ENDPOINTS}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_honest_answers_do_land(name: str) -> None:
    assert check_reading(ENDPOINTS[name], HONEST[name]) > 0


@pytest.mark.parametrize("name", ENDPOINTS)
def test_reading_a_damaged_answer_keeps_the_invariants(name: str) -> None:
    read_damaged(name, 60)


@pytest.mark.no_cover
@pytest.mark.integration
@pytest.mark.parametrize("name", ENDPOINTS)
def test_reading_thousands_of_damaged_answers_keeps_the_invariants(name: str) -> None:
    read_damaged(name, -(-BODIES // len(ENDPOINTS)))


def read_damaged(name: str, bodies: int) -> None:
    @settings(max_examples=bodies, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(damaged(HONEST[name]))
    def read(document: Any) -> None:
        check_reading(ENDPOINTS[name], document)

    read()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([*ENDPOINTS.values()]), values)
def test_reading_anything_at_all_keeps_the_invariants(endpoint: Endpoint, document: Any) -> None:
    check_reading(endpoint, document)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**11), st.lists(st.none() | st.floats(allow_nan=False), min_size=3, max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_hashing_many_readings_at_once_equals_hashing_each(readings: list[tuple[int, list[float | None]]]) -> None:
    instants, rows = zip(*readings, strict=True)
    assert payload_hashes(instants, np.array(rows, dtype=np.float64)) == [payload_hash(*r) for r in readings]
