"""The command `chat` as a process, in a pipe and on a terminal, against the simulated Realtime API."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import orjson
import pytest

from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, PYTHONPATH
from tests.terminal import CTRL_C, Terminal

CTRL_D = b"\x04"
TOOL = """
name = "opening_hours"
description = "Tells when the shop is open"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
async def handler(uuid, args, metadata): return f"open on {args['day']}, {metadata['from']}"
"""
PIN_TOOL = """
name = "check_pin"
description = "Checks the caller's PIN"
async def handler(uuid, args):
    return "accepted" if await digits("Please enter your PIN", 4, 20) == "7391" else "wrong"
"""
PROGRAM = (sys.executable, "-P", "-m", "common.runtime.cli")


def calling(*names: str, **arguments: str) -> str:
    """Return instructions for a model that calls one tool in each turn."""
    calls = [{"turn": turn, "name": name, "arguments": arguments} for turn, name in enumerate(names, 1) if name]
    return f"simulator: {orjson.dumps({'tool_calls': calls}).decode()}"


def environment(url: str, **variables: str) -> dict[str, str]:
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "TERM": "xterm"}
    return given | {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url} | variables


async def chat(
    folder: Path, url: str, typed: str | bytes, *arguments: str, **variables: str
) -> tuple[int, str, str]:
    """Return the exit code, the agent's words, and the notes."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "chat", *arguments),
        cwd=folder,
        env=environment(url, **variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    given = typed.encode() if isinstance(typed, str) else typed
    words, notes = await asyncio.wait_for(process.communicate(given), PATIENCE_SECONDS)
    assert process.returncode is not None
    return process.returncode, words.decode(), notes.decode()


@asynccontextmanager
async def simulator_process() -> AsyncIterator[str]:
    """Run `simulate` as a process, and yield its URL."""
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "simulate", "--port", "0", "--first-audio-seconds", "0.05"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS)
        yield line.decode().split()[-1]
    finally:
        process.terminate()
        await process.wait()


