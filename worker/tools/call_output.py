"""Report the lines that tools print, each with its call. Used only in the process that runs tools.

Lines printed outside of a call go to stdout and stderr unchanged. Lines of a tool's own threads go there too,
because such threads have no context of a call.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TextIO

from worker.tools.printed_lines import MAX_LINE_CHARACTERS, PrintedLines

Tell = Callable[[dict[str, Any]], None]


@dataclass(slots=True, eq=False)
class _Printer:
    """One run of a tool, with the unfinished line that the tool has printed."""

    uuid: str
    tool: str
    tell: Tell | None = None
    rest: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def print(self, text: str, tell: Tell) -> None:
        """Report the finished lines, and keep the unfinished one."""
        with self.lock:
            *whole, rest = (self.rest + text).split("\n")
            self.rest = rest[: MAX_LINE_CHARACTERS + 1]
            self.tell = tell
        for line in whole:
            tell({"uuid": self.uuid, "tool": self.tool, "text": line})

    def end(self) -> None:
        """Report the unfinished line."""
        if self.rest and self.tell is not None:
            self.print("\n", self.tell)


_printer: ContextVar[_Printer | None] = ContextVar("printer", default=None)


@contextmanager
def of_call(uuid: str, tool: str) -> Iterator[None]:
    """Attribute all output printed within this context, and by its tasks, to one call."""
    printer = _Printer(uuid, tool)
    token = _printer.set(printer)
    try:
        yield
    finally:
        _printer.reset(token)
        printer.end()


class CallOutput(io.TextIOWrapper):
    """A replacement for `sys.stdout` or `sys.stderr`."""

    def __init__(self, stream: TextIO, tell: Tell) -> None:
        """Wrap a stream.

        Args:
            stream: receives output printed outside of calls; the caller must keep a reference to the stream.
            tell: receives the lines of calls, in any thread.
        """
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", write_through=True)
        self._tell = tell

    def write(self, text: str, /) -> int:
        """Write text to the stream, or report the text's lines if a call printed the text."""
        printer = _printer.get()
        if printer is None:
            return super().write(text)
        printer.print(text, self._tell)
        return len(text)


class BoundedLines:
    """A sender of truncated lines, with a maximum number per second."""

    def __init__(self, send: Tell) -> None:
        self._send = send
        self._lines = PrintedLines()
        self._lock = threading.Lock()

    def tell(self, line: dict[str, Any]) -> None:
        """Send a line, or drop the line over the maximum. The next line carries the number of dropped lines."""
        text = line["text"][: MAX_LINE_CHARACTERS + 1].encode(errors="replace") + b"\n"
        with self._lock:
            shown, dropped = self._lines.feed(text, time.monotonic())
        for each in shown:
            self._send({**line, "text": each, "dropped": dropped})


def watch(send: Tell) -> None:
    """Pass the lines that calls print to `send`, as `uuid`, `tool`, `text` and `dropped`."""
    lines = BoundedLines(send)
    sys.stdout = CallOutput(sys.__stdout__ or sys.stdout, lines.tell)
    sys.stderr = CallOutput(sys.__stderr__ or sys.stderr, lines.tell)
