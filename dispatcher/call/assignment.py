"""A call's way to one worker: a channel at an epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from common.link import wire
from common.link.retransmit_buffer import RetransmitBuffer


class AssignmentState(Enum):
    """How far the worker is."""

    OPENING = "opening"  # asked
    TAKEN = "taken"  # it has taken the call, and opens a session
    READY = "ready"  # the session is up


@dataclass(eq=False, slots=True)
class Assignment:
    """One leg; a call has one, and a second one while it moves.

    Attributes:
        reason: why the call needed it, a `link.Reason`; empty for the first.
        credit_bytes: caller's audio that may be sent.
        given_bytes: reply audio that the worker may send.
        returned_bytes: reply audio that AVR Core has taken, and for which no credit was given yet.
        move: the worker wants the call to leave again, before it has it.
        is_attached: the worker had the call before this dispatcher, and goes on with it.
        is_broken: there is no link, or the worker has not said on the new one what it has got: records wait.
    """

    worker_id: str
    epoch: int
    channel: int
    reason: str = ""
    state: AssignmentState = AssignmentState.OPENING
    credit_bytes: int = 0
    given_bytes: int = wire.REPLY_CREDIT_BYTES
    returned_bytes: int = 0
    is_attached: bool = False
    is_broken: bool = False
    move: wire.Move | None = None
    stream: RetransmitBuffer = field(default_factory=RetransmitBuffer)

    def due_credit(self) -> int:
        """Credit that is to be given now, in pieces of `CREDIT_STEP_BYTES`; 0 while it is too little."""
        if self.returned_bytes < wire.CREDIT_STEP_BYTES:
            return 0
        due, self.returned_bytes = self.returned_bytes, 0
        self.given_bytes += due
        return due
