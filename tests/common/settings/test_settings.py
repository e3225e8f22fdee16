from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from redis.asyncio.connection import parse_url

from common.audio.wav import write_wav
from common.errors import SettingsError
from common.net.json_depth import MAX_LEVELS
from common.net.tls import TlsFiles
from common.observe.log_options import LogLevel
from common.settings.child_settings import ChildSettings
from common.settings.models import VOICES
from common.settings.openai_fields import Eagerness, TurnDetection
from common.settings.role_secrets import is_withheld
from common.settings.roles import Role
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from tests.certificates import Authority

KEY = "sk-proj-0123456789abcdef"
UNSET_BY_DEFAULT = (
    "openai_url_instructions",
    "openai_file_instructions",
    "openai_temperature",
    "openai_reasoning_effort",
    "openai_turn_detection_eagerness",
    "openai_turn_detection_threshold",
    "openai_turn_detection_silence_ms",
    "openai_turn_detection_prefix_padding_ms",
    "openai_turn_detection_idle_timeout_ms",
    "openai_noise_reduction",
    "openai_speed",
    "openai_tool_choice",
    "openai_tracing",
    "openai_truncation",
    "openai_organization",
    "openai_project",
    "safety_identifier_secret",
    "openai_prompt_id",
    "openai_prompt_version",
    "openai_prompt_variables",
    "openai_mcp_servers",
    "openai_session",
    "silence_hangup_seconds",
    "max_call_seconds",
    "prices_file",
    "fallback_extension",
    "avr_tools_dir",
)
# OpenAI has announced that the default transcription model is to go: that line alone is there by default.
DEFAULT_NOTICES = Settings.parse({"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://h"}, Role.WORKER).notices
NEEDED = {"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://127.0.0.1:6379/0"}


def parse(role: Role = Role.WORKER, /, **variables: str) -> Settings:
    return Settings.parse(NEEDED | variables, role)


