"""After a barge-in the model and AVR Core's users get exactly the words that the caller heard."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.conversation import Item
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone

WORD_MS = 400
# The playout clock starts when a frame is sent, the caller's clock when the frame arrives, and an interruption
# takes time, too. So the two may differ by one word.
TOLERANCE_MS = WORD_MS
SPEECH = tone(700, 0.8)


def _assistant_items(session: SimulatedSession) -> list[Item]:
    return [item for item in session.items if item.role == "assistant"]


def _events(session: SimulatedSession, kind: str) -> list[dict[str, Any]]:
    return [event for event in session.client_events if event["type"] == kind]


async def _plays(call: SimulatedCall, milliseconds: float) -> None:
    await call.wait_for(lambda c: c.heard_ms >= milliseconds, timeout_seconds=PATIENCE_SECONDS)


async def _agent_has_spoken(call: SimulatedCall, times: int) -> None:
    await call.wait_for(
        lambda c: sum(t.role == "agent" for t in c.transcripts) >= times, timeout_seconds=PATIENCE_SECONDS
    )


async def test_interrupted_reply_is_truncated_to_what_was_heard(real_redis_url: str) -> None:
    settings = SimulatorSettings(greeting_words=20)  # 8 s, sent in less than 2
    async with RealtimeSimulator(settings) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        # The whole greeting was sent before the caller interrupts, so there is no response to cancel.
        await session.wait_for(lambda s: s.responses and s.responses[0].status == "completed")
        await _plays(call, 2600)
        await call.say(SPEECH)
        await session.wait_for(lambda s: s.received["conversation.item.truncate"] == 1)
        await call.wait_for(lambda c: c.interruptions, timeout_seconds=PATIENCE_SECONDS)

        (truncated,) = _events(session, "conversation.item.truncate")
        interruption = call.interruptions[0]
        heard_ms = (interruption.received_samples - interruption.dropped_samples) / 8
        assert abs(truncated["audio_end_ms"] - heard_ms) < TOLERANCE_MS
        greeting = _assistant_items(session)[0]
        assert greeting.truncated_ms == truncated["audio_end_ms"]

        await call.wait_for(
            lambda c: any(t.role == "user" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS
        )
        said = call.transcripts[0]
        assert said.role == "agent"
        # Within one word: the complete words whose audio was heard.
        words = len(said.text.split())
        assert greeting.said[:words] == said.text.split()
        assert abs(words - heard_ms / WORD_MS) <= 1.5
        assert not session.received["(refused)"]
        await call.hang_up()


async def test_interrupted_response_leaves_no_late_audio(real_redis_url: str) -> None:
    settings = SimulatorSettings(greeting_words=30, speed=1.5)  # the response is generated while its audio plays
    async with RealtimeSimulator(settings) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        simulator.faults.late_deltas(5, session=session)
        await _plays(call, 1500)
        await call.say(SPEECH)
        await session.wait_for(lambda s: s.responses[0].status == "cancelled")
        await session.wait_for(lambda s: s.received["conversation.item.truncate"] == 1)
        (truncated,) = _events(session, "conversation.item.truncate")
        interruption = call.interruptions[0]
        heard_ms = (interruption.received_samples - interruption.dropped_samples) / 8
        assert abs(truncated["audio_end_ms"] - heard_ms) < TOLERANCE_MS
        # The next audio is exactly the next response: no audio of the cancelled one came after the
        # interruption. Silence fills up its last frame behind the resampler's tail of 30 samples.
        await session.wait_for(lambda s: len(s.responses) == 2 and s.responses[1].status == "completed")
        samples = len(_assistant_items(session)[1].said) * WORD_MS * 8 + 30
        expected = interruption.received_samples + -(-samples // 160) * 160
        await call.wait_for(lambda c: len(c.received_pcm) // 2 >= expected, timeout_seconds=PATIENCE_SECONDS)
        assert len(call.received_pcm) // 2 == expected
        assert len(call.interruptions) == 1
        await call.hang_up()


async def test_unheard_reply_is_deleted_from_the_conversation(real_redis_url: str) -> None:
    # The caller speaks first, so that the greeting is cancelled before or at its first sound.
    settings = SimulatorSettings(first_audio_seconds=0.5)
    async with RealtimeSimulator(settings) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url(), speech=tone(700, 1.5))
        session = await simulator.wait_for_session()
        await session.wait_for(lambda s: len(s.responses) >= 2 and s.responses[1].status == "completed")
        assert session.responses[0].status == "cancelled"
        for item in _assistant_items(session)[:-1]:
            assert not item.words, "the model remembers words that nobody heard"
        await call.wait_for(
            lambda c: any(t.role == "agent" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS
        )
        roles = [t.role for t in call.transcripts]
        assert roles == ["user", "agent"]
        await call.hang_up()


async def test_each_item_gives_one_transcript_in_conversation_order(real_redis_url: str) -> None:
    # Transcription takes longer than the answer, so texts come out of order and are sorted.
    settings = replace(BRIEF, transcription_delay_seconds=1.5)
    async with RealtimeSimulator(settings) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        for turn in range(1, 4):
            await _agent_has_spoken(call, turn)
            await call.say(SPEECH)
        await call.wait_for(lambda c: len(c.transcripts) >= 7, timeout_seconds=PATIENCE_SECONDS)
        assert [t.role for t in call.transcripts] == ["agent", "user"] * 3 + ["agent"]
        spoken = [" ".join(item.said) for item in _assistant_items(session)]
        assert [t.text for t in call.transcripts if t.role == "agent"] == spoken
        assert all(re.match(r"heard one", t.text) for t in call.transcripts if t.role == "user")
        await call.hang_up()


async def test_interruption_is_sent_only_while_audio_plays(real_redis_url: str) -> None:
    settings = BRIEF
    async with RealtimeSimulator(settings) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        for turn in range(1, 3):
            await _agent_has_spoken(call, turn)
            await call.say(SPEECH)
        await _agent_has_spoken(call, 3)
        assert not call.interruptions
        session = await simulator.wait_for_session()
        assert not session.received["conversation.item.truncate"]
        assert not session.received["conversation.item.delete"]
        await call.hang_up()
        await eventually(lambda: not simulator.sessions)
