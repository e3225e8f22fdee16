"""The files with the metrics of a process of `serve`, which all its processes read.

The format is that of `prometheus_client` (`mmap_dict.py`): the number of bytes in use, then for each series its
name and a value. The library's own files are sparse: a full file system kills the process by SIGBUS when it
touches a page. Here a file's blocks are allocated before they are mapped, and a full file system is an error. New
series then stay in this process's memory, where no other process sees them; existing ones continue in the file.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from common.errors import LocalError

FIRST_BYTES: Final = 1 << 16
"""Size of a new file; it doubles each time that the file is full."""

HEADER_BYTES: Final = 8
VALUE_BYTES: Final = 16
"""Size of a value and its time, which is not used."""

_INTEGER: Final = struct.Struct("i")
_VALUE: Final = struct.Struct("dd")

log = structlog.get_logger()


class BrokenFile(LocalError, ValueError):
    """The file was not written by this module, or is incomplete."""


def used_bytes(data: bytes | mmap.mmap) -> int:
    """Return the number of bytes in use, from the file's first bytes.

    Raises:
        BrokenFile: there are too few bytes.
    """
    if len(data) < _INTEGER.size:
        raise BrokenFile("a file without a header")
    return int(_INTEGER.unpack_from(data)[0])


def entries(data: bytes | mmap.mmap) -> Iterator[tuple[str, float, int]]:
    """Read a file: the name of each series, its value, and the value's position.

    Raises:
        BrokenFile: the entries are invalid.
    """
    used = used_bytes(data)
    position = HEADER_BYTES
    if used > len(data):
        raise BrokenFile("a file that is shorter than its header says")
    while position < used:
        try:
            (length,) = _INTEGER.unpack_from(data, position)
            begin = position + _INTEGER.size
            position += _padded_bytes(length)
            if length < 0 or position + VALUE_BYTES > used:
                raise BrokenFile("an entry that is longer than the file")
            name = data[begin : begin + length].decode()
            json.loads(name)
            value, _ = _VALUE.unpack_from(data, position)
        except (struct.error, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise BrokenFile(str(error)) from error
        yield name, value, position
        position += VALUE_BYTES


def value_class(folder: Path, identity: str) -> type:
    """Create a class for `prometheus_client.values.ValueClass` that keeps values in files under `folder`.

    Args:
        folder: one for all processes of a `serve`.
        identity: of the slot that this process fills.
    """
    return type("FileValue", (_FileValue,), {"_files": _Files(folder, identity)})


class _FileValue:
    """The value of one series. `prometheus_client` calls the constructor."""

    _multiprocess = True
    _files: _Files

    def __init__(  # noqa: PLR0917 - the library's signature
        self,
        kind: str,
        metric_name: str,
        name: str,
        label_names: Sequence[str],
        label_values: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        labels = dict(zip(label_names, label_values, strict=True))
        key = json.dumps([metric_name, name, labels, help_text], sort_keys=True)
        files = self._files
        self._lock = files.lock
        with self._lock:
            self._file = files.of(f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind)
            self._value, self._position = self._file.place(key)
        files.report()

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            self._value += amount
            self._file.write(self._position, self._value)

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value; its time is not used by any mode of this service."""
        with self._lock:
            self._value = value
            self._file.write(self._position, value)

    def get(self) -> float:
        """Return the value."""
        return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Do nothing, because files have no exemplars."""

    def get_exemplar(self) -> None:
        """Return None, because files have no exemplars."""


class _Files:
    """The files of one process, by the kind of metric; `lock` is held during each use of one."""

    def __init__(self, folder: Path, identity: str) -> None:
        # The garbage collector may run meanwhile, and a finalizer may count an event: the lock is re-entrant.
        self.lock = threading.RLock()
        self._folder = folder
        self._identity = identity
        self._by_kind: dict[str, _File] = {}
        self._error: OSError | None = None
        self._is_reported = False

    def of(self, kind: str) -> _File:
        """Return the file of this kind of metric."""
        if kind not in self._by_kind:
            self._by_kind[kind] = _File(self._folder / f"{kind}_{self._identity}.db", self._failed)
        return self._by_kind[kind]

    def report(self) -> None:
        """Log once that a file cannot grow; not under the lock, because a metric may count the log line."""
        if self._error is not None and not self._is_reported:
            self._is_reported = True
            log.error(
                "metrics file cannot grow",
                folder=str(self._folder),
                error=self._error.strerror or str(self._error),
                effect="new series of this process are missing in /metrics until the process is restarted",
            )

    def _failed(self, error: OSError) -> None:
        self._error = error


class _File:
    """A mapped file. Without room on the disk the file keeps the series that fit."""

    def __init__(self, path: Path, failed: Callable[[OSError], None]) -> None:
        self._path = path
        self._failed = failed
        self._places: dict[str, tuple[float, int]] = {}
        self._used_bytes = 0
        self._size_bytes = 0
        self._fd = -1
        self._map: mmap.mmap | None = None
        try:
            self._open()
        except OSError as error:
            failed(error)

    def place(self, name: str) -> tuple[float, int]:
        """Return the value of a series and its position; position -1: there is no room for it."""
        if name not in self._places:
            self._places[name] = (0.0, self._append(name))
        return self._places[name]

    def write(self, position: int, value: float) -> None:
        """Write a value at its position."""
        if self._map is not None and position >= 0:
            # One assignment, because `pack_into` writes zeros first, which other processes could read.
            self._map[position : position + VALUE_BYTES] = _VALUE.pack(value, 0.0)

    def _append(self, name: str) -> int:
        encoded = name.encode()
        padding = b" " * (_padded_bytes(len(encoded)) - _INTEGER.size - len(encoded))
        entry = _INTEGER.pack(len(encoded)) + encoded + padding + _VALUE.pack(0.0, 0.0)
        end = self._used_bytes + len(entry)
        if end > self._size_bytes and not self._grow(end):
            return -1
        assert self._map is not None
        self._map[self._used_bytes : end] = entry
        self._use(end)
        return end - VALUE_BYTES

    def _use(self, end: int) -> None:
        assert self._map is not None
        self._used_bytes = end
        self._map[: _INTEGER.size] = _INTEGER.pack(end)

    def _grow(self, needed_bytes: int) -> bool:
        if self._map is None:
            return False
        size_bytes = self._size_bytes
        while size_bytes < needed_bytes:
            size_bytes *= 2
        try:
            self._allocate(size_bytes)
        except OSError as error:
            self._failed(error)
            return False
        return True

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # The file may come from an earlier process of this slot, and may lack blocks.
        self._allocate(max(FIRST_BYTES, os.fstat(self._fd).st_size))
        assert self._map is not None
        try:
            self._places = {name: (value, position) for name, value, position in entries(self._map)}
            self._use(max(HEADER_BYTES, used_bytes(self._map)))
        except BrokenFile:
            self._places = {}
            self._map[:] = bytes(self._size_bytes)
            self._use(HEADER_BYTES)

    def _allocate(self, size_bytes: int) -> None:
        """Map this many bytes, after the file system has allocated all of them."""
        if sys.platform == "linux":
            os.posix_fallocate(self._fd, 0, size_bytes)
        else:
            missing = size_bytes - os.fstat(self._fd).st_size
            os.pwrite(self._fd, bytes(missing), size_bytes - missing)
        self._map = mmap.mmap(self._fd, size_bytes)
        self._size_bytes = size_bytes


def _padded_bytes(length: int) -> int:
    """Return the length of a name with its length field, padded as in the library to align the value."""
    return _INTEGER.size + length + 8 - (length + _INTEGER.size) % 8
