"""The settings of the service: read once from the environment and `.env`, typed and checked.

Nobody else reads the environment. `Settings.load(role)` gives a process its settings or raises
`SettingsError`; `Settings(...)` takes values as arguments alone, for tests and tools. The variable of a field
is its name in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common.errors import SettingsError
from common.redaction import redact
from common.setting_values import (
    DEFAULT_MODEL,
    VOICES,
    Address,
    ApiKey,
    BaseUrl,
    Instructions,
    Language,
    MaxTokens,
    Milliseconds,
    Model,
    Port,
    RedisUrl,
    Voice,
    Word,
    number,
    one_of,
    whole_number,
)

SHOWN_VALUE_CHARACTERS: Final = 80

WITHOUT_EFFECT: Final = (
    "OPENAI_URL_INSTRUCTIONS",
    "OPENAI_FILE_INSTRUCTIONS",
    "OPENAI_TEMPERATURE",
    "OPENAI_REASONING_EFFORT",
    "OPENAI_AUDIO_FORMAT",
    "OPENAI_NOISE_REDUCTION",
    "OPENAI_SPEED",
    "OPENAI_TOOL_CHOICE",
    "OPENAI_TRACING",
    "OPENAI_TRUNCATION",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT",
    "OPENAI_PROMPT_ID",
    "OPENAI_PROMPT_VERSION",
    "OPENAI_PROMPT_VARIABLES",
    "OPENAI_MCP_SERVERS",
    "OPENAI_SESSION",
    "OPENAI_WELCOME_MESSAGE",
    "OPENAI_WELCOME_INTERRUPTIBLE",
    "AMI_URL",
    "TOOLS_DIR",
    "TOOL_TIMEOUT_SECONDS",
    "DTMF_TIMEOUT_MS",
    "SILENCE_HANGUP_SECONDS",
    "MAX_CALL_SECONDS",
    "CALL_RECONNECT_SECONDS",
    "SESSION_ROLLOVER_SECONDS",
    "ADMIN_TOKEN",
)
"""Variables that a later release gives a meaning: set, they are named in a warning."""

REFUSED: Final = {
    "STS_TOKEN": "callers are not asked for a token",
    "TLS_CERT": "PORT does not speak TLS",
    "TLS_KEY": "PORT does not speak TLS",
    "CLUSTER_TOKEN": "dispatchers and workers do not prove it to each other",
}
"""Variables whose protection this release does not have: set, they stop the start, as going on were unsafe."""


class Role(StrEnum):
    """What a process is, which decides the settings it needs."""

    SERVE = "serve"
    DISPATCHER = "dispatcher"
    WORKER = "worker"


class TurnDetection(StrEnum):
    """Who decides that the caller has finished speaking (`OPENAI_TURN_DETECTION`)."""

    SERVER_VAD = "server_vad"
    SEMANTIC_VAD = "semantic_vad"
    NONE = "none"


class Eagerness(StrEnum):
    """How soon `semantic_vad` answers (`OPENAI_TURN_DETECTION_EAGERNESS`)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    AUTO = "auto"


class LogLevel(StrEnum):
    """The least severe lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line is written: for machines or for people."""

    JSON = "json"
    CONSOLE = "console"


DEFAULT_DRAIN_SECONDS: Final = {Role.SERVE: 8.0, Role.DISPATCHER: 3600.0, Role.WORKER: 30.0}

_NEEDED: Final = {
    Role.SERVE: ("openai_api_key",),
    Role.DISPATCHER: ("redis_url",),
    Role.WORKER: ("openai_api_key", "redis_url"),
}

_HOW_TO_SET: Final = {
    "openai_api_key": "set it to a key of your OpenAI account (https://platform.openai.com/api-keys)",
    "redis_url": "set it to the Redis that all dispatchers and workers share, such as redis://redis:6379/0",
}

_DETAILS_OF: Final = {
    TurnDetection.SERVER_VAD: ("threshold", "silence_ms", "prefix_padding_ms", "idle_timeout_ms"),
    TurnDetection.SEMANTIC_VAD: ("eagerness",),
    TurnDetection.NONE: (),
}


