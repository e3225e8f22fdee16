"""Answers that are owed to a caller, and their delay, as the caller heard it.

A reply is recognized by the words of a response that was created after the caller began to speak. Frames alone
prove nothing, because filler, the recorded apology and the rest of an older reply are frames too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.announcements import FALLBACK_WORDS, WORDS
from tests.chaos.ears import Ear, HeardWord
from tests.chaos.facts import Breach, CallFacts, FaultKind, Reply
from worker.session.agent.answering import CONTINUE_NOTE
from worker.session.restore import MISSED_WORDS_NOTE

# Maximum time from a working API to the reply.
AFTER_RECOVERY_SECONDS = 8.0
# Maximum time from the turn to the recorded apology or to the end of the call.
WAY_OUT_SECONDS = 35.0
# Time without a voice after which speech without an end must be committed, with a reserve.
_UNHEARD_VOICE_SECONDS = 4.0
# Words of a reply that identify it: `reply two turn one`.
_TELLING_WORDS = 4
# A reply may begin to sound during the caller's last frames.
_ON_ITS_WAY_SECONDS = 0.3
# For these faults the simulator reports the time at which they strike, which is later than the command.
_STRIKE_LATER = frozenset(
    {
        FaultKind.FAIL_ANSWER,
        FaultKind.CUT_ANSWER,
        FaultKind.LIMIT_ANSWER,
        FaultKind.EMPTY_ANSWER,
        FaultKind.ERROR_IN_ANSWER,
        FaultKind.LOSE_DONE,
        FaultKind.REFUSE_ANSWER,
        FaultKind.LATE_ANSWER,
        FaultKind.LONE_SURROGATE,
        FaultKind.ENDLESS_SPEECH,
    }
)
_REPLY_WORDS = 8
_TURN = re.compile(r"reply \w+ turn (\w+)")


@dataclass(frozen=True, slots=True)
class Wait:
    """An answer that is owed.

    Attributes:
        of: `greeting`, or the number of the utterance from 1.
        from_seconds: end of the caller's speech, or start of the call.
        answered_seconds: start of the reply's sound, or of a requested hang-up; `inf`: never.
        way_out_seconds: start of the recorded apology, or end of the call by the service; `inf`: never.
        due_seconds: latest time of the answer.
        settled_seconds: time at which the caller spoke again, hung up or lost its connection.
        struck: whether a fault may have delayed the answer.
    """

    of: str
    from_seconds: float
    answered_seconds: float
    way_out_seconds: float
    due_seconds: float
    settled_seconds: float
    struck: bool

    @property
    def seconds(self) -> float | None:
        """Return the time that the caller waited for the reply; None if the wait was settled without a reply."""
        if self.answered_seconds <= self.settled_seconds:
            return max(0.0, self.answered_seconds - self.from_seconds)
        return None

    @property
    def is_kept(self) -> bool:
        """Tell whether the caller was answered or told in time."""
        if min(self.answered_seconds, self.settled_seconds) <= self.due_seconds:
            return True
        return self.way_out_seconds <= self.from_seconds + WAY_OUT_SECONDS


def waits(call: CallFacts) -> list[Wait]:
    """Return all answers owed in a call, in order of time."""
    ear = _ear(call)
    replies = sorted(
        (reply for session in call.sessions for reply in session.responses), key=lambda each: each.started_seconds
    )
    owed = [_Owed("greeting", call.started_seconds, call.started_seconds)]
    owed += [
        _Owed(str(number), each.from_seconds, each.until_seconds)
        for number, each in enumerate(call.utterances, start=1)
        if not each.damaged
    ]
    return [_wait(call, ear, replies, each) for each in owed]


@dataclass(frozen=True, slots=True)
class _Owed:
    """A turn of the caller, or the beginning of the call."""

    of: str
    began_seconds: float
    ended_seconds: float


def answered_in_time(call: CallFacts) -> Iterator[Breach]:
    """Check that a caller hears the reply within 8 s after the API works again, or is told within 35 s."""
    for wait in waits(call):
        if wait.is_kept:
            continue
        took = "never" if wait.seconds is None else f"after {wait.seconds:.1f} s"
        due = wait.due_seconds - wait.from_seconds
        what = f"the answer to {wait.of} came {took}; it was due after {due:.1f} s"
        yield Breach("answered", what, wait.from_seconds, call.uuid)


def answered_once(call: CallFacts) -> Iterator[Breach]:
    """Check that no turn gets two whole replies. After a truncated reply, another may be its continuation.

    An agent speaks once more if it was told of lost words, or of a reply that broke off. The simulated model then
    gives a whole reply to the same turn.
    """
    notes = (MISSED_WORDS_NOTE, CONTINUE_NOTE)
    allowed = 1 + sum(item.text in notes for session in call.sessions for item in session.items)
    if any(each.damaged for each in call.utterances):
        return  # the next turns take the numbers of lost turns
    ear = _ear(call)
    whole: Counter[str] = Counter()
    texts = {reply.text for session in call.sessions for reply in session.responses}
    for text in sorted(text for text in texts if len(text.split()) >= _REPLY_WORDS):
        if found := _TURN.match(text):
            whole[found[1]] += _times_heard(text.split(), call.heard, ear)
    for turn, count in whole.items():
        if count > allowed:
            yield Breach(
                "answered once", f"turn {turn} got {count} whole replies", call.started_seconds, call.uuid
            )


def heard_way_out(call: CallFacts, since_seconds: float = -math.inf) -> float:
    """Return the time at which the recorded apology began to sound; `inf`: never."""
    for word in call.heard:
        at_seconds = call.started_seconds + word.at_seconds
        if word.word == FALLBACK_WORDS[0] and at_seconds >= since_seconds:
            return at_seconds
    return math.inf


def _ear(call: CallFacts) -> Ear:
    said = {word for session in call.sessions for reply in session.responses for word in reply.text.split()}
    return Ear({*said, *(each.word for each in call.heard), *WORDS})


def _wait(call: CallFacts, ear: Ear, replies: Sequence[Reply], owed: _Owed) -> Wait:
    began_seconds, ended_seconds = owed.began_seconds, owed.ended_seconds
    # A reply created while the caller spoke is interrupted, so it does not answer these words.
    later = [reply for reply in replies if reply.started_seconds >= began_seconds and reply.text]
    answered_seconds = _first_of(call, ear, later, ended_seconds - _ON_ITS_WAY_SECONDS)
    if call.promised is not None and call.promised >= began_seconds:
        answered_seconds = min(answered_seconds, call.promised)
    spoke = (each.from_seconds for each in call.utterances if each.from_seconds > began_seconds)
    settled_seconds = min(spoke, default=call.ended_seconds)
    lost = [gap.lost_seconds for gap in call.gaps if gap.back_seconds is None]
    settled_seconds = min([settled_seconds, *lost])
    closes = [each.at_seconds for each in call.closes if each.by.name == "SERVICE"]
    ended = min((at for at in closes if at >= ended_seconds), default=math.inf)
    due_seconds, struck = _due(call, ended_seconds, min(answered_seconds, settled_seconds))
    return Wait(
        owed.of,
        ended_seconds,
        answered_seconds,
        min(ended, heard_way_out(call, ended_seconds)),
        due_seconds,
        # An end of the call by the service settles nothing.
        math.inf if settled_seconds >= ended else settled_seconds,
        struck,
    )


def _first_of(call: CallFacts, ear: Ear, replies: Sequence[Reply], since_seconds: float) -> float:
    """Return the time at which one of these replies was first heard."""
    heads = [reply.text.split()[:_TELLING_WORDS] for reply in replies]
    for index, word in enumerate(call.heard):
        at_seconds = call.started_seconds + word.at_seconds
        if at_seconds < since_seconds:
            continue
        following = _unbroken(call.heard[index : index + _TELLING_WORDS])
        if any(_begins(head, following, ear) for head in heads):
            return at_seconds
    return math.inf


def _unbroken(words: Sequence[HeardWord]) -> list[str]:
    """Return the words before the first truncated one, after which other audio begins."""
    kept = []
    for word in words:
        kept.append(word.word)
        if not word.fully_heard:
            break
    return kept


def _begins(head: Sequence[str], heard: Sequence[str], ear: Ear) -> bool:
    pairs = list(zip(head, heard, strict=False))
    # The last word heard may be too short to recognize.
    return all(ear.same(one, other) or (other == "?" and number > 0) for number, (one, other) in enumerate(pairs))


def _times_heard(words: Sequence[str], heard: Sequence[HeardWord], ear: Ear) -> int:
    count = 0
    for start in range(len(heard) - len(words) + 1):
        part = heard[start : start + len(words)]
        count += all(
            each.fully_heard and ear.same(word, each.word) for word, each in zip(words, part, strict=True)
        )
    return count


def _due(call: CallFacts, ended_seconds: float, answered_seconds: float) -> tuple[float, bool]:
    """Return the time at which the answer to a turn is due, and whether a fault has delayed it."""
    due_seconds, struck = ended_seconds + AFTER_RECOVERY_SECONDS, False
    for from_seconds, until_seconds in sorted(_troubles(call, ended_seconds)):
        is_over = until_seconds < ended_seconds
        if is_over or from_seconds > min(due_seconds, answered_seconds):
            continue
        struck = True
        due_seconds = max(due_seconds, until_seconds + AFTER_RECOVERY_SECONDS)
    return due_seconds, struck


def _troubles(call: CallFacts, ended_seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the spans in which a fault kept the call from its answers."""
    for fault in call.faults:
        if fault.kind in _STRIKE_LATER:
            continue
        if fault.lasts:
            until_seconds = call.ended_seconds if fault.until_seconds is None else fault.until_seconds
            yield fault.at_seconds, until_seconds
        else:
            yield fault.at_seconds, fault.at_seconds
    of_sessions = ((session, struck) for session in call.sessions for struck in session.struck)
    for session, struck in of_sessions:
        until_seconds = min(struck.until_seconds, session.closed_seconds)
        if struck.name == "endless_speech":
            until_seconds = min(until_seconds, max(struck.from_seconds, ended_seconds) + _UNHEARD_VOICE_SECONDS)
        yield struck.from_seconds, until_seconds
