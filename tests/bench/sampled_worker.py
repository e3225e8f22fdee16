"""`avr-sts-openai`, with an event loop that records its delay in the folder AVR_BENCH_LAG.

The service's metric measures once a second, which is too rare for a delay of half a second.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from pathlib import Path
from typing import Final

from prometheus_client import Histogram

from common.runtime import cli, process

FOLDER: Final = "AVR_BENCH_LAG"
SAMPLE_SECONDS: Final = 0.005
SAMPLE: Final = struct.Struct("<dd")
"""The time on the monotonic clock shared by all processes, and the delay."""
_NAME: Final = "lag"


def samples(folder: Path) -> list[tuple[float, float]]:
    """Return the recorded samples."""
    return [(at, late) for at, late in SAMPLE.iter_unpack((folder / _NAME).read_bytes())]


async def _write_lag(lag: Histogram, *, sample_seconds: float = SAMPLE_SECONDS) -> None:
    file = os.open(Path(os.environ[FOLDER], _NAME), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        due = time.monotonic() + sample_seconds
        await asyncio.sleep(sample_seconds)
        now = time.monotonic()
        os.write(file, SAMPLE.pack(now, max(0.0, now - due)))


if __name__ == "__main__":
    process.watch_event_loop = _write_lag
    sys.exit(cli.main())
