"""The ledger: every call to a provider with its price, and what follows from it.

Belongs here: what was asked when and how it ended, the pace and budget that result, providers that have blocked
us, and which calls of an unfinished range have landed. One SQLite file a home, shared by all processes of it: a run
of Dagster, a backfill beside it and ``weather ingest`` count together. Finished calls are copied to
``bronze.api_calls`` when something lands.

Does not belong here: the limits themselves (the plans of the adapters), waiting (``client``).
"""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import uuid4

import pyarrow as pa

from weather_dagster.errors import ConfigurationError
from weather_dagster.weather_api.service import Limit, Service, Window

LOCK_SECONDS = 30
MINUTE = timedelta(seconds=60)
RESUMED_WITHIN = timedelta(days=1)
"""A range that was left unfinished for longer is asked for anew: its hours may have been corrected since."""
_CLOCK_SKEW = timedelta(seconds=5)

TABLES = """
create table if not exists calls (
    call_id text primary key,
    account text not null,
    provider text not null,
    product text not null,
    endpoint text not null,
    dataset text,
    location_ids text not null,
    first_hour_utc integer,
    last_hour_utc integer,
    weight real not null,
    asked_at_utc real not null,
    status integer,
    outcome text,
    seconds real,
    run_id text not null,
    is_copied integer not null default 0
);
create index if not exists calls_by_time on calls (provider, product, asked_at_utc);
create index if not exists calls_to_copy on calls (is_copied) where is_copied = 0;
create table if not exists forgotten_calls (
    provider text not null,
    account text not null,
    product text not null,
    outcome text not null,
    calls integer not null,
    primary key (provider, account, product, outcome)
);
create table if not exists blocks (
    provider text not null,
    account text not null,
    until_utc real not null,
    reason text not null,
    primary key (provider, account)
);
create table if not exists landed (
    request text not null,
    call text not null,
    load_id integer not null,
    run_id text not null,
    landed_at_utc real not null,
    primary key (request, call)
);
"""

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
    """The calls of one home to one service. Get one from ``open_ledger``.

    Every method raises ConfigurationError, naming the file and the way out, when the file is locked for longer than
    ``LOCK_SECONDS``, damaged, or has no room to grow.
    """

    def __init__(self, connection: sqlite3.Connection, service: Service) -> None:
        self._connection = connection
        self._service = service
        self._account = account_of(service)

    def admit(self, question: Question, run_id: str, clock: Callable[[], datetime]) -> str | Pause:
        """Write a call down before it goes out, and return its id; or say why it may not go out now.

        Of several processes that ask at once one is served first; no limit is ever exceeded between them.

        Args:
            question: what is asked.
            run_id: the run that asks.
            clock: read once the file is held: those before us may have kept us waiting, and have asked meanwhile.
        """
        with self._transaction():
            now = clock()
            if block := self.block(now):
                return block
            for limit in self._service.limits.get(question.product, ()):
                spent = self._spent(question.product, limit.window, now)
                if spent and spent + question.weight > limit.amount:
                    return self._pause(question.product, limit, now)
            call_id = uuid4().hex
            row = {
                "call_id": call_id,
                "account": self._account,
                "provider": self._service.name,
                "product": question.product,
                **question.entry,
                "weight": question.weight,
                "asked_at_utc": now.timestamp(),
                "run_id": run_id,
            }
            marks = ", ".join(f":{name}" for name in row)
            self._rows(f"insert into calls ({', '.join(row)}) values ({marks})", row)
        return call_id

    def close_call(self, call_id: str, outcome: str, status: int | None, seconds: float) -> None:
        """Note how a call ended; ``status`` is None when there was no answer."""
        self._rows(
            "update calls set outcome = ?, status = ?, seconds = ? where call_id = ?",
            [outcome, status, seconds, call_id],
        )

    def amend_outcome(self, call_id: str, outcome: str) -> None:
        """Correct how a closed call ended, when its reader finds out more; where it was copied already, not there."""
        self._rows("update calls set outcome = ? where call_id = ?", [outcome, call_id])

    def open_block(self, until: datetime, reason: str) -> None:
        """Let no call go out before ``until``, in any process."""
        self._rows(
            "insert into blocks values (?, ?, ?, ?) on conflict do update set "
            "until_utc = max(until_utc, excluded.until_utc), reason = excluded.reason",
            [self._service.name, self._account, until.timestamp(), reason],
        )

    def block(self, now: datetime) -> Pause | None:
        """The provider's block of this account, while it holds."""
        rows = self._rows(
            "select until_utc, reason from blocks where provider = ? and account = ? and until_utc > ?",
            [self._service.name, self._account, now.timestamp()],
        )
        return Pause(datetime.fromtimestamp(rows[0][0], UTC), rows[0][1], None) if rows else None

    def spent(self, now: datetime) -> list[Spent]:
        """Every limit of the service with what is used of it."""
        return [
            Spent(product, limit, self._spent(product, limit.window, now))
            for product, limits in self._service.limits.items()
            for limit in limits
        ]

    def calls_by_day(self, product: str, now: datetime) -> list[int]:
        """How many calls each UTC day of the running month had, days without any left out."""
        since = window_start(Window.MONTH, now).timestamp()
        rows = self._rows(
            "select count(*) from calls where provider = ? and product = ? and account = ? and asked_at_utc >= ? "
            "group by cast(asked_at_utc / 86400 as integer)",
            [self._service.name, product, self._account, since],
        )
        return [calls for (calls,) in rows]

    def outcomes(self) -> list[tuple[str, str, int]]:
        """How many ended calls of this account each product has, by how they ended; it never falls."""
        mine = "where provider = :provider and account = :account"
        return self._rows(
            f"""
            select product, outcome, sum(calls)
            from (
                select product, outcome, count(*) as calls from calls {mine} and outcome is not null
                group by product, outcome
                union all
                select product, outcome, calls from forgotten_calls {mine}
            )
            group by product, outcome
            order by product, outcome
            """,
            {"provider": self._service.name, "account": self._account},
        )

    def last_success(self) -> datetime | None:
        """When this account was last answered well."""
        ((asked_at,),) = self._rows(
            "select max(asked_at_utc) from calls where provider = ? and account = ? and outcome = 'ok'",
            [self._service.name, self._account],
        )
        return None if asked_at is None else datetime.fromtimestamp(asked_at, UTC)

    def landed_calls(self, request: str, now: datetime) -> set[LandedCall]:
        """The calls of a range whose answers have landed since it was begun and not finished."""
        since = (now - RESUMED_WITHIN).timestamp()
        self._rows("delete from landed where landed_at_utc < ?", [since])
        rows = self._rows("select call, load_id, run_id from landed where request = ?", [request])
        return {LandedCall(*row) for row in rows}

    def note_landed(self, request: str, calls: Iterable[LandedCall], now: datetime) -> None:
        """Remember what need not be asked again if the range is not finished."""
        with self._transaction():
            self._connection.executemany(
                "insert or replace into landed values (?, ?, ?, ?, ?)",
                [(request, *call, now.timestamp()) for call in calls],
            )

    def finish(self, request: str) -> None:
        """The range is complete: asking for it again asks for all of it."""
        self._rows("delete from landed where request = ?", [request])

    def calls_to_copy(self) -> pa.Table:
        """Calls of all services that ended and are not in the warehouse yet, schema ``API_CALLS_SCHEMA``."""
        rows = self._rows(
            f"select {', '.join(API_CALLS_SCHEMA.names)} from calls where is_copied = 0 and outcome is not null"
        )
        columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(API_CALLS_SCHEMA)
        arrays = []
        for field, column in zip(API_CALLS_SCHEMA, columns, strict=True):
            if pa.types.is_timestamp(field.type):
                column = [None if value is None else datetime.fromtimestamp(value, UTC) for value in column]
            arrays.append(pa.array(column, field.type))
        return pa.Table.from_arrays(arrays, schema=API_CALLS_SCHEMA)

    def note_copied(self, call_ids: Iterable[str]) -> None:
        """These calls are in the warehouse."""
        with self._transaction():
            self._connection.executemany("update calls set is_copied = 1 where call_id = ?", [(i,) for i in call_ids])

    def prune(self, before: datetime, *, dry_run: bool) -> int:
        """Forget the calls of all services that were asked before an instant and are in the warehouse; how many.

        Only their number by outcome stays. What was asked since the month began must not be forgotten: it counts for
        the budget.
        """
        old = "from calls where is_copied = 1 and asked_at_utc < ?"
        with self._transaction():
            ((calls,),) = self._rows(f"select count(*) {old}", [before.timestamp()])
            if not dry_run:
                self._rows(
                    "insert into forgotten_calls select provider, account, product, outcome, count(*) "
                    f"{old} group by provider, account, product, outcome "
                    "on conflict do update set calls = calls + excluded.calls",
                    [before.timestamp()],
                )
                self._rows(f"delete {old}", [before.timestamp()])
        return int(calls)

    def _spent(self, product: str, window: Window, now: datetime) -> float:
        # A clock that was set back leaves calls of the "future", which would count for as long as it was.
        ((amount,),) = self._rows(
            "select coalesce(sum(weight), 0) from calls "
            "where provider = ? and product = ? and account = ? and asked_at_utc > ? and asked_at_utc <= ?",
            [
                self._service.name,
                product,
                self._account,
                window_start(window, now).timestamp(),
                (now + _CLOCK_SKEW).timestamp(),
            ],
        )
        return float(amount)

    def _pause(self, product: str, limit: Limit, now: datetime) -> Pause:
        until = window_end(limit.window, now)
        if limit.window is Window.MINUTE:
            ((first,),) = self._rows(
                "select min(asked_at_utc) from calls "
                "where provider = ? and product = ? and account = ? and asked_at_utc > ?",
                [self._service.name, product, self._account, window_start(limit.window, now).timestamp()],
            )
            until = datetime.fromtimestamp(first, UTC) + MINUTE
        return Pause(until, f"the limit of {limit.amount:,g} a {limit.window} of {product} is used up", limit.window)

    def _rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        with _file_faults_named(self._service.ledger):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _file_faults_named(self._service.ledger):
            self._connection.execute("begin immediate")
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                # After some faults, a full disk for one, SQLite has rolled back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                raise


@contextmanager
def open_ledger(service: Service) -> Iterator[Ledger]:
    """Open the service's ledger file.

    Raises:
        ConfigurationError: the file cannot be kept; also of the ledger's methods.
    """
    path = service.ledger
    with _file_faults_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    try:
        with _file_faults_named(path):
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.executescript(TABLES)
        yield Ledger(connection, service)
    finally:
        connection.close()


@contextmanager
def _file_faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the ledger of calls cannot be kept in {path}: {error}; end the process that holds it, make room, or set "
            "WEATHER_HOME to a place that can be written; if the file is damaged, move it aside"
        ) from None
