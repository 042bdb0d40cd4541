"""Starts the stand-in and talks to it as the tests need."""

import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weather_dagster_tests.databricks import environment

SERVER = Path(__file__).with_name("server.py")
TOKEN = "dapi-stand-in-0123456789abcdef"
"""Searched for in whatever is told to a person."""
CLIENT_ID, CLIENT_SECRET = "stand-in-client", "stand-in-secret"
HTTP_PATH = "/sql/1.0/warehouses/0123456789abcdef"


class StandIn:
    """A running server."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self._statements = folder / "statements.jsonl"
        self._seen = 0

    @property
    def settings(self) -> dict[str, str]:
        """The environment of an account at this warehouse."""
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_HTTP_PATH": HTTP_PATH, "DATABRICKS_TOKEN": TOKEN}

    def reset(self) -> None:
        """No tables, no faults, no statements."""
        self._post("reset", {})
        self._seen = len(self._read())

    def fail(self, **faults: Any) -> None:
        """Set faults; see ``server.Faults``."""
        self._post("faults", faults)

    def await_stall(self, has_ended: Callable[[], Any]) -> None:
        """Until a statement waits, because it was told to; whoever sends it must not have ended before."""
        is_stalling = False
        while not is_stalling:
            assert not has_ended(), "it has ended without such a statement"
            with urllib.request.urlopen(f"{self.url}/faults", timeout=60) as told:  # noqa: S310
                is_stalling = json.load(told)["is_stalling"]

    def statements(self) -> list[dict[str, Any]]:
        """What was run since the last reset: ``sql``, ``ms`` and, where it failed, ``error``."""
        return self._read()[self._seen :]

    def _read(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._statements.read_text(encoding="utf-8").splitlines()]

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(f"{self.url}/{path}", json.dumps(body).encode(), method="POST")  # noqa: S310
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310


@contextmanager
def serving(folder: Path) -> Iterator[StandIn]:
    """A server that ends with the block; what it says is in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [environment.python(), "-W", "ignore", SERVER, folder, TOKEN], stdout=subprocess.PIPE, stderr=log, text=True
        )
        watch = threading.Timer(120, process.kill)
        watch.start()
        try:
            assert process.stdout
            port = process.stdout.readline().strip()
            watch.cancel()
            assert port, f"the stand-in did not start: {(folder / 'server.log').read_text(encoding='utf-8')}"
            yield StandIn(f"http://127.0.0.1:{port}", folder)
        finally:
            watch.cancel()
            process.terminate()
            process.wait(30)
