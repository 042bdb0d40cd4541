"""Terraform: what the files say, against the rest of the repository; what Terraform itself says, on stand-ins.

Each guard returns what is wrong; a second test plants a fault that it must find.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import hcl2
import helm_python
import pytest
import yaml
from hcl2 import SerializationOptions
from helm_python import Chart

from weather_dagster_tests.deployment import guards, image_guards
from weather_dagster_tests.deployment.guards import choosable, declared_secrets
from weather_dagster_tests.deployment.rendering import (
    MANIFESTS,
    PROJECT,
    VALUES,
    Object,
    Values,
    containers,
    manifests,
    merge,
    name_of,
    pods,
    rendered,
    with_defaults,
    with_settings,
)
from weather_dagster_tests.deployment.terraform_providers import PASSWORD, SCHEMAS, stand_ins

TERRAFORM = PROJECT / "terraform"
MODULES = ("cluster", "platform")
KEY = "0123456789abcdef" * 2
ALERT_URL = "json://alerts.example.com/hook"
DATABRICKS = '{"host": "acme.cloud.databricks.com", "http_path": "/sql/1.0/warehouses/1", "token": "none"}'
SECRET_NAME = re.compile("key|token|password|secret|url|databricks")
"""Of a variable; revisions only count, and a pull secret is a name."""

needs_terraform = pytest.mark.skipif(
    not shutil.which("terraform") and not os.environ.get("CI"), reason="there is no terraform on the PATH"
)

Findings = list[str]


def read(module: str, root: Path = TERRAFORM) -> dict[str, Any]:
    """All blocks of a module by kind, then by label: ``variable``, ``output``, ``locals``, ``terraform`` and so on."""
    options = SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    found: dict[str, Any] = {}
    for path in sorted((root / module).glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            for kind, blocks in hcl2.load(file, serialization_options=options).items():
                for block in blocks:
                    found.setdefault(kind, {}).update(block)
    return found


def text_of(module: str, root: Path = TERRAFORM) -> str:
    """The module's files, one after the other."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((root / module).glob("*.tf")))


def variable_findings(root: Path) -> Findings:
    """Variables and outputs without type or description, secrets that would be shown or kept, names nobody checks."""
    findings = []
    for module in MODULES:
        blocks, text = read(module, root), text_of(module, root)
        for name, variable in blocks["variable"].items():
            findings += [
                f"{module}: {name} has no {what}" for what in ("type", "description") if not variable.get(what)
            ]
            if SECRET_NAME.search(name) and not name.endswith(("_revision", "_pull_secret")):
                missing = [mark for mark in ("sensitive", "ephemeral") if variable.get(mark) is not True]
                findings += [f"{module}: {name} is not {mark}" for mark in missing]
            compared = set(re.findall(rf'var\.{name} [!=]= "(\w+)"', text))
            checked = "".join(str(check["condition"]) for check in variable.get("validation", []))
            known = re.search(r"contains\(\[(.*?)\]", checked)
            if compared and not (known and compared <= set(re.findall(r"\w+", known[1]))):
                findings.append(f"{module}: {name} is compared with {', '.join(sorted(compared))}, but not validated")
        findings += [
            f"{module}: output {name} is not described"
            for name, o in blocks["output"].items()
            if not o.get("description")
        ]
    return findings


