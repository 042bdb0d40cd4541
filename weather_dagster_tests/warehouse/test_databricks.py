"""What the Databricks warehouse alone has to care for: turns, commits of one table, an account far away.

On the stand-in, by the real connector. What all engines have in common is in test_landing.
"""

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from weather_dagster.datasets import DATASETS
from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.settings import Settings
from weather_dagster.warehouse import databricks as databricks_module
from weather_dagster.warehouse.base import Landed, Warehouse
from weather_dagster.warehouse.databricks import DatabricksStore, DatabricksWarehouse
from weather_dagster_tests.databricks.stand_in import CLIENT_ID, CLIENT_SECRET, TOKEN, StandIn
from weather_dagster_tests.warehouse import test_landing
from weather_dagster_tests.warehouse.test_duckdb import DAY, PLACES, START, land, observation, rejection
from weather_dagster_tests.warehouse.test_landing import settled

pytestmark = pytest.mark.integration

VISIBLE = ("loads", "observations", "locations", "quarantine")


OTHERWISE = {
    "test_a_landing_that_fails_half_way_leaves_nothing": "its load id is given to nobody else",
    "test_the_tables_are_those_of_the_datasets": "they are views, whose columns are told to take nulls",
}
COMMON = [
    test
    for name, test in vars(test_landing).items()
    if name.startswith("test_") and [*inspect.signature(test).parameters] == ["opened"] and name not in OTHERWISE
]
"""The tests of what all engines do."""


@pytest.fixture
def warehouse(databricks_store: DatabricksStore) -> Iterator[DatabricksWarehouse]:
    """A fresh one, open."""
    with databricks_store.open() as opened:
        yield opened


@pytest.mark.parametrize("behaviour", COMMON, ids=lambda test: test.__name__.removeprefix("test_"))
def test_it_does_what_every_warehouse_does(
    warehouse: DatabricksWarehouse, behaviour: Callable[[Warehouse], None]
) -> None:
    behaviour(warehouse)


def test_what_is_read_are_the_tables_of_the_datasets(warehouse: DatabricksWarehouse) -> None:
    others = {"loads", "locations", "quarantine", "api_calls", "schema_versions"}
    assert warehouse.tables() == {f"bronze.{name}" for name in others | {str(name) for name in DATASETS}}


def test_a_reader_changes_nothing(databricks_store: DatabricksStore, warehouse: DatabricksWarehouse) -> None:
    land(warehouse, [observation(START, 10.0)])
    with databricks_store.open(read_only=True) as reader, pytest.raises(WarehouseError, match="opened read-only"):
        reader.execute("delete from bronze.observations where true")
    assert counts(warehouse)["observations"] == 1


def counts(warehouse: DatabricksWarehouse) -> dict[str, int]:
    """How many rows of bronze are seen, by table."""
    return {name: warehouse.query(f"select count(*) from bronze.{name}")[0][0] for name in VISIBLE}


def unseen(warehouse: DatabricksWarehouse) -> int:
    """How many rows are there of landings that were not finished."""
    tables = ("observations", "locations", "quarantine")
    found = (
        warehouse.query(
            f"select count(*) from bronze.{name}_rows where load_id not in (select load_id from bronze.loads)"
        )
        for name in tables
    )
    return sum(count for ((count,),) in found)


def let_the_turn_end(warehouse: DatabricksWarehouse) -> None:
    """As if the lease were over."""
    warehouse.execute("update bronze.turn set ends_at_utc = current_timestamp() - interval '1' second")


LAND_IN_ANOTHER_PROCESS = """
import sys
from pydantic import SecretStr
from weather_dagster.warehouse.databricks import Account, DatabricksStore
from weather_dagster_tests.databricks.stand_in import HTTP_PATH, TOKEN
from weather_dagster_tests.warehouse import test_landing
from weather_dagster_tests.warehouse.test_duckdb import DAY, land, observation, rejection
from weather_dagster_tests.warehouse.test_landing import settled
store = DatabricksStore(Account(sys.argv[1], HTTP_PATH, "weather", SecretStr(TOKEN)))
with store.open() as warehouse:
    land(warehouse, [observation(hour, 20.0) for hour in DAY], rejections=(rejection("other"),), resolved=(settled(),))
"""


