"""The workers' side of a call: records to its worker, and the worker's records about the conversation.

The dispatcher keeps the state of the call: its memory, the caller's audio, keys and telephony commands. If the
worker dies, another worker gets that state.
"""

from __future__ import annotations

from common.link import wire
from common.link.wire import Kind
from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Metric, ToWorker
from dispatcher.call.assignment import Assignment, AssignmentState
from dispatcher.call.caller.caller_audio import CallerAudio
from dispatcher.call.caller.caller_mute import CallerMute
from dispatcher.call.caller.line_quality import LineQuality
from dispatcher.call.identity import CallIdentity
from dispatcher.call.memory import CallMemory
from dispatcher.call.playback.filler import Filler
from dispatcher.call.playback.reply_playback import ReplyPlayback
from dispatcher.call.telephony_commands import TelephonyCommands

# Maximum keys that are not part of the conversation yet. No menu asks for more.
MAX_WAITING_DIGITS = 64


class WorkerSide:
    """Conversation of one call with its workers.

    Attributes:
        identity: uuid and metadata of the call.
        memory: memory of the call.
        audio: audio of the caller on its way to the worker.
        mute: mute of the caller, while a tool collects keys.
    """

    def __init__(
        self,
        out: ActionQueue,
        identity: CallIdentity,
        audio: CallerAudio,
        mute: CallerMute,
        *,
        playback: ReplyPlayback,
        commands: TelephonyCommands,
        filler: Filler,
        line: LineQuality,
    ) -> None:
        """Make the side of a call that no worker has had."""
        self.identity = identity
        self.memory = playback.memory
        self.audio = audio
        self.mute = mute
        self._out = out
        self._playback = playback
        self._commands = commands
        self._filler = filler
        self._line = line
        self._keys: list[str] = []
        self._speaking = False
        # The caller's present speech began before this dispatcher had the call.
        self._spoke_before_us = False

    def restored(self, memory: CallMemory) -> None:
        """Continue with the memory that another dispatcher wrote."""
        self.memory = self._playback.memory = memory
        self._playback.was_here_before()

    # To the worker

    def open(
        self,
        assignment: Assignment,
        now_seconds: float,
        *,
        delay_seconds: float,
        waited_seconds: float,
        attach: bool,
    ) -> None:
        """Ask the worker of an assignment to take the call.

        Args:
            assignment: assignment to the worker.
            now_seconds: the time.
            delay_seconds: as in `wire.Open`.
            waited_seconds: as in `wire.Open`.
            attach: continue in the session that the worker has of the call.
        """
        assignment.given_bytes = max(0, wire.REPLY_CREDIT_BYTES - self._playback.held_bytes)
        opening = wire.Open(
            uuid=self.identity.uuid,
            epoch=assignment.epoch,
            metadata=self.identity.metadata,
            position_samples=self.audio.first_waiting_samples,
            credit_bytes=assignment.given_bytes,
            age_seconds=now_seconds - self.identity.began_seconds,
            provider_config=self.identity.provider_config,
            restore=bool(assignment.reason),
            attach=attach,
            first_index=self.memory.next_index,
            delay_seconds=delay_seconds,
            waited_seconds=waited_seconds,
            filler=self._filler.is_on,
            traceparent=self.identity.traceparent,
            collects=True,
            tenant=self.identity.tenant,
        )
        self._out.actions.append(ToWorker(assignment, opening, counted=False))

    def give_memory(self, assignment: Assignment, *, standby: bool = False) -> None:
        """Send a worker the memory of the call. A standby gets the memory again when it takes the call."""
        for record in self.memory.records():
            self._out.record(assignment, record)
        if not standby:
            for position, codes in self.audio.kept():
                self._out.record(assignment, wire.KeptAudio(position, codes))
        resume = wire.Resume(
            assignment.reason,
            standby,
            self._commands.known_ids,
            "".join(self._keys),
            self._speaking,
            recalled=self.memory.is_recalled,
            first_index=self.memory.next_index,
            words_lost=self._spoke_before_us,
        )
        self._out.record(assignment, resume)
        if not standby:
            for result in self._commands.results:
                self._out.record(assignment, result)

    def send_audio(self, assignment: Assignment | None, pcm: bytes, *, may_wait: bool) -> None:
        """Send audio of the caller, or queue the audio until there is credit or a worker.

        Args:
            assignment: assignment that has the call; None: no worker has it.
            pcm: PCM16 at 8 kHz, whole samples.
            may_wait: False: drop audio that cannot be sent now.
        """
        audio = self.audio
        if assignment is not None and assignment.credit_bytes >= len(pcm) and not audio.waiting_bytes:
            assignment.credit_bytes -= len(pcm)
            self._out.record(assignment, wire.CallerAudio(audio.sent(pcm), pcm))
        elif may_wait:
            dropped_seconds = audio.wait(pcm)
            if dropped_seconds:
                self._out.report(Metric.CALLER_AUDIO_DROPPED_SECONDS, dropped_seconds)
            self._send_waiting(assignment)

    def send_digit(self, assignment: Assignment | None, digit: str) -> None:
        """Send a key, or keep it for the next worker."""
        if len(self._keys) >= MAX_WAITING_DIGITS:
            return
        self._keys.append(digit)
        if assignment is not None and (assignment.state is not AssignmentState.OPENING or assignment.reason):
            self._out.record(assignment, wire.Dtmf(digit))

    def send_secret_key(self, assignment: Assignment | None, digit: str, now_seconds: float) -> None:
        """Send a key to the session that collects keys; discard the key if there is none."""
        number = self.mute.key(now_seconds)
        if assignment is not None and number:
            self._out.record(assignment, wire.SecretKey(number, digit))

    def confirm_collection(self, assignment: Assignment | None) -> None:
        """Tell the worker that the caller is muted, if its collection has begun."""
        number = self.mute.confirmation()
        if number is not None and assignment is not None:
            self._out.record(assignment, wire.Collecting(number))

    def opened(self, assignment: Assignment, opened: wire.Opened, now_seconds: float) -> None:
        """Continue with a worker that has taken the call."""
        assignment.state = AssignmentState.TAKEN
        assignment.credit_bytes = opened.credit_bytes
        if opened.attached:
            assignment.is_attached = True
            self._playback.was_here_before()
            self.audio.rebase(opened.position_samples)
            if opened.collecting:
                # Keys that came before this dispatcher knew of the collection are secret, too.
                self.mute.taken_over(now_seconds, self.identity.began_seconds)
                self.audio.silence()
                self._keys.clear()
            # Redis may have been unavailable, or may have lost the beginning of the call.
            self.identity.is_older(opened.position_samples / SAMPLE_RATE_HZ, now_seconds)
        self._send_waiting(assignment)
        if not assignment.reason:
            for digit in self._keys:
                self._out.record(assignment, wire.Dtmf(digit))

    def ready(self, assignment: Assignment, now_seconds: float) -> None:
        """Note that the worker's session is up."""
        assignment.state = AssignmentState.READY
        self._filler.lapses(now_seconds)
        self.mute.session_up()
        self.memory.is_recalled = False
        # Other sessions know it already.
        self._spoke_before_us &= assignment.is_attached

    # From the worker

    def record(
        self, assignment: Assignment, kind: int, payload: memoryview, now_seconds: float, *, connects: bool
    ) -> bool:
        """Handle a record that belongs to the conversation; return whether it does.

        Args:
            assignment: assignment that has the call.
            kind: kind of the record.
            payload: payload of the record.
            now_seconds: the time.
            connects: the worker's session is not up yet.

        Raises:
            LinkProtocolError: the record is malformed.
        """
        match kind:
            case Kind.REPLY_AUDIO:
                index, pcm = wire.decode_reply_audio(payload)
                self._playback.audio(assignment, index, bytes(pcm), now_seconds)
            case Kind.REPLY_TEXT:
                self.memory.reply_text(*wire.decode_reply_text(payload))
            case Kind.CREDIT:
                assignment.credit_bytes += wire.decode_credit(payload)
                self._send_waiting(assignment)
            case Kind.REPLY_ITEM:
                began = wire.decode_control(wire.ReplyItem, payload)
                self.memory.reply_began(began.index, began.item_id)
            case Kind.REPLY_ITEM_DONE:
                self._playback.item_done(wire.decode_control(wire.ReplyItemDone, payload).index, now_seconds)
            case Kind.FLUSH:
                self._playback.flush(assignment, wire.decode_control(wire.Flush, payload).number, now_seconds)
            case Kind.TRANSCRIPT:
                self._playback.transcript(wire.decode_control(wire.Transcript, payload))
            case Kind.ITEM_UPDATE:
                self.memory.remember(wire.decode_control(wire.ItemUpdate, payload), len(payload))
            case Kind.PROFILE:
                profile = wire.decode_control(wire.Profile, payload)
                self.memory.keep_profile(profile)
                self.identity.tenant_told(profile.tenant)
            case Kind.FINISHED:
                finished = wire.decode_control(wire.Finished, payload)
                self._speaking = self._line.is_speaking = finished.speaking
                if finished.speaking:
                    self._playback.caller_speaks()
                # The lost dispatcher had the beginning of the caller's present speech.
                attaches = assignment.is_attached and connects
                self._spoke_before_us = finished.speaking and (attaches or self._spoke_before_us)
                self.audio.finished(finished.position_samples)
            case Kind.KEYED:
                del self._keys[: wire.decode_control(wire.Keyed, payload).digits]
            case Kind.TELEPHONY_COMMAND:
                self._commands.add(wire.decode_control(wire.TelephonyCommand, payload), now_seconds)
            case Kind.TOOL:
                self._out.record(assignment, wire.ToolKnown(wire.decode_control(wire.Tool, payload).call_id))
            case Kind.PENDING_REPLIES:
                self.memory.restore_replies(wire.decode_control(wire.PendingReplies, payload).replies)
            case Kind.KEPT_AUDIO:
                position, codes = wire.decode_kept_audio(payload)
                self.audio.keep(position, bytes(codes))
                # A session that is not up yet reports all audio that it has.
                self._spoke_before_us = False
            case Kind.PLAYOUT:
                self._playback.restore(wire.decode_control(wire.Playout, payload), now_seconds)
            case Kind.COLLECT:
                self._collect(assignment, wire.decode_control(wire.Collect, payload), now_seconds)
            case Kind.AWAITING:
                if wire.decode_control(wire.Awaiting, payload).waiting:
                    self._filler.owed(now_seconds)
                else:
                    self._filler.settled()
            case _:
                return False
        return True

    def _collect(self, assignment: Assignment, collect: wire.Collect, now_seconds: float) -> None:
        if not collect.on:
            self.mute.end(collect.number, now_seconds, abandoned=collect.abandoned)
            return
        self.mute.begin(collect.number, collect.seconds, now_seconds)
        self.confirm_collection(assignment)

    def _send_waiting(self, assignment: Assignment | None) -> None:
        if assignment is not None:
            for position, pcm in self.audio.take(assignment.credit_bytes):
                assignment.credit_bytes -= len(pcm)
                self._out.record(assignment, wire.CallerAudio(position, pcm))
