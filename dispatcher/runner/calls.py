"""The dispatcher's table of calls, as the shell of a call sees it."""

from __future__ import annotations

from typing import Protocol as Interface
from typing import TypeVar

from common.observe.metrics import DispatcherMetrics
from common.observe.tracing import Tracer
from common.settings.tenants import Tenants
from dispatcher.asterisk.ami import Ami
from dispatcher.asterisk.transfers import Transfers
from dispatcher.call.announcements import Announcements
from dispatcher.recording.recordings import Recordings
from dispatcher.records.record_writer import RecordWriter
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
    def tenants(self) -> Tenants:
        """Tenants of the deployment."""

    @property
    def announcements(self) -> Announcements:
        """What calls may play by themselves."""

    @property
    def recordings(self) -> Recordings | None:
        """Recordings of calls; None: calls are not recorded."""

    @property
    def transfers(self) -> Transfers:
        """Return the rule for transfers of calls on their way out."""

    @property
    def records(self) -> RecordWriter:
        """What calls leave behind."""

    @property
    def tracer(self) -> Tracer:
        """Takes the spans of calls."""

    @property
    def metrics(self) -> DispatcherMetrics:
        """Return the metrics of the process."""

    def begun(self, runner: _Runner) -> _Runner | None:
        """Add a call to the table; return the runner of an older call with this uuid, if any."""

    def publish(self, runner: _Runner) -> None:
        """Publish a call to Redis soon, because its record has changed."""

    def ended(self, runner: _Runner) -> None:
        """Remove a call that has ended from the table."""
