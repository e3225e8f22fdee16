"""The folder of recordings: what is found, deleted and repaired in it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from dispatcher.recording import names
from dispatcher.recording.folder import PART_SECONDS, RecordingFolder, Swept
from dispatcher.recording.wav_file import WavFile, header
from tests.dispatcher.recording.strict_wav import read_strictly

NOW = 1_764_535_669.0
DAY = 86_400.0
KEEP_SECONDS = 30 * DAY
SAMPLES = 1000
SECOND_BYTES = 44 + SAMPLES * 4


def folder_of(path: Path, *, keep_seconds: float = KEEP_SECONDS, max_bytes: int = 10**9) -> RecordingFolder:
    folder = RecordingFolder(path / "recordings", keep_seconds, max_bytes)
    folder.prepare()
    return folder


def recording(folder: RecordingFolder, uuid: str, *, age_days: float, host: str = "h") -> Path:
    """A finished recording that ended so long ago."""
    path = folder.path / names.file_name(uuid, NOW - age_days * DAY, host)
    path.write_bytes(header(SAMPLES * 4) + bytes(SAMPLES * 4))
    os.utime(path, (NOW - age_days * DAY,) * 2)
    return path


def test_folder_is_private(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert folder.prepare() is None


def test_folder_that_exists_keeps_its_mode_and_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.path.chmod(0o755)
    assert folder.prepare() == 0o755
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o755


def test_recordings_of_a_call_are_found_in_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    later, earlier = recording(folder, "a", age_days=1), recording(folder, "a", age_days=2, host="other")
    recording(folder, "a-b", age_days=1)
    recording(folder, "A", age_days=1)
    (folder.path / "notes.txt").write_text("mine")
    assert [each.name for each in folder.of_call("a")] == [earlier.name, later.name]
    assert [each.host for each in folder.of_call("a")] == ["other", "h"]
    assert folder.of_call("*") == []


def test_sweep_deletes_what_is_too_old(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    old, new = recording(folder, "old", age_days=30), recording(folder, "new", age_days=29.9)
    assert folder.sweep(NOW).expired == 1
    assert not old.exists()
    assert new.exists()


def test_zero_seconds_keep_for_ever(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, keep_seconds=0)
    old = recording(folder, "old", age_days=9000)
    assert folder.sweep(NOW).expired == 0
    assert old.exists()


def test_sweep_deletes_the_oldest_of_what_is_too_much(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, max_bytes=2 * SECOND_BYTES)
    paths = [recording(folder, str(age), age_days=age) for age in (4, 3, 2, 1)]
    swept = folder.sweep(NOW)
    assert (swept.crowded_out, swept.size_bytes) == (2, 2 * SECOND_BYTES)
    assert [path.exists() for path in paths] == [False, False, True, True]


def test_recording_that_is_written_is_never_deleted(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, keep_seconds=1, max_bytes=0)
    file = WavFile(folder.path / names.file_name("live", NOW, "h"))
    file.write(0, bytes(4000))
    assert folder.is_written(file.path.name)
    assert not folder.delete(file.path.name)
    assert folder.sweep(NOW + DAY).expired == 0
    assert file.path.exists()
    file.close()
    assert not folder.is_written(file.path.name)
    assert folder.sweep(NOW + 10_000 * DAY).expired == 1


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, keep_seconds=1, max_bytes=0)
    other = folder.path / "music.wav"
    other.write_bytes(bytes(10_000))
    os.utime(other, (0, 0))
    target = tmp_path / "outside.wav"
    target.write_bytes(header(0))
    link = folder.path / names.file_name("link", NOW - 90 * DAY, "h")
    link.symlink_to(target)
    folder.sweep(NOW)
    assert other.exists()
    assert target.read_bytes() == header(0), "no link is followed"


def test_sweep_repairs_what_a_power_failure_left(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    path = folder.path / names.file_name("cut", NOW - DAY, "h")
    path.write_bytes(header(400_000) + bytes(4001))
    os.utime(path, (NOW - DAY,) * 2)
    assert folder.sweep(NOW).repaired == 1
    assert len(read_strictly(path)) == 1000
    assert path.stat().st_mtime == NOW - DAY, "its age stays"
    assert folder.sweep(NOW).repaired == 0


def test_sweep_deletes_files_without_a_name(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    old, new = folder.path / ".a.wav.part", folder.path / ".b.wav.part"
    for path, age in ((old, PART_SECONDS), (new, 1)):
        path.write_bytes(b"")
        os.utime(path, (NOW - age,) * 2)
    folder.sweep(NOW)
    assert not old.exists()
    assert new.exists()


def test_processes_that_sweep_together_delete_each_file_once(tmp_path: Path) -> None:
    folders = [folder_of(tmp_path) for _ in range(4)]
    for number in range(200):
        recording(folders[0], f"old-{number}", age_days=31)
    swept: list[Swept] = []
    threads = [threading.Thread(target=lambda each=each: swept.append(each.sweep(NOW))) for each in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.expired for each in swept) == 200
    assert folders[0].recordings() == []


def test_folder_that_is_gone_has_no_recordings(tmp_path: Path) -> None:
    folder = RecordingFolder(tmp_path / "gone", KEEP_SECONDS, 1)
    assert folder.recordings() == []
    assert folder.sweep(NOW) == Swept()
    assert not folder.delete("a.wav")
    assert folder.seconds_of("a.wav") == 0.0
    with pytest.raises(OSError, match="No such file"):
        folder.free_share()


def test_probe_writes_and_leaves_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    folder.probe()
    assert list(folder.path.iterdir()) == []


def test_length_is_that_of_the_header(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    assert folder.seconds_of(recording(folder, "a", age_days=1).name) == SAMPLES / 8000
