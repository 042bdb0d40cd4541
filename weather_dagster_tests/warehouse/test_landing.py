"""What every warehouse does, on real stores of each engine: versions, quarantine, transactions, parameters."""

import dataclasses
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from weather_dagster.datasets import DATASETS, FORECASTS, OBSERVATIONS, payload_hash
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.warehouse.base import Landed, QuarantineKey, Source, Store, Warehouse
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, START, land, observation, rejection


def test_landing_the_same_rows_again_writes_nothing_at_all(opened: Warehouse) -> None:
    rows = [observation(hour, 10.0) for hour in DAY]
    assert land(opened, rows, rejections=(rejection(),)) == Landed(1, 24, 1)
    assert land(opened, rows, rejections=(rejection(),)) == Landed(None, 0, 0)
    assert opened.query("select count(*) from bronze.loads") == [(1,)]


def test_a_landing_tells_what_it_brought(opened: Warehouse) -> None:
    land(opened, [observation(hour, 10.0) for hour in DAY], rejections=(rejection(),), run_id="this")
    assert opened.query_rows("select * from bronze.loads") == [
        {
            "load_id": 1,
            "dataset": "observations",
            "provider": "simulator",
            "run_id": "this",
            "first_hour_utc": DAY.first,
            "last_hour_utc": DAY.last,
            "rows_added": 24,
            "quarantined": 1,
            "landed_at_utc": START,
        }
    ]
    for table, arrived in (("observations", "ingested_at_utc"), ("quarantine", "quarantined_at_utc")):
        told = opened.query(f"select distinct load_id, run_id, {arrived} from bronze.{table}")
        assert told == [(1, "this", START)], table


def test_a_correction_adds_a_version_and_going_back_adds_another(opened: Warehouse) -> None:
    for temperature in (10.0, 11.0, 10.0):
        assert land(opened, [observation(START, temperature)]).rows_added == 1
    versions = opened.query("select temperature_c, load_id from bronze.observations order by load_id")
    assert versions == [(10.0, 1), (11.0, 2), (10.0, 3)]


def test_another_reading_of_the_same_hour_is_kept_beside_the_first(opened: Warehouse) -> None:
    later = observation(START, 10.0, observed_at=START + timedelta(minutes=12))
    land(opened, [observation(START, 10.0)])
    assert land(opened, [later]).rows_added == 1
    assert land(opened, [observation(START, 10.0)]).rows_added == 0, "an older reading seen again"


def test_of_two_rows_for_one_reading_in_a_load_one_is_kept(opened: Warehouse) -> None:
    assert land(opened, [observation(START, 10.0), observation(START, 10.0)]).rows_added == 1


def test_a_vintage_of_a_forecast_is_a_reading_of_its_own(opened: Warehouse) -> None:
    def forecast(issued: datetime) -> tuple[object, ...]:
        values = [5.0, *[None] * (len(FORECASTS.quantities) - 1)]
        valid = int((START + 6 * HOUR).timestamp())
        head = ("simulator", "/data/2.5/forecast", "lyon", int(issued.timestamp()), valid)
        return (*head, *values, 3, 800, None, "{}", payload_hash(valid, values), 1)

    rows = [forecast(START), forecast(START + HOUR)]
    assert land(opened, rows, dataset=FORECASTS).rows_added == 2
    assert land(opened, rows, dataset=FORECASTS).rows_added == 0


def test_a_place_carries_the_load_that_changed_it_last(opened: Warehouse) -> None:
    moved = PLACES[0].model_copy(update={"time_zone": "Europe/London"})
    land(opened, [observation(START, 10.0)])
    land(opened, [observation(START, 11.0)])
    assert opened.query("select distinct load_id from bronze.locations") == [(1,)]
    assert land(opened, [], places=(moved, *PLACES[1:])).load_id == 3
    changed = opened.query("select location_id, time_zone from bronze.locations where load_id = 3")
    assert changed == [(moved.id, "Europe/London")]


def test_a_landing_that_fails_half_way_leaves_nothing(opened: Warehouse) -> None:
    broken = rejection(payload="{}")
    object.__setattr__(broken, "message", None)
    with pytest.raises(Exception, match=r"(?i)not.null"):
        land(opened, [observation(START, 10.0)], rejections=(broken,))
    for table in ("observations", "quarantine", "loads", "locations"):
        assert opened.query(f"select count(*) from bronze.{table}") == [(0,)], table
    assert land(opened, [observation(START, 10.0)]) == Landed(1, 1, 0)


