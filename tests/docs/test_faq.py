"""`docs/faq.md`: each entry asks, answers briefly, and leads on."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs.blocks import document

MAX_WORDS: Final = 65
PAGE: Final = document("faq.md")
ENTRIES: Final = [
    (entry[1], entry[2]) for entry in re.finditer(r"^\*\*(.+?)\*\* (.+?)\n\n", PAGE + "\n", re.M | re.S)
]


def test_page_has_entries_alone_below_its_headings() -> None:
    head, *sections = PAGE.split("\n## ")
    assert head.startswith("# ")
    for section in sections:
        for paragraph in section.strip().split("\n\n")[1:]:
            assert paragraph.startswith("**"), paragraph
    assert len(ENTRIES) > 25


@pytest.mark.parametrize(("question", "answer"), ENTRIES, ids=[question for question, _ in ENTRIES])
def test_entry_is_short_and_leads_on(question: str, answer: str) -> None:
    assert question.endswith(("?", "."))
    assert "](" in answer
    assert len(re.sub(r"\]\([^)]*\)", "]", answer).split()) <= MAX_WORDS
