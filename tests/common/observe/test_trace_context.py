"""The context of a trace, as `traceparent` has it."""

from __future__ import annotations

import pytest

from common.observe import trace_context
from common.observe.trace_context import TraceContext, of_call, of_session, parse

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SPAN_ID = "b7ad6b7169203331"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01"


def test_valid_traceparent_is_read_and_written() -> None:
    context = parse(VALID)
    assert context == TraceContext(TRACE_ID, SPAN_ID, is_sampled=True)
    assert context.traceparent == VALID


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_first_flag_says_whether_it_is_sampled(flags: str, sampled: bool) -> None:
    context = parse(f"00-{TRACE_ID}-{SPAN_ID}-{flags}")
    assert context is not None
    assert context.is_sampled is sampled


@pytest.mark.parametrize("later", [f"01-{TRACE_ID}-{SPAN_ID}-01", f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes"])
def test_later_version_is_read_as_far_as_it_is_known(later: str) -> None:
    assert parse(later) == TraceContext(TRACE_ID, SPAN_ID, is_sampled=True)


@pytest.mark.parametrize(
    "invalid",
    [
        "",
        VALID.upper(),
        f" {VALID}",
        f"{VALID}\n",
        f"{VALID}-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}x-01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"01-{TRACE_ID}-{SPAN_ID}-01more",
        f"01-{TRACE_ID}-{SPAN_ID}-01-{'x' * trace_context.MAX_CHARS}",
        f"00-{TRACE_ID.replace('0', chr(0x660))}-{SPAN_ID}-01",
    ],
)
def test_invalid_traceparent_is_none(invalid: str) -> None:
    assert parse(invalid) is None


def test_ids_of_a_call_are_the_same_in_each_process() -> None:
    assert of_call("call", None) == of_call("call", None)
    assert of_call("call", None) != of_call("other", None)
    session = of_session(of_call("call", None), 2)
    assert session == of_session(of_call("call", None), 2)
    assert session.trace_id == of_call("call", None).trace_id
    assert session.span_id != of_session(of_call("call", None), 3).span_id


def test_call_of_a_trace_has_its_id_and_an_own_span() -> None:
    parent = parse(VALID)
    context = of_call("call", parent)
    assert context.trace_id == TRACE_ID
    assert context.span_id != SPAN_ID
    assert parse(context.traceparent) is not None
