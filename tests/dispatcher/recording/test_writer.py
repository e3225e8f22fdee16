"""The writer's thread: it writes, it drops and counts, and it waits for no disk."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np

from common.observe.recording_drop import RecordingDrop
from dispatcher.recording.folder import RecordingFolder
from dispatcher.recording.stretch import Sound, Stretch
from dispatcher.recording.wav_file import WavFile
from dispatcher.recording.writer import RETRY_SECONDS, RecordingWriter
from tests.dispatcher.recording.strict_wav import read_strictly
from tests.tiny_folder import fill, tiny_folder

SECOND = 8000
DROPPED_BY_NONE = dict.fromkeys(RecordingDrop, 0)


def writer_of(path: Path, **options: int) -> RecordingWriter:
    folder = RecordingFolder(path, 0, 1)
    folder.prepare()
    return RecordingWriter(folder, **options)


def stretch(position: int, samples: int = SECOND) -> Stretch:
    pcm = (1 + (position + np.arange(samples)) % 30_000).astype("<i2").tobytes()
    return Stretch(position, samples, (Sound(position, pcm),), ())


def test_stretches_are_written_in_order_by_one_thread(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    files = [WavFile(tmp_path / f"{number}.wav") for number in range(5)]
    for second in range(4):
        for file in files:
            assert writer.write(file, stretch(second * SECOND))
    for file in files:
        writer.finish(file)
    assert writer.close(10)
    for file in files:
        recorded = read_strictly(file.path)
        assert (recorded[:, 0] == np.frombuffer(stretch(0, 4 * SECOND).left[0].pcm, "<i2")).all()
        assert not recorded[:, 1].any()
    assert writer.written_samples == 20 * SECOND
    assert writer.dropped_samples == DROPPED_BY_NONE
    assert not [each for each in threading.enumerate() if each.name == "recordings"]


def test_nothing_is_started_before_the_first_stretch(tmp_path: Path) -> None:
    before = threading.active_count()
    writer = writer_of(tmp_path)
    assert threading.active_count() == before
    assert writer.close(0)


def test_full_queue_drops_and_counts_and_leaves_silence(tmp_path: Path) -> None:
    folder = _StalledFolder(tmp_path, 0, 1)
    writer = RecordingWriter(folder, max_queued_bytes=2 * SECOND * 4)
    file = WavFile(tmp_path / "a.wav")
    assert [writer.write(file, stretch(second * SECOND)) for second in range(4)] == [True, True, False, False]
    assert folder.is_asked.wait(10), "the thread waits for the disk, and the caller did not"
    folder.may_answer.set()
    while not writer.write(file, stretch(5 * SECOND)):  # there is room again as soon as one is written
        pass
    writer.finish(file)
    assert writer.close(10)
    recorded = read_strictly(file.path)[:, 0]
    assert len(recorded) == 6 * SECOND
    assert recorded[: 2 * SECOND].all()
    assert not recorded[2 * SECOND : 5 * SECOND].any()
    assert recorded[5 * SECOND :].all()
    assert writer.dropped_samples[RecordingDrop.QUEUE] >= 2 * SECOND


def test_stalled_disk_does_not_hold_the_end_up(tmp_path: Path) -> None:
    folder = _StalledFolder(tmp_path, 0, 1)
    writer = RecordingWriter(folder)
    writer.write(WavFile(tmp_path / "a.wav"), stretch(0))
    assert folder.is_asked.wait(10)
    assert not writer.close(0.01)
    assert not writer.write(WavFile(tmp_path / "b.wav"), stretch(0)), "nothing is taken any more"
    folder.may_answer.set()
    assert writer.close(10)


def test_disk_with_little_room_stops_recording_before_it_is_full(tmp_path: Path) -> None:
    with tiny_folder(tmp_path, 2**20) as tiny:
        writer = writer_of(tiny)
        file = WavFile(tiny / "a.wav")
        for second in range(60):  # a second is 32 KB; one look at the disk a second
            writer._looked_seconds = float("-inf")
            assert writer._write(file, stretch(second * SECOND)) in (None, RecordingDrop.DISK)
        assert "of the disk is free" in writer.problem
        assert writer._folder.free_share() > 0.0
        assert len(read_strictly(file.path)) == file.samples > 25 * SECOND
        file.close()


def test_full_disk_is_counted_and_the_file_stays_valid(tmp_path: Path) -> None:
    with tiny_folder(tmp_path, 2**20) as tiny:
        writer = writer_of(tiny)
        file = WavFile(tiny / "a.wav")
        assert writer._write(file, stretch(0)) is None  # there is room, and for a second nobody looks
        fill(tiny)
        assert writer._write(file, stretch(SECOND)) is RecordingDrop.ERROR
        assert "No space left" in writer.problem
        assert len(read_strictly(file.path)) == SECOND
        (tiny / "ballast").unlink()
        assert writer._write(file, stretch(2 * SECOND)) is RecordingDrop.ERROR, "it is tried again later"
        writer._failed_seconds -= RETRY_SECONDS
        assert writer._write(file, stretch(3 * SECOND)) is None
        assert writer.problem == ""
        assert len(read_strictly(file.path)) == 4 * SECOND
        file.close()


def test_folder_that_is_gone_costs_nothing_but_sound(tmp_path: Path) -> None:
    writer = writer_of(tmp_path / "there")
    (tmp_path / "there").rmdir()
    file = WavFile(tmp_path / "there" / "a.wav")
    assert writer.write(file, stretch(0))
    writer.finish(file)
    assert writer.close(10)
    assert writer.dropped_samples[RecordingDrop.ERROR] == SECOND
    assert "No such file" in writer.problem


def test_read_only_disk_costs_nothing_but_sound(tmp_path: Path) -> None:
    with tiny_folder(tmp_path, 2**20) as tiny:
        writer = writer_of(tiny)
        subprocess.run([shutil.which("mount") or "mount", "-o", "remount,ro", str(tiny)], check=True)
        assert writer._write(WavFile(tiny / "a.wav"), stretch(0)) is RecordingDrop.ERROR
        assert "Read-only file system" in writer.problem


class _StalledFolder(RecordingFolder):
    """A disk that does not answer until it may."""

    def __init__(self, path: Path, keep_seconds: float, max_bytes: int) -> None:
        super().__init__(path, keep_seconds, max_bytes)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def free_share(self) -> float:
        self.is_asked.set()
        assert self.may_answer.wait(30)
        return super().free_share()
