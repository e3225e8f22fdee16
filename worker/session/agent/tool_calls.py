"""The tool calls of a session. The calls of one response run in parallel, and one response answers them all."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.link import wire
from worker.tools import built_in


@dataclass(slots=True)
class _Batch:
    """The calls of one response."""

    response_id: str
    open: set[str] = field(default_factory=set)
    done: bool = False  # the response is done, so it adds no more calls
    answer: bool = False  # the model must answer their outputs


class ToolCalls:
    """Open calls of one session. It decides when to request the answer to their outputs."""

    def __init__(self) -> None:
        self._batches: dict[str, _Batch] = {}
        self._batch_of: dict[str, _Batch] = {}
        self._commands: dict[str, wire.TelephonyCommand] = {}

    @property
    def open_calls(self) -> frozenset[str]:
        """Ids of calls without an output."""
        return frozenset(self._batch_of)

    def begin(self, response_id: str, call_id: str) -> None:
        """Add a call to the batch of its response."""
        batch = self._batches.setdefault(response_id, _Batch(response_id))
        batch.open.add(call_id)
        self._batch_of[call_id] = batch

    def add_command(self, call_id: str, wanted: built_in.Hangup | built_in.Transfer) -> wire.TelephonyCommand:
        """Return the telephony command for a call of `avr_hangup` or `avr_transfer`."""
        if isinstance(wanted, built_in.Transfer):
            action = wire.TelephonyAction.TRANSFER.value
            command = wire.TelephonyCommand(
                call_id, action, wanted.extension, wanted.context, str(wanted.priority)
            )
        else:
            command = wire.TelephonyCommand(call_id, wire.TelephonyAction.HANG_UP.value)
        self._commands[call_id] = command
        return command

    @property
    def open_commands(self) -> list[wire.TelephonyCommand]:
        """Return the telephony commands without a result."""
        return list(self._commands.values())

    def command_done(self, call_id: str) -> bool:
        """Remove a command that has a result; return whether its call is still open."""
        self._commands.pop(call_id, None)
        return call_id in self._batch_of

    def end(self, call_id: str, *, answer: bool = True) -> bool:
        """End a call that has its output; return whether to request a response now."""
        batch = self._batch_of.pop(call_id, None)
        if batch is None:
            return False
        batch.open.discard(call_id)
        batch.answer |= answer
        return self._settle(batch)

    def response_done(self, response_id: str) -> bool:
        """Note that a response is done; return whether to request another one now."""
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
