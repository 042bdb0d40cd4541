"""Bodies that no provider should send, through the real client: each ends in an error of ours, in quarantine or in
rows that hold nothing bad, and never in another exception."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, Rejection, RejectionReason
from weather_dagster.errors import (
    HourNotServed,
    MalformedAnswer,
    ProviderError,
    RangeIncomplete,
    RequestRefused,
    TransientProviderError,
)
from weather_dagster.hours import HOUR, HourRange, utc_now
from weather_dagster.ingest import land_range
from weather_dagster.simulator.faults import Fault
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.client import MAX_BODY_BYTES
from weather_dagster.weather_api.service import Patience
from weather_dagster_tests.conftest import Provider
from weather_dagster_tests.weather_api.answers import LYON, THIS_HOUR, current, hours_ago, record, series
from weather_dagster_tests.weather_api.provider_apps import Replay, api_of, fetch_all, json_answer, open_meteo_api_of

Document = Callable[[Sequence[Any], Sequence[Any]], Any]
"""A provider's answer from its times and the values of one quantity."""
RUNNING = int(THIS_HOUR.first.timestamp())
TEMPERATURE, PM10 = "temperature_c", "pm10_ug_m3"


@dataclass(frozen=True)
class Family:
    """A kind of answer: how it is asked for and what it looks like."""

    build: Callable[..., WeatherApi]
    dataset: Dataset
    hours: HourRange
    document: Document
    times: tuple[int, ...]
    """Unix seconds of an honest answer; each makes a row."""
    quantity: str = TEMPERATURE
    """Column of the values."""


def times_of(hours: HourRange) -> tuple[int, ...]:
    return tuple(int(hour.timestamp()) for hour in hours)


def main(temperature: Any) -> dict[str, Any]:
    return {"temp": temperature, "pressure": 1012, "humidity": 70}


def current_weather(times: Sequence[Any], values: Sequence[Any]) -> Any:
    return current(times[-1], main=main(values[0]))


def history(times: Sequence[Any], values: Sequence[Any]) -> Any:
    return series(*(record(time, main=main(value)) for time, value in zip(times, values, strict=True)))


def forecast(times: Sequence[Any], values: Sequence[Any]) -> Any:
    return {**history(times, values), "city": {"coord": {"lat": 45.75, "lon": 4.85}}}


def air_pollution(times: Sequence[Any], values: Sequence[Any]) -> Any:
    records = [
        {"dt": time, "main": {"aqi": 2}, "components": {"co": 200, "pm10": value}}
        for time, value in zip(times, values, strict=True)
    ]
    return {"coord": {"lat": 45.75, "lon": 4.85}, "list": records}


def columns(name: str, unit: str, other: str, other_unit: str) -> Document:
    def document(times: Sequence[Any], values: Sequence[Any]) -> Any:
        return {
            "latitude": 45.76,
            "longitude": 4.84,
            "utc_offset_seconds": 0,
            "hourly_units": {"time": "unixtime", name: unit, other: other_unit},
            "hourly": {"time": list(times), name: list(values), other: [50] * len(times)},
        }

    return document


WEATHER_COLUMNS = columns("temperature_2m", "°C", "relative_humidity_2m", "%")
PAST = hours_ago(3, 2)
OLD = HourRange(datetime(2010, 6, 1, tzinfo=UTC), datetime(2010, 6, 1, 23, tzinfo=UTC))
FREE, PROFESSIONAL = partial(api_of, plan="free"), partial(api_of, plan="professional")
FAMILIES = {
    "current": Family(FREE, OBSERVATIONS, THIS_HOUR, current_weather, (RUNNING + 600,)),
    "history": Family(PROFESSIONAL, OBSERVATIONS, PAST, history, times_of(PAST)),
    "forecast": Family(FREE, FORECASTS, THIS_HOUR, forecast, (RUNNING + 10_800, RUNNING + 21_600)),
    "air": Family(FREE, AIR_QUALITY, PAST, air_pollution, times_of(PAST), PM10),
    "open_meteo": Family(open_meteo_api_of, OBSERVATIONS, PAST, WEATHER_COLUMNS, times_of(PAST)),
    "open_meteo_archive": Family(open_meteo_api_of, OBSERVATIONS, OLD, WEATHER_COLUMNS, times_of(OLD)),
    "open_meteo_forecast": Family(
        open_meteo_api_of, FORECASTS, THIS_HOUR, WEATHER_COLUMNS, (RUNNING + 3_600, RUNNING + 7_200)
    ),
    "open_meteo_air": Family(
        open_meteo_api_of, AIR_QUALITY, PAST, columns("pm10", "μg/m³", "ozone", "μg/m³"), times_of(PAST), PM10
    ),
}
family_of = pytest.mark.parametrize("family", [pytest.param(each, id=name) for name, each in FAMILIES.items()])


