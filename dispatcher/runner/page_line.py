"""The place of Asterisk in a call from the live page, and the table of calls as such a call sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from common.observe.metrics import DispatcherMetrics
from common.observe.tracing import Tracer
from common.settings.tenants import PageTenants
from dispatcher.asterisk.ami import Ami, NotPossible
from dispatcher.asterisk.transfers import Transfers
from dispatcher.call.announcements import Announcements
from dispatcher.recording.recordings import Recordings
from dispatcher.records.record_writer import RecordWriter
from dispatcher.runner.calls import Calls
from dispatcher.workers.links import LinkPool
from dispatcher.workers.placement import Placement

NO_TRANSFER: Final = (
    "not transferred: this call comes from the live page and has no telephone line, so it cannot be transferred. "
    "Tell the caller that a telephone call would be transferred now"
)
HUNG_UP: Final = "The call was hung up at the service."

_PAGE_TENANTS: Final = PageTenants()
_Runner = TypeVar("_Runner")


class PageLine(Ami):
    """The stand-in for avr-ami in one call from the page: no Asterisk knows the call.

    Args:
        hang_up: closes the page's connection, with a text for people.
    """

    def __init__(self, hang_up: Callable[[str], None]) -> None:
        super().__init__("")
        self._hang_up = hang_up

    async def hang_up(self, uuid: str) -> str:
        """Close the page's connection, which ends the call."""
        self._hang_up(HUNG_UP)
        return "hung up"

    async def transfer(self, uuid: str, extension: str, context: str, priority: str) -> str:
        """Refuse the transfer, because the call has no telephone line.

        Raises:
            NotPossible: always.
        """
        raise NotPossible(NO_TRANSFER)


class PageTable(Generic[_Runner]):
    """The dispatcher's table of calls for one call from the page: without tenants and without Asterisk."""

    def __init__(self, calls: Calls[_Runner], line: PageLine) -> None:
        self._calls = calls
        self.ami = line
        self.tenants = _PAGE_TENANTS

    @property
    def links(self) -> LinkPool:
        """See `Calls`."""
        return self._calls.links

    @property
    def placement(self) -> Placement:
        """See `Calls`."""
        return self._calls.placement

    @property
    def announcements(self) -> Announcements:
        """The announcements, without the extension that the way out would transfer to."""
        return dataclasses.replace(self._calls.announcements, extension="")

    @property
    def recordings(self) -> Recordings | None:
        """See `Calls`."""
        return self._calls.recordings

    @property
    def transfers(self) -> Transfers:
        """See `Calls`."""
        return self._calls.transfers

    @property
    def records(self) -> RecordWriter:
        """See `Calls`."""
        return self._calls.records

    @property
    def tracer(self) -> Tracer:
        """See `Calls`."""
        return self._calls.tracer

    @property
    def metrics(self) -> DispatcherMetrics:
        """See `Calls`."""
        return self._calls.metrics

    def begun(self, runner: _Runner) -> _Runner | None:
        """See `Calls`."""
        return self._calls.begun(runner)

    def publish(self, runner: _Runner) -> None:
        """See `Calls`."""
        self._calls.publish(runner)

    def ended(self, runner: _Runner) -> None:
        """See `Calls`."""
        self._calls.ended(runner)
