"""Traces of real calls, as a collector gets them from real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Final

import pytest

from common.runtime.release import RELEASE
from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, KEY, PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.traced_call import DAY, NUMBER, PARENT_ID, TRACE_ID, converse, place_traced_call
from tests.trace_collector import Exported, TraceCollector

TOLERANCE_SECONDS: Final = 2.0
"""A worker hears of the end of a call after its dispatcher."""


async def test_a_call_leaves_one_trace(real_redis_url: str, tmp_path: Path) -> None:
    with TraceCollector() as collector:
        call = await place_traced_call(real_redis_url, tmp_path, collector)
        spans, raw = collector.spans, collector.raw
    assert (call.began["trace_id"], call.record["trace_id"]) == (TRACE_ID, TRACE_ID)
    assert call.began["metadata_entries"] == 2, "traceparent is not metadata"
    check_tree(spans)
    check_parts(spans)
    check_resources(spans, dispatchers=1)
    (tool,) = [span for span in spans if span.name == "execute_tool opening_hours"]
    assert call.outputs == [f"00-{TRACE_ID}-{tool.span_id}-01"]
    for secret in (*call.said, NUMBER, NUMBER[1:], DAY, KEY, "simulator:"):
        assert secret.encode() not in raw, secret
    assert "spans dropped" not in call.logs


async def test_next_dispatcher_continues_the_trace(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    with TraceCollector() as collector:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": 100}
        async with Cluster(real_redis_url, simulator.url, **settings) as cluster:
            await cluster.start(workers=1, dispatchers=2)
            urls = [await cluster.url(1)]
            call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
            await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
            await eventually(lambda: collector.named("greeting"))
            cluster.dispatchers[0].signal(signal.SIGKILL)
            await call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS)
            await converse(call)
            await call.hang_up()
            began = [await each.line("call began", uuid=call.uuid) for each in cluster.dispatchers]
            record = await cluster.dispatchers[1].line("call record", uuid=call.uuid)
            await asyncio.gather(cluster.workers[0].stop(), cluster.dispatchers[1].stop())
        spans = collector.spans
    assert {line["trace_id"] for line in began} == {record["trace_id"]} == {span.trace_id for span in spans}
    by_id = {span.span_id: span for span in spans}
    (root,) = [span for span in spans if span.parent_id == ""]
    assert (root.name, root.seconds > 1.0) == ("call", True)
    (greeting,) = [span for span in spans if span.name == "greeting"]
    assert greeting.resource["service.instance.id"] != root.resource["service.instance.id"]
    # The first dispatcher's clock began with `init`, and the second one knows the length of the audio.
    assert abs(greeting.began_seconds - root.began_seconds) < 1.0
    assert all(span is root or span.parent_id in by_id for span in spans)
    assert len([span for span in spans if span.name == "session"]) == 1, "the same session"


async def test_children_of_serve_trace_their_calls() -> None:
    with TraceCollector() as collector:
        async with RealtimeSimulator(BRIEF) as simulator:
            serve = await ServiceProcess.start(
                "serve",
                PORT=0,
                ADMIN_PORT=0,
                WORKERS=2,
                OPENAI_API_KEY=KEY,
                OPENAI_BASE_URL=simulator.url,
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
                OTEL_BSP_SCHEDULE_DELAY=3_600_000,  # only the end of the processes exports
            )
            try:
                url = f"ws://127.0.0.1:{(await serve.line('serving'))['port']}/"
                calls = [await place_call(url) for _ in range(4)]
                for call in calls:
                    await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
                    await call.hang_up()
                    await serve.line("call record", uuid=call.uuid)
                assert await serve.stop() == 0
            finally:
                await serve.kill()
        spans = collector.spans
    assert len({span.trace_id for span in spans}) == 4
    assert sorted(span.name for span in spans if span.parent_id == "") == ["call"] * 4
    check_resources(spans, dispatchers=1)


@pytest.mark.parametrize("collector", ["dead", "slow"])
async def test_call_does_not_need_its_collector(
    collector: str, real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    with TraceCollector() as real, socket.socket() as unheard:
        real.is_open.clear()
        unheard.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = real.endpoint if collector == "slow" else f"http://127.0.0.1:{unheard.getsockname()[1]}"
        limits = {"OTEL_BSP_MAX_QUEUE_SIZE": 2, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 1, "OTEL_BSP_SCHEDULE_DELAY": 10}
        async with Cluster(
            real_redis_url, simulator.url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **limits
        ) as cluster:
            await cluster.start(workers=1)
            call = await place_call(await cluster.url())
            await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
            await converse(call)
            await converse(call)
            await call.hang_up()
            assert call.errors == []
            record = await cluster.dispatchers[0].line("call record", uuid=call.uuid)
            assert record["turns"] == 2
            worker = cluster.workers[0]
            await worker.line("spans dropped")
            for process in (worker, cluster.dispatchers[0]):
                assert await process.stop() == 0
            assert len(worker.events("spans dropped")) == 1
            assert "Traceback" not in cluster.logs


async def test_missing_extra_is_one_warning(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    missing = tmp_path / "opentelemetry"
    missing.mkdir()
    (missing / "__init__.py").write_text("raise ModuleNotFoundError('no', name='opentelemetry')\n")

    class Bare(ServiceProcess):
        pythonpath = os.pathsep.join((str(tmp_path), ServiceProcess.pythonpath))

    async with Cluster(real_redis_url, simulator.url, OTEL_TRACES_EXPORTER="otlp") as cluster:
        worker, dispatcher = await cluster.add_worker(Bare), await cluster.add_dispatcher(Bare)
        call = await place_call(await cluster.url())
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await call.hang_up()
        record = await dispatcher.line("call record", uuid=call.uuid)
        assert record["trace_id"] is None
        for process in (worker, dispatcher):
            (line,) = [each for each in process.lines if each["level"] == "warning"]
            assert (line["missing"], line["remedy"]) == ("opentelemetry", "pip install 'avr-sts-openai[otel]'")


def check_tree(spans: list[Exported]) -> None:
    """Check that the spans are one tree, with its root under the span that placed the call."""
    assert {span.trace_id for span in spans} == {TRACE_ID}
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "a span is exported once"
    (root,) = [span for span in spans if span.parent_id == PARENT_ID]
    assert (root.name, root.kind) == ("call", 2)
    parents = {
        "greeting": "call",
        "recovery": "call",
        "move": "call",
        "session": "call",
        "connect": "session",
        "turn": "session",
        "end_of_speech": "turn",
        "relay": "turn",
        "execute_tool opening_hours": "turn",
    }
    for span in spans:
        if span is root:
            continue
        parent = by_id[span.parent_id]
        if span.name.startswith("chat "):
            assert parent.name in ("turn", "session")
        else:
            assert parent.name == parents[span.name], span.name
        assert parent.began_seconds - 0.001 <= span.began_seconds, (parent.name, span.name)
        assert span.ended_seconds <= parent.ended_seconds + TOLERANCE_SECONDS, (parent.name, span.name)
        assert span.seconds >= 0


def check_parts(spans: list[Exported]) -> None:
    """Check the spans of a call with three turns, a tool, a lost worker and a rollover."""
    named: dict[str, list[Exported]] = {}
    for span in sorted(spans, key=lambda each: each.began_seconds):
        named.setdefault(span.name, []).append(span)
    (root,) = named["call"]
    assert (root.attributes["avr.call.ending"], root.attributes["avr.call.end_reason"]) == (
        "completed",
        "caller_hung_up",
    )
    assert not root.is_error
    (greeting,) = named["greeting"]
    assert abs(greeting.began_seconds - root.began_seconds) < 0.1
    (recovery,) = named["recovery"]
    assert recovery.attributes["avr.reason"] == "worker_lost"
    assert {span.attributes["avr.reason"] for span in named["move"]} == {"rollover"}
    lost = [span for span in named["session"] if span.is_error]
    assert [span.attributes["error.type"] for span in lost] == ["worker_lost"]
    assert lost[0].resource["avr.role"] == "dispatcher"
    assert lost[0].ended_seconds <= recovery.ended_seconds
    assert len(named["session"]) == len(named["connect"])

    turns = named["turn"]
    assert len(turns) == 3
    for turn in turns:
        children = [span for span in spans if span.parent_id == turn.span_id]
        names = sorted(span.name for span in children if not span.name.startswith(("chat ", "execute_tool ")))
        assert names == ["end_of_speech", "relay"]
        chats = [span for span in children if span.name.startswith("chat ")]
        assert turn.attributes["avr.turn.answered"] is True
        assert 0 < turn.attributes["avr.turn.latency_seconds"] <= turn.seconds
        (waited,) = [span for span in children if span.name == "end_of_speech"]
        assert waited.began_seconds == pytest.approx(turn.began_seconds, abs=0.001)
        for chat in chats:
            assert chat.kind == 3
            assert chat.name == f"chat {chat.attributes['gen_ai.request.model']}"
            assert chat.attributes["gen_ai.operation.name"] == "chat"
            assert chat.attributes["gen_ai.provider.name"] == "openai"
            assert chat.attributes["gen_ai.response.finish_reasons"] == ["completed"]
            assert chat.attributes["gen_ai.usage.input_tokens"] > 0
            assert chat.attributes["server.address"] == "127.0.0.1"
    with_tool = [span for span in spans if span.parent_id == turns[0].span_id]
    assert sum(span.name.startswith("chat ") for span in with_tool) == 2, "the call of the tool, and the answer"
    (tool,) = named["execute_tool opening_hours"]
    assert tool.parent_id == turns[0].span_id
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["avr.tool.outcome"] == "completed"


def check_resources(spans: list[Exported], *, dispatchers: int) -> None:
    """Check what the spans say of their processes."""
    assert {span.resource["service.name"] for span in spans} == {"avr-sts-openai"}
    assert {span.resource["service.version"] for span in spans} == {RELEASE}
    instances = {span.resource["service.instance.id"]: span.resource["avr.role"] for span in spans}
    assert sorted(instances.values()).count("dispatcher") == dispatchers
    assert list(instances.values()).count("worker") == 2
