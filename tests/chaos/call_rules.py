"""Rules that each call must keep, as checks of an ended call's facts."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator

from simulator.avr.call_record import ClosedBy
from simulator.realtime.voice import heard_words
from tests.chaos import announcements
from tests.chaos.alignment import FORBIDDEN, Alignment, align
from tests.chaos.answers import answered_in_time, answered_once, heard_way_out, waits
from tests.chaos.beside_rules import handed_over, undisturbed
from tests.chaos.ears import Ear, HeardWord
from tests.chaos.facts import (
    Breach,
    CallFacts,
    Fault,
    FaultKind,
    Item,
    Part,
    Session,
    Utterance,
)
from tests.chaos.losses import KILLS_DISPATCHER, TEXT_SECONDS, both_lost, was_lost, without_lost_words
from tests.chaos.recovery import RECOVERED, recovery_seconds
from tests.chaos.session_rules import (
    attached,
    ended_in_a_stop,
    epochs,
    final_session,
    one_session,
    woken,
)

WORD_MS = 400

TOOL = "lookup"
HANG_UP = "avr_hangup"

# A killed peer breaks a connection at once; a later break has another reason.
LOSS_SECONDS = 3.0

# Faults that cut a caller's connection, whichever process holds the call.
_LOSES_CALLER = KILLS_DISPATCHER | {FaultKind.CUT_CALLER}
# Faults that no call may notice.
_UNNOTICED = frozenset(
    {
        FaultKind.KILL_REDIS,
        FaultKind.PAUSE_REDIS,
        FaultKind.FLUSH_REDIS,
        FaultKind.CUT_LINK,
        FaultKind.DRAIN_DISPATCHER,
    }
)
# Faults that cut no reply: they strike before it is heard, or affect only reports about it.
_CUTS_NOTHING = _UNNOTICED | {
    FaultKind.FAIL_ANSWER,
    FaultKind.LIMIT_ANSWER,
    FaultKind.EMPTY_ANSWER,
    FaultKind.LOSE_DONE,
    FaultKind.REFUSE_ANSWER,
    FaultKind.LATE_ANSWER,
    FaultKind.LONE_SURROGATE,
    FaultKind.ENDLESS_SPEECH,
}
# Faults that delay the answers of all calls, so that a call may take the way out.
_API_AWAY = frozenset({FaultKind.OUTAGE, FaultKind.REFUSE_SESSIONS, FaultKind.STALL_SESSION})
# UPSTREAM_RETRY_SECONDS, less a reserve.
_PATIENCE_SECONDS = 28.0
# Words of a reply; a greeting has fewer.
_REPLY_WORDS = 8
# A caller's turn without text is recognized by its length, with the silence around it: 3 s and more if this side
# had to end the turn.
_SILENCE_AROUND_TURN_MS = 4000
# Length of a stop of a worker, or of a stall of the API, that a call must not notice.
_ROUNDING_SECONDS = 0.05

# The transcript of silence.
_NOTHING_HEARD = heard_words(0, WORD_MS)

Rule = Callable[[CallFacts], Iterator[Breach]]


def judge(call: CallFacts) -> list[Breach]:
    """Return all breaches of the rules in a call, in the order of the rules."""
    call = without_lost_words(call)
    rules = RULES_FOR_TALKERS if call.part is Part.TALKER else RULES_FOR_ALL
    if ended_in_a_stop(call):
        rules = tuple(rule for rule in rules if rule not in RULES_OF_THE_MODEL)
    return [breach for rule in rules for breach in rule(call)]


# The caller's connection


def connection(call: CallFacts) -> Iterator[Breach]:
    """Check that a connection closes only by a hang-up, or by a fault of this connection."""
    for close in call.closes:
        if close.by is ClosedBy.CALLER or _was_expected(call, close.at_seconds, close.code, close.by):
            continue
        why = f": {call.errors[-1]}" if call.errors else ""
        yield _breach(call, "connection", f"closed with {close.code} by {close.by.value}{why}", close.at_seconds)
    if call.gaps and call.gaps[-1].back_seconds is None and call.hung_up != "caller":
        yield _breach(call, "connection", "lost, and never restored", call.gaps[-1].lost_seconds)
    if call.part is Part.FLOODER and call.closes and call.closes[-1].by is ClosedBy.CALLER:
        yield _breach(call, "connection", "a flooding core was not disconnected", call.ended_seconds)


def _was_expected(call: CallFacts, at_seconds: float, code: int, by: ClosedBy) -> bool:
    if call.part is not Part.TALKER and (code == 1008 or by is ClosedBy.NOBODY):
        return True
    if by is ClosedBy.NOBODY:
        # A hung dispatcher keeps its connections until it is replaced.
        losses = (fault.until_seconds or fault.at_seconds for fault in call.faults if fault.kind in _LOSES_CALLER)
        return any(-_ROUNDING_SECONDS <= at_seconds - lost <= LOSS_SECONDS for lost in losses)
    if _gave_up(call, at_seconds):
        return True
    if code == 1000:
        return call.promised is not None and call.promised <= at_seconds
    return code == 1013 and not call.capacity


def _gave_up(call: CallFacts, at_seconds: float) -> bool:
    """Tell whether the service ended the call with its recorded apology, after a long enough wait."""
    away = any(fault.kind in _API_AWAY for fault in call.faults)
    owed = any(
        wait.from_seconds + _PATIENCE_SECONDS <= at_seconds and wait.answered_seconds > at_seconds
        for wait in waits(call)
    )
    return away and owed and heard_way_out(call) <= at_seconds


def messages(call: CallFacts) -> Iterator[Breach]:
    """Check that no message breaks the AVR protocol, and that no `error` comes in a running call."""
    for violation in call.protocol:
        yield _breach(call, "protocol", violation.what, call.started_seconds + violation.at_seconds)
    if _ended_well(call):  # otherwise `connection` names the reason
        for error in call.errors:
            yield _breach(call, "error", error, call.ended_seconds)


def answered(call: CallFacts) -> Iterator[Breach]:
    """Check that a caller who speaks is answered or told in time, and does not give up."""
    yield from answered_in_time(call)
    for at_seconds in call.unanswered:
        yield _breach(call, "answered", "the caller got no answer", at_seconds)


def recovered(call: CallFacts) -> Iterator[Breach]:
    """Check that the caller is heard again after each fault."""
    for fault in call.faults:
        if fault.kind in RECOVERED and recovery_seconds(call, fault) == math.inf and _ended_well(call):
            what = f"the caller was not heard again after: {fault.kind.value}"
            yield _breach(call, "recovered", what, fault.at_seconds)


# The conversation


def greeting(call: CallFacts) -> Iterator[Breach]:
    """Check that the caller is greeted once; after a lost connection, a broken word may come again.

    A greeting under way may also come again if both processes that knew of it ended (guarantees.md).
    """
    greetings = [
        word
        for word, after in itertools.zip_longest(call.heard, call.heard[1:])
        if word.word == "greeting" and word.share >= 0.5
        if word.fully_heard or after is None or after.word != "greeting" or not call.gaps
        if not was_lost(call, call.started_seconds + word.at_seconds)
    ]
    for word in greetings[1:]:
        yield _breach(call, "greeting", "greeted again", call.started_seconds + word.at_seconds)


def told(call: CallFacts) -> Iterator[Breach]:
    """Check that the model was told the words that the caller heard; each cut allows one word of difference."""
    session = final_session(call)
    if session is None or not _ended_well(call):
        return
    said = [word for item in session.items if _is_agent(item) for word in _text(item).split()]
    heard_words = [each for each in call.heard if each.word not in announcements.WORDS]
    ear = Ear([*said, *_everything_said(call)])
    # Of a reply that was incomplete when both processes ended, only the heard part counts.
    lost = _REPLY_WORDS * len(list(both_lost(call)))
    found = _aligned(said, heard_words, ear, longest_run=max(1, lost))
    allowed = _cuts(call) + lost
    pieces = sum(1 for heard in heard_words if not heard.fully_heard)
    # A cut leaves the beginning of a word and, if the word continues after a lost connection, its end.
    if found is None or found.cost > allowed or pieces > 2 * allowed:
        yield _breach(call, "told", _difference(said, heard_words, ear, allowed), call.ended_seconds)


def _aligned(said: list[str], heard: list[HeardWord], ear: Ear, **limits: int) -> Alignment[str, HeardWord] | None:
    """Match words told with words heard; a piece of a word costs nothing."""
    return align(
        said,
        heard,
        lambda word, each: ear.same(word, each.word),
        left_cost=lambda _: 1.0,
        right_cost=lambda each: 1.0 if each.fully_heard else 0.0,
        **limits,
    )


def _difference(said: list[str], heard: list[HeardWord], ear: Ear, allowed: int) -> str:
    free = _aligned(said, heard, ear)
    assert free is not None
    unheard = " ".join(f"{said[i]}[{i}]" for i in free.left)
    untold = " ".join(f"{heard[i].word}@{heard[i].at_seconds:.1f}" for i in free.right if heard[i].fully_heard)
    # Of words that sound alike, the expected one.
    meant = {j: said[i] for i, j in free.pairs}
    as_meant = " ".join(meant.get(j, each.word) for j, each in enumerate(heard))
    return (
        f"told but not heard: {unheard or 'nothing'}; heard but not told: {untold or 'nothing'};"
        f" {allowed} cuts, {sum(1 for each in heard if not each.fully_heard)} pieces of words;"
        f" told {' '.join(said)!r}; heard {as_meant!r}"
    )


def listened(call: CallFacts) -> Iterator[Breach]:
    """Check that the model knows each turn of the caller once, in order and whole."""
    session = final_session(call)
    if session is None or not _ended_well(call):
        return
    utterances = [_as_heard_without_end(call, each) for each in call.utterances]
    turns = [_Turn(words, utterance) for utterance in utterances for words in utterance.words]
    items = [item for item in session.items if _is_turn(item)]
    exact = not call.faults
    found = align(
        turns,
        items,
        lambda turn, item: turn.is_heard_as(item, exact=exact),
        left_cost=lambda turn: 0.0 if turn.utterance.damaged else FORBIDDEN,
        # Damaged speech may arrive as several turns.
        right_cost=lambda item: (
            0.0 if any(each.damaged for each in utterances) or _is_empty_turn(call, item) else FORBIDDEN
        ),
    )
    if found is None:
        said = ", ".join(str(turn.words) + ("?" if turn.utterance.damaged else "") for turn in turns)
        heard = ", ".join(f"{_heard_count(item)} ({item.audio_ms} ms)" for item in items)
        yield _breach(call, "listened", f"said turns of {said} words; told {heard}", call.ended_seconds)


def _as_heard_without_end(call: CallFacts, utterance: Utterance) -> Utterance:
    """Join words with pauses between them into one turn, while the end of speech is not reported."""
    endless = any(each.name == "endless_speech" for session in call.sessions for each in session.struck)
    if endless and len(utterance.words) > 1:
        return dataclasses.replace(utterance, damaged=True)
    return utterance


def _is_empty_turn(call: CallFacts, item: Item) -> bool:
    """Tell whether the item is silence, committed because the API had not reported the end of speech.

    The worker cannot tell a stalled connection from speech without an end.
    """
    stalled = any(fault.kind in (FaultKind.STALL_SESSION, FaultKind.ENDLESS_SPEECH) for fault in call.faults)
    return stalled and item.text == _NOTHING_HEARD


class _Turn:
    """A turn that the simulator makes of the caller's speech."""

    def __init__(self, words: int, utterance: Utterance) -> None:
        self.words = words
        self.utterance = utterance

    def is_heard_as(self, item: Item, *, exact: bool) -> bool:
        if self.utterance.damaged:
            return True
        count = _heard_count(item)
        if count is None:
            shortest_ms = (self.words - 1) * WORD_MS
            return shortest_ms <= item.audio_ms <= self.words * WORD_MS + _SILENCE_AROUND_TURN_MS
        return abs(count - self.words) <= (0 if exact else 1)


