"""A call's life in the dispatcher: each event with exactly the actions that follow."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import IllegalTransition, LinkProtocolError
from common.link import wire
from common.link.wire import Refusal
from common.observe.metrics import FallbackOutcome
from dispatcher.call.actions import (
    Action,
    CloseCaller,
    Ended,
    Ending,
    Execute,
    LeaveChannel,
    Measurement,
    MessageIgnored,
    Metric,
    Place,
    Publish,
    Purpose,
    SendError,
    TookWayOut,
    ToWorker,
    TransferAway,
    Unpin,
    Wake,
)
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.assignment import Assignment
from dispatcher.call.call import PROMISE_SECONDS
from dispatcher.call.limits import BAD_INPUT_REASONS
from dispatcher.call.sessions.worker_side import MAX_WAITING_DIGITS
from dispatcher.call.states import State
from dispatcher.call.telephony_commands import MAX_WAITING_COMMANDS
from tests.dispatcher.call_driver import (
    FRAME_BYTES,
    METADATA,
    UUID,
    WORKER,
    CallDriver,
    heard_pcm,
    of,
    sound,
    to_caller,
    to_worker,
)

FRAME = sound(FRAME_BYTES)


def error(message: str) -> SendError:
    return SendError(message)


def close_record(driver: CallDriver, reason: str, *, keep: bool = False) -> ToWorker:
    return ToWorker(driver.assignment, wire.Close(reason, keep))


def place(epoch: int, *excluded: str, purpose: Purpose = Purpose.BEGIN) -> Place:
    return Place(purpose, epoch, frozenset(excluded))


class TestTheWayUp:
    def test_a_call_is_placed_opened_connected_and_live(self, driver: CallDriver) -> None:
        states = [driver.state]
        assert driver.init() == [place(1)]
        assert driver.call.uuid == UUID
        states.append(driver.state)
        assert to_worker(driver.placed(worker="w-9", epoch=3, pins=2)) == [
            wire.Open(UUID, 3, METADATA, 0, wire.REPLY_CREDIT_BYTES, collects=True)
        ]
        states.append(driver.state)
        assert (
            driver.call.assignments.worker_id,
            driver.call.assignments.epoch,
            driver.call.assignments.pins,
        ) == ("w-9", 3, 2)
        assert driver.record(wire.Opened(32_000)) == [Publish()]
        states.append(driver.state)
        assert driver.record(wire.Ready()) == []
        states.append(driver.state)
        assert states == [
            State.AWAITING_INIT,
            State.PLACING,
            State.OPENING,
            State.CONNECTING,
            State.LIVE,
        ]

    def test_the_configuration_that_init_brings_goes_to_the_worker(self, driver: CallDriver) -> None:
        driver.say(type="init", uuid=UUID, provider_config={"voice": "ash"})
        driver.now += 0.5
        (opening,) = to_worker(driver.placed())
        assert isinstance(opening, wire.Open)
        assert opening.provider_config == {"voice": "ash"}
        assert opening.age_seconds == pytest.approx(0.5)

    def test_what_the_worker_has_stored_as_text_is_known(self, driver: CallDriver) -> None:
        driver.live(credit_bytes=10**6)
        second = sound(16_000)
        for _ in range(7):
            driver.audio(second)
        assert driver.record(wire.Finished(48_000)) == []
        # It is not kept for another worker; what came later is.
        driver.lose_worker()
        kept = [record for record in to_worker(driver.placed(epoch=2)) if isinstance(record, wire.KeptAudio)]
        assert sum(len(record.ulaw) for record in kept) == 56_000 - 48_000
        assert kept[0].position_samples == 48_000

    def test_kinds_of_a_newer_release_and_named_items_change_nothing(self, driver: CallDriver) -> None:
        driver.live()
        assert driver.raw_record(200, b"anything") == []
        assert driver.record(wire.ReplyItem(1, "item")) == []
        assert driver.state is State.LIVE


EVENTS: dict[str, Callable[[CallDriver], object]] = {
    "placed": lambda driver: driver.placed(),
    "OPENED": lambda driver: driver.record(wire.Opened(1)),
    "REFUSED": lambda driver: driver.record(wire.Refused("full")),
    "READY": lambda driver: driver.record(wire.Ready()),
}
REACH: dict[State, Callable[[CallDriver], object]] = {
    State.AWAITING_INIT: lambda driver: None,
    State.PLACING: lambda driver: driver.init(),
    State.OPENING: lambda driver: driver.opening(),
    State.CONNECTING: lambda driver: driver.connecting(),
    State.LIVE: lambda driver: driver.live(),
}
LEGAL = {
    ("placed", State.PLACING),
    ("OPENED", State.OPENING),
    ("REFUSED", State.OPENING),
    ("READY", State.CONNECTING),
}


class TestTheOlderProtocol:
    """Its shell says which call a connection is, and hands audio over without messages."""

    def test_uuid_of_a_header_has_a_call_placed(self, driver: CallDriver) -> None:
        driver.call.began(UUID, driver.now)
        assert driver.take() == [place(1)]
        assert driver.call.uuid == UUID

    def test_uuid_that_is_none_ends_the_call(self, driver: CallDriver) -> None:
        driver.call.began("not a uuid", driver.now)
        assert driver.take()[0] == Measurement(Metric.BAD_INPUT, label="bad_uuid")
        assert driver.state is State.ENDED

    def test_audio_goes_to_the_worker_at_its_position(self, driver: CallDriver) -> None:
        driver.live()
        for position in (0, FRAME_BYTES // 2):
            driver.call.audio(FRAME, driver.now)
            assert to_worker(driver.take()) == [wire.CallerAudio(position, FRAME)]

    @pytest.mark.parametrize("messages", [0, 2])
    def test_audio_of_several_messages_counts_as_so_many(self, messages: int) -> None:
        driver = CallDriver(messages_per_second=10.0).live(credit_bytes=10**9)
        for _ in range(50):
            driver.call.audio(FRAME, driver.now, messages=messages)
        # `init` was the first message, and 100 may come at once.
        assert (driver.state is State.ENDED) == (messages == 2)

    def test_audio_after_the_end_is_ignored(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.stopped("the process stops")
        driver.take()
        driver.call.audio(FRAME, driver.now)
        assert driver.take() == []


class TestIllegalTransitions:
    @pytest.mark.parametrize(
        ("event", "state"),
        [pair for pair in itertools.product(EVENTS, REACH) if pair not in LEGAL],
        ids=str,
    )
    def test_one_raises_and_names_event_and_state(self, event: str, state: State) -> None:
        driver = CallDriver()
        REACH[state](driver)
        if event.isupper() and state in (State.AWAITING_INIT, State.PLACING):
            # There is no channel, so it is the last word of one that was left.
            driver.assignments.append(Assignment(WORKER, 1))
            assert EVENTS[event](driver) == []
        else:
            # A worker breaks the link's protocol; the shell of a call has a fault of its own.
            expected = LinkProtocolError if event.isupper() else IllegalTransition
            with pytest.raises(expected, match=rf"{event} in (the )?state {state}"):
                EVENTS[event](driver)
        assert driver.state is state

    @pytest.mark.parametrize("state", [state for state in REACH if state is not State.PLACING], ids=str)
    def test_a_worker_is_wanted_only_while_one_is_looked_for(self, state: State) -> None:
        driver = CallDriver()
        REACH[state](driver)
        assert not any(driver.call.wants(purpose) for purpose in Purpose)
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.take() == []
        assert driver.state is state

    @pytest.mark.parametrize("event", EVENTS)
    def test_when_a_call_has_ended_nothing_revives_it(self, event: str, driver: CallDriver) -> None:
        driver.live()
        driver.call.caller_closed(1000, driver.now)
        driver.take()
        if event.isupper():
            assert EVENTS[event](driver) == []
        else:
            with pytest.raises(IllegalTransition, match="in the state ended"):
                EVENTS[event](driver)
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.take() == []
        assert not any(driver.call.wants(purpose) for purpose in Purpose)
        assert driver.state is State.ENDED


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 1005])
    @pytest.mark.parametrize("may_return", [True, False])
    def test_the_caller_hangs_up(self, code: int, may_return: bool, driver: CallDriver) -> None:
        driver.live()
        driver.call.caller_closed(code, driver.now, may_return=may_return)
        reason = f"the caller's connection closed with {code}"
        assert driver.take() == [
            close_record(driver, reason),
            LeaveChannel(driver.assignment),
            Unpin(1),
            Ended(Ending.COMPLETED, reason),
        ]
        assert driver.state is State.ENDED

    @pytest.mark.parametrize("code", [1006, 1011, 4000])
    @pytest.mark.parametrize(("may_return", "reconnect_seconds"), [(False, 10.0), (True, 0.0)])
    def test_the_caller_is_lost_and_cannot_come_back(
        self, code: int, may_return: bool, reconnect_seconds: float
    ) -> None:
        driver = CallDriver(reconnect_seconds=reconnect_seconds).live()
        driver.call.caller_closed(code, driver.now, may_return=may_return)
        reason = f"the caller's connection closed with {code}"
        assert driver.take() == [
            close_record(driver, reason),
            LeaveChannel(driver.assignment),
            Unpin(1),
            Ended(Ending.FAILED, reason),
        ]

    @pytest.mark.parametrize("code", [1000, 1006])
    def test_a_connection_that_closes_before_init_was_no_call(self, code: int, driver: CallDriver) -> None:
        driver.call.caller_closed(code, driver.now)
        (ended,) = driver.take()
        assert isinstance(ended, Ended)
        assert ended.ending is Ending.REJECTED

    def test_the_caller_hangs_up_while_a_worker_is_looked_for(self, driver: CallDriver) -> None:
        driver.init()
        driver.call.caller_closed(1000, driver.now)
        # There is nothing to unpin yet: who looks for the worker gives back what comes of it.
        assert driver.take() == [Ended(Ending.COMPLETED, "the caller's connection closed with 1000")]

    @pytest.mark.parametrize(
        ("outcome", "message", "said"),
        [
            ("failed", "no quota", "no quota"),
            ("failed", "", "the call failed"),
            ("an outcome of a newer release", "why", "why"),
        ],
    )
    def test_the_worker_fails(self, outcome: str, message: str, said: str, driver: CallDriver) -> None:
        # Nothing is sent to a worker that has let go already.
        assert driver.live().record(wire.Ended(outcome, message)) == [
            LeaveChannel(driver.assignment),
            error(said),
            CloseCaller(1011, said),
            Unpin(1),
            Ended(Ending.FAILED, said),
        ]

    @pytest.mark.parametrize("message", ["", "for the log"])
    def test_the_worker_completes_the_call(self, message: str, driver: CallDriver) -> None:
        assert driver.live().record(wire.Ended("completed", message)) == [
            LeaveChannel(driver.assignment),
            CloseCaller(1000, ""),
            Unpin(1),
            Ended(Ending.COMPLETED, ""),
        ]

    def test_the_worker_ends_a_call_before_there_was_a_session(self, driver: CallDriver) -> None:
        taken = driver.connecting().record(wire.Ended("failed", "bad key"))
        assert taken[-1] == Ended(Ending.FAILED, "bad key")

    def test_the_worker_is_lost(self, driver: CallDriver) -> None:
        driver.live()
        # The caller hears nothing of it.
        assert driver.lose_worker() == [LeaveChannel(driver.assignment), place(2, WORKER, purpose=Purpose.RECOVER)]
        assert driver.state is State.PLACING
        assert driver.call.is_held

    def test_a_newer_connection_takes_the_call_over(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.superseded()
        taken = driver.take()
        message = to_caller(taken)[0]["message"]
        assert "same uuid" in message
        assert taken == [
            error(message),
            CloseCaller(1008, message),
            close_record(driver, message, keep=True),
            LeaveChannel(driver.assignment),
            # Whoever has the call now has its pin, too.
            Ended(Ending.MOVED, message),
        ]

    def test_the_worker_says_so(self, driver: CallDriver) -> None:
        taken = driver.live().record(wire.Close("another dispatcher has this call"))
        assert taken[-1] == Ended(Ending.MOVED, "another connection with the same uuid has taken this call over")
        assert any(isinstance(action, CloseCaller) and action.code == 1008 for action in taken)
        assert not any(isinstance(action, Unpin) for action in taken)

    def test_it_is_the_same_call_as_one_that_is_here(self, driver: CallDriver) -> None:
        driver.init()
        driver.call.absorbed()
        assert driver.take() == [Ended(Ending.MOVED, "an earlier call with this uuid continues")]
        assert driver.state is State.ENDED

    def test_the_process_stops(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.stopped("the service is stopping")
        taken = driver.take()
        assert taken[:2] == [error("the service is stopping"), CloseCaller(1011, "the service is stopping")]
        assert taken[-1] == Ended(Ending.FAILED, "the service is stopping")

    def test_a_process_that_stops_leaves_the_call_at_its_worker(self, driver: CallDriver) -> None:
        may_be_left = [driver.call.may_be_left]
        may_be_left.append(driver.opening().call.may_be_left)
        driver.record(wire.Opened(32_000))
        may_be_left.append(driver.call.may_be_left)
        assert may_be_left == [False, False, True]
        driver.record(wire.Ready())
        driver.record(wire.Move("drain", 5.0))
        standby = driver.assignments[0]
        driver.placed(worker="w-2", epoch=2, pins=2)
        driver.call.left("the process stops")
        # The session that has the call is not closed; the one that was to have it is.
        assert driver.take() == [
            close_record(driver, "the process stops"),
            LeaveChannel(standby),
            LeaveChannel(driver.assignment),
            Ended(Ending.MOVED, "the process stops"),
        ]

    def test_there_is_no_capacity(self, driver: CallDriver) -> None:
        driver.init()
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.take() == [
            error("no capacity"),
            CloseCaller(1013, "no capacity"),
            Ended(Ending.REJECTED, "no capacity"),
        ]

    def test_no_worker_could_be_asked(self) -> None:
        # One may be back in a moment, so it is tried until the time is over.
        driver = CallDriver(placing_seconds=10.0, place_again_seconds=0.5)
        driver.init()
        driver.call.not_placed(1011, "none", driver.now)
        assert driver.take() == []
        assert not driver.call.wants(Purpose.BEGIN)
        assert driver.tick(0.4) == []
        assert driver.tick(0.1) == [place(1)]
        assert driver.call.wants(Purpose.BEGIN)
        driver.now += 9.5
        driver.call.not_placed(1011, "none", driver.now)
        assert driver.take()[-1] == Ended(Ending.FAILED, "none")

    def test_a_call_ends_once(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.caller_closed(1000, driver.now)
        driver.take()
        driver.call.caller_closed(1006, driver.now)
        driver.call.superseded()
        driver.call.stopped("again")
        driver.call.worker_lost(driver.assignment, driver.now)
        driver.call.broke_protocol("flood", "again")
        driver.call.caller_writable(driver.now)
        driver.call.tick(driver.now + 1000)
        assert driver.init() == []
        assert driver.audio(FRAME) == []
        assert driver.reply(1, FRAME) == []
        assert driver.record(wire.Flush(1)) == []
        assert driver.record(wire.Ended()) == []
        assert driver.take() == []


class TestAWorkerThatAcknowledgesNothing:
    def test_costs_the_call_when_its_channel_is_full(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.channel_full(driver.assignment, driver.now)
        taken = driver.take()
        assert error("the call's worker acknowledges nothing") in taken
        assert CloseCaller(1011, "the call's worker acknowledges nothing") in taken
        assert taken[-1] == Ended(Ending.FAILED, "the call's worker acknowledges nothing")

    def test_costs_nothing_when_another_worker_has_the_call(self, driver: CallDriver) -> None:
        driver.live()
        former = driver.assignment
        driver.lose_worker()
        driver.placed(worker="w-2", epoch=2)
        driver.call.channel_full(former, driver.now)
        assert driver.take() == []


class TestBadInput:
    @pytest.mark.parametrize(
        ("reason", "data"),
        [
            ("not_json", b"{"),
            ("not_json", FRAME),
            ("not_json", b"[]"),
            ("unknown_type", b"{}"),
            ("unknown_type", b'{"type":["init"]}'),
            # Types that AVR's documents and connectors name, for other directions.
            *(
                ("unknown_type", b'{"type":"%s","text":"x"}' % kind)
                for kind in (b"transcript", b"interruption", b"error", b"call_initiated", b"event_type", b"ping")
            ),
            ("second_init", b'{"type":"init","uuid":"call-1"}'),
            ("second_init", b'{"type":"init","uuid":"another"}'),
            ("bad_uuid", b'{"type":"init"}'),
            ("bad_config", b'{"type":"init","uuid":"u","provider_config":[1]}'),
            ("bad_audio", b'{"type":"audio","audio":null}'),
            ("bad_base64", b'{"type":"audio","audio":"!"}'),
            ("odd_bytes", b'{"type":"audio","audio":"AA=="}'),
            ("bad_digit", b'{"type":"dtmf_digit","digit":"x"}'),
            ("bad_digit", b'{"type":"dtmf_digit","digit":"16"}'),
            ("bad_digit", b'{"type":"dtmf_digit","digit":"!"}'),
            ("bad_digit", b'{"type":"dtmf_digit"}'),
        ],
    )
    def test_it_is_passed_over_and_noted_once_a_call(self, reason: str, data: bytes, driver: CallDriver) -> None:
        counted, noted = driver.live().send(data)
        assert counted == Measurement(Metric.BAD_INPUT, label=reason)
        assert isinstance(noted, MessageIgnored)
        assert noted.reason == reason
        assert driver.send(data) == [counted]
        assert driver.state is State.LIVE
        assert reason in BAD_INPUT_REASONS

    @pytest.mark.parametrize("digit", ["5", "*", "#", "A", "d", 7])
    def test_a_digit_is_one_in_whatever_form(self, digit: object, driver: CallDriver) -> None:
        driver.live()
        assert to_worker(driver.say(type="dtmf_digit", digit=digit)) == [wire.Dtmf(str(digit).upper())]

    @pytest.mark.parametrize(
        "data",
        [b'{"type":"audio","audio":"AAA="}', b'{"type":"audio","audio":""}', b'{"type":"dtmf_digit","digit":"1"}'],
    )
    def test_what_comes_before_init_is_passed_over(self, data: bytes, driver: CallDriver) -> None:
        counted, noted = driver.send(data)
        assert counted == Measurement(Metric.BAD_INPUT, label="before_init")
        assert isinstance(noted, MessageIgnored)
        driver.init()
        assert driver.state is State.PLACING

    @pytest.mark.parametrize(
        ("reason", "data"),
        [
            ("bad_uuid", b'{"type":"init"}'),
            ("bad_uuid", b'{"type":"init","uuid":"no spaces, please"}'),
            ("bad_config", b'{"type":"init","uuid":"u","provider_config":[1]}'),
        ],
    )
    def test_an_init_that_is_none_ends_the_connection(self, reason: str, data: bytes, driver: CallDriver) -> None:
        taken = driver.send(data)
        message = to_caller(taken)[0]["message"]
        assert taken == [
            Measurement(Metric.BAD_INPUT, label=reason),
            error(message),
            CloseCaller(1008, message),
            Ended(Ending.REJECTED, message),
        ]

    @pytest.mark.parametrize("gap_seconds", [15.0, 50.0])
    def test_what_a_stall_held_back_may_come_at_once(self, gap_seconds: float, driver: CallDriver) -> None:
        driver.live()
        driver.audio(FRAME)
        driver.tick(gap_seconds)
        for _ in range(round(gap_seconds / 0.02)):
            driver.audio(FRAME)
        assert driver.call.state.value == "live"
        # And it is no credit for a flood behind it.
        for _ in range(round(gap_seconds / 0.02)):
            driver.audio(FRAME)
        assert driver.call.state.value == "ended"

    def test_a_flood_ends_the_call(self, driver: CallDriver) -> None:
        driver.live()
        taken: list[Action] = []
        while driver.state is State.LIVE:
            taken = driver.send(b"{}")
        message = to_caller(taken)[0]["message"]
        assert taken == [
            Measurement(Metric.BAD_INPUT, label="flood"),
            error(message),
            CloseCaller(1008, message),
            close_record(driver, message),
            LeaveChannel(driver.assignment),
            Unpin(1),
            Ended(Ending.FAILED, message),
        ]

    def test_what_the_websocket_layer_found(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.broke_protocol("message_too_big", "a message is over 65536 bytes")
        assert driver.take()[0] == Measurement(Metric.BAD_INPUT, label="message_too_big")

    def test_a_call_that_was_never_pinned_is_rejected_not_failed(self, driver: CallDriver) -> None:
        driver.init()
        driver.call.broke_protocol("bad_websocket", "broken WebSocket")
        assert driver.take()[-1] == Ended(Ending.REJECTED, "broken WebSocket")

    def test_digits_are_counted_and_go_to_the_worker(self, driver: CallDriver) -> None:
        taken = driver.live().say(type="dtmf_digit", digit="5")
        assert taken[0] == Measurement(Metric.DIGIT)
        assert to_worker(taken) == [wire.Dtmf("5")]

    def test_digits_wait_for_a_worker_up_to_a_bound(self, driver: CallDriver) -> None:
        driver.init()
        for _ in range(MAX_WAITING_DIGITS + 5):
            driver.say(type="dtmf_digit", digit="7")
        driver.placed()
        taken = driver.record(wire.Opened(32_000))
        assert to_worker(taken) == [wire.Dtmf("7")] * MAX_WAITING_DIGITS


class TestOrders:
    HANG_UP = wire.TelephonyCommand("call_1", wire.TelephonyAction.HANG_UP.value)

    def test_an_order_waits_until_the_last_words_have_been_heard(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(16_000))  # a second
        driver.record(wire.ReplyItemDone(1))
        assert driver.record(self.HANG_UP) == []
        assert not [a for a in driver.tick(0.9) if isinstance(a, Execute)]
        # AVR Core plays a little later than the playout clock.
        assert not [a for a in driver.tick(0.3) if isinstance(a, Execute)]
        assert Execute(self.HANG_UP) in driver.tick(0.1)
        assert Execute(self.HANG_UP) not in driver.tick(5)

    def test_a_command_is_executed_after_interrupted_last_words(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(32_000))
        driver.record(self.HANG_UP)
        driver.record(wire.Flush(1))
        assert Execute(self.HANG_UP) in driver.tick(0.3)

    def test_orders_are_carried_out_one_after_the_other(self, driver: CallDriver) -> None:
        transfer = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600", "demo", "1")
        driver.live().record(transfer)
        driver.record(self.HANG_UP)
        assert [a for a in driver.tick(0.2) if isinstance(a, Execute)] == [Execute(transfer)]
        assert not [a for a in driver.tick(0.2) if isinstance(a, Execute)]
        driver.call.executed(transfer, False, "no such extension", driver.now)
        assert Execute(self.HANG_UP) in driver.tick(0.2)

    def test_a_transferred_call_is_not_hung_up(self, driver: CallDriver) -> None:
        transfer = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600", "demo", "1")
        driver.live().record(transfer)
        driver.record(self.HANG_UP)
        assert Execute(transfer) in driver.tick(0.2)
        driver.call.executed(transfer, True, "transferred", driver.now)
        driver.take()
        taken = driver.tick(0.2)
        assert not [action for action in taken if isinstance(action, Execute)]
        (done,) = [record for record in to_worker(taken) if isinstance(record, wire.TelephonyDone)]
        assert (done.id, done.ok) == (self.HANG_UP.id, True)
        # A core that stays is closed, as after a hang-up.
        assert driver.tick(driver.limits.hung_up_seconds + 0.1)[-2:] == [
            Unpin(1),
            Ended(Ending.COMPLETED, ""),
        ]

    def test_orders_that_wait_are_bounded(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(16_000))
        for number in range(2 * MAX_WAITING_COMMANDS):
            driver.record(wire.TelephonyCommand(f"call_{number}", wire.TelephonyAction.HANG_UP.value))
        executed = []
        for _ in range(3 * MAX_WAITING_COMMANDS):
            for action in driver.tick(1.0):
                if isinstance(action, Execute):
                    executed.append(action.command.id)
                    driver.call.executed(action.command, True, "done", driver.now)
                    driver.call._telephony.hung_up_seconds = None  # it stays for the test's sake
        assert executed == [f"call_{number}" for number in range(MAX_WAITING_COMMANDS)]

    def test_what_came_of_it_is_told_and_a_core_that_stays_is_closed(self, driver: CallDriver) -> None:
        driver.live().record(self.HANG_UP)
        driver.tick(0.2)
        driver.call.executed(self.HANG_UP, True, "gone", driver.now)
        assert to_worker(driver.take()) == [wire.TelephonyDone("call_1", True, "gone")]
        driver.tick(2.9)
        assert driver.state is State.LIVE
        assert driver.tick(0.2)[-1] == Ended(Ending.COMPLETED, "")

    def test_without_avr_ami_a_hang_up_is_the_end_of_the_connection(self, driver: CallDriver) -> None:
        driver.live().record(self.HANG_UP)
        driver.tick(0.2)
        driver.call.executed(self.HANG_UP, False, "nobody answers", driver.now)
        assert CloseCaller(1000, "") in driver.take()

    def test_a_transfer_that_failed_leaves_the_call_as_it_is(self, driver: CallDriver) -> None:
        transfer = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600", "demo", "1")
        driver.live().record(transfer)
        driver.tick(0.2)
        driver.call.executed(transfer, False, "no such extension", driver.now)
        assert to_worker(driver.take()) == [wire.TelephonyDone("call_2", False, "no such extension")]
        assert driver.state is State.LIVE


class TestConnectionLostAfterAnOrder:
    """AVR Core may end its socket without a close frame when Asterisk takes the channel away."""

    @pytest.mark.parametrize("action", list(wire.TelephonyAction))
    def test_a_call_ended_on_asterisk_is_completed(self, action: str, driver: CallDriver) -> None:
        execute(driver, action)
        driver.call.executed(wire.TelephonyCommand("call_1", action), True, "", driver.now)
        driver.call.caller_closed(1006, driver.now)
        assert driver.take()[-1] == Ended(Ending.COMPLETED, "the caller's connection closed with 1006")

    @pytest.mark.parametrize("action", list(wire.TelephonyAction))
    def test_a_loss_before_avr_ami_answers_is_completed(self, action: str, driver: CallDriver) -> None:
        execute(driver, action)
        driver.call.caller_closed(1006, driver.now)
        assert of(Ended, driver.take()) == []
        driver.call.executed(wire.TelephonyCommand("call_1", action), True, "", driver.now)
        assert driver.take()[-1] == Ended(Ending.COMPLETED, "the caller's connection closed with 1006")

    def test_a_failed_transfer_leaves_the_call_waiting(self, driver: CallDriver) -> None:
        execute(driver, wire.TelephonyAction.TRANSFER)
        driver.call.executed(wire.TelephonyCommand("call_1", wire.TelephonyAction.TRANSFER), False, "", driver.now)
        driver.call.caller_closed(1006, driver.now)
        assert of(Ended, driver.take()) == []


class TestAPromiseToAnAbsentCaller:
    """The core is gone, and the caller's channel may be there: what was promised is done."""

    def absent(self, driver: CallDriver, *orders: str) -> list[object]:
        """Return a call whose last words AVR Core never took, up to the end of the wait for it."""
        driver.live()
        driver.record(wire.ReplyItem(0, "item_1"))
        driver.reply(0, sound(32_000))
        driver.call.caller_closed(1006, driver.now)
        driver.take()
        driver.reply(0, sound(3_200))
        for number, action in enumerate(orders):
            driver.record(wire.TelephonyCommand(f"call_{number}", action))
        assert of(Execute, driver.tick(driver.limits.reconnect_seconds - 0.1)) == []
        return of(Execute, driver.tick(0.2))

    def test_a_transfer_is_carried_out_at_the_end_of_the_wait(self, driver: CallDriver) -> None:
        (execute,) = self.absent(driver, "transfer")
        assert isinstance(execute, Execute)
        assert driver.tick(1.0) == []
        driver.call.executed(execute.command, True, "", driver.now)
        assert driver.take()[-1] == Ended(Ending.COMPLETED, "the caller's connection closed with 1006")

    def test_a_failed_transfer_is_followed_by_the_next_order(self, driver: CallDriver) -> None:
        (execute,) = self.absent(driver, "transfer", "hang_up")
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, False, "", driver.now)
        (following,) = of(Execute, driver.tick())
        assert isinstance(following, Execute)
        assert following.command.action == "hang_up"

    def test_a_failed_transfer_ends_the_call(self, driver: CallDriver) -> None:
        (execute,) = self.absent(driver, "transfer")
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, False, "", driver.now)
        (ended,) = of(Ended, driver.tick())
        assert isinstance(ended, Ended)
        assert ended.ending is Ending.FAILED

    def test_avr_ami_is_waited_for_up_to_a_bound(self, driver: CallDriver) -> None:
        assert len(self.absent(driver, "transfer")) == 1
        assert len(of(Ended, driver.tick(PROMISE_SECONDS))) == 1

    def test_a_caller_that_cannot_return_is_transferred_at_once(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.ReplyItem(0, "item_1"))
        driver.reply(0, sound(32_000))
        driver.record(wire.TelephonyCommand("call_1", "transfer"))
        driver.call.caller_closed(1006, driver.now, may_return=False)
        assert of(Ended, driver.take()) == []
        assert len(of(Execute, driver.tick(0.2))) == 1


