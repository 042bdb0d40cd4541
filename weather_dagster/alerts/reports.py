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
    """One thing that is wrong."""

    subject: str
    severity: Severity
    text: str


@dataclass(frozen=True)
class Report:
    """One look at a source."""

    source: str
    reference: str
    at: datetime
    problems: tuple[Problem, ...] = ()
    hours: HourRange | None = None
    run_id: str | None = None
    explains: str = ""