def _heard_count(item: Item) -> int | None:
    """Return the number of words in a transcript, such as `heard one two`; None without a transcript."""
    if item.text == _NOTHING_HEARD:
        return 0
    return None if not item.text else len(item.text.split()) - 1


def transcripts(call: CallFacts) -> Iterator[Breach]:
    """Check that AVR Core gets transcripts exact, in order and once; the agent's may differ by a word."""
    session = final_session(call)
    if session is None or not _ended_well(call):
        return
    items = [item for item in session.items if _is_turn(item) or _is_agent(item)]
    cut = _cuts(call) > 0
    gaps = len(call.gaps)
    untold = {id(item) for item in _said_too_late(call, session, items)}
    forgotten = _told_before_both_died(call)
    found = align(
        items,
        call.transcripts,
        lambda item, transcript: _is_told_as(item, *transcript, cut=cut),
        # A turn with little or no text needs no transcript; a lost connection may lose one.
        left_cost=lambda item: (
            0.0 if _is_silent(item, cut=cut) or id(item) in untold else 1.0 if gaps else FORBIDDEN
        ),
        right_cost=lambda each: (
            0.0 if each in forgotten or (cut and each[0] == "agent" and len(each[1].split()) <= 1) else FORBIDDEN
        ),
    )
    if found is None or found.cost > gaps:
        was = [f"{item.role}: {item.text}" for item in items]
        came = [f"{role}: {text}" for role, text in call.transcripts]
        yield _breach(call, "transcripts", f"told {was}; came {came}", call.ended_seconds)


