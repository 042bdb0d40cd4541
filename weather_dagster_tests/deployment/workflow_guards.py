"""Guards of the GitHub workflows: each takes their texts by file name and returns what is wrong with them."""

import re
import shlex
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet

from weather_dagster_tests.conftest import BIN
from weather_dagster_tests.deployment import image_guards
from weather_dagster_tests.deployment.guards import OWN_IMAGES
from weather_dagster_tests.deployment.project import ROOT, command_findings, make_targets, setup

WORKFLOWS = ROOT / ".github/workflows"
SCRIPTS = ROOT / ".github/scripts"
DEPENDABOT = ROOT / ".github/dependabot.yml"
WRITES = {
    ("release.yml", "image"): {"packages", "id-token", "attestations"},
    ("release.yml", "publish"): {"contents"},
}
"""The only jobs that may write, and what."""
PODS = "weather_dagster_tests/deployment/test_pods.py"
"""Needs root, which the other tests have no use for."""
SECRETS = {"GITHUB_TOKEN"}
TRIGGERS = {"pull_request", "push", "schedule", "workflow_call", "workflow_dispatch"}
"""None of them runs a stranger's code with rights of ours."""

Texts = Mapping[str, str]
Findings = list[str]


def workflows() -> dict[str, str]:
    """The workflows by file name."""
    return {path.name: path.read_text() for path in sorted(WORKFLOWS.glob("*.yml"))}


def triggers(workflow: dict[Any, Any]) -> dict[str, Any]:
    """What starts a workflow; YAML 1.1 reads the key `on` as true."""
    return workflow[True] or {}


def jobs(texts: Texts) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """File, name and content of each job."""
    for file, text in texts.items():
        for name, job in yaml.safe_load(text)["jobs"].items():
            # One that is another workflow has none of its own.
            yield file, name, {"steps": [], **job}


