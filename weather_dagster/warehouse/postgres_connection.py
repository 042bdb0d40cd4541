"""Connections to Postgres: where a server is, how long it is waited for, and what its errors mean."""

import logging
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import tenacity
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo
from psycopg.types.string import TextLoader
from pydantic import SecretStr

from weather_dagster.errors import ConfigurationError, WarehouseError

SETTING = "WEATHER_POSTGRES_URL"
OLDEST_SERVER = 15
"""The first that has unique indexes in which null equals null."""
STATEMENT_TIMEOUT = timedelta(minutes=10)
"""No statement of ours takes longer on any store that is well."""
IDLE_TIMEOUT = timedelta(minutes=1)
"""How long a process that has gone silent within a transaction may keep others waiting."""

_logger = logging.getLogger(__name__)

_UNREADABLE = (
    f"{SETTING} cannot be read; write it like postgresql://user:password@host:5432/database, with %40 for an @ in the "
    "password, %2F for a / and so on"
)

_OWN_FIELDS = {"host", "hostaddr", "port", "user", "dbname", "password"}
_VARIABLES = {option.keyword.decode(): option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}
"""Of libpq, by the parameter of a URL."""

_STARTING = ("the database system is", "connection refused", "too many clients", "remaining connection slots")
"""Words of the server, or of the library, while it starts, stops or is full: it may take a connection soon. The
library tells no code of an error before there is a connection."""


class _NumericLoader(Loader):
    """What DuckDB gives for the same SQL: a sum of integers is one, a mean is a float."""

    def load(self, data: Any) -> int | float:
        text = bytes(data).decode()
        return int(text) if text.lstrip("-").isdigit() else float(text)


@dataclass(frozen=True)
class Address:
    """Where a database is, and who asks. As text without the password."""

    url: SecretStr
    host: str
    port: str
    user: str
    database: str
    password: str = field(repr=False)
    others: Mapping[str, str]
    """What else the URL asks of libpq, as variables of an environment: ``PGSSLMODE``, ``PGSSLROOTCERT`` and so on."""

    @classmethod
    def read(cls, url: SecretStr) -> "Address":
        """Take a URL apart, as libpq does.

        Raises:
            ConfigurationError: it cannot be read; its text is not repeated.
        """
        try:
            parts = conninfo_to_dict(url.get_secret_value())
        except psycopg.ProgrammingError:
            raise ConfigurationError(_UNREADABLE) from None
        user = str(parts.get("user") or os.environ.get("PGUSER") or "")
        address = cls(
            url=url,
            host=str(parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST") or "localhost"),
            port=str(parts.get("port") or os.environ.get("PGPORT") or 5432),
            user=user,
            database=str(parts.get("dbname") or os.environ.get("PGDATABASE") or user),
            password=str(parts.get("password") or os.environ.get("PGPASSWORD") or ""),
            others={_VARIABLES[name]: str(parts[name]) for name in _VARIABLES.keys() & parts.keys() - _OWN_FIELDS},
        )
        # Of a password with an @ or a / as it is, libpq takes a part for the host, the port or the database.
        if "@" in address.host + address.database or not re.fullmatch(r"[\d,]+", address.port):
            raise ConfigurationError(_UNREADABLE)
        return address

    def __str__(self) -> str:
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.database}"


def connect(address: Address, *, read_only: bool, patience: timedelta) -> psycopg.Connection[Any]:
    """A connection in UTC whose statements are transactions of their own.

    A server that starts, stops or has no place left is tried again for as long as ``patience``.

    Raises:
        WarehouseError: naming server, database, role and the way out.
    """

    def tell(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            _logger.warning("Waiting: %s", _why_not_connected(address, state.outcome.exception()))

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_may_connect_soon),
        stop=tenacity.stop_after_delay(patience),
        wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2, jitter=0.2),
        before_sleep=tell,
        reraise=True,
    )
    try:
        connection = retrying(
            psycopg.connect,
            address.url.get_secret_value(),
            autocommit=True,
            # A plan would be kept for statements that come once or twice.
            prepare_threshold=None,
            connect_timeout=max(2, int(patience.total_seconds())),
            application_name=f"weather {socket.gethostname()}:{os.getpid()}",
            client_encoding="utf8",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            # Milliseconds until a server that has vanished in the middle of a COPY is given up.
            tcp_user_timeout=60_000,
        )
    except psycopg.Error as error:
        # Not chained: of a URL the library can repeat more than it should.
        raise WarehouseError(_why_not_connected(address, error)) from None
    if (version := connection.info.server_version // 10_000) < OLDEST_SERVER:
        connection.close()
        raise WarehouseError(
            f"the warehouse {address} is on PostgreSQL {version}; upgrade the server to {OLDEST_SERVER} or newer"
        )
    settings = {
        "TimeZone": "UTC",
        "statement_timeout": _milliseconds(STATEMENT_TIMEOUT),
        "lock_timeout": _milliseconds(patience),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_TIMEOUT),
        # A landing takes its lock first, and has to see what those before it have committed.
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if read_only else "off",
        # Who has its turn is idle for as long as dbt works.
        "idle_session_timeout": "0",
        # A month of readings is sorted in memory.
        "work_mem": "32MB",
    }
    # Texts, as DuckDB gives them.
    for name in ("json", "jsonb"):
        connection.adapters.register_loader(name, TextLoader)
    connection.adapters.register_loader("numeric", _NumericLoader)
    try:
        _set(connection, settings)
    except psycopg.Error as error:
        connection.close()
        raise WarehouseError(explain(address, error)) from None
    return connection


