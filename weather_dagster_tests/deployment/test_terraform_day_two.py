"""What a person does with Terraform on day two, by the commands of the documents: nothing is lost, nothing forgotten.

The commands run as they are written, in a copy of the repository's files, with the real Terraform and stand-ins of its
providers. Each mend has a counter-test that takes it away.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weather_dagster_tests.deployment.rendering import PROJECT, name_of
from weather_dagster_tests.deployment.terraform_providers import stand_ins
from weather_dagster_tests.deployment.test_terraform import (
    DATABASE_SECRETS,
    changes,
    copied,
    needs_terraform,
    plant,
    rendered_objects,
)
from weather_dagster_tests.deployment.typing_in import OPERATIONS, TERRAFORM, block

pytestmark = [
    pytest.mark.integration,
    needs_terraform,
    pytest.mark.skipif(not (shutil.which("sh") and shutil.which("git")), reason="there is no sh or no git on the PATH"),
]
FORMER_REVISIONS = "passwords_revision   = 1\ncredentials_revision = 1\n"
INSTALL = """
terraform -chdir=terraform/cluster init && terraform -chdir=terraform/cluster apply
terraform -chdir=terraform/platform init && terraform -chdir=terraform/platform apply
"""


def of_terraform(script: str) -> str:
    """What a script says to Terraform and its settings; the rest needs a cluster."""
    return "\n".join(re.findall(r"^(?:terraform|echo) .*$", script, re.MULTILINE))


RAISE = block(OPERATIONS, "raise() {")
ROTATE = f"{RAISE}\n{block(OPERATIONS, 'raise passwords_revision')}"
# To a version and back: with nothing committed, and with commits of one's own.
(MERGE,) = re.findall(r"git merge .*", OPERATIONS)
(REVERT,) = re.findall(r"git revert --no-edit.*", OPERATIONS)
WAYS = {"checkout": ("git checkout v0.2.0", "git checkout v0.1.0"), "merge": (MERGE, REVERT)}


class Clone:
    """A clone with one installation: files, settings and states, in which no image is built. Git has two versions.

    The later one has other objects; and it has the numbers of the rotation, as all had once.
    """

    def __init__(self, folder: Path, reattach: str, ignored: str | None = None) -> None:
        self.folder = folder
        self.root = copied(folder)
        plant(self.root, "cluster/main.tf", '"docker build', '"exit 0; docker build')
        known = (PROJECT / ".gitignore").read_text(encoding="utf-8") if ignored is None else ignored
        (folder / ".gitignore").write_text(known, encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        self._environment = {
            **kept,
            "TF_REATTACH_PROVIDERS": reattach,
            "CHECKPOINT_DISABLE": "1",
            "TF_INPUT": "0",
            "TF_CLI_ARGS_apply": "-auto-approve -no-color",
            "TF_CLI_ARGS_destroy": "-auto-approve -no-color",
            "TF_CLI_ARGS_plan": "-no-color",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{
                f"GIT_{who}": "operator" for who in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
            },
        }
        self("git init --quiet && git add --all && git commit --quiet --message first && git tag v0.1.0")
        plant(self.root, "platform/main.tf", "backoffLimit = 8", "backoffLimit = 9")
        (self.root / "platform" / "revisions.auto.tfvars").write_text(FORMER_REVISIONS, encoding="utf-8")
        self("git add --all --force && git commit --quiet --message second && git tag v0.2.0")
        self("git checkout --quiet -B mine v0.1.0")

    def tried(self, script: str) -> subprocess.CompletedProcess[str]:
        """Paste a script into a shell at the root."""
        line = ["sh", "-e", "-c", script]
        return subprocess.run(
            line, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False, timeout=120
        )

    def __call__(self, script: str) -> str:
        """The same, which must succeed."""
        done = self.tried(script)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def plan(self, module: str, arguments: str = "") -> dict[str, Any]:
        """What an ``apply`` would do now."""
        self(f"terraform -chdir=terraform/{module} plan -out=saved.tfplan {arguments}")
        shown: dict[str, Any] = json.loads(self(f"terraform -chdir=terraform/{module} show -json saved.tfplan"))
        return shown

    def refused(self, module: str, arguments: str = "") -> str:
        """What Terraform says instead of a plan; empty when it makes one."""
        done = self.tried(f"terraform -chdir=terraform/{module} plan {arguments}")
        return " ".join(re.sub("[│╵╷]", "", done.stderr).split())

    def settings(self, module: str) -> Path:
        """The file with a person's choices."""
        return self.root / module / "settings.auto.tfvars"

    def revisions(self) -> set[int]:
        """Of the passwords of the databases, as the state has them."""
        state = json.loads((self.root / "platform" / "terraform.tfstate").read_text(encoding="utf-8"))
        (secrets,) = (each for each in state["resources"] if each["type"] == "kubernetes_secret_v1")
        return {
            each["attributes"]["data_wo_revision"]
            for each in secrets["instances"]
            if each["index_key"] in DATABASE_SECRETS
        }


