"""Loading of the settings of one call.

Four sources follow, from the weakest to the strongest: the variables with their instructions, OPENAI_SESSION, the
answer of OPENAI_URL_INSTRUCTIONS, and `provider_config` of AVR Core's `init`. A wrong field of the last two is
ignored and logged, because a call with a default voice is better than no call.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson
import structlog

from common.net.json_depth import MAX_LEVELS, is_too_deep
from common.observe.label_values import PAGE
from common.settings import function_tools, models, session_fields
from common.settings.function_tools import Change
from common.settings.session_fields import Wrong, tool_key
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from common.settings.tenants import FIELD
from common.settings.values import Parser, api_key, boolean
from worker.config import instructions, safety_identifier, tool_secrets
from worker.config.profile import (
    FROM_DEFAULT,
    FROM_STORED_PROMPT,
    MAX_SHOWN,
    CallProfile,
    account,
    silence_ms,
)
from worker.config.session_update import DEFAULT_INSTRUCTIONS, FORMATS, session_object
from worker.config.tool_secrets import Origin
from worker.realtime import dialect

TOOLS_CHANGED: Final = "fields were changed because the API would refuse the session"

_FORMAT_OF_TYPE: Final = {wire["type"]: name for name, wire in FORMATS.items()}
_ORIGINS: Final = {"OPENAI_URL_INSTRUCTIONS": Origin.INSTRUCTIONS, "provider_config": Origin.PROVIDER_CONFIG}


async def load(
    settings: Settings,
    *,
    uuid: str,
    metadata: Mapping[str, str],
    provider_config: Mapping[str, Any],
    http: aiohttp.ClientSession,
    tenant: str = "",
) -> CallProfile:
    """Load the profile of a call, within 10 s also if the web service does not answer.

    Args:
        settings: settings of the process.
        uuid: id of the call.
        metadata: metadata of the call.
        provider_config: field of `init`, with the same fields as the web service's answer.
        http: see `instructions.http_client`.
        tenant: of the call, unless a source names another one; empty: there are no tenants.
    """
    answer: dict[str, Any] = {}
    told = settings.openai_instructions
    if told is None and settings.openai_url_instructions is not None:
        answer = await instructions.fetch(
            http, settings.openai_url_instructions, uuid=uuid, metadata=metadata, proxies=settings.proxies
        )
    draft = ProfileDraft(settings, uuid, tenant)
    if told is None and settings.openai_file_instructions is not None and not tells(answer):
        read = await instructions.read(settings.openai_file_instructions, uuid=uuid)
        if read is not None:
            draft.instruct("OPENAI_FILE_INSTRUCTIONS", read)
    # Changes of OPENAI_SESSION are logged once, at the start: `common.settings.notices`.
    draft.configure(session_fields.accepted(settings.openai_session or {})[0])
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
    """Return a profile from Redis with its secrets, and the names of tools that lost their secrets.

    Each secret comes from its first source: the settings, the web service, which is asked again, or the
    `provider_config` of the caller's new connection. Secrets that came by the calls API are lost.
    """
    log = structlog.get_logger().bind(uuid=uuid)
    wanted = {chosen.origins[name] for name in chosen.lost}
    if chosen.has_lost_key:
        wanted.add(chosen.key_origin or Origin.PROVIDER_CONFIG)
    known: dict[str, dict[str, Any]] = {}
    answer: dict[str, Any] = {}
    if Origin.SETTINGS in wanted:
        draft = ProfileDraft(settings, uuid)
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
    return account(settings, own_key)


def _tools_in(given: Mapping[str, Any], source: str, settings: Settings, uuid: str) -> dict[str, Any]:
    """Return the tools that a source names for a call, by their names."""
    draft = ProfileDraft(settings, uuid)
    draft.session.pop("tools", None)
    draft.override(source, given)
    return draft.tools


def log_tools_changed(log: structlog.stdlib.BoundLogger, source: str, changes: Iterable[Change]) -> None:
    """Log in one line the changes of a session that the API would refuse, with the first tools by name."""
    told = function_tools.by_tool(changes)
    if told:
        shown = dict(itertools.islice(told.items(), MAX_SHOWN))
        log.warning(TOOLS_CHANGED, source=source, number=len(told), tools=shown)


def tells(answer: Mapping[str, Any]) -> bool:
    """Return whether an answer of the web service has instructions."""
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
    """Return the call's own key; None: it has none."""
    return api_key(value) if value else None


_OF_THE_CALL: Final[dict[str, Parser]] = {
    "welcome_message": _message,
    "welcome_interruptible": boolean,
    "api_key": _own_key,
}
"""Fields of a call that are none of its session."""


