"""The steps of docs/operations.md do what they say, typed into a shell with a stand-in for the cluster."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from weather_dagster_tests.deployment.rendering import PROJECT

pytestmark = pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh on the PATH")

OPERATIONS = PROJECT / "docs" / "operations.md"
# Answers of a cluster: each `get` of a thing takes the next line of a file named after it, and stays at the last.
CLUSTER = """#!/bin/sh
echo "$(basename "$0") $*" >> said
case "$1 $2" in
"get job/"* | "get job.batch/"* | "get externalsecret")
  thing=${2#*/}; [ "$thing" = externalsecret ] && thing=$3
  case "$*" in *jsonpath*) ;; *) echo "state of $thing"; exit ;; esac
  [ -e "$thing" ] || exit 1
  head -n 1 "$thing"
  if [ "$(wc -l < "$thing")" -gt 1 ]; then sed -i.bak 1d "$thing"; fi ;;
"logs "*) echo "all that was said" ;;
"wait "*) grep -q -w Complete "${2#*/}" ;;
"create "*) cat > created ;;
"get hooks") echo "the installed hook" ;;
esac
"""


def functions() -> str:
    """Those that the page begins with."""
    (told,) = re.findall(r"```sh\n(finish\(\).*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    return str(told)


def type_in(told: str, folder: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    """Type lines into a shell, with the functions and what the cluster answers."""
    for name in ("kubectl", "helm"):
        (folder / name).write_text(CLUSTER, encoding="utf-8")
        (folder / name).chmod(0o755)
    (folder / "sleep").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "sleep").chmod(0o755)
    for name, answer in answers.items():
        (folder / name.replace("_", "-")).write_text(answer, encoding="utf-8")
    return subprocess.run(
        ["sh", "-c", functions() + told],
        cwd=folder,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("ends", "is_good"),
    [
        ("\n\nSuccessCriteriaMet\nSuccessCriteriaMet Complete\n", True),
        ("\nFailureTarget\nFailureTarget Failed\n", False),
    ],
)
def test_a_job_is_waited_for_however_it_ends(tmp_path: Path, ends: str, is_good: bool) -> None:
    done = type_in("finish job.batch/dump", tmp_path, dump=ends)
    assert (done.returncode == 0) == is_good
    assert "all that was said" in done.stdout
    assert (tmp_path / "dump").read_text(encoding="utf-8") == ends.splitlines()[-1] + "\n"
    said = (tmp_path / "said").read_text(encoding="utf-8")
    assert "logs --selector batch.kubernetes.io/job-name=dump " in said


def test_a_job_that_there_is_not_is_not_waited_for(tmp_path: Path) -> None:
    assert type_in("finish job/dump", tmp_path).returncode != 0


def test_the_migration_is_the_one_that_is_installed(tmp_path: Path) -> None:
    done = type_in("migrate", tmp_path, weather_migrate="\nSuccessCriteriaMet Complete\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "created").read_text(encoding="utf-8") == "the installed hook\n"
    said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert "kubectl delete job weather-migrate --ignore-not-found" in said[:2]
    assert type_in("migrate", tmp_path, weather_migrate="FailureTarget Failed\n").returncode != 0


def test_a_secret_is_fetched_when_its_time_has_changed(tmp_path: Path) -> None:
    old, new = "2026-11-28T10:00:00Z\n", "2026-11-28T11:00:00Z\n"
    # The empty answer is one of a cluster that is away for a moment.
    done = type_in(
        "fetch weather-oauth weather-archive && echo restart",
        tmp_path,
        weather_oauth=f"{old}{old}\n{old}{new}",
        weather_archive=f"\n\n{new}",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("restart\n")
    for name in ("weather-oauth", "weather-archive"):
        assert (tmp_path / name).read_text(encoding="utf-8") == new


def test_a_secret_that_the_vault_lacks_is_told_and_nothing_is_restarted(tmp_path: Path) -> None:
    done = type_in("fetch weather-provider weather-oauth && echo restart", tmp_path, weather_provider="\n")
    assert done.returncode != 0
    assert "state of weather-provider" in done.stdout
    assert "restart" not in done.stdout
    assert "weather-oauth" not in (tmp_path / "said").read_text(encoding="utf-8")