def execute(driver: CallDriver, action: str) -> None:
    """Give an order to a live call, up to its execution."""
    driver.live()
    driver.record(wire.TelephonyCommand("call_1", action))
    assert len(of(Execute, driver.tick())) == 1


class TestFlood:
    def test_audio_far_above_real_time(self) -> None:
        driver = CallDriver(burst_seconds=2.01, flood_ratio=1.25).live(credit_bytes=10**9)
        for _ in range(100):
            assert len(driver.audio(FRAME)) == 1
        assert driver.audio(FRAME)[0] == Measurement(Metric.BAD_INPUT, label="flood")
        assert driver.state is State.ENDED

    def test_one_message_counts_by_its_audio(self) -> None:
        driver = CallDriver(burst_seconds=2.0).live(credit_bytes=10**9)
        assert driver.audio(bytes(32_002))[0] == Measurement(Metric.BAD_INPUT, label="flood")

    def test_after_a_stall_what_was_late_may_come_at_once(self) -> None:
        driver = CallDriver(burst_seconds=2.0).live(credit_bytes=10**9)
        for _ in range(3):
            for _ in range(90):
                driver.audio(FRAME)
            driver.now += 1.8
        assert driver.state is State.LIVE

    def test_a_sender_whose_clock_is_fast_may_go_on_for_ever(self) -> None:
        driver = CallDriver(burst_seconds=1.0, flood_ratio=1.25).live(credit_bytes=10**9)
        for _ in range(20_000):
            driver.audio(FRAME)
            driver.now += 0.0161  # 24% faster than real time
        assert driver.state is State.LIVE

    def test_a_sender_that_is_faster_than_that_may_not(self) -> None:
        driver = CallDriver(burst_seconds=1.0, flood_ratio=1.25).live(credit_bytes=10**9)
        for _ in range(20_000):
            driver.audio(FRAME)
            driver.now += 0.0159
        assert driver.state is State.ENDED

    def test_messages_of_any_kind(self) -> None:
        driver = CallDriver(messages_per_second=10.0).live()
        for _ in range(98):  # and one was init
            driver.say(type="dtmf_digit", digit="1")
        assert driver.say(type="dtmf_digit", digit="1")[0] == Measurement(Metric.DIGIT)
        assert driver.say(type="dtmf_digit", digit="1")[0] == Measurement(Metric.BAD_INPUT, label="flood")

    def test_messages_without_audio_in_them_are_messages(self) -> None:
        driver = CallDriver(messages_per_second=10.0).live()
        for _ in range(99):
            assert driver.audio(b"") == []
        assert driver.audio(b"")[0] == Measurement(Metric.BAD_INPUT, label="flood")

    def test_a_clock_that_stands_still_forgives_nothing(self) -> None:
        driver = CallDriver(messages_per_second=10.0).live()
        driver.now -= 5.0
        for _ in range(120):
            driver.say(type="dtmf_digit", digit="1")
        assert driver.state is State.ENDED


