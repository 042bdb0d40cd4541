"""The alert book: which problems last, what people were told of them, and what is still to be delivered.

An alert is one problem of one source and subject from its beginning to its end. What opens or ends together is one
message; what lasts is told once more in a summary per window; a message has one delivery for each target. Several
processes may use it at once.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from weather_dagster.alerts.messages import Kind, Message, opening, recovery, summary
from weather_dagster.alerts.reports import Report, Severity
from weather_dagster.hours import floor_hour
from weather_dagster.state import Database, Instant, Place, Text, open_database

NAME = "the alert book"
MAX_TEXT = 500
"""Characters of a problem's text that are kept."""

_metadata = sa.MetaData()


class _Texts(sa.TypeDecorator[Sequence[str]]):
    """Several texts, as JSON."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Sequence[str] | None, dialect: sa.Dialect) -> str:
        return json.dumps(list(value or ()))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Sequence[str]:
        return tuple(json.loads(value or "[]"))


_alerts = sa.Table(
    "alerts",
    _metadata,
    sa.Column("alert_id", sa.String(36), primary_key=True),
    sa.Column("source", Text, nullable=False),
    sa.Column("subject", Text, nullable=False),
    sa.Column("severity", sa.String(8), nullable=False),
    sa.Column("text", Text, nullable=False),
    sa.Column("explains", Text, nullable=False),
    sa.Column("muted_by", _Texts, nullable=False),
    sa.Column("is_event", sa.Boolean, nullable=False),
    sa.Column("over", Text, nullable=False),
    sa.Column("run_id", sa.String(36)),
    sa.Column("last_hour", Instant),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("resolved_at", Instant, index=True),
    sa.Column("announced_at", Instant),
    sa.Column("announced_severity", sa.String(8)),
    sa.Column("is_closed", sa.Boolean, nullable=False),
)
_messages = sa.Table(
    "messages",
    _metadata,
    sa.Column("message_id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("severity", sa.String(8), nullable=False),
    sa.Column("title", Text, nullable=False),
    sa.Column("body", Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
)
_deliveries = sa.Table(
    "deliveries",
    _metadata,
    sa.Column("message_id", sa.String(36), primary_key=True),
    sa.Column("target", sa.String(32), primary_key=True),
    sa.Column("state", sa.String(8), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_try_at", Instant, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("error", Text),
)
_silences = sa.Table(
    "silences",
    _metadata,
    sa.Column("pattern", Text, primary_key=True),
    sa.Column("until", Instant, nullable=False),
    sa.Column("reason", Text, nullable=False),
)
_references = sa.Table(
    "seen_references",
    _metadata,
    sa.Column("reference", sa.String(32), primary_key=True),
    sa.Column("seen_at", Instant, nullable=False),
)


_NOTED = ("opened_at", "seen_at", "resolved_at", "announced_at")
"""When an alert changed."""


class State(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    UNKNOWN = "unknown"
    """Whoever sent it was stopped meanwhile: it may have arrived, so it is not sent again within the window."""
    FAILED = "failed"


@dataclass(frozen=True)
class Alert:
    """A problem from its beginning to its end."""

    alert_id: str
    source: str
    subject: str
    severity: Severity
    text: str
    explains: str
    muted_by: Sequence[str]
    is_event: bool
    over: str
    run_id: str | None
    last_hour: datetime | None
    """The latest hour that it was seen in."""
    opened_at: datetime
    seen_at: datetime
    times: int
    """How often it was found: the checks or runs that found it, the first included."""
    resolved_at: datetime | None
    announced_at: datetime | None
    """When people were last told that it lasts."""
    announced_severity: Severity | None
    """That of the message which told of it: the worst of what it told."""
    is_closed: bool
    """Nothing more is to be said of it."""

    @property
    def fingerprint(self) -> str:
        """What tells it from others: source and subject."""
        return f"{self.source} {self.subject}".strip()

    def matches(self, pattern: str) -> bool:
        """Whether a pattern with ``*`` and ``?`` means it, by fingerprint or source."""
        return fnmatchcase(self.fingerprint, pattern) or fnmatchcase(self.source, pattern)


@dataclass(frozen=True)
class Silence:
    """Alerts that nobody is told of for a while."""

    pattern: str
    until: datetime
    reason: str


@dataclass(frozen=True)
class Delivery:
    """A message on its way to a target."""

    message: Message
    target: str
    attempts: int
    created_at: datetime


class AlertBook:
    """An open alert book. Get one from ``open_book``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def apply(self, reports: Iterable[Report], now: datetime) -> None:
        """Open, count and end alerts after what was found. Reports that were applied before change nothing."""
        with self._database.transaction() as connection:
            _bring_back(connection, now)
            for report in sorted(reports, key=lambda report: report.at):
                if not report.reference or _is_new(connection, f"{report.source} {report.reference}", now):
                    _apply(connection, report)

    def compose(
        self, targets: Sequence[tuple[str, Severity | None]], window: timedelta, ui_url: str, now: datetime
    ) -> list[Message]:
        """Put what people are to hear now into the outbox, and return it.

        Args:
            targets: key of each target, and the severity that it is for; None for all.
            window: what lasts is told again after so long.
            ui_url: where Dagster's UI is, for links to runs.
        """
        with self._database.transaction() as connection:
            _bring_back(connection, now)
            alerts = _read(connection, sa.not_(_alerts.c.is_closed))
            silences = _read_silences(connection, now)
            heard = [a for a in alerts if not any(a.matches(silence.pattern) for silence in silences)]
            # Who hears of errors alone has not heard of a cause that is a warning.
            needs_errors = any(severity is Severity.ERROR for _, severity in targets)
            _send_again(connection, now - window, now)
            news = [alert for alert in heard if not _is_muted(alert, alerts, needs_errors=needs_errors)]
            composed = [
                *_openings(connection, news, ui_url, now),
                *_recoveries(connection, alerts, silences, now),
                *_summaries(connection, heard, window, ui_url, now),
            ]
            for position, message in enumerate(composed):
                connection.execute(
                    sa.insert(_messages).values(
                        message_id=message.message_id,
                        kind=message.kind,
                        severity=message.severity,
                        title=message.title,
                        body=message.body,
                        created_at=now,
                        position=position,
                    )
                )
                # A target that is named twice hears of everything once.
                for key in {key for key, severity in targets if severity in (None, message.severity)}:
                    connection.execute(
                        sa.insert(_deliveries).values(
                            message_id=message.message_id,
                            target=key,
                            state=State.PENDING,
                            attempts=0,
                            next_try_at=now,
                            changed_at=now,
                        )
                    )
        return composed

    def alerts(self, *, open_only: bool) -> list[Alert]:
        """Newest first."""
        with self._database.statements() as connection:
            condition = _alerts.c.resolved_at.is_(None) if open_only else sa.true()
            return sorted(_read(connection, condition), key=lambda alert: alert.opened_at, reverse=True)

    def silence(self, pattern: str, until: datetime, reason: str) -> None:
        """Tell nobody of alerts that match, until an instant (aware); the pattern given again replaces the former."""
        with self._database.transaction() as connection:
            connection.execute(sa.delete(_silences).where(_silences.c.pattern == pattern))
            connection.execute(sa.insert(_silences).values(pattern=pattern, until=until, reason=reason))

    def silences(self, now: datetime) -> list[Silence]:
        """Those that hold."""
        with self._database.statements() as connection:
            return _read_silences(connection, now)

    def due(self, target: str, now: datetime, limit: int) -> list[Delivery]:
        """What is to be sent to a target now, in the order in which it was composed.

        A message that failed holds up the later ones of its target, so that none overtakes it.
        """
        waiting = (
            sa.select(_messages, _deliveries.c.attempts, _deliveries.c.next_try_at)
            .join(_deliveries, _deliveries.c.message_id == _messages.c.message_id)
            .where(_deliveries.c.target == target, _deliveries.c.state == State.PENDING)
            .order_by(_messages.c.created_at, _messages.c.position)
            .limit(limit)
        )
        with self._database.statements() as connection:
            rows = connection.execute(waiting).all()
        due = []
        for row in rows:
            if row.next_try_at > now:
                break
            message = Message(row.message_id, Kind(row.kind), Severity(row.severity), row.title, row.body)
            due.append(Delivery(message, target, row.attempts, row.created_at))
        return due

    def claim(self, delivery: Delivery, now: datetime) -> bool:
        """Take a delivery before it is sent; False when another process has it."""
        return self._move(delivery, State.PENDING, state=State.SENDING, changed_at=now, attempts=delivery.attempts + 1)

    def settle(self, delivery: Delivery, now: datetime, *, error: str | None, next_try_at: datetime | None) -> None:
        """Note how a claimed delivery ended: sent without an error; else to be tried again, or given up with None."""
        state = State.SENT if error is None else State.PENDING if next_try_at else State.FAILED
        self._move(delivery, State.SENDING, state=state, changed_at=now, error=error, next_try_at=next_try_at or now)

    def _move(self, delivery: Delivery, former: State, **values: Any) -> bool:
        is_it = sa.and_(
            _deliveries.c.message_id == delivery.message.message_id,
            _deliveries.c.target == delivery.target,
            _deliveries.c.state == former,
        )
        with self._database.transaction() as connection:
            return connection.execute(sa.update(_deliveries).where(is_it).values(**values)).rowcount == 1

    def forget_interrupted(self, before: datetime, now: datetime) -> int:
        """Call unknown what was being sent since before an instant: whoever sent it is gone. How many there were."""
        stale = sa.and_(_deliveries.c.state == State.SENDING, _deliveries.c.changed_at < before)
        with self._database.transaction() as connection:
            moved = connection.execute(sa.update(_deliveries).where(stale).values(state=State.UNKNOWN, changed_at=now))
            return moved.rowcount

    def deliveries(self) -> dict[State, int]:
        """How many deliveries stand where."""
        counted = sa.select(_deliveries.c.state, sa.func.count()).group_by(_deliveries.c.state)
        with self._database.statements() as connection:
            rows: Sequence[Any] = connection.execute(counted).all()
        return {State(state): count for state, count in rows}

    def prune(self, before: datetime) -> int:
        """Forget ended alerts, messages and references from before an instant (aware); how many alerts."""
        old_messages = sa.select(_messages.c.message_id).where(_messages.c.created_at < before)
        with self._database.transaction() as connection:
            connection.execute(sa.delete(_deliveries).where(_deliveries.c.message_id.in_(old_messages)))
            connection.execute(sa.delete(_messages).where(_messages.c.created_at < before))
            connection.execute(sa.delete(_references).where(_references.c.seen_at < before))
            connection.execute(sa.delete(_silences).where(_silences.c.until < before))
            ended = sa.and_(_alerts.c.is_closed, _alerts.c.resolved_at < before)
            return connection.execute(sa.delete(_alerts).where(ended)).rowcount


