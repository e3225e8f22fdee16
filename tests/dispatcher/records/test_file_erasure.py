from __future__ import annotations

import argparse
import threading
from pathlib import Path

import orjson
import pytest

from common.errors import SettingsError
from dispatcher.records import file_erasure
from dispatcher.records.file_erasure import Erased, erase
from dispatcher.records.record_file import FOLDER_LOCK, RecordFile
from tests.dispatcher.records.samples import call_record


def line(number: int) -> bytes:
    return call_record(number).encoded() + b"\n"


def numbers(path: Path) -> list[str]:
    return [orjson.loads(each)["id"] for each in path.read_bytes().splitlines()]


def test_records_of_a_number_are_erased_in_all_files(tmp_path: Path) -> None:
    (tmp_path / "calls-a.jsonl").write_bytes(line(1) + line(2) + line(1))
    (tmp_path / "calls-a-20261130T120000Z.jsonl").write_bytes(line(1))
    (tmp_path / "calls-b.jsonl").write_bytes(line(3))
    (tmp_path / "other.jsonl").write_bytes(line(1))
    assert erase(tmp_path, number="0039 02 123 00001") == Erased(records=3, files=2)
    assert numbers(tmp_path / "calls-a.jsonl") == ["record-0002"]
    assert numbers(tmp_path / "calls-a-20261130T120000Z.jsonl") == []
    assert numbers(tmp_path / "calls-b.jsonl") == ["record-0003"]
    assert numbers(tmp_path / "other.jsonl") == ["record-0001"]


def test_record_of_a_call_is_erased(tmp_path: Path) -> None:
    (tmp_path / "calls-a.jsonl").write_bytes(line(1) + line(2))
    assert erase(tmp_path, uuid="uuid-0002") == Erased(records=1, files=1)
    assert numbers(tmp_path / "calls-a.jsonl") == ["record-0001"]


def test_file_without_such_a_record_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "calls-a.jsonl"
    path.write_bytes(line(1) + b"no record\n[]\n")
    before = path.stat()
    assert erase(tmp_path, uuid="uuid-0009") == Erased(unreadable=2)
    assert path.stat().st_ino == before.st_ino
    assert {each.name for each in tmp_path.iterdir()} == {"calls-a.jsonl", FOLDER_LOCK}


def test_torn_line_goes_because_its_record_comes_again(tmp_path: Path) -> None:
    (tmp_path / "calls-a.jsonl").write_bytes(line(1) + line(2)[:50])
    erase(tmp_path, uuid="uuid-0009")
    assert (tmp_path / "calls-a.jsonl").read_bytes() == line(1)


def test_rewritten_file_stays_private_and_as_old(tmp_path: Path) -> None:
    path = tmp_path / "calls-a.jsonl"
    path.write_bytes(line(1) + line(2))
    before = path.stat()
    erase(tmp_path, uuid="uuid-0001")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_rest_of_a_killed_erasure_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".calls-a.jsonl.erasing").write_bytes(line(1))
    (tmp_path / "calls-a.jsonl").write_bytes(line(1))
    erase(tmp_path, uuid="uuid-0001")
    assert {each.name for each in tmp_path.iterdir()} == {"calls-a.jsonl", FOLDER_LOCK}


def test_no_record_is_lost_while_a_process_writes(tmp_path: Path) -> None:
    file = RecordFile(tmp_path, "a")
    total = 300

    def write() -> None:
        for number in range(total):
            file.write([line(number)[:-1]])

    writer = threading.Thread(target=write)
    writer.start()
    erased: set[int] = set()
    number = 0
    while writer.is_alive():
        if erase(tmp_path, uuid=f"uuid-{number:04}").records:
            erased.add(number)
            number += 7
    writer.join()
    file.close()
    found = [record for path in tmp_path.glob("calls-*.jsonl") for record in numbers(path)]
    assert sorted(found) == [f"record-{each:04}" for each in range(total) if each not in erased]


class TestCommand:
    def options(self, **given: object) -> argparse.Namespace:
        return argparse.Namespace(**({"number": None, "uuid": None, "dir": None} | given))

    def test_command_says_how_many(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "calls-a.jsonl").write_bytes(line(1) + line(2))
        assert file_erasure.run(self.options(uuid="uuid-0001", dir=tmp_path)) == 0
        assert capsys.readouterr().out == f"erased 1 records in 1 files of {tmp_path}\n"

    def test_folder_comes_from_the_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "records"
        folder.mkdir()
        (folder / "calls-a.jsonl").write_bytes(line(1))
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text(f"CALL_RECORDS_DIR={folder}\n")
        assert file_erasure.run(self.options(number="+390212300001")) == 0
        assert "erased 1 records" in capsys.readouterr().out

    def test_missing_folder_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("CALL_RECORDS_DIR", raising=False)
        with pytest.raises(SettingsError, match="CALL_RECORDS_DIR is not set"):
            file_erasure.run(self.options(uuid="a"))
        with pytest.raises(SettingsError, match="is no folder"):
            file_erasure.run(self.options(uuid="a", dir=tmp_path / "missing"))
