"""The pace of calls: one limit for all that ask a provider under one key, in any loop, run or process of a home.

The calls of the last window are kept in a small SQLite file behind a file lock (pyrate-limiter): a run of
Dagster, a backfill beside it and ``weather ingest`` share it. Two homes with the same key do not.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pyrate_limiter import Limiter, Rate, SingleBucketFactory, SQLiteBucket

from weather_dagster.errors import ConfigurationError
from weather_dagster.weather_api.service import RateLimit, Service


class RateLimiter:
    """Lets ``limit.calls`` through in any ``limit.seconds``; an async context manager.

    Raises:
        ConfigurationError: the file cannot be kept.
    """

    def __init__(self, limit: RateLimit, service: Service) -> None:
        self._limit = limit
        # The key itself is written nowhere.
        secrets = "\n".join(secret.get_secret_value() for secret in service.credentials.values())
        self._table = f"{service.name}_{hashlib.blake2b(secrets.encode(), digest_size=8).hexdigest()}"

    async def __aenter__(self) -> Self:
        interval = round(self._limit.seconds * 1000)
        path = self._limit.kept_in
        with _file_faults_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._bucket = SQLiteBucket.init_from_file(
                [Rate(self._limit.calls, interval)], table=self._table, db_path=str(path), use_file_lock=True
            )
            now = self._bucket.now()  # type: ignore[no-untyped-call]
            self._bucket.leak(now)
            newest = self._bucket.peek(0)
            # The clock was set back: calls of the "future" would block for as long as it was.
            if newest is not None and newest.timestamp > now + interval:
                self._bucket.flush()
        # Without a thread that clears the bucket: it is cleared above.
        self._limiter = Limiter(SingleBucketFactory(self._bucket, schedule_leak=False))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bucket.close()  # type: ignore[no-untyped-call]

    async def acquire(self) -> None:
        """Wait until one more call may go out, and count it."""
        with _file_faults_named(self._limit.kept_in):
            await self._limiter.try_acquire_async(self._table)


@contextmanager
def _file_faults_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the pace of calls cannot be kept in {path}: {error}; set WEATHER_HOME to a place that can be written, "
            "and if the file is damaged, delete it"
        ) from None
