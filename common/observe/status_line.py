"""A line on a terminal that is replaced while something goes on, such as a drain or a call."""

from __future__ import annotations

import sys
from typing import Final, TextIO

_ERASE: Final = "\r\x1b[K"
"""To the first column, and erase the line (ECMA-48, CR and EL)."""

MAX_CHARACTERS: Final = 70
"""Maximum length of the text: log lines are longer, so each of them covers it."""


class StatusLine:
    """One line on a stream, shown only if the stream is a terminal.

    The cursor waits in the first column. So a log line of any process begins there and covers the text, and the
    next text appears below it.

    Args:
        stream: None: stderr.

    Attributes:
        is_on_terminal: whether texts are shown.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self.is_on_terminal = self._stream is not None and self._stream.isatty()
        self._is_shown = False

    def show(self, text: str) -> None:
        """Replace the line; a text that is too long is truncated."""
        if self.is_on_terminal:
            self._write(f"{_ERASE}{text[:MAX_CHARACTERS]}\r")
            self._is_shown = True

    def clear(self) -> None:
        """Remove the line, if there is one."""
        if self._is_shown:
            self._write(_ERASE)
            self._is_shown = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
