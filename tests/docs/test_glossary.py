"""The glossary: one row for a term, in alphabetical order, and with the terms that the code is named by."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GLOSSARY = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"

TERMS_OF_THE_CODE = (
    *("acknowledgement", "action", "assignment", "barge-in", "channel", "checkpoint", "core", "credit", "drain"),
    *("epoch", "filler", "hand-over", "heartbeat", "item", "lease", "link", "memory", "pin", "playout", "profile"),
    *("record", "recovery", "reply", "retransmit buffer", "rollover", "session", "shell", "standby", "stranger"),
    *("telephony command", "turn", "watchdog", "way out", "worker"),
)


def terms() -> list[str]:
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    return [row for row in rows if row not in {"word", "---"}]


def test_terms_stand_in_alphabetical_order_and_once() -> None:
    assert terms() == sorted(set(terms()), key=str.casefold)


@pytest.mark.parametrize("term", TERMS_OF_THE_CODE)
def test_a_term_of_the_code_is_explained(term: str) -> None:
    assert term in terms()
