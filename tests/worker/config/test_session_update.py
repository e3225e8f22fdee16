from __future__ import annotations

import itertools
from functools import reduce
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from common.settings.roles import Role
from common.settings.settings import Settings
from tests.simulator.validation import validate_client_event
from tests.worker.beta_validation import validate_beta_event
from worker.config.session_update import session_object
from worker.realtime.dialect import BETA

NEEDED = {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://127.0.0.1:6379/0"}
PCM = {"type": "audio/pcm", "rate": 24000}
DETECTION = "audio.input.turn_detection"

# Variable, value as it is written, where it ends up, what is there.
CASES: list[tuple[str, str, str, Any]] = [
    ("OPENAI_INSTRUCTIONS", r'"Be kind.\nBe brief."', "instructions", "Be kind.\nBe brief."),
    ("OPENAI_MAX_TOKENS", "100", "max_output_tokens", 100),
    ("OPENAI_MAX_TOKENS", "inf", "max_output_tokens", "inf"),
    ("OPENAI_REASONING_EFFORT", "xhigh", "reasoning", {"effort": "xhigh"}),
    ("OPENAI_TOOL_CHOICE", "required", "tool_choice", "required"),
    ("OPENAI_TOOL_CHOICE", "look_up", "tool_choice", {"type": "function", "name": "look_up"}),
    ("OPENAI_TRACING", "auto", "tracing", "auto"),
    (
        "OPENAI_TRACING",
        '{"group_id": "a", "metadata": {"b": 1}}',
        "tracing",
        {"group_id": "a", "metadata": {"b": 1}},
    ),
    ("OPENAI_TRUNCATION", "disabled", "truncation", "disabled"),
    (
        "OPENAI_TRUNCATION",
        '{"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 5000}}',
        "truncation",
        {"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 5000}},
    ),
    ("OPENAI_PROMPT_ID", "pmpt_1", "prompt", {"id": "pmpt_1"}),
    ("OPENAI_LANGUAGE", "it", "audio.input.transcription.language", "it"),
    ("OPENAI_TRANSCRIPTION_MODEL", "whisper-1", "audio.input.transcription.model", "whisper-1"),
    ("OPENAI_NOISE_REDUCTION", "far_field", "audio.input.noise_reduction", {"type": "far_field"}),
    ("OPENAI_VOICE", "Marin", "audio.output.voice", "marin"),
    ("OPENAI_VOICE", "voice_1", "audio.output.voice", {"id": "voice_1"}),
    ("OPENAI_SPEED", "1.25", "audio.output.speed", 1.25),
    ("OPENAI_AUDIO_FORMAT", "pcmu", "audio.input.format", {"type": "audio/pcmu"}),
    ("OPENAI_AUDIO_FORMAT", "pcma", "audio.output.format", {"type": "audio/pcma"}),
    ("OPENAI_TURN_DETECTION", "none", "audio.input.turn_detection", None),
    (
        "OPENAI_TURN_DETECTION",
        "semantic_vad",
        "audio.input.turn_detection",
        {"type": "semantic_vad", "create_response": True, "interrupt_response": True},
    ),
    ("OPENAI_TURN_DETECTION_THRESHOLD", "0.7", f"{DETECTION}.threshold", 0.7),
    ("OPENAI_TURN_DETECTION_SILENCE_MS", "400", f"{DETECTION}.silence_duration_ms", 400),
    ("OPENAI_TURN_DETECTION_PREFIX_PADDING_MS", "0", f"{DETECTION}.prefix_padding_ms", 0),
    ("OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS", "6000", f"{DETECTION}.idle_timeout_ms", 6000),
]

# Variables that the session object alone does not show: see test_profile.py, and the last two tests here.
ELSEWHERE = {
    "openai_api_key",
    "openai_base_url",
    "openai_model",
    "openai_organization",
    "openai_project",
    "openai_url_instructions",
    "openai_file_instructions",
    "openai_temperature",
    "openai_mcp_servers",
    "openai_session",
    "openai_welcome_message",
    "openai_welcome_interruptible",
    "openai_turn_detection_eagerness",
    "openai_prompt_version",
    "openai_prompt_variables",
}


def session(**variables: str) -> dict[str, Any]:
    """Return the session object for these variables, after a check by the `openai` package in both dialects."""
    made = session_object(Settings.parse(NEEDED | variables, Role.WORKER))
    event = {"type": "session.update", "session": made}
    validate_client_event(event)
    validate_beta_event(BETA.to_wire(event))
    return made


def at(session_: dict[str, Any], path: str) -> Any:
    return reduce(lambda within, name: within[name], path.split("."), session_)


def test_what_is_not_set_is_left_out() -> None:
    assert session() == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": "You are a helpful assistant.",
        "max_output_tokens": "inf",
        "audio": {
            "input": {
                "format": PCM,
                "transcription": {"model": "gpt-transcribe"},
                "turn_detection": {"type": "server_vad", "create_response": True, "interrupt_response": True},
            },
            "output": {"format": PCM, "voice": "alloy"},
        },
    }


@pytest.mark.parametrize(("name", "written", "path", "value"), CASES)
def test_every_variable_reaches_the_session(name: str, written: str, path: str, value: object) -> None:
    assert at(session(**{name: written}), path) == value


def test_no_variable_is_forgotten() -> None:
    tested = {name.lower() for name, *_ in CASES}
    assert tested | ELSEWHERE == {name for name in Settings.model_fields if name.startswith("openai_")}
    assert not tested & ELSEWHERE


@given(st.lists(st.sampled_from(CASES), unique_by=lambda case: case[0]))
def test_any_of_them_go_together(chosen: list[tuple[str, str, str, Any]]) -> None:
    made = session(**{name: written for name, written, _, _ in chosen})
    mode = {name: written for name, written, _, _ in chosen}.get("OPENAI_TURN_DETECTION", "server_vad")
    for name, _, path, value in chosen:
        if mode != "server_vad" and name.startswith("OPENAI_TURN_DETECTION_"):
            continue
        assert at(made, path) == value


def test_details_of_semantic_vad_go_with_it() -> None:
    for eagerness, threshold in itertools.product(["low", "medium", "high", "auto"], ["0.5", ""]):
        made = session(
            OPENAI_TURN_DETECTION="semantic_vad",
            OPENAI_TURN_DETECTION_EAGERNESS=eagerness,
            OPENAI_TURN_DETECTION_THRESHOLD=threshold,
        )
        assert at(made, DETECTION) == {
            "type": "semantic_vad",
            "create_response": True,
            "interrupt_response": True,
            "eagerness": eagerness,
        }


def test_a_stored_prompt_has_a_version_and_variables() -> None:
    made = session(
        OPENAI_PROMPT_ID="pmpt_1", OPENAI_PROMPT_VERSION="2", OPENAI_PROMPT_VARIABLES='{"city": "Rome"}'
    )
    assert made["prompt"] == {"id": "pmpt_1", "version": "2", "variables": {"city": "Rome"}}
