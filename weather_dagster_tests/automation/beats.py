"""Signs of life of Dagster's daemon, as it leaves them in its storage."""

from datetime import datetime

from dagster import DagsterInstance
from dagster._daemon.types import DaemonHeartbeat


def beat(instance: DagsterInstance, at: datetime) -> None:
    """A heartbeat at an instant (aware)."""
    instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), "SENSOR", "d", []))