class Literal(str):
    """Text that stands in a body as it is, without quotes."""

    __slots__ = ()


def body_of(family: Family, times: Sequence[Any], values: Sequence[Any]) -> str:
    literals = [each for each in (*times, *values) if isinstance(each, Literal)]
    marks = {literal: f"@{number}@" for number, literal in enumerate(dict.fromkeys(literals))}
    marked = [[marks.get(each, each) for each in entries] for entries in (times, values)]
    text = json.dumps(family.document(*marked))
    for literal, mark in marks.items():
        text = text.replace(f'"{mark}"', literal)
    return text


Rows = list[dict[str, Any]]


def outcome(family: Family, body: str | bytes, app: Replay | None = None) -> tuple[Rows, list[Rejection]]:
    """The rows, which are checked, and what was turned away; raises what a call came to nothing by."""
    app = app or Replay(Response(body, media_type="application/json"))
    fetched = fetch_all(family.build(app), family.dataset, [LYON], family.hours)
    fetched.records.validate(full=True)
    rows = fetched.records.to_pylist()
    assert len({tuple(row[name] for name in family.dataset.version_key) for row in rows}) == len(rows)
    for row in rows:
        assert row[family.dataset.partition_column] in family.hours
        assert row["valid_hour_utc"].minute == row["valid_hour_utc"].second == 0
        for quantity in family.dataset.quantities:
            assert row[quantity.name] is None or quantity.is_plausible(row[quantity.name]), quantity.name
    return rows, fetched.rejections


def honest(family: Family) -> Rows:
    rows, rejections = outcome(family, body_of(family, family.times, [7.5] * len(family.times)))
    assert rejections == []
    return rows


@family_of
def test_an_honest_body_gives_a_row_for_each_time(family: Family) -> None:
    rows = honest(family)
    assert len(rows) == len(family.times)
    assert {row[family.quantity] for row in rows} == {7.5}


NO_WEATHER: dict[str, tuple[bytes, type[ProviderError]]] = {
    "html": (b"<!DOCTYPE html><html><body>Log in to this network</body></html>", TransientProviderError),
    "nothing": (b"", TransientProviderError),
    "no text": (b"\xff\xfe\x00\x01", TransientProviderError),
    "cut": (b'{"cod":"200","list":[{"dt":1', TransientProviderError),
    "deep": (b"[" * 100_000, TransientProviderError),
    "deep and whole": (b'{"list":' * 100_000 + b"1" + b"}" * 100_000, TransientProviderError),
    "more digits than Python reads": (b'{"list":[' + b"9" * 5_000 + b"]}", TransientProviderError),
    "ten megabytes": (b"[" + b" " * MAX_BODY_BYTES + b"]", MalformedAnswer),
    "an empty list": (b"[]", MalformedAnswer),
    "null": (b"null", MalformedAnswer),
    "a number": (b"12", MalformedAnswer),
    "an empty object": (b"{}", MalformedAnswer),
    "lists that are null": (b'{"list":null,"hourly":null,"hourly_units":null}', MalformedAnswer),
    "another shape": (b'{"data":[{"value":1}],"meta":{"page":1}}', MalformedAnswer),
    "a great status": (b'{"cod":' + b"9" * 4_000 + b"}", MalformedAnswer),
}


@family_of
@pytest.mark.parametrize(("body", "error"), NO_WEATHER.values(), ids=NO_WEATHER.keys())
def test_what_is_no_weather_is_an_error_that_names_what_was_asked(
    family: Family, body: bytes, error: type[ProviderError]
) -> None:
    with pytest.raises(ProviderError, match="lyon") as caught:
        outcome(family, body)
    assert type(caught.value) is error
    assert len(str(caught.value)) < 1_000


@family_of
def test_an_error_body_under_a_good_status_is_the_error(family: Family) -> None:
    told = "no such variable"
    is_open_meteo = family.build is open_meteo_api_of
    body = {"error": True, "reason": told} if is_open_meteo else {"cod": "404", "message": told}
    with pytest.raises(RequestRefused, match=told):
        outcome(family, json.dumps(body))


@family_of
def test_a_byte_order_mark_changes_nothing(family: Family) -> None:
    body = body_of(family, family.times, [7.5] * len(family.times)).encode()
    assert outcome(family, b"\xef\xbb\xbf" + body) == (honest(family), [])


@family_of
@pytest.mark.parametrize("word", ["NaN", "-nan", "Infinity", "-inf"])
def test_bare_words_for_no_number_are_missing_values(family: Family, word: str) -> None:
    rows, _ = outcome(family, body_of(family, family.times, [Literal(word)] + [7.5] * (len(family.times) - 1)))
    assert len(rows) == len(family.times)
    assert rows[0][family.quantity] is None


