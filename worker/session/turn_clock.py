"""The clock of one turn of the caller: from the end of the speech to the first audio of the answer.

The latency has three parts, which add up to it:

    end_of_speech   From the end of the speech until the turn is known to have ended. The API names the end in
                    `audio_end_ms` of `input_audio_buffer.speech_stopped`, a position in the appended audio. The
                    audio appended since, and the silence that the detector waits for, give the time. Where turns
                    are detected here, it is the silence alone, up to `input_audio_buffer.commit`.
    model           While the API works on an answer. It begins with the end of the turn if the API answers by
                    itself (`create_response`), else with `response.create`. It ends when the first
                    `response.output_audio.delta` is read from the socket. It also ends at a function call
                    (`response.output_item.done`), or with a response without audio (`response.done`).
    service         The rest: waits before a `response.create`, tools, and the time from the socket to the link.
"""

from __future__ import annotations


class TurnClock:
    """The clock of a session's present turn.

    Attributes:
        spoke_until_seconds: end of the caller's speech; None: no turn is measured.
        received_seconds: time at which the present audio was read from the socket; None: unknown.
    """

    def __init__(self) -> None:
        """Make a clock that measures no turn."""
        self.spoke_until_seconds: float | None = None
        self.received_seconds: float | None = None
        self._known_seconds = 0.0
        # Since when the model works on the answer, and how long it worked on it before that.
        self._works_since: float | None = None
        self._worked_seconds = 0.0
        self._response_id = ""

    def forget(self) -> None:
        """Measure no turn, because the caller speaks again."""
        self.spoke_until_seconds = None

    def speech_ended(self, spoke_until_seconds: float, now_seconds: float) -> None:
        """Begin to measure a turn that is known to have ended."""
        self.spoke_until_seconds = spoke_until_seconds
        self.received_seconds = None
        self._known_seconds = now_seconds
        self._works_since = None
        self._worked_seconds = 0.0
        self._response_id = ""

    def asked(self, now_seconds: float) -> None:
        """Note that the answer was requested, or that the API begins it by itself."""
        if self.spoke_until_seconds is not None and self._works_since is None:
            self._works_since = now_seconds

    def begun(self, response_id: str, now_seconds: float) -> None:
        """Note that a response has begun."""
        self.asked(now_seconds)
        self._response_id = response_id

    def stopped(self, response_id: str, now_seconds: float) -> None:
        """Note that a response ended, or called a tool. A response from before the turn is ignored."""
        if self._works_since is not None and response_id == self._response_id:
            self._worked_seconds += now_seconds - self._works_since
            self._works_since = None

    def answered(self, now_seconds: float) -> tuple[float, float, float] | None:
        """Take the first audio of the answer; return the seconds of TURN_PARTS, or None if no turn is measured."""
        if self.spoke_until_seconds is None:
            return None
        known = self._known_seconds
        received = now_seconds if self.received_seconds is None else self.received_seconds
        received = min(max(known, received), now_seconds)
        since = self._works_since
        if since is None and not self._worked_seconds:
            # No request is known, so the model counts as working since the end of the turn.
            since = known
        model = self._worked_seconds
        if since is not None:
            model += max(0.0, received - since)
        end_of_speech = known - self.spoke_until_seconds
        service = max(0.0, now_seconds - known - model)
        self.forget()
        return end_of_speech, model, service
