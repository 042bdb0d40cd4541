"""Driving the quarantine again: stored payloads, a store of each engine, contracts and limits of today, no provider."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from weather_dagster import quantities
from weather_dagster.datasets import AIR_QUALITY, FORECASTS, OBSERVATIONS, Dataset, DatasetName, RejectionReason
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location
from weather_dagster.quarantine import EXCERPT, Count, Redriven, entries, redrive, summary
from weather_dagster.warehouse.base import Landed, Load, Warehouse
from weather_dagster.weather_api.endpoints import ApiCall, Endpoint
from weather_dagster.weather_api.providers import known_endpoints
from weather_dagster.weather_api.records import Answer
from weather_dagster_tests.weather_api.answers import flat

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = HourRange(START, START + 23 * HOUR)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
LYON = Location(id="lyon", name="Lyon", latitude=45.75, longitude=4.85, time_zone="Europe/Paris")
OSLO = Location(id="oslo", name="Oslo", latitude=59.91, longitude=10.75, time_zone="Europe/Oslo")
ENDPOINTS = known_endpoints()
OPEN_METEO = next(e for e in ENDPOINTS if e.label == "api/v1/forecast" and e.dataset is OBSERVATIONS)
HISTORY, CURRENT, AIR = "/data/2.5/history/city", "/data/2.5/weather", "/data/2.5/air_pollution/history"


@pytest.fixture
def store(opened: Warehouse) -> Warehouse:
    return opened


def endpoint(path: str) -> Endpoint:
    return next(e for e in ENDPOINTS if e.path == path)


def record(hour: int = 0, temp: Any = 7.5, **blocks: Any) -> dict[str, Any]:
    """A weather record of an hour of the day."""
    return {
        "dt": int((START + hour * HOUR).timestamp()),
        "main": {"temp": temp, "pressure": 1012, "humidity": 70},
        "weather": [{"id": 802}],
        "wind": {"speed": 3},
        "clouds": {"all": 40},
        **blocks,
    }


def fetch(
    store: Warehouse,
    *records: Any,
    path: str = HISTORY,
    place: Location = LYON,
    hours: HourRange = DAY,
    document: Any = None,
) -> Landed:
    """Land what an answer of these records brings, as fetching it would."""
    call = ApiCall(endpoint(path), (place,), hours)
    (answer,) = call.read(document or {"list": list(records)}, "openweather")
    rows, rejections = answer.finish()
    dataset = call.endpoint.dataset
    return store.land(
        Load(dataset, rows, rejections, [place], provider="openweather", hours=hours, run_id="fetch", now=NOW)
    )


def again(store: Warehouse, places: Sequence[Location] = (LYON, OSLO), **how: Any) -> Redriven:
    return redrive(store, ENDPOINTS, places, run_id="redrive", now=NOW, **how)


def temperatures(store: Warehouse, dataset: Dataset = OBSERVATIONS) -> list[float | None]:
    """Of the newest version of each reading."""
    rows = store.query(
        f"""
        select temperature_c
        from (
            select *, row_number() over (partition by {", ".join(dataset.version_key)} order by load_id desc) as ranking
            from bronze.{dataset.name}
        ) as versions
        where ranking = 1
        order by {dataset.partition_column}
        """
    )
    return [value for (value,) in rows]


def open_reasons(store: Warehouse) -> list[str]:
    return [entry.reason for entry in entries(store, limit=100)]


def widen_temperature(patch: pytest.MonkeyPatch) -> None:
    """A fix: warmer air than before is plausible."""
    wider = dataclasses.replace(quantities.TEMPERATURE, upper=80)
    weather = tuple(wider if q is quantities.TEMPERATURE else q for q in OBSERVATIONS.quantities)
    patch.setattr(Answer, "_implausible", _with_quantities(weather))


def _with_quantities(weather: tuple[quantities.Quantity, ...]) -> Any:
    judge = Answer._implausible

    def implausible(self: Answer, numbers: Any) -> Any:
        widened = dataclasses.replace(self.dataset, quantities=weather)
        mine, self.dataset = self.dataset, widened
        try:
            return judge(self, numbers)
        finally:
            self.dataset = mine

    return implausible


def test_a_record_that_a_fixed_contract_takes_lands_and_its_entry_is_resolved(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(0), record(1, temp=65))
    assert temperatures(store) == [7.5, None]
    widen_temperature(monkeypatch)
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store) == [7.5, 65]
    assert store.query("select reason, field, contract_version, load_id, resolved_load_id from bronze.quarantine") == [
        ("implausible_value", "temperature_c", 1, 1, 2)
    ]
    assert store.query("select run_id, rows_added, provider from bronze.loads where load_id = 2") == [
        ("redrive", 1, "openweather")
    ]


def test_without_a_fix_nothing_is_written_and_everything_stays_open(store: Warehouse) -> None:
    fetch(store, record(0, temp="warm"), record(1, temp=65), record(2, temp=99))
    assert again(store) == Redriven(tried=3, still_rejected=3)
    assert store.query("select count(*), max(load_id) from bronze.loads") == [(1, 1)]
    assert len(open_reasons(store)) == 3


def test_nothing_is_tried_when_nothing_is_open(store: Warehouse) -> None:
    fetch(store, record(0))
    assert again(store) == Redriven()


def test_a_whole_record_that_reads_well_now_lands(store: Warehouse) -> None:
    fetch(store, record(0), record(1, temp="warm"))
    # The fix: what stands in the store is what a contract of today takes.
    store.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store) == [7.5, 9]
    assert again(store) == Redriven()


def test_a_value_that_is_still_implausible_stays_in_quarantine_while_the_rest_of_its_record_lands(
    store: Warehouse,
) -> None:
    fetch(store, record(1, temp="warm"))
    store.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '99')")
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store) == [None]
    assert open_reasons(store) == ["implausible_value"]


def test_of_two_values_of_a_record_the_healed_one_lands_alone(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(1, temp=65, wind={"speed": 500}))
    widen_temperature(monkeypatch)
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert store.query(
        "select temperature_c, wind_speed_ms, rejected_fields from bronze.observations where load_id=2"
    ) == [(65, None, "wind_speed_ms")]
    assert [e.field for e in entries(store, limit=9)] == ["wind_speed_ms"]


def test_an_older_payload_never_replaces_a_later_good_row(store: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(store, record(1, temp=65))
    fetch(store, record(1, temp=21))
    widen_temperature(monkeypatch)
    assert again(store) == Redriven(tried=1, superseded=1)
    assert temperatures(store) == [21]
    assert open_reasons(store) == []


def test_a_later_good_row_settles_an_entry_without_any_fix(store: Warehouse) -> None:
    fetch(store, record(1, temp=65))
    fetch(store, record(1, temp=21))
    assert again(store) == Redriven(tried=1, superseded=1)


def test_a_later_row_in_which_the_field_is_nulled_too_settles_nothing(store: Warehouse) -> None:
    fetch(store, record(1, temp=65))
    fetch(store, record(1, temp=70, wind={"speed": 4}))
    assert store.query("select max(load_id) from bronze.observations") == [(2,)]
    assert again(store) == Redriven(tried=2, still_rejected=2)


def test_of_several_payloads_of_a_reading_the_newest_lands_and_settles_the_others(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for temp in (65, 67, 66):
        fetch(store, record(1, temp=temp))
    widen_temperature(monkeypatch)
    assert again(store) == Redriven(tried=3, landed=1, superseded=2, rows_added=1)
    assert temperatures(store) == [66]
    assert open_reasons(store) == []


def test_the_loser_of_a_conflict_stays_open_and_never_replaces_the_winner(store: Warehouse) -> None:
    fetch(store, record(1, temp=20), record(1, temp=21))
    assert again(store) == Redriven(tried=1, still_rejected=1)
    assert temperatures(store) == [21]
    assert open_reasons(store) == ["conflicting"]


def test_a_record_of_another_place_does_not_land_for_the_place_that_was_asked_for(store: Warehouse) -> None:
    air = {"dt": record(1)["dt"], "main": {"aqi": 2}, "components": {"co": 200}}
    broken = {**air, "dt": record(2)["dt"], "components": {"co": "much"}}
    fetch(store, path=AIR, document={"coord": {"lat": 10, "lon": 10}, "list": [air, broken]})
    assert sorted(open_reasons(store)) == ["contract", "other_place"]
    store.execute("update bronze.quarantine set payload = replace(payload, '\"much\"', '9')")
    assert again(store) == Redriven(tried=2, still_rejected=2)
    assert store.query("select count(*) from bronze.air_quality") == [(0,)]


def test_an_answer_that_tells_its_place_lands_once_the_place_is_corrected(store: Warehouse) -> None:
    wrong = LYON.model_copy(update={"latitude": 54.75})
    hour = HourRange(START, START)
    document = {"coord": {"lat": 45.75, "lon": 4.85}, **record(0)}
    fetch(store, path=CURRENT, document=document, place=wrong, hours=hour)
    assert again(store, [wrong]) == Redriven(tried=1, still_rejected=1)
    assert again(store, [LYON]) == Redriven(tried=1, landed=1, rows_added=1)
    assert store.query("select latitude, load_id from bronze.locations") == [(45.75, 2)], "and models see it move"


def test_a_place_that_is_no_longer_in_the_file_is_read_as_it_was_landed(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(1, temp=65), place=OSLO)
    widen_temperature(monkeypatch)
    assert again(store, [LYON]) == Redriven(tried=1, landed=1, rows_added=1)
    assert store.query("select location_id, load_id from bronze.locations") == [("oslo", 1)]


def test_a_body_that_could_not_be_read_lands_as_a_whole(store: Warehouse) -> None:
    body = json.dumps({"list": [record(0), record(1), record(2, temp="warm")]})
    fetch(store, "no record")
    store.execute("update bronze.quarantine set reason = 'unreadable', payload = $body", {"body": body[:40]})
    assert again(store) == Redriven(tried=1, still_rejected=1), "cut off"
    store.execute("update bronze.quarantine set payload = $body", {"body": body})
    assert again(store) == Redriven(tried=1, landed=1, rows_added=2)
    assert open_reasons(store) == ["contract"], "its broken record has an entry of its own"


def test_the_step_of_a_forecast_is_filed_under_its_hour_of_issue(store: Warehouse) -> None:
    hour = HourRange(START, START)
    fetch(store, record(3), record(6, temp="warm"), path="/data/2.5/forecast", hours=hour)
    store.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert store.query("select distinct issued_hour_utc from bronze.forecasts") == [(START,)]
    assert sorted(filter(None, temperatures(store, FORECASTS))) == [7.5, 9]


def test_a_forecast_is_read_as_one_though_observations_come_from_the_same_path(store: Warehouse) -> None:
    hour = HourRange(START, START)
    source = next(e for e in ENDPOINTS if e.path == "/data/3.0/onecall" and e.dataset is FORECASTS)
    document = {"lat": 45.75, "lon": 4.85, "hourly": [{**flat(int(START.timestamp())), "temp": "warm"}]}
    (answer,) = ApiCall(source, (LYON,), hour).read(document, "openweather")
    rows, rejections = answer.finish()
    store.land(Load(FORECASTS, rows, rejections, [LYON], provider="openweather", hours=hour, run_id="fetch", now=NOW))
    assert open_reasons(store) == ["contract"]
    store.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store, FORECASTS) == [9]
    assert temperatures(store) == []


def test_an_endpoint_that_nobody_has_any_more_is_counted_and_left(store: Warehouse) -> None:
    fetch(store, record(1, temp=65))
    store.execute("update bronze.quarantine set endpoint = '/data/1.0/history'")
    assert again(store) == Redriven(unknown_endpoint=1)


def test_only_payloads_of_the_given_reasons_are_tried(store: Warehouse) -> None:
    fetch(store, record(0, temp="warm"), record(1, temp=65))
    assert again(store, reasons=[RejectionReason.CONTRACT]).tried == 1
    assert again(store, reasons=[RejectionReason.UNREADABLE]).tried == 0


def test_all_entries_of_a_payload_go_with_the_one_of_the_given_reason(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(1, temp=65), record(1, temp=21))
    assert sorted(open_reasons(store)) == ["conflicting", "implausible_value"]
    store.execute("delete from bronze.observations")
    widen_temperature(monkeypatch)
    assert again(store, reasons=[RejectionReason.IMPLAUSIBLE_VALUE]) == Redriven(tried=1, landed=1, rows_added=1)
    assert open_reasons(store) == []


def test_a_payload_of_a_place_that_nobody_describes_stays_open(store: Warehouse) -> None:
    fetch(store, record(1, temp=65))
    store.execute("delete from bronze.locations")
    assert again(store, []) == Redriven(tried=1, still_rejected=1)


def test_each_dataset_is_a_landing_of_its_own(store: Warehouse) -> None:
    fetch(store, record(0, temp="warm"), record(1, temp="warm"))
    air = {"dt": record(1)["dt"], "main": {"aqi": 2}, "components": {"co": "warm"}}
    fetch(store, air, path=AIR)
    store.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    assert again(store) == Redriven(tried=3, landed=3, rows_added=3)
    loads = store.query(
        "select dataset, rows_added, first_hour_utc, last_hour_utc"
        " from bronze.loads where run_id = 'redrive' order by dataset"
    )
    assert loads == [
        (AIR_QUALITY.name, 1, START + HOUR, START + HOUR),
        (OBSERVATIONS.name, 2, START, START + HOUR),
    ]


def test_a_rejection_that_comes_again_after_it_was_resolved_is_kept_once(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(1, temp=65))
    with monkeypatch.context() as patch:
        widen_temperature(patch)
        again(store)
    assert fetch(store, record(1, temp=65)).quarantined == 0
    assert store.query("select count(*) from bronze.quarantine") == [(1,)]


def test_the_summary_counts_open_and_resolved_by_dataset_reason_and_endpoint(
    store: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(store, record(0, temp="warm"), record(1, temp=65), record(2, temp=99))
    widen_temperature(monkeypatch)
    again(store)
    assert summary(store) == [
        Count("observations", "contract", HISTORY, 1, 0),
        Count("observations", "implausible_value", HISTORY, 1, 1),
    ]


def test_entries_are_found_by_dataset_reason_place_time_and_state(store: Warehouse) -> None:
    fetch(store, record(0, temp="warm"), record(1, temp=65))
    fetch(store, record(1, temp=64), record(2, temp="cold" * EXCERPT), place=OSLO)
    found = entries(store, reason=RejectionReason.CONTRACT, place="oslo", limit=9)
    assert [(e.location_id, e.hour_utc, e.field) for e in found] == [("oslo", START + 2 * HOUR, None)]
    assert found[0].payload_excerpt.startswith('{"dt":1772330400,"main":{"temp":"coldcold')
    assert len(found[0].payload_excerpt) == EXCERPT
    assert entries(store, dataset=DatasetName.FORECASTS, limit=9) == []
    assert entries(store, since=NOW + HOUR, limit=9) == []
    assert len(entries(store, since=NOW, limit=9)) == 4
    assert len(entries(store, limit=3)) == 3
    store.execute("update bronze.quarantine set resolved_load_id = 2 where location_id = 'lyon'")
    assert {e.location_id for e in entries(store, limit=9)} == {"oslo"}
    assert len(entries(store, limit=9, include_resolved=True)) == 4


STRANGE = [
    "",
    "<html>",
    "null",
    "7",
    '"text"',
    "[]",
    "[[]]",
    "{}",
    '{"dt": null}',
    '{"dt": 1e400}',
    '{"issued": {}}',
    '{"issued": 1772323200, "list": 3}',
    '{"list": [{}]}',
    '{"main": 4, "dt": 1772323200}',
    "[" * 100_000,
]


@pytest.mark.parametrize("reason", [RejectionReason.CONTRACT, RejectionReason.UNREADABLE])
def test_whatever_lies_in_quarantine_a_re_drive_goes_through(store: Warehouse, reason: RejectionReason) -> None:
    fetch(store, "no record", record(1, temp=65))
    sources = {(source.dataset.name, source.label) for source in ENDPOINTS}
    for dataset, label in sources:
        for payload in STRANGE:
            store.execute(
                """
                insert into bronze.quarantine (dataset, endpoint, payload, payload_hash, reason, provider, location_id,
                    hour_utc, field, message, contract_version, quarantined_at_utc, run_id, load_id)
                select $dataset, $endpoint, $payload, $payload_hash, $reason, provider, location_id,
                    hour_utc, field, message, contract_version, quarantined_at_utc, run_id, load_id
                from bronze.quarantine where payload = '"no record"'
                """,
                {
                    "dataset": dataset,
                    "endpoint": label,
                    "payload": payload,
                    "payload_hash": f"{label} {payload[:40]}",
                    "reason": reason,
                },
            )
    tried = len(sources) * len(STRANGE) + 2
    assert again(store) == Redriven(tried=tried, still_rejected=tried)


def fetch_columns(store: Warehouse, *, latitude: float = 45.75, unit: str = "°C", temp: float = 7.5) -> None:
    """Land an answer of Open-Meteo for one hour."""
    values = {"time": int(START.timestamp()), "temperature_2m": temp, "relative_humidity_2m": 70}
    document = OPEN_METEO.wrap(values, DAY) | {"latitude": latitude, "longitude": 4.85}
    document["hourly_units"]["temperature_2m"] = unit
    (answer,) = ApiCall(OPEN_METEO, (LYON,), DAY).read(document, "open_meteo")
    rows, rejections = answer.finish()
    store.land(Load(OBSERVATIONS, rows, rejections, [LYON], provider="open_meteo", hours=DAY, run_id="fetch", now=NOW))


def test_a_value_in_another_unit_does_not_pass_for_one_in_the_right_unit(store: Warehouse) -> None:
    fetch_columns(store, unit="K", temp=20)
    assert open_reasons(store) == ["other_unit"]
    assert again(store) == Redriven(tried=1, still_rejected=1)
    assert temperatures(store) == [None]


def test_a_row_of_columns_that_brings_its_point_is_judged_by_it(store: Warehouse) -> None:
    fetch_columns(store, latitude=50)
    assert again(store) == Redriven(tried=1, still_rejected=1)
    moved = LYON.model_copy(update={"latitude": 50.1})
    assert again(store, [moved]) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store) == [7.5]


def test_a_row_of_columns_lands_after_a_fix(store: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch_columns(store, temp=65)
    widen_temperature(monkeypatch)
    assert again(store) == Redriven(tried=1, landed=1, rows_added=1)
    assert temperatures(store) == [65]
