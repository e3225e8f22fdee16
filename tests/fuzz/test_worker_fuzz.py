"""The worker's end of a link: whatever a link brings, its other calls continue, and nothing is left after it."""

from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import Hello, Kind
from common.settings.settings import Settings
from common.store.leases import WorkerRecord, WorkerState
from common.store.registry import Registry
from tests.fuzz.budget import TALLY, examples
from tests.fuzz.link_inputs import Record, records
from tests.worker.shared import resources
from worker.dispatcher_link import DispatcherLink
from worker.runner.session_runner import SessionRunner
from worker.service import Worker

BYSTANDER = 99
HELLO = Hello(wire.PROTOCOL_VERSION, "0.1.0", "worker", "worker-1", "boot_id-1")


@asynccontextmanager
async def workers() -> AsyncIterator[Worker]:
    """Run a worker without Redis and without a Realtime API; nothing of its calls may be left at the end."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    registry = Registry.from_url(f"redis://127.0.0.1:{port}")
    chosen = Settings(
        openai_base_url=f"ws://127.0.0.1:{port}/v1/realtime",
        openai_api_key=SecretStr("sk-test-0123456789abcdefghij"),
    )
    record = WorkerRecord(
        id="worker-1",
        address="127.0.0.1:1",
        host="here",
        pid=1,
        release="0.1.0",
        capacity=3,
        state=WorkerState.READY,
        boot_id="boot_id-1",
    )
    async with resources(chosen) as shared:
        worker = Worker(record, registry, shared)
        try:
            yield worker
        finally:
            async with asyncio.timeout(10):
                await worker.stop()
                await registry.aclose()


OF_A_DISPATCHER = (
    *(
        Kind.OPEN,
        Kind.OPEN,
        Kind.ATTACH,
        Kind.COMMAND,
        Kind.CLOSE,
        Kind.DTMF,
        Kind.COLLECTING,
        Kind.SECRET_KEY,
        Kind.PLAYOUT,
        Kind.HEARD,
        Kind.RESUME,
    ),
    *(Kind.PROFILE, Kind.ITEM_UPDATE, Kind.PENDING_REPLIES, Kind.RELEASE, Kind.TOOL_KNOWN, Kind.TELEPHONY_DONE),
)
steps = st.one_of(
    st.tuples(st.integers(1, 4), records(*OF_A_DISPATCHER)),
    st.tuples(st.integers(1, 4), records(*OF_A_DISPATCHER)),
    st.tuples(st.just(1), records()),
    st.sampled_from(["turn of the loop", "tick", "lost"]),
)
_calls: weakref.WeakSet[SessionRunner] = weakref.WeakSet()


def opened(uuid: str, channel: int, epoch: int = 1) -> tuple[int, Record]:
    ((kind, _, payload),) = wire.decode(wire.encode(wire.Open(uuid, epoch, {}, 0, 64_000), channel))
    return channel, (kind, bytes(payload))


@pytest.mark.interpreted
@examples(4_000)
@given(st.lists(steps, max_size=25), st.booleans())
def test_any_link_input_leaves_other_calls_running(script: list[tuple[int, Record] | str], begins: bool) -> None:
    TALLY.took("link", len(script))

    async def run() -> None:
        async with workers() as worker:
            new = DispatcherLink(worker, HELLO, None, worker.lines)
            worker._links.add(new)
            new.record(Kind.OPEN, BYSTANDER, memoryview(opened("bystander", BYSTANDER)[1][1]), time.monotonic())
            bystander = new._calls[BYSTANDER]
            _calls.add(bystander)
            start: list[tuple[int, Record] | str] = [opened("fuzzed", 1), "turn of the loop"] if begins else []
            for step in start + script:
                if step == "turn of the loop":
                    await asyncio.sleep(0)
                elif step == "tick":
                    for held in worker._held():
                        held.call.tick(time.monotonic())
                elif step == "lost":
                    new.lost("cut")
                    new = DispatcherLink(worker, HELLO, None, worker.lines)
                    worker._links.add(new)
                elif isinstance(step, tuple):
                    channel, (kind, payload) = step
                    try:
                        new.record(kind, channel, memoryview(payload), time.monotonic())
                    except LinkProtocolError:
                        # The input ends the link, and its calls wait for another link.
                        assert kind in (Kind.OPEN, Kind.ATTACH, Kind.COMMAND)
                _calls.update(held.call for held in worker._held())
                assert not bystander.has_ended
                assert bystander in [held.call for held in worker._held()]
            # Other calls that are held now have a place, within the capacity.
            assert worker.calls <= 3 * 1.5 + 1
        assert worker.calls == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


def test_no_call_is_left_in_memory() -> None:
    gc.collect()
    assert len(_calls) == 0
