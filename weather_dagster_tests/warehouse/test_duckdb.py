"""The DuckDB warehouse on real files: locks, and files that are none. What every engine does: ``test_landing``."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weather_dagster.datasets import (
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
from weather_dagster.warehouse.base import Landed, Load, QuarantineKey, Warehouse
from weather_dagster.warehouse.duckdb import open_warehouse
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
    warehouse: Warehouse,
    rows: list[tuple[object, ...]],
    *,
    dataset: Dataset = OBSERVATIONS,
    rejections: tuple[Rejection, ...] = (),
    places: tuple[Location, ...] = PLACES,
    hours: HourRange = DAY,
    resolved: tuple[QuarantineKey, ...] = (),
    provider: str = "simulator",
    run_id: str = "r",
) -> Landed:
    return warehouse.land(
        Load(
            dataset,
            to_arrow(dataset, rows),
            rejections,
            places,
            provider=provider,
            hours=hours,
            run_id=run_id,
            now=START,
            resolved=resolved,
        )
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
