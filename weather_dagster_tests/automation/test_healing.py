"""Which hours are missing, and which run is next: on a real store of each engine that the simulator fills."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import process_time

import pytest

from weather_dagster.alerts.reports import Severity
from weather_dagster.automation.healing import (
    BACK_OFF,
    CHRONIC_WAIT,
    MAX_GAP,
    MAX_TRIES,
    SCHEDULE_GRACE,
    SHORT_BLOCK,
    Healing,
    HealingRun,
    Hole,
    Holes,
    Try,
    find_holes,
    plan_healing,
)
from weather_dagster.datasets import AIR_QUALITY, DATASETS, FORECASTS, OBSERVATIONS, Dataset, DatasetName
from weather_dagster.hours import HOUR, HourRange, format_hour
from weather_dagster.ingest import land_range
from weather_dagster.locations import Location, load_locations
from weather_dagster.simulator.app import create_app
from weather_dagster.simulator.faults import Fault, Faults
from weather_dagster.warehouse.base import Store
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.service import Limit, Window
from weather_dagster_tests.weather_api.answers import NOW, THIS_HOUR, hours_ago
from weather_dagster_tests.weather_api.provider_apps import a_ledger, api_of

PLACES = load_locations()[:3]
LOOKED_AT = hours_ago(72)
START = LOOKED_AT.first - timedelta(days=300)
EARLY = THIS_HOUR.first + timedelta(minutes=7)
"""The running hour is still the schedule's."""


def simulated(plan: str = "simulator", **how: object) -> WeatherApi:
    return api_of(create_app(clock=NOW.timestamp), **{"plan": plan, "is_stand_in": True, **how})


def land(
    store: Store,
    hours: HourRange,
    datasets: Iterable[Dataset] = tuple(DATASETS.values()),
    places: Sequence[Location] = PLACES,
    api: WeatherApi | None = None,
) -> None:
    for dataset in datasets:
        land_range(api or simulated(), store.open, dataset, places, hours, run_id="r")


def forget(store: Store, dataset: Dataset, hours: HourRange, place: str | None = None) -> None:
    with store.open() as warehouse:
        warehouse.execute(
            f"delete from bronze.{dataset.name} where {dataset.partition_column} between $first and $last "
            "and location_id = coalesce($place, location_id)",
            {"first": hours.first, "last": hours.last, "place": place},
        )


def find(
    store: Store,
    now: datetime = NOW,
    places: Sequence[Location] = PLACES,
    api: WeatherApi | None = None,
    start_hour: datetime = START,
) -> Holes:
    with store.open() as warehouse:
        return find_holes(warehouse, api or simulated(), DATASETS.values(), places, now, start_hour=start_hour)


def plan(holes: Holes, tries: Sequence[Try] = (), now: datetime = NOW, api: WeatherApi | None = None) -> Healing:
    return plan_healing(holes, api or simulated(), DATASETS.values(), PLACES, tries, now)


def names(*datasets: Dataset) -> frozenset[DatasetName]:
    return frozenset(dataset.name for dataset in datasets)


@pytest.fixture
def full(bronze: Store) -> Store:
    """A store that lacks nothing of the look-back."""
    land(bronze, LOOKED_AT)
    return bronze


def test_a_store_that_holds_everything_has_no_hole_and_says_all_is_well(full: Store) -> None:
    holes = find(full)
    assert (holes.hours, holes.open, holes.lost) == (LOOKED_AT, (), ())
    healing = plan(holes)
    assert healing.run is None
    assert [(report.source, report.problems) for report in healing.reports] == [
        (f"healing {name}", ()) for name in DATASETS
    ]


def test_a_missing_place_hour_is_found_and_asked_for_alone(full: Store) -> None:
    forget(full, OBSERVATIONS, hours_ago(5, 4), PLACES[1].id)
    holes = find(full)
    assert holes.open == tuple(Hole(h, DatasetName.OBSERVATIONS, PLACES[1].id) for h in reversed([*hours_ago(5, 4)]))
    assert plan(holes).run == HealingRun(hours_ago(5, 4), (OBSERVATIONS,), (PLACES[1].id,))


def test_what_healing_asks_for_fills_the_holes(full: Store) -> None:
    forget(full, FORECASTS, hours_ago(50, 40))
    run = plan(find(full)).run
    assert run == HealingRun(hours_ago(50, 40), (FORECASTS,), ())
    land(full, run.hours, run.datasets)
    assert find(full).open == ()


