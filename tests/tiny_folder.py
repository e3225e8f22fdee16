"""A folder on a file system that is full after a few pages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tiny_folder(parent: Path, size_bytes: int) -> Iterator[Path]:
    """Yield a tmpfs of this size. Skips the test where no file system can be mounted, which takes root."""
    folder = parent / "tiny"
    folder.mkdir()
    options = f"size={size_bytes},nr_inodes=1000"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount") or "umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leaves not one page free."""
    number = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(number, bytes(4096))
    except OSError:
        pass
    finally:
        os.close(number)
