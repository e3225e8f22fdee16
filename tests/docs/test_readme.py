"""The README is short, leads to every page, and each of its commands can be typed."""

from __future__ import annotations

import re
import shlex
from typing import Final

from common.runtime.cli import PROGRAM, parse_arguments
from common.settings.settings import Settings
from tests.docs.blocks import REPOSITORY, assignments

README: Final = (REPOSITORY / "README.md").read_text("utf-8")
MAX_LINES: Final = 125
PROGRAMS: Final = {"export", "helm", "make", "pipx", "uv", "docker", PROGRAM}


def commands() -> list[str]:
    """Return the lines of the console blocks, and commands in backticks."""
    blocks = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    typed = rf"`((?:{'|'.join(map(re.escape, PROGRAMS))}) [^`]+)`"
    return [*filter(None, lines), *re.findall(typed, README)]


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README))
    assert {page.name for page in (REPOSITORY / "docs").glob("*.md")} - linked == set()


def test_each_command_can_be_typed() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    assert len(commands()) > 8
    for command in commands():
        program, *words = shlex.split(command)
        assert program in PROGRAMS, command
        if program == PROGRAM:
            parse_arguments(words)
        elif program == "make" and words:
            assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), command
        elif program == "docker":
            for file in re.findall(r"--file (\S+)", command):
                assert (REPOSITORY / file).is_file()
        elif program == "helm":
            assert (REPOSITORY / words[-1] / "Chart.yaml").is_file()
        elif program == "export":
            assert {name.lower() for name, _ in assignments(command)} <= Settings.model_fields.keys()
