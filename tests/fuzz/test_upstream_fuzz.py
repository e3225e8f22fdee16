"""The Realtime API: whatever it sends in any order, a session stays usable and its output valid."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from websockets.uri import parse_uri

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import Kind
from common.net.websocket_client import ClientWebSocket
from tests.fuzz.budget import TALLY, examples
from tests.fuzz.inputs import as_json, as_read, bent, hostile, mutated
from tests.fuzz.link_inputs import Record, records
from tests.worker import api_events as api
from tests.worker.link_records import decoded_all
from tests.worker.session_driver import CHANNEL, Driver, pcm_24k
from worker.realtime import client_events
from worker.realtime.connection import REALTIME_LIMITS, RealtimeConnection
from worker.realtime.dialect import AZURE, AZURE_BETA, BETA, GA, XAI, Dialect
from worker.session import actions, truncation
from worker.session.actions import Ended
from worker.session.agent.replies import MAX_RETAINED_BYTES, MAX_WAITING_BYTES
from worker.session.agent.response_scheduler import MAX_OWED, MAX_RESPONSES
from worker.session.caller.turns import MAX_OPEN_TURNS
from worker.session.commands import MAX_WAITING_SAYINGS
from worker.session.memory_writer import MAX_PASSED
from worker.session.session_updates import MAX_WAITING_UPDATES
from worker.session.states import State
from worker.tools.entries import KeyRequest

TARGET = "upstream"
# Exceptions that `worker.runner.session_runner` takes for an event of another shape than the API's.
BAD_EVENT = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)

_CALL = {
    "id": "item_f",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "look_up",
    "arguments": "{}",
}
_TRANSFER = _CALL | {
    "id": "item_t",
    "call_id": "call_2",
    "name": "avr_transfer",
    "arguments": '{"extension":"600"}',
}
_HANG_UP = _CALL | {"id": "item_h", "call_id": "call_3", "name": "avr_hangup", "arguments": "{}"}
_FAILED = {"type": "failed", "error": {"type": "server_error", "code": "server_error"}}


def _output(kind: str, item: dict[str, Any]) -> api.Event:
    return {"type": f"response.output_item.{kind}", "response_id": "resp_1", "output_index": 0, "item": item}


EVENTS: list[api.Event] = [
    api.session_created(),
    api.session_updated(),
    api.speech_started("item_u"),
    api.speech_stopped("item_u", 500),
    api.committed("item_u"),
    api.caller_item_added("item_u"),
    api.transcribed("item_u", "hello"),
    api.transcription_failed("item_u"),
    api.item_added(api.reply_item("item_a"), "item_u"),
    api.item_added(api.function_call_item("item_f")),
    *(api.response_created(response_id) for response_id in ("resp_1", "resp_2")),
    api.audio_delta("resp_1", "item_a", pcm_24k(20)),
    api.audio_delta("resp_2", "item_b", pcm_24k(40)),
    api.audio_done("resp_1", "item_a"),
    api.text_delta("resp_1", "item_a", "hello "),
    api.text_done("resp_1", "item_a", "hello there"),
    _output("added", {"id": "mcp_1", "type": "mcp_call", "name": "x", "server_label": "y"}),
    *(_output("done", item) for item in (_CALL, _TRANSFER, _HANG_UP)),
    {"type": "response.mcp_call.completed", "item_id": "mcp_1", "output_index": 0},
    {"type": "response.mcp_call.failed", "item_id": "mcp_1", "output_index": 0},
    api.response_done("resp_1", usage=api.USAGE),
    api.response_done("resp_2", "failed", status_details=_FAILED),
    api.response_done("resp_1", "incomplete", status_details={"type": "incomplete", "reason": "content_filter"}),
    api.cancelled("resp_1"),
    api.error("conversation_already_has_active_response"),
    api.error(None, event_id="response-create"),
    api.error("rate_limit_exceeded", "sk-abcdefgh12345678 is over its limit"),
    {"type": "rate_limits.updated", "rate_limits": []},
    {"type": "of.next.year"},
]

# Event names of the beta dialect; xAI has some of them.
OLD_NAMES = {
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "conversation.item.added": "conversation.item.created",
}


@st.composite
def events(draw: st.DrawFn) -> api.Event:
    """Draw an event that the API sends, or one that it should not send."""
    valid = draw(st.sampled_from(EVENTS))
    made = draw(mutated(valid, 3)) if draw(st.booleans()) else copy.deepcopy(valid)
    if draw(st.integers(0, 9)) == 0:
        made = made | {draw(st.sampled_from(["item", "response", "error", "item_id", "delta"])): draw(hostile)}
    kind = made.get("type")
    made["type"] = kind if isinstance(kind, str) else valid["type"]
    return made


def _encoded(record: wire.Record) -> bytes:
    if isinstance(record, tuple):
        return wire.encode_record(record, CHANNEL)
    return truncation.encoded(record, CHANNEL)[0]


class Life:
    """A session with its inputs and outputs."""

    def __init__(self, dialect: Dialect) -> None:
        # A missing answer does not end this session.
        self.driver = Driver(retry_seconds=1e6, dialect=dialect, opening={"collects": True})
        self.flushes: list[int] = []
        self._dialect = dialect

    @property
    def session(self) -> Any:
        return self.driver.session

    def take(self) -> list[Any]:
        """Return the session's actions, and check that their peers can read them."""
        wanted, self.session.actions = self.session.actions, []
        done: list[Any] = []
        for action in wanted:
            if isinstance(action, actions.ToDispatcher):
                # `SessionRunner` counts what cannot be encoded, and goes on.
                with contextlib.suppress(*BAD_EVENT):
                    done += decoded_all([_encoded(action.record)], CHANNEL)
            elif isinstance(action, actions.ToUpstream):
                with contextlib.suppress(*BAD_EVENT):
                    done.append(orjson.loads(client_events.encode(action.event, self._dialect)))
            elif isinstance(action, actions.AppendAudio):
                done.append(orjson.loads(client_events.encode_append(action.audio)))
            else:
                done.append(action)
        self.flushes += [record.number for record in done if isinstance(record, wire.Flush)]
        return done

    def event(self, event: api.Event) -> list[Any]:
        # The runner counts it, and continues.
        with contextlib.suppress(*BAD_EVENT):
            self.session.event(event, self.driver.now)
        return self.take()

    def check_bounds(self) -> None:
        session = self.session
        replies = session.parts.agent._replies
        assert replies._waiting_bytes <= MAX_WAITING_BYTES + 48_000
        assert replies._retained_bytes <= MAX_RETAINED_BYTES + 48_000
        assert len(session.parts.updates._waiting) <= MAX_WAITING_UPDATES + 1
        assert session._commands.waiting_sayings <= MAX_WAITING_SAYINGS
        assert len(session.parts.answers.responses.owed) <= MAX_OWED
        assert len(session.parts.answers.responses._responses) <= MAX_RESPONSES
        assert len(session.parts.memory_writer._passed) <= MAX_PASSED
        assert len(session.parts.audio.turns._ends) <= MAX_OPEN_TURNS

    def a_normal_turn(self) -> list[Any]:
        """Take a turn, minutes later: the caller asks something, and is answered."""
        driver = self.driver
        for seconds in (0.2, 61.0, 61.0, 0.2):
            driver.now += seconds
            self.session.tick(driver.now)
            self.take()
        if self.session.state is not State.LIVE:
            return []
        done: list[Any] = []
        self.hear_out()
        for event in (
            api.speech_started("item_y", 1000),
            api.speech_stopped("item_y", 2000),
            api.committed("item_y"),
            api.caller_item_added("item_y"),
            api.transcribed("item_y", "what now"),
            api.response_created("resp_y"),
            api.item_added(api.reply_item("item_z"), "item_y"),
            api.text_delta("resp_y", "item_z", "this"),
            api.audio_delta("resp_y", "item_z", pcm_24k(100)),
            api.audio_done("resp_y", "item_z"),
            api.text_done("resp_y", "item_z", "this"),
            api.response_done("resp_y", usage=api.USAGE),
        ):
            # These events are valid, so no exception may come of them.
            sent = self.to_wire(event)
            self.session.event(sent, driver.now)
            done += self.take()
            done += self.hear_out()
        return done

    def hear_out(self) -> list[Any]:
        """Report the heard part of truncated replies, and the end of playout, as the dispatcher does."""
        flushes, self.flushes = self.flushes, []
        answers: list[wire.Control] = [*(wire.Heard(number) for number in flushes), wire.Playout(idle=True)]
        for record in answers:
            ((kind, _, payload),) = wire.decode(wire.encode(record, CHANNEL))
            self.session.record(kind, payload, self.driver.now)
        return self.take()

    def to_wire(self, event: api.Event) -> api.Event:
        name = event["type"]
        return copy.deepcopy(event) | {"type": OLD_NAMES.get(name, name) if self.dialect_is_old else name}

    @property
    def dialect_is_old(self) -> bool:
        return isinstance(self._dialect, type(BETA))


