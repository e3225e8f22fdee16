"""Each rule is shown a history that keeps it, and histories that break it in one way each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from simulator.avr.call_record import ClosedBy, Violation
from tests.chaos.call_rules import (
    RULES_FOR_ALL,
    RULES_FOR_TALKERS,
    answer_to,
    judge,
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
    Reply,
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
    # The parameters below name the rules; this names those that nobody has thought of.
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

Break = Callable[[CallFacts], object]


def _closed(code: int, by: ClosedBy) -> Break:
    def change(call: CallFacts) -> None:
        call.closes = [Close(120.0, code, by)]
        call.hung_up = ""

    return change


def _set(**changes: object) -> Break:
    def change(call: CallFacts) -> None:
        for name, value in changes.items():
            setattr(call, name, value)

    return change


def _told(*items: Item) -> Break:
    return lambda call: call.sessions.__setitem__(-1, replace(call.sessions[-1], items=items))


def _greeted_twice(call: CallFacts) -> None:
    call.heard = heard_words_of(GREETING, GREETING, FIRST, SECOND)
    _told(CONVERSATION[0], *CONVERSATION)(call)
    call.transcripts.insert(0, ("agent", GREETING))


def _overlapping(call: CallFacts) -> None:
    call.sessions = [a_session(1), a_session(2, begin=120.0)]


_LONG = "reply two turn one alpha bravo charlie delta"


def _answered_twice(call: CallFacts) -> None:
    again = _LONG.replace("two", "three")
    replies = (Reply(106.5, "completed", _LONG), Reply(111.5, "completed", again))
    call.sessions = [a_session(responses=(call.sessions[0].responses[0], *replies))]
    call.heard = heard_words_of(GREETING, _LONG, again)


def _promised(call: CallFacts) -> None:
    _told(*CONVERSATION, Item("function_call", name="avr_hangup", call_id="call_2"))(call)
    call.waited_for_agent = True


def _forgotten(call: CallFacts) -> None:
    kept = tuple(item for item in CONVERSATION if not item.type.startswith("function"))
    call.sessions = [a_session(1, end=118.0), a_session(2, begin=118.5, items=kept)]
    call.faults = [Fault(FaultKind.KILL_WORKER, 118.0)]


def _never_heard_again(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.KILL_WORKER, 110.0)]
    call.sessions = [a_session(hearing=((101.0, 110.0),))]


def _woken_and_said_something(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.STOP_WORKER, 110.0, lasts=True, until_seconds=115.0)]
    call.frozen = [Frozen(110.0, 115.0, frozenset({"127.0.0.1:50001"}))]
    call.sessions = [
        a_session(1, end=115.2, hearing=((101.0, 110.0),), last_event_seconds=115.1),
        a_session(2, begin=113.5),
    ]


def _new_session_for_a_link(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.CUT_LINK, 110.0)]
    call.sessions = [a_session(1, end=110.2), a_session(2, begin=110.4)]


def _lost_in_a_drain(call: CallFacts) -> None:
    call.faults = [Fault(FaultKind.DRAIN_WORKER, 110.0)]
    call.restorations = [113.0]


def _disturbed(call: CallFacts) -> None:
    call.beside = [Fault(FaultKind.HOSTILE_INIT, 110.0, lasts=True, until_seconds=112.0)]
    call.sessions = [a_session(hearing=((101.0, 110.5), (112.5, 130.0)))]


_BROKEN = [
    pytest.param("handed over", _lost_in_a_drain, id="a worker that drained"),
    pytest.param("undisturbed", _disturbed, id="a fault beside the call"),
    pytest.param("connection", _closed(1011, ClosedBy.SERVICE), id="our fault"),
    pytest.param("connection", _closed(1000, ClosedBy.SERVICE), id="nobody hung up"),
    pytest.param("connection", _closed(1013, ClosedBy.SERVICE), id="refused though there is room"),
    pytest.param("connection", _closed(1008, ClosedBy.SERVICE), id="accused"),
    pytest.param("connection", _closed(1006, ClosedBy.NOBODY), id="lost without a fault"),
    pytest.param("protocol", _set(protocol=[Violation(3.0, "not JSON")]), id="protocol"),
    pytest.param("error", _set(errors=["something is wrong"]), id="error"),
    pytest.param("answered", _set(unanswered=[115.0]), id="unanswered"),
    pytest.param("answered", lambda call: call.heard.clear(), id="nothing was heard"),
    pytest.param("answered once", _answered_twice, id="answered twice"),
    pytest.param("recovered", _never_heard_again, id="not heard again"),
    pytest.param("one session", _overlapping, id="two sessions"),
    pytest.param("woken", _woken_and_said_something, id="a worker that woke"),
    pytest.param("epochs", _set(pins=[Pin("w-1", 2), Pin("w-2", 1)]), id="epochs go back"),
    pytest.param("epochs", _set(pins=[Pin("w-1", 2), Pin("w-2", 2)]), id="one epoch twice"),
    pytest.param("attached", _new_session_for_a_link, id="link"),
    pytest.param("greeting", _greeted_twice, id="greeted twice"),
    pytest.param("told", _set(heard=heard_words_of(GREETING, FIRST)), id="a reply not heard"),
    pytest.param("told", _set(heard=heard_words_of(GREETING, FIRST, FIRST, SECOND)), id="a reply heard twice"),
    pytest.param("told", _set(heard=heard_words_of(GREETING, SECOND, FIRST)), id="in another order"),
    pytest.param("told", _set(heard=heard_words_of(GREETING, FIRST, "reply three turn")), id="a word not heard"),
    pytest.param("told", _set(heard=heard_words_of(GREETING, FIRST, SECOND, "alpha")), id="a word not told"),
    pytest.param(
        "told",
        _set(heard=[*heard_words_of(GREETING, FIRST, SECOND)[:-1], HeardWord(5.0, "two", 0.5)]),
        id="half a word",
    ),
    pytest.param("listened", _told(*CONVERSATION[:3], *CONVERSATION[4:]), id="a turn not heard"),
    pytest.param("listened", _told(*CONVERSATION[:2], *CONVERSATION[1:]), id="a turn heard twice"),
    pytest.param("listened", _set(utterances=[Utterance(105.0, 105.8, (8,))]), id="other turns"),
    pytest.param("listened", _told(*CONVERSATION[:1], user_item(1), *CONVERSATION[2:]), id="half a turn"),
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
    pytest.param("tools", _forgotten, id="a tool is forgotten"),
    pytest.param(
        "tools", _told(*CONVERSATION[:5], output_item("something else"), CONVERSATION[6]), id="a wrong output"
    ),
    pytest.param("promise", _promised, id="no hang-up"),
    pytest.param("promise", _set(hang_ups=2), id="two hang-ups"),
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

    def test_a_loss_long_after_it_is_another(self) -> None:
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
        _closed(1013, ClosedBy.SERVICE)(call)
        call.capacity = False
        assert "connection" not in broken_rules(call)

    @pytest.mark.parametrize("part", [Part.DEAF, Part.FLOODER])
    def test_a_core_that_misbehaves_may_be_ended(self, part: Part) -> None:
        for code, by in ((1008, ClosedBy.SERVICE), (1006, ClosedBy.NOBODY)):
            call = a_call()
            _closed(code, by)(call)
            call.part = part
            assert broken_rules(call) == []

    def test_a_core_that_floods_is_to_be_ended(self) -> None:
        call = a_call()
        call.part = Part.FLOODER
        assert broken_rules(call) == ["connection"]


class TestSessions:
    def test_a_moment_is_no_overlap(self) -> None:
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
        # Somebody else had the call by then, or the worker was awake.
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
        _new_session_for_a_link(call)
        call.rollover_seconds = 9.0
        assert broken_rules(call) == []

    def test_what_is_open_after_the_call_overlaps_with_nothing(self) -> None:
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
            _told(*CONVERSATION[:3], *items, *CONVERSATION[4:])(call)
            call.transcripts[3:4] = [("user", item.text or "") for item in items]
            assert broken_rules(call) == []

    def test_a_turn_without_text_is_known_by_its_length(self) -> None:
        call = a_moved_call()
        replayed = Item("message", role="user", audio_ms=5 * 400 + 800)
        _told(*CONVERSATION[:3], replayed, *CONVERSATION[4:])(call)
        assert broken_rules(call) == []
        del call.transcripts[3]
        assert broken_rules(call) == []
        _told(*CONVERSATION[:3], replace(replayed, audio_ms=1000), *CONVERSATION[4:])(call)
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
        _closed(1011, ClosedBy.SERVICE)(call)
        call.errors = ["the worker was lost"]
        call.heard = []
        call.transcripts = []
        assert broken_rules(call) == ["connection"]


class TestRealtimeFaults:
    def test_note_of_the_service_is_no_turn(self) -> None:
        call = a_call()
        note = Item("message", role="user", text="[The line was lost.]", origin="client")
        _told(*CONVERSATION[:3], note, *CONVERSATION[3:])(call)
        assert broken_rules(call) == []
        _told(*CONVERSATION[:3], replace(note, origin="caller"), *CONVERSATION[3:])(call)
        assert "listened" in broken_rules(call)

    def test_reply_of_which_nothing_was_sent_need_not_be_heard(self) -> None:
        call = a_call()
        failed = Item("message", role="assistant", text="", origin="model")
        _told(*CONVERSATION[:4], failed, *CONVERSATION[4:])(call)
        assert broken_rules(call) == []

    def test_text_that_nobody_heard_is_to_be_deleted(self) -> None:
        call = a_call()
        _told(*CONVERSATION[:4], agent_item("reply three turn two"), *CONVERSATION[4:])(call)
        assert {"told", "transcripts"} <= set(broken_rules(call))

    def test_replaced_surrogate_is_no_difference(self) -> None:
        call = a_call()
        call.transcripts = [(role, f"{text}\ufffd") for role, text in call.transcripts]
        _told(*CONVERSATION[:5], output_item(f"{answer_to('2')}\ufffd"), *CONVERSATION[6:])(call)
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
        _told(*CONVERSATION[:4], restored, *CONVERSATION[5:])(call)
        assert "tools" not in broken_rules(call)

    def test_silence_may_be_committed_during_a_stalled_connection(self) -> None:
        call = a_call()
        silence = Item("message", role="user", text="heard nothing", audio_ms=940, origin="caller")
        _told(*CONVERSATION[:2], silence, *CONVERSATION[2:])(call)
        call.transcripts.insert(2, ("user", "heard nothing"))
        assert broken_rules(call) == ["listened"]
        call.faults = [Fault(FaultKind.STALL_SESSION, 105.0, lasts=True, until_seconds=113.0)]
        assert broken_rules(call) == []

    def test_announcement_was_told_to_no_model(self) -> None:
        call = a_call()
        call.heard.insert(7, HeardWord(14.4, "filler", 1.0))
        assert broken_rules(call) == []

    def test_way_out_is_taken_after_a_long_wait_alone(self) -> None:
        call = a_call()
        _closed(1011, ClosedBy.SERVICE)(call)
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
        _told(*CONVERSATION[:5], output_item("interrupted, outcome unknown"), CONVERSATION[6])(call)
        assert broken_rules(call) == []

    def test_the_agent_may_hang_up_when_it_has_said_so(self) -> None:
        call = a_call()
        _promised(call)
        call.promised, call.hang_ups = 128.0, 1
        assert broken_rules(call) == []
