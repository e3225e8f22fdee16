"""The keys that the caller presses, on their way to the model."""

from __future__ import annotations

from common.link import wire
from worker.session.agent.response_scheduler import AnswerKind
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State


class Keypad:
    """Keypad of one session's caller. A key interrupts the agent as speech does. An entry is one message."""

    def __init__(self, parts: SessionParts, life: Lifecycle) -> None:
        self._parts = parts
        self._life = life
        # Keys of entries that are not part of the conversation yet.
        self._keys = 0
        self._early: list[str] = []

    def press(self, digit: str, now_seconds: float) -> None:
        """Take a key that the caller has pressed."""
        parts = self._parts
        parts.silence.reset()
        if self._life.state is not State.LIVE:
            # The session is not live yet. The dispatcher bounds the number of keys.
            self._early.append(digit)
            return
        if parts.secret_entry.is_on:
            # The dispatcher has not muted the caller yet. The key may be secret, so the model does not get it.
            parts.out.record(wire.Keyed(1))
            return
        if not parts.digits.is_open and not parts.audio.input_muted:
            parts.barge_in()
        self._keys += 1
        if (entry := parts.digits.press(digit, now_seconds)) is not None:
            self._entered(entry, now_seconds)

    def press_all(self, remembered: str, now_seconds: float) -> None:
        """Take the keys from before the session was live: first those of the call's memory."""
        early, self._early = self._early, []
        for digit in (*remembered, *early):
            self.press(digit, now_seconds)

    def end_entry(self, now_seconds: float) -> None:
        """End the open entry, because a tool gets the keys that follow."""
        if (entry := self._parts.digits.end()) is not None:
            self._entered(entry, now_seconds)

    def tick(self, now_seconds: float) -> None:
        """End an entry that no key has followed for a while."""
        if (entry := self._parts.digits.tick(now_seconds)) is not None:
            self._entered(entry, now_seconds)

    def _entered(self, entry: str, now_seconds: float) -> None:
        parts = self._parts
        parts.out.happened("digits", digits=entry)
        text = f"[The caller pressed these keys on the telephone: {entry}]"
        parts.replay.add(parts.ids.new(), text=text)
        # The `#` that ended the entry is counted, too.
        parts.out.record(wire.Keyed(self._keys))
        self._keys = 0
        responses = parts.answers.responses
        responses.settle([answer for answer in responses.owed if answer.kind is AnswerKind.GREETING])
        parts.answers.owe(AnswerKind.KEYS, now_seconds)
