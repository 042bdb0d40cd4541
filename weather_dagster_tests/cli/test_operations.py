"""`weather status`, `metrics`, `alerts` and JSON logs: the real commands over a real home."""

import json
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.alerts_command import read_duration
from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import HOUR, floor_hour, format_hour, utc_now
from weather_dagster.locations import load_locations
from weather_dagster.simulator.faults import Fault
from weather_dagster.warehouse.duckdb import open_warehouse
from weather_dagster_tests.conftest import BIN, KEY, Provider, Weather, free_port, serving, without_settings
from weather_dagster_tests.warehouse.test_duckdb import hold, land, observation

pytestmark = pytest.mark.integration

PLACES = [place.id for place in load_locations()]
SECRET = "abcdef0123456789"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of the simulator in the folder where `weather` runs."""
    return tmp_path / ".weather" / "simulator"


def fill(home: Path, *, hours_ago: int, places: list[str] = PLACES) -> None:
    """Land an hour of observed weather."""
    hour = floor_hour(utc_now()) - hours_ago * HOUR
    with open_warehouse(home / "warehouse.duckdb") as store:
        land(store, [observation(hour, 10.0, place=place) for place in places])


def alert(home: Path, severity: Severity, place: str = "lyon") -> None:
    """A problem that lasts."""
    now = utc_now()
    with open_book(home / "alerts.sqlite") as book:
        book.apply([Report("run hourly_weather", now, (Problem(place, severity, "it broke [bold]"),))], now)


def refusal(result: "subprocess.CompletedProcess[str]") -> str:
    """The one message of a command that was refused."""
    text = " ".join(result.stderr.split())
    assert result.returncode == 1, result
    assert text.startswith("Error:"), text
    assert "Traceback" not in text
    return text


def test_status_of_a_fresh_store_is_healthy_and_names_every_place(weather: Weather, home: Path) -> None:
    fill(home, hours_ago=1)
    alert(home, Severity.WARN)
    result = weather("status")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "simulator at" in result.stdout
    assert ": healthy" in result.stdout
    assert all(place in result.stdout for place in PLACES)
    assert "it broke [bold]" in result.stdout
    assert "not running, so nothing is fetched by itself" in result.stdout
    told = json.loads(weather("status", "--json").stdout)
    assert (told["healthy"], told["faults"]) == (True, [])
    assert {place["location_id"] for place in told["places"]} == set(PLACES)


def test_status_of_an_old_store_names_the_places_that_are_old(weather: Weather, home: Path) -> None:
    fill(home, hours_ago=1, places=PLACES[1:])
    fill(home, hours_ago=30, places=PLACES[:1])
    result = weather("status")
    assert result.returncode == 1
    assert ": not healthy" in result.stdout
    assert re.search(rf"older than \d+ hours at {PLACES[0]}\n", result.stdout)


def test_status_with_an_error_that_lasts_is_not_healthy(weather: Weather, home: Path) -> None:
    fill(home, hours_ago=1)
    alert(home, Severity.ERROR)
    result = weather("status", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["faults"] == ["run hourly_weather lyon: it broke [bold]"]


def test_status_without_a_store_says_what_makes_one(weather: Weather) -> None:
    result = weather("status")
    assert result.returncode == 1
    assert "no warehouse at" in result.stdout
    assert "Traceback" not in result.stderr


def test_status_of_a_locked_store_says_who_holds_it_and_the_metrics_leave_it_out(weather: Weather, home: Path) -> None:
    fill(home, hours_ago=1)
    with hold(home / "warehouse.duckdb", 60) as holder:
        result = weather("status")
        figures = read(weather("metrics").stdout)
        holder.kill()
    assert result.returncode == 1
    assert f"PID {holder.pid}" in result.stdout
    assert figures["weather_store_readable"] == {(): 0}
    assert "weather_completeness_ratio" not in figures
    assert "weather_alerts_open" in figures


Figures = dict[str, dict[tuple[str, ...], float]]


def read(text: str) -> Figures:
    """Samples by name and label values, in the order of the labels' names, as a scraper reads the exposition format."""
    figures: Figures = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            figures.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = (
                sample.value
            )
    return figures


