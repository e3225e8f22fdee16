"""Losses under a call: the model has the heard part of each reply, and all words of the caller.

Dispatcher, workers and API on one virtual clock, as in `test_heard.py`; workers, links, Realtime connections and
dispatchers fail at random.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from simulator.realtime.conversation import Origin
from tests.call_world import CALL_SECONDS, WORD_MS, World

# Text is cut in proportion to the sound, by characters, and back to a word; silence fills up an item's last frame.
SLACK_MS = 4 / 3 * WORD_MS + 25
HARMLESS = {"conversation_already_has_active_response", "response_cancel_not_active"}


def check(world: World, *, lost_ms: float = 0.0) -> None:
    """Compare the session's conversation with the words that the caller said and heard."""
    known_ms: dict[int, float] = defaultdict(float)
    # Of each thing that was ever said at this pitch: of some, less than a word was heard.
    slack_ms = {hz: SLACK_MS * count for hz, count in Counter(world.pitch_of.values()).items()}
    for item in world.api.conversation.items:
        if item.role != "assistant":
            continue
        hz = world.pitch_of[item.id]
        if item.origin is Origin.CLIENT:
            # As text: in proportion to the sound, and cut back to whole words.
            known_ms[hz] += len(item.text.split()) * WORD_MS
        else:
            known_ms[hz] += item.audio_ms
    heard_ms: dict[int, float] = defaultdict(float)
    for _, hz, ms in world.avr.heard:
        heard_ms[hz] += ms
    assert heard_ms
    for hz in known_ms.keys() | heard_ms.keys():
        difference = heard_ms[hz] - known_ms[hz]
        assert abs(difference) <= slack_ms[hz] + lost_ms, (
            f"{hz} Hz: {dict(heard_ms)} heard, {dict(known_ms)} known"
        )
    assert set(world.errors) <= HARMLESS
    assert max(Counter(world.avr.transcripts).values(), default=0) <= len(world.avr.transcripts)


def turns(world: World) -> int:
    """Return how many things of the caller's the model knows, without notes of the service."""
    items = world.api.conversation.items
    return sum(item.role == "user" and not item.text.startswith("[A technical") for item in items)


@pytest.mark.parametrize("seed", range(4))
def test_workers_die(seed: int) -> None:
    world = World(seed)
    world.begin()
    end = world.converse(pauses=False)
    said = len(world.speech)
    for _ in range(world.random.randint(1, 4)):
        world.at(world.random.uniform(0.0, CALL_SECONDS), world.kill_worker)
    world.finish(end)
    check(world)
    assert turns(world) == said


@pytest.mark.parametrize("seed", range(4))
def test_realtime_connections_drop(seed: int) -> None:
    world = World(seed)
    world.begin()
    end = world.converse()
    said = len(world.speech)
    for _ in range(world.random.randint(1, 4)):
        world.at(world.random.uniform(0.5, CALL_SECONDS), world.drop_session)
    world.finish(end)
    check(world)
    assert turns(world) == said
    assert len(world.hands) > 1


@pytest.mark.parametrize("seed", range(4))
def test_links_break_while_both_ends_live(seed: int) -> None:
    world = World(seed)
    world.begin()
    end = world.converse()
    said = len(world.speech)
    for _ in range(4):
        world.at(world.random.uniform(0.2, CALL_SECONDS), lambda: world.cut_link(world.random.uniform(0.0, 0.3)))
    world.finish(end)
    check(world)
    assert turns(world) == said
    assert len(world.hands) == 1, "the same session all the time"


@pytest.mark.parametrize("seed", range(4))
def test_sessions_are_replaced_before_their_time_is_over(seed: int) -> None:
    world = World(seed, rollover_seconds=9.0)
    world.begin()
    end = world.converse()
    said = len(world.speech)
    world.finish(end)
    check(world)
    assert turns(world) == said
    assert len(world.hands) >= 3


@pytest.mark.parametrize("seed", range(4))
def test_dispatchers_die_and_the_caller_comes_back(seed: int) -> None:
    world = World(seed)
    world.begin()
    end = world.converse(pauses=False)
    deaths = world.random.randint(1, 3)
    for number in range(deaths):
        when = world.random.uniform(10.0 * number + 1.0, 10.0 * number + 6.0)
        world.at(when, lambda: world.kill_dispatcher(world.random.uniform(0.1, 3.0)))
    world.finish(end)
    # What a dispatcher had handed over since its last report is handed over again.
    check(world, lost_ms=deaths * 1000)
    assert len(world.hands) == 1, "the same session all the time"


@pytest.mark.parametrize("rollover_seconds", [9.0, 3300.0])
@pytest.mark.parametrize("seed", range(6))
def test_dispatchers_die_when_a_session_released_its_call(seed: int, rollover_seconds: float) -> None:
    """Neither the session that released the call nor its successor may have all of it for itself."""
    world = World(seed, rollover_seconds=rollover_seconds)
    world.begin()
    end = world.converse(pauses=False)
    deaths = []

    def die_soon() -> None:
        if world.now < end:
            deaths.append(world.now)
            world.at(world.now + world.random.choice([0.0, 0.01, 0.1]), lambda: world.kill_dispatcher(1.0))

    world.released = die_soon
    for number in range(3):
        world.at(10.0 * number + world.random.uniform(1.0, 6.0), world.drop_session)
    world.finish(end)
    assert deaths
    check(world, lost_ms=len(deaths) * 1000)


@pytest.mark.parametrize("seed", range(4))
def test_everything_fails_in_turn(seed: int) -> None:
    world = World(seed, rollover_seconds=15.0)
    world.begin()
    end = world.converse(pauses=False)
    said = len(world.speech)
    faults = [world.kill_worker, world.drop_session, lambda: world.cut_link(0.2)]
    for _ in range(10):
        world.at(world.random.uniform(0.0, CALL_SECONDS), world.random.choice(faults))
    world.finish(end)
    check(world)
    assert turns(world) == said
