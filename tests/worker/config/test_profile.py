from __future__ import annotations

import dataclasses
import json as json_module
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import structlog
from pydantic import SecretStr
from structlog.typing import EventDict

from common.link import wire
from common.net.json_depth import MAX_LEVELS, is_too_deep
from common.settings.openai_fields import TurnDetection
from common.settings.roles import Role
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from tests.simulator.validation import validate_client_event
from tests.worker.beta_validation import validate_beta_event
from tests.worker.config.web_service import json, text, web_service
from worker.config import instructions, profile_loading, safety_identifier
from worker.config.profile import PROMPT_BEGINNING_CHARACTERS, CallProfile
from worker.realtime import dialect

KEY = "sk-proj-0123456789abcdef"
UUID = "5b2c8a1e-0000-4000-8000-000000000001"
METADATA = {"from": "100", "to": "600"}
PREVIEW = "gpt-4o-realtime-preview"
LOCAL = "ws://127.0.0.1:9000"
MCP = {"type": "mcp", "server_label": "crm", "server_url": "https://crm", "require_approval": "never"}
SECRETS = {"authorization": "s3cret", "headers": {"X-Token": "s3cret"}}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with instructions.http_client() as client:
        yield client


def settings(**variables: str) -> Settings:
    needed = {"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://127.0.0.1:6379/0"}
    return Settings.parse(needed | variables, Role.WORKER)


async def load_logged(
    http: aiohttp.ClientSession, provider_config: dict[str, Any] | None = None, /, **variables: str
) -> tuple[CallProfile, list[EventDict]]:
    """Return the profile of a call, which the `openai` package accepts, and what was logged."""
    with structlog.testing.capture_logs() as lines:
        made = await profile_loading.load(
            settings(**variables), uuid=UUID, metadata=METADATA, provider_config=provider_config or {}, http=http
        )
    event = {"type": "session.update", "session": made.session | {"tools": list(made.tools)}}
    if made.dialect is dialect.GA:
        validate_client_event(event)
    elif made.dialect is dialect.BETA:
        validate_beta_event(made.dialect.to_wire(event))
    return made, list(lines)


async def load(
    http: aiohttp.ClientSession, provider_config: dict[str, Any] | None = None, /, **variables: str
) -> CallProfile:
    """Return the same, where nothing is to be logged."""
    made, lines = await load_logged(http, provider_config, **variables)
    assert lines == []
    return made


def output(made: CallProfile) -> dict[str, Any]:
    audio: dict[str, Any] = made.session["audio"]["output"]
    return audio


def audio_input(made: CallProfile) -> dict[str, Any]:
    audio: dict[str, Any] = made.session["audio"]["input"]
    return audio


async def test_what_the_variables_make(http: aiohttp.ClientSession) -> None:
    made = await load(
        http,
        OPENAI_ORGANIZATION="org",
        OPENAI_PROJECT="proj",
        OPENAI_WELCOME_MESSAGE=r"Hello!\nHow are you?",
        OPENAI_WELCOME_INTERRUPTIBLE="false",
        OPENAI_AUDIO_FORMAT="pcmu",
        OPENAI_TURN_DETECTION_SILENCE_MS="300",
    )
    assert (made.base_url, made.model) == ("wss://api.openai.com/v1/realtime", "gpt-realtime-2.1")
    assert made.url == "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"
    assert made.headers == {
        "Authorization": f"Bearer {KEY}",
        "OpenAI-Organization": "org",
        "OpenAI-Project": "proj",
    }
    assert made.welcome_message == "Hello!\nHow are you?"
    assert made.welcome_interruptible is False
    assert made.audio_format is AudioFormat.PCMU
    assert made.turn_detection is TurnDetection.SERVER_VAD
    assert made.silence_ms == 300
    assert made.tools == ()
    assert made.session["instructions"] == "You are a helpful assistant."


# Instructions


def written(folder: Path, instructions: str) -> Path:
    path = folder / "instructions.txt"
    path.write_text(instructions)
    return path


