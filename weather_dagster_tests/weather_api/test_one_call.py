"""How answers of One Call, in both of its generations, become rows and rejections, and how its pages are asked for."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from weather_dagster.datasets import FORECASTS, OBSERVATIONS, Dataset, Rejection, RejectionReason
from weather_dagster.errors import MalformedAnswer
from weather_dagster.hours import HourRange, floor_hour
from weather_dagster.weather_api import openweather
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.openweather_contracts import Precipitation, amount_mm
from weather_dagster.weather_api.openweather_reading import Units
from weather_dagster_tests.weather_api.answers import LYON, THIS_HOUR, endpoint_at, flat, hours_ago, one_call, record

HOUR = int(THIS_HOUR.first.timestamp())
CURRENT_3 = endpoint_at("/data/3.0/onecall", "one_call_3", OBSERVATIONS)
TIMEMACHINE = endpoint_at("/data/3.0/onecall/timemachine", "one_call_3")
HOURLY_3 = endpoint_at("/data/3.0/onecall", "one_call_3", FORECASTS)
CURRENT_4 = endpoint_at("/data/4.0/onecall/current", "one_call_4")
TIMELINE = endpoint_at("/data/4.0/onecall/timeline/1h", "one_call_4", OBSERVATIONS)
HOURLY_4 = endpoint_at("/data/4.0/onecall/timeline/1h", "one_call_4", FORECASTS)
ALL = [CURRENT_3, TIMEMACHINE, HOURLY_3, CURRENT_4, TIMELINE, HOURLY_4]
CURRENT = [CURRENT_3, CURRENT_4]
PAST = [TIMEMACHINE, TIMELINE]
AHEAD = [HOURLY_3, HOURLY_4]
KEY = "5e1ec7ed"
CASES = Path(__file__).parents[1] / "cases"


def name_of(endpoint: object) -> str | None:
    return f"{endpoint.path} {endpoint.dataset.name}" if isinstance(endpoint, Endpoint) else None


def answer(endpoint: Endpoint, *records: Any, **envelope: Any) -> dict[str, Any]:
    if endpoint is CURRENT_3:
        return one_call(current=records[0], **envelope)
    return one_call(**{"hourly" if endpoint is HOURLY_3 else "data": list(records)}, **envelope)


def read(
    endpoint: Endpoint, document: Any, hours: HourRange = THIS_HOUR
) -> tuple[list[dict[str, Any]], list[Rejection]]:
    (collected,) = ApiCall(endpoint, (LYON,), hours).read(document, "openweather")
    records, rejections = collected.finish()
    return records.to_pylist(), rejections


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_a_record_lands_with_all_that_one_call_tells(endpoint: Endpoint) -> None:
    told = flat(HOUR, rain={"1h": 0.4}, pop=1)
    ((row,), rejections) = read(endpoint, answer(endpoint, told))
    expected = {
        "endpoint": endpoint.path,
        "valid_hour_utc": THIS_HOUR.first,
        "temperature_c": 7.5,
        "apparent_temperature_c": 6.5,
        "temperature_min_c": None,
        "temperature_max_c": None,
        "pressure_hpa": 1012.0,
        "ground_pressure_hpa": None,
        "humidity_pct": 70.0,
        "wind_speed_ms": 3.0,
        "wind_direction_deg": 220.0,
        "wind_gust_ms": 5.0,
        "cloud_cover_pct": 40.0,
        "visibility_m": 10000.0,
        "rain_mm": 0.4,
        "snow_mm": 0.0,
        "precipitation_mm": 0.4,
        "precipitation_hours": 1,
        "condition_id": 802,
    }
    assert {name: row[name] for name in expected} == expected
    assert row.get("precipitation_probability", 1.0) == 1.0
    assert json.loads(row["payload"]) == told
    assert rejections == []


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
@pytest.mark.parametrize(
    "left_out", ["feels_like", "wind_speed", "wind_deg", "wind_gust", "visibility", "weather", "clouds", "uvi"]
)
@pytest.mark.parametrize("is_null", [True, False])
def test_a_part_may_be_null_or_left_out(endpoint: Endpoint, left_out: str, is_null: bool) -> None:
    told = flat(HOUR)
    if is_null:
        told[left_out] = None
    else:
        del told[left_out]
    ((row,), rejections) = read(endpoint, answer(endpoint, told))
    assert row["temperature_c"] == 7.5
    assert rejections == []


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_visibility_above_ten_kilometres_is_capped_and_the_told_one_kept_in_the_payload(endpoint: Endpoint) -> None:
    ((row,), _) = read(endpoint, answer(endpoint, flat(HOUR, visibility=16093)))
    assert (row["visibility_m"], json.loads(row["payload"])["visibility"]) == (10_000, 16093)


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
@pytest.mark.parametrize(
    "broken",
    [{"temp": {"day": 7}}, {"temp": "7 °C"}, {"clouds": {"all": 4}}, {"rain": {"1h": "much"}}, {"dt": "noon"}],
)
def test_a_record_that_breaks_its_contract_goes_to_quarantine_alone(endpoint: Endpoint, broken: dict[str, Any]) -> None:
    rows, (rejection,) = read(endpoint, answer(endpoint, {**flat(HOUR), **broken}, flat(HOUR)))
    assert len(rows) == (endpoint is not CURRENT_3)
    assert rejection.reason is RejectionReason.CONTRACT
    assert next(iter(broken)) in rejection.message


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
@pytest.mark.parametrize("empty", [{"dt": HOUR}, {"dt": HOUR, "temp": None, "uvi": 0}, record(HOUR)])
def test_a_record_without_a_measured_value_is_no_hour_without_rain(endpoint: Endpoint, empty: dict[str, Any]) -> None:
    nested = {name: value for name, value in empty.items() if name != "clouds"}
    rows, (rejection,) = read(endpoint, answer(endpoint, nested))
    assert rows == []
    assert (rejection.reason, rejection.message) == (RejectionReason.CONTRACT, "the record has no measured value")


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
@pytest.mark.parametrize(
    "document", [None, [], 5, {}, {"cod": 200}, one_call(daily=[]), one_call(lat=91, current=1, hourly=[], data=[])]
)
def test_another_envelope_is_an_error_that_names_endpoint_and_place(endpoint: Endpoint, document: Any) -> None:
    with pytest.raises(MalformedAnswer, match=f"{endpoint.path} for lyon"):
        read(endpoint, document)


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_the_answer_of_another_place_lands_nothing(endpoint: Endpoint) -> None:
    rows, (rejection,) = read(endpoint, answer(endpoint, flat(HOUR)) | {"lat": 40.71, "lon": -74.01})
    assert rows == []
    assert rejection.reason is RejectionReason.OTHER_PLACE


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_an_answer_that_does_not_tell_its_place_or_tells_it_roughly_lands(endpoint: Endpoint) -> None:
    document = answer(endpoint, flat(HOUR))
    assert len(read(endpoint, document | {"lat": 45.76, "lon": 4.84})[0]) == 1
    assert len(read(endpoint, {k: v for k, v in document.items() if k not in ("lat", "lon")})[0]) == 1


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_a_kept_record_can_be_read_again(endpoint: Endpoint) -> None:
    told = flat(HOUR)
    assert read(endpoint, endpoint.wrap(told, THIS_HOUR)) == read(endpoint, answer(endpoint, told))


@pytest.mark.parametrize("plan", ["one_call_3", "one_call_4"])
def test_every_system_of_units_comes_out_metric(plan: str) -> None:
    for units, temperature, speed in (
        (Units.METRIC, 20, 10),
        (Units.STANDARD, 293.15, 10),
        (Units.IMPERIAL, 68, 22.36936),
    ):
        for endpoint in openweather.plans(None, units)[plan].endpoints:
            if endpoint.product != "one_call":
                continue
            told = flat(HOUR, temp=temperature, wind_speed=speed)
            ((row,), _) = read(endpoint, one_call(current=told, hourly=[told], data=[told]))
            assert (row["temperature_c"], row["wind_speed_ms"]) == pytest.approx((20, 10), abs=1e-4)
            assert ApiCall(endpoint, (LYON,), THIS_HOUR).query["units"] == units


@pytest.mark.parametrize("endpoint", CURRENT, ids=name_of)
@pytest.mark.parametrize(("offset", "lands"), [(-1801, False), (-1800, True), (3599, True), (3600, False)])
def test_a_current_reading_counts_from_half_an_hour_before_its_hour_to_its_end(
    endpoint: Endpoint, offset: int, lands: bool
) -> None:
    rows, rejections = read(endpoint, answer(endpoint, flat(HOUR + offset)))
    assert [row["observed_at_utc"].timestamp() for row in rows] == [HOUR + offset] * lands
    assert [r.reason for r in rejections] == [RejectionReason.OUTSIDE_HOUR] * (not lands)


@pytest.mark.parametrize("offset", [-86400, -3600, 3600, 7217])
def test_the_time_machine_may_answer_for_no_other_hour(offset: int) -> None:
    rows, (rejection,) = read(TIMEMACHINE, answer(TIMEMACHINE, flat(HOUR + offset)))
    assert rows == []
    assert rejection.reason is RejectionReason.OUTSIDE_HOUR


def test_hours_of_a_page_beyond_the_range_are_left_out_without_fuss() -> None:
    page = answer(TIMELINE, *(flat(HOUR + 3600 * i) for i in range(20)))
    rows, rejections = read(TIMELINE, page, hours_ago(0, -7))
    assert [row["valid_hour_utc"] for row in rows] == list(hours_ago(0, -7))
    assert rejections == []


@pytest.mark.parametrize("endpoint", AHEAD, ids=name_of)
@pytest.mark.parametrize(
    ("lead", "reason"),
    [(-1, RejectionReason.BEFORE_ISSUE), (0, None), (48, None), (49, RejectionReason.OUTSIDE_HOUR)],
)
def test_a_step_lies_between_its_issue_and_two_days_ahead(
    endpoint: Endpoint, lead: int, reason: RejectionReason | None
) -> None:
    rows, rejections = read(endpoint, answer(endpoint, flat(HOUR + 3600 * lead, pop=0.25)))
    assert [(row["issued_hour_utc"], row["precipitation_probability"]) for row in rows] == (
        [] if reason else [(THIS_HOUR.first, 0.25)]
    )
    assert [r.reason for r in rejections] == ([reason] if reason else [])


def test_only_forecasts_do_not_tell_the_hour_they_are_of() -> None:
    assert [endpoint for endpoint in ALL if not endpoint.tells_hour] == AHEAD


def test_each_endpoint_asks_for_its_part_alone() -> None:
    place = {"lat": 45.75, "lon": 4.85, "units": "metric"}
    asked = [(endpoint, ApiCall(endpoint, (LYON,), THIS_HOUR)) for endpoint in ALL]
    assert [dict(call.query) for _, call in asked] == [
        {**place, "exclude": "minutely,hourly,daily,alerts"},
        {**place, "dt": HOUR},
        {**place, "exclude": "current,minutely,daily,alerts"},
        place,
        {**place, "start": HOUR},
        {**place, "start": HOUR},
    ]


def page_link(**parameters: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"http://elsewhere.example/data/4.0/onecall/timeline/1h?appid={KEY}&lat=1&lon=2&{query}"


def walk(endpoint: Endpoint, hours: HourRange, page_hours: Sequence[int]) -> tuple[list[int], list[datetime]]:
    """Starts of the pages that are asked for, and the hours that land, of a provider with pages of these lengths."""
    call: ApiCall | None = ApiCall(endpoint, (LYON,), hours)
    starts, landed = [], []
    for length in page_hours:
        if call is None:
            break
        start = int(call.query["start"])
        starts.append(start)
        following = start + 3600 * length
        steps = [flat(start + 3600 * i) for i in range(length)]
        document = one_call(data=steps, next=page_link(start=following, cnt=length))
        (collected,) = call.read(document, "openweather")
        table, rejections = collected.finish()
        assert rejections == []
        landed += table["valid_hour_utc"].to_pylist()
        assert KEY not in "".join(table["payload"].to_pylist())
        call = call.next_page(document)
    assert call is None
    return starts, landed


def test_two_days_ahead_take_three_pages() -> None:
    starts, landed = walk(HOURLY_4, THIS_HOUR, [20, 20, 9, 20])
    assert starts == [HOUR, HOUR + 20 * 3600, HOUR + 40 * 3600]
    assert len(landed) == 49
    assert HOURLY_4.pages == 3


def test_a_full_page_of_the_past_is_gone_on_from_no_further() -> None:
    starts, landed = walk(TIMELINE, hours_ago(20, 1), [20, 20])
    assert len(starts) == 1
    assert landed == list(hours_ago(20, 1))


def test_a_page_of_the_past_that_is_too_short_is_gone_on_from_until_the_hours_are_there() -> None:
    starts, landed = walk(TIMELINE, hours_ago(20, 1), [8, 8, 8, 8])
    assert len(starts) == 3
    assert landed == list(hours_ago(20, 1))


def test_of_a_page_link_only_start_and_length_are_taken() -> None:
    call = ApiCall(HOURLY_4, (LYON,), THIS_HOUR)
    following = call.next_page({"data": [], "next": page_link(start=HOUR + 72_000, cnt=20, units="standard")})
    assert following is not None
    assert dict(following.page) == {"start": HOUR + 72_000, "cnt": 20}
    assert following.url == call.url
    assert {**following.query} == {**call.query, "start": HOUR + 72_000, "cnt": 20}


@pytest.mark.parametrize(
    "link",
    [
        None,
        5,
        "",
        {"start": HOUR + 72_000},
        "http://[",
        page_link(),
        page_link(start=HOUR),
        page_link(start=HOUR - 3600),
        page_link(start=HOUR + 60),
        page_link(start=HOUR + 48 * 3600),
        page_link(start=(HOUR + 72_000) * 1000),
        page_link(start="2026-11-26"),
        page_link(start=f"-{HOUR}"),
        page_link(start="٣٣٣٣"),
        page_link(start="9" * 5000),
        page_link(start=HOUR + 72_000) + f"&start={HOUR + 3600}",
    ],
    ids=lambda link: str(link)[:100],
)
def test_a_link_that_leads_nowhere_new_ends_the_pages(link: Any) -> None:
    call = ApiCall(HOURLY_4, (LYON,), THIS_HOUR)
    document = {"data": []} if link is None else {"data": [], "next": link}
    assert call.next_page(document) is None


def test_the_second_page_has_to_lead_on_from_itself() -> None:
    first = ApiCall(HOURLY_4, (LYON,), THIS_HOUR)
    second = first.next_page({"next": page_link(start=HOUR + 72_000)})
    assert second is not None
    assert second.next_page({"next": page_link(start=HOUR + 72_000)}) is None
    assert second.next_page([]) is None


@pytest.mark.parametrize("endpoint", [CURRENT_4, TIMELINE, HOURLY_4], ids=name_of)
def test_the_page_link_is_told_nowhere(endpoint: Endpoint) -> None:
    link = page_link(start=HOUR + 72_000)
    body = one_call(data=[flat(HOUR), flat(HOUR - 90_001), {"dt": 5}, flat(HOUR, temp=999)], next=link, prev=link)
    rows, rejections = read(endpoint, body)
    assert rows
    assert rejections
    assert KEY not in f"{rows}{rejections}"
    with pytest.raises(MalformedAnswer) as caught:
        read(endpoint, {"next": f"?appid={KEY}"})
    assert KEY not in str(caught.value)


def test_c04_rain_is_an_object_in_current_and_hourly_and_a_number_in_daily() -> None:
    case = json.loads((CASES / "C04.json").read_text(encoding="utf-8"))
    body, expected = case["response"]["json"], case["expect"]
    hour = floor_hour(datetime.fromisoformat(case["fetched_at_utc"]))

    def read_at(endpoint: Endpoint) -> list[dict[str, Any]]:
        rows, rejections = read(endpoint, body, HourRange(hour, hour))
        assert rejections == []
        return rows

    (now,) = read_at(CURRENT_3)
    assert (now["rain_mm"], now["precipitation_mm"]) == (
        expected["current"]["rain_1h_mm"],
        expected["current"]["precipitation_1h_mm"],
    )
    assert (now["valid_hour_utc"], now["observed_at_utc"]) == (hour, hour + timedelta(minutes=12))
    assert [
        {
            "valid_hour_utc": f"{row['valid_hour_utc']:%Y-%m-%dT%H:%M:%SZ}",
            "precipitation_1h_mm": row["precipitation_mm"],
        }
        for row in read_at(HOURLY_3)
    ] == expected["hourly"]
    rain: TypeAdapter[Precipitation] = TypeAdapter(Precipitation)
    assert [amount_mm(rain.validate_python(day["rain"]), 1) for day in body["daily"]] == [
        day["precipitation_mm"] for day in expected["daily"]
    ]


@pytest.mark.parametrize(
    ("endpoint", "first"),
    [(TIMEMACHINE, datetime(1979, 1, 1, tzinfo=UTC)), (TIMELINE, THIS_HOUR.first - timedelta(days=47 * 365))],
    ids=name_of,
)
def test_the_past_reaches_from_the_documented_beginning_to_the_hour_before_the_running_one(
    endpoint: Endpoint, first: datetime
) -> None:
    hour = timedelta(hours=1)
    covered = [
        endpoint.served.covers(instant, THIS_HOUR.first)
        for instant in (first - hour, first, THIS_HOUR.first - hour, THIS_HOUR.first)
    ]
    assert covered == [False, True, True, False]


@pytest.mark.parametrize(("dataset", "rows"), [(OBSERVATIONS, 1), (FORECASTS, 48)])
def test_a_call_says_how_many_rows_it_is_to_bring(dataset: Dataset, rows: int) -> None:
    expected = [ApiCall(endpoint, (LYON,), THIS_HOUR).expected_rows for endpoint in ALL if endpoint.dataset is dataset]
    assert set(expected) == {rows}
