"""The folder of recordings, which several processes share: what is in it, and what is deleted when.

All methods block: they run in threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.audio.wav import SAMPLE_RATE_HZ
from dispatcher.recording import names, wav_file
from dispatcher.recording.stretch import FRAME_BYTES

FOLDER_MODE = 0o700
# Below this share of free disk, recording stops. It goes on at a little more, so that it does not flicker.
MIN_FREE = 0.05
GO_ON_FREE = 0.06
PROBE_BYTES = 64 * 1024
LOCK_NAME = ".sweep"
# A file without its name is younger than this, or its process was killed between two calls of the system.
PART_SECONDS = 60.0
# Files that changed so long before the last sweep are examined again.
EXAMINE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Found:
    """One recording in the folder.

    Attributes:
        name: of the file.
        started_at: when it began, in seconds since the epoch.
        host: on which it was written.
        size_bytes: on the disk.
        changed_at: when it was written last.
    """

    name: str
    started_at: float
    host: str
    size_bytes: int
    changed_at: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        expired: recordings that were deleted at the end of their time.
        crowded_out: recordings that were deleted because the folder was full.
        repaired: recordings with a corrected header.
        size_bytes: of the recordings that stay.
    """

    expired: int = 0
    crowded_out: int = 0
    repaired: int = 0
    size_bytes: int = 0


class RecordingFolder:
    """The folder.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path, keep_seconds: float, max_bytes: int) -> None:
        """Take the settings; the folder may not exist yet.

        Args:
            path: of the folder.
            keep_seconds: a recording is deleted so long after its end; 0: never for its age.
            max_bytes: of all recordings; above it the oldest are deleted.
        """
        self.path = path
        self._keep_seconds = keep_seconds
        self._max_bytes = max_bytes
        # Files that changed before were examined.
        self._examined_until = float("-inf")

    def prepare(self) -> int | None:
        """Create the folder, for its owner alone; return the mode of one that others may enter, too.

        A folder that exists keeps its mode: it may be a volume's, or hold other files. Recordings are private.

        Raises:
            OSError: it cannot be created.
        """
        self.path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        mode = stat.S_IMODE(self.path.stat().st_mode)
        return mode if mode & 0o077 else None

    def free_share(self) -> float:
        """Return the share of the disk that is free.

        Raises:
            OSError: there is no such folder.
        """
        disk = os.statvfs(self.path)
        return disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0

    def probe(self) -> None:
        """Find out whether the disk takes a recording again.

        Raises:
            OSError: it is full, read-only or broken.
        """
        if self.free_share() < GO_ON_FREE:
            raise OSError(errno.ENOSPC, "the disk is nearly full")
        probe = self.path / f".{os.getpid()}{wav_file.PART_SUFFIX}"
        try:
            probe.write_bytes(bytes(PROBE_BYTES))
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()

    def recordings(self) -> list[Found]:
        """Return all recordings, the oldest first; none if the folder cannot be read."""
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    name = names.parse(entry.name)
                    if name is None:
                        continue
                    with contextlib.suppress(OSError):  # deleted by another process meanwhile
                        status = entry.stat(follow_symlinks=False)
                        size_bytes = min(status.st_size, status.st_blocks * 512)
                        found.append(Found(entry.name, name.started_at, name.host, size_bytes, status.st_mtime))
        except OSError:
            return []
        return sorted(found, key=lambda each: (each.started_at, each.name))

    def of_call(self, uuid: str) -> list[Found]:
        """Return the recordings of one call, in order."""
        prefix = f"{names.encoded(uuid)}-"
        return [each for each in self.recordings() if _is_of(each.name, prefix)]

    def seconds_of(self, name: str) -> float:
        """Return the length of a recording by its header; 0 if it cannot be read."""
        try:
            with (self.path / name).open("rb") as file:
                data_bytes = wav_file.data_bytes_of(file.read(wav_file.HEADER_BYTES))
        except (OSError, ValueError):
            return 0.0
        return (data_bytes or 0) / FRAME_BYTES / SAMPLE_RATE_HZ

    def is_written(self, name: str) -> bool:
        """Return whether a process writes this recording now."""
        with self._locked(name) as descriptor:
            return descriptor is None and (self.path / name).exists()

    def delete(self, name: str) -> bool:
        """Delete a recording; return whether it was deleted: not if it is written now, or gone."""
        with self._locked(name) as descriptor:
            if descriptor is None:
                return False
            try:
                (self.path / name).unlink()
            except OSError:
                return False
            return True

    def sweep(self, now: float | None = None) -> Swept:
        """Delete what is too old, and the oldest of what is too much; correct headers after a power failure.

        Of several processes one sweeps at a time; the others return at once.

        Args:
            now: the wall clock, in seconds since the epoch.
        """
        now = time.time() if now is None else now
        with self._locked(LOCK_NAME, os.O_CREAT) as lock:
            return Swept() if lock is None else self._sweep(now)

    def _sweep(self, now: float) -> Swept:
        expired = crowded_out = repaired = 0
        self._delete_parts(now)
        kept: list[Found] = []
        for each in self.recordings():
            if self._keep_seconds and now - each.changed_at >= self._keep_seconds and self.delete(each.name):
                expired += 1
            else:
                kept.append(each)
        total = sum(each.size_bytes for each in kept)
        for each in kept:
            if total <= self._max_bytes:
                break
            if self.delete(each.name):
                crowded_out += 1
                total -= each.size_bytes
        for each in kept:
            if each.changed_at >= self._examined_until:
                repaired += self._repair(each.name)
        self._examined_until = now - EXAMINE_SECONDS
        return Swept(expired, crowded_out, repaired, total)

    def _repair(self, name: str) -> bool:
        """Correct the header of a file that is not written any more."""
        with self._locked(name) as descriptor:
            if descriptor is None:
                return False
            try:
                before = os.fstat(descriptor)
                is_repaired = wav_file.repair(descriptor)
                if is_repaired:
                    # The time of its end counts for its deletion.
                    os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
            except OSError:
                return False
            return is_repaired

    def _delete_parts(self, now: float) -> None:
        for path in self.path.glob(f".*{wav_file.PART_SUFFIX}"):
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime >= PART_SECONDS:
                    path.unlink()

    @contextlib.contextmanager
    def _locked(self, name: str, flags: int = os.O_NOFOLLOW) -> Iterator[int | None]:
        """Open a file of the folder, and lock it; None if it is not there, or another process has the lock."""
        try:
            descriptor = os.open(self.path / name, os.O_RDWR | os.O_CLOEXEC | flags, wav_file.MODE)
        except OSError:
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
        else:
            yield descriptor
        finally:
            os.close(descriptor)


def _is_of(name: str, prefix: str) -> bool:
    parsed = names.parse(name)
    return parsed is not None and f"{parsed.uuid}-" == prefix
