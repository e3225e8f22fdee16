from __future__ import annotations

import argparse
import shutil
import subprocess

import pytest

from common.runtime.completion import SHELLS, script, words_of
from tests.helpers import needed_program


def _parsers() -> dict[str, argparse.ArgumentParser]:
    call, check = argparse.ArgumentParser(), argparse.ArgumentParser()
    call.add_argument("--wav")
    check.add_argument("path", choices=("/livez", "/readyz"))
    return {"call": call, "health-check": check}


def _completed(line: list[str]) -> list[str]:
    """Return what a real bash completes for the last word of a line."""
    words = " ".join(f"'{word}'" for word in line)
    program = f"""{script("bash", "the-program", _parsers())}
COMP_WORDS=({words}) COMP_CWORD={len(line) - 1}
_the_program
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        [needed_program("bash"), "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["the-program", "ca"], ["call"]),
        (["the-program", "--v"], ["--version"]),
        (["the-program", "call", "--w"], ["--wav"]),
        (["the-program", "health-check", "/"], ["/livez", "/readyz"]),
        (["the-program", "dance", "--w"], []),
    ],
)
def test_bash_completes_commands_options_and_values(line: list[str], words: list[str]) -> None:
    assert _completed(line) == words


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_valid_in_its_shell(shell: str) -> None:
    text = script(shell, "the-program", _parsers())
    assert "call" in text
    assert "wav" in text
    if shutil.which(shell):
        option = "--no-execute" if shell == "fish" else "-n"
        done = subprocess.run([shell, option], input=text, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_help_and_values_are_words() -> None:
    assert words_of(_parsers()["health-check"]) == ["--help", "/livez", "/readyz"]
