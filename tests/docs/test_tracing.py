"""`docs/tracing.md` has each attribute of the code, and no other."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.docs.blocks import REPOSITORY

PAGE: Final = (REPOSITORY / "docs/tracing.md").read_text("utf-8")
SPANS: Final = PAGE.partition("## Spans")[2].partition("## What is never")[0]
SOURCES: Final = (
    "common/observe/span_export.py",
    "dispatcher/records/lost_trace.py",
    "dispatcher/runner/call_trace.py",
    "worker/runner/session_trace.py",
)
ATTRIBUTE: Final = re.compile(r"(?:gen_ai|avr|server|error)(?:\.[a-z_]+)+")


def test_page_has_the_attributes_of_the_code() -> None:
    text = "".join((REPOSITORY / source).read_text("utf-8") for source in SOURCES)
    in_code = set(re.findall(rf'"({ATTRIBUTE.pattern})"', text))
    assert set(re.findall(rf"`({ATTRIBUTE.pattern})`", SPANS)) == in_code


@pytest.mark.parametrize("page", ["tracing.md", "data-protection.md"])
def test_every_link_has_a_target(page: str) -> None:
    text = (REPOSITORY / "docs" / page).read_text("utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert targets
    for target in targets:
        assert (REPOSITORY / "docs" / target).is_file(), target
