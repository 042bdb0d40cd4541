"""Log lines: for people by default, one JSON object a line with WEATHER_LOG_FORMAT=json.

``bound(run_id=..., places=...)`` puts identifiers into every line that is logged within it, in this thread and in
the tasks it starts.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

_fields: ContextVar[MappingProxyType[str, Any]] = ContextVar("log_fields", default=MappingProxyType({}))


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every line of ours logged within."""
    token = _fields.set(MappingProxyType({**_fields.get(), **fields}))
    try:
        yield
    finally:
        _fields.reset(token)


class _Bind(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in _fields.get().items():
            record.__dict__.setdefault(name, value)
        return True


class _Json(JsonFormatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return datetime.fromtimestamp(record.created, UTC).isoformat()


class _Text(logging.Formatter):
    """``WARNING Waiting: ... [run_id=...]``."""

    def format(self, record: logging.LogRecord) -> str:
        told = " ".join(f"{name}={value}" for name, value in _fields.get().items())
        return super().format(record) + (f" [{told}]" if told else "")


def configure(*, as_json: bool) -> None:
    """Log to standard error: warnings for people, everything from INFO on as JSON.

    What people see of the rest is the progress that a command prints.
    """
    handler = logging.StreamHandler()
    handler.addFilter(_Bind())
    if as_json:
        handler.setFormatter(_Json("%(asctime)s %(levelname)s %(name)s %(message)s"))
    else:
        handler.setFormatter(_Text("%(levelname)s %(message)s"))
    # On the handler: Dagster's loggers have a level of their own and hand lower records up all the same.
    handler.setLevel(logging.INFO if as_json else logging.WARNING)
    logging.basicConfig(handlers=[handler])
    logging.getLogger("weather_dagster").setLevel(logging.INFO)