@contextmanager
def open_book(place: Place, *, read_only: bool = False) -> Iterator[AlertBook]:
    """Open the alert book.

    Args:
        read_only: to make nothing; where there is none yet, an empty one is read.

    Raises:
        ConfigurationError: it cannot be kept; also of the book's methods.
    """
    with open_database(place, _metadata, NAME, read_only=read_only) as database:
        yield AlertBook(database)


def _bring_back(connection: sa.Connection, now: datetime) -> None:
    """Let what a clock that was put back since has noted in the future have happened now.

    Until the clock is there again nobody would hear that it lasts, that it is over, or of what waits to be sent. A
    silence stays: its end is what a person was told.
    """
    for column in (*(_alerts.c[name] for name in _NOTED), _references.c.seen_at):
        connection.execute(sa.update(column.table).where(column > now).values({column: now}))
    running = floor_hour(now)
    connection.execute(sa.update(_alerts).where(_alerts.c.last_hour > running).values(last_hour=running))
    messages = sa.select(_messages.c.message_id).where(_messages.c.created_at > now)
    ahead: Sequence[str] = connection.scalars(messages.order_by(_messages.c.created_at, _messages.c.position)).all()
    # In their order, and before what is composed now.
    for position, message_id in enumerate(ahead, -len(ahead)):
        is_it = _messages.c.message_id == message_id
        connection.execute(sa.update(_messages).where(is_it).values(created_at=now, position=position))
    for row in connection.execute(sa.select(_deliveries).where(_deliveries.c.changed_at > now)).all():
        is_it = sa.and_(_deliveries.c.message_id == row.message_id, _deliveries.c.target == row.target)
        next_try_at = now + (row.next_try_at - row.changed_at)
        connection.execute(sa.update(_deliveries).where(is_it).values(changed_at=now, next_try_at=next_try_at))


