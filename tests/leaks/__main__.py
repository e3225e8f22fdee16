"""`python -m tests.leaks`: 2,000 short calls through one worker must leave nothing behind (exit code 1 if not)."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import uvloop

from tests.leaks.calls import leaks, measure
from tests.redis_process import RealRedis, find_redis_server


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Measure, and print the leaks."""
    parser = argparse.ArgumentParser(prog="python -m tests.leaks", description=__doc__)
    parser.add_argument("--calls", type=int, default=2000, metavar="N", help="(default: 2000)")
    calls = parser.parse_args().calls
    executable = find_redis_server()
    if executable is None:
        sys.exit("redis-server is missing: neither on PATH nor in the virtual environment")
    server = RealRedis(executable)
    began_seconds = time.monotonic()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            warm, after = runner.run(measure(server.url, calls, _say))
    finally:
        server.close()
    found = leaks(warm, after)
    for line in found:
        _say(f"LEAK: {line}")
    grown = after.worker.resident_bytes - warm.worker.resident_bytes
    _say(
        f"{calls} calls in {time.monotonic() - began_seconds:.0f} s; since the first {warm.calls} the worker has"
        f" grown by {grown / 1e6:.1f} MB; {len(found)} leaks"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
