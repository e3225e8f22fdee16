"""Lines of standard input, which a thread reads one at a time.

A thread, because an event loop cannot wait for a regular file. It may still be reading when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import BinaryIO, Final

from common.errors import LocalError

MAX_LINE_BYTES: Final = 16_384
"""Maximum length of a line. A longer one is refused as a whole: half of a question is another question."""


class LineTooLong(LocalError):
    """A line is longer than `MAX_LINE_BYTES`. It has been read to its end."""

    def __init__(self) -> None:
        super().__init__(f"a line has at most {MAX_LINE_BYTES:,} bytes: this one was not sent")


class TypedLines:
    """The lines of a stream."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    async def next(self) -> str | None:
        """Return the next line without space around it; None at the end of the stream.

        Raises:
            LineTooLong: the line was skipped.
        """
        loop = asyncio.get_running_loop()
        line: asyncio.Future[bytes] = loop.create_future()

        def deliver(found: bytes) -> None:
            if not line.done():
                line.set_result(found)

        def read() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(deliver, self._read())

        threading.Thread(target=read, name="typed line", daemon=True).start()
        found = await line
        if len(found) > MAX_LINE_BYTES:
            raise LineTooLong
        return found.decode(errors="replace").strip() if found else None

    def _read(self) -> bytes:
        """Return one line, or a part of it that is longer than a line may be."""
        try:
            line = part = self._stream.readline(MAX_LINE_BYTES + 1)
            while len(line) > MAX_LINE_BYTES and part and not part.endswith(b"\n"):
                part = self._stream.readline(MAX_LINE_BYTES)
        except (OSError, ValueError):
            return b""  # a closed stream has no more lines
        return line
