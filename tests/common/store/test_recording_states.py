"""States of recordings and requests to pause them, in a real Redis and the embedded one."""

from __future__ import annotations

import orjson
import pytest

from common.store.keys import KEY_PREFIX
from common.store.recording_states import MAX_ASKED, RecordingState, RecordingStates, StoredSegment
from common.store.registry import Registry

SEGMENTS = (StoredSegment("pod-1", "a.wav", 0.0, 61.5), StoredSegment("pod-2", "b.wav", 63.0, 1.0))


async def test_state_is_read_as_it_was_written(registry: Registry) -> None:
    states = RecordingStates(registry)
    written = {"a": RecordingState(True, SEGMENTS), "b": RecordingState(False)}
    await states.write(written, {"a": 60, "b": 60})
    assert {uuid: await states.read(uuid) for uuid in ("a", "b", "c")} == {**written, "c": None}


async def test_state_ends_with_its_time(registry: Registry) -> None:
    await RecordingStates(registry).write({"a": RecordingState(False)}, {"a": 60})
    assert 0 < await registry.run(lambda redis: redis.ttl(f"{KEY_PREFIX}recording:a")) <= 60


async def test_requests_are_taken_once_and_in_order(registry: Registry) -> None:
    states = RecordingStates(registry)
    await states.ask("d-1", "a", paused=True)
    await states.ask("d-1", "b", paused=False)
    await states.ask("d-2", "c", paused=True)
    assert await states.take_asked("d-1") == [("a", True), ("b", False)]
    assert await states.take_asked("d-1") == []
    assert await states.take_asked("d-2") == [("c", True)]


async def test_requests_are_bounded(registry: Registry) -> None:
    states = RecordingStates(registry)
    for number in range(MAX_ASKED + 3):
        await states.ask("d-1", str(number), paused=True)
    asked = await states.take_asked("d-1")
    assert len(asked) == MAX_ASKED
    assert asked[-1] == (str(MAX_ASKED + 2), True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"paused": true, "segments": [1]}', "nonsense"])
async def test_unreadable_state_counts_as_unknown(registry: Registry, text: str) -> None:
    await registry.run(lambda redis: redis.set(f"{KEY_PREFIX}recording:a", text))
    assert await RecordingStates(registry).read("a") is None


async def test_odd_value_counts_as_paused(registry: Registry) -> None:
    newer = orjson.dumps({"paused": "until the agent speaks", "segments": [], "more": 1})
    await registry.run(lambda redis: redis.set(f"{KEY_PREFIX}recording:a", newer))
    state = await RecordingStates(registry).read("a")
    assert state == RecordingState(paused=True)


async def test_unreadable_request_is_skipped(registry: Registry) -> None:
    states = RecordingStates(registry)
    await registry.run(lambda redis: redis.rpush(f"{KEY_PREFIX}recording-ask:d-1", "{", "[1, 2]", '["a", true]'))
    assert await states.take_asked("d-1") == [("a", True)]
