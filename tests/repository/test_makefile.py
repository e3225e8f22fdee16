"""The Makefile: its help, and which packages a command installs first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parents[2]
MAKEFILE: Final = (REPOSITORY / "Makefile").read_text("utf-8")
TARGETS: Final = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()  # type: ignore[index]
OF_MAKE: Final = {"COMPILED", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}
NEED_NOTHING: Final = {"help", "clean", "node-tools"}
NEED_WHAT_RUNNING_NEEDS: Final = {"setup", "demo"}


def _make(*arguments: str) -> str:
    # `make test` tells its own choices to a make inside, which would also print the folder.
    environment = {name: value for name, value in os.environ.items() if name not in OF_MAKE}
    done = subprocess.run(
        ["/usr/bin/env", "make", "--file", REPOSITORY / "Makefile", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_has_one_line_for_each_target() -> None:
    lines = _make("help").splitlines()
    assert {line.split()[1] for line in lines} == {*TARGETS}
    assert len(lines) == len(TARGETS)
    assert [line for line in lines if len(line) > 115 or len(line.split()) < 3] == []


def test_make_alone_shows_the_help() -> None:
    assert _make() == _make("help")


@pytest.mark.parametrize("target", TARGETS)
def test_target_installs_what_it_needs_and_no_more(target: str) -> None:
    # Another set of versions has an environment that is not there, so that make would install all of it.
    planned = _make("--dry-run", "--assume-new=setup.py", "DEPENDENCIES=newest", "VENV=.venv-none", target)
    extras = re.findall(r"scripts/install\.py \.venv-none newest (\S+)", planned)
    if target in NEED_NOTHING:
        assert extras == []
    else:
        assert extras == (["''"] if target in NEED_WHAT_RUNNING_NEEDS else ["''", "dev"])
