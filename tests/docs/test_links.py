"""Links between the pages lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.blocks import REPOSITORY
from tests.docs.names import anchors

PAGES: Final = [
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "README.md",
    REPOSITORY / "SECURITY.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "adr").glob("*.md")),
]
LINKS: Final = [
    (page, target) for page in PAGES for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text("utf-8"))
]


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: str(value).rpartition("/")[2])
def test_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_index_has_every_page() -> None:
    index = REPOSITORY / "docs" / "README.md"
    listed = {target for page, target in LINKS if page == index}
    assert {page.name for page in index.parent.glob("*.md")} - listed == {"README.md"}
