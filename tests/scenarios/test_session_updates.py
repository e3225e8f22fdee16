"""`session.update` through the real processes: refused, unanswered, and changed in mid-call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from tests.redis_process import RealRedis
from tests.scripted import events as api
from tests.scripted.events import Event
from tests.scripted.realtime_end import GREETING_HZ, Script, ScriptedSession, accept_update
from tests.scripted.service import ScriptedCall, ScriptedService, scripted_service
from tests.scripted.side_by_side import SideBySide, side_by_side

pytestmark = pytest.mark.asyncio(loop_scope="module")

NO_NUMBER = "No telephone number has a letter in it."

# All fields that a session may be requested without.
SETTINGS = {
    "OPENAI_NOISE_REDUCTION": "near_field",
    "OPENAI_SPEED": "1.1",
    "OPENAI_TRACING": "auto",
    "OPENAI_TRUNCATION": "auto",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ScriptedService]:
    async with scripted_service(redis_server, tmp_path_factory.mktemp("tools"), **SETTINGS) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def together(service: ScriptedService, request: pytest.FixtureRequest) -> AsyncIterator[SideBySide]:
    together = SideBySide(service, request.module, request.session.items)
    yield together
    await together.stop()


# The fields of an error by which the API names the refused request.
NAMED: dict[str, Callable[[Event], dict[str, Any]]] = {
    "our event_id": lambda update: {"event_id": update["event_id"]},
    "null": lambda update: {"event_id": None},
    "none": lambda update: {},
}
named = pytest.mark.parametrize("naming", NAMED)


def refusal(update: Event, param: str, naming: str = "our event_id", **fields: Any) -> Event:
    """Return the error that refuses `session.update`."""
    message = fields.pop("message", f"Invalid value for '{param}'.")
    return api.error(message, **{"code": "invalid_value", "param": param, **NAMED[naming](update), **fields})


def at(session: dict[str, Any], path: str) -> Any:
    """Return the field of a session object at this path, or None."""
    value: Any = session
    for name in path.removeprefix("session.").split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


class Refuses:
    """A script that refuses each `session.update` with one of these fields, and records all updates."""

    def __init__(self, *params: str, naming: str = "our event_id") -> None:
        self.asked: list[dict[str, Any]] = []
        self._params = params
        self._naming = naming

    def __call__(self, session: ScriptedSession, update: Event) -> None:
        self.asked.append(update["session"])
        for param in self._params:
            if at(update["session"], param) is not None:
                session.send(refusal(update, param, self._naming))
                return
        accept_update(session, update)


# The first session


@named
@side_by_side
async def test_refused_session_ends_the_call(service: ScriptedService, naming: str) -> None:
    key = service.new_key()
    refuses = Refuses("session.instructions", naming=naming)
    service.realtime.scripts[key] = Script(update=refuses)
    call = await service.place(key)
    await call.wait_for(lambda call: call.errors, timeout_seconds=5)
    assert "Invalid value for 'session.instructions'" in call.errors[0].message
    await call.closed.wait()
    assert len(refuses.asked) == 1
    assert len(service.realtime.handshakes[key]) == 1


LEFT_OUT = [
    "session.tracing",
    "session.truncation",
    "session.audio.output.speed",
    "session.audio.input.noise_reduction",
    "session.audio.input.transcription",
]


@pytest.mark.parametrize("param", LEFT_OUT)
@side_by_side
async def test_refused_field_on_the_list_is_left_out(service: ScriptedService, param: str) -> None:
    refuses = Refuses(param)
    line = await service.call(Script(update=refuses))
    first, second = refuses.asked
    assert at(first, param) is not None
    assert at(second, param) is None
    assert second["instructions"] == first["instructions"]
    assert second["tools"] == first["tools"]
    assert len(await service.lines(line, "warning", param)) == 1


@side_by_side
async def test_refused_part_of_a_field_leaves_out_the_field(service: ScriptedService) -> None:
    asked = []

    def update(session: ScriptedSession, update: Event) -> None:
        asked.append(update["session"])
        if at(update["session"], "audio.input.transcription") is not None:
            session.send(refusal(update, "session.audio.input.transcription.model", "null"))
        else:
            accept_update(session, update)

    await service.call(Script(update=update))
    assert len(asked) == 2


@side_by_side
async def test_refused_tool_is_left_out(service: ScriptedService) -> None:
    asked = []

    def update(session: ScriptedSession, update: Event) -> None:
        asked.append([tool["name"] for tool in update["session"]["tools"]])
        if "look_up" in asked[-1]:
            session.send(refusal(update, f"session.tools[{asked[-1].index('look_up')}].parameters"))
        else:
            accept_update(session, update)

    await service.call(Script(update=update))
    first, second = asked
    assert [name for name in first if name != "look_up"] == second


@side_by_side
async def test_fourth_refused_field_ends_the_call(service: ScriptedService) -> None:
    key = service.new_key()
    refuses = Refuses(*LEFT_OUT[:4])
    service.realtime.scripts[key] = Script(update=refuses)
    call = await service.place(key)
    await call.wait_for(lambda call: call.errors, timeout_seconds=5)
    assert LEFT_OUT[3] in call.errors[0].message
    assert len(refuses.asked) == 4
    assert len(service.realtime.handshakes[key]) == 1


@side_by_side
async def test_refused_format_is_never_left_out(service: ScriptedService) -> None:
    key = service.new_key()
    refuses = Refuses("session.audio.input.format")
    service.realtime.scripts[key] = Script(update=refuses)
    call = await service.place(key)
    await call.wait_for(lambda call: call.errors, timeout_seconds=5)
    assert len(refuses.asked) == 1


@side_by_side
async def test_difference_of_the_echoed_session_is_logged_once(service: ScriptedService) -> None:
    def update(session: ScriptedSession, update: Event) -> None:
        echoed: Event = orjson.loads(orjson.dumps(update))
        echoed["session"].setdefault("audio", {}).setdefault("output", {})["voice"] = "cedar"
        accept_update(session, echoed)

    line = await service.call(Script(update=update))
    status, _ = await line.update({"instructions": "Speak Italian."})
    assert status == 200
    (logged,) = await service.lines(line, "warning", "audio.output.voice")
    assert logged["uuid"] == line.call.uuid


@side_by_side
async def test_echoed_session_is_in_force(service: ScriptedService) -> None:
    def update(session: ScriptedSession, update: Event) -> None:
        echoed: Event = orjson.loads(orjson.dumps(update))
        echoed["session"]["audio"]["input"]["turn_detection"]["create_response"] = False
        accept_update(session, echoed)

    await requested_by_the_worker(await service.call(Script(update=update)))


# In mid-call


async def mid_call(service: ScriptedService) -> tuple[ScriptedCall, list[Event]]:
    """Return a call whose next updates the script does not answer, and the list of these updates."""
    line = await service.call()
    updates: list[Event] = []
    line.session.script.update = lambda _, update: updates.append(update)
    return line, updates


@named
@side_by_side
async def test_refused_change_is_answered_with_the_words(service: ScriptedService, naming: str) -> None:
    line, updates = await mid_call(service)
    asking = asyncio.create_task(line.update({"instructions": "x"}))
    await line.session.wait_for(lambda _: updates)
    line.session.send(refusal(updates[0], "session.instructions", naming, message=NO_NUMBER))
    status, body = await asking
    assert (status, body["error"]) == (422, NO_NUMBER)
    # Later updates still get their own answers.
    line.session.script.update = accept_update
    assert (await line.update({"instructions": "y"}))[0] == 200
    assert line.session.configuration["instructions"] == "y"
    line.session.turn()
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)


@side_by_side
async def test_refused_voice_after_audio_is_a_conflict(service: ScriptedService) -> None:
    line, updates = await mid_call(service)
    asking = asyncio.create_task(line.update({"audio": {"output": {"voice": "cedar"}}}))
    await line.session.wait_for(lambda _: updates)
    message = "Cannot update a conversation's voice if assistant audio is present."
    line.session.send(
        refusal(updates[0], "session.audio.output.voice", code="cannot_update_voice", message=message)
    )
    assert await asking == (409, {"error": message})


@side_by_side
async def test_answers_are_given_to_their_own_updates(service: ScriptedService) -> None:
    def update(session: ScriptedSession, update: Event) -> None:
        if update["session"]["instructions"] == "two":
            session.send(refusal(update, "session.instructions", "null"))
        else:
            accept_update(session, update)

    line = await service.call()
    line.session.script.update = update
    answers = await asyncio.gather(*(line.update({"instructions": text}) for text in ("one", "two", "three")))
    assert [status for status, _ in answers] == [200, 422, 200]


@side_by_side
async def test_unrelated_error_answers_no_update(service: ScriptedService) -> None:
    line, updates = await mid_call(service)
    asking = asyncio.create_task(line.update({"instructions": "x"}))
    await line.session.wait_for(lambda _: updates)
    line.session.send(api.error("No such item.", code="item_delete_invalid_item_id", param="item_id"))
    accept_update(line.session, updates[0])
    assert (await asking)[0] == 200


@side_by_side
async def test_refused_change_never_reaches_the_next_session(service: ScriptedService) -> None:
    line, updates = await mid_call(service)
    asking = asyncio.create_task(line.update({"instructions": "refused", "max_output_tokens": 7}))
    await line.session.wait_for(lambda _: updates)
    line.session.send(refusal(updates[0], "session.max_output_tokens", "null"))
    assert (await asking)[0] == 422
    line.session.script.update = accept_update
    assert (await line.update({"instructions": "accepted"}))[0] == 200
    line.session.drop()
    following = await service.realtime.session(line.key, 2)
    update = await following.event("session.update")
    assert update["session"]["instructions"] == "accepted"
    assert update["session"]["max_output_tokens"] != 7


# Turn detection


def detection(**fields: bool) -> dict[str, Any]:
    """Return a session object with server_vad and these fields."""
    return {"audio": {"input": {"turn_detection": {"type": "server_vad", **fields}}}}


async def long_reply(line: ScriptedCall) -> None:
    """Let the API answer a turn, and wait until the agent is heard."""
    line.session.turn()
    await long_response(line)


async def long_response(line: ScriptedCall) -> str:
    """Begin a response of 3 s, wait until it is heard, and return the id of its item."""
    response = line.session.begin_response()
    response.audio(700, 3000, text="One two three four five six")
    response.done()
    await line.call.wait_for(lambda _: line.tones[-1:] == [700])
    return response.item_id


async def speaks_into_it(line: ScriptedCall) -> None:
    """Let the caller speak into a reply. Check that the reply continues and the model gets no truncation."""
    sounding = line.call.interruptions, len(line.session.received("conversation.item.truncate"))
    speech = line.start_speech()
    await line.passes(0.5)
    line.session.end_speech(speech)
    assert (line.call.interruptions, len(line.session.received("conversation.item.truncate"))) == sounding
    assert not line.session.received("response.cancel")


async def requested_by_the_worker(line: ScriptedCall) -> None:
    """End the caller's turn without a response that the API begins by itself."""
    line.session.turn()
    await line.session.request(2, timeout_seconds=2)
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)


