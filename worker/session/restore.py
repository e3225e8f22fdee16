"""Goes on with a call where another session stopped: loads its checkpoint, goes live, and hears again."""

from __future__ import annotations

from typing import Any

from common.link import wire
from worker.audio.resample import SAMPLE_BYTES
from worker.session.agent.answering import CONTINUE_NOTE
from worker.session.agent.awaiting import AwaitingReport
from worker.session.agent.response_scheduler import AnswerKind
from worker.session.caller.caller_side import CallerSide
from worker.session.caller.keypad import Keypad
from worker.session.lifecycle import HANG_UP_ID, Lifecycle
from worker.session.memory.checkpoint import Checkpoint
from worker.session.memory.conversation import ItemKind, Role
from worker.session.parts import SessionParts
from worker.session.states import SessionEvent

# The reason of a hang-up that the dispatcher knows from a session on another worker.
ORDERED_BEFORE = "an earlier session ordered it"

MISSED_WORDS_NOTE = (
    "[The line was disturbed for a moment. The caller's last words may be missing here. "
    "Say briefly that you missed the last words, and ask the caller to repeat them.]"
)


class Restore:
    """The restoring of one session.

    Attributes:
        checkpoint: the call's memory, until the session goes live; empty afterwards.
        goes_on: the model was about to say something when the session before this one was lost.
        live_since_seconds: when the session went live.
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
        """The position of the caller's audio that is to come next."""
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
        """Load the memory; returns whether the model was about to say something."""
        if not checkpoint.reason:
            return False
        parts = self._parts
        parts.conversation.load(checkpoint.items)
        if checkpoint.recalled:
            # Positions in the caller's audio were those of the dispatcher that is gone.
            for item in parts.conversation:
                item.span = None
        goes_on = self._broke_off = parts.agent.restore(checkpoint.replies, checkpoint.first_index)
        parts.agent.settle_the_rest(heard=checkpoint.recalled)
        parts.memory_writer.speaking = checkpoint.speaking
        callers = any(item.role is Role.USER for item in parts.conversation)
        if parts.conversation.last() is not None and (callers or not parts.agent.is_heard):
            # The welcome message is over, or nothing of it plays any more.
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
            # One response follows the outputs of all.
            return not last.silent and outputs >= calls
        return True

    def go_live(self, event: SessionEvent, started_seconds: float, now_seconds: float) -> None:
        """Take the call.

        Args:
            event: why the session goes live: it was set up, or stood by.
            started_seconds: since when the call waited for a session.
            now_seconds: the time.
        """
        parts = self._parts
        checkpoint, self.checkpoint = self.checkpoint, Checkpoint()
        self._life.advance(event)
        self.live_since_seconds = now_seconds
        parts.updates.unmute(now_seconds, self._changed_session)
        is_new = parts.conversation.last() is None
        refed = self._forget_open_turns(checkpoint)
        self._bring_conversation(checkpoint)
        parts.log.info(
            "session live", seconds=round(now_seconds - started_seconds, 3), reason=checkpoint.reason or None
        )
        parts.memory_writer.write()
        parts.out.record(wire.Ready())
        self._hang_up_again(checkpoint)
        self._awaiting.went_live()
        parts.out.happened("live")
        self._keypad.press_all(checkpoint.digits, now_seconds)
        self._add_notes(checkpoint, is_new=is_new)
        if is_new and not refed:
            self._greet(now_seconds)
        # The greeting is asked for before the API hears what the caller has said meanwhile.
        parts.pursue(now_seconds)
        self._caller.replay_audio(checkpoint.audio, now_seconds)
        if parts.calls.resume(checkpoint, parts.config.idempotent):
            parts.answers.owe(AnswerKind.TOOL, now_seconds)
        elif self.goes_on and not refed:
            if self._broke_off:
                parts.replay.add(parts.ids.new(), text=CONTINUE_NOTE)
            parts.answers.owe(AnswerKind.RECOVERY, now_seconds)

    def _forget_open_turns(self, checkpoint: Checkpoint) -> bool:
        """Remove turns without text from the conversation's end: heard again, they get text and an answer."""
        conversation = self._parts.conversation
        forgotten = False
        first = checkpoint.audio[0][0] if checkpoint.audio else None
        while (last := conversation.last()) is not None and first is not None:
            is_open = last.role is Role.USER and not last.text and last.span is not None
            if not is_open or last.span is None or last.span[0] < first:
                break
            conversation.remove(last.item_id)
            forgotten = True
        return forgotten

    def _bring_conversation(self, checkpoint: Checkpoint) -> None:
        parts = self._parts
        for item in parts.conversation:
            if item.role is Role.USER and not item.text_done:
                # It is brought as sound, of which no text will come.
                item.text_done = True
                parts.conversation.changed(item)
        parts.replay.synchronize(checkpoint.audio)

    def _hang_up_again(self, checkpoint: Checkpoint) -> None:
        """Repeat the order of a hang-up that an earlier session gave, unless the dispatcher has it."""
        if HANG_UP_ID in checkpoint.known_commands:
            self._life.hang_up_reason = checkpoint.hang_up or ORDERED_BEFORE
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
