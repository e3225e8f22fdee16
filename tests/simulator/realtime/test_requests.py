from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.errors import RequestError
from simulator.realtime.requests import CLIENT_EVENTS, check_client_event
from tests.simulator import validation
from tests.simulator.validation import validate_client_event

_FORMAT = {"type": "audio/pcm", "rate": 24000}
_FULL_SESSION: dict[str, Any] = {
    "type": "realtime",
    "model": "gpt-realtime-2",
    "instructions": "Be kind.",
    "output_modalities": ["audio"],
    "tools": [
        {"type": "function", "name": "hangup", "description": "Ends the call", "parameters": {"type": "object"}},
        {
            "type": "mcp",
            "server_label": "crm",
            "server_url": "https://example.com/mcp",
            "authorization": "secret",
            "headers": {"X-Tenant": "7"},
            "allowed_tools": ["find"],
            "require_approval": "never",
            "server_description": "Customers",
        },
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "max_output_tokens": 4096,
    "reasoning": {"effort": "low"},
    "tracing": "auto",
    "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
    "prompt": {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}},
    "include": ["item.input_audio_transcription.logprobs"],
    "audio": {
        "input": {
            "format": _FORMAT,
            "transcription": {"model": "whisper-1", "language": "en", "prompt": "names"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.6,
                "prefix_padding_ms": 200,
                "silence_duration_ms": 400,
                "idle_timeout_ms": 6000,
                "create_response": True,
                "interrupt_response": True,
            },
        },
        "output": {"format": _FORMAT, "voice": {"id": "voice_1"}, "speed": 1.1},
    },
}

_RIGHT: list[dict[str, Any]] = [
    {"type": "session.update", "event_id": "e1", "session": _FULL_SESSION},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
    {
        "type": "session.update",
        "session": {
            "type": "realtime",
            "audio": {"input": {"format": {"type": "audio/pcmu"}}, "output": {"format": {"type": "audio/pcma"}}},
        },
    },
    {"type": "input_audio_buffer.append", "audio": "AAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {
            "id": "item_1",
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "hello"}, {"type": "input_audio", "audio": "AAAA"}],
        },
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "be brief"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "call_1", "output": "found"},
    },
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 400},
    {"type": "response.create"},
    {
        "type": "response.create",
        "response": {
            "conversation": "none",
            "instructions": "Greet",
            "metadata": {"why": "test"},
            "max_output_tokens": "inf",
            "output_modalities": ["text"],
            "tool_choice": "none",
            "input": [],
        },
    },
    {"type": "response.cancel", "response_id": "resp_1"},
]


@pytest.mark.parametrize("event", _RIGHT, ids=lambda event: event["type"])
def test_events_of_the_openai_package_are_accepted(event: dict[str, Any]) -> None:
    validate_client_event(event)
    assert check_client_event(event) == event["type"]


def test_every_client_event_of_the_websocket_api_is_known() -> None:
    webrtc_only = {"output_audio_buffer.clear"}
    assert set(validation.CLIENT_EVENTS) - webrtc_only == set(CLIENT_EVENTS)


def _session(**session: Any) -> dict[str, Any]:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


def _item(**item: Any) -> dict[str, Any]:
    return {"type": "conversation.item.create", "item": item}


