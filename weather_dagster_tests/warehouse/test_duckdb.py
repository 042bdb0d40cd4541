"""The DuckDB warehouse on real files: versions, quarantine, transactions, locks."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from weather_dagster.datasets import (
    FORECASTS,
    OBSERVATIONS,
    Dataset,
    DatasetName,
    Rejection,
    RejectionReason,
    payload_hash,
)
from weather_dagster.errors import WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.locations import Location, load_locations
from weather_dagster.warehouse.base import Landed, QuarantineKey, Source, Warehouse
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster.weather_api.ledger import API_CALLS_SCHEMA
from weather_dagster_tests.records import to_arrow

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = HourRange(START, START + 23 * HOUR)
PLACES = load_locations()


def observation(
    hour: datetime, temperature: float, *, place: str = "lyon", observed_at: datetime | None = None
) -> tuple[object, ...]:
    """A bronze record with nothing but a temperature."""
    observed = int((observed_at or hour).timestamp())
    values = [temperature, *[None] * (len(OBSERVATIONS.quantities) - 1)]
    head = ("simulator", "/data/2.5/history/city", place, int(hour.timestamp()), observed)
    return (*head, *values, 1, 800, None, "{}", payload_hash(observed, values), 1)


def land(
    store: Warehouse,
    rows: list[tuple[object, ...]],
    *,
    dataset: Dataset = OBSERVATIONS,
    rejections: tuple[Rejection, ...] = (),
    places: tuple[Location, ...] = PLACES,
    hours: HourRange = DAY,
    resolved: tuple[QuarantineKey, ...] = (),
    run_id: str = "r",
) -> Landed:
    return store.land(
        dataset,
        to_arrow(dataset, rows),
        rejections,
        places,
        provider="simulator",
        hours=hours,
        run_id=run_id,
        now=START,
        resolved=resolved,
    )


def rejection(payload: str = "{}") -> Rejection:
    return Rejection(
        dataset=DatasetName.OBSERVATIONS,
        provider="simulator",
        endpoint="/data/2.5/weather",
        location_id="lyon",
        hour_utc=int(START.timestamp()),
        reason=RejectionReason.IMPLAUSIBLE_VALUE,
        field="temperature_c",
        message="temperature_c is 291.42, limits -95 to 60",
        payload=payload,
        payload_hash=payload,
    )


def test_landing_the_same_rows_again_writes_nothing_at_all(tmp_path: Path) -> None:
    rows = [observation(hour, 10.0) for hour in DAY]
    with open_warehouse(tmp_path / "w.duckdb") as store:
        assert land(store, rows, rejections=(rejection(),)) == Landed(1, 24, 1)
        assert land(store, rows, rejections=(rejection(),)) == Landed(None, 0, 0)
        assert store.query("select count(*) from bronze.loads") == [(1,)]


def test_a_correction_adds_a_version_and_going_back_adds_another(tmp_path: Path) -> None:
    with open_warehouse(tmp_path / "w.duckdb") as store:
        for temperature in (10.0, 11.0, 10.0):
            assert land(store, [observation(START, temperature)]).rows_added == 1
        versions = store.query("select temperature_c, load_id from bronze.observations order by load_id")
    assert versions == [(10.0, 1), (11.0, 2), (10.0, 3)]


def test_another_reading_of_the_same_hour_is_kept_beside_the_first(tmp_path: Path) -> None:
    later = observation(START, 10.0, observed_at=START + timedelta(minutes=12))
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [observation(START, 10.0)])
        assert land(store, [later]).rows_added == 1
        assert land(store, [observation(START, 10.0)]).rows_added == 0, "an older reading seen again"


def test_of_two_rows_for_one_reading_in_a_load_one_is_kept(tmp_path: Path) -> None:
    with open_warehouse(tmp_path / "w.duckdb") as store:
        assert land(store, [observation(START, 10.0), observation(START, 10.0)]).rows_added == 1


def test_a_vintage_of_a_forecast_is_a_reading_of_its_own(tmp_path: Path) -> None:
    def forecast(issued: datetime) -> tuple[object, ...]:
        values = [5.0, *[None] * (len(FORECASTS.quantities) - 1)]
        valid = int((START + 6 * HOUR).timestamp())
        head = ("simulator", "/data/2.5/forecast", "lyon", int(issued.timestamp()), valid)
        return (*head, *values, 3, 800, None, "{}", payload_hash(valid, values), 1)

    with open_warehouse(tmp_path / "w.duckdb") as store:
        rows = [forecast(START), forecast(START + HOUR)]
        assert land(store, rows, dataset=FORECASTS).rows_added == 2
        assert land(store, rows, dataset=FORECASTS).rows_added == 0


def test_a_place_carries_the_load_that_changed_it_last(tmp_path: Path) -> None:
    moved = PLACES[0].model_copy(update={"time_zone": "Europe/London"})
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [observation(START, 10.0)])
        land(store, [observation(START, 11.0)])
        assert store.query("select distinct load_id from bronze.locations") == [(1,)]
        assert land(store, [], places=(moved, *PLACES[1:])).load_id == 3
        changed = store.query("select location_id, time_zone from bronze.locations where load_id = 3")
    assert changed == [(moved.id, "Europe/London")]


def test_a_landing_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with open_warehouse(tmp_path / "w.duckdb") as store:
        broken = rejection(payload="{}")
        object.__setattr__(broken, "message", None)
        with pytest.raises(Exception, match="NOT NULL"):
            land(store, [observation(START, 10.0)], rejections=(broken,))
        for table in ("observations", "quarantine", "loads", "locations"):
            assert store.query(f"select count(*) from bronze.{table}") == [(0,)], table
        assert land(store, [observation(START, 10.0)]) == Landed(1, 1, 0)


def test_instants_are_utc_whatever_the_time_zone_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [observation(START, 10.0)])
        stored = store.query("select valid_hour_utc::varchar, epoch(valid_hour_utc) from bronze.observations")
    assert stored == [("2026-03-01 00:00:00+00", START.timestamp())]


def test_the_connection_is_closed_when_the_work_fails(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with pytest.raises(ZeroDivisionError), open_warehouse(path):
        _ = 1 / 0
    other = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"
    assert subprocess.run([sys.executable, "-c", other, path], check=False).returncode == 0


HOLD = """
import duckdb, sys, time
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process that keeps the file open for a while."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path, str(seconds)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    return holder


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with hold(path, 0.6), open_warehouse(path) as store:
        assert land(store, [observation(START, 10.0)]).rows_added == 1