async def test_the_variable_comes_first_and_nobody_is_asked(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with web_service(json({"system": "from the web"})) as service:
        made = await load(
            http,
            OPENAI_INSTRUCTIONS="from the variable",
            OPENAI_URL_INSTRUCTIONS=service.url,
            OPENAI_FILE_INSTRUCTIONS=str(written(tmp_path, "from the file")),
        )
    assert made.session["instructions"] == "from the variable"
    assert service.requests == []


async def test_the_web_comes_before_the_file(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with web_service(json({"system": "from the web"})) as service:
        made = await load(
            http,
            OPENAI_URL_INSTRUCTIONS=service.url,
            OPENAI_FILE_INSTRUCTIONS=str(written(tmp_path, "from the file")),
        )
    assert made.session["instructions"] == "from the web"
    (request,) = service.requests
    assert request.headers["X-AVR-UUID"] == UUID
    assert dict(request.query) == METADATA


@pytest.mark.parametrize("answer", [text("no", 404), text(""), json({}), json({"voice": "ash"})])
async def test_the_file_comes_next_where_the_web_tells_nothing(
    http: aiohttp.ClientSession, tmp_path: Path, answer: Any
) -> None:
    path = tmp_path / "instructions.txt"
    async with web_service(answer) as service:
        variables = {"OPENAI_URL_INSTRUCTIONS": service.url, "OPENAI_FILE_INSTRUCTIONS": str(path)}
        for told in ("from the file", "from the file that was edited"):
            path.write_text(told)
            made, _ = await load_logged(http, **variables)
            assert made.session["instructions"] == told
        path.write_bytes(b"no UTF-8: \xff")
        made, lines = await load_logged(http, **variables)
    assert made.session["instructions"] == "You are a helpful assistant."
    assert lines[-1]["event"] == "OPENAI_FILE_INSTRUCTIONS failed"


@pytest.mark.parametrize("system", ["", "  ", 5, None])
async def test_a_system_that_tells_nothing_is_not_used(
    http: aiohttp.ClientSession, tmp_path: Path, system: object
) -> None:
    path = tmp_path / "instructions.txt"
    path.write_text("from the file")
    async with web_service(json({"system": system, "voice": "ash"})) as service:
        made, _ = await load_logged(http, OPENAI_URL_INSTRUCTIONS=service.url, OPENAI_FILE_INSTRUCTIONS=str(path))
        without_file, lines = await load_logged(http, OPENAI_URL_INSTRUCTIONS=service.url)
    assert output(made)["voice"] == "ash"
    assert made.session["instructions"] == "from the file"
    assert without_file.session["instructions"] == "You are a helpful assistant."
    assert (lines == []) == (system is None)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (json([{"system": "from the web", "voice": "ash"}]), "from the web"),
        (text("from the web"), "from the web"),
        (json({"system": None, "instructions": "from the web"}), "from the web"),
        (json({"instructions": None, "system": "from the web"}), "from the web"),
        (json({"system": "from the web", "session": {"instructions": None}}), "from the web"),
        (json({"system": None}), "from the file"),
        (json([{"system": None, "instructions": None}]), "from the file"),
        (json(None), "from the file"),
    ],
)
async def test_answers_of_services_in_the_wild(
    http: aiohttp.ClientSession, tmp_path: Path, answer: Any, told: str
) -> None:
    path = tmp_path / "instructions.txt"
    path.write_text("from the file")
    async with web_service(answer) as service:
        made = await load(http, OPENAI_URL_INSTRUCTIONS=service.url, OPENAI_FILE_INSTRUCTIONS=str(path))
    assert made.session["instructions"] == told


NULLS: dict[str, Any] = {
    "api_key": None,
    "model": None,
    "voice": None,
    "system": None,
    "instructions": None,
    "tools": None,
    "temperature": None,
    "speed": None,
    "max_output_tokens": None,
    "tool_choice": None,
    "welcome_message": None,
    "welcome_interruptible": None,
    "audio": None,
    "session": {"audio": {"input": {"format": None}, "output": {"voice": None}}, "truncation": None},
    "plan": None,
}


@pytest.mark.parametrize("source", ["provider_config", "OPENAI_URL_INSTRUCTIONS"])
async def test_null_means_not_given(http: aiohttp.ClientSession, source: str) -> None:
    variables = {
        "OPENAI_VOICE": "ash",
        "OPENAI_SPEED": "1.1",
        "OPENAI_MAX_TOKENS": "100",
        "OPENAI_TOOL_CHOICE": "none",
        "OPENAI_TRUNCATION": "disabled",
        "OPENAI_MCP_SERVERS": json_module.dumps([MCP]),
        "OPENAI_WELCOME_MESSAGE": "Hello.",
        "OPENAI_WELCOME_INTERRUPTIBLE": "false",
        "OPENAI_SESSION": '{"instructions": "Be kind."}',
    }
    plain = await load(http, **variables)
    if source == "provider_config":
        assert await load(http, NULLS, **variables) == plain
    else:
        async with web_service(json(NULLS)) as service:
            assert await load(http, OPENAI_URL_INSTRUCTIONS=service.url, **variables) == plain


async def test_null_turns_off_what_the_api_can_turn_off(http: aiohttp.ClientSession) -> None:
    variables = {"OPENAI_NOISE_REDUCTION": "near_field", "OPENAI_TRACING": "auto"}
    off = {"turn_detection": None, "tracing": None, "reasoning": None}
    nested = {"session": {"audio": {"input": {"noise_reduction": None, "transcription": None}}}}
    made = await load(http, off | nested, **variables)
    assert made.turn_detection is TurnDetection.NONE
    assert (made.session["tracing"], made.session["reasoning"]) == (None, None)
    assert (audio_input(made)["noise_reduction"], audio_input(made)["transcription"]) == (None, None)


