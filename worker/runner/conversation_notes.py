"""Notes on a call's conversation for the calls API: waits for replies, and the ends of tools."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from worker.session.actions import Measurement, Metric
from worker.session.memory.conversation import Conversation, Item, ItemKind, Role
from worker.tools import built_in

_COMMANDS: Final = {
    built_in.HANGUP: "the agent hung up",
    built_in.TRANSFER: "the agent transferred the call",
}

MAX_NOTES: Final = 2000
"""Maximum number of notes; the oldest ones go first. A session of an hour has a few hundred."""


class ConversationNotes:
    """The notes on one call's conversation, by item and by function call.

    A session of the same call on the same worker takes them over. Another worker begins without notes: the figures
    of the call's record are complete all the same.
    """

    def __init__(self) -> None:
        self._notes: dict[str, dict[str, Any]] = {}
        self._turn: dict[str, float] = {}

    def measured(self, measurement: Measurement, conversation: Conversation) -> None:
        """Note the caller's wait for a reply, whose first audio has come, and the parts of the wait."""
        if measurement.seen is Metric.TURN_LATENCY_SECONDS:
            self._turn = {"seconds": round(measurement.value, 3)}
            reply = conversation.last()
            if reply is not None and reply.role is Role.AGENT:
                self._note(reply.item_id, {"waited": self._turn})
        elif measurement.seen is Metric.TURN_PART_SECONDS:
            self._turn[f"{measurement.label}_seconds"] = round(measurement.value, 3)

    def tool_ended(self, call_id: str, seconds: float, outcome: str) -> None:
        """Note how a tool ended."""
        self._note(call_id, {"seconds": round(seconds, 3), "outcome": outcome})

    def take_over(self, older: ConversationNotes) -> None:
        """Add the notes of an earlier session of the call."""
        self._notes = older._notes | self._notes

    def annotated(self, entries: Iterable[dict[str, str]], conversation: Conversation) -> list[dict[str, Any]]:
        """Return the entries of `Conversation.as_json` with their notes."""
        shown = (item for item in conversation if item.is_shown)
        return [entry | self._of(item) for entry, item in zip(entries, shown, strict=True)]

    def _of(self, item: Item) -> dict[str, Any]:
        if item.kind is ItemKind.FUNCTION_CALL:
            return {"call_id": item.call_id, **self._notes.get(item.call_id, {})}
        if item.kind is ItemKind.FUNCTION_CALL_OUTPUT:
            return {"call_id": item.call_id}
        note = dict(self._notes.get(item.item_id, {}))
        if item.role is Role.AGENT and item.heard_share is not None and item.heard_share < 1.0:
            note["heard_share"] = round(item.heard_share, 2)
        return note

    def _note(self, key: str, note: dict[str, Any]) -> None:
        self._notes.pop(key, None)
        self._notes[key] = note
        if len(self._notes) > MAX_NOTES:
            del self._notes[next(iter(self._notes))]


def agents_command(conversation: Conversation) -> str:
    """Return in words which telephony command the agent's last function call was; empty: it was none."""
    calls = [item for item in conversation if item.kind is ItemKind.FUNCTION_CALL]
    return _COMMANDS.get(calls[-1].name, "") if calls else ""