def test_without_a_store_the_whole_look_back_is_one_run(bronze: Store) -> None:
    holes = find_holes(None, simulated(), DATASETS.values(), PLACES, NOW, start_hour=START)
    assert plan(holes).run == HealingRun(LOOKED_AT, tuple(DATASETS.values()), ())


def test_hours_before_the_grid_are_no_holes(full: Store) -> None:
    forget(full, OBSERVATIONS, LOOKED_AT)
    assert {hole.hour for hole in find(full, start_hour=hours_ago(2).first).open} == set(hours_ago(2))
    assert find(full, start_hour=NOW + HOUR).hours is None


def test_the_running_hour_is_the_schedules_at_first(full: Store) -> None:
    forget(full, OBSERVATIONS, THIS_HOUR)
    assert find(full, THIS_HOUR.first + SCHEDULE_GRACE - timedelta(seconds=1)).open == ()
    assert {hole.hour for hole in find(full, THIS_HOUR.first + SCHEDULE_GRACE).open} == {THIS_HOUR.first}


def test_a_place_that_was_added_is_filled_and_one_that_was_taken_out_is_not(full: Store) -> None:
    added = load_locations()[3]
    holes = find(full, places=[*PLACES[1:], added])
    assert {hole.place for hole in holes.open} == {added.id}
    assert len(holes.open) == 3 * len(LOOKED_AT)


def test_a_record_in_quarantine_leaves_a_hole(bronze: Store) -> None:
    far = Faults([Fault(kind="other_place")])
    land(bronze, THIS_HOUR, [OBSERVATIONS], api=api_of(create_app(faults=far, clock=NOW.timestamp), plan="free"))
    with bronze.open() as warehouse:
        assert warehouse.query("select count(*) > 0 from bronze.quarantine") == [(True,)]
    assert {hole.hour for hole in find(bronze, start_hour=THIS_HOUR.first).open} == {THIS_HOUR.first}


def test_hours_that_nobody_serves_any_more_are_lost_and_not_asked_for(bronze: Store) -> None:
    free = simulated("free")
    land(bronze, hours_ago(8, 8))
    land(bronze, THIS_HOUR)
    holes = find(bronze, api=free)
    assert {(hole.dataset, hole.hour) for hole in holes.lost} == {
        (dataset, hour) for dataset in names(OBSERVATIONS, FORECASTS) for hour in hours_ago(7, 1)
    }, "only since the places are watched"
    assert {hole.dataset for hole in holes.open} == {DatasetName.AIR_QUALITY}
    healing = plan(holes, api=free)
    assert healing.run is not None
    assert healing.run.datasets == (AIR_QUALITY,)
    (report,) = [report for report in healing.reports if report.source == "healing forecasts"]
    assert [(p.subject, p.severity) for p in report.problems] == [(place.id, Severity.WARN) for place in PLACES]
    lost = hours_ago(7, 1)
    assert report.problems[0].text == f"7 hours of {lost}: lost, openweather serves them no more"


def test_what_serves_the_running_hour_alone_is_not_asked_for_with_past_hours(bronze: Store) -> None:
    free = simulated("free")
    start = hours_ago(3).first
    land(bronze, hours_ago(3, 3))
    run = plan(find(bronze, api=free, start_hour=start), api=free).run
    assert run == HealingRun(THIS_HOUR, tuple(DATASETS.values()), ()), "first what will be lost in an hour"
    land(bronze, THIS_HOUR)
    run = plan(find(bronze, api=free, start_hour=start), api=free).run
    assert run is not None
    assert (run.datasets, run.hours) == ((AIR_QUALITY,), hours_ago(2, 1)), "hour 3 is there"


def holes_of(hours: Iterable[datetime], *datasets: Dataset, place: str | None = None) -> Holes:
    places = [place] if place else [each.id for each in PLACES]
    found = [Hole(hour, dataset.name, each) for hour in hours for dataset in datasets for each in places]
    return Holes(LOOKED_AT, tuple(sorted(found, reverse=True)), ())


