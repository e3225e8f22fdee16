"""A small disk that a chaos run fills: a tmpfs, which root may mount on most machines."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

DISK_BYTES: Final = 48 * 1024 * 1024
_BLOCK_BYTES: Final = 4096
_UMOUNT: Final = "/bin/umount"
_FILLER: Final = "filler"


class Disk:
    """A file system of `DISK_BYTES` for the temporary files of the service.

    If no tmpfs may be mounted, the folder is on the disk of the machine, and `fill` must not be called.

    Attributes:
        path: path of the folder.
        is_small: whether the disk may be filled.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir()
        self.path = path
        self.is_small = _mount(path)

    def fill(self) -> None:
        """Leave no byte free."""
        with contextlib.suppress(OSError), (self.path / _FILLER).open("wb", buffering=0) as file:
            # The last blocks can only be taken one by one.
            for size in (256 * _BLOCK_BYTES, _BLOCK_BYTES):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def free(self) -> None:
        """Free the space taken by `fill`."""
        (self.path / _FILLER).unlink(missing_ok=True)

    def close(self) -> None:
        """Unmount the disk."""
        if self.is_small:
            subprocess.run([_UMOUNT, "--lazy", str(self.path)], check=False, capture_output=True)


@functools.cache
def may_mount() -> bool:
    """Tell whether this machine allows a small disk."""
    with tempfile.TemporaryDirectory(prefix="chaos-disk-") as directory:
        if not _mount(Path(directory)):
            return False
        subprocess.run([_UMOUNT, directory], check=True, capture_output=True)
        return True


def _mount(path: Path) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(path)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
