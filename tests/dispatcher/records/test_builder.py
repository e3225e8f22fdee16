"""The record of a call, made from what its dispatchers knew."""

from __future__ import annotations

import orjson
import pytest

from common.link import wire
from common.link.wire import EndReason
from common.runtime.release import RELEASE
from dispatcher.records.builder import End, build
from dispatcher.records.call_record import CallRecord, Latency, Said, ToolUse
from dispatcher.records.facts import CallFacts
from tests.dispatcher.records.test_facts import busy

METADATA = {"from": "+390612345", "to": "600", "channel": "PJSIP/100"}


def record(facts: CallFacts, reason: EndReason = EndReason.CALLER_HUNG_UP) -> CallRecord:
    end = End("completed", reason, "the caller's connection closed with 1000", 1_000.0, 1_012.3456)
    return build("call-1", METADATA, ["from", "to", "absent"], facts, end)


def test_a_record_says_what_happened() -> None:
    made = record(busy())
    assert (made.id, made.uuid, made.trace_id, made.release) == ("record-1", "call-1", "trace-1", RELEASE)
    assert made.metadata == {"from": "+390612345", "to": "600"}
    assert made.tenant == "acme"
    assert (made.seconds, made.ending, made.hung_up_by) == (12.346, "completed", "caller")
    assert (made.turns, made.interruptions, made.keys, made.moves, made.recoveries) == (1, 1, 2, 1, 1)
    assert made.tools == (ToolUse("weather", 0.2, "completed"),)
    assert made.said == (Said("agent", "Hello.", 1.0), Said("user", "Hi.", 2.346))
    assert (made.model, made.voice) == ("gpt-realtime-2", "marin")


def test_without_tenants_a_record_has_none() -> None:
    assert record(CallFacts("r")).tenant is None


def test_sessions_add_up() -> None:
    facts = CallFacts("r")
    tokens = {"m": {"input_audio": 10, "output_audio": 3}}
    facts.session(wire.Figures(4, "m-2", "cedar", (300,), tokens={"m-2": {"input_audio": 1}}, cost_usd=0.25))
    facts.session(wire.Figures(1, "m", "ash", (100, 200), tokens=tokens, cost_usd=0.5, answers_retried=2))
    facts.session(wire.Figures(2, "m", "ash", tokens=tokens, tools_left_out=7, answers_given_up=1))
    made = record(facts)
    assert made.tokens == {"m": {"input_audio": 20, "output_audio": 6}, "m-2": {"input_audio": 1}}
    assert (made.model, made.voice, made.cost_usd) == ("m-2", "cedar", 0.75)
    assert (made.answers_retried, made.answers_given_up, made.tools_left_out) == (2, 1, 7)
    assert made.turn_latency == Latency(3, 0.2, 0.3, 0.3)


@pytest.mark.parametrize(
    ("latencies_ms", "latency"),
    [
        ((), Latency()),
        ((400,), Latency(1, 0.4, 0.4, 0.4)),
        (tuple(range(1000, 0, -10)), Latency(100, 0.5, 0.95, 1.0)),
    ],
)
def test_latencies_are_values_that_were_measured(latencies_ms: tuple[int, ...], latency: Latency) -> None:
    facts = CallFacts("r")
    facts.session(wire.Figures(1, latencies_ms=latencies_ms))
    assert record(facts).turn_latency == latency


def test_latencies_have_the_medians_of_their_parts() -> None:
    facts = CallFacts("r")
    facts.session(wire.Figures(1, latencies_ms=(900,)))  # of a release that does not tell the parts
    facts.session(
        wire.Figures(2, latencies_ms=(800, 1500, 900), end_of_speech_ms=(500, 510, 520), model_ms=(200, 900, 300))
    )
    latency = record(facts).turn_latency
    assert (latency.count, latency.worst_seconds) == (4, 1.5)
    assert (latency.end_of_speech_seconds, latency.model_seconds, latency.service_seconds) == (0.51, 0.3, 0.09)


@pytest.mark.parametrize("reason", EndReason)
def test_each_reason_says_who_hung_up(reason: EndReason) -> None:
    by = record(CallFacts("r"), reason).hung_up_by
    assert by in {"caller", "agent", "api", "service", "unknown"}
    assert (by == "caller") == (reason is EndReason.CALLER_HUNG_UP)


def test_a_record_without_text_does_not_have_the_field() -> None:
    assert not {"said", "said_left_out"} & record(busy(with_text=False)).as_json().keys()


def test_the_same_record_has_the_same_bytes() -> None:
    encoded = record(busy()).encoded()
    assert encoded == record(busy()).encoded()
    assert b"\n" not in encoded
    read = orjson.loads(encoded)
    assert (read["started_at"], read["ended_at"]) == ("1970-01-01T00:16:40.000Z", "1970-01-01T00:16:52.346Z")
    assert list(read) == sorted(read)


def test_a_clock_that_went_back_gives_no_negative_length() -> None:
    end = End("completed", EndReason.CALLER_HUNG_UP, "", 1_000.0, 999.0)
    assert build("call-1", {}, [], CallFacts("r"), end).seconds == 0


def test_tokens_of_another_shape_are_left_out() -> None:
    """A worker of a later release may count in another way."""
    facts = CallFacts("r")
    facts.session(wire.Figures(1, tokens={"m": {"input_audio": 1, "detail": {"of": "it"}}, "all": 7}))
    assert record(facts).tokens == {"m": {"input_audio": 1}}