def test_instants_are_utc_whatever_the_time_zone_of_the_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    with store.open() as opened:
        land(opened, [observation(START, 10.0)])
        stored = opened.query(
            "select valid_hour_utc::varchar, extract(epoch from valid_hour_utc) from bronze.observations"
        )
    assert stored == [("2026-03-01 00:00:00+00", START.timestamp())]


def call(call_id: str, **values: object) -> dict[str, object]:
    return {
        "call_id": call_id, "provider": "openweather", "product": "free", "endpoint": "/data/2.5/weather",
        "dataset": "observations", "location_ids": "lyon,oslo", "first_hour_utc": START, "last_hour_utc": START,
        "weight": 1.0, "status": 200, "outcome": "answered", "seconds": 0.25, "asked_at_utc": START, "run_id": "r",
        **values,
    }  # fmt: skip


def test_calls_of_the_ledger_are_copied_once(opened: Warehouse) -> None:
    search = call("b", dataset=None, location_ids=None, first_hour_utc=None, last_hour_utc=None, status=None)
    assert opened.record_calls(pa.Table.from_pylist([call("a"), search], API_CALLS_SCHEMA)) == 2
    assert opened.record_calls(pa.Table.from_pylist([call("a", weight=9.0), call("c")], API_CALLS_SCHEMA)) == 1
    calls = opened.query("select call_id, weight, status, asked_at_utc from bronze.api_calls order by call_id")
    assert calls == [("a", 1.0, 200, START), ("b", 1.0, None, START), ("c", 1.0, 200, START)]


def settled(**values: object) -> QuarantineKey:
    told = rejection()
    names = ("provider", "location_id", "reason", "field", "payload_hash")
    key = {"dataset": told.dataset, "hour_utc": START} | {name: getattr(told, name) for name in names} | values
    return QuarantineKey(**key)  # type: ignore[arg-type] - each value has the type of its field


def test_a_landing_settles_the_entries_it_is_told_and_no_other(opened: Warehouse) -> None:
    land(opened, [], rejections=(rejection("{}"), rejection('{"other": 1}')))
    landed = land(opened, [observation(START, 10.0)], resolved=(settled(),))
    assert landed == Landed(2, 1, 0, 1)
    assert opened.query("select payload, resolved_load_id from bronze.quarantine order by payload desc") == [
        ("{}", 2),
        ('{"other": 1}', None),
    ]
    assert land(opened, [], resolved=(settled(),)) == Landed(None, 0, 0), "settled before"
    assert land(opened, [], rejections=(rejection("{}"),)) == Landed(None, 0, 0), "kept once, resolved or not"


def test_an_entry_is_open_again_when_its_landing_fails(opened: Warehouse) -> None:
    land(opened, [], rejections=(rejection(),))
    broken = PLACES[0].model_copy(update={"name": None})
    with pytest.raises(Exception, match=r"(?i)not.null"):
        land(opened, [observation(START, 10.0)], places=(broken,), resolved=(settled(),))
    assert opened.query("select count(*) from bronze.quarantine where resolved_load_id is null") == [(1,)]
    assert opened.query("select count(*) from bronze.observations") == [(0,)]


def test_fields_of_payloads_are_counted_by_source_two_levels_deep(opened: Warehouse) -> None:
    payloads = [
        '{"a": 1, "b": {"c": 2.5, "d": {"e": 1}}}',
        '{"a": null, "b": {"c": null}}',
        '{"w": [{"id": 1}], "n": []}',
    ]
    land(opened, [(*row[:-3], text, text, 1) for row, text in zip(map(lyon_at, DAY), payloads, strict=False)])
    (fields,) = opened.payload_fields(OBSERVATIONS, DAY).values()
    assert fields.rows == 3
    assert fields.counts == {"a": 1, "b": 2, "b.c": 1, "b.d": 1, "w": 1, "w.id": 1, "n": 1}
    source = Source("simulator", "/data/2.5/history/city")
    assert opened.payload_fields(OBSERVATIONS, HourRange(START, START), source)[source].rows == 1
    assert opened.payload_fields(OBSERVATIONS, DAY, Source("simulator", "/elsewhere")) == {}


def lyon_at(hour: datetime) -> tuple[object, ...]:
    return observation(hour, 10.0)


