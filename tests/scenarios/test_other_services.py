"""Services that differ from the Realtime API, and broken events, through the real processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.helpers import eventually
from tests.redis_process import RealRedis
from tests.scripted.events import Event
from tests.scripted.realtime_end import GREETING, GREETING_HZ, Script
from tests.scripted.service import ScriptedCall, ScriptedService, scripted_service
from tests.scripted.side_by_side import SideBySide, side_by_side

pytestmark = pytest.mark.asyncio(loop_scope="module")

Wire = Callable[[Event], Iterable[Event]]

SURROGATE = "\ud83d"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ScriptedService]:
    async with scripted_service(redis_server, tmp_path_factory.mktemp("tools")) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def together(service: ScriptedService, request: pytest.FixtureRequest) -> AsyncIterator[SideBySide]:
    together = SideBySide(service, request.module, request.session.items)
    yield together
    await together.stop()


# The deviations of such services: each function returns the events to send instead of one event.


def without_events(*kinds: str) -> Wire:
    """Leave out events of these types."""
    return lambda event: () if event["type"] in kinds else (event,)


def without_field(name: str, prefix: str) -> Wire:
    """Leave a field out of events whose type has this prefix."""

    def wire(event: Event) -> Iterable[Event]:
        if event["type"].startswith(prefix):
            event = {field: value for field, value in event.items() if field != name}
        return (event,)

    return wire


def delayed(late: str, until: str) -> Wire:
    """Delay events of one type until an event of another type has been sent."""
    held: list[Event] = []

    def wire(event: Event) -> Iterable[Event]:
        if event["type"] == late:
            held.append(event)
            return ()
        if event["type"] == until:
            released = [event, *held]
            held.clear()
            return released
        return (event,)

    return wire


def twice(kind: str) -> Wire:
    """Send events of a type twice."""
    return lambda event: (event, event) if event["type"] == kind else (event,)


class DoneFirst:
    """A deviation that sends `response.done` before the last delta of audio and the events after it."""

    def __init__(self) -> None:
        self._last: list[Event] = []

    def __call__(self, event: Event) -> Iterable[Event]:
        kind = event["type"]
        if kind == "response.done":
            late, self._last = self._last, []
            return [event, *late]
        if kind == "response.output_audio.delta":
            before, self._last = self._last, [event]
            return before
        if self._last and kind.startswith("response."):
            self._last.append(event)
            return ()
        return (event,)


def is_function_call(event: Event) -> bool:
    """Return whether an event belongs to a function call's item."""
    return "item" in event and event["item"]["type"] == "function_call"


def only_arguments_done(event: Event) -> Iterable[Event]:
    """Name function calls only in `response.function_call_arguments.done`."""
    if is_function_call(event):
        return ()
    if event["type"] == "response.done":
        output = [item for item in event["response"]["output"] if item["type"] != "function_call"]
        return (event | {"response": event["response"] | {"output": output}},)
    return (event,)


def only_response_done(event: Event) -> Iterable[Event]:
    """Name function calls only in `response.done`."""
    if is_function_call(event) or event["type"].startswith("response.function_call_arguments"):
        return ()
    return (event,)


SERVICES: dict[str, Callable[[], Wire]] = {
    "like the API": lambda: lambda event: (event,),
    "no item.added": lambda: without_events("conversation.item.added"),
    "no output_item.added": lambda: without_events("response.output_item.added"),
    "no content_index": lambda: without_field("content_index", "response."),
    "no output_index": lambda: without_field("output_index", "response."),
    "no item_id in deltas": lambda: without_field("item_id", "response.output_audio"),
    "no item_id of speech": lambda: without_field("item_id", "input_audio_buffer."),
    "no audio_end_ms": lambda: without_field("audio_end_ms", "input_audio_buffer."),
    "no committed": lambda: without_events("input_audio_buffer.committed"),
    "no speech_stopped": lambda: without_events("input_audio_buffer.speech_stopped"),
    "no previous_item_id": lambda: without_field("previous_item_id", "conversation."),
    "transcript first": lambda: delayed(
        "input_audio_buffer.committed", "conversation.item.input_audio_transcription.completed"
    ),
    "call in arguments.done": lambda: only_arguments_done,
    "call in response.done": lambda: only_response_done,
    "item done twice": lambda: twice("response.output_item.done"),
    "arguments done twice": lambda: twice("response.function_call_arguments.done"),
    "response done twice": lambda: twice("response.done"),
    "response.done first": DoneFirst,
}


