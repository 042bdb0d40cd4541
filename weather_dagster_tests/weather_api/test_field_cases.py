"""Cases from the field, replayed through the real client; each case file tells what is odd and what must come out."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, RejectionReason
from weather_dagster.errors import QuotaExceeded, RangeIncomplete, RequestRefused, TransientProviderError
from weather_dagster.hours import HourRange, floor_hour
from weather_dagster.ingest import land_range
from weather_dagster.locations import Location
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.api import Fetched, WeatherApi
from weather_dagster.weather_api.openweather_reading import Units
from weather_dagster_tests.weather_api.answers import LYON, THIS_HOUR, current
from weather_dagster_tests.weather_api.provider_apps import (
    KEY,
    QUICK,
    Replay,
    api_of,
    fetch_all,
    json_answer,
    open_meteo_api_of,
)

CASES = Path(__file__).parents[1] / "cases"


def case(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def fetch(entry: dict[str, Any], dataset: Dataset = OBSERVATIONS, place: str = "lyon") -> Fetched:
    """Ask as the case did, at its time, and get its response."""
    request = entry["request"]
    now = datetime.fromisoformat(entry["fetched_at_utc"])
    hour = datetime.fromisoformat(entry.get("partition_hour_utc", floor_hour(now).isoformat()))
    location = Location(
        id=place, name=place, latitude=request["lat"], longitude=request["lon"], time_zone="Europe/Paris"
    )
    app = Replay(json_answer(entry["response"]["json"], entry["response"]["status"]))
    api = api_of(app, plan="free", units=Units(request["units"]), clock=lambda: now)
    fetched = fetch_all(api, dataset, [location], HourRange(hour, hour))
    assert [(q["lat"], q["units"]) for q in app.queries] == [(str(request["lat"]), request["units"])]
    return fetched


def only_row(fetched: Fetched) -> dict[str, Any]:
    (row,) = fetched.records.to_pylist()
    return dict(row)


def test_c01_an_older_shape_in_imperial_units_gives_one_clean_row() -> None:
    entry = case("C01")
    fetched = fetch(entry)
    row, expected = only_row(fetched), entry["expect"]
    for name in ("temperature_c", "temperature_min_c", "temperature_max_c", "wind_speed_ms", "wind_direction_deg"):
        assert row[name] == pytest.approx(expected[name], abs=expected["tolerance"]), name
    assert row["visibility_m"] == expected["visibility_m"]
    assert json.loads(row["payload"])["visibility"] == expected["visibility_raw"]
    assert row["condition_id"] == expected["condition_id"]
    assert row["wind_gust_ms"] is None
    assert row["apparent_temperature_c"] is None
    assert fetched.rejections == []


def test_c02_a_gust_below_the_mean_is_kept() -> None:
    row = only_row(fetch(case("C02")["responses"][0]))
    assert (row["temperature_c"], row["wind_speed_ms"], row["wind_gust_ms"]) == (-0.04, 3.12, 2.9)


def test_c02_true_zeros_on_longitude_zero_stay_zeros() -> None:
    fetched = fetch(case("C02")["responses"][1])
    row = only_row(fetched)
    names = ("temperature_c", "wind_speed_ms", "wind_direction_deg", "cloud_cover_pct", "rain_mm", "precipitation_mm")
    assert {name: row[name] for name in names} == dict.fromkeys(names, 0.0)
    assert fetched.rejections == []


def test_c03_kelvin_under_metric_is_turned_away_by_name_value_and_limit_and_the_rest_lands() -> None:
    fetched = fetch(case("C03"))
    row = only_row(fetched)
    assert row["temperature_c"] is None
    assert (row["pressure_hpa"], row["humidity_pct"], row["wind_speed_ms"]) == (1014, 78, 3.1)
    temperatures = ["temperature_c", "apparent_temperature_c", "temperature_min_c", "temperature_max_c"]
    assert row["rejected_fields"] == ",".join(temperatures)
    assert [r.field for r in fetched.rejections] == temperatures
    rejection = fetched.rejections[0]
    assert rejection.reason is RejectionReason.IMPLAUSIBLE_VALUE
    assert "temperature_c is 291.42, outside -95 to 60" in rejection.message
    assert json.loads(rejection.payload)["main"]["temp"] == 291.42


def test_c05_snow_alone_without_wind_and_with_an_unknown_condition_is_kept() -> None:
    fetched = fetch(case("C05"))
    row = only_row(fetched)
    assert (row["snow_mm"], row["rain_mm"], row["precipitation_mm"]) == (0.7, 0.0, 0.7)
    absent = ("wind_speed_ms", "wind_direction_deg", "wind_gust_ms", "visibility_m")
    assert {name: row[name] for name in absent} == dict.fromkeys(absent)
    assert row["condition_id"] == 623
    assert fetched.rejections == []


def test_c06_the_answer_of_another_place_goes_to_quarantine_whole() -> None:
    entry = case("C06")
    fetched = fetch(entry)
    assert fetched.records.num_rows == 0
    (rejection,) = fetched.rejections
    assert (rejection.reason, rejection.location_id, rejection.field) == (RejectionReason.OTHER_PLACE, "lyon", None)
    assert f"{entry['expect']['distance_km']} km from lyon" in rejection.message
    assert json.loads(rejection.payload)["name"] == "New York"


def test_c06_an_echo_a_kilometre_off_is_the_place() -> None:
    entry = case("C06")
    entry["response"]["json"]["coord"] = {"lat": 45.7589, "lon": 4.8414}
    assert fetch(entry).records.num_rows == 1


def test_c07_an_unordered_forecast_gives_each_coming_step_once_and_in_order() -> None:
    entry = case("C07")
    fetched = fetch(entry, FORECASTS)
    rows, expected = fetched.records.to_pylist(), entry["expect"]
    assert [r["valid_hour_utc"] for r in rows] == [datetime.fromisoformat(t) for t in expected["valid_at_utc"]]
    assert {r["issued_hour_utc"] for r in rows} == {datetime(2026, 2, 18, 11, tzinfo=UTC)}
    last = rows[-1]
    assert (last["precipitation_mm"], last["precipitation_hours"]) == (expected["precipitation_3h_mm_at_21"], 3)
    assert [r.reason for r in fetched.rejections] == [RejectionReason.BEFORE_ISSUE] * 2


def answer_of(response: dict[str, Any]) -> Response:
    """The response of a case, byte for byte."""
    body = response["text"] if "text" in response else json.dumps(response["json"])
    answer = Response(body, response["status"])
    for name, value in response["headers"].items():
        answer.headers[name] = value
    return answer


def labelled(name: str) -> list[Any]:
    return [pytest.param(entry, id=entry["label"]) for entry in case(name)["responses"]]


def free_api_of(app: Replay, **how: Any) -> WeatherApi:
    return api_of(app, plan="free", **how)


ASKED_AT: dict[str, tuple[Dataset, Callable[..., WeatherApi]]] = {
    "/data/2.5/weather": (OBSERVATIONS, free_api_of),
    "/data/2.5/forecast": (FORECASTS, free_api_of),
    "/data/2.5/air_pollution/history": (AIR_QUALITY, free_api_of),
    "/v1/forecast": (OBSERVATIONS, open_meteo_api_of),
}


@pytest.mark.parametrize("entry", labelled("C14"))
def test_c14_a_body_that_is_no_weather_is_kept_fails_the_range_and_leaves_its_hour_missing(
    entry: dict[str, Any], tmp_path: Path
) -> None:
    response, expected = entry["response"], entry["expect"]
    app = Replay(answer_of(response))
    dataset, build = ASKED_AT[entry["endpoint"]]
    api, store = build(app), partial(open_warehouse, tmp_path / "w.duckdb")
    landing = land_range(api, store, dataset, [LYON], THIS_HOUR, run_id="r")
    (failure,) = landing.failures
    assert type(failure.error) is {"transient": TransientProviderError, "permanent": RequestRefused}[expected["class"]]
    assert len(app.queries) == landing.calls == landing.wasted == (QUICK.attempts if expected["retry"] else 1)
    assert landing.rows_received == expected.get("rows", 0)
    with pytest.raises(RangeIncomplete, match=entry["endpoint"]) as caught:
        landing.require_complete()
    shown = response["text"] if "reason" not in response["text"] else json.loads(response["text"])["reason"]
    assert (shown[:60] or "an empty body") in str(caught.value)
    if "message_names" in expected:
        assert response["headers"]["Content-Type"] in str(caught.value)
    assert KEY not in str(caught.value)
    with store() as warehouse:
        kept = warehouse.query("select reason, location_id, hour_utc, payload from bronze.quarantine")
        assert warehouse.query(f"select count(*) from bronze.{dataset.name}") == [(0,)]
    assert kept == [(RejectionReason.UNREADABLE, "lyon", THIS_HOUR.first, response["text"])]
    assert api.landed_calls(api.plan(dataset, [LYON], THIS_HOUR)) == set()


@dataclasses.dataclass
class Hands:
    """A clock that stands still until it is moved."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


