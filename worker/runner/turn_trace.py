"""One turn of the caller, as its spans show it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.observe.trace_context import TraceContext


@dataclass(slots=True, eq=False)
class Turn:
    """A turn from the end of the caller's speech to the end of the answer.

    Attributes:
        context: of the turn's span.
        reported_seconds: when the end of the speech was reported: by the API, or by the detector of this worker.
        spoke_until_seconds: when the caller stopped to speak; None: not known yet.
        requested_seconds: when this worker asked for the answer; None: the API answers by itself.
        answered_seconds: when the first audio of the answer came; None: none came.
        has_response: the model has begun to answer.
    """

    context: TraceContext
    reported_seconds: float
    spoke_until_seconds: float | None = None
    requested_seconds: float | None = None
    answered_seconds: float | None = None
    has_response: bool = False

    @property
    def began_seconds(self) -> float:
        """The begin of the turn's span."""
        return self.reported_seconds if self.spoke_until_seconds is None else self.spoke_until_seconds

    @property
    def latency_seconds(self) -> float | None:
        """Time from the end of the speech to the first audio of the answer."""
        return None if self.answered_seconds is None else self.answered_seconds - self.began_seconds

    def waits(self) -> Iterator[tuple[str, float, float]]:
        """Yield the parts of the turn that are neither the model's nor a tool's: name, begin and end."""
        if self.spoke_until_seconds is not None:
            yield "end_of_speech", self.spoke_until_seconds, self.reported_seconds
        if self.requested_seconds is not None:
            yield "request", self.reported_seconds, self.requested_seconds
