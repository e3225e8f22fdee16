"""Commands of the agent to Asterisk. Each waits until the caller has heard the agent's last words."""

from __future__ import annotations

from collections import deque

from common.link import wire

# Maximum commands that wait for the last words; more commands contradict each other.
MAX_WAITING_COMMANDS = 8
MAX_KNOWN_COMMANDS = 256
# Result of a command after a transfer. It counts as done, so that the model does not speak about it.
TRANSFERRED = "not done: the caller has been transferred already"


class TelephonyCommands:
    """Commands of one call. They are carried out one after the other, and each once, even if a worker repeats it.

    Attributes:
        has_transferred: avr-ami has transferred the call, so further commands are void.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._waiting: deque[tuple[wire.TelephonyCommand, float]] = deque()
        self._known: dict[str, wire.TelephonyDone | None] = {}
        self._executing: wire.TelephonyCommand | None = None
        self.has_transferred = False

    @property
    def known_ids(self) -> tuple[str, ...]:
        """Ids of all commands, carried out or not."""
        return tuple(self._known)

    @property
    def is_busy(self) -> bool:
        """Whether a command waits, or is being carried out."""
        return bool(self._waiting) or self._executing is not None

    @property
    def results(self) -> list[wire.TelephonyDone]:
        """Results of the commands that were carried out."""
        return [result for result in self._known.values() if result is not None]

    def add(self, command: wire.TelephonyCommand, now_seconds: float) -> None:
        """Add a command of the worker. Ignore a known command, and a command beyond the maximum."""
        if command.id in self._known or len(self._waiting) >= MAX_WAITING_COMMANDS:
            return
        if len(self._known) >= MAX_KNOWN_COMMANDS:
            return
        self._known[command.id] = None
        self._waiting.append((command, now_seconds))

    def due(self, now_seconds: float, *, all_heard: bool) -> wire.TelephonyCommand | None:
        """Return the command that is due: the last words have been heard, or their maximum time is over."""
        if not self._waiting or self._executing is not None or self.has_transferred:
            return None
        command, since_seconds = self._waiting[0]
        if not all_heard and now_seconds - since_seconds < self._patience_seconds:
            return None
        self._waiting.popleft()
        self._executing = command
        return command

    def executed(self, result: wire.TelephonyDone) -> None:
        """Note the result of a command at avr-ami."""
        executing, self._executing = self._executing, None
        self._known[result.id] = result
        if executing is not None and executing.action == wire.TelephonyAction.TRANSFER and result.ok:
            self.has_transferred = True

    def take_void(self) -> list[wire.TelephonyCommand]:
        """Return the commands that are void, because the call was transferred before them."""
        if not self.has_transferred:
            return []
        void = [command for command, _ in self._waiting]
        self._waiting.clear()
        for command in void:
            self._known[command.id] = wire.TelephonyDone(command.id, True, TRANSFERRED)
        return void
