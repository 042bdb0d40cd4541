"""What each step costs, as ratios of medians from one run of this script. See README.md beside it."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from weather_dagster.dbt_command import DBT_DIR
from weather_dagster.weather_api.service import Service

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
HOURS = 720
LATENCY = 0.05
CONCURRENCY = Service.concurrency
ACCOUNT = {
    "WEATHER_PROVIDER": "openweather",
    "OPENWEATHER_API_KEY": "benchmark",
    "OPENWEATHER_PLAN": "professional",
    "OPENWEATHER_BASE_URL": URL,
}


@dataclass(frozen=True)
class Cost:
    """One run of a command: seconds of wall clock and CPU, and the peak memory of its largest process in MB."""

    wall: float
    cpu: float
    peak: float


def run(command: Sequence[str | Path], **environment: str) -> tuple[Cost, str]:
    """Run a command to its end; CPU counts the children it waited for."""
    start = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    assert process.stdout
    output = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command} ended with {process.returncode}:\n{output}")
    wall = time.perf_counter() - start
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), output


def compare(title: str, competitors: dict[str, Callable[[], Cost]], floor: str, rounds: int) -> None:
    """Run all in turn, drop the first round, print medians, ratios to ``floor`` and all CPU values."""
    costs: dict[str, list[Cost]] = {name: [] for name in competitors}
    for _ in range(rounds + 1):
        for name, measure in competitors.items():
            costs[name].append(measure())
    print(f"\n{title} (n = {rounds})")
    print(f"{'':22}{'CPU s':>8}{'ratio':>8}{'wall s':>8}{'ratio':>8}{'peak MB':>9}  all CPU s")
    middle = {
        name: Cost(*(statistics.median(getattr(c, f) for c in all_[1:]) for f in ("wall", "cpu", "peak")))
        for name, all_ in costs.items()
    }
    for name, cost in middle.items():
        every = " ".join(f"{c.cpu:.2f}" for c in costs[name][1:])
        print(
            f"{name:22}{cost.cpu:8.2f}{cost.cpu / middle[floor].cpu:8.2f}{cost.wall:8.2f}"
            f"{cost.wall / middle[floor].wall:8.2f}{cost.peak:9.0f}  {every}"
        )


def serve() -> subprocess.Popen[bytes]:
    """The simulator as a server."""
    server = subprocess.Popen([BIN / "weather", "simulator", "serve", "--port", str(PORT)], stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            requests_served()
        except OSError:
            time.sleep(0.1)
        else:
            return server
    raise SystemExit("the simulator did not start")


def requests_served() -> int:
    """Requests that the simulator has answered."""
    with urllib.request.urlopen(f"{URL}/simulator/requests") as answer:  # noqa: S310 - our own loopback server
        return sum(sum(by_status.values()) for by_status in json.load(answer).values())


def landing(rounds: int) -> None:
    """720 hours x 10 places of observations from a server into a new DuckDB file."""
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    first = last - timedelta(hours=HOURS - 1)

    def measure(script: str) -> Callable[[], Cost]:
        def one() -> Cost:
            with tempfile.TemporaryDirectory() as folder:
                before = requests_served()
                cost, output = run(
                    [sys.executable, HERE / script, first.isoformat(), last.isoformat(), URL, folder],
                    **ACCOUNT,
                )
                calls = requests_served() - before
                assert int(output.split()[-1]) == HOURS * 10, f"{script} landed {output}"
                assert calls == 50, f"{script} made {calls} calls"
                return cost

        return one

    scripts = {"floor": "land_floor.py", "ours": "land_ours.py", "dlt": "land_dlt.py"}
    competitors = {name: measure(script) for name, script in scripts.items()}
    competitors["imports: floor"] = lambda: run([sys.executable, HERE / "land_floor.py"])[0]
    competitors["imports: ours"] = lambda: run([sys.executable, HERE / "land_ours.py"])[0]
    competitors["imports: dlt"] = lambda: run([sys.executable, HERE / "land_dlt.py"])[0]
    compare(f"Landing {HOURS} hours x 10 places in DuckDB, whole commands", competitors, "floor", rounds)


def postgres(rounds: int) -> None:
    """The same landing into a new Postgres database; storing alone; eight writers; a tick on three years."""
    from weather_dagster_tests.postgres import fresh_database, running_server

    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    first = last - timedelta(hours=HOURS - 1)
    with running_server() as server:

        def land(script: str) -> Cost:
            with fresh_database(server.url) as url, tempfile.TemporaryDirectory() as home:
                cost, output = run(
                    [sys.executable, HERE / script, first.isoformat(), last.isoformat(), URL, url],
                    WEATHER_HOME=home,
                    **ACCOUNT,
                )
            assert int(output.split()[-1]) == HOURS * 10, f"{script} landed {output}"
            return cost

        scripts = {"floor": "land_floor.py", "ours": "land_ours.py"}
        competitors: dict[str, Callable[[], Cost]] = {name: partial(land, script) for name, script in scripts.items()}
        competitors["imports: floor"] = lambda: run([sys.executable, HERE / "land_floor.py"])[0]
        competitors["imports: ours"] = lambda: run([sys.executable, HERE / "land_ours.py"])[0]
        compare(f"Landing {HOURS} hours x 10 places in Postgres, whole commands", competitors, "floor", rounds)
        _, output = run([sys.executable, HERE / "postgres_writers.py", server.url, str(rounds)])
    told = json.loads(output)
    print(f"\nStoring {HOURS} hours x 10 places, CPU of the client, and eight such ranges, wall (n = {rounds})")
    for side, seconds in told["storing"].items():
        print(f"{side:22}{seconds * 1e3:8.1f} ms{seconds / told['storing']['COPY of tuples']:8.2f}")
    for side, seconds in told["writers"].items():
        print(f"{side:22}{seconds:8.2f} s{told['writers']['one writer'] / seconds:9.2f}")
    _, output = run([sys.executable, HERE / "postgres_tick.py", "100", "3"])
    print("\nAn hourly tick on 100 places x 3 years, CPU of the server")
    for part, milliseconds in json.loads(output).items():
        print(f"{part:42}{milliseconds:8.1f} ms")


def decoding(rounds: int) -> None:
    """Bytes to readings and to rows beside Pydantic's own bulk validation of the same bytes."""
    # Memory that is given back and asked for again between two measures would be most of the shorter one.
    keep = {"MALLOC_TRIM_THRESHOLD_": "1000000000", "MALLOC_MMAP_MAX_": "0"}
    _, output = run([sys.executable, HERE / "read_answers.py", str(rounds)], **keep)
    print(f"\nA week of hours x 10 places, CPU (n = {rounds})")
    for provider, sides in json.loads(output).items():
        for side, seconds in sides.items():
            print(f"{provider:12} {side:22}{seconds * 1e3:8.2f} ms{seconds / sides['pydantic']:8.2f}")