class TestRefusals:
    @pytest.mark.parametrize("reason", [Refusal.FULL, Refusal.DRAINING, "a reason of a newer release"])
    def test_another_worker_is_asked_at_the_next_epoch(self, reason: str, driver: CallDriver) -> None:
        taken = driver.opening().record(wire.Refused(reason))
        assert taken == [LeaveChannel(driver.assignment), place(2, WORKER)]
        assert driver.state is State.PLACING
        driver.placed(worker="w-2", epoch=2, pins=2)
        assert driver.record(wire.Refused(reason)) == [LeaveChannel(driver.assignment), place(3, WORKER, "w-2")]

    def test_a_worker_that_knows_a_newer_epoch_may_be_asked_again(self, driver: CallDriver) -> None:
        taken = driver.opening().record(wire.Refused(Refusal.STALE_EPOCH, 6))
        assert taken == [LeaveChannel(driver.assignment), place(7)]

    def test_after_so_many_it_is_over(self) -> None:
        driver = CallDriver(placing_attempts=3)
        driver.init()
        for attempt in (1, 2):
            driver.placed(worker=f"w-{attempt}", epoch=attempt, pins=attempt)
            assert isinstance(driver.record(wire.Refused(Refusal.STALE_EPOCH))[-1], Place)
        driver.placed(worker="w-3", epoch=3, pins=3)
        taken = driver.record(wire.Refused(Refusal.STALE_EPOCH))
        message = to_caller(taken)[0]["message"]
        assert "3 workers refused" in message
        assert taken == [
            LeaveChannel(driver.assignment),
            error(message),
            CloseCaller(1011, message),
            Unpin(3),
            Ended(Ending.FAILED, message),
        ]

    def test_full_workers_end_no_call_while_another_has_room(self) -> None:
        driver = CallDriver(placing_attempts=2)
        driver.init()
        for attempt, reason in enumerate([Refusal.FULL, Refusal.DRAINING] * 10, 1):
            driver.placed(worker=f"w-{attempt}", epoch=attempt, pins=attempt)
            assert isinstance(driver.record(wire.Refused(reason))[-1], Place)
        driver.placed(worker="w-21", epoch=21, pins=21)
        driver.record(wire.Opened(32_000))
        assert driver.call.state is State.CONNECTING

    def test_refusals_for_another_reason_are_our_fault(self) -> None:
        driver = CallDriver(placing_attempts=1).opening()
        taken = driver.record(wire.Refused(Refusal.STALE_EPOCH, 5))
        assert any(isinstance(action, CloseCaller) and action.code == 1011 for action in taken)

    def test_workers_that_held_the_call_before_do_not_count(self, driver: CallDriver) -> None:
        # As in a call whose core has connected again and again with the same uuid.
        driver.init()
        driver.placed(epoch=9, pins=9)
        assert driver.record(wire.Refused(Refusal.FULL)) == [LeaveChannel(driver.assignment), place(10, WORKER)]

    def test_late_records_of_a_left_channel_are_ignored(self, driver: CallDriver) -> None:
        driver.opening().record(wire.Refused(Refusal.FULL))
        assert driver.reply(1, FRAME) == []
        assert driver.record(wire.Opened(100)) == []
        assert driver.lose_worker() == []
        assert driver.state is State.PLACING

    def test_a_call_that_ends_after_one_takes_its_old_pin_along(self, driver: CallDriver) -> None:
        driver.opening().record(wire.Refused(Refusal.FULL))
        driver.call.caller_closed(1000, driver.now)
        assert driver.take() == [Unpin(1), Ended(Ending.COMPLETED, "the caller's connection closed with 1000")]


