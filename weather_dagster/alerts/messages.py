"""What people read: one message for what opened, ended or lasted together, of bounded length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING
from uuid import uuid4

from weather_dagster.alerts.reports import Severity

if TYPE_CHECKING:
    from weather_dagster.alerts.book import Alert

MAX_TITLE = 120
MAX_BODY = 2000
"""Chat services cut or refuse longer messages: Discord's limit is the lowest of the common ones."""


class Kind(StrEnum):
    """Why a message is sent."""

    OPENED = "opened"
    RECOVERED = "recovered"
    SUMMARY = "summary"


@dataclass(frozen=True)
class Message:
    """A message to people."""

    message_id: str
    kind: Kind
    severity: Severity
    title: str
    body: str


def opening(alerts: Sequence["Alert"], ui_url: str) -> Message:
    """That these problems began, together."""
    severity = Severity.ERROR if any(a.severity is Severity.ERROR for a in alerts) else Severity.WARN
    return _message(Kind.OPENED, severity, severity.upper(), alerts, [*_problems(alerts), *_links(alerts, ui_url)])


def recovery(alerts: Sequence["Alert"], severity: Severity, now: datetime) -> Message:
    """That these problems are over."""
    lines = [
        f"{_name(alert)}: over after {_span(alert.opened_at, alert.resolved_at or now)}{_found(alert)}"
        for alert in alerts
    ]
    words = {alert.over for alert in alerts}
    return _message(Kind.RECOVERED, severity, words.pop() if len(words) == 1 else "Over", alerts, lines)


def summary(alerts: Sequence["Alert"], severity: Severity, ui_url: str, now: datetime) -> Message:
    """That these problems last."""
    lines = [
        f"{_name(alert)}: since {alert.opened_at:%Y-%m-%dT%H:%MZ} ({_span(alert.opened_at, now)}){_found(alert)}; "
        f"last: {alert.text}"
        for alert in alerts
    ]
    return _message(Kind.SUMMARY, severity, f"Still {severity.upper()}", alerts, [*lines, *_links(alerts, ui_url)])


def _message(kind: Kind, severity: Severity, word: str, alerts: Sequence["Alert"], lines: Sequence[str]) -> Message:
    sources = list(dict.fromkeys(alert.source for alert in alerts))
    subjects = [alert.subject for alert in alerts if alert.subject]
    places = list(dict.fromkeys(subjects))
    what = sources[0] if len(sources) == 1 else f"{len(sources)} problems, first {sources[0]}"
    where = f" ({', '.join(places)})" if places else ""
    return Message(str(uuid4()), kind, severity, _cut(f"{word}: {what}{where}", MAX_TITLE), _bounded(lines))


def _problems(alerts: Sequence["Alert"]) -> Iterator[str]:
    for source, group in groupby(alerts, key=lambda alert: alert.source):
        together = list(group)
        yield source + (f" – {together[0].explains}" if together[0].explains else "")
        for alert in together:
            yield f"  {alert.subject + ': ' if alert.subject else ''}{alert.text}"


def _links(alerts: Sequence["Alert"], ui_url: str) -> list[str]:
    runs = dict.fromkeys(alert.run_id for alert in alerts if alert.run_id)
    return [f"{ui_url.rstrip('/')}/runs/{run_id}" for run_id in list(runs)[:3]]


def _name(alert: "Alert") -> str:
    return alert.source + (f" ({alert.subject})" if alert.subject else "")


def _found(alert: "Alert") -> str:
    """How often; of a state that is looked at all the time nothing is counted."""
    return f", found {alert.times:,} times" if alert.times > 1 else ""


def _span(since: datetime, until: datetime) -> str:
    minutes = max(0, int((until - since).total_seconds() // 60))
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _bounded(lines: Sequence[str]) -> str:
    """The lines that fit; the last ones, which link to the runs, always do."""
    links = [line for line in lines if "/runs/" in line and line.startswith("http")]
    told = [line for line in lines if line not in links]
    room = MAX_BODY - sum(len(link) + 1 for link in links) - len("and 9,999 more lines\n")
    kept: list[str] = []
    for line in told:
        cut = _cut(line, 400)
        if room < len(cut) + 1:
            kept.append(f"and {len(told) - len(kept):,} more lines")
            break
        kept.append(cut)
        room -= len(cut) + 1
    return "\n".join([*kept, *links])


def _cut(text: str, length: int) -> str:
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= length else line[: length - 1] + "…"
