"""The command `avr-sts-openai demo`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import wave
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.helpers import send_signals
from tests.scenarios.processes import PATIENCE_SECONDS, wait_gone

_REPOSITORY = Path(__file__).resolve().parents[2]


async def test_the_demo_shows_a_call_and_saves_what_the_caller_heard(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "common.runtime.cli",
        "demo",
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


@pytest.mark.parametrize("times", [1, 3])
async def test_ctrl_c_ends_the_demo_without_traceback(tmp_path: Path, times: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "common.runtime.cli", "demo"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(_REPOSITORY), "TMPDIR": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        while not (await process.stdout.readline()).startswith(b"2. placing a call"):
            pass
        family = [*psutil.Process(process.pid).children(recursive=True)]
        assert len(family) >= 4
        send_signals(process, signal.SIGINT, times)
        _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors in ({b""} if times == 1 else {b"", b"interrupted\n"})
    await wait_gone(family)
    assert [*tmp_path.glob("avr-sts-demo-*")] == []  # noqa: ASYNC240 - one look at a local directory


async def test_demo_without_a_folder_for_the_result_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "demo-out").write_text("a file")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "common.runtime.cli", "demo"),
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(_REPOSITORY)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.decode() == (
        f"demo: {tmp_path}/demo-out cannot be written (File exists): start the demo in a folder of your own\n"
    )
