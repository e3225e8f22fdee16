"""Events that a scripted Realtime end sends, beside those of `tests/worker/api_events.py`."""

from __future__ import annotations

import base64
import copy
from typing import Any

from common.audio import g711
from tests.scenarios.tones import tone as sine
from tests.worker.api_events import (
    USAGE,
    Event,
    caller_item_added,
    committed,
    event,
    item_added,
    reply_item,
    response,
    response_created,
    speech_started,
    speech_stopped,
    transcribed,
)

__all__ = [
    "USAGE",
    "Event",
    "base64_of",
    "caller_item_added",
    "committed",
    "error",
    "event",
    "function_call",
    "item_added",
    "reply_item",
    "response",
    "response_created",
    "session_updated",
    "speech_started",
    "speech_stopped",
    "tone",
    "transcribed",
]

SERVER_ERROR = "The server had an error while processing your request. Sorry about that!"


def tone(audio_format: str, hz: float, milliseconds: int) -> bytes:
    """Return a tone in a format of the API: `audio/pcm` (24 kHz), `audio/pcmu` or `audio/pcma` (8 kHz)."""
    if audio_format == "audio/pcm":
        return sine(hz, milliseconds / 1000, rate_hz=24_000)
    pcm = sine(hz, milliseconds / 1000)
    return g711.encode_ulaw(pcm) if audio_format == "audio/pcmu" else g711.encode_alaw(pcm)


def session_updated(session: dict[str, Any]) -> Event:
    """Return the session in force, whole."""
    return event("session.updated", session=copy.deepcopy(session))


def error(
    message: str = SERVER_ERROR, *, kind: str = "invalid_request_error", code: str | None = None, **fields: Any
) -> Event:
    """Return an `error` event; `param` and `event_id` are null unless they are given."""
    return event("error", error={"type": kind, "code": code, "message": message, "param": None, **fields})


def base64_of(audio: bytes) -> str:
    """Audio as a delta has it."""
    return base64.b64encode(audio).decode()


def function_call(
    item_id: str, call_id: str, name: str, arguments: str, status: str = "completed"
) -> dict[str, Any]:
    """Return an item."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": status,
        "name": name,
        "call_id": call_id,
        "arguments": arguments,
    }