UNRELATED = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo", "gpt-5.1", "o3", "claude-opus-4", "gemini-2.5-pro"]


@pytest.mark.parametrize("model", UNRELATED)
@pytest.mark.parametrize("base_url", ["wss://api.openai.com/v1", LOCAL, "https://me.openai.azure.com"])
async def test_a_model_that_is_no_voice_model_is_ignored(
    http: aiohttp.ClientSession, model: str, base_url: str
) -> None:
    async with web_service(json([{"system": "Be kind.", "model": model}])) as service:
        variables = {"OPENAI_URL_INSTRUCTIONS": service.url, "OPENAI_BASE_URL": base_url}
        made, lines = await load_logged(http, {"model": model, "session": {"model": model}}, **variables)
    assert (made.model, made.session["instructions"]) == ("gpt-realtime-2.1", "Be kind.")
    ((line),) = lines
    assert (line["log_level"], line["source"], line["uuid"]) == ("warning", "OPENAI_URL_INSTRUCTIONS", UUID)
    assert line["fields"] == {"model": "must be a voice model: the call has gpt-realtime-2.1"}


@pytest.mark.parametrize(
    ("model", "base_url"),
    [
        ("gpt-realtime-1.5", "wss://api.openai.com/v1"),
        ("gpt-audio-1.5", "wss://api.openai.com/v1"),
        ("ft:gpt-realtime-2.1:me", "wss://api.openai.com/v1"),
        ("gpt-4o-realtime-preview", LOCAL),
        ("qwen3-omni", LOCAL),
        ("receptionist", "https://me.openai.azure.com"),
        ("grok-voice-fast", "wss://api.x.ai/v1"),
    ],
)
async def test_a_voice_model_may_be_set_for_one_call(
    http: aiohttp.ClientSession, model: str, base_url: str
) -> None:
    given, here = {"model": model}, settings(OPENAI_BASE_URL=base_url)
    made = await profile_loading.load(here, uuid=UUID, metadata=METADATA, provider_config=given, http=http)
    assert made.model == model


async def test_the_model_of_the_settings_is_never_unrelated(http: aiohttp.ClientSession) -> None:
    made = await load(http, {"model": "gpt-4o"}, OPENAI_BASE_URL=LOCAL, OPENAI_MODEL="gpt-4o")
    assert made.model == "gpt-4o"


async def test_the_calls_data_is_filled_in_wherever_the_text_is_from(http: aiohttp.ClientSession) -> None:
    answer = {"system": "{from} calls {to}: {}", "welcome_message": "Welcome, {from}!"}
    async with web_service(json(answer)) as service:
        made = await load(http, OPENAI_URL_INSTRUCTIONS=service.url)
    assert made.session["instructions"] == "100 calls 600: {}"
    assert made.welcome_message == "Welcome, 100!"
    made = await load(http, OPENAI_INSTRUCTIONS="Call {uuid}", OPENAI_WELCOME_MESSAGE="You are {from}.")
    assert (made.session["instructions"], made.welcome_message) == (f"Call {UUID}", "You are 100.")


async def test_absent_placeholders_are_empty_and_named_in_one_line(http: aiohttp.ClientSession) -> None:
    answer = {"system": "<{name}> <{city}> <{name}> <{from}>", "welcome_message": "Hello {name}{nick}!"}
    made, lines = await load_logged(http, answer)
    assert made.session["instructions"] == "<> <> <> <100>"
    assert made.welcome_message == "Hello !"
    (line,) = lines
    assert (line["event"], line["log_level"], line["uuid"]) == ("placeholders without a value", "warning", UUID)
    assert line["placeholders"] == ["city", "name", "nick"]
    assert "/call" in line["hint"]


async def test_however_many_placeholders_are_absent_ten_are_named(http: aiohttp.ClientSession) -> None:
    _, lines = await load_logged(http, {"system": "".join(f"{{n{number:05}}}" for number in range(5000))})
    assert [(line["number"], len(line["placeholders"])) for line in lines] == [(5000, 10)]


async def test_a_stored_prompt_keeps_its_own_instructions(http: aiohttp.ClientSession) -> None:
    made = await load(http, OPENAI_PROMPT_ID="pmpt_1")
    assert "instructions" not in made.session
    made = await load(http, OPENAI_PROMPT_ID="pmpt_1", OPENAI_INSTRUCTIONS="Be kind.")
    assert made.session["instructions"] == "Be kind."


# What goes over the variables