def _is_new(connection: sa.Connection, reference: str, now: datetime) -> bool:
    digest = hashlib.blake2b(reference.encode(), digest_size=16).hexdigest()
    if connection.execute(sa.select(_references).where(_references.c.reference == digest)).first():
        return False
    connection.execute(sa.insert(_references).values(reference=digest, seen_at=now))
    return True


def _read(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Alert]:
    found = connection.execute(sa.select(_alerts).where(condition).order_by(_alerts.c.source, _alerts.c.subject))
    return [
        Alert(
            **{
                **row,
                "severity": Severity(row["severity"]),
                "announced_severity": row["announced_severity"] and Severity(row["announced_severity"]),
            }
        )
        for row in found.mappings()
    ]


def _read_silences(connection: sa.Connection, now: datetime) -> list[Silence]:
    holding = sa.select(_silences).where(_silences.c.until > now).order_by(_silences.c.pattern)
    return [Silence(**row) for row in connection.execute(holding).mappings()]


def _update(connection: sa.Connection, alerts: Iterable[Alert], **values: Any) -> None:
    ids = [alert.alert_id for alert in alerts]
    for start in range(0, len(ids), 500):
        connection.execute(sa.update(_alerts).where(_alerts.c.alert_id.in_(ids[start : start + 500])).values(**values))


