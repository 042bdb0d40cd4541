"""Guards of the Dockerfile: each takes its text and returns what is wrong with it."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from weather_dagster_tests.conftest import BIN
from weather_dagster_tests.deployment.project import ROOT, closure, command_findings, setup

DOCKERFILE = ROOT / "Dockerfile"
DOCKERIGNORE = ROOT / ".dockerignore"
LOCK = "constraints.txt"
USER = "10001:10001"
PREFIX = "weather-"
NOT_IN_THE_INGESTOR = ("dagster", "dbt", "plotly")
PROGRAMS = {
    "code-location": {"dagster", "weather"},
    "ingestor": {"weather"},
    "superset": {"gunicorn", "python", "superset"},
}
"""What an image may be asked to run."""
SECRET = re.compile(r"KEY|TOKEN|PASSWORD|SECRET|_URL", re.IGNORECASE)

Findings = list[str]


@dataclass
class Stage:
    """One ``FROM`` with what follows it."""

    name: str
    base: str
    steps: list[tuple[str, str]]
    """Instruction and the rest of its line, continuation lines joined."""

    def all(self, instruction: str) -> list[str]:
        """The arguments of each such instruction."""
        return [rest for name, rest in self.steps if name == instruction]


def stages(dockerfile: str) -> dict[str, Stage]:
    """The stages by name; what stands before the first is the stage ''."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    found = {"": Stage("", "", [])}
    name = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(name, base, [])
        elif instruction:
            found[name].steps.append((instruction, " ".join(rest.split())))
    return found


def images(dockerfile: str) -> dict[str, Stage]:
    """The stages that become images: those with a command of their own."""
    return {name: stage for name, stage in stages(dockerfile).items() if stage.all("CMD")}


def target_of(image: str) -> str:
    """The target of the Dockerfile that makes an image of ours, whatever its registry and tag."""
    return image.rpartition("/")[2].partition(":")[0].removeprefix(PREFIX)


def lineage(dockerfile: str, name: str) -> list[Stage]:
    """A stage and those it is made from, itself first."""
    known = stages(dockerfile)
    line = []
    while name in known:
        line.append(known[name])
        name = known[name].base
    return line


def ingredients(dockerfile: str, targets: Iterable[str]) -> list[Stage]:
    """The stages that ``targets`` are made of: themselves, those they begin with, and those they copy from."""
    known = stages(dockerfile)
    waiting = list(targets)
    found: dict[str, Stage] = {}
    while waiting:
        name = waiting.pop()
        if name in known and name not in found:
            found[name] = known[name]
            waiting += [known[name].base, *copied_stages(known[name])]
    return list(found.values())


def copied_stages(stage: Stage) -> list[str]:
    """The stages that it copies from."""
    return re.findall(r"--from=(\S+)", " ".join(stage.all("COPY")))


def arguments(dockerfile: str) -> dict[str, str]:
    """``ARG`` names with their defaults; '' without one."""
    pairs = [arg.partition("=") for stage in stages(dockerfile).values() for arg in stage.all("ARG")]
    return {name: default for name, _, default in sorted(pairs, key=lambda pair: bool(pair[2]))}


def hadolint_findings(dockerfile: str) -> Findings:
    """What hadolint finds."""
    linted = subprocess.run([BIN / "hadolint", "--no-color", "-"], input=dockerfile, capture_output=True, text=True)
    return (linted.stdout + linted.stderr).splitlines()


def context_sources(dockerfile: str, targets: Iterable[str] | None = None) -> set[str]:
    """What is copied from the checkout for these images; for all without any."""
    made_of = ingredients(dockerfile, images(dockerfile) if targets is None else targets)
    copied = [line.split() for stage in made_of for line in stage.all("COPY")]
    return {source for words in copied if not words[0].startswith("--from") for source in words[:-1]}


def context_findings(dockerfile: str, dockerignore: str) -> Findings:
    """Copied paths that are not there or are kept out, and what is let in without being copied."""
    patterns = [line for line in dockerignore.splitlines() if line and not line.startswith("#")]
    let_in = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    copied = context_sources(dockerfile)
    return [
        *(f"{source}: not in the repository" for source in sorted(copied) if not (ROOT / source).exists()),
        *(f"{source}: kept out by .dockerignore" for source in sorted(copied - let_in)),
        *(f"{source}: let in by .dockerignore, but not copied" for source in sorted(let_in - copied)),
        *([] if patterns[:1] == ["*"] else [".dockerignore: does not begin by keeping everything out"]),
        *([] if "**/.env" in patterns else [".dockerignore: lets .env in"]),
    ]


def copied_stage_findings(dockerfile: str) -> Findings:
    """``COPY --from`` of a stage that is not there."""
    known = stages(dockerfile)
    return [f"{name}: no such stage" for stage in known.values() for name in copied_stages(stage) if name not in known]