def doing(action: str, plan: dict[str, Any]) -> set[str]:
    """What a plan would create or delete; to make it anew is both."""
    return {change["address"] for change in plan["resource_changes"] if action in change["change"]["actions"]}


@pytest.fixture(scope="module")
def reattach() -> Iterator[str]:
    with stand_ins() as where:
        yield where


@pytest.fixture
def clone(tmp_path: Path, reattach: str) -> Clone:
    return Clone(tmp_path / "clone", reattach)


@pytest.fixture
def kind(clone: Clone) -> Clone:
    """One with kind in it, installed with nothing said."""
    clone(INSTALL)
    return clone


@pytest.fixture
def production(clone: Clone) -> Clone:
    """One in production, installed as the README says."""
    clone(block(TERRAFORM, "existing_context"))
    return clone


def go(clone: Clone, command: str) -> None:
    """To another version, by a command of the document; what git knows of one's own is committed before."""
    assert command in OPERATIONS
    clone("git add --all && git commit --quiet --allow-empty --message mine")
    clone(command)


def test_what_is_said_once_in_production_holds_for_every_later_apply(production: Clone) -> None:
    assert changes(production.plan("cluster")) == changes(production.plan("platform")) == set()
    go(production, "git checkout v0.2.0")
    assert changes(production.plan("cluster")) == set()
    assert changes(production.plan("platform")) == {"helm_release.objects"}
    production.settings("platform").unlink()
    assert "say environment" in production.refused("platform")


@pytest.mark.parametrize(("adding", "provider"), [("cat >>", "open_meteo"), ("cat >", None)])
def test_what_is_chosen_before_production_is_said_holds_in_its_first_apply(
    clone: Clone, adding: str, provider: str | None
) -> None:
    choosing = block(TERRAFORM, "WEATHER_PROVIDER")
    (source,) = re.findall(r"^cp (\S+) ", choosing)
    (clone.folder / source).parent.mkdir()
    shutil.copy(PROJECT / source, clone.folder / source)
    # There is nothing to apply to yet.
    clone(choosing.replace("terraform -chdir=terraform/platform apply\n", ""))
    clone(block(TERRAFORM, "existing_context").replace("cat >>", adding))
    shown = json.loads(clone("terraform -chdir=terraform/platform show -json"))["values"]
    assert shown["outputs"]["open"]["value"]["open"][0].startswith("https://")
    resources = {each["address"]: each["values"] for each in shown["root_module"]["resources"]}
    assert "repository: ghcr.io/acme/weather-code-location" in resources["helm_release.dagster"]["values"][0]
    maps = {
        name_of(each): each["data"]
        for each in rendered_objects(resources["helm_release.objects"]["values"])
        if "data" in each
    }
    assert maps["weather-settings"].get("WEATHER_PROVIDER") == provider
    places = (PROJECT / source).read_text(encoding="utf-8")
    assert maps.get("weather-places", {}).get("places.yaml") == (places if provider else None)


