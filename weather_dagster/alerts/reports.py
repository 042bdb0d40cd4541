"""What a look at a source found: the input of the alert book."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from weather_dagster.hours import HourRange


class Severity(StrEnum):
    """How bad a problem is."""

    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a source."""

    subject: str
    """Id of a place; empty where the source has no places."""
    severity: Severity
    text: str
    """One line: hour, value, limit, where they are known."""


@dataclass(frozen=True)
class Report:
    """One look at a source: what is wrong with it, or nothing."""

    source: str
    """What was looked at, such as ``check bronze/observations: completeness`` or ``run hourly_weather``."""
    at: datetime
    """When, aware."""
    problems: tuple[Problem, ...] = ()
    reference: str = ""
    """Names an event: the same one told again changes nothing. Empty for a look at a state, which is no repeat."""
    hours: HourRange | None = None
    """The hours that were looked at: what is wrong with later ones is not ended by these."""
    run_id: str | None = None
    explains: str = ""
    """What follows, for the message."""
    muted_by: tuple[str, ...] = ()
    """Patterns of sources: as long as people know that one of them is wrong with the same subject, or as a whole, this
    is what follows from it, and no news."""
    is_event: bool = False
    """Nobody looks at the same again, as at hours long past: it is told once and has no end to tell of."""
    over: str = "Recovered"
    """What its end means, as the first word of the message."""
    subjects: frozenset[str] = frozenset()
    """The only subjects that were looked at; empty for all. It does not end the others, nor tell how bad it is as a
    whole."""
    is_retry: bool = False
    """A repeated try at what went wrong before. One that fails is counted; one that goes well tells nothing of the
    cause, which may strike again in the next hour. It opens, changes and ends nothing."""
