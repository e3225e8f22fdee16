"""The shape of every client event of the Realtime API (GA), as tables of checks.

The fields are those of `openai.types.realtime`; limits are from its documentation. What the real service
takes and the simulator cannot do (G.711, transcription sessions, MCP items) is refused like a wrong value.
"""

from __future__ import annotations

from typing import Any

from simulator.realtime_errors import RequestError
from simulator.realtime_schema import (
    Check,
    anything,
    array,
    boolean,
    closed,
    either,
    invalid_value,
    mapping,
    missing_parameter,
    nullable,
    number,
    one_of,
    string,
    tagged,
)

VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")

# OpenAI's own ids have 25 to 30 characters; a longer one of a client's is refused.
MAX_ID_LENGTH = 32

MAX_INSTRUCTIONS_LENGTH = 1 << 20
MAX_TOOLS = 128
MAX_INPUT_ITEMS = 1000

_TEXT = string()
_ID = string(MAX_ID_LENGTH)
_EVENT_ID = nullable(string(512))
_STATUS = nullable(one_of("completed", "incomplete", "in_progress"))
_OBJECT = nullable(one_of("realtime.item"))

_FORMAT = tagged({"audio/pcm": closed({"type": anything, "rate": one_of(24000)})})
_VOICE = either(
    (str, one_of(*VOICES)),
    (dict, closed({"id": _TEXT}, required=("id",))),
    expected="one of a string or an object",
)
_MAX_TOKENS = either(
    (int, number(1, 4096, integer=True)), (str, one_of("inf")), expected="one of an integer or 'inf'"
)
_MODALITIES = array(one_of("audio", "text"), max_length=1)
_REASONING = closed({"effort": nullable(one_of("minimal", "low", "medium", "high", "xhigh"))})

_TURN_DETECTION = tagged(
    {
        "server_vad": closed(
            {
                "type": anything,
                "threshold": number(0, 1),
                "prefix_padding_ms": number(0, 10_000, integer=True),
                "silence_duration_ms": number(0, 10_000, integer=True),
                "idle_timeout_ms": nullable(number(5000, 30_000, integer=True)),
                "create_response": boolean,
                "interrupt_response": boolean,
            }
        ),
        "semantic_vad": closed(
            {
                "type": anything,
                "eagerness": one_of("low", "medium", "high", "auto"),
                "create_response": boolean,
                "interrupt_response": boolean,
            }
        ),
    }
)

_TRANSCRIPTION = closed(
    {
        "model": _TEXT,
        "language": nullable(_TEXT),
        "languages": nullable(array(_TEXT, max_length=64)),
        "prompt": nullable(_TEXT),
        "keywords": nullable(array(_TEXT, max_length=1000)),
        "delay": nullable(one_of("minimal", "low", "medium", "high", "xhigh")),
    }
)

_TOOLS = array(
    tagged(
        {
            "function": closed(
                {
                    "type": anything,
                    "name": string(64),
                    "description": nullable(string(1024)),
                    "parameters": nullable(mapping(anything)),
                },
                required=("name",),
            ),
            "mcp": mapping(anything),
        }
    ),
    max_length=MAX_TOOLS,
)
_TOOL_CHOICE = either(
    (str, one_of("none", "auto", "required")),
    (dict, mapping(anything)),
    expected="one of a string or an object",
)

SESSION = tagged(
    {
        "realtime": closed(
            {
                "type": anything,
                "model": _TEXT,
                "instructions": string(MAX_INSTRUCTIONS_LENGTH),
                "output_modalities": _MODALITIES,
                "tools": _TOOLS,
                "tool_choice": _TOOL_CHOICE,
                "parallel_tool_calls": nullable(boolean),
                "max_output_tokens": _MAX_TOKENS,
                "reasoning": nullable(_REASONING),
                "tracing": anything,
                "truncation": anything,
                "prompt": nullable(mapping(anything)),
                "include": nullable(array(one_of("item.input_audio_transcription.logprobs"), max_length=1)),
                "audio": closed(
                    {
                        "input": closed(
                            {
                                "format": _FORMAT,
                                "transcription": nullable(_TRANSCRIPTION),
                                "noise_reduction": nullable(
                                    closed({"type": one_of("near_field", "far_field"), "strength": number(0, 10)})
                                ),
                                "turn_detection": nullable(_TURN_DETECTION),
                            }
                        ),
                        "output": closed({"format": _FORMAT, "voice": _VOICE, "speed": number(0.25, 1.5)}),
                    }
                ),
            }
        )
    }
)