def test_holes_near_each_other_are_one_range_where_an_answer_brings_many_hours() -> None:
    near = [*hours_ago(6, 5), *hours_ago(1, 1)]
    assert plan(holes_of(near, OBSERVATIONS)).run == HealingRun(hours_ago(6, 1), (OBSERVATIONS,), ())
    far = [*hours_ago(MAX_GAP + 2, MAX_GAP + 2), *THIS_HOUR]
    assert plan(holes_of(far, OBSERVATIONS)).run == HealingRun(THIS_HOUR, (OBSERVATIONS,), ())


def test_a_gap_is_not_paid_for_where_each_hour_is_a_call() -> None:
    holes = holes_of([*hours_ago(6, 5), *hours_ago(2, 1)], OBSERVATIONS)
    assert plan(holes, api=simulated("one_call_3")).run == HealingRun(hours_ago(2, 1), (OBSERVATIONS,), ())


def test_holes_of_several_datasets_and_places_are_one_run() -> None:
    a, b = holes_of(hours_ago(9, 2), AIR_QUALITY, place="a"), holes_of(hours_ago(5, 2), FORECASTS, OBSERVATIONS)
    holes = Holes(LOOKED_AT, tuple(sorted({*b.open, *a.open}, reverse=True)), ())
    run = plan(holes_of(hours_ago(5, 2), AIR_QUALITY, FORECASTS, place=PLACES[0].id)).run
    assert run == HealingRun(hours_ago(5, 2), (FORECASTS, AIR_QUALITY), (PLACES[0].id,))
    assert len(holes.open) == 8 + 4 * 2 * 3


def tried(hours: HourRange, ago: timedelta, *, succeeded: bool = True, places: Iterable[str] = ()) -> Try:
    return Try(hours, names(OBSERVATIONS), frozenset(places), NOW - ago, succeeded)


@pytest.mark.parametrize("number", range(1, MAX_TRIES))
def test_a_hole_waits_longer_after_each_try(number: int) -> None:
    holes = holes_of(hours_ago(20, 20), OBSERVATIONS)
    hours, a_little = hours_ago(30, 10), timedelta(seconds=1)
    earlier = [tried(hours, timedelta(days=2))] * (number - 1)
    waiting = plan(holes, [*earlier, tried(hours, BACK_OFF[number] - a_little)])
    assert waiting.run is None
    assert waiting.why_not == "3 missing place-hours wait for their next try"
    assert plan(holes, [*earlier, tried(hours, BACK_OFF[number])]).run == HealingRun(
        hours_ago(20, 20), (OBSERVATIONS,), ()
    )


def test_a_try_of_other_hours_places_or_datasets_does_not_count() -> None:
    holes = holes_of(hours_ago(20, 20), OBSERVATIONS)
    others = [
        tried(hours_ago(19, 10), timedelta(0)),
        tried(hours_ago(30), timedelta(0), places=["nowhere"]),
        Try(hours_ago(30), names(FORECASTS), frozenset(), NOW, succeeded=True),
    ]
    assert plan(holes, others).run is not None


def test_a_hole_is_given_up_with_a_problem_that_ends_when_it_is_filled(full: Store) -> None:
    place = PLACES[0].id
    forget(full, OBSERVATIONS, hours_ago(21, 20), place)
    tries = [tried(hours_ago(30), timedelta(days=2), succeeded=n > 0) for n in range(MAX_TRIES)]
    healing = plan(find(full), tries)
    assert healing.run is None
    (problem,) = healing.reports[0].problems
    assert (healing.reports[0].source, problem.subject, problem.severity) == ("healing observations", place, "error")
    first, last = format_hour(hours_ago(21).first), format_hour(hours_ago(20).first)
    assert problem.text == (
        f"2 hours of {first} to {last}: given up after 4 tries, of which 1 failed and 3 brought nothing; "
        f"`weather backfill --from {first} --to {last} --place {place}` asks again"
    )
    assert all(report.problems == () for report in healing.reports[1:])
    land(full, hours_ago(21, 20), [OBSERVATIONS])
    ended = plan(find(full), tries)
    assert [report.problems for report in ended.reports] == [(), (), ()]


def test_a_place_of_which_hours_were_given_up_has_no_run_for_each_new_hour() -> None:
    place = PLACES[0].id
    holes = holes_of([*hours_ago(20, 20), *hours_ago(1, 1)], OBSERVATIONS, place=place)
    tries = [tried(hours_ago(30, 5), CHRONIC_WAIT - HOUR)] * MAX_TRIES
    assert plan(holes, tries).run is None
    run = plan(holes, tries, now=NOW + HOUR).run
    assert run == HealingRun(hours_ago(1, 1), (OBSERVATIONS,), (place,))


