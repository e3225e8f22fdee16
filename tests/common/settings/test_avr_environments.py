"""The environments that AVR's own projects give the image start the service as they are.

They are written anew from what these files hold in November 2026: avr-infra's Compose file for the Realtime API
and its `.env.example`; avr-app's `agents.service.ts` (`buildEnv`, `extendEnv`) and the templates of its provider
page; the example of AVR's wiki.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from common.settings.roles import Role
from common.settings.settings import Settings

KEY = "sk-proj-0123456789abcdef"
OF_THE_SYSTEM = {"PATH": "/usr/bin:/bin", "HOME": "/root", "HOSTNAME": "a1b2"}

INFRA: Final = {
    "PORT": "6030",
    "OPENAI_API_KEY": KEY,
    "OPENAI_MODEL": "gpt-realtime-2",
    "OPENAI_INSTRUCTIONS": '"You sell train tickets."',
    "OPENAI_VOICE": "alloy",
    "OPENAI_REASONING_EFFORT": "low",
    "OPENAI_TURN_DETECTION": "server_vad",
    "OPENAI_MAX_TOKENS": "inf",
    "AMI_URL": "http://avr-ami:6006",
}
# The sample's values for another service, which the Compose file hands on.
INFRA_WITH_THE_SAMPLE: Final = INFRA | {"OPENAI_MODEL": "gpt-3.5-turbo", "OPENAI_MAX_TOKENS": "100"}
# The same sample as `env_file:`, or with `--env-file`: all of it arrives, for whichever container it is meant.
WHOLE_SAMPLE: Final = INFRA_WITH_THE_SAMPLE | {
    "MY_DOMAIN": "voice.example",
    "ADMIN_USERNAME": "admin",
    "ADMIN_PASSWORD": "change-me",
    "ARI_URL": "http://avr-asterisk:8088/ari",
    "ARI_USERNAME": "avr",
    "ARI_PASSWORD": "avr",
    "DATABASE_HOST": "127.0.0.1",
    "DATABASE_PASSWORD": '""',
    "CORE_PORT_START": "5000",
    "LLM_PORT_START": "7000",
    "AMI_HOST": "avr-asterisk",
    "AMI_PORT": "5038",
    "AMI_USERNAME": "avr",
    "AMI_PASSWORD": "avr",
    "AVR_NETWORK": "avr",
    "AGENT_PROMPT": "",
    "OPENAI_TEMPERATURE": "0.0",
    "OPENAI_ASSISTANT_ID": "asst_1",
    "OPENROUTER_API_KEY": "sk-or-v1-1",
    "OPENROUTER_MODEL": "vendor/model:free",
    "ANTHROPIC_MAX_TOKENS": "1024",
    "DEEPGRAM_API_KEY": "",
    "GEMINI_API_KEY": "",
    "GEMINI_INSTRUCTIONS": '"You sell train tickets."',
    "ULTRAVOX_AGENT_ID": "",
    "XAI_MODEL": "grok-voice-latest",
    "XAI_VOICE": "eve",
    "PUBLIC_CHAT_URL": "http://avr-n8n:5678/webhook/1/chat",
    "CARTESIA_LANGUAGE": "en",
}
# The sample's lines for this service, uncommented, with a comment kept after one, as `--env-file` does.
SAMPLE_UNCOMMENTED: Final = INFRA | {
    "OPENAI_TURN_DETECTION": "semantic_vad  # or server_vad",
    "OPENAI_TURN_DETECTION_EAGERNESS": "medium",
    "OPENAI_TRANSCRIPTION_MODEL": "gpt-transcribe",
    "OPENAI_LANGUAGE": "en",
}
APP: Final = {
    "AGENT_ID": "7b0f2b6e-7f3a-4f0e-9a52-4d0d9c0c1a11",
    "AGENT_NAME": "Front desk",
    "OPENAI_API_KEY": KEY,
    "OPENAI_MODEL": "gpt-4o-realtime-preview",
    "OPENAI_VOICE": "alloy",
    "OPENAI_INSTRUCTIONS": "You are the front desk.",
    "PROVIDER_STS_ID": "4c1d5a1e-0000-4000-8000-000000000001",
    "PROVIDER_STS_NAME": "OpenAI realtime",
    "PROVIDER_STS_TYPE": "STS",
    "PORT": "6523",
    "AMI_URL": "undefined",
}
APP_WITH_A_PROMPT_LIKE_A_URL: Final = {
    **{name: value for name, value in APP.items() if name != "OPENAI_INSTRUCTIONS"},
    "OPENAI_URL_INSTRUCTIONS": "Role: You are the front desk.\nStyle: brief.",
    "AMI_URL": "http://avr-ami:6006",
    "OPENAI_MODEL": "gpt-realtime-2.1",
}
APP_WITH_AN_INSTRUCTIONS_SERVICE: Final = APP | {
    "OPENAI_INSTRUCTIONS": "",
    "OPENAI_URL_INSTRUCTIONS": "http://desk.example/agents?id=1",
    "OPENAI_VOICE": "undefined",
    "OPENAI_LANGUAGE": "it",
}
WIKI: Final = {
    "PORT": "6030",
    "OPENAI_API_KEY": KEY,
    "OPENAI_MODEL": '"gpt-4o-mini-realtime-preview"',
    "OPENAI_VOICE": '"shimmer"',
    "OPENAI_SPEED": "1.0",
    "OPENAI_LANGUAGE": "auto",
    "OPENAI_TEMPERATURE": "0.8",
    "AMI_URL": "http://avr-ami:6006",
}

# What arrives, and the first word of each notice.
ENVIRONMENTS: Final[dict[str, tuple[dict[str, str], dict[str, object], list[str]]]] = {
    "avr-infra": (INFRA, {"openai_model": "gpt-realtime-2", "openai_instructions": "You sell train tickets."}, []),
    "avr-infra with its .env sample": (
        INFRA_WITH_THE_SAMPLE,
        {"openai_model": "gpt-realtime-2.1", "openai_max_tokens": 100},
        ["OPENAI_MODEL='gpt-3.5-turbo'"],
    ),
    "avr-infra's whole .env sample": (
        WHOLE_SAMPLE,
        {"port": 6030, "ami_url": "http://avr-ami:6006"},
        ["OPENAI_MODEL='gpt-3.5-turbo'", "OPENAI_TEMPERATURE"],
    ),
    "avr-infra's .env sample, uncommented": (
        SAMPLE_UNCOMMENTED,
        {"openai_turn_detection": "semantic_vad", "openai_language": "en"},
        ["OPENAI_TURN_DETECTION:"],
    ),
    "avr-app": (
        APP,
        {"port": 6523, "openai_model": "gpt-realtime-2.1", "ami_url": "http://127.0.0.1:6006"},
        ["AMI_URL='undefined'", "OPENAI_MODEL='gpt-4o-realtime-preview'"],
    ),
    "avr-app, a prompt like a URL": (
        APP_WITH_A_PROMPT_LIKE_A_URL,
        {"openai_instructions": "Role: You are the front desk.\nStyle: brief.", "openai_url_instructions": None},
        ["OPENAI_URL_INSTRUCTIONS"],
    ),
    "avr-app, an instructions service": (
        APP_WITH_AN_INSTRUCTIONS_SERVICE,
        {"openai_url_instructions": "http://desk.example/agents?id=1", "openai_voice": "alloy"},
        ["OPENAI_VOICE='undefined'", "AMI_URL='undefined'", "OPENAI_MODEL='gpt-4o-realtime-preview'"],
    ),
    "AVR's wiki": (
        WIKI,
        {"openai_model": "gpt-realtime-2.1-mini", "openai_voice": "shimmer", "openai_language": None},
        ["OPENAI_MODEL='gpt-4o-mini-realtime-preview'", "OPENAI_TEMPERATURE"],
    ),
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_an_environment_of_avr_starts_the_service(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    variables, expected, warned = ENVIRONMENTS[name]
    for each in os.environ:
        monkeypatch.delenv(each)
    for each, value in (OF_THE_SYSTEM | variables | {"TOOLS_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(each, value)
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(Role.SERVE)
    assert {field: getattr(settings, field) for field in expected} == expected
    assert sorted(line.split(" ")[0] for line in settings.notices) == sorted(warned)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_notice_shows_a_key_or_a_prompt(name: str) -> None:
    told = "\n".join(Settings.parse(OF_THE_SYSTEM | ENVIRONMENTS[name][0], Role.SERVE).notices)
    assert KEY not in told
    assert "front desk" not in told


def test_a_key_alone_gives_no_notice() -> None:
    assert Settings.parse({"OPENAI_API_KEY": KEY}, Role.SERVE).notices == ()
    assert Settings.parse({"OPENAI_API_KEY": KEY, "STRICT_SETTINGS": "true"}, Role.SERVE).notices == ()
