"""`weather quarantine list` and `redrive`, on a real warehouse file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from weather_dagster.datasets import REASON_HELP, RejectionReason
from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.quarantine_command import quarantine
from weather_dagster.settings import Settings
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.test_quarantine import LYON, fetch, record


@pytest.fixture
def warehouse(clean_environment: Path) -> Path:
    """A store with a broken record and an implausible value."""
    path = Settings.load().duckdb_path
    with open_warehouse(path) as store:
        fetch(store, record(0, temp="warm"), record(1, temp=65))
    return path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(quarantine, arguments, env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_list_counts_by_reason_says_what_it_means_and_shows_message_and_payload(warehouse: Path) -> None:
    said = " ".join(run("list").output.split())
    for reason in (RejectionReason.CONTRACT, RejectionReason.IMPLAUSIBLE_VALUE):
        assert f"{reason} │ 1 │ 0 │ {REASON_HELP[reason]}" in said
    assert "contract observations of lyon, 2026-03-01T00:00, openweather /data/2.5/history/city main.temp:" in said
    assert "temperature_c is 65, outside -95 to 60" in said
    assert '{"dt":1772326800,"main":{"temp":65,' in said


def test_the_list_can_be_narrowed_and_read_by_programs(warehouse: Path) -> None:
    told = json.loads(run("list", "--reason", "contract", "--place", "lyon", "--json").output)
    assert [entry["reason"] for entry in told["entries"]] == ["contract"]
    assert told["entries"][0]["hour_utc"] == "2026-03-01T00:00:00+00:00"
    assert [count["open"] for count in told["counts"]] == [1, 1]
    assert json.loads(run("list", "--dataset", "forecasts", "--json").output)["entries"] == []
    assert len(json.loads(run("list", "--limit", "1", "--json").output)["entries"]) == 1


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [("--reason", "to_hot", "implausible_value"), ("--dataset", "observation", "observations")],
)
def test_an_unknown_reason_or_dataset_is_refused_with_the_known_ones(
    warehouse: Path, option: str, value: str, known: str
) -> None:
    result = run("list", option, value)
    assert result.exit_code == 2
    assert repr(value) in result.output
    assert known in result.output


def test_an_unknown_place_is_refused_with_the_known_ones(warehouse: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no place has the id 'lion'; known places: .*lyon"):
        run("list", "--place", "lion")


def test_a_place_that_left_the_file_can_still_be_listed(warehouse: Path) -> None:
    with open_warehouse(warehouse) as store:
        fetch(store, record(2, temp=65), place=LYON.model_copy(update={"id": "old_mill"}))
    assert "old_mill" in run("list", "--place", "old_mill").output


def test_a_home_without_a_warehouse_is_told_how_to_make_one(clean_environment: Path) -> None:
    with pytest.raises(WarehouseError, match="there is no warehouse"):
        run("list")


def test_a_re_drive_says_what_became_of_the_payloads(warehouse: Path) -> None:
    assert (
        "2 payloads read again: 0 landed (0 rows added), 0 superseded by later rows, 2 still rejected"
        in run("redrive").output
    )
    with open_warehouse(warehouse) as store:
        store.connection.execute("update bronze.quarantine set payload = replace(payload, '\"warm\"', '9')")
    said = run("redrive", "--reason", "contract").output
    assert "1 payloads read again: 1 landed (1 rows added)" in said
    assert "The next dbt run takes the rows on to gold." in said
    assert "implausible_value" in run("list").output
    assert "resolved in load 2" in run("list", "--resolved").output
