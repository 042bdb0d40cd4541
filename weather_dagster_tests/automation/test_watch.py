"""What ended runs, spent calls and stopped automation tell, from a real Dagster instance."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from weather_dagster.alerts.reports import Report, Severity
from weather_dagster.automation.watch import Cursor, budget_reports, check_report, run_reports
from weather_dagster.hours import HOUR, HourRange
from weather_dagster.partitions import hourly_grid, hours_of_run, partition_key, range_tags
from weather_dagster.weather_api.ledger import Spent
from weather_dagster.weather_api.service import Limit, Window

NOW = datetime(2026, 11, 25, 14, 20, tzinfo=UTC)
PLACES = dg.MetadataValue.json(["lyon", "oslo"])


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    instance: dg.DagsterInstance, result: dg.AssetCheckResult, *, blocking: bool = False, breaks: bool = False
) -> str:
    """One run of an asset with a check and a child; its id."""

    @dg.asset
    def parent() -> None: ...

    @dg.asset(deps=[parent])
    def child() -> None:
        if breaks:
            raise ValueError("no way")

    @dg.asset_check(asset=parent, blocking=blocking)
    def checked() -> dg.AssetCheckResult:
        return result

    ended = dg.materialize(
        [parent, child, checked],
        instance=instance,
        raise_on_error=False,
        tags=range_tags(HourRange(NOW.replace(minute=0), NOW.replace(minute=0))),
    )
    return ended.run_id


def told(instance: dg.DagsterInstance, cursor: Cursor) -> dict[str, Report]:
    reports, _ = run_reports(instance, cursor)
    return {report.source: report for report in reports}


def test_a_warning_in_a_green_run_is_a_problem_for_each_place_that_its_metadata_names(instance):
    cursor = Cursor.start(instance, NOW)
    rows = dg.MetadataValue.table([dg.TableRecord({"place": "lyon", "hour": "2026-11-25T13:00", "value": 99.0})])
    run_id = run(
        instance,
        dg.AssetCheckResult(
            passed=False,
            severity=dg.AssetCheckSeverity.WARN,
            description="two places",
            metadata={"places": PLACES, "t": rows},
        ),
    )
    report = told(instance, cursor)["check parent: checked"]
    assert report.run_id == run_id
    assert [(p.subject, p.severity, p.text) for p in report.problems] == [
        ("lyon", Severity.WARN, "2026-11-25T13:00, value 99.0"),
        ("oslo", Severity.WARN, "two places"),
    ]


def test_a_run_that_a_blocking_check_ended_is_told_by_the_check_alone(instance):
    cursor = Cursor.start(instance, NOW)
    run(instance, dg.AssetCheckResult(passed=False, description="bad"), blocking=True)
    reports = told(instance, cursor)
    assert set(reports) == {"check parent: checked"}
    assert reports["check parent: checked"].explains
    assert reports["check parent: checked"].problems[0].severity is Severity.ERROR


def test_a_run_that_broke_for_another_reason_than_a_failed_check_is_a_problem_of_its_own(instance):
    cursor = Cursor.start(instance, NOW)
    run(instance, dg.AssetCheckResult(passed=False, description="bad"), breaks=True)
    reports = told(instance, cursor)
    (broken,) = [report for source, report in reports.items() if source.startswith("run ")]
    assert "child" in broken.problems[0].text
    assert "no way" in broken.problems[0].text
    assert reports["check parent: checked"].problems


def test_a_green_run_ends_what_it_was_wrong_with(instance):
    cursor = Cursor.start(instance, NOW)
    run(instance, dg.AssetCheckResult(passed=True))
    assert {source.split()[0]: report.problems for source, report in told(instance, cursor).items()} == {
        "check": (),
        "run": (),
    }


def test_each_ended_run_is_told_once_and_what_ended_before_the_sensor_began_never(instance):
    run(instance, dg.AssetCheckResult(passed=False))
    cursor = Cursor.start(instance, NOW)
    assert run_reports(instance, cursor)[0] == []
    run(instance, dg.AssetCheckResult(passed=False))
    reports, cursor = run_reports(instance, cursor)
    assert len(reports) == 2
    assert run_reports(instance, cursor)[0] == []


def evaluation(hours: HourRange | str) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(["bronze", "observations"]),
        check_name="completeness",
        passed=True,
        metadata={"hours": dg.MetadataValue.text(str(hours))},
    )


@pytest.mark.parametrize(("ago", "is_history"), [(0, False), (72, False), (73, True)])
def test_a_check_of_hours_long_past_is_a_source_of_its_own(ago, is_history):
    hour = NOW.replace(minute=0) - ago * HOUR
    hours = HourRange(hour - 3 * HOUR, hour)
    report = check_report(evaluation(hours), "r", NOW)
    assert report.hours == hours
    assert report.source == "check bronze/observations: completeness" + (f" of {hours}" if is_history else "")


def test_a_check_of_somebody_else_may_mean_another_thing_by_hours():
    report = check_report(evaluation("whenever we like to"), "r", NOW)
    assert (report.hours, report.is_event) == (None, False)


def test_only_hours_long_past_are_an_event():
    for ago, is_event in ((72, False), (73, True)):
        hour = NOW.replace(minute=0) - ago * HOUR
        assert check_report(evaluation(HourRange(hour, hour)), "r", NOW).is_event is is_event


def test_a_clock_that_was_put_back_is_a_pause_and_the_sensor_settles_again():
    cursor = Cursor(ticked_at=NOW, awake_since=NOW - 5 * HOUR).ticked(NOW - 2 * HOUR)
    assert not cursor.settled
    for minute in range(2, 14, 4):
        cursor = cursor.ticked(NOW - 2 * HOUR + timedelta(minutes=minute))
    assert cursor.settled


def test_a_day_of_which_nine_tenths_of_the_calls_are_spent_is_a_warning_and_a_minute_never():
    def spent(amount: float, window: Window) -> tuple[str, Spent]:
        return "openweather", Spent("one_call", Limit(1000, window), amount)

    few, many = budget_reports([spent(899, Window.DAY), spent(900, Window.MONTH), spent(1000, Window.MINUTE)], NOW)
    assert not few.problems
    assert many.problems[0].text == "900 of 1,000 calls a month are spent, 100 left"


def test_after_a_pause_the_sensor_counts_as_settled_only_ten_minutes_later():
    cursor = Cursor(ticked_at=NOW, awake_since=NOW)
    settled = {}
    for minute in (4, 8, 10, 14, 30, 34, 38, 40):
        cursor = cursor.ticked(NOW + timedelta(minutes=minute))
        settled[minute] = cursor.settled
    assert [minute for minute, yes in settled.items() if yes] == [10, 14, 40]


def test_the_grid_and_the_tags_of_a_run_tell_the_same_hours():
    grid = hourly_grid(datetime(2026, 11, 1, tzinfo=UTC))
    hour = datetime(2026, 11, 25, 13, tzinfo=UTC)
    assert grid.has_partition_key(partition_key(hour))
    assert hours_of_run({"dagster/partition": partition_key(hour)}) == HourRange(hour, hour)
    assert hours_of_run(range_tags(HourRange(hour - HOUR, hour))) == HourRange(hour - HOUR, hour)
    assert hours_of_run({}) is None
