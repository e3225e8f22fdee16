"""The calls API's side of one call: its watchers, and the commands that wait for their answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common.link import wire
from common.observe.redaction import all_without_known
from worker.session import truncation

# Watchers of one call over the calls API.
MAX_WATCHERS = 16
MAX_COMMANDS = 32

Send = Callable[[bytes], None]
"""Sends on the link by which a command came."""


class Watchers:
    """The watchers and commands of one call."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self._watchers: dict[tuple[int, Send], None] = {}
        self._asking: dict[int, tuple[int, Send]] = {}
        self._commands = 0

    def command(self, command: wire.Command, send: Send, *, has_session: bool) -> int | None:
        """Answer a command that needs no session; return a number for one that the session must answer."""
        if command.action == "watch" and len(self._watchers) < MAX_WATCHERS:
            self._watchers[command.number, send] = None
            send(wire.encode(wire.Result(command.number, 200), 0))
        elif command.action == "unwatch":
            self._watchers.pop((command.number, send), None)
        elif not has_session and command.action == "conversation":
            send(wire.encode(wire.Result(command.number, 200, {"conversation": []}), 0))
        elif not has_session:
            send(wire.encode(wire.Result(command.number, 409, {"error": "the call has no session yet"}), 0))
        elif len(self._asking) >= MAX_COMMANDS:
            send(wire.encode(wire.Result(command.number, 429, {"error": "too many commands wait"}), 0))
        else:
            # Numbers are a link's own: two dispatchers may use the same.
            self._commands += 1
            self._asking[self._commands] = (command.number, send)
            return self._commands
        return None

    def answer(self, number: int, status: int, body: dict[str, Any]) -> None:
        """Answer the command with this number of ours."""
        asked, send = self._asking.pop(number)
        shown = all_without_known(body, self._uuid)
        send(truncation.encoded(wire.Result(asked, status, shown), 0)[0])

    def show(self, event: dict[str, Any]) -> None:
        """Show an event of the call to its watchers."""
        if not self._watchers:
            return
        shown = all_without_known(event, self._uuid)
        for number, send in self._watchers:
            send(wire.encode(wire.Event(number, shown), 0))

    def forget(self, send: Send) -> None:
        """Forget the watchers of a link that is gone."""
        self._watchers = {watcher: None for watcher in self._watchers if watcher[1] != send}

    def end(self) -> None:
        """Tell the watchers that nothing more happens."""
        for number, send in self._watchers:
            send(wire.encode(wire.Event(number), 0))
        self._watchers.clear()
