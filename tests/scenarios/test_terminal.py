"""`serve` on a terminal, as a person starts it for the first time."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.net.ports import outward_address
from common.runtime.release import RELEASE
from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, ServiceProcess
from tests.terminal import CTRL_C, Terminal


@contextmanager
def _serve(folder: Path, simulator: RealtimeSimulator, **settings: str) -> Iterator[Terminal]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {"PORT": "0", "ADMIN_PORT": "0", "WORKERS": "2", "OPENAI_API_KEY": KEY, "TERM": "xterm"}
    environment |= {"OPENAI_BASE_URL": simulator.url, "PYTHONPATH": ServiceProcess.pythonpath} | settings
    with Terminal([sys.executable, *ServiceProcess.program(), "serve"], environment, folder) as terminal:
        yield terminal


async def test_serve_shows_where_it_is_and_drains_at_ctrl_c(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    with _serve(tmp_path, simulator, DRAIN_SECONDS="600", STS_TOKEN="0123456789abcdef") as terminal:
        shown = await asyncio.to_thread(terminal.read_until, "twice ends now")
        log, _, banner = shown.partition(f"avr-sts-openai {RELEASE} takes calls.")
        assert "{" not in log
        assert log.count("worker listening") == 2  # everything listens
        (port,) = re.findall(rf"STS_URL  ws://{re.escape(outward_address())}:(\d+)\?token=\.\.\. ", banner)
        assert re.search(r"page     http://127\.0\.0\.1:\d+/ ", banner)
        assert "Ctrl-C drains for up to 600 s, twice ends now" in banner
        assert "0123456789abcdef" not in shown

        call = await place_call(f"ws://127.0.0.1:{port}?token=0123456789abcdef")
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        terminal.press(CTRL_C)
        await asyncio.to_thread(terminal.read_until, "\r\x1b[Kdraining: 1 call left, at most ")
        await call.hang_up()
        assert await asyncio.to_thread(terminal.end) == 0
    assert re.search(r"draining: \w+ calls? left, at most (600|5\d\d) s; Ctrl-C again ends now\r", terminal.shown)
    assert terminal.shown.rpartition("draining: ")[2].count("\r\x1b[K") == 1  # the line is removed at the end


async def test_second_ctrl_c_on_a_terminal_ends_now(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    with _serve(tmp_path, simulator, DRAIN_SECONDS="600") as terminal:
        shown = await asyncio.to_thread(terminal.read_until, "twice ends now")
        (port,) = re.findall(r"STS_URL  ws://\S+:(\d+) ", shown)
        call = await place_call(f"ws://127.0.0.1:{port}")
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        terminal.press(CTRL_C)
        await asyncio.to_thread(terminal.read_until, "draining: 1 call left")
        terminal.press(CTRL_C)
        assert await asyncio.to_thread(terminal.end) == 130
        await call.hang_up()


async def test_log_format_that_is_set_wins_over_the_terminal(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    with _serve(tmp_path, simulator, LOG_FORMAT="json") as terminal:
        shown = await asyncio.to_thread(terminal.read_until, "twice ends now")
    lines = [json.loads(line) for line in shown.splitlines() if line.startswith("{")]
    assert {"serving", "worker listening", "dispatcher listening"} <= {line["event"] for line in lines}