@pytest.mark.parametrize("differs", SERVICES.values(), ids=SERVICES)
@side_by_side
async def test_dialogue_with_a_service(service: ScriptedService, differs: Callable[[], Wire]) -> None:
    line = await service.call(Script(wire=differs()))
    # A question, and the answer of a tool.
    line.session.turn("What is it?")
    calling = line.session.begin_response()
    called = calling.function_call("look_up", '{"name": "hours"}')
    calling.done()
    await line.session.request(2)
    line.session.reply(700, "It is open.")
    await line.hears(GREETING_HZ, 700)
    await line.told(("agent", GREETING), ("user", "What is it?"), ("agent", "It is open."))
    # An interruption.
    line.session.turn("Tell me more.")
    response = line.session.begin_response()
    # Longer than a busy machine takes to interrupt it; and not finished, or its end would be overdue after 5 s.
    response.audio(900, 12_000, text=" ".join(["word"] * 48), finish=False)
    # A quarter of a second is a word: some of it is heard, beside greeting and answer.
    await line.call.wait_for(lambda call: call.heard_ms >= 500 + 600)
    speech = line.start_speech()
    await line.session.event("conversation.item.truncate")
    response.done("cancelled", {"type": "cancelled", "reason": "turn_detected"})
    line.session.end_speech(speech, "Stop.")
    line.session.reply(1100, "I have stopped.")
    await line.hears(GREETING_HZ, 700, 900, 1100)
    assert len(line.call.interruptions) == 1
    await line.call.wait_for(lambda _: len(line.transcripts) >= 7)
    assert [role for role, _ in line.transcripts] == ["agent", "user", "agent", "user", "agent", "user", "agent"]
    assert line.transcripts[-2:] == [("user", "Stop."), ("agent", "I have stopped.")]
    # No action is carried out twice.
    assert line.session.outputs == [(called, "hours: run 1")]
    assert len(line.session.requests) == 2
    assert len(line.session.received("conversation.item.truncate")) == 1


@side_by_side
async def test_two_audio_parts_of_an_item_are_both_heard(service: ScriptedService) -> None:
    line = await service.call()
    line.session.turn()

    def second_part(event: Event) -> Iterable[Event]:
        return (event | {"content_index": 1},) if "content_index" in event else (event,)

    response = line.session.begin_response()
    response.audio(700, 300, text="One.", finish=False)
    line.session.script.wire = second_part
    response.delta(900, 300)
    response.finish_audio("Two.")
    response.done()
    await line.hears(GREETING_HZ, 700, 900)
    await line.call.wait_for(lambda _: len(line.transcripts) >= 3)
    assert len(line.transcripts) == 3
    assert len(line.session.requests) == 1


# Broken events


