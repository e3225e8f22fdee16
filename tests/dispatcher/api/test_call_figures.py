"""Figures of a live call, from the draft that its dispatcher keeps in Redis."""

from __future__ import annotations

from common.store.leases import CallLease
from common.store.registry import Registry
from dispatcher.api.call_figures import figures_of_call
from dispatcher.records.draft import Draft
from tests.dispatcher.records.test_facts import busy


async def keep(registry: Registry, draft: str) -> None:
    held = CallLease("call-1", "w-9", 1, "live", 1, 1, {})
    await registry.renew("d-1", [held], lease_seconds=60)
    await registry.keep_drafts({"call-1": draft}, seconds=60)


async def test_they_are_what_the_record_would_say(registry: Registry) -> None:
    await keep(registry, Draft("call-1", {}, 1_000.0, busy()).encoded())
    figures = await figures_of_call(registry, "call-1")
    assert figures is not None
    assert figures["tools"] == [{"name": "weather", "seconds": 0.2, "outcome": "completed"}]
    assert (figures["turns"], figures["interruptions"], figures["moves"], figures["recoveries"]) == (1, 1, 1, 1)
    assert (figures["turn_latency"]["worst_seconds"], figures["model"]) == (0.8, "gpt-realtime-2")
    assert not {"said", "ending", "reason", "metadata"} & figures.keys()


async def test_a_call_without_a_draft_has_none(registry: Registry) -> None:
    assert await figures_of_call(registry, "call-1") is None


async def test_a_draft_that_cannot_be_read_has_none(registry: Registry) -> None:
    await keep(registry, '{"facts": {}}')
    assert await figures_of_call(registry, "call-1") is None