LIMITED = labelled("C15")


def waiting(entry: dict[str, Any], build: Callable[..., WeatherApi]) -> tuple[WeatherApi, Replay, Hands]:
    clock = Hands(datetime.fromisoformat(case("C15")["now_utc"]))
    app = Replay(answer_of(entry["response"]), json_answer(current(int(clock.now.timestamp()))))
    # A run that waits out no more than a second, so that the pause shows as the end of the run.
    return build(app, patience=dataclasses.replace(QUICK, longest_pause=1), clock=clock), app, clock


def ask_now(api: WeatherApi, clock: Hands) -> Fetched:
    hour = floor_hour(clock.now)
    return fetch_all(api, OBSERVATIONS, [LYON], HourRange(hour, hour))


@pytest.mark.parametrize("entry", [LIMITED[0], LIMITED[2]])
def test_c15_the_pause_that_a_header_asks_for_is_kept_to_the_second(entry: dict[str, Any]) -> None:
    api, app, clock = waiting(entry, free_api_of)
    pause = timedelta(seconds=entry["expect"]["wait_at_least_s"])
    until = clock.now + pause
    with pytest.raises(QuotaExceeded, match=f"No call is made before {until:%Y-%m-%dT%H:%M:%SZ}"):
        ask_now(api, clock)
    clock.now = until - timedelta(seconds=2)
    with pytest.raises(QuotaExceeded, match=f"not asked before {until:%Y-%m-%dT%H:%M:%SZ}"):
        ask_now(api, clock)
    assert len(app.queries) == 1
    clock.now = until
    assert ask_now(api, clock).records.num_rows == 1


