"""Lines that tools print, for the log: whole lines, cut, and a bounded number a second."""

from __future__ import annotations

from typing import Final

MAX_LINE_CHARACTERS: Final = 300

MAX_LINES_PER_SECOND: Final = 20


class PrintedLines:
    """Takes bytes and returns the lines to be logged."""

    def __init__(self) -> None:
        self._rest = b""
        self._second = 0
        self._lines = 0
        self._dropped = 0

    @property
    def waiting_bytes(self) -> int:
        """Of a line that has not ended."""
        return len(self._rest)

    def feed(self, printed: bytes, now_seconds: float) -> tuple[list[str], int]:
        """Takes what was printed.

        Args:
            printed: any part of it.
            now_seconds: on a clock that does not go back.

        Returns:
            Lines without their ends, and how many lines were dropped before them for want of room.
        """
        *lines, self._rest = (self._rest + printed).split(b"\n")
        if len(self._rest) > 4 * MAX_LINE_CHARACTERS:  # bytes that can only be cut off
            self._rest = self._rest[: 4 * MAX_LINE_CHARACTERS + 1]
        self._begin_second(now_seconds)
        dropped = 0
        if lines and self._lines < MAX_LINES_PER_SECOND:
            dropped, self._dropped = self._dropped, 0
        logged = lines[: MAX_LINES_PER_SECOND - self._lines]
        self._lines += len(logged)
        self._dropped += len(lines) - len(logged)
        return [_shown(line) for line in logged if line.strip()], dropped

    def has_room(self, now_seconds: float) -> bool:
        """Take the room of one line; False if there is none in this second."""
        self._begin_second(now_seconds)
        if self._lines >= MAX_LINES_PER_SECOND:
            self._dropped += 1
            return False
        self._lines += 1
        return True

    def _begin_second(self, now_seconds: float) -> None:
        if int(now_seconds) != self._second:
            self._second = int(now_seconds)
            self._lines = 0


def _shown(line: bytes) -> str:
    shown = line.decode(errors="replace").strip()
    return shown if len(shown) <= MAX_LINE_CHARACTERS else shown[:MAX_LINE_CHARACTERS] + "..."
