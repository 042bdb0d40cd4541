"""What every warehouse can do, whatever engine it stands on.

SQL that is written outside this folder is understood by DuckDB and Postgres alike: names and casts of the standard,
``$name`` for parameters, ``= any($names)`` for lists, no comments, ``qualify``, ``group by all``, ``semi join``,
``list`` or ``arg_max``; ``unnest`` and ``generate_series`` as tables alone, with an alias and its column; ``round``
before a cast to ``integer``, which rounds here and truncates there. Databricks gets it translated. Engines differ in
how they sort and print text, round and write times: that is done in Python.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, fields
from dataclasses import field as dataclass_field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from weather_dagster.datasets import Dataset, Rejection
from weather_dagster.hours import HourRange
from weather_dagster.locations import Location

LOCK_TIMEOUT = timedelta(seconds=30)
"""How long another process that is in the way is waited for before an error says who it is."""

QUARANTINE_COLUMNS = (
    "dataset, provider, endpoint, location_id, hour_utc, reason, field, message, payload, payload_hash, "
    "contract_version, quarantined_at_utc, run_id, load_id"
)
"""What a landing fills in, named, so that a later version of the schema can add a column."""


@dataclass(frozen=True)
class Landed:
    """What one landing transaction changed."""

    load_id: int | None
    """None when the store held everything already: nothing was written then."""
    rows_added: int
    quarantined: int
    resolved: int = 0
    """Entries of the quarantine that it settled."""


@dataclass(frozen=True)
class QuarantineKey:
    """What identifies an entry of bronze.quarantine: coming again, it is kept once, open or resolved."""

    dataset: str
    provider: str
    location_id: str
    hour_utc: datetime
    reason: str
    field: str | None
    payload_hash: str


_REJECTION_SCHEMA = pa.schema(
    {
        **dict.fromkeys(("dataset", "provider", "endpoint", "location_id"), pa.string()),
        "hour_utc": pa.timestamp("s", "UTC"),
        **dict.fromkeys(("reason", "field", "message", "payload", "payload_hash"), pa.string()),
    }
)
_QUARANTINE_KEY_SCHEMA = pa.schema([_REJECTION_SCHEMA.field(field.name) for field in fields(QuarantineKey)])


def rejection_table(rejections: Sequence[Rejection]) -> pa.Table:
    """Rejections for a store to compare with what it keeps, each that makes one entry once."""
    once = {tuple(getattr(r, name) for name in _QUARANTINE_KEY_SCHEMA.names): vars(r) for r in reversed(rejections)}
    return pa.Table.from_pylist([*once.values()], schema=_REJECTION_SCHEMA)


def quarantine_key_table(entries: Sequence[QuarantineKey]) -> pa.Table:
    """Entries of the quarantine for a store to find."""
    return pa.Table.from_pylist([vars(e) for e in entries], schema=_QUARANTINE_KEY_SCHEMA)


@dataclass(frozen=True)
class Load:
    """What one landing transaction brings."""

    dataset: Dataset
    records: pa.Table
    """Schema ``dataset.arrow_schema``; of several rows for one reading one is kept."""
    rejections: Sequence[Rejection]
    locations: Sequence[Location]
    _: KW_ONLY
    provider: str
    hours: HourRange
    run_id: str
    now: datetime
    resolved: Sequence[QuarantineKey] = ()
    """Entries of the quarantine that it settles."""

    def origin(self, load_id: int) -> dict[str, Any]:
        """Parameters that tell of each of its rows when, by whom and in which landing it came."""
        return {"now": self.now, "run_id": self.run_id, "load_id": load_id}

    def row(self, rows_added: int, quarantined: int) -> dict[str, Any]:
        """Its columns of ``bronze.loads``, but for ``load_id``."""
        return {
            "dataset": str(self.dataset.name),
            "provider": self.provider,
            "run_id": self.run_id,
            "first_hour_utc": self.hours.first,
            "last_hour_utc": self.hours.last,
            "rows_added": rows_added,
            "quarantined": quarantined,
            "landed_at_utc": self.now,
        }


class Source(NamedTuple):
    """Who answered, and where."""

    provider: str
    endpoint: str


@dataclass
class PayloadFields:
    """Which fields the payloads of a source hold."""

    rows: int = 0
    counts: Counter[str] = dataclass_field(default_factory=Counter)
    """Rows by path, two levels deep, such as ``main.temp``; in a list the first element counts. Null is absent."""


class Warehouse(ABC):
    """An open warehouse. Get one from a ``Store``."""

    @abstractmethod
    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of one SELECT. Instants come aware, in UTC."""

    @abstractmethod
    def query_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The same, each row by the names of its columns."""

    @abstractmethod
    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run one INSERT, UPDATE or DELETE, by itself a transaction; how many rows it changed."""

    @abstractmethod
    def land(self, load: Load) -> Landed:
        """Land a load in one transaction: new readings and new versions, nothing twice.

        A record is new when the newest version of its reading (``dataset.version_key``) has another
        ``payload_hash``. Rejections are kept once each. Places whose description changed carry the
        new ``load_id``, so that models which depend on it recompute them.
        """

    @abstractmethod
    def record_calls(self, calls: pa.Table) -> int:
        """Copy finished calls of the ledger; what is there already, by ``call_id``, stays as it is.

        Args:
            calls: schema ``API_CALLS_SCHEMA``, each ``call_id`` once.

        Returns:
            How many were new.
        """

    @abstractmethod
    def payload_fields(
        self, dataset: Dataset, hours: HourRange, source: Source | None = None
    ) -> dict[Source, PayloadFields]:
        """Which fields the payloads of these hours hold, by source; of one source where it is given.

        Of very many payloads a store may look at some, as many as tell what is usual.
        """

    @abstractmethod
    def registered(self, name: str, table: pa.Table) -> AbstractContextManager[None]:
        """Let SQL name an Arrow table for a while."""

    def providers(self) -> set[str]:
        """Whose rows there are."""
        # A load without rows keeps bodies that nobody could read: whose they were is not known.
        return {name for (name,) in self.query("select distinct provider from bronze.loads where rows_added > 0")}

    def tables(self) -> set[str]:
        """Names of all tables there are, such as ``bronze.loads``."""
        rows = self.query(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema in ('bronze', 'silver', 'gold')"
        )
        return {f"{schema}.{table}" for schema, table in rows}

    def _insert_load(self, load_id: int, row: Mapping[str, Any]) -> None:
        values = {"load_id": load_id, **row}
        names = ", ".join(f"${name}" for name in values)
        self.execute(f"insert into bronze.loads ({', '.join(values)}) values ({names})", values)


class Store(Protocol):
    """Where a warehouse is, and how to get at it. As text: for messages, without secrets."""

    def exists(self) -> bool:
        """Whether there is anything to read yet."""
        ...

    def open(self, *, read_only: bool = False, patience: timedelta = LOCK_TIMEOUT) -> AbstractContextManager[Warehouse]:
        """Open it, with its bronze tables, and close it whatever happens.

        Args:
            patience: how long another process that is in the way is waited for.

        Raises:
            WarehouseError: there is none yet (``read_only``), it cannot be reached or written, or another process
                was in the way for longer than ``patience``.
        """

    def dbt_environment(self) -> dict[str, str]:
        """What dbt's profile reads to find the same store."""


def payload_paths(payload: Any) -> Iterator[str]:
    """Paths of what a payload holds, two levels deep; in a list the first element counts."""
    for name, inner in payload.items() if isinstance(payload, dict) else ():
        if inner is None:
            continue
        yield name
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, dict):
            yield from (f"{name}.{below}" for below, value in inner.items() if value is not None)