def latency() -> None:
    """A call for every hour and place to a slow server: as many must be in flight as are allowed."""
    last = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    first = last - timedelta(hours=HOURS - 1)
    server = subprocess.Popen(
        [sys.executable, HERE / "slow_server.py", str(PORT), str(LATENCY)], stdout=subprocess.PIPE
    )
    try:
        assert server.stdout
        server.stdout.readline()
        with tempfile.TemporaryDirectory() as home:
            cost, output = run(
                [sys.executable, HERE / "land_ours.py", first.isoformat(), last.isoformat(), URL, home],
                WEATHER_HOME=home,
                WEATHER_PROVIDER="openweather",
                WEATHER_HISTORY_PROVIDER="none",
                OPENWEATHER_API_KEY="benchmark",
                OPENWEATHER_PLAN="one_call_3",
                OPENWEATHER_ONE_CALL_PER_DAY="1000000",
                OPENWEATHER_BASE_URL=URL,
            )
    finally:
        server.terminate()
    calls = HOURS * 10
    assert int(output.split()[-1]) == calls, f"landed {output}"
    least = calls * LATENCY / CONCURRENCY
    print(
        f"\n{calls:,} calls that take {LATENCY * 1e3:.0f} ms, {CONCURRENCY} at once, whole command: {cost.wall:.1f} s "
        f"wall, {cost.wall / least:.2f} of the {least:.1f} s that the calls take; {cost.cpu:.1f} s CPU"
    )