def test_metrics_are_told_on_the_screen_in_a_file_and_over_http(weather: Weather, home: Path, tmp_path: Path) -> None:
    hour = floor_hour(utc_now()) - HOUR
    assert weather("ingest", "--from", format_hour(hour), "--to", format_hour(hour)).returncode == 0
    alert(home, Severity.ERROR)
    shown = weather("metrics")
    assert shown.returncode == 0, shown.stderr
    figures = read(shown.stdout)
    assert figures["weather_store_readable"] == {(): 1}
    assert figures["weather_rows_landed_total"]["observations", "simulator"] == len(PLACES)
    assert sum(figures["weather_api_calls_total"].values()) > 0
    assert {outcome for outcome, _, _ in figures["weather_api_calls_total"]} == {"ok"}
    assert figures["weather_alerts_open"] == {("warn",): 0, ("error",): 1}
    assert figures["weather_newest_hour_timestamp_seconds"]["observations", "lyon"] == hour.timestamp()
    assert figures["weather_completeness_ratio"]["lyon", "24h"] == pytest.approx(1 / 24)
    assert figures["weather_daemon_up"] == {(): 0}

    assert weather("metrics", "--textfile", "weather.prom").returncode == 0
    assert read((tmp_path / "weather.prom").read_text(encoding="utf-8")).keys() == figures.keys()

    port = free_port()
    with subprocess.Popen(
        [BIN / "weather", "metrics", "--port", str(port)],
        cwd=tmp_path, env=without_settings(), stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        try:
            assert server.stdout
            assert f"http://127.0.0.1:{port}/metrics" in server.stdout.readline()
            scraped = httpx.get(f"http://127.0.0.1:{port}/metrics")
            taken = weather("metrics", "--port", str(port))
        finally:
            server.terminate()
    assert scraped.headers["content-type"].startswith("text/plain")
    assert read(scraped.text).keys() == figures.keys()
    assert f"cannot listen on 127.0.0.1:{port}" in refusal(taken)


def test_metrics_into_a_file_that_cannot_be_written_or_to_two_places_are_refused(weather: Weather) -> None:
    assert "none/weather.prom cannot be written" in refusal(weather("metrics", "--textfile", "none/weather.prom"))
    assert "exclude each other" in refusal(weather("metrics", "--textfile", "x", "--port", "9000"))


def test_json_logs_are_an_object_a_line_with_the_run_and_a_summary_of_each_dataset(
    weather: Weather, provider: Provider
) -> None:
    provider.faults.replace([Fault(kind="status", status=503, count=1)])
    hour = format_hour(floor_hour(utc_now()) - 2 * HOUR)
    result = weather("ingest", "--from", hour, "--to", hour, WEATHER_LOG_FORMAT="json", **provider.live)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    ours = [line for line in lines if line["name"].startswith("weather_dagster")]
    assert len({line["run_id"] for line in ours}) == 1
    (retried,) = (line for line in ours if line["levelname"] == "WARNING")
    assert "503" in retried["message"]
    assert "dataset" in retried
    summaries = {line["dataset"]: line for line in ours if "rows_added" in line}
    assert set(summaries) == {"observations", "forecasts", "air_quality"}
    told = summaries["observations"]
    assert (told["places"], told["rows_added"], told["quarantined"]) == (len(PLACES), len(PLACES), 0)
    assert told["calls"] >= 1
    assert hour in told["hours"]
    assert KEY not in result.stderr


def test_alerts_are_listed_and_silenced(weather: Weather, home: Path) -> None:
    assert "No problem lasts." in weather("alerts", "list").stdout
    alert(home, Severity.ERROR)
    assert "run hourly_weather" in weather("alerts", "list").stdout
    silenced = weather("alerts", "silence", "run *", "--for", "4h", "--reason", "being mended")
    assert silenced.returncode == 0, silenced.stderr
    assert "Silent until" in silenced.stdout
    told = json.loads(weather("alerts", "list", "--json").stdout)
    assert [each["source"] for each in told["alerts"]] == ["run hourly_weather"]
    assert [(each["pattern"], each["reason"]) for each in told["silences"]] == [("run *", "being mended")]
    assert "silent until" in weather("alerts", "list").stdout


def test_a_test_message_arrives_or_says_why_not_without_the_url(weather: Weather) -> None:
    received: list[int] = []

    async def take(_: object) -> Response:
        received.append(1)
        return Response()

    with serving(Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])) as port:
        good = f"json://127.0.0.1:{port}/{SECRET}"
        sent = weather("alerts", "test", WEATHER_ALERT_URLS=good)
        assert (sent.returncode, sent.stdout.strip()) == (0, "target 1 (json): delivered")
        half = weather("alerts", "test", WEATHER_ALERT_URLS=f"{good} json://127.0.0.1:{free_port()}/{SECRET}")
    assert len(received) == 2
    assert "target 2 (json) could not be reached" in refusal(half)
    assert SECRET not in half.stdout + half.stderr


def test_alerts_without_a_target_or_with_one_that_cannot_be_used_are_refused(weather: Weather) -> None:
    assert "WEATHER_ALERT_URLS is not set" in refusal(weather("alerts", "test"))
    told = refusal(weather("alerts", "test", WEATHER_ALERT_URLS=f"json://host/x nonsense-{SECRET}"))
    assert "entry 2 is no URL" in told
    assert SECRET not in told


@pytest.mark.parametrize("text", ["", "4", "h", "-4h", "0h", "4 h", "4w", "1.5h", "999999d"])
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"--for is {text!r}.*30m, 4h or 2d"):
        read_duration(text)


def test_durations_are_read() -> None:
    assert [read_duration(text) for text in ("30m", "4h", "2d")] == [
        timedelta(minutes=30), timedelta(hours=4), timedelta(days=2)
    ]  # fmt: skip


def test_a_silence_of_no_duration_is_refused_by_the_command(weather: Weather) -> None:
    assert "--for is 'soon'" in refusal(weather("alerts", "silence", "*", "--for", "soon"))
