"""The temporary folder of one `serve`: the metrics of its processes, and the socket of its Redis.

The owner locks its folder (flock). The kernel releases the lock when the owner ends, even by SIGKILL. A folder
without a lock is therefore left over, and the next `serve` removes it. systemd-tmpfiles, which empties /tmp, skips
locked folders (tmpfiles.d(5), "Age").
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.errors import SettingsError
from common.observe import logs

PREFIX: Final = "avr-sts-serve-"

MAX_ATTEMPTS: Final = 8
"""Maximum attempts: another `serve` that starts may remove a new folder before it is locked."""

_log = logs.get_logger()


@contextmanager
def runtime_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder that this user alone may enter, and remove it at the end.

    Args:
        parent: where to make the folder; None: in the system's temporary folder (TMPDIR).

    Raises:
        SettingsError: the folder cannot be made.
    """
    try:
        parent = parent or Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise _no_folder(str(error.strerror)) from None
    remove_left_over(parent)
    try:
        folder, lock = _make(parent)
    except OSError as error:
        raise _no_folder(f"{parent}: {error.strerror}") from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_over(parent: Path) -> None:
    """Remove the folders of this user whose owners have ended."""
    try:
        folders = [*parent.glob(f"{PREFIX}*")]
    except OSError:  # `parent` may be writable and not readable
        return
    for folder in folders:
        try:
            lock = _lock(folder)
        except OSError:  # locked by its owner, or no folder
            continue
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                shutil.rmtree(folder)
                _log.info("left-over temporary folder removed", folder=str(folder))
        except OSError as error:
            _log.warning("left-over temporary folder not removed", folder=str(folder), error=error.strerror)
        finally:
            os.close(lock)


def _make(parent: Path) -> tuple[Path, int]:
    """Return a new folder, and the file descriptor that holds its lock."""
    for _ in range(MAX_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            lock = _lock(folder)
        except (BlockingIOError, FileNotFoundError):  # another `serve` is removing this folder
            continue
        if folder.exists():
            return folder, lock
        os.close(lock)
    raise OSError(0, "other processes remove new folders")


def _lock(folder: Path) -> int:
    """Lock a folder without waiting, and return the file descriptor that holds the lock.

    Raises:
        OSError: another process has the lock, or there is no such folder.
    """
    # No other user can make this process follow a link.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _no_folder(reason: str) -> SettingsError:
    return SettingsError(
        f"no temporary folder can be made: {reason}; set TMPDIR to a folder that this user may write to"
    )
