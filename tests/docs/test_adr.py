"""docs/adr: each decision has its parts, its number and a place in the list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import REPOSITORY

FOLDER: Final = REPOSITORY / "docs" / "adr"
RECORDS: Final = sorted(FOLDER.glob("0*.md"))
PARTS: Final = ["Context", "Decision", "Consequences", "Considered"]


def test_numbers_have_no_gap() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))
    assert len(RECORDS) >= 10


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_has_its_parts_in_order(path: Path) -> None:
    text = path.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == PARTS
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.search(r"^Status: (accepted|replaced by \[\d+\]\(\d{4}-[\w-]+\.md\))$", text, re.MULTILINE)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_record_is_listed_under_its_title(path: Path) -> None:
    title = path.read_text("utf-8").partition("\n")[0].partition(". ")[2]
    number = int(path.name[:4])
    assert f"| {number} | [{title}]({path.name}) |" in (FOLDER / "README.md").read_text("utf-8")
