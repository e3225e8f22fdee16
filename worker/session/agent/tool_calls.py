"""The tool calls of a session: those of one response run side by side, and one response follows them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.link import wire
from worker.tools import built_in


@dataclass(slots=True)
class _Batch:
    """The calls of one response."""

    response_id: str
    open: set[str] = field(default_factory=set)
    done: bool = False  # the response is over: there will be no more of them
    answer: bool = False  # the model is to say something to their outputs


class ToolCalls:
    """Which calls are open, and when the model is to be asked for what it makes of their outputs."""

    def __init__(self) -> None:
        self._batches: dict[str, _Batch] = {}
        self._batch_of: dict[str, _Batch] = {}
        self._orders: dict[str, wire.TelephonyCommand] = {}

    @property
    def open_calls(self) -> frozenset[str]:
        """Ids of calls without an output."""
        return frozenset(self._batch_of)

    def begin(self, response_id: str, call_id: str) -> None:
        """The model calls a tool."""
        batch = self._batches.setdefault(response_id, _Batch(response_id))
        batch.open.add(call_id)
        self._batch_of[call_id] = batch

    def order(self, call_id: str, wanted: built_in.Hangup | built_in.Transfer) -> wire.TelephonyCommand:
        """The order that carries out a call of `avr_hangup` or `avr_transfer`."""
        if isinstance(wanted, built_in.Transfer):
            action = wire.TelephonyAction.TRANSFER.value
            order = wire.TelephonyCommand(call_id, action, wanted.extension, wanted.context, str(wanted.priority))
        else:
            order = wire.TelephonyCommand(call_id, wire.TelephonyAction.HANG_UP.value)
        self._orders[call_id] = order
        return order

    @property
    def open_commands(self) -> list[wire.TelephonyCommand]:
        """Orders that were given and of which nothing has come yet."""
        return list(self._orders.values())

    def ordered(self, call_id: str) -> bool:
        """An order was carried out; whether an open call wanted it."""
        self._orders.pop(call_id, None)
        return call_id in self._batch_of

    def end(self, call_id: str, *, answer: bool = True) -> bool:
        """A call has its output; True if the model is to be asked for a response now."""
        batch = self._batch_of.pop(call_id, None)
        if batch is None:
            return False
        batch.open.discard(call_id)
        batch.answer |= answer
        return self._settle(batch)

    def response_done(self, response_id: str) -> bool:
        """A response is over; True if the model is to be asked for another now."""
        batch = self._batches.get(response_id)
        if batch is None:
            return False
        batch.done = True
        return self._settle(batch)

    def _settle(self, batch: _Batch) -> bool:
        if batch.open or not batch.done:
            return False
        self._batches.pop(batch.response_id, None)
        return batch.answer
