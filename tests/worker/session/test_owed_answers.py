"""Owed answers over long times, on a virtual clock; see tests/scenarios/test_answers.py for the others."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.audio.wav import read_wav
from common.errors import UpstreamError
from common.link import wire
from tests.worker import api_events as api
from tests.worker.session.restored import agent, replayed, restored, user
from tests.worker.session_driver import FRAME, Append, Did, Driver, audio_samples, live, only, playout
from worker.realtime.upstream_limits import FAILURES_TO_OPEN, BreakerState, UpstreamLimits
from worker.session.actions import Answer, Connect, Ended, RunTool
from worker.session.states import State

TICK_SECONDS = 0.2
# A repeat that is due comes within this time: the first back-off with its jitter, and some ticks.
SOON_SECONDS = 3.0
# `response.created` is awaited so long.
CREATED_SECONDS = 10.0
# A sentence without the silence around it.
VOICE = read_wav(Path(__file__).parents[3] / "simulator" / "speech" / "caller.wav")[9_600:51_200]

Play = Callable[["Api", str, dict[str, Any] | None], list[Did]]


def requests(did: list[Did]) -> list[dict[str, Any]]:
    """`response.create` events."""
    return [event for event in only(did, dict) if event["type"] == "response.create"]


def is_plain(request: dict[str, Any]) -> bool:
    """Whether a request has no instructions of its own."""
    return "instructions" not in request.get("response", {})


def commits(did: list[Did]) -> int:
    """Return how many times the caller's audio was committed."""
    return sum(event["type"] == "input_audio_buffer.commit" for event in only(did, dict))


class Api:
    """Drives a session for a while, and answers each request and turn as `play` does.

    `play` is given this object, the id of the response, and the request; None: the API begins the response.

    Attributes:
        driver: of the session.
        requests: all `response.create` events, with the seconds since the beginning.
        did: everything that the session did.
        says: the sound that the caller makes, or none: no audio comes at all.
    """

    def __init__(self, driver: Driver, play: Play | None = None, *, says: bytes = b"") -> None:
        self.driver = driver
        driver.keeps_metadata = True
        self.play: Play = play or (lambda *_: [])
        self.requests: list[tuple[float, dict[str, Any]]] = []
        self.did: list[Did] = []
        self.says = says
        self.last_item: str | None = None
        self._began = driver.now
        self._number = 0
        self._said = 0

    def saw(self, did: list[Did]) -> None:
        """Record the session's actions, and answer its requests."""
        pending = list(did)
        while pending:
            one = pending.pop(0)
            self.did.append(one)
            if isinstance(one, dict):
                pending += self.receive(one)

    def receive(self, event: dict[str, Any]) -> list[Did]:
        """Send an event for the API; return the session's actions after the answer."""
        if event["type"] != "response.create":
            return []
        self.requests.append((self.driver.now - self._began, event))
        return self.play(self, self.new_response(), event)

    def new_response(self) -> str:
        """Return the id of another response."""
        self._number += 1
        return f"resp_{self._number}"

    def run(self, seconds: float) -> list[Did]:
        """Let time pass; return the session's actions meanwhile."""
        before = len(self.did)
        for _ in range(round(seconds / TICK_SECONDS)):
            if self.driver.session.state is State.ENDED:
                break
            if self.says:
                size = round(TICK_SECONDS * 16_000)
                sound = (self.says + self.says)[self._said : self._said + size]
                self._said = (self._said + size) % len(self.says)
                self.saw(self.driver.caller(sound))
            self.saw(self.driver.tick(TICK_SECONDS))
        return self.did[before:]

    def event(self, *events: api.Event) -> None:
        """Events of the API."""
        self.saw(self.driver.event(*events))

    def turn(self, item_id: str, text: str = "Well?") -> None:
        """Send a turn of the caller, which the API begins to answer by itself."""
        self.saw(self.driver.turn(item_id, text, previous=self.last_item))
        self.last_item = item_id
        self.saw(self.play(self, self.new_response(), None))

    def speaks(self) -> None:
        """Answer from now on, by a reply that is heard."""
        self.play = speak

    @property
    def ended(self) -> list[wire.Ended]:
        """Return the end of the session, as the dispatcher is told."""
        return only(self.did, wire.Ended)


