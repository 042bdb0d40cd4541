"""Delivery over real HTTP: at least once, in order, not twice, and without a word of the URLs."""

import asyncio
import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from weather_dagster.alerts.book import AlertBook, State, open_book
from weather_dagster.alerts.delivery import LONGEST_SEND, deliver, log, read_targets, send, usable_targets
from weather_dagster.alerts.messages import Kind, Message
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.errors import ConfigurationError
from weather_dagster_tests.conftest import free_port, serving

NOW = datetime(2026, 11, 25, 14, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TOKEN = "abcdef0123456789"


@dataclass
class Receiver:
    """Where alerts arrive; ``status`` is what it answers, after ``delay`` seconds."""

    port: int = 0
    status: int = 200
    delay: float = 0
    received: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{TOKEN}"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.received]

    async def take(self, request: Request) -> Response:
        body = await request.json()
        if self.status == 200:
            self.received.append(body)
        await asyncio.sleep(self.delay)
        return Response(status_code=self.status)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with serving(Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])) as port:
        receiver.port = port
        yield receiver


@pytest.fixture
def book(tmp_path: Path) -> Iterator[AlertBook]:
    with open_book(tmp_path / "alerts.sqlite") as book:
        yield book


def compose(book: AlertBook, receiver: Receiver, *sources: str, at: datetime = NOW) -> list[Message]:
    targets = [(target.key, target.severity) for target in read_targets(SecretStr(receiver.url))]
    book.apply([Report(source, at, (Problem("lyon", Severity.ERROR, "bad"),)) for source in sources], at)
    return book.compose(targets, timedelta(hours=6), "", at)


def deliver_to(book: AlertBook, receiver: Receiver, at: datetime, seconds: float = 30) -> None:
    deliver(book, read_targets(SecretStr(receiver.url)), at, seconds=seconds)


def test_a_message_arrives_once_with_title_body_and_kind(book, receiver):
    (message,) = compose(book, receiver, "one")
    deliver_to(book, receiver, NOW)
    deliver_to(book, receiver, NOW + MINUTE)
    (arrived,) = receiver.received
    assert (arrived["title"], arrived["message"], arrived["type"]) == (message.title, message.body, "failure")
    assert book.deliveries() == {State.SENT: 1}


def test_a_receiver_that_is_down_for_ten_minutes_gets_everything_afterwards_once_and_in_order(book, receiver):
    receiver.status = 503
    for minute in range(11):
        compose(book, receiver, f"source-{minute:02}", at=NOW + minute * MINUTE)
        deliver_to(book, receiver, NOW + minute * MINUTE)
    receiver.status = 200
    for minute in range(11, 25):
        deliver_to(book, receiver, NOW + minute * MINUTE)
    assert receiver.titles == [f"ERROR: source-{minute:02} (lyon)" for minute in range(11)]


def test_nobody_listening_is_a_failure_like_any_other(book, receiver):
    port, receiver.port = receiver.port, free_port()
    compose(book, receiver, "one")
    url = receiver.url
    deliver(book, read_targets(SecretStr(url)), NOW, seconds=30)
    assert book.deliveries() == {State.PENDING: 1}
    receiver.port = port


def test_a_day_without_success_gives_a_message_up_with_an_error_in_the_log(book, receiver, caplog):
    receiver.status = 500
    compose(book, receiver, "one")
    deliver_to(book, receiver, NOW + timedelta(days=1))
    assert book.deliveries() == {State.FAILED: 1}
    assert "given up" in caplog.text


def test_a_target_that_fails_does_not_hold_up_another(book, receiver):
    broken = f"json://127.0.0.1:{free_port()}/x"
    targets = read_targets(SecretStr(f"{broken} {receiver.url}"))
    book.apply([Report("one", NOW, (Problem("", Severity.WARN, "bad"),))], NOW)
    book.compose([(target.key, None) for target in targets], timedelta(hours=6), "", NOW)
    deliver(book, targets, NOW, seconds=30)
    assert receiver.titles == ["WARN: one"]
    assert book.deliveries() == {State.SENT: 1, State.PENDING: 1}


def test_time_that_is_used_up_leaves_the_rest_for_the_next_time(book, receiver):
    receiver.delay = 0.2
    compose(book, receiver, "one", "two", "three")
    deliver_to(book, receiver, NOW, seconds=0.1)
    assert len(receiver.received) == 1
    deliver_to(book, receiver, NOW)
    assert sorted(receiver.titles) == [f"ERROR: {name} (lyon)" for name in ("one", "three", "two")]


