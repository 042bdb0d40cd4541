"""Which place-hours are missing in bronze, and the next run that fills them. No Dagster here.

Everything is worked out anew from the store and the earlier tries: nothing is remembered, so a hole that is filled
by whatever means is healed, and one that comes back with an older copy of the store is found again.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from weather_dagster.alerts.reports import Problem, Report, Severity
from weather_dagster.datasets import DATASETS, Dataset, DatasetName
from weather_dagster.errors import HourNotServed
from weather_dagster.hours import HOUR, HourRange, floor_hour, format_hour
from weather_dagster.locations import Location
from weather_dagster.warehouse.base import Warehouse
from weather_dagster.weather_api.api import WeatherApi
from weather_dagster.weather_api.ledger import window_end
from weather_dagster.weather_api.plan import Need, Plan, needs_of
from weather_dagster.weather_api.service import Window

LOOK_BACK = timedelta(hours=72)
"""How far before the running hour holes are looked for."""
SCHEDULE_GRACE = timedelta(minutes=15)
"""So long the running hour is left to the schedule. After that it is a hole like any other: what an endpoint serves
for the running hour alone could not be had later."""
BACK_OFF = (timedelta(0), timedelta(minutes=10), timedelta(hours=2), timedelta(hours=12))
"""How long after its last try a hole waits, by the number of tries."""
MAX_TRIES = len(BACK_OFF)
"""After so many tries a hole is given up."""
CHRONIC_WAIT = timedelta(hours=3)
"""How long after the last try a place waits of which hours were given up: else each new hour would have its own."""
MAX_GAP = 12
"""So many hours that are there already may lie between two holes of one run, if the calls allow it."""
OVER = f"Filled, or older than {LOOK_BACK / HOUR:.0f} hours"
SHORT_BLOCK = HOUR
"""A provider that wants to be left alone for no longer is waited for, and nobody is told."""
WITNESS_DAYS = timedelta(days=30)
"""How far back a row tells that a place was watched before the look-back began."""


class Hole(NamedTuple):
    """A place-hour of a dataset that bronze has no row of."""

    hour: datetime
    dataset: DatasetName
    place: str


@dataclass(frozen=True)
class Holes:
    """What is missing in ``hours``."""

    hours: HourRange | None
    """What was looked at; None when the grid has no hour yet."""
    open: tuple[Hole, ...]
    """Some provider serves these."""
    lost: tuple[Hole, ...]
    """Nobody serves these any more, and the place was watched when they passed."""


@dataclass(frozen=True)
class Try:
    """An earlier healing run that has ended."""

    hours: HourRange
    datasets: frozenset[DatasetName]
    places: frozenset[str]
    """Empty for all."""
    ended_at: datetime
    succeeded: bool


@dataclass(frozen=True)
class HealingRun:
    """What one run over a range is to ask for."""

    hours: HourRange
    datasets: tuple[Dataset, ...]
    places: tuple[str, ...]
    """Empty for all."""


@dataclass(frozen=True)
class Healing:
    """The next run, and what there is to tell."""

    run: HealingRun | None
    why_not: str
    """Why no run is due now; empty when one is."""
    reports: tuple[Report, ...]
    """One for each dataset that is offered, without problems where all is well."""


def hours_to_heal(start_hour: datetime, now: datetime) -> HourRange | None:
    """The look-back, inside the grid that begins at ``start_hour``."""
    running = floor_hour(now)
    last = running if now >= running + SCHEDULE_GRACE else running - HOUR
    first = max(running - LOOK_BACK, start_hour)
    return HourRange(first, last) if first <= last else None


def find_holes(
    store: Warehouse | None,
    api: WeatherApi,
    datasets: Iterable[Dataset],
    locations: Sequence[Location],
    now: datetime,
    *,
    start_hour: datetime,
) -> Holes:
    """The place-hours of the look-back that bronze has no row of, newest first.

    Args:
        store: None as long as there is no store: then everything is missing.
        start_hour: first hour of the grid.
    """
    hours = hours_to_heal(start_hour, now)
    if hours is None or not locations:
        return Holes(hours, (), ())
    is_open: list[Hole] = []
    lost: list[Hole] = []
    for dataset in filter(api.offers, datasets):
        not_served = {hour for span in api.not_served(dataset, hours) for hour in span}
        missing = _missing(store, dataset, locations, hours)
        watched_since = _watched_since(store, dataset, missing, hours) if not_served else {}
        for place, absent in missing.items():
            for hour in absent:
                hole = Hole(hour, dataset.name, place)
                if hour not in not_served:
                    is_open.append(hole)
                elif place in watched_since and watched_since[place] < hour:
                    lost.append(hole)
    return Holes(hours, tuple(sorted(is_open, reverse=True)), tuple(sorted(lost, reverse=True)))


def _missing(
    store: Warehouse | None, dataset: Dataset, locations: Sequence[Location], hours: HourRange
) -> dict[str, list[datetime]]:
    """Hours without a row by place, in order."""
    if store is None:
        return {location.id: list(hours) for location in locations}
    missing: defaultdict[str, list[datetime]] = defaultdict(list)
    rows = store.query(
        f"""
        select expected.location_id, hours_after
        from (
            select location_id, hours_after, $first::timestamptz + hours_after * interval '1 hour' as hour_utc
            from unnest($places::varchar[]) as place(location_id)
            cross join generate_series(0, $hours_after::integer) as grid(hours_after)
        ) as expected
        left join bronze.{dataset.name} as landed
            on landed.location_id = expected.location_id and landed.{dataset.partition_column} = expected.hour_utc
            and landed.{dataset.partition_column} between $first and $last
        where landed.location_id is null
        order by hours_after
        """,
        {
            "places": [location.id for location in locations],
            "first": hours.first,
            "last": hours.last,
            "hours_after": len(hours) - 1,
        },
    )
    for place, hours_after in rows:
        missing[place].append(hours.first + hours_after * HOUR)
    return missing


def _watched_since(
    store: Warehouse | None, dataset: Dataset, missing: Mapping[str, Sequence[datetime]], hours: HourRange
) -> dict[str, datetime]:
    """Since when at least each place has rows; what was before its first row was never asked for."""
    if store is None:
        return {}
    rows = store.query(
        f"""
        select location_id, min({dataset.partition_column})
        from bronze.{dataset.name}
        where {dataset.partition_column} between $first and $last and location_id = any($places::varchar[])
        group by location_id
        """,
        {"first": hours.first - WITNESS_DAYS, "last": hours.last, "places": list(missing)},
    )
    return dict(rows)


def plan_healing(
    holes: Holes,
    api: WeatherApi,
    datasets: Iterable[Dataset],
    locations: Sequence[Location],
    tries: Sequence[Try],
    now: datetime,
) -> Healing:
    """What to ask for next: the newest holes that are due, as one range, within what the schedule leaves of the budget.

    Args:
        tries: earlier healing runs that have ended and whose hours reach into the look-back.
    """
    if holes.hours is None:
        return Healing(None, "no hour of the grid is over yet", ())
    offered = [dataset for dataset in datasets if api.offers(dataset)]
    histories = _histories(holes.open, tries)
    given_up = {hole: tried for hole, tried in histories.items() if len(tried) >= MAX_TRIES}
    due = _due(histories, given_up, tries, now)
    run, why_not = None, ""
    if due:
        run, why_not = _next_run(due, api, offered, locations, now)
    elif len(given_up) < len(histories):
        why_not = f"{len(histories) - len(given_up):,} missing place-hours wait for their next try"
    elif given_up or holes.lost:
        why_not = f"{len(given_up):,} place-hours are given up, {len(holes.lost):,} are lost; nothing else is missing"
    else:
        why_not = "nothing is missing"
    blocked_until = max((block.until for block in api.blocks().values()), default=now)
    is_news = due and run is None and not now < blocked_until <= now + SHORT_BLOCK
    waits = {hole.dataset for hole in due} if is_news else set()
    reports = tuple(
        _report(dataset, given_up, holes.lost, why_not if dataset.name in waits else "", api, now)
        for dataset in offered
    )
    return Healing(run, why_not, reports)


def _histories(holes: Sequence[Hole], tries: Sequence[Try]) -> dict[Hole, list[Try]]:
    """The tries that each hole lies in."""
    concerned: dict[tuple[DatasetName, str], list[Try]] = {}
    histories = {}
    for hole in holes:
        key = hole.dataset, hole.place
        if key not in concerned:
            concerned[key] = _tries_of(tries, hole)
        histories[hole] = [each for each in concerned[key] if hole.hour in each.hours]
    return histories


def _tries_of(tries: Iterable[Try], hole: Hole) -> list[Try]:
    return [each for each in tries if hole.dataset in each.datasets and (not each.places or hole.place in each.places)]


def _due(
    histories: Mapping[Hole, Sequence[Try]], given_up: Iterable[Hole], tries: Sequence[Try], now: datetime
) -> list[Hole]:
    """The holes whose next try may begin."""
    chronic = {
        (hole.dataset, hole.place): max(each.ended_at for each in _tries_of(tries, hole)) + CHRONIC_WAIT
        for hole in {(h.dataset, h.place): h for h in given_up}.values()
    }
    due = []
    for hole, tried in histories.items():
        if len(tried) >= MAX_TRIES:
            continue
        wait_until = max((each.ended_at for each in tried), default=now) + BACK_OFF[len(tried)]
        # What some endpoints serve for the running hour alone cannot be had later.
        is_running = hole.hour == floor_hour(now)
        if wait_until <= now and (is_running or chronic.get((hole.dataset, hole.place), now) <= now):
            due.append(hole)
    return due


def _next_run(
    due: Sequence[Hole], api: WeatherApi, datasets: Sequence[Dataset], locations: Sequence[Location], now: datetime
) -> tuple[HealingRun | None, str]:
    """The run, or why it cannot be now."""
    by_hour: defaultdict[datetime, list[Hole]] = defaultdict(list)
    for hole in due:
        by_hour[hole.hour].append(hole)
    hours = _merge(by_hour, api, locations)
    reserve = _reserve(api, datasets, locations, now)
    fitting, too_many = 0, len(hours) + 1
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        if _too_dear(_plans(_run(by_hour, hours[:middle], locations), api, locations), api, reserve, now):
            too_many = middle
        else:
            fitting = middle
    if not fitting:
        plans = _plans(_run(by_hour, hours[:1], locations), api, locations)
        needs = "; ".join(map(str, _too_dear(plans, api, reserve, now)))
        return None, f"{len(due):,} missing place-hours wait, the calls that are left are the schedule's: {needs}"
    run = _run(by_hour, hours[:fitting], locations)
    asked = {provider.name for plan in _plans(run, api, locations) for provider, _ in plan.stretches}
    for name, block in api.blocks().items():
        if name in asked:
            return None, (
                f"{len(due):,} missing place-hours wait, {name} is not asked before "
                f"{block.until:%Y-%m-%dT%H:%M:%SZ}: {block.reason}"
            )
    return run, ""


def _merge(
    by_hour: Mapping[datetime, Sequence[Hole]], api: WeatherApi, locations: Sequence[Location]
) -> list[datetime]:
    """The hours of the newest range, newest first: it goes on as long as that takes no more calls than a second run."""
    newest, *older = sorted(by_hour, reverse=True)
    hours = [newest]
    cost = _calls(_run(by_hour, hours, locations), api, locations)
    for hour in older:
        if (hours[-1] - hour) / HOUR - 1 > MAX_GAP:
            break
        alone = _calls(_run(by_hour, [hour], locations), api, locations)
        together = _calls(_run(by_hour, [*hours, hour], locations), api, locations)
        if together > cost + alone:
            break
        hours.append(hour)
        cost = together
    return hours


def _run(
    by_hour: Mapping[datetime, Sequence[Hole]], hours: Sequence[datetime], locations: Sequence[Location]
) -> HealingRun:
    """A run over these hours, newest first, for what has holes in them."""
    holes = [hole for hour in hours for hole in by_hour[hour]]
    names = {hole.dataset for hole in holes}
    places = {hole.place for hole in holes}
    return HealingRun(
        HourRange(hours[-1], hours[0]),
        tuple(dataset for dataset in DATASETS.values() if dataset.name in names),
        () if len(places) == len(locations) else tuple(sorted(places)),
    )


def _plans(run: HealingRun, api: WeatherApi, locations: Sequence[Location]) -> list[Plan]:
    asked = [location for location in locations if not run.places or location.id in run.places]
    return [api.plan(dataset, asked, run.hours) for dataset in run.datasets]


def _calls(run: HealingRun, api: WeatherApi, locations: Sequence[Location]) -> float:
    """Requests that the run takes; without end when some dataset has an hour in it that nobody serves."""
    try:
        plans = _plans(run, api, locations)
    except HourNotServed:
        return math.inf
    return sum(stretch.cost(len(plan.locations))[0] for plan in plans for _, stretch in plan.stretches)


def _reserve(
    api: WeatherApi, datasets: Sequence[Dataset], locations: Sequence[Location], now: datetime
) -> dict[tuple[str, str], float]:
    """What an hourly run takes, by provider and product."""
    running = HourRange(floor_hour(now), floor_hour(now))
    plans = [api.plan(dataset, locations, running) for dataset in datasets if not api.not_served(dataset, running)]
    weights: defaultdict[tuple[str, str], float] = defaultdict(float)
    for plan in plans:
        for provider, stretch in plan.stretches:
            weights[provider.name, stretch.endpoint.product] += stretch.cost(len(locations))[1]
    return weights


def _too_dear(
    plans: Sequence[Plan], api: WeatherApi, reserve: Mapping[tuple[str, str], float], now: datetime
) -> list[Need]:
    """The limits of which the plans would take what hourly runs need until the window ends."""

    def left(need: Need) -> float:
        window = need.spent.limit.window
        hourly = reserve.get((need.provider, need.spent.product), 0.0)
        return need.spent.left - hourly * math.ceil((window_end(window, now) - now) / HOUR)

    return [
        need
        for need in needs_of(api.providers, plans, now=now)
        if need.spent.limit.window is not Window.MINUTE and need.weight > left(need)
    ]


def _report(
    dataset: Dataset,
    given_up: Mapping[Hole, Sequence[Try]],
    lost: Sequence[Hole],
    waits: str,
    api: WeatherApi,
    now: datetime,
) -> Report:
    gone: defaultdict[str, list[Hole]] = defaultdict(list)
    for hole in given_up:
        if hole.dataset == dataset.name:
            gone[hole.place].append(hole)
    passed: defaultdict[str, list[Hole]] = defaultdict(list)
    for hole in lost:
        if hole.dataset == dataset.name:
            passed[hole.place].append(hole)
    problems = [Problem("", Severity.WARN, waits)] if waits else []
    for place in sorted(gone.keys() | passed.keys()):
        told = []
        if place in gone:
            told.append(_tell_given_up(place, {hole: given_up[hole] for hole in gone[place]}))
        if place in passed:
            told.append(f"{_span(passed[place])}: lost, {api.provider} serves them no more")
        problems.append(Problem(place, Severity.ERROR if place in gone else Severity.WARN, "; ".join(told)))
    return Report(f"healing {dataset.name}", now, tuple(problems), muted_by=_causes(dataset), over=OVER)


def _causes(dataset: Dataset) -> tuple[str, ...]:
    """Sources of which hours that were given up are only what follows: they are told when the cause is gone."""
    checks = (f"check bronze/{dataset.name}: {name}" for name in ("completeness", "quarantine_share"))
    return ("run hourly_weather", *checks)


def _tell_given_up(place: str, given_up: Mapping[Hole, Sequence[Try]]) -> str:
    tried = max(given_up.values(), key=len)
    failed = sum(not each.succeeded for each in tried)
    hours = [hole.hour for hole in given_up]
    return (
        f"{_span(given_up)}: given up after {len(tried)} tries, of which {failed} failed and {len(tried) - failed} "
        f"brought nothing; `weather backfill --from {format_hour(min(hours))} --to {format_hour(max(hours))} "
        f"--place {place}` asks again"
    )


def _span(holes: Iterable[Hole]) -> str:
    hours = [hole.hour for hole in holes]
    return f"{len(hours)} {'hour' if len(hours) == 1 else 'hours'} of {HourRange(min(hours), max(hours))}"
