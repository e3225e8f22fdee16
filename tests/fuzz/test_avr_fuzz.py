"""AVR's protocol: whatever a core and workers send in any order, a call stays consistent and ends."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.errors import AvrProtocolError, LinkProtocolError
from common.link import wire
from common.link.wire import Kind
from dispatcher.avr import protocol
from dispatcher.call.actions import Action, Ended, LeaveChannel, Purpose, ToWorker
from dispatcher.call.assignment import Assignment
from dispatcher.call.caller.caller_audio import KEPT_SAMPLES
from dispatcher.call.limits import BAD_INPUT_REASONS
from dispatcher.call.memory import MAX_ITEMS, MAX_REPLIES, CallMemory
from dispatcher.call.playback.reply_playback import MAX_QUEUED_MESSAGES, MAX_TRANSCRIPTS_KNOWN
from dispatcher.call.sessions.worker_side import MAX_WAITING_DIGITS
from dispatcher.call.states import State
from tests.dispatcher.call_driver import UUID, CallDriver, heard_pcm, to_worker
from tests.fuzz.budget import TALLY, examples
from tests.fuzz.inputs import as_json, bent, hostile, mutated
from tests.fuzz.link_inputs import Record, records

WAITING_BYTES = 20_000

_SOUND = base64.b64encode(bytes(320)).decode()
MESSAGES: list[dict[str, Any]] = [
    {"type": "init", "uuid": UUID},
    {"type": "init", "uuid": UUID, "provider_config": {"voice": "ash", "api_key": "sk-abcdefgh12345678"}},
    {"type": "audio", "audio": _SOUND},
    {"type": "dtmf_digit", "digit": "5"},
]


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a message of AVR Core: valid, almost valid, or garbage."""
    valid = draw(st.sampled_from(MESSAGES))
    match draw(st.integers(0, 9)):
        case 0:
            return draw(st.binary(max_size=100))
        case 1:
            return draw(bent(as_json(valid)))
        case 2:
            return as_json(draw(hostile))
        case 3:
            return (
                protocol.AUDIO_HEAD
                + draw(st.binary(max_size=40))
                + draw(st.sampled_from([b"", protocol.AUDIO_TAIL]))
            )
        case 4 | 5 | 6:
            return as_json(draw(mutated(valid)))
        case _:
            return as_json(valid)


@examples(30_000)
@given(messages())
def test_a_message_is_understood_or_refused_with_a_reason(data: bytes) -> None:
    TALLY.took("AVR protocol", 1)
    try:
        parsed = protocol.parse(data)
    except AvrProtocolError as refused:
        reason = refused.reason
    else:
        reason = ""
    if reason:
        assert reason in BAD_INPUT_REASONS
        return
    if isinstance(parsed, protocol.Audio):
        assert len(parsed.pcm) % 2 == 0
    elif isinstance(parsed, protocol.Init):
        # It goes to a worker unchanged.
        wire.encode(wire.Open(parsed.uuid, provider_config=parsed.provider_config), 1)


paths = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda parts: "/?" + "&".join(parts), st.lists(st.text("ab=&?#%+[];/é\0", max_size=20), max_size=50)
    ),
    st.builds(lambda size, one: "/?" + f"{one}={one}&" * size, st.integers(0, 80), st.text("ab%0", max_size=3)),
)


@examples(10_000)
@given(paths)
def test_any_url_gives_few_and_short_metadata(path: str) -> None:
    TALLY.took("AVR protocol", 1)
    entries = protocol.metadata(path)
    assert len(entries) <= protocol.MAX_METADATA_ENTRIES
    for name, value in entries.items():
        assert len(name) <= protocol.MAX_METADATA_NAME_CHARS
        assert len(value) <= protocol.MAX_METADATA_VALUE_CHARS
    assert protocol.TOKEN_PARAMETER not in entries
    token = protocol.token(path)
    assert token is None or " " not in token
    wire.encode(wire.Open("uuid", metadata=entries), 1)


OF_A_WORKER = (
    *(Kind.OPENED, Kind.READY, Kind.REFUSED, Kind.REPLY_ITEM, Kind.REPLY_ITEM_DONE, Kind.FLUSH, Kind.TRANSCRIPT),
    *(
        Kind.FINISHED,
        Kind.KEYED,
        Kind.TELEPHONY_COMMAND,
        Kind.TOOL,
        Kind.COLLECT,
        Kind.PROFILE,
        Kind.ITEM_UPDATE,
        Kind.PENDING_REPLIES,
        Kind.PLAYOUT,
    ),
    *(Kind.MOVE, Kind.RELEASED, Kind.ATTACHED),
)
SIMPLE = [
    *(
        "placed",
        "placed",
        "placed",
        "live",
        "live",
        "not placed",
        "pause",
        "writable",
        "worker lost",
        "link broke",
    ),
    *("away", "back", "older assignment", "newer leg", "executed", "hang up"),
]
Step = bytes | Record | str | float
steps = st.one_of(
    messages(),
    records(*OF_A_WORKER),
    records(*OF_A_WORKER),
    st.sampled_from(SIMPLE),
    st.sampled_from([0.02, 0.2, 1.0, 11.0, 61.0]),
)


