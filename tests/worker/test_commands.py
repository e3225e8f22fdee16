"""Commands of the calls API at the worker's end of a link."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from common.link import wire
from tests.worker.dispatcher_end import DispatcherEnd, link_to
from tests.worker.test_service import Service, here, live_call
from worker.session.memory.conversation import Role

__all__ = ["here"]  # the fixture


async def _ask(dispatcher: DispatcherEnd, number: int, uuid: str, action: str, **body: Any) -> wire.Result:
    dispatcher.send(wire.Command(number, uuid, action, body), 0)

    def answered() -> list[wire.Result]:
        return [r for r in dispatcher.on(0) if isinstance(r, wire.Result) and r.number == number]

    await dispatcher.wait_for(answered)
    return answered()[0]


async def test_a_call_that_is_not_here_is_said_so(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        assert (await _ask(dispatcher, 1, "nobody", "conversation")).status == 404


async def test_a_failing_command_ends_neither_the_link_nor_the_call(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        assert (await _ask(dispatcher, 1, "call-1", "say")).status == 500  # without a text
        assert (await _ask(dispatcher, 2, "call-1", "conversation")).status == 200


async def test_any_dispatchers_link_may_ask_and_watch(here: Service) -> None:
    async with link_to(here.address) as holder, link_to(here.address) as other:
        await live_call(holder, "call-1", 1)
        assert (await _ask(other, 7, "call-1", "watch")).status == 200
        session = await here.simulator.wait_for_session()
        assert (await _ask(other, 8, "call-1", "session", instructions="Speak Italian.")).status == 200
        assert session.instructions == "Speak Italian."
        assert (await _ask(other, 9, "call-1", "say", text="One moment.")).status == 200
        holder.send(wire.Close("the caller hung up"), 1)

        def ended() -> bool:
            return any(isinstance(r, wire.Event) and not r.body for r in other.on(0))

        await other.wait_for(ended)
        seen = [r.body["type"] for r in other.on(0) if isinstance(r, wire.Event) and r.body]
        assert "item" in seen


async def test_who_watched_by_a_link_that_is_lost_is_forgotten(here: Service) -> None:
    async with link_to(here.address) as holder:
        await live_call(holder, "call-1", 1)
        for _ in range(3):  # more than once, as nobody is kept
            async with link_to(here.address) as other:
                assert (await _ask(other, 1, "call-1", "watch")).status == 200
        assert (await _ask(holder, 5, "call-1", "conversation")).status == 200


async def test_fields_that_the_api_refuses_are_mended_on_their_way(here: Service) -> None:
    array = {"type": "object", "properties": {"all": {"type": "array"}}}
    fields = {
        "audio": {"input": {"transcription": {"model": "gpt-transcribe", "language": "pt-BR"}}},
        "tools": [{"type": "function", "name": "list_up", "parameters": array}],
    }
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        session = await here.simulator.wait_for_session()
        assert (await _ask(dispatcher, 1, "call-1", "session", **fields)).status == 200
    assert session.session["audio"]["input"]["transcription"]["language"] == "pt"
    (tool,) = [tool for tool in session.session["tools"] if tool["name"] == "list_up"]
    assert tool["parameters"]["properties"]["all"] == {"type": "array", "items": {}}


@pytest.mark.parametrize("kind", [wire.Kind.COMMAND, wire.Kind.ATTACH, wire.Kind.OPEN])
async def test_a_record_that_is_none_costs_nobody_the_link(here: Service, kind: wire.Kind) -> None:
    payload = b'{"number":1,"uuid":"call-1","body":' + b"[" * 101 + b"]" * 101 + b',"epoch":-1}'
    record = struct.pack("!BII", kind, 0 if kind is wire.Kind.COMMAND else 9, len(payload)) + payload
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        dispatcher.end.send(record)
        assert (await _ask(dispatcher, 2, "call-1", "conversation")).status == 200
        assert dispatcher.lost_reason is None
        if kind is wire.Kind.OPEN:
            assert (await dispatcher.next(9, wire.Refused)).reason == wire.Refusal.INVALID


async def test_a_conversation_over_a_message_is_shown_in_part(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        (held,) = here.worker._held()
        session = held.call._host.session
        assert session is not None
        for number in range(20):
            item = session.conversation.insert(f"item-{number}", Role.USER, None)
            item.text, item.text_done = "\x01" * 100_000, True
        # The dispatcher here acknowledges nothing, and is not to be told of them.
        session.conversation.take_changes()
        shown = await _ask(dispatcher, 1, "call-1", "conversation")
        assert shown.status == 200
        assert shown.body["omitted"] > 0
        assert (await _ask(dispatcher, 2, "call-1", "say", text="Hello.")).status == 200


async def test_a_worker_says_how_many_calls_it_has(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        assert (await _ask(dispatcher, 1, "", "load")).body == {"calls": 0}
        await live_call(dispatcher, "call-1", 1)
        await live_call(dispatcher, "call-2", 2)
        assert (await _ask(dispatcher, 2, "", "load")).body == {"calls": 2}
        dispatcher.send(wire.Close("the caller hung up"), 1)
        # Its place is free at once, though its session still closes.
        assert (await _ask(dispatcher, 3, "", "load")).body == {"calls": 1}
        here.worker.draining = True
        assert (await _ask(dispatcher, 4, "", "load")).status == 409


@pytest.mark.parametrize("hangs_up", [False, True])
async def test_watchers_are_told_why_the_session_ended(here: Service, hangs_up: bool) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        assert (await _ask(dispatcher, 1, "call-1", "watch")).status == 200
        if hangs_up:
            assert (await _ask(dispatcher, 2, "call-1", "hang_up")).status == 200
        # A dispatcher gives no reason for a call that the worker had it hang up.
        dispatcher.send(wire.Close("" if hangs_up else "the caller hung up"), 1)

        def told() -> list[dict[str, Any]]:
            events = [r.body for r in dispatcher.on(0) if isinstance(r, wire.Event)]
            return [body for body in events if body.get("type") == "session_ended"]

        await dispatcher.wait_for(told)
        (body,) = told()
        reason = "the calls API has ended the call" if hangs_up else "the caller hung up"
        assert body == {"type": "session_ended", "outcome": "completed", "reason": reason}


async def test_a_conversation_comes_with_model_voice_and_prompt(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        session = (await _ask(dispatcher, 1, "call-1", "conversation")).body["session"]
        assert session["model"].startswith("gpt-realtime")
        assert session["prompt"]["from"] == "default"
