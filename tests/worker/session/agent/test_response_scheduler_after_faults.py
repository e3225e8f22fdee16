"""Every owed answer is given: random faults of the API on a virtual clock, then an API that works again."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from common.link import wire
from tests.worker import api_events as api
from tests.worker.link_records import payload_of
from tests.worker.session_driver import Driver, pcm_24k, playout
from worker.session import actions
from worker.session.agent.answering import RESPONSE_CREATED_SECONDS, RESPONSE_SILENCE_SECONDS
from worker.session.agent.response_scheduler import SchedulerState
from worker.session.session import Session
from worker.session.states import State

TICK_SECONDS = 0.2
# An event has so many answers of both sides in a row at most.
MAX_ROUNDS = 100
# An API that works answers so soon.
ANSWERED_SECONDS = 8.0
# A hung response, a request without an answer, and the back-off of a repeat may be pending one after another.
PENDING_SECONDS = RESPONSE_SILENCE_SECONDS + RESPONSE_CREATED_SECONDS

_FAILED = {"type": "failed", "error": {"type": "server_error", "code": "server_error"}}
_LIMITED = {
    "type": "failed",
    "error": {"type": "requests", "code": "rate_limit_exceeded", "message": "Please try again in 3s."},
}
_TOO_LONG = {"type": "failed", "error": {"type": "invalid_request_error", "code": "context_length_exceeded"}}
_FILTERED = {"type": "incomplete", "reason": "content_filter"}


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Hundreds of calls have a lot to log."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


class World:
    """A session between a dispatcher that works and an API that fails until `works` is set.

    Attributes:
        works: the API answers each request.
        echoes: a response has the metadata of its request, as OpenAI's.
        unanswered: metadata of the requests that have no response.
        requests: `response.create` events that the API was sent.
        replies: replies that the API has streamed to their end.
    """

    def __init__(self, *, create_response: bool, echoes: bool, retry_seconds: float = 1e6) -> None:
        self.echoes = echoes
        self.unanswered: list[dict[str, Any] | None] = []
        self.driver = Driver(retry_seconds=retry_seconds)
        self.works = False
        self.requests: list[str] = []
        self.replies = 0
        self.active = ""
        self.made = 0
        self.turns = 0
        self.tools: list[str] = []
        self.sent_samples: dict[int, int] = {}
        self.driver.take()
        self.session.connected(self.driver.now)
        self.driver.take()
        detection = {"type": "server_vad", "create_response": create_response}
        shown = api.session_updated()
        shown["session"]["audio"] = {"input": {"turn_detection": detection}}
        self.send(api.session_created(), shown)

    @property
    def session(self) -> Session:
        return self.driver.session

    @property
    def answers_itself(self) -> bool:
        return self.session.parts.updates.create_response

    # What the API does

    def send(self, *events: api.Event) -> None:
        for event in events:
            self.session.event(copy.deepcopy(event), self.driver.now)
            self.obey()

    def obey(self) -> None:
        """Carry out the session's actions."""
        rounds = 0
        while self.session.actions:
            rounds += 1
            assert rounds < MAX_ROUNDS, "the API is asked without a pause"
            for action in self.session.actions:
                if isinstance(action, actions.ToUpstream):
                    sent = action.event
                    if sent["type"] == "response.create":
                        self.unanswered.append(sent["response"].get("metadata"))
            wanted = self.driver.take()
            for one in wanted:
                if isinstance(one, wire.Flush):
                    self.driver_record(wire.Heard(one.number))
                elif isinstance(one, wire.ReplyAudio):
                    self.sent_samples[one.item_index] = (
                        self.sent_samples.get(one.item_index, 0) + len(one.pcm) // 2
                    )
                elif isinstance(one, actions.RunTool):
                    self.tools.append(one.call_id)
                elif isinstance(one, dict):
                    self.receive(one)

    def driver_record(self, record: wire.Control) -> None:
        self.session.record(*payload_of(wire.encode(record, 1)), self.driver.now)

    def receive(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "response.create":
            self.requests.append(event["event_id"])
        if not self.works:
            return
        if kind == "response.create" and self.active:
            self.unanswered.pop()
            self.session.event(api.error("conversation_already_has_active_response"), self.driver.now)
        elif kind == "response.create":
            self.reply(self.unanswered.pop())
        elif kind == "response.cancel" and event["response_id"] == self.active:
            self.active = ""
            self.session.event(api.cancelled(event["response_id"]), self.driver.now)
        elif kind == "response.cancel":
            self.session.event(api.error("response_cancel_not_active"), self.driver.now)
        elif kind == "input_audio_buffer.commit":
            self.turns += 1
            item_id = f"commit_{self.turns}"
            for each in (api.committed(item_id), api.caller_item_added(item_id)):
                self.session.event(each, self.driver.now)

    def created(self, response_id: str, metadata: dict[str, Any] | None) -> api.Event:
        event = api.response_created(response_id)
        event["response"]["metadata"] = metadata if self.echoes else None
        return event

    def reply(self, metadata: dict[str, Any] | None = None) -> None:
        """Begin and end a reply of 100 ms."""
        self.made += 1
        response_id, item_id = f"good_{self.made}", f"reply_{self.made}"
        self.active = response_id
        for event in (
            self.created(response_id, metadata),
            api.item_added(api.reply_item(item_id)),
            api.text_delta(response_id, item_id, "yes"),
            api.audio_delta(response_id, item_id, pcm_24k(100)),
            api.audio_done(response_id, item_id),
            api.text_done(response_id, item_id, "yes"),
        ):
            if self.active == response_id:
                self.session.event(event, self.driver.now)
        if self.active == response_id:
            self.active = ""
            self.replies += 1
            self.session.event(api.response_done(response_id, usage=api.USAGE), self.driver.now)

    # Time

    def tick(self, seconds: float = TICK_SECONDS) -> None:
        self.driver.now += seconds
        self.session.tick(self.driver.now)
        self.obey()
        if self.sent_samples:
            # The caller has heard everything.
            self.driver_record(playout(max(self.sent_samples.items()), idle=True))
        self.obey()
        tools, self.tools = self.tools, []
        for call_id in tools:
            self.session.tool_done(call_id, "42", self.driver.now)
            self.obey()

    @property
    def owes(self) -> bool:
        return self.session.state is State.LIVE and self.session.parts.answers.responses.owes

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is owed or under way, and the caller is silent."""
        idle = self.session.parts.answers.responses.state is SchedulerState.IDLE
        return not self.owes and idle and not self.is_busy

    @property
    def is_busy(self) -> bool:
        """Whether the caller speaks, or presses keys."""
        return self.session.parts.memory_writer.speaking or self.session.parts.digits.is_open

    def check_progress(self) -> None:
        """An owed answer has a request, a response, a time when it is due, or a limit that holds it back."""
        answering = self.session.parts.answers
        responses, now = answering.responses, self.driver.now
        if not self.owes or self.is_busy or responses.state is not SchedulerState.IDLE:
            return
        owed = responses.owed
        due_later = owed[0].not_before_seconds > now or any((each.api_until_seconds or 0.0) > now for each in owed)
        assert due_later or owed[0].was_held


# Steps of an API that fails: each is a name, and how many responses back it goes.
KINDS = [
    "created",
    "created",
    "created by itself",
    "lost",
    "audio",
    "audio done",
    "done",
    "empty",
    "failed",
    "limited",
    "too long",
    "filtered",
    "cancelled",
    "tool",
    "turn",
    "turn",
    "speech",
    "stopped",
    "refused",
    "refused by id",
    "active",
    "not active",
    "outage",
    "key",
    "say",
    "unknown done",
    "updated",
]
Step = tuple[str | float, int]
steps = st.one_of(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2)),
    st.tuples(st.sampled_from(KINDS), st.integers(0, 2)),
    st.tuples(st.sampled_from([0.2, 0.6, 3.0, 5.2, 10.2, 20.2]), st.just(0)),
)


def take_step(world: World, kind: str, back: int) -> None:
    """Have the failing API, or the caller, do something."""
    driver = world.driver
    response_id = f"resp_{max(1, world.made - back)}"
    item_id = f"item_{response_id}"
    match kind:
        case "created":
            world.made += 1
            world.send(world.created(f"resp_{world.made}", world.unanswered.pop(0) if world.unanswered else None))
        case "created by itself":
            world.made += 1
            world.send(world.created(f"resp_{world.made}", None))
        case "lost":
            world.unanswered.clear()
        case "audio":
            world.send(
                api.item_added(api.reply_item(item_id)),
                api.audio_delta(response_id, item_id, pcm_24k(40)),
            )
        case "audio done":
            world.send(api.audio_done(response_id, item_id), api.text_done(response_id, item_id, "yes"))
        case "done" | "empty":
            world.send(api.response_done(response_id))
        case "failed":
            world.send(api.response_done(response_id, "failed", status_details=_FAILED))
        case "limited":
            world.send({"type": "response.done", "response": _response(response_id, "failed", _LIMITED)})
        case "too long":
            world.send(api.response_done(response_id, "failed", status_details=_TOO_LONG))
        case "filtered":
            world.send(api.response_done(response_id, "incomplete", status_details=_FILTERED))
        case "cancelled":
            world.send(api.cancelled(response_id))
        case "tool":
            call = api.function_call_item(f"call_item_{world.made}_{driver.now}")
            call |= {"call_id": f"call_{world.made}_{driver.now}", "status": "completed", "arguments": "{}"}
            event = {
                "type": "response.output_item.done",
                "response_id": response_id,
                "output_index": 0,
                "item": call,
            }
            world.send(event)
        case "turn" | "speech" | "stopped":
            world.turns += kind != "stopped"
            turn_id = f"turn_{world.turns}"
            if kind != "stopped":
                world.send(api.speech_started(turn_id))
            if kind != "speech":
                world.send(api.speech_stopped(turn_id, 0), api.committed(turn_id), api.caller_item_added(turn_id))
        case "refused":
            world.send(api.error("invalid_value"))
        case "refused by id":
            request = world.session.parts.answers.responses.request
            world.send(api.error("invalid_value", event_id=request.event_id if request else "another"))
        case "active":
            world.send(api.error("conversation_already_has_active_response"))
        case "not active":
            world.send(api.error("response_cancel_not_active"))
        case "outage":
            world.send(api.error("server_error", kind="server_error"))
        case "key":
            world.driver_record(wire.Dtmf("5"))
            world.obey()
        case "say":
            world.session.command(1, "say", {"text": "hello"}, driver.now)
            world.obey()
        case "unknown done":
            world.send(api.response_done("resp_unknown"))
        case "updated":
            world.send(api.session_updated())


def _response(response_id: str, status: str, details: dict[str, Any]) -> dict[str, Any]:
    return api.response(response_id, status, status_details=details)


def fail(world: World, script: list[Step]) -> None:
    for kind, back in script:
        if isinstance(kind, float):
            world.tick(kind)
        else:
            take_step(world, kind, back)
        world.tick(0.02)
        world.check_progress()


cheap = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def recover(world: World) -> float:
    """Have the API work until nothing is owed; returns the seconds that this took."""
    world.works = True
    waited_seconds = 0.0
    while not world.is_quiet and waited_seconds < 2 * (PENDING_SECONDS + ANSWERED_SECONDS):
        world.tick()
        waited_seconds += TICK_SECONDS
        world.check_progress()
    return waited_seconds


@cheap
@given(st.booleans(), st.booleans(), st.lists(steps, max_size=25))
# A saying and keys wait while the API hears speech.
@example(
    create_response=True,
    echoes=True,
    script=[("created", 0), ("audio", 0), ("done", 0), ("speech", 0), ("say", 0), ("key", 0)],
)
def test_an_api_that_works_again_answers_all(create_response: bool, echoes: bool, script: list[Step]) -> None:
    world = World(create_response=create_response, echoes=echoes)
    fail(world, script)
    waited_seconds = recover(world)
    if world.session.state is State.ENDED:
        return
    assert world.is_quiet
    assert waited_seconds <= PENDING_SECONDS + ANSWERED_SECONDS
    # Nothing is asked for that is not owed.
    asked = len(world.requests)
    for _ in range(int(30 / TICK_SECONDS)):
        world.tick()
    assert len(world.requests) == asked


@cheap
@given(st.booleans(), st.booleans(), st.lists(steps, max_size=25))
def test_a_turn_after_a_fault_is_answered_once(create_response: bool, echoes: bool, script: list[Step]) -> None:
    world = World(create_response=create_response, echoes=echoes)
    fail(world, script)
    recover(world)
    # A turn of minutes ago is over.
    world.tick(60.0)
    recover(world)
    if world.session.state is State.ENDED:
        return
    asked, replies = len(world.requests), world.replies
    take_step(world, "turn", 0)
    if create_response:
        world.reply()
        world.obey()
    for _ in range(int(30 / TICK_SECONDS)):
        world.tick()
    assert len(world.requests) - asked == (not create_response)
    assert world.replies - replies == 1


@cheap
@given(st.booleans(), st.booleans(), st.lists(steps, max_size=25))
# Audio of a response whose `response.created` and `response.done` were lost.
@example(create_response=True, echoes=False, script=[("unknown done", 0), ("audio", 0)])
def test_an_api_that_stays_down_ends_the_session(create_response: bool, echoes: bool, script: list[Step]) -> None:
    world = World(create_response=create_response, echoes=echoes, retry_seconds=30.0)
    fail(world, script)
    owed = world.owes
    for _ in range(int(75 / TICK_SECONDS)):
        world.tick()
        world.check_progress()
    if owed:
        assert world.session.state is State.ENDED