@side_by_side
async def test_interrupt_response_false_from_the_calls_api(service: ScriptedService) -> None:
    line = await service.call()
    assert (await line.update(detection(create_response=True, interrupt_response=False)))[0] == 200
    await long_reply(line)
    await speaks_into_it(line)
    line.session.reply(900)
    await line.hears(GREETING_HZ, 700, 900)
    # The complete greeting and the three seconds of the reply.
    assert len(line.call.received_pcm) >= 16 * 3200
    assert not line.call.interruptions


@side_by_side
async def test_create_response_false_from_the_calls_api(service: ScriptedService) -> None:
    line = await service.call()
    assert (await line.update(detection(create_response=False, interrupt_response=True)))[0] == 200
    await requested_by_the_worker(line)
    line.session.turn()
    await line.session.request(3)
    item_id = await long_response(line)
    before = len(line.call.interruptions)
    line.session.start_speech()
    await line.session.wait_for(
        lambda s: any(truncate["item_id"] == item_id for truncate in s.received("conversation.item.truncate"))
    )
    # The caller may get the interruption after the API gets the truncation.
    await line.call.wait_for(lambda call: len(call.interruptions) > before)
    assert len(line.call.interruptions) == before + 1


@pytest.mark.asyncio(loop_scope="function")
async def test_turn_detection_of_openai_session(locked_redis: RealRedis, tmp_path: Path) -> None:
    session = orjson.dumps(detection(create_response=False, interrupt_response=False)).decode()
    async with (
        scripted_service(locked_redis.url, tmp_path, OPENAI_SESSION=session) as service,
        service.own_calls(),
    ):
        line = await service.call()
        await requested_by_the_worker(line)
        line.session.turn()
        await line.session.request(3)
        await long_response(line)
        await speaks_into_it(line)
        await line.session.request(4)
        line.session.reply(1000)
        await line.hears(GREETING_HZ, 900, 700, 1000)
        assert not line.call.interruptions


# The length of a session


@side_by_side
async def test_session_is_replaced_before_it_expires(service: ScriptedService) -> None:
    expires_at = int(time.time()) + 12
    line = await service.call(Script(created={"expires_at": expires_at}))
    line.session.script.created = {}
    following = await service.realtime.session(line.key, 2, timeout_seconds=12)
    assert time.time() < expires_at
    assert not line.session.closed.is_set()
    await line.session.wait_for(lambda s: s.closed.is_set())
    # The new session was on standby with responses off until this update.
    await following.event("session.update", 2)
    following.turn("Are you there?")
    following.reply(900)
    await line.hears(GREETING_HZ, 900)
    assert not following.requests