async def test_openai_session_goes_over_the_variables(http: aiohttp.ClientSession) -> None:
    over = {
        "instructions": "from the session",
        "parallel_tool_calls": False,
        "model": "gpt-realtime-2.1",
        "audio": {"output": {"voice": "cedar"}, "input": {"turn_detection": {"threshold": 0.9}}},
    }
    made = await load(
        http,
        OPENAI_SESSION=json_module.dumps(over),
        OPENAI_INSTRUCTIONS="from the variable",
        OPENAI_VOICE="ash",
        OPENAI_SPEED="1.1",
        OPENAI_TURN_DETECTION_SILENCE_MS="300",
    )
    assert made.session["instructions"] == "from the session"
    assert made.session["parallel_tool_calls"] is False
    assert made.model == "gpt-realtime-2.1"
    assert "model" not in made.session
    assert (output(made)["voice"], output(made)["speed"]) == ("cedar", 1.1)
    assert audio_input(made)["turn_detection"]["threshold"] == 0.9
    assert audio_input(made)["turn_detection"]["silence_duration_ms"] == 300


async def test_the_order_is_variables_session_web_init(http: aiohttp.ClientSession) -> None:
    variables = {
        "OPENAI_VOICE": "ash",
        "OPENAI_SPEED": "1.0",
        "OPENAI_MAX_TOKENS": "10",
        "OPENAI_TOOL_CHOICE": "auto",
        "OPENAI_SESSION": '{"speed": 1.1, "max_output_tokens": 20, "tool_choice": "none"}',
    }
    async with web_service(json({"max_output_tokens": 30, "tool_choice": "required"})) as service:
        made = await load(http, {"tool_choice": "look_up"}, OPENAI_URL_INSTRUCTIONS=service.url, **variables)
    assert output(made)["voice"] == "ash"
    assert output(made)["speed"] == 1.1
    assert made.session["max_output_tokens"] == 30
    assert made.session["tool_choice"] == {"type": "function", "name": "look_up"}


OVERRIDE = {
    "system": "You are the receptionist of tenant 7.",
    "voice": "marin",
    "model": "gpt-realtime-2.1",
    "tools": [{"name": "look_up", "description": "d", "input_schema": {"type": "object"}}, MCP],
    "welcome_message": "Tenant 7, good morning.",
    "welcome_interruptible": False,
    "turn_detection": {"type": "semantic_vad", "eagerness": "low"},
    "reasoning": {"effort": "high"},
    "session": {"max_output_tokens": 50, "audio": {"input": {"transcription": {"language": "it"}}}},
}


def check_override(made: CallProfile) -> None:
    assert made.session["instructions"] == "You are the receptionist of tenant 7."
    assert output(made)["voice"] == "marin"
    assert made.model == "gpt-realtime-2.1"
    parameters = {"type": "object", "properties": {}}
    function = {"type": "function", "name": "look_up", "description": "d", "parameters": parameters}
    assert made.tools == (function, MCP)
    assert (made.welcome_message, made.welcome_interruptible) == ("Tenant 7, good morning.", False)
    assert made.turn_detection is TurnDetection.SEMANTIC_VAD
    assert made.silence_ms == 0
    assert made.session["reasoning"] == {"effort": "high"}
    assert made.session["max_output_tokens"] == 50
    assert audio_input(made)["transcription"] == {"model": "gpt-transcribe", "language": "it"}


async def test_the_web_may_set_everything_for_one_call(http: aiohttp.ClientSession) -> None:
    async with web_service(json(OVERRIDE)) as service:
        made = await load(http, OPENAI_URL_INSTRUCTIONS=service.url, OPENAI_ORGANIZATION="org")
    check_override(made)
    assert not made.has_own_key
    assert made.organization == "org"


async def test_so_may_init_with_a_key_of_its_own(http: aiohttp.ClientSession) -> None:
    config = OVERRIDE | {"api_key": "sk-of-tenant-7"}
    made = await load(http, config, OPENAI_INSTRUCTIONS="Be kind.", OPENAI_ORGANIZATION="o", OPENAI_PROJECT="p")
    check_override(made)
    assert made.has_own_key
    assert made.headers == {"Authorization": "Bearer sk-of-tenant-7"}


@pytest.mark.parametrize("config", [{}, {"api_key": ""}, {"api_key": None}])
async def test_without_a_key_of_its_own_the_call_has_the_settings(
    http: aiohttp.ClientSession, config: dict[str, Any]
) -> None:
    made = await load(http, config)
    assert made.api_key == SecretStr(KEY)
    assert not made.has_own_key


async def test_tools_of_the_variables_can_be_turned_off(http: aiohttp.ClientSession) -> None:
    variables = {"OPENAI_MCP_SERVERS": json_module.dumps([MCP])}
    assert (await load(http, **variables)).tools == (MCP,)
    assert (await load(http, {"tools": []}, **variables)).tools == ()
    assert (await load(http, {"welcome_message": ""}, OPENAI_WELCOME_MESSAGE="Hello.")).welcome_message is None


