"""Owed answers through the real processes: faults of the API, the caller's audio, and the requests to the API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.helpers import eventually
from tests.redis_process import RealRedis
from tests.scripted import events as api
from tests.scripted.realtime_end import GREETING, GREETING_HZ, Refusal, Script
from tests.scripted.response import ScriptedResponse
from tests.scripted.service import ANSWER_FAILED_TEXT, ScriptedCall, ScriptedService, scripted_service
from tests.scripted.side_by_side import SideBySide, side_by_side

pytestmark = pytest.mark.asyncio(loop_scope="module")

RETRY_LEAST_SECONDS = 0.5
# Less than the 10 s after which a missing `response.created` is detected.
AT_ONCE_SECONDS = 8.0
# An unwanted repeat would come within this time.
QUIET_SECONDS = 1.2

Refuse = Callable[[ScriptedResponse], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ScriptedService]:
    tools = tmp_path_factory.mktemp("tools")
    async with scripted_service(redis_server, tools, DTMF_TIMEOUT_MS=300) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def together(service: ScriptedService, request: pytest.FixtureRequest) -> AsyncIterator[SideBySide]:
    together = SideBySide(service, request.module, request.session.items)
    yield together
    await together.stop()


def fields(request: api.Event) -> dict[str, Any]:
    """Return the `response` of a `response.create` without metadata, which only the service uses."""
    return {name: value for name, value in request.get("response", {}).items() if name != "metadata"}


def says(request: api.Event, text: str) -> bool:
    """Return whether a request asks for exactly this text."""
    response = fields(request)
    return text in response.get("instructions", "") and response.get("tool_choice") == "none"


async def turn(line: ScriptedCall) -> ScriptedResponse:
    """Take a caller's turn, which the API answers by itself."""
    line.session.turn("Well?")
    return line.session.begin_response()


async def asked(line: ScriptedCall, number: int) -> ScriptedResponse:
    """Wait for a request and begin its response; the first request is that of the greeting."""
    await line.session.request(number)
    return line.session.begin_response()


async def tool(line: ScriptedCall) -> ScriptedResponse:
    """Make the API call a tool, whose output then needs an answer."""
    calling = await turn(line)
    calling.function_call("look_up", '{"name": "hours"}')
    calling.done()
    return await asked(line, 2)


async def keys(line: ScriptedCall) -> ScriptedResponse:
    """Press keys that form one entry."""
    await line.call.press("12#")
    return await asked(line, 2)


async def say(line: ScriptedCall) -> ScriptedResponse:
    """Send a `say` through the calls API."""
    await line.say("The office closes soon.")
    return await asked(line, 2)


OCCASIONS: dict[str, Callable[[ScriptedCall], Awaitable[ScriptedResponse]]] = {
    "greeting": lambda line: asked(line, 1),
    "turn": turn,
    "tool": tool,
    "keys": keys,
    "say": say,
}


async def begin(service: ScriptedService, occasion: str) -> tuple[ScriptedCall, ScriptedResponse, int]:
    """Open a call in which a response has begun; return the call and the number of requests."""
    line = await service.call(Script(greets=occasion != "greeting"))
    response = await OCCASIONS[occasion](line)
    return line, response, len(line.session.requests)


async def stays_quiet(line: ScriptedCall, requests: int) -> None:
    """Check that no further response is requested and the call continues."""
    await line.passes(QUIET_SECONDS)
    assert len(line.session.requests) == requests
    assert not line.call.closed.is_set()
    assert not line.call.errors


# A response fails before the caller hears audio


@pytest.mark.parametrize("occasion", OCCASIONS)
@side_by_side
async def test_failed_response_is_requested_again(service: ScriptedService, occasion: str) -> None:
    line, response, before = await begin(service, occasion)
    failed_at = time.monotonic()
    response.failed("server_error")
    again = await line.session.request(before + 1)
    assert line.session.seconds(again) - failed_at >= RETRY_LEAST_SECONDS
    if occasion == "say":
        assert says(again, "The office closes soon.")
    else:
        assert fields(again) == {}
    line.session.reply(900, "Here you are.")
    await line.hears(*[GREETING_HZ] * (occasion != "greeting"), 900)
    await stays_quiet(line, before + 1)
    assert line.transcripts.count(("agent", "Here you are.")) == 1
    assert not line.session.received("conversation.item.truncate")
    if occasion == "tool":
        assert [output for _, output in line.session.outputs] == ["hours: run 1"]
    if occasion == "keys":
        assert len(line.session.notes) == 1