class TestTime:
    def test_no_init(self) -> None:
        driver = CallDriver(init_seconds=10.0)
        assert driver.tick(9.9) == []
        taken = driver.tick(0.1)
        assert taken == [
            Measurement(Metric.BAD_INPUT, label="no_init"),
            error("no init within 10 s"),
            CloseCaller(1008, "no init within 10 s"),
            Ended(Ending.REJECTED, "no init within 10 s"),
        ]
        assert driver.tick(100.0) == []

    @pytest.mark.parametrize("state", [State.PLACING, State.OPENING])
    def test_no_worker_in_time(self, state: State) -> None:
        driver = CallDriver(placing_seconds=10.0)
        driver.now += 5.0
        REACH[state](driver)
        assert driver.tick(9.9) == []
        taken = driver.tick(0.1)
        assert CloseCaller(1011, "no worker took the call within 10 s") in taken
        assert taken[-1] == Ended(Ending.FAILED, "no worker took the call within 10 s")

    @pytest.mark.parametrize("state", [State.CONNECTING, State.LIVE])
    def test_a_taken_call_waits_as_long_as_its_worker_does(self, state: State) -> None:
        driver = CallDriver(placing_seconds=10.0, silence_seconds=60.0)
        REACH[state](driver)
        assert driver.tick(59.0) == []

    @pytest.mark.parametrize("state", [State.CONNECTING, State.LIVE])
    def test_no_audio_from_the_caller(self, state: State) -> None:
        driver = CallDriver(silence_seconds=60.0)
        REACH[state](driver)
        driver.now += 59.0
        driver.audio(FRAME)
        assert driver.tick(59.9) == []
        taken = driver.tick(0.1)
        assert taken[0] == Measurement(Metric.BAD_INPUT, label="no_audio")
        assert CloseCaller(1008, "no audio from the caller for 60 s") in taken

    def test_digits_and_empty_messages_are_no_sign_of_a_caller(self) -> None:
        driver = CallDriver(silence_seconds=60.0).live()
        driver.now += 59.0
        driver.say(type="dtmf_digit", digit="1")
        driver.audio(b"")
        assert driver.tick(1.0)[0] == Measurement(Metric.BAD_INPUT, label="no_audio")

    def test_every_reason_for_an_end_is_a_label_known_in_advance(self) -> None:
        assert len(set(BAD_INPUT_REASONS)) == len(BAD_INPUT_REASONS)
        assert list(BAD_INPUT_REASONS) == sorted(BAD_INPUT_REASONS)


