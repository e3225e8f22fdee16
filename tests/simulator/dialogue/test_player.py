from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest

from simulator.avr.core import place_call
from simulator.avr.playout import SAMPLE_RATE_HZ
from simulator.dialogue.dialogue import Dialogue, Press, Say
from simulator.dialogue.player import PAUSE_SECONDS, DialoguePlayer, DialogueStalled
from simulator.dialogue.reader import read_dialogue
from tests.simulator.avr_service import Connection, avr_service
from tests.simulator.dialogue.files import write_dialogue

# A frame of 20 ms, and a busy machine.
NEAR_SECONDS: Final = 0.9

WHOLE: Final = """
steps:
  - agent: Hello.
    wav: caller.wav
  - pause: 0.5
  - caller: A question.
    wav: caller.wav
  - tool: look_up
  - agent: A long answer.
    wav: agent.wav
  - interrupt: Stop.
    wav: caller.wav
    after: 1.0
  - agent: Yes?
    wav: caller.wav
  - keys: 12#
  - agent: Goodbye.
    wav: caller.wav
"""


async def _dialogue(folder: Path, text: str = WHOLE) -> Dialogue:
    return await read_dialogue(write_dialogue(folder, text))


async def test_caller_speaks_interrupts_and_presses_in_turn(tmp_path: Path) -> None:
    dialogue = await _dialogue(tmp_path)
    said = [(line.text, line.pcm) for exchange in dialogue.exchanges for line in exchange.agent_lines]

    async def answer(connection: Connection) -> None:
        async def speak() -> None:
            text, pcm = said.pop(0)
            await connection.send_audio(pcm, message_bytes=len(pcm))
            await connection.send("transcript", role="agent", text=text)

        await connection.receive()
        await speak()
        quiet, spoke = 0, False
        while said and await connection.receive():
            if connection.digits[2:] and len(said) == 1:
                await speak()
            if not connection.frames:
                continue
            sounds = any(connection.frames.pop())
            if sounds and not spoke and len(said) == 2:
                await connection.send("interruption")
            quiet, spoke = (0, True) if sounds else (quiet + 1, spoke)
            if spoke and quiet == 5 and len(said) > 1:
                spoke = False
                await speak()
        await connection.listen()

    async with avr_service(answer) as service, await place_call(service.url) as call:
        player = DialoguePlayer(call, dialogue)
        await player.play()
        segments = call.playout.segments(time.monotonic())
    question, stop, keys = player.acted[1:]
    assert isinstance(question.act, Say)
    assert isinstance(stop.act, Say)
    assert (question.act.line.text, stop.act.line.text, keys.act) == ("A question.", "Stop.", Press("12#"))
    waited = (question.start_sample - segments[0].end_sample) / SAMPLE_RATE_HZ
    assert PAUSE_SECONDS + 0.5 <= waited + 0.03 < PAUSE_SECONDS + 0.5 + NEAR_SECONDS
    heard = (stop.start_sample - segments[1].start_sample) / SAMPLE_RATE_HZ
    assert 1.0 <= heard + 0.03 < 1.0 + NEAR_SECONDS
    assert segments[1].unplayed_samples > SAMPLE_RATE_HZ
    assert segments[2].end_sample < keys.start_sample < keys.end_sample < segments[3].start_sample
    assert len(segments) == 4


async def test_agent_that_does_not_answer_is_told(tmp_path: Path) -> None:
    async with avr_service(Connection.listen) as service, await place_call(service.url) as call:
        player = DialoguePlayer(call, await _dialogue(tmp_path), patience_seconds=0.2)
        with pytest.raises(DialogueStalled, match=r"^the agent did not say all of: Hello\. \(waited 2 s\)$"):
            await player.play()


async def test_call_that_ends_early_is_told(tmp_path: Path) -> None:
    async def close(connection: Connection) -> None:
        await connection.receive()
        await connection.websocket.close(code=1011, message=b"out of order")

    async with avr_service(close) as service, await place_call(service.url) as call:
        with pytest.raises(DialogueStalled, match=r"^the call ended early: .*1011 out of order"):
            await DialoguePlayer(call, await _dialogue(tmp_path)).play()


async def test_transfer_that_does_not_come_is_told(tmp_path: Path) -> None:
    dialogue = await _dialogue(tmp_path, "steps:\n- agent: Bye.\n  wav: caller.wav\n- tool: avr_transfer\n")
    async with avr_service(Connection.listen) as service, await place_call(service.url) as call:
        player = DialoguePlayer(call, dialogue, patience_seconds=0.2)
        with pytest.raises(DialogueStalled, match=r"^avr_transfer did not end the call"):
            await player.play()
