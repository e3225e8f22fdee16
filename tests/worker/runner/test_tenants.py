"""The tenant of a call at its worker: where it comes from, whom it is told to, and what its costs count for."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.link import wire
from common.settings.settings import Settings
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.worker import api_events as api
from tests.worker.call_desk import KEY, QUICK, Desk, begun, call_to, counted
from tests.worker.config.test_session_change import next_session
from tests.worker.config.web_service import json, web_service
from tests.worker.shared import resources

TENANTS: dict[str, Any] = {"tenant_key": "to", "tenants": ["acme=+4930123456", "globex"]}
MODEL = "gpt-transcribe"
UUID = "3f0c7a52-9b1d-4e8f-a6c4-5d2e1f0b9a87"


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(QUICK) as simulator:
        yield simulator


def told(desk: Desk) -> list[str]:
    """Return the tenants that the dispatcher was told, with the profile."""
    return [record.tenant for record in desk.records if isinstance(record, wire.Profile)]


async def tenant_of(simulator: RealtimeSimulator, answer: object = None, /, **opening: Any) -> str:
    """Return the tenant of a call with this answer of the instructions service, and this OPEN."""
    async with (
        web_service(json(answer)) as service,
        resources(
            Settings(
                openai_base_url=simulator.url,
                openai_api_key=SecretStr(KEY),
                openai_url_instructions=service.url,
                **TENANTS,
            )
        ) as shared,
        begun(Desk(shared, **opening)) as desk,
    ):
        await desk.ready()
        (tenant,) = told(desk)
        return tenant


async def test_without_the_key_no_call_has_a_tenant(simulator: RealtimeSimulator) -> None:
    with capture_logs() as lines:
        async with (
            web_service(json({"tenant": "acme"})) as service,
            call_to(simulator.url, openai_url_instructions=service.url, tenants=["acme"]) as desk,
        ):
            await desk.ready()
            assert told(desk) == [""]
    assert [line["fields"] for line in lines if line["event"] == "unknown fields of a call ignored"] == [
        ["tenant"]
    ]


@pytest.mark.parametrize(
    ("answer", "opening", "tenant"),
    [
        ({}, {"tenant": "globex"}, "globex"),
        ({}, {"tenant": "globex", "metadata": {"to": "+4930123456"}}, "globex"),
        # A dispatcher of an earlier release tells no tenant.
        ({}, {"metadata": {"to": "004930123456"}}, "acme"),
        ({}, {"metadata": {"to": "umbrella"}}, "other"),
        ({}, {}, "other"),
        # The answer comes before metadata, and may name tenants that TENANTS does not list.
        ({"tenant": "Globex"}, {"tenant": "acme"}, "globex"),
        ({"tenant": "+49 30 123456"}, {}, "acme"),
        ({"tenant": "umbrella"}, {"tenant": "acme"}, "umbrella"),
        ({"tenant": None}, {"tenant": "acme"}, "acme"),
        # A call from the live page belongs to no tenant, and no source changes that.
        ({"tenant": "acme"}, {"tenant": "page"}, "page"),
        ({"tenant": "page"}, {"tenant": "acme"}, "acme"),
        # `init` comes last, and names listed tenants alone.
        ({"tenant": "umbrella"}, {"tenant": "acme", "provider_config": {"tenant": "globex"}}, "globex"),
        ({"tenant": "umbrella"}, {"tenant": "acme", "provider_config": {"tenant": "initech"}}, "umbrella"),
    ],
)
async def test_the_strongest_source_names_the_tenant(
    simulator: RealtimeSimulator, answer: object, opening: dict[str, Any], tenant: str
) -> None:
    assert await tenant_of(simulator, answer, **opening) == tenant


@pytest.mark.parametrize("name", ["+4930123457", UUID, "two words", "", 7, ["acme"]])
async def test_an_answer_that_is_no_name_is_ignored_and_not_logged(
    simulator: RealtimeSimulator, name: object
) -> None:
    with capture_logs() as lines:
        assert await tenant_of(simulator, {"tenant": name}, tenant="acme") == "acme"
    assert [line["fields"].keys() for line in lines if line["event"] == "wrong fields of a call ignored"] == [
        {"tenant"}
    ]
    assert "4930123457" not in str(lines)


@pytest.mark.parametrize("recalled", [False, True])
async def test_the_tenant_survives_a_move_and_the_loss_of_all(
    simulator: RealtimeSimulator, recalled: bool
) -> None:
    async with (
        web_service(json({"tenant": "umbrella"})) as service,
        call_to(simulator.url, openai_url_instructions=service.url, **TENANTS) as desk,
    ):
        await desk.ready()
        async with next_session(simulator, desk, recalled=recalled) as (following, _):
            assert told(following) == ["umbrella"]
        assert len(service.requests) == 1


async def test_an_earlier_release_in_between_does_not_change_it(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, **TENANTS) as first:
        await first.ready()
        (profile,) = (record for record in first.records if isinstance(record, wire.Profile))
        # That worker knows no tenant, so the profile has none; the dispatcher still knows it.
        older = {name: value for name, value in profile.record.items() if name != "tenant"}
        async with begun(Desk(first.shared, restore=True, tenant="umbrella", epoch=2)) as desk:
            desk.record(wire.Profile(older), wire.Resume("worker_lost"))
            await desk.ready()
            assert told(desk) == ["umbrella"]


async def test_a_profile_with_a_foreign_tenant_makes_no_new_label(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url, **TENANTS) as first:
        await first.ready()
        (profile,) = (record for record in first.records if isinstance(record, wire.Profile))
        changed = dataclasses.replace(profile, record=profile.record | {"tenant": UUID}, tenant=UUID)
        async with begun(Desk(first.shared, restore=True, epoch=2)) as desk:
            desk.record(changed, wire.Resume("worker_lost"))
            await desk.ready()
            assert told(desk) == ["other"]


async def test_costs_count_for_the_tenant_of_the_call(simulator: RealtimeSimulator) -> None:
    before = {tenant: counted("cost_usd", model=MODEL, tenant=tenant) for tenant in ("acme", "other", "")}
    async with (
        web_service(json({"tenant": "acme"})) as service,
        call_to(
            simulator.url, openai_url_instructions=service.url, openai_transcription_model=MODEL, **TENANTS
        ) as desk,
    ):
        await desk.ready()
        opened = await simulator.wait_for_session()
        usage = {"type": "duration", "seconds": 20}
        simulator.faults.send(opened, api.transcribed("item_1", "Hello") | {"usage": usage})
        await eventually(lambda: counted("cost_usd", model=MODEL, tenant="acme") > before["acme"])
    after = {tenant: counted("cost_usd", model=MODEL, tenant=tenant) for tenant in before}
    assert after == before | {"acme": pytest.approx(before["acme"] + 0.0015)}
