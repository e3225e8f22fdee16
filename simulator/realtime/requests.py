"""The shape of each client event of the Realtime API (GA), as tables of checks.

The fields are those of `openai.types.realtime`; limits are from its documentation. Transcription sessions, which
the simulator does not have, are refused like a wrong value. Other dialects build their tables from the same
pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simulator.realtime.errors import RequestError
from simulator.realtime.functions import check_parameters
from simulator.realtime.schema import (
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

# OpenAI's own ids have 25 to 30 characters; a longer id of a client is refused.
MAX_ID_LENGTH = 32

MAX_INSTRUCTIONS_LENGTH = 1 << 20
MAX_TOOLS = 128
MAX_INPUT_ITEMS = 1000

TEXT: Final = string()
INSTRUCTIONS: Final = string(MAX_INSTRUCTIONS_LENGTH)
_ID = string(MAX_ID_LENGTH)
_EVENT_ID = nullable(string(512))
_STATUS = nullable(one_of("completed", "incomplete", "in_progress"))
_OBJECT = nullable(one_of("realtime.item"))

FORMAT: Final = tagged(
    {
        "audio/pcm": closed({"type": anything, "rate": one_of(24000)}),
        "audio/pcmu": closed({"type": anything}),
        "audio/pcma": closed({"type": anything}),
    }
)
_VOICE = either(
    (str, one_of(*VOICES)),
    (dict, closed({"id": TEXT}, required=("id",))),
    expected="one of a string or an object",
)
MAX_TOKENS: Final = either(
    (int, number(1, 4096, integer=True)), (str, one_of("inf")), expected="one of an integer or 'inf'"
)
SPEED: Final = number(0.25, 1.5)
NOISE_REDUCTION: Final = closed({"type": one_of("near_field", "far_field"), "strength": number(0, 10)})
_MODALITIES = array(one_of("audio", "text"), max_length=1)
_REASONING = closed({"effort": nullable(one_of("minimal", "low", "medium", "high", "xhigh"))})

TURN_DETECTION: Final = tagged(
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

# ISO 639-1 without a region: the API's own list (Azure-Samples/aoai-realtime-audio-sdk, pull request 150).
_LANGUAGES = (
    "af ar az be bg bs ca cs cy da de el en es et fa fi fr gl he hi hr hu hy id is it ja kk kn "
    "ko lt lv mi mk mr ms ne nl no pl pt ro ru sk sl sr sv sw ta th tl tr uk ur vi zh"
)
_LANGUAGE = one_of(*_LANGUAGES.split())

TRANSCRIPTION: Final = closed(
    {
        "model": TEXT,
        "language": nullable(_LANGUAGE),
        "languages": nullable(array(_LANGUAGE, max_length=64)),
        "prompt": nullable(TEXT),
        "keywords": nullable(array(TEXT, max_length=1000)),
        "delay": nullable(one_of("minimal", "low", "medium", "high", "xhigh")),
    }
)

_FUNCTION_FIELDS = closed(
    {
        "type": anything,
        "name": string(64),
        "description": nullable(string(1024)),
        "parameters": nullable(mapping(anything)),
    },
    required=("name",),
)


def function_tool(value: Any, path: str) -> None:
    """Check a function of the client, with a schema that the API accepts."""
    _FUNCTION_FIELDS(value, path)
    if value.get("parameters") is not None:
        check_parameters(value["name"], value["parameters"], f"{path}.parameters")


_MCP_FIELDS = closed(
    {
        "type": anything,
        "server_label": TEXT,
        "server_url": nullable(TEXT),
        "connector_id": nullable(TEXT),
        "tunnel_id": nullable(TEXT),
        "server_description": nullable(TEXT),
        "authorization": nullable(TEXT),
        "headers": nullable(mapping(TEXT)),
        "allowed_tools": anything,
        "allowed_callers": anything,
        "require_approval": anything,
        "defer_loading": nullable(boolean),
    },
    required=("server_label",),
)


def mcp_tool(value: Any, path: str) -> None:
    """Check a remote MCP server: it must have an address."""
    _MCP_FIELDS(value, path)
    if not any(value.get(name) for name in ("server_url", "connector_id", "tunnel_id")):
        raise missing_parameter(f"{path}.server_url")


_TOOLS = array(tagged({"function": function_tool, "mcp": mcp_tool}), max_length=MAX_TOOLS)
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
                "model": TEXT,
                "instructions": INSTRUCTIONS,
                "output_modalities": _MODALITIES,
                "tools": _TOOLS,
                "tool_choice": _TOOL_CHOICE,
                "parallel_tool_calls": nullable(boolean),
                "max_output_tokens": MAX_TOKENS,
                "reasoning": nullable(_REASONING),
                "tracing": anything,
                "truncation": anything,
                "prompt": nullable(mapping(anything)),
                "include": nullable(array(one_of("item.input_audio_transcription.logprobs"), max_length=1)),
                "audio": closed(
                    {
                        "input": closed(
                            {
                                "format": FORMAT,
                                "transcription": nullable(TRANSCRIPTION),
                                "noise_reduction": nullable(NOISE_REDUCTION),
                                "turn_detection": nullable(TURN_DETECTION),
                            }
                        ),
                        "output": closed({"format": FORMAT, "voice": _VOICE, "speed": SPEED}),
                    }
                ),
            }
        )
    }
)

TEXT_PART: Final = closed({"type": anything, "text": TEXT}, required=("text",))
AUDIO_PART: Final = closed({"type": anything, "audio": TEXT, "transcript": nullable(TEXT)}, required=("audio",))
_IMAGE_PART = closed({"type": anything, "image_url": TEXT, "detail": TEXT})


def item_shapes(
    *, user: Mapping[str, Check], assistant: Mapping[str, Check], system: Mapping[str, Check]
) -> dict[str, Check]:
    """Return the items that a client may create, by type; `contents` are those of each role's messages."""
    own = {"id": nullable(_ID), "object": _OBJECT, "status": _STATUS, "type": anything}
    messages = {
        role: closed(
            {**own, "role": anything, "content": array(tagged(parts), max_length=100)}, required=("content",)
        )
        for role, parts in (("user", user), ("assistant", assistant), ("system", system))
    }
    return {
        "message": tagged(messages, tag="role"),
        "function_call": closed(
            {**own, "call_id": _ID, "name": string(64), "arguments": TEXT}, required=("name", "arguments")
        ),
        "function_call_output": closed({**own, "call_id": _ID, "output": TEXT}, required=("call_id", "output")),
    }


