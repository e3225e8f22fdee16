"""The command `avr-sts-openai demo`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

import aiohttp
import numpy as np
import numpy.typing as npt
import psutil
import pytest

from simulator.dialogue.dialogue import Dialogue, Say
from simulator.dialogue.reader import BUNDLED, read_dialogue
from tests.helpers import send_signals
from tests.scenarios.processes import PATIENCE_SECONDS, wait_gone
from tests.simulator.dialogue.files import write_dialogue

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_DEMO: Final = (sys.executable, "-m", "common.runtime.cli", "demo")
RATE_HZ: Final = 8000
# Frames of 20 ms, and the busy machine of a test: a frame may be late.
NEAR_SECONDS: Final = 0.15

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What the demo left."""

    shown: str
    caller: Samples
    agent: Samples
    picture: ET.Element
    record: dict[str, Any]
    dialogue: Dialogue

    def spans(self, kind: str, **wanted: str) -> list[tuple[float, float]]:
        """Return the times of the picture's parts of a kind."""
        return [
            (float(each.attrib["data-start"]), float(each.attrib["data-end"]))
            for each in self.picture.iter()
            if each.get("data-kind") == kind
            and all(each.get(f"data-{name}") == value for name, value in wanted.items())
        ]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Run the demo once, with settings of a real service around it."""
    folder = tmp_path_factory.mktemp("demo")
    meant_for_another = {
        "PYTHONPATH": str(_REPOSITORY),
        "TOOLS_DIR": "/nowhere",
        "ami_url": "http://203.0.113.1:1",
        "CALL_RECORDS_DIR": "/nowhere",
        "RECORDINGS_DIR": "/nowhere",
        "TENANTS": "/nowhere",
        "MAX_CALL_SECONDS": "1",
        "STRICT_SETTINGS": "true",
        "OPENAI_API_KEY_FILE": "/nowhere",
    }
    run = subprocess.run(
        _DEMO,
        env=os.environ | meant_for_another,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (run.returncode, run.stderr) == (0, "")
    out = folder / "demo-out"
    with wave.open(str(out / "call.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE_HZ, 2, 2)
        channels = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").reshape(-1, 2).astype(np.float64)
    return Result(
        run.stdout,
        channels[:, 0],
        channels[:, 1],
        ET.parse(out / "timeline.svg").getroot(),  # noqa: S314 - our own file
        json.loads((out / "record.json").read_text("utf-8")),
        asyncio.run(read_dialogue(BUNDLED)),
    )


def _find(channel: Samples, line: bytes) -> tuple[float, float]:
    """Return where a line is in a channel (seconds), and how like the line the channel is there (1: the same)."""
    wanted = np.frombuffer(line, "<i2").astype(np.float64)
    size = len(channel) + len(wanted)
    product = np.fft.irfft(np.fft.rfft(channel, size) * np.conj(np.fft.rfft(wanted, size)), size)
    energy = np.convolve(channel**2, np.ones(len(wanted)), "valid")
    likeness = product[: len(energy)] / np.sqrt(np.maximum(energy, 1.0) * np.sum(wanted**2))
    at = int(np.argmax(likeness))
    return at / RATE_HZ, float(likeness[at])


def _level(channel: Samples, start: float, end: float) -> float:
    """Return the RMS level between two times, in dBFS."""
    part = channel[round(start * RATE_HZ) : round(end * RATE_HZ)]
    return float(20 * np.log10(max(1e-9, np.sqrt(np.mean(part**2)) / 32768)))


def test_caller_channel_has_each_line_where_the_picture_says(result: Result) -> None:
    lines = [each.act.line for each in result.dialogue.exchanges if isinstance(each.act, Say)]
    spans = result.spans("spoken", role="caller")
    assert len(spans) == len(lines) == 3
    for line, (start, end) in zip(lines, spans, strict=True):
        at, likeness = _find(result.caller, line.pcm)
        assert likeness > 0.99
        assert at == pytest.approx(start, abs=NEAR_SECONDS)
        assert end - start == pytest.approx(line.seconds, abs=NEAR_SECONDS)


def test_agent_channel_has_each_line_where_the_picture_says(result: Result) -> None:
    lines = [line for each in result.dialogue.exchanges for line in each.agent_lines]
    spans = result.spans("spoken", role="agent")
    assert len(spans) == len(lines) == 4
    for line, (start, end) in zip(lines, spans, strict=True):
        heard = line.pcm[: round((end - start - NEAR_SECONDS) * RATE_HZ) * 2]
        at, likeness = _find(result.agent, heard)
        assert likeness > 0.9
        assert at == pytest.approx(start, abs=NEAR_SECONDS)


def test_interrupted_line_ends_early_and_is_silent_then(result: Result) -> None:
    act = result.dialogue.exchanges[2].act
    assert isinstance(act, Say)
    line = result.dialogue.exchanges[1].agent_lines[0]
    start, end = result.spans("spoken", role="agent")[1]
    interrupted = result.spans("spoken", role="caller")[1][0]
    assert end - start < line.seconds - 2
    assert act.interrupts_after_seconds is not None
    assert start + act.interrupts_after_seconds - NEAR_SECONDS < interrupted < end
    after = result.spans("spoken", role="agent")[2][0]
    assert _level(result.agent, start, end) > -30
    assert _level(result.agent, end + NEAR_SECONDS, after - NEAR_SECONDS) < -80
    (cut,) = (each for each in result.picture.iter() if each.get("class") == "cut")
    assert float(cut.attrib["data-seconds"]) == pytest.approx(line.seconds - (end - start), abs=NEAR_SECONDS)


def test_transcripts_are_the_words_that_were_heard(result: Result) -> None:
    said = [(each["role"], each["text"]) for each in result.record["said"]]
    wanted: list[tuple[str, str]] = []
    for each in result.dialogue.exchanges:
        if isinstance(each.act, Say):
            wanted.append(("user", each.act.line.text))
        wanted += [("agent", line.text) for line in each.agent_lines]
    whole = wanted[2][1]
    heard = said[2][1]
    assert whole.startswith(heard)
    assert 0.3 < len(heard) / len(whole) < 0.6
    assert [*said[:2], wanted[2], *said[3:]] == wanted
    for _, text in said:
        assert text in result.shown
    struck = [each.text or "" for each in result.picture.iter() if each.get("text-decoration") == "line-through"]
    assert f"{heard} {' '.join(struck)}" == whole


def test_tools_and_transfer_are_in_table_picture_and_record(result: Result) -> None:
    assert [(tool["name"], tool["outcome"]) for tool in result.record["tools"]] == [
        ("find_table", "completed"),
        ("book_table", "completed"),
    ]
    assert (result.record["reason"], result.record["interruptions"], result.record["turns"]) == (
        "transferred",
        1,
        3,
    )
    names = [each.attrib["data-name"] for each in result.picture.iter() if each.get("data-kind") == "tool"]
    assert names == ["find_table", "book_table", "avr_transfer"]
    find, book, transfer = result.spans("tool")
    caller, agent = result.spans("spoken", role="caller"), result.spans("spoken", role="agent")
    for (start, end), before, after, seconds in (
        (find, caller[0], agent[1], 0.4),
        (book, caller[1], agent[2], 0.6),
    ):
        assert before[1] < start < end < after[0]
        assert end - start >= seconds
    assert transfer[1] >= agent[3][1] - NEAR_SECONDS, "the caller has heard the last words"
    for row in (r"tool +find_table completed, \d+ ms", r"tool +avr_transfer to 600, \d\.\d\d s"):
        assert re.search(row, result.shown)


def test_waits_reach_from_the_callers_end_to_the_agent(result: Result) -> None:
    caller, agent = result.spans("spoken", role="caller"), result.spans("spoken", role="agent")
    waits = result.spans("wait")
    assert waits[0] == (0.0, agent[0][0])
    assert waits[1:] == [(said[1], answer[0]) for said, answer in zip(caller, agent[1:], strict=True)]
    shown = re.search(r"answers +(.*) s after the caller's last sound", result.shown)
    assert shown is not None
    assert [float(each.removesuffix(" s")) for each in shown[1].split(", ")] == [
        pytest.approx(end - start, abs=0.006) for start, end in waits[1:]
    ]


def test_table_names_the_files_and_who_held_the_call(result: Result) -> None:
    for words in ("demo-out/call.wav", "demo-out/timeline.svg", "demo-out/record.json", "held by", "tokens"):
        assert words in result.shown
    assert "worker unknown" not in result.shown


async def _demo(folder: Path, *options: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*_DEMO, *options),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(_REPOSITORY), "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _read_until(process: asyncio.subprocess.Process, beginning: bytes) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        while not lines or not lines[-1].startswith(beginning.decode()):
            line = await process.stdout.readline()
            assert line, "the demo has ended"
            lines.append(line.decode())
    return lines


@pytest.mark.parametrize("times", [1, 3])
async def test_ctrl_c_ends_the_demo_without_traceback(tmp_path: Path, times: int) -> None:
    process = await _demo(tmp_path)
    await _read_until(process, b"2. placing a call")
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        family = [*psutil.Process(process.pid).children(recursive=True)]
        assert len(family) >= 4
        send_signals(process, signal.SIGINT, times)
        _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors in ({b""} if times == 1 else {b"", b"interrupted\n"})
    await wait_gone(family)
    assert [*tmp_path.glob("avr-sts-demo-*")] == []  # noqa: ASYNC240 - one look at a local directory


OWN: Final = """
steps:
  - agent: Please enter your number.
    wav: caller.wav
  - keys: 47#
  - tool: look_up
    arguments: {number: "47"}
  - agent: It arrives on Monday.
    wav: caller.wav
  - tool: avr_hangup