def usable_cores() -> int:
    """Cores that this process may run on: those of its affinity mask, where the system has one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """All settings of a process, checked. Immutable: a call keeps those that it opened with.

    Raises:
        pydantic.ValidationError: by the constructor, for a wrong value. `load` and `parse` raise `SettingsError`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=".env", env_file_encoding="utf-8")

    port: Port = Field(default=6030, description="AVR Core's port: WebSocket on any path (dispatcher)")
    admin_port: Port = Field(default=9090, description="HTTP: probes and metrics; the calls API, for loopback")
    worker_port: Port = Field(default=7000, description="the link that dispatchers open (worker in a cluster)")
    worker_address: Address = Field(
        default=None, description="the address that a worker publishes in Redis; unset: this host's"
    )

    openai_api_key: ApiKey = Field(
        default=SecretStr(""), description="the key of your OpenAI account; never logged, shown or stored"
    )
    openai_base_url: BaseUrl = Field(
        default="wss://api.openai.com/v1/realtime",
        description="the Realtime API: ws, wss, http or https, with or without /realtime",
    )
    openai_model: Model = Field(
        default=DEFAULT_MODEL, description="the Realtime model; *-realtime-preview* is refused"
    )
    openai_voice: Voice = Field(
        default="alloy", description=f"{', '.join(VOICES)}, or a custom voice id (voice_...)"
    )
    openai_instructions: Instructions = Field(
        default="You are a helpful assistant.", description="what the agent is and does; \\n is a line break"
    )
    openai_max_tokens: MaxTokens = Field(default="inf", description="1 to 4096 or inf, for each response")
    openai_language: Language = Field(
        default=None, description="the caller's language, for the transcription; auto or unset: detected"
    )
    openai_transcription_model: Word = Field(default="whisper-1", description="transcribes the caller")
    openai_turn_detection: Annotated[TurnDetection, one_of(TurnDetection)] = Field(
        default=TurnDetection.SERVER_VAD, description="server_vad, semantic_vad or none"
    )
    openai_turn_detection_eagerness: Annotated[Eagerness, one_of(Eagerness)] | None = Field(
        default=None, description="semantic_vad: low, medium, high or auto"
    )
    openai_turn_detection_threshold: Annotated[float, number(0, 1)] | None = Field(
        default=None, description="server_vad: how loud speech is, 0 to 1"
    )
    openai_turn_detection_silence_ms: Milliseconds | None = Field(
        default=None, description="server_vad: the silence that ends a turn"
    )
    openai_turn_detection_prefix_padding_ms: Milliseconds | None = Field(
        default=None, description="server_vad: audio kept from before the speech was noticed"
    )
    openai_turn_detection_idle_timeout_ms: Milliseconds | None = Field(
        default=None, description="server_vad: the silence after which the agent asks whether the caller is there"
    )

    upstream_retry_seconds: Annotated[float, number(0, 3600)] = Field(
        default=30, description="how long a call waits for a Realtime session that cannot be opened"
    )
    redis_url: RedisUrl = Field(
        default=None, repr=False, description="redis://, rediss:// or unix://; unset in serve: an embedded one"
    )
    workers: Annotated[int, whole_number(1, 256)] = Field(
        default_factory=usable_cores, description="worker processes of serve; unset: the number of cores"
    )
    dispatchers: Annotated[int, whole_number(1, 256)] = Field(
        default=1, description="dispatcher processes of serve, which share PORT"
    )
    worker_max_calls: Annotated[int, whole_number(1, 100_000)] = Field(
        default=200, description="calls that one worker takes at most"
    )
    drain_seconds: Annotated[float, number(0, 86_400)] = Field(
        default=DEFAULT_DRAIN_SECONDS[Role.WORKER],
        description="how long SIGTERM waits; unset: 30 for a worker, 3600 for a dispatcher, 8 for serve",
    )
    log_level: Annotated[LogLevel, one_of(LogLevel)] = Field(
        default=LogLevel.INFO, description="debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, one_of(LogFormat)] = Field(
        default=LogFormat.JSON, description="json or console"
    )

    _notices: tuple[str, ...] = PrivateAttr(())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Lets the constructor take arguments alone: what the environment says comes through `load`."""
        return (init_settings,)

    @classmethod
    def load(cls, role: Role) -> Settings:
        """Reads the environment and `.env` in the working directory; the environment wins.

        Raises:
            SettingsError: see `parse`.
        """
        try:
            env_file = DotEnvSettingsSource(cls).env_vars
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f".env cannot be read: {error}") from None
        return cls._checked({**_as_meant(env_file), **_as_meant(EnvSettingsSource(cls).env_vars)}, role)

    @classmethod
    def parse(cls, variables: Mapping[str, str], role: Role) -> Settings:
        """Reads `variables` as `load` reads the environment.

        Raises:
            SettingsError: one line for each variable that is wrong, missing or not supported by this release:
                its name, its value (never a secret) and what is allowed.
        """
        return cls._checked(_as_meant(variables), role)

    @classmethod
    def _checked(cls, values: Mapping[str, str], role: Role) -> Settings:
        problems = [
            f"{name} is set, but in this release {reason}: unset it, and protect the service another way"
            for name, reason in REFUSED.items()
            if name.lower() in values
        ]
        given: dict[str, Any] = {name: values[name] for name in cls.model_fields if name in values}
        try:
            settings = cls(**({"drain_seconds": DEFAULT_DRAIN_SECONDS[role]} | given))
        except ValidationError as error:
            problems += [_problem(each["loc"], each["input"], each["msg"]) for each in error.errors()]
        else:
            problems += settings._conflicts(role)
        problems += [
            f"{name.upper()} is not set: {_HOW_TO_SET[name]}" for name in _NEEDED[role] if name not in given
        ]
        if problems:
            raise SettingsError("\n".join(problems))
        settings._notices = tuple(settings._without_effect(values))
        return settings

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each variable that is set and has no effect."""
        return self._notices

    @property
    def realtime_url(self) -> str:
        """`openai_base_url` as ws(s)://.../realtime, without query and trailing slash."""
        url = urlsplit(self.openai_base_url)
        scheme = {"http": "ws", "https": "wss"}.get(url.scheme, url.scheme)
        path = url.path.rstrip("/").removesuffix("/realtime")
        return f"{scheme}://{url.netloc}{path}/realtime"

    def _conflicts(self, role: Role) -> list[str]:
        other = "worker_port" if role is Role.WORKER else "port"
        taken = getattr(self, other)
        problems = []
        if taken and taken == self.admin_port:
            problems.append(f"ADMIN_PORT={taken} is {other.upper()} too: give each its own")
        if self.openai_turn_detection is TurnDetection.NONE:
            problems.append("OPENAI_TURN_DETECTION=none is not in this release: use server_vad or semantic_vad")
        return problems

    def _without_effect(self, variables: Mapping[str, str]) -> list[str]:
        unused = [f"{name} has no effect in this release" for name in WITHOUT_EFFECT if name.lower() in variables]
        mode = self.openai_turn_detection
        unused += [
            f"OPENAI_TURN_DETECTION_{detail.upper()} has no effect with OPENAI_TURN_DETECTION={mode}"
            for other, details in _DETAILS_OF.items()
            for detail in details
            if other is not mode and f"openai_turn_detection_{detail}" in variables
        ]
        return unused