@pytest.mark.parametrize(
    "statement",
    ["insert into bronze.observations_rows", "merge into bronze.quarantine_rows", "insert into bronze.loads"],
)
def test_a_landing_that_was_killed_is_never_seen_and_its_rerun_completes_it(
    databricks: StandIn, warehouse: DatabricksWarehouse, statement: str
) -> None:
    moved = PLACES[0].model_copy(update={"name": "Elsewhere"})
    land(warehouse, [observation(START, 10.0)], rejections=(rejection("{}"),), places=(moved, *PLACES[1:]))
    before = counts(warehouse)
    databricks.fail(stalled=statement)
    other = subprocess.Popen([sys.executable, "-c", LAND_IN_ANOTHER_PROCESS, databricks.url])
    databricks.await_stall(lambda: other.poll() is not None)
    other.kill()
    other.wait()
    assert counts(warehouse) == before
    # What the dead one has sent last arrives all the same.
    databricks.fail(stalled=None)
    time.sleep(0.5)
    if statement != "insert into bronze.loads":
        assert counts(warehouse) == before
        let_the_turn_end(warehouse)
        assert land(warehouse, [], places=(moved, *PLACES[1:])) == Landed(None, 0, 0)
        assert unseen(warehouse) == 0
    else:
        let_the_turn_end(warehouse)
    again = land(
        warehouse, [observation(hour, 20.0) for hour in DAY], rejections=(rejection("other"),), resolved=(settled(),)
    )
    assert again == (Landed(None, 0, 0) if statement == "insert into bronze.loads" else Landed(3, 24, 1, 1))
    assert counts(warehouse) == {"loads": 2, "observations": 25, "locations": len(PLACES), "quarantine": 2}
    assert warehouse.query("select name from bronze.locations where location_id = $id", {"id": moved.id}) == [
        (PLACES[0].name,)
    ]
    assert warehouse.query("select count(*) from bronze.quarantine where resolved_load_id is null") == [(1,)]


@pytest.mark.parametrize("table", ["observations_rows", "quarantine_rows", "locations_rows"])
def test_a_landing_that_fails_half_way_removes_its_rows_and_lets_others_land(
    databricks: StandIn, warehouse: DatabricksWarehouse, table: str
) -> None:
    databricks.fail(failing={f"insert into bronze.{table}": "[INTERNAL_ERROR] out of luck; line 1 pos 2"})
    with pytest.raises(WarehouseError, match=r"out of luck$"):
        land(warehouse, [observation(START, 10.0)], rejections=(rejection(),))
    assert counts(warehouse) == dict.fromkeys(VISIBLE, 0)
    assert unseen(warehouse) == 0
    assert land(warehouse, [observation(START, 10.0)], rejections=(rejection(),)) == Landed(2, 1, 1)


def test_a_commit_whose_answer_was_lost_is_left_for_the_next_writer_to_see(
    databricks: StandIn, warehouse: DatabricksWarehouse
) -> None:
    databricks.fail(failing={"insert into bronze.loads": "[INTERNAL_ERROR] who knows"})
    with pytest.raises(WarehouseError, match="who knows"):
        land(warehouse, [observation(START, 10.0)])
    assert unseen(warehouse) > 0, "its rows stay: the load may be there"
    let_the_turn_end(warehouse)
    assert land(warehouse, [observation(START, 10.0)]) == Landed(2, 1, 0)
    assert unseen(warehouse) == 0


def test_a_writer_that_has_lost_its_turn_cannot_commit(
    databricks: StandIn, databricks_store: DatabricksStore, warehouse: DatabricksWarehouse
) -> None:
    databricks.fail(stalled="insert into bronze.loads .*'slow'")

    def land_slowly() -> Landed:
        with databricks_store.open() as own:
            return land(own, [observation(START, 11.0)], run_id="slow")

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(land_slowly)
        databricks.await_stall(slow.done)
        let_the_turn_end(warehouse)
        assert land(warehouse, [observation(START, 10.0)]) == Landed(2, 1, 0)
        databricks.fail(stalled=None)
        with pytest.raises(WarehouseError, match="another writer may have taken over"):
            slow.result(30)
    assert warehouse.query("select temperature_c, load_id from bronze.observations") == [(10.0, 2)]
    assert land(warehouse, [observation(START, 12.0)]) == Landed(3, 1, 0)


