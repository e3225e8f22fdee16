"""A file of call records, which one process writes: JSON lines, mode 0600, rotated.

The process locks its file, so that two processes of the same name use two files. A successor of a killed process
continues its file, without the line that was torn. Writers and the sub-command `erase` share a lock of the folder,
because `erase` replaces files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

MAX_FILE_BYTES: Final = 64 << 20
MODE: Final = 0o600
SUFFIX: Final = ".jsonl"
PREFIX: Final = "calls-"
FOLDER_LOCK: Final = ".calls.lock"
MAX_FILES: Final = 100
"""Maximum number of processes of one name that write to a folder at the same time."""

_CHUNK_BYTES = 1 << 16


@contextlib.contextmanager
def folder_lock(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock of a folder: writers share it, and `erase` has it alone. Waits for the lock."""
    lock = os.open(folder / FOLDER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


class RecordFile:
    """The file of one process. Its methods block, and raise OSError if the folder fails."""

    def __init__(self, folder: Path, name: str, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        """Make a file that is opened by the first write.

        Args:
            folder: CALL_RECORDS_DIR.
            name: of the host and the process.
            max_bytes: size at which the file is rotated.
        """
        self._folder = folder
        self._name = PREFIX + re.sub(r"[^\w.-]", "-", name)
        self._max_bytes = max_bytes
        self._path = folder
        self._file = -1

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines, all or none, and return when the disk has them."""
        data = b"".join(line + b"\n" for line in lines)
        with folder_lock(self._folder, exclusive=False):
            self._open()
            status = os.fstat(self._file)
            last_day = datetime.fromtimestamp(status.st_mtime, UTC).date()
            if status.st_size and (
                status.st_size + len(data) > self._max_bytes or last_day != datetime.now(UTC).date()
            ):
                self._rotate()
            self._append(data)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, data: bytes) -> None:
        before = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fdatasync(self._file)
        except OSError:
            # No part of a record may remain, for example when the disk is full.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, before)
            raise

    def _open(self) -> None:
        """Open and lock a file, unless the open one is still the file of this name."""
        if self._file >= 0 and _is_same(self._file, self._path):
            return
        self.close()
        for number in range(MAX_FILES):
            path = self._folder / f"{self._name}{f'-{number}' if number else ''}{SUFFIX}"
            file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.fchmod(file, MODE)
                _repair(file)
            except BlockingIOError:
                os.close(file)
                continue
            except OSError:
                os.close(file)
                raise
            self._file, self._path = file, path
            return
        raise OSError(f"{MAX_FILES} processes write to this folder already")

    def _rotate(self) -> None:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self._path.rename(self._path.with_name(f"{self._path.stem}-{now}{SUFFIX}"))
        self.close()
        self._open()


def _is_same(file: int, path: Path) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(file)
    return (found.st_ino, found.st_dev) == (mine.st_ino, mine.st_dev)


def _repair(file: int) -> None:
    """Remove a line without its end, which a killed process left: its record is delivered again."""
    size = end = os.fstat(file).st_size
    while end > 0:
        begin = max(0, end - _CHUNK_BYTES)
        newline = os.pread(file, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            end = begin + newline + 1
            break
        end = begin
    if end != size:
        os.ftruncate(file, end)
