"""Time limits of a session: the call's length, silence, and a dispatcher that does not answer."""

from __future__ import annotations

from common.link.wire import EndReason, Outcome
from worker.session.agent.response_scheduler import SchedulerState
from worker.session.hang_up import HangUp
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.states import State


class TimeLimits:
    """Time limits of one session."""

    def __init__(self, parts: SessionParts, life: Lifecycle, call_began_seconds: float) -> None:
        self._parts = parts
        self._life = life
        self._call_began_seconds = call_began_seconds

    def tick(self, now_seconds: float, *, is_audible: bool, is_standby: bool) -> None:
        """End a call that has exceeded a limit.

        Args:
            now_seconds: the time.
            is_audible: the caller speaks.
            is_standby: another session has the call, so that this one does not hang up.
        """
        parts, config = self._parts, self._parts.config
        # Silence does not end a transferred call, because its caller speaks with people.
        longest_silence = None if parts.calls.has_transferred else config.silence_hangup_seconds
        if parts.agent.is_unanswered:
            self._life.end(
                Outcome.FAILED, "the dispatcher does not answer interruptions (FLUSH)", EndReason.INTERNAL
            )
            return
        if is_audible:
            parts.silence.reset()
        responses = parts.answers.responses
        waits = responses.owes or parts.calls.any_open or parts.agent.is_heard
        idle = responses.state is SchedulerState.IDLE
        parts.silence.tick(now_seconds, runs=self._life.state is State.LIVE and idle and not waits)
        if is_standby:
            return
        longest_seconds = config.max_call_seconds
        if longest_seconds is not None and now_seconds - self._call_began_seconds >= longest_seconds:
            reason = f"the call is {longest_seconds:g} s long (MAX_CALL_SECONDS)"
            self._life.hang_up(HangUp(reason, EndReason.TOO_LONG))
        elif longest_silence is not None and parts.silence.seconds >= longest_silence:
            reason = f"nobody has spoken for {longest_silence:g} s (SILENCE_HANGUP_SECONDS)"
            self._life.hang_up(HangUp(reason, EndReason.CALLER_SILENT))
