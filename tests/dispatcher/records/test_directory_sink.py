from __future__ import annotations

import asyncio
from pathlib import Path

from dispatcher.records.directory_sink import DirectorySink
from dispatcher.records.record_file import RecordFile, folder_lock
from dispatcher.records.sink import DELIVERED, Delivery, Outcome, Verdict

RECORD = Delivery("record-1", b'{"id":"record-1"}')


async def test_records_are_written(tmp_path: Path) -> None:
    sink = DirectorySink(RecordFile(tmp_path, "d"))
    assert await sink.deliver([RECORD, RECORD]) == DELIVERED
    await sink.aclose()
    assert (tmp_path / "calls-d.jsonl").read_bytes() == (RECORD.body + b"\n") * 2


async def test_folder_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    sink = DirectorySink(RecordFile(tmp_path / "gone", "d"))
    assert await sink.deliver([RECORD]) == Outcome(Verdict.FAILED, "No such file or directory")
    (tmp_path / "gone").mkdir()
    assert await sink.deliver([RECORD]) == DELIVERED
    await sink.aclose()


async def test_event_loop_runs_while_the_disk_hangs(tmp_path: Path) -> None:
    sink = DirectorySink(RecordFile(tmp_path, "d"))
    with folder_lock(tmp_path, exclusive=True):
        delivery = asyncio.create_task(sink.deliver([RECORD]))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not delivery.done()
    assert await delivery == DELIVERED
    await sink.aclose()
