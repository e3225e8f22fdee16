"""The session that a call asks for: every setting one by one, against the models of the `openai` package."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest

from common.setting_values import VOICES
from common.settings import Role, Settings, TurnDetection
from tests.simulator.validation import validate_client_event
from worker.session_update import session_object

KEY = "sk-test-0123456789abcdefghij"

DEFAULT: dict[str, Any] = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "You are a helpful assistant.",
    "max_output_tokens": "inf",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": {"model": "whisper-1"},
            "turn_detection": {"type": "server_vad", "create_response": True, "interrupt_response": True},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy"},
    },
}


def session_for(**variables: str) -> dict[str, Any]:
    """As the environment's variables make it."""
    return valid_session(Settings.parse({"OPENAI_API_KEY": KEY, **variables}, Role.SERVE))


def valid_session(settings: Settings) -> dict[str, Any]:
    """What the API would not take fails here."""
    session = session_object(settings)
    validate_client_event({"type": "session.update", "event_id": "one", "session": session})
    model = RealtimeSessionCreateRequest.model_validate(session, strict=True)
    assert not model.model_extra
    return session


def changes(session: dict[str, Any], default: dict[str, Any] = DEFAULT, path: str = "") -> dict[str, Any]:
    """Where a session differs from the default one: path → value."""
    found: dict[str, Any] = {}
    for name in session | default:
        mine, other = session.get(name), default.get(name)
        if isinstance(mine, dict) and isinstance(other, dict):
            found |= changes(mine, other, f"{path}{name}.")
        elif mine != other or (name in session) != (name in default):
            found[f"{path}{name}"] = mine
    return found


def test_without_settings_it_is_the_default_session() -> None:
    assert session_for() == DEFAULT


VAD = "audio.input.turn_detection"


@pytest.mark.parametrize(
    ("variables", "changed"),
    [
        ({"OPENAI_INSTRUCTIONS": "Sell.\\nBe brief."}, {"instructions": "Sell.\nBe brief."}),
        ({"OPENAI_MAX_TOKENS": "1"}, {"max_output_tokens": 1}),
        ({"OPENAI_MAX_TOKENS": "4096"}, {"max_output_tokens": 4096}),
        ({"OPENAI_MAX_TOKENS": "inf"}, {}),
        ({"OPENAI_LANGUAGE": "it"}, {"audio.input.transcription.language": "it"}),
        ({"OPENAI_LANGUAGE": "auto"}, {}),
        (
            {"OPENAI_TRANSCRIPTION_MODEL": "gpt-4o-transcribe"},
            {"audio.input.transcription.model": "gpt-4o-transcribe"},
        ),
        ({"OPENAI_VOICE": "voice_1234"}, {"audio.output.voice": {"id": "voice_1234"}}),
        ({"OPENAI_TURN_DETECTION": "server_vad"}, {}),
        ({"OPENAI_TURN_DETECTION_THRESHOLD": "0.7"}, {f"{VAD}.threshold": 0.7}),
        ({"OPENAI_TURN_DETECTION_THRESHOLD": "0"}, {f"{VAD}.threshold": 0.0}),
        ({"OPENAI_TURN_DETECTION_SILENCE_MS": "350"}, {f"{VAD}.silence_duration_ms": 350}),
        ({"OPENAI_TURN_DETECTION_PREFIX_PADDING_MS": "0"}, {f"{VAD}.prefix_padding_ms": 0}),
        ({"OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS": "8000"}, {f"{VAD}.idle_timeout_ms": 8000}),
        ({"OPENAI_TURN_DETECTION_EAGERNESS": "high"}, {}),
        ({"OPENAI_TURN_DETECTION": "semantic_vad"}, {f"{VAD}.type": "semantic_vad"}),
        (
            {"OPENAI_TURN_DETECTION": "semantic_vad", "OPENAI_TURN_DETECTION_EAGERNESS": "low"},
            {f"{VAD}.type": "semantic_vad", f"{VAD}.eagerness": "low"},
        ),
        (
            {"OPENAI_TURN_DETECTION": "semantic_vad", "OPENAI_TURN_DETECTION_SILENCE_MS": "350"},
            {f"{VAD}.type": "semantic_vad"},
        ),
        ({"OPENAI_MODEL": "gpt-realtime-2.1"}, {}),
    ],
)
def test_a_setting_changes_its_own_field_and_no_other(variables: dict[str, str], changed: dict[str, Any]) -> None:
    assert changes(session_for(**variables)) == changed


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_is_taken(voice: str) -> None:
    session = session_for(OPENAI_VOICE=voice)
    assert session["audio"]["output"]["voice"] == voice


@pytest.mark.parametrize("detection", [TurnDetection.SERVER_VAD, TurnDetection.SEMANTIC_VAD])
def test_the_api_answers_and_is_interrupted_by_itself(detection: TurnDetection) -> None:
    found = session_for(OPENAI_TURN_DETECTION=detection.value)["audio"]["input"]["turn_detection"]
    assert found["create_response"] is found["interrupt_response"] is True


def test_no_turn_detection_is_none_and_not_a_type_of_that_name() -> None:
    session = valid_session(Settings(openai_turn_detection=TurnDetection.NONE))
    assert changes(session) == {VAD: None}


def test_the_key_is_no_part_of_it() -> None:
    assert KEY not in repr(session_for())