@pytest.mark.parametrize(
    ("event", "code", "param", "message"),
    [
        ([], "invalid_event", None, "must be a JSON object"),
        ({}, "missing_required_parameter", "type", "Missing required parameter: 'type'."),
        ({"type": "session.upgrade"}, "invalid_value", "type", "Invalid value: 'session.upgrade'. Supported"),
        ({"type": 7}, "invalid_value", "type", "Invalid value: an integer."),
        ({"type": "response.cancel", "x": 1}, "unknown_parameter", "x", "Unknown parameter: 'x'."),
        ({"type": "session.update"}, "missing_required_parameter", "session", "'session'"),
        (
            {"type": "session.update", "session": {"instructions": "x"}},
            "missing_required_parameter",
            "session.type",
            "Missing required parameter: 'session.type'.",
        ),
        (_session(voice="alloy"), "unknown_parameter", "session.voice", "Unknown parameter: 'session.voice'."),
        (_session(temperature=0.8), "unknown_parameter", "session.temperature", "Unknown"),
        (
            _session(instructions=5),
            "invalid_type",
            "session.instructions",
            "Invalid type for 'session.instructions': expected a string, but got an integer instead.",
        ),
        (
            _session(audio={"output": {"speed": 0.1}}),
            "decimal_below_min_value",
            "session.audio.output.speed",
            "Expected a value >= 0.25, but got 0.1 instead.",
        ),
        (
            _session(max_output_tokens=5000),
            "integer_above_max_value",
            "session.max_output_tokens",
            "Expected a value <= 4096, but got 5000 instead.",
        ),
        (_session(max_output_tokens="all"), "invalid_value", "session.max_output_tokens", "'inf'"),
        (_session(max_output_tokens=True), "invalid_type", "session.max_output_tokens", "a boolean"),
        (
            _session(audio={"output": {"voice": "nobody"}}),
            "invalid_value",
            "session.audio.output.voice",
            "Supported values are: 'alloy', 'ash'",
        ),
        (
            _session(audio={"input": {"format": {"type": "audio/opus"}}}),
            "invalid_value",
            "session.audio.input.format.type",
            "Invalid value: 'audio/opus'. Supported values are: 'audio/pcm', 'audio/pcmu', and 'audio/pcma'.",
        ),
        (
            _session(audio={"input": {"format": {"type": "audio/pcm", "rate": 16000}}}),
            "invalid_value",
            "session.audio.input.format.rate",
            "'24000'",
        ),
        (
            _session(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 100}}}),
            "integer_below_min_value",
            "session.audio.input.turn_detection.idle_timeout_ms",
            ">= 5000",
        ),
        (
            _session(audio={"input": {"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}}),
            "unknown_parameter",
            "session.audio.input.turn_detection.threshold",
            "Unknown",
        ),
        (
            _session(audio={"input": {"turn_detection": {"threshold": 0.5}}}),
            "missing_required_parameter",
            "session.audio.input.turn_detection.type",
            "Missing",
        ),
        (
            _session(output_modalities=["audio", "text"]),
            "array_above_max_length",
            "session.output_modalities",
            "maximum length 1",
        ),
        (
            _session(tools=[{"type": "function", "name": "a", "description": "x" * 1025}]),
            "string_above_max_length",
            "session.tools[0].description",
            "maximum length 1024, but got a string with length 1025",
        ),
        (_session(tools=[{"type": "function"}]), "missing_required_parameter", "session.tools[0].name", "Missing"),
        (
            _session(audio={"output": {"format": {"type": "audio/pcma", "rate": 8000}}}),
            "unknown_parameter",
            "session.audio.output.format.rate",
            "Unknown",
        ),
        (
            _session(audio={"input": {"noise_reduction": {"type": "loud"}}}),
            "invalid_value",
            "session.audio.input.noise_reduction.type",
            "'near_field', and 'far_field'",
        ),
        (
            _session(tools=[{"type": "mcp", "server_label": "crm"}]),
            "missing_required_parameter",
            "session.tools[0].server_url",
            "Missing",
        ),
        (
            _session(tools=[{"type": "mcp", "server_url": "https://example.com"}]),
            "missing_required_parameter",
            "session.tools[0].server_label",
            "Missing",
        ),
        (
            _item(type="message", role="user", content=[{"type": "output_text", "text": "x"}]),
            "invalid_value",
            "item.content[0].type",
            "Supported values are: 'input_text', 'input_audio', and 'input_image'.",
        ),
        (
            _item(type="message", role="assistant", content=[{"type": "output_audio", "audio": "AAAA"}]),
            "invalid_value",
            "item.content[0].type",
            "'output_text'",
        ),
        (
            _item(id="i" * 33, type="message", role="user", content=[]),
            "string_above_max_length",
            "item.id",
            "maximum length 32",
        ),
        (_item(type="message", role="boss", content=[]), "invalid_value", "item.role", "'boss'"),
        (_item(type="function_call_output", output="x"), "missing_required_parameter", "item.call_id", "Missing"),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": -1},
            "integer_below_min_value",
            "audio_end_ms",
            ">= 0",
        ),
        (
            {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 1.5},
            "invalid_type",
            "audio_end_ms",
            "expected an integer, but got a decimal",
        ),
        (
            {"type": "response.create", "response": {"voice": "ash"}},
            "unknown_parameter",
            "response.voice",
            "Unknown",
        ),
        (
            {"type": "response.create", "response": {"metadata": {"a": 1}}},
            "invalid_type",
            "response.metadata.a",
            "a string",
        ),
    ],
)
def test_invalid_field_is_named_as_openai_names_it(event: Any, code: str, param: str | None, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        check_client_event(event)
    assert refused.value.code == code
    assert refused.value.param == param
    assert message in str(refused.value)
