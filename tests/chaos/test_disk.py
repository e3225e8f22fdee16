from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.chaos.disk import DISK_BYTES, Disk, may_mount


@pytest.mark.skipif(not may_mount(), reason="this machine mounts no small disk")
def test_full_disk_takes_no_byte_until_it_is_freed(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    try:
        assert disk.is_small
        disk.fill()
        usage = os.statvfs(disk.path)
        assert usage.f_bavail == 0
        assert usage.f_blocks * usage.f_frsize == DISK_BYTES
        with pytest.raises(OSError, match="No space left") as raised:
            (disk.path / "one").write_bytes(b"1")
        assert raised.value.errno == errno.ENOSPC
        disk.free()
        (disk.path / "one").write_bytes(b"1")
    finally:
        disk.close()


def test_folder_exists_even_without_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    disk = Disk(tmp_path / "disk")
    assert not disk.is_small
    (disk.path / "one").write_bytes(b"1")
    disk.close()
