"""Who may come in: a port's table of connections that have not said who they are, Sans-I/O.

A connection counts from the moment that TCP accepts it until it has said what it is (a caller its `init`, a
dispatcher its HELLO), or is gone. A call under way does not count: AVR Core is one address with hundreds of calls,
and so is a load balancer. What is bounded is what costs memory and gives nothing: handshakes under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from common.net.addresses import subscriber
from common.observe.line_limit import LineLimit


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds of one port in one process.

    Attributes:
        arriving: connections that have not said who they are, in all. One costs a file descriptor and 3 KB, in TLS
            57 KB.
        arriving_of_address: the same, of one address; of IPv6 a /64 network counts as one. A core that lost the
            network for a moment comes back with all its calls at once, and so does one whose dispatcher died: this
            is twice what a process carries. It is half of `arriving`, so that one address never keeps others out.
        lingering: connections that were refused and may read why; above it the next are cut off unanswered.
        open_seconds: from TCP's accept to the end of the request's head, TLS included.
        max_head_bytes: of the request's head. A core's is 500 bytes, with as much metadata as it likes to send.
        linger_seconds: a refused connection may read the reason for so long. A socket that is closed with unread
            input is reset, answer and all.
        pause_seconds: nothing is accepted for so long when there is no file descriptor for it.
    """

    arriving: int = 2000
    arriving_of_address: int = 1000
    lingering: int = 500
    open_seconds: float = 10.0
    max_head_bytes: int = 16 * 1024
    linger_seconds: float = 1.0
    pause_seconds: float = 1.0


DEFAULT_ADMISSION_LIMITS: Final = AdmissionLimits()


class Refusal(StrEnum):
    """Why a connection does not come in; the value is a metric's label."""

    TOO_MANY = "too_many"
    TOO_MANY_OF_ADDRESS = "too_many_of_address"
    TOO_SLOW = "too_slow"
    HEAD_TOO_BIG = "head_too_big"
    NOT_HTTP = "not_http"
    TLS = "tls"
    TOKEN = "token"  # noqa: S105 - the reason's name
    ORIGIN = "origin"


ANSWERS: Final = {
    Refusal.TOO_MANY: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too many connections that have not said who they are: try again in a second\n",
    ),
    Refusal.TOO_MANY_OF_ADDRESS: (
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many connections of your address that have not said who they are: try again in a second\n",
    ),
    Refusal.HEAD_TOO_BIG: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the request's head is too big\n",
    ),
}
"""What is answered; who is refused for another reason is cut off without a word."""


class AdmissionControl:
    """The table of one port.

    Args:
        limits: see `AdmissionLimits`.
        refused: told of each refusal, to be counted.
        report: told now and then of refusals, to be logged: why, how many since the last time, and of the last
            one its address and a detail.
    """

    def __init__(
        self,
        limits: AdmissionLimits = DEFAULT_ADMISSION_LIMITS,
        *,
        refused: Callable[[Refusal], None] = lambda _: None,
        report: Callable[[Refusal, int, str, str], None] = lambda *_: None,
    ) -> None:
        self.limits = limits
        self._refused = refused
        self._report = report
        self._arriving = 0
        self._by_address: Counter[str] = Counter()
        self._lines = LineLimit()

    @property
    def arriving(self) -> int:
        """Connections that have not said who they are."""
        return self._arriving

    def enter(self, address: str) -> Refusal | None:
        """A connection has come; unless it is refused, `leave` follows."""
        if self._arriving >= self.limits.arriving:
            return Refusal.TOO_MANY
        address = subscriber(address)
        if self._by_address[address] >= self.limits.arriving_of_address:
            return Refusal.TOO_MANY_OF_ADDRESS
        self._arriving += 1
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """A connection that came in has said who it is, or is gone."""
        address = subscriber(address)
        self._arriving -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def refuse(self, refusal: Refusal, address: str, now_seconds: float, detail: str = "") -> None:
        """Count a refusal, and report it if it is time."""
        self._refused(refusal)
        times = self._lines.take(refusal, now_seconds)
        if times is not None:
            self._report(refusal, times, address, detail)