def refusal(role: Role = Role.WORKER, /, **variables: str) -> str:
    """Return why the start stops, with STRICT_SETTINGS: values that are replaced without it are refused, too."""
    with pytest.raises(SettingsError) as caught:
        Settings.parse(NEEDED | {"STRICT_SETTINGS": "true"} | variables, role)
    return str(caught.value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Unset all variables of the service, and use an empty working directory."""
    for name in os.environ:
        if name.lower() in Settings.model_fields or name.startswith("AVR_STS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_defaults_are_the_contracts() -> None:
    settings = parse()
    assert (settings.port, settings.admin_port, settings.worker_port) == (6030, 9090, 7000)
    assert settings.openai_base_url == "wss://api.openai.com/v1/realtime"
    assert settings.openai_model == "gpt-realtime-2.1"
    assert settings.openai_voice == "alloy"
    assert settings.openai_instructions is None
    assert settings.openai_max_tokens == "inf"
    assert settings.openai_language is None
    assert settings.openai_transcription_model == "gpt-transcribe"
    assert settings.openai_turn_detection is TurnDetection.SERVER_VAD
    assert settings.upstream_retry_seconds == 30
    assert settings.workers == len(os.sched_getaffinity(0))
    assert settings.dispatchers == 1
    assert settings.worker_max_calls == 200
    assert settings.worker_address is None
    assert (settings.log_level, settings.log_format) == (LogLevel.INFO, None)
    assert settings.openai_audio_format is AudioFormat.PCM
    assert settings.openai_welcome_message is None
    assert settings.openai_welcome_interruptible is True
    assert settings.ami_url == "http://127.0.0.1:6006"
    assert settings.tools_dir == Path("tools")
    assert settings.tool_timeout_seconds == 20
    assert settings.dtmf_timeout_ms == 1500
    assert settings.grouping_ms == "auto"
    assert settings.sessions_per_second == 50
    for name in UNSET_BY_DEFAULT:
        assert getattr(settings, name) is None, name


@pytest.mark.parametrize(
    ("variables", "folders"),
    [
        ({}, ("tools", "avr_tools")),
        ({"TOOLS_DIR": "/usr/src/app/tools"}, ("/usr/src/app/tools", "/usr/src/app/avr_tools")),
        ({"TOOLS_DIR": "../mine"}, ("../mine", "../avr_tools")),
        ({"TOOLS_DIR": "."}, (".", "../avr_tools")),
        ({"AVR_TOOLS_DIR": "/avr"}, ("tools", "/avr")),
    ],
)
def test_avr_tools_are_beside_the_tools(variables: dict[str, str], folders: tuple[str, str]) -> None:
    assert parse(**variables).tools_dirs == tuple(map(Path, folders))


@pytest.mark.parametrize(("role", "seconds"), [(Role.SERVE, 8), (Role.DISPATCHER, 3600), (Role.WORKER, 30)])
def test_an_unset_drain_time_depends_on_the_role(role: Role, seconds: float) -> None:
    assert parse(role).drain_seconds == seconds
    assert parse(role, DRAIN_SECONDS="2.5").drain_seconds == 2.5


@pytest.mark.parametrize("written", ['"marin"', "'marin'", "  marin ", "Marin", '" marin "', "MARIN\n"])
def test_quotes_space_and_capitals_around_a_choice_do_not_matter(written: str) -> None:
    assert parse(OPENAI_VOICE=written).openai_voice == "marin"


@pytest.mark.parametrize(
    "written", ["REDIS_URL,MY_KEY", "REDIS_URL, MY_KEY", "REDIS_URL MY_KEY", '["REDIS_URL", "MY_KEY"]']
)
def test_names_of_variables_are_a_list(written: str) -> None:
    assert parse(TOOLS_ENV=written).tools_env == ["REDIS_URL", "MY_KEY"]


@pytest.mark.parametrize("written", ["REDIS-URL", "A=1", "[1]", '{"A": 1}'])
def test_an_invalid_variable_name_is_refused(written: str) -> None:
    assert refusal(TOOLS_ENV=written).endswith("must be names of variables, with commas between them")


@pytest.mark.parametrize("written", ["", "  ", '""', "''", '" "'])
def test_an_empty_value_is_an_unset_one(written: str) -> None:
    settings = parse(
        OPENAI_VOICE=written,
        PORT=written,
        OPENAI_LANGUAGE=written,
        STS_TOKEN=written,
        AMI_URL=written,
        OPENAI_SESSION=written,
        OPENAI_WELCOME_MESSAGE=written,
        OPENAI_WELCOME_INTERRUPTIBLE=written,
        MAX_CALL_SECONDS=written,
    )
    assert (settings.openai_voice, settings.port, settings.openai_language) == ("alloy", 6030, None)
    assert settings.ami_url == "http://127.0.0.1:6006"
    assert (settings.openai_session, settings.openai_welcome_message, settings.max_call_seconds) == (None,) * 3
    assert settings.openai_welcome_interruptible is True
    assert settings.notices == DEFAULT_NOTICES
    assert "OPENAI_API_KEY is not set" in refusal(OPENAI_API_KEY=written)


def test_only_one_pair_of_quotes_is_taken_off() -> None:
    assert parse(OPENAI_INSTRUCTIONS="\"'Hello' is enough'\"").openai_instructions == "'Hello' is enough'"
    assert parse(OPENAI_INSTRUCTIONS='say "hello"').openai_instructions == 'say "hello"'
    assert parse(OPENAI_INSTRUCTIONS='"').openai_instructions == '"'


def test_two_characters_make_a_line_break_in_instructions() -> None:
    assert parse(OPENAI_INSTRUCTIONS=r'"Be kind.\nBe brief."').openai_instructions == "Be kind.\nBe brief."


@pytest.mark.parametrize(
    ("written", "language"),
    [
        ("auto", None),
        ("AUTO", None),
        ("it", "it"),
        ("pt-BR", "pt"),
        ("zh_Hant_TW", "zh"),
        ("EN", "en"),
        ("tlh", "tlh"),
    ],
)
def test_a_language_has_no_region_and_auto_is_none(written: str, language: str | None) -> None:
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
def test_every_form_of_the_base_url_gives_one_realtime_url(written: str) -> None:
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
    assert semantic.notices == DEFAULT_NOTICES
    assert parse(OPENAI_TURN_DETECTION="none").openai_turn_detection is TurnDetection.NONE


@pytest.mark.parametrize(
    "password", ["plain", "p@ss:w/rd?#&=%41+ é", "$(HOME)", "[::1]", "' #x", "a b", "x" * 500]
)
@pytest.mark.parametrize("url", ["redis://h:6380/1", "rediss://user@[::1]:6380/1", "unix:///run/redis.sock"])
def test_password_beside_the_url_reaches_redis_unchanged(url: str, password: str) -> None:
    settings = parse(REDIS_URL=url, REDIS_URL_PASSWORD=password)
    assert settings.redis_address is not None
    connection = parse_url(settings.redis_address)
    assert connection.pop("password") == password
    assert connection == parse_url(url)
    assert settings.redis_url == url


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"REDIS_URL": "redis://:a@h", "REDIS_URL_PASSWORD": "hunter2"},
            "REDIS_URL_PASSWORD is set, and REDIS_URL has a password: set one of them",
        ),
        (
            {"REDIS_URL": "redis://h", "REDIS_URL_PASSWORD": "hunter2\nsecond"},
            "REDIS_URL_PASSWORD must be text without line breaks and other control characters",
        ),
        (
            {"REDIS_URL": "redis+sentinel://:a@h/calls", "REDIS_URL_PASSWORD": "hunter2"},
            "REDIS_URL_PASSWORD is set, and REDIS_URL has a password: set one of them",
        ),
        (
            {"REDIS_URL": "redis+sentinel://h/calls?sentinel_password=a", "REDIS_SENTINEL_PASSWORD": "hunter2"},
            "REDIS_SENTINEL_PASSWORD is set, and REDIS_URL has a sentinel_password: set one of them",
        ),
        (
            {"REDIS_URL": "redis://h", "REDIS_SENTINEL_PASSWORD": "hunter2"},
            "REDIS_SENTINEL_PASSWORD is set, and REDIS_URL names no sentinels: write them as "
            "redis+sentinel://host:port,host:port/service, or unset the password",
        ),
    ],
)
def test_wrong_password_of_redis_stops_the_start_unshown(variables: dict[str, str], told: str) -> None:
    assert refusal(**variables) == told


def test_password_without_a_redis_url_stops_serve() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL_PASSWORD is set without REDIS_URL: set REDIS_URL too"):
        Settings.parse({"OPENAI_API_KEY": KEY, "REDIS_URL_PASSWORD": "hunter2"}, Role.SERVE)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://:p@h:6380/1",
        "unix:///run/redis.sock",
        "redis+sentinel://h/calls",
        "rediss+sentinel://user:p@h:26379,[::1]:26379,i/calls/2?sentinel_password=a",
    ],
)
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
        ("OPENAI_MODEL", "gpt-4o-realtime-preview-2024-12-17", "use gpt-realtime-2.1"),
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
        ("OPENAI_TURN_DETECTION_SILENCE_MS", "0.5", "a whole number from 0 to 10000"),
        ("OPENAI_TURN_DETECTION_IDLE_TIMEOUT_MS", "1000", "a whole number from 5000 to 30000"),
        ("OPENAI_URL_INSTRUCTIONS", "ftp://h/x", "http or https"),
        ("OPENAI_TEMPERATURE", "hot", "a number from 0 to 2"),
        ("OPENAI_REASONING_EFFORT", "maximal", "minimal, low, medium, high, xhigh"),
        ("OPENAI_REASONING_EFFORT", "none", "minimal, low, medium, high, xhigh"),
        ("OPENAI_AUDIO_FORMAT", "opus", "pcm, pcmu, pcma"),
        ("OPENAI_NOISE_REDUCTION", "yes", "near_field, far_field"),
        ("OPENAI_SPEED", "2", "a number from 0.25 to 1.5"),
        ("OPENAI_TOOL_CHOICE", "look up", "auto, none, required, the name of a function"),
        ("OPENAI_TOOL_CHOICE", '{"type": "mcp"}', "auto, none, required, the name of a function"),
        ("OPENAI_TRACING", "on", "auto, or a JSON object"),
        ("OPENAI_TRACING", '{"group_id": 1}', "auto, or a JSON object"),
        ("OPENAI_TRUNCATION", "0.8", "auto, disabled, or JSON"),
        ("OPENAI_TRUNCATION", '{"type": "retention_ratio"}', "0 to 1"),
        ("OPENAI_ORGANIZATION", "my org", "one word"),
        ("OPENAI_PROMPT_VARIABLES", "Rome", "a JSON object of texts"),
        ("OPENAI_PROMPT_VARIABLES", '{"n": 1}', "a JSON object of texts"),
        ("OPENAI_WELCOME_INTERRUPTIBLE", "maybe", "true or false"),
        ("AMI_URL", "avr-ami:6006", "http or https"),
        ("TOOL_TIMEOUT_SECONDS", "0", "a number from 0.1 to 3600"),
        ("DTMF_TIMEOUT_MS", "-1", "a whole number from 0 to 60000"),
        ("SILENCE_HANGUP_SECONDS", "0.5", "a number from 1 to 86400"),
        ("MAX_CALL_SECONDS", "1h", "a number from 1 to 86400"),
        ("UPSTREAM_RETRY_SECONDS", "-1", "a number from 0 to 3600"),
        ("REDIS_URL", "127.0.0.1:6379", "redis://host:port/db"),
        ("REDIS_URL", "sentinel://one:26379", "redis+sentinel://host:port,host:port/service/db"),
        ("REDIS_URL", "redis+sentinel://one:26379,two:26379", "must name the service of the sentinels"),
        ("WORKERS", "0", "a whole number from 1 to 256"),
        ("DISPATCHERS", "two", "a whole number from 1 to 256"),
        ("WORKER_MAX_CALLS", "1e3", "a whole number from 1 to 100000"),
        ("DRAIN_SECONDS", "inf", "a number from 0 to 86400"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("LOG_FORMAT", "xml", "json, console"),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_and_choices(name: str, written: str, allowed: str) -> None:
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
        {"REDIS_URL": f"redis+sentinel://:{KEY}@one,two"},
        {"REDIS_URL": f"redis+sentinel://:pass/{KEY}@one,two/calls"},
        {"REDIS_URL": f"redis+sentinel://one,two?sentinel_password={KEY}"},
        {"REDIS_URL": f"sentinel://:{KEY}@one;sentinel://:{KEY}@two"},
        {"OPENAI_URL_INSTRUCTIONS": f"ftp://user:{KEY}@h/x?token={KEY}"},
        {"OPENAI_MCP_SERVERS": f'[{{"server_label": "a b", "authorization": "{KEY}"}}]'},
        {"OPENAI_MCP_SERVERS": KEY},
        {"OPENAI_SESSION": f'{{"tools": [{{"authorization": "{KEY}"}}]}}'},
        {"OPENAI_SESSION": KEY},
        {"STS_TOKEN": KEY[:15]},
        {"STS_TOKEN": f"{KEY} {KEY}"},
        {"CLUSTER_TOKEN": f"{KEY}\n"[:8]},
        {"CLUSTER_TOKEN": f"{KEY}è"},
        {"ADMIN_TOKEN": KEY[:12]},
        {"SAFETY_IDENTIFIER_SECRET": KEY[:12]},
        {"SAFETY_IDENTIFIER_SECRET": f"{KEY} {KEY}"},
        {"CLUSTER_TLS_KEY": KEY},
        {"TLS_CERT": "/no/such/file", "TLS_KEY": KEY},
    ],
)
def test_no_refusal_shows_a_secret(variables: dict[str, str]) -> None:
    told = refusal(Role.SERVE, **variables)
    assert KEY[:8] not in told
    assert any(told.startswith(name) for name in variables)


def test_the_key_is_not_in_the_settings_own_words() -> None:
    settings = parse(
        REDIS_URL="redis://:secret@redis",
        OPENAI_URL_INSTRUCTIONS="http://me:secret@tenants/?key=secret",
        OPENAI_MCP_SERVERS='[{"server_label": "a", "server_url": "https://a", "authorization": "secret"}]',
        OPENAI_SESSION='{"tools": [{"server_label": "a", "server_url": "https://a", "authorization": "secret"}]}',
    )
    assert KEY not in f"{settings!r} {settings!s} {settings.model_dump()}"
    assert "secret" not in repr(settings).replace("call_records_secret", "")
    assert settings.openai_api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    ("role", "needed"),
    [
        (Role.SERVE, ["OPENAI_API_KEY"]),
        (Role.DISPATCHER, ["REDIS_URL"]),
        (Role.WORKER, ["OPENAI_API_KEY", "REDIS_URL"]),
    ],
)
def test_each_role_names_its_missing_settings(role: Role, needed: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({}, role)
    assert [line.split(" is not set: ")[0] for line in str(caught.value).splitlines()] == needed


TOKENS = ("STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN")


@pytest.mark.parametrize(
    ("role", "name"), [(role, name) for role in Role for name in TOKENS if not is_withheld(name, role)]
)
def test_a_token_is_taken_and_hidden(name: str, role: Role) -> None:
    settings = parse(role, **{name: f' "{"t0ken" * 5}" '})
    token = getattr(settings, name.lower())
    assert isinstance(token, SecretStr)
    assert token.get_secret_value() == "t0ken" * 5
    assert "t0ken" not in f"{settings!r} {settings.model_dump()}"
    assert settings.notices == (DEFAULT_NOTICES if role is not Role.DISPATCHER else ())


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_that_can_be_guessed_is_refused(name: str) -> None:
    assert parse(Role.SERVE, **{name: "x" * 16}).notices == DEFAULT_NOTICES
    assert refusal(Role.SERVE, **{name: "x" * 15}) == (
        f"{name} is shorter than 16 characters, and may be guessed: let `openssl rand -hex 32` make one"
    )
    assert refusal(Role.SERVE, **{name: "x" * 16 + " y"}).startswith(
        f"{name} has spaces, line breaks or characters beyond"
    )
    assert getattr(parse(), name.lower()) is None


def test_tls_takes_files_that_are_there(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    port = {"TLS_CERT": str(files.cert), "TLS_KEY": str(files.key)}
    link = {f"CLUSTER_{name}": path for name, path in port.items()} | {"CLUSTER_TLS_CA": str(files.ca)}
    settings = parse(Role.SERVE, **port, **link)
    assert settings.tls == TlsFiles(files.cert, files.key)
    assert settings.cluster_tls == files
    assert (parse().tls, parse().cluster_tls) == (None, None)


def test_tls_that_cannot_work_stops_the_start(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue()
    assert refusal(Role.DISPATCHER, TLS_CERT=str(files.cert)) == "TLS_CERT set, but not TLS_KEY: set both, or none"
    told = refusal(Role.SERVE, TLS_CERT="/no/such/file", TLS_KEY=str(files.key))
    assert told == "TLS_CERT='/no/such/file' must be a PEM file that can be read: No such file or directory"
    for role in Role:
        told = refusal(role, CLUSTER_TLS_CERT=str(files.cert), CLUSTER_TLS_KEY=str(files.key))
        assert told == "CLUSTER_TLS_CERT, CLUSTER_TLS_KEY set, but not CLUSTER_TLS_CA: set all three, or none"


def test_a_worker_needs_no_certificate_of_port() -> None:
    assert parse(Role.WORKER, TLS_CERT="/not/mounted/here", TLS_KEY="/nor/this").notices == DEFAULT_NOTICES


@pytest.mark.parametrize("written", ["near_field", '"NEAR_FIELD"'])
def test_noise_reduction_is_set(written: str) -> None:
    assert parse(OPENAI_NOISE_REDUCTION=written).openai_noise_reduction == "near_field"


@pytest.mark.parametrize("written", ["off", "none", "", "OFF", "null"])
def test_words_for_off_unset_a_setting(written: str) -> None:
    settings = parse(OPENAI_NOISE_REDUCTION=written, OPENAI_TRACING=written, MAX_CALL_SECONDS=written)
    assert (settings.openai_noise_reduction, settings.openai_tracing, settings.max_call_seconds) == (None,) * 3


def test_a_limit_of_0_is_none() -> None:
    settings = parse(SILENCE_HANGUP_SECONDS="0", MAX_CALL_SECONDS="3600")
    assert (settings.silence_hangup_seconds, settings.max_call_seconds) == (None, 3600)


@pytest.mark.parametrize(
    ("written", "interruptible"),
    [("true", True), ("TRUE", True), ("1", True), ("yes", True), ("false", False), ("0", False), ('"no"', False)],
)
def test_a_boolean_is_read_in_every_written_form(written: str, interruptible: bool) -> None:
    assert parse(OPENAI_WELCOME_INTERRUPTIBLE=written).openai_welcome_interruptible is interruptible


@pytest.mark.parametrize(
    ("written", "choice"),
    [
        ("auto", "auto"),
        ("Required", "required"),
        ("look_up", {"type": "function", "name": "look_up"}),
        ('{"type": "function", "name": "look_up"}', {"type": "function", "name": "look_up"}),
        ('{"type": "mcp", "server_label": "crm"}', {"type": "mcp", "server_label": "crm"}),
    ],
)
def test_tool_choice_is_a_word_a_function_or_json(written: str, choice: object) -> None:
    assert parse(OPENAI_TOOL_CHOICE=written).openai_tool_choice == choice


def test_json_with_the_escapes_of_compose_is_read() -> None:
    for written in ('{"a": "b"}', '\'{"a": "b"}\'', r'"{\"a\": \"b\"}"'):
        assert parse(OPENAI_SESSION=written).openai_session == {"a": "b"}


def test_an_mcp_server_needs_no_type_and_no_approval() -> None:
    servers = '[{"server_label": "crm", "server_url": "https://crm/mcp", "authorization": "s3cret"}]'
    assert parse(OPENAI_MCP_SERVERS=servers).openai_mcp_servers == [
        {
            "type": "mcp",
            "server_label": "crm",
            "server_url": "https://crm/mcp",
            "authorization": "s3cret",
            "require_approval": "never",
        }
    ]


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ("[1]", "must be an object"),
        ('{"server_label": "crm"}', "must be a JSON list"),
        ('[{"server_url": "https://crm"}]', "server_label"),
        ('[{"server_label": "crm"}]', "must have a server_url, a connector_id or a tunnel_id"),
        ('[{"server_label": "crm", "server_url": "crm"}]', "http or https"),
        ('[{"server_label": "crm", "server_url": "https://crm", "type": "function"}]', "must have the type mcp"),
        ("[", "is not JSON: "),
    ],
)
def test_a_wrong_mcp_server_stops_the_start(written: str, allowed: str) -> None:
    line = refusal(OPENAI_MCP_SERVERS=written)
    assert line.startswith("OPENAI_MCP_SERVERS ")
    assert allowed in line


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ("[]", "must be a JSON object"),
        ("{", "is not JSON: "),
        ('{"voice": "nova"}', "audio.output.voice must be one of alloy, ash"),
        ('{"audio": {"output": {"voice": 5}}}', "audio.output.voice must be one of alloy, ash"),
        ('{"audio": []}', "audio must be an object"),
        ('{"output_modalities": ["text"]}', "a telephone call has only sound"),
        ('{"type": "transcription"}', "type must be one of realtime"),
        ('{"model": "gpt-4o-realtime-preview"}', "use gpt-realtime-2.1"),
        ('{"audio": {"input": {"format": {"type": "audio/pcmu"}}}}', "audio.output.format must be the same"),
    ],
)
def test_a_wrong_field_of_the_session_stops_the_start(written: str, allowed: str) -> None:
    line = refusal(OPENAI_SESSION=written)
    assert line.startswith("OPENAI_SESSION ")
    assert allowed in line


@pytest.mark.parametrize("model", ["gpt-4o-realtime-preview", "gpt-4o-mini-realtime-preview-2024-12-17"])
def test_a_preview_model_is_replaced_at_openai_alone(model: str) -> None:
    replacement = "gpt-realtime-2.1-mini" if "mini" in model else "gpt-realtime-2.1"
    for url in ("https://api.openai.com/v1", "wss://eu.api.openai.com/v1/realtime"):
        assert parse(OPENAI_MODEL=model, OPENAI_BASE_URL=url).openai_model == replacement
        assert refusal(OPENAI_MODEL=model, OPENAI_BASE_URL=url).endswith(f"use {replacement}")
    for url in ("http://127.0.0.1:9000", "https://me.openai.azure.com", "wss://api.openai.com.example/v1"):
        assert parse(OPENAI_MODEL=model, OPENAI_BASE_URL=url).openai_model == model


def test_voices_efforts_and_turn_detection_follow_the_service() -> None:
    xai = {"OPENAI_BASE_URL": "wss://api.x.ai/v1/realtime"}
    settings = parse(**xai, OPENAI_VOICE="Rex", OPENAI_REASONING_EFFORT="none")
    assert (settings.openai_voice, settings.openai_reasoning_effort) == ("rex", "none")
    assert "must be one of eve, ara, rex, sal, leo" in refusal(**xai, OPENAI_VOICE="alloy")
    assert "must be one of none, high" in refusal(**xai, OPENAI_REASONING_EFFORT="low")
    assert "must be one of server_vad, none" in refusal(**xai, OPENAI_TURN_DETECTION="semantic_vad")
    azure = {"OPENAI_BASE_URL": "https://me.openai.azure.com"}
    assert "must be one of alloy, ash" in refusal(**azure, OPENAI_VOICE="eve")
    other = {"OPENAI_BASE_URL": "ws://127.0.0.1:9000"}
    assert parse(**other, OPENAI_VOICE="Chelsie").openai_voice == "Chelsie"
    assert "a name without space" in refusal(**other, OPENAI_VOICE="Chelsie the second")


def test_a_service_without_openais_models_has_other_defaults() -> None:
    settings = parse(OPENAI_BASE_URL="https://api.x.ai/v1")
    assert (settings.openai_model, settings.openai_voice) == ("grok-voice-latest", "eve")
    assert settings.openai_transcription_model == "whisper-1"
    settings = parse(OPENAI_BASE_URL="ws://127.0.0.1:9000")
    assert (settings.openai_model, settings.openai_voice) == ("gpt-realtime-2.1", "alloy")
    assert settings.openai_transcription_model == "gpt-transcribe"


def test_a_wrong_base_url_gets_the_only_line() -> None:
    line = refusal(OPENAI_BASE_URL="api.x.ai/v1", OPENAI_VOICE="eve", OPENAI_MODEL="gpt-4o-realtime-preview")
    assert line.startswith("OPENAI_BASE_URL=")
    assert "\n" not in line


def test_two_ports_of_a_process_differ_unless_they_are_0() -> None:
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
    with pytest.raises(SettingsError, match="STS_TOKEN is shorter than 16"):
        Settings.load(Role.SERVE)


@pytest.mark.usefixtures("environment")
def test_an_env_file_that_is_no_text_is_refused() -> None:
    Path(".env").write_bytes(b"PORT=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        Settings.load(Role.SERVE)


def test_settings_from_serve_reach_a_child(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert ChildSettings.load() is None
    told = ChildSettings(index=3, ready_fd=9, metrics_dir=tmp_path)
    for name, value in told.environment().items():
        environment.setenv(name, value)
    assert ChildSettings.load() == told


class TestRecordings:
    def test_choices_are_taken_in_any_case(self) -> None:
        settings = parse(FALLBACK_WAV="Builtin", FILLER_WAV="Off")
        assert (settings.fallback_wav, settings.filler_wav) == ("builtin", "none")

    @pytest.mark.parametrize("variable", ["FALLBACK_WAV", "FILLER_WAV"])
    def test_a_missing_file_stops_the_start(self, tmp_path: Path, variable: str) -> None:
        path = tmp_path / "sorry.wav"
        assert refusal(Role.DISPATCHER, **{variable: str(path)}) == (
            f"{variable}={str(path)!r} must be a WAV file (PCM or G.711) of at most 20 s, builtin or none: "
            "file not found"
        )

    @pytest.mark.parametrize(
        ("samples", "reason"), [(8000 * 20 + 8000, "it lasts 21.0 s"), (0, "it has no sound")]
    )
    def test_a_file_of_wrong_length_stops_the_start(self, tmp_path: Path, samples: int, reason: str) -> None:
        path = tmp_path / "sorry.wav"
        write_wav(path, bytes(2 * samples))
        for role in (Role.DISPATCHER, Role.SERVE):
            assert refusal(role, FALLBACK_WAV=str(path)).endswith(f"builtin or none: {reason}")

    def test_a_worker_needs_no_files(self) -> None:
        assert parse(Role.WORKER, FALLBACK_WAV="/nowhere.wav").fallback_wav == "/nowhere.wav"

    @pytest.mark.parametrize("written", ["600", "*98", "support@from-internal", "+391234@a_b-c"])
    def test_an_extension_may_have_a_context(self, written: str) -> None:
        assert parse(FALLBACK_EXTENSION=written).fallback_extension == written

    @pytest.mark.parametrize("written", ["6 00", "600@", "@demo", "600@a b", "600@a@b", "600,1", "6" * 80])
    def test_an_extension_of_other_characters_is_refused(self, written: str) -> None:
        assert "FALLBACK_EXTENSION" in refusal(FALLBACK_EXTENSION=written)
        assert "must be exten or exten@context" in refusal(FALLBACK_EXTENSION=written)


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 97, 300, 5000])
@pytest.mark.parametrize(
    ("variable", "around"),
    [
        ("OPENAI_SESSION", '{"of_tomorrow":%s}'),
        ("OPENAI_SESSION", '{"tools":[{"name":"a","parameters":{"default":%s}}]}'),
        ("OPENAI_MCP_SERVERS", '[{"server_label":"a","server_url":"https://a","headers":%s}]'),
        ("OPENAI_TRACING", '{"metadata":%s}'),
        ("OPENAI_TRUNCATION", '{"type":"retention_ratio","retention_ratio":0.5,"a":%s}'),
        ("OPENAI_TOOL_CHOICE", '{"type":"mcp","server_label":"a","b":%s}'),
        ("OPENAI_PROMPT_VARIABLES", '{"a":{"b":%s}}'),
        ("OPENAI_PROMPT_VARIABLES", '{\\"a\\":{\\"b\\":%s}}'),
    ],
)
def test_json_that_is_too_deep_stops_the_start_with_one_line(variable: str, around: str, levels: int) -> None:
    said = refusal(**{variable: around % deep(levels)})
    assert said.startswith(variable)
    assert said.endswith(f" is nested deeper than {MAX_LEVELS} levels")
    assert "\n" not in said


def test_json_of_just_the_limit_is_taken() -> None:
    assert parse(OPENAI_SESSION='{"of_tomorrow":' + deep(MAX_LEVELS - 1) + "}").openai_session is not None


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("https://phone.example", ["https://phone.example"]),
        ("https://Phone.example/, http://localhost:3000", ["https://phone.example", "http://localhost:3000"]),
        ('["https://a.example","https://b.example:8443"]', ["https://a.example", "https://b.example:8443"]),
        ("http://[::1]:8080 https://a.example:443", ["http://[::1]:8080", "https://a.example"]),
        ("", None),
    ],
)
def test_origins_are_taken_as_browsers_write_them(written: str, origins: list[str] | None) -> None:
    assert parse(Role.DISPATCHER, ALLOWED_ORIGINS=written).allowed_origins == origins


@pytest.mark.parametrize(
    "written", ["*", "phone.example", "wss://phone.example", "https://a/path", "https://u@a", "[1]"]
)
def test_an_invalid_origin_is_refused(written: str) -> None:
    assert "must be origins of web pages" in refusal(Role.DISPATCHER, ALLOWED_ORIGINS=written)


class TestTransfers:
    def test_only_internal_extensions_are_permitted_by_default(self) -> None:
        settings = parse()
        assert (settings.transfer_context, settings.transfer_allowed) == ("demo", None)

    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            ("600", ["600"]),
            (" internal , +39021@out,_00X. ", ["internal", "+39021@out", "_00X."]),
            ('["internal", 600]', ["internal", "600"]),
            ("none", []),
            ("", None),
        ],
    )
    def test_destinations_are_a_list(self, written: str, meant: list[str] | None) -> None:
        assert parse(TRANSFER_ALLOWED=written).transfer_allowed == meant

    @pytest.mark.parametrize(
        "written", ["600;601", ",", "[", "[]", '{"a": 1}', "_[3-1]", "600@a b", ",".join(["600"] * 257)]
    )
    def test_a_wrong_destination_stops_the_start(self, written: str) -> None:
        assert refusal(TRANSFER_ALLOWED=written).startswith("TRANSFER_ALLOWED=")

    @pytest.mark.parametrize("written", ["a b", "demo,1", "démo"])
    def test_a_wrong_context_stops_the_start(self, written: str) -> None:
        assert "TRANSFER_CONTEXT" in refusal(TRANSFER_CONTEXT=written)


def test_the_secrets_of_the_settings_are_all_found() -> None:
    settings = parse(
        Role.SERVE,
        OPENAI_API_KEY="key-of-openai",
        STS_TOKEN="token-of-avr-core",
        CLUSTER_TOKEN="token-of-cluster",
        ADMIN_TOKEN="token-of-admin-api",
        SAFETY_IDENTIFIER_SECRET="secret-of-numbers",
        REDIS_URL="redis://user:pass-of-redis@redis:6379/0",
        OPENAI_URL_INSTRUCTIONS="https://me:pass-of-service@h/?api_key=key-of-service&lang=it",
        AMI_URL="http://ami:pass-of-ami@127.0.0.1:6006",
        OPENAI_MCP_SERVERS='[{"server_label": "a", "server_url": "https://a", "authorization": "auth-of-a"}]',
        OPENAI_SESSION='{"tools": [{"server_label": "b", "server_url": "https://b", "headers": {"X": "head-b"}}]}',
    )
    assert settings.secrets == {
        *("key-of-openai", "token-of-avr-core", "token-of-cluster", "token-of-admin-api", "secret-of-numbers"),
        *("pass-of-redis", "pass-of-service", "key-of-service", "pass-of-ami", "auth-of-a", "head-b"),
    }


def test_every_secret_setting_is_among_the_secrets() -> None:
    fields = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    values = {name.upper(): f"secret-value-of-{name}" for name in fields}
    values["REDIS_URL"] = "redis+sentinel://here/calls"
    assert parse(Role.SERVE, **values).secrets == set(values.values()) - {values["REDIS_URL"]}
