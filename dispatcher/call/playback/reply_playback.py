"""Playback of replies: audio and transcripts of a call's worker on their way to AVR Core.

It plays replies, sends transcripts, interrupts on a barge-in, and reports the heard parts to the worker. Messages
for a disconnected core are queued in order.
"""

from __future__ import annotations

from collections import deque

from common.errors import LinkProtocolError
from common.link import wire
from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import SPOKE_FIRST, Interrupt, Metric, Play, SendTranscript
from dispatcher.call.assignment import Assignment
from dispatcher.call.caller.presence import CallerPresence
from dispatcher.call.memory import CallMemory
from dispatcher.call.playback.player import Player
from dispatcher.recording.timeline import Timeline

# Replies come faster than they play. Sent audio is reported after this many samples, also between ticks, because
# another dispatcher gets unreported audio again.
REPORT_SAMPLES = SAMPLE_RATE_HZ // 4
# Maximum known items with a sent transcript: enough to recognize repetitions after a recovery.
MAX_TRANSCRIPTS_KNOWN = 1024
# Messages that are queued for a core whose connection broke; the oldest are dropped.
MAX_QUEUED_MESSAGES = 64


class ReplyPlayback:
    """Playback of the replies of one call.

    A method's `assignment` is the one that has the call, and its worker gets the reports; None: no worker has the
    call.

    Attributes:
        memory: memory of the call.
        init_seconds: time at which the caller began to wait for the greeting.
    """

    def __init__(
        self,
        out: ActionQueue,
        memory: CallMemory,
        presence: CallerPresence,
        init_seconds: float,
        timeline: Timeline | None = None,
    ) -> None:
        """Make the playback of a call that has no reply yet; `timeline` is that of its recording."""
        self.memory = memory
        self.init_seconds = init_seconds
        self._out = out
        self._presence = presence
        self._player = Player(timeline)
        self._greeted = False
        self._greeting = ""
        self._unreported_samples = 0
        self._transcripts: dict[str, None] = {}  # a set in order of insertion
        self._queued_messages: deque[SendTranscript | Interrupt] = deque(maxlen=MAX_QUEUED_MESSAGES)
        # Numbers of barge-ins without an answer, because AVR Core is disconnected. A worker leaves only a few.
        self._flushes: list[int] = []

    @property
    def is_held(self) -> bool:
        """Whether messages for AVR Core are held."""
        return self._player.is_held

    @property
    def held_bytes(self) -> int:
        """Size of the reply audio that is held for AVR Core."""
        return self._player.held_bytes

    def all_heard(self, now_seconds: float) -> bool:
        """Return whether the caller has heard all replies."""
        return self._player.all_heard(now_seconds)

    @property
    def quiet_since_seconds(self) -> float:
        """Time at which the last reply was heard to its end, or will be."""
        return self._player.quiet_since_seconds

    @property
    def ended_seconds(self) -> float:
        """Time at which AVR Core has played all its audio, or will have played it."""
        return self._player.ended_seconds

    def ahead_seconds(self, now_seconds: float) -> float:
        """Return for how long AVR Core can still play the audio that it has."""
        return self._player.ahead_seconds(now_seconds)

    def own_sound(self, pcm: bytes, now_seconds: float) -> None:
        """Play whole frames of the dispatcher's own sound, which is not part of metrics, memory or reports."""
        if pcm:
            self._out.actions += self._player.own_sound(pcm, now_seconds)

    def was_here_before(self) -> None:
        """Note that the caller has been greeted, by another session or dispatcher."""
        self._greeted = True

    def caller_speaks(self) -> None:
        """Note that the caller speaks. If nothing was played before, the first sound is not a greeting."""
        self._greeting = SPOKE_FIRST

    # AVR Core

    def hold(self) -> None:
        """Hold messages for AVR Core, because it does not read or is disconnected. It still plays its audio."""
        self._player.is_held = True

    def back(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Continue with another connection of the caller. Queued messages are sent first."""
        self._interrupt(assignment, now_seconds)
        self._out.actions += self._queued_messages
        self._queued_messages.clear()
        self.writable(assignment, now_seconds)

    def writable(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Send held audio, because AVR Core reads again."""
        self._play(self._player.release(now_seconds), now_seconds)
        self._return_credit(assignment)

    def report(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Report the playout to the worker, if the playout has changed."""
        self._unreported_samples = 0
        if (playout := self._player.progress(now_seconds)) is not None:
            self.memory.reply_heard(playout.items)
            if assignment is not None:
                self._out.record(assignment, playout)

    # The worker

    def audio(self, assignment: Assignment, item: int, pcm: bytes, now_seconds: float) -> None:
        """Play more of a reply: PCM16 at 8 kHz.

        Raises:
            LinkProtocolError: the worker had no credit for it.
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
        """Play the end of a reply that has no more audio."""
        self.memory.reply_done(item)
        self._play(self._player.item_done(item, now_seconds), now_seconds)

    def flush(self, assignment: Assignment, number: int, now_seconds: float) -> None:
        """Interrupt replies, because of a barge-in. A disconnected core is told after it has reconnected."""
        self._player.drop()
        self._flushes.append(number)
        if not self._presence.is_away:
            self._interrupt(assignment, now_seconds)
        self._return_credit(assignment)

    def transcript(self, transcript: wire.Transcript) -> None:
        """Send AVR Core a transcript, unless it was sent before."""
        if transcript.item_id in self._transcripts:
            return
        self._transcripts[transcript.item_id] = None
        if len(self._transcripts) > MAX_TRANSCRIPTS_KNOWN:
            del self._transcripts[next(iter(self._transcripts))]
        self._send(SendTranscript(transcript.role, transcript.text))

    def restore(self, last: wire.Playout, now_seconds: float) -> None:
        """Continue from the playout of a lost dispatcher."""
        self._player.restore(last, now_seconds)

    def lost(self, now_seconds: float) -> None:
        """End the reply of a lost session. The next session gets the heard part of the reply."""
        self._interrupt(None, now_seconds)
        self._play(self._player.broke_off(now_seconds), now_seconds)

    def _interrupt(self, assignment: Assignment | None, now_seconds: float) -> None:
        """Have AVR Core drop its audio if a flush is pending, and report the heard part of each reply."""
        flushes, self._flushes = self._flushes, []
        if not flushes:
            return
        truncated = self._player.truncate(now_seconds)
        self.memory.reply_heard(truncated, truncated=True)
        if truncated:
            self._send(Interrupt())
            self._out.report(Metric.INTERRUPTION)
        for number in flushes:
            if assignment is not None:
                self._out.record(assignment, wire.Heard(number, truncated))

    def _send(self, action: SendTranscript | Interrupt) -> None:
        if self._presence.is_away:
            self._queued_messages.append(action)
        else:
            self._out.actions.append(action)

    def _play(self, plays: list[Play], now_seconds: float) -> None:
        if plays:
            self._out.actions += plays
            if not self._greeted:
                self._greeted = True
                self._out.report(Metric.GREETING_SECONDS, now_seconds - self.init_seconds, self._greeting)

    def _return_credit(self, assignment: Assignment | None) -> None:
        if assignment is not None:
            assignment.returned_bytes += self._player.taken_bytes
            self._player.taken_bytes = 0
            if due := assignment.due_credit():
                self._out.record(assignment, wire.Credit(due))