def test_a_cluster_whose_context_has_another_name_gets_the_former(production: Clone) -> None:
    # As one's own clone has it, with the state of the platform that the team shares.
    (production.root / "cluster" / "terraform.tfstate").unlink()
    former = production.settings("cluster").read_text(encoding="utf-8")
    production.settings("cluster").write_text('existing_context = "arn:aws:eks:prod"\n', encoding="utf-8")
    production("terraform -chdir=terraform/cluster apply")
    told = production.refused("platform")
    assert "of prod, the settings name production in the namespace weather of arn:aws:eks:prod" in told
    assert "`kubectl config rename-context`" in told
    assert "`kubectl config rename-context MINE prod`" in TERRAFORM
    production.settings("cluster").write_text(former, encoding="utf-8")
    assert "`kubectl config rename-context`" in production.refused("cluster")
    (production.root / "cluster" / "terraform.tfstate").unlink()
    production("terraform -chdir=terraform/cluster apply")
    assert changes(production.plan("platform")) == set()


def test_own_values_hold_for_every_later_apply(kind: Clone) -> None:
    def runs() -> list[Any]:
        """Of the Dagster release, as the next apply would have it."""
        planned = {one["address"]: one["change"]["after"] for one in kind.plan("platform")["resource_changes"]}
        return [text for text in planned["helm_release.dagster"]["values"] if "maxConcurrentRuns: 16" in text]

    assert runs() == []
    kind(block(OPERATIONS, "values_files"))
    assert len(runs()) == 1
    assert changes(kind.plan("platform")) == set()
    go(kind, "git checkout v0.2.0")
    assert len(runs()) == 1
    kind.settings("platform").unlink()
    assert runs() == []


@pytest.mark.parametrize(
    ("command", "revisions"),
    [
        (None, [{2}, {3}]),
        # As it was: a number written out.
        ("echo passwords_revision = 2 > terraform/platform/settings.auto.tfvars", [{2}, {2}]),
    ],
)
def test_a_rotation_writes_new_passwords_every_time(
    kind: Clone, command: str | None, revisions: list[set[int]]
) -> None:
    assert kind.revisions() == {1}
    told = ROTATE
    assert "raise passwords_revision\nterraform " in told
    if command:
        told = told.replace("raise passwords_revision\n", f"{command}\n")
    after = []
    for _ in revisions:
        kind(told)
        after.append(kind.revisions())
    assert after == revisions


def test_a_rotation_leaves_the_other_choices_as_they_are(kind: Clone) -> None:
    settings = kind.settings("platform")
    chosen = ["values_files = []", "credentials_revision=4", "passwords_revision   = 9 # May", 'warehouse = "postgres"']
    settings.write_text("\n".join(chosen), encoding="utf-8")
    kind(f"{RAISE}\nraise passwords_revision\nraise credentials_revision")
    assert settings.read_text(encoding="utf-8").splitlines() == [
        "values_files = []",
        "credentials_revision = 5",
        "passwords_revision = 10",
        'warehouse = "postgres"',
    ]


@pytest.mark.parametrize("way", WAYS)
def test_neither_an_upgrade_nor_a_rollback_writes_passwords(kind: Clone, way: str) -> None:
    kind(ROTATE)
    for command in WAYS[way]:
        go(kind, command)
        assert changes(kind.plan("platform")) == {"helm_release.objects"}
        kind("terraform -chdir=terraform/platform apply")
    assert kind.revisions() == {2}


def test_an_upgrade_would_write_passwords_if_git_knew_their_number(tmp_path: Path, reattach: str) -> None:
    known = Clone(tmp_path / "clone", reattach, ignored=".terraform\n*.tfstate*\n*.tfplan\n")
    known(INSTALL)
    known(ROTATE)
    go(known, "git checkout v0.2.0")
    assert changes(known.plan("platform")) == {"helm_release.objects", *DATABASE_SECRETS}


