from __future__ import annotations

from pathlib import Path

import pytest

from common.settings.roles import Role
from common.settings.settings import Settings

NEEDED = {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://127.0.0.1:6379/0", "OPENAI_BASE_URL": "ws://127.0.0.1:9000"}


def notices(role: Role = Role.WORKER, /, **variables: str) -> tuple[str, ...]:
    return Settings.parse(NEEDED | variables, role).notices


def test_an_effective_variable_is_not_named() -> None:
    assert notices(OPENAI_REASONING_EFFORT="low", OPENAI_TURN_DETECTION_THRESHOLD="0.5") == ()


@pytest.mark.parametrize(
    ("model", "day", "replacement"),
    [
        ("gpt-realtime", "2027-01-20", "gpt-realtime-2.1"),
        ("gpt-realtime-mini", "2027-01-20", "gpt-realtime-2.1-mini"),
    ],
)
def test_a_model_with_a_shutdown_is_named_with_its_day(model: str, day: str, replacement: str) -> None:
    line = f"OPENAI_MODEL={model} has a shutdown date at OpenAI, {day}: change it to {replacement}"
    assert notices(OPENAI_MODEL=model) == (line,)
    assert line in notices(OPENAI_MODEL=model, OPENAI_BASE_URL="wss://api.openai.com/v1")
    assert notices(OPENAI_MODEL=model, OPENAI_BASE_URL="https://me.openai.azure.com") == ()


def test_a_transcription_model_with_a_shutdown_date_is_named() -> None:
    line = (
        "OPENAI_TRANSCRIPTION_MODEL=whisper-1 has a shutdown date at OpenAI, 2027-02-26: "
        "change it to gpt-transcribe"
    )
    assert notices(OPENAI_TRANSCRIPTION_MODEL="whisper-1") == (line,)
    openai = "wss://api.openai.com/v1"
    assert notices(OPENAI_TRANSCRIPTION_MODEL="whisper-1", OPENAI_BASE_URL=openai) == (line,)


@pytest.mark.parametrize("role", [Role.SERVE, Role.WORKER])
@pytest.mark.parametrize(
    "url", ["", "wss://api.openai.com/v1", "https://me.openai.azure.com", "wss://api.x.ai/v1", "ws://127.0.0.1:9"]
)
def test_default_settings_have_no_notice(role: Role, url: str) -> None:
    assert notices(role, OPENAI_BASE_URL=url) == ()


def test_so_are_stored_prompts() -> None:
    (line,) = notices(OPENAI_PROMPT_ID="pmpt_1", OPENAI_BASE_URL="wss://api.openai.com/v1")
    assert line.startswith("OPENAI_PROMPT_ID: stored prompts have a shutdown date at OpenAI, 2026-11-30: ")


def test_a_dispatcher_does_not_warn_for_workers() -> None:
    assert notices(Role.DISPATCHER, OPENAI_MODEL="gpt-realtime", OPENAI_TEMPERATURE="0.8") == ()


def test_a_temperature_has_an_effect_in_the_beta_dialect_alone() -> None:
    assert notices(OPENAI_TEMPERATURE="0.8") == (
        "OPENAI_TEMPERATURE has no effect with OPENAI_MODEL=gpt-realtime-2.1: GA sessions have no temperature",
    )
    assert notices(OPENAI_TEMPERATURE="0.8", OPENAI_MODEL="gpt-4o-realtime-preview") == ()


def test_an_effort_has_no_effect_without_a_reasoning_model() -> None:
    assert notices(OPENAI_REASONING_EFFORT="low", OPENAI_MODEL="gpt-realtime-1.5") == (
        "OPENAI_REASONING_EFFORT has no effect with OPENAI_MODEL=gpt-realtime-1.5: it does not reason",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_REASONING_EFFORT", "low"),
        ("OPENAI_TRUNCATION", "disabled"),
        ("OPENAI_PROMPT_ID", "pmpt_1"),
        ("OPENAI_MCP_SERVERS", '[{"server_label": "a", "server_url": "https://a"}]'),
        ("OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS", "6000"),
    ],
)
def test_settings_without_effect_in_the_beta_dialect_are_named(name: str, value: str) -> None:
    model = "gpt-4o-realtime-preview"
    expected = f"{name} has no effect with OPENAI_MODEL={model}: the beta dialect has no such field"
    assert notices(OPENAI_MODEL=model, **{name: value}) == (expected,)


def test_instructions_that_come_later_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("Be brief.")
    both = {"OPENAI_URL_INSTRUCTIONS": "http://h", "OPENAI_FILE_INSTRUCTIONS": str(file)}
    assert notices(**both) == ()
    assert notices(OPENAI_INSTRUCTIONS="Be kind.", **both) == (
        "OPENAI_URL_INSTRUCTIONS has no effect: OPENAI_INSTRUCTIONS is set and comes first",
        "OPENAI_FILE_INSTRUCTIONS has no effect: OPENAI_INSTRUCTIONS is set and comes first",
    )


def test_details_of_a_prompt_that_is_not_set_are_named() -> None:
    assert notices(OPENAI_PROMPT_VERSION="2", OPENAI_PROMPT_VARIABLES="{}") == (
        "OPENAI_PROMPT_VERSION has no effect without OPENAI_PROMPT_ID",
        "OPENAI_PROMPT_VARIABLES has no effect without OPENAI_PROMPT_ID",
    )


@pytest.mark.parametrize(
    ("mode", "without"),
    [
        ("server_vad", ["EAGERNESS"]),
        ("semantic_vad", ["IDLE_TIMEOUT_MS", "PREFIX_PADDING_MS", "SILENCE_MS", "THRESHOLD"]),
        ("none", ["EAGERNESS", "IDLE_TIMEOUT_MS", "PREFIX_PADDING_MS"]),
    ],
)
def test_details_of_another_turn_detection_are_named(mode: str, without: list[str]) -> None:
    details = {
        "OPENAI_TURN_DETECTION_EAGERNESS": "low",
        "OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS": "6000",
        "OPENAI_TURN_DETECTION_PREFIX_PADDING_MS": "300",
        "OPENAI_TURN_DETECTION_SILENCE_MS": "500",
        "OPENAI_TURN_DETECTION_THRESHOLD": "0.5",
    }
    assert notices(OPENAI_TURN_DETECTION=mode, **details) == tuple(
        f"OPENAI_TURN_DETECTION_{name} has no effect with OPENAI_TURN_DETECTION={mode}" for name in without
    )


def test_a_tool_of_the_session_that_the_api_refuses_is_named() -> None:
    array = '{"type": "object", "properties": {"all": {"type": "array"}}}'
    string = '{"type": "string"}'
    session = (
        f'{{"tools": [{{"name": "list_up", "parameters": {array}}}, {{"name": "say", "parameters": {string}}},'
        ' {"name": "fine"}]}'
    )
    start = "OPENAI_SESSION: the API would refuse the tool"
    assert notices(OPENAI_SESSION=session) == (
        f"{start} list_up: parameters.all: items added to an array",
        f"{start} say: left out, because it must have parameters of the type object",
    )
