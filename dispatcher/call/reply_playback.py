"""The agent's side of a call: what its worker has for the caller, and what AVR Core has been given of it.

Replies are played, transcripts told, and a barge-in interrupts; the worker is told what the caller heard. What
there is for a core that is away waits for it, in the order in which it is to come.
"""

from __future__ import annotations

from collections import deque

from common.errors import LinkProtocolError
from common.link import wire
from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Interrupt, Metric, Play, Tell
from dispatcher.call.assignment import Assignment
from dispatcher.call.memory import CallMemory
from dispatcher.call.player import Player

# Replies come faster than they play: after so much of them the worker is told what was handed over, between ticks,
# too. What it does not know of it would send again to a dispatcher that takes over.
REPORT_SAMPLES = SAMPLE_RATE_HZ // 4
# Items whose transcript was sent last: enough to tell one that comes again, after whatever recovery.
MAX_TRANSCRIPTS_KNOWN = 1024
# What is to be said to a core whose connection broke, when it is back.
MAX_UNTOLD = 64


class ReplyPlayback:
    """One call's. A `assignment` is that of the call, which the worker is told by; None: nobody has the call now.

    Attributes:
        memory: of the call.
        init_seconds: when the caller began to wait for the greeting.
    """

    def __init__(self, outbox: ActionQueue, memory: CallMemory, init_seconds: float) -> None:
        self.memory = memory
        self.init_seconds = init_seconds
        self._outbox = outbox
        self._player = Player()
        self._is_away = False
        self._greeted = False
        self._unreported_samples = 0
        self._transcripts: dict[str, None] = {}  # a set that knows its oldest
        self._untold: deque[Tell | Interrupt] = deque(maxlen=MAX_UNTOLD)
        # Barge-ins that have no answer, as AVR Core is away; a worker leaves only so many.
        self._flushes: list[int] = []

    @property
    def is_held(self) -> bool:
        """Whether AVR Core takes nothing."""
        return self._player.is_held

    @property
    def held_bytes(self) -> int:
        """Reply audio that waits for AVR Core."""
        return self._player.held_bytes

    def all_heard(self, now_seconds: float) -> bool:
        """Whether the caller has heard all replies that there are."""
        return self._player.all_heard(now_seconds)

    @property
    def quiet_since_seconds(self) -> float:
        """Time at which the last reply was heard to its end, or will be."""
        return self._player.quiet_since_seconds

    @property
    def ended_seconds(self) -> float:
        """Time at which all that AVR Core was given was played, or will be."""
        return self._player.ended_seconds

    def ahead_seconds(self, now_seconds: float) -> float:
        """Return how long AVR Core can still play what it was given."""
        return self._player.ahead_seconds(now_seconds)

    def own_sound(self, pcm: bytes, now_seconds: float) -> None:
        """Play whole frames that are no reply: they are in no metric, no memory, and are never reported."""
        if pcm:
            self._outbox.actions += self._player.own_sound(pcm, now_seconds)

    def was_here_before(self) -> None:
        """The caller has been greeted, by another session or dispatcher."""
        self._greeted = True

    # AVR Core

    def hold(self) -> None:
        """AVR Core does not read: hold what comes for it."""
        self._player.is_held = True

    def away(self) -> None:
        """The caller's connection broke. The core plays on what it has."""
        self._is_away = True
        self.hold()

    def back(self, assignment: Assignment | None, now_seconds: float) -> None:
        """There is another one: what could not be said comes first."""
        self._is_away = False
        self._interrupt(assignment, now_seconds)
        self._outbox.actions += self._untold
        self._untold.clear()
        self.writable(assignment, now_seconds)

    def writable(self, assignment: Assignment | None, now_seconds: float) -> None:
        """AVR Core reads again."""
        self._play(self._player.release(now_seconds), now_seconds)
        self._return_credit(assignment)

    def report(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Tell the worker how far the playout is, if there is something new to say."""
        self._unreported_samples = 0
        if (playout := self._player.progress(now_seconds)) is not None:
            self.memory.reply_heard(playout.items)
            if assignment is not None:
                self._outbox.record(assignment, playout)

    # The worker

    def audio(self, assignment: Assignment, item: int, pcm: bytes, now_seconds: float) -> None:
        """More of a reply (PCM16 at 8 kHz).

        Raises:
            LinkProtocolError: the leg had no credit for it.
        """
        assignment.given_bytes -= len(pcm)
        if assignment.given_bytes < 0:
            raise LinkProtocolError(
                f"{-assignment.given_bytes} bytes of reply audio more than there was credit for"
            )
        if not pcm:
            return
        samples = len(pcm) // wire.SAMPLE_BYTES
        self.memory.reply_audio(item, samples)
        self._play(self._player.audio(item, pcm, now_seconds), now_seconds)
        self._return_credit(assignment)
        self._unreported_samples += samples
        if self._unreported_samples >= REPORT_SAMPLES:
            self.report(assignment, now_seconds)

    def item_done(self, item: int, now_seconds: float) -> None:
        """A reply has no more audio."""
        self.memory.reply_done(item)
        self._play(self._player.item_done(item, now_seconds), now_seconds)

    def flush(self, assignment: Assignment, number: int, now_seconds: float) -> None:
        """Barge-in; a core that is away is told when it is back."""
        self._player.drop()
        self._flushes.append(number)
        if not self._is_away:
            self._interrupt(assignment, now_seconds)
        self._return_credit(assignment)

    def transcript(self, transcript: wire.Transcript) -> None:
        """What was said; told once."""
        if transcript.item_id in self._transcripts:
            return
        self._transcripts[transcript.item_id] = None
        if len(self._transcripts) > MAX_TRANSCRIPTS_KNOWN:
            del self._transcripts[next(iter(self._transcripts))]
        self._tell(Tell(transcript.role, transcript.text))

    def restore(self, last: wire.Playout, now_seconds: float) -> None:
        """How far the playout was at a dispatcher that is gone."""
        self._player.restore(last, now_seconds)

    def lost(self, now_seconds: float) -> None:
        """The session is gone: what it was saying breaks off here, and whoever is next is told what was heard."""
        self._interrupt(None, now_seconds)
        self._play(self._player.broke_off(now_seconds), now_seconds)

    def _interrupt(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Have the core play no more, where that is due, and say what was heard of what it played."""
        flushes, self._flushes = self._flushes, []
        if not flushes:
            return
        cut = self._player.cut(now_seconds)
        self.memory.reply_heard(cut, cut=True)
        if cut:
            self._tell(Interrupt())
            self._outbox.report(Metric.INTERRUPTION)
        for number in flushes:
            if assignment is not None:
                self._outbox.record(assignment, wire.Heard(number, cut))

    def _tell(self, action: Tell | Interrupt) -> None:
        if self._is_away:
            self._untold.append(action)
        else:
            self._outbox.actions.append(action)

    def _play(self, plays: list[Play], now_seconds: float) -> None:
        if plays:
            self._outbox.actions += plays
            if not self._greeted:
                self._greeted = True
                self._outbox.report(Metric.GREETING_SECONDS, now_seconds - self.init_seconds)

    def _return_credit(self, assignment: Assignment | None) -> None:
        if assignment is not None:
            assignment.returned_bytes += self._player.taken_bytes
            self._player.taken_bytes = 0
            if due := assignment.due_credit():
                self._outbox.record(assignment, wire.Credit(due))