class ChildSettings(BaseSettings):
    """What `serve` tells the processes that it starts. Set by the supervisor alone, never by people."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="AVR_STS_")

    index: int = Field(default=0, description="which of its role this process is, from 0")
    ready_fd: int = Field(default=-1, description="takes a line when the process is ready")
    metrics_dir: Path = Field(default=Path(), description="where all processes keep their metrics")

    @classmethod
    def load(cls) -> ChildSettings | None:
        """Returns None for a process that `serve` did not start."""
        child = cls()
        return child if child.model_fields_set else None

    def environment(self) -> dict[str, str]:
        """The variables from which the child's `load` makes the same."""
        return {f"AVR_STS_{name.upper()}": str(getattr(self, name)) for name in type(self).model_fields}


def _as_meant(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Lower-case names, values without the space and quotes around them, and nothing that is empty.

    Compose's list form (`- NAME="value"`) and docker's `--env-file` keep the quotes as a part of the value.
    """
    meant = {}
    for name, raw in variables.items():
        value = (raw or "").strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1].strip()
        if value:
            meant[name.lower()] = value
    return meant


def _problem(location: tuple[int | str, ...], value: object, message: str) -> str:
    name = str(location[0])
    message = message.removeprefix("Value error, ")
    if name == "openai_api_key":
        return f"{name.upper()} {message}"
    # What stands before an @ may be a password, however the rest is misspelt.
    text = str(value)
    shown = redact(f"***@{text.rpartition('@')[2]}" if "@" in text else text)
    if len(shown) > SHOWN_VALUE_CHARACTERS:
        shown = shown[:SHOWN_VALUE_CHARACTERS] + "..."
    return f"{name.upper()}={shown!r} {message}"
