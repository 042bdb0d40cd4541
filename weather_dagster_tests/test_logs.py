"""Log lines as people and as machines read them."""

import json
import logging

import pytest

from weather_dagster import logs


@pytest.fixture
def configured(monkeypatch):
    """``logs.configure`` on a root logger without handlers."""
    logger = logging.getLogger("weather_dagster")
    level = logger.level

    def configure(*, as_json: bool) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        logs.configure(as_json=as_json)

    yield configure
    logger.setLevel(level)


def test_a_json_line_has_instant_level_message_and_the_identifiers_it_was_logged_within(configured, capsys):
    configured(as_json=True)
    with logs.bound(run_id="run-1"), logs.bound(places="lyon"):
        logging.getLogger("weather_dagster.x").info("landed %d rows", 3, extra={"rows": 3})
    logging.getLogger("weather_dagster.x").warning("outside")
    inside, outside = map(json.loads, capsys.readouterr().err.splitlines())
    assert inside["message"] == "landed 3 rows"
    assert (inside["levelname"], inside["name"]) == ("INFO", "weather_dagster.x")
    assert (inside["run_id"], inside["places"], inside["rows"]) == ("run-1", "lyon", 3)
    assert inside["asctime"].endswith("+00:00")
    assert "run_id" not in outside


def test_people_see_warnings_alone_with_the_identifiers_behind_them(configured, capsys):
    configured(as_json=False)
    with logs.bound(run_id="run-1"):
        logging.getLogger("weather_dagster.x").info("not shown")
        logging.getLogger("weather_dagster.x").warning("shown")
    assert capsys.readouterr().err == "WARNING shown [run_id=run-1]\n"


def test_an_error_as_json_keeps_its_traceback_in_one_line(configured, capsys):
    configured(as_json=True)
    try:
        int("no way")
    except ValueError:
        logging.getLogger("weather_dagster.x").exception("it broke")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exc_info"]
