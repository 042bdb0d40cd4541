"""Cases from the field, replayed through the real client; each case file tells what is odd and what must come out."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from weather_dagster.datasets import FORECASTS, OBSERVATIONS, Dataset, RejectionReason
from weather_dagster.hours import HourRange, floor_hour
from weather_dagster.locations import Location
from weather_dagster.weather_api.api import Fetched
from weather_dagster.weather_api.openweather_reading import Units
from weather_dagster_tests.weather_api.provider_apps import Replay, api_of, fetch_all, json_answer

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
