from __future__ import annotations

from typing import Any

import pytest

from tests.simulator.validation import (
    CLIENT_EVENTS,
    SERVER_EVENTS,
    InvalidEventError,
    validate_client_event,
    validate_server_event,
)


def test_every_event_of_the_api_is_known() -> None:
    assert "input_audio_buffer.append" in CLIENT_EVENTS
    assert "response.output_audio.delta" in SERVER_EVENTS
    assert len(CLIENT_EVENTS) >= 11
    assert len(SERVER_EVENTS) >= 46


def test_a_right_event_becomes_its_model() -> None:
    event = {"type": "conversation.item.deleted", "event_id": "event_1", "item_id": "item_1"}
    assert type(validate_server_event(event)) is SERVER_EVENTS["conversation.item.deleted"]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "response.audio.delta", "event_id": "event_1"}, "no event of type response.audio.delta"),
        ({"event_id": "event_1"}, "no event of type None"),
        ({"type": "conversation.item.deleted", "event_id": "event_1"}, "item_id"),
        ({"type": "conversation.item.deleted", "event_id": "event_1", "item_id": 7}, "valid string"),
        (
            {"type": "conversation.item.deleted", "event_id": "event_1", "item_id": "item_1", "extra": 1},
            "unknown fields: extra",
        ),
        (
            {"type": "session.updated", "event_id": "event_1", "session": {"type": "realtime", "voice": "alloy"}},
            "unknown fields: session.voice",
        ),
    ],
)
def test_a_wrong_server_event_is_refused(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidEventError, match=reason):
        validate_server_event(event)


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"type": "session.update", "session": {"type": "realtime", "id": "sess_1"}}, "session.id"),
        (
            {
                "type": "session.update",
                "session": {
                    "type": "realtime",
                    "audio": {"input": {"turn_detection": {"type": "server_vad", "x": 1}}},
                },
            },
            "session.audio.input.turn_detection.x",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "words": "hi"}]},
            },
            "item.content.words",
        ),
    ],
)
def test_an_unknown_field_is_found_at_any_depth(event: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidEventError, match=reason):
        validate_client_event(event)