def test_a_kind_cluster_stays_as_it_was_made(kind: Clone) -> None:
    plant(kind.root, "cluster/variables.tf", "kindest/node:v1.34.0@", "kindest/node:v1.35.0@")
    plant(kind.root, "cluster/variables.tf", "~/.kube/config", "~/.kube/kind")
    plant(kind.root, "cluster/main.tf", 'role = "control-plane"', 'role = "worker"')
    assert changes(kind.plan("cluster")) == set()
    plant(kind.root, "cluster/main.tf", "ignore_changes = all", "ignore_changes = []")
    assert "kind_cluster.weather[0]" in doing("delete", kind.plan("cluster"))


@pytest.mark.parametrize("other", ["-var=name=drill", "-var=existing_context=prod"])
def test_a_kind_cluster_is_not_given_up_for_another(kind: Clone, other: str) -> None:
    assert "is of the kind cluster weather" in kind.refused("cluster", other)
    plant(kind.root, "cluster/main.tf", "self.output == local.cluster", "self.output != null")
    plant(kind.root, "cluster/main.tf", "ignore_changes = all", "ignore_changes = []")
    assert "kind_cluster.weather[0]" in doing("delete", kind.plan("cluster", other))


def test_no_kind_cluster_is_made_beside_production(production: Clone) -> None:
    production.settings("cluster").unlink()
    assert "is of the context prod" in production.refused("cluster")
    plant(production.root, "cluster/main.tf", "self.output == local.cluster", "self.output != null")
    assert "kind_cluster.weather[0]" in doing("create", production.plan("cluster"))


def test_a_kind_cluster_can_be_given_up_on_purpose(kind: Clone) -> None:
    kind(block(TERRAFORM, "cluster destroy"))
    kind.settings("cluster").write_text('name = "other"\n', encoding="utf-8")
    kind(INSTALL)


@pytest.mark.parametrize(
    ("other", "lost"),
    [
        ("-var=namespace=forecasts", "kubernetes_namespace_v1.weather"),
        (
            "-var=environment=production -var=image_registry=ghcr.io/acme",
            'kubernetes_secret_v1.weather["weather-postgres"]',
        ),
    ],
)
def test_an_installation_is_not_given_up_for_another(kind: Clone, other: str, lost: str) -> None:
    assert "is of kind in the namespace weather of kind-weather" in kind.refused("platform", other)
    plant(kind.root, "platform/main.tf", "self.output == local.installation", "self.output != null")
    plant(kind.root, "platform/main.tf", "prevent_destroy = true", "prevent_destroy = false")
    assert lost in doing("delete", kind.plan("platform", other))


def test_the_namespace_goes_on_purpose_alone(production: Clone) -> None:
    before = (production.root / "platform" / "terraform.tfstate").read_bytes()
    assert "lifecycle.prevent_destroy" in production.tried("terraform -chdir=terraform/platform destroy").stderr
    assert (production.root / "platform" / "terraform.tfstate").read_bytes() == before
    production(of_terraform(block(TERRAFORM, "state rm")))
    assert production("terraform -chdir=terraform/platform state list") == ""


def test_the_namespace_would_go_without_its_lock(production: Clone) -> None:
    plant(production.root, "platform/main.tf", "prevent_destroy = true", "prevent_destroy = false")
    assert "kubernetes_namespace_v1.weather" in doing("delete", production.plan("platform", "-destroy"))


def test_a_drill_has_a_state_of_its_own(kind: Clone, tmp_path: Path, reattach: str) -> None:
    begun, ended = block(OPERATIONS, "git worktree add"), block(OPERATIONS, "git worktree remove")
    drill = Clone(tmp_path / "drill", reattach)
    drill(of_terraform(begun))
    assert "kind-drill" in drill("terraform -chdir=terraform/cluster output kube_context")
    assert changes(kind.plan("cluster")) == changes(kind.plan("platform")) == set()
    drill(of_terraform(ended))
    assert drill("terraform -chdir=terraform/cluster state list") == ""
    # In the clone of the installation the same is refused.
    assert "is of the kind cluster weather" in kind.tried(of_terraform(begun)).stderr
