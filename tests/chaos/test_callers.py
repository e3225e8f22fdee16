"""Callers, against a small service of the test that answers with sound."""

from __future__ import annotations

import asyncio
import random

import pytest

from simulator.avr.call_record import ClosedBy
from simulator.avr.core import SimulatedCall
from simulator.avr.microphone import MAX_CATCH_UP_SECONDS
from simulator.avr.playout import SAMPLE_BYTES, SAMPLE_RATE_HZ
from tests.chaos import announcements, callers
from tests.chaos.callers import Caller
from tests.chaos.facts import CallFacts, Fault, FaultKind, Part
from tests.chaos.script import Script, Turn
from tests.chaos.speech import spoken
from tests.helpers import eventually
from tests.simulator.avr_service import AvrService, Behaviour, Connection, avr_service

_SILENT_FRAMES = 8
_SOUND = b"\x00\x20" * 800


@pytest.fixture(autouse=True)
def read_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set waiting times of callers that fit this service."""
    for name, seconds in (
        ("_SILENCE_SECONDS", 0.1),
        ("_SETTLING_SECONDS", 0.2),
        ("_RECOVERY_SECONDS", 0.4),
        ("_AGENT_HANGS_UP_SECONDS", 1.0),
        ("_PLACING_SECONDS", 0.3),
    ):
        monkeypatch.setattr(callers, name, seconds)


def _script(*, turns: int = 2, barges_in: bool = False, agent: bool = False, abrupt: bool = False) -> Script:
    said = tuple(Turn(spoken(1), barges_in and number > 0, 0.05) for number in range(turns))
    return Script(said, tool_turn=999, agent_hangs_up=agent, abrupt=abrupt)


def _caller(service: AvrService, script: Script) -> Caller:
    return Caller([service.url], script, random.Random(1))


async def _converse(connection: Connection) -> None:
    """Greet, and answer all speech that is followed by silence."""
    await connection.send_audio(_SOUND)
    silent_frames = _SILENT_FRAMES + 1  # the caller has not spoken yet
    while kind := await connection.receive():
        if kind == "audio":
            silent_frames = 0 if any(connection.frames[-1]) else silent_frames + 1
        if silent_frames == _SILENT_FRAMES:
            await connection.send_audio(_SOUND)
            await connection.send("transcript", role="agent", text="hm")


def _after(frames: int, behaviour: Behaviour) -> Behaviour:
    """Converse, and after this many frames do something else."""

    async def both(connection: Connection) -> None:
        conversation = asyncio.create_task(_converse(connection))
        await eventually(lambda: conversation.done() or len(connection.frames) >= frames)
        conversation.cancel()
        await asyncio.gather(conversation, return_exceptions=True)
        await behaviour(connection)

    return both


def _ends(facts: CallFacts) -> list[tuple[int, ClosedBy]]:
    return [(close.code, close.by) for close in facts.closes]


async def test_caller_follows_its_script_and_hangs_up() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script())
        assert await caller.run()
    facts = caller.facts
    assert facts.hung_up == "caller"
    assert _ends(facts) == [(1000, ClosedBy.CALLER)]
    assert [utterance.words for utterance in facts.utterances] == [(1,), (1,)]
    assert not any(utterance.damaged for utterance in facts.utterances)
    assert facts.transcripts == [("agent", "hm")] * 2
    assert facts.speech_seconds == pytest.approx(0.8)
    assert not facts.unanswered
    (stretch,) = caller.stretches()
    assert stretch.pcm == _SOUND * 3
    (connection,) = service.connections
    assert connection.query["tool_turn"] == "999"


async def test_filler_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "ANSWER_SECONDS", 0.5)
    filler = announcements.pcm((announcements.FILLER_WORD,))

    async def fill(connection: Connection) -> None:
        await connection.send_audio(_SOUND)
        await eventually(lambda: any(any(frame) for frame in connection.frames))
        await connection.send_audio(filler + bytes(320))
        await connection.listen()

    async with avr_service(fill) as service:
        caller = _caller(service, _script(turns=1))
        assert await caller.run()
    assert len(caller.facts.unanswered) == 1


async def test_unanswered_caller_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "ANSWER_SECONDS", 0.3)

    async def greet(connection: Connection) -> None:
        await connection.send_audio(_SOUND)
        await connection.listen()

    async with avr_service(greet) as service:
        caller = _caller(service, _script(turns=1))
        assert await caller.run()
    assert len(caller.facts.unanswered) == 1


async def test_the_agent_may_end_the_call() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1, agent=True))
        caller.agent_hung_up.set()
        assert await caller.run()
    assert caller.facts.hung_up == "agent"
    assert _ends(caller.facts) == [(1000, ClosedBy.CALLER)]


async def test_caller_waits_for_an_agent_that_does_not_end_the_call() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1, agent=True))
        assert await caller.run()
    assert caller.facts.waited_for_agent
    assert caller.facts.hung_up == "caller"


async def test_caller_that_hangs_up_in_an_answer_has_not_ended_well() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1, abrupt=True))
        assert await caller.run()
    assert caller.facts.hung_up == ""
    assert _ends(caller.facts) == [(1000, ClosedBy.CALLER)]


async def test_a_service_that_ends_the_call_is_written_down() -> None:
    async def end(connection: Connection) -> None:
        await connection.send("error", message="the worker was lost")
        await connection.websocket.close(code=1011)

    async with avr_service(_after(20, end)) as service:
        caller = _caller(service, _script())
        assert await caller.run()
    assert _ends(caller.facts) == [(1011, ClosedBy.SERVICE)]
    assert caller.facts.errors == ["the worker was lost"]
    assert caller.facts.hung_up == ""


async def test_words_during_a_lost_connection_are_damaged() -> None:
    async def lose(connection: Connection) -> None:
        if len(service.connections) == 1:
            while not any(connection.frames[-1]):
                await connection.receive()
            await connection.lose()
        else:
            await _converse(connection)

    async with avr_service(_after(10, lose)) as service:
        caller = _caller(service, _script())
        assert await caller.run()
    facts = caller.facts
    assert len(facts.gaps) == 1
    assert [utterance.damaged for utterance in facts.utterances] == [True, False]
    assert _ends(facts) == [(1006, ClosedBy.NOBODY), (1000, ClosedBy.CALLER)]


async def test_words_that_a_busy_machine_said_late_are_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    say = SimulatedCall.say

    async def say_late(call: SimulatedCall, pcm: bytes) -> None:
        await say(call, pcm)
        await say(call, bytes(round((MAX_CATCH_UP_SECONDS + 0.1) * SAMPLE_RATE_HZ) * SAMPLE_BYTES))

    monkeypatch.setattr(SimulatedCall, "say", say_late)
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1))
        assert await caller.run()
    assert [utterance.damaged for utterance in caller.facts.utterances] == [True]


async def test_caller_waits_for_the_end_of_a_fault() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1))
        running = asyncio.create_task(caller.run())
        await eventually(lambda: caller.facts.utterances)
        caller.hit(Fault(FaultKind.KILL_WORKER, asyncio.get_running_loop().time()))
        assert await running
    facts = caller.facts
    assert facts.ended_seconds - facts.faults[0].at_seconds >= 0.4


async def test_flooding_core_sends_more_than_real_time() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1))
        running = asyncio.create_task(caller.run())
        await eventually(lambda: caller.is_up)
        await caller.flood()
        assert await running
        (connection,) = service.connections
    assert caller.facts.part is Part.FLOODER
    assert len(connection.frames) > 1000


async def test_core_that_stops_reading_resumes_later() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=1))
        running = asyncio.create_task(caller.run())
        await eventually(lambda: caller.is_up)
        caller.stall()
        assert caller.facts.part is Part.STALLED
        call = caller.call
        assert call is not None
        received = call.record.frames_received
        await call.wait_for(lambda c: c.microphone.said_bytes)
        await call.wait_for(lambda c: not c.microphone.has_speech)
        assert call.record.frames_received <= received + 1
        caller.resume()
        assert await running
    assert caller.facts.hung_up == "caller"


async def test_call_refused_by_all_dispatchers_is_not_placed() -> None:
    caller = Caller(["ws://127.0.0.1:9"], _script(), random.Random(1))
    assert not await caller.run()
    assert not caller.is_up
    assert caller.stretches() == []


async def test_finishing_caller_says_nothing_more() -> None:
    async with avr_service(_converse) as service:
        caller = _caller(service, _script(turns=3))
        caller.finish.set()
        assert await caller.run()
    assert caller.facts.utterances == []
    assert caller.facts.hung_up == "caller"
