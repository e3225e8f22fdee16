"""`make demo`, as a newcomer runs it."""

from __future__ import annotations

import asyncio
import os
import sys
import wave
from pathlib import Path

import numpy as np

from tests.scenarios.processes import PATIENCE_SECONDS

_REPOSITORY = Path(__file__).resolve().parents[2]


async def test_the_demo_shows_a_call_and_saves_what_the_caller_heard(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator.demo",
        env=os.environ | {"PYTHONPATH": str(_REPOSITORY)},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0
    shown = output.decode()
    for word in ("agent:", "user:", "greeting", "answers", "tokens", "held call"):
        assert word in shown
    with wave.open(str(tmp_path / "demo-out" / "heard.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(float)
    assert np.count_nonzero(np.abs(samples) > 1000) > 8000, "a second of the agent at least"
