"""The spans of a session, from the API's events and from what is sent to the API."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from common.link import wire
from common.observe import trace_context
from common.observe.trace_context import TraceContext
from common.observe.tracing import Span
from tests.helpers import eventually
from tests.spans import KeptSpans
from worker.runner.session_trace import MAX_RESPONSES, SessionTrace

CALL = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", is_sampled=True)
OPENING = wire.Open(uuid="call", epoch=2, traceparent=CALL.traceparent)
FUNCTION_CALL = {"type": "function_call", "name": "look up Anna", "arguments": "{}"}


class Session:
    """A traced session, and its spans."""

    def __init__(self) -> None:
        self.kept = KeptSpans()
        trace = SessionTrace.of(self.kept, OPENING)
        assert trace is not None
        self.trace = trace
        self.began_seconds = time.monotonic()

    def happened(self, kind: str, at_seconds: float = 0.0, **fields: Any) -> None:
        self.trace.happened({"type": kind, **fields}, self.began_seconds + at_seconds)

    def created(self, response_id: str, at_seconds: float = 0.0) -> None:
        self.happened("response.created", at_seconds, response={"id": response_id})

    def done(self, response_id: str, at_seconds: float = 0.0, **fields: Any) -> None:
        response = {"id": response_id, "status": "completed", **fields}
        self.happened("response.done", at_seconds, response=response)

    def named(self, name: str) -> list[Span]:
        return self.kept.named(name)

    def seconds(self, span: Span) -> tuple[float, float]:
        """Return begin and end, from the begin of the session."""
        zero_ns = self.trace._clock.ns(self.began_seconds)
        return round((span.began_ns - zero_ns) / 1e9, 3), round((span.ended_ns - zero_ns) / 1e9, 3)


@pytest.mark.parametrize("traceparent", ["", "00-1-2-01", CALL.traceparent[:-1] + "0"])
def test_call_without_a_sampled_trace_has_no_spans(traceparent: str) -> None:
    opening = wire.Open(uuid="call", epoch=2, traceparent=traceparent)
    assert SessionTrace.of(KeptSpans(), opening) is None


def test_session_has_the_id_that_its_dispatcher_knows() -> None:
    session = Session()
    session.trace.ended(wire.Outcome.FAILED)
    (span,) = session.kept.spans
    assert span.context == trace_context.of_session(CALL, 2)
    assert (span.parent, span.error) == (CALL, "session_failed")
    assert span.attributes["avr.session.epoch"] == 2


async def test_turn_has_its_parts() -> None:
    session = Session()
    session.happened("input_audio_buffer.speech_stopped", 1.0)
    session.created("r1", 1.1)
    session.trace.answered(time.monotonic() - (session.began_seconds + 0.5), session.began_seconds + 1.6)
    await eventually(lambda: session.named("relay"))
    session.done("r1", 3.0, usage={"input_tokens": 20, "output_tokens": 30, "total_tokens": 50})
    (turn,), (waited,), (chat,) = session.named("turn"), session.named("end_of_speech"), session.named("chat")
    assert turn.parent == session.trace.context
    assert {waited.parent, chat.parent, session.named("relay")[0].parent} == {turn.context}
    assert session.seconds(waited) == (0.5, 1.0)
    assert session.seconds(chat) == (1.0, 3.0), "the API answers by itself at the end of the turn"
    assert turn.attributes == {"avr.turn.answered": True, "avr.turn.latency_seconds": 1.1}
    assert chat.attributes["gen_ai.usage.input_tokens"] == 20
    assert chat.attributes["gen_ai.usage.output_tokens"] == 30
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] == 0.6
    assert session.named("request") == []


async def test_turn_that_was_found_here_has_the_wait_for_its_request() -> None:
    session = Session()
    session.trace.sent({"type": "input_audio_buffer.commit"})
    session.trace.sent({"type": "response.create"})
    session.created("r1", 60.0)
    session.done("r1", 61.0)
    session.trace.ended(wire.Outcome.COMPLETED)
    (turn,), (request,), (chat,) = session.named("turn"), session.named("request"), session.named("chat")
    assert request.parent == chat.parent == turn.context
    assert session.seconds(chat)[0] < 60.0, "the model's part begins with the request"
    assert turn.attributes == {"avr.turn.answered": False}


async def test_turn_lasts_until_the_answer_after_its_tool() -> None:
    session = Session()
    session.happened("input_audio_buffer.speech_stopped")
    session.created("r1")
    tool = session.trace.tool_began("call_1")
    session.done("r1", output=[FUNCTION_CALL])
    assert session.named("turn") == []
    tool.ended("lookup", session.began_seconds, "completed")
    session.trace.sent({"type": "response.create"})
    session.created("r2")
    session.trace.answered(0.1, time.monotonic())
    session.done("r2")
    (turn,), (run,) = session.named("turn"), session.named("execute_tool lookup")
    assert [chat.parent for chat in session.named("chat")] == [turn.context, turn.context]
    assert run.parent == turn.context
    assert tool.traceparent == run.context.traceparent
    assert (run.attributes["gen_ai.tool.name"], run.error) == ("lookup", "")
    assert "Anna" not in str(session.kept.spans)
    await asyncio.sleep(0)


def test_remote_tool_has_a_span_without_its_name() -> None:
    session = Session()
    for item_id in ("i1", "i2"):
        item = {"id": item_id, "type": "mcp_call", "name": "look up Anna", "arguments": "{}"}
        session.happened("response.output_item.added", 1.0, item=item)
    session.happened("response.mcp_call.completed", item_id="i1")
    session.happened("response.mcp_call.failed", item_id="i2")
    session.happened("response.mcp_call.failed", item_id="i2")
    session.happened("response.output_item.added", item={"id": "i3", "type": "message"})
    ended = session.named("execute_tool mcp")
    assert [(each.attributes["avr.tool.outcome"], each.error) for each in ended] == [
        ("completed", ""),
        ("failed", "failed"),
    ]
    assert "Anna" not in str(session.kept.spans)


def test_failed_response_is_an_error_of_a_fixed_class() -> None:
    session = Session()
    session.created("r1")
    session.done("r1", status="failed", status_details={"error": {"message": "Anna said"}})
    session.created("r2")
    session.done("r2", status="Anna")
    failed, odd = session.named("chat")
    assert (failed.parent, failed.error) == (session.trace.context, "response_failed")
    assert odd.attributes["gen_ai.response.finish_reasons"] == ("other",)
    assert "Anna" not in str(session.kept.spans)


@pytest.mark.parametrize("response", [None, "r1", [], {}, {"id": 1}, {"id": None, "usage": 3}])
def test_event_of_an_odd_shape_costs_a_span_alone(response: Any) -> None:
    session = Session()
    session.happened("response.created", response=response)
    session.happened("response.done", response=response)
    session.happened("response.output_item.added", item=response)
    session.happened("response.mcp_call.completed", item_id=response)
    session.created("r1")
    usage = {"input_tokens": "3", "output_tokens": 1 << 80, "input_token_details": 4}
    session.done("r1", status=["x"], usage=usage, output=3)
    (span,) = session.kept.spans
    assert not any(name.startswith("gen_ai.usage") for name in span.attributes)


def test_responses_without_an_end_are_forgotten() -> None:
    session = Session()
    for number in range(MAX_RESPONSES + 1):
        session.created(f"r{number}")
    session.done("r0")
    session.done("r1")
    assert len(session.named("chat")) == 1


async def test_connection_that_failed_is_an_error() -> None:
    session = Session()
    session.trace.connected(session.began_seconds, "connect_failed")
    (span,) = session.kept.spans
    assert (span.name, span.error, span.parent) == ("connect", "connect_failed", session.trace.context)