Step = dict[str, Any] | Record | float | str
steps = st.one_of(
    events(),
    events(),
    events(),
    records(Kind.PLAYOUT, Kind.HEARD, Kind.DTMF, Kind.TELEPHONY_DONE, Kind.TOOL_KNOWN),
    records(Kind.COLLECTING, Kind.SECRET_KEY),
    st.sampled_from([0.02, 0.2, 1.6, 11.0]),
    st.sampled_from(["paused", "writable", "tool done", "say", "session", "conversation", "collect", "leave"]),
)


@examples(12_000)
@given(st.sampled_from([GA, GA, BETA, XAI, AZURE, AZURE_BETA]), st.booleans(), st.lists(steps, max_size=30))
def test_any_api_input_leaves_the_next_turn_working(dialect: Dialect, is_live: bool, script: list[Step]) -> None:
    life = Life(dialect)
    driver, session = life.driver, life.session
    life.take()
    session.connected(driver.now)
    life.take()
    if is_live:
        life.event(api.session_updated())
    TALLY.took(TARGET, len(script) + 16)
    ends = 0
    for number, step in enumerate(script):
        done: list[Any] = []
        if isinstance(step, dict):
            read = as_read(step)
            done = life.event(read) if read is not None else []
        elif isinstance(step, tuple):
            try:
                session.record(step[0], memoryview(step[1]), driver.now)
            except LinkProtocolError:
                # This ends the call alone: see `worker.service.DispatcherLink`.
                session.stopped("a record was not understood")
        elif isinstance(step, float):
            driver.now += step
            session.tick(driver.now)
        elif step == "paused":
            session.upstream_paused()
        elif step == "writable":
            session.upstream_writable(driver.now)
        elif step == "tool done":
            session.tool_done("call_1", "42", driver.now)
        elif step == "collect":
            session.collect(number, KeyRequest("Your PIN", 2, 5.0), driver.now)
        elif step == "leave":
            session.leave_collection(number - 1, driver.now)
        else:
            session.command(number, step, {"text": "hello"}, driver.now)
        done += life.take()
        life.check_bounds()
        ends += sum(isinstance(one, Ended) for one in done)
        if session.state is State.CONNECTING:
            session.connected(driver.now)
            done = life.take()
    assert ends == (session.state is State.ENDED)
    if session.state is State.CONFIGURING:
        life.event(api.session_updated())
    session.upstream_writable(driver.now)
    life.take()
    if session.state is not State.LIVE:
        return
    # The conversation can be sent to another dispatcher, and the caller can still talk with the model.
    session.attached(wire.Open("uuid-1", 2, {}, 0, 10**6), driver.now)
    life.take()
    done = life.a_normal_turn()
    if session.state is State.LIVE:
        heard = [one for one in done if isinstance(one, wire.ReplyAudio)]
        assert sum(len(one.pcm) for one in heard) >= 1_600 - 320
        assert any(isinstance(one, wire.Transcript) and one.text == "what now" for one in done)


