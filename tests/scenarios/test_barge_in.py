"""After a barge-in the model and AVR Core's users get exactly the words that the caller heard."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.conversation import Item
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

WORD_MS = 400
# The playout clock starts when a frame is sent, the caller's clock when the frame arrives, and an interruption
# takes time, too. So the two may differ by one word.
TOLERANCE_MS = WORD_MS
SPEECH = tone(700, 0.8)


class Service:
    """A cluster for all tests of this file, and its simulated API."""

    def __init__(self, cluster: Cluster, simulator: RealtimeSimulator) -> None:
        self.cluster = cluster
        self.simulator = simulator
        self._call: SimulatedCall | None = None

    async def call(
        self, settings: SimulatorSettings, speech: bytes | None = None
    ) -> tuple[SimulatedCall, SimulatedSession]:
        """Place a call to an API with these settings."""
        if self._call is not None:
            await self._call.drop()  # left by a test that failed
        await eventually(lambda: not self.simulator.sessions)
        self.simulator.settings = settings
        number = self.simulator.opened + 1
        self._call = await place_call(await self.cluster.url(), speech=speech)
        return self._call, await self.simulator.wait_for_session(number)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(module_redis_url: str) -> AsyncIterator[Service]:
    async with RealtimeSimulator() as simulator, Cluster(module_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        yield Service(cluster, simulator)


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


async def test_interrupted_reply_is_truncated_to_what_was_heard(service: Service) -> None:
    settings = SimulatorSettings(greeting_words=20)  # 8 s, sent in less than 2
    call, session = await service.call(settings)
    # All of the greeting was sent before the caller interrupts: nothing is left that could be cancelled.
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

    await call.wait_for(lambda c: any(t.role == "user" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS)
    said = call.transcripts[0]
    assert said.role == "agent"
    # To within a word: the words whose sound fits what was heard, cut back to whole ones.
    words = len(said.text.split())
    assert greeting.said[:words] == said.text.split()
    assert abs(words - heard_ms / WORD_MS) <= 1.5
    assert not session.received["(refused)"]
    await call.hang_up()


async def test_interrupted_response_leaves_no_late_audio(service: Service) -> None:
    settings = SimulatorSettings(greeting_words=30, speed=1.5)  # generated while it plays
    call, session = await service.call(settings)
    service.simulator.faults.late_deltas(5, session=session)
    await _plays(call, 1500)
    await call.say(SPEECH)
    await session.wait_for(lambda s: s.responses[0].status == "cancelled")
    await session.wait_for(lambda s: s.received["conversation.item.truncate"] == 1)
    (truncated,) = _events(session, "conversation.item.truncate")
    interruption = call.interruptions[0]
    heard_ms = (interruption.received_samples - interruption.dropped_samples) / 8
    assert abs(truncated["audio_end_ms"] - heard_ms) < TOLERANCE_MS
    # The next audio is the next response, whole and alone: nothing of the cancelled one came behind the
    # interruption. Silence fills up its last frame behind the resampler's tail of 30 samples.
    await session.wait_for(lambda s: len(s.responses) == 2 and s.responses[1].status == "completed")
    samples = len(_assistant_items(session)[1].said) * WORD_MS * 8 + 30
    expected = interruption.received_samples + -(-samples // 160) * 160
    await call.wait_for(lambda c: len(c.received_pcm) // 2 >= expected, timeout_seconds=PATIENCE_SECONDS)
    assert len(call.received_pcm) // 2 == expected
    assert len(call.interruptions) == 1
    await call.hang_up()


async def test_unheard_reply_is_deleted_from_the_conversation(service: Service) -> None:
    # The caller speaks first, so that the greeting is cancelled before or at its first sound.
    settings = SimulatorSettings(first_audio_seconds=0.5)
    call, session = await service.call(settings, tone(700, 1.5))
    await session.wait_for(lambda s: len(s.responses) >= 2 and s.responses[1].status == "completed")
    assert session.responses[0].status == "cancelled"
    for item in _assistant_items(session)[:-1]:
        assert not item.words, "the model remembers words that nobody heard"
    await call.wait_for(lambda c: any(t.role == "agent" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS)
    roles = [t.role for t in call.transcripts]
    assert roles == ["user", "agent"]
    await call.hang_up()


async def test_each_item_gives_one_transcript_in_conversation_order(service: Service) -> None:
    # Transcription takes longer than the answer: texts come out of order and are put in order.
    settings = replace(BRIEF, transcription_delay_seconds=1.5)
    call, session = await service.call(settings)
    for turn in range(1, 4):
        await _agent_has_spoken(call, turn)
        await call.say(SPEECH)
    await call.wait_for(lambda c: len(c.transcripts) >= 7, timeout_seconds=PATIENCE_SECONDS)
    assert [t.role for t in call.transcripts] == ["agent", "user"] * 3 + ["agent"]
    spoken = [" ".join(item.said) for item in _assistant_items(session)]
    assert [t.text for t in call.transcripts if t.role == "agent"] == spoken
    assert all(re.match(r"heard one", t.text) for t in call.transcripts if t.role == "user")
    await call.hang_up()


async def test_interruption_is_sent_only_while_audio_plays(service: Service) -> None:
    settings = BRIEF
    call, session = await service.call(settings)
    for turn in range(1, 3):
        await _agent_has_spoken(call, turn)
        await call.say(SPEECH)
    await _agent_has_spoken(call, 3)
    assert not call.interruptions
    assert not session.received["conversation.item.truncate"]
    assert not session.received["conversation.item.delete"]
    await call.hang_up()
    await eventually(lambda: not service.simulator.sessions)