async def test_turn_detection_can_be_turned_off_for_one_call(http: aiohttp.ClientSession) -> None:
    made = await load(http, {"turn_detection": None})
    assert made.turn_detection is TurnDetection.NONE
    assert made.silence_ms == 500
    made = await load(http, OPENAI_TURN_DETECTION="none", OPENAI_TURN_DETECTION_SILENCE_MS="700")
    assert made.turn_detection is TurnDetection.NONE
    assert (made.silence_ms, made.vad_threshold) == (700, None)
    made = await load(http, OPENAI_TURN_DETECTION="none", OPENAI_TURN_DETECTION_THRESHOLD="0.8")
    assert (made.silence_ms, made.vad_threshold) == (500, 0.8)
    made = await load(http, {"turn_detection": {"type": "server_vad"}}, OPENAI_TURN_DETECTION="none")
    assert made.turn_detection is TurnDetection.SERVER_VAD


async def test_the_format_can_be_set_for_one_call_both_ways_alike(http: aiohttp.ClientSession) -> None:
    alaw = {"format": {"type": "audio/pcma"}}
    made = await load(http, {"audio": {"input": alaw, "output": alaw}})
    assert made.audio_format is AudioFormat.PCMA
    assert audio_input(made)["format"] == output(made)["format"] == {"type": "audio/pcma"}
    made, lines = await load_logged(http, {"audio": {"input": alaw}}, OPENAI_AUDIO_FORMAT="pcmu")
    assert made.audio_format is AudioFormat.PCMU
    assert audio_input(made)["format"] == output(made)["format"] == {"type": "audio/pcmu"}
    assert [list(line["fields"]) for line in lines] == [["audio.input.format"]]


# What is wrong


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"voice": "nova-s3cret"}, "audio.output.voice"),
        ({"voice": ["nova-s3cret"]}, "audio.output.voice"),
        ({"model": "gpt s3cret"}, "model"),
        ({"model": PREVIEW}, "model"),
        ({"model": 5}, "model"),
        ({"tools": "s3cret"}, "tools"),
        ({"tools": [{"name": "a b s3cret"}]}, "tools[0]"),
        ({"welcome_message": ["s3cret"]}, "welcome_message"),
        ({"welcome_interruptible": "s3cret"}, "welcome_interruptible"),
        ({"session": "s3cret"}, "session"),
        ({"session": {"max_output_tokens": "s3cret"}}, "max_output_tokens"),
        ({"system": {"a": "s3cret"}}, "instructions"),
        ({"api_key": "s3cret key"}, "api_key"),
        ({"api_key": 5}, "api_key"),
        ({"output_modalities": ["text"]}, "output_modalities"),
        ({"audio": {"input": "s3cret"}}, "audio.input"),
    ],
)
async def test_a_wrong_field_is_ignored_and_logged_without_its_value(
    http: aiohttp.ClientSession, given: dict[str, Any], field: str
) -> None:
    made, lines = await load_logged(http, given | {"tracing": "auto"})
    assert [(line["log_level"], line["source"], list(line["fields"]), line["uuid"]) for line in lines] == [
        ("warning", "provider_config", [field], UUID)
    ]
    assert "s3cret" not in str(lines)
    assert made == await load(http, {"tracing": "auto"})


async def test_however_many_fields_are_wrong_they_are_one_line(http: aiohttp.ClientSession) -> None:
    made, lines = await load_logged(http, {"tools": [0] * 31_000, "voice": 5})
    assert [(line["number"], len(line["fields"])) for line in lines] == [(31_001, 10)]
    assert len(orjson.dumps(lines, default=str)) < 2000
    assert made == await load(http, {"tools": []})


async def test_however_many_tools_are_changed_they_are_one_line(http: aiohttp.ClientSession) -> None:
    tools = [{"name": f"t{index}", "parameters": {"type": "string"}} for index in range(1000)]
    _, lines = await load_logged(http, {"tools": tools})
    assert [(line["number"], list(line["tools"])) for line in lines] == [
        (1000, [f"t{index}" for index in range(10)])
    ]
    assert len(orjson.dumps(lines, default=str)) < 2000


@pytest.mark.parametrize("answer", [["system"], "system", 5])
async def test_what_is_no_object_is_passed_over(http: aiohttp.ClientSession, answer: Any) -> None:
    made, lines = await load_logged(http, answer)
    assert [(line["source"], line["fields"]) for line in lines] == [
        ("provider_config", {"": "must be a JSON object"})
    ]
    assert made == await load(http)


async def test_what_is_nested_too_deeply_is_passed_over(http: aiohttp.ClientSession) -> None:
    deep: Any = orjson.loads('{"a":' * 500 + "{}" + "}" * 500)
    made, lines = await load_logged(http, {"session": {"of_tomorrow": deep}})
    assert len(lines) == 1
    assert made == await load(http)


async def test_fields_that_nobody_knows_are_named_in_one_line(http: aiohttp.ClientSession) -> None:
    made, lines = await load_logged(http, {"id": "s3cret", "plan": {"a": 1}, "voice": "ash"})
    assert [(line["source"], line["fields"]) for line in lines] == [("provider_config", ["id", "plan"])]
    assert "s3cret" not in str(lines)
    assert output(made)["voice"] == "ash"


