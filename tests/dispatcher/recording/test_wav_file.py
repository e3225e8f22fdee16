"""Files of recordings: valid at every write, private, and repaired after a failure of the power."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from dispatcher.recording import wav_file
from dispatcher.recording.wav_file import WavFile, header, repair
from tests.dispatcher.recording.strict_wav import frames_of, read_strictly

FRAMES = (1 + np.arange(2000) % 30_000).astype("<i2").tobytes()  # a thousand frames


def test_file_is_valid_after_each_write(tmp_path: Path) -> None:
    file = WavFile(tmp_path / "a.wav")
    for number in range(4):
        file.write(number * 1000, FRAMES)
        assert len(read_strictly(file.path)) == (number + 1) * 1000
    file.close()
    assert (read_strictly(file.path).tobytes()) == 4 * FRAMES
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_stretch_that_was_left_out_is_silence(tmp_path: Path) -> None:
    file = WavFile(tmp_path / "a.wav")
    file.write(3000, FRAMES)
    recorded = read_strictly(file.path)
    assert not recorded[:3000].any()
    assert recorded[3000:].tobytes() == FRAMES


def test_file_is_valid_when_killed_at_any_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write of the system is replayed in parts: the bytes of samples one by one, the header at once."""
    writes: list[tuple[int, bytes]] = []
    real_pwrite = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        writes.append((offset, bytes(data)))
        return real_pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    file = WavFile(tmp_path / "a.wav")
    for number in range(3):
        file.write(number * 100, FRAMES[:400])
    file.write(500, FRAMES[:400])  # behind a gap
    content = bytearray()
    whole = 0
    assert writes[0] == (0, header(0)), "the header is there before the file has its name"
    for offset, data in writes:
        if offset == 0:
            assert len(data) == wav_file.HEADER_BYTES, "one write within the first page"
            content[:44] = data
            recorded = frames_of(bytes(content))
            assert len(recorded) >= whole
            whole = len(recorded)
            continue
        content.extend(bytes(max(0, offset - len(content))))
        for position, byte in enumerate(data, start=offset):
            content[position : position + 1] = bytes([byte])
            assert len(frames_of(bytes(content))) == whole
    assert whole == 600


def test_header_that_promises_too_much_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(header(40_000) + FRAMES + b"\1")
    with path.open("r+b") as file:
        assert repair(file.fileno())
        assert not repair(file.fileno())
    assert read_strictly(path).tobytes() == FRAMES


def test_samples_that_no_header_counts_are_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(header(400) + FRAMES)
    with path.open("r+b") as file:
        assert repair(file.fileno())
    assert read_strictly(path).tobytes() == FRAMES


def test_file_is_locked_while_it_is_written(tmp_path: Path) -> None:
    file = WavFile(tmp_path / "a.wav")
    file.write(0, FRAMES)
    with file.path.open("rb") as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.close()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_file_that_cannot_be_created_leaves_nothing(tmp_path: Path) -> None:
    file = WavFile(tmp_path / "missing" / "a.wav")
    with pytest.raises(FileNotFoundError):
        file.write(0, FRAMES)
    file.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", [b"", b"RIFF" + bytes(39), b"RIFX" + bytes(40)])
def test_other_files_have_no_length(head: bytes) -> None:
    assert wav_file.data_bytes_of(head) is None
