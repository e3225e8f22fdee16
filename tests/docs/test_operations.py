"""`docs/operations.md` names only existing settings, tests, modules and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.settings.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = REPOSITORY / "docs" / "operations.md"
TEXT = GUIDE.read_text("utf-8")
LINKS = sorted(set(re.findall(r"\]\(([^)\s]+)\)", TEXT)))
ANCHORS = {
    re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
}
# Variables of Asterisk, systemd and Kubernetes.
OTHERS = {
    "GROUP_COUNT",
    "ANSWEREDTIME",
    "UUID",
    "HOST",
    "ID",
    "KEYS",
    "POST",
    "SIGTERM",
    "SIGKILL",
    "PORT",
    "STS_URL",
}


@pytest.mark.parametrize("link", LINKS)
def test_every_link_has_a_target(link: str) -> None:
    file, _, anchor = link.partition("#")
    if file:
        assert (GUIDE.parent / file).is_file()
    else:
        assert anchor in ANCHORS


def test_every_variable_is_a_setting() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9_]{2,})(?:=[^`]*)?`", TEXT))
    assert {name.lower() for name in named - OTHERS} <= Settings.model_fields.keys()
    assert "DRAIN_SECONDS" in named


def test_every_named_test_and_module_exists() -> None:
    for name in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert (REPOSITORY / name).is_file(), name
