"""A thread that writes to stderr and stdout, so that a stalled reader delays no call.

`install` puts a queue behind `sys.stderr` and `sys.stdout` for log lines, prints, warnings and tracebacks. The
queue is bounded in bytes and lines. While it is full, lines are dropped and counted. When half of it has been
written, one log line reports the number of dropped lines. At the end of the process the queue is written for at
most `EXIT_SECONDS`.

Processes that share a pipe do not mix their lines: whole lines of up to PIPE_BUF bytes are one write.
"""

from __future__ import annotations

import atexit
import io
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_BYTES: Final = 1 << 20
MAX_LINES: Final = 4096
"""Bounds of the queue: a burst at debug level fits, and the memory for a stalled reader is limited."""

EXIT_SECONDS: Final = 1.0
"""Maximum time at the end of the process for writing to stderr and stdout together."""

PIPE_BUF: Final = select.PIPE_BUF
"""Number of bytes that a pipe takes in one write, and has room for when `poll` calls it writable (POSIX)."""


class LogWriter(io.RawIOBase):
    """The raw stream of one file descriptor; `write` never waits.

    Args:
        fd: of the reader's pipe, file or terminal.
        dropped: called with the number of dropped lines, by the thread that drops them.
        report: called with the number of dropped lines by the writer thread, when lines are accepted again.
    """

    def __init__(self, fd: int, dropped: Callable[[int], None], report: Callable[[int], None]) -> None:
        super().__init__()
        self._fd = fd
        self._count_dropped = dropped
        self._report = report
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # The lock is held for a few instructions, never during a write. The garbage collector may run meanwhile,
        # and a finalizer may write to this stream. The same thread must then be able to take the lock again.
        self._changed = threading.Condition(threading.RLock())
        self._bytes = 0
        self._lines = 0
        self._is_full = False
        self._unreported = 0
        self._is_broken = False
        self._has_ended = False
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, for children that share it."""
        return self._fd

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return os.isatty(self._fd)

    def write(self, data: ReadableBuffer, /) -> int:
        """Queue a line, or drop it if the queue is full."""
        line = bytes(data)
        with self._changed:
            is_taken = self._write_at_once(line) if self._has_ended else self._put(line)
        if not is_taken:
            self._count_dropped(1)
        return len(line)

    def drain(self, deadline: float) -> None:
        """Wait until the queue is empty, at most until `deadline` on `time.monotonic`."""
        with self._changed:
            self._changed.wait_for(self._is_done, max(0.0, deadline - time.monotonic()))

    def end(self, deadline: float) -> None:
        """Wait as `drain` does; later lines are written at once if possible, and dropped otherwise."""
        self.drain(deadline)
        with self._changed:
            self._has_ended = True

    def _is_done(self) -> bool:
        return not self._lines and (self._is_broken or not self._unreported)

    def _put(self, line: bytes) -> bool:
        if self._is_full or self._lines >= MAX_LINES or self._bytes + len(line) > MAX_BYTES:
            if not self._is_full:
                self._is_full = True
                self._queue.put(b"")  # wakes the thread, in case nothing else is queued
                self._start()
            self._unreported += 1
            return False
        self._bytes += len(line)
        self._lines += 1
        self._queue.put(line)
        self._start()
        return True

    def _start(self) -> None:
        if self._thread is None:
            # A daemon thread, so that the interpreter does not wait for it at the end.
            self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread handles signals
        following = b""
        while True:
            batch = [following or self._queue.get()]
            following, size = b"", len(batch[0])
            while size < PIPE_BUF and not self._queue.empty():
                following = self._queue.get()
                size += len(following)
                if size > PIPE_BUF:
                    size -= len(following)
                    break
                batch.append(following)
                following = b""
            self._written(batch, size, is_written=self._write(b"".join(batch)))

    def _written(self, batch: list[bytes], size: int, *, is_written: bool) -> None:
        lines = sum(1 for line in batch if line)
        unreported = 0
        with self._changed:
            self._bytes -= size
            self._lines -= lines
            self._is_broken = not is_written
            if not is_written:
                self._unreported += lines
            if self._is_full and self._bytes <= MAX_BYTES // 2 and self._lines <= MAX_LINES // 2:
                self._is_full = False
            if is_written and not self._is_full:
                unreported = self._unreported
            self._changed.notify_all()
        if not is_written:
            self._count_dropped(lines)
        if unreported:
            self._report(unreported)
            with self._changed:
                self._unreported -= unreported
                self._changed.notify_all()

    def _write(self, data: bytes) -> bool:
        """Write all data, waiting for the reader without a limit; return whether all was written."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # another process that shares the descriptor made it non-blocking
                _wait_writable(self._fd, None)
            except OSError:  # the reader is gone, or the disk is full
                return False
        return True

    def _write_at_once(self, line: bytes) -> bool:
        """Return whether the line was written without waiting."""
        while line:
            try:
                if not _wait_writable(self._fd, 0):
                    return False
                line = line[os.write(self._fd, line[:PIPE_BUF]) :]
            except OSError:
                return False
        return True


def _wait_writable(fd: int, timeout_ms: int | None) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout_ms))


def _report(lines: int) -> None:
    sys.stderr.write(f"{lines} log lines were dropped\n")


class _Dropped:
    """The count and report of dropped lines; lines dropped before there is a counter are counted later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uncounted = 0
        self._count: Callable[[int], None] | None = None
        self._report: Callable[[int], None] = _report

    def add(self, lines: int) -> None:
        with self._lock:
            if self._count is None:
                self._uncounted += lines
                return
        self._count(lines)

    def report(self, lines: int) -> None:
        self._report(lines)

    def report_by(self, report: Callable[[int], None]) -> None:
        self._report = report

    def count_by(self, count: Callable[[int], None]) -> None:
        with self._lock:
            self._count = count
            uncounted, self._uncounted = self._uncounted, 0
        if uncounted:
            count(uncounted)


_dropped = _Dropped()
_installed: list[LogWriter] = []


def install() -> None:
    """Put a queue behind `sys.stderr` and `sys.stdout`, once; a closed stream stays unchanged."""
    if _installed:
        return
    for name in ("stderr", "stdout"):
        stream = getattr(sys, name)
        if stream is None:
            continue
        stream.flush()
        writer = LogWriter(stream.fileno(), _dropped.add, _dropped.report)
        # For mypy a raw stream is not a buffer; it works as one, because each write takes all bytes.
        lines = io.TextIOWrapper(writer, "utf-8", "backslashreplace", line_buffering=True)  # type: ignore[type-var]
        setattr(sys, name, lines)
        _installed.append(writer)
    atexit.register(end)


def count_dropped(count: Callable[[int], None]) -> None:
    """Count dropped lines with `count`, earlier ones included; any thread may call `count`."""
    _dropped.count_by(count)


def flush(seconds: float) -> None:
    """Wait until all is written, at most `seconds`."""
    deadline = time.monotonic() + seconds
    for writer in _installed:
        writer.drain(deadline)


def end() -> None:
    """Wait at most `EXIT_SECONDS`. Later lines are dropped unless they can be written at once."""
    deadline = time.monotonic() + EXIT_SECONDS
    for writer in _installed:
        writer.end(deadline)


def report_by(report: Callable[[int], None]) -> None:
    """Report the number of dropped lines with `report`; the default is one plain line."""
    _dropped.report_by(report)
