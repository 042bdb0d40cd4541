"""The ledger: every call to a provider with its price, and what follows from it.

Belongs here: what was asked when and how it ended, the pace and budget that result, providers that have blocked
us, and which calls of an unfinished range have landed. One database that all processes share: a run of Dagster, a
backfill beside it and ``weather ingest`` count together. Finished calls are copied to ``bronze.api_calls`` when
something lands.

Does not belong here: the limits themselves (the plans of the adapters), waiting (``client``), where the database is
and how it is locked (``state``).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pyarrow as pa
import sqlalchemy as sa

from weather_dagster.state import Database, Instant, Text, open_database
from weather_dagster.weather_api.service import Limit, Service, Window

NAME = "the ledger of calls"
MINUTE = timedelta(seconds=60)
RESUMED_WITHIN = timedelta(days=1)
"""A range that was left unfinished for longer is asked for anew: its hours may have been corrected since."""
_CLOCK_SKEW = timedelta(seconds=5)

_metadata = sa.MetaData()
_calls = sa.Table(
    "calls",
    _metadata,
    sa.Column("call_id", Text, primary_key=True),
    sa.Column("account", Text, nullable=False),
    sa.Column("provider", Text, nullable=False),
    sa.Column("product", Text, nullable=False),
    sa.Column("endpoint", Text, nullable=False),
    sa.Column("dataset", Text),
    sa.Column("location_ids", Text, nullable=False),
    sa.Column("first_hour_utc", sa.BigInteger),
    sa.Column("last_hour_utc", sa.BigInteger),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("asked_at_utc", Instant, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("outcome", Text),
    sa.Column("seconds", sa.Double),
    sa.Column("run_id", Text, nullable=False),
    sa.Column("is_copied", sa.Integer, nullable=False, server_default="0"),
)
_is_to_copy = _calls.c.is_copied == 0
sa.Index("calls_by_time", _calls.c.provider, _calls.c.product, _calls.c.asked_at_utc)
sa.Index("calls_to_copy", _calls.c.is_copied, sqlite_where=_is_to_copy, postgresql_where=_is_to_copy)
_forgotten_calls = sa.Table(
    "forgotten_calls",
    _metadata,
    sa.Column("provider", Text, primary_key=True),
    sa.Column("account", Text, primary_key=True),
    sa.Column("product", Text, primary_key=True),
    sa.Column("outcome", Text, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
)
_blocks = sa.Table(
    "blocks",
    _metadata,
    sa.Column("provider", Text, primary_key=True),
    sa.Column("account", Text, primary_key=True),
    sa.Column("until_utc", Instant, nullable=False),
    sa.Column("reason", Text, nullable=False),
)
_landed = sa.Table(
    "landed",
    _metadata,
    sa.Column("request", Text, primary_key=True),
    sa.Column("call", Text, primary_key=True),
    sa.Column("load_id", sa.BigInteger, nullable=False),
    sa.Column("run_id", Text, nullable=False),
    sa.Column("landed_at_utc", Instant, nullable=False),
)

_of_account = sa.and_(_calls.c.provider == sa.bindparam("provider"), _calls.c.account == sa.bindparam("account"))
_of_product = sa.and_(_of_account, _calls.c.product == sa.bindparam("product"))
_is_blocked = sa.and_(
    *(_blocks.c[name] == sa.bindparam(name) for name in ("provider", "account")),
    _blocks.c.until_utc > sa.bindparam("now"),
)
_ADMIT = sa.insert(_calls)
_CLOSE = (
    sa.update(_calls)
    .where(_calls.c.call_id == sa.bindparam("closed"))
    .values({name: sa.bindparam(name) for name in ("outcome", "status", "seconds")})
)


@cache
def _state_of_limits(count: int) -> sa.Select[Any]:
    """Whether there is a block, then what so many windows that begin at ``since_0`` and so on have spent.

    One statement, for it is asked before each call, while others wait.
    """
    spent = [
        sa.select(sa.func.coalesce(sa.func.sum(_calls.c.weight), 0.0))
        .where(
            _of_product,
            _calls.c.asked_at_utc > sa.bindparam(f"since_{number}"),
            _calls.c.asked_at_utc <= sa.bindparam("until"),
        )
        .scalar_subquery()
        for number in range(count)
    ]
    return sa.select(sa.exists().where(_is_blocked), *spent)


API_CALLS_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("call_id", "provider", "product", "endpoint", "dataset", "location_ids"), pa.string()),
        **dict.fromkeys(("first_hour_utc", "last_hour_utc"), pa.timestamp("s", "UTC")),
        "weight": pa.float64(),
        "status": pa.int64(),
        "outcome": pa.string(),
        "seconds": pa.float64(),
        "asked_at_utc": pa.timestamp("us", "UTC"),
        "run_id": pa.string(),
    }
)
"""Rows of ``bronze.api_calls``."""


class Question(Protocol):
    """What the ledger wants to know of a request."""

    @property
    def product(self) -> str:
        """What it is counted under."""

    @property
    def weight(self) -> float:
        """Its price."""

    @property
    def entry(self) -> Mapping[str, Any]:
        """Endpoint, dataset, places and hours (unix seconds), as columns of the ledger."""


@dataclass(frozen=True)
class Pause:
    """A call may not go out yet."""

    until: datetime
    reason: str
    window: Window | None
    """The window of our own limit that is full; None when the provider itself has blocked us."""


@dataclass(frozen=True)
class Spent:
    """How much of a limit is used in the running window."""

    product: str
    limit: Limit
    amount: float

    @property
    def left(self) -> float:
        """What may still be spent, never below zero."""
        return max(0.0, self.limit.amount - self.amount)


class LandedCall(NamedTuple):
    """A call whose answer has landed, and the newest load that the store then had: where that is, the answer is."""

    key: str
    load_id: int
    run_id: str


def account_of(service: Service) -> str:
    """Tells accounts apart without telling the key: a hash of the credentials, empty without any."""
    secrets = "\n".join(secret.get_secret_value() for secret in service.credentials.values())
    return hashlib.blake2b(secrets.encode(), digest_size=8).hexdigest() if secrets else ""


def window_start(window: Window, now: datetime) -> datetime:
    """Where the running window began, UTC."""
    match window:
        case Window.MINUTE:
            return now - MINUTE
        case Window.HOUR:
            return now.replace(minute=0, second=0, microsecond=0)
        case Window.DAY:
            return now.replace(hour=0, minute=0, second=0, microsecond=0)
        case Window.MONTH:
            return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def window_end(window: Window, now: datetime) -> datetime:
    """Where the running window ends, UTC; of a minute, where all that is spent now counts no more."""
    start = window_start(window, now)
    match window:
        case Window.MINUTE:
            return now + MINUTE
        case Window.HOUR:
            return start + timedelta(hours=1)
        case Window.DAY:
            return start + timedelta(days=1)
        case Window.MONTH:
            return (start + timedelta(days=32)).replace(day=1)


class Ledger:
    """The calls to one service. Get one from ``open_ledger``.

    Every method raises ConfigurationError, naming the database and the way out, when it is locked for longer than
    ``state.LOCK_SECONDS``, damaged, out of reach, or has no room to grow.
    """

    def __init__(self, database: Database, service: Service) -> None:
        self._database = database
        self._service = service
        self._mine = {"provider": service.name, "account": account_of(service)}

    def admit(self, question: Question, run_id: str, clock: Callable[[], datetime]) -> str | Pause:
        """Write a call down before it goes out, and return its id; or say why it may not go out now.

        Of several processes that ask at once one is served first; no limit is ever exceeded between them.

        Args:
            question: what is asked.
            run_id: the run that asks.
            clock: read once the ledger is held: those before us may have kept us waiting, and have asked meanwhile.
        """
        with self._database.transaction() as connection:
            now = clock()
            limits = self._service.limits.get(question.product, ())
            is_blocked, *spent = self._state_of_limits(connection, question.product, limits, now)
            if is_blocked and (block := self._block(connection, now)):
                return block
            for limit, amount in zip(limits, spent, strict=True):
                if amount and amount + question.weight > limit.amount:
                    return self._pause(connection, question.product, limit, now)
            call_id = uuid4().hex
            row = {
                **self._mine,
                **question.entry,
                "call_id": call_id,
                "product": question.product,
                "weight": question.weight,
                "asked_at_utc": now,
                "run_id": run_id,
            }
            connection.execute(_ADMIT, row)
        return call_id

    def close_call(self, call_id: str, outcome: str, status: int | None, seconds: float) -> None:
        """Note how a call ended; ``status`` is None when there was no answer."""
        with self._database.statements() as connection:
            connection.execute(_CLOSE, {"closed": call_id, "outcome": outcome, "status": status, "seconds": seconds})

    def amend_outcome(self, call_id: str, outcome: str) -> None:
        """Correct how a closed call ended, when its reader finds out more; where it was copied already, not there."""
        with self._database.statements() as connection:
            connection.execute(sa.update(_calls).where(_calls.c.call_id == call_id).values(outcome=outcome))

    def open_block(self, until: datetime, reason: str) -> None:
        """Let no call go out before ``until``, in any process."""
        mine = sa.and_(*(_blocks.c[name] == value for name, value in self._mine.items()))
        with self._database.transaction() as connection:
            known = connection.execute(sa.select(_blocks.c.until_utc).where(mine)).scalar()
            connection.execute(sa.delete(_blocks).where(mine))
            longest = max(until, known) if known else until
            connection.execute(sa.insert(_blocks).values(**self._mine, until_utc=longest, reason=reason))

    def block(self, now: datetime) -> Pause | None:
        """The provider's block of this account, while it holds."""
        with self._database.statements() as connection:
            return self._block(connection, now)

    def spent(self, now: datetime) -> list[Spent]:
        """Every limit of the service with what is used of it."""
        with self._database.statements() as connection:
            return [
                Spent(product, limit, amount)
                for product, limits in self._service.limits.items()
                for limit, amount in zip(
                    limits, self._state_of_limits(connection, product, limits, now)[1:], strict=True
                )
            ]

    def calls_by_day(self, product: str, now: datetime) -> list[int]:
        """How many calls each UTC day of the running month had, days without any left out."""
        since = window_start(Window.MONTH, now)
        asked = sa.select(_calls.c.asked_at_utc).where(
            _of_account, _calls.c.product == product, _calls.c.asked_at_utc >= since
        )
        with self._database.statements() as connection:
            instants: Sequence[Any] = connection.scalars(asked, self._mine).all()
        days = Counter(instant.date() for instant in instants)
        return [days[day] for day in sorted(days)]

    def outcomes(self) -> list[tuple[str, str, int]]:
        """How many ended calls of this account each product has, by how they ended; it never falls."""
        kept = sa.select(_calls.c.product, _calls.c.outcome, sa.func.count().label("calls"))
        kept = kept.where(_of_account, _calls.c.outcome.is_not(None)).group_by(_calls.c.product, _calls.c.outcome)
        forgotten = sa.select(_forgotten_calls.c.product, _forgotten_calls.c.outcome, _forgotten_calls.c.calls).where(
            *(_forgotten_calls.c[name] == sa.bindparam(name) for name in self._mine)
        )
        both = sa.union_all(kept, forgotten).subquery()
        counted = sa.select(both.c.product, both.c.outcome, sa.func.sum(both.c.calls))
        counted = counted.group_by(both.c.product, both.c.outcome).order_by(both.c.product, both.c.outcome)
        with self._database.statements() as connection:
            rows: Sequence[Any] = connection.execute(counted, self._mine).all()
        return [(product, outcome, int(calls)) for product, outcome, calls in rows]

    def last_success(self) -> datetime | None:
        """When this account was last answered well."""
        newest = sa.select(sa.func.max(_calls.c.asked_at_utc)).where(_of_account, _calls.c.outcome == "ok")
        with self._database.statements() as connection:
            return connection.execute(newest, self._mine).scalar()

    def landed_calls(self, request: str, now: datetime) -> set[LandedCall]:
        """The calls of a range whose answers have landed since it was begun and not finished."""
        of_request = sa.select(_landed.c.call, _landed.c.load_id, _landed.c.run_id).where(_landed.c.request == request)
        with self._database.statements() as connection:
            connection.execute(sa.delete(_landed).where(_landed.c.landed_at_utc < now - RESUMED_WITHIN))
            rows: Sequence[Any] = connection.execute(of_request).all()
        return {LandedCall(*row) for row in rows}

    def note_landed(self, request: str, calls: Iterable[LandedCall], now: datetime) -> None:
        """Remember what need not be asked again if the range is not finished."""
        rows = {
            key: {"request": request, "call": key, "load_id": load_id, "run_id": run_id, "landed_at_utc": now}
            for key, load_id, run_id in calls
        }
        if not rows:
            return
        again = sa.and_(_landed.c.request == request, _landed.c.call == sa.bindparam("key"))
        with self._database.transaction() as connection:
            connection.execute(sa.delete(_landed).where(again), [{"key": key} for key in rows])
            connection.execute(sa.insert(_landed), list(rows.values()))

    def finish(self, request: str) -> None:
        """The range is complete: asking for it again asks for all of it."""
        with self._database.statements() as connection:
            connection.execute(sa.delete(_landed).where(_landed.c.request == request))

    def calls_to_copy(self) -> pa.Table:
        """Calls of all services that ended and are not in the warehouse yet, schema ``API_CALLS_SCHEMA``."""
        ended = sa.select(*(_calls.c[name] for name in API_CALLS_SCHEMA.names))
        with self._database.statements() as connection:
            rows = connection.execute(ended.where(_is_to_copy, _calls.c.outcome.is_not(None))).all()
        columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(API_CALLS_SCHEMA)
        arrays = [pa.array(column, field.type) for field, column in zip(API_CALLS_SCHEMA, columns, strict=True)]
        return pa.Table.from_arrays(arrays, schema=API_CALLS_SCHEMA)

    def note_copied(self, call_ids: Iterable[str]) -> None:
        """These calls are in the warehouse."""
        copied = sa.update(_calls).where(_calls.c.call_id == sa.bindparam("copied")).values(is_copied=1)
        if rows := [{"copied": call_id} for call_id in call_ids]:
            with self._database.transaction() as connection:
                connection.execute(copied, rows)

    def prune(self, before: datetime, *, dry_run: bool) -> int:
        """Forget the calls of all services that were asked before an instant and are in the warehouse; how many.

        Only their number by outcome stays. What was asked since the month began must not be forgotten: it counts for
        the budget.
        """
        is_old = sa.and_(_calls.c.is_copied == 1, _calls.c.asked_at_utc < before)
        key = [_calls.c[column.name] for column in _forgotten_calls.primary_key]
        counted = sa.select(*key, sa.func.count().label("calls")).where(is_old).group_by(*key)
        with self._database.transaction() as connection:
            groups = [dict(row) for row in connection.execute(counted).mappings()]
            if not dry_run:
                for group in groups:
                    _forget(connection, group)
                connection.execute(sa.delete(_calls).where(is_old))
        return sum(group["calls"] for group in groups)

    def _state_of_limits(
        self, connection: sa.Connection, product: str, limits: Sequence[Limit], now: datetime
    ) -> Sequence[Any]:
        since = {f"since_{number}": window_start(limit.window, now) for number, limit in enumerate(limits)}
        # A clock that was set back leaves calls of the "future", which would count for as long as it was.
        values = {**self._mine, **since, "product": product, "now": now, "until": now + _CLOCK_SKEW}
        return connection.execute(_state_of_limits(len(limits)), values).one()

    def _block(self, connection: sa.Connection, now: datetime) -> Pause | None:
        found = connection.execute(
            sa.select(_blocks.c.until_utc, _blocks.c.reason).where(_is_blocked), {**self._mine, "now": now}
        ).first()
        return Pause(found.until_utc, found.reason, None) if found else None

    def _pause(self, connection: sa.Connection, product: str, limit: Limit, now: datetime) -> Pause:
        until = window_end(limit.window, now)
        if limit.window is Window.MINUTE:
            first = sa.select(sa.func.min(_calls.c.asked_at_utc)).where(
                _of_product, _calls.c.asked_at_utc > window_start(limit.window, now)
            )
            oldest: Any = connection.execute(first, {**self._mine, "product": product}).scalar_one()
            until = oldest + MINUTE
        return Pause(until, f"the limit of {limit.amount:,g} a {limit.window} of {product} is used up", limit.window)


def _forget(connection: sa.Connection, group: Mapping[str, Any]) -> None:
    """Add calls to those of the same account, product and outcome that are kept as a number alone."""
    same = sa.and_(*(column == group[column.name] for column in _forgotten_calls.primary_key))
    more = sa.update(_forgotten_calls).where(same).values(calls=_forgotten_calls.c.calls + group["calls"])
    if connection.execute(more).rowcount == 0:
        connection.execute(sa.insert(_forgotten_calls).values(**group))


@contextmanager
def open_ledger(service: Service, *, read_only: bool = False) -> Iterator[Ledger]:
    """Open the service's ledger.

    Args:
        read_only: to make nothing; where there is none yet, an empty one is read.

    Raises:
        ConfigurationError: it cannot be kept; also of the ledger's methods.
    """
    # The last calls before a power cut may be forgotten: to wait for the disk at each would cost more than the calls.
    with open_database(service.ledger, _metadata, NAME, read_only=read_only, durable=False) as database:
        yield Ledger(database, service)
