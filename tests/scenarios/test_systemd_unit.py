"""The unit's start, reload and stop without systemd: its command, its variables and its signals."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import signal
import time
from pathlib import Path

from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.docs.blocks import REPOSITORY
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, ServiceProcess

UNIT = (REPOSITORY / "docs" / "systemd" / "avr-sts-openai.service").read_text("utf-8")
FOLDER = "/etc/avr-sts-openai/secrets"


async def test_unit_reloads_during_a_call_and_stops_in_its_time(tmp_path: Path) -> None:
    variables = dict(re.findall(rf"^Environment=(\w+)={FOLDER}/(\w+)$", UNIT, re.MULTILINE))
    (command,) = re.findall(r"^ExecStart=\S+ (\w+)$", UNIT, re.MULTILINE)
    (limit,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    for file in variables.values():
        (tmp_path / file).write_text("sk-first-of-the-test", "utf-8")
    simulated = dataclasses.replace(BRIEF, api_key="sk-first-of-the-test")
    async with RealtimeSimulator(simulated) as simulator:
        service = await ServiceProcess.start(
            command,
            PORT=0,
            ADMIN_PORT=0,
            WORKERS=1,
            OPENAI_BASE_URL=simulator.url,
            **{name: tmp_path / file for name, file in variables.items()},
        )
        try:
            line = await service.line("serving")
            await service.line("link up", process="dispatcher-0")
            call = await place_call(f"ws://127.0.0.1:{line['port']}/")
            await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
            (tmp_path / variables["OPENAI_API_KEY_FILE"]).write_text("sk-second-of-the-test", "utf-8")
            service.signal(signal.SIGHUP)
            await service.line("secrets reloaded", process="worker-0", changed=["OPENAI_API_KEY"])
            assert not call.closed.is_set()
            # systemd sends SIGTERM to the main process alone (KillMode=mixed). The call outlasts the drain.
            began = time.monotonic()
            service.signal(signal.SIGTERM)
            await call.closed.wait()
            assert await asyncio.wait_for(service.ended(), int(limit)) == 0
            assert time.monotonic() - began < int(limit)
        finally:
            await service.kill()
