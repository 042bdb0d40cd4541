"""Hours and ranges as people type them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour, parse_hour

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T12:00", NOON),
        ("2026-11-25T12:00Z", NOON),
        ("2026-11-25T13:00+01:00", NOON),
        ("2026-11-25 12:00", NOON),
        ("2026-11-25", datetime(2026, 11, 25, tzinfo=UTC)),
        ("20261125", datetime(2026, 11, 25, tzinfo=UTC)),
    ],
)
def test_a_typed_hour_is_read_as_utc(text: str, expected: datetime) -> None:
    assert parse_hour(text, option="--from") == expected


@pytest.mark.parametrize("text", ["2026-11-25", "20261125", "2026-W48-3"])
def test_a_bare_date_ends_a_range_with_its_last_hour(text: str) -> None:
    assert parse_hour(text, option="--to", last_of_day=True) == datetime(2026, 11, 25, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-11-25T12:30", "2026-13-01", "", "2026-11-25T12:00:01", "0001-01-01T00:00+05:00"]
)
def test_what_is_no_utc_hour_is_refused_with_option_and_value(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--from is '.*', which is no UTC hour") as refused:
        parse_hour(text, option="--from")
    assert repr(text) in str(refused.value)


def test_a_range_that_ends_before_it_begins_names_both_ends() -> None:
    with pytest.raises(ConfigurationError, match=r"2026-11-25T11:00.*2026-11-25T12:00"):
        HourRange(NOON, NOON - HOUR)


def test_a_range_includes_both_ends() -> None:
    hours = HourRange(NOON, NOON + 2 * HOUR)
    assert list(hours) == [NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert len(hours) == 3
    assert NOON + 2 * HOUR + timedelta(minutes=59) in hours
    assert hours.end not in hours


def test_splitting_a_range_loses_no_hour_and_doubles_none() -> None:
    hours = HourRange(NOON, NOON + 9 * HOUR)
    parts = list(hours.split(4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [hour for part in parts for hour in part] == list(hours)


def test_the_hour_of_an_instant_is_the_utc_hour_in_every_zone() -> None:
    nepal = timezone(timedelta(hours=5, minutes=45))
    assert floor_hour(datetime(2026, 11, 25, 18, 10, tzinfo=nepal)) == NOON
    assert format_hour(datetime(2026, 11, 25, 17, 45, tzinfo=nepal)) == "2026-11-25T12:00"
