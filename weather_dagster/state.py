"""What all processes must agree on: the databases of the call ledger and the alert book.

Belongs here: where they are in each environment, how they are opened and locked, and how their faults are told. Does
not belong here: what they hold (``weather_api.ledger``, ``alerts.book``). On one machine each is an SQLite file of the
home; pods have a home each, so theirs are in a Postgres.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa
from pydantic import SecretStr

from weather_dagster.environments import environment_of, require_postgres_url
from weather_dagster.errors import ConfigurationError, WarehouseError
from weather_dagster.settings import Settings

Place = Path | SecretStr
"""Where a database is: an SQLite file, or the URL of a Postgres."""

SCHEMA = "weather_state"
"""Of the tables in Postgres, where the warehouse or Dagster's own records may be beside them."""
LOCK_SECONDS = 30


def ledger_place(settings: Settings) -> Place:
    """Where the ledger of calls is.

    Raises:
        ConfigurationError: the environment wants a Postgres, and none is named.
    """
    return _place(settings, "ledger.sqlite")


def alerts_place(settings: Settings) -> Place:
    """Where the alert book is.

    Raises:
        ConfigurationError: the environment wants a Postgres, and none is named.
    """
    return _place(settings, "alerts.sqlite")


def _place(settings: Settings, file: str) -> Place:
    return require_postgres_url(settings) if environment_of(settings).is_shared else settings.home / file


class Instant(sa.TypeDecorator[datetime]):
    """An aware instant as unix seconds: the same in every database."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> float | None:
        return value.timestamp() if value else None

    def process_result_value(self, value: float | None, dialect: sa.Dialect) -> datetime | None:
        return datetime.fromtimestamp(value, UTC) if value is not None else None


class Text(sa.TypeDecorator[str]):
    """Text, whoever wrote it: Postgres takes no zero character."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value and value.replace("\0", "\N{REPLACEMENT CHARACTER}")


class Database:
    """An open database. Get one from ``open_database``."""

    def __init__(self, connection: sa.Connection, name: str, place: Place) -> None:
        self._connection = connection
        self._name = name
        self._place = place

    @contextmanager
    def statements(self) -> Iterator[sa.Connection]:
        """A connection of which each statement stands for itself."""
        with _faults_named(self._name, self._place):
            try:
                yield self._connection
            except BaseException:
                # After this a connection that was lost is made again.
                self._connection.rollback()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction, beside which no other runs: what it has read holds until it has written."""
        with _faults_named(self._name, self._place), _alone(self._connection, self._name):
            yield self._connection


@contextmanager
def open_database(
    place: Place, metadata: sa.MetaData, name: str, *, read_only: bool = False, durable: bool = True
) -> Iterator[Database]:
    """Open a database, with its tables.

    Args:
        name: what it is, for messages and for the lock.
        read_only: to make nothing; where there is none yet, an empty one is read.
        durable: whether a commit waits for the disk. If not, the last ones may be lost when the power fails.

    Raises:
        ConfigurationError: naming it and the way out: it cannot be reached, read or written, or is damaged.
    """
    with _faults_named(name, place):
        connection = _connect(place, metadata, read_only=read_only, durable=durable)
    try:
        yield Database(connection, name, place)
    finally:
        connection.close()


def _connect(place: Place, metadata: sa.MetaData, *, read_only: bool, durable: bool) -> sa.Connection:
    if isinstance(place, SecretStr):
        connection = _postgres(place.get_secret_value(), LOCK_SECONDS).connect()
        settings = [] if durable else ["set synchronous_commit = off"]
        closing = "set default_transaction_read_only = on"
    elif read_only and not _is_there(place):
        return _empty(metadata)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        connection = _sqlite(str(place), LOCK_SECONDS).connect()
        settings = ["pragma journal_mode = wal", f"pragma synchronous = {'full' if durable else 'normal'}"]
        closing = "pragma query_only = on"
    try:
        there = set(sa.inspect(connection).get_table_names(_schema(connection)))
        if read_only and not there & metadata.tables.keys():
            connection.close()
            return _empty(metadata)
        for setting in settings:
            connection.exec_driver_sql(setting)
        if not metadata.tables.keys() <= there:
            _make_tables(connection, metadata)
        if read_only:
            connection.exec_driver_sql(closing)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _empty(metadata: sa.MetaData) -> sa.Connection:
    connection = _sqlite(":memory:", LOCK_SECONDS).connect()
    metadata.create_all(connection)
    return connection


def _make_tables(connection: sa.Connection, metadata: sa.MetaData) -> None:
    # Several pods may start at once, and "if not exists" of Postgres alone does not keep them apart.
    with _alone(connection, SCHEMA):
        if schema := _schema(connection):
            connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
        metadata.create_all(connection)


@contextmanager
def _alone(connection: sa.Connection, name: str) -> Iterator[None]:
    """A transaction that locks before it reads: one that locks later may find that it has read old rows."""
    is_postgres = connection.dialect.name == "postgresql"
    try:
        if is_postgres:
            connection.exec_driver_sql(f"begin; select pg_advisory_xact_lock(hashtextextended('{name}', 0))")
        else:
            connection.exec_driver_sql("begin immediate")
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _schema(connection: sa.Connection) -> str | None:
    return SCHEMA if connection.dialect.name == "postgresql" else None


# Engines are kept, as they learn of the server and compile statements once; connections are not: processes fork.
@lru_cache(maxsize=8)
def _postgres(url: str, lock_seconds: float) -> sa.Engine:
    # Here, not above: on one machine nothing needs the driver.
    from weather_dagster.warehouse.postgres_connection import Address, connect

    address = Address.read(SecretStr(url))
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(address, read_only=False, patience=timedelta(seconds=lock_seconds)),
        isolation_level="AUTOCOMMIT",
        poolclass=sa.NullPool,
        use_native_hstore=False,
    )
    return engine.execution_options(schema_translate_map={None: SCHEMA})


@lru_cache(maxsize=8)
def _sqlite(path: str, lock_seconds: float) -> sa.Engine:
    url = sa.URL.create("sqlite", database=path)
    # Without it the driver would begin transactions of its own, which lock too late.
    return sa.create_engine(
        url, connect_args={"timeout": lock_seconds}, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )


@contextmanager
def _faults_named(name: str, place: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, WarehouseError, sa.exc.SQLAlchemyError) as error:
        raise ConfigurationError(_told(name, place, error)) from None


def _told(name: str, place: Place, error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    if isinstance(place, Path):
        return (
            f"{name} cannot be kept in {place}: {cause}; end the process that holds it, make room, or set WEATHER_HOME "
            "to a place that can be written; if the file is damaged, move it aside"
        )
    if isinstance(error, WarehouseError):
        return f"{name} cannot be kept: {error}"
    from weather_dagster.warehouse.postgres_connection import Address

    primary = cause.diag.message_primary if hasattr(cause, "diag") else None
    return (
        f"{name} cannot be kept in the schema {SCHEMA} of {Address.read(place)}: {primary or cause}; end the process "
        "that holds it, make room, or let WEATHER_POSTGRES_URL name a role that may make this schema, or write in it"
    )