def image_findings(dockerfile: str) -> Findings:
    """Images that run as root, hide what they are, carry a secret, have no health, or eat a chart's arguments."""
    findings = []
    for name in images(dockerfile):
        line = lineage(dockerfile, name)
        steps = [step for stage in reversed(line) for step in stage.steps]

        def last(instruction: str, steps: list[tuple[str, str]] = steps) -> str:
            return next((rest for found, rest in reversed(steps) if found == instruction), "")

        labels = " ".join(rest for found, rest in steps if found == "LABEL")
        faults = {
            f"runs as {last('USER') or 'root'}": last("USER") != USER,
            "has another entry point than tini": last("ENTRYPOINT") != '["tini", "--"]',
            "says nothing of its health": not last("HEALTHCHECK"),
            f"is not titled {PREFIX}{name}": f'image.title="{PREFIX}{name}"' not in labels,
            "is not checked": not check_of(line[0]),
            "states no budget": not re.search(r'weather\.size-budget-mb="\d+"', labels),
            "writes to a volume of its own": bool(last("VOLUME")),
        }
        for label in ("version", "revision", "source", "licenses", "base.name", "description"):
            faults[f"lacks the label {label}"] = f"org.opencontainers.image.{label}=" not in labels
        set_here = re.findall(r"(\w+)=", " ".join(rest for found, rest in steps if found in ("ENV", "ARG")))
        faults.update({f"carries {variable}": bool(SECRET.search(variable)) for variable in set_here})
        findings += [f"{name} {fault}" for fault, is_there in faults.items() if is_there]
    return findings


def check_of(stage: Stage) -> list[list[str]]:
    """The words of the command that .github/scripts/check_image.sh runs in it; none when no label says."""
    return [told.split() for told in re.findall(r'weather\.check="(.*?)"', " ".join(stage.all("LABEL")))]


def command_lines(stage: Stage) -> list[list[str]]:
    """The words of its command and of its health check."""
    lines = [*stage.all("CMD"), *(rest.partition("CMD ")[2] for rest in stage.all("HEALTHCHECK") if "CMD" in rest)]
    return [json.loads(line) for line in lines]


def program_findings(image: str, words: list[str]) -> Findings:
    """A program that the image has not, or a command that `weather` does not know."""
    if words[0] not in PROGRAMS.get(image, ()):
        return [f"{image}: {words[0]} is not a command of this image"]
    return command_findings(words) if words[0] == "weather" else []


def command_line_findings(dockerfile: str) -> Findings:
    """Commands in ``CMD``, ``HEALTHCHECK`` and the label of its check that the image does not know."""
    return [
        finding
        for name, stage in images(dockerfile).items()
        for words in [*command_lines(stage), *check_of(stage)]
        for finding in program_findings(name, words)
    ]


def port_findings(dockerfile: str) -> Findings:
    """Images whose port is not the one that they serve on, or that their health is asked at."""
    return [
        f"{name}: port {port} is not in {words[:2]}"
        for name, stage in images(dockerfile).items()
        for port in stage.all("EXPOSE")
        for words in command_lines(stage)
        if not re.search(rf"\b{port}\b", " ".join(words))
    ]


def superset_findings(dockerfile: str) -> Findings:
    """What makes Superset start with other settings than ours, write elsewhere, or know the platform's environment."""
    line = lineage(dockerfile, "superset")[::-1]
    environment = dict(word.split("=", 1) for stage in line for rest in stage.all("ENV") for word in shlex.split(rest))
    workdir = next(rest for stage in line for rest in stage.all("WORKDIR"))
    settings = {f"{workdir}/{source}" for stage in line for source in copied_to_the_same_path(stage)}
    config, home = environment.get("SUPERSET_CONFIG_PATH"), environment.get("SUPERSET_HOME")
    made = " ".join(rest for stage in line for rest in stage.all("RUN"))
    return [
        *([] if config in settings else [f"SUPERSET_CONFIG_PATH is {config}, copied is {sorted(settings)}"]),
        *([] if home and re.search(rf"install --directory .* {home}\b", made) else [f"nobody makes the home {home}"]),
        *(f"superset carries {name}" for name in sorted(environment) if name.startswith(("WEATHER_", "DAGSTER_"))),
    ]


def copied_to_the_same_path(stage: Stage) -> set[str]:
    """Files of the checkout that lie in the image where they lie in the checkout."""
    lines = [line.split() for line in stage.all("COPY") if "--from" not in line]
    return {
        source for *sources, target in lines for source in sources if source.rpartition("/")[0] == target.strip("/")
    }