class Reader:
    """The owner of a Realtime connection, with its reports."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        self.events.append(event)

    def unreadable(self) -> None: ...

    def upstream_writable(self) -> None: ...

    def connection_lost(self, reason: str) -> None: ...


@st.composite
def wire_bytes(draw: st.DrawFn) -> bytes:
    match draw(st.integers(0, 4)):
        case 0:
            return draw(st.binary(max_size=60))
        case 1:
            return as_json(draw(hostile))
        case 2:
            return draw(bent(as_json(draw(st.sampled_from(EVENTS)))))
        case _:
            return as_json(draw(events()))


@examples(12_000)
@given(st.lists(wire_bytes(), min_size=1, max_size=5), st.booleans())
def test_only_events_are_handed_on_from_any_input(messages: list[bytes], text: bool) -> None:
    TALLY.took(TARGET, len(messages))

    async def read() -> list[dict[str, Any]]:
        reader = Reader()
        connection = RealtimeConnection(reader)
        connection.opened(ClientWebSocket(parse_uri("ws://localhost/"), {}, connection, REALTIME_LIMITS))
        for message in messages:
            connection.received(message, text)
        connection.close()
        connection.received(b'{"type":"late"}', text)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return reader.events

    read_events = asyncio.run(read())
    assert len(read_events) <= len(messages)
    assert all(isinstance(event["type"], str) for event in read_events)


@examples(12_000)
@given(st.sampled_from([GA, BETA, XAI, AZURE, AZURE_BETA]), events(), st.booleans())
def test_a_dialect_translates_or_refuses(dialect: Dialect, event: api.Event, old: bool) -> None:
    TALLY.took(TARGET, 1)
    read = as_read(event | ({"type": OLD_NAMES.get(event["type"], event["type"])} if old else {}))
    if read is None:
        return
    try:
        made = dialect.from_wire(read)
    except BAD_EVENT:
        return
    assert isinstance(made["type"], str)