def _apply(connection: sa.Connection, report: Report) -> None:
    lasting = _read(connection, sa.and_(_alerts.c.source == report.source, _alerts.c.resolved_at.is_(None)))
    known = {alert.subject: alert for alert in lasting}
    last_hour = report.hours.last if report.hours else None
    problems = {problem.subject: problem for problem in report.problems}
    for subject, problem in problems.items():
        alert = known.get(subject)
        if alert is None and report.is_retry:
            continue
        if alert is None:
            connection.execute(
                sa.insert(_alerts).values(
                    alert_id=str(uuid4()), source=report.source, subject=subject, severity=problem.severity,
                    text=problem.text[:MAX_TEXT], explains=report.explains, muted_by=report.muted_by,
                    is_event=report.is_event, over=report.over, run_id=report.run_id, last_hour=last_hour,
                    opened_at=report.at, seen_at=report.at, times=1,
                    is_closed=False,
                )
            )  # fmt: skip
            continue
        counted: dict[str, Any] = {"times": alert.times + bool(report.reference)}
        if report.at >= alert.seen_at and not report.is_retry and not _is_of_earlier_hours(report, alert):
            severity = alert.severity if report.subjects else problem.severity
            counted |= {
                "severity": severity, "text": problem.text[:MAX_TEXT], "explains": report.explains,
                "run_id": report.run_id, "last_hour": last_hour, "seen_at": report.at,
            }  # fmt: skip
        _update(connection, [alert], **counted)
    ended = [
        alert
        for alert in lasting
        if alert.subject not in problems and report.at >= alert.seen_at and _can_end(report, alert)
    ]
    _update(connection, ended, resolved_at=report.at)


def _can_end(report: Report, alert: Alert) -> bool:
    was_looked_at = not report.subjects or alert.subject in report.subjects
    return was_looked_at and not report.is_retry and not _is_of_earlier_hours(report, alert)


def _is_of_earlier_hours(report: Report, alert: Alert) -> bool:
    return bool(report.hours and alert.last_hour and report.hours.last < alert.last_hour)


def _is_muted(alert: Alert, alerts: Sequence[Alert], *, needs_errors: bool) -> bool:
    """Whether people know of its cause: at the same place, or of one that has no places."""
    return any(
        other.announced_at
        and not other.resolved_at
        and other.subject in ("", alert.subject)
        and (_rank(other.announced_severity) >= _rank(alert.severity) or not needs_errors)
        for other in alerts
        if any(other.matches(pattern) for pattern in alert.muted_by)
    )


def _rank(severity: Severity | None) -> int:
    return -1 if severity is None else list(Severity).index(severity)


def _openings(connection: sa.Connection, alerts: Sequence[Alert], ui_url: str, now: datetime) -> Iterator[Message]:
    """What nobody has heard of yet, or that it became worse. What one run, or one look at a state, found is one
    message."""
    fresh = [a for a in alerts if not a.resolved_at and _rank(a.severity) > _rank(a.announced_severity)]
    for _, group in groupby(sorted(fresh, key=_together), key=_together):
        together = list(group)
        message = opening(together, ui_url)
        # That of the message: whoever got it gets what comes of all of them, again as one message.
        _update(connection, together, announced_at=now, announced_severity=message.severity)
        _update(connection, (alert for alert in together if alert.is_event), resolved_at=now, is_closed=True)
        yield message


def _send_again(connection: sa.Connection, before: datetime, now: datetime) -> None:
    """Deliver once more what may not have arrived, when the window in which nothing is doubled is over."""
    old = sa.and_(_deliveries.c.state == State.UNKNOWN, _deliveries.c.changed_at <= before)
    connection.execute(sa.update(_deliveries).where(old).values(state=State.PENDING, next_try_at=now, changed_at=now))


def _together(alert: Alert) -> tuple[str, str]:
    return ("run", alert.run_id) if alert.run_id else ("state", alert.source.partition(" ")[0])


def _recoveries(
    connection: sa.Connection, alerts: Sequence[Alert], silences: Sequence[Silence], now: datetime
) -> Iterator[Message]:
    """What has ended: told when its beginning was told, and it is not silenced. One message for all of it."""
    ended = [alert for alert in alerts if alert.resolved_at]
    _update(connection, ended, is_closed=True)
    told = [a for a in ended if a.announced_at and not any(a.matches(silence.pattern) for silence in silences)]
    for severity in Severity:
        if same := [alert for alert in told if alert.announced_severity is severity]:
            yield recovery(same, severity, now)


def _summaries(
    connection: sa.Connection, alerts: Sequence[Alert], window: timedelta, ui_url: str, now: datetime
) -> Iterator[Message]:
    """One message over all that people know of and that lasts, once the oldest word of any of it is a window old."""
    told = [alert for alert in alerts if alert.announced_at and not alert.resolved_at]
    if any(alert.announced_at and now - alert.announced_at >= window for alert in told):
        _update(connection, told, announced_at=now)
        for severity in Severity:
            if same := [alert for alert in told if alert.announced_severity is severity]:
                yield summary(same, severity, ui_url, now)
