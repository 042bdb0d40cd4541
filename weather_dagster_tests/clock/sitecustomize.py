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
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLLOW_SECONDS = 0.1
ENOUGH = 0.05
"""The clock is left alone as long as it is off by less, seconds."""
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


def _wait_for_silence(heard_in: str) -> Any:
    """Dagster compares wall times to see whether a server's parent lives, which a jump would be taken for its death."""

    def heartbeat_thread(server: Any, _: float) -> None:
        stop = server._shutdown_once_executions_finish_event
        heard = getattr(server, heard_in)
        while not stop.wait(PATIENCE_SECONDS):
            before, heard = heard, getattr(server, heard_in)
            if heard == before:
                stop.set()

    return heartbeat_thread


HEARTBEATS = {
    "dagster._grpc.server": ("DagsterApiServer", "_heartbeat_thread"),
    "dagster._grpc.proxy_server": ("DagsterProxyApiServicer", "_server_heartbeat_thread"),
}
"""Class and method, by module, that ends a code server whose parent is gone."""


class _Heartbeats(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Replaces them as the modules are imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in HEARTBEATS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            self.original = spec.loader
            spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        importlib.machinery.SourceFileLoader(module.__name__, str(module.__file__)).exec_module(module)
        owner, method = HEARTBEATS[module.__name__]
        assert callable(getattr(getattr(module, owner), method))
        setattr(getattr(module, owner), method, _wait_for_silence(f"_{owner}__last_heartbeat_time"))


if clock := os.environ.get("WEATHER_TEST_CLOCK"):
    sys.meta_path.insert(0, _Heartbeats())
    follow(Path(clock))