def loading(rounds: int) -> None:
    """The code location beside the bare imports of what it stands on; the end of the process is not counted."""
    commands = {
        "dagster, dagster_dbt": "import dagster, dagster_dbt",
        "the code location": "import dagster, dagster_dbt, weather_dagster.definitions",
    }
    clock = "import json, time; start = time.perf_counter(); {}; "
    report = "print(json.dumps([time.perf_counter() - start, time.process_time(), 0]))"

    def load(code: str) -> Cost:
        _, output = run([sys.executable, "-c", clock.format(code) + report])
        return Cost(*json.loads(output))

    compare(
        "Loading the code location",
        {name: partial(load, code) for name, code in commands.items()},
        "dagster, dagster_dbt",
        rounds,
    )


def dbt(rounds: int) -> None:
    """A dbt build of a demo store, bare and as a step of a Dagster run."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"WEATHER_HOME": home, "WEATHER_PROVIDER": "simulator"}
        run([BIN / "weather", "demo", "--days", "2"], **environment)

        def from_dagster() -> Cost:
            _, output = run([sys.executable, HERE / "dbt_step.py"], **environment)
            return Cost(*json.loads(output.splitlines()[-1]))

        build = [BIN / "dbt", "--quiet", "build", "--exclude-resource-type", "unit_test"]
        environment |= {
            "WEATHER_DUCKDB_PATH": str(Path(home, "simulator", "warehouse.duckdb")),
            "DBT_PROJECT_DIR": str(DBT_DIR),
            "DBT_PROFILES_DIR": str(DBT_DIR),
        }
        compare(
            "A dbt build with nothing new",
            {"bare dbt command": lambda: run(build, **environment)[0], "step of a Dagster run": from_dagster},
            "bare dbt command",
            rounds,
        )


def demo() -> None:
    """Where the seconds of `weather demo` go."""
    with tempfile.TemporaryDirectory() as home:
        environment = {"WEATHER_HOME": home, "WEATHER_PROVIDER": "simulator"}
        cost, _ = run([BIN / "weather", "demo"], **environment)
        _, output = run([sys.executable, HERE / "demo_steps.py"], **environment)
        print(f"\nweather demo: {cost.wall:.1f} s wall, {cost.cpu:.1f} s CPU, peak {cost.peak:.0f} MB")
        for name, seconds in json.loads(output).items():
            print(f"{name:42}{seconds:7.2f} s{seconds / cost.wall:7.1%}")


def year() -> None:
    """A year of ten places, bronze to report, as one run."""
    first, last = "2025-01-01", "2025-12-31"
    with tempfile.TemporaryDirectory() as home:
        environment = {"WEATHER_HOME": home, "WEATHER_PROVIDER": "simulator"}
        cost, _ = run([BIN / "weather", "backfill", "--from", first, "--to", last], **environment)
        size = Path(home, "simulator", "warehouse.duckdb").stat().st_size / 1e6
    print(
        f"\nA year of ten places (87,600 place-hours, all datasets) as one run: {cost.wall / 60:.1f} min wall, "
        f"{cost.cpu / 60:.1f} min CPU, peak of the largest process {cost.peak:.0f} MB, warehouse {size:.0f} MB"
    )


def main() -> None:
    """Run the parts that are named, or all."""
    parts = {
        "landing": landing,
        "postgres": postgres,
        "decoding": decoding,
        "latency": latency,
        "loading": loading,
        "dbt": dbt,
        "demo": demo,
        "year": year,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    # Compiled files are written once and for all: without them every start costs twice.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    for name in arguments.part or parts:
        if name in ("landing", "postgres"):
            server = serve()
            try:
                parts[name](arguments.rounds)
            finally:
                server.terminate()
        elif name in ("decoding", "loading", "dbt"):
            parts[name](arguments.rounds)
        else:
            parts[name]()


if __name__ == "__main__":
    main()
