from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.settings.problems import SHOWN_CHARACTERS, of_file, shown


def test_passwords_and_keys_are_not_shown() -> None:
    assert "hunter2" not in shown("redis//user:hunter2@redis")
    assert "0123456789" not in shown("sk-proj-0123456789")


def test_a_long_value_is_cut() -> None:
    assert len(shown("x" * 10_000)) == SHOWN_CHARACTERS + len("...")


def test_a_file_that_can_be_read_is_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("")
    assert of_file("prices_file", file) is None
    assert of_file("prices_file", None) is None


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert of_file("prices_file", pipe) is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing", "No such file or directory"), ("", "Is a directory"), ("x" * 300, "File name too long")],
)
def test_a_file_of_no_use_is_named_with_the_reason(tmp_path: Path, path: str, reason: str) -> None:
    line = of_file("prices_file", tmp_path / path)
    assert line is not None
    assert line.startswith("PRICES_FILE='")
    assert line.endswith(f"' cannot be read: {reason}")
