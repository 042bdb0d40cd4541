"""What a person gets who makes a mistake, or whose provider fails: one message, exit code 1, nothing half written."""

import subprocess
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from weather_dagster.hours import floor_hour, format_hour, utc_now
from weather_dagster.simulator.faults import Fault
from weather_dagster_tests.conftest import BIN, KEY, Provider, Weather, without_settings
from weather_dagster_tests.warehouse.test_duckdb import hold

pytestmark = pytest.mark.integration

HOUR = format_hour(floor_hour(utc_now()) - timedelta(hours=30))
RANGE = ("--from", HOUR, "--to", HOUR)


def running_hour() -> tuple[str, ...]:
    """The range that every plan of a live account serves in full."""
    return ("--from", format_hour(floor_hour(utc_now())), "--to", format_hour(floor_hour(utc_now())))


def assert_refused(result: "subprocess.CompletedProcess[str]", *expected: str) -> None:
    """One clear message with all that is expected, no traceback, a non-zero exit."""
    text = " ".join(result.stderr.split())
    assert result.returncode == 1, text
    assert text.startswith("Error:"), text
    assert "Traceback" not in text
    for part in expected:
        assert part in text, f"{part!r} is not in {text!r}"


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_an_unknown_provider_is_refused_with_the_known_ones(weather: Weather, command: str) -> None:
    refused = weather(command, *RANGE, WEATHER_PROVIDER="accuweather")
    assert_refused(refused, "WEATHER_PROVIDER", "'accuweather'", "openweather", "simulator", "recorded")


@pytest.mark.parametrize("command", [("ingest", *RANGE), ("backfill", *RANGE), ("report",), ("locations", "list")])
def test_an_unknown_environment_is_refused_with_the_known_ones(weather: Weather, command: tuple[str, ...]) -> None:
    assert_refused(weather(*command, WEATHER_ENV="moon"), "WEATHER_ENV is 'moon'", "local")


