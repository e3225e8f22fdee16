from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dispatcher.records.record_file import FOLDER_LOCK, RecordFile, folder_lock
from tests.tiny_folder import fill, tiny_folder

LINE = b'{"id":"record-1"}'


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != FOLDER_LOCK}


def test_records_are_lines_of_a_private_file(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "host/1:dispatcher-0")
    file.write([LINE, LINE])
    file.write([LINE])
    assert files(tmp_path) == {"calls-host-1-dispatcher-0.jsonl": (LINE + b"\n") * 3}
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    file.close()


def test_successor_continues_the_file(tmp_path: Path) -> None:
    first = RecordFile(tmp_path, "d")
    first.write([LINE])
    first.close()
    second = RecordFile(tmp_path, "d")
    second.write([LINE])
    second.close()
    assert files(tmp_path) == {"calls-d.jsonl": (LINE + b"\n") * 2}


@pytest.mark.parametrize("torn", [b'{"id":', b"x" * 200_000])
@pytest.mark.parametrize("before", [b"", LINE + b"\n"])
def test_torn_line_of_a_killed_process_is_removed(tmp_path: Path, before: bytes, torn: bytes) -> None:
    (tmp_path / "calls-d.jsonl").write_bytes(before + torn)
    file = RecordFile(tmp_path, "d")
    file.write([LINE])
    file.close()
    assert files(tmp_path) == {"calls-d.jsonl": before + LINE + b"\n"}


def test_two_processes_of_one_name_have_two_files(tmp_path: Path) -> None:
    one, other = RecordFile(tmp_path, "d"), RecordFile(tmp_path, "d")
    one.write([LINE])
    other.write([LINE])
    one.write([LINE])
    assert files(tmp_path) == {"calls-d.jsonl": (LINE + b"\n") * 2, "calls-d-1.jsonl": LINE + b"\n"}
    one.close()
    other.close()


def test_file_is_rotated_by_size(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "d", max_bytes=2 * len(LINE) + 2)
    for _ in range(5):
        file.write([LINE])
    file.close()
    found = files(tmp_path)
    assert sorted(len(content.splitlines()) for content in found.values()) == [1, 2, 2]
    assert found["calls-d.jsonl"] == LINE + b"\n"
    assert all(name.startswith("calls-d") for name in found)


def test_file_of_another_day_is_rotated(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "d")
    file.write([LINE])
    os.utime(tmp_path / "calls-d.jsonl", (1_700_000_000, 1_700_000_000))
    file.write([LINE])
    file.close()
    assert sorted(files(tmp_path).values()) == [LINE + b"\n"] * 2


def test_removed_file_is_made_again(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "d")
    file.write([LINE])
    (tmp_path / "calls-d.jsonl").unlink()
    file.write([LINE])
    file.close()
    assert files(tmp_path) == {"calls-d.jsonl": LINE + b"\n"}


def test_write_waits_while_files_are_rewritten(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "d")
    file.write([LINE])
    writer = threading.Thread(target=file.write, args=([LINE],))
    with folder_lock(tmp_path, exclusive=True):
        writer.start()
        # As `erase` does it.
        (tmp_path / "new").write_bytes(b"")
        (tmp_path / "new").replace(tmp_path / "calls-d.jsonl")
    writer.join(30)
    file.close()
    assert files(tmp_path) == {"calls-d.jsonl": LINE + b"\n"}


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"")
    (tmp_path / "calls-d.jsonl").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        RecordFile(tmp_path, "d").write([LINE])


def test_killed_writer_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dispatcher.records.record_file import RecordFile\n"
        "file = RecordFile(Path(sys.argv[1]), 'd')\n"
        "while True:\n"
        "    file.write([b'{\"id\":\"' + b'x' * 50_000 + b'\"}'] * 3)\n"
        "    print('.', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.read(2)
        writer.kill()
    file = RecordFile(tmp_path, "d")
    file.write([LINE])
    file.close()
    *lines, last = files(tmp_path)["calls-d.jsonl"].splitlines()
    assert len(lines) >= 9
    assert {len(line) for line in lines} == {50_009}
    assert last == LINE


def test_full_disk_leaves_no_part_of_a_record(tmp_path: Path) -> None:
    with tiny_folder(tmp_path, 1 << 16) as folder:
        file = RecordFile(folder, "d")
        file.write([LINE])
        fill(folder)
        with pytest.raises(OSError, match="No space left"):
            file.write([b"x" * 5000])
        (folder / "ballast").unlink()
        file.write([LINE])
        file.close()
        assert files(folder) == {"calls-d.jsonl": (LINE + b"\n") * 2}
