"""Figures of a live call, from the draft of its record in Redis."""

from __future__ import annotations

import time
from typing import Any, Final

from common.errors import RegistryUnavailable
from common.link.wire import EndReason
from common.store.registry import Registry
from dispatcher.records.builder import End, build
from dispatcher.records.draft import Draft

_NAMES: Final = (
    "turns",
    "interruptions",
    "keys",
    "tools",
    "tools_left_out",
    "moves",
    "recoveries",
    "answers_retried",
    "answers_given_up",
    "greeting_seconds",
    "turn_latency",
    "cost_usd",
    "model",
    "voice",
)


async def figures_of_call(registry: Registry, uuid: str) -> dict[str, Any] | None:
    """Return what the record of a live call would say now; None: its dispatcher has written no draft yet.

    The call's dispatcher writes the draft about once a second. So any dispatcher can read it, and readers cause no
    work for the call.
    """
    try:
        written = await registry.draft(uuid)
        draft = None if written is None else Draft.read(uuid, written, with_text=False)
    except (RegistryUnavailable, ValueError):
        return None
    if draft is None:
        return None
    end = End("", EndReason.LOST, "", draft.started_at, time.time())
    record = build(uuid, {}, (), draft.facts, end).as_json()
    return {name: record[name] for name in _NAMES}
