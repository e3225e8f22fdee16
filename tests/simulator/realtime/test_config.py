from __future__ import annotations

import pytest

from simulator.realtime.config import SessionConfig
from simulator.realtime.errors import RequestError


def _config() -> SessionConfig:
    return SessionConfig(session_id="sess_1", model="gpt-realtime-2", expires_at=1)


def test_only_the_fields_that_are_present_change() -> None:
    config = _config()
    session = config.updated(
        {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}, has_spoken=False
    )
    assert session["audio"]["input"]["transcription"] == {"model": "whisper-1"}
    assert session["audio"]["input"]["turn_detection"]["type"] == "server_vad"
    assert session["audio"]["output"]["voice"] == "marin"


def test_turn_detection_of_another_type_starts_from_its_defaults() -> None:
    config = _config()
    for detection, silence_ms in (
        ({"type": "server_vad", "silence_duration_ms": 200}, 200),
        ({"type": "server_vad", "threshold": 0.7}, 200),
        ({"type": "semantic_vad", "eagerness": "high"}, None),
        ({"type": "server_vad"}, 500),
    ):
        config.session = config.updated({"audio": {"input": {"turn_detection": detection}}}, has_spoken=False)
        assert config.turn_detection is not None
        assert config.turn_detection.get("silence_duration_ms") == silence_ms
        assert config.turn_detection["create_response"] is True


def test_null_turns_things_off() -> None:
    config = _config()
    config.session = config.updated(
        {"audio": {"input": {"turn_detection": None, "transcription": None}}}, has_spoken=False
    )
    assert config.turn_detection is None
    assert config.transcription is None


def test_noise_reduction_is_merged_and_tools_are_replaced() -> None:
    config = _config()
    for change in (
        {"audio": {"input": {"noise_reduction": {"type": "near_field", "strength": 2}}}, "tools": [{"name": "a"}]},
        {"audio": {"input": {"noise_reduction": {"type": "far_field"}}}, "tools": []},
    ):
        config.session = config.updated(change, has_spoken=False)
    assert config.session["audio"]["input"]["noise_reduction"] == {"type": "far_field", "strength": 2}
    assert config.session["tools"] == []


def test_the_voice_is_free_until_the_model_has_spoken() -> None:
    config = _config()
    change = {"audio": {"output": {"voice": "ash"}}}
    assert config.updated(change, has_spoken=False)["audio"]["output"]["voice"] == "ash"
    with pytest.raises(RequestError, match="if assistant audio is present") as refused:
        config.updated(change, has_spoken=True)
    assert refused.value.code == "cannot_update_voice"
    config.updated({"audio": {"output": {"voice": "marin"}}}, has_spoken=True)


def test_model_cannot_change_and_the_session_stays_as_it_was() -> None:
    config = _config()
    with pytest.raises(RequestError):
        config.updated({"model": "gpt-realtime-2.1"}, has_spoken=False)
    config.updated({"audio": {"output": {"voice": "ash"}}}, has_spoken=False)
    assert config.voice == "marin"
