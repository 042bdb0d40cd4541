"""The steps of docs/operations.md do what they say, typed into a shell with a stand-in for the cluster."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from weather_dagster_tests.deployment import typing_in
from weather_dagster_tests.deployment.guards import (
    Findings,
    archive_findings,
    declared_secrets,
    namespace_findings,
    network_findings,
    quota_findings,
    reader_findings,
    secret_findings,
    service_findings,
)
from weather_dagster_tests.deployment.rendering import (
    VALUES,
    Object,
    has_own_server,
    merge,
    rendered,
    stack,
    undated,
    with_defaults,
)

pytestmark = pytest.mark.skipif(not shutil.which("sh"), reason="there is no sh on the PATH")

# Answers of a cluster: each `get` of a thing takes the next line of a file named after it, and stays at the last.
CLUSTER = """
echo "$(basename "$0") $*" >> said
case "$1 $2" in
"get job/"* | "get job.batch/"* | "get externalsecret")
  thing=${2#*/}; [ "$thing" = externalsecret ] && thing=$3
  case "$*" in *jsonpath*) ;; *) echo "state of $thing"; exit ;; esac
  [ -e "$thing" ] || exit 1
  head -n 1 "$thing"
  if [ "$(wc -l < "$thing")" -gt 1 ]; then sed -i.bak 1d "$thing"; fi ;;
