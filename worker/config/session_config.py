"""The configuration of one session: fixed when the session is opened."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from common.settings import models
from common.settings.extensions import ONLY_INTERNAL, TransferRule
from common.settings.function_tools import MAX_TOOLS
from common.settings.models import Service
from common.settings.openai_fields import TurnDetection
from common.settings.session_fields import tool_key
from common.settings.settings import Settings
from worker.config.profile import CallProfile
from worker.realtime.dialect import Dialect
from worker.tools import built_in
from worker.tools.built_in import BUILT_IN
from worker.tools.tool_set import ToolSet

# The API's default for server_vad. It means the same where turns are found on this side.
DEFAULT_PREFIX_MS = 300
# Sessions that were opened together are replaced at different times.
LEAST_ROLLOVER_PART = 0.9


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """All settings that a session needs, from the call's profile and from the process.

    A `CallProfile` is another class for three reasons. Redis stores the profile for the life of the call, so its
    field names are a format that two releases share. This configuration is made anew for each session, with the
    settings and tools of the worker that has the session then. And a profile has the API key, which no session
    needs.

    It has more than 20 fields, because it is the one list of these settings.

    Attributes:
        dialect: of the service.
        service: that answers.
        notes: system messages that the model gets when the session has the call.
        session: the session object, GA-shaped, tools included.
        audio_format: `pcm`, `pcmu` or `pcma`.
        silence_ms: how much silence the service waits for at the end of a turn; 0 where it does not say.
        local_silence_ms: the same where turns are found on this side; None where the service does it.
        local_prefix_ms: how much audio from before its first sound belongs to a turn, on this side.
        local_threshold: how loud speech is, 0 to 1, on this side; None: the detector's default.
        welcome: said word for word when the call opens; None: the model greets in its own words.
        welcome_interruptible: whether the caller is listened to meanwhile.
        answer_failed_text: said word for word in place of an answer that cannot be had.
        approved_servers: labels of MCP servers whose tools need no approval.
        retry_seconds: how long the call waits for a session that cannot be opened.
        digits_seconds: keys are one entry until this silence on the keypad.
        silence_hangup_seconds: an abandoned call ends after this time; None: never.
        max_call_seconds: a call ends after this time; None: never.
        rollover_seconds: a session is replaced after this time.
        rollover_part: share of that time, and of a session's own limit, after which this session is replaced.
        idempotent: tools that may run again when it is not known whether they have.
        transfers: where the model may transfer the caller to.
        built_in: names of the built-in tools that no file replaces.
    """

    dialect: Dialect
    session: dict[str, Any]
    audio_format: str = "pcm"
    silence_ms: int = 500
    local_silence_ms: int | None = None
    local_prefix_ms: int = 300
    local_threshold: float | None = None
    welcome: str | None = None
    welcome_interruptible: bool = True
    answer_failed_text: str = "Sorry, I did not get that."
    approved_servers: frozenset[str] = frozenset()
    retry_seconds: float = 30.0
    digits_seconds: float = 1.5
    silence_hangup_seconds: float | None = None
    max_call_seconds: float | None = None
    rollover_seconds: float = 3300.0
    rollover_part: float = 1.0
    idempotent: frozenset[str] = frozenset()
    transfers: TransferRule = ONLY_INTERNAL
    built_in: frozenset[str] = BUILT_IN
    service: Service = Service.OPENAI
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        profile: CallProfile,
        tool_set: ToolSet,
        settings: Settings,
        *,
        tools: list[dict[str, Any]],
        without_secrets: Sequence[str] = (),
    ) -> Self:
        """Derive the configuration of a call's session.

        Args:
            profile: of the call.
            tool_set: the call's tools in files.
            settings: of the process.
            tools: of the session: see `session_tools`.
            without_secrets: names of tools that are left out, because their secrets were lost.
        """
        found_here = profile.turn_detection is TurnDetection.NONE
        prefix_ms = settings.openai_turn_detection_prefix_padding_ms
        allowed = settings.transfer_allowed
        lost = ", ".join(without_secrets)
        return cls(
            dialect=profile.dialect,
            session=profile.session | {"tools": tools},
            audio_format=profile.audio_format.value,
            silence_ms=profile.silence_ms,
            local_silence_ms=profile.silence_ms if found_here else None,
            local_prefix_ms=DEFAULT_PREFIX_MS if prefix_ms is None else prefix_ms,
            local_threshold=profile.vad_threshold,
            welcome=profile.welcome_message,
            welcome_interruptible=profile.welcome_interruptible,
            answer_failed_text=settings.answer_failed_text,
            approved_servers=frozenset(
                str(tool.get("server_label")) for tool in tools if tool.get("require_approval") == "never"
            ),
            retry_seconds=settings.upstream_retry_seconds,
            digits_seconds=settings.dtmf_timeout_ms / 1000,
            silence_hangup_seconds=settings.silence_hangup_seconds,
            max_call_seconds=settings.max_call_seconds,
            rollover_seconds=settings.session_rollover_seconds,
            rollover_part=random.uniform(LEAST_ROLLOVER_PART, 1.0),
            idempotent=frozenset(name for name in tool_set.names if tool_set.is_idempotent(name)),
            transfers=TransferRule(settings.transfer_context, None if allowed is None else tuple(allowed)),
            built_in=BUILT_IN - set(tool_set.names),
            service=models.service_of(profile.base_url),
            notes=(f"[The tools of {lost} are not available at the moment.]",) if lost else (),
        )


def session_tools(profile: CallProfile, tool_set: ToolSet) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the session's tools, and the names of tools that exceed the API's limit."""
    # A call may describe a function otherwise; the function itself stays.
    in_place = [tool for tool in built_in.FUNCTIONS if tool_key(tool) not in tool_set.names]
    own = [*in_place, *tool_set.definitions]
    names = {*map(tool_key, own)}
    functions = {tool_key(tool): tool for tool in profile.tools if tool.get("type") == "function"}
    described = {name: tool for name, tool in functions.items() if name in names}
    own = [{**tool, **described.get(tool_key(tool), {})} for tool in own]
    ours, in_files = own[: len(in_place)], own[len(in_place) :]
    of_the_call = [tool for tool in profile.tools if tool_key(tool) not in described]
    room = MAX_TOOLS - len(ours)
    first, second = of_the_call[:room], in_files[: max(room - len(of_the_call), 0)]
    left_out = [*of_the_call[len(first) :], *in_files[len(second) :]]
    return [*first, *ours, *second], [tool_key(tool)[:64] for tool in left_out]
