"""The spans of a call that its dispatcher knows."""

from __future__ import annotations

import time

import pytest

from common.observe import trace_context
from common.observe.trace_context import of_call
from common.observe.tracing import Kind
from dispatcher.call.actions import Measurement, Metric
from dispatcher.runner.call_trace import MAX_EVENTS, MAX_SESSIONS, CallTrace
from tests.spans import KeptSpans

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def end(trace: CallTrace, began_seconds: float, *, is_failure: bool = False) -> None:
    trace.ended("failed", "no_worker", is_failure=is_failure, began_seconds=began_seconds)


def test_call_continues_the_trace_that_placed_it() -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", PARENT)
    began_seconds = time.monotonic() - 3
    end(trace, began_seconds, is_failure=True)
    (call,) = kept.spans
    assert (call.name, call.kind, call.parent) == ("call", Kind.SERVER, trace_context.parse(PARENT))
    assert call.context.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert 3e9 <= call.ended_ns - call.began_ns < 60e9
    assert call.attributes == {
        "gen_ai.conversation.id": "call",
        "avr.call.ending": "failed",
        "avr.call.end_reason": "no_worker",
    }
    assert call.error == "no_worker"


@pytest.mark.parametrize("invalid", ["", "00-1-2-01", PARENT.upper()])
def test_call_without_a_valid_traceparent_begins_a_trace(invalid: str) -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", invalid)
    end(trace, 0.0)
    assert kept.spans[0].parent is None
    assert kept.spans[0].context.trace_id == of_call("call", None).trace_id


def test_unsampled_call_has_no_spans_and_says_so() -> None:
    kept = KeptSpans(sampled=False)
    trace = CallTrace(kept, "call", PARENT)
    trace.measured(Measurement(Metric.GREETING_SECONDS, 1.0), 2.0)
    trace.session_lost(1, 3.0)
    end(trace, 0.0)
    assert kept.spans == []
    assert trace.context.traceparent.endswith("-00")


def test_measurements_become_spans_and_events() -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", "")
    trace.measured(Measurement(Metric.GREETING_SECONDS, 1.0), 2.0)
    trace.measured(Measurement(Metric.RECOVERY_SECONDS, 0.5, "worker_lost"), 4.0)
    trace.measured(Measurement(Metric.RECOVERY_SECONDS, 0.25, "rollover"), 6.0)
    trace.measured(Measurement(Metric.DIGIT), 6.0)
    for _ in range(MAX_EVENTS + 2):
        trace.measured(Measurement(Metric.INTERRUPTION), 7.0)
    end(trace, 0.0)
    greeting, recovery, move, call = kept.spans
    assert [each.name for each in kept.spans] == ["greeting", "recovery", "move", "call"]
    lengths = [each.ended_ns - each.began_ns for each in (greeting, recovery, move)]
    assert lengths == [1_000_000_000, 500_000_000, 250_000_000]
    assert [each.attributes for each in (recovery, move)] == [
        {"avr.reason": "worker_lost"},
        {"avr.reason": "rollover"},
    ]
    assert all(each.parent == call.context for each in (greeting, recovery, move))
    assert len(call.events) == MAX_EVENTS
    assert call.attributes["avr.events_left_out"] == 2


def test_lost_session_has_the_id_that_its_worker_used() -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", "")
    trace.session_placed(7, 1.0)
    trace.session_lost(7, 2.5)
    (session,) = kept.spans
    assert session.context == trace_context.of_session(trace.context, 7)
    assert (session.ended_ns - session.began_ns, session.error) == (1_500_000_000, "worker_lost")


def test_only_the_latest_sessions_are_remembered() -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", "")
    for epoch in range(MAX_SESSIONS + 1):
        trace.session_placed(epoch, 1.0)
    trace.session_lost(0, 2.0)
    trace.session_lost(1, 2.0)
    assert [each.ended_ns - each.began_ns for each in kept.spans] == [0, 1_000_000_000]


def test_trace_of_an_earlier_dispatcher_is_continued() -> None:
    kept = KeptSpans()
    trace = CallTrace(kept, "call", "")
    trace.continues(PARENT)
    assert trace.context == CallTrace(kept, "call", PARENT).context