def test_writers_at_once_land_everything_once_in_the_order_of_their_load_ids(
    databricks_store: DatabricksStore, warehouse: DatabricksWarehouse
) -> None:
    ranges = [HourRange(START + n * 6 * HOUR, START + (n * 6 + 11) * HOUR) for n in range(4)]
    gate = threading.Barrier(len(ranges))

    def land_range(hours: HourRange) -> int | None:
        with databricks_store.open() as own:
            gate.wait()
            return land(own, [observation(hour, 10.0) for hour in hours], hours=hours).load_id

    with ThreadPoolExecutor(len(ranges)) as pool:
        loads = sorted(filter(None, pool.map(land_range, ranges)))
    assert loads == list(range(1, len(loads) + 1))
    assert warehouse.query("select count(*), count(distinct valid_hour_utc) from bronze.observations") == [(30, 30)]
    assert warehouse.query("select writer, load_id from bronze.turn") == [(None, len(loads))]


def test_a_turn_that_does_not_end_says_who_has_it(
    warehouse: DatabricksWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.execute(
        "update bronze.turn set writer = 'elsewhere, PID 7', ends_at_utc = current_timestamp() + interval '1' hour"
    )
    monkeypatch.setattr(databricks_module, "LEASE", timedelta(seconds=0.5))
    monkeypatch.setattr(warehouse, "_patience", timedelta(seconds=0.2))
    with pytest.raises(WarehouseError, match=r"held by another writer \(elsewhere, PID 7\), until \d\d:\d\d:\d\d UTC"):
        land(warehouse, [observation(START, 10.0)])


def test_a_statement_that_another_writer_undid_is_run_again(
    databricks: StandIn, warehouse: DatabricksWarehouse
) -> None:
    conflict = "[DELTA_CONCURRENT_APPEND] Files were added by a concurrent update. Please try the operation again."
    databricks.fail(failing={"update bronze.turn set": conflict, "insert into bronze.observations_rows": conflict})
    assert land(warehouse, [observation(START, 10.0)]) == Landed(1, 1, 0)


def test_portable_queries_are_understood(warehouse: DatabricksWarehouse) -> None:
    rows = warehouse.query(
        """
        select places.name, grid.hour at time zone 'Asia/Kathmandu', extract(epoch from grid.hour),
            count(*) filter (where later.n = 1), count(*) filter (where later.n > 1)
        from unnest($names::varchar[]) as places (name)
        cross join generate_series($first::timestamptz, $last::timestamptz, interval '1 hour') as grid (hour)
        cross join lateral generate_series(1, 3) as later (n)
        where places.name = any($names::varchar[]) and ($none::varchar is null or places.name = $none)
        group by places.name, grid.hour
        order by 1, 2
        """,
        {"names": ["b", "a"], "first": START, "last": START + HOUR, "none": None},
    )
    hours = [START, START + HOUR]
    local = [hour.replace(tzinfo=None) + timedelta(hours=5, minutes=45) for hour in hours]
    assert rows == [
        (name, shown, hour.timestamp(), 1, 2) for name in "ab" for hour, shown in zip(hours, local, strict=True)
    ]


def test_a_deletion_from_bronze_finds_the_rows_behind_the_view(warehouse: DatabricksWarehouse) -> None:
    land(warehouse, [observation(START, 10.0)])
    land(warehouse, [observation(START, 11.0)])
    gone = warehouse.execute(
        """
        delete from bronze.observations as old
        where ingested_at_utc <= $before and exists (
            select 1 from bronze.observations as newer
            where newer.location_id = old.location_id and newer.valid_hour_utc = old.valid_hour_utc
                and newer.load_id > old.load_id
        )
        """,
        {"before": START},
    )
    assert gone == 1
    assert warehouse.query("select temperature_c from bronze.observations") == [(11.0,)]


def test_an_upgrade_that_was_cut_off_is_finished_by_the_next(
    databricks: StandIn, databricks_store: DatabricksStore
) -> None:
    databricks.fail(failing={"create or replace view bronze.air_quality": "[INTERNAL_ERROR] lost"})
    with pytest.raises(WarehouseError, match="lost"), databricks_store.open():
        pass
    with pytest.raises(WarehouseError, match="no bronze tables yet"), databricks_store.open(read_only=True):
        pass
    assert not databricks_store.exists()
    with databricks_store.open() as warehouse:
        assert land(warehouse, [observation(START, 10.0)]).rows_added == 1
        assert warehouse.query("select version, name from bronze.schema_versions") == [(1, "bronze")]
    assert databricks_store.exists()


def test_starters_at_once_make_the_tables_once(databricks_store: DatabricksStore) -> None:
    gate = threading.Barrier(3)

    def start(_: int) -> list[tuple[int]]:
        gate.wait()
        with databricks_store.open() as warehouse:
            return warehouse.query("select version from bronze.schema_versions")

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(start, range(3))) == [[(1,)]] * 3


