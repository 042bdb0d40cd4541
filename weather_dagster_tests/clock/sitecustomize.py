"""Moves the clock of a process, and of all that it starts, after a small file. See ``weather_dagster_tests.clock``.

Python imports this by itself where its folder is on PYTHONPATH; without WEATHER_TEST_CLOCK it does nothing.
Wall time alone moves: sleeping, waiting and ``time.monotonic`` stay real.
"""

import importlib.abc
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

FOLLOW_SECONDS = 0.1
ENOUGH = 0.05
"""The clock is left alone as long as it is off by less, seconds."""
SCHEDULER_SECONDS = 10
"""Seconds of the clock between two looks of the scheduler."""
PATIENCE_SECONDS = 60
"""Real seconds without a sign of its parent after which a code server ends. A sign comes every second, but none as
long as the server loads."""


def follow(file: Path) -> None:
    """Set the clock to what the file tells, now and from now on."""
    import time_machine

    def wanted(real: float) -> float:
        told = json.loads(file.read_text(encoding="utf-8"))
        return float(told["at"] + (real - told["since"]) * told["speed"])

    traveller = time_machine.travel(wanted(time.time()), tick=True).start()

    def keep_up() -> None:
        while file.exists():
            off = wanted(time_machine.escape_hatch.time.time()) - time.time()
            if abs(off) > ENOUGH:
                # Not move_to: for a moment it would tell another thread a time in the future.
                traveller.shift(off)
            time.sleep(FOLLOW_SECONDS)

    def start() -> None:
        threading.Thread(target=keep_up, daemon=True, name="test-clock").start()

    os.register_at_fork(after_in_child=start)
    start()


def _hear_in_real_time(owner: str, method: str) -> Callable[[Any], None]:
    """For a code server, which takes its parent for dead by comparing wall times: it must not do so after a jump."""

    def heartbeat_thread(server: Any, _: float) -> None:
        stop = server._shutdown_once_executions_finish_event
        heard = None
        while not stop.wait(PATIENCE_SECONDS):
            before, heard = heard, getattr(server, f"_{owner}__last_heartbeat_time")
            if heard == before:
                stop.set()

    def patch(module: Any) -> None:
        assert callable(getattr(getattr(module, owner), method))
        setattr(getattr(module, owner), method, heartbeat_thread)

    return patch


def _wait_in_real_time(module: Any) -> None:
    """For gRPC, whose core compares the deadlines that its Python part makes with the real clock."""
    import time_machine

    real = SimpleNamespace(**{**vars(time), "time": time_machine.escape_hatch.time.time})
    module.time = real
    if core := getattr(module, "cygrpc", None):
        core.time = real


def _look_every_few_seconds(module: Any) -> None:
    """For the scheduler, which waits for the next minute in real seconds: on a fast clock that is minutes late."""
    assert callable(module._get_next_scheduler_iteration_time)
    module._get_next_scheduler_iteration_time = lambda start: start + SCHEDULER_SECONDS


PATCHES: dict[str, Callable[[Any], None]] = {
    "dagster._scheduler.scheduler": _look_every_few_seconds,
    "dagster._grpc.server": _hear_in_real_time("DagsterApiServer", "_heartbeat_thread"),
    "dagster._grpc.proxy_server": _hear_in_real_time("DagsterProxyApiServicer", "_server_heartbeat_thread"),
    "grpc._channel": _wait_in_real_time,
    "grpc._common": _wait_in_real_time,
    "grpc._server": _wait_in_real_time,
    "grpc._utilities": _wait_in_real_time,
}


class _Patching(importlib.abc.MetaPathFinder):
    """Patches modules right after they are imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec
        assert spec.origin
        spec.loader = _PatchingLoader(name, spec.origin)
        return spec


class _PatchingLoader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        PATCHES[module.__name__](module)


if clock := os.environ.get("WEATHER_TEST_CLOCK"):
    sys.meta_path.insert(0, _Patching())
    follow(Path(clock))
