"""Terraform: what the files say, against the rest of the repository; what Terraform itself says, on stand-ins.

Each guard returns what is wrong; a second test plants a fault that it must find.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from hcl2 import SerializationOptions
from helm_python import Chart

from weather_dagster_tests.deployment import image_guards
from weather_dagster_tests.deployment.guards import secret_references
from weather_dagster_tests.deployment.rendering import MANIFESTS, PROJECT, VALUES, Object, manifests, stack
from weather_dagster_tests.deployment.terraform_providers import PASSWORD, SCHEMAS, stand_ins

TERRAFORM = PROJECT / "terraform"
MODULES = ("cluster", "platform")
KEY = "0123456789abcdef" * 2
ALERT_URL = "json://alerts.example.com/hook"
SECRET_NAME = re.compile("key|token|password|secret|url|databricks")
"""Of a variable; revisions only count."""

needs_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="there is no terraform on the PATH")

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
            if SECRET_NAME.search(name) and not name.endswith("_revision"):
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
    """Overlays, folders of manifests and image targets that are not there, or are not those of the kustomizations."""
    findings = []
    platform, cluster = read("platform", root), read("cluster", root)
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
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    wanted = _literals(cluster["locals"]["images"])
    findings += [
        f"no target {name} in the Dockerfile" for name in sorted(wanted - set(image_guards.images(dockerfile)))
    ]
    copied = image_guards.context_sources(dockerfile, wanted)
    sources = cluster["locals"]["image_sources"]
    return findings + [f"a change of {name} builds no image" for name in sorted(copied) if name not in sources]


def _literals(expression: str) -> set[str]:
    """The texts of the first list of an expression."""
    (inside,) = re.findall(r"\[(.*?)\]", expression)[:1]
    return set(re.findall(r'"([\w-]+)"', inside))


def _kustomized(folder: Path) -> Iterator[Path]:
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]:
        path = (folder / name).resolve()
        yield from _kustomized(path) if path.is_dir() else [path]


def secret_findings(root: Path, objects: list[Object]) -> Findings:
    """Secrets and keys that the objects name and Terraform does not make, or makes with a text from this repository."""
    made: dict[str, dict[str, str]] = read("platform", root)["locals"]["secret_data"]
    declared = yaml.safe_load((VALUES / "secrets.yaml").read_text(encoding="utf-8"))
    findings = [
        f"{who}: Secret {name} is not made with the key {key}"
        for who, name, key, _ in secret_references(objects)
        if key not in {None, *made.get(name, {})} or name not in made
    ]
    for name, data in made.items():
        if set(data) != set(declared.get(name, {}).get("keys", [])):
            findings.append(f"Secret {name} has the keys {', '.join(data)}, which are not those of secrets.yaml")
        findings += [f"Secret {name}: {key} is written out" for key, value in data.items() if "${" not in value]
    revised = read("platform", root)["locals"]["secrets"]
    return findings + [
        f"Secret {name} has data, and is never made" for name in made if not re.search(rf"\b{name} = ", revised)
    ]


def output_findings(root: Path) -> Findings:
    """Outputs of the cluster that the platform asks for and that are not there."""
    used = set(re.findall(r"(?:terraform_remote_state\.cluster|self)\.outputs\.(\w+)", text_of("platform", root)))
    return [f"terraform/cluster has no output {name}" for name in sorted(used - set(read("cluster", root)["output"]))]


GUARDS = {
    "variables": variable_findings,
    "versions": version_findings,
    "files": file_findings,
    "secrets": lambda root: secret_findings(root, kind_objects()),
    "outputs": output_findings,
}


@cache
def kind_objects() -> list[Object]:
    """Everything on kind, the optional ingestor included."""
    return [*stack("databricks on kind"), *manifests("ingestor")]


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
    "an image without a target": (
        "files",
        "cluster/main.tf",
        '["code-location", "ingestor"]',
        '["code-location", "ingest"]',
        "no target ingest",
    ),
    "an image that is not built anew": (
        "files",
        "cluster/main.tf",
        '"requirements-ingest.txt", ',
        "",
        "a change of requirements-ingest.txt builds no image",
    ),
    "another key in a Secret": (
        "secrets",
        "platform/secrets.tf",
        "postgresql-password = ",
        "password = ",
        "postgresql-password",
    ),
    "another name of a Secret": (
        "secrets",
        "platform/secrets.tf",
        "weather-warehouse-owner = {",
        "weather-owner = {",
        "weather-warehouse-owner",
    ),
    "a password in the file": (
        "secrets",
        "platform/secrets.tf",
        '${ephemeral.random_password.role["weather_reader"].result}@${local.warehouse_server}',
        "letmein@server",
        "written out",
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
    """A copy of terraform/, with what it reads beside it, in which a piece of a file is another."""
    shutil.copytree(VALUES, folder / VALUES.name)
    dockerfile = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    for name_beside in {"Dockerfile", ".dockerignore", *image_guards.context_sources(dockerfile)}:
        if (PROJECT / name_beside).is_file():
            (folder / name_beside).parent.mkdir(exist_ok=True)
            shutil.copy(PROJECT / name_beside, folder / name_beside)
    root = folder / "terraform"
    shutil.copytree(TERRAFORM, root, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    text = (root / name).read_text(encoding="utf-8")
    assert before in text
    (root / name).write_text(text.replace(before, after, 1), encoding="utf-8")
    return root


class Terraform:
    """The real Terraform, with stand-ins of its providers and a data folder of its own."""

    def __init__(self, reattach: str, folder: Path) -> None:
        self.folder = folder
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
        line = ["terraform", f"-chdir={root / module}", command, "-no-color", *arguments]
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
    assert unformatted(TERRAFORM) == []
    root = planted(tmp_path, "cluster/main.tf", "is_kind    =", "is_kind =")
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
    assert ", 0 failed" in tested.stdout
    assert "0 passed" not in tested.stdout


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
    assert "1 failed" in failed.stdout, failed.stdout + failed.stderr


@pytest.fixture(scope="module")
def applied(terraform: Terraform) -> dict[str, str]:
    """Both modules applied, one after the other, as the README says; an existing context saves building images."""
    cluster_state, state = terraform.folder / "cluster.tfstate", terraform.folder / "platform.tfstate"
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


def planned(terraform: Terraform, *arguments: str, root: Path = TERRAFORM, **variables: str) -> dict[str, Any]:
    plan = terraform.folder / "plan"
    state = terraform.folder / "platform.tfstate"
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
    assert differing(plan, [*manifests("production"), *manifests("databricks")]) == set()
    assert differing(plan, manifests("production")) == {"ExternalSecret weather-databricks"}


def differing(plan: dict[str, Any], kustomized: list[Object]) -> set[str]:
    """Objects that Terraform would make otherwise than the kustomizations, or only one of both."""
    (release,) = (one for one in plan["resource_changes"] if one["address"] == "helm_release.objects")
    made = by_name(each for each in rendered_objects(release["change"]["after"]["values"]) if not _is_hook(each))
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
