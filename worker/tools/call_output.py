"""Lines that tools print in a call, told with the call. For the process that runs tools alone.

What is printed outside of a call goes on to stdout and stderr. So does what a thread prints that a tool starts
itself: such a thread has no context of a call.
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
    """A run of a tool, with the line that it has not ended."""

    uuid: str
    tool: str
    tell: Tell | None = None
    rest: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def print(self, text: str, tell: Tell) -> None:
        """Tell the lines that have ended."""
        with self.lock:
            *whole, rest = (self.rest + text).split("\n")
            self.rest = rest[: MAX_LINE_CHARACTERS + 1]
            self.tell = tell
        for line in whole:
            tell({"uuid": self.uuid, "tool": self.tool, "text": line})

    def end(self) -> None:
        """Tell the line that has not ended."""
        if self.rest and self.tell is not None:
            self.print("\n", self.tell)


_printer: ContextVar[_Printer | None] = ContextVar("printer", default=None)


@contextmanager
def of_call(uuid: str, tool: str) -> Iterator[None]:
    """Have what is printed within, also by its tasks, count as printed in a call."""
    printer = _Printer(uuid, tool)
    token = _printer.set(printer)
    try:
        yield
    finally:
        _printer.reset(token)
        printer.end()


class CallOutput(io.TextIOWrapper):
    """Takes the place of `sys.stdout` or `sys.stderr`."""

    def __init__(self, stream: TextIO, tell: Tell) -> None:
        """Build it.

        Args:
            stream: gets what is printed outside of calls; has to stay referenced.
            tell: gets the lines of calls, in any thread.
        """
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", write_through=True)
        self._tell = tell

    def write(self, text: str, /) -> int:
        """Write text, or tell the lines in it."""
        printer = _printer.get()
        if printer is None:
            return super().write(text)
        printer.print(text, self._tell)
        return len(text)


class BoundedLines:
    """Sends lines, cut, and a bounded number a second."""

    def __init__(self, send: Tell) -> None:
        self._send = send
        self._lines = PrintedLines()
        self._lock = threading.Lock()

    def tell(self, line: dict[str, Any]) -> None:
        """Send a line if there is room; the next one says how many there was no room for."""
        text = line["text"][: MAX_LINE_CHARACTERS + 1].encode(errors="replace") + b"\n"
        with self._lock:
            shown, dropped = self._lines.feed(text, time.monotonic())
        for each in shown:
            self._send({**line, "text": each, "dropped": dropped})


def watch(send: Tell) -> None:
    """Have `send` get the lines that calls print, as `uuid`, `tool`, `text` and `dropped`."""
    lines = BoundedLines(send)
    sys.stdout = CallOutput(sys.__stdout__ or sys.stdout, lines.tell)
    sys.stderr = CallOutput(sys.__stderr__ or sys.stderr, lines.tell)