def test_a_warehouse_that_sleeps_is_waited_for(databricks: StandIn, databricks_store: DatabricksStore) -> None:
    databricks.fail(asleep=1)
    with databricks_store.open() as warehouse:
        assert land(warehouse, [observation(START, 10.0)]).rows_added == 1


def test_a_service_principal_lands_too(databricks_store: DatabricksStore) -> None:
    principal = replace(
        databricks_store.account, token=None, client_id=CLIENT_ID, client_secret=SecretStr(CLIENT_SECRET)
    )
    with DatabricksStore(principal).open() as warehouse:
        assert land(warehouse, [observation(START, 10.0)]).rows_added == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"token": SecretStr("dapi-secret")}, r"does not accept DATABRICKS_TOKEN: it has expired"),
        ({"catalog": "wether"}, r"there is no catalog 'wether' .* DATABRICKS_CATALOG"),
        ({"host": "nowhere.invalid"}, r"cannot reach https://nowhere\.invalid: .*DATABRICKS_HOST"),
        ({"host": "http://127.0.0.1:9"}, r"cannot reach http://127\.0\.0\.1:9: .*DATABRICKS_HOST"),
        (
            {"token": None, "client_id": CLIENT_ID, "client_secret": SecretStr("dapi-secret")},
            r"does not accept DATABRICKS_CLIENT_ID or DATABRICKS_CLIENT_SECRET",
        ),
    ],
)
def test_an_account_that_is_wrong_says_what_to_correct_and_no_secret(
    databricks_store: DatabricksStore, change: dict[str, object], told: str
) -> None:
    wrong = DatabricksStore(replace(databricks_store.account, **change))  # type: ignore[arg-type] - each of its type
    with pytest.raises(WarehouseError, match=told) as error, wrong.open():
        pass
    chain = [
        error.value,
        error.value.__cause__,
        *([] if error.value.__suppress_context__ else [error.value.__context__]),
    ]
    assert not any(secret in repr(e) + str(wrong) for e in chain for secret in ("dapi-secret", TOKEN))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, r"not set: DATABRICKS_HOST, DATABRICKS_HTTP_PATH, DATABRICKS_TOKEN \(or DATABRICKS_CLIENT_ID"),
        (
            {"databricks_host": "h", "databricks_http_path": "p", "databricks_client_id": "i"},
            r"not set: DATABRICKS_TOKEN",
        ),
    ],
)
@pytest.mark.usefixtures("clean_environment")
def test_what_is_not_set_is_named_when_the_store_is_used(settings: dict[str, str], told: str) -> None:
    store = DatabricksStore.of(Settings.load(**settings))
    for use in (store.exists, store.dbt_environment):
        with pytest.raises(ConfigurationError, match=told):
            use()


def test_a_token_that_expires_half_way_leaves_nothing_and_the_rerun_completes(
    databricks: StandIn, databricks_store: DatabricksStore, warehouse: DatabricksWarehouse
) -> None:
    databricks.fail(stalled="insert into bronze.observations_rows")
    with ThreadPoolExecutor(1) as pool:
        landing = pool.submit(land, warehouse, [observation(hour, 10.0) for hour in DAY], rejections=(rejection(),))
        databricks.await_stall(landing.done)
        databricks.fail(is_token_expired=True, stalled=None)
        with pytest.raises(WarehouseError, match="does not accept DATABRICKS_TOKEN"):
            landing.result(30)
    databricks.fail(is_token_expired=False)
    with databricks_store.open() as renewed:
        assert counts(renewed) == dict.fromkeys(VISIBLE, 0)
        let_the_turn_end(renewed)
        assert land(renewed, [observation(hour, 10.0) for hour in DAY], rejections=(rejection(),)) == Landed(2, 24, 1)


def test_a_denied_statement_names_the_grant_that_is_missing(
    databricks: StandIn, warehouse: DatabricksWarehouse
) -> None:
    denied = (
        "[INSUFFICIENT_PERMISSIONS] Insufficient privileges: User does not have MODIFY on Table 'observations_rows'."
    )
    databricks.fail(failing={"insert into bronze.observations_rows": denied})
    with pytest.raises(WarehouseError, match=r"does not have MODIFY on Table 'observations_rows'; grant it"):
        land(warehouse, [observation(START, 10.0)])
    assert counts(warehouse) == dict.fromkeys(VISIBLE, 0)