EVENTS_OF_A_LIFE = [
    "init",
    "audio",
    "long audio",
    "digit",
    "garbage",
    "placed",
    "not placed",
    "OPENED",
    "READY",
    "REFUSED",
    "credit",
    "reply",
    "next reply",
    "done",
    "flush",
    "transcript",
    "order",
    "KEYED",
    "FINISHED",
    "REMEMBER",
    "MOVE",
    "RELEASED",
    "ENDED",
    "ENDED as failed",
    "AWAITING",
    "SETTLED",
    "wake",
    "transferred",
    "not transferred",
    "fault",
    "pause",
    "resume",
    "time",
    "hang up",
    "away",
    "back",
    "worker lost",
    "the older assignment",
    "the newer assignment",
]


class Life(CallDriver):
    """A call to which anything may happen; what its worker says comes on one of its assignments."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.which = -1
        self.wakes = 0
        self.transfers = 0

    def take(self) -> list[Action]:
        taken = super().take()
        self.wakes += sum(isinstance(action, Wake) for action in taken)
        self.transfers += sum(isinstance(action, TransferAway) for action in taken)
        assert self.wakes <= 1
        assert self.transfers <= 1
        return taken

    def wake_if_wanted(self) -> None:
        if self.wakes:
            self.wakes = 0
            self.call.wake(self.now)

    def transfer_if_wanted(self, outcome: FallbackOutcome) -> None:
        if self.transfers:
            self.transfers = 0
            self.call.transferred_away(outcome, self.now)

    @property
    def assignment(self) -> Assignment:
        return (
            self.assignments[max(self.which, -len(self.assignments))]
            if self.assignments
            else Assignment(WORKER, 1)
        )

    def happens(self, event: str) -> object:
        do: dict[str, Callable[[], object]] = {
            "init": self.init,
            "audio": lambda: self.audio(FRAME),
            "long audio": lambda: self.audio(bytes(1_000)),
            "digit": lambda: self.say(type="dtmf_digit", digit="1"),
            "garbage": lambda: self.send(b"{"),
            "placed": self.placed_if_wanted,
            "not placed": self.not_placed_if_wanted,
            "OPENED": lambda: self.record(wire.Opened(900)),
            "READY": lambda: self.record(wire.Ready()),
            "REFUSED": lambda: self.record(wire.Refused(Refusal.FULL)),
            "credit": lambda: self.credit(500),
            "reply": lambda: self.reply(1, sound(1_000)),
            "next reply": lambda: self.reply(2, sound(700)),
            "done": lambda: self.record(wire.ReplyItemDone(1)),
            "flush": lambda: self.record(wire.Flush(1)),
            "transcript": lambda: self.record(wire.Transcript("item", "user", "x")),
            "order": lambda: self.record(
                wire.TelephonyCommand("call_1", wire.TelephonyAction.TRANSFER.value, "600")
            ),
            "KEYED": lambda: self.record(wire.Keyed(1)),
            "FINISHED": lambda: self.record(wire.Finished(self.call._worker_side.audio.position_samples)),
            "REMEMBER": lambda: self.record(wire.ItemUpdate("item", item={"text": "x"})),
            "MOVE": lambda: self.record(wire.Move("drain", 5.0)),
            "RELEASED": lambda: self.record(wire.Released("dropped", "why")),
            "ENDED": lambda: self.record(wire.Ended()),
            "ENDED as failed": lambda: self.record(wire.Ended(wire.Outcome.FAILED, "why")),
            "AWAITING": lambda: self.record(wire.Awaiting(True)),
            "SETTLED": lambda: self.record(wire.Awaiting(False)),
            "wake": self.wake_if_wanted,
            "transferred": lambda: self.transfer_if_wanted(FallbackOutcome.TRANSFERRED),
            "not transferred": lambda: self.transfer_if_wanted(FallbackOutcome.REFUSED),
            "fault": lambda: self.call.failed("internal error", self.now),
            "pause": self.pause,
            "resume": self.resume,
            "time": lambda: self.tick(0.3),
            "hang up": lambda: self.call.caller_closed(1000, self.now),
            "away": lambda: self.call.caller_closed(1006, self.now),
            "back": lambda: self.call.caller_back(self.now) if self.call.is_away else None,
            "worker lost": self.lose_worker,
            "the older assignment": lambda: setattr(self, "which", -2),
            "the newer assignment": lambda: setattr(self, "which", -1),
        }
        return do[event]()

    def placed_if_wanted(self) -> list[Action]:
        wanted = any(self.call.wants(purpose) for purpose in Purpose)
        epoch = self.call.assignments.epoch + 1
        return self.placed(worker=f"w-{epoch}", epoch=epoch, pins=epoch) if wanted else []

    def not_placed_if_wanted(self) -> None:
        if any(self.call.wants(purpose) for purpose in Purpose):
            self.call.not_placed(1013, "no capacity", self.now)


@pytest.mark.parametrize(
    "announcements",
    [SILENT, Announcements(sound(6_400), "600", "demo", sound(500), 0.5)],
    ids=["silent", "with sentence and filler"],
)
@settings(max_examples=300)
@given(script=st.lists(st.sampled_from(EVENTS_OF_A_LIFE), max_size=80))
def test_any_events_end_a_call_once_and_within_its_bounds(announcements: Announcements, script: list[str]) -> None:
    driver = Life(waiting_bytes=2_000, announcements=announcements)
    taken: list[Action] = []
    for event in script:
        was_ended = driver.state is State.ENDED
        try:
            done = driver.happens(event)
        except LinkProtocolError:
            done = driver.take()
        now = [*(done if isinstance(done, list) else []), *driver.take()]
        if was_ended and now:
            # Of a transfer that was under way.
            (late,) = now
            assert isinstance(late, TookWayOut)
            continue
        taken += now
        assert driver.call._worker_side.audio.waiting_bytes <= 2_000
    ends = [action for action in taken if isinstance(action, Ended)]
    assert len(ends) == (driver.state is State.ENDED)
    assert not ends or taken[-1] is ends[0]
    heard_pcm(taken)
    # The first that a worker hears of an assignment is OPEN, and nothing comes after it was left.
    opened: set[Assignment] = set()
    left: set[Assignment] = set()
    for action in taken:
        if isinstance(action, ToWorker):
            opens = isinstance(action.record, wire.Open)
            assert action.counted != opens
            assert opens == (action.assignment not in opened)
            assert action.assignment not in left
            opened.add(action.assignment)
        elif isinstance(action, LeaveChannel):
            assert action.assignment not in left
            left.add(action.assignment)
        assert len(opened - left) <= 2
    if ends:
        assert opened == left
    # Each assignment has a higher epoch than the one before.
    assert [assignment.epoch for assignment in driver.assignments] == sorted(
        {assignment.epoch for assignment in driver.assignments}
    )
