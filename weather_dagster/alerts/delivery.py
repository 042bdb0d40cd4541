"""Delivery of messages through Apprise, at least once and, as far as that can be known, not twice.

A delivery is claimed in a transaction of its own right before it is sent. One that failed is tried again, for a day;
one whose sender was stopped meanwhile may have arrived and is sent again when the window is over.
"""

import hashlib
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

import apprise
from pydantic import SecretStr

from weather_dagster.alerts.book import AlertBook
from weather_dagster.alerts.messages import Kind, Message
from weather_dagster.alerts.reports import Severity
from weather_dagster.errors import ConfigurationError

FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=10)
GIVEN_UP_AFTER = timedelta(days=1)
LONGEST_SEND = timedelta(minutes=2)
"""A service has some seconds to answer: what is still being sent then has lost its sender."""
ANSWER_SECONDS = 15.0
"""How long a service may take to answer: Apprise's own 4 seconds would send again what a slow one has taken."""
MESSAGES_A_CALL = 20
HIDDEN = "***"
SHORTEST_SECRET = 6
"""Parts of a URL of fewer characters are words like ``json`` or ``v2``."""

_logger = logging.getLogger("weather_dagster.alerts")
# Its lines name the URLs, and with them the tokens.
logging.getLogger("apprise").propagate = False
_NOTIFY_TYPES = {
    (Kind.OPENED, Severity.ERROR): apprise.NotifyType.FAILURE,
    (Kind.OPENED, Severity.WARN): apprise.NotifyType.WARNING,
    (Kind.SUMMARY, Severity.ERROR): apprise.NotifyType.FAILURE,
    (Kind.SUMMARY, Severity.WARN): apprise.NotifyType.WARNING,
}


@dataclass(frozen=True)
class Target:
    """Where messages go."""

    url: SecretStr
    position: int
    """In WEATHER_ALERT_URLS, from 1: what people are told instead of the URL."""
    severity: Severity | None
    """Only messages of this severity; None for all."""

    @property
    def key(self) -> str:
        """Tells targets apart without telling the URL."""
        return hashlib.blake2b(self.url.get_secret_value().encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        scheme = self.url.get_secret_value().partition("://")[0]
        return f"target {self.position} ({scheme})"


def read_targets(urls: SecretStr | None) -> list[Target]:
    """The targets of WEATHER_ALERT_URLS: Apprise URLs with blanks between, ``error=`` or ``warn=`` before any of them.

    Raises:
        ConfigurationError: an entry is no URL that Apprise knows. It is named by its position.
    """
    targets, faults = usable_targets(urls)
    if faults:
        raise faults[0]
    return targets


def usable_targets(urls: SecretStr | None) -> tuple[list[Target], list[ConfigurationError]]:
    """The targets that can be used, and what is wrong with the other entries."""
    targets, faults = [], []
    for position, entry in enumerate((urls.get_secret_value() if urls else "").split(), 1):
        routed = re.fullmatch(r"(error|warn)=(.+)", entry)
        severity, url = (Severity(routed[1]), routed[2]) if routed else (None, entry)
        service = apprise.Apprise()
        # With a comma one entry would be several services, of which one that fails repeats the others.
        if service.add(url) and len(service) == 1:
            targets.append(Target(SecretStr(url), position, severity))
        else:
            faults.append(
                ConfigurationError(
                    f"WEATHER_ALERT_URLS: entry {position} is no URL of one service that Apprise can use; write it as "
                    "Apprise's documentation has it, such as json://host/path or mailto://user:password@host, with "
                    "blanks between entries, and %20 for a blank and %2C for a comma in one"
                )
            )
    return targets, faults


def send(target: Target, message: Message) -> str | None:
    """Send a message now; the reason when that failed, with the parts of the URL hidden."""
    notifier = apprise.Apprise()
    notifier.add(target.url.get_secret_value())
    for service in notifier:
        service.socket_read_timeout = max(service.socket_read_timeout, ANSWER_SECONDS)
    kind = _NOTIFY_TYPES.get((message.kind, message.severity), apprise.NotifyType.SUCCESS)
    with apprise.LogCapture(  # type: ignore[no-untyped-call]  # Apprise has no types here
        level=logging.WARNING, fmt="%(message)s"
    ) as said:
        try:
            arrived = notifier.notify(title=message.title, body=message.body, notify_type=kind)
        except Exception as error:  # noqa: BLE001 - plugins raise whatever their libraries do
            return _hide(target, f"{type(error).__name__}: {error}")
        reason = " ".join(said.getvalue().split())
    return None if arrived else _hide(target, reason or "the service did not take it")


def deliver(book: AlertBook, targets: Sequence[Target], now: datetime, *, seconds: float) -> None:
    """Send what is due to each target, in order, until all is sent or the time is used up."""
    deadline = time.monotonic() + seconds
    if lost := book.forget_interrupted(now - LONGEST_SEND, now):
        _logger.warning("%d messages were being sent when their sender was stopped; they may have arrived", lost)
    for target in targets:
        for delivery in book.due(target.key, now, MESSAGES_A_CALL):
            if time.monotonic() > deadline:
                return
            if not book.claim(delivery, now):
                break
            error = send(target, delivery.message)
            if error is None:
                book.settle(delivery, now, error=None, next_try_at=None)
                continue
            wait = min(FIRST_WAIT * 2**delivery.attempts, LONGEST_WAIT)
            retry = now + wait if now - delivery.created_at < GIVEN_UP_AFTER else None
            book.settle(delivery, now, error=error, next_try_at=retry)
            _logger.log(
                logging.WARNING if retry else logging.ERROR,
                "%s did not take %r: %s; %s",
                target, delivery.message.title, error, f"trying again at {retry:%H:%M:%SZ}" if retry else "given up",
            )  # fmt: skip
            break


def log(messages: Sequence[Message]) -> None:
    """Write each message to the log, whoever else gets it."""
    for message in messages:
        level = logging.INFO
        if message.kind is not Kind.RECOVERED:
            level = logging.ERROR if message.severity is Severity.ERROR else logging.WARNING
        _logger.log(
            level,
            "%s\n%s",
            message.title,
            message.body,
            extra={"kind": message.kind, "severity": message.severity, "message_id": message.message_id},
        )


def _hide(target: Target, text: str) -> str:
    url = target.url.get_secret_value()
    parts = {part for part in re.split(r"[/:@?&=]", url.partition("://")[2]) if len(part) >= SHORTEST_SECRET}
    parts |= set(filter(None, (urlsplit(url).username, urlsplit(url).password)))
    for part in sorted(parts | {unquote(part) for part in parts}, key=len, reverse=True):
        text = text.replace(part, HIDDEN)
    return text[:300]