async def test_piped_lines_are_turns_with_tools_and_tokens(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/opening_hours.py").write_text(TOOL, "utf-8")
    async with simulator_process() as url:
        code, words, notes = await chat(
            tmp_path,
            url,
            "When are you open, on xylophone day?\nThanks",
            *("--metadata", '{"from": "+390212"}'),
            OPENAI_INSTRUCTIONS=calling("opening_hours", day="Monday"),
            LOG_LEVEL="debug",
        )
    assert code == 0, notes
    greeting, first, second = words.splitlines()
    assert greeting.startswith("greeting")
    assert "turn one" in first
    assert "turn two" in second
    assert '[tool opening_hours {"day":"Monday"} ...]' in notes
    assert re.search(r"\[tool opening_hours: completed after \d\.\d\d s: open on Monday, \+390212\]", notes)
    assert re.search(r"\[0\.\d\d s to the first audio, [\d,]+ tokens in .* out .*, \$0\.0\d+\]", notes)
    assert re.search(r"\[2 turns: [\d,]+ tokens in \([\d,]+ cached\), \d+ out", notes)
    assert "xylophone" not in notes, "words of the caller are in the log"
    assert KEY not in notes + words


async def test_transfer_is_shown_and_ends_the_conversation(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    instructions = calling("avr_transfer", transfer_extension="600")
    code, words, notes = await chat(tmp_path, simulator.url, "People\nHello?\n", OPENAI_INSTRUCTIONS=instructions)
    assert code == 0, notes
    assert "[the agent transfers the caller to 600@demo:" in notes
    assert "[1 turn: " in notes
    assert len(words.splitlines()) == 1


async def test_hang_up_ends_the_conversation(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    code, _, notes = await chat(
        tmp_path, simulator.url, "Bye\nHello?\n", OPENAI_INSTRUCTIONS=calling("avr_hangup")
    )
    assert (code, "[the agent hangs up:" in notes, "[1 turn: " in notes) == (0, True, True), notes


async def test_refused_transfer_is_told_and_the_agent_answers(
    simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    instructions = calling("avr_transfer", transfer_extension="0900123456")
    code, words, notes = await chat(tmp_path, simulator.url, "People", OPENAI_INSTRUCTIONS=instructions)
    assert code == 0
    assert "[tool avr_transfer: not run: refused: callers may not be transferred to 0900123456@demo." in notes
    assert len(words.splitlines()) == 2


async def test_wrong_key_is_an_error_in_words(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    simulator.faults.refuse(401)
    code, words, notes = await chat(tmp_path, simulator.url, "Hello")
    assert (code, words) == (1, "")
    assert "[the conversation failed: " in notes
    assert "OPENAI_API_KEY" in notes
    assert "Traceback" not in notes


async def test_api_that_cannot_be_reached_is_given_up(tmp_path: Path) -> None:
    code, _, notes = await chat(tmp_path, "ws://127.0.0.1:1", "Hello", UPSTREAM_RETRY_SECONDS="1")
    assert (code, "check OPENAI_BASE_URL" in notes) == (1, True), notes


async def test_session_that_drops_ends_with_1(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    chatting = asyncio.create_task(
        chat(tmp_path, simulator.url, "", OPENAI_INSTRUCTIONS='simulator: {"greeting_words": 500}')
    )
    session = await simulator.wait_for_session()
    await simulator.wait_for(lambda _: session.responses)
    simulator.faults.drop(session)
    code, _, notes = await chatting
    assert (code, "a telephone call would go on in another session" in notes) == (1, True), notes


@pytest.mark.parametrize("typed", ["", "\n \n", "/quit\nWhat?\n", "/help\n"])
async def test_conversation_without_a_turn_ends_with_0(
    simulator: RealtimeSimulator, tmp_path: Path, typed: str
) -> None:
    code, words, notes = await chat(tmp_path, simulator.url, typed)
    assert (code, len(words.splitlines()), "[0 turns: " in notes) == (0, 1, True), notes


async def test_keys_and_long_lines(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    code, words, notes = await chat(tmp_path, simulator.url, "/keys 12 #\n" + "x" * 20_000 + "\nHello\n")
    assert code == 0, notes
    assert "a line has at most 16,384 bytes" in notes
    assert len(words.splitlines()) == 3
    session = await simulator.wait_for_session(1)
    said = [item.text for item in session.items if item.role == "user"]
    assert said == ["[The caller pressed these keys on the telephone: 12]", "Hello"]


async def test_keys_for_a_tool_pass_the_model_by(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/check_pin.py").write_text(PIN_TOOL, "utf-8")
    code, _, notes = await chat(
        tmp_path,
        simulator.url,
        "Check my PIN\nIs it wrong?\n/keys 7391\nThanks\n",
        OPENAI_INSTRUCTIONS=calling("check_pin"),
        LOG_LEVEL="debug",
    )
    assert code == 0, notes
    assert "[a tool asks for keys that the model does not see: /keys 1234]" in notes
    assert "[this line was not sent, because a tool waits for keys: /keys 1234]" in notes
    assert re.search(r"\[tool check_pin: completed after \d+\.\d\d s: accepted\]", notes)
    session = await simulator.wait_for_session(1)
    assert "7391" not in repr(session.client_events) + notes
    assert [item.text for item in session.items if item.role == "user"] == ["Check my PIN", "Thanks"]


async def test_missing_key_ends_with_78(tmp_path: Path) -> None:
    code, _, notes = await chat(tmp_path, "ws://127.0.0.1:1", "Hello", OPENAI_API_KEY="")
    assert (code, "OPENAI_API_KEY is not set" in notes) == (os.EX_CONFIG, True)


@contextmanager
def terminal(folder: Path, url: str, **variables: str) -> Iterator[Terminal]:
    with Terminal([*PROGRAM, "chat"], environment(url, **variables), folder) as shown:
        yield shown


@pytest.mark.parametrize(("keys", "code"), [(CTRL_D, 0), (CTRL_C, 130), (b"/quit\n", 0)])
async def test_terminal_names_speakers_and_ends_cleanly(
    simulator: RealtimeSimulator, tmp_path: Path, keys: bytes, code: int
) -> None:
    with terminal(tmp_path, simulator.url) as shown:
        await asyncio.to_thread(shown.read_until, "you: ")
        assert "agent: greeting" in shown.shown
        shown.press(b"When?\n")
        await asyncio.to_thread(shown.read_until, "you: ", after=shown.shown.index("you: ") + 5)
        assert "agent: reply" in shown.shown
        shown.press(keys)
        assert await asyncio.to_thread(shown.end) == code
    assert "[1 turn: " in shown.shown.replace("\x1b[2m", "")
    assert "Traceback" not in shown.shown


async def test_line_on_a_terminal_interrupts_the_agent(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    slow = 'simulator: {"words": 500, "speed": 1}'
    with terminal(tmp_path, simulator.url, OPENAI_INSTRUCTIONS=slow) as shown:
        await asyncio.to_thread(shown.read_until, "you: ")
        shown.press(b"When?\n")
        await asyncio.to_thread(shown.read_until, "agent: reply")
        shown.press(b"Stop\n")
        await asyncio.to_thread(shown.read_until, "agent: ", after=shown.shown.index("agent: reply") + 7)
        shown.press(CTRL_C)
        assert await asyncio.to_thread(shown.end) == 130
