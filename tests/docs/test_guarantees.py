"""`docs/guarantees.md` lists each fault's effect on callers, and names only existing tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECTION = (REPOSITORY / "docs/guarantees.md").read_text("utf-8").partition("\n## What it does not do\n")[0]
HEADS = ("| what happens |", "| promise |", "| two faults at once |", "| --- |")
ROWS = [line for line in SECTION.splitlines() if line.startswith("| ") and not line.startswith(HEADS)]


def _tests_of(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, functions)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_row_names_existing_tests(row: str) -> None:
    cell = row.split("|")[-2]
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", cell)
    assert named, "no test is named"
    assert len(named) == len(re.findall("`[^`]+`", cell)), "a name is not one of a test"
    for file, name in named:
        assert name in _tests_of(REPOSITORY / file), f"{file} has no {name}"


def test_each_fault_promise_and_exception_has_a_row() -> None:
    assert len(ROWS) >= 16 + 3 + 2
    assert all(SECTION.count(head) for head in HEADS)