def _told_before_both_died(call: CallFacts) -> set[tuple[str, str]]:
    """Return transcripts of the moment before both processes ended: they may come again (guarantees.md).

    Redis may not know them yet either; then the next model does not know them.
    """
    lost = list(both_lost(call))
    texts = {
        text
        for at_seconds, text in call.messages
        if any(begin <= at_seconds <= end + _ROUNDING_SECONDS for begin, end in lost)
    }
    return {(role, text) for role, text in call.transcripts if f"{role}: {text}" in texts}


def _said_too_late(call: CallFacts, session: Session, items: list[Item]) -> list[Item]:
    """Return the last items for which no session was left, or not yet open."""
    if session.closed_seconds < call.ended_seconds:
        # The caller hung up before the next session, which would have reported the last turns.
        return items[-2:]
    last = max((each.until_seconds for each in call.utterances), default=-math.inf)
    turns = [item for item in items if item.role == "user"]
    return turns[-1:] if call.ended_seconds - last < TEXT_SECONDS else []


def _is_told_as(item: Item, role: str, text: str, *, cut: bool) -> bool:
    if item.role == "user":
        return role == "user" and (not item.text or _readable(text) == _text(item))
    if role != "agent":
        return False
    words, came = _text(item).split(), _readable(text).split()
    if words == came:
        return True
    shorter, longer = sorted((words, came), key=len)
    return cut and len(longer) - len(shorter) <= 1 and longer[: len(shorter)] == shorter


