from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.runtime.runtime_folder import PREFIX, runtime_folder

OWNER = """
import sys
from pathlib import Path
from common.runtime.runtime_folder import runtime_folder

with runtime_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def killed_owner(parent: Path) -> Path:
    """Return the folder of a process that was killed."""
    command = [sys.executable, "-c", OWNER, str(parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().rstrip("\n"))
        owner.kill()
    return folder


def test_a_folder_is_private_and_removed_with_its_files(tmp_path: Path) -> None:
    with runtime_folder(tmp_path) as folder:
        (folder / "metrics").mkdir()
        (folder / "metrics" / "file.db").touch()
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [*tmp_path.iterdir()] == []


def test_the_folder_of_a_killed_owner_is_removed(tmp_path: Path) -> None:
    left = killed_owner(tmp_path)
    assert left.exists()
    with runtime_folder(tmp_path) as folder:
        assert [*tmp_path.iterdir()] == [folder]


def test_the_folder_of_a_living_owner_is_kept(tmp_path: Path) -> None:
    with runtime_folder(tmp_path) as one, runtime_folder(tmp_path) as other:
        assert {*tmp_path.iterdir()} == {one, other}


def test_folders_of_other_programs_are_kept(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(outside)
    (temporary / f"{PREFIX}file").touch()
    (temporary / "avr-sts-other").mkdir()
    with runtime_folder(temporary):
        pass
    assert (outside / "file").exists()
    assert {path.name for path in temporary.iterdir()} == {f"{PREFIX}link", f"{PREFIX}file", "avr-sts-other"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_kept(tmp_path: Path) -> None:
    left = killed_owner(tmp_path)
    os.chown(left, 65534, 65534)
    with runtime_folder(tmp_path):
        assert left.exists()


def test_a_missing_folder_is_reported_with_place_and_advice(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as raised, runtime_folder(tmp_path / "none"):
        pass
    assert str(raised.value) == (
        f"no temporary folder can be made: {tmp_path}/none: No such file or directory; "
        "set TMPDIR to a folder that this user may write to"
    )
