"""What one call's session is to be: frozen when the call opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.settings.extensions import ONLY_INTERNAL, TransferRule
from common.settings.models import Service
from worker.realtime.dialect import Dialect
from worker.tools.built_in import BUILT_IN


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a session needs to know of its settings.

    Attributes:
        dialect: of the service.
        service: that answers.
        notes: system messages that the model gets when the session has the call.
        session: the session object, GA-shaped, tools included.
        audio_format: `pcm`, `pcmu` or `pcma`.
        silence_ms: how much silence the service waits for at the end of a turn; 0 where it does not say.
        local_silence_ms: the same where turns are found on this side; None where the service does it.
        local_prefix_ms: how much of what was before its first sound belongs to a turn, on this side.
        local_threshold: how loud speech is, 0 to 1, on this side.
        welcome: said word for word when the call opens; None: the model greets in its own words.
        welcome_interruptible: whether the caller is listened to meanwhile.
        answer_failed_text: said word for word in place of an answer that cannot be had.
        approved_servers: labels of MCP servers whose tools need no approval.
        retry_seconds: how long the call waits for a session that cannot be opened.
        digits_seconds: keys are one entry until this silence on the keypad.
        silence_hangup_seconds: an abandoned call ends after so long; None: never.
        max_call_seconds: a call ends after so long; None: never.
        rollover_seconds: a session is replaced after so long.
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
    local_threshold: float = 0.5
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