@pytest.mark.parametrize("command", [("demo",), ("backfill", *RANGE)])
def test_a_run_that_a_pod_would_start_beside_its_cluster_is_refused(weather: Weather, command: tuple[str, ...]) -> None:
    in_a_pod = {"WEATHER_ENV": "cluster", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert_refused(weather(*command, **in_a_pod), "in a pod", "`weather ingest`", "refresh_waiting_loads", "in the UI")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_an_unknown_place_is_refused_with_the_known_ones(weather: Weather, command: str) -> None:
    assert_refused(weather(command, *RANGE, "--place", "atlantis"), "no place has the id 'atlantis'", "lyon")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_a_place_alone_can_be_asked_for(weather: Weather, tmp_path: Path, command: str) -> None:
    result = weather(command, *RANGE, "--place", "lyon", "--place", "quito")
    assert result.returncode == 0, result.stderr
    assert "WARN" not in result.stdout
    with duckdb.connect(tmp_path / ".weather" / "simulator" / "warehouse.duckdb") as connection:
        places = connection.execute("select distinct location_id from bronze.observations order by all").fetchall()
    assert places == [("lyon",), ("quito",)]


def test_an_unknown_plan_is_refused_with_the_known_ones(weather: Weather) -> None:
    refused = weather("ingest", *RANGE, OPENWEATHER_API_KEY=KEY, OPENWEATHER_PLAN="gold")
    assert_refused(refused, "OPENWEATHER_PLAN", "'gold'", "free", "professional")


def test_live_without_a_key_says_where_a_key_goes(weather: Weather) -> None:
    refused = weather("ingest", *RANGE, WEATHER_PROVIDER="openweather")
    assert_refused(refused, "OPENWEATHER_API_KEY")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_a_range_that_ends_before_it_begins_is_refused(weather: Weather, command: str) -> None:
    refused = weather(command, "--from", "2026-11-25T13:00", "--to", "2026-11-25T12:00")
    assert_refused(refused, "2026-11-25T12:00", "before it begins", "2026-11-25T13:00")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_an_hour_of_the_future_is_refused(weather: Weather, command: str) -> None:
    refused = weather(command, "--from", HOUR, "--to", "2999-01-01T00:00")
    assert_refused(refused, "2999-01-01T00:00", "future")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_an_hour_before_the_grid_is_refused_with_the_setting_that_moves_it(weather: Weather, command: str) -> None:
    refused = weather(command, "--from", "2001-01-01T00:00", "--to", "2001-01-01T05:00")
    assert_refused(refused, "2001-01-01T00:00", "2025-01-01T00:00", "WEATHER_START_HOUR")


def test_what_is_no_hour_is_refused(weather: Weather) -> None:
    assert_refused(weather("ingest", "--from", "noon", "--to", HOUR), "--from is 'noon'")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_a_broken_places_file_is_refused(weather: Weather, tmp_path: Path, command: str) -> None:
    (tmp_path / "places.yaml").write_text("locations: [{id: a, latitude: 100}]", encoding="utf-8")
    refused = weather(command, *RANGE, WEATHER_LOCATIONS="places.yaml")
    assert_refused(refused, "places.yaml", "entry 1 ('a')", "latitude is 100")


@pytest.mark.parametrize("command", ["ingest", "backfill"])
def test_a_home_that_cannot_be_written_is_named(weather: Weather, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert_refused(weather(command, *RANGE, WEATHER_HOME="file"), "file", "WEATHER_HOME")


def test_a_report_without_a_warehouse_says_what_makes_one(weather: Weather) -> None:
    assert_refused(weather("report"), "no warehouse at", "weather demo")


def test_a_report_without_gold_says_what_makes_it(weather: Weather) -> None:
    assert weather("ingest", *RANGE).returncode == 0
    assert_refused(weather("report"), "gold", "weather")


def test_a_locked_warehouse_says_who_holds_it(weather: Weather, tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    with hold(path, 60) as holder:
        refused = weather("ingest", *RANGE, WEATHER_DUCKDB_PATH=str(path))
        holder.kill()
    assert refused.stderr.startswith("WARNING Waiting: ")
    assert refused.stderr.count("Waiting: ") == 1
    refused.stderr = refused.stderr[refused.stderr.index("Error:") :]
    assert_refused(refused, "w.duckdb is locked by", f"PID {holder.pid}")


def test_dbt_by_hand_waits_for_a_locked_warehouse_and_says_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "w.duckdb"
    environment = {**without_settings(), "WEATHER_DUCKDB_PATH": str(path), "DBT_TARGET_PATH": str(tmp_path / "target")}
    with hold(path, 60) as holder:
        refused = subprocess.run(
            [BIN / "weather-dbt", "build"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        holder.kill()
    assert refused.returncode == 1
    assert f"PID {holder.pid}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_dbt_by_hand_builds_empty_tables_where_nothing_was_landed(tmp_path: Path) -> None:
    # A target of its own: the shared one is read by runs of other workers meanwhile.
    environment = {
        **without_settings(),
        "WEATHER_HOME": str(tmp_path / "new"),
        "DBT_TARGET_PATH": str(tmp_path / "target"),
    }
    built = subprocess.run(
        [BIN / "weather-dbt", "--quiet", "build", "--exclude-resource-type", "unit_test"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    with duckdb.connect(tmp_path / "new" / "simulator" / "warehouse.duckdb") as connection:
        assert connection.execute("select count(*) from gold.hourly_weather").fetchall() == [(0,)]


def test_a_name_that_looks_like_markup_is_shown_as_it_is(weather: Weather, tmp_path: Path) -> None:
    place = "{id: bay, name: 'Bay [/north]', country: FR, latitude: 1, longitude: 2, time_zone: Europe/Paris}"
    (tmp_path / "places.yaml").write_text(f"locations: [{place}]", encoding="utf-8")
    for command in (("locations", "list"), ("backfill", *RANGE)):
        result = weather(*command, WEATHER_LOCATIONS="places.yaml")
        assert result.returncode == 0, result.stderr
        assert "Bay [/north]" in result.stdout


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="status", status=401), ("401", "OPENWEATHER_API_KEY")),
        (Fault(kind="status", status=429), ("429", "blocked")),
        (Fault(kind="status", status=500), ("500",)),
        (Fault(kind="status", status=503), ("503",)),
        (Fault(kind="html"), ("Maintenance",)),
        (Fault(kind="empty"), ("empty",)),
        (Fault(kind="truncated"), ("a body that is no JSON",)),
        (Fault(kind="wrong_shape"), ("another shape",)),
        (Fault(kind="reset"), ("could not be reached",)),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_a_provider_that_fails_for_good_ends_in_one_message_and_writes_nothing(
    weather: Weather, tmp_path: Path, provider: Provider, fault: Fault, expected: tuple[str, ...]
) -> None:
    provider.faults.replace([fault])
    refused = weather("ingest", *running_hour(), WEATHER_DUCKDB_PATH="w.duckdb", **provider.live)
    errors = refused.stderr[refused.stderr.index("Error:") :]
    refused.stderr = errors
    assert_refused(refused, "openweather", *expected)
    assert "nothing of " in refused.stdout
    assert KEY not in refused.stdout + refused.stderr
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        assert connection.execute("select count(*) from bronze.observations").fetchall() == [(0,)]
        kept = connection.execute("select distinct reason, message from bronze.quarantine").fetchall()
    assert {reason for reason, _ in kept} <= {"unreadable"}
    assert all(expected[0] in message for _, message in kept)
    provider.faults.replace([])
    again = weather("ingest", *running_hour(), WEATHER_DUCKDB_PATH="w.duckdb", **provider.live)
    if fault.status == 429:
        assert_refused(again, "openweather is not asked before")
    else:
        assert again.returncode == 0, again.stderr


def test_a_fault_that_heals_is_not_noticed_in_the_store(weather: Weather, tmp_path: Path, provider: Provider) -> None:
    provider.faults.replace([Fault(kind="status", status=503, count=2), Fault(kind="truncated", count=1)])
    result = weather("ingest", *running_hour(), WEATHER_DUCKDB_PATH="w.duckdb", **provider.live)
    assert result.returncode == 0, result.stderr
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        assert connection.execute("select count(*) from bronze.observations").fetchall() == [(10,)]


def test_one_bad_record_goes_to_quarantine_and_the_others_land(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    lyon = (45.76, 4.84)
    provider.faults.replace([Fault(kind="patch", place=lyon, values={"main.temp": "warm"})])
    weather("ingest", *running_hour(), WEATHER_DUCKDB_PATH="w.duckdb", **provider.live)
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        assert connection.execute("select count(*) from bronze.observations").fetchall() == [(9,)]
        ((place, reason, message),) = connection.execute(
            "select location_id, reason, message from bronze.quarantine where dataset = 'observations'"
        ).fetchall()
    assert (place, reason) == ("lyon", "contract")
    assert "main.temp" in message
    assert "warm" in message


def test_a_failed_run_of_the_job_tells_the_step_and_the_cause(weather: Weather, provider: Provider) -> None:
    provider.faults.replace([Fault(kind="status", status=401)])
    refused = weather("backfill", *running_hour(), **provider.live)
    assert_refused(refused, "bronze__observations", "401", "OPENWEATHER_API_KEY")


def test_what_a_plan_cannot_serve_is_refused_by_name_and_the_rest_lands(
    weather: Weather, tmp_path: Path, provider: Provider
) -> None:
    free = {**provider.live, "OPENWEATHER_PLAN": "free", "WEATHER_HISTORY_PROVIDER": "none"}
    home = tmp_path / ".weather" / "live" / "warehouse.duckdb"
    for command, table in (("ingest", "bronze.air_quality"), ("backfill", "silver.air_quality")):
        refused = weather(command, *RANGE, **free)
        assert_refused(refused, "plan free", f"observations of {HOUR}", f"forecasts of {HOUR}", "OPENWEATHER_PLAN")
        with duckdb.connect(home) as connection:
            assert connection.execute(f"select count(*) from {table}").fetchall() == [(10,)]
            assert connection.execute("select count(*) from bronze.observations").fetchall() == [(0,)]


def test_the_report_can_be_made_again_at_any_time(weather: Weather, tmp_path: Path) -> None:
    assert weather("backfill", *RANGE).returncode == 0
    page = tmp_path / ".weather" / "simulator" / "report.html"
    page.unlink()
    result = weather("report")
    assert result.returncode == 0, result.stderr
    assert str(page) in result.stdout
    assert page.exists()
