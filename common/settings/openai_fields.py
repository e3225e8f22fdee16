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


class OpenAiFields(BaseModel):
    """The settings of the session with the Realtime API."""

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

    @property
    def realtime_url(self) -> str:
        """`openai_base_url` as ws(s)://.../realtime, without query and trailing slash."""
        return models.realtime_url(self.openai_base_url)


def _service(info: ValidationInfo) -> Service:
    """Who answers at OPENAI_BASE_URL; where that is wrong itself, nothing more is found wrong because of it."""
    return models.service_of(info.data.get("openai_base_url", ""))
