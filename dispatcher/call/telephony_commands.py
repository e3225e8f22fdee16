"""What the agent wants done with the call on Asterisk, when its last words have been heard."""

from __future__ import annotations

from collections import deque

from common.link import wire

# Orders that wait for the last words: a model that gives more contradicts itself.
MAX_WAITING_ORDERS = 8
MAX_KNOWN_ORDERS = 256
# The outcome of an order that comes after a transfer. It counts as done: the model is to say nothing about it.
TRANSFERRED = "not done: the caller has been transferred already"


class TelephonyCommands:
    """The orders of one call: each is carried out once, whichever worker repeats it, and one after the other.

    Attributes:
        has_transferred: avr-ami has transferred the call, so no order is carried out any more.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._waiting: deque[tuple[wire.TelephonyCommand, float]] = deque()
        self._known: dict[str, wire.TelephonyDone | None] = {}
        self._executing: wire.TelephonyCommand | None = None
        self.has_transferred = False

    @property
    def known(self) -> tuple[str, ...]:
        """Ids of all orders, carried out or not."""
        return tuple(self._known)

    @property
    def is_busy(self) -> bool:
        """Whether an order waits, or is being carried out."""
        return bool(self._waiting) or self._executing is not None

    @property
    def results(self) -> list[wire.TelephonyDone]:
        """What came of those that were carried out."""
        return [result for result in self._known.values() if result is not None]

    def add(self, order: wire.TelephonyCommand, now_seconds: float) -> None:
        """The worker wants something done. One too many, or known already, is passed over."""
        if order.id in self._known or len(self._waiting) >= MAX_WAITING_ORDERS:
            return
        if len(self._known) >= MAX_KNOWN_ORDERS:
            return
        self._known[order.id] = None
        self._waiting.append((order, now_seconds))

    def due(self, now_seconds: float, *, all_heard: bool) -> wire.TelephonyCommand | None:
        """The order to carry out now, if any: when the last words have been heard, or have taken too long."""
        if not self._waiting or self._executing is not None or self.has_transferred:
            return None
        order, since_seconds = self._waiting[0]
        if not all_heard and now_seconds - since_seconds < self._patience_seconds:
            return None
        self._waiting.popleft()
        self._executing = order
        return order

    def executed(self, result: wire.TelephonyDone) -> None:
        """What avr-ami made of it."""
        executing, self._executing = self._executing, None
        self._known[result.id] = result
        if executing is not None and executing.action == wire.TelephonyAction.TRANSFER and result.ok:
            self.has_transferred = True

    def take_void(self) -> list[wire.TelephonyCommand]:
        """Take the orders that came to nothing, because the call was transferred before them."""
        if not self.has_transferred:
            return []
        void = [order for order, _ in self._waiting]
        self._waiting.clear()
        for order in void:
            self._known[order.id] = wire.TelephonyDone(order.id, True, TRANSFERRED)
        return void
