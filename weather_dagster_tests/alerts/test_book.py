"""The alert book in a real SQLite file and a real Postgres: who hears of what, when, and how often."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weather_dagster.alerts.book import Alert, AlertBook, State, open_book
from weather_dagster.alerts.messages import MAX_BODY, MAX_TITLE, Kind, Message
from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.errors import ConfigurationError
from weather_dagster.hours import HOUR, HourRange, floor_hour
from weather_dagster.state import Place

NOW = datetime(2026, 11, 25, 14, 10, tzinfo=UTC)
SOURCE = "check bronze/observations: completeness"
WINDOW = timedelta(hours=6)


@pytest.fixture
def book(place: Place) -> Iterator[AlertBook]:
    with open_book(place) as book:
        yield book


def warn(*places: str, text: str = "missing") -> tuple[Problem, ...]:
    return tuple(Problem(place, Severity.WARN, text) for place in places)


def error(*places: str) -> tuple[Problem, ...]:
    return tuple(Problem(place, Severity.ERROR, "bad") for place in places)


def tell(
    book: AlertBook,
    at: datetime,
    *problems: Problem,
    source: str = SOURCE,
    targets: Sequence[tuple[str, Severity | None]] = (("t", None),),
    **more: object,
) -> list[Message]:
    """Apply a look and compose what people are to hear of it."""
    report = Report(source, at, problems, **{"reference": f"run at {at}", "run_id": f"run at {at}", **more})
    book.apply([report], at)
    return book.compose(targets, WINDOW, "http://ui", at)


def kinds(messages: list[Message]) -> list[Kind]:
    return [message.kind for message in messages]


def test_a_problem_is_told_at_once_counted_while_it_lasts_summed_up_once_a_window_and_ended_once(book):
    told = {hour: kinds(tell(book, NOW + hour * HOUR, *warn("lyon"))) for hour in range(14)}
    assert told.pop(0) == [Kind.OPENED]
    assert {hour for hour, messages in told.items() if messages} == {6, 12}
    assert told[6] == told[12] == [Kind.SUMMARY]
    (alert,) = book.alerts(open_only=True)
    assert (alert.times, alert.opened_at, alert.seen_at) == (14, NOW, NOW + 13 * HOUR)
    assert kinds(tell(book, NOW + 14 * HOUR)) == [Kind.RECOVERED]
    assert tell(book, NOW + 15 * HOUR) == []
    assert book.alerts(open_only=True) == []


def test_the_message_names_place_value_hour_run_and_what_follows(book):
    problem = Problem("lyon", Severity.ERROR, "hour 2026-11-25T13:00, value 468.66, limit 60")
    (message,) = tell(book, NOW, problem, run_id="r1", explains="the run ended there")
    assert message.title == f"ERROR: {SOURCE} (lyon)"
    assert message.body == (
        f"{SOURCE} – the run ended there\n  lyon: hour 2026-11-25T13:00, value 468.66, limit 60\nhttp://ui/runs/r1"
    )


def test_all_places_of_a_look_are_one_message_and_a_place_that_joins_later_is_news(book):
    (message,) = tell(book, NOW, *warn("lyon", "oslo"))
    assert "lyon, oslo" in message.title
    (joined,) = tell(book, NOW + HOUR, *warn("lyon", "oslo", "quito"))
    assert "quito" in joined.title
    assert "oslo" not in joined.title + joined.body
    (one_ended,) = tell(book, NOW + 2 * HOUR, *warn("lyon", "quito"))
    assert (one_ended.kind, "oslo" in one_ended.body, "lyon" in one_ended.body) == (Kind.RECOVERED, True, False)


def test_what_two_checks_of_one_run_find_is_one_message(book):
    reports = [Report(source, NOW, warn("lyon"), "r", run_id="r") for source in ("check a: one", "check a: two")]
    book.apply(reports, NOW)
    (message,) = book.compose([], WINDOW, "", NOW)
    assert "2 problems" in message.title
    assert "check a: one" in message.body
    assert "check a: two" in message.body


def test_the_same_event_told_again_is_no_repeat(book):
    tell(book, NOW, *warn("lyon"), reference="r")
    tell(book, NOW, *warn("lyon"), reference="r")
    assert [alert.times for alert in book.alerts(open_only=True)] == [1]


def test_a_look_at_a_state_is_not_counted_as_a_repeat(book):
    for minute in range(3):
        tell(book, NOW + timedelta(minutes=minute), *warn(""), reference="")
    assert [alert.times for alert in book.alerts(open_only=True)] == [1]


def test_a_problem_that_comes_back_is_news(book):
    assert kinds(tell(book, NOW, *warn("lyon"))) == [Kind.OPENED]
    assert kinds(tell(book, NOW + HOUR)) == [Kind.RECOVERED]
    assert kinds(tell(book, NOW + 2 * HOUR, *warn("lyon"))) == [Kind.OPENED]
    assert len(book.alerts(open_only=False)) == 2


def test_a_warning_that_becomes_an_error_is_told_again_and_the_way_back_is_not(book):
    tell(book, NOW, *warn("lyon"))
    (worse,) = tell(book, NOW + HOUR, *error("lyon"))
    assert (worse.kind, worse.severity) == (Kind.OPENED, Severity.ERROR)
    assert tell(book, NOW + 2 * HOUR, *warn("lyon")) == []
    (over,) = tell(book, NOW + 3 * HOUR)
    assert over.severity is Severity.ERROR


@pytest.mark.parametrize("older", [1, 500])
def test_hours_before_those_that_a_problem_was_seen_in_do_not_end_it(book, older):
    newest = HourRange(floor_hour(NOW), floor_hour(NOW))
    earlier = HourRange(newest.first - older * HOUR, newest.first - older * HOUR)
    tell(book, NOW, *warn("lyon"), hours=newest)
    assert tell(book, NOW + timedelta(minutes=5), hours=earlier) == []
    assert kinds(tell(book, NOW + timedelta(minutes=6), hours=HourRange(earlier.first, newest.last))) == [
        Kind.RECOVERED
    ]


def test_a_look_that_was_taken_before_the_problem_was_seen_does_not_end_it(book):
    tell(book, NOW, *warn("lyon"))
    book.apply([Report(SOURCE, NOW - HOUR)], NOW)
    assert book.compose([], WINDOW, "", NOW) == []
    assert book.alerts(open_only=True)


@pytest.fixture
def put_back(book: AlertBook) -> AlertBook:
    """A book whose alert and message were noted a year from now: the clock was put back since."""
    ahead = NOW + timedelta(days=365)
    assert kinds(tell(book, ahead, *warn("lyon"), hours=HourRange(floor_hour(ahead), floor_hour(ahead)))) == [
        Kind.OPENED
    ]
    return book


def running(hour: int) -> HourRange:
    """The running hour, so many hours from now."""
    return HourRange(floor_hour(NOW) + hour * HOUR, floor_hour(NOW) + hour * HOUR)


def test_what_was_told_before_the_clock_was_put_back_is_summed_up_after_a_window_and_ended_once(put_back):
    told = {hour: kinds(tell(put_back, NOW + hour * HOUR, *warn("lyon"), hours=running(hour))) for hour in range(8)}
    assert {hour: messages for hour, messages in told.items() if messages} == {6: [Kind.SUMMARY]}
    (alert,) = put_back.alerts(open_only=True)
    assert (alert.opened_at, alert.seen_at, alert.times) == (NOW, NOW + 7 * HOUR, 9)
    assert kinds(tell(put_back, NOW + 8 * HOUR, hours=running(8))) == [Kind.RECOVERED]
    assert tell(put_back, NOW + 9 * HOUR, hours=running(9)) == []


def test_a_problem_that_is_over_when_the_clock_is_put_back_ends_at_once(put_back):
    (ended,) = tell(put_back, NOW, hours=running(0))
    assert (ended.kind, "over after 0 min" in ended.body) == (Kind.RECOVERED, True)


def test_what_was_to_be_sent_before_the_clock_was_put_back_is_sent_first_and_once(put_back):
    ahead = NOW + timedelta(days=365)
    tell(put_back, ahead + HOUR)
    put_back.compose([], WINDOW, "", NOW)
    opened, ended = put_back.due("t", NOW, 10)
    assert (opened.message.kind, ended.message.kind) == (Kind.OPENED, Kind.RECOVERED)
    (news,) = tell(put_back, NOW, *warn("oslo"))
    assert [delivery.message for delivery in put_back.due("t", NOW, 10)] == [opened.message, ended.message, news]
    assert put_back.claim(opened, NOW)
    put_back.settle(opened, NOW, error=None, next_try_at=None)
    put_back.compose([], WINDOW, "", NOW)
    assert [delivery.message for delivery in put_back.due("t", NOW, 10)] == [ended.message, news]


def test_a_try_that_failed_before_the_clock_was_put_back_is_made_again_after_the_same_wait(put_back):
    ahead, wait = NOW + timedelta(days=365), timedelta(minutes=5)
    (delivery,) = put_back.due("t", ahead, 10)
    assert put_back.claim(delivery, ahead)
    put_back.settle(delivery, ahead, error="out of order", next_try_at=ahead + wait)
    put_back.compose([], WINDOW, "", NOW)
    assert put_back.due("t", NOW + wait - timedelta(seconds=1), 10) == []
    assert len(put_back.due("t", NOW + wait, 10)) == 1


def test_who_was_sending_when_the_clock_was_put_back_is_given_up_and_its_message_sent_again_after_a_window(put_back):
    ahead = NOW + timedelta(days=365)
    (delivery,) = put_back.due("t", ahead, 10)
    assert put_back.claim(delivery, ahead)
    put_back.compose([], WINDOW, "", NOW)
    assert put_back.forget_interrupted(NOW, NOW) == 0
    assert put_back.forget_interrupted(NOW + timedelta(seconds=1), NOW) == 1
    put_back.compose([("t", None)], WINDOW, "", NOW + WINDOW)
    assert delivery.message in [due.message for due in put_back.due("t", NOW + WINDOW, 10)]


def test_what_was_noted_before_the_clock_was_put_back_is_forgotten_in_time(put_back):
    tell(put_back, NOW, hours=running(0))
    assert put_back.prune(NOW + timedelta(days=1)) == 1
    assert put_back.due("t", NOW + timedelta(days=1), 10) == []


def test_another_source_does_not_end_it(book):
    tell(book, NOW, *warn("lyon"))
    assert tell(book, NOW + HOUR, source="check bronze/forecasts: completeness") == []
    assert len(book.alerts(open_only=True)) == 1


def test_silence_keeps_and_counts_and_what_outlasts_it_is_told_afterwards(book):
    book.silence("check bronze/obs*", NOW + 3 * HOUR, "works on the roof")
    for hour in range(3):
        assert tell(book, NOW + hour * HOUR, *warn("lyon")) == []
    assert [alert.times for alert in book.alerts(open_only=True)] == [3]
    assert kinds(tell(book, NOW + 3 * HOUR, *warn("lyon"))) == [Kind.OPENED]


def test_what_began_and_ended_in_silence_is_never_told(book):
    book.silence("*lyon", NOW + 3 * HOUR, "")
    assert tell(book, NOW, *warn("lyon")) == []
    assert tell(book, NOW + HOUR) == []
    assert tell(book, NOW + 4 * HOUR) == []


def test_silence_of_one_place_leaves_the_others(book):
    book.silence(f"{SOURCE} lyon", NOW + 3 * HOUR, "")
    (message,) = tell(book, NOW, *warn("lyon", "oslo"))
    assert "lyon" not in message.title + message.body


def test_what_follows_from_a_known_cause_is_told_only_when_the_cause_is_gone(book):
    late = {"source": "check bronze/observations: weather_recently", "muted_by": ("run hourly_weather*",)}
    tell(book, NOW, *error(""), source="run hourly_weather")
    assert tell(book, NOW + 3 * HOUR, *error("lyon"), **late) == []
    over = tell(book, NOW + 4 * HOUR, source="run hourly_weather")
    assert kinds(over) == [Kind.OPENED, Kind.RECOVERED]
    assert "weather_recently (lyon)" in over[0].title


@pytest.mark.parametrize("pager", [False, True])
def test_a_worse_consequence_is_told_only_where_somebody_hears_of_errors_alone(book, pager):
    targets = [("t", None), *([("pager", Severity.ERROR)] if pager else [])]
    late = {"source": "check x: weather_recently", "muted_by": ("run hourly_weather*",), "targets": targets}
    tell(book, NOW, *warn(""), source="run hourly_weather", targets=targets)
    assert tell(book, NOW, *warn("lyon"), **late) == []
    assert kinds(tell(book, NOW + HOUR, *error("lyon"), **late)) == [Kind.OPENED] * pager


def test_a_summary_tells_what_people_know_of_and_nothing_that_follows_from_it(book):
    late = {"source": "check x: weather_recently", "muted_by": ("run hourly_weather*",)}
    tell(book, NOW, *warn(""), source="run hourly_weather")
    tell(book, NOW + HOUR, *error("lyon"), **late)
    (still,) = tell(book, NOW + WINDOW, *error("lyon"), **late)
    assert (still.kind, still.title) == (Kind.SUMMARY, "Still WARN: run hourly_weather")
    assert "weather_recently" not in still.body


def test_what_looks_at_one_kind_of_state_find_together_is_one_message(book):
    book.apply([Report(f"healing {name}", NOW, warn("lyon")) for name in ("forecasts", "observations")], NOW)
    (message,) = book.compose([], WINDOW, "", NOW)
    assert message.title == "WARN: 2 problems, first healing forecasts (lyon)"


def test_what_opened_as_one_message_is_summed_up_and_ended_as_one_for_whoever_got_it(book):
    targets = [("all", None), ("pager", Severity.ERROR), ("mail", Severity.WARN)]
    reports = {"check a: one": error("lyon"), "check a: two": warn("lyon")}

    def hear(at: datetime, *, is_wrong: bool) -> list[Kind]:
        book.apply([Report(source, at, told * is_wrong, run_id="r") for source, told in reports.items()], at)
        return kinds(book.compose(targets, WINDOW, "", at))

    assert hear(NOW, is_wrong=True) == [Kind.OPENED]
    assert hear(NOW + WINDOW, is_wrong=True) == [Kind.SUMMARY]
    assert hear(NOW + WINDOW + HOUR, is_wrong=False) == [Kind.RECOVERED]
    later = NOW + 2 * WINDOW
    assert {t: len(book.due(t, later, 10)) for t, _ in targets} == {"all": 3, "pager": 3, "mail": 0}


def test_a_cause_at_one_place_explains_nothing_at_another(book):
    late = {"source": "check x: weather_recently", "muted_by": ("check x: completeness",)}
    tell(book, NOW, *warn("lyon"), source="check x: completeness")
    (message,) = tell(book, NOW, *warn("lyon", "oslo"), **late)
    assert "oslo" in message.body
    assert "lyon" not in message.body


def test_a_repeated_try_is_counted_and_opens_changes_and_ends_nothing(book):
    assert tell(book, NOW, *error("lyon"), is_retry=True) == []
    assert kinds(tell(book, NOW + HOUR, *warn("lyon"))) == [Kind.OPENED]
    assert tell(book, NOW + 2 * HOUR, *error("lyon"), is_retry=True) == []
    assert tell(book, NOW + 3 * HOUR, is_retry=True) == []
    assert [(alert.severity, alert.times) for alert in book.alerts(open_only=True)] == [(Severity.WARN, 2)]
    assert kinds(tell(book, NOW + 4 * HOUR)) == [Kind.RECOVERED]


def test_a_look_at_some_places_alone_neither_ends_nor_worsens_more_than_it_saw(book):
    tell(book, NOW, *warn("lyon", "oslo"))
    assert tell(book, NOW + HOUR, *error("lyon"), subjects=frozenset({"lyon"})) == []
    assert [alert.subject for alert in book.alerts(open_only=True)] == ["lyon", "oslo"]
    (over,) = tell(book, NOW + 2 * HOUR, subjects=frozenset({"lyon"}))
    assert "lyon" in over.body
    assert "oslo" not in over.body


def test_a_message_stays_readable_whatever_is_wrong(book):
    places = [f"place-{number}" for number in range(500)]
    (message,) = tell(book, NOW, *warn(*places, text="x" * 5000), run_id="r" * 36)
    assert len(message.title) <= MAX_TITLE
    assert len(message.body) <= MAX_BODY
    assert message.body.endswith("http://ui/runs/" + "r" * 36)
    assert "more lines" in message.body


def test_errors_and_warnings_reach_the_targets_that_are_for_them(book):
    book.apply([Report("a", NOW, warn("x")), Report("b", NOW, error("y"))], NOW)
    book.compose([("all", None), ("pager", Severity.ERROR), ("mail", Severity.WARN)], WINDOW, "", NOW)
    counts = {target: len(book.due(target, NOW, 10)) for target in ("all", "pager", "mail")}
    assert counts == {"all": 2, "pager": 1, "mail": 1}


def test_old_alerts_messages_and_references_are_forgotten_and_what_lasts_stays(book):
    tell(book, NOW, *warn("lyon"))
    tell(book, NOW + HOUR, *warn("oslo"))
    assert book.prune(NOW + 2 * HOUR) == 1
    assert [alert.subject for alert in book.alerts(open_only=False)] == ["oslo"]
    assert book.due("t", NOW + 2 * HOUR, 10) == []


def test_a_file_that_is_no_book_is_named(tmp_path):
    path = tmp_path / "alerts.sqlite"
    path.write_bytes(b"no database at all, and long enough to be taken for a header")
    with (
        pytest.raises(ConfigurationError, match=r"alerts\.sqlite: file is not a database.*WEATHER_HOME"),
        open_book(path),
    ):
        pass


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "look", "silence"]),
        st.integers(1, 200),
        st.sets(st.sampled_from(["lyon", "oslo"])),
        st.sampled_from(["one", "two"]),
        st.sampled_from(list(Severity)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_each_episode_is_opened_and_ended_at_most_once_and_never_ended_unopened(tmp_path, steps):
    now, heard = NOW, []
    with open_book(tmp_path / f"{uuid4()}.sqlite") as book:
        for what, minutes, places, source, severity in steps:
            now += timedelta(minutes=minutes)
            if what == "silence":
                book.silence(f"{source}*", now + timedelta(minutes=120), "")
            else:
                problems = tuple(Problem(place, severity, "bad") for place in sorted(places))
                book.apply([Report(source, now, problems, reference=str(now))], now)
            heard += book.compose([("t", None)], WINDOW, "", now)
        episodes = book.alerts(open_only=False)
        delivered = book.due("t", now, 1000)
    openings = [message for message in heard if message.kind is Kind.OPENED]
    endings = [message for message in heard if message.kind is Kind.RECOVERED]
    told = [alert for alert in episodes if alert.announced_at]
    named = sum(message.body.count("bad") for message in openings)
    escalated = sum(1 for alert in told if alert.announced_severity is Severity.ERROR)
    assert len(told) <= named <= len(told) + escalated
    assert sum(message.body.count(": over after") for message in endings) <= len([a for a in told if a.resolved_at])
    assert [d.message for d in delivered] == heard
    assert all(_is_sound(alert) for alert in episodes)


def _is_sound(alert: Alert) -> bool:
    return alert.opened_at <= alert.seen_at and (alert.resolved_at is None or alert.resolved_at >= alert.seen_at)


def test_what_follows_at_the_place_of_a_known_cause_is_no_news_however_bad_it_gets(book):
    late = {"source": "check x: weather_recently", "muted_by": ("check x: quarantine_share*",)}
    tell(book, NOW, *warn("lyon"), source="check x: quarantine_share")
    assert tell(book, NOW + HOUR, *error("lyon"), **late) == []
    (elsewhere,) = tell(book, NOW + 2 * HOUR, *error("lyon", "oslo"), **late)
    assert elsewhere.title.endswith("(oslo)")


def test_what_is_found_in_hours_long_past_is_told_once_and_has_no_end_to_tell_of(book):
    assert kinds(tell(book, NOW, *warn("lyon"), is_event=True)) == [Kind.OPENED]
    assert book.alerts(open_only=True) == []
    assert [tell(book, NOW + number * WINDOW) for number in (1, 2)] == [[], []]


def test_a_target_that_is_named_twice_hears_of_everything_once(book):
    tell(book, NOW, *warn("lyon"), targets=[("t", None), ("t", None), ("u", None)])
    assert book.deliveries() == {State.PENDING: 2}


def test_the_end_of_what_was_not_healed_says_what_it_means_and_different_ends_say_over(book):
    tell(book, NOW, *warn("lyon"), source="healing observations", over="Filled")
    (ended,) = tell(book, NOW + HOUR, source="healing observations", over="Filled")
    assert ended.title == "Filled: healing observations (lyon)"
    reports = [Report("a", NOW, warn("lyon"), over="Filled"), Report("b", NOW, warn("lyon"))]
    for problems in (reports, [Report(name, NOW + HOUR) for name in ("a", "b")]):
        book.apply(problems, problems[0].at)
        *_, last = book.compose([("t", None)], WINDOW, "", problems[0].at)
    assert last.title.startswith(("Over: ", "Recovered: ", "Filled: "))


def test_a_cause_mutes_what_it_explains_by_its_whole_name_alone(book):
    tell(book, NOW, *error(""), source="run hourly_weather of 2026-11-01T00:00")
    assert kinds(tell(book, NOW, *warn("lyon"), muted_by=("run hourly_weather",))) == [Kind.OPENED]
    tell(book, NOW + HOUR, *error(""), source="run hourly_weather")
    assert tell(book, NOW + HOUR, *warn("oslo"), source="check other", muted_by=("run hourly_weather",)) == []