async def test_the_web_may_bring_the_tenants_key(http: aiohttp.ClientSession) -> None:
    async with web_service(json({"api_key": "sk-of-tenant-7"})) as service:
        variables = {"OPENAI_URL_INSTRUCTIONS": service.url, "OPENAI_ORGANIZATION": "org"}
        made = await load(http, **variables)
        assert made.has_own_key
        assert made.headers == {"Authorization": "Bearer sk-of-tenant-7"}
        assert "sk-of-tenant-7" not in str(made.to_record())
        own = await load(http, {"api_key": "sk-of-init"}, **variables)
        assert own.api_key == SecretStr("sk-of-init")
        for empty in (None, ""):
            made = await load(http, {"api_key": empty}, **variables)
            assert made.api_key == SecretStr("sk-of-tenant-7")


async def test_a_key_of_the_web_that_is_none_is_not_shown(http: aiohttp.ClientSession) -> None:
    async with web_service(json({"api_key": "s3cret key"})) as service:
        made, lines = await load_logged(http, OPENAI_URL_INSTRUCTIONS=service.url)
    assert made.api_key == SecretStr(KEY)
    assert [list(line["fields"]) for line in lines] == [["api_key"]]
    assert "s3cret" not in str(lines)


# Dialects


async def test_a_temperature_goes_to_models_of_the_beta_dialect_alone(http: aiohttp.ClientSession) -> None:
    variables = {"OPENAI_TEMPERATURE": "0.8", "OPENAI_BASE_URL": LOCAL}
    made = await load(http, **variables)
    assert made.dialect is dialect.GA
    assert "temperature" not in made.session
    for made in (
        await load(http, OPENAI_MODEL=PREVIEW, **variables),
        await load(http, {"model": PREVIEW}, **variables),
    ):
        assert made.dialect is dialect.BETA
        assert made.dialect.session(made.session)["temperature"] == 0.8
        assert made.url == f"ws://127.0.0.1:9000/realtime?model={PREVIEW}"
        assert made.headers["OpenAI-Beta"] == "realtime=v1"


async def test_an_effort_goes_to_models_that_reason_alone(http: aiohttp.ClientSession) -> None:
    variables = {"OPENAI_REASONING_EFFORT": "low"}
    assert (await load(http, **variables)).session["reasoning"] == {"effort": "low"}
    assert "reasoning" not in (await load(http, {"model": "gpt-realtime-1.5"}, **variables)).session


async def test_a_call_at_xai(http: aiohttp.ClientSession) -> None:
    made = await load(http, {"voice": "ara"}, OPENAI_BASE_URL="https://api.x.ai/v1", OPENAI_LANGUAGE="it")
    assert made.url == "wss://api.x.ai/v1/realtime?model=grok-voice-latest"
    wire = made.dialect.session(made.session)
    assert wire["voice"] == "ara"
    assert wire["turn_detection"]["type"] == "server_vad"
    assert wire["audio"]["input"]["transcription"] == {"model": "whisper-1", "language_hint": "it"}


async def test_a_call_at_azure(http: aiohttp.ClientSession) -> None:
    made = await load(
        http,
        OPENAI_BASE_URL="https://me.openai.azure.com",
        OPENAI_MODEL="my-deployment",
        OPENAI_PROJECT="p",
    )
    assert made.url == "wss://me.openai.azure.com/openai/v1/realtime?model=my-deployment"
    assert made.headers == {"api-key": KEY}
    validate_client_event({"type": "session.update", "session": made.dialect.session(made.session)})


# The record


async def test_a_profile_survives_as_json(http: aiohttp.ClientSession) -> None:
    config = OVERRIDE | {"api_key": "sk-of-tenant-7", "tools": [MCP | SECRETS, {"name": "a"}]}
    variables = {"OPENAI_AUDIO_FORMAT": "pcma", "OPENAI_ORGANIZATION": "o"}
    made = await load(http, config, **variables)
    record, secrets = orjson.dumps(made.to_record()), orjson.dumps(made.secrets())
    again = CallProfile.from_record(orjson.loads(record), orjson.loads(secrets), settings(**variables))
    assert again == made
    for secret in (b"sk-of-tenant-7", b"s3cret", KEY.encode()):
        assert secret not in record


async def test_a_call_without_secrets_uses_the_key_of_the_settings(http: aiohttp.ClientSession) -> None:
    made = await load(http, {"api_key": "sk-of-tenant-7", "tools": [MCP | SECRETS]}, OPENAI_ORGANIZATION="o")
    again = CallProfile.from_record(made.to_record(), {}, settings(OPENAI_ORGANIZATION="o"))
    assert again.headers == {"Authorization": f"Bearer {KEY}", "OpenAI-Organization": "o"}
    assert again.tools == (MCP,)
    assert again.session == made.session