def choices(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of `matrix` for each run of the job, as far as they are written down."""
    matrix = {name: told for name, told in job.get("strategy", {}).get("matrix", {}).items() if isinstance(told, list)}
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]


def resolved(text: str, job: dict[str, Any]) -> set[str]:
    """The text with each choice of the matrix put in."""
    return {
        re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found, values=values: str(values.get(found[1], found[0])), text)  # type: ignore[misc]
        for values in choices(job)
    }


def lines(script: str) -> Iterator[list[str]]:
    """The words of each simple command of a shell script, near enough for scripts as short as ours."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def commands(texts: Texts) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Where it stands, the job, and the words of each command that a step runs."""
    for file, name, job in jobs(texts):
        for step in job["steps"]:
            for script in resolved(step.get("run", ""), job):
                for words in lines(script):
                    yield f"{file} {name}", job, words


def actionlint_findings(texts: Texts, folder: Path) -> Findings:
    """What actionlint finds, and shellcheck in the scripts of steps."""
    paths = written(texts, folder)
    command = [BIN / "actionlint", "-no-color", "-oneline", "-shellcheck", str(BIN / "shellcheck"), *paths]
    linted = subprocess.run(command, capture_output=True, text=True)
    return (linted.stdout + linted.stderr).splitlines()


def zizmor_findings(texts: Texts, folder: Path) -> Findings:
    """What zizmor finds without a network, from a low severity on."""
    command = [
        BIN / "zizmor",
        "--offline",
        "--persona=pedantic",
        "--min-severity=low",
        "--format=plain",
        "--no-progress",
        "--color=never",
    ]
    linted = subprocess.run([*command, *written(texts, folder)], capture_output=True, text=True)
    return re.findall(r"^(?:help|warning|error|info)\[([\w-]+)\]", linted.stdout, re.MULTILINE) or (
        [] if linted.returncode == 0 else [linted.stderr]
    )


def written(texts: Texts, folder: Path) -> list[Path]:
    """The texts as files where linters look for them."""
    target = folder / ".github/workflows"
    target.mkdir(parents=True)
    for name, text in texts.items():
        (target / name).write_text(text)
    return [target / name for name in texts]


def pin_findings(texts: Texts) -> Findings:
    """Actions without a commit and the version it is, and one action at two commits."""
    findings, pins = [], defaultdict(set)
    for file, text in texts.items():
        for reference in re.findall(r"uses: (.*)", text):
            if (ROOT / reference.partition(" # ")[0]).is_file():
                continue
            pinned = re.fullmatch(r"([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", reference)
            if pinned:
                pins[pinned[1]].add(f"{pinned[2]} # {pinned[3]}")
            else:
                findings.append(f"{file}: {reference} is not action@40 digits # vX.Y.Z")
    return findings + [f"{action}: at {len(at)} commits" for action, at in pins.items() if len(at) > 1]


def right_findings(texts: Texts) -> Findings:
    """Rights beyond what a job needs, jobs that keep the checkout's token or never end, triggers that are not ours."""
    findings = []
    for file, text in texts.items():
        workflow = yaml.safe_load(text)
        if workflow.get("permissions") != {}:
            findings.append(f"{file}: does not begin with `permissions: {{}}`")
        findings += [f"{file}: {name} is not a trigger of ours" for name in set(triggers(workflow)) - TRIGGERS]
        findings += [f"{file}: reads the secret {name}" for name in set(re.findall(r"secrets\.(\w+)", text)) - SECRETS]
    for file, name, job in jobs(texts):
        rights = job.get("permissions")
        if not isinstance(rights, dict):
            findings.append(f"{file} {name}: does not say what it may do")
        else:
            writes = {right for right, level in rights.items() if level != "read"}
            findings += [f"{file} {name}: may write {right}" for right in writes - WRITES.get((file, name), set())]
        if "timeout-minutes" not in job and "uses" not in job:
            findings.append(f"{file} {name}: has no timeout-minutes")
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@") and step["with"].get("persist-credentials", True):
                findings.append(f"{file} {name}: leaves the token of the checkout behind")
    return findings


def path_findings(texts: Texts, dependabot: str) -> Findings:
    """Paths of the repository that are not there: in filters, steps, scripts, folders to work in."""
    named = []
    for file, text in texts.items():
        named += [(file, path) for path in (triggers(yaml.safe_load(text)).get("pull_request") or {}).get("paths", [])]
    for file, name, job in jobs(texts):
        folders = [job.get("defaults", {}).get("run", {}).get("working-directory", "")]
        named += [(f"{file} {name}", path) for folder in folders for path in resolved(folder, job)]
    for where, _, words in commands(texts):
        for word in words:
            path = word.removeprefix("-chdir=")
            if re.match(
                r"(\.github|helm-values|terraform|weather_\w+)/|(constraints\.txt|setup\.py|Dockerfile)$", path
            ):
                named.append((where, path))
    for update in yaml.safe_load(dependabot)["updates"]:
        named += [("dependabot.yml", path.strip("/")) for path in update.get("directories", [update.get("directory")])]
    return sorted({f"{where}: {path} is not there" for where, path in named if path and not any(ROOT.glob(path))})


def call_findings(texts: Texts, makefile: str) -> Findings:
    """Make targets, `weather` and `weather-dbt` commands, build arguments and images that are not there."""
    known_targets = make_targets(makefile)
    dockerfile = image_guards.DOCKERFILE.read_text()
    images = {image_guards.PREFIX + name for name in image_guards.images(dockerfile)}
    findings = []
    for where, _, words in commands(texts):
        program = words[0].rpartition("/")[2]
        if program == "make":
            unknown = [word for word in words[1:] if not word.startswith("-") and word not in known_targets]
            findings += [f"{where}: make knows no target {target}" for target in unknown]
        elif program == "weather":
            findings += [f"{where}: {finding}" for finding in command_findings(words)]
        findings += [
            f"{where}: no image {image}"
            for word in words
            for image in re.findall(r"^(weather-[\w-]+):\$", word)
            if image not in images
        ]
    for file, name, job in jobs(texts):
        for step in job["steps"]:
            given = step.get("with", {})
            for target in resolved(given.get("target", ""), job) - {"", *image_guards.images(dockerfile)}:
                findings.append(f"{file} {name}: the Dockerfile has no image {target}")
            for argument in re.findall(r"^(\w+)=", given.get("build-args", ""), re.MULTILINE):
                if argument not in image_guards.arguments(dockerfile):
                    findings.append(f"{file} {name}: the Dockerfile has no ARG {argument}")
            named = {image.partition(":")[0] for image in resolved(given.get("image", ""), job)}
            # What another job lists is not known here.
            unknown = {image for image in named - {"", *images} if not image.startswith("${{")}
            findings += [f"{file} {name}: no image {image}" for image in unknown]
    return findings


def coverage_findings(texts: Texts) -> Findings:
    """Images that nobody runs, scans or releases."""
    images, release = ({file: texts[file]} for file in ("images.yml", "release.yml"))
    run = {words[1] for _, _, words in commands(images) if words[0].endswith("check_image.sh")}
    scanned = {step.get("with", {}).get("image", "") for _, _, job in jobs(images) for step in job["steps"]}
    released = {
        target
        for _, _, job in jobs(release)
        for step in job["steps"]
        for target in resolved(step.get("with", {}).get("target", ""), job)
    }
    seen = {
        "runs": set(map(image_guards.target_of, run)),
        "scans": set(map(image_guards.target_of, scanned)),
        "releases": released,
    }
    return [
        f"nobody {does} the image {name}"
        for does, found in seen.items()
        for name in image_guards.images(image_guards.DOCKERFILE.read_text())
        if name not in found
    ]


def release_findings(texts: Texts) -> Findings:
    """A tag on an image that did not run, or was not scanned; a release without tests."""
    every = {name: job for _, name, job in jobs({"release.yml": texts["release.yml"]})}
    image = every["image"]
    steps = [yaml.safe_dump(step, width=1000) for step in image["steps"]]
    tag = next(place for place, step in enumerate(steps) if "imagetools create --tag" in step)
    called = {every[name].get("uses", "").rpartition("/")[2] for name in image["needs"]}
    return [
        *(
            f"release.yml: no {what} before the tag"
            for what in ("check_image.sh", "anchore/scan-action", "push-by-digest=true")
            if not any(what in step for step in steps[:tag])
        ),
        *("release.yml: pushes with a tag" for step in image["steps"] if "tags" in step.get("with", {})),
        *(f"release.yml: no {file} before the images" for file in ("tests.yml", "kind.yml") if file not in called),
    ]


def suite_findings(texts: Texts) -> Findings:
    """Jobs that run all tests, and lack what some need: a browser, Terraform itself, root for the pods alone."""
    findings = []
    for file, name, job in jobs(texts):
        run = {" ".join(words): step for step in job["steps"] for words in lines(step.get("run", ""))}
        if "make test" not in run:
            continue
        terraforms = [step for step in job["steps"] if step.get("uses", "").startswith("hashicorp/setup-terraform@")]
        faults = {
            "has no browser": not any("playwright install" in line for line in run),
            "has no Terraform, or one in a wrapper": [step["with"].get("terraform_wrapper") for step in terraforms]
            != [False],
            "runs the pods without root": run["make test"].get("env", {}).get("PYTEST_ADDOPTS") != f"--ignore={PODS}",
            "does not run the pods": not any(re.fullmatch(rf"sudo env CI=true .* {PODS}", line) for line in run),
        }
        findings += [f"{file} {name}: {fault}" for fault, is_there in faults.items() if is_there]
    return findings


def filter_findings(kind: str, dockerfile: str) -> Findings:
    """What an installation on kind is made of, and whose change in a pull request installs nothing."""
    patterns = triggers(yaml.safe_load(kind))["pull_request"]["paths"]
    called = {word for _, _, words in commands({"kind.yml": kind}) for word in words if word.startswith(".github/")}
    made_of = {
        *image_guards.context_sources(dockerfile, OWN_IMAGES.values()),
        *called,
        *(".dockerignore", ".github/workflows/kind.yml", "Dockerfile", "helm-values", "terraform"),
    }
    return [
        f"kind.yml: a change of {source} installs nothing"
        for source in sorted(made_of)
        if not any(source == pattern or fnmatch(f"{source}/", pattern) for pattern in patterns)
    ]


def update_findings(dependabot: str) -> Findings:
    """Images of others in manifests that Dependabot does not keep up, and images of ours that it would look for."""
    (update,) = [one for one in yaml.safe_load(dependabot)["updates"] if one["package-ecosystem"] == "docker"]
    ignored = [one["dependency-name"] for one in update["ignore"] if "update-types" not in one]
    findings = set()
    for path in (ROOT / "helm-values/manifests").rglob("*.yaml"):
        folder = f"/{path.parent.relative_to(ROOT).as_posix()}"
        for image in re.findall(r"^ *(?:- )?image: (\S+):\S+$", path.read_text(), re.MULTILINE):
            is_watched = any(fnmatch(folder, pattern) for pattern in update["directories"])
            is_ignored = any(fnmatch(image, pattern) for pattern in ignored)
            if image in OWN_IMAGES and not is_ignored:
                findings.add(f"{image}: Dependabot looks for it in a registry")
            elif image not in OWN_IMAGES and (is_ignored or not is_watched):
                findings.add(f"{folder}: Dependabot passes over {image}")
    return sorted(findings)


def version_findings(texts: Texts) -> Findings:
    """Pythons that setup.py does not support, tests without the ends of its range, Terraforms that are too old."""
    supported = SpecifierSet(setup()["python_requires"])
    range_of_ours = [minor for minor in range(30) if supported.contains(f"3.{minor}")]
    ends = {f"3.{minor}" for minor in (range_of_ours[0], range_of_ours[-1])}
    required = [
        SpecifierSet(found)
        for path in (ROOT / "terraform").glob("*/versions.tf")
        for found in re.findall(r'required_version\s*=\s*"(.*)"', path.read_text())
    ]
    findings = []
    for file, name, job in jobs(texts):
        for given in (step.get("with", {}) for step in job["steps"]):
            findings += [
                f"{file} {name}: Python {version} is not in {supported}"
                for version in resolved(str(given.get("python-version", "")), job) - {""}
                if not supported.contains(version)
            ]
            terraform = given.get("terraform_version")
            if terraform and not all(wanted.contains(terraform) for wanted in required):
                findings.append(f"{file} {name}: Terraform {terraform} is not what terraform/ requires")
    tested = set(pythons_under_test(texts))
    return findings + ([] if tested == ends else [f"tests run on {sorted(tested)}, the ends are {sorted(ends)}"])


def pythons_under_test(texts: Texts) -> list[str]:
    """The Pythons that all tests run on."""
    return yaml.safe_load(texts["tests.yml"])["jobs"]["test"]["strategy"]["matrix"]["python"]  # type: ignore[no-any-return]


def cluster_findings(kind: str, values: str, variables: str) -> Findings:
    """A namespace, Service or port in the kind workflow that the Helm values and Terraform do not make."""
    webserver = yaml.safe_load(values)["dagsterWebserver"]
    service = f"service/weather-{webserver.get('nameOverride', 'dagster-webserver')}"
    namespace = re.search(r'variable "namespace" \{.*?default\s*=\s*"(.*?)"', variables, re.DOTALL)
    findings = []
    for _, _, words in commands({"kind.yml": kind}):
        if words[0] != "kubectl":
            continue
        named = dict(pairwise(words))
        if "--namespace" in named and (namespace is None or named["--namespace"] != namespace[1]):
            findings.append(f"kind.yml: Terraform makes no namespace {named['--namespace']}")
        if "port-forward" in named:
            port = named[named["port-forward"]].rpartition(":")[2]
            if (named["port-forward"], port) != (service, str(webserver["service"]["port"])):
                findings.append(f"kind.yml: the chart makes no {named['port-forward']} with port {port}")
    return findings
