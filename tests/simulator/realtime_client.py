"""A client of the Realtime simulator over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.simulator.realtime_driver import Event
from tests.simulator.validation import validate_client_event, validate_server_event

MODEL = "gpt-realtime-2"


class Client:
    """A Realtime client that checks all events in both directions."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def receive(self) -> Event:
        async with asyncio.timeout(10):
            event: Event = orjson.loads(await self.socket.recv())
        validate_server_event(event)
        return event

    async def until(self, kind: str) -> list[Event]:
        events: list[Event] = []
        while not events or events[-1]["type"] != kind:
            events.append(await self.receive())
        return events

    async def send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, **fields}
        validate_client_event(event)
        await self.socket.send(orjson.dumps(event).decode())

    async def closed(self) -> tuple[int | None, str | None, list[Event]]:
        """Return close code, reason and the earlier events."""
        events: list[Event] = []
        while True:
            try:
                events.append(await self.receive())
            except ConnectionClosed as closed:
                frame = closed.rcvd
                return (frame.code, frame.reason, events) if frame else (None, None, events)


@asynccontextmanager
async def opened(simulator: RealtimeSimulator, **how: Any) -> AsyncIterator[tuple[Client, SimulatedSession]]:
    """Connect as `dial` does, and return the client with its new session."""
    async with dial(simulator, **how) as client:
        assert (await client.receive())["type"] == "session.created"
        assert (await client.receive())["type"] == "conversation.created"
        yield client, simulator.sessions[-1]


@asynccontextmanager
async def dial(
    simulator: RealtimeSimulator,
    *,
    model: str = MODEL,
    key: str = "sk-test",
    headers: dict[str, str] | None = None,
    url: str | None = None,
) -> AsyncIterator[Client]:
    """Connect to the simulator."""
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"{url or simulator.url}?model={model}"
    headers = {**authorization, **(headers or {})}
    async with connect(address, additional_headers=headers, close_timeout=1) as socket:
        yield Client(socket)


async def refused_by(simulator: RealtimeSimulator, **how: Any) -> tuple[int, dict[str, Any], str | None]:
    """Return HTTP status, error and `Retry-After` of a refused handshake."""
    with pytest.raises(InvalidStatus) as refused:
        async with dial(simulator, **how):
            pass
    response = refused.value.response
    assert response.body is not None
    return response.status_code, orjson.loads(response.body)["error"], response.headers.get("Retry-After")
