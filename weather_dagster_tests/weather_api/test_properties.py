"""Whatever a provider sends, reading it ends in rows that keep the invariants, rejections, or an error of ours."""

import copy
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import from_json

from weather_dagster.datasets import payload_hash
from weather_dagster.errors import WeatherError
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.records import payload_hashes
from weather_dagster_tests.weather_api.answers import LYON, current, endpoint_at, hours_ago, record, series

HOURS = hours_ago(3)
START = int(HOURS.first.timestamp())

ENDPOINTS = [
    endpoint_at("/data/2.5/weather", "free"),
    endpoint_at("/data/2.5/forecast", "free"),
    endpoint_at("/data/2.5/history/city"),
    endpoint_at("/data/2.5/forecast/history"),
    endpoint_at("/data/2.5/air_pollution/history"),
]
_air = {
    "dt": START,
    "main": {"aqi": 1},
    "components": dict.fromkeys(("co", "no", "no2", "o3", "so2", "pm2_5", "pm10", "nh3"), 2.5),
}
_records = [record(START + 3600 * i, rain={"1h": 1.0, "3h": 2}, snow={"1h": 0}) for i in range(4)]
_city = {"coord": {"lat": 45.75, "lon": 4.85}}
ANSWERS: list[Any] = [
    current(START),
    series(*_records, city=_city),
    series(*_records),
    series({"issued": START, "list": _records}, {"issued": START + 3600, "list": _records}, city=_city),
    {"coord": {"lat": 45.75, "lon": 4.85}, "list": [_air, {**_air, "dt": START + 3600}]},
]

numbers = st.one_of(
    st.integers(),
    st.integers(min_value=START - 10**4, max_value=START + 10**5),
    st.floats(),
    st.floats(min_value=-200, max_value=500),
    st.sampled_from([0, -0.0, 10**11, 10**400, -9999, 291.4]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def paths(document: Any, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document where something can be put."""
    children = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [here, *(path for key, child in children for path in paths(child, (*here, key)))]


@st.composite
def damaged_answers(draw: st.DrawFn) -> tuple[Endpoint, Any]:
    """A good answer of some endpoint with up to three parts replaced by anything."""
    index = draw(st.integers(0, len(ENDPOINTS) - 1))
    document = copy.deepcopy(ANSWERS[index])
    for _ in range(draw(st.integers(0, 3))):
        *parents, last = draw(st.sampled_from(paths(document)[1:]))
        target = document
        for key in parents:
            target = target[key]
        target[last] = draw(values)
    return ENDPOINTS[index], document


def check_reading(endpoint: Endpoint, document: Any) -> int:
    try:
        table, rejections = ApiCall(endpoint, LYON, HOURS).read(document, "openweather").finish()
    except WeatherError:
        return 0
    table.validate(full=True)
    assert table.schema == endpoint.dataset.arrow_schema
    rows = table.to_pylist()
    keys = {tuple(row[name] for name in endpoint.dataset.version_key) for row in rows}
    assert len(keys) == len(rows)
    for row in rows:
        assert row[endpoint.dataset.partition_column] in HOURS
        assert row.get("issued_hour_utc", row["valid_hour_utc"]) <= row["valid_hour_utc"]
        assert row["valid_hour_utc"].minute == row["valid_hour_utc"].second == 0
        from_json(row["payload"], allow_inf_nan=False)
        for quantity in endpoint.dataset.quantities:
            value = row[quantity.name]
            if value is not None:
                assert quantity.is_plausible(value), quantity.name
                assert math.copysign(1, value) == 1 or value != 0, quantity.name
        named = set((row["rejected_fields"] or "").split(",")) - {""}
        assert all(row[name] is None for name in named)
    for rejection in rejections:
        from_json(rejection.payload, allow_inf_nan=False)
        assert rejection.message
        assert datetime.fromtimestamp(rejection.hour_utc, UTC) in HOURS
    return len(rows)


@pytest.mark.parametrize("index", range(len(ENDPOINTS)))
def test_the_undamaged_answers_do_land(index: int) -> None:
    assert check_reading(ENDPOINTS[index], ANSWERS[index]) > 0


@settings(max_examples=400, deadline=None)
@given(damaged_answers())
def test_reading_a_damaged_answer_keeps_the_invariants(damaged: tuple[Endpoint, Any]) -> None:
    check_reading(*damaged)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(ENDPOINTS), values)
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
