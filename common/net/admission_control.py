"""The limits of a port for connections whose peers have not identified themselves, Sans-I/O.

A connection is *arriving* from TCP's accept until its peer has identified itself, or is gone. A caller identifies
itself by `init`, a dispatcher by HELLO. A call under way does not count: AVR Core is one address with hundreds of
calls, and so is a load balancer. The limits bound handshakes under way, which cost memory and bring nothing.

A connection is *lingering* while it stays open only so that its peer can read why it was refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from common.net.addresses import subscriber
from common.observe.line_limit import LineLimit
from common.observe.refusals import Refusal


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds of one port in one process.

    Attributes:
        arriving: connections whose peers have not identified themselves. One costs a file descriptor and 3 KB,
            with TLS 57 KB.
        arriving_of_address: the same bound for one address; an IPv6 /64 network counts as one address. A core
            whose network or dispatcher failed reconnects all its calls at once: the bound is twice the calls of a
            process. The bound is half of `arriving`, so that one address never keeps others out.
        lingering: refused connections that stay open for a moment. Above this bound refused connections are closed
            without an answer.
        open_seconds: time from TCP's accept to the end of the request's head, TLS included.
        max_head_bytes: bound of the request's head. A core's head has 500 bytes, and as much metadata as it sends.
        linger_seconds: time for a refused peer to read the reason. A socket that is closed with unread input is
            reset, and its answer is lost.
        pause_seconds: time for which nothing is accepted when file descriptors have run out.
    """

    arriving: int = 2000
    arriving_of_address: int = 1000
    lingering: int = 500
    open_seconds: float = 10.0
    max_head_bytes: int = 16 * 1024
    linger_seconds: float = 1.0
    pause_seconds: float = 1.0


DEFAULT_ADMISSION_LIMITS: Final = AdmissionLimits()


ANSWERS: Final = {
    Refusal.TOO_MANY: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too many connections that have not identified themselves: try again in a second\n",
    ),
    Refusal.TOO_MANY_OF_ADDRESS: (
        HTTPStatus.TOO_MANY_REQUESTS,
        "too many connections of your address that have not identified themselves: try again in a second\n",
    ),
    Refusal.HEAD_TOO_BIG: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the request's head is too big\n",
    ),
}
"""The answers to refused connections; for all other reasons a connection is closed without an answer."""


class AdmissionControl:
    """The count of arriving connections of one port.

    Args:
        limits: see `AdmissionLimits`.
        refused: called with each refusal, to count it.
        report: called now and then to log refusals: the reason, the number since the last report, and the address
            and a detail of the last one.
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
        """Number of connections whose peers have not identified themselves."""
        return self._arriving

    def enter(self, address: str) -> Refusal | None:
        """Count a new connection; unless it is refused, `leave` must follow."""
        if self._arriving >= self.limits.arriving:
            return Refusal.TOO_MANY
        address = subscriber(address)
        if self._by_address[address] >= self.limits.arriving_of_address:
            return Refusal.TOO_MANY_OF_ADDRESS
        self._arriving += 1
        self._by_address[address] += 1
        return None

    def leave(self, address: str) -> None:
        """Stop counting a connection: its peer has identified itself, or is gone."""
        address = subscriber(address)
        self._arriving -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    def refuse(self, refusal: Refusal, address: str, now_seconds: float, detail: str = "") -> None:
        """Count a refusal, and report refusals when a report is due."""
        self._refused(refusal)
        times = self._lines.take(refusal, now_seconds)
        if times is not None:
            self._report(refusal, times, address, detail)
