"""`docs/features.md` names only existing tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEADS = ("| feature |", "| --- |")
ROWS = [
    line
    for line in (REPOSITORY / "docs" / "features.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(HEADS)
]


def _tests_of(file: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, functions)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_feature_names_an_existing_test(row: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
    assert named, "no test is named"
    for file, name in named:
        assert name in _tests_of(REPOSITORY / file)


def test_features_page_lists_features() -> None:
    assert len(ROWS) > 40


def test_every_row_is_in_a_table_with_its_columns() -> None:
    columns = 0
    for line in (REPOSITORY / "docs" / "features.md").read_text("utf-8").splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        assert columns or line.startswith(HEADS), f"a row without a table: {line}"
        cells = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or cells
        assert cells == columns, line