"logs "*) echo "all that was said" ;;
"wait cluster" | "wait pod") ;;
"wait "*) grep -q -w Complete "${2#*/}" ;;
"create "*) cat > created ;;
"get hooks") echo "the installed hook" ;;
"get cronjobs") printf 'cronjob.batch/%s\n' weather-backup weather-ingestor ;;
esac
"""


def block(part: str) -> str:
    """The block of the page in which ``part`` is."""
    return typing_in.block(typing_in.OPERATIONS, part)


def type_in(told: str, folder: Path, **answers: str) -> subprocess.CompletedProcess[str]:
    """Type lines into a shell, with the functions and what the cluster answers."""
    typing_in.stand_in(folder, CLUSTER, "kubectl", "helm", "terraform")
    typing_in.stand_in(folder, "", "sleep")
    for name, answer in answers.items():
        (folder / name.replace("_", "-")).write_text(answer, encoding="utf-8")
    return typing_in.type_in(block("finish() {") + told, folder, options="")


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


def test_during_a_restore_the_ingestor_waits_as_the_backup_does(tmp_path: Path) -> None:
    for replicas, is_suspended in ((0, "true"), (1, "false")):
        done = type_in(block("on_cluster() {") + block(f"scale deployment --all --replicas={replicas}"), tmp_path)
        assert done.returncode == 0, done.stderr
        said = (tmp_path / "said").read_text(encoding="utf-8")
        patch = f'--patch {{"spec": {{"suspend": {is_suspended}}}}}'
        assert re.findall(r"patch cronjob.batch/(\S+) (.*)", said) == [
            ("weather-backup", patch),
            ("weather-ingestor", patch),
        ]
        (tmp_path / "said").unlink()


KEPT = {"helm.sh/resource-policy": "keep"}
OLD_NAMES = re.compile(r"weather-postgres-(?:r[wo]|ca)\b")


def restore(folder: Path, old: str, new: str, **changes: str) -> list[str]:
    """Do both steps of a restore to files of production; what was said to cluster, Helm and Terraform."""
    times = {name.replace("-", "_"): "then\nnow\n" for name in declared_secrets()}
    steps = block("on_cluster() {") + block("OLD=weather-postgres ") + block("$OLD-(r")
    told = steps.replace("OLD=weather-postgres ", f"OLD={old} ").replace("weather-postgres-$(date -u +%Y%m%d)", new)
    for before, after in changes.items():
        told = told.replace(before, after)
    (folder / "said").unlink(missing_ok=True)
    done = type_in(told, folder, weather_migrate="Complete\n", **times)
    assert done.returncode == 0, done.stderr
    return (folder / "said").read_text(encoding="utf-8").splitlines()


def of_production(values: Path) -> tuple[list[Object], str]:
    """What production is made of, as the files below ``values`` have it, and where it looks for Postgres."""
    chart: dict[str, Any] = {}
    for name in ("dagster", "production"):
        chart = merge(chart, yaml.safe_load((values / f"{name}.yaml").read_text(encoding="utf-8")))
    plain = [
        thing
        for folder in ("base", "production")
        for path in sorted((values / "manifests" / folder).glob("*.yaml"))
        for thing in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if thing["kind"] != "Kustomization"
    ]
    return [*rendered(with_defaults(chart)), *plain], chart["postgresql"]["postgresqlHost"]


def findings(values: Path, server: str) -> Findings:
    """What is wrong with production when its Postgres is to be ``server``."""
    objects, host = of_production(values)
    told = {thing["kind"]: thing for thing in objects}
    names = {
        "name": told["Cluster"]["metadata"]["name"],
        "base backups": told["ScheduledBackup"]["spec"]["cluster"]["name"],
        "folder in the archive": told["Cluster"]["spec"]["plugins"][0]["parameters"]["serverName"],
    }
    files = [(path.name, path.read_text(encoding="utf-8")) for path in values.rglob("*.yaml")]
    declared = yaml.safe_load((values / "secrets.yaml").read_text(encoding="utf-8"))
    return [
        *(f"{found} in {name}" for name, text in files for found in OLD_NAMES.findall(text)),
        *(f"{what}: {name}" for what, name in names.items() if name != server),
        *([] if told["Cluster"]["metadata"].get("annotations") == KEPT else ["Helm takes the old server away"]),
        *archive_findings(objects),
        *namespace_findings(objects),
        *network_findings(objects),
        *quota_findings(objects, 8),
        *reader_findings(objects),
        *secret_findings(objects, declared),
        *service_findings(objects, host),
    ]


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """Files of production before any restore, to be changed."""
    if not has_own_server(stack("production")):
        pytest.skip("Postgres is a managed one")
    values = shutil.copytree(VALUES, tmp_path / "helm-values")
    for path in values.rglob("*.yaml"):
        path.write_text(undated(path.read_text(encoding="utf-8")), encoding="utf-8")
    return values


def cluster(values: Path) -> Any:
    """The server in postgres.yaml."""
    (found,) = [thing["spec"] for thing in of_production(values)[0] if thing["kind"] == "Cluster"]
    return found


def test_a_restore_in_production_leads_everything_to_the_second_server(values: Path, tmp_path: Path) -> None:
    before = cluster(values)
    said = restore(tmp_path, "weather-postgres", "weather-postgres-20261128")
    assert findings(values, "weather-postgres-20261128") == []
    after = cluster(values)
    (begins,) = after["bootstrap"].items()
    assert begins[0] == "recovery"
    (told,) = before["bootstrap"].values()
    assert {key: begins[1][key] for key in ("database", "owner", "secret")} == {
        key: told[key] for key in ("database", "owner", "secret")
    }
    (source,) = after["externalClusters"]
    assert source["name"] == begins[1]["source"]
    assert source["plugin"]["parameters"]["serverName"] == "weather-postgres"
    # All else is as it was, but for the server's name in the archive.
    same = before.keys() - {"bootstrap", "externalClusters", "plugins"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    # The Secrets are new before anything reads them, the schema before anything runs.
    steps = [
        '{"suspend": true}',
        "terraform",
        "annotate externalsecret weather-warehouse ",
        "helm get hooks",
        "terraform",
        '{"suspend": false}',
        "rollout",
    ]
    rest = iter(said[said.index("kubectl wait cluster weather-postgres-20261128 --for=condition=Ready --timeout=4h") :])
    assert [step for step in steps if not any(step in line for line in rest)] == []


def test_what_was_restored_can_be_restored_again(values: Path, tmp_path: Path) -> None:
    restore(tmp_path, "weather-postgres", "weather-postgres-20261128")
    restore(tmp_path, "weather-postgres-20261128", "weather-postgres-20261129")
    assert findings(values, "weather-postgres-20261129") == []
    (source,) = cluster(values)["externalClusters"]
    assert source["plugin"]["parameters"]["serverName"] == "weather-postgres-20261128"


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("cluster: {name: $NEW}", "cluster: {name: $OLD}", "base backups: weather-postgres"),
        ("serverName: $NEW", "serverName: $OLD", "folder in the archive: weather-postgres"),
        ("'/^  bootstrap:/r", "'/^  annotations:/d' -e '/^  bootstrap:/r", "Helm takes the old server away"),
        ("(r[wo]|ca)/$NEW", "(r[o]|ca)/$NEW", "postgresqlHost: no Service weather-postgres-rw"),
        ("|ca)/$NEW", ")/$NEW", "weather-postgres-ca in dagster.yaml"),
        ("{name: weather-warehouse-owner}", "{name: weather-owner}", "Secret weather-owner is not in secrets.yaml"),
    ],
)
def test_a_restore_that_forgets_a_place_is_found(
    values: Path, tmp_path: Path, before: str, after: str, finding: str
) -> None:
    restore(tmp_path, "weather-postgres", "weather-postgres-20261128", **{before: after})
    found = findings(values, "weather-postgres-20261128")
    assert any(finding in line for line in found), found
