"""What a caller heard is what the model is told: dispatcher, worker and API on one clock, delays between them.

The caller interrupts at random, AVR Core stops reading at random.
"""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.call_world import WORD_MS, World

# The silence in an item's last frame, and what the resampler still gives at its end.
TOLERANCE_MS = 25
# What the API may refuse: it comes of events that cross on the wire, and nothing is lost by it.
HARMLESS = {"conversation_already_has_active_response", "response_cancel_not_active"}


# Among these calls are some in which AVR Core stops reading in the middle of a reply that is then interrupted.
@pytest.mark.parametrize("seed", range(30, 42))
def test_model_and_transcripts_have_the_heard_part(seed: int) -> None:
    world = World(seed)
    world.begin()
    world.finish(world.converse())
    known_ms: dict[int, float] = defaultdict(float)
    for item in world.api.conversation.items:
        if item.role == "assistant":
            assert item.id in world.pitch_of, f"the model remembers {item.text!r}, which never had any sound"
            known_ms[world.pitch_of[item.id]] += item.audio_ms
    heard_ms: dict[int, float] = defaultdict(float)
    for _, hz, ms in world.avr.heard:
        heard_ms[hz] += ms
    assert heard_ms
    for hz in known_ms.keys() | heard_ms.keys():
        difference = heard_ms[hz] - known_ms[hz]
        assert -1 <= difference <= TOLERANCE_MS, f"{hz} Hz: {dict(heard_ms)} heard, {dict(known_ms)} known"
    # And who interrupts is not talked over any more.
    for when, hz, _ in world.avr.heard:
        for at_api, at_worker in world.interrupted.values():
            over = world.born[hz] <= at_api and when > at_worker + world.link_seconds
            assert not over, f"{hz} Hz at {when} s, interrupted at {at_worker} s"
    assert set(world.errors) <= HARMLESS

    # Each transcript is of another item, in the order of the conversation, and of the agent's the beginning.
    left = iter(world.api.conversation.items)
    for role, text in world.avr.transcripts:
        agents = role == "agent"
        found = (" ".join(item.said) if agents else item.text for item in left if (item.role != "user") == agents)
        assert any(whole.startswith(text) for whole in found), f"{text!r} is out of order, or was never said"
    agent = [text for role, text in world.avr.transcripts if role == "agent"]
    assert sum(len(text.split()) for text in agent) * WORD_MS <= sum(heard_ms.values()) + WORD_MS * len(agent)
    # The caller's are all there, unless they come too late.
    callers = len(world.avr.transcripts) - len(agent)
    turns = sum(item.role == "user" for item in world.api.conversation.items)
    assert callers == turns or (callers < turns and world.api.settings.transcription_delay_seconds > 3.0)