def test_a_file_locked_for_too_long_says_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with (
        hold(path, 1.5) as holder,
        pytest.raises(WarehouseError, match=rf"w\.duckdb is locked by .*PID {holder.pid}\)"),
        open_warehouse(path, lock_timeout=timedelta(seconds=0.2)),
    ):
        pass


def test_reading_a_missing_warehouse_names_the_commands_that_make_it(tmp_path: Path) -> None:
    with (
        pytest.raises(WarehouseError, match=r"no warehouse at .*w\.duckdb yet; `weather demo`"),
        open_warehouse(tmp_path / "w.duckdb", read_only=True),
    ):
        pass
    assert not (tmp_path / "w.duckdb").exists()


def test_a_file_that_is_no_warehouse_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    path.write_text("a diary, not a database " * 1000, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(WarehouseError, match=r"w\.duckdb cannot be opened"), open_warehouse(path):
        pass
    assert path.read_bytes() == before


def test_a_home_that_cannot_be_written_is_named_with_its_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with (
        pytest.raises(WarehouseError, match=r"cannot make the folder .*WEATHER_HOME or WEATHER_DUCKDB_PATH"),
        open_warehouse(tmp_path / "file" / "w.duckdb"),
    ):
        pass


def call(call_id: str, **values: object) -> dict[str, object]:
    return {
        "call_id": call_id, "provider": "openweather", "product": "free", "endpoint": "/data/2.5/weather",
        "dataset": "observations", "location_ids": "lyon,oslo", "first_hour_utc": START, "last_hour_utc": START,
        "weight": 1.0, "status": 200, "outcome": "answered", "seconds": 0.25, "asked_at_utc": START, "run_id": "r",
        **values,
    }  # fmt: skip


def test_calls_of_the_ledger_are_copied_once(tmp_path: Path) -> None:
    search = call("b", dataset=None, location_ids=None, first_hour_utc=None, last_hour_utc=None, status=None)
    with open_warehouse(tmp_path / "w.duckdb") as store:
        assert store.record_calls(pa.Table.from_pylist([call("a"), search], API_CALLS_SCHEMA)) == 2
        assert store.record_calls(pa.Table.from_pylist([call("a", weight=9.0), call("c")], API_CALLS_SCHEMA)) == 1
        calls = store.query("select call_id, weight, status, asked_at_utc from bronze.api_calls order by call_id")
    assert calls == [("a", 1.0, 200, START), ("b", 1.0, None, START), ("c", 1.0, 200, START)]


def settled(**values: object) -> QuarantineKey:
    told = rejection()
    names = ("provider", "location_id", "reason", "field", "payload_hash")
    key = {"dataset": told.dataset, "hour_utc": START} | {name: getattr(told, name) for name in names} | values
    return QuarantineKey(**key)  # type: ignore[arg-type] - each value has the type of its field


def test_a_landing_settles_the_entries_it_is_told_and_no_other(tmp_path: Path) -> None:
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [], rejections=(rejection("{}"), rejection('{"other": 1}')))
        landed = land(store, [observation(START, 10.0)], resolved=(settled(),))
        assert landed == Landed(2, 1, 0, 1)
        assert store.query("select payload, resolved_load_id from bronze.quarantine order by payload desc") == [
            ("{}", 2),
            ('{"other": 1}', None),
        ]
        assert land(store, [], resolved=(settled(),)) == Landed(None, 0, 0), "settled before"
        assert land(store, [], rejections=(rejection("{}"),)) == Landed(None, 0, 0), "kept once, resolved or not"


