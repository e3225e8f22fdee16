"""The settings of the service: read once from the environment and `.env`, typed and checked.

Nobody else reads the environment. `Settings.load(role)` gives a process its settings or raises
`SettingsError`; `Settings(...)` takes values as arguments alone, for tests and tools. The variable of a field
is its name in capitals.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from common.errors import SettingsError
from common.net.proxy import Proxies
from common.net.tls import TlsFiles, problems_of_link, problems_of_port
from common.observe.redaction import secrets_in, secrets_in_url
from common.settings import (
    env_file,
    fallbacks,
    models,
    notices,
    renamed,
    secret_files,
    session_fields,
    unknown_names,
    written_values,
)
from common.settings import problems as setting_problems
from common.settings.cores import usable_cores
from common.settings.extensions import DEFAULT_CONTEXT
from common.settings.models import Service
from common.settings.recordings import BUILTIN, MAX_SECONDS, NONE, problem_of
from common.settings.role_secrets import is_withheld
from common.settings.values import (
    MIN_TOKEN_CHARACTERS,
    Address,
    AmiUrl,
    ApiKey,
    AudioFormat,
    BaseUrl,
    Boolean,
    DialplanContext,
    Extension,
    HttpUrl,
    IdleMilliseconds,
    JsonObject,
    Language,
    LimitSeconds,
    MaxTokens,
    McpServers,
    Milliseconds,
    NoiseReduction,
    NotAllowed,
    OptionalWord,
    Origins,
    Port,
    PromptVariables,
    Prose,
    ProxyUrl,
    ReasoningEffort,
    Recording,
    RedisUrl,
    Sentence,
    Token,
    ToolChoice,
    Tracing,
    TransferAllowed,
    Truncation,
    VadMilliseconds,
    VariableNames,
    Voice,
    Word,
    boolean,
    effort_of,
    model_of,
    number,
    one_of,
    voice_of,
    whole_number,
)
from common.settings.written_values import Remark, Written

ENV_FILE: Final = ".env"


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

SECRETS: Final = (
    *("openai_api_key", "openai_mcp_servers", "openai_session", "safety_identifier_secret"),
    *("redis_url", "sts_token", "cluster_token", "admin_token"),
)
"""Settings that are secrets, or may hold some: NAME_FILE names a file with the value."""

# A wrong value is not shown. Of REDIS_URL all is shown but user and password.
_NEVER_SHOWN: Final = frozenset(
    {name for name in SECRETS if name != "redis_url"}
    # Files; but somebody may set the key itself.
    | {"tls_key", "cluster_tls_key"}
)


class Settings(BaseSettings):
    """All settings of a process, checked. Immutable: a call keeps those that it opened with.

    Raises:
        pydantic.ValidationError: by the constructor, for a wrong value. `load` and `parse` raise `SettingsError`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    port: Port = Field(default=6030, description="AVR Core's port: WebSocket on any path (dispatcher)")
    admin_port: Port = Field(
        default=9090, description="HTTP: probes and metrics; the calls API, for loopback, or with ADMIN_TOKEN"
    )
    worker_port: Port = Field(default=7000, description="the link that dispatchers open (worker in a cluster)")
    worker_address: Address = Field(
        default=None, description="the address that a worker publishes in Redis; unset: this host's"
    )

    openai_api_key: ApiKey = Field(
        default=SecretStr(""), description="the key of your account; never logged, shown or stored"
    )
    openai_base_url: BaseUrl = Field(
        default="wss://api.openai.com/v1/realtime",
        description="the Realtime API: ws, wss, http or https, with or without /realtime; "
        "https://NAME.openai.azure.com, wss://api.x.ai/v1 and compatible services too",
    )
    openai_model: Word = Field(
        default=models.DEFAULT_MODEL,
        description="the Realtime model; at Azure the name of the deployment. *-realtime-preview* is spoken to in "
        "the beta dialect. At OpenAI's own address preview models and models without voice are replaced",
    )
    openai_voice: Voice = Field(
        default=models.DEFAULT_VOICE,
        description=f"{', '.join(models.VOICES)}, or a custom voice id (voice_...); other services have their own",
    )
    openai_instructions: Prose = Field(
        default=None,
        description="what the agent is and does; \\n is a line break, {from}, {to} and other metadata of the call "
        "are filled in; unset: asked of OPENAI_URL_INSTRUCTIONS, else OPENAI_FILE_INSTRUCTIONS, "
        "else: You are a helpful assistant.",
    )
    openai_url_instructions: HttpUrl = Field(
        default=None,
        repr=False,
        description="asked for each call, with the header X-AVR-UUID and the call's metadata as query parameters; "
        'answers {"system": "..."}, and may add voice, model, tools, welcome_message, api_key and any session '
        "field",
    )
    openai_file_instructions: Path | None = Field(default=None, description="a text file, read for each call")
    openai_temperature: Annotated[float, BeforeValidator(number(0, 2))] | None = Field(
        default=None, description="0 to 2, beta dialect alone: GA sessions have none"
    )
    openai_max_tokens: MaxTokens = Field(default="inf", description="1 to 4096 or inf, for each response")
    openai_reasoning_effort: ReasoningEffort = Field(
        default=None, description=f"models that reason: {', '.join(models.REASONING_EFFORTS)}"
    )
    openai_language: Language = Field(
        default=None, description="the caller's language, for the transcription; auto or unset: detected"
    )
    openai_transcription_model: Word = Field(
        default=models.DEFAULT_TRANSCRIPTION_MODEL, description="transcribes the caller"
    )
    openai_turn_detection: Annotated[TurnDetection, BeforeValidator(one_of(TurnDetection))] = Field(
        default=TurnDetection.SERVER_VAD,
        description="server_vad, semantic_vad, or none: the worker finds the end of speech",
    )
    openai_turn_detection_eagerness: Annotated[Eagerness, BeforeValidator(one_of(Eagerness))] | None = Field(
        default=None, description="semantic_vad: low, medium, high or auto"
    )
    openai_turn_detection_threshold: Annotated[float, BeforeValidator(number(0, 1))] | None = Field(
        default=None, description="server_vad, none: how loud or clear speech must be, 0 to 1"
    )
    openai_turn_detection_silence_ms: VadMilliseconds | None = Field(
        default=None, description="server_vad, none: the silence that ends a turn"
    )
    openai_turn_detection_prefix_padding_ms: VadMilliseconds | None = Field(
        default=None, description="server_vad: audio kept from before the speech was noticed"
    )
    openai_turn_detection_idle_timeout_ms: IdleMilliseconds | None = Field(
        default=None,
        description="server_vad: the silence after which the agent asks who is there, 5000 to 30000",
    )
    openai_audio_format: Annotated[AudioFormat, BeforeValidator(one_of(AudioFormat))] = Field(
        default=AudioFormat.PCM, description="pcm (24 kHz, resampled), pcmu or pcma (G.711, not resampled)"
    )
    openai_noise_reduction: NoiseReduction = Field(default=None, description="near_field, far_field or off")
    openai_speed: Annotated[float, BeforeValidator(number(0.25, 1.5))] | None = Field(
        default=None, description="of the voice: 0.25 to 1.5"
    )
    openai_tool_choice: ToolChoice = Field(
        default=None, description="auto, none, required, the name of a function, or JSON"
    )
    openai_tracing: Tracing = Field(
        default=None, description="auto, or JSON with workflow_name, group_id, metadata"
    )
    openai_truncation: Truncation = Field(
        default=None, description='auto, disabled, or JSON: {"type": "retention_ratio", "retention_ratio": 0.8}'
    )
    openai_organization: OptionalWord = Field(default=None, description="the organization that pays")
    openai_project: OptionalWord = Field(default=None, description="the project that pays")
    safety_identifier_secret: Token = Field(
        default=None,
        repr=False,
        description="if set, OpenAI's own address gets an HMAC of the caller's number (from), to act against an "
        "abusive caller in place of the account; the same for all workers",
    )
    openai_prompt_id: OptionalWord = Field(default=None, description="a stored prompt (pmpt_...)")
    openai_prompt_version: OptionalWord = Field(default=None, description="of the stored prompt")
    openai_prompt_variables: PromptVariables = Field(default=None, description="of the stored prompt, as JSON")
    openai_mcp_servers: McpServers = Field(
        default=None,
        repr=False,
        description='JSON list of remote MCP servers: [{"server_label": "...", "server_url": "https://..."}]; '
        "require_approval is never unless it is given",
    )
    openai_session: JsonObject = Field(
        default=None,
        repr=False,
        description="JSON merged over the session of the other variables: the way to any field",
    )
    openai_welcome_message: Prose = Field(
        default=None,
        description="said word for word when the call opens; unset: the model greets in its own words",
    )
    openai_welcome_interruptible: Boolean = Field(
        default=True, description="false: the caller is not listened to until the welcome message has been heard"
    )

    answer_failed_text: Sentence = Field(
        default="Sorry, I did not get that.",
        description="said word for word in place of an answer that the model does not give",
    )

    ami_url: AmiUrl = Field(
        default="http://127.0.0.1:6006", description="avr-ami, for avr_transfer and avr_hangup"
    )
    transfer_context: DialplanContext = Field(
        default=DEFAULT_CONTEXT, description="the dialplan context of an extension that is given without one"
    )
    transfer_allowed: TransferAllowed = Field(
        default=None,
        description="where the model may transfer callers to, separated by commas: exten, exten@context, patterns "
        "as in the dialplan (_00X.@out), internal (1 to 6 digits, or a name of letters, in TRANSFER_CONTEXT), or "
        "none; unset: internal",
    )
    tools_dir: Path = Field(default=Path("tools"), description="the folder of your tools (*.py, *.js, *.mjs)")
    avr_tools_dir: Path | None = Field(
        default=None,
        description="a second folder of your tools, as AVR has it; of two tools with one name, that of TOOLS_DIR "
        "counts; unset: avr_tools beside TOOLS_DIR",
    )
    tool_timeout_seconds: Annotated[float, BeforeValidator(number(0.1, 3600))] = Field(
        default=20, description="how long a tool may take"
    )
    tools_env: VariableNames = Field(
        default_factory=list,
        description="variables that tools see although they are secrets of the service, such as REDIS_URL, with "
        "commas between them; other variables they see anyway",
    )
    dtmf_timeout_ms: Milliseconds = Field(default=1500, description="digits are one entry until # or this silence")
    silence_hangup_seconds: LimitSeconds = Field(
        default=None, description="the silence that ends an abandoned call"
    )
    max_call_seconds: LimitSeconds = Field(default=None, description="how long a call may last")
    prices_file: Path | None = Field(
        default=None, description="prices of tokens and of transcription (JSON); unset: the built-in list"
    )

    upstream_retry_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=30, description="how long a call waits for a Realtime session that cannot be opened"
    )
    fallback_wav: Recording = Field(
        default=BUILTIN,
        description="played to a caller whose call cannot go on, before the transfer or the end: a WAV file (PCM "
        f"or G.711) of at most {MAX_SECONDS} s, builtin (an apology in English), or none",
    )
    fallback_extension: Extension = Field(
        default=None,
        description="where such a call is transferred to, through avr-ami and whatever TRANSFER_ALLOWED says: "
        "exten or exten@context; unset: it ends",
    )
    filler_wav: Recording = Field(
        default=NONE,
        description="played in a loop to a caller who waits for an answer: a WAV file as above, builtin (soft "
        "tones), or none",
    )
    filler_after_ms: Milliseconds = Field(
        default=1500, description="how long an answer is owed in silence before FILLER_WAV is played"
    )
    https_proxy: ProxyUrl = Field(
        default=None,
        repr=False,
        description="an HTTP proxy for https and wss: the Realtime API and OPENAI_URL_INSTRUCTIONS; "
        "http://host:port or http://user:password@host:port",
    )
    http_proxy: ProxyUrl = Field(default=None, repr=False, description="the same for http and ws")
    no_proxy: str | None = Field(
        default=None,
        description="hosts that are reached without a proxy: names, domains, addresses, networks (10.0.0.0/8), or "
        "*; loopback always is",
    )
    redis_url: RedisUrl = Field(
        default=None, repr=False, description="redis://, rediss:// or unix://; unset in serve: an embedded one"
    )
    sts_token: Token = Field(
        default=None,
        description="if set, AVR Core must bring it: ?token= in STS_URL, or Authorization: Bearer; at least "
        f"{MIN_TOKEN_CHARACTERS} characters",
    )
    allowed_origins: Origins = Field(
        default=None,
        description="origins of web pages that may place calls on PORT, such as https://phone.example; others are "
        "refused with 403, as is every page on WORKER_PORT; unset: none may",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="TLS on PORT: the certificate and its chain (PEM); read again when it changes",
    )
    tls_key: Path | None = Field(default=None, repr=False, description="its key (PEM, without a passphrase)")
    cluster_token: Token = Field(
        default=None,
        description="if set, dispatchers and workers prove to each other that they have it; the same for all",
    )
    cluster_tls_cert: Path | None = Field(
        default=None,
        description="TLS on the link, where both ends show a certificate: this process's (PEM)",
    )
    cluster_tls_key: Path | None = Field(
        default=None, repr=False, description="its key (PEM, without a passphrase)"
    )
    cluster_tls_ca: Path | None = Field(
        default=None,
        description="who signs those of all dispatchers and workers, and of nobody else (PEM)",
    )
    admin_token: Token = Field(
        default=None, description="if set, the calls API asks for it (Authorization: Bearer), from wherever"
    )
    workers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default_factory=usable_cores,
        description="worker processes of serve; unset: its cores, within its container's CPU limit",
    )
    dispatchers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default=1, description="dispatcher processes of serve, which share PORT"
    )
    worker_max_calls: Annotated[int, BeforeValidator(whole_number(1, 100_000))] = Field(
        default=200, description="calls that one worker takes at most"
    )
    call_reconnect_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=10, description="how long a call whose caller connection broke is kept for the same uuid"
    )
    session_rollover_seconds: Annotated[float, BeforeValidator(number(1, 3500))] = Field(
        default=3300, description="a Realtime session is replaced before its 60-minute limit"
    )
    grouping_ms: Annotated[int, BeforeValidator(whole_number(0, 20))] = Field(
        default=3,
        description="with 10 calls and more at a dispatcher, audio waits so long on average, to go on "
        "together: the longer, the less CPU a call takes; 0: it never waits",
    )
    drain_seconds: Annotated[float, BeforeValidator(number(0, 86_400))] = Field(
        default=DEFAULT_DRAIN_SECONDS[Role.WORKER],
        description="how long SIGTERM waits; unset: 30 for a worker, 3600 for a dispatcher, 8 for serve",
    )
    log_level: Annotated[LogLevel, BeforeValidator(one_of(LogLevel))] = Field(
        default=LogLevel.INFO, description="debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(one_of(LogFormat))] = Field(
        default=LogFormat.JSON, description="json or console"
    )

    strict_settings: Boolean = Field(
        default=False,
        description="true: values that a start would replace, such as a misspelt voice, stop the start like all "
        "other wrong ones",
    )

    _notices: tuple[str, ...] = PrivateAttr(())

    @field_validator("openai_model")
    @classmethod
    def _spoken_there(cls, model: str, info: ValidationInfo) -> str:
        service = _service(info)
        spoken = str(model_of(service)(model))
        # Elsewhere the operator knows the names of the models.
        if service is Service.OPENAI and not models.may_speak(spoken, service):
            replacement = models.replacement_of(spoken)
            raise NotAllowed(f"is no model of the Realtime API at OpenAI: use {replacement}", replacement)
        return spoken

    @field_validator("openai_voice")
    @classmethod
    def _heard_there(cls, voice: str, info: ValidationInfo) -> str:
        return str(voice_of(_service(info))(voice))

    @field_validator("openai_reasoning_effort")
    @classmethod
    def _thought_there(cls, effort: str | None, info: ValidationInfo) -> str | None:
        return None if effort is None else str(effort_of(_service(info))(effort))

    @field_validator("openai_turn_detection")
    @classmethod
    def _detected_there(cls, mode: TurnDetection, info: ValidationInfo) -> TurnDetection:
        if _service(info) is Service.XAI and mode is TurnDetection.SEMANTIC_VAD:
            raise NotAllowed("must be one of server_vad, none: xAI has no other", TurnDetection.SERVER_VAD)
        return mode

    @field_validator("openai_session")
    @classmethod
    def _in_shape(cls, session: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        if session is None:
            return None
        made, wrong = session_fields.checked(session, _service(info))
        if wrong:
            raise ValueError("; ".join(f"{each.path} {each.allowed}" for each in wrong))
        model = made.get("model")
        if model is not None and _service(info) is Service.OPENAI and not models.may_speak(model, Service.OPENAI):
            raise ValueError(f"model is none of the Realtime API at OpenAI: use {models.replacement_of(model)}")
        if len({str(made.get("audio", {}).get(side, {}).get("format")) for side in ("input", "output")}) > 1:
            raise ValueError("audio.input.format and audio.output.format must be the same")
        return made

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
            file = env_file.read(Path(ENV_FILE))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f".env cannot be read: {error}") from None
        written = cls._written(file.variables, role, has_comments=False)
        written.update(cls._written(EnvSettingsSource(cls).env_vars, role))
        return cls._checked(written, role, file.notices(ENV_FILE))

    @classmethod
    def parse(cls, variables: Mapping[str, str], role: Role) -> Settings:
        """Reads `variables` as `load` reads the environment.

        Raises:
            SettingsError: one line for each variable that is wrong, missing or not supported by this release:
                its name, its value (never a secret) and what is allowed. Or a file of a secret is of no use.
        """
        return cls._checked(cls._written(variables, role), role)

    @classmethod
    def _written(cls, variables: Mapping[str, str | None], role: Role, *, has_comments: bool = True) -> Written:
        # `.env` is the same for all: what another role reads from it ends here.
        read = {name: value for name, value in variables.items() if not is_withheld(name, role)}
        read, renamings = renamed.take(read)
        written = written_values.read(read, cls._names(), SECRETS, has_comments=has_comments)
        written.remarks += [Remark(each.name, each.line, None) for each in renamings]
        return written

    @classmethod
    def _names(cls) -> frozenset[str]:
        """Return the names of all variables that are read."""
        return frozenset({*cls.model_fields, *(name + secret_files.SUFFIX for name in SECRETS)})

    @classmethod
    def _checked(cls, written: Written, role: Role, lines_of_file: Sequence[str] = ()) -> Settings:
        written.take_prompt()
        with_files = secret_files.read(written.values, SECRETS)
        values, problems = with_files.values, [*written.faults.values(), *with_files.problems]
        given: dict[str, Any] = {name: values[name] for name in cls.model_fields if name in values}
        defaults = _defaults(role, values.get("openai_base_url"))
        replaced = cls._replace_harmless(given, defaults)
        try:
            settings = cls(**(defaults | given))
        except ValidationError as error:
            problems += [_problem(each, with_files.by_file) for each in error.errors()]
        else:
            problems += settings._conflicts(role)
        problems += [
            f"{name.upper()} is not set: {_HOW_TO_SET[name]}"
            for name in _NEEDED[role]
            if not {name, name + secret_files.SUFFIX}
            & (given.keys() | written.values.keys() | written.faults.keys())
        ]
        if _is_on(values.get("strict_settings")):
            problems += [each.refusal for each in written.remarks if each.refusal is not None]
            problems += replaced.values()
        if problems:
            raise SettingsError("\n".join(problems))
        settings._notices = (*lines_of_file, *settings._remarks(role, written, given, replaced))
        return settings

    @classmethod
    def _replace_harmless(cls, given: dict[str, Any], defaults: dict[str, Any]) -> dict[str, str]:
        """Replace wrong values in `given` where that is harmless; return what was wrong, by name."""
        try:
            cls(**(defaults | given))
        except ValidationError as error:
            wrong = [each for each in error.errors() if each["loc"][0] in fallbacks.HARMLESS]
        else:
            return {}
        replaced = {}
        for each in wrong:
            name = str(each["loc"][0])
            replaced[name] = _problem(each)
            del given[name]
            if (near := fallbacks.nearest(each)) is not None:
                given[name] = near
        return replaced

    def _remarks(
        self, role: Role, written: Written, given: Mapping[str, Any], replaced: Mapping[str, str]
    ) -> Iterator[str]:
        """Yield the lines of `notices`, one at most for a value that was replaced."""
        # Workers alone read what begins with OPENAI_, and name it themselves.
        is_read = role is not Role.DISPATCHER
        for name, line in unknown_names.notices(written.values.keys(), self._names(), self.tools_env):
            if is_read or not name.startswith("openai_"):
                yield line
        for remark in written.remarks:
            if is_read or not remark.name.startswith("openai_"):
                yield remark.notice
        if not is_read:
            return
        lines = list(notices.notices(self, given.keys() | replaced.keys()))
        for name, problem in replaced.items():
            without_effect = [line for line in lines if line.startswith(f"{name.upper()} has no effect")]
            yield f"{problem}; {without_effect[0] if without_effect else self._effect(name)}"
            lines = [line for line in lines if line not in without_effect]
        yield from lines

    def _effect(self, name: str) -> str:
        """Tell what a setting is that was replaced."""
        value = getattr(self, name)
        return "it counts as unset" if value is None else f"{value} is used instead"

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each variable that is set and has no effect, and for what will stop working."""
        return self._notices

    @property
    def secrets(self) -> frozenset[str]:
        """What no log line, answer or memory may hold."""
        values = [getattr(self, name) for name in type(self).model_fields]
        found = {value.get_secret_value() for value in values if isinstance(value, SecretStr)}
        for url in (self.redis_url, self.openai_url_instructions, self.ami_url, self.openai_base_url):
            found.update(secrets_in_url(url or ""))
        found.update(secrets_in(self.openai_mcp_servers), secrets_in(self.openai_session))
        return frozenset(found - {""})

    @property
    def realtime_url(self) -> str:
        """`openai_base_url` as ws(s)://.../realtime, without query and trailing slash."""
        return models.realtime_url(self.openai_base_url)

    @property
    def proxies(self) -> Proxies:
        """Of HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""
        return Proxies(self.https_proxy, self.http_proxy, self.no_proxy or "")

    @property
    def tools_dirs(self) -> tuple[Path, Path]:
        """TOOLS_DIR, and AVR_TOOLS_DIR."""
        return self.tools_dir, self.avr_tools_dir or Path(os.path.normpath(self.tools_dir / ".." / "avr_tools"))

    @property
    def tls(self) -> TlsFiles | None:
        """Of PORT."""
        return None if self.tls_cert is None or self.tls_key is None else TlsFiles(self.tls_cert, self.tls_key)

    @property
    def cluster_tls(self) -> TlsFiles | None:
        """Of the link."""
        if self.cluster_tls_cert is None or self.cluster_tls_key is None or self.cluster_tls_ca is None:
            return None
        return TlsFiles(self.cluster_tls_cert, self.cluster_tls_key, self.cluster_tls_ca)

    def _conflicts(self, role: Role) -> list[str]:
        problems = problems_of_link(self.cluster_tls_cert, self.cluster_tls_key, self.cluster_tls_ca)
        if role is not Role.WORKER:
            problems = problems_of_port(self.tls_cert, self.tls_key) + problems
            for name in ("fallback_wav", "filler_wav"):
                if problem := problem_of(name.upper(), getattr(self, name)):
                    problems.append(problem)
        if role is not Role.DISPATCHER:
            problems += [
                problem
                for name in ("openai_file_instructions", "prices_file")
                if (problem := setting_problems.of_file(name, getattr(self, name)))
            ]
        other = "worker_port" if role is Role.WORKER else "port"
        taken = getattr(self, other)
        if taken and taken == self.admin_port:
            problems.append(f"ADMIN_PORT={taken} is {other.upper()} too: give each its own")
        return problems


class ChildSettings(BaseSettings):
    """What `serve` tells the processes that it starts. Set by the supervisor alone, never by people."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="AVR_STS_")

    index: int = Field(default=0, description="which of its role this process is, from 0")
    ready_fd: int = Field(default=-1, description="the pipe of the process's heartbeat")
    metrics_dir: Path = Field(default=Path(), description="where all processes keep their metrics")

    @classmethod
    def load(cls) -> ChildSettings | None:
        """Returns None for a process that `serve` did not start."""
        child = cls()
        return child if child.model_fields_set else None

    def environment(self) -> dict[str, str]:
        """The variables from which the child's `load` makes the same."""
        return {f"AVR_STS_{name.upper()}": str(getattr(self, name)) for name in type(self).model_fields}


