"""The settings of one call, put together when it opens and frozen from then on.

From the weakest to the strongest: the variables, with the instructions that they lead to; OPENAI_SESSION; the
answer of OPENAI_URL_INSTRUCTIONS; `provider_config` of AVR Core's `init`. Of the last two a field that is wrong
costs itself and a warning: a caller is answered, if not in the voice that somebody misspelt.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

import aiohttp
import orjson
import structlog
from pydantic import SecretStr

from common.net.json_depth import MAX_LEVELS, is_too_deep
from common.settings import function_tools, models, session_fields
from common.settings.function_tools import Change
from common.settings.openai_fields import TurnDetection
from common.settings.session_fields import Wrong, tool_key
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from common.settings.values import Parser, api_key, boolean
from worker.config import instructions, safety_identifier, tool_secrets
from worker.config.session_update import DEFAULT_INSTRUCTIONS, FORMATS, session_object
from worker.config.tool_secrets import Origin
from worker.realtime import dialect
from worker.realtime.dialect import Dialect

# The API's for server_vad, and the worker's own where it detects turns itself.
DEFAULT_SILENCE_MS: Final = 500

TOOLS_CHANGED: Final = "fields were changed because the API would refuse the session"

_FORMAT_OF_TYPE: Final = {wire["type"]: name for name, wire in FORMATS.items()}
# Never part of the record: the key, and what a record of Redis lacks.
_NOT_RECORDED: Final = frozenset({"api_key", "lost", "has_lost_key"})
_ORIGINS: Final = {"OPENAI_URL_INSTRUCTIONS": Origin.INSTRUCTIONS, "provider_config": Origin.PROVIDER_CONFIG}
MAX_SHOWN: Final = 10
"""Fields or tools that one log line names: a stranger's `init` of 62 KB may have 31,000 that are wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProfile:
    """What a call keeps, whatever becomes of its connections and its worker.

    Attributes:
        base_url: OPENAI_BASE_URL.
        model: fixed for a connection.
        api_key: never part of the record.
        has_own_key: the key came with the call, and its organization and project with it.
        key_origin: where the call's own key came from (`Origin`); None: it has none, or a former release made it.
        session: for `session.update`, in the shape of the GA dialect, without tools.
        tools: definitions from the settings and for this call; those of the worker's own tools come on top.
        welcome_message: said word for word when the call opens; None: the model greets in its own words.
        welcome_interruptible: whether the caller is listened to meanwhile.
        audio_format: on the connection, both ways.
        silence_ms: the silence that ends the caller's turn; 0 where a model decides (semantic_vad).
        vad_threshold: for the worker's own turn detection, 0 to 1; None: its default.
        safety_identifier: of the caller, for OpenAI alone; None: none is sent.
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
    origins: dict[str, str] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    has_lost_key: bool = False

    @property
    def dialect(self) -> Dialect:
        """How the service is spoken to."""
        return dialect.choose(self.base_url, self.model)

    @property
    def url(self) -> str:
        """Where the session's connection goes to."""
        return self.dialect.url(self.base_url, self.model)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the connection's handshake. They hold the key."""
        headers = self.dialect.headers(self.api_key.get_secret_value(), self.organization, self.project)
        if self.safety_identifier is not None and models.service_of(self.base_url) is models.Service.OPENAI:
            headers[safety_identifier.HEADER] = self.safety_identifier
        return headers

    def with_key_of(self, settings: Settings) -> Self:
        """Return the profile for a session that opens now, with the process's key unless the call has its own."""
        return self if self.has_own_key else replace(self, api_key=settings.openai_api_key)

    @property
    def turn_detection(self) -> TurnDetection:
        """Who decides that the caller has finished speaking."""
        chosen = self.session["audio"]["input"]["turn_detection"]
        return TurnDetection.NONE if chosen is None else TurnDetection(chosen["type"])

    @property
    def transcription_model(self) -> str:
        """The model that transcribes the caller; `unknown` where the session names none."""
        transcription = self.session["audio"]["input"].get("transcription") or {}
        return str(transcription.get("model") or "unknown")

    def changed(self, change: Mapping[str, Any], settings: Settings) -> Self:
        """The profile with a change of the running session that the API has accepted."""
        rest = {name: value for name, value in change.items() if name != "tools"}
        session = session_fields.merged(self.session, rest, models.service_of(self.base_url))
        posted = change.get("tools", ())
        names = set(map(tool_key, posted))
        origins = {name: origin for name, origin in self.origins.items() if name not in names}
        return dataclasses.replace(
            self,
            session=session,
            tools=tuple(session_fields.with_tools(self.tools, posted)),
            silence_ms=_silence_ms(session, settings),
            origins=origins | tool_secrets.origins_of(posted, Origin.CALLS_API),
        )

    def to_record(self) -> dict[str, Any]:
        """What can be remembered of it, as JSON has it: all but `secrets`."""
        record = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _NOT_RECORDED}
        tools = [tool_secrets.public(tool) for tool in self.tools]
        return record | {"audio_format": self.audio_format.value, "tools": tools}

    def secrets(self) -> dict[str, Any]:
        """What `to_record` leaves out: the call's own key, and what MCP servers ask for."""
        kept = [tool_secrets.withheld(tool) for tool in self.tools]
        key = {"api_key": self.api_key.get_secret_value()} if self.has_own_key else {}
        return key | ({"tools": kept} if any(kept) else {})

    @classmethod
    def from_record(cls, record: Mapping[str, Any], secrets: Mapping[str, Any], settings: Settings) -> Self:
        """The profile again, on whatever worker.

        Args:
            record: of `to_record`. Fields of a newer release are passed over, missing ones have their defaults.
            secrets: of `secrets`; without the call's own key that of the settings is used.
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
            | _account(settings, own_key)
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


async def load(
    settings: Settings,
    *,
    uuid: str,
    metadata: Mapping[str, str],
    provider_config: Mapping[str, Any],
    http: aiohttp.ClientSession,
) -> CallProfile:
    """Put the profile of a call together. Takes up to 10 s where a web service is asked and does not answer.

    Args:
        settings: of the process.
        uuid: of the call.
        metadata: of the call.
        provider_config: of `init`: what the web service may answer, too.
        http: see `instructions.http_client`.
    """
    answer: dict[str, Any] = {}
    told = settings.openai_instructions
    if told is None and settings.openai_url_instructions is not None:
        answer = await instructions.fetch(
            http, settings.openai_url_instructions, uuid=uuid, metadata=metadata, proxies=settings.proxies
        )
    draft = _Draft(settings, uuid)
    if told is None and settings.openai_file_instructions is not None and not _tells(answer):
        read = await instructions.read(settings.openai_file_instructions, uuid=uuid)
        if read is not None:
            draft.session["instructions"] = read
    # Changes of OPENAI_SESSION are logged once, at the start: `common.settings.notices`.
    draft.merge(session_fields.accepted(settings.openai_session or {})[0])
    draft.override("OPENAI_URL_INSTRUCTIONS", answer)
    draft.override("provider_config", provider_config)
    return draft.profile(metadata)


async def restored(
    chosen: CallProfile,
    settings: Settings,
    *,
    uuid: str,
    metadata: Mapping[str, str],
    provider_config: Mapping[str, Any],
    http: aiohttp.ClientSession,
) -> tuple[CallProfile, tuple[str, ...]]:
    """Return a profile from Redis with its secrets, and the names of tools that are left out without theirs.

    Each secret is taken from where it came from: the settings, the web service, which is asked again, or the
    `provider_config` that came with the caller's new connection. What the calls API brought is lost.
    """
    log = structlog.get_logger().bind(uuid=uuid)
    wanted = {chosen.origins[name] for name in chosen.lost}
    if chosen.has_lost_key:
        wanted.add(chosen.key_origin or Origin.PROVIDER_CONFIG)
    known: dict[str, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    if Origin.SETTINGS in wanted:
        draft = _Draft(settings, uuid)
        draft.merge(session_fields.accepted(settings.openai_session or {})[0])
        known[Origin.SETTINGS] = draft.tools
    if Origin.INSTRUCTIONS in wanted and settings.openai_url_instructions is not None:
        answer = await instructions.fetch(
            http, settings.openai_url_instructions, uuid=uuid, metadata=metadata, proxies=settings.proxies
        )
        known[Origin.INSTRUCTIONS] = _tools_in(answer, "OPENAI_URL_INSTRUCTIONS", settings, uuid)
    if Origin.PROVIDER_CONFIG in wanted:
        known[Origin.PROVIDER_CONFIG] = _tools_in(provider_config, "provider_config", settings, uuid)
    tools: list[dict[str, Any]] = []
    left_out: list[str] = []
    for tool in chosen.tools:
        name = tool_key(tool)
        made: dict[str, Any] | None = tool
        if name in chosen.lost:
            made = tool_secrets.completed(tool, known.get(chosen.origins[name], {}).get(name))
        if made is None:
            left_out.append(name)
        else:
            tools.append(made)
    if left_out:
        log.warning(
            "tools without their secrets left out",
            number=len(left_out),
            tools=[name[:64] for name in left_out[:MAX_SHOWN]],
            remedy="POST /calls/{uuid}/session with the tools",
        )
    account: dict[str, Any] = {}
    if chosen.has_lost_key:
        is_of_service = chosen.key_origin == Origin.INSTRUCTIONS
        account = _restored_account(answer if is_of_service else provider_config, settings, log)
        account["key_origin"] = chosen.key_origin if account["has_own_key"] else None
    origins = {name: origin for name, origin in chosen.origins.items() if name not in left_out}
    lost: dict[str, Any] = {"lost": frozenset(), "has_lost_key": False}
    return dataclasses.replace(chosen, tools=tuple(tools), origins=origins, **account, **lost), tuple(left_out)


def _restored_account(
    source: Mapping[str, Any], settings: Settings, log: structlog.stdlib.BoundLogger
) -> dict[str, Any]:
    """Return who pays for a call whose own key Redis does not have."""
    try:
        own_key = _own_key(source.get("api_key"))
    except ValueError:
        own_key = None
    if not isinstance(own_key, str):
        own_key = None
        log.warning("the call's own key was lost", effect="the call goes on with OPENAI_API_KEY")
    return _account(settings, own_key)


def _tools_in(given: Mapping[str, Any], source: str, settings: Settings, uuid: str) -> dict[str, Any]:
    """Return the tools that a source names for a call, by their names."""
    draft = _Draft(settings, uuid)
    draft.session.pop("tools", None)
    draft.override(source, given)
    return draft.tools


def log_tools_changed(log: structlog.stdlib.BoundLogger, source: str, changes: Iterable[Change]) -> None:
    """Log what was changed in a session because the API would refuse it: one line, the first tools by name."""
    told = function_tools.by_tool(changes)
    if told:
        shown = dict(itertools.islice(told.items(), MAX_SHOWN))
        log.warning(TOOLS_CHANGED, source=source, number=len(told), tools=shown)


def _account(settings: Settings, own_key: str | None) -> dict[str, Any]:
    """Who pays. Organization and project belong to the settings' key."""
    if own_key is not None:
        return {"api_key": SecretStr(own_key), "has_own_key": True, "organization": None, "project": None}
    return {
        "api_key": settings.openai_api_key,
        "has_own_key": False,
        "organization": settings.openai_organization,
        "project": settings.openai_project,
    }


