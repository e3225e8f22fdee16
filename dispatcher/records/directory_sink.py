"""The folder CALL_RECORDS_DIR as a sink. A thread of its own writes, because a disk may be slow."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dispatcher.records.record_file import RecordFile
from dispatcher.records.sink import DELIVERED, Delivery, Outcome, Verdict

NAME: Final = "dir"
MAX_BATCH: Final = 100


class DirectorySink:
    """A file in CALL_RECORDS_DIR."""

    name = NAME
    batch = MAX_BATCH
    parallel = 1

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="call-records")

    async def deliver(self, records: Sequence[Delivery]) -> Outcome:
        """Append records to the file."""
        lines = [record.body for record in records]
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._file.write, lines)
        except OSError as error:
            return Outcome(Verdict.FAILED, os.strerror(error.errno or errno.EIO))
        return DELIVERED

    async def aclose(self) -> None:
        """Close the file. A disk that hangs keeps the thread, which does not delay the end of the process."""
        self._thread.submit(self._file.close)
        self._thread.shutdown(wait=False)