class Life:
    """A call, and the actions it has asked for; `which` selects the assignment that speaks."""

    def __init__(self) -> None:
        self.driver = CallDriver(waiting_bytes=WAITING_BYTES)
        self.which = -1
        self.taken: list[Action] = []

    def take(self, step: Step) -> None:
        """Take a step as the shell does."""
        driver, call = self.driver, self.driver.call
        if isinstance(step, bytes):
            call.message(step, driver.now)
        elif isinstance(step, float):
            driver.now += step
            call.tick(driver.now)
        elif isinstance(step, str):
            self._simple(step)
        elif driver.assignments:
            self._record(driver.assignments[max(self.which, -len(driver.assignments))], *step)
        self._check(driver.take())

    def _record(self, assignment: Assignment, kind: int, payload: bytes) -> None:
        call = self.driver.call
        try:
            call.record(assignment, kind, memoryview(payload), self.driver.now)
        except LinkProtocolError:
            # The one error that the link reports to the call: an unreadable record of its worker.
            if assignment in (call.assignments.current, call.hand_over.standby):
                call.worker_lost(assignment, self.driver.now)

    def _simple(self, step: str) -> None:
        driver, call = self.driver, self.driver.call
        wanted = any(call.wants(purpose) for purpose in Purpose)
        match step:
            case "placed" if wanted:
                self._check(driver.placed(worker=f"w-{call.assignments.epoch}", epoch=call.assignments.epoch + 1))
            case "not placed" if wanted:
                call.not_placed(1013, "no capacity", driver.now)
            case "live" if call.assignments.current is not None:
                for record in (wire.Opened(32_000), wire.Ready()):
                    ((kind, _, payload),) = wire.decode(wire.encode(record, 7))
                    if call.assignments.current is not None:
                        self._record(call.assignments.current, kind, bytes(payload))
            case "pause":
                call.caller_paused(driver.now)
            case "writable":
                call.caller_writable(driver.now)
            case "worker lost" if driver.assignments:
                call.worker_lost(driver.assignments[self.which], driver.now)
            case "link broke" if call.assignments.current is not None:
                call.link_broke(call.assignments.current)
            case "away":
                call.caller_closed(1006, driver.now)
            case "back" if call.is_away:
                call.caller_back(driver.now)
            case "older assignment" if len(driver.assignments) > 1:
                self.which = -2
            case "newer assignment":
                self.which = -1
            case "executed":
                call.executed(
                    wire.TelephonyCommand("call_1", wire.TelephonyAction.TRANSFER.value), True, "done", driver.now
                )
            case "hang up":
                call.caller_closed(1000, driver.now)

    def _check(self, taken: list[Action]) -> None:
        self.taken += taken
        call = self.driver.call
        assert call.state in State
        # Messages for a worker can be read there, and audio for the caller is whole frames.
        to_worker(taken)
        heard_pcm(taken)
        assert call._worker_side.audio.waiting_bytes <= WAITING_BYTES
        assert call._worker_side.audio._coded_samples <= KEPT_SAMPLES
        assert len(call._worker_side._keys) <= MAX_WAITING_DIGITS
        assert len(call._playback._transcripts) <= MAX_TRANSCRIPTS_KNOWN
        assert len(call._playback._queued_messages) <= MAX_QUEUED_MESSAGES
        assert len(call.memory) <= MAX_ITEMS
        assert len(call.memory._replies) <= MAX_REPLIES
        assert call._playback.held_bytes <= wire.REPLY_CREDIT_BYTES
        # Records for Redis can be written, and read again.
        changes = call.memory.take_changes()
        if changes is not None:
            CallMemory.from_stored({name: text for name, text in changes[0].items() if text is not None})


@examples(12_000)
@given(st.lists(steps, max_size=40), st.booleans())
def test_any_messages_in_any_order_end_a_call_once_within_bounds(script: list[Step], begins: bool) -> None:
    life = Life()
    start: list[Step] = [as_json(MESSAGES[0]), "placed", "live"] if begins else []
    for step in start + script:
        was_ended, so_far = life.driver.state is State.ENDED, len(life.taken)
        life.take(step)
        assert not was_ended or len(life.taken) == so_far
    # The silence of an absent caller ends the call.
    for seconds in (11.0, 61.0, 61.0):
        life.take(seconds)
    TALLY.took("AVR protocol", len(start + script) + 3)
    assert life.driver.state is State.ENDED
    ends = [action for action in life.taken if isinstance(action, Ended)]
    assert len(ends) == 1
    assert life.taken[-1] is ends[0]
    held = {action.assignment for action in life.taken if isinstance(action, ToWorker)}
    assert held == {action.assignment for action in life.taken if isinstance(action, LeaveChannel)}


@examples(8_000)
@given(
    st.dictionaries(
        st.sampled_from(["profile", "order", "item:a", "item:b", "item:", "other"]),
        st.one_of(
            st.text(max_size=20),
            hostile.map(lambda value: as_json(value).decode()),
            st.sampled_from(['["a","b"]', '["a","a"]', '{"text":"x"}', '{"role":"user","text_done":true}']),
        ),
    )
)
def test_records_of_another_release_are_read_or_ignored(fields: dict[str, str]) -> None:
    TALLY.took("memory", 1)
    memory = CallMemory.from_stored(fields)
    if memory is None:
        return
    assert len(memory) == len(set(memory.order))
    for record in memory.records():
        wire.encode(record, 1)
    memory.take_changes()
    # The call continues with it.
    memory.remember(wire.ItemUpdate("a", item={"text": "y"}), 10)
    for item_id in memory.order:
        memory.remember(wire.ItemUpdate(item_id, deleted=True), 0)
    assert (len(memory), memory._bytes) == (0, 0)