def _silence_ms(session: Mapping[str, Any], settings: Settings) -> int:
    turn_detection = session["audio"]["input"]["turn_detection"]
    if turn_detection is None:
        silence_ms = settings.openai_turn_detection_silence_ms
        return DEFAULT_SILENCE_MS if silence_ms is None else silence_ms
    if turn_detection["type"] == TurnDetection.SEMANTIC_VAD:
        return 0
    return int(turn_detection.get("silence_duration_ms", DEFAULT_SILENCE_MS))


def _tells(answer: Mapping[str, Any]) -> bool:
    told = (answer.get(name) for name in ("system", "instructions"))
    return any(isinstance(each, str) and each.strip() for each in told)


def _problem_of(given: object) -> str:
    """Return why nothing of this can be a call's fields; empty: it can."""
    if not isinstance(given, Mapping):
        return "must be a JSON object"
    if is_too_deep(given):
        return f"must not be nested deeper than {MAX_LEVELS} levels"
    try:
        orjson.dumps(given)
    except orjson.JSONEncodeError:
        return "must be a JSON object"
    return ""


def _message(value: object) -> object:
    if not isinstance(value, (str, type(None))):
        raise ValueError("must be text")
    return value or None


def _own_key(value: object) -> object:
    """Take a key of the call's own; None if there is none."""
    return api_key(value) if value else None