"""
TOOL: Final = """
name = "look_up"
description = "Looks up a number"
input_schema = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}


async def handler(uuid, args):
    return f"{args['number']} arrives on Monday"
"""


async def test_demo_that_stays_holds_more_calls_until_ctrl_c(tmp_path: Path) -> None:
    write_dialogue(tmp_path, OWN)
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "look_up.py").write_text(TOOL)
    process = await _demo(tmp_path, "--script", "dialogue.yaml", "--stay")
    lines = await _read_until(process, b"4. staying")
    shown = "".join(lines)
    for row in (r"tool +look_up completed, \d+ ms\n", r"tool +avr_hangup done, ", "agent:  It arrives on Monday."):
        assert re.search(row, shown), shown
    record = json.loads((tmp_path / "demo-out" / "record.json").read_text("utf-8"))
    assert (record["reason"], record["keys"], record["metadata"]) == (
        "agent_hung_up",
        3,
        {"from": "100", "to": "600"},
    )
    (page,) = re.findall(r"4\. staying: (http://127\.0\.0\.1:\d+/) shows the calls", lines[-1])
    async with aiohttp.ClientSession() as http:
        async with http.get(page) as response:
            assert "<html" in await response.text()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with http.get(f"{page}calls") as response:
                    if any(call["metadata"].get("from") == "101" for call in await response.json()):
                        break
                await asyncio.sleep(0.05)
    family = [*psutil.Process(process.pid).children(recursive=True)]
    send_signals(process, signal.SIGINT, 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert (process.returncode, output, errors) == (0, b"stopping\n", b"")
    await wait_gone(family)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "demo: dialogue.yaml: it cannot be read: No such file or directory\n"),
        (
            "steps:\n- agnet: Hello.\n",
            "demo: dialogue.yaml, line 2: there is no step 'agnet': did you mean 'agent'?\n",
        ),
    ],
)
async def test_wrong_script_ends_the_demo_with_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "dialogue.yaml").write_text(content)
    process = await _demo(tmp_path, "--script", "dialogue.yaml")
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert (process.returncode, output, errors.decode()) == (1, b"", message)


async def test_demo_without_a_folder_for_the_result_fails_at_once(tmp_path: Path) -> None:
    (tmp_path / "demo-out").write_text("a file")
    process = await _demo(tmp_path)
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert errors.decode() == (
        f"demo: {tmp_path}/demo-out cannot be written (File exists): start the demo in a folder of your own\n"
    )
