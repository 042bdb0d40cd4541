"""UTC hours and inclusive ranges of them, as people type them and as every layer passes them on.

No Dagster here: the independent ingestor uses this module too. The partition grid is in ``partitions``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from weather_dagster.errors import ConfigurationError

HOUR = timedelta(hours=1)


def floor_hour(instant: datetime) -> datetime:
    """The start of the UTC hour that holds ``instant`` (aware)."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def utc_now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class HourRange:
    """UTC hours from ``first`` to ``last``, both inclusive, both aware and on the hour."""

    first: datetime
    last: datetime

    def __post_init__(self) -> None:
        for instant in (self.first, self.last):
            if floor_hour(instant) != instant:
                raise ValueError(f"{instant.isoformat()} is not the start of a UTC hour")
        if self.last < self.first:
            raise ConfigurationError(
                f"the range ends ({format_hour(self.last)}) before it begins ({format_hour(self.first)}); "
                "give --from the earlier hour and --to the later one"
            )

    @property
    def end(self) -> datetime:
        """The first instant after the range."""
        return self.last + HOUR

    def __len__(self) -> int:
        return int((self.end - self.first) / HOUR)

    def __iter__(self) -> Iterator[datetime]:
        return (self.first + i * HOUR for i in range(len(self)))

    def __contains__(self, instant: datetime) -> bool:
        return self.first <= instant < self.end

    def __str__(self) -> str:
        if self.first == self.last:
            return format_hour(self.first)
        return f"{format_hour(self.first)} to {format_hour(self.last)}"

    def split(self, hours: int) -> Iterator["HourRange"]:
        """Cut into consecutive ranges of at most ``hours`` hours."""
        for start in range(0, len(self), hours):
            last = min(start + hours, len(self)) - 1
            yield HourRange(self.first + start * HOUR, self.first + last * HOUR)


def format_hour(hour: datetime) -> str:
    """``2026-11-25T13:00``, the form that ``--from`` and ``--to`` take."""
    return hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def require_in_grid(hours: HourRange, start_hour: datetime) -> None:
    """Refuse hours before the grid begins or after the running hour.

    Raises:
        ConfigurationError: naming the hour and the grid.
    """
    running = floor_hour(utc_now())
    if hours.first < start_hour:
        raise ConfigurationError(
            f"{format_hour(hours.first)} lies before the first hour of the grid, {format_hour(start_hour)}; "
            "ask for later hours, or set WEATHER_START_HOUR to an earlier one"
        )
    if hours.last > running:
        raise ConfigurationError(
            f"{format_hour(hours.last)} lies in the future; the last hour that can be asked for is the running one, "
            f"--to {format_hour(running)}"
        )


def parse_hour(text: str, *, option: str, last_of_day: bool = False) -> datetime:
    """Read a UTC hour such as ``2026-11-25T13:00``; a bare date means its first hour, or its last.

    Raises:
        ConfigurationError: naming ``option`` and ``text`` when it is no whole UTC hour.
    """
    hour = _read_hour(text, time(23 if last_of_day else 0))
    if hour is None or floor_hour(hour) != hour:
        raise ConfigurationError(
            f"{option} is {text!r}, which is no UTC hour; write it like 2026-11-25T13:00, or a date like 2026-11-25"
        )
    return hour


def _read_hour(text: str, hour_of_date: time) -> datetime | None:
    try:
        return datetime.combine(date.fromisoformat(text), hour_of_date, UTC)
    except ValueError:
        pass  # No date; it may be an hour.
    try:
        hour = datetime.fromisoformat(text)
        return hour.replace(tzinfo=UTC) if hour.tzinfo is None else hour.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
