"""`weather status`, `metrics`, `alerts`, `backup` and JSON logs, as a person and a program use them."""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from weather_dagster.alerts.book import open_book
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.hours import HOUR, floor_hour, format_hour, utc_now
from weather_dagster_tests.conftest import Weather, serving

pytestmark = pytest.mark.integration

SIMULATOR = {"WEATHER_PROVIDER": "simulator"}


def ingest(weather: Weather, hours: int = 2, ago: int = 0, **settings: str):
    last = floor_hour(utc_now()) - ago * HOUR
    arguments = ("--from", format_hour(last - (hours - 1) * HOUR), "--to", format_hour(last))
    return weather("ingest", *arguments, **SIMULATOR, **settings)


def home(tmp_path: Path) -> Path:
    return tmp_path / ".weather" / "simulator"


def test_status_is_healthy_when_the_weather_is_there_and_the_exit_code_says_so(weather: Weather) -> None:
    assert ingest(weather).returncode == 0
    told = weather("status", **SIMULATOR)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "healthy" in told.stdout
    assert "longyearbyen" in told.stdout
    assert "not running" in told.stdout


def test_status_names_what_is_wrong_and_exits_with_1(weather: Weather, tmp_path: Path) -> None:
    assert weather("status", **SIMULATOR).returncode == 1
    ingest(weather, ago=12)
    with open_book(home(tmp_path) / "alerts.sqlite") as book:
        problem = Problem("lyon", Severity.ERROR, "the sky is falling")
        book.apply([Report("check x: y", utc_now(), (problem,))], utc_now())
    told = weather("status", **SIMULATOR)
    assert told.returncode == 1
    assert "not healthy" in told.stdout
    assert "older than 6 hours at lyon" in told.stdout
    assert "check x: y lyon: the sky is falling" in told.stdout
    as_json = json.loads(weather("status", "--json", **SIMULATOR).stdout)
    assert (as_json["healthy"], len(as_json["faults"]), len(as_json["places"])) == (False, 2, 10)


def test_metrics_are_what_prometheus_reads(weather: Weather, tmp_path: Path) -> None:
    ingest(weather)
    shown = weather("metrics", **SIMULATOR).stdout
    assert weather("metrics", "--textfile", "weather.prom", **SIMULATOR).returncode == 0
    for text in (shown, (tmp_path / "weather.prom").read_text()):
        families = {family.name: family for family in text_string_to_metric_families(text)}
        rows = {s.labels["dataset"]: s.value for s in families["weather_rows_landed"].samples}
        assert rows["observations"] == 20
        newest = families["weather_newest_hour_timestamp_seconds"].samples
        assert {s.value for s in newest} == {floor_hour(utc_now()).timestamp()}
        assert families["weather_store_readable"].samples[0].value == 1
        assert families["weather_daemon_up"].samples[0].value == 0
        assert {s.value for s in families["weather_alerts_open"].samples} == {0}


def test_metrics_without_a_store_say_so(weather: Weather) -> None:
    shown = weather("metrics", **SIMULATOR).stdout
    families = {family.name: family for family in text_string_to_metric_families(shown)}
    assert families["weather_store_readable"].samples[0].value == 0


def test_metrics_go_to_one_place(weather: Weather) -> None:
    told = weather("metrics", "--textfile", "x", "--port", "9100", **SIMULATOR)
    assert told.returncode == 1
    assert "exclude each other" in told.stderr


def test_json_logs_are_an_object_a_line_with_run_and_places(weather: Weather) -> None:
    told = ingest(weather, WEATHER_LOG_FORMAT="json")
    lines = [json.loads(line) for line in told.stderr.splitlines() if line.startswith("{")]
    summaries = {line["dataset"]: line for line in lines if line["name"] == "weather_dagster.ingest"}
    assert set(summaries) == {"observations", "forecasts", "air_quality"}
    assert summaries["observations"]["rows_added"] == 20
    assert summaries["observations"]["run_id"].startswith("ingest-")
    assert len(summaries["observations"]["places"]) == 10


def test_alerts_are_listed_silenced_and_tried(weather: Weather, tmp_path: Path) -> None:
    assert "No problem lasts" in weather("alerts", "list", **SIMULATOR).stdout
    with open_book(home(tmp_path) / "alerts.sqlite") as book:
        book.apply([Report("check x: y", utc_now(), (Problem("lyon", Severity.ERROR, "bad"),))], utc_now())
    assert "lyon" in weather("alerts", "list", **SIMULATOR).stdout
    silenced = weather("alerts", "silence", "check x*", "--for", "4h", **SIMULATOR)
    assert "check x: y lyon" in silenced.stdout
    assert "silent until" in weather("alerts", "list", **SIMULATOR).stdout
    (alert,) = json.loads(weather("alerts", "list", "--json", **SIMULATOR).stdout)["alerts"]
    assert (alert["subject"], alert["severity"]) == ("lyon", "error")

    taken: list[bytes] = []

    async def take(request) -> Response:
        taken.append(await request.body())
        return Response()

    with serving(Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])) as port:
        urls = f"json://127.0.0.1:{port}/secret-token error=json://127.0.0.1:9/other-token"
        tried = weather("alerts", "test", **SIMULATOR, WEATHER_ALERT_URLS=urls)
    assert tried.returncode == 1
    assert "target 1 (json): delivered" in tried.stdout
    assert "target 2 (json) could not be reached" in tried.stderr
    assert len(taken) == 1
    assert "token" not in tried.stdout + tried.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "told"),
    [
        (("alerts", "silence", "x", "--for", "soon"), {}, "--for is 'soon'"),
        (("alerts", "test"), {}, "WEATHER_ALERT_URLS is not set"),
        (("alerts", "test"), {"WEATHER_ALERT_URLS": "nonsense-token"}, "entry 1 is no URL"),
        (("alerts", "list"), {"WEATHER_LOG_FORMAT": "xml"}, "known names: text, json"),
        (("restore", "nowhere"), {}, "is no backup"),
        (("backup",), {}, "nothing to back up"),
    ],
)
def test_a_mistake_ends_in_one_message(weather: Weather, arguments, settings, told) -> None:
    ended = weather(*arguments, **SIMULATOR, **settings)
    assert ended.returncode == 1
    assert told in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert "nonsense-token" not in ended.stderr


def test_a_home_is_copied_and_brought_back(weather: Weather, tmp_path: Path) -> None:
    ingest(weather)
    assert weather("backup", "--to", "copy", **SIMULATOR).returncode == 0
    restored = weather("restore", "copy", **SIMULATOR, WEATHER_HOME="other")
    assert restored.returncode == 0, restored.stderr
    assert weather("status", **SIMULATOR, WEATHER_HOME="other").returncode == 0
    assert "is not empty" in weather("restore", "copy", **SIMULATOR).stderr