_MESSAGES: dict[str, Check] = {
    role: closed(
        {
            "id": nullable(_ID),
            "object": _OBJECT,
            "status": _STATUS,
            "type": anything,
            "role": anything,
            "content": array(tagged(parts), max_length=100),
        },
        required=("content",),
    )
    for role, parts in {
        "user": {
            "input_text": closed({"type": anything, "text": _TEXT}, required=("text",)),
            "input_audio": closed(
                {"type": anything, "audio": _TEXT, "transcript": nullable(_TEXT)}, required=("audio",)
            ),
            "input_image": closed({"type": anything, "image_url": _TEXT, "detail": _TEXT}),
        },
        # "It cannot populate assistant audio messages": what the model said comes back as text.
        "assistant": {"output_text": closed({"type": anything, "text": _TEXT}, required=("text",))},
        "system": {"input_text": closed({"type": anything, "text": _TEXT}, required=("text",))},
    }.items()
}

_ITEMS: dict[str, Check] = {
    "message": tagged(_MESSAGES, tag="role"),
    "function_call": closed(
        {
            "id": nullable(_ID),
            "object": _OBJECT,
            "status": _STATUS,
            "type": anything,
            "call_id": _ID,
            "name": string(64),
            "arguments": _TEXT,
        },
        required=("name", "arguments"),
    ),
    "function_call_output": closed(
        {
            "id": nullable(_ID),
            "object": _OBJECT,
            "status": _STATUS,
            "type": anything,
            "call_id": _ID,
            "output": _TEXT,
        },
        required=("call_id", "output"),
    ),
}

RESPONSE = closed(
    {
        "audio": closed({"output": closed({"format": _FORMAT, "voice": _VOICE})}),
        "conversation": nullable(one_of("auto", "none")),
        "input": nullable(
            array(
                tagged({**_ITEMS, "item_reference": closed({"type": anything, "id": _TEXT}, required=("id",))}),
                max_length=MAX_INPUT_ITEMS,
            )
        ),
        "instructions": nullable(string(MAX_INSTRUCTIONS_LENGTH)),
        "max_output_tokens": nullable(_MAX_TOKENS),
        "metadata": nullable(mapping(string(512))),
        "output_modalities": nullable(_MODALITIES),
        "parallel_tool_calls": nullable(boolean),
        "prompt": nullable(mapping(anything)),
        "reasoning": nullable(_REASONING),
        "tool_choice": nullable(_TOOL_CHOICE),
        "tools": nullable(_TOOLS),
    }
)


def _event(fields: dict[str, Check], *, required: tuple[str, ...] = ()) -> Check:
    return closed({"type": anything, "event_id": _EVENT_ID, **fields}, required=required)


CLIENT_EVENTS: dict[str, Check] = {
    "session.update": _event({"session": SESSION}, required=("session",)),
    "input_audio_buffer.append": _event({"audio": _TEXT}, required=("audio",)),
    "input_audio_buffer.commit": _event({}),
    "input_audio_buffer.clear": _event({}),
    "conversation.item.create": _event(
        {"item": tagged(_ITEMS), "previous_item_id": nullable(_TEXT)}, required=("item",)
    ),
    "conversation.item.delete": _event({"item_id": _TEXT}, required=("item_id",)),
    "conversation.item.retrieve": _event({"item_id": _TEXT}, required=("item_id",)),
    "conversation.item.truncate": _event(
        {
            "item_id": _TEXT,
            "content_index": number(0, 100, integer=True),
            "audio_end_ms": number(0, 1 << 31, integer=True),
        },
        required=("item_id", "content_index", "audio_end_ms"),
    ),
    "response.create": _event({"response": nullable(RESPONSE)}),
    "response.cancel": _event({"response_id": nullable(_TEXT)}),
}


def check_client_event(event: Any) -> str:
    """Check a decoded client event; returns its type.

    Raises:
        RequestError: it is not an object, has no or an unknown type, or a field is wrong.
    """
    if not isinstance(event, dict):
        raise RequestError("The event must be a JSON object.", code="invalid_event")
    kind = event.get("type")
    if kind is None:
        raise missing_parameter("type")
    check = CLIENT_EVENTS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise invalid_value("type", kind, tuple(CLIENT_EVENTS))
    check(event, "")
    assert isinstance(kind, str)
    return kind
