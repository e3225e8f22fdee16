from __future__ import annotations

import pytest

from simulator.realtime.settings import (
    Behaviour,
    DialectName,
    SimulatorSettings,
    ToolCall,
    Transcription,
    Voice,
    with_directives,
)


def test_directives_are_taken_from_lines_of_the_instructions() -> None:
    instructions = (
        "Be kind.\n"
        'simulator: {"voice": "tone", "tone_hz": 700, "echo": true}\n'
        "Speak of simulator: nothing.\n"
        '  simulator: {"words": 12, "transcription": "never", "say": "hello there"}'
    )
    behaviour = with_directives(Behaviour(words=3), instructions)
    assert behaviour == Behaviour(
        words=12, voice=Voice.TONE, tone_hz=700.0, echo=True, transcription=Transcription.NEVER, say="hello there"
    )


def test_function_calls_take_arguments_as_an_object_or_as_text() -> None:
    directive = (
        'simulator: {"tool_calls": [{"turn": 1, "name": "hangup"}, '
        '{"turn": 2, "name": "find", "arguments": {"q": "x"}}, {"turn": 3, "name": "raw", "arguments": "{"}]}'
    )
    assert with_directives(Behaviour(), directive).tool_calls == (
        ToolCall(1, "hangup", "{}"),
        ToolCall(2, "find", '{"q":"x"}'),
        ToolCall(3, "raw", "{"),
    )


def test_tools_of_mcp_servers_behave_as_configured() -> None:
    directive = (
        'simulator: {"tool_calls": [{"turn": 1, "name": "find", "server": "crm"}], "mcp_tools": ["find", "book"], '
        '"mcp_output": "yes", "mcp_fails": true, "mcp_seconds": 1.5}'
    )
    assert with_directives(Behaviour(), directive) == Behaviour(
        tool_calls=(ToolCall(1, "find", "{}", "crm"),),
        mcp_tools=("find", "book"),
        mcp_output="yes",
        mcp_fails=True,
        mcp_seconds=1.5,
    )


def test_instructions_without_directives_change_nothing() -> None:
    behaviour = Behaviour(words=4)
    assert with_directives(behaviour, "This is a simulator: be kind.") is behaviour
    assert with_directives(behaviour, "You are a helpful assistant.") is behaviour


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("{nonsense", "not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"colour": "red"}', "no field 'colour'"),
        ('{"words": "many"}', "'words' cannot be 'many'"),
        ('{"words": 0}', "words is 0"),
        ('{"echo": 1}', "'echo' cannot be 1"),
        ('{"voice": "opera"}', "'voice' cannot be 'opera'"),
        ('{"tool_calls": [{"name": "x"}]}', "'tool_calls' cannot be"),
        ('{"tool_calls": [{"turn": 1, "name": "x", "server": 7}]}', "'tool_calls' cannot be"),
        ('{"mcp_tools": "find"}', "'mcp_tools' cannot be 'find'"),
        ('{"mcp_seconds": -1}', "mcp_seconds is -1"),
    ],
)
def test_a_wrong_directive_is_named(directive: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        with_directives(Behaviour(), f"simulator: {directive}")


@pytest.mark.parametrize(
    "wrong", [{"words": 0}, {"speed": 0.0}, {"tone_hz": -1.0}, {"word_ms": 5}, {"first_audio_seconds": -0.1}]
)
def test_a_wrong_setting_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SimulatorSettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_server_settings_are_the_default_behaviour_of_sessions() -> None:
    settings = SimulatorSettings(voice=Voice.TONE, words=3, api_key="key", dialect=DialectName.BETA)
    assert settings.behaviour() == Behaviour(voice=Voice.TONE, words=3)
