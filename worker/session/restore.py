"""The restoring of a call from another session: loads a checkpoint, goes live, and replays unfinished audio."""

from __future__ import annotations

from typing import Any

from common.link import wire
from worker.audio.resample import SAMPLE_BYTES
from worker.session.agent.answering import CONTINUE_NOTE
from worker.session.agent.awaiting import AwaitingReport
from worker.session.agent.response_scheduler import AnswerKind
from worker.session.caller.caller_side import CallerSide
from worker.session.caller.keypad import Keypad
from worker.session.hang_up import ORDERED_BEFORE
from worker.session.lifecycle import HANG_UP_ID, Lifecycle
from worker.session.memory.checkpoint import Checkpoint
from worker.session.memory.conversation import ItemKind, Role
from worker.session.parts import SessionParts
from worker.session.states import SessionEvent

MISSED_WORDS_NOTE = (
    "[The line was disturbed for a moment. The caller's last words may be missing here. "
    "Say briefly that you missed the last words, and ask the caller to repeat them.]"
)


class Restore:
    """Restoring of one session.

    Attributes:
        checkpoint: the call's memory, until the session goes live; empty afterwards.
        goes_on: the lost session owed an answer, so this one owes it.
        live_since_seconds: time at which the session went live.
    """

    def __init__(
        self,
        parts: SessionParts,
        life: Lifecycle,
        *,
        caller: CallerSide,
        keypad: Keypad,
        awaiting: AwaitingReport,
        checkpoint: Checkpoint,
    ) -> None:
        self._parts = parts
        self._life = life
        self._caller = caller
        self._keypad = keypad
        self._awaiting = awaiting
        self._broke_off = False
        self._changed_session: dict[str, Any] | None = None
        self.live_since_seconds = 0.0
        self.goes_on = False
        self.checkpoint = checkpoint
        self.load(checkpoint)

    @property
    def next_position_samples(self) -> int:
        """Return the position of the caller's next audio."""
        ends = (position + len(pcm) // SAMPLE_BYTES for position, pcm in self.checkpoint.audio)
        return max(self._caller.position_samples, *ends, 0)

    def load(self, checkpoint: Checkpoint, session: dict[str, Any] | None = None) -> None:
        """Replace the conversation by a call's memory.

        Args:
            checkpoint: the memory.
            session: the session object, if the calls API has changed it since the session was opened.
        """
        self.checkpoint = checkpoint
        self._changed_session = session
        self.goes_on = self._load(checkpoint)

    def _load(self, checkpoint: Checkpoint) -> bool:
        """Load the memory; return whether an answer is owed."""
        if not checkpoint.reason:
            return False
        parts = self._parts
        parts.conversation.load(checkpoint.items)
        if checkpoint.recalled:
            # The positions belong to the lost dispatcher's audio, which this dispatcher does not have.
            for item in parts.conversation:
                item.span = None
        goes_on = self._broke_off = parts.agent.restore(checkpoint.replies, checkpoint.first_index)
        parts.agent.settle_others(heard=checkpoint.recalled)
        parts.memory_writer.speaking = checkpoint.speaking
        callers = any(item.role is Role.USER for item in parts.conversation)
        if parts.conversation.last() is not None and (callers or not parts.agent.is_heard):
            # The welcome message was heard, or was interrupted.
            parts.audio.input_muted = False
        return goes_on or (not checkpoint.speaking and self._awaits_answer())

    def _awaits_answer(self) -> bool:
        conversation = self._parts.conversation
        last = conversation.last()
        if last is None or last.role is Role.AGENT or last.kind is ItemKind.FUNCTION_CALL:
            return False
        if last.kind is ItemKind.FUNCTION_CALL_OUTPUT:
            calls = sum(item.kind is ItemKind.FUNCTION_CALL for item in conversation)
            outputs = sum(item.kind is ItemKind.FUNCTION_CALL_OUTPUT for item in conversation)
            # One response answers all outputs.
            return not last.silent and outputs >= calls
        return True

    def go_live(self, event: SessionEvent, started_seconds: float, now_seconds: float) -> None:
        """Take the call.

        Args:
            event: reason for going live: the session was set up, or stood by.
            started_seconds: time since which the call waited for a session.
            now_seconds: the time.
        """
        parts = self._parts
        checkpoint, self.checkpoint = self.checkpoint, Checkpoint()
        self._life.advance(event)
        self.live_since_seconds = now_seconds
        parts.updates.unmute(now_seconds, self._changed_session)
        is_new = parts.conversation.last() is None
        is_replayed = self._delete_open_turns(checkpoint)
        self._replay_conversation(checkpoint)
        parts.log.info(
            "session live", seconds=round(now_seconds - started_seconds, 3), reason=checkpoint.reason or None
        )
        parts.memory_writer.write()
        parts.out.record(wire.Ready())
        self._repeat_hang_up(checkpoint)
        self._awaiting.went_live()
        parts.out.happened("live")
        self._keypad.press_all(checkpoint.digits, now_seconds)
        self._add_notes(checkpoint, is_new=is_new)
        if is_new and not is_replayed:
            self._greet(now_seconds)
        # The greeting is requested before the API gets the caller's buffered audio.
        parts.request_due(now_seconds)
        self._caller.replay_audio(checkpoint.audio, now_seconds)
        if parts.calls.resume(checkpoint, parts.config.idempotent):
            parts.answers.owe(AnswerKind.TOOL, now_seconds)
        elif self.goes_on and not is_replayed:
            if self._broke_off:
                parts.replay.add(parts.ids.new(), text=CONTINUE_NOTE)
            parts.answers.owe(AnswerKind.RECOVERY, now_seconds)

    def _delete_open_turns(self, checkpoint: Checkpoint) -> bool:
        """Delete last turns without text: their audio is replayed, so the API transcribes and answers them.

        Returns:
            whether a turn was deleted.
        """
        conversation = self._parts.conversation
        deleted = False
        first = checkpoint.audio[0][0] if checkpoint.audio else None
        while (last := conversation.last()) is not None and first is not None:
            is_open = last.role is Role.USER and not last.text and last.span is not None
            if not is_open or last.span is None or last.span[0] < first:
                break
            conversation.remove(last.item_id)
            deleted = True
        return deleted

    def _replay_conversation(self, checkpoint: Checkpoint) -> None:
        parts = self._parts
        for item in parts.conversation:
            if item.role is Role.USER and not item.text_done:
                # The turn is replayed as audio, and gets no transcript.
                item.text_done = True
                parts.conversation.changed(item)
        parts.replay.synchronize(checkpoint.audio)

    def _repeat_hang_up(self, checkpoint: Checkpoint) -> None:
        """Repeat the hang-up command of an earlier session, unless the dispatcher has it."""
        if HANG_UP_ID in checkpoint.known_commands:
            self._life.requested_hang_up = checkpoint.hang_up or ORDERED_BEFORE
        elif checkpoint.hang_up:
            self._life.hang_up(checkpoint.hang_up)

    def _add_notes(self, checkpoint: Checkpoint, *, is_new: bool) -> None:
        parts = self._parts
        words_lost = checkpoint.recalled or checkpoint.words_lost or self._caller.words_lost
        if words_lost and not is_new:
            parts.replay.add(parts.ids.new(), text=MISSED_WORDS_NOTE)
            self.goes_on = True
        self._caller.words_lost = False
        for note in parts.config.notes:
            parts.replay.add(parts.ids.new(), text=note, by_system=True)

    def _greet(self, now_seconds: float) -> None:
        config, answers = self._parts.config, self._parts.answers
        if config.welcome is None:
            answers.owe(AnswerKind.GREETING, now_seconds)
            return
        interruptible = config.welcome_interruptible
        answers.say(AnswerKind.GREETING, config.welcome, now_seconds, interruptible=interruptible)