SCHEDULE_NEEDS = 11 * 2 * len(PLACES)
"""It is 13:20: eleven hourly runs fit into the day, of observations and forecasts, with a call a place each."""


def limited(amount: float, window: Window, ledger: Path | None = None, plan: str = "one_call_3") -> WeatherApi:
    return simulated(plan, limits={"one_call": (Limit(amount, window),)}, ledger=ledger)


def test_healing_leaves_what_the_schedule_needs_and_takes_the_newest_part_that_fits() -> None:
    api = limited(SCHEDULE_NEEDS + 2 * len(PLACES), Window.DAY)
    run = plan(holes_of(hours_ago(9, 1), OBSERVATIONS), api=api).run
    assert run == HealingRun(hours_ago(2, 1), (OBSERVATIONS,), ())


def test_healing_waits_and_says_so_when_the_schedule_needs_all_that_is_left() -> None:
    healing = plan(holes_of(hours_ago(9, 1), OBSERVATIONS), api=limited(SCHEDULE_NEEDS, Window.DAY))
    assert healing.run is None
    (problem,) = healing.reports[0].problems
    assert (problem.subject, problem.severity) == ("", Severity.WARN)
    assert problem.text.startswith(
        "27 missing place-hours wait, the calls that are left are the schedule's: one_call of openweather: "
        "3 calls (weight 3) needed, 66 of 66 a day left"
    )


def test_a_pace_by_the_minute_keeps_nothing_from_being_healed() -> None:
    assert plan(holes_of(hours_ago(9, 1), OBSERVATIONS), api=limited(1, Window.MINUTE)).run is not None


def test_a_provider_that_blocks_us_is_not_asked(tmp_path: Path) -> None:
    api = simulated(ledger=a_ledger())
    with api.ledger() as ledger:
        ledger.open_block(NOW + HOUR, "too many calls")
    healing = plan(holes_of(hours_ago(9, 1), OBSERVATIONS), api=api)
    assert healing.run is None
    assert "openweather is not asked before 2026-11-25T14:20:00Z: too many calls" in healing.why_not


@pytest.mark.parametrize(("block", "is_news"), [(SHORT_BLOCK, False), (SHORT_BLOCK + timedelta(seconds=1), True)])
def test_a_short_block_is_waited_for_and_a_long_one_is_told_of(block: timedelta, is_news: bool) -> None:
    api = simulated(ledger=a_ledger())
    with api.ledger() as ledger:
        ledger.open_block(NOW + block, "too many calls")
    healing = plan(holes_of(hours_ago(9, 1), OBSERVATIONS), api=api)
    assert bool(healing.reports[0].problems) is is_news


def test_the_running_hour_does_not_wait_for_what_a_place_gave_up() -> None:
    place = PLACES[0].id
    now = NOW + 30 * timedelta(minutes=1)
    holes = holes_of([*hours_ago(20, 20), *hours_ago(0, 0)], OBSERVATIONS, place=place)
    tries = [tried(hours_ago(30, 5), CHRONIC_WAIT - HOUR)] * MAX_TRIES
    run = plan(holes, tries, now=now).run
    assert run is not None
    assert run.hours == hours_ago(0, 0)


@pytest.mark.no_cover
def test_the_cost_of_planning_grows_no_faster_than_the_places(bronze: Store) -> None:
    land(bronze, THIS_HOUR)

    def cost(count: int) -> float:
        places = [PLACES[0].model_copy(update={"id": f"p{n}"}) for n in range(count)]
        with bronze.open() as warehouse:
            began = process_time()
            api = simulated()
            holes = find_holes(warehouse, api, DATASETS.values(), places, NOW, start_hour=START)
            tries = [tried(hours_ago(72), timedelta(hours=20))] * 2
            run = plan_healing(holes, api, DATASETS.values(), places, tries, NOW).run
            took = process_time() - began
        assert len(holes.open) == 3 * count * 73
        assert run == HealingRun(LOOKED_AT, tuple(DATASETS.values()), ())
        return took

    cost(30)
    assert cost(300) < 25 * cost(30), "ten times the places"
