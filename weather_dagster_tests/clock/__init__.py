"""A clock that a test sets for whole process trees: `weather dev` with its daemon, code servers, runs and dbt.

    clock = Clock(tmp_path / "clock.json", at=utc_now() + timedelta(hours=1))
    process = subprocess.Popen([BIN / "weather", "dev"], env={**environment, **clock.environment})
    clock.jump(timedelta(hours=30))   # all processes follow within a fifth of a second
    clock.run_at(60)                  # an hour a minute, until run_at(1)
    clock.now()                       # what the processes take for now

The test's own process keeps the real time, and so does gRPC, whose core knows no other. Jump while the processes
are down or no run is in flight: Dagster would take a run that starts at one time and goes on 30 hours later for one
that hangs. The clock may not lie behind the real one: the start of a process, by which a live run is told from a
dead one, is real too. Sleeping and waiting stay real, so that at 60 a daemon that looks every 30 seconds looks
twice a second. `start_timeout_seconds` and `max_runtime_seconds` of run monitoring count by this clock too: at 60 a
run may take three real seconds to start.
"""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

FOLDER = Path(__file__).parent


class Clock:
    """Writes the file that ``sitecustomize`` in the processes follows."""

    def __init__(self, file: Path, at: datetime | None = None, *, speed: float = 1) -> None:
        self._file = file
        self._speed = speed
        self.set(at or datetime.now(UTC))

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to follow: put it over the environment of whatever is started."""
        folders = [str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            "PYTHONPATH": os.pathsep.join(folders),
            "WEATHER_TEST_CLOCK": str(self._file),
            # A daemon that hears nothing of itself for half an hour ends itself; a jump is no silence.
            "DAGSTER_DAEMON_HEARTBEAT_TOLERANCE": str(10**9),
        }

    def now(self) -> datetime:
        """The time of the processes."""
        return datetime.fromtimestamp(self._at + (time.time() - self._since) * self._speed, UTC)

    def jump(self, by: timedelta) -> None:
        """Put the clock forward."""
        self.set(self.now() + by)

    def set(self, at: datetime) -> None:
        """Put the clock to an instant, not behind the real time.

        Raises:
            ValueError: it is.
        """
        if at.timestamp() < time.time() - 1:
            raise ValueError(f"{at} lies behind the real time")
        self._at, self._since = at.timestamp(), time.time()
        self._write()

    def run_at(self, speed: float) -> None:
        """Let the clock run so many times as fast as the real one."""
        self._at, self._since, self._speed = self.now().timestamp(), time.time(), speed
        self._write()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"at": self._at, "since": self._since, "speed": self._speed}), encoding="utf-8")
        new.replace(self._file)