def _is_silent(item: Item, *, cut: bool) -> bool:
    words = len((item.text or "").split())
    return words == 0 or (cut and item.role == "assistant" and words <= 1)


# Tools


def tools(call: CallFacts) -> Iterator[Breach]:
    """Check that no tool runs twice, and that its output is not forgotten.

    A tool may run again if both processes that knew of it ended before Redis was told (guarantees.md).
    """
    for ask, count in Counter(run.ask for run in call.tool_runs if not was_lost(call, run.at_seconds)).items():
        if count > 1:
            pids = [run.pid for run in call.tool_runs if run.ask == ask]
            yield _breach(call, "tools", f"{ask} was run {count} times, by {pids}", call.tool_runs[-1].at_seconds)
    session = final_session(call)
    if session is None or call.part is not Part.TALKER or not _ended_well(call):
        return
    kept = {item.call_id: item for item in session.items if item.type == "function_call"}
    outputs = {item.call_id: item.output for item in session.items if item.type == "function_call_output"}
    known = {_readable(item.arguments) for item in kept.values()}
    for older in call.sessions:
        answers = {item.call_id: item for item in older.items if item.type == "function_call_output"}
        for item in older.items:
            if item.type == "function_call" and item.call_id in answers and _readable(item.arguments) not in known:
                what = f"{item.name}({item.arguments}) of session {older.number} is forgotten"
                yield _breach(call, "tools", what, older.closed_seconds)
    for call_id, item in kept.items():
        output = outputs.get(call_id)
        if item.name == TOOL and output is not None and not _is_answer(item, output):
            what = f"{item.name}({item.arguments}) is remembered with the output {output!r}"
            yield _breach(call, "tools", what, session.closed_seconds)


