"""The command line as a newcomer reads it, and that the documents name commands that exist."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from weather_dagster.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "demo", "backfill", "ingest", "report", "dev", "simulator", "simulator serve", "locations", "locations list",
    "locations search", "locations check", "budget", "doctor",
    "quarantine", "quarantine list", "quarantine redrive", "status", "metrics", "backup", "restore",
    "alerts", "alerts list", "alerts test", "alerts silence",
    "warehouse", "warehouse migrate", "warehouse roles", "warehouse copy",
)  # fmt: skip
RUN = CliRunner()


def test_the_help_names_every_command() -> None:
    text = RUN.invoke(app, ["--help"]).output
    for command in COMMANDS:
        assert command.split()[0] in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_says_what_it_does_and_explains_each_option(command: str) -> None:
    result = RUN.invoke(app, [*command.split(), "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    found = typer.main.get_command(app)
    for name in command.split():
        found = found.commands[name]
    assert re.match(r"[A-Z].*\.$", found.help or "", re.DOTALL)
    assert [option.name for option in found.params if not (option.help or "").endswith(".")] == []


def test_without_a_command_the_help_is_shown() -> None:
    assert "Usage:" in RUN.invoke(app, []).output


def test_the_places_are_listed_after_a_check() -> None:
    result = RUN.invoke(app, ["locations", "list"], env={"COLUMNS": "200", "WEATHER_LOCATIONS": ""})
    assert result.exit_code == 0
    assert "Kathmandu" in result.output
    assert "Asia/Kathmandu" in result.output


@pytest.mark.parametrize("document", ["README.md", "README.es.md", ".env.example", "benchmarks/README.md"])
def test_documents_name_only_commands_targets_and_files_that_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    known = {command.split()[0] for command in COMMANDS}
    named = re.findall(r"(?:`|bin/|Scripts\\)weather ([a-z]+)", text)
    assert set(named) <= known
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / document).parent.joinpath(link).exists(), link


def test_english_and_spanish_say_the_same_section_by_section() -> None:
    english, spanish = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.es.md"))

    def shape(text: str) -> list[tuple[str, int, int, int]]:
        sections = re.split(r"^(#+) .*$", text, flags=re.MULTILINE)[1:]
        pairs = zip(sections[::2], sections[1::2], strict=True)
        return [(level, body.count("\n|"), body.count("\n- "), body.count("```")) for level, body in pairs]

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"```(?:sh|powershell)\n(.*?)```", text, re.DOTALL)
        return [re.split(r"\s+#", line)[0] for block in blocks for line in block.splitlines()]

    assert shape(english) == shape(spanish)
    assert [c for c in commands(english) if "git clone" not in c] == [
        c for c in commands(spanish) if "git clone" not in c
    ]
    assert set(re.findall(r"`[^`\n]+`", english)) == set(re.findall(r"`[^`\n]+`", spanish))
