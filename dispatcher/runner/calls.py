"""The dispatcher's table of calls, as the shell of a call sees it."""

from __future__ import annotations

from typing import Protocol as Interface
from typing import TypeVar

from common.observe.metrics import DispatcherMetrics
from dispatcher.asterisk.ami import Ami
from dispatcher.asterisk.transfers import Transfers
from dispatcher.call.announcements import Announcements
from dispatcher.recording.recordings import Recordings
from dispatcher.workers.links import LinkPool
from dispatcher.workers.placement import Placement

_Runner = TypeVar("_Runner")


class Calls(Interface[_Runner]):
    """The dispatcher's table of calls."""

    @property
    def links(self) -> LinkPool:
        """Links to the workers."""

    @property
    def placement(self) -> Placement:
        """Where calls are pinned."""

    @property
    def ami(self) -> Ami:
        """Asterisk."""

    @property
    def announcements(self) -> Announcements:
        """What calls may play by themselves."""

    @property
    def recordings(self) -> Recordings | None:
        """Recordings of calls; None: calls are not recorded."""

    @property
    def transfers(self) -> Transfers:
        """Which calls that cannot go on may be transferred."""

    @property
    def metrics(self) -> DispatcherMetrics:
        """What is measured."""

    def begun(self, runner: _Runner) -> _Runner | None:
        """Put a call into the table; return the runner that has the call of this uuid already, if there is one."""

    def publish(self) -> None:
        """Tell Redis soon what this dispatcher holds."""

    def ended(self, runner: _Runner) -> None:
        """Take a call out of the table: it has ended."""
