"""A stalled reader of stderr loses log lines, but no call is affected."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from common.net.ports import ALL_ADDRESSES, bound_socket, port_of
from simulator.avr.connection import CallError
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, KEY, PATIENCE_SECONDS, PYTHONPATH
from tests.scenarios.tones import tone


def full_pipe() -> tuple[int, int]:
    """Return the reading and the writing end of a full pipe."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    for size in (4096, 1):
        try:
            while True:
                os.write(write_fd, b"\n" * size)
        except BlockingIOError:
            pass
    os.set_blocking(write_fd, True)
    return read_fd, write_fd


@asynccontextmanager
async def _serve(
    simulator: RealtimeSimulator, output: int, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    settings = {
        "PORT": str(port),
        "ADMIN_PORT": "0",
        "WORKERS": "1",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": simulator.url,
        "FALLBACK_WAV": "none",  # a call before the worker has started would end at once
        "LOG_LEVEL": "debug",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "common.runtime.cli", "serve"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH} | settings,
        cwd=tempfile.gettempdir(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True)] if process.returncode is None else []:
            each.kill()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _agent_has_spoken(call: SimulatedCall, *, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def test_calls_continue_while_stderr_and_stdout_are_unread() -> None:
    """Test also the debug level, at which each event of the API is a line, and the end of `serve`."""
    read_fd, write_fd = full_pipe()
    with bound_socket(ALL_ADDRESSES, 0, variable="PORT") as free:
        port = port_of(free)
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        _serve(simulator, write_fd, port) as serve,
    ):
        os.close(write_fd)

        calls: list[SimulatedCall] = []

        async def greeted() -> bool:
            with contextlib.suppress(CallError):  # the dispatcher does not listen yet, or has no worker yet
                call = await place_call(f"ws://127.0.0.1:{port}/")
                await _agent_has_spoken(call, times=1)
                calls.append(call)
            return bool(calls)

        await eventually(greeted, PATIENCE_SECONDS)
        await calls[0].say(tone(500, 1.0))
        await _agent_has_spoken(calls[0], times=2)

        # The end of `serve` is bounded, too, while the reader is stalled.
        serve.send_signal(signal.SIGTERM)
        serve.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await serve.wait()
    with os.fdopen(read_fd, "rb") as pipe:
        written = [line for line in pipe.read().splitlines() if line]
    assert all(json.loads(line)["event"] for line in written[:-1])
