"""Secrets that Redis does not have: when dispatcher and worker were lost they are restored, or the tool goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from common.link import wire
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.worker.call_desk import QUICK, Desk, begun, call_to
from tests.worker.config.test_session_change import change, names, next_session
from tests.worker.config.web_service import json, text, web_service

SECRET = "plain-secret-of-crm"
CRM = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example", "require_approval": "never"}
HIDDEN: list[dict[str, Any]] = [
    {"authorization": SECRET},
    {"headers": {"X-Auth": SECRET}},
    {"server_url": f"https://crm.example/sse?token={SECRET}"},
    {"server_url": f"https://user:{SECRET}@crm.example/"},
]


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(QUICK) as simulator:
        yield simulator


def tool_of(opened: SimulatedSession, name: str = "crm") -> dict[str, Any] | None:
    tools = opened.session["tools"]
    return next((tool for tool in tools if name in (tool.get("server_label"), tool.get("name"))), None)


def notes(opened: SimulatedSession) -> list[str]:
    """System messages that the model got."""
    return [item.text for item in opened.items if item.role == "system"]


def remembered(desk: Desk) -> str:
    """Return the settings as Redis gets them."""
    return "".join(str(orjson.dumps(record.record)) for record in desk.records if isinstance(record, wire.Profile))


def left_out(lines: list[EventDict]) -> list[Any]:
    return [line["tools"] for line in lines if line["event"] == "tools without their secrets left out"]


@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
async def test_tools_of_the_settings_get_their_secrets_again(
    simulator: RealtimeSimulator, hidden: dict[str, Any]
) -> None:
    async with call_to(simulator.url, openai_mcp_servers=[CRM | hidden]) as desk:
        await desk.ready()
        assert SECRET not in remembered(desk)
        with capture_logs() as lines:
            async with next_session(simulator, desk, recalled=True) as (_, opened):
                assert tool_of(opened) == CRM | hidden
                assert notes(opened) == []
        assert left_out(lines) == []


async def test_tools_of_openai_session_get_their_secrets_again(simulator: RealtimeSimulator) -> None:
    tool = CRM | HIDDEN[0]
    async with call_to(simulator.url, openai_session={"tools": [tool]}) as desk:
        await desk.ready()
        async with next_session(simulator, desk, recalled=True) as (_, opened):
            assert tool_of(opened) == tool


@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
async def test_the_instructions_service_is_asked_again(
    simulator: RealtimeSimulator, hidden: dict[str, Any]
) -> None:
    answer = {"system": "Be kind.", "tools": [CRM | hidden]}
    async with (
        web_service(json(answer), json(answer | {"system": "Be rude."})) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        assert SECRET not in remembered(desk)
        async with next_session(simulator, desk, recalled=True) as (_, opened):
            assert tool_of(opened) == CRM | hidden
            # The rest of the call's settings is as it was.
            assert opened.session["instructions"] == "Be kind."
            assert notes(opened) == []
        assert len(service.requests) == 2


async def test_the_instructions_service_is_not_asked_for_anything_else(simulator: RealtimeSimulator) -> None:
    answer = {"system": "Be kind.", "tools": [CRM]}
    async with (
        web_service(json(answer)) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        posted = CRM | {"server_label": "posted", "authorization": SECRET}
        assert (await change(desk, {"tools": [posted]})).status == 200
        async with next_session(simulator, desk, recalled=True) as (_, opened):
            assert tool_of(opened) == CRM
        assert len(service.requests) == 1


@pytest.mark.parametrize(
    "again",
    [
        json({"system": "Be kind."}),
        json({"tools": [CRM | HIDDEN[0] | {"server_url": "https://elsewhere.example"}]}),
        text("busy", 404),
    ],
    ids=["without the tool", "with another server", "in trouble"],
)
async def test_a_tool_that_the_service_no_longer_has_is_left_out(simulator: RealtimeSimulator, again: Any) -> None:
    answer = {"system": "Be kind.", "tools": [CRM | HIDDEN[0]]}
    async with (
        web_service(json(answer), again) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        with capture_logs() as lines:
            async with next_session(simulator, desk, recalled=True) as (_, opened):
                assert tool_of(opened) is None
                await opened.wait_for(notes)
                assert notes(opened) == ["[The tools of crm are not available at the moment.]"]
        assert left_out(lines) == [["crm"]]


async def test_a_posted_tool_is_left_out_and_the_model_is_told(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        assert (await change(desk, {"tools": [CRM | HIDDEN[0]], "instructions": "Be brief."})).status == 200
        assert SECRET not in remembered(desk)
        with capture_logs() as lines:
            async with next_session(simulator, desk, recalled=True) as (following, second):
                assert sorted(names(second)) == ["avr_hangup", "avr_transfer"]
                assert second.session["instructions"] == "Be brief."
                await second.wait_for(notes)
                assert notes(second) == ["[The tools of crm are not available at the moment.]"]
                assert left_out(lines) == [["crm"]]
                # The operator posts it again, and the next move keeps it.
                assert (await change(following, {"tools": [CRM | HIDDEN[0]]})).status == 200
                assert tool_of(second) == CRM | HIDDEN[0]
                async with next_session(simulator, following, number=3) as (_, third):
                    assert tool_of(third) == CRM | HIDDEN[0]
        assert left_out(lines) == [["crm"]]
        assert SECRET not in str(lines)


async def test_a_posted_tool_never_gets_the_secrets_of_the_settings(simulator: RealtimeSimulator) -> None:
    posted = CRM | {"server_url": "https://elsewhere.example", "authorization": "another-secret"}
    async with call_to(simulator.url, openai_mcp_servers=[CRM | HIDDEN[0]]) as desk:
        await desk.ready()
        assert (await change(desk, {"tools": [posted]})).status == 200
        async with next_session(simulator, desk, recalled=True) as (_, opened):
            assert tool_of(opened) is None


async def test_a_call_that_keeps_its_dispatcher_keeps_its_secrets(simulator: RealtimeSimulator) -> None:
    async with call_to(simulator.url) as desk:
        await desk.ready()
        for hidden in HIDDEN:
            assert (await change(desk, {"tools": [CRM | hidden]})).status == 200
        async with next_session(simulator, desk) as (_, opened):
            assert tool_of(opened) == CRM | HIDDEN[-1]
            assert notes(opened) == []


@pytest.mark.parametrize("own_key", ["plain-key-of-tenant-7", None])
async def test_the_next_connections_provider_config_has_its_secrets(
    simulator: RealtimeSimulator, own_key: str | None
) -> None:
    config = {"api_key": "plain-key-of-tenant-7", "tools": [CRM | HIDDEN[0]]}
    async with call_to(simulator.url) as desk, begun(Desk(desk.shared, provider_config=config)) as first:
        await first.ready()
        assert "plain-key" not in remembered(first)
        again = config if own_key else {}
        with capture_logs() as lines:
            going_on = next_session(simulator, first, number=3, recalled=True, provider_config=again)
            async with going_on as (following, opened):
                assert tool_of(opened) == (CRM | HIDDEN[0] if own_key else None)
                (told,) = [record for record in following.records if isinstance(record, wire.Profile)]
                assert told.secrets.get("api_key") == own_key
        lost = [line for line in lines if line["event"] == "the call's own key was lost"]
        assert len(lost) == (0 if own_key else 1)


async def test_the_service_is_asked_again_for_the_tenants_key(simulator: RealtimeSimulator) -> None:
    answer = {"system": "Be kind.", "api_key": "plain-key-of-tenant-7"}
    async with (
        web_service(json(answer)) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        assert "plain-key" not in remembered(desk)
        with capture_logs() as lines:
            async with next_session(simulator, desk, recalled=True) as (following, opened):
                assert keys_told(following) == ["plain-key-of-tenant-7"]
                assert opened.session["instructions"] == "Be kind."
                # And at the move after that one.
                async with next_session(simulator, following, number=3, recalled=True) as (last, _):
                    assert keys_told(last) == ["plain-key-of-tenant-7"]
        assert len(service.requests) == 3
        assert "plain-key" not in str(lines)
        assert not [line for line in lines if line["event"] == "the call's own key was lost"]


async def test_without_the_services_key_the_call_goes_on_with_ours(simulator: RealtimeSimulator) -> None:
    answer = {"system": "Be kind.", "api_key": "plain-key-of-tenant-7"}
    async with (
        web_service(json(answer), text("busy", 404)) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        with capture_logs() as lines:
            async with next_session(simulator, desk, recalled=True) as (following, _):
                assert keys_told(following) == [None]
        assert len([line for line in lines if line["event"] == "the call's own key was lost"]) == 1


async def test_the_services_key_is_not_asked_for_while_it_is_known(simulator: RealtimeSimulator) -> None:
    answer = {"system": "Be kind.", "api_key": "plain-key-of-tenant-7"}
    async with (
        web_service(json(answer)) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
    ):
        await desk.ready()
        async with next_session(simulator, desk) as (following, _):
            assert keys_told(following) == ["plain-key-of-tenant-7"]
        assert len(service.requests) == 1


async def test_a_key_of_init_is_not_replaced_by_the_services(simulator: RealtimeSimulator) -> None:
    async with (
        web_service(json({"system": "Be kind.", "api_key": "plain-key-of-tenant-7"})) as service,
        call_to(simulator.url, openai_url_instructions=service.url) as desk,
        begun(Desk(desk.shared, provider_config={"api_key": "plain-key-of-init"})) as first,
    ):
        await first.ready()
        asked = len(service.requests)
        going_on = next_session(
            simulator, first, number=3, recalled=True, provider_config={"api_key": "plain-key-of-init"}
        )
        async with going_on as (following, _):
            assert keys_told(following) == ["plain-key-of-init"]
        assert len(service.requests) == asked


def keys_told(desk: Desk) -> list[Any]:
    """Return the calls' own keys that the dispatcher was told."""
    return [record.secrets.get("api_key") for record in desk.records if isinstance(record, wire.Profile)]
