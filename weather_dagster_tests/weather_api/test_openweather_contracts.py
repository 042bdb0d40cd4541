"""Many records by columns say what the contract says of each."""

from typing import Any

import pytest

from weather_dagster import datasets
from weather_dagster.weather_api.endpoints import ApiCall
from weather_dagster.weather_api.openweather_contracts import (
    AIR_POLLUTION_RECORDS,
    CURRENT_RECORDS,
    FORECAST_STEPS,
    ONE_CALL_RECORDS,
    ONE_CALL_STEPS,
    WEATHER_SERIES,
    Series,
)
from weather_dagster_tests.weather_api.answers import LYON, current, endpoint_at, flat, hours_ago, record, series

DT = int(hours_ago(5).first.timestamp())
POLLUTION = {"dt": DT, "main": {"aqi": 2}, "components": {"co": 201.9, "no2": 0, "pm2_5": 0.5}}
GOOD: list[tuple[Series, Any]] = [
    (WEATHER_SERIES, record(DT)),
    (WEATHER_SERIES, record(DT, rain={"1h": 0.4}, snow={"3h": 2})),
    (WEATHER_SERIES, record(DT, rain=1.5)),
    (WEATHER_SERIES, record(DT, visibility=None, weather=[])),
    (WEATHER_SERIES, {"dt": DT}),
    (WEATHER_SERIES, {"dt": str(DT), "main": {"temp": None}}),
    (FORECAST_STEPS, record(DT, pop=0.3)),
    (CURRENT_RECORDS, current(DT)),
    (CURRENT_RECORDS, record(DT)),
    (AIR_POLLUTION_RECORDS, POLLUTION),
    (ONE_CALL_RECORDS, flat(DT)),
    (ONE_CALL_STEPS, flat(DT, pop=1)),
]
BROKEN: list[tuple[Series, Any]] = [
    (WEATHER_SERIES, record(DT, main={"temp": "7.5"})),
    (WEATHER_SERIES, record(DT, main={"temp": True})),
    (WEATHER_SERIES, record(DT, main={"temp": float("nan")})),
    (WEATHER_SERIES, record(DT, weather=[{"id": -1}])),
    (WEATHER_SERIES, record(10**11)),
    (WEATHER_SERIES, {"main": {"temp": 7.5}}),
    (WEATHER_SERIES, "a text"),
    (WEATHER_SERIES, None),
    (CURRENT_RECORDS, current(DT, coord={"lat": 91, "lon": 0})),
    (AIR_POLLUTION_RECORDS, {**POLLUTION, "main": {"aqi": 6}}),
    (ONE_CALL_RECORDS, flat(DT, temp=[7.5])),
]
OF_ANOTHER_SHAPE: list[tuple[Series, Any]] = [
    (WEATHER_SERIES, record(DT, wind=None)),
    (WEATHER_SERIES, record(DT, wind=[3, 220])),
    (WEATHER_SERIES, record(DT, clouds=40)),
    (WEATHER_SERIES, record(DT, weather="clear")),
    (WEATHER_SERIES, record(DT, weather={"id": 800})),
    (WEATHER_SERIES, record(DT, weather=[800])),
]


@pytest.mark.parametrize(("series_of", "raw"), GOOD)
def test_columns_hold_what_the_contract_reads_record_by_record(series_of: Series, raw: Any) -> None:
    columns = series_of.columns([raw, raw])
    assert columns is not None
    assert columns == series_of.columns_singly([series_of.contract.model_validate(raw)] * 2)


@pytest.mark.parametrize(("series_of", "raw"), BROKEN + OF_ANOTHER_SHAPE)
def test_one_record_that_may_be_broken_leaves_the_whole_to_the_contract(series_of: Series, raw: Any) -> None:
    good = next(record for series, record in GOOD if series is series_of)
    assert series_of.columns([good, raw, good]) is None


@pytest.mark.parametrize("raw", [raw for series_of, raw in BROKEN if series_of is WEATHER_SERIES])
def test_a_broken_record_is_turned_away_and_those_around_it_land(raw: Any) -> None:
    hours = hours_ago(8, 1)
    records = [record(int(hour.timestamp())) for hour in hours]
    endpoint = endpoint_at("/data/2.5/history/city", dataset=datasets.OBSERVATIONS)
    (answer,) = ApiCall(endpoint, (LYON,), hours).read(series(*records[:3], raw, *records[3:]), "openweather")
    table, rejections = answer.finish()
    assert table.num_rows == len(records)
    assert [rejection.reason for rejection in rejections] == [datasets.RejectionReason.CONTRACT]


@pytest.mark.parametrize("raw", [raw for _, raw in OF_ANOTHER_SHAPE if isinstance(raw["weather"], str | dict)])
def test_a_block_of_another_type_that_the_contract_passes_over_does_not_keep_a_record_away(raw: Any) -> None:
    hours = hours_ago(5)
    endpoint = endpoint_at("/data/2.5/history/city", dataset=datasets.OBSERVATIONS)
    (answer,) = ApiCall(endpoint, (LYON,), hours).read(series(raw), "openweather")
    table, rejections = answer.finish()
    assert table["condition_id"].to_pylist() == [None]
    assert rejections == []
