"""A limit on repeated log lines, so that a flood of connections causes no flood of lines."""

from __future__ import annotations

from typing import Final

REPORT_SECONDS: Final = 10.0
"""Minimum time between two lines of a kind."""

MAX_TEXT_CHARS: Final = 160
"""Maximum length of a text that a stranger chose."""


class LineLimit:
    """Decides which lines are written, Sans-I/O.

    Kinds are fixed words of this service, so their number is bounded.
    """

    def __init__(self, seconds: float = REPORT_SECONDS) -> None:
        self._seconds = seconds
        self._written_seconds: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def take(self, kind: str, now_seconds: float) -> int | None:
        """Return the number of lines that one line stands for, suppressed ones included; None: write no line."""
        written = self._written_seconds.get(kind)
        if written is not None and now_seconds - written < self._seconds:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._written_seconds[kind] = now_seconds
        return self._suppressed.pop(kind, 0) + 1


def shown(text: str) -> str:
    """Return the beginning of a stranger's text, on one line."""
    plain = "".join(each if each.isprintable() else " " for each in text[: MAX_TEXT_CHARS + 1])
    return plain if len(plain) <= MAX_TEXT_CHARS else plain[: MAX_TEXT_CHARS - 1] + "…"
