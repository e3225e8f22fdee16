"""Which wrong settings start with another value and a warning, and which stop the start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from openai.types.realtime import RealtimeSessionCreateRequest

from common.settings.fallbacks import HARMLESS
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.common.settings.parsing import NEEDED, parse, refusal

WRONG_BUT_HARMLESS: Final = {
    "openai_model": ("gpt-4o-realtime-preview", "gpt-realtime-2.1"),
    "openai_voice": ("nova", "alloy"),
    "openai_temperature": ("-1", 0.0),
    "openai_max_tokens": ("8192", 4096),
    "openai_reasoning_effort": ("hihg", "high"),
    "openai_language": ("the caller's", None),
    "openai_turn_detection": ("semantic", "semantic_vad"),
    "openai_turn_detection_eagerness": ("hi", "high"),
    "openai_turn_detection_threshold": ("-0.2", 0.0),
    "openai_turn_detection_silence_ms": ("20000", 10_000),
    "openai_turn_detection_prefix_padding_ms": ("-1", 0),
    "openai_turn_detection_idle_timeout_ms": ("1000", 5_000),
    "openai_noise_reduction": ("near", "near_field"),
    "openai_speed": ("2", 1.5),
}
# With the other settings at their defaults.
WITHOUT_EFFECT: Final = {
    "openai_temperature": "; OPENAI_TEMPERATURE has no effect with OPENAI_MODEL=gpt-realtime-2.1: "
    "GA sessions have no temperature",
    "openai_turn_detection_eagerness": "; OPENAI_TURN_DETECTION_EAGERNESS has no effect with "
    "OPENAI_TURN_DETECTION=server_vad",
}
WRONG_AND_FATAL: Final = {
    "port": "abc",
    "admin_port": "65536",
    "worker_port": "-1",
    "worker_address": "ws://10.0.0.1",
    "openai_api_key": "a b",
    "openai_base_url": "api.openai.com",
    "openai_url_instructions": "ftp://h/x",
    "openai_file_instructions": "/nowhere/instructions.txt",
    "openai_transcription_model": "gpt transcribe",
    "openai_audio_format": "opus",
    "openai_tool_choice": "look up",
    "openai_tracing": "on",
    "openai_truncation": "0.8",
    "openai_organization": "my org",
    "openai_project": "my project",
    "safety_identifier_secret": "short",
    "openai_prompt_id": "p 1",
    "openai_prompt_version": "v 1",
    "openai_prompt_variables": "Rome",
    "openai_mcp_servers": "{}",
    "openai_session": "[]",
    "openai_welcome_interruptible": "maybe",
    "ami_url": "avr-ami:6006",
    "transfer_context": "a b",
    "transfer_allowed": "600;601",
    "tool_timeout_seconds": "0",
    "tools_env": "A=1",
    "dtmf_timeout_ms": "-1",
    "silence_hangup_seconds": "0.5",
    "max_call_seconds": "1h",
    "prices_file": "/nowhere/prices.json",
    "upstream_retry_seconds": "-1",
    "fallback_wav": "/nowhere/sorry.wav",
    "fallback_extension": "6 00",
    "filler_wav": "/nowhere/tones.wav",
    "filler_after_ms": "soon",
    "call_records_metadata": "[1]",
    "call_records_text": "maybe",
    "call_records_dir": "/nowhere/records",
    "call_records_webhook": "ftp://receiver",
    "call_records_secret": "short",
    "call_records_keep_seconds": "week",
    "call_records_max_bytes": "1000",
    "call_records_redis_url": "127.0.0.1:6379",
    "call_records_redact": "redact",
    "recordings_keep_seconds": "-1",
    "recordings_max_bytes": "1 GB",
    "https_proxy": "ftp://proxy",
    "http_proxy": "socks5://proxy",
    "tenant_key": "two words",
    "tenants": "two words",
    "redis_url": "127.0.0.1:6379",
    "redis_url_password": "two\nlines",
    "redis_sentinel_password": "two\nlines",
    "sts_token": "short",
    "allowed_origins": "*",
    "tls_cert": "/nowhere/cert.pem",
    "tls_key": "/nowhere/key.pem",
    "cluster_token": "short",
    "cluster_tls_cert": "/nowhere/cert.pem",
    "cluster_tls_key": "/nowhere/key.pem",
    "cluster_tls_ca": "/nowhere/ca.pem",
    "admin_token": "short",
    "page_calls": "maybe",
    "workers": "0",
    "dispatchers": "two",
    "worker_max_calls": "1e3",
    "sessions_per_second": "0",
    "call_reconnect_seconds": "-1",
    "session_rollover_seconds": "0",
    "grouping_ms": "automatic",
    "drain_seconds": "inf",
    "log_level": "loud",
    "log_format": "xml",
    "strict_settings": "maybe",
}
# Any text is right: a folder that is missing is named in a notice, or is created.
NEVER_WRONG: Final = frozenset(
    {
        "openai_instructions",
        "openai_welcome_message",
        "answer_failed_text",
        "tools_dir",
        "avr_tools_dir",
        "no_proxy",
        "recordings_dir",
    }
)


def test_every_setting_is_on_one_side() -> None:
    assert WRONG_BUT_HARMLESS.keys() == HARMLESS
    assert WRONG_BUT_HARMLESS.keys() | WRONG_AND_FATAL.keys() | NEVER_WRONG == set(Settings.model_fields)
    assert not WRONG_BUT_HARMLESS.keys() & WRONG_AND_FATAL.keys()


@pytest.mark.parametrize("name", WRONG_BUT_HARMLESS)
def test_a_harmless_wrong_value_starts_with_one_warning(name: str) -> None:
    written, used = WRONG_BUT_HARMLESS[name]
    settings = parse(**{name.upper(): written})
    assert getattr(settings, name) == used
    (line,) = (each for each in settings.notices if name.upper() in each.split("=", 1)[0])
    assert line.startswith(f"{name.upper()}={written!r} ") or line.startswith(f'{name.upper()}="{written}" ')
    if name in WITHOUT_EFFECT:
        assert line.endswith(WITHOUT_EFFECT[name])
    else:
        assert line.endswith("; it counts as unset" if used is None else f"; {used} is used instead")


@pytest.mark.parametrize("name", WRONG_AND_FATAL)
def test_any_other_wrong_value_stops_the_start(name: str) -> None:
    assert name.upper() in refusal(**{name.upper(): WRONG_AND_FATAL[name]})


@pytest.mark.parametrize("name", WRONG_BUT_HARMLESS)
@pytest.mark.parametrize("on", ["true", "1", '"yes"'])
def test_strict_settings_refuse_every_fallback(name: str, on: str) -> None:
    written, _ = WRONG_BUT_HARMLESS[name]
    line = refusal(**{name.upper(): written, "STRICT_SETTINGS": on})
    assert line.startswith(f"{name.upper()}=")
    assert "\n" not in line
    assert "instead" not in line


def test_strict_settings_name_all_fallbacks_and_faults_at_once() -> None:
    lines = refusal(STRICT_SETTINGS="true", OPENAI_VOICE="nova", OPENAI_SPEED="9", PORT="x").splitlines()
    assert [line.split("=")[0] for line in lines] == ["PORT", "OPENAI_VOICE", "OPENAI_SPEED"]


def test_a_fault_beside_a_fallback_gets_the_only_line() -> None:
    assert refusal(OPENAI_VOICE="nova", PORT="x").startswith("PORT='x' ")


@pytest.mark.parametrize(
    ("name", "written", "used"),
    [
        ("openai_max_tokens", "unlimited", "inf"),
        ("openai_max_tokens", "0", "inf"),
        ("openai_max_tokens", "-1", "inf"),
        ("openai_max_tokens", "100.0", 100),
        ("openai_temperature", "hot", None),
        ("openai_temperature", "nan", None),
        ("openai_temperature", "-1", 0.0),
        ("openai_turn_detection_silence_ms", "499.6", 500),
        ("openai_turn_detection_silence_ms", "inf", 10_000),
        ("openai_turn_detection_silence_ms", "1e400", 10_000),
        ("openai_speed", "0,9", 0.9),
        ("openai_reasoning_effort", "maximum", "xhigh"),
        ("openai_reasoning_effort", "?", None),
        ("openai_voice", "Cedr", "cedar"),
        ("openai_voice", "two words", "alloy"),
        ("openai_turn_detection", "vad", "server_vad"),
        ("openai_turn_detection_eagerness", "hihg", "high"),
        ("openai_noise_reduction", "far-field", "far_field"),
        ("openai_noise_reduction", "yes", None),
        ("openai_language", "Italian", "it"),
        ("openai_language", "english please", "en"),
        ("openai_model", "gpt realtime", "gpt-realtime-2.1"),
    ],
)
def test_the_nearest_right_value_is_used(name: str, written: str, used: object) -> None:
    assert getattr(parse(**{name.upper(): written}), name) == used


@pytest.mark.parametrize(
    ("name", "written", "used"),
    [
        ("openai_voice", "alloy", "eve"),
        ("openai_voice", "Helixx", "helix"),
        ("openai_reasoning_effort", "low", None),
        ("openai_turn_detection", "semantic_vad", "server_vad"),
    ],
)
def test_right_values_are_those_of_the_service(name: str, written: str, used: object) -> None:
    settings = parse(**{"OPENAI_BASE_URL": "wss://api.x.ai/v1", name.upper(): written})
    assert getattr(settings, name) == used
    assert len(settings.notices) == 1


def test_a_fallback_shows_no_secret_and_is_short() -> None:
    key = NEEDED["OPENAI_API_KEY"]
    (line,) = parse(OPENAI_VOICE=key).notices
    assert key not in line
    (line,) = parse(OPENAI_VOICE="x" * 10_000).notices
    assert len(line) < 500


def test_a_dispatcher_is_silent_about_values_that_workers_use() -> None:
    settings = parse(Role.DISPATCHER, OPENAI_VOICE="nova")
    assert (settings.openai_voice, settings.notices) == ("alloy", ())
    assert refusal(Role.DISPATCHER, OPENAI_VOICE="nova", STRICT_SETTINGS="true").startswith("OPENAI_VOICE=")


def test_a_replaced_value_has_one_line_also_without_effect() -> None:
    beta = {"OPENAI_MODEL": "gpt-4o-realtime-preview", "OPENAI_BASE_URL": "ws://127.0.0.1:9000"}
    assert parse(**beta, OPENAI_TEMPERATURE="2.5").notices == (
        "OPENAI_TEMPERATURE='2.5' must be a number from 0 to 2; 2.0 is used instead",
    )
    assert parse(**beta, OPENAI_REASONING_EFFORT="hihg").notices == (
        "OPENAI_REASONING_EFFORT='hihg' must be one of none, minimal, low, medium, high, xhigh; "
        "OPENAI_REASONING_EFFORT has no effect with OPENAI_MODEL=gpt-4o-realtime-preview: "
        "the beta dialect has no such field",
    )


def test_defaults_start_under_strict_settings() -> None:
    assert parse(STRICT_SETTINGS="true").notices == ()


def test_a_missing_file_stops_only_its_readers() -> None:
    for name in ("OPENAI_FILE_INSTRUCTIONS", "PRICES_FILE"):
        line = refusal(Role.WORKER, **{name: "/nowhere/file"})
        assert line == f"{name}='/nowhere/file' cannot be read: No such file or directory"
        assert parse(Role.DISPATCHER, **{name: "/nowhere/file"}).notices == ()


def test_strict_settings_end_serve_with_78(tmp_path: Path) -> None:
    ours = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "common.runtime.cli", "serve"],
        cwd=tmp_path,
        env=environment | {"OPENAI_API_KEY": "k", "OPENAI_VOICE": "nova", "STRICT_SETTINGS": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 78
    assert "OPENAI_VOICE='nova' must be one of alloy" in ended.stderr


@pytest.mark.parametrize(
    ("model", "used"),
    [
        ("gpt-3.5-turbo", "gpt-realtime-2.1"),
        ("gpt-4o", "gpt-realtime-2.1"),
        ("GPT-4o-mini", "gpt-realtime-2.1-mini"),
        ("gpt-5-nano", "gpt-realtime-2.1-mini"),
        ("gpt-5.2-codex", "gpt-realtime-2.1"),
        ("o3", "gpt-realtime-2.1"),
        ("whisper-1", "gpt-realtime-2.1"),
        ("deepseek/deepseek-chat-v3-0324:free", "gpt-realtime-2.1"),
    ],
)
def test_a_model_without_voice_is_replaced_at_openai_alone(model: str, used: str) -> None:
    settings = parse(OPENAI_MODEL=model)
    assert settings.openai_model == used
    assert settings.notices == (
        f"OPENAI_MODEL={model!r} is not a model of the Realtime API at OpenAI: use {used}; {used} is used instead",
    )
    assert refusal(OPENAI_MODEL=model, STRICT_SETTINGS="true").endswith(f"at OpenAI: use {used}")
    for url in ("https://me.openai.azure.com", "ws://127.0.0.1:9000"):
        assert parse(OPENAI_MODEL=model, OPENAI_BASE_URL=url).openai_model == model


def models_of_the_api() -> list[str]:
    """Return the models that the `openai` package lists for Realtime sessions."""
    annotation = RealtimeSessionCreateRequest.model_fields["model"].annotation
    found = re.findall(r"'((?:gpt|whisper)[\w.-]+)'", str(annotation))
    assert "gpt-realtime-2.1" in found
    return [each for each in found if "preview" not in each]


@pytest.mark.parametrize(
    "model", [*models_of_the_api(), "gpt-realtime-3", "ft:gpt-realtime-2.1:acme", "gpt-6-voice"]
)
def test_a_voice_model_is_not_replaced(model: str) -> None:
    settings = parse(OPENAI_MODEL=model)
    assert settings.openai_model == model
    assert not [line for line in settings.notices if "instead" in line]


def test_the_model_of_a_session_must_have_a_voice_at_openai() -> None:
    session = '{"model": "gpt-4o-mini"}'
    assert refusal(OPENAI_SESSION=session) == (
        "OPENAI_SESSION model is not a model of the Realtime API at OpenAI: use gpt-realtime-2.1-mini"
    )
    elsewhere = parse(OPENAI_SESSION=session, OPENAI_BASE_URL="ws://127.0.0.1:9000")
    assert elsewhere.openai_session == {"model": "gpt-4o-mini"}


def test_each_start_warns_of_a_replaced_model() -> None:
    for _ in range(2):
        (line,) = parse(OPENAI_MODEL="gpt-4o-realtime-preview").notices
        assert line.startswith("OPENAI_MODEL='gpt-4o-realtime-preview' was removed by OpenAI")
