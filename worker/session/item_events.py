"""Events of the Realtime API about items of the conversation, and about the account."""

from __future__ import annotations

from typing import Any

from common.observe.metrics import RATE_LIMITS
from worker.realtime.api_values import MAX_ID_CHARS, checked_id, id_or_none
from worker.realtime.bad_input import BadInput
from worker.realtime.errors import ErrorEvent
from worker.session.actions import Measurement, Metric, Transcribed
from worker.session.memory.conversation import TRANSCRIPT_WAIT_SECONDS, Item, Role
from worker.session.parts import SessionParts

# Maximum number that is accepted in `rate_limits.updated`: requests, tokens, or seconds. No account has more.
MAX_LIMIT = 1e12


class ItemEvents:
    """Handlers of one session for events about items and the account."""

    def __init__(self, parts: SessionParts) -> None:
        self._parts = parts

    def insert(self, item_id: str, role: Role | None, event: dict[str, Any], now_seconds: float) -> Item:
        """Insert an item of the session after the item that the event names."""
        parts = self._parts
        behind = parts.replay.predecessor(id_or_none(event.get("previous_item_id")))
        item = parts.conversation.insert(checked_id(item_id), role, behind)
        parts.replay.made(item.item_id)
        if item.role is Role.USER:
            item.waits_until_seconds = min(item.waits_until_seconds, now_seconds + TRANSCRIPT_WAIT_SECONDS)
        return item

    def added(self, event: dict[str, Any], now_seconds: float) -> None:
        """Insert an item that was added to the session, unless it was replayed there."""
        parts, item = self._parts, event["item"]
        if parts.replay.has_replayed(item["id"]):
            return
        role = None
        if item["type"] == "message":
            # An assistant's item that is complete when it is added was sent as text by this service.
            if item["role"] == "assistant" and item.get("status") != "completed":
                role = Role.AGENT
            elif any(part.get("type") == "input_audio" for part in item.get("content") or ()):
                role = Role.USER
        self.insert(item["id"], role, event, now_seconds)
        kind, speaker = str(item["type"])[:MAX_ID_CHARS], str(item.get("role") or "")[:MAX_ID_CHARS]
        parts.out.happened("item", item_id=item["id"], item_type=kind, role=speaker)

    def transcribed(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the transcript of a caller's turn."""
        parts = self._parts
        parts.out.actions.extend([Transcribed(event["usage"])] if event.get("usage") else [])
        item = parts.conversation.get(event["item_id"])
        if item is not None and not item.text_done:
            item.text = event["transcript"].strip()
            item.text_done = True
            parts.conversation.changed(item)
            finished = parts.audio.turns.text_stored(item.item_id)
            if finished is not None:
                # The dispatcher must have the text before it drops the audio.
                parts.memory_writer.write()
                parts.memory_writer.finished(finished[1])
            parts.agent.send_transcripts(now_seconds)

    def transcription_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        """Expect no transcript of a caller's turn any more."""
        parts = self._parts
        item = parts.conversation.get(event["item_id"])
        if item is not None:
            item.text_done = True
            parts.conversation.changed(item)
            parts.agent.send_transcripts(now_seconds)
            parts.audio.turns.text_failed(item.item_id)
        parts.out.report(Metric.SIDE_ERROR, label=ErrorEvent.from_event(event.get("error") or {}).code)

    def rate_limits(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the remaining rate limits of the account."""
        parts = self._parts
        for limit in event["rate_limits"]:
            if not isinstance(limit, dict):
                parts.out.report(Metric.UPSTREAM_ERROR, label=BadInput.EVENT)
                continue
            if limit.get("name") not in RATE_LIMITS or limit.get("remaining") is None:
                continue
            remaining = parts.number(limit["remaining"], MAX_LIMIT)
            if remaining is None:
                continue
            whole = 0.0 if limit.get("limit") is None else parts.number(limit["limit"], MAX_LIMIT) or 0.0
            measured = Measurement(Metric.RATE_LIMIT_REMAINING, remaining, limit["name"], whole)
            parts.out.actions.append(measured)
            if remaining == 0:
                reset_seconds = parts.number(limit.get("reset_seconds", 0.0), MAX_LIMIT)
                if reset_seconds is not None:
                    parts.limits.rate_limited(reset_seconds, now_seconds)