def test_an_entry_is_open_again_when_its_landing_fails(tmp_path: Path) -> None:
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [], rejections=(rejection(),))
        broken = PLACES[0].model_copy(update={"name": None})
        with pytest.raises(Exception, match="NOT NULL"):
            land(store, [observation(START, 10.0)], places=(broken,), resolved=(settled(),))
        assert store.query("select count(*) from bronze.quarantine where resolved_load_id is null") == [(1,)]
        assert store.query("select count(*) from bronze.observations") == [(0,)]


def test_fields_of_payloads_are_counted_by_source_two_levels_deep(tmp_path: Path) -> None:
    payloads = [
        '{"a": 1, "b": {"c": 2.5, "d": {"e": 1}}}',
        '{"a": null, "b": {"c": null}}',
        '{"w": [{"id": 1}], "n": []}',
    ]
    with open_warehouse(tmp_path / "w.duckdb") as store:
        land(store, [(*row[:-3], text, text, 1) for row, text in zip(map(lyon_at, DAY), payloads, strict=False)])
        (fields,) = store.payload_fields(OBSERVATIONS, DAY).values()
        assert fields.rows == 3
        assert fields.counts == {"a": 1, "b": 2, "b.c": 1, "b.d": 1, "w": 1, "w.id": 1, "n": 1}
        source = Source("simulator", "/data/2.5/history/city")
        assert store.payload_fields(OBSERVATIONS, HourRange(START, START), source)[source].rows == 1
        assert store.payload_fields(OBSERVATIONS, DAY, Source("simulator", "/elsewhere")) == {}


def lyon_at(hour: datetime) -> tuple[object, ...]:
    return observation(hour, 10.0)