@family_of
@pytest.mark.parametrize(
    "value", ["1e308", "-1e308", "1e400", "1" + "0" * 400, "-9999", "-3276.8", "999999", '"7.5"', "true", "[7]", "{}"]
)
def test_a_value_that_cannot_be_is_turned_away_and_the_others_land(family: Family, value: str) -> None:
    rows, rejections = outcome(
        family, body_of(family, family.times, [Literal(value)] + [7.5] * (len(family.times) - 1))
    )
    assert {rejection.reason for rejection in rejections} <= {
        RejectionReason.IMPLAUSIBLE_VALUE,
        RejectionReason.CONTRACT,
    }
    assert rejections
    assert all(len(rejection.message) < 500 for rejection in rejections)
    good = [row for row in rows if row[family.quantity] is not None]
    assert len(good) == len(family.times) - 1
    assert {row[family.quantity] for row in good} <= {7.5}


@family_of
def test_hours_twice_and_in_any_order_land_once_and_in_order(family: Family) -> None:
    times = [*family.times[::-1], *family.times]
    if family.document is current_weather:
        times = [*family.times]
    rows, rejections = outcome(family, body_of(family, times, [7.5] * len(times)))
    assert [row["valid_hour_utc"] for row in rows] == sorted(row["valid_hour_utc"] for row in honest(family))
    assert rejections == []


@family_of
@pytest.mark.parametrize(
    "time",
    ["0", "-2208988800", str(RUNNING + 366 * 86_400), str(RUNNING * 1000), "1e308", "1" + "0" * 400, '"soon"', "null"],
)
def test_a_time_that_was_not_asked_for_gives_no_row(family: Family, time: str) -> None:
    rows, rejections = outcome(family, body_of(family, [*family.times, Literal(time)], [7.5] * (len(family.times) + 1)))
    assert len(rows) == (0 if family.document is current_weather else len(family.times))
    is_whole_hour = time in ("0", str(RUNNING + 366 * 86_400))
    assert is_whole_hour or rejections


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {"current"}))
def test_a_list_without_hours_is_no_row_and_no_fault(name: str) -> None:
    family = FAMILIES[name]
    assert outcome(family, body_of(family, [], [])) == ([], [])


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("open_meteo", HourRange(datetime(1939, 12, 31, tzinfo=UTC), datetime(1939, 12, 31, 23, tzinfo=UTC))),
        ("open_meteo_air", HourRange(datetime(2012, 12, 31, tzinfo=UTC), datetime(2012, 12, 31, tzinfo=UTC))),
        ("air", HourRange(datetime(2020, 11, 26, tzinfo=UTC), datetime(2020, 11, 26, tzinfo=UTC))),
        ("history", HourRange(THIS_HOUR.last + HOUR, THIS_HOUR.last + 2 * HOUR)),
        ("open_meteo", HourRange(THIS_HOUR.last + HOUR, THIS_HOUR.last + 2 * HOUR)),
    ],
)
def test_hours_that_nobody_has_are_refused_without_a_call(name: str, hours: HourRange) -> None:
    family, app = FAMILIES[name], Replay(json_answer({}))
    with pytest.raises(HourNotServed, match="Ways out"):
        outcome(replace(family, hours=hours), "", app)
    assert app.queries == []


@family_of
@pytest.mark.parametrize("body", ["<html>", "[" * 100_000, "null", '{"list":[' + "9" * 5_000 + "]}"])
def test_an_unreadable_body_is_kept_in_the_warehouse_and_its_hours_stay_missing(
    family: Family, body: str, tmp_path: Path
) -> None:
    store = partial(open_warehouse, tmp_path / "w.duckdb")
    api = family.build(Replay(Response(body)))
    landing = land_range(api, store, family.dataset, [LYON], family.hours, run_id="r")
    with pytest.raises(RangeIncomplete):
        landing.require_complete()
    with store() as warehouse:
        assert warehouse.query("select distinct reason, payload from bronze.quarantine") == [("unreadable", body)]
        assert warehouse.query(f"select count(*) from bronze.{family.dataset.name}") == [(0,)]
    assert api.landed_calls(api.plan(family.dataset, [LYON], family.hours)) == set()


@pytest.mark.integration
@pytest.mark.parametrize("build", [partial(api_of, plan="free"), open_meteo_api_of])
def test_a_body_that_never_ends_is_left_after_the_time_of_an_attempt(
    build: Callable[..., WeatherApi], provider: Provider
) -> None:
    provider.faults.replace([Fault(kind="endless")])
    patience = Patience(attempt=0.4, attempts=2, wait_initial=0.001, wait_max=0.001, wait_jitter=0)
    api = build(None, base_url=provider.url, patience=patience, clock=utc_now)
    began = utc_now()
    hour = began.replace(minute=0, second=0, microsecond=0)
    with pytest.raises(TransientProviderError, match="could not be reached"):
        fetch_all(api, OBSERVATIONS, [LYON], HourRange(hour, hour))
    assert utc_now() - began < timedelta(seconds=5)