def version_findings(root: Path) -> Findings:
    """Providers and chart that are not fixed to one version, or not to that of the rest of the repository."""
    findings = []
    wanted: dict[str, str] = {}
    for module in MODULES:
        blocks = read(module, root)["terraform"]
        if not blocks.get("required_version"):
            findings.append(f"{module}: no required_version")
        for provider in blocks["required_providers"][0].values():
            source, version = provider["source"], provider.get("version", "")
            if not re.fullmatch(r"\d+\.\d+\.\d+", version):
                findings.append(f"{module}: {source} is not fixed: {version!r}")
            if wanted.setdefault(source, version) != version:
                findings.append(f"{module}: {source} is {version} here and {wanted[source]} elsewhere")
    chart = read("platform", root)["locals"]["dagster_chart_version"]
    (dagster,) = re.findall(r"^dagster==(.+)$", (PROJECT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if chart != dagster:
        findings.append(f"dagster_chart_version is {chart}, dagster in constraints.txt {dagster}")
    return findings


def file_findings(root: Path) -> Findings:
    """Overlays and folders of manifests that are not there, or are not those of the kustomizations."""
    findings = []
    platform = read("platform", root)
    environments = _literals(platform["variable"]["environment"]["validation"][0]["condition"])
    folders = platform["locals"]["manifest_folders"]
    overlays = ["dagster", *environments, "databricks"]
    findings += [f"no helm-values/{name}.yaml" for name in overlays if not (VALUES / f"{name}.yaml").is_file()]
    if environments != set(folders):
        findings.append(f"environments are {sorted(environments)}, those with manifests {sorted(folders)}")
    for environment, names in folders.items():
        ours = {
            path for name in names for path in (MANIFESTS / name).glob("*.yaml") if path.name != "kustomization.yaml"
        }
        theirs = set(_kustomized(MANIFESTS / environment))
        findings += [
            f"{environment}: {path.relative_to(MANIFESTS)} is in one of the two only" for path in sorted(ours ^ theirs)
        ]
    return findings


def _literals(expression: str) -> set[str]:
    """The texts of the first list of an expression."""
    (inside,) = re.findall(r"\[(.*?)\]", expression)[:1]
    return set(re.findall(r'"([\w-]+)"', inside))


def _kustomized(folder: Path) -> Iterator[Path]:
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]:
        path = (folder / name).resolve()
        yield from _kustomized(path) if path.is_dir() else [path]


def secret_findings(root: Path) -> Findings:
    """Secrets and keys of secrets.yaml that Terraform does not make, or makes with a text from this repository."""
    made: dict[str, dict[str, str]] = read("platform", root)["locals"]["secret_data"]
    declared = declared_secrets()
    findings = [
        f"Secret {name} is not made"
        for name, entry in declared.items()
        if name not in made and "only in production" not in entry["purpose"]
    ]
    for name, data in made.items():
        if set(data) != set(declared.get(name, {}).get("keys", [])):
            findings.append(f"Secret {name} has the keys {', '.join(data)}, which are not those of secrets.yaml")
        findings += [f"Secret {name}: {key} is written out" for key, value in data.items() if "${" not in value]
    revised = read("platform", root)["locals"]["secrets"]
    return findings + [
        f"Secret {name} has data, and is never made" for name in made if not re.search(rf"\b{name} = ", revised)
    ]


def choice_findings(root: Path) -> Findings:
    """Settings that people cannot choose though settings.py knows them, and the reverse."""
    known = set(read("platform", root)["locals"]["known_settings"])
    return [f"{name} is known to one of the two only" for name in sorted(known ^ choosable())]


def output_findings(root: Path) -> Findings:
    """Outputs of the cluster that the platform asks for and that are not there."""
    used = set(re.findall(r"(?:terraform_remote_state\.cluster|self)\.outputs\.(\w+)", text_of("platform", root)))
    return [f"terraform/cluster has no output {name}" for name in sorted(used - set(read("cluster", root)["output"]))]


GUARDS = {
    "variables": variable_findings,
    "versions": version_findings,
    "files": file_findings,
    "secrets": secret_findings,
    "choices": choice_findings,
    "outputs": output_findings,
}


@pytest.mark.parametrize("guard", GUARDS)
def test_terraform_agrees_with_the_repository(guard: str) -> None:
    assert GUARDS[guard](TERRAFORM) == []


FAULTS = {
    "a variable without a type": ("variables", "platform/variables.tf", "type        = string\n", "", "has no type"),
    "a variable without a description": (
        "variables",
        "cluster/variables.tf",
        'description = "Name of the kind cluster."\n',
        "",
        "has no description",
    ),
    "a key that is shown": ("variables", "platform/variables.tf", "sensitive   = true\n", "", "is not sensitive"),
    "a key that is kept": ("variables", "platform/variables.tf", "ephemeral   = true\n", "", "is not ephemeral"),
    "a name that is not validated": (
        "variables",
        "platform/variables.tf",
        'contains(["postgres", "databricks"], var.warehouse)',
        "true",
        "warehouse is compared",
    ),
    "an output without a description": (
        "variables",
        "cluster/outputs.tf",
        'description = "The context of the cluster."\n',
        "",
        "kube_context is not described",
    ),
    "a provider of any version": (
        "versions",
        "platform/versions.tf",
        'version = "3.3.0"',
        'version = "~> 3.0"',
        "is not fixed",
    ),
    "a chart of another version": (
        "versions",
        "platform/main.tf",
        'dagster_chart_version = "',
        'dagster_chart_version = "9',
        "constraints.txt",
    ),
    "an overlay that is not there": (
        "files",
        "platform/variables.tf",
        'contains(["kind", "production"]',
        'contains(["kind", "staging"]',
        "no helm-values/staging.yaml",
    ),
    "a folder left out": ("files", "platform/main.tf", '["base", "production"]', '["production"]', "base/network.yaml"),
    "another key in a Secret": (
        "secrets",
        "platform/secrets.tf",
        "postgresql-password = ",
        "password = ",
        "Secret dagster-postgresql has the keys password, url",
    ),
    "another name of a Secret": (
        "secrets",
        "platform/secrets.tf",
        "weather-warehouse-owner = {",
        "weather-owner = {",
        "Secret weather-warehouse-owner is not made",
    ),
    "a password in the file": (
        "secrets",
        "platform/secrets.tf",
        '${ephemeral.random_password.role["weather_reader"].result}@${local.warehouse_server}',
        "letmein@server",
        "written out",
    ),
    "a setting that there is not": (
        "choices",
        "platform/settings.tf",
        '"OPENWEATHER_PLAN"',
        '"OPENWEATHER_PLN"',
        "OPENWEATHER_PLN is known to one",
    ),
    "a secret among the settings": (
        "choices",
        "platform/settings.tf",
        '"WEATHER_PROVIDER"',
        '"WEATHER_PROVIDER", "WEATHER_ALERT_URLS"',
        "WEATHER_ALERT_URLS is known to one",
    ),
    "an output that is gone": (
        "outputs",
        "cluster/outputs.tf",
        'output "kube_context"',
        'output "context"',
        "no output kube_context",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, tmp_path: Path) -> None:
    guard, name, before, after, finding = FAULTS[fault]
    root = planted(tmp_path, name, before, after)
    assert any(finding in each for each in GUARDS[guard](root)), GUARDS[guard](root)


def planted(folder: Path, name: str, before: str, after: str) -> Path:
    """A copy of terraform/, with what it reads beside it, in which a piece of a file is another.

    What a person chose in this clone stays behind.
    """
    shutil.copytree(VALUES, folder / VALUES.name)
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    for name_beside in {"Dockerfile", ".dockerignore", *image_guards.context_sources(dockerfile)}:
        if (PROJECT / name_beside).is_file():
            (folder / name_beside).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name_beside, folder / name_beside)
    root = folder / "terraform"
    shutil.copytree(TERRAFORM, root, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
    plant(root, name, before, after)
    return root


def copied(folder: Path) -> Path:
    """The same with nothing planted."""
    return planted(folder, "cluster/main.tf", "", "")


def plant(root: Path, name: str, before: str, after: str) -> None:
    """Make a piece of a file another."""
    text = (root / name).read_text(encoding="utf-8")
    assert before in text
    (root / name).write_text(text.replace(before, after, 1), encoding="utf-8")


class Terraform:
    """The real Terraform on a copy of the modules, with stand-ins of its providers and a data folder of its own."""

    def __init__(self, reattach: str, folder: Path) -> None:
        self.folder = folder
        self.copy = copied(folder / "clone")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
        self._environment = {
            **kept,
            "TF_REATTACH_PROVIDERS": reattach,
            "CHECKPOINT_DISABLE": "1",
            "TF_IN_AUTOMATION": "1",
        }

    def __call__(
        self, module: str, command: str, *arguments: str, root: Path = TERRAFORM, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a module."""
        environment = {
            **self._environment,
            "TF_DATA_DIR": str(self.folder / f"{module}-data"),
            **{f"TF_VAR_{name}": value for name, value in variables.items()},
        }
        line = [
            "terraform",
            f"-chdir={(self.copy if root == TERRAFORM else root) / module}",
            command,
            "-no-color",
            *arguments,
        ]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    folder = tmp_path_factory.mktemp("terraform")
    with stand_ins() as reattach:
        run = Terraform(reattach, folder)
        for module in MODULES:
            done = run(module, "init", "-input=false")
            assert done.returncode == 0, done.stderr
        yield run


def unknown_providers(root: Path) -> set[str]:
    """Providers without a stand-in, and stand-ins of providers that no module uses."""
    schemas = json.loads(SCHEMAS.read_text(encoding="utf-8"))["provider_schemas"]
    wanted = {
        f"registry.terraform.io/{provider['source']}"
        for module in MODULES
        for provider in read(module, root)["terraform"]["required_providers"][0].values()
    }
    return set(schemas) ^ wanted


def test_the_stand_ins_are_those_of_the_modules(tmp_path: Path) -> None:
    assert unknown_providers(TERRAFORM) == set()
    root = planted(tmp_path, "cluster/versions.tf", '"tehcyx/kind"', '"someone/kind"')
    assert unknown_providers(root) == {"registry.terraform.io/tehcyx/kind", "registry.terraform.io/someone/kind"}


@pytest.mark.integration
@needs_terraform
def test_the_files_are_formatted(tmp_path: Path) -> None:
    assert unformatted(copied(tmp_path / "as it is")) == []
    root = planted(tmp_path / "planted", "cluster/main.tf", "is_kind    =", "is_kind =")
    assert unformatted(root) == ["main.tf"]


def unformatted(root: Path) -> list[str]:
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-recursive", str(root)], capture_output=True, text=True, check=False
    )
    return [Path(name).name for name in done.stdout.splitlines()]


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize("module", MODULES)
def test_terraform_finds_the_module_valid_and_its_tests_pass(terraform: Terraform, module: str) -> None:
    validated = terraform(module, "validate")
    assert validated.returncode == 0, validated.stdout + validated.stderr
    tested = terraform(module, "test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert passed(tested.stdout) > 0


def passed(told: str) -> int:
    """How many of Terraform's tests passed, when none failed."""
    counted = re.search(r"(\d+) passed, 0 failed", told)
    return int(counted[1]) if counted else 0


def test_ten_tests_that_passed_are_not_none() -> None:
    assert passed("Success! 10 passed, 0 failed.") == 10
    assert passed("Success! 0 passed, 0 failed.") == 0
    assert passed("Failure! 10 passed, 1 failed.") == 0


INVALID = {
    "an argument that the provider does not know": (
        "platform/main.tf",
        "max_history = 10",
        "keep_history = 10",
        "Unsupported argument",
    ),
    "the block form of the provider before": (
        "platform/versions.tf",
        "kubernetes = {",
        "kubernetes {",
        'Unexpected "kubernetes" block',
    ),
    "a required argument left out": (
        "platform/main.tf",
        '  chart       = "dagster"\n',
        "",
        "Missing required argument",
    ),
    "a reference to nothing": (
        "platform/outputs.tf",
        "kubernetes_namespace_v1.weather.",
        "kubernetes_namespace_v1.other.",
        "undeclared resource",
    ),
}


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize("fault", INVALID)
def test_terraform_refuses_a_planted_fault(terraform: Terraform, tmp_path: Path, fault: str) -> None:
    name, before, after, message = INVALID[fault]
    refused = terraform("platform", "validate", root=planted(tmp_path, name, before, after))
    assert refused.returncode == 1
    assert message in " ".join(refused.stderr.split())


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("platform/main.tf", '"helm.sh/hook"  ', '"helm.sh/hock"  '),
        ("platform/main.tf", "file(name)]", "name]"),
        ("platform/variables.tf", '!startswith(var.namespace, "kube-")', "true"),
        ("platform/secrets.tf", "weather-warehouse-reader = var.passwords_revision", "weather-warehouse-reader = 1"),
        ("platform/secrets.tf", "data_wo          =", "data             ="),
        ("cluster/main.tf", 'api_server_address = "127.0.0.1"', 'api_server_address = "0.0.0.0"'),
        ("cluster/main.tf", "is_kind    = var.existing_context == null", "is_kind    = true"),
        ("cluster/variables.tf", '"@sha256:[0-9a-f]{64}$"', '"^kindest/node:"'),
    ],
)
def test_the_tests_of_terraform_find_a_planted_fault(
    terraform: Terraform, tmp_path: Path, name: str, before: str, after: str
) -> None:
    failed = terraform(name.partition("/")[0], "test", root=planted(tmp_path, name, before, after))
    assert failed.returncode == 1
    assert re.search(r", [1-9]\d* failed", failed.stdout), failed.stdout + failed.stderr


@pytest.fixture(scope="module")
def applied(terraform: Terraform) -> dict[str, str]:
    """Both modules applied, one after the other, as the README says; an existing context saves building images."""
    cluster_state, state = terraform.folder / "cluster.tfstate", terraform.folder / "kind.tfstate"
    done = terraform("cluster", "apply", "-auto-approve", f"-state={cluster_state}", existing_context="a-cluster")
    assert done.returncode == 0, done.stderr
    variables = {
        "cluster_state": str(cluster_state),
        "environment": "kind",
        "openweather_api_key": KEY,
        "alert_urls": ALERT_URL,
    }
    done = terraform("platform", "apply", "-auto-approve", f"-state={state}", **variables)
    assert done.returncode == 0, done.stderr
    return {**variables, "state": state.read_text(encoding="utf-8"), "told": done.stdout + done.stderr}


def secrets_in(told: str) -> list[str]:
    """Which of the secrets that Terraform got are in a text."""
    return [secret for secret in (PASSWORD, KEY, ALERT_URL) if secret in told]


@pytest.mark.integration
@needs_terraform
def test_no_secret_is_in_the_state_or_on_the_screen(applied: dict[str, str]) -> None:
    assert "weather-warehouse" in applied["state"]
    assert secrets_in(applied["state"] + applied["told"]) == []


@pytest.mark.integration
@needs_terraform
def test_a_secret_in_the_state_is_found(terraform: Terraform, applied: dict[str, str], tmp_path: Path) -> None:
    kept = f'resource "terraform_data" "kept" {{\n  input = "{KEY}"\n}}\n\nephemeral "random_password"'
    root = planted(tmp_path, "platform/secrets.tf", 'ephemeral "random_password"', kept)
    state = tmp_path / "state"
    done = terraform("platform", "apply", "-auto-approve", f"-state={state}", root=root, **given(applied))
    assert done.returncode == 0, done.stderr
    assert secrets_in(state.read_text(encoding="utf-8")) == [KEY]


DATABASE_SECRETS = {
    "dagster-postgresql",
    "weather-postgres",
    "weather-warehouse",
    "weather-warehouse-owner",
    "weather-warehouse-reader",
}


@pytest.mark.integration
@needs_terraform
def test_a_second_apply_changes_nothing_and_a_new_revision_changes_the_passwords_alone(
    terraform: Terraform, applied: dict[str, str]
) -> None:
    assert changes(planned(terraform, **given(applied))) == set()
    assert changes(planned(terraform, "-var=passwords_revision=2", **given(applied))) == DATABASE_SECRETS


@pytest.mark.integration
@needs_terraform
def test_the_rotation_applies_the_secrets_alone_whatever_else_has_changed(
    terraform: Terraform, applied: dict[str, str], tmp_path: Path
) -> None:
    # Otherwise a migration would sign in with passwords that the server does not have yet.
    document = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    (target,) = re.findall(r"raise passwords_revision\n.*apply (-target=\S+)", document)
    root = planted(tmp_path, "platform/main.tf", "backoffLimit = 8", "backoffLimit = 9")
    revision = "-var=passwords_revision=2"
    assert changes(planned(terraform, revision, target, root=root, **given(applied))) == DATABASE_SECRETS
    assert "helm_release.objects" in changes(planned(terraform, revision, root=root, **given(applied)))


@pytest.mark.integration
@needs_terraform
def test_a_change_that_nobody_asked_for_is_found(terraform: Terraform, applied: dict[str, str], tmp_path: Path) -> None:
    more = 'merge(local.namespace.metadata.labels, { at = "noon" })'
    root = planted(tmp_path / "a", "platform/main.tf", "local.namespace.metadata.labels", more)
    assert "kubernetes_namespace_v1.weather" in changes(planned(terraform, root=root, **given(applied)))
    root = planted(
        tmp_path / "b",
        "platform/secrets.tf",
        "weather-alerts           = var.credentials_revision",
        "weather-alerts           = var.passwords_revision",
    )
    rotated = changes(planned(terraform, "-var=passwords_revision=2", root=root, **given(applied)))
    assert rotated == {*DATABASE_SECRETS, "weather-alerts"}


def given(applied: dict[str, str]) -> dict[str, str]:
    """The variables of the apply."""
    return {name: value for name, value in applied.items() if name not in {"state", "told"}}


def changes(plan: dict[str, Any]) -> set[str]:
    """What a plan would change, by its key or else by its address."""
    return {
        change.get("index", change["address"])
        for change in plan["resource_changes"]
        if change["change"]["actions"] != ["no-op"]
    }


def planned(
    terraform: Terraform, *arguments: str, root: Path = TERRAFORM, environment: str, **variables: str
) -> dict[str, Any]:
    """The plan for an environment, each of which has a state of its own; nothing is applied but kind."""
    plan = terraform.folder / "plan"
    state = terraform.folder / f"{environment}.tfstate"
    variables["environment"] = environment
    done = terraform("platform", "plan", f"-state={state}", f"-out={plan}", *arguments, root=root, **variables)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(terraform("platform", "show", "-json", str(plan), root=root).stdout)
    return shown


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize(
    ("name", "before", "after", "different"),
    [
        ("platform/main.tf", "", "", set()),
        (
            "platform/main.tf",
            'kind       = ["base", "backup", "kind"]',
            'kind       = ["base", "kind"]',
            {"ConfigMap weather-backup", "CronJob weather-backup", "PersistentVolumeClaim weather-backups"},
        ),
        (
            "platform/main.tf",
            'yamldecode(replace("${text}\\n"',
            "yamldecode(replace(text",
            {"ConfigMap weather-backup", "ConfigMap weather-postgres-init"},
        ),
    ],
)
def test_the_objects_are_those_of_the_kustomization(
    terraform: Terraform,
    applied: dict[str, str],
    tmp_path: Path,
    name: str,
    before: str,
    after: str,
    different: set[str],
) -> None:
    plan = planned(terraform, root=planted(tmp_path, name, before, after), **given(applied))
    assert differing(plan, manifests("kind")) == different


@pytest.mark.integration
@needs_terraform
def test_in_production_they_are_those_of_its_own_and_of_databricks(
    terraform: Terraform, applied: dict[str, str]
) -> None:
    asked = {"environment": "production", "image_registry": "ghcr.io/acme", "warehouse": "databricks"}
    plan = planned(terraform, **{**given(applied), **asked})
    ours = with_settings(manifests("production"), WEATHER_ENV="databricks")
    assert differing(plan, [*ours, *manifests("databricks")]) == set()
    assert differing(plan, ours) == {"ExternalSecret weather-databricks"}
    assert differing(plan, [*manifests("production"), *manifests("databricks")]) == {"ConfigMap weather-settings"}


CODE_SERVER = "Deployment weather-dagster-user-deployments-weather"
OWN_PLACES = "locations: [{id: apia, name: Apia, latitude: -13.83, longitude: -171.77, time_zone: Pacific/Apia}]\n"


def cluster_objects(plan: dict[str, Any]) -> list[Object]:
    """What a plan makes of both releases: the plain objects, and what the chart makes of the values."""
    objects = rendered_objects(release_in(plan, "objects")["values"])
    return [*objects, *rendered(with_defaults(chart_values(plan)))]


def release_in(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """A release as a plan makes it."""
    (after,) = (e["change"]["after"] for e in plan["resource_changes"] if e["address"] == f"helm_release.{name}")
    return dict(after)


def chart_values(plan: dict[str, Any]) -> Values:
    """As Helm hands them to the chart: one file over the other, then what is set by its path."""
    values: Values = {}
    release = release_in(plan, "dagster")
    for text in release["values"]:
        values = merge(values, yaml.safe_load(text))
    for one in release["set"]:
        values = patched(values, helm_python.parse_set_string(f"{one['name']}={one['value']}"))
    return values


def patched(below: Any, told: Any) -> Any:
    """What is set, put into values: an item of a list keeps what it has beside it."""
    if isinstance(told, list):
        return [patched(one, other) for one, other in zip_longest(below, told, fillvalue={})]
    if isinstance(told, dict):
        return {**below, **{key: patched(below.get(key, {}), value) for key, value in told.items()}}
    return told


def choices(folder: Path, **others: str) -> dict[str, str]:
    """Variables with a setting and places of one's own."""
    file = folder / "mine.yaml"
    file.write_text(OWN_PLACES, encoding="utf-8")
    settings = '{"OPENWEATHER_PLAN": "one_call_3"}'
    return {"settings": settings, "places": str(file), "ingestor": "true", "image_pull_secret": "ghcr", **others}


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize(
    ("name", "before", "after", "missing"),
    [
        ("platform/main.tf", "", "", set()),
        ("platform/main.tf", "{ data = local.settings }", "{}", {"OPENWEATHER_PLAN", "WEATHER_LOCATIONS"}),
        ("platform/settings.tf", '"/places/${local.places_file}"', '"/places/mine.yaml"', {"WEATHER_LOCATIONS"}),
        ("platform/settings.tf", "    var.settings,\n", "", {"OPENWEATHER_PLAN"}),
    ],
)
def test_what_is_chosen_reaches_every_pod_with_the_warehouse(
    terraform: Terraform,
    applied: dict[str, str],
    tmp_path: Path,
    name: str,
    before: str,
    after: str,
    missing: set[str],
) -> None:
    root = planted(tmp_path, name, before, after)
    plan = planned(terraform, root=root, **given(applied), **choices(tmp_path))
    assert guards.schema_findings(chart_values(plan)) + guards.typo_findings(chart_values(plan)) == []
    objects = cluster_objects(plan)
    assert guards.choice_findings(objects) == []
    assert guards.reference_findings(objects) == []
    told = told_to_pods(objects)
    assert {CODE_SERVER, "CronJob weather-ingestor", "Job weather-migrate"} <= told.keys()
    for pod, variables in told.items():
        wanted = {"OPENWEATHER_PLAN": "one_call_3", "WEATHER_LOCATIONS": OWN_PLACES}
        assert {key for key in wanted if variables.get(key) != wanted[key]} == missing, pod


def told_to_pods(objects: list[Object]) -> dict[str, dict[str, str | None]]:
    """The settings of each pod with the warehouse; for WEATHER_LOCATIONS the text of the file, if it is there."""
    maps = {name_of(thing): thing["data"] for thing in objects if thing["kind"] == "ConfigMap"}
    found = {}
    for pod, template in pods(objects):
        volumes = {each["name"]: each.get("configMap", {}).get("name") for each in template["spec"].get("volumes", [])}
        for container in containers(template):
            variables: dict[str, str | None] = {}
            for source in container.get("envFrom", []):
                variables |= maps.get(source.get("configMapRef", {}).get("name"), {})
            if "WEATHER_ENV" in variables:
                files = {
                    f"{mount['mountPath']}/{key}": text
                    for mount in container["volumeMounts"]
                    for key, text in maps.get(volumes[mount["name"]], {}).items()
                }
                where = variables.get("WEATHER_LOCATIONS")
                found[pod] = {**variables, "WEATHER_LOCATIONS": files.get(where) if where else None}
    return found


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize(
    ("name", "before", "after", "unnoticed"),
    [
        ("platform/main.tf", "", "", []),
        ("platform/main.tf", "= local.choices_sum", '= "0"', ["settings", "places", "warehouse"]),
        ("platform/settings.tf", "[local.settings, local.places]", "local.settings", ["places"]),
    ],
)
def test_another_choice_begins_a_new_code_server_and_nothing_else_does(
    terraform: Terraform,
    applied: dict[str, str],
    tmp_path: Path,
    name: str,
    before: str,
    after: str,
    unnoticed: list[str],
) -> None:
    root = planted(tmp_path, name, before, after)
    chosen = {**given(applied), **choices(tmp_path), "databricks": DATABRICKS}

    def code_server(**others: str) -> Object:
        objects = cluster_objects(planned(terraform, root=root, **{**chosen, **others}))
        (found,) = (template for pod, template in pods(objects) if pod == CODE_SERVER)
        return found

    first = code_server()
    assert code_server(ingestor="false") == first
    other = {"settings": '{"OPENWEATHER_PLAN": "professional"}', "warehouse": "databricks"}
    same = [name for name, value in other.items() if code_server(**{name: value}) == first]
    (tmp_path / "mine.yaml").write_text(OWN_PLACES.replace("Apia", "Upolu"), encoding="utf-8")
    same += ["places"] if code_server() == first else []
    assert sorted(same) == sorted(unnoticed)


@pytest.mark.integration
@needs_terraform
@pytest.mark.parametrize("environment", ["kind", "production"])
@pytest.mark.parametrize(
    ("name", "before", "after", "without"),
    [
        ("platform/main.tf", "", "", set()),
        ("platform/main.tf", "    imagePullSecrets         =", "    otherSecrets =", {"chart"}),
        (
            "platform/main.tf",
            "dagster-user-deployments = { imagePullSecrets",
            "dagster-user-deployments = { others",
            {"code", "run"},
        ),
        ("platform/main.tf", "    name = var.image_pull_secret", '    name = "other"', {"ours"}),
        ("platform/main.tf", ", kubernetes_default_service_account_v1.weather]", "]", {"ours"}),
    ],
)
def test_every_pod_pulls_with_the_secret(
    terraform: Terraform,
    applied: dict[str, str],
    tmp_path: Path,
    environment: str,
    name: str,
    before: str,
    after: str,
    without: set[str],
) -> None:
    asked = {"environment": environment, "image_registry": "ghcr.io/acme"}
    chosen = {**given(applied), **choices(tmp_path), **asked}
    plan = planned(terraform, root=planted(tmp_path, name, before, after), **chosen)
    objects = cluster_objects(plan)
    assert guards.kubernetes_findings(objects) == []
    found = {pod_kind(pod, template) for pod, template in pods(objects)}
    assert found == {"chart", "code", "ours"}
    of_account = pull_secrets_of_account(plan)
    lacking = {
        pod_kind(pod, template)
        for pod, template in pods(objects)
        if pull_secrets(template, of_account) != [{"name": "ghcr"}]
    }
    for pod, template in pods(objects):
        if pod == CODE_SERVER:
            (context,) = (
                json.loads(entry["value"])
                for entry in template["spec"]["containers"][0]["env"]
                if entry["name"] == "DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"
            )
            lacking |= set() if context["k8s"].get("image_pull_secrets") == [{"name": "ghcr"}] else {"run"}
    assert lacking == without


def pull_secrets(template: Object, of_account: list[Object]) -> list[Object]:
    """What the pods of a template pull with; those of the default account and with nothing of their own have its."""
    spec = template["spec"]
    return list(spec.get("imagePullSecrets") or ([] if "serviceAccountName" in spec else of_account))


def pull_secrets_of_account(plan: dict[str, Any]) -> list[Object]:
    """What the default account has, if it has it before the pods of the manifests are made."""
    account = "kubernetes_default_service_account_v1.weather"
    (release,) = (
        each for each in plan["configuration"]["root_module"]["resources"] if each["address"] == "helm_release.objects"
    )
    if account not in release["depends_on"]:
        return []
    (after,) = (e["change"]["after"] for e in plan["resource_changes"] if e["address"] == f"{account}[0]")
    return list(after["image_pull_secret"])


def pod_kind(pod: str, template: Object) -> str:
    """Whether a pod is of the code location, of Dagster's chart, or of our manifests."""
    if pod == CODE_SERVER:
        return "code"
    return "chart" if template["metadata"]["labels"].get("component", "").startswith("dagster") else "ours"


def differing(plan: dict[str, Any], kustomized: list[Object]) -> set[str]:
    """Objects that Terraform would make otherwise than the kustomizations, or only one of both."""
    made = by_name(each for each in rendered_objects(release_in(plan, "objects")["values"]) if not _is_hook(each))
    wanted = by_name(each for each in kustomized if each["kind"] != "Namespace")
    return {thing for thing in {*made, *wanted} if made.get(thing) != wanted.get(thing)}


def rendered_objects(values: list[str]) -> list[Object]:
    """What Helm makes of our chart of plain objects."""
    chart = Chart.load(str(TERRAFORM / "platform" / "objects"))
    told = chart.render(yaml.safe_load(values[0]), name="weather-objects", namespace="weather")
    texts = told.values() if isinstance(told, dict) else [told]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def _is_hook(each: Object) -> bool:
    return "helm.sh/hook" in each["metadata"].get("annotations", {})


def by_name(objects: Iterable[Object]) -> dict[str, Object]:
    return {f"{each['kind']} {each['metadata']['name']}": each for each in objects}