class ProfileDraft:
    """A profile in the making."""

    def __init__(self, settings: Settings, uuid: str, tenant: str = "") -> None:
        self.session = session_object(settings)
        self._tenant = tenant
        self._origin = Origin.SETTINGS
        self._key_origin = Origin.SETTINGS
        if settings.openai_mcp_servers:
            self.session["tools"] = settings.openai_mcp_servers
        if settings.openai_temperature is not None:
            self.session["temperature"] = settings.openai_temperature
        self._instructions_from = "OPENAI_INSTRUCTIONS" if settings.openai_instructions else FROM_DEFAULT
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

    def instruct(self, source: str, text: str) -> None:
        """Put the instructions of a source over those that are there."""
        self.session["instructions"] = text
        self._instructions_from = source

    def configure(self, session: Mapping[str, Any]) -> None:
        """Put the fields of OPENAI_SESSION over those that are there."""
        self.merge(session)
        if session.get("instructions"):
            self._instructions_from = "OPENAI_SESSION"

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
        """Override settings by the valid fields that were given for this call."""
        tools, key = self.session.get("tools"), self._own["api_key"]
        text = self.session.get("instructions")
        self._override(source, given)
        if self.session.get("instructions") != text:
            self._instructions_from = source
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
        if self._settings.known_tenants and FIELD in left:
            self._take_tenant(source, left.pop(FIELD), wrong)
        changes = self._merge_checked(left.pop("session", {}), wrong)
        known = {name: value for name, value in left.items() if session_fields.is_session_field(name)}
        unknown = [name for name in left if name not in known]
        if unknown:
            shown = [name[:40] for name in unknown[:MAX_SHOWN]]
            self._log.warning("unknown fields of a call ignored", source=source, fields=shown)
        changes += self._merge_checked(known, wrong)
        self._warn(source, wrong)
        log_tools_changed(self._log, source, changes)

    def profile(self, metadata: Mapping[str, str]) -> CallProfile:
        """Return the finished profile."""
        settings, own_key = self._settings, self._own["api_key"]
        tools = tuple(self.session.pop("tools", ()))
        self._fit_model()
        if self.session.get("prompt") and self.session.get("instructions") == DEFAULT_INSTRUCTIONS:
            # Instructions of a session take the place of the stored prompt's.
            del self.session["instructions"]
            self._instructions_from = FROM_STORED_PROMPT
        if "instructions" in self.session:
            self.session["instructions"] = self._filled(self.session["instructions"], metadata)
        welcome_message = self._filled(self._own["welcome_message"] or "", metadata) or None
        self._log_absent()
        return CallProfile(
            base_url=settings.openai_base_url,
            model=self._model,
            **account(settings, own_key),
            key_origin=self._key_origin if own_key is not None else None,
            audio_format=self._one_format(),
            silence_ms=silence_ms(self.session, settings),
            vad_threshold=settings.openai_turn_detection_threshold,
            safety_identifier=safety_identifier.of_call(settings.safety_identifier_secret, metadata),
            session=self.session,
            tools=tools,
            instructions_from=self._instructions_from,
            origins=tool_secrets.origins_of(tools, self._origin),
            welcome_message=welcome_message,
            welcome_interruptible=self._own["welcome_interruptible"],
            tenant=self._tenant,
        )

    def _take_tenant(self, source: str, value: object, wrong: list[Wrong]) -> None:
        """Take the tenant that a source names; `init` may come from a stranger, so it names listed ones alone."""
        if self._tenant == PAGE:
            return
        tenants = self._settings.known_tenants
        if _ORIGINS[source] is Origin.INSTRUCTIONS:
            try:
                self._tenant = tenants.of_answer(value)
            except ValueError as error:
                wrong.append(Wrong(FIELD, str(error)))
        elif listed := tenants.listed(value):
            self._tenant = listed
        else:
            wrong.append(Wrong(FIELD, "must be one that TENANTS lists"))

    def _merge_checked(self, given: object, wrong: list[Wrong]) -> list[Change]:
        """Merge the valid fields, add others to `wrong`, and return the changes for the API."""
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
        """Remove fields that the model would refuse, because it may differ from the model of the settings."""
        if not dialect.choose(self._settings.openai_base_url, self._model).has_temperature:
            self.session.pop("temperature", None)
        if models.cannot_reason(self._model):
            self.session.pop("reasoning", None)

    def _one_format(self) -> AudioFormat:
        """Return the format of both directions, of which a call has one."""
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
            self._log.warning("wrong fields of a call ignored", source=source, number=len(wrong), fields=shown)
