"""What the headers of an answer say about time: its date, and how long its sender wants to be left alone."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_PAUSE_SECONDS = 31 * 86_400
"""A longer Retry-After is taken as this, about the longest block that was ever reported."""


def retry_after(value: str, date: str | None, now: datetime) -> timedelta | None:
    """The pause of a Retry-After header, seconds or a date, which is compared with the answer's own; else None."""
    longest = timedelta(seconds=MAX_PAUSE_SECONDS)
    if re.fullmatch(r"\d+", value.strip(), re.ASCII):
        # More digits than these cannot be shorter, and Python refuses to read thousands of them.
        return min(timedelta(seconds=int(value.strip()[:12])), longest)
    until = http_date(value)
    since = (http_date(date) if date else None) or now
    return None if until is None else min(max(until - since, timedelta(0)), longest)


def http_date(text: str) -> datetime | None:
    """The instant of a date in a header, aware, UTC; None when it is none."""
    try:
        told = parsedate_to_datetime(text)
        # A date that leaves its zone open is in UTC by definition.
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
