"""One call's shell in a test: its surroundings, and a fast Realtime API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr

from common.link import wire
from common.observe import metrics
from common.settings.settings import Settings
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from simulator.realtime.simulated_session import SimulatedSession
from tests.worker.link_records import JOURNAL, Record, decoded_all, payload_of
from tests.worker.shared import resources
from worker.runner.resources import Resources
from worker.runner.session_runner import SessionRunner

KEY = "sk-test-0123456789abcdefghij"
CHANNEL = 5
# Not a measure of anything: how long a test waits before it says that something does not happen at all.
PATIENCE_SECONDS = 10.0
QUICK = SimulatorSettings(
    greeting_words=1, words=2, word_ms=100, first_audio_seconds=0.0, speed=float("inf"), keep_audio=False
)


class Desk:
    """Surroundings of a call: its dispatcher, and the worker's table of calls.

    Attributes:
        records: all that the dispatcher was told.
        count: how many of them belong to the channel's stream.
        is_over: set when the session has ended, or has released its call.
        ends: how often it has ended.
        goings: how often it was said that this session has its call now.
    """

    def __init__(self, shared: Resources, *, predecessor: SessionRunner | None = None, **opening: Any) -> None:
        self.records: list[Record] = []
        self.count = 0
        self.shared = shared
        self.goings = self.ends = 0
        self.is_over = asyncio.Event()
        self._waiting: list[tuple[Callable[[list[Record]], Any], asyncio.Future[None]]] = []
        fields = {"uuid": "uuid-1", "epoch": 1, "credit_bytes": 10**9, **opening}
        self._predecessor = predecessor
        self.call = SessionRunner(wire.Open(**fields), CHANNEL, self.send, calls=self, resources=shared)

    def ended(self, call: SessionRunner) -> None:
        assert call is self.call
        assert self.ends == 0
        self.ends += 1
        self.is_over.set()

    def released(self, call: SessionRunner) -> None:
        assert call is self.call
        assert not self.is_over.is_set()
        self.is_over.set()

    def taking_over(self, call: SessionRunner) -> None:
        assert call is self.call
        self.goings += 1
        if self._predecessor is not None:
            self.call.take_over(self._predecessor)

    def record(self, *records: wire.Control) -> None:
        """Return the records to the dispatcher."""
        for record in records:
            self.call.record(*payload_of(wire.encode(record, CHANNEL)))

    def audio(self, pcm: bytes, position: int = 0) -> None:
        """Send the caller's audio."""
        self.call.caller_audio(position, pcm, time.monotonic())

    def said(self) -> list[Record]:
        """Return the records but those for the dispatcher's memory."""
        return [record for record in self.records if not isinstance(record, JOURNAL)]

    def send(self, record: bytes) -> None:
        self.records += decoded_all([record], CHANNEL)
        ((kind, _, _),) = wire.decode(record)
        self.count += kind not in wire.UNCOUNTED
        for predicate, future in self._waiting:
            if not future.done() and predicate(self.records):
                future.set_result(None)

    async def wait_for(self, predicate: Callable[[list[Record]], Any]) -> None:
        """Wait until the records fulfil a condition."""
        if predicate(self.records):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((predicate, future))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await future

    async def ready(self) -> None:
        await self.wait_for(lambda records: any(isinstance(record, wire.Ready) for record in records))

    async def ending(self) -> wire.Ended:
        """Return how the call ended, and check that it left nothing."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.is_over.wait()
            await self.call.settled()
        (ended,) = [record for record in self.records if isinstance(record, wire.Ended)]
        return ended


@asynccontextmanager
async def call_to(
    url: str, *, restore: bool = False, collects: bool = False, **settings: Any
) -> AsyncIterator[Desk]:
    """Yield a call that has begun, and check at the end that it left nothing."""
    chosen = Settings(openai_base_url=url, openai_api_key=SecretStr(KEY), **settings)
    async with resources(chosen) as shared, begun(Desk(shared, restore=restore, collects=collects)) as desk:
        yield desk
    assert not [task for task in asyncio.all_tasks() if "uuid-1" in task.get_name()]


@asynccontextmanager
async def begun(desk: Desk) -> AsyncIterator[Desk]:
    """Begin a call that ends with the test."""
    desk.call.begin()
    try:
        yield desk
    finally:
        desk.call.stop("the test is over")
        desk.call.tools.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await desk.call.settled()
            while desk.call.tools.tasks:
                await asyncio.wait(desk.call.tools.tasks.values())
                desk.call.tools.tasks.clear()


def counted(name: str, **labels: str) -> float:
    """Return the sum of a counter's series with these labels so far."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = metrics.render()[0].decode().splitlines()
    series = [line for line in lines if line.startswith(f"avr_sts_{name}_total{{")]
    return sum(float(line.split()[-1]) for line in series if all(pair in line for pair in wanted))


def errors(code: str) -> float:
    """Return how many upstream errors of this code were counted so far."""
    return counted("upstream_errors", code=code)


def begin_tool(
    simulator: RealtimeSimulator, opened: SimulatedSession, call_id: str = "call_1", name: str = "look_up"
) -> None:
    """Send the model's call of a tool."""
    item = {
        "id": f"item_{call_id}",
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": "{}",
    }
    simulator.faults.send(
        opened,
        {"type": "response.output_item.done", "response_id": "resp_x", "output_index": 0, "item": item},
    )


def outputs(opened: SimulatedSession) -> list[str | None]:
    """Return the outputs of function calls at the model."""
    return [item.output for item in opened.items if item.type == "function_call_output"]
