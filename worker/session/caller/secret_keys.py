"""Secret keys: a tool asks the caller for them, and the model does not get them."""

from __future__ import annotations

from typing import Final

from common.link import wire
from worker.session.actions import Collected
from worker.session.agent.response_scheduler import Answer, AnswerKind, SchedulerState
from worker.session.caller.keypad import Keypad
from worker.session.caller.secret_entry import EntryState
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State
from worker.tools.entries import Entry, EntryEnding, KeyRequest

# Messages to a tool. Each says what the tool can do.
BUSY: Final = "another tool of this call is asking the caller for keys: ask when it has its entry"
OLD_DISPATCHER: Final = "the dispatcher is of an earlier release, which cannot mute the caller: update it"
CALL_ENDS: Final = "the call is being ended or was transferred: do not ask"
ANOTHER_DISPATCHER: Final = "the caller's connection moved to another dispatcher: ask the caller again"
NOT_SAID: Final = "the prompt could not be said to the caller: try again"


class SecretKeys:
    """Requests of a session's tools for secret keys."""

    def __init__(self, parts: SessionParts, life: Lifecycle, keypad: Keypad, *, is_offered: bool) -> None:
        """Build it.

        Args:
            parts: parts of the session.
            life: state of the session.
            keypad: takes the keys that the model gets.
            is_offered: the dispatcher can mute the caller.
        """
        self._parts = parts
        self._life = life
        self._keypad = keypad
        self._is_offered = is_offered
        self._prompt: Answer | None = None

    # The tool

    def ask(self, number: int, wanted: KeyRequest, now_seconds: float) -> None:
        """Ask the caller for keys; `Collected` with this number follows.

        Args:
            number: number of the request, which is unique in this process.
            wanted: the prompt, the number of keys and the times that the tool asks for.
            now_seconds: the time.
        """
        parts = self._parts
        refusal = ""
        if not self._is_offered:
            refusal = OLD_DISPATCHER
        elif parts.calls.has_transferred or self._life.requested_hang_up or self._life.has_ended:
            refusal = CALL_ENDS
        elif not parts.secret_entry.is_free:
            refusal = BUSY
        if refusal:
            parts.out.actions.append(Collected(number, Entry(EntryEnding.REFUSED, message=refusal)))
            return
        parts.secret_entry.ask(number, wanted, now_seconds)
        self.proceed(now_seconds)

    def leave(self, number: int) -> None:
        """End a request, because its tool has ended."""
        entry = self._parts.secret_entry
        if number == entry.number and not entry.is_free:
            self._ended(entry.end(EntryEnding.LOST, "the tool has ended"), abandoned=True)

    # The dispatcher

    def muted(self, number: int, now_seconds: float) -> None:
        """Have the agent say the prompt, because the caller is muted from now on."""
        parts, entry = self._parts, self._parts.secret_entry
        if entry.state is not EntryState.MUTING or number != entry.number:
            return
        entry.muted(now_seconds)
        self._prompt = None
        if entry.prompt:
            self._prompt = parts.answers.say(AnswerKind.PROMPT, entry.prompt, now_seconds)
        self.proceed(now_seconds)

    def press(self, number: int, digit: str, now_seconds: float) -> None:
        """Take a key. The first key interrupts the prompt."""
        parts, entry = self._parts, self._parts.secret_entry
        parts.silence.reset()
        if number != entry.number:
            return
        if entry.state is EntryState.PROMPTING:
            self._settle_prompt()
            parts.barge_in()
            entry.prompt_over(now_seconds)
        if entry.state is EntryState.ENTERING:
            self._ended(entry.press(digit, now_seconds))

    def attached(self, *, is_offered: bool) -> None:
        """Discard the entry, because another dispatcher has the call now, and keys may be lost."""
        self._is_offered = is_offered
        entry = self._parts.secret_entry
        if entry.state is not EntryState.WAITING and not entry.is_free:
            self._ended(entry.end(EntryEnding.LOST, ANOTHER_DISPATCHER), abandoned=True)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        entry = self._parts.secret_entry
        # A caller who was too slow may still be pressing keys.
        self._ended(entry.tick(now_seconds), abandoned=True)

    def proceed(self, now_seconds: float) -> None:
        """Begin an entry when the session is live, and its time for keys when the prompt is over."""
        parts, entry = self._parts, self._parts.secret_entry
        if entry.state is EntryState.WAITING and self._life.state is State.LIVE:
            self._keypad.end_entry(now_seconds)
            entry.live(now_seconds)
            parts.answers.responses.only = AnswerKind.PROMPT
            parts.out.record(wire.Collect(entry.number, on=True, seconds=entry.limits.muted_seconds))
        elif entry.state is EntryState.PROMPTING and self._is_prompt_over():
            if self._prompt is not None and not self._prompt.is_given:
                self._ended(entry.end(EntryEnding.LOST, NOT_SAID), abandoned=True)
            else:
                entry.prompt_over(now_seconds)

    def _is_prompt_over(self) -> bool:
        """Return whether the prompt has been heard, or will not be heard."""
        responses = self._parts.answers.responses
        is_owed = self._prompt is not None and self._prompt in responses.owed
        return not is_owed and responses.state is SchedulerState.IDLE and not self._parts.agent.is_heard

    def _settle_prompt(self) -> None:
        if self._prompt is not None:
            self._parts.answers.responses.settle([self._prompt])
            self._prompt = None

    def _ended(self, entry: Entry | None, *, abandoned: bool = False) -> None:
        """Give the tool its entry, and have the dispatcher end the mute after the tone of the last key."""
        if entry is None:
            return
        parts = self._parts
        self._settle_prompt()
        parts.answers.responses.only = None
        number = parts.secret_entry.number
        parts.out.record(wire.Collect(number, abandoned=abandoned))
        parts.log.info("keys collected for a tool", ending=entry.ending.value)
        parts.out.actions.append(Collected(number, entry))