def test_of_rejections_that_make_one_entry_in_a_load_the_first_is_kept(opened: Warehouse) -> None:
    again = dataclasses.replace(rejection(), message="told in other words")
    assert land(opened, [], rejections=(rejection(), again)).quarantined == 1
    assert opened.query("select message from bronze.quarantine") == [(rejection().message,)]


def test_parameters_are_named_and_texts_with_marks_stay_as_they_are(opened: Warehouse) -> None:
    rows = opened.query_rows(
        "select '100 % $name' as text, $name as name, $count + 1 as count, $at::timestamptz as at where 'ab' like 'a%'",
        {"name": "it's 5 %", "count": 1, "at": START},
    )
    assert rows == [{"text": "100 % $name", "name": "it's 5 %", "count": 2, "at": START}]


@pytest.mark.parametrize("parameters", [None, {}])
def test_a_mark_is_one_mark_without_parameters_too(opened: Warehouse, parameters: dict[str, object] | None) -> None:
    assert opened.query("select 5 % 3, '5 % 3'", parameters) == [(2, "5 % 3")]


def test_numbers_are_alike_on_every_engine(opened: Warehouse) -> None:
    ((whole, mean, none, flag),) = opened.query(
        "select sum(n), avg(n), max(n) filter (where n > 5), bool_or(n = 2) from (values (1), (2)) as numbers (n)"
    )
    assert (whole, mean, none, flag) == (3, 1.5, None, True)
    assert (type(whole), type(mean)) == (int, float)


def test_an_arrow_table_has_a_name_for_a_while_even_for_a_reader(store: Store) -> None:
    kinds = {"a": pa.int64(), "b": pa.string(), "c": pa.timestamp("s", "UTC"), "d": pa.float64(), "e": pa.bool_()}
    rows = [{"a": 1, "b": "x", "c": START, "d": 0.1, "e": True}, dict.fromkeys(kinds)]
    with store.open():
        pass
    with store.open(read_only=True) as opened:
        with opened.registered("things", pa.Table.from_pylist(rows, pa.schema(kinds))):
            assert opened.query_rows("select * from things order by a nulls last") == rows
        with pytest.raises(Exception, match=r"things.* does not exist"):
            opened.query("select * from things")


def test_what_is_changed_is_counted(opened: Warehouse) -> None:
    land(opened, [observation(hour, 10.0) for hour in DAY])
    deleted = "delete from bronze.observations where valid_hour_utc < $before"
    assert opened.execute(deleted, {"before": START + 5 * HOUR}) == 5
    assert opened.query("select count(*) from bronze.observations") == [(19,)]


def test_a_reader_changes_nothing(store: Store) -> None:
    with store.open() as opened:
        land(opened, [observation(START, 10.0)])
    with store.open(read_only=True) as opened, pytest.raises(Exception, match=r"(?i)read.only"):
        opened.execute("delete from bronze.observations where true", {})


def test_the_tables_are_those_of_the_datasets(opened: Warehouse) -> None:
    land(opened, [observation(START, 10.0)])
    others = {"loads", "locations", "quarantine", "api_calls", "schema_versions"}
    assert opened.tables() == {f"bronze.{name}" for name in others | {str(name) for name in DATASETS}}
    for dataset in DATASETS.values():
        columns = opened.query(
            "select column_name, is_nullable from information_schema.columns "
            "where table_schema = 'bronze' and table_name = $name order by ordinal_position",
            {"name": str(dataset.name)},
        )
        assert columns == [(c.name, "YES" if c.nullable else "NO") for c in dataset.columns]


def test_a_month_that_begins_within_a_range_has_its_rows_too(opened: Warehouse) -> None:
    months = HourRange(START - 2 * HOUR, START + HOUR)
    assert land(opened, [observation(hour, 10.0) for hour in months], hours=months).rows_added == 4
    assert land(opened, [observation(hour, 10.0) for hour in months], hours=months) == Landed(None, 0, 0)


def test_providers_are_those_that_brought_rows(opened: Warehouse) -> None:
    assert opened.providers() == set()
    land(opened, [], rejections=(rejection(),))
    assert opened.providers() == set(), "a body that nobody could read"
    for number, name in enumerate(("open_meteo", "simulator", "openweather", "open_meteo")):
        land(opened, [observation(START, 10.0 + number)], provider=name)
    assert opened.providers() == {"open_meteo", "openweather", "simulator"}
