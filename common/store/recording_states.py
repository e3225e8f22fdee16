"""The state of calls' recordings in Redis: whether they are paused, and which files they have.

A dispatcher that takes a call over learns here whether its recording is paused. Requests to pause a recording of
another dispatcher's call go through that dispatcher's list. The keys stand in the schema on top of
`lua/_prelude.lua`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from common.store.keys import KEY_PREFIX
from common.store.registry import Registry

# A dispatcher that takes no requests for so long is gone.
ASK_SECONDS = 10
# Requests that are taken at once.
MAX_ASKED = 1000


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """One file of a recording; times are seconds of the call."""

    host: str
    file: str
    from_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordingState:
    """The recording of one call.

    Attributes:
        paused: whether it is paused.
        segments: its files, in order.
    """

    paused: bool
    segments: tuple[StoredSegment, ...] = ()


class RecordingStates:
    """States of recordings, and requests. Every method raises `RegistryUnavailable` like `Registry`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def write(self, states: Mapping[str, RecordingState], keep_seconds: Mapping[str, int]) -> None:
        """Write states by uuid, each for so many seconds."""

        async def command(redis: Redis) -> None:
            async with redis.pipeline(transaction=False) as pipeline:
                for uuid, state in states.items():
                    pipeline.set(_state_key(uuid), orjson.dumps(state), ex=keep_seconds[uuid])
                await pipeline.execute()

        await self._registry.run(command)

    async def read(self, uuid: str) -> RecordingState | None:
        """Return the state of a call's recording; None if there is none, or if it cannot be read."""

        async def command(redis: Redis) -> str | None:
            return _text(await redis.get(_state_key(uuid)))

        text = await self._registry.run(command)
        return None if text is None else _state(text)

    async def ask(self, dispatcher: str, uuid: str, *, paused: bool) -> None:
        """Ask another dispatcher to pause the recording of its call, or to go on."""

        async def command(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.rpush(_asked_key(dispatcher), orjson.dumps([uuid, paused]))
                pipeline.ltrim(_asked_key(dispatcher), -MAX_ASKED, -1)
                pipeline.expire(_asked_key(dispatcher), ASK_SECONDS)
                await pipeline.execute()

        await self._registry.run(command)

    async def take_asked(self, dispatcher: str) -> list[tuple[str, bool]]:
        """Take the requests for a dispatcher: uuid, and whether to pause."""

        async def command(redis: Redis) -> list[str]:
            # One command: this runs four times a second.
            return [str(text) for text in await redis.lpop(_asked_key(dispatcher), MAX_ASKED) or ()]

        return [asked for text in await self._registry.run(command) if (asked := _asked(text)) is not None]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _state_key(uuid: str) -> str:
    return f"{KEY_PREFIX}recording:{uuid}"


def _asked_key(dispatcher: str) -> str:
    return f"{KEY_PREFIX}recording-ask:{dispatcher}"


def _state(text: str) -> RecordingState | None:
    """Return a state that another process wrote; one of a newer release may have more fields."""
    try:
        fields: dict[str, Any] = orjson.loads(text)
        segments = tuple(
            StoredSegment(
                str(each["host"]), str(each["file"]), float(each["from_seconds"]), float(each["seconds"])
            )
            for each in fields.get("segments", [])
        )
        paused = fields["paused"]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return RecordingState(paused is not False, segments)


def _asked(text: str) -> tuple[str, bool] | None:
    try:
        uuid, paused = orjson.loads(text)
    except (ValueError, TypeError):
        return None
    return (uuid, paused) if isinstance(uuid, str) and isinstance(paused, bool) else None