def speak(api_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
    """Return a reply, heard to its end."""
    item_id = f"item_of_{response_id}"
    did = api_.driver.reply(response_id, item_id, "Yes.", 200, previous=api_.last_item)
    api_.last_item = item_id
    return did + api_.driver.record(playout(*audio_samples(did).items(), idle=True))


def fail(api_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
    """Return a response that fails without audio."""
    error = {"type": "server_error", "code": "server_error", "message": "The server had an error."}
    details = {"type": "failed", "error": error}
    return api_.driver.event(
        api.response_created(response_id), api.response_done(response_id, "failed", status_details=details)
    )


def say_nothing(api_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
    """Return a response that completes without audio."""
    return api_.driver.event(api.response_created(response_id), api.response_done(response_id))


def apologise_alone(api_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
    """Return a response without audio, except for given words."""
    spoken = request is not None and not is_plain(request)
    return (speak if spoken else say_nothing)(api_, response_id)


def greeted(**options: Any) -> Api:
    """Return a session whose greeting was heard."""
    made = Api(Driver(**options), speak)
    made.saw(made.driver.go_live())
    assert len(made.requests) == 1
    return made


# A response that comes late


@pytest.mark.parametrize("refused_first", [True, False], ids=["refused, created", "created, refused"])
@pytest.mark.parametrize("echoes_metadata", [True, False], ids=["metadata", "no metadata"])
def test_greeting_created_late_is_given_once(refused_first: bool, echoes_metadata: bool) -> None:
    made = Api(Driver())
    made.saw(made.driver.go_live())
    made.run(11.0)
    (_, first), _ = made.requests
    created = api.response_created("resp_1")
    if echoes_metadata:
        created["response"] = created["response"] | {"metadata": first.get("response", {}).get("metadata")}
    refused = api.error("conversation_already_has_active_response", event_id="response-create-2")
    made.event(*([refused, created] if refused_first else [created, refused]))
    did = made.driver.event(
        api.item_added(api.reply_item("hello")),
        api.audio_delta("resp_1", "hello", bytes(48 * 200)),
        api.text_delta("resp_1", "hello", "Hello!"),
    )
    did += made.driver.reply_done("resp_1", "hello", "Hello!")
    did += made.driver.record(playout(*audio_samples(did).items(), idle=True))
    made.saw(did)
    assert sum(audio_samples(made.did).values()) >= 8 * 200
    made.run(60)
    assert len(made.requests) == 2
    assert not [event for event in only(made.did, dict) if event["type"] == "response.cancel"]


def test_turn_that_the_api_does_not_answer_is_asked_for() -> None:
    made = greeted()
    made.play = lambda *_: []
    made.turn("item_a")
    made.run(4)
    assert len(made.requests) == 1
    made.speaks()
    made.run(CREATED_SECONDS - 4 + SOON_SECONDS)
    assert len(made.requests) == 2
    assert is_plain(made.requests[-1][1])
    made.run(60)
    assert len(made.requests) == 2


# Answers that cannot be given


def test_answer_owed_for_too_long_ends_the_session() -> None:
    made = greeted(retry_seconds=30.0)
    made.play = fail
    made.turn("item_a")
    made.run(60)
    (ended,) = made.ended
    assert ended.outcome == "failed"
    assert "server_error" in ended.message
    seconds = [at for at, _ in made.requests]
    assert 20 <= made.driver.now - 100.0 <= 36
    assert 4 <= len(seconds) <= 20
    gaps = [later - at for at, later in itertools.pairwise(seconds[1:])]
    assert min(gaps) >= 0.5 - TICK_SECONDS
    assert max(gaps) > 2 * min(gaps)


@pytest.mark.parametrize(("pause_seconds", "is_waited_for"), [(5.0, True), (120.0, False)])
def test_pause_of_the_api_is_waited_for_in_time(pause_seconds: float, is_waited_for: bool) -> None:
    limits = UpstreamLimits()
    driver = Driver(limits=limits)
    # Another call was told to wait.
    limits.hold(pause_seconds, driver.now)
    did = driver.go_live()
    assert not requests(did)
    did += [*driver.tick(0.2), *driver.tick(0.2)]
    assert bool(only(did, Ended)) is not is_waited_for
    assert len(requests(driver.tick(pause_seconds))) == is_waited_for


def test_long_pause_after_a_cut_reply_ends_the_session() -> None:
    made = greeted()
    made.play = lambda *_: []
    made.turn("item_a")
    made.saw(made.driver.reply("resp_9", "reply", "Your order", 400, previous="item_a", done=False))
    message = "Rate limit reached. Please try again in 10m0s."
    error = {"type": "requests", "code": "rate_limit_exceeded", "message": message}
    made.event(api.response_done("resp_9", "failed", status_details={"type": "failed", "error": error}))
    made.saw(made.driver.record(playout(*audio_samples(made.did).items(), idle=True)))
    made.run(5)
    (ended,) = made.ended
    assert "rate_limit_exceeded" in ended.message


def test_time_without_a_session_counts_for_the_greeting() -> None:
    made = Api(Driver(retry_seconds=30.0), fail)
    made.driver.tick(25.0)
    made.saw(made.driver.go_live())
    made.run(30)
    (ended,) = made.ended
    assert "server_error" in ended.message
    assert made.driver.now - 100.0 <= 36


@pytest.mark.parametrize("pause_seconds", [4.0, 9.0])
@pytest.mark.parametrize("responds", [True, False], ids=["fails", "unanswered"])
def test_caller_who_asks_again_gets_the_way_out(responds: bool, pause_seconds: float) -> None:
    made = greeted()
    made.play = fail if responds else lambda *_: []
    for number in range(15):
        if not made.ended:
            made.turn(f"item_{number}", "Hello?")
            made.run(pause_seconds)
    assert made.ended
    assert 20 <= made.driver.now - 100.0 <= 36


def test_speech_is_no_time_of_waiting() -> None:
    made = greeted()
    made.play = lambda _, response_id, __: made.driver.event(api.response_created(response_id))
    made.driver.session.command(1, "say", {"text": "One moment."}, made.driver.now)
    made.saw(made.driver.take())
    made.event(api.speech_started("item_a"), api.cancelled("resp_2"))
    made.says = VOICE
    made.run(40)
    made.says = FRAME
    made.speaks()
    end = api.speech_stopped("item_a", 40_000)
    made.event(end, api.committed("item_a"), api.caller_item_added("item_a"))
    made.run(0.6)
    made.saw(speak(made, made.new_response()))
    made.run(5)
    assert not made.ended
    assert [is_plain(request) for _, request in made.requests[1:]] == [False, False]


def test_failing_api_that_recovers_answers_once() -> None:
    made = greeted()
    made.play = fail
    made.turn("item_a")
    made.run(20)
    before = len(made.requests)
    made.speaks()
    made.run(8)
    assert len(made.requests) == before + 1
    made.run(60)
    assert len(made.requests) == before + 1
    assert not made.ended


@pytest.mark.parametrize("helps", [True, False])
def test_too_long_conversation_is_shortened_once(helps: bool) -> None:
    made = greeted()
    kept = [made.last_item]
    for number in range(6):
        made.turn(f"item_{number}")
        kept += [f"item_{number}", made.last_item]
    details = {"type": "failed", "error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}
    plain = []

    def play(api_: Api, response_id: str, request: dict[str, Any] | None) -> list[Did]:
        if request is not None and not is_plain(request):
            return speak(api_, response_id)
        plain.append(response_id)
        if helps and len(plain) == 2:
            return speak(api_, response_id)
        failed = api.response_done(response_id, "failed", status_details=details)
        return api_.driver.event(api.response_created(response_id), failed)

    made.play = play
    before = len(made.did)
    made.turn("last")
    made.run(20)
    deleted = [
        one["item_id"] for one in only(made.did[before:], dict) if one["type"] == "conversation.item.delete"
    ]
    # The oldest items go; what the caller has just said stays.
    assert deleted
    assert deleted == kept[: len(deleted)]
    assert "last" not in deleted
    # One more request; if that one fails, too, the caller is told.
    assert len(plain) == 2
    assert [is_plain(request) for _, request in made.requests[-2:]] == ([True, True] if helps else [True, False])


def test_api_that_refuses_metadata_is_asked_without_it() -> None:
    driver = Driver()
    driver.keeps_metadata = True
    (request,) = requests(driver.go_live())
    assert "metadata" in request["response"]
    # As the API words it for a field that it does not take.
    refusal = api.error("unknown_parameter", event_id=request["event_id"], param="response.metadata")
    driver.event(refusal)
    (again,) = requests(driver.tick(SOON_SECONDS))
    assert "metadata" not in again.get("response", {})


def test_apology_that_is_not_heard_either_ends_the_session() -> None:
    made = greeted()
    made.play = say_nothing
    made.turn("item_a")
    made.run(20)
    (ended,) = made.ended
    assert ended.outcome == "failed"
    assert "the model says nothing" in ended.message


def test_continuation_that_fails_is_not_continued_again() -> None:
    made = greeted()
    error = {"type": "failed", "error": {"type": "server_error", "code": "server_error", "message": "down"}}

    def cut_off(api_: Api, response_id: str, request: dict[str, Any] | None) -> list[Did]:
        item_id = f"item_of_{response_id}"
        did = api_.driver.reply(response_id, item_id, "one two", 200, previous=api_.last_item, done=False)
        did += api_.driver.record(playout(*audio_samples(did).items(), idle=True))
        return did + api_.driver.event(api.response_done(response_id, "failed", status_details=error))

    made.play = cut_off
    made.turn("item_a")
    made.run(20)
    # The greeting, and one request to go on.
    assert len(made.requests) == 2
    assert not made.ended


def test_three_failed_turns_in_a_row_end_the_session() -> None:
    made = greeted()
    made.play = apologise_alone
    for number in (1, 2, 3):
        assert not made.ended
        made.turn(f"item_{number}")
        made.run(20)
    (ended,) = made.ended
    assert ended.outcome == "failed"


def test_turn_that_is_answered_starts_the_count_anew() -> None:
    made = greeted()
    for number in range(8):
        made.play = speak if number % 3 == 2 else apologise_alone
        made.turn(f"item_{number}")
        made.run(20)
        assert not made.ended


def call_endless_tool(api_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
    """Send a response that calls a function without a result."""
    call = api.function_call_item(f"item_of_{response_id}") | {"call_id": f"call_of_{response_id}"}
    return api_.driver.event(
        api.response_created(response_id),
        api.event("response.output_item.done", response_id=response_id, output_index=0, item=call),
        api.response_done(response_id),
    )


@pytest.mark.parametrize("answer", [speak, call_endless_tool])
def test_answers_that_succeed_keep_the_breaker_closed(answer: Play) -> None:
    limits = UpstreamLimits()
    made = greeted(limits=limits)
    for number in range(2 * FAILURES_TO_OPEN):
        made.play = fail
        made.turn(f"item_{number}")
        made.play = answer
        made.run(SOON_SECONDS)
        assert limits.breaker is BreakerState.CLOSED
    # Each answer came at its second request.
    assert len(made.requests) == 1 + 2 * FAILURES_TO_OPEN


@pytest.mark.parametrize("is_open", [True, False], ids=["no session", "no connection"])
def test_last_attempt_that_hangs_ends_the_session(is_open: bool) -> None:
    driver = Driver(retry_seconds=30.0)
    driver.tick(29.0)
    error = UpstreamError("the Realtime API cannot be reached", code="connect", retryable=True)
    driver.session.connect_failed(error, driver.now)
    assert only(driver.take(), Connect)
    driver.tick(0.9)
    if is_open:
        driver.connected()
    did = driver.tick(3.9)
    assert not only(did, wire.Ended)
    did = driver.tick(0.4)
    (ended,) = only(did, wire.Ended)
    assert ended.outcome == "failed"


# Speech without an end


def test_voice_of_five_minutes_is_not_committed() -> None:
    made = greeted()
    made.says = VOICE
    made.event(api.speech_started("item_a"))
    made.run(300)
    assert commits(made.did) == 0
    assert len(made.requests) == 1
    assert not made.ended


def test_keys_are_answered_while_a_voice_is_heard() -> None:
    made = greeted()
    made.says = VOICE
    made.event(api.speech_started("item_a"))
    made.run(5)
    made.saw(made.driver.record(wire.Dtmf("7"), wire.Dtmf("#")))
    made.run(SOON_SECONDS)
    assert len(made.requests) == 2
    assert commits(made.did) == 0


@pytest.mark.parametrize("owed", ["nothing", "say", "tool"])
def test_speech_without_voice_is_committed_and_answered(owed: str) -> None:
    made = greeted()
    made.says = bytes(3200)
    if owed == "tool":
        call_tool(made, "resp_tool")
    made.event(api.speech_started("item_a"))
    if owed == "say":
        made.driver.session.command(1, "say", {"text": "One moment."}, made.driver.now)
        made.saw(made.driver.take())
    if owed == "tool":
        made.driver.session.tool_done("call_1", "found", made.driver.now)
        made.saw(made.driver.take())
    assert commits(made.run(2.6)) == 0
    assert len(made.requests) == 1
    assert commits(made.run(2.0)) == 1
    made.event(api.committed("item_a"), api.caller_item_added("item_a"))
    made.run(20)
    given = [is_plain(request) for _, request in made.requests[1:]]
    assert sorted(given) == ([False, True] if owed == "say" else [True])
    assert commits(made.did) == 1


def test_refused_commit_is_no_refused_request() -> None:
    made = greeted()
    made.says = bytes(3200)
    made.event(api.speech_started("item_a"))
    made.play = lambda *_: []
    did = made.run(4)
    assert commits(did) == len(requests(did)) == 1
    made.event(api.error("input_audio_buffer_commit_empty", "The buffer has only 0.00ms of audio."))
    made.saw(speak(made, "resp_9"))
    made.run(30)
    assert len(made.requests) == 2


def test_refused_commit_leaves_the_next_turn_to_the_api() -> None:
    made = greeted()
    made.event(api.speech_started("item_a"))
    made.run(4)
    made.event(api.error("input_audio_buffer_commit_empty", "The buffer has only 0.00ms of audio."))
    asked = len(made.requests)
    # A service that leaves `speech_stopped` out reports the turn by its commit alone.
    made.play = lambda *_: []
    made.event(api.speech_started("item_b"), api.committed("item_b"))
    assert len(made.requests) == asked, "the API answers this turn by itself"
    made.run(CREATED_SECONDS)
    assert len(made.requests) == asked + 1, "the turn is not owed"


def test_silence_hangup_works_in_speech_without_end() -> None:
    made = greeted(silence_hangup_seconds=30.0)
    made.says = bytes(3200)
    made.event(api.speech_started("item_a"))
    made.run(8)
    made.event(api.committed("item_a"), api.caller_item_added("item_a"))
    assert not only(made.run(18), wire.TelephonyCommand)
    assert [order.action for order in only(made.run(20), wire.TelephonyCommand)] == ["hang_up"]


def call_tool(made: Api, response_id: str, item_id: str = "fc_1") -> None:
    """Send a call of `look_up`, which begins to run."""
    item = api.function_call_item(item_id) | {"status": "completed", "arguments": "{}"}
    made.event(
        api.response_created(response_id),
        api.event("response.output_item.done", response_id=response_id, output_index=0, item=item),
    )
    made.saw(made.driver.record(wire.ToolKnown("call_1")))
    made.event(api.response_done(response_id, output=[item], usage=api.USAGE))


def test_long_tool_is_waited_for_and_answered_once() -> None:
    made = greeted(silence_hangup_seconds=10.0)
    made.says = bytes(3200)
    call_tool(made, "resp_tool")
    assert len(only(made.did, RunTool)) == 1
    did = made.run(19)
    assert not only(did, wire.TelephonyCommand)
    assert len(made.requests) == 1
    made.driver.session.tool_done("call_1", "found", made.driver.now)
    made.saw(made.driver.take())
    made.run(8)
    assert len(made.requests) == 2


# What counts as activity


def test_remote_tool_without_an_end_is_given_up() -> None:
    made = greeted(silence_hangup_seconds=30.0)
    made.play = lambda *_: []
    made.turn("item_a")
    tool = {"type": "mcp_call", "id": "mcp_1", "server_label": "stock", "name": "find", "arguments": "{}"}
    added = api.event("response.output_item.added", response_id="resp_9", output_index=0, item=tool)
    made.event(api.response_created("resp_9"), added, api.response_done("resp_9"))
    made.speaks()
    made.run(55)
    assert len(made.requests) == 1
    made.run(10)
    assert len(made.requests) == 2
    made.run(40)
    assert len(made.requests) == 2
    assert [order.action for order in only(made.did, wire.TelephonyCommand)] == ["hang_up"]


def test_idle_timeout_of_the_api_does_not_keep_a_line_open() -> None:
    """The API speaks by itself every 8 s (`idle_timeout_ms`), and the caller never does."""
    made = greeted(silence_hangup_seconds=30.0)
    made.says = bytes(3200)
    orders: list[wire.TelephonyCommand] = []
    for number in range(6):
        orders += only(made.run(8), wire.TelephonyCommand)
        if orders:
            break
        item_id = f"idle_{number}"
        made.event(
            api.event(
                "input_audio_buffer.timeout_triggered",
                item_id=item_id,
                audio_start_ms=8000 * number,
                audio_end_ms=8000 * (number + 1),
            ),
            api.committed(item_id, made.last_item),
            api.caller_item_added(item_id, made.last_item),
        )
        made.last_item = item_id
        made.saw(speak(made, f"resp_idle_{number}"))
    assert [order.action for order in orders] == ["hang_up"]
    assert made.driver.now - 100.0 <= 42
    assert len(made.requests) == 1


# A greeting that must not be interrupted


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "failed"])
def test_caller_is_heard_where_the_welcome_fails(refused: bool) -> None:
    made = Api(live(welcome="Good morning.", welcome_interruptible=False, retry_seconds=300.0))
    driver = made.driver
    driver.caller(FRAME)

    def failing(_: Api, response_id: str, request: dict[str, Any] | None = None) -> list[Did]:
        if refused:
            event_id = f"response-create-{len(made.requests) + 1}"
            return driver.event(api.error("rate_limit_exceeded", kind="server_error", event_id=event_id))
        return fail(made, response_id)

    made.play = failing
    made.saw(failing(made, "resp_0"))
    made.says = VOICE
    assert only(made.run(15), Append)


# A session that is changed, and never answers


def ask(made: Api, number: int, **session: Any) -> None:
    """`POST /calls/{uuid}/session`."""
    made.driver.session.command(number, "session", session, made.driver.now)
    made.saw(made.driver.take())


def answers(made: Api) -> list[tuple[int, int]]:
    """Answers to the calls API: (number, status)."""
    return [(answer.number, answer.status) for answer in only(made.did, Answer)]


def test_unanswered_change_is_given_up_after_ten_seconds() -> None:
    made = greeted()
    ask(made, 1, instructions="One.")
    made.run(9.6)
    assert answers(made) == []
    made.run(1.0)
    assert answers(made) == [(1, 504)]
    # The next one is answered by its own answer.
    ask(made, 2, instructions="Two.")
    made.event(api.session_updated())
    assert answers(made) == [(1, 504), (2, 200)]
    ask(made, 3, instructions="Three.")
    made.event(api.error("invalid_value", param="session.instructions", event_id=None))
    assert answers(made)[2:] == [(3, 422)]


# The length of a session


@pytest.mark.parametrize("minutes", [20, 30, 60])
def test_session_is_replaced_before_it_expires(minutes: int) -> None:
    made = Api(Driver(), speak)
    made.driver.take()
    made.driver.connected()
    created = api.session_created()
    # The shell, which has a clock of the day, adds how long that is.
    created["session"] = created["session"] | {"expires_at": int(time.time()) + 60 * minutes}
    made.event(created | {"lasts_seconds": 60.0 * minutes}, api.session_updated())
    opened = made.driver.now
    while not only(made.did, wire.Move) and made.driver.now - opened < 60 * minutes:
        made.run(10)
    assert 60 * minutes * 0.85 <= made.driver.now - opened <= 60 * minutes - 20


# A call that is restored, and words of the caller's that may be gone


@pytest.mark.parametrize("how", ["recalled", "words_lost"])
def test_restored_call_says_that_words_were_lost(how: str) -> None:
    driver, did = restored(user("a", "Hi"), agent("b", "Hello."), **{how: True})
    made = Api(driver, speak, says=bytes(3200))
    made.saw(did)
    made.run(SOON_SECONDS)
    notes = [text for kind, text in replayed(made.did) if kind == "input_text" and text.startswith("[")]
    assert len(notes) == 1
    assert len(made.requests) == 1


def test_restored_call_without_speech_says_nothing_of_it() -> None:
    driver, did = restored(user("a", "Hi"), agent("b", "Hello."))
    made = Api(driver, speak, says=bytes(3200))
    made.saw(did)
    made.run(SOON_SECONDS)
    assert not [text for kind, text in replayed(made.did) if text.startswith("[")]
    assert not made.requests


@pytest.mark.parametrize("ends", ["lost", "released"])
def test_say_that_is_owed_is_said_in_the_next_session(ends: str) -> None:
    made = greeted()
    made.event(api.speech_started("item_a"))
    made.driver.session.command(1, "say", {"text": "One moment."}, made.driver.now)
    if ends == "lost":
        made.driver.session.connection_lost("it broke off", made.driver.now)
    else:
        made.driver.record(wire.Release(0.0, False))
    made.driver.take()
    remembered = [each for each in made.driver.memory_writer if isinstance(each, wire.ItemUpdate)]
    assert "One moment." in remembered[-1].item["text"]
    driver, did = restored(agent("hello", "Hello!"), remembered[-1], reason="dropped")
    assert "One moment." in replayed(did)[-1][1]
    assert len(requests(did + driver.tick(1.0))) == 1


@pytest.mark.parametrize("name", ["look_up", "avr_hangup"])
def test_late_call_of_a_response_given_up_is_carried_out(name: str) -> None:
    made = greeted()
    made.play = lambda *_: []
    made.turn("item_a")
    made.event(api.response_created("resp_9"), api.error("server_error", kind="server_error"))
    made.speaks()
    made.run(SOON_SECONDS)
    assert len(made.requests) == 2
    call = api.function_call_item("call_item") | {"name": name}
    made.event(api.event("response.output_item.done", response_id="resp_9", output_index=0, item=call))
    if name == "look_up":
        made.driver.session.tool_done(call["call_id"], "found", made.driver.now)
        made.run(SOON_SECONDS)
        assert len(made.requests) == 3
    else:
        assert [order.action for order in only(made.did, wire.TelephonyCommand)] == ["hang_up"]
