"""A call on real processes that shows each kind of span: turns, a tool, a worker's death, a rollover."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id
from tests.scenarios.tones import tone
from tests.trace_collector import TraceCollector

TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID: Final = "b7ad6b7169203331"
NUMBER: Final = "+390612345678"
DAY: Final = "Wednesday"

TOOL: Final = """
name = "opening_hours"
description = "Opening hours"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}

async def handler(uuid, args, metadata):
    return metadata["traceparent"]
"""


@dataclass(frozen=True, slots=True)
class TracedCall:
    """What a traced call left behind.

    Attributes:
        began: the log line `call began`.
        record: the log line `call record`.
        outputs: of the tool.
        said: texts that AVR Core got.
        logs: output of all processes.
    """

    began: dict[str, Any]
    record: dict[str, Any]
    outputs: list[str]
    said: list[str]
    logs: str


def brief(**settings: object) -> str:
    """Return instructions for a model that says little, and calls a tool in the first turn."""
    directive = {
        "greeting_words": 2,
        "words": 2,
        "word_ms": 200,
        "tool_calls": [{"turn": 1, "name": "opening_hours", "arguments": json.dumps({"day": DAY})}],
    }
    return f"simulator: {json.dumps(directive | settings)}"


async def converse(call: SimulatedCall) -> None:
    """Take a caller's turn, and wait for the answer."""
    known = len(call.transcripts)
    await call.say(tone(700, 0.8))
    await call.wait_for(
        lambda c: [t.role for t in c.transcripts[known:]] == ["user", "agent"], timeout_seconds=PATIENCE_SECONDS
    )


async def worker_of(cluster: Cluster, call: SimulatedCall) -> ServiceProcess:
    """Return the worker that has the call now."""
    pinned = [line for line in cluster.dispatchers[0].events("call pinned") if line["uuid"] == call.uuid]
    for worker in cluster.workers:
        if await worker_id(worker) == pinned[-1]["worker"]:
            return worker
    raise AssertionError(pinned)


async def place_traced_call(redis_url: str, folder: Path, collector: TraceCollector) -> TracedCall:
    """Place the call, and return when its processes have ended.

    Args:
        redis_url: a real Redis.
        folder: for the tool.
        collector: gets the spans.
    """
    (folder / "opening_hours.py").write_text(TOOL)
    settings = {
        "TOOLS_DIR": folder,
        "OPENAI_INSTRUCTIONS": brief(),
        "SESSION_ROLLOVER_SECONDS": 10,
        "OTEL_BSP_SCHEDULE_DELAY": 100,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
    }
    async with RealtimeSimulator() as simulator, Cluster(redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=2)
        metadata = {"from": NUMBER, "to": "600", "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
        call = await place_call(await cluster.url(), metadata=metadata)
        session = await simulator.wait_for_session()
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        await converse(call)
        outputs = [item.output or "" for item in session.items if item.type == "function_call_output"]
        # What ended before the worker's death is at the collector. The dispatcher says the rest.
        await eventually(lambda: len(collector.named("turn")) == 2)
        opened = simulator.opened
        (await worker_of(cluster, call)).signal(signal.SIGKILL)
        await eventually(lambda: collector.named("recovery"))
        # The next session is replaced before its end.
        await eventually(lambda: collector.named("move"))
        assert simulator.opened >= opened + 2
        await converse(call)
        await call.hang_up()
        dispatcher = cluster.dispatchers[0]
        began = await dispatcher.line("call began", uuid=call.uuid)
        record = await dispatcher.line("call record", uuid=call.uuid)
        await asyncio.gather(*(each.stop() for each in (*cluster.workers, dispatcher)))
        return TracedCall(began, record, outputs, [each.text for each in call.transcripts], cluster.logs)