def answer_to(ask: str) -> str:
    """Return the tool's output."""
    return f"the answer to {ask}"


def _is_answer(item: Item, output: str) -> bool:
    return _readable(output).removeprefix("the answer to ") in item.arguments or "unknown" in output


def promises(call: CallFacts) -> Iterator[Breach]:
    """Check that a hang-up requested by the model happens once."""
    asked = any(item.name == HANG_UP for session in call.sessions for item in session.items)
    if asked and call.promised is None and call.waited_for_agent:
        yield _breach(call, "promise", "the agent was to hang up, and did not", call.ended_seconds)
    if call.hang_ups > 1:
        yield _breach(call, "promise", f"avr-ami was asked {call.hang_ups} times to hang up", call.ended_seconds)


# Helpers


def _breach(call: CallFacts, rule: str, what: str, at_seconds: float) -> Breach:
    return Breach(rule, what, at_seconds, call.uuid)


def _is_agent(item: Item) -> bool:
    return item.type == "message" and item.role == "assistant"


def _is_turn(item: Item) -> bool:
    """Tell whether the item is the caller's; a text in brackets is a note of the service to the model."""
    is_note = item.origin == "client" and not item.audio_ms and (item.text or "").startswith("[")
    return item.type == "message" and item.role == "user" and not is_note


def _text(item: Item) -> str:
    return _readable(item.text or "")


def _readable(text: str) -> str:
    """Return a text without replacements of a lone surrogate."""
    return text.replace("\ufffd", "").replace("?", "")


def _everything_said(call: CallFacts) -> Iterator[str]:
    for session in call.sessions:
        for item in session.items:
            if _is_agent(item):
                yield from _text(item).split()
                yield from item.said.split()


def _ended_well(call: CallFacts) -> bool:
    """Tell whether a side hung up; for a broken call, `connection` reports the loss."""
    return call.hung_up != ""


def _cuts(call: CallFacts) -> int:
    """Count the cuts, each of which allows a difference of one word between heard and told."""
    faults = sum(1 for fault in call.faults if _cuts_replies(fault))
    answered = sum(1 for session in call.sessions if session.answering)
    return call.interruptions + len(call.gaps) + faults + max(0, answered - 1)


def _cuts_replies(fault: Fault) -> bool:
    """Tell whether the fault may cut a reply: faults of Redis do not, nor links that are attached again."""
    return fault.kind not in _CUTS_NOTHING


RULES_FOR_ALL: tuple[Rule, ...] = (
    connection,
    one_session,
    woken,
    epochs,
    attached,
    handed_over,
    tools,
)
# Texts that the model knew at the end.
RULES_OF_THE_MODEL: tuple[Rule, ...] = (tools, told, listened, transcripts)
RULES_FOR_TALKERS: tuple[Rule, ...] = (
    *RULES_FOR_ALL,
    messages,
    answered,
    answered_once,
    recovered,
    undisturbed,
    greeting,
    told,
    listened,
    transcripts,
    promises,
)
