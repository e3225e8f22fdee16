from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from common.errors import SettingsError
from common.setting_values import VOICES
from common.settings import (
    REFUSED,
    WITHOUT_EFFECT,
    ChildSettings,
    Eagerness,
    LogFormat,
    LogLevel,
    Role,
    Settings,
    TurnDetection,
)

KEY = "sk-proj-0123456789abcdef"
NEEDED = {"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://127.0.0.1:6379/0"}


def parse(role: Role = Role.WORKER, /, **variables: str) -> Settings:
    return Settings.parse(NEEDED | variables, role)


def refusal(role: Role = Role.WORKER, /, **variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(NEEDED | variables, role)
    return str(caught.value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No variable of ours is set, and the working directory is empty."""
    for name in os.environ:
        if name.lower() in Settings.model_fields or name.startswith("AVR_STS_"):
            monkeypatch.delenv(name)
    for name in (*REFUSED, *WITHOUT_EFFECT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_defaults_are_the_contracts() -> None:
    settings = parse()
    assert (settings.port, settings.admin_port, settings.worker_port) == (6030, 9090, 7000)
    assert settings.openai_base_url == "wss://api.openai.com/v1/realtime"
    assert settings.openai_model == "gpt-realtime-2"
    assert settings.openai_voice == "alloy"
    assert settings.openai_instructions == "You are a helpful assistant."
    assert settings.openai_max_tokens == "inf"
    assert settings.openai_language is None
    assert settings.openai_transcription_model == "whisper-1"
    assert settings.openai_turn_detection is TurnDetection.SERVER_VAD
    assert settings.upstream_retry_seconds == 30
    assert settings.workers == len(os.sched_getaffinity(0))
    assert settings.dispatchers == 1
    assert settings.worker_max_calls == 200
    assert settings.worker_address is None
    assert (settings.log_level, settings.log_format) == (LogLevel.INFO, LogFormat.JSON)
    assert settings.notices == ()


@pytest.mark.parametrize(("role", "seconds"), [(Role.SERVE, 8), (Role.DISPATCHER, 3600), (Role.WORKER, 30)])
def test_how_long_a_drain_lasts_depends_on_the_role_unless_it_is_set(role: Role, seconds: float) -> None:
    assert parse(role).drain_seconds == seconds
    assert parse(role, DRAIN_SECONDS="2.5").drain_seconds == 2.5


@pytest.mark.parametrize("written", ['"marin"', "'marin'", "  marin ", "Marin", '" marin "', "MARIN\n"])
def test_quotes_space_and_capitals_around_a_choice_do_not_matter(written: str) -> None:
    assert parse(OPENAI_VOICE=written).openai_voice == "marin"


@pytest.mark.parametrize("written", ["", "  ", '""', "''", '" "'])
def test_an_empty_value_is_an_unset_one(written: str) -> None:
    settings = parse(
        OPENAI_VOICE=written, PORT=written, OPENAI_LANGUAGE=written, STS_TOKEN=written, AMI_URL=written
    )
    assert (settings.openai_voice, settings.port, settings.openai_language) == ("alloy", 6030, None)
    assert settings.notices == ()
    assert "OPENAI_API_KEY is not set" in refusal(OPENAI_API_KEY=written)


def test_only_one_pair_of_quotes_is_taken_off() -> None:
    assert parse(OPENAI_INSTRUCTIONS="\"'Hello' is enough'\"").openai_instructions == "'Hello' is enough'"
    assert parse(OPENAI_INSTRUCTIONS='say "hello"').openai_instructions == 'say "hello"'
    assert parse(OPENAI_INSTRUCTIONS='"').openai_instructions == '"'


def test_a_line_break_in_the_instructions_is_written_as_two_characters() -> None:
    assert parse(OPENAI_INSTRUCTIONS=r'"Be kind.\nBe brief."').openai_instructions == "Be kind.\nBe brief."


@pytest.mark.parametrize(
    ("written", "language"), [("auto", None), ("AUTO", None), ("it", "it"), ("pt-BR", "pt-BR")]
)
def test_language_auto_is_none(written: str, language: str | None) -> None:
    assert parse(OPENAI_LANGUAGE=written).openai_language == language


@pytest.mark.parametrize(("written", "tokens"), [("inf", "inf"), ("INF", "inf"), ("1", 1), ('"4096"', 4096)])
def test_max_tokens_is_a_number_or_inf(written: str, tokens: int | str) -> None:
    assert parse(OPENAI_MAX_TOKENS=written).openai_max_tokens == tokens


@pytest.mark.parametrize(
    "written",
    [
        "wss://api.openai.com/v1/realtime",
        "wss://api.openai.com/v1/realtime/",
        "wss://api.openai.com/v1",
        "https://api.openai.com/v1/",
        "HTTPS://api.openai.com/v1/realtime",
    ],
)
def test_the_realtime_url_is_the_same_however_the_base_url_is_written(written: str) -> None:
    assert parse(OPENAI_BASE_URL=written).realtime_url == "wss://api.openai.com/v1/realtime"


@pytest.mark.parametrize(
    "written", ["http://127.0.0.1:8080", "ws://127.0.0.1:8080/", "ws://127.0.0.1:8080/realtime"]
)
def test_the_realtime_url_of_a_plain_address_is_not_encrypted(written: str) -> None:
    assert parse(OPENAI_BASE_URL=written).realtime_url == "ws://127.0.0.1:8080/realtime"


@pytest.mark.parametrize("voice", [*VOICES, "voice_68a1Bc"])
def test_the_ten_voices_and_custom_ones_are_taken(voice: str) -> None:
    assert parse(OPENAI_VOICE=voice).openai_voice == voice


def test_details_of_turn_detection() -> None:
    settings = parse(
        OPENAI_TURN_DETECTION_THRESHOLD="0.7",
        OPENAI_TURN_DETECTION_SILENCE_MS="400",
        OPENAI_TURN_DETECTION_PREFIX_PADDING_MS="0",
        OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS="6000",
    )
    assert settings.openai_turn_detection_threshold == 0.7
    assert settings.openai_turn_detection_silence_ms == 400
    assert settings.openai_turn_detection_prefix_padding_ms == 0
    assert settings.openai_turn_detection_idle_timeout_ms == 6000
    semantic = parse(OPENAI_TURN_DETECTION="Semantic_VAD", OPENAI_TURN_DETECTION_EAGERNESS="LOW")
    assert semantic.openai_turn_detection is TurnDetection.SEMANTIC_VAD
    assert semantic.openai_turn_detection_eagerness is Eagerness.LOW
    assert semantic.notices == ()


@pytest.mark.parametrize("url", ["redis://h", "rediss://:p@h:6380/1", "unix:///run/redis.sock"])
def test_redis_urls(url: str) -> None:
    assert parse(REDIS_URL=url).redis_url == url


@pytest.mark.parametrize(
    ("name", "written", "allowed"),
    [
        ("PORT", "abc", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("ADMIN_PORT", "-1", "a whole number from 0 to 65535"),
        ("WORKER_PORT", "tcp://10.0.0.1:7000", "a whole number from 0 to 65535"),
        ("WORKER_ADDRESS", "10.0.0.1:7000", "WORKER_PORT"),
        ("WORKER_ADDRESS", "ws://10.0.0.1", "WORKER_PORT"),
        ("OPENAI_BASE_URL", "api.openai.com", "ws, wss, http or https"),
        ("OPENAI_BASE_URL", "ftp://api.openai.com", "ws, wss, http or https"),
        ("OPENAI_BASE_URL", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2", "OPENAI_MODEL"),
        ("OPENAI_BASE_URL", "wss://api.openai.com:port", "must be a URL"),
        ("OPENAI_MODEL", "gpt-4o-realtime-preview-2024-12-17", "use gpt-realtime-2"),
        ("OPENAI_MODEL", "gpt realtime", "one word"),
        ("OPENAI_VOICE", "nova", "alloy, ash, ballad"),
        ("OPENAI_MAX_TOKENS", "0", "1 to 4096, or inf"),
        ("OPENAI_MAX_TOKENS", "4097", "1 to 4096, or inf"),
        ("OPENAI_MAX_TOKENS", "many", "1 to 4096, or inf"),
        ("OPENAI_LANGUAGE", "english please", "language code"),
        ("OPENAI_TURN_DETECTION", "vad", "server_vad, semantic_vad, none"),
        ("OPENAI_TURN_DETECTION_EAGERNESS", "very", "low, medium, high, auto"),
        ("OPENAI_TURN_DETECTION_THRESHOLD", "1.1", "a number from 0 to 1"),
        ("OPENAI_TURN_DETECTION_THRESHOLD", "nan", "a number from 0 to 1"),
        ("OPENAI_TURN_DETECTION_SILENCE_MS", "0.5", "a whole number from 0 to 60000"),
        ("UPSTREAM_RETRY_SECONDS", "-1", "a number from 0 to 3600"),
        ("REDIS_URL", "127.0.0.1:6379", "redis://host:port/db"),
        ("WORKERS", "0", "a whole number from 1 to 256"),
        ("DISPATCHERS", "two", "a whole number from 1 to 256"),
        ("WORKER_MAX_CALLS", "1e3", "a whole number from 1 to 100000"),
        ("DRAIN_SECONDS", "inf", "a number from 0 to 86400"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "json, console"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_variable_value_and_what_is_allowed(
    name: str, written: str, allowed: str
) -> None:
    line = refusal(**{name: written})
    assert line.startswith(f"{name}={written!r} ")
    assert allowed in line
    assert "\n" not in line


def test_every_wrong_setting_gets_a_line() -> None:
    lines = refusal(PORT="x", LOG_LEVEL="y", OPENAI_API_KEY="").splitlines()
    assert [line.split("=")[0].split()[0] for line in lines] == ["PORT", "LOG_LEVEL", "OPENAI_API_KEY"]


def test_a_long_value_is_shown_in_part() -> None:
    assert len(refusal(OPENAI_VOICE="x" * 10_000)) < 400


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENAI_API_KEY": f"Bearer {KEY}"},
        {"OPENAI_API_KEY": f"{KEY}\n{KEY}"},
        {"OPENAI_MODEL": f"{KEY}-realtime-preview"},
        {"OPENAI_VOICE": KEY},
        {"OPENAI_BASE_URL": f"wss://api.openai.com/v1?api-key={KEY}"},
        {"OPENAI_BASE_URL": f"wss://user:{KEY}@api.openai.com/v1"},
        {"REDIS_URL": f"http://:{KEY}@redis"},
        {"REDIS_URL": f":{KEY}@redis:6379"},
        {"REDIS_URL": f"redis://:pass/{KEY}@redis:6379"},
        {"STS_TOKEN": KEY},
        {"CLUSTER_TOKEN": KEY},
        {"TLS_KEY": KEY},
    ],
)
def test_no_refusal_shows_a_secret(variables: dict[str, str]) -> None:
    assert KEY not in refusal(**variables)


def test_the_key_is_not_in_the_settings_own_words() -> None:
    settings = parse(REDIS_URL="redis://:secret@redis")
    assert KEY not in f"{settings!r} {settings!s} {settings.model_dump()}"
    assert "secret" not in repr(settings)
    assert settings.openai_api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        (Role.SERVE, ["OPENAI_API_KEY"]),
        (Role.DISPATCHER, ["REDIS_URL"]),
        (Role.WORKER, ["OPENAI_API_KEY", "REDIS_URL"]),
    ],
)
def test_each_role_names_what_it_cannot_do_without(role: Role, needed: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({}, role)
    assert [line.split(" is not set: ")[0] for line in str(caught.value).splitlines()] == needed


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("role", Role)
def test_protection_that_this_release_lacks_stops_the_start(name: str, role: Role) -> None:
    assert refusal(role, **{name: "x"}).startswith(f"{name} is set, but")


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_a_variable_without_effect_is_named(name: str) -> None:
    assert parse(**{name: "1"}).notices == (f"{name} has no effect in this release",)


def test_a_detail_of_the_other_turn_detection_is_named() -> None:
    assert parse(OPENAI_TURN_DETECTION="semantic_vad", OPENAI_TURN_DETECTION_THRESHOLD="0.5").notices == (
        "OPENAI_TURN_DETECTION_THRESHOLD has no effect with OPENAI_TURN_DETECTION=semantic_vad",
    )


def test_a_turn_detection_that_this_release_lacks_stops_the_start() -> None:
    assert refusal(OPENAI_TURN_DETECTION="none").startswith("OPENAI_TURN_DETECTION=none is not in this release")


def test_no_variable_has_an_effect_and_none() -> None:
    assert not {name.lower() for name in (*WITHOUT_EFFECT, *REFUSED)} & Settings.model_fields.keys()


def test_two_ports_of_a_process_differ_unless_they_are_any() -> None:
    assert "ADMIN_PORT=6030 is PORT too" in refusal(Role.SERVE, ADMIN_PORT="6030")
    assert "ADMIN_PORT=7000 is WORKER_PORT too" in refusal(Role.WORKER, ADMIN_PORT="7000")
    assert parse(Role.SERVE, PORT="0", ADMIN_PORT="0").port == 0
    assert parse(Role.WORKER, PORT="9090").port == 9090  # a worker has no PORT


def test_variables_of_others_are_ignored() -> None:
    assert parse(HTTP_PORT="x", OPENAI_SOMETHING="y", PATH="/bin").port == 6030


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse().port = 1


def test_every_setting_is_described() -> None:
    for fields in (Settings.model_fields, ChildSettings.model_fields):
        assert all(field.description for field in fields.values())


def test_the_constructor_takes_arguments_alone(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PORT", "7")
    assert Settings().port == 6030
    assert Settings(openai_api_key=SecretStr(KEY), workers=3).workers == 3


def test_the_environment_wins_over_the_env_file(environment: pytest.MonkeyPatch) -> None:
    Path(".env").write_text(f'OPENAI_API_KEY={KEY}\nPORT=1111\nADMIN_PORT="2222"\nOPENAI_INSTRUCTIONS="a\\nb"\n')
    environment.setenv("PORT", "3333")
    environment.setenv("ADMIN_PORT", "")
    settings = Settings.load(Role.SERVE)
    assert (settings.port, settings.admin_port) == (3333, 2222)
    assert settings.openai_api_key.get_secret_value() == KEY
    assert settings.openai_instructions == "a\nb"


@pytest.mark.usefixtures("environment")
def test_the_env_file_can_be_missing_or_refused() -> None:
    with pytest.raises(SettingsError, match="OPENAI_API_KEY is not set"):
        Settings.load(Role.SERVE)
    Path(".env").write_text("STS_TOKEN=abc\n")
    with pytest.raises(SettingsError, match="STS_TOKEN is set"):
        Settings.load(Role.SERVE)


@pytest.mark.usefixtures("environment")
def test_an_env_file_that_is_no_text_is_refused() -> None:
    Path(".env").write_bytes(b"PORT=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        Settings.load(Role.SERVE)


def test_what_serve_tells_a_child_arrives(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ChildSettings.load() is None
    told = ChildSettings(index=3, ready_fd=9, metrics_dir=tmp_path)
    for name, value in told.environment().items():
        environment.setenv(name, value)
    assert ChildSettings.load() == told