async def test_the_settings_key_is_no_secret_of_the_call(http: aiohttp.ClientSession) -> None:
    assert (await load(http)).secrets() == {}


async def test_a_record_of_another_release_is_understood(http: aiohttp.ClientSession) -> None:
    made = await load(http)
    record = made.to_record()
    later = record | {"of_tomorrow": 1}
    earlier = {name: record[name] for name in ("base_url", "model", "session")}
    assert CallProfile.from_record(later, {}, settings()) == made
    assert CallProfile.from_record(earlier, {}, settings()) == dataclasses.replace(made, instructions_from="")
    with pytest.raises(TypeError, match="session"):
        CallProfile.from_record({"base_url": LOCAL, "model": "m"}, {}, settings())


async def test_the_words_of_a_profile_hold_no_secret(http: aiohttp.ClientSession) -> None:
    made = await load(
        http,
        {"api_key": "sk-of-tenant-7", "tools": [MCP | SECRETS], "system": "s3cret", "welcome_message": "s3cret"},
    )
    for words in (repr(made), str(made), f"{made}"):
        assert "sk-of-tenant-7" not in words
        assert "s3cret" not in words


async def test_nothing_of_the_settings_is_changed_by_a_call(http: aiohttp.ClientSession) -> None:
    kept = settings(
        OPENAI_SESSION='{"turn_detection": {"eagerness": "low"}, "audio": {"output": {"speed": 1.1}}}',
        OPENAI_MCP_SERVERS=json_module.dumps([MCP]),
    )
    before = repr(kept.model_dump())
    for voice in ("ash", "marin"):
        config = {"voice": voice, "tools": [{"name": "a"}], "turn_detection": None}
        made = await profile_loading.load(kept, uuid=UUID, metadata=METADATA, provider_config=config, http=http)
        assert output(made)["voice"] == voice
    assert repr(kept.model_dump()) == before


# Tools and languages that the API would refuse the session for.

ARRAY_TOOL = {"name": "list_up", "parameters": {"type": "object", "properties": {"all": {"type": "array"}}}}
STRING_TOOL = {"name": "say", "parameters": {"type": "string"}}
REFUSED = {"tools": [ARRAY_TOOL, STRING_TOOL], "audio": {"input": {"transcription": {"language": "pt-BR"}}}}


def check_accepted(made: CallProfile) -> None:
    assert [tool["name"] for tool in made.tools] == ["list_up"]
    assert made.tools[0]["parameters"]["properties"]["all"] == {"type": "array", "items": {}}
    assert audio_input(made)["transcription"]["language"] == "pt"


@pytest.mark.parametrize("source", ["provider_config", "OPENAI_URL_INSTRUCTIONS"])
async def test_a_tool_that_the_api_refuses_is_mended_with_a_line(http: aiohttp.ClientSession, source: str) -> None:
    if source == "provider_config":
        made, lines = await load_logged(http, REFUSED)
    else:
        async with web_service(json(REFUSED)) as service:
            made, lines = await load_logged(http, OPENAI_URL_INSTRUCTIONS=service.url)
    check_accepted(made)
    changes = {
        "list_up": "parameters.all: items added to an array",
        "say": "left out, because it must have parameters of the type object",
    }
    assert [(line["source"], line["number"], line["tools"]) for line in lines] == [(source, 2, changes)]


async def test_the_variables_tools_are_mended_without_a_line_a_call(http: aiohttp.ClientSession) -> None:
    made, lines = await load_logged(http, OPENAI_SESSION=json_module.dumps(REFUSED))
    check_accepted(made)
    assert lines == []
    assert audio_input(await load(http, OPENAI_LANGUAGE="pt-BR"))["transcription"]["language"] == "pt"


# The safety identifier.

SAFETY = {"SAFETY_IDENTIFIER_SECRET": "a-secret-of-the-test"}


async def test_openai_gets_a_safety_identifier_of_the_caller(http: aiohttp.ClientSession) -> None:
    made = await load(http, **SAFETY)
    identifier = made.headers["OpenAI-Safety-Identifier"]
    assert identifier == safety_identifier.of_call(SecretStr(SAFETY["SAFETY_IDENTIFIER_SECRET"]), METADATA)
    assert len(identifier) == 64
    # Another worker, which does not know the number, sends the same.
    again = CallProfile.from_record(made.to_record(), made.secrets(), settings())
    assert again.headers["OpenAI-Safety-Identifier"] == identifier
    assert "OpenAI-Safety-Identifier" in (await load(http, {"api_key": "sk-of-tenant-7"}, **SAFETY)).headers


