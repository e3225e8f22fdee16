"""Find fenced blocks in the documents, and names in these blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ASSIGNMENT: Final = re.compile(r"(?:^|\s)([A-Z][A-Z0-9_]+)=(\S*)")
_INLINE: Final = re.compile(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?:[=:][^`]*)?`")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        place: document and line, for the name of the test.
        language: the word after the fence; may be empty.
    """

    place: str
    language: str
    text: str


def document(name: str) -> str:
    """Return the text of a document."""
    return (REPOSITORY / "docs" / name).read_text("utf-8")


def blocks(name: str) -> list[Block]:
    """Return the fenced blocks of a document."""
    text = document(name)
    return [
        Block(f"{name}:{text.count(chr(10), 0, found.start()) + 1}", found[1], found[2])
        for found in _FENCE.finditer(text)
    ]


def without_blocks(name: str) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", document(name))


def assignments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that a shell or `.env` text sets, with their values up to the first space."""
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            for found in _ASSIGNMENT.finditer(line):
                yield found[1], found[2]


def env_file(text: str) -> dict[str, str]:
    """Return the variables of a `.env` text.

    Raises:
        ValueError: a line is not an assignment.
    """
    variables = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ValueError(f"no assignment: {line!r}")
        variables[name] = value
    return variables


def inline_names(name: str) -> set[str]:
    """Return the variables in backticks in a document's prose; only names with an underscore count."""
    return set(_INLINE.findall(without_blocks(name)))
