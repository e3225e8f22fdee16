"""The settings of one call, fixed when it opens: the part that Redis may store, and the secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from pydantic import SecretStr

from common.settings import models, session_fields
from common.settings.openai_fields import TurnDetection
from common.settings.session_fields import tool_key
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from worker.config import safety_identifier, tool_secrets
from worker.config.tool_secrets import Origin
from worker.realtime import dialect
from worker.realtime.dialect import Dialect

# The API's for server_vad, and the worker's own where it detects turns itself.
DEFAULT_SILENCE_MS: Final = 500

# Never part of the record: the key, and what a record of Redis lacks.
_NOT_RECORDED: Final = frozenset({"api_key", "lost", "has_lost_key"})
MAX_SHOWN: Final = 10
"""Fields or tools that one log line names: a stranger's `init` of 62 KB may have 31,000 that are wrong."""

FROM_DEFAULT: Final = "default"
FROM_STORED_PROMPT: Final = "stored prompt"
FROM_CALLS_API: Final = "calls API"
"""Where instructions come from that no setting and no field of the call names."""

PROMPT_BEGINNING_CHARACTERS: Final = 200
"""Length of the beginning of the instructions that the calls API shows, to tell prompts apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProfile:
    """The settings that a call keeps, also in another worker.

    Each session gets a `SessionConfig`, which is derived from the profile; its docstring says why they are two.

    Attributes:
        base_url: OPENAI_BASE_URL.
        model: fixed for a connection.
        api_key: never part of the record.
        has_own_key: the key came with the call, and its organization and project with it.
        key_origin: where the call's own key came from (`Origin`); None: it has none, or a former release made it.
        session: for `session.update`, in the shape of the GA dialect, without tools.
        tools: definitions from the settings and for this call, without the worker's own tools.
        welcome_message: said word for word when the call opens; None: the model greets in its own words.
        welcome_interruptible: whether the caller is listened to meanwhile.
        audio_format: on the connection, both ways.
        silence_ms: the silence that ends the caller's turn; 0 where a model decides (semantic_vad).
        vad_threshold: for the worker's own turn detection, 0 to 1; None: its default.
        safety_identifier: of the caller, for OpenAI alone; None: none is sent.
        tenant: of the call, for as long as it lasts; empty: there are no tenants.
        instructions_from: where the instructions came from: a setting, `provider_config`, or as below.
        origins: where tools that have secrets came from, by their names.
        lost: names of tools whose secrets are not there: `restored`.
        has_lost_key: the call had its own key, which is not there either.
    """

    base_url: str
    model: str
    api_key: SecretStr = field(repr=False)
    has_own_key: bool = False
    key_origin: str | None = None
    organization: str | None = None
    project: str | None = None
    session: dict[str, Any] = field(repr=False)
    tools: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    welcome_message: str | None = field(default=None, repr=False)
    welcome_interruptible: bool = True
    audio_format: AudioFormat = AudioFormat.PCM
    silence_ms: int = DEFAULT_SILENCE_MS
    vad_threshold: float | None = None
    safety_identifier: str | None = field(default=None, repr=False)
    tenant: str = ""
    instructions_from: str = ""
    origins: dict[str, str] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    has_lost_key: bool = False

    @property
    def voice(self) -> str:
        """The voice's name, or the id of a custom one; empty where the service chooses."""
        audio = self.session.get("audio")
        output = audio.get("output") if isinstance(audio, dict) else None
        voice = output.get("voice") if isinstance(output, dict) else None
        if isinstance(voice, dict):
            voice = voice.get("id")
        return voice if isinstance(voice, str) else ""

    def prompt_as_json(self) -> dict[str, Any]:
        """Return which prompt the call has, for the calls API: its source, its length and its beginning."""
        text, stored = self.session.get("instructions"), self.session.get("prompt")
        text = text if isinstance(text, str) else ""
        stored = stored if isinstance(stored, dict) else {}
        return {
            "from": self.instructions_from,
            "stored_id": stored.get("id"),
            "stored_version": stored.get("version"),
            "characters": len(text),
            "beginning": text[:PROMPT_BEGINNING_CHARACTERS],
        }

    @property
    def dialect(self) -> Dialect:
        """The dialect of the service."""
        return dialect.choose(self.base_url, self.model)

    @property
    def url(self) -> str:
        """The URL of the session's connection."""
        return self.dialect.url(self.base_url, self.model)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the connection's handshake, which hold the key."""
        headers = self.dialect.headers(self.api_key.get_secret_value(), self.organization, self.project)
        if self.safety_identifier is not None and models.service_of(self.base_url) is models.Service.OPENAI:
            headers[safety_identifier.HEADER] = self.safety_identifier
        return headers

    def with_key_of(self, settings: Settings) -> Self:
        """Return the profile for a session that opens now, with the process's key unless the call has its own."""
        return self if self.has_own_key else replace(self, api_key=settings.openai_api_key)

    @property
    def turn_detection(self) -> TurnDetection:
        """The detector that decides when the caller has finished speaking."""
        chosen = self.session["audio"]["input"]["turn_detection"]
        return TurnDetection.NONE if chosen is None else TurnDetection(chosen["type"])

    @property
    def transcription_model(self) -> str:
        """The model that transcribes the caller; `unknown` where the session names none."""
        transcription = self.session["audio"]["input"].get("transcription") or {}
        return str(transcription.get("model") or "unknown")

    def changed(self, change: Mapping[str, Any], settings: Settings) -> Self:
        """Return the profile with a change of the running session that the API has accepted."""
        rest = {name: value for name, value in change.items() if name != "tools"}
        session = session_fields.merged(self.session, rest, models.service_of(self.base_url))
        posted = change.get("tools", ())
        names = set(map(tool_key, posted))
        origins = {name: origin for name, origin in self.origins.items() if name not in names}
        instructions_from = FROM_CALLS_API if "instructions" in rest else self.instructions_from
        return dataclasses.replace(
            self,
            session=session,
            tools=tuple(session_fields.with_tools(self.tools, posted)),
            silence_ms=silence_ms(session, settings),
            instructions_from=instructions_from,
            origins=origins | tool_secrets.origins_of(posted, Origin.CALLS_API),
        )

    def to_record(self) -> dict[str, Any]:
        """Return the fields that Redis may store, as JSON: all but `secrets`."""
        record = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_RECORDED}
        tools = [tool_secrets.public(tool) for tool in self.tools]
        return record | {"audio_format": self.audio_format.value, "tools": tools}

    def secrets(self) -> dict[str, Any]:
        """Return the fields that `to_record` leaves out: the call's own key, and secrets of MCP servers."""
        kept = [tool_secrets.withheld(tool) for tool in self.tools]
        key = {"api_key": self.api_key.get_secret_value()} if self.has_own_key else {}
        return key | ({"tools": kept} if any(kept) else {})

    @classmethod
    def from_record(cls, record: Mapping[str, Any], secrets: Mapping[str, Any], settings: Settings) -> Self:
        """Make the profile again, on any worker.

        Args:
            record: result of `to_record`. Fields of a newer release are ignored, missing ones have their defaults.
            secrets: result of `secrets`; without the call's own key, the key of the settings is used.
            settings: of this process.

        Raises:
            TypeError, ValueError: the record is not one.
        """
        names = {each.name for each in fields(cls)} - _NOT_RECORDED
        known = {name: record[name] for name in names if name in record}
        own_key = secrets.get("api_key")
        kept = secrets.get("tools") or [{} for _ in record.get("tools", ())]
        of_tools = zip(record.get("tools", ()), kept, strict=True)
        origins = record.get("origins", {})
        return cls(
            **known
            | account(settings, own_key)
            | {
                "tools": tuple(tool | more for tool, more in zip(record.get("tools", ()), kept, strict=True)),
                "audio_format": AudioFormat(record.get("audio_format", AudioFormat.PCM)),
                "lost": frozenset(
                    tool_key(tool) for tool, more in of_tools if not more and tool_key(tool) in origins
                ),
                "has_lost_key": bool(record.get("has_own_key")) and own_key is None,
                "key_origin": record.get("key_origin") if record.get("has_own_key") else None,
            }
        )


def account(settings: Settings, own_key: str | None) -> dict[str, Any]:
    """Return the fields of the account that pays. Organization and project belong to the settings' key."""
    if own_key is not None:
        return {"api_key": SecretStr(own_key), "has_own_key": True, "organization": None, "project": None}
    return {
        "api_key": settings.openai_api_key,
        "has_own_key": False,
        "organization": settings.openai_organization,
        "project": settings.openai_project,
    }


def silence_ms(session: Mapping[str, Any], settings: Settings) -> int:
    """Return the silence that ends the caller's turn; 0 where a model decides."""
    turn_detection = session["audio"]["input"]["turn_detection"]
    if turn_detection is None:
        own_ms = settings.openai_turn_detection_silence_ms
        return DEFAULT_SILENCE_MS if own_ms is None else own_ms
    if turn_detection["type"] == TurnDetection.SEMANTIC_VAD:
        return 0
    return int(turn_detection.get("silence_duration_ms", DEFAULT_SILENCE_MS))
