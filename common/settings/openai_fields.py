"""The settings of the session with the Realtime API."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from common.settings import models, session_fields
from common.settings.field_types import (
    ApiKey,
    BaseUrl,
    Boolean,
    HttpUrl,
    IdleMilliseconds,
    JsonObject,
    Language,
    MaxTokens,
    McpServers,
    NoiseReduction,
    OptionalWord,
    PromptVariables,
    Prose,
    ReasoningEffort,
    Token,
    ToolChoice,
    Tracing,
    Truncation,
    VadMilliseconds,
    Voice,
    Word,
)
from common.settings.models import Service
from common.settings.session_values import AudioFormat, effort_of, model_of, voice_of
from common.settings.values import NotAllowed, number, one_of


class TurnDetection(StrEnum):
    """The method that finds the end of the caller's speech (`OPENAI_TURN_DETECTION`)."""

    SERVER_VAD = "server_vad"
    SEMANTIC_VAD = "semantic_vad"
    NONE = "none"


class Eagerness(StrEnum):
    """How soon `semantic_vad` lets the model answer (`OPENAI_TURN_DETECTION_EAGERNESS`)."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    AUTO = "auto"


class OpenAiFields(BaseModel):
    """The settings of the session with the Realtime API."""

    openai_api_key: ApiKey = Field(
        default=SecretStr(""), description="the API key of your account; never logged, shown or stored"
    )
    openai_base_url: BaseUrl = Field(
        default="wss://api.openai.com/v1/realtime",
        description="URL of the Realtime API: ws, wss, http or https, with or without /realtime; "
        "also https://NAME.openai.azure.com, wss://api.x.ai/v1 and compatible services",
    )
    openai_model: Word = Field(
        default=models.DEFAULT_MODEL,
        description="the Realtime model; at Azure the name of the deployment. The beta dialect is used for "
        "*-realtime-preview*. At OpenAI's own address preview models and models without voice are replaced",
    )
    openai_voice: Voice = Field(
        default=models.DEFAULT_VOICE,
        description=f"the agent's voice: {', '.join(models.VOICES)}, or the id of a custom voice (voice_...); "
        "other services have other voices",
    )
    openai_instructions: Prose = Field(
        default=None,
        description="the agent's instructions; \\n is a line break, {from}, {to} and other metadata of the call "
        "are filled in; unset: from OPENAI_URL_INSTRUCTIONS, else from OPENAI_FILE_INSTRUCTIONS, "
        "else: You are a helpful assistant.",
    )
    openai_url_instructions: HttpUrl = Field(
        default=None,
        repr=False,
        description="URL of an instructions service, requested for each call with the header X-AVR-UUID and the "
        'call\'s metadata as query parameters; it answers {"system": "..."}, and may add voice, model, tools, '
        "welcome_message, api_key and any session field",
    )
    openai_file_instructions: Path | None = Field(
        default=None, description="a text file with instructions, read for each call"
    )
    openai_temperature: Annotated[float, BeforeValidator(number(0, 2))] | None = Field(
        default=None, description="temperature, 0 to 2; only in the beta dialect, GA sessions have none"
    )
    openai_max_tokens: MaxTokens = Field(
        default="inf", description="token limit of each response: 1 to 4096, or inf"
    )
    openai_reasoning_effort: ReasoningEffort = Field(
        default=None, description=f"effort of models that reason: {', '.join(models.REASONING_EFFORTS)}"
    )
    openai_language: Language = Field(
        default=None, description="the caller's language for the transcription; auto or unset: detected"
    )
    openai_transcription_model: Word = Field(
        default=models.DEFAULT_TRANSCRIPTION_MODEL, description="the model that transcribes the caller"
    )
    openai_turn_detection: Annotated[TurnDetection, BeforeValidator(one_of(TurnDetection))] = Field(
        default=TurnDetection.SERVER_VAD,
        description="detects the end of speech: server_vad or semantic_vad (at the API), or none (the worker)",
    )
    openai_turn_detection_eagerness: Annotated[Eagerness, BeforeValidator(one_of(Eagerness))] | None = Field(
        default=None, description="semantic_vad: how soon the model answers: low, medium, high or auto"
    )
    openai_turn_detection_threshold: Annotated[float, BeforeValidator(number(0, 1))] | None = Field(
        default=None, description="server_vad, none: how loud or clear speech must be, 0 to 1"
    )
    openai_turn_detection_silence_ms: VadMilliseconds | None = Field(
        default=None, description="server_vad, none: length of the silence that ends a turn"
    )
    openai_turn_detection_prefix_padding_ms: VadMilliseconds | None = Field(
        default=None, description="server_vad: length of audio kept from before the detected speech"
    )
    openai_turn_detection_idle_timeout_ms: IdleMilliseconds | None = Field(
        default=None,
        description="server_vad: length of the silence after which the agent asks whether the caller is there, "
        "5000 to 30000",
    )
    openai_audio_format: Annotated[AudioFormat, BeforeValidator(one_of(AudioFormat))] = Field(
        default=AudioFormat.PCM,
        description="audio to and from the API: pcm (24 kHz, resampled), pcmu or pcma (G.711, not resampled)",
    )
    openai_noise_reduction: NoiseReduction = Field(
        default=None, description="noise reduction at the API: near_field, far_field or off"
    )
    openai_speed: Annotated[float, BeforeValidator(number(0.25, 1.5))] | None = Field(
        default=None, description="speed of the agent's voice, 0.25 to 1.5"
    )
    openai_tool_choice: ToolChoice = Field(
        default=None,
        description="how the model chooses tools: auto, none, required, the name of a function, or JSON",
    )
    openai_tracing: Tracing = Field(
        default=None, description="tracing at OpenAI: auto, or JSON with workflow_name, group_id, metadata"
    )
    openai_truncation: Truncation = Field(
        default=None,
        description="how the API shortens a long conversation: auto, disabled, or JSON: "
        '{"type": "retention_ratio", "retention_ratio": 0.8}',
    )
    openai_organization: OptionalWord = Field(default=None, description="the organization that pays")
    openai_project: OptionalWord = Field(default=None, description="the project that pays")
    safety_identifier_secret: Token = Field(
        default=None,
        repr=False,
        description="if set, OpenAI's own address gets an HMAC of the caller's number (from) under this key, "
        "so that OpenAI can act against an abusive caller instead of the account; the same for all workers",
    )
    openai_prompt_id: OptionalWord = Field(default=None, description="id of a stored prompt (pmpt_...)")
    openai_prompt_version: OptionalWord = Field(default=None, description="version of the stored prompt")
    openai_prompt_variables: PromptVariables = Field(
        default=None, description="variables of the stored prompt, as JSON"
    )
    openai_mcp_servers: McpServers = Field(
        default=None,
        repr=False,
        description='JSON list of remote MCP servers: [{"server_label": "...", "server_url": "https://..."}]; '
        "require_approval is never by default",
    )
    openai_session: JsonObject = Field(
        default=None,
        repr=False,
        description="JSON that is merged over the session from the other variables, for fields without a variable",
    )
    openai_welcome_message: Prose = Field(
        default=None,
        description="text that the agent says word for word when the call opens; unset: the model greets in "
        "its own words",
    )
    openai_welcome_interruptible: Boolean = Field(
        default=True, description="false: the caller's audio is ignored until the welcome message has been heard"
    )

    @field_validator("openai_model")
    @classmethod
    def _spoken_there(cls, model: str, info: ValidationInfo) -> str:
        service = _service(info)
        spoken = str(model_of(service)(model))
        # The model names of other services are known to the operator alone.
        if service is Service.OPENAI and not models.may_speak(spoken, service):
            replacement = models.replacement_of(spoken)
            raise NotAllowed(f"is not a model of the Realtime API at OpenAI: use {replacement}", replacement)
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
            replacement = models.replacement_of(model)
            raise ValueError(f"model is not a model of the Realtime API at OpenAI: use {replacement}")
        if len({str(made.get("audio", {}).get(side, {}).get("format")) for side in ("input", "output")}) > 1:
            raise ValueError("audio.input.format and audio.output.format must be the same")
        return made

    @property
    def realtime_url(self) -> str:
        """`openai_base_url` as ws(s)://.../realtime, without query and trailing slash."""
        return models.realtime_url(self.openai_base_url)


def _service(info: ValidationInfo) -> Service:
    """Return the service at OPENAI_BASE_URL; a wrong URL counts as another service."""
    return models.service_of(info.data.get("openai_base_url", ""))
