"""The file of a recording: stereo PCM16 at 8 kHz, valid at every moment.

The samples are written first, and then the header with their number. The header is 44 bytes in the first page of
the file, written at once. So at whatever write the process is killed, the header counts only samples that are
there. Bytes behind them are ignored by readers, and counted by `repair`. The file gets its name when its header is
there. After a failure of the machine's power the header may count samples that the disk does not have: `repair`
corrects it.

The process that writes a file holds a lock on it (flock), which ends with the process. Nobody deletes or repairs a
file with a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from common.audio.wav import SAMPLE_RATE_HZ
from dispatcher.recording.stretch import CHANNELS, FRAME_BYTES

HEADER_BYTES = 44
MODE = 0o600
PART_SUFFIX = ".part"
_LAYOUT = struct.Struct("<4sI4s4sIHHIIHH4sI")


def header(data_bytes: int) -> bytes:
    """Return the header of a file with so many bytes of samples (Microsoft, "New Multimedia Data Types", 1994)."""
    rate_bytes = SAMPLE_RATE_HZ * FRAME_BYTES
    form = (16, 1, CHANNELS, SAMPLE_RATE_HZ, rate_bytes, FRAME_BYTES, 16)
    return _LAYOUT.pack(b"RIFF", HEADER_BYTES - 8 + data_bytes, b"WAVE", b"fmt ", *form, b"data", data_bytes)


def data_bytes_of(head: bytes) -> int | None:
    """Return the number of bytes of samples that a header counts; None if it is no header of ours."""
    if len(head) < HEADER_BYTES:
        return None
    data_bytes = int.from_bytes(head[40:44], "little")
    return data_bytes if head[:4] == b"RIFF" and head[36:40] == b"data" else None


class WavFile:
    """One recording that grows; only the writer's thread uses it.

    Attributes:
        path: of the file.
        samples: its length.
    """

    def __init__(self, path: Path) -> None:
        """Make a file that is created when something is written."""
        self.path = path
        self.samples = 0
        self._descriptor: int | None = None

    def write(self, position: int, frames: bytes) -> None:
        """Write frames at a position. Samples that were never written are silence.

        Raises:
            OSError: the disk is full, read-only or broken. What was there before stays valid.
        """
        if self._descriptor is None:
            self._descriptor = self._create()
        _write_all(self._descriptor, frames, HEADER_BYTES + position * FRAME_BYTES)
        end = position + len(frames) // FRAME_BYTES
        if end > self.samples:
            _write_all(self._descriptor, header(end * FRAME_BYTES), 0)
            self.samples = end

    def close(self) -> None:
        """Close the file, if it was created."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _create(self) -> int:
        part = self.path.with_name(f".{self.path.name}{PART_SUFFIX}")
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(descriptor, header(0), 0)
            part.rename(self.path)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        return descriptor


def repair(descriptor: int) -> bool:
    """Correct the header of a file that nobody writes, from its size; return whether it was wrong.

    Raises:
        OSError: the file cannot be read or written.
    """
    data_bytes = max(0, os.fstat(descriptor).st_size - HEADER_BYTES) // FRAME_BYTES * FRAME_BYTES
    right = header(data_bytes)
    if os.pread(descriptor, HEADER_BYTES, 0) == right:
        return False
    _write_all(descriptor, right, 0)
    return True


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
