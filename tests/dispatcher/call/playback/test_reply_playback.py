"""Playback of replies: messages to AVR Core, and reports to the worker. With the call around it:
`test_call_audio.py`, `test_call_recovery.py`."""

from __future__ import annotations

import pytest

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import ItemHeard
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Action, Interrupt, Measurement, Metric, Play, SendTranscript, ToWorker
from dispatcher.call.assignment import Assignment
from dispatcher.call.caller.presence import CallerPresence
from dispatcher.call.memory import CallMemory
from dispatcher.call.playback.reply_playback import MAX_QUEUED_MESSAGES, REPORT_SAMPLES, ReplyPlayback
from tests.dispatcher.call_driver import sound

SECOND = sound(16_000)


class Rig:
    """The playback of a call, its assignment, and the time."""

    def __init__(self) -> None:
        self.outbox = ActionQueue()
        self.presence = CallerPresence()
        self.agent = ReplyPlayback(self.outbox, CallMemory(), self.presence, init_seconds=0.0)
        self.assignment = Assignment("w-1", 1)
        self.now = 2.0

    def speak(self, pcm: bytes = SECOND, item: int = 0) -> list[Action]:
        self.agent.memory.reply_began(item, f"item_{item}")
        self.agent.audio(self.assignment, item, pcm, self.now)
        return self.take()

    def away(self) -> None:
        self.presence.lost("lost", self.now, may_return=True)
        self.agent.hold()

    def back(self) -> None:
        self.presence.back()
        self.agent.back(self.assignment, self.now)

    def take(self) -> list[Action]:
        taken, self.outbox.actions = self.outbox.actions, []
        return taken

    def told(self, taken: list[Action], kind: type[wire.Control]) -> list[wire.Control]:
        """Return the records to the worker."""
        records = [action.record for action in taken if isinstance(action, ToWorker)]
        return [record for record in records if isinstance(record, kind)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_sound_of_a_call_is_its_greeting(rig: Rig) -> None:
    assert Measurement(Metric.GREETING_SECONDS, 2.0) in rig.speak()
    assert not [action for action in rig.speak() if isinstance(action, Measurement)]


def test_a_caller_who_was_greeted_before_is_not_greeted_now(rig: Rig) -> None:
    rig.agent.was_here_before()
    assert not [action for action in rig.speak() if isinstance(action, Measurement)]


def test_the_worker_hears_how_far_it_is_between_the_ticks_too(rig: Rig) -> None:
    assert rig.told(rig.speak(sound(2 * REPORT_SAMPLES - 320)), wire.Playout) == []
    (playout,) = rig.told(rig.speak(sound(320)), wire.Playout)
    # Of whole frames: what fills no frame has not been handed over.
    assert playout == wire.Playout((ItemHeard(0, 0),), False, (ItemHeard(0, REPORT_SAMPLES // 160 * 160),))


def test_where_nobody_has_the_call_nobody_is_told(rig: Rig) -> None:
    rig.speak()
    rig.now += 0.5
    rig.agent.report(None, rig.now)
    assert rig.take() == []
    # It counts for the memory all the same.
    (spoken,) = [record for record in rig.agent.memory.records() if isinstance(record, wire.PendingReplies)]
    assert spoken.replies[0].heard_samples == 4000


def test_more_than_there_was_credit_for_is_the_links_error(rig: Rig) -> None:
    rig.assignment.given_bytes = len(SECOND) - 2
    with pytest.raises(LinkProtocolError, match="2 bytes of reply audio more"):
        rig.agent.audio(rig.assignment, 0, SECOND, rig.now)


def test_a_barge_in_is_answered_at_once_by_a_core_that_is_there(rig: Rig) -> None:
    rig.speak()
    rig.now += 0.25
    rig.agent.flush(rig.assignment, 3, rig.now)
    taken = rig.take()
    assert taken[:2] == [Interrupt(), Measurement(Metric.INTERRUPTION)]
    assert rig.told(taken, wire.Heard) == [wire.Heard(3, (ItemHeard(0, 2000),))]


def test_where_nothing_plays_there_is_nothing_to_interrupt(rig: Rig) -> None:
    rig.agent.flush(rig.assignment, 3, rig.now)
    taken = rig.take()
    assert Interrupt() not in taken
    assert rig.told(taken, wire.Heard) == [wire.Heard(3)]


def test_barge_ins_while_the_core_is_away_get_the_same_answer(rig: Rig) -> None:
    rig.speak()
    rig.away()
    rig.agent.flush(rig.assignment, 1, rig.now)
    rig.agent.audio(rig.assignment, 1, SECOND, rig.now)
    rig.now += 0.5
    rig.agent.flush(rig.assignment, 2, rig.now)
    assert rig.told(rig.take(), wire.Heard) == []
    rig.back()
    taken = rig.take()
    # The second one's reply was never handed over.
    cut = (ItemHeard(0, 4000), ItemHeard(1, 0))
    assert rig.told(taken, wire.Heard) == [wire.Heard(1, cut), wire.Heard(2, cut)]
    assert [action for action in taken if isinstance(action, Interrupt)] == [Interrupt()]
    assert not [action for action in taken if isinstance(action, Play)]


def test_what_a_core_that_is_away_is_to_hear_waits_in_order(rig: Rig) -> None:
    rig.away()
    for number in range(MAX_QUEUED_MESSAGES + 1):
        rig.agent.transcript(wire.Transcript(f"item_{number}", "agent", str(number)))
    rig.agent.transcript(wire.Transcript("item_1", "agent", "again"))
    assert rig.speak(sound(320)) == []
    rig.back()
    told = [action for action in rig.take() if isinstance(action, SendTranscript | Play)]
    assert told == [
        *(SendTranscript("agent", str(number)) for number in range(1, MAX_QUEUED_MESSAGES + 1)),
        Play(sound(320)),
    ]


def test_a_lost_session_leaves_its_heard_part_in_the_memory(rig: Rig) -> None:
    rig.speak()
    assert rig.speak(b"") == []
    rig.away()
    rig.agent.flush(rig.assignment, 1, rig.now)
    rig.now += 0.25
    rig.agent.lost(rig.now)
    assert rig.told(rig.take(), wire.Heard) == []
    (spoken,) = [record for record in rig.agent.memory.records() if isinstance(record, wire.PendingReplies)]
    assert [(reply.heard_samples, reply.truncated) for reply in spoken.replies] == [(2000, True)]
    rig.agent.back(None, rig.now)
    assert Interrupt() in rig.take()
