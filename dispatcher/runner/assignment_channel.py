"""The channel of one assignment, at the dispatcher's end: records of the call go out here, and come in."""

from __future__ import annotations

from typing import Protocol as Interface

from common.link import wire
from common.link.channel import Channel
from common.link.wire import Kind
from dispatcher.call.assignment import Assignment
from dispatcher.workers.links import ChannelOwner


class Link(Interface):
    """A link to a worker, as a channel uses it."""

    def open_channel(self, owner: ChannelOwner) -> int:
        """Open a channel, and return its number."""

    def leave_channel(self, channel: int) -> None:
        """Pass over records that still come on the channel."""

    def send(self, record: bytes) -> None:
        """Send an encoded record."""


class AssignmentOwner(Interface):
    """The call of an assignment, as its channel sees it."""

    @property
    def uuid(self) -> str:
        """The call's uuid."""

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        """Handle a record of the assignment's worker."""

    def assignment_broke(self, assignment: Assignment) -> None:
        """Note that the link to the worker broke, and another one is looked for."""

    def assignment_lost(self, assignment: Assignment) -> None:
        """Note that the link to the worker is lost, and no other can be had."""

    def fail(self, reason: str) -> None:
        """Give the call up."""


class AssignmentChannel:
    """Channel of one assignment. It counts records, and resumes on the next link when its link breaks.

    A channel that was left while its link was broken sends its last records on the next link. Without them the
    worker would keep the session for a caller who may reconnect.
    """

    def __init__(self, owner: AssignmentOwner, worker_link: Link, assignment: Assignment) -> None:
        """Open a channel on a link."""
        self._owner = owner
        self._assignment = assignment
        self._link: Link | None = worker_link
        self._is_left = False
        self._channel = Channel(worker_link.open_channel(self), worker_link.send)

    @property
    def uuid(self) -> str:
        """The call's uuid."""
        return self._owner.uuid

    @property
    def is_full(self) -> bool:
        """Whether the worker acknowledges nothing, so that the channel is of no use any more."""
        return self._channel.is_full

    def send(self, record: wire.Record, counted: bool) -> None:
        """Send a record; a counted one waits for a link if there is none.

        Raises:
            ValueError: the record cannot be encoded.
        """
        if counted:
            self._channel.send(record)
        else:
            self._channel.send_uncounted(record)

    def leave(self) -> None:
        """Send and expect nothing more; while the link is broken the last records wait for the next link."""
        self._is_left = True
        if self._link is not None:
            self._link.leave_channel(self._channel.number)

    # Owner of the channel

    def record(self, kind: int, payload: memoryview, received_seconds: float) -> None:
        """Take a record of the worker: what concerns the channel alone is handled here."""
        if self._is_left:
            self._say_goodbye(kind, payload)
            return
        self._channel.receive(kind, len(payload))
        if kind == Kind.ACK:
            self._channel.acknowledged(wire.decode_ack(payload))
        elif kind == Kind.ATTACHED:
            self._channel.resumed(wire.decode_control(wire.Attached, payload).received)
        else:
            self._owner.assignment_record(self._assignment, kind, payload, received_seconds)

    def link_broke(self) -> None:
        """Keep records from now on: the link is gone, and another one is looked for."""
        self._link = None
        self._channel.broke()
        if not self._is_left:
            self._owner.assignment_broke(self._assignment)

    def link_back(self, worker_link: Link) -> None:
        """Resume the channel, under the same number, on another link to the same worker."""
        self._link = worker_link
        self._channel.attach(worker_link.send, self._owner.uuid, self._assignment.epoch)

    def worker_lost(self) -> None:
        """Report the loss of the worker to the call."""
        self._link = None
        self._channel.broke()
        if not self._is_left:
            self._owner.assignment_lost(self._assignment)

    def stop(self, reason: str) -> None:
        """Fail the call, because it cannot continue with this worker."""
        self._owner.fail(reason)

    def _say_goodbye(self, kind: int, payload: memoryview) -> None:
        """Repeat unacknowledged records after the worker's answer, and leave the link."""
        if kind == Kind.ATTACHED:
            self._channel.resumed(wire.decode_control(wire.Attached, payload).received)
        if kind in (Kind.ATTACHED, Kind.REFUSED):
            self.leave()