ITEMS: Final[dict[str, Check]] = {
    **item_shapes(
        user={"input_text": TEXT_PART, "input_audio": AUDIO_PART, "input_image": _IMAGE_PART},
        # "It cannot populate assistant audio messages": a client restores replies of the model as text.
        assistant={"output_text": TEXT_PART},
        system={"input_text": TEXT_PART},
    ),
    "mcp_approval_response": closed(
        {
            "id": nullable(_ID),
            "type": anything,
            "approval_request_id": TEXT,
            "approve": boolean,
            "reason": nullable(TEXT),
        },
        required=("approval_request_id", "approve"),
    ),
}


def response_input(items: Mapping[str, Check]) -> Check:
    """Return a check of a response's own input: items, and references to items of the conversation."""
    reference = closed({"type": anything, "id": TEXT}, required=("id",))
    return nullable(array(tagged({**items, "item_reference": reference}), max_length=MAX_INPUT_ITEMS))


RESPONSE: Final = closed(
    {
        "audio": closed({"output": closed({"format": FORMAT, "voice": _VOICE})}),
        "conversation": nullable(one_of("auto", "none")),
        "input": response_input(ITEMS),
        "instructions": nullable(INSTRUCTIONS),
        "max_output_tokens": nullable(MAX_TOKENS),
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


def client_events(*, session: Check, response: Check, items: Mapping[str, Check]) -> dict[str, Check]:
    """Return each client event by type, with a dialect's session, response and items."""
    return {
        "session.update": _event({"session": session}, required=("session",)),
        "input_audio_buffer.append": _event({"audio": TEXT}, required=("audio",)),
        "input_audio_buffer.commit": _event({}),
        "input_audio_buffer.clear": _event({}),
        "conversation.item.create": _event(
            {"item": tagged(items), "previous_item_id": nullable(TEXT)}, required=("item",)
        ),
        "conversation.item.delete": _event({"item_id": TEXT}, required=("item_id",)),
        "conversation.item.retrieve": _event({"item_id": TEXT}, required=("item_id",)),
        "conversation.item.truncate": _event(
            {
                "item_id": TEXT,
                "content_index": number(0, 100, integer=True),
                "audio_end_ms": number(0, 1 << 31, integer=True),
            },
            required=("item_id", "content_index", "audio_end_ms"),
        ),
        "response.create": _event({"response": nullable(response)}),
        "response.cancel": _event({"response_id": nullable(TEXT)}),
    }


CLIENT_EVENTS: Final = client_events(session=SESSION, response=RESPONSE, items=ITEMS)


def check_client_event(event: Any, shapes: Mapping[str, Check] = CLIENT_EVENTS) -> str:
    """Check a decoded client event against a dialect's shapes and return its type.

    Raises:
        RequestError: the event is not an object, its type is unknown or missing, or a field is wrong.
    """
    if not isinstance(event, dict):
        raise RequestError("The event must be a JSON object.", code="invalid_event")
    kind = event.get("type")
    if kind is None:
        raise missing_parameter("type")
    check = shapes.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise invalid_value("type", kind, tuple(shapes))
    check(event, "")
    assert isinstance(kind, str)
    return kind