def surrogates(*prefixes: str) -> Wire:
    """Replace each `~` by a lone surrogate, in events whose type has this prefix."""

    def broken(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("~", SURROGATE)
        if isinstance(value, list):
            return [broken(element) for element in value]
        if isinstance(value, dict):
            return {name: broken(element) for name, element in value.items()}
        return value

    return lambda event: (broken(event),) if event["type"].startswith(prefixes) else (event,)


@side_by_side
async def test_lone_surrogates_are_replaced(service: ScriptedService) -> None:
    line = await service.call(Script(wire=surrogates("response.", "conversation.")))
    line.session.turn("Well ~?")
    calling = line.session.begin_response()
    called = calling.function_call("look_up", '{"name": "a~b"}')
    calling.done()
    await line.session.request(2)
    ((call_id, output),) = line.session.outputs
    assert call_id == called
    assert output.endswith("run 1")
    line.session.reply(900, "Yes ~.")
    await line.hears(GREETING_HZ, 900)
    await line.call.wait_for(lambda _: len(line.transcripts) >= 3)
    assert [text[:4] for _, text in line.transcripts] == [GREETING[:4], "Well", "Yes "]
    await line.passes(1.0)
    assert len(line.session.requests) == 2


BROKEN = {
    "no JSON": "this is not JSON",
    "no object": "[1, 2]",
    "no type": "{}",
    "half an event": '{"type": "response.done", "response": {"id": "re',
    "odd audio": '{"type": "response.output_audio.delta", "item_id": 5, "delta": null}',
    "odd response": '{"type": "response.created", "response": null}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@side_by_side
async def test_broken_event_does_not_end_the_call(service: ScriptedService, text: str) -> None:
    line = await service.call()
    line.session.turn()
    response = line.session.begin_response()
    response.audio(700, 200, text="One", finish=False)
    line.session.send_raw(text)
    response.delta(700, 200)
    response.finish_audio("One two")
    response.done()
    line.session.turn()
    line.session.reply(900)
    await line.hears(GREETING_HZ, 700, 900)
    assert len(line.session.requests) == 1


@pytest.mark.asyncio(loop_scope="function")
async def test_broken_events_are_counted(locked_redis: RealRedis, tmp_path: Path) -> None:
    async with scripted_service(locked_redis.url, tmp_path) as service, service.own_calls():
        line = await service.call()
        for text in BROKEN.values():
            line.session.send_raw(text)
        line.session.turn()
        line.session.reply(900)
        await line.hears(GREETING_HZ, 900)
        assert await service.metric('avr_sts_upstream_errors_total{code="bad_event",key="call"}') == len(BROKEN)


# Responses that overlap


async def _begin_two(line: ScriptedCall, name: str) -> None:
    """Begin two overlapping responses: the first calls a function and ends before the second."""
    line.session.turn()
    first = line.session.begin_response()
    first.function_call(name)
    second = line.session.begin_response()
    first.done()
    second.audio(700, 300, text="Hello again.")
    second.done()


@side_by_side
async def test_tool_of_an_overlapped_response_is_answered(service: ScriptedService) -> None:
    line = await service.call()
    await _begin_two(line, "look_up")
    await line.session.request(2)
    assert [output for _, output in line.session.outputs] == ["it: run 1"]
    line.session.reply(900)
    await line.hears(GREETING_HZ, 700, 900)
    await line.passes(1.0)
    assert len(line.session.requests) == 2


@side_by_side
async def test_hang_up_of_an_overlapped_response_happens(service: ScriptedService) -> None:
    line = await service.call()
    await _begin_two(line, "avr_hangup")
    await eventually(lambda: any(request.uuid == line.call.uuid for request in service.ami.requests))
    await eventually(line.call.closed.is_set)
    assert line.call.close_code == 1000
    assert line.tones == [GREETING_HZ, 700]


# Remote tools


def _mcp_item(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}_1",
        "type": kind,
        "name": "delete_all",
        "server_label": "files",
        "arguments": "{}",
        **fields,
    }


@side_by_side
async def test_mcp_approval_is_denied_and_answered(service: ScriptedService) -> None:
    line = await service.call()
    line.session.turn()
    response = line.session.begin_response()
    response.item(_mcp_item("mcp_approval_request"))
    response.done()
    await line.session.request(2)
    (item,) = line.session.created_items
    assert item | {"id": ""} == {
        "id": "",
        "type": "mcp_approval_response",
        "approval_request_id": "mcp_approval_request_1",
        "approve": False,
    }
    await eventually(lambda: service.worker_lines(line, "approval", "files"))
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await line.passes(1.0)
    assert len(line.session.requests) == 2


@pytest.mark.parametrize(
    "fields",
    [{"output": "done"}, {"error": {"type": "http_error", "code": 500, "message": "It is down."}}],
    ids=["output", "error"],
)
@side_by_side
async def test_mcp_call_that_ends_with_its_item(service: ScriptedService, fields: dict[str, Any]) -> None:
    line = await service.call()
    line.session.turn()
    response = line.session.begin_response()
    response.item(_mcp_item("mcp_call", **fields))
    response.done()
    await line.session.request(2)
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await line.passes(1.0)
    assert len(line.session.requests) == 2


@side_by_side
async def test_failed_list_of_mcp_tools_is_logged(service: ScriptedService) -> None:
    line = await service.call()
    line.session.send_raw('{"type": "mcp_list_tools.failed", "event_id": "event_1", "item_id": "mcpl_1"}')
    line.session.turn()
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await eventually(lambda: service.worker_lines(line, "MCP"))
    assert await service.metric('avr_sts_upstream_errors_total{code="mcp_list_tools_failed",key="call"}') == 1
