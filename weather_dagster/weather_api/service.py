"""What the client must know of a provider, and how patient it is: values, without the client's libraries."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

PROVIDER_HEADER = "X-Weather-Provider"
"""Header in which made-up and recorded weather names itself, whoever was thought to be asked."""


@dataclass(frozen=True)
class RateLimit:
    """At most ``calls`` in any ``seconds``."""

    calls: int
    kept_in: Path
    """File that tells of the calls made; all who name the same one share the limit."""
    seconds: float = 60


@dataclass(frozen=True)
class Service:
    """What the client must know of a provider."""

    name: str
    credentials: Mapping[str, SecretStr]
    """Query parameters that are secret."""
    verdict: Callable[[Any], tuple[int | None, str | None]]
    """HTTP status and message that a parsed body itself declares, where it does."""
    hints: Mapping[int, str]
    """Ways out by HTTP status."""
    rate_limit: RateLimit | None = None


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try, seconds."""

    connect: float = 10
    read: float = 30
    attempt: float = 120
    """Bounds a whole attempt: a server that drips bytes never runs into the read time-out."""
    attempts: int = 4
    wait_initial: float = 0.5
    wait_max: float = 15
    wait_jitter: float = 1
