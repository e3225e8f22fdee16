"""Events of the Realtime API as a test writes them; each is valid by the models of the `openai` package."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import orjson

from tests.simulator.validation import validate_server_event

Event = dict[str, Any]

USAGE = {
    "total_tokens": 233,
    "input_tokens": 119,
    "output_tokens": 114,
    "input_token_details": {
        "text_tokens": 69,
        "audio_tokens": 50,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
    },
    "output_token_details": {"text_tokens": 24, "audio_tokens": 90},
}

_numbers = itertools.count(1)
_known_valid: set[bytes] = set()


def event(kind: str, **fields: Any) -> Event:
    """Check and return a server event; an event that differs only in its id is not checked again."""
    made = {"type": kind, "event_id": f"event_{next(_numbers)}", **fields}
    content = orjson.dumps([kind, fields])
    if content not in _known_valid:
        validate_server_event(made)
        _known_valid.add(content)
    return made


def session_created() -> Event:
    return event("session.created", session={"type": "realtime", "object": "realtime.session", "id": "sess_1"})


def session_updated() -> Event:
    return event("session.updated", session={"type": "realtime", "object": "realtime.session", "id": "sess_1"})


def speech_started(item_id: str, audio_start_ms: int = 0) -> Event:
    return event("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=audio_start_ms)


def speech_stopped(item_id: str, audio_end_ms: int) -> Event:
    return event("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=audio_end_ms)


def committed(item_id: str, previous_item_id: str | None = None) -> Event:
    return event("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous_item_id)


def caller_item_added(item_id: str, previous_item_id: str | None = None) -> Event:
    content = [{"type": "input_audio", "transcript": None}]
    item = {"id": item_id, "object": "realtime.item", "type": "message", "status": "completed"}
    return event(
        "conversation.item.added",
        item=item | {"role": "user", "content": content},
        previous_item_id=previous_item_id,
    )


def reply_item(item_id: str, status: str = "in_progress", transcript: str | None = None) -> dict[str, Any]:
    """Return an item of the agent's, as events show it."""
    content = [] if transcript is None else [{"type": "output_audio", "transcript": transcript}]
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def item_added(item: dict[str, Any], previous_item_id: str | None = None) -> Event:
    return event("conversation.item.added", item=item, previous_item_id=previous_item_id)


def function_call_item(item_id: str) -> dict[str, Any]:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": "in_progress",
        "name": "look_up",
        "call_id": "call_1",
        "arguments": "",
    }


def transcribed(item_id: str, transcript: str) -> Event:
    return event(
        "conversation.item.input_audio_transcription.completed",
        item_id=item_id,
        content_index=0,
        transcript=transcript,
        usage={"type": "duration", "seconds": 1.0},
    )


def transcription_failed(item_id: str, code: str | None = "audio_unintelligible") -> Event:
    error = {"type": "transcription_error", "code": code, "message": "It could not be transcribed.", "param": None}
    return event(
        "conversation.item.input_audio_transcription.failed", item_id=item_id, content_index=0, error=error
    )


def response(
    response_id: str,
    status: str,
    *,
    output: list[dict[str, Any]] | None = None,
    status_details: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "id": response_id,
        "object": "realtime.response",
        "status": status,
        "status_details": status_details,
        "output": output or [],
        "conversation_id": "conv_1",
        "output_modalities": ["audio"],
        "max_output_tokens": "inf",
        "usage": usage,
        "metadata": None,
    }


def response_created(response_id: str) -> Event:
    return event("response.created", response=response(response_id, "in_progress"))


def response_done(response_id: str, status: str = "completed", **fields: Any) -> Event:
    return event("response.done", response=response(response_id, status, **fields))


def cancelled(response_id: str, **fields: Any) -> Event:
    """`response.done` after the caller began to speak."""
    details = {"type": "cancelled", "reason": "turn_detected"}
    return response_done(response_id, "cancelled", status_details=details, **fields)


def _part(response_id: str, item_id: str) -> dict[str, Any]:
    return {"response_id": response_id, "item_id": item_id, "output_index": 0, "content_index": 0}


def audio_delta(response_id: str, item_id: str, pcm: bytes) -> Event:
    delta = base64.b64encode(pcm).decode()
    return event("response.output_audio.delta", **_part(response_id, item_id), delta=delta)


def audio_done(response_id: str, item_id: str) -> Event:
    return event("response.output_audio.done", **_part(response_id, item_id))


def text_delta(response_id: str, item_id: str, delta: str) -> Event:
    return event("response.output_audio_transcript.delta", **_part(response_id, item_id), delta=delta)


def text_done(response_id: str, item_id: str, transcript: str) -> Event:
    return event("response.output_audio_transcript.done", **_part(response_id, item_id), transcript=transcript)


def error(
    code: str | None, message: str = "Something went wrong.", *, kind: str = "invalid_request_error", **fields: Any
) -> Event:
    return event("error", error={"type": kind, "code": code, "message": message, "param": None, **fields})