@pytest.mark.integration
def test_a_sender_that_is_killed_while_the_receiver_holds_the_message_does_not_send_it_twice(book, receiver, tmp_path):
    receiver.delay = 30
    compose(book, receiver, "one")
    program = f"""
        from datetime import datetime, UTC
        from pathlib import Path
        from pydantic import SecretStr
        from weather_dagster.alerts.book import open_book
        from weather_dagster.alerts.delivery import deliver, read_targets
        with open_book(Path({str(tmp_path / "alerts.sqlite")!r})) as book:
            now = datetime.fromtimestamp({NOW.timestamp()}, UTC)
            deliver(book, read_targets(SecretStr({receiver.url!r})), now, seconds=60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)])
    deadline = time.monotonic() + 60
    while not receiver.received:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    receiver.delay = 0
    assert book.deliveries() == {State.SENDING: 1}
    for minute in range(0, 300, 5):
        deliver_to(book, receiver, NOW + minute * MINUTE)
    assert len(receiver.received) == 1
    assert book.deliveries() == {State.UNKNOWN: 1}
    book.compose([], timedelta(hours=6), "", NOW + 360 * MINUTE)
    deliver_to(book, receiver, NOW + 365 * MINUTE)
    assert len(receiver.received) == 1, "still within the window of the time it was found out"
    book.compose([], timedelta(hours=6), "", NOW + 720 * MINUTE)
    deliver_to(book, receiver, NOW + 725 * MINUTE)
    assert len(receiver.received) == 2, "it may not have arrived"
    assert book.deliveries() == {State.SENT: 1}


def test_two_senders_at_once_send_a_message_once(book, receiver):
    compose(book, receiver, "one")
    target = read_targets(SecretStr(receiver.url))[0]
    (delivery,) = book.due(target.key, NOW, 5)
    (same,) = book.due(target.key, NOW, 5)
    assert [book.claim(delivery, NOW), book.claim(same, NOW)] == [True, False]
    deliver_to(book, receiver, NOW + LONGEST_SEND - MINUTE)
    assert receiver.received == []
    assert book.deliveries() == {State.SENDING: 1}


@pytest.mark.parametrize("fault", ["refused", "nobody", "unknown host"])
def test_what_is_said_of_a_failure_has_no_part_of_the_url(receiver, fault, caplog, capfd):
    receiver.status = 403
    host = {"refused": f"127.0.0.1:{receiver.port}", "nobody": f"127.0.0.1:{free_port()}", "unknown host": "no.invalid"}
    (target,) = read_targets(SecretStr(f"json://person:{TOKEN}@{host[fault]}/{TOKEN}?-token={TOKEN}"))
    reason = send(target, Message("m", Kind.OPENED, Severity.WARN, "title", "body"))
    assert reason
    assert str(target) == "target 1 (json)"
    assert TOKEN not in reason + repr(target) + caplog.text + "".join(capfd.readouterr())


def test_an_entry_that_is_no_url_is_named_by_its_place_alone():
    with pytest.raises(ConfigurationError, match="entry 2 is no URL") as told:
        read_targets(SecretStr(f"json://ok nonsense-{TOKEN}"))
    assert TOKEN not in str(told.value)


def test_an_entry_of_two_services_is_refused_since_one_that_fails_would_repeat_the_other():
    with pytest.raises(ConfigurationError, match="entry 1 is no URL of one service"):
        read_targets(SecretStr("json://one/x,json://two/y"))


def test_one_bad_entry_leaves_the_others_usable():
    targets, faults = usable_targets(SecretStr("nonsense json://ok"))
    assert [str(target) for target in targets] == ["target 2 (json)"]
    assert ["entry 1" in str(fault) for fault in faults] == [True]


def test_a_short_password_is_hidden_like_a_long_one():
    (target,) = read_targets(SecretStr("json://me:error@no.invalid/hook"))
    reason = send(target, Message("m", Kind.OPENED, Severity.WARN, "title", "body"))
    assert reason
    assert "error" not in reason, "a word that the service itself says"


def test_entries_may_be_for_one_severity():
    severities = [t.severity for t in read_targets(SecretStr("error=json://a\n  warn=json://b json://c"))]
    assert severities == [Severity.ERROR, Severity.WARN, None]


def test_each_message_is_a_line_of_the_log_also_without_any_target(book, caplog):
    book.apply([Report("one", NOW, (Problem("lyon", Severity.ERROR, "bad"),))], NOW)
    with caplog.at_level(logging.INFO, "weather_dagster.alerts"):
        log(book.compose([], timedelta(hours=6), "", NOW))
    (record,) = caplog.records
    assert (record.levelname, record.message) == ("ERROR", "ERROR: one (lyon)\none\n  lyon: bad")


@pytest.mark.integration
def test_a_service_that_takes_its_time_to_answer_has_taken_the_message(book, receiver):
    receiver.delay = 6
    compose(book, receiver, "one")
    deliver_to(book, receiver, NOW)
    deliver_to(book, receiver, NOW + 5 * MINUTE)
    assert len(receiver.received) == 1
    assert book.deliveries() == {State.SENT: 1}
