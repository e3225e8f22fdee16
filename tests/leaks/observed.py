"""A sub-command of the service that also reports its process's resources on SIGRTMIN.

    python -m tests.leaks.observed worker

The census is a line on stderr among the log lines: unfinished tasks, open files, threads, resident memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import orjson
import psutil

from common.runtime.cli import main


def _census(_number: int, _frame: FrameType | None) -> None:
    gc.collect()
    # Freed memory returns to the system, so that resident memory is in use (glibc alone has this).
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    tasks = sum(1 for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done())
    line = {
        "event": "census",
        "tasks": tasks,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "resident_bytes": psutil.Process().memory_info().rss,
    }
    os.write(sys.stderr.fileno(), orjson.dumps(line) + b"\n")


if __name__ == "__main__":
    signal.signal(signal.SIGRTMIN, _census)
    sys.exit(main(sys.argv[1:]))