def requirements(path: str) -> list[str]:
    """What a requirements file asks for."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pip_requirements(dockerfile: str, stage: str) -> list[str]:
    """What the ``pip install`` lines of a stage install, with files and extras read, without the project itself."""
    found: list[str] = []
    runs = re.findall(r"pip install ([^&]*)", " && ".join(stages(dockerfile)[stage].all("RUN")))
    for words in map(shlex.split, runs):
        waiting = iter(words)
        for word in waiting:
            if word == "--requirement":
                found += requirements(next(waiting))
            elif word == "--constraint":
                next(waiting)
            elif word.startswith(".["):
                found += setup()["install_requires"]
                for extra in word[2:-1].split(","):
                    found += setup()["extras_require"][extra]
            elif not word.startswith("-") and word != ".":
                found.append(word)
    return found


def lock_findings(dockerfile: str) -> Findings:
    """Packages that are installed past the lock: that beside the requirements file, else that of the whole."""
    findings = []
    runs = [run for stage in stages(dockerfile).values() for run in stage.all("RUN")]
    for line in re.findall(r"pip install [^&]*", " && ".join(runs)):
        listed = re.search(r"--requirement (\S+)", line)
        lock = Path(listed[1]).with_name(LOCK) if listed else Path(LOCK)
        if f"--constraint {lock.as_posix()} " not in line and "--no-deps" not in line:
            findings.append(f"{line.strip()}: neither `--constraint {lock.as_posix()}` nor `--no-deps`")
    return findings


def pins(lock: str) -> dict[str, str]:
    """The versions of a lock by normalized name, as they are here."""
    found = map(Requirement, lock.splitlines())
    chosen = [one for one in found if one.marker is None or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in chosen}


def pin_findings(requirements: list[str], lock: str, platform: str) -> Findings:
    """Requirements that a lock leaves open or answers wrongly, and a DuckDB that is not the platform's own.

    A file that a newer DuckDB wrote is not opened by an older one.
    """
    pinned = pins(lock)
    findings = []
    for one in map(Requirement, requirements):
        version = pinned.get(canonicalize_name(one.name))
        if version is None:
            findings.append(f"{one}: not in the lock")
        elif not one.specifier.contains(version):
            findings.append(f"{one}: the lock has {version}")
    if pinned["duckdb"] != pins(platform)["duckdb"]:
        findings.append(f"duckdb is {pinned['duckdb']}, that of the platform {pins(platform)['duckdb']}")
    return findings


def ingestor_findings(requirements: list[str]) -> Findings:
    """What makes the ingestor large, and what setup.py does not know."""
    known = {*setup()["install_requires"], *setup()["extras_require"]["cluster"]}
    brought = closure(requirements)
    return [
        *(f"{one}: not a requirement of setup.py" for one in requirements if one not in known),
        *(f"{name}: in the ingestor" for name in sorted(brought) if name.startswith(NOT_IN_THE_INGESTOR)),
    ]


def python_findings(dockerfile: str, tested: set[str]) -> Findings:
    """An image's Python outside of setup.py's range, or one that no test runs on."""
    image = arguments(dockerfile)["PYTHON_IMAGE"]
    version = re.search(r"/python:(\d+\.\d+)-", image)
    if version is None:
        return [f"PYTHON_IMAGE is {image}: no tag with a version of Python"]
    supported = setup()["python_requires"]
    return [
        *([] if SpecifierSet(supported).contains(version[1]) else [f"Python {version[1]} is not in {supported}"]),
        *([] if version[1] in tested else [f"Python {version[1]} is not among the tested {sorted(tested)}"]),
    ]


def builder_findings(dockerfile: str, makefile: str, terraform: str, deployed: set[str]) -> Findings:
    """Builders of other images, and files that are copied, but whose change lets Terraform build nothing anew.

    Terraform builds those images that are ``deployed``: named by the objects in the cluster.
    """
    every = set(images(dockerfile))
    needed = every & deployed
    made = re.search(r"for target in ([\w -]+);", makefile)
    applied = re.search(r"for target in (\[.*?\])", terraform)
    watched = terraform.partition("image_sources")[2].partition("sources_sum")[0]
    return [
        *([] if made and set(made[1].split()) == every else [f"Makefile: does not build {sorted(every)}"]),
        *([] if applied and set(json.loads(applied[1])) == needed else [f"Terraform: does not build {sorted(needed)}"]),
        *(
            f"Terraform: a change of {source} builds no image"
            for source in sorted({*context_sources(dockerfile, needed), "Dockerfile", ".dockerignore"})
            if f'"{source}' not in watched
        ),
    ]


INGEST_WITH_NOTHING_ELSE = '''
import importlib.metadata, re, sys
from importlib.machinery import PathFinder

allowed = set(sys.argv[1].split(","))
owners = importlib.metadata.packages_distributions()

class Image(PathFinder):
    """Does not find what is installed here, but not in the image."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        brought_by = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name.partition(".")[0], ())}
        return super().find_spec(name, path, target) if brought_by & allowed or not brought_by else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Image
sys.argv[1:] = ["ingest", "--from", "2026-01-01T00:00", "--to", "2026-01-01T00:00", "--place", "lyon"]
from weather_dagster.cli import main
main()
'''


def ingest_with(requirements: list[str], home: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """`weather ingest` where nothing but ``requirements`` and what they bring can be imported."""
    allowed = ",".join({*closure(requirements), "weather-dagster"})
    return subprocess.run(
        [sys.executable, "-c", INGEST_WITH_NOTHING_ELSE, allowed],
        env={**environment, "WEATHER_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home, capture_output=True, text=True,
    )  # fmt: skip