@side_by_side
async def test_failure_is_repeated_no_sooner_than_the_api_asks(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    failed_at = time.monotonic()
    response.failed("rate_limit_exceeded", "Rate limit reached. Please try again in 2s.")
    again = await line.session.request(before + 1)
    assert 2.0 <= line.session.seconds(again) - failed_at < 6.0
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)


@side_by_side
async def test_unheard_item_of_a_failed_response_is_deleted(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    response.message()
    response.cut_off()
    response.failed("server_error")
    await line.session.request(before + 1)
    assert line.session.deleted == [response.item_id]


@side_by_side
async def test_waiting_time_is_shared_by_calls_with_the_same_key(service: ScriptedService) -> None:
    line, response, _ = await begin(service, "turn")
    other = await service.call(beside=line)
    failed_at = time.monotonic()
    response.failed("rate_limit_exceeded", "Rate limit reached. Please try again in 2.5s.")
    await line.passes(0.1)
    await other.say("The office closes soon.")
    request = await other.session.request(2)
    assert 2.5 <= other.session.seconds(request) - failed_at < 6.5


@side_by_side
async def test_keys_in_the_back_off_are_answered_with_the_turn(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    response.failed("server_error")
    await line.call.press("5#")
    await line.session.request(before + 1)
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await stays_quiet(line, before + 1)
    assert len(line.session.notes) == 1


@side_by_side
async def test_answer_that_is_owed_outlives_the_connection(service: ScriptedService) -> None:
    line, response, _ = await begin(service, "turn")
    response.failed("server_error")
    # The worker knows of the owed answer.
    await service.lines(line, "server_error")
    line.session.drop()
    following = await service.realtime.session(line.key, 2)
    following.script.greets = False
    await following.request(1)
    assert "Well?" in following.notes
    await line.passes(QUIET_SECONDS)
    assert len(following.requests) == 1


@side_by_side
async def test_each_request_has_its_own_event_id(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    for number in (1, 2):
        response.failed("server_error")
        await line.session.request(before + number)
        response = line.session.begin_response()
    assert len({request["event_id"] for request in line.session.requests}) == before + 2


@side_by_side
async def test_failures_in_a_row_are_each_repeated(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    for number in range(1, 4):
        response.failed("server_error")
        await line.session.request(before + number)
        response = line.session.begin_response()
    response.audio(900, 300, text="At last.")
    response.done()
    await line.hears(GREETING_HZ, 900)
    await line.told(("agent", GREETING), ("user", "Well?"), ("agent", "At last."))


@side_by_side
async def test_caller_who_speaks_cancels_the_pending_repeat(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    response.failed("server_error")
    speech = line.start_speech()
    await stays_quiet(line, before)
    line.session.end_speech(speech, "Are you there?")
    line.session.reply(900, "I am.")
    await line.hears(GREETING_HZ, 900)
    await stays_quiet(line, before)
    assert not line.session.deleted
    await line.told(("agent", GREETING), ("user", "Well?"), ("user", "Are you there?"), ("agent", "I am."))


@side_by_side
async def test_context_length_shortens_the_conversation(service: ScriptedService) -> None:
    line = await service.call()
    for number in range(4):
        line.session.turn(f"Question {number}.")
        line.session.reply(600 + 100 * number, f"Answer {number}.")
        await line.hears(GREETING_HZ, *(600, 700, 800, 900)[: number + 1])
    first, last = line.session.items[0], line.session.turn("And now?")
    line.session.begin_response().failed("context_length_exceeded", "The conversation is too long.")
    await line.session.request(2)
    assert first in line.session.deleted
    assert last not in line.session.deleted
    assert len(line.session.deleted) < 9
    line.session.reply(1200, "Now this.")
    await line.hears(GREETING_HZ, 600, 700, 800, 900, 1200)


@side_by_side
async def test_context_length_is_not_repeated_twice(service: ScriptedService) -> None:
    line, response, _ = await begin(service, "turn")
    response.failed("context_length_exceeded", "The conversation is too long.")
    await line.session.request(2)
    line.session.begin_response().failed("context_length_exceeded", "The conversation is too long.")
    assert says(await line.session.request(3), ANSWER_FAILED_TEXT)


# A response ends without audio


def _empty(response: ScriptedResponse) -> None:
    response.done()


def _text_alone(response: ScriptedResponse) -> None:
    response.text("I can only write.")
    response.done()


def _silent_message(response: ScriptedResponse) -> None:
    response.message()
    response.cut_off()
    response.done()


def _filtered(response: ScriptedResponse) -> None:
    response.message()
    response.cut_off()
    response.incomplete("content_filter")


def _cut_short(response: ScriptedResponse) -> None:
    response.message()
    response.cut_off()
    response.incomplete("max_output_tokens")


EMPTY = {
    "nothing": _empty,
    "text alone": _text_alone,
    "silent message": _silent_message,
    "content_filter": _filtered,
    "max_output_tokens": _cut_short,
}
empty_answers = pytest.mark.parametrize("end", EMPTY.values(), ids=EMPTY)


@empty_answers
@side_by_side
async def test_empty_answer_is_deleted_and_requested_again(service: ScriptedService, end: Refuse) -> None:
    line, response, before = await begin(service, "turn")
    end(response)
    assert fields(await line.session.request(before + 1)) == {}
    line.session.reply(900, "Here you are.")
    await line.hears(GREETING_HZ, 900)
    await stays_quiet(line, before + 1)
    assert line.session.deleted == [item["id"] for item in response.output]
    assert line.transcripts == [("agent", GREETING), ("user", "Well?"), ("agent", "Here you are.")]


@empty_answers
@side_by_side
async def test_three_empty_answers_end_in_an_apology(service: ScriptedService, end: Refuse) -> None:
    line, response, before = await begin(service, "turn")
    unheard = []
    for number in (1, 2, 3):
        end(response)
        unheard += [item["id"] for item in response.output]
        request = await line.session.request(before + number)
        assert says(request, ANSWER_FAILED_TEXT) == (number == 3)
        response = line.session.begin_response()
    response.audio(700, 300, text=ANSWER_FAILED_TEXT)
    response.done()
    await line.hears(GREETING_HZ, 700)
    await line.told(("agent", GREETING), ("user", "Well?"), ("agent", ANSWER_FAILED_TEXT))
    assert line.session.deleted == unheard
    # The call still listens to the caller.
    line.session.turn("Once more?")
    line.session.reply(900, "Now it works.")
    await line.hears(GREETING_HZ, 700, 900)
    assert len(line.session.requests) == before + 3


@side_by_side
async def test_inaudible_apology_ends_the_call(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    for number in (1, 2, 3):
        response.done()
        await line.session.request(before + number)
        response = line.session.begin_response()
    response.done()
    assert await line.ends()
    assert len(line.session.requests) == before + 3


@side_by_side
async def test_truncated_function_call_is_not_run(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    cut = response.begin_function_call("look_up")
    response.cut_off()
    response.incomplete("max_output_tokens")
    await line.session.request(before + 1)
    whole = line.session.begin_response()
    called = whole.function_call("look_up", '{"name": "hours"}')
    whole.done()
    await line.session.request(before + 2)
    assert line.session.outputs == [(called, "hours: run 1")]
    assert cut != called
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)


# A response ends early, after the caller heard a part


def _fails(response: ScriptedResponse) -> None:
    response.failed("server_error")


CUT: dict[str, Refuse] = {
    "failed": _fails,
    "content_filter": lambda response: response.incomplete("content_filter"),
    "max_output_tokens": lambda response: response.incomplete("max_output_tokens"),
}


@pytest.mark.parametrize("end", CUT.values(), ids=CUT)
@side_by_side
async def test_reply_that_breaks_off_is_continued_once(service: ScriptedService, end: Refuse) -> None:
    line, response, before = await begin(service, "turn")
    response.audio(700, 400, text="One two", finish=False)
    end(response)
    again = await line.session.request(before + 1)
    assert fields(again) == {}
    kinds = [kind for kind in line.session.kinds if kind.startswith(("conversation.", "response."))]
    assert kinds[-3:] == ["conversation.item.truncate", "conversation.item.create", "response.create"]
    (truncate,) = line.session.received("conversation.item.truncate")
    assert (truncate["item_id"], truncate["audio_end_ms"]) == (response.item_id, pytest.approx(400, abs=1))
    (note,) = line.session.notes
    assert (note[0], note[-1]) == ("[", "]")
    line.session.reply(900, "three four")
    await line.hears(GREETING_HZ, 700, 900)
    await stays_quiet(line, before + 1)
    assert not line.session.deleted
    assert [role for role, _ in line.transcripts] == ["agent", "user", "agent", "agent"]
    warned = service.worker_lines(line, "OPENAI_MAX_TOKENS")
    assert len(warned) == (end is CUT["max_output_tokens"])


# The cause is permanent


REFUSALS = [
    (401, {"code": "invalid_api_key", "message": "Incorrect API key provided."}, "OPENAI_API_KEY"),
    (403, {"code": "unsupported_country", "message": "Country not supported."}, "Country not supported"),
    (429, {"code": "insufficient_quota", "message": "You exceeded your current quota."}, "quota"),
]


@pytest.mark.parametrize(("status", "error", "named"), REFUSALS, ids=["401", "403", "no quota"])
@side_by_side
async def test_permanent_refusal_ends_the_call(
    service: ScriptedService, status: int, error: dict[str, Any], named: str
) -> None:
    key = service.new_key()
    service.realtime.scripts[key] = Script(refuses=Refusal(status, error))
    call = await service.place(key)
    await call.wait_for(lambda call: call.errors, timeout_seconds=5)
    assert named in call.errors[0].message
    await call.closed.wait()
    assert len(service.realtime.handshakes[key]) == 1


@side_by_side
async def test_handshake_waits_as_long_as_retry_after(service: ScriptedService) -> None:
    key = service.new_key()
    refusal = Refusal(503, {"message": "Overloaded."}, {"Retry-After": "2"})
    service.realtime.scripts[key] = Script(refusals=[refusal])
    await service.place(key)
    await service.realtime.session(key)
    first, second = service.realtime.handshakes[key]
    assert 2.0 <= second - first < 5.0


@side_by_side
async def test_failed_response_without_quota_ends_the_call(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    response.failed("insufficient_quota", "You exceeded your current quota.")
    assert "quota" in await line.ends()
    assert len(line.session.requests) == before
    assert len(service.realtime.handshakes[line.key]) == 1


@side_by_side
async def test_error_event_without_quota_ends_the_call(service: ScriptedService) -> None:
    line = await service.call()
    line.session.send(api.error("You exceeded your current quota.", code="insufficient_quota"))
    assert "quota" in await line.ends()
    assert len(service.realtime.handshakes[line.key]) == 1


# An error instead of `response.done`


@pytest.mark.parametrize("end", ["lost", "late"])
@side_by_side
async def test_error_in_mid_response_is_a_failure(service: ScriptedService, end: str) -> None:
    line, response, before = await begin(service, "turn")
    line.session.send(api.error(kind="server_error"))
    again = await line.session.request(before + 1, timeout_seconds=AT_ONCE_SECONDS)
    (cancel,) = line.session.received("response.cancel")
    assert cancel["response_id"] == response.id
    assert line.session.kinds.index("response.cancel") < line.session.events.index(again)
    if end == "late":
        response.done("cancelled", {"type": "cancelled", "reason": "client_cancelled"})
    else:
        message = "Cancellation failed: no active response"
        line.session.send(api.error(message, code="response_cancel_not_active"))
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await stays_quiet(line, before + 1)


@side_by_side
async def test_error_in_mid_reply_continues_it(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    response.audio(700, 400, text="One two", finish=False)
    line.session.send(api.error(kind="server_error"))
    await line.session.request(before + 1, timeout_seconds=AT_ONCE_SECONDS)
    (truncate,) = line.session.received("conversation.item.truncate")
    assert truncate["item_id"] == response.item_id
    assert [cancel["response_id"] for cancel in line.session.received("response.cancel")] == [response.id]
    line.session.reply(900)
    await line.hears(GREETING_HZ, 700, 900)
    await stays_quiet(line, before + 1)


@pytest.mark.parametrize("kind", ["invalid_request_error", "server_error"])
@pytest.mark.parametrize("named", [True, False], ids=["our event_id", "null"])
@pytest.mark.parametrize("occasion", ["greeting", "say"])
@side_by_side
async def test_refused_request_is_repeated(
    service: ScriptedService, occasion: str, named: bool, kind: str
) -> None:
    line = await service.call(Script(greets=occasion != "greeting"))
    before = len(line.session.requests) if occasion == "greeting" else 1
    if occasion == "say":
        await line.say("The office closes soon.")
    number = 1 if occasion == "greeting" else before + 1
    request = await line.session.request(number)
    event_id = request["event_id"] if named else None
    line.session.send(api.error("Please slow down.", kind=kind, code="a_new_code", event_id=event_id))
    again = await line.session.request(number + 1, timeout_seconds=AT_ONCE_SECONDS)
    assert says(again, "The office closes soon.") == (occasion == "say")
    assert again["event_id"] != request["event_id"]
    line.session.reply(900)
    await line.hears(*[GREETING_HZ] * (occasion == "say"), 900)
    await stays_quiet(line, number + 1)


@side_by_side
async def test_cancel_not_active_frees_the_next_request(service: ScriptedService) -> None:
    line = await service.call()
    line.session.turn("Well?")
    response = line.session.begin_response()
    response.audio(700, 2000, text="One two three four", finish=False)
    await line.call.wait_for(lambda _: line.tones == [GREETING_HZ, 700])
    # Keys interrupt the response. Its end was lost, so the API has nothing to cancel.
    await line.call.press("5")
    cancel = await line.session.event("response.cancel")
    line.session.send(
        api.error(
            "Cancellation failed: no active response found",
            code="response_cancel_not_active",
            event_id=cancel.get("event_id"),
        )
    )
    await line.session.request(2, timeout_seconds=AT_ONCE_SECONDS)
    line.session.reply(900)
    await line.hears(GREETING_HZ, 700, 900)
    assert len(line.call.interruptions) == 1


# The caller's speech does not end


@side_by_side
async def test_speech_without_voice_is_committed(service: ScriptedService) -> None:
    line = await service.call()
    began = time.monotonic()
    item_id = line.session.start_speech()
    commit = await line.session.event("input_audio_buffer.commit")
    assert 2.8 <= line.session.seconds(commit) - began < 6
    line.session.commit(item_id)
    assert fields(await line.session.request(2, timeout_seconds=AT_ONCE_SECONDS)) == {}
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)
    await stays_quiet(line, 2)
    assert len(line.session.received("input_audio_buffer.commit")) == 1


@side_by_side
async def test_keys_are_answered_in_speech_without_end(service: ScriptedService) -> None:
    line = await service.call()
    line.session.start_speech()
    await line.call.press("7#")
    await line.session.request(2)
    assert len(line.session.notes) == 1
    line.session.reply(900)
    await line.hears(GREETING_HZ, 900)


# Several owed answers


@side_by_side
async def test_say_in_speech_follows_the_answer(service: ScriptedService) -> None:
    line = await service.call()
    speech = line.start_speech()
    await line.say("This call is recorded.")
    await line.passes(0.3)
    assert len(line.session.requests) == 1
    line.session.end_speech(speech)
    line.session.reply(700, "My answer.")
    assert says(await line.session.request(2), "This call is recorded.")
    line.session.reply(900, "This call is recorded.")
    await line.hears(GREETING_HZ, 700, 900)
    await stays_quiet(line, 2)


@side_by_side
async def test_say_and_tool_output_are_both_answered(service: ScriptedService) -> None:
    line = await service.call()
    line.session.turn()
    calling = line.session.begin_response()
    calling.function_call("look_up")
    await line.session.wait_for(lambda s: s.outputs)
    await line.say("One moment.")
    calling.done()
    said = []
    for number in (2, 3):
        request = await line.session.request(number)
        said.append(says(request, "One moment."))
        line.session.reply(500 + 200 * number)
    assert sorted(said) == [False, True]
    await line.hears(GREETING_HZ, 900, 1100)
    await stays_quiet(line, 3)


@side_by_side
async def test_two_say_commands_are_spoken_in_order(service: ScriptedService) -> None:
    line, response, before = await begin(service, "turn")
    await line.say("First.")
    await line.say("Second.")
    response.audio(600, 300, text="My answer.")
    response.done()
    assert says(await line.session.request(before + 1), "First.")
    line.session.reply(700, "First.")
    assert says(await line.session.request(before + 2), "Second.")
    line.session.reply(800, "Second.")
    await line.hears(GREETING_HZ, 600, 700, 800)


# Settings and metrics


@pytest.mark.asyncio(loop_scope="function")
async def test_caller_is_heard_where_the_welcome_fails(locked_redis: RealRedis, tmp_path: Path) -> None:
    settings = {"OPENAI_WELCOME_MESSAGE": "Good morning.", "OPENAI_WELCOME_INTERRUPTIBLE": "false"}
    async with scripted_service(locked_redis.url, tmp_path, **settings) as service, service.own_calls():
        line = await service.call(Script(greets=False))
        request = await line.session.request(1)
        assert says(request, "Good morning.")
        assert line.session.appended_ms == 0
        line.session.send(api.error("Please slow down.", kind="server_error", event_id=request["event_id"]))
        await eventually(lambda: line.session.appended_ms > 0, AT_ONCE_SECONDS)
        # The caller's turn is answered.
        line.session.turn()
        line.session.reply(900)
        await line.call.wait_for(lambda _: 900 in line.tones)


@pytest.mark.asyncio(loop_scope="function")
async def test_answers_are_measured(locked_redis: RealRedis, tmp_path: Path) -> None:
    async with scripted_service(locked_redis.url, tmp_path) as service, service.own_calls():
        line, response, before = await begin(service, "turn")
        response.failed("server_error")
        await line.session.request(before + 1)
        line.session.reply(900)
        await line.hears(GREETING_HZ, 900)
        response = await turn(line)
        for number in (2, 3, 4):
            response.done()
            await line.session.request(before + number)
            response = line.session.begin_response()
        response.audio(700, 300, text=ANSWER_FAILED_TEXT)
        response.done()
        await line.hears(GREETING_HZ, 900, 700)
        assert await service.metric('avr_sts_answers_retried_total{reason="failed"}') == 1
        assert await service.metric('avr_sts_answers_retried_total{reason="empty"}') == 2
        assert await service.metric('avr_sts_answers_given_up_total{reason="empty"}') == 1
        # The greeting, the answer, and the apology instead of the other answer.
        assert await service.metric("avr_sts_answer_wait_seconds_count") >= 2


@pytest.mark.parametrize("audio_format", ["pcmu", "pcma"])
@pytest.mark.asyncio(loop_scope="function")
async def test_broken_off_reply_is_truncated_in_g711(
    locked_redis: RealRedis, tmp_path: Path, audio_format: str
) -> None:
    settings = {"OPENAI_AUDIO_FORMAT": audio_format}
    async with scripted_service(locked_redis.url, tmp_path, **settings) as service, service.own_calls():
        line, response, before = await begin(service, "turn")
        response.audio(700, 400, text="One two", finish=False)
        response.failed("server_error")
        await line.session.request(before + 1)
        (truncate,) = line.session.received("conversation.item.truncate")
        assert truncate["audio_end_ms"] == pytest.approx(400, abs=1)
        line.session.reply(900)
        await line.hears(GREETING_HZ, 700, 900)