def _set(connection: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
    connection.execute(
        "select set_config(name, value, false) from unnest(%s::text[], %s::text[]) as settings (name, value)",
        (list(settings), list(settings.values())),
    )


def _milliseconds(time: timedelta) -> str:
    return str(max(1, int(time.total_seconds() * 1000)))


def _may_connect_soon(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) and any(text in str(error).lower() for text in _STARTING)


def _why_not_connected(address: Address, error: BaseException | None) -> str:
    text = " ".join(str(error).split()).lower()
    if "password authentication failed" in text or "no password supplied" in text:
        told = f"the password for {address.user!r} is wrong; correct it in {SETTING}"
    elif "database" in text and "does not exist" in text:
        told = (
            f"there is no database {address.database!r}; make it (`createdb {address.database}`), or correct {SETTING}"
        )
    elif "role" in text and "does not exist" in text:
        told = f"there is no role {address.user!r}; correct it in {SETTING}"
    elif "permission denied for database" in text:
        told = f"{address.user!r} may not connect to it; grant connect on the database, or correct {SETTING}"
    elif "pg_hba" in text:
        told = f"the server lets nobody in as {address.user!r} from here; see its pg_hba.conf"
    elif "database system is" in text:
        told = "the server is starting or stopping; run this again when it is up"
    elif "too many" in text or "connection slots" in text:
        told = "the server has no connection left; raise max_connections, or run less at once"
    elif "translate host name" in text or "name or service" in text:
        told = f"the host {address.host!r} is not known; correct it in {SETTING}"
    elif "ssl" in text or "certificate" in text:
        told = f"no secure connection: {' '.join(str(error).split())}; see sslmode in {SETTING}"
    else:
        told = f"nothing answers there; is the server up, and are host and port in {SETTING} right?"
    return f"cannot connect to the warehouse {address}: {told}"


def explain(address: Address, error: psycopg.Error) -> str:
    """What an error of a statement means, and the way out."""
    text = " ".join(str(error.diag.message_primary or error).split())
    if error.diag.message_detail:
        text += f" ({' '.join(error.diag.message_detail.split())})"
    match error:
        case psycopg.errors.DiskFull():
            told = f"the server's disk is full: {text}; nothing of this was written: make room there, and run it again"
        case psycopg.errors.InsufficientPrivilege():
            told = (
                f"{address.user!r} may not do this: {text}; let {SETTING} name weather_writer to land and to run dbt, "
                "weather_owner to upgrade the schema (`weather warehouse roles` makes them)"
            )
        case psycopg.errors.ReadOnlySqlTransaction():
            told = f"it takes no writes: {text}; let {SETTING} name the primary server, and a role that may write"
        case psycopg.errors.LockNotAvailable():
            told = f"another process was in the way for too long: {text}; run this again when it is done"
        case psycopg.errors.QueryCanceled():
            told = f"a statement was cancelled: {text}; it may take {STATEMENT_TIMEOUT.total_seconds():g} s"
        case psycopg.errors.UndefinedTable() | psycopg.errors.InvalidSchemaName():
            told = f"{text}; `weather backfill` makes bronze and lets dbt make the rest"
        case psycopg.OperationalError() if error.sqlstate is None or is_connection_lost(error):
            told = f"the connection was lost: {text}; what was not committed is undone: run this again"
        case _:
            told = text
    return f"the warehouse {address}: {told}"


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server is gone, for this connection at least."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(("08", "57P"))