@pytest.mark.parametrize(
    "variables",
    [
        {},
        SAFETY | {"OPENAI_BASE_URL": "wss://api.x.ai/v1"},
        SAFETY | {"OPENAI_BASE_URL": "https://me.openai.azure.com"},
        SAFETY | {"OPENAI_BASE_URL": "wss://api.openai.com.example/v1"},
        SAFETY | {"OPENAI_BASE_URL": "ws://127.0.0.1:9"},
    ],
)
async def test_nobody_else_gets_a_safety_identifier(
    http: aiohttp.ClientSession, variables: dict[str, str]
) -> None:
    assert "OpenAI-Safety-Identifier" not in (await load(http, **variables)).headers


def nested(levels: int) -> Any:
    return orjson.loads('{"a":' * (levels - 1) + "{}" + "}" * (levels - 1))


# Where the fields of a call may be nested as they like.
ROOMY: list[Callable[[Any], dict[str, Any]]] = [
    lambda deep: {"of_tomorrow": deep},
    lambda deep: {"session": {"of_tomorrow": deep}},
    lambda deep: {"turn_detection": {"type": "server_vad", "of_tomorrow": deep}},
    lambda deep: {"session": {"input_audio_transcription": {"model": "whisper-1", "of_tomorrow": deep}}},
    lambda deep: {"tools": [{"name": "a", "parameters": {"type": "object", "default": deep}}]},
    lambda deep: {"tools": [MCP | {"headers": deep}]},
    lambda deep: {"session": {"tracing": {"metadata": deep}}},
]


@pytest.mark.parametrize("put", ROOMY)
async def test_a_call_of_any_depth_that_is_taken_can_be_remembered(
    http: aiohttp.ClientSession, put: Callable[[Any], dict[str, Any]]
) -> None:
    plain = await load(http)
    for levels in range(MAX_LEVELS - 8, MAX_LEVELS + 12):
        config = put(nested(levels))
        made = await profile_loading.load(
            settings(), uuid=UUID, metadata=METADATA, provider_config=config, http=http
        )
        payload = wire.encode(wire.Profile(made.to_record(), made.secrets()), 1)[wire.HEAD_BYTES :]
        record = wire.decode_control(wire.Profile, memoryview(payload))
        assert CallProfile.from_record(record.record, record.secrets, settings()) == made
        assert made == plain or not is_too_deep(config)


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 2000])
async def test_an_answer_that_is_too_deep_is_said_to_be(http: aiohttp.ClientSession, levels: int) -> None:
    body = '{"of_tomorrow":' * levels + "1" + "}" * levels
    async with web_service(text(body)) as service:
        _, lines = await load_logged(http, OPENAI_URL_INSTRUCTIONS=service.url)
    assert [line["reason"] for line in lines] == [f"the answer is nested deeper than {MAX_LEVELS} levels"]


@pytest.mark.parametrize(
    ("variables", "given", "source"),
    [
        ({}, {}, "default"),
        ({"OPENAI_INSTRUCTIONS": "Be kind."}, {}, "OPENAI_INSTRUCTIONS"),
        ({"OPENAI_SESSION": '{"instructions": "Be brief."}'}, {}, "OPENAI_SESSION"),
        ({"OPENAI_PROMPT_ID": "pmpt_1"}, {}, "stored prompt"),
        ({"OPENAI_INSTRUCTIONS": "Be kind."}, {"instructions": "Be quick."}, "provider_config"),
        ({"OPENAI_INSTRUCTIONS": "Be kind."}, {"voice": "cedar"}, "OPENAI_INSTRUCTIONS"),
    ],
)
async def test_a_prompt_says_where_it_comes_from(
    http: aiohttp.ClientSession, variables: dict[str, str], given: dict[str, Any], source: str
) -> None:
    made = await load(http, given, **variables)
    assert made.prompt_as_json()["from"] == source
    again = CallProfile.from_record(made.to_record(), {}, settings(**variables))
    assert again.prompt_as_json() == made.prompt_as_json()


async def test_a_prompt_of_a_file_or_the_web_names_it(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    file = written(tmp_path, "From the file.")
    made = await load(http, OPENAI_FILE_INSTRUCTIONS=str(file))
    assert made.prompt_as_json() == {
        "from": "OPENAI_FILE_INSTRUCTIONS",
        "stored_id": None,
        "stored_version": None,
        "characters": 14,
        "beginning": "From the file.",
    }
    async with web_service(json({"system": "s" * 1000})) as asked:
        made = await load(http, OPENAI_URL_INSTRUCTIONS=asked.url, OPENAI_FILE_INSTRUCTIONS=str(file))
    shown = made.prompt_as_json()
    assert (shown["from"], shown["characters"]) == ("OPENAI_URL_INSTRUCTIONS", 1000)
    assert shown["beginning"] == "s" * PROMPT_BEGINNING_CHARACTERS


async def test_a_prompt_that_the_calls_api_changed_says_so(http: aiohttp.ClientSession) -> None:
    made = await load(http)
    assert made.changed({"instructions": "Speak slowly."}, settings()).prompt_as_json()["from"] == "calls API"
    assert made.changed({"tool_choice": "none"}, settings()).prompt_as_json()["from"] == "default"
