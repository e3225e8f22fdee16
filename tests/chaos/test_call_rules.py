"""Each rule accepts a history that keeps it, and reports histories that break it in one way each."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from simulator.avr.call_record import ClosedBy, Violation
from tests.chaos.call_rules import (
    RULES_FOR_ALL,
    RULES_FOR_TALKERS,
    answer_to,
    judge,
)
from tests.chaos.changes import (
    Break,
    answered_twice,
    closed,
    disturbed,
    greeted_twice,
    lost_in_a_drain,
    never_heard_again,
    new_session_for_a_link,
    overlapping,
    promised,
    spoken_after_waking,
    tool_forgotten,
    with_fields,
    with_items,
)
from tests.chaos.ears import HeardWord
from tests.chaos.facts import (
    CallFacts,
    Close,
    Fault,
    FaultKind,
    Frozen,
    Gap,
    Item,
    Part,
    Pin,
    Struck,
    ToolRun,
    Utterance,
)
from tests.chaos.histories import (
    CONVERSATION,
    FIRST,
    GREETING,
    SECOND,
    a_call,
    a_moved_call,
    a_session,
    agent_item,
    broken_rules,
    heard_words_of,
    output_item,
    user_item,
)
from tests.chaos.session_rules import final_session


def test_a_call_without_a_fault_breaks_nothing() -> None:
    assert judge(a_call()) == []


def test_a_call_that_was_moved_breaks_nothing() -> None:
    assert judge(a_moved_call()) == []


def test_every_rule_has_a_history_here_that_breaks_it() -> None:
    # The parameters below name the rules; this check names rules without a history.
    named = {case.values[0] for case in _BROKEN}
    assert {_NAMES.get(rule.__name__, rule.__name__) for rule in RULES_FOR_TALKERS} <= named
    assert set(RULES_FOR_ALL) <= set(RULES_FOR_TALKERS)


_NAMES = {
    "one_session": "one session",
    "messages": "protocol",
    "promises": "promise",
    "answered_once": "answered once",
    "handed_over": "handed over",
}


_BROKEN = [
    pytest.param("handed over", lost_in_a_drain, id="a worker that drained"),
    pytest.param("undisturbed", disturbed, id="a fault beside the call"),
    pytest.param("connection", closed(1011, ClosedBy.SERVICE), id="our fault"),
    pytest.param("connection", closed(1000, ClosedBy.SERVICE), id="nobody hung up"),
    pytest.param("connection", closed(1013, ClosedBy.SERVICE), id="refused though there is room"),
    pytest.param("connection", closed(1008, ClosedBy.SERVICE), id="accused"),
    pytest.param("connection", closed(1006, ClosedBy.NOBODY), id="lost without a fault"),
    pytest.param("protocol", with_fields(protocol=[Violation(3.0, "not JSON")]), id="protocol"),
    pytest.param("error", with_fields(errors=["something is wrong"]), id="error"),
    pytest.param("answered", with_fields(unanswered=[115.0]), id="unanswered"),
    pytest.param("answered", lambda call: call.heard.clear(), id="nothing was heard"),
    pytest.param("answered once", answered_twice, id="answered twice"),
    pytest.param("recovered", never_heard_again, id="not heard again"),
    pytest.param("one session", overlapping, id="two sessions"),
    pytest.param("woken", spoken_after_waking, id="a worker that woke"),
    pytest.param("epochs", with_fields(pins=[Pin("w-1", 2), Pin("w-2", 1)]), id="epochs go back"),
    pytest.param("epochs", with_fields(pins=[Pin("w-1", 2), Pin("w-2", 2)]), id="one epoch twice"),
    pytest.param("attached", new_session_for_a_link, id="link"),
    pytest.param("greeting", greeted_twice, id="greeted twice"),
    pytest.param("told", with_fields(heard=heard_words_of(GREETING, FIRST)), id="a reply not heard"),
    pytest.param(
        "told", with_fields(heard=heard_words_of(GREETING, FIRST, FIRST, SECOND)), id="a reply heard twice"
    ),
    pytest.param("told", with_fields(heard=heard_words_of(GREETING, SECOND, FIRST)), id="in another order"),
    pytest.param(
        "told", with_fields(heard=heard_words_of(GREETING, FIRST, "reply three turn")), id="a word not heard"
    ),
    pytest.param(
        "told", with_fields(heard=heard_words_of(GREETING, FIRST, SECOND, "alpha")), id="a word not told"
    ),
    pytest.param(
        "told",
        with_fields(heard=[*heard_words_of(GREETING, FIRST, SECOND)[:-1], HeardWord(5.0, "two", 0.5)]),
        id="half a word",
    ),
    pytest.param("listened", with_items(*CONVERSATION[:3], *CONVERSATION[4:]), id="a turn not heard"),
    pytest.param("listened", with_items(*CONVERSATION[:2], *CONVERSATION[1:]), id="a turn heard twice"),
    pytest.param("listened", with_fields(utterances=[Utterance(105.0, 105.8, (8,))]), id="other turns"),
    pytest.param("listened", with_items(*CONVERSATION[:1], user_item(1), *CONVERSATION[2:]), id="half a turn"),
    pytest.param("transcripts", lambda call: call.transcripts.pop(), id="a transcript is missing"),
    pytest.param("transcripts", lambda call: call.transcripts.pop(1), id="a caller's is missing"),
    pytest.param("transcripts", lambda call: call.transcripts.append(("agent", SECOND)), id="twice"),
    pytest.param("transcripts", lambda call: call.transcripts.reverse(), id="out of order"),
    pytest.param("transcripts", lambda call: call.transcripts.append(("user", "boo")), id="of nothing"),
    pytest.param(
        "transcripts", lambda call: call.transcripts.__setitem__(0, ("agent", "greeting one")), id="too short"
    ),
    pytest.param(
        "tools", lambda call: call.tool_runs.append(ToolRun("u-1", "2", 2, 118.0)), id="a tool run twice"
    ),
    pytest.param("tools", tool_forgotten, id="a tool is forgotten"),
    pytest.param(
        "tools", with_items(*CONVERSATION[:5], output_item("something else"), CONVERSATION[6]), id="a wrong output"
    ),
    pytest.param("promise", promised, id="no hang-up"),
    pytest.param("promise", with_fields(hang_ups=2), id="two hang-ups"),
]


@pytest.mark.parametrize(("rule", "change"), _BROKEN)
def test_a_history_that_breaks_a_rule_is_found(rule: str, change: Break) -> None:
    call = a_call()
    change(call)
    assert rule in broken_rules(call)


class TestConnection:
    def test_killed_dispatcher_may_lose_a_connection_that_returns(self) -> None:
        call = a_call()
        call.faults = [Fault(FaultKind.KILL_DISPATCHER, 110.0)]
        call.closes.insert(0, Close(110.1, 1006, ClosedBy.NOBODY))
        call.gaps = [Gap(110.1, 110.9)]
        assert "connection" not in broken_rules(call)
        call.gaps = [Gap(110.1, None)]
        call.hung_up = ""
        assert "connection" in broken_rules(call)

    def test_loss_long_after_a_fault_has_another_reason(self) -> None:
        call = a_call()
        call.faults = [Fault(FaultKind.KILL_DISPATCHER, 110.0)]
        call.closes.insert(0, Close(116.0, 1006, ClosedBy.NOBODY))
        assert "connection" in broken_rules(call)

    def test_the_agent_may_end_the_call(self) -> None:
        call = a_call()
        call.closes = [Close(130.0, 1000, ClosedBy.SERVICE)]
        call.promised, call.hang_ups, call.hung_up = 127.0, 1, "agent"
        assert broken_rules(call) == []

    def test_without_a_worker_a_call_may_be_refused(self) -> None:
        call = a_call()
        closed(1013, ClosedBy.SERVICE)(call)
        call.capacity = False
        assert "connection" not in broken_rules(call)

    @pytest.mark.parametrize("part", [Part.STALLED, Part.FLOODER])
    def test_a_core_that_misbehaves_may_be_ended(self, part: Part) -> None:
        for code, by in ((1008, ClosedBy.SERVICE), (1006, ClosedBy.NOBODY)):
            call = a_call()
            closed(code, by)(call)
            call.part = part
            assert broken_rules(call) == []

    def test_a_core_that_floods_is_to_be_ended(self) -> None:
        call = a_call()
        call.part = Part.FLOODER
        assert broken_rules(call) == ["connection"]


class TestSessions:
    def test_short_overlap_of_sessions_is_allowed(self) -> None:
        call = a_moved_call(gap_seconds=-0.2)
        assert broken_rules(call) == []

    def test_a_stopped_worker_cannot_answer(self) -> None:
        call = a_moved_call(113.0, kind=FaultKind.STOP_WORKER)
        call.sessions[0] = a_session(1, end=115.3, items=CONVERSATION[:2], hearing=((101.0, 110.0),))
        call.sessions[0] = replace(call.sessions[0], last_event_seconds=110.0)
        assert "one session" in broken_rules(call)
        call.frozen = [Frozen(110.0, 115.0, frozenset({"127.0.0.1:50001"}))]
        assert broken_rules(call) == []

    def test_stopped_worker_releases_soon_after_it_wakes(self) -> None:
        call = a_moved_call(113.0, kind=FaultKind.STOP_WORKER)
        call.frozen = [Frozen(110.0, 115.0, frozenset({"127.0.0.1:50001"}))]
        call.sessions[0] = replace(a_session(1, end=118.0), last_event_seconds=110.0)
        assert "one session" in broken_rules(call)

    def test_model_need_not_be_told_of_a_call_that_ended(self) -> None:
        call = a_call()
        call.sessions = [a_session(items=CONVERSATION[:2])]
        assert {"told", "listened", "transcripts"} <= set(broken_rules(call))
        call.frozen = [Frozen(128.0, 133.0, frozenset({"127.0.0.1:50001"}))]
        assert broken_rules(call) == []
        # Another session should have been told.
        call.frozen = [Frozen(128.0, 133.0, frozenset({"127.0.0.1:50002"}))]
        assert "told" in broken_rules(call)

    def test_last_words_may_have_no_model_to_tell(self) -> None:
        call = a_call()
        call.sessions[0] = replace(call.sessions[0], items=(*CONVERSATION, user_item(3)))
        call.utterances.append(Utterance(127.0, 127.8, (3,)))
        assert broken_rules(call) == ["transcripts"]
        call.utterances[-1] = Utterance(128.0, 128.8, (3,))
        assert broken_rules(call) == []

    def test_last_words_may_have_no_worker_to_tell_them(self) -> None:
        call = a_call()
        call.transcripts = call.transcripts[:-2]
        assert broken_rules(call) == ["transcripts"]
        call.sessions[0] = replace(call.sessions[0], closed_seconds=129.0)
        assert broken_rules(call) == []

    def test_state_of_killed_dispatcher_and_stopped_worker_is_lost(self) -> None:
        call = a_moved_call(115.2, kind=FaultKind.KILL_DISPATCHER)
        call.utterances.append(Utterance(113.5, 114.5, (3,)))
        call.unanswered = [114.6]
        assert {"answered", "listened"} <= set(broken_rules(call))
        call.frozen = [Frozen(114.0, 119.0, frozenset({"127.0.0.1:50001"}))]
        assert broken_rules(call) == []
        # Another process had the call by then, or the worker was awake.
        for other in (
            Frozen(114.0, 119.0, frozenset({"127.0.0.1:50003"})),
            Frozen(114.0, 115.0, call.frozen[0].peers),
        ):
            call.frozen = [other]
            assert {"answered", "listened"} <= set(broken_rules(call))

    def test_a_worker_that_wakes_in_time_may_go_on(self) -> None:
        call = a_call()
        call.frozen = [Frozen(110.0, 112.0, frozenset({"127.0.0.1:50001"}))]
        assert broken_rules(call) == []

    def test_session_on_a_reused_port_is_not_the_stopped_workers(self) -> None:
        call = a_moved_call()
        call.frozen = [Frozen(100.2, 105.0, frozenset({"127.0.0.1:50001", "127.0.0.1:50002"}))]
        call.sessions.append(a_session(3, begin=103.0, end=103.1, items=(), answering=()))
        assert broken_rules(call) == []

    def test_link_cut_beside_another_fault_may_cost_a_session(self) -> None:
        call = a_moved_call()
        call.faults.append(Fault(FaultKind.CUT_LINK, 109.5))
        assert broken_rules(call) == []

    def test_link_cut_with_an_old_session_may_be_followed_by_another(self) -> None:
        call = a_call()
        new_session_for_a_link(call)
        call.rollover_seconds = 9.0
        assert broken_rules(call) == []

    def test_sessions_open_after_the_call_do_not_overlap(self) -> None:
        call = a_moved_call()
        call.sessions[0] = a_session(1, begin=130.0, end=math.inf, items=())
        call.sessions.append(a_session(3, begin=131.0, end=math.inf, items=()))
        assert "one session" not in broken_rules(call)

    def test_abandoned_session_does_not_count(self) -> None:
        call = a_call()
        call.sessions.append(a_session(2, begin=115.0, end=115.01, items=()))
        assert broken_rules(call) == []

    def test_last_session_that_may_answer_counts(self) -> None:
        call = a_moved_call()
        call.sessions.append(a_session(3, begin=128.0, answering=(), items=()))
        last = final_session(call)
        assert last is not None
        assert last.number == 2
        assert final_session(CallFacts("u-1", Part.TALKER, 0.0)) is None


class TestConversation:
    def test_cut_may_lose_or_add_one_word(self) -> None:
        for heard in ("reply two turn", "reply two turn one alpha"):
            call = a_moved_call()
            call.heard = heard_words_of(GREETING, heard, SECOND)
            assert broken_rules(call) == []
        call = a_moved_call()
        call.heard = heard_words_of(GREETING, "reply two", SECOND)
        assert broken_rules(call) == ["told"]

    def test_each_cut_allows_one_word(self) -> None:
        call = a_moved_call()
        call.heard = heard_words_of("greeting one", "reply two turn", "reply three turn")
        assert broken_rules(call) == ["told"], "the fault and the session that follows it are two"
        call.interruptions = 1
        assert broken_rules(call) == []

    def test_a_piece_of_a_word_at_a_cut_counts_either_way(self) -> None:
        for word in ("one", "alpha", "?"):
            call = a_moved_call()
            words = heard_words_of(GREETING, "reply two turn")
            call.heard = [*words, HeardWord(9.0, word, 0.6), *heard_words_of("", "", SECOND)]
            assert broken_rules(call) == []

    def test_redis_fault_cuts_no_audio(self) -> None:
        call = a_call()
        call.faults = [Fault(FaultKind.KILL_REDIS, 110.0)]
        call.heard.pop()
        assert broken_rules(call) == ["told"]

    def test_unheard_greeting_does_not_count(self) -> None:
        call = a_moved_call()
        call.heard.insert(0, HeardWord(0.0, "greeting", 0.3))
        assert broken_rules(call) == []

    def test_words_into_a_lost_connection_may_be_lost_or_split(self) -> None:
        for items in ((), (user_item(1),), (user_item(1), user_item(3))):
            call = a_call()
            call.gaps = [Gap(112.5, 113.0)]
            call.faults = [Fault(FaultKind.CUT_CALLER, 112.5)]
            call.closes.insert(0, Close(112.5, 1006, ClosedBy.NOBODY))
            call.utterances[1] = replace(call.utterances[1], damaged=True)
            with_items(*CONVERSATION[:3], *items, *CONVERSATION[4:])(call)
            call.transcripts[3:4] = [("user", item.text or "") for item in items]
            assert broken_rules(call) == []

    def test_a_turn_without_text_is_known_by_its_length(self) -> None:
        call = a_moved_call()
        replayed = Item("message", role="user", audio_ms=5 * 400 + 800)
        with_items(*CONVERSATION[:3], replayed, *CONVERSATION[4:])(call)
        assert broken_rules(call) == []
        del call.transcripts[3]
        assert broken_rules(call) == []
        with_items(*CONVERSATION[:3], replace(replayed, audio_ms=1000), *CONVERSATION[4:])(call)
        assert broken_rules(call) == ["listened"]

    def test_a_transcript_may_differ_by_a_word_at_a_cut(self) -> None:
        call = a_moved_call()
        call.transcripts[2] = ("agent", "reply two turn")
        assert broken_rules(call) == []
        call.transcripts[2] = ("agent", "reply two")
        assert broken_rules(call) == ["transcripts"]

    def test_lost_connection_may_lose_a_transcript_never_repeat_it(self) -> None:
        call = a_call()
        call.gaps = [Gap(110.0, 110.5)]
        call.faults = [Fault(FaultKind.CUT_CALLER, 110.0)]
        call.closes.insert(0, Close(110.0, 1006, ClosedBy.NOBODY))
        kept = call.transcripts
        call.transcripts = kept[1:]
        assert broken_rules(call) == []
        call.transcripts = kept[2:]
        assert broken_rules(call) == ["transcripts"]
        call.transcripts = [*kept, kept[-1]]
        assert broken_rules(call) == ["transcripts"]

    def test_broken_call_reports_its_break_alone(self) -> None:
        call = a_call()
        closed(1011, ClosedBy.SERVICE)(call)
        call.errors = ["the worker was lost"]
        call.heard = []
        call.transcripts = []
        assert broken_rules(call) == ["connection"]


class TestRealtimeFaults:
    def test_note_of_the_service_is_no_turn(self) -> None:
        call = a_call()
        note = Item("message", role="user", text="[The line was lost.]", origin="client")
        with_items(*CONVERSATION[:3], note, *CONVERSATION[3:])(call)
        assert broken_rules(call) == []
        with_items(*CONVERSATION[:3], replace(note, origin="caller"), *CONVERSATION[3:])(call)
        assert "listened" in broken_rules(call)

    def test_reply_without_audio_need_not_be_heard(self) -> None:
        call = a_call()
        failed = Item("message", role="assistant", text="", origin="model")
        with_items(*CONVERSATION[:4], failed, *CONVERSATION[4:])(call)
        assert broken_rules(call) == []

    def test_unheard_text_must_be_deleted(self) -> None:
        call = a_call()
        with_items(*CONVERSATION[:4], agent_item("reply three turn two"), *CONVERSATION[4:])(call)
        assert {"told", "transcripts"} <= set(broken_rules(call))

    def test_replaced_surrogate_is_no_difference(self) -> None:
        call = a_call()
        call.transcripts = [(role, f"{text}\ufffd") for role, text in call.transcripts]
        with_items(*CONVERSATION[:5], output_item(f"{answer_to('2')}\ufffd"), *CONVERSATION[6:])(call)
        assert broken_rules(call) == []

    @pytest.mark.parametrize(("words", "found"), [((2,), ["listened"]), ((2, 3), [])])
    def test_pauses_are_part_of_speech_without_an_end(self, words: tuple[int, ...], found: list[str]) -> None:
        call = a_call()
        call.faults = [Fault(FaultKind.ENDLESS_SPEECH, 104.0)]
        call.sessions = [a_session(struck=(Struck("endless_speech", 112.0, 117.0),))]
        call.utterances[1] = replace(call.utterances[1], words=words)
        assert broken_rules(call) == found

    def test_call_of_a_tool_with_a_replaced_surrogate_is_remembered(self) -> None:
        call = a_moved_call(120.0)
        restored = Item("function_call", name="lookup", call_id="call_1", arguments='{"ask":"2\ufffd"}')
        call.sessions[0] = replace(call.sessions[0], items=CONVERSATION)
        with_items(*CONVERSATION[:4], restored, *CONVERSATION[5:])(call)
        assert "tools" not in broken_rules(call)

    def test_silence_may_be_committed_during_a_stalled_connection(self) -> None:
        call = a_call()
        silence = Item("message", role="user", text="heard nothing", audio_ms=940, origin="caller")
        with_items(*CONVERSATION[:2], silence, *CONVERSATION[2:])(call)
        call.transcripts.insert(2, ("user", "heard nothing"))
        assert broken_rules(call) == ["listened"]
        call.faults = [Fault(FaultKind.STALL_SESSION, 105.0, lasts=True, until_seconds=113.0)]
        assert broken_rules(call) == []

    def test_announcement_need_not_be_known_to_a_model(self) -> None:
        call = a_call()
        call.heard.insert(7, HeardWord(14.4, "filler", 1.0))
        assert broken_rules(call) == []

    def test_way_out_is_taken_after_a_long_wait_alone(self) -> None:
        call = a_call()
        closed(1011, ClosedBy.SERVICE)(call)
        call.ended_seconds = 146.0
        call.closes = [Close(146.0, 1011, ClosedBy.SERVICE)]
        call.faults = [Fault(FaultKind.OUTAGE, 113.0, lasts=True, until_seconds=150.0)]
        call.heard = [*heard_words_of(GREETING, FIRST), HeardWord(44.5, "apology", 1.0)]
        assert "connection" not in broken_rules(call)
        assert "answered" not in broken_rules(call)
        call.heard[-1] = HeardWord(40.0, "filler", 1.0)
        assert "connection" in broken_rules(call), "no apology was heard"
        call.heard[-1] = HeardWord(30.0, "apology", 1.0)
        call.closes = [Close(132.0, 1011, ClosedBy.SERVICE)]
        assert "connection" in broken_rules(call), "too soon"


class TestTools:
    def test_an_interrupted_tool_is_remembered_as_such(self) -> None:
        call = a_moved_call(117.0)
        with_items(*CONVERSATION[:5], output_item("interrupted, outcome unknown"), CONVERSATION[6])(call)
        assert broken_rules(call) == []

    def test_agent_may_hang_up_after_announcing_it(self) -> None:
        call = a_call()
        promised(call)
        call.promised, call.hang_ups = 128.0, 1
        assert broken_rules(call) == []