_OF_THE_CALL: Final[dict[str, Parser]] = {
    "welcome_message": _message,
    "welcome_interruptible": boolean,
    "api_key": _own_key,
}
"""Fields of a call that are none of its session."""


class _Draft:
    """A profile in the making."""

    def __init__(self, settings: Settings, uuid: str) -> None:
        self.session = session_object(settings)
        self._origin = Origin.SETTINGS
        self._key_origin = Origin.SETTINGS
        if settings.openai_mcp_servers:
            self.session["tools"] = settings.openai_mcp_servers
        if settings.openai_temperature is not None:
            self.session["temperature"] = settings.openai_temperature
        self._model = settings.openai_model
        self._own: dict[str, Any] = {
            "welcome_message": settings.openai_welcome_message,
            "welcome_interruptible": settings.openai_welcome_interruptible,
            "api_key": None,
        }
        self._settings = settings
        self._service = models.service_of(settings.openai_base_url)
        self._uuid = uuid
        self._absent: set[str] = set()
        self._has_unrelated_model = False
        self._log = structlog.get_logger().bind(uuid=uuid)

    def merge(self, session: Mapping[str, Any]) -> None:
        """Put fields that are right over those that are there."""
        self._model = session.get("model") or self._model
        rest = {name: value for name, value in session.items() if name != "model"}
        self.session = session_fields.merged(self.session, rest, self._service)

    @property
    def tools(self) -> dict[str, Any]:
        """The tools so far, by their names."""
        return {tool_key(tool): tool for tool in self.session.get("tools", ())}

    def override(self, source: str, given: Any) -> None:
        """Put what was given for this call over what is there, as far as it is right."""
        tools, key = self.session.get("tools"), self._own["api_key"]
        self._override(source, given)
        if self.session.get("tools") is not tools:
            self._origin = _ORIGINS[source]
        if self._own["api_key"] is not key:
            self._key_origin = _ORIGINS[source]

    def _override(self, source: str, given: Any) -> None:
        if problem := _problem_of(given):
            self._warn(source, [Wrong("", problem)])
            return
        left = session_fields.without_nulls(given, self._service)
        if not left.get("api_key"):
            left.pop("api_key", None)
        wrong: list[Wrong] = []
        for name, parser in _OF_THE_CALL.items():
            if name in left:
                try:
                    self._own[name] = parser(left.pop(name))
                except ValueError as error:
                    wrong.append(Wrong(name, str(error)))
        changes = self._merge_checked(left.pop("session", {}), wrong)
        known = {name: value for name, value in left.items() if session_fields.is_session_field(name)}
        unknown = [name for name in left if name not in known]
        if unknown:
            shown = [name[:40] for name in unknown[:MAX_SHOWN]]
            self._log.warning("unknown fields of a call passed over", source=source, fields=shown)
        changes += self._merge_checked(known, wrong)
        self._warn(source, wrong)
        log_tools_changed(self._log, source, changes)

    def profile(self, metadata: Mapping[str, str]) -> CallProfile:
        """The finished profile."""
        settings, own_key = self._settings, self._own["api_key"]
        tools = tuple(self.session.pop("tools", ()))
        self._fit_model()
        if self.session.get("prompt") and self.session.get("instructions") == DEFAULT_INSTRUCTIONS:
            # Instructions of a session take the place of the stored prompt's.
            del self.session["instructions"]
        if "instructions" in self.session:
            self.session["instructions"] = self._filled(self.session["instructions"], metadata)
        welcome_message = self._filled(self._own["welcome_message"] or "", metadata) or None
        self._log_absent()
        return CallProfile(
            base_url=settings.openai_base_url,
            model=self._model,
            **_account(settings, own_key),
            key_origin=self._key_origin if own_key is not None else None,
            audio_format=self._one_format(),
            silence_ms=_silence_ms(self.session, settings),
            vad_threshold=settings.openai_turn_detection_threshold,
            safety_identifier=safety_identifier.of_call(settings.safety_identifier_secret, metadata),
            session=self.session,
            tools=tools,
            origins=tool_secrets.origins_of(tools, self._origin),
            welcome_message=welcome_message,
            welcome_interruptible=self._own["welcome_interruptible"],
        )

    def _merge_checked(self, given: object, wrong: list[Wrong]) -> list[Change]:
        """Merge the fields that are right. Adds to `wrong`, and returns what was changed for the API."""
        if not isinstance(given, Mapping):
            wrong.append(Wrong("session", "must be an object"))
            return []
        present = session_fields.without_nulls(given, self._service)
        session, wrong_here = session_fields.checked(present, self._service)
        wrong += wrong_here
        self._check_model(session, wrong)
        session, changes = session_fields.accepted(session)
        self.merge(session)
        return changes

    def _check_model(self, session: dict[str, Any], wrong: list[Wrong]) -> None:
        """Leave out a model that does not speak, which names something else of the tenant's. Told once a call."""
        model = session.get("model")
        if model in (None, self._model) or models.may_speak(str(model), self._service):
            return
        del session["model"]
        if not self._has_unrelated_model:
            wrong.append(Wrong("model", f"must be a voice model: the call has {self._model}"))
        self._has_unrelated_model = True

    def _fit_model(self) -> None:
        """Leave out what the model would refuse: it may be another than that of the settings."""
        if not dialect.choose(self._settings.openai_base_url, self._model).has_temperature:
            self.session.pop("temperature", None)
        if models.cannot_reason(self._model):
            self.session.pop("reasoning", None)

    def _one_format(self) -> AudioFormat:
        """The format of both directions: the worker has one for a call."""
        sides = [self.session["audio"][side] for side in ("input", "output")]
        types = {side.get("format", {}).get("type") for side in sides}
        chosen = self._settings.openai_audio_format
        if len(types) == 1:
            chosen = _FORMAT_OF_TYPE.get(types.pop(), chosen)
        else:
            self._warn("the call", [Wrong("audio.input.format", "must be that of audio.output")])
        for side in sides:
            side["format"] = dict(FORMATS[chosen])
        return chosen

    def _filled(self, text: str, metadata: Mapping[str, str]) -> str:
        return instructions.fill(text, uuid=self._uuid, metadata=metadata, absent=self._absent)

    def _log_absent(self) -> None:
        """Name the placeholders that are empty in this call, in one line."""
        if self._absent:
            self._log.warning(
                "placeholders without a value",
                number=len(self._absent),
                placeholders=sorted(self._absent)[:MAX_SHOWN],
                hint="they are empty; the dialplan posts the caller's number and other data to AVR Core's /call",
            )

    def _warn(self, source: str, wrong: Sequence[Wrong]) -> None:
        if wrong:
            # Never the values: they may be secrets.
            shown = {each.path: each.allowed for each in wrong[:MAX_SHOWN]}
            self._log.warning(
                "fields of a call are wrong and were passed over", source=source, number=len(wrong), fields=shown
            )
