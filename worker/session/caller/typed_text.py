"""Text that a person types in place of speaking: `avr-sts-openai chat`."""

from __future__ import annotations

from worker.session.parts import SessionParts


class TypedText:
    """The typed turns of one session. A typed turn interrupts the agent like a spoken one."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts

    def turn(self, text: str, now_seconds: float) -> None:
        """Add a turn to the conversation as a user's message, and owe its answer in place of earlier answers."""
        parts = self._parts
        parts.silence.reset()
        parts.barge_in()
        parts.replay.add(parts.ids.new(), text=text)
        parts.turn_clock.speech_ended(now_seconds, now_seconds)
        parts.answers.turn(now_seconds, since_seconds=now_seconds, api_answers=False)
