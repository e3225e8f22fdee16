"""Prepare the lines that tools print for the log: finished, truncated lines, with a maximum number per second."""

from __future__ import annotations

from typing import Final

MAX_LINE_CHARACTERS: Final = 300

MAX_LINES_PER_SECOND: Final = 20


class PrintedLines:
    """A splitter that takes printed bytes and returns the lines to log."""

    def __init__(self) -> None:
        self._rest = b""
        self._second = 0
        self._lines = 0
        self._dropped = 0

    @property
    def waiting_bytes(self) -> int:
        """Length of the buffered, unfinished line."""
        return len(self._rest)

    def feed(self, printed: bytes, now_seconds: float) -> tuple[list[str], int]:
        """Return the lines to log.

        Args:
            printed: the next bytes of the output.
            now_seconds: the time on a monotonic clock.

        Returns:
            Lines without their line ends, and the number of lines dropped before them.
        """
        *lines, self._rest = (self._rest + printed).split(b"\n")
        if len(self._rest) > 4 * MAX_LINE_CHARACTERS:  # further bytes would be truncated anyway
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
        """Count one line; return False if this second's maximum is reached."""
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