def test_c15_a_date_that_is_past_leaves_our_own_back_off() -> None:
    api, app, clock = waiting(case("C15")["responses"][1], free_api_of)
    assert ask_now(api, clock).records.num_rows == 1
    assert len(app.queries) == 2


def test_c15_the_limit_of_a_day_ends_the_run_until_the_next_one() -> None:
    entry = case("C15")["responses"][3]
    api, app, clock = waiting(entry, open_meteo_api_of)
    with pytest.raises(QuotaExceeded, match=entry["expect"]["stop_until"]):
        ask_now(api, clock)
    clock.now = datetime.fromisoformat(entry["expect"]["stop_until"]) - timedelta(minutes=1)
    with pytest.raises(QuotaExceeded, match="Daily API request limit exceeded"):
        ask_now(api, clock)
    assert len(app.queries) == 1


@pytest.mark.parametrize(
    "value",
    [
        "9" * 5000,
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2300",
        "Mon, 05 Oct 2026 12:10:00 -0000",
        "soon",
        "-5",
        "1e9",
    ],
)
def test_whatever_stands_in_retry_after_ends_in_a_block_of_a_month_at_most(value: str) -> None:
    entry = {"response": {"status": 429, "headers": {"Retry-After": value}, "json": {"cod": 429, "message": "no"}}}
    api, _, clock = waiting(entry, free_api_of)
    with pytest.raises(QuotaExceeded, match=r"before 2026-1[01]-"):
        ask_now(api, clock)
