"""Commands of the calls API for one session."""

from __future__ import annotations

from typing import Any

from common.link.wire import EndReason
from worker.session.actions import Answer
from worker.session.agent.response_scheduler import AnswerKind
from worker.session.hang_up import HangUp
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State

# Maximum texts of `say` commands that the agent has still to say.
MAX_WAITING_SAYINGS = 16


class Commands:
    """Handler of one session's commands. An `Answer` follows each, at once or after the API's answer."""

    def __init__(self, parts: SessionParts, life: Lifecycle) -> None:
        self._parts = parts
        self._life = life

    @property
    def waiting_sayings(self) -> int:
        """Number of texts that the agent has still to say."""
        return sum(answer.kind is AnswerKind.SAY for answer in self._parts.answers.responses.owed)

    def carry_out(
        self, number: int, action: str, body: dict[str, Any], now_seconds: float, *, is_standby: bool
    ) -> None:
        """Carry out a command.

        Args:
            number: number of the command.
            action: name of the command.
            body: checked arguments of the command.
            now_seconds: the time.
            is_standby: another session has the call.
        """
        if action == "conversation":
            self._answer(number, 200, {"conversation": self._parts.conversation.as_json()})
        elif self._life.has_ended:
            self._answer(number, 404, {"error": "the session has ended"})
        elif action == "hang_up":
            self._hang_up(number, is_standby=is_standby)
        elif self._life.state is not State.LIVE:
            self._answer(number, 409, {"error": "the call has no session yet: try again"})
        elif action == "say" and self.waiting_sayings < MAX_WAITING_SAYINGS:
            self._parts.answers.say(AnswerKind.SAY, str(body["text"]), now_seconds)
            self._answer(number, 200, {})
        elif action != "session" or not self._parts.updates.change(number, body, now_seconds):
            self._answer(number, 429, {"error": "too many commands wait for this call"})

    def _hang_up(self, number: int, *, is_standby: bool) -> None:
        if is_standby:
            # The dispatcher ignores telephony commands of a session that does not have the call.
            self._answer(number, 409, {"error": "another session has the call: try again"})
            return
        self._answer(number, 200, {})
        self._parts.agent.flush()
        self._life.hang_up(HangUp("the calls API has ended the call", EndReason.API_HUNG_UP), repeat=True)

    def _answer(self, number: int, status: int, body: dict[str, Any]) -> None:
        self._parts.out.actions.append(Answer(number, status, body))