def _defaults(role: Role, base_url: str | None) -> dict[str, Any]:
    """Defaults that depend on the role, or on who answers at OPENAI_BASE_URL."""
    service = Service.OPENAI if base_url is None else models.service_of(base_url)
    return {
        "drain_seconds": DEFAULT_DRAIN_SECONDS[role],
        "openai_model": models.default_model(service),
        "openai_voice": models.default_voice(service),
        "openai_transcription_model": models.default_transcription_model(service),
    }


def _service(info: ValidationInfo) -> Service:
    """Who answers at OPENAI_BASE_URL; where that is wrong itself, nothing more is found wrong because of it."""
    return models.service_of(info.data.get("openai_base_url", ""))


def _is_on(value: str | None) -> bool:
    try:
        return value is not None and bool(boolean(value))
    except ValueError:
        return False  # has a line of its own


def _problem(error: Mapping[str, Any], by_file: Collection[str] = ()) -> str:
    """Describe one of `ValidationError.errors()` in a line without secrets."""
    name = str(error["loc"][0])
    message = str(error["msg"]).removeprefix("Value error, ")
    if name in by_file:
        return f"{name.upper()}_FILE names a file whose content {message}"
    if name in _NEVER_SHOWN:
        return f"{name.upper()} {message}"
    return f"{name.upper()}={setting_problems.shown(error['input'])!r} {message}"
