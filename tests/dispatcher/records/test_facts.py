"""What a dispatcher knows of a call that its record will say."""

from __future__ import annotations

import orjson
import pytest

from common.link import wire
from dispatcher.call.actions import SPOKE_FIRST, Measurement, Metric
from dispatcher.records.call_record import Said, Segment
from dispatcher.records.facts import MAX_SAID, MAX_SAID_CHARS, MAX_SESSIONS, CallFacts, Counts


def busy(record_id: str = "record-1", *, with_text: bool = True) -> CallFacts:
    """Return the facts of a call in which everything happened."""
    facts = CallFacts(record_id, with_text=with_text)
    facts.measured(Measurement(Metric.GREETING_SECONDS, 0.61234))
    facts.measured(Measurement(Metric.INTERRUPTION))
    facts.measured(Measurement(Metric.DIGIT))
    facts.measured(Measurement(Metric.DIGIT))
    facts.measured(Measurement(Metric.RECOVERY_SECONDS, 0.4, wire.Reason.WORKER_LOST))
    facts.measured(Measurement(Metric.RECOVERY_SECONDS, 0.1, wire.Reason.ROLLOVER))
    facts.heard("agent", "Hello.", 1.0)
    facts.heard("user", "Hi.", 2.34567)
    facts.session(
        wire.Figures(
            1,
            "gpt-realtime-2",
            "marin",
            (800,),
            (wire.ToolFigure("weather", 0.2, "completed"),),
            end_of_speech_ms=(500,),
            model_ms=(250,),
        )
    )
    facts.recording = (Segment("host-a", "one.wav", 0.0, 3.5),)
    facts.trace_id, facts.traceparent = "trace-1", "parent-1"
    facts.belongs_to("acme")
    return facts


def test_a_caller_who_speaks_first_is_not_greeted() -> None:
    facts = CallFacts("record-1")
    facts.measured(Measurement(Metric.GREETING_SECONDS, 4.0, SPOKE_FIRST))
    assert facts.greeting_seconds is None


def test_what_happens_is_counted() -> None:
    facts = busy()
    assert facts.counts == Counts(turns=1, interruptions=1, keys=2, moves=1, recoveries=1)
    assert facts.greeting_seconds == 0.612
    assert facts.said == [Said("agent", "Hello.", 1.0), Said("user", "Hi.", 2.346)]


def test_text_is_kept_only_where_it_is_wanted() -> None:
    facts = busy(with_text=False)
    assert (facts.said, facts.counts.turns) == ([], 1)
    assert b"Hi." not in orjson.dumps(facts.as_json())


def test_an_earlier_tenant_is_the_calls() -> None:
    facts = CallFacts("r")
    facts.belongs_to("other")
    facts.add_earlier(busy())
    assert facts.tenant == "acme"
    facts.add_earlier(CallFacts("of an earlier release"))
    assert facts.tenant == "acme"


def test_a_tenant_is_written_once() -> None:
    facts = CallFacts("r")
    facts.is_changed = False
    facts.belongs_to("")
    assert not facts.is_changed
    facts.belongs_to("acme")
    assert facts.is_changed


def test_facts_of_an_earlier_release_have_no_tenant() -> None:
    written = busy().as_json()
    del written["tenant"]
    assert CallFacts.from_json(written, with_text=False).tenant == ""


@pytest.mark.parametrize("with_text", [True, False])
def test_facts_come_back_from_redis(with_text: bool) -> None:
    written = busy().as_json()
    read = CallFacts.from_json(orjson.loads(orjson.dumps(written)), with_text=with_text)
    assert read.as_json() == (written if with_text else written | {"said": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"record_id": "r"},
        busy().as_json() | {"counts": {"turns": 1, "of a later release": 2}},
        busy().as_json() | {"said": [1]},
        busy().as_json() | {"figures": [{}]},
        busy().as_json() | {"recording": None},
    ],
)
def test_facts_that_cannot_be_read_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        CallFacts.from_json(wrong, with_text=True)


def test_what_an_earlier_dispatcher_knew_is_added() -> None:
    later = CallFacts("record-2", with_text=True)
    later.measured(Measurement(Metric.GREETING_SECONDS, 9.0))
    later.measured(Measurement(Metric.DIGIT))
    later.heard("user", "Still there?", 8.0)
    later.session(wire.Figures(1, latencies_ms=(800, 700)))
    later.session(wire.Figures(4, "gpt-realtime-2", "cedar"))
    later.recording = (Segment("host-b", "two.wav", 7.0, 1.0),)
    later.add_earlier(busy())
    assert later.record_id == "record-1"
    assert (later.trace_id, later.traceparent) == ("trace-1", "parent-1")
    assert later.counts == Counts(turns=2, interruptions=1, keys=3, moves=1, recoveries=1)
    assert later.greeting_seconds == 0.612
    assert [each.text for each in later.said] == ["Hello.", "Hi.", "Still there?"]
    assert [each.file for each in later.recording] == ["one.wav", "two.wav"]
    # The session that went on has told more since.
    assert later.figures[1].latencies_ms == (800, 700)
    assert later.figures.keys() == {1, 4}


def test_the_text_of_an_endless_call_is_bounded() -> None:
    facts = CallFacts("r", with_text=True)
    for _ in range(MAX_SAID + 5):
        facts.heard("user", "x", 0.0)
    assert (len(facts.said), facts.said_left_out, facts.counts.turns) == (MAX_SAID, 5, MAX_SAID + 5)


def test_long_texts_are_bounded() -> None:
    facts = CallFacts("r", with_text=True)
    for _ in range(3):
        facts.heard("agent", "x" * (MAX_SAID_CHARS // 2), 0.0)
    assert (len(facts.said), facts.said_left_out) == (2, 1)


def test_the_figures_of_many_sessions_are_bounded() -> None:
    facts = CallFacts("r")
    for session in range(MAX_SESSIONS + 2):
        facts.session(wire.Figures(session))
    assert sorted(facts.figures) == list(range(2, MAX_SESSIONS + 2))


def test_trace_is_kept_where_no_earlier_dispatcher_had_one() -> None:
    later = CallFacts("record-2")
    later.trace_id, later.traceparent = "trace-2", "parent-2"
    later.add_earlier(CallFacts("record-1"))
    assert (later.trace_id, later.traceparent) == ("trace-2", "parent-2")


def test_a_recording_of_nothing_changes_nothing() -> None:
    facts = CallFacts("r")
    facts.is_changed = False
    facts.recorded(())
    assert (facts.recording, facts.is_changed) == ((), False)


def test_only_a_new_file_of_the_recording_is_a_change() -> None:
    facts = CallFacts("r")
    facts.is_changed = False
    facts.recorded((Segment("host-a", "one.wav", 0.0, 1.0),))
    assert facts.is_changed
    facts.is_changed = False
    facts.recorded((Segment("host-a", "one.wav", 0.0, 2.0),))
    assert (facts.recording, facts.is_changed) == ((Segment("host-a", "one.wav", 0.0, 2.0),), False)
    facts.recorded((Segment("host-a", "one.wav", 0.0, 2.0), Segment("host-a", "two.wav", 3.0, 1.0)))
    assert ([each.file for each in facts.recording], facts.is_changed) == (["one.wav", "two.wav"], True)


def test_what_the_record_does_not_name_is_not_counted() -> None:
    facts = CallFacts("r")
    before = facts.counts.plus(Counts())
    facts.measured(Measurement(Metric.BAD_INPUT))
    assert facts.counts == before
