"""A call in the dispatcher that moves to another session, which stands by before the move."""

from __future__ import annotations

import pytest

from common.audio import g711
from common.link import wire
from dispatcher.call.actions import (
    LeaveChannel,
    Metric,
    Place,
    Publish,
    Purpose,
    ToWorker,
    Unpin,
)
from dispatcher.call.sessions.hand_over import MOVE_AGAIN_SECONDS
from dispatcher.call.states import State
from tests.dispatcher.call_driver import (
    FRAME_BYTES,
    WORKER,
    CallDriver,
    of,
    place,
    recover,
    reported,
    sound,
    state_of,
    to_caller,
    to_worker,
)

FRAME = sound(FRAME_BYTES)
HANG_UP = wire.TelephonyCommand("call_1", wire.TelephonyAction.HANG_UP.value)


HAS_CALL = "another session has the call"


class TestMakeBeforeBreak:
    def moved(self, driver: CallDriver, reason: str = "drain", worker: str = "w-2") -> CallDriver:
        """Up to the moment at which another session stands by."""
        driver.live()
        driver.record(wire.Move(reason, 20.0))
        driver.placed(worker=worker, epoch=2, pins=2)
        driver.record(wire.Opened(32_000))
        return driver

    def test_a_worker_that_is_to_end_gives_its_call_to_another(self, driver: CallDriver) -> None:
        driver.live()
        old = driver.assignment
        assert driver.record(wire.Move("drain", 20.0)) == [place(Purpose.MOVE, 2, WORKER)]
        assert driver.call.wants(Purpose.MOVE)
        assert state_of(driver) is State.LIVE
        taken = driver.placed(worker="w-2", epoch=2, pins=2)
        assert not driver.call.wants(Purpose.MOVE)
        assert to_worker(taken)[-1] == wire.Resume("drain", standby=True)
        new = driver.assignment
        assert all(action.assignment is new for action in taken if isinstance(action, ToWorker))
        driver.record(wire.Opened(32_000))
        # Until then the call is where it was.
        assert (driver.call.assignments.worker_id, driver.call.assignments.held_epoch) == (WORKER, 1)
        sent = driver.audio(FRAME)
        assert [action.assignment for action in sent if isinstance(action, ToWorker)] == [old]
        driver.now += 2.0
        assert driver.record(wire.Ready()) == [ToWorker(old, wire.Release(18.0))]
        assert state_of(driver) is State.LIVE
        # Nothing of what comes meanwhile is lost on the other one.
        driver.record(wire.ReplyItem(4, "item"), assignment=old)
        driver.record(wire.ItemUpdate("item", item={"text": "x"}, settled=True), assignment=old)
        taken = driver.record(wire.Released("drain", "another session goes on"), assignment=old)
        assert taken[0] == Publish()
        assert [action.assignment for action in taken if isinstance(action, ToWorker)] == [new] * 3
        assert to_worker(taken) == [
            wire.ItemUpdate("item", item={"text": "x"}),
            wire.KeptAudio(0, g711.encode_ulaw(FRAME)),
            wire.Resume("drain", first_index=5),
        ]
        held = driver.call.assignments
        assert (held.worker_id, held.held_epoch, state_of(driver)) == (
            "w-2",
            2,
            State.CONNECTING,
        )
        driver.now += 0.1
        taken = driver.record(wire.Ready())
        assert [round(seconds, 6) for seconds, _ in reported(taken, Metric.RECOVERY_SECONDS)] == [0.1]
        assert state_of(driver) is State.LIVE
        # Only now another session has the call, and the old one has nothing to keep.
        assert taken[:2] == [ToWorker(old, wire.Close(HAS_CALL)), LeaveChannel(old)]
        # The next move begins anew.
        assert driver.record(wire.Move("drain", 20.0)) == [place(Purpose.MOVE, 3, "w-2")]

    def test_a_worker_is_counted_when_it_has_the_call_not_on_standby(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.Move("drain", 20.0))
        for number in (2, 3):
            taken = driver.placed(worker=f"w-{number}", epoch=number, pins=2)
            taken += driver.record(wire.Opened(32_000)) + driver.record(wire.Released("dropped", "why"))
            assert reported(taken, Metric.REPIN) == []
            assert driver.call.assignments.pins == 1
            driver.tick(MOVE_AGAIN_SECONDS)
        taken = driver.placed(worker="w-4", epoch=4, pins=2)
        taken += driver.record(wire.Opened(32_000)) + driver.record(wire.Ready())
        assert reported(taken, Metric.REPIN) == []
        assert driver.call.assignments.pins == 1
        taken = driver.record(wire.Released("drain", "another session goes on"), assignment=driver.assignments[0])
        assert reported(taken, Metric.REPIN) == [(1.0, "drain")]
        assert driver.call.assignments.pins == 2

    def test_nor_does_a_session_on_the_same_worker(self, driver: CallDriver) -> None:
        self.moved(driver, reason="rollover", worker=WORKER).record(wire.Ready())
        taken = driver.record(
            wire.Released("rollover", "another session goes on"), assignment=driver.assignments[0]
        )
        assert reported(taken, Metric.REPIN) == []
        assert driver.call.assignments.pins == 1

    @pytest.mark.parametrize("opened", [True, False])
    def test_a_standby_that_replaces_a_lost_worker_counts_as_lost(self, opened: bool, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.placed(worker="w-2", epoch=2, pins=2)
        old, standby = driver.assignments
        taken = driver.record(wire.Opened(32_000)) if opened else []
        driver.call.worker_lost(old, driver.now)
        taken += driver.take()
        if not opened:
            assert reported(taken, Metric.REPIN) == []
            taken = driver.record(wire.Opened(32_000), assignment=standby)
        assert reported(taken, Metric.REPIN) == [(1.0, "worker_lost")]
        assert driver.call.assignments.pins == 2

    def test_one_that_knows_a_later_epoch_is_asked_at_the_next(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.placed(worker="w-2", epoch=2)
        driver.record(wire.Refused("stale_epoch", 7))
        assert driver.tick(MOVE_AGAIN_SECONDS) == [place(Purpose.MOVE, 8, WORKER)]

    def test_a_session_whose_time_is_over_stays_on_its_worker(self, driver: CallDriver) -> None:
        driver.live()
        assert driver.record(wire.Move("rollover", 240.0)) == [place(Purpose.MOVE, 2, same_worker=WORKER)]

    def test_a_second_request_changes_nothing(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        assert driver.record(wire.Move("drain", 10.0)) == []
        assert driver.record(wire.Move("rollover", 10.0)) == []

    def test_drain_moves_a_rollover_to_another_worker(self, driver: CallDriver) -> None:
        self.moved(driver, "rollover", worker=WORKER)
        old, standby = driver.assignments
        driver.record(wire.Ready())
        taken = driver.record(wire.Move("drain", 10.0), assignment=old)
        assert ToWorker(standby, wire.Close("the worker stops")) in taken
        assert LeaveChannel(standby) in taken
        # The old session may not let the call go before the other worker has a session.
        assert ToWorker(old, wire.Release(10.0, revoked=True)) in taken
        assert of(Place, taken) == [place(Purpose.MOVE, 3, WORKER)]
        taken = driver.placed(worker="w-2", epoch=3, pins=2)
        assert to_worker(taken)[-1] == wire.Resume("drain", standby=True)
        driver.record(wire.Opened(32_000))
        assert driver.record(wire.Ready()) == [ToWorker(old, wire.Release(10.0))]

    def test_drain_keeps_a_standby_on_another_worker(self, driver: CallDriver) -> None:
        self.moved(driver, "rollover", worker="w-2")
        old = driver.assignments[0]
        assert driver.record(wire.Move("drain", 10.0), assignment=old) == []
        assert driver.record(wire.Ready()) == [ToWorker(old, wire.Release(10.0))]

    def test_drain_replaces_a_rollover_still_being_placed(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.Move("rollover", 240.0))
        assert of(Place, driver.record(wire.Move("drain", 10.0))) == []
        # The answer to the first request is used, and the worker refuses because it drains.
        driver.placed(worker=WORKER, epoch=2)
        taken = driver.record(wire.Refused("draining"))
        assert LeaveChannel(driver.assignment) in taken
        assert of(Place, driver.tick(MOVE_AGAIN_SECONDS)) == [place(Purpose.MOVE, 3, WORKER)]

    @pytest.mark.parametrize("what", ["RELEASED", "ENDED", "REFUSED", "lost"])
    def test_one_that_does_not_stand_by_any_more_is_replaced(self, what: str, driver: CallDriver) -> None:
        self.moved(driver)
        records: dict[str, wire.Control] = {
            "RELEASED": wire.Released("dropped", "why"),
            "ENDED": wire.Ended("failed", "why"),
            "REFUSED": wire.Refused("full"),
        }
        standby, old = driver.assignment, driver.assignments[0]
        taken = driver.record(records[what]) if what in records else driver.lose_worker()
        assert taken == [LeaveChannel(standby)]
        assert state_of(driver) is State.LIVE
        assert driver.tick(MOVE_AGAIN_SECONDS - 0.1) == []
        assert driver.tick(0.2) == [place(Purpose.MOVE, 3, WORKER, "w-2")]
        assert driver.call.wants(Purpose.MOVE)
        # The call itself goes on.
        assert to_caller(driver.record(wire.Transcript("item", "agent", "Hello."), assignment=old)) != []

    def test_a_released_session_learns_that_its_standby_is_gone(self, driver: CallDriver) -> None:
        self.moved(driver)
        old = driver.assignments[0]
        assert to_worker(driver.record(wire.Ready(standby=True))) == [wire.Release(20.0)]
        driver.now += 5.0
        taken = driver.lose_worker()
        assert [action.assignment for action in taken if isinstance(action, ToWorker)] == [old]
        assert to_worker(taken) == [wire.Release(15.0, revoked=True)]

    def test_a_worker_with_the_call_ignores_standby_and_is_resumed(self, driver: CallDriver) -> None:
        self.moved(driver)
        driver.record(wire.Released("drain", "time is over"), assignment=driver.assignments[0])
        assert state_of(driver) is State.CONNECTING
        driver.record(wire.Ready(standby=True))
        assert state_of(driver) is State.CONNECTING
        driver.record(wire.Ready())
        assert state_of(driver) is State.LIVE

    def test_no_worker_takes_it_now(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.take() == []
        assert state_of(driver) is State.LIVE
        assert driver.tick(MOVE_AGAIN_SECONDS) == [place(Purpose.MOVE, 2, WORKER)]

    def test_the_worker_that_has_it_is_lost_while_another_stands_by(self, driver: CallDriver) -> None:
        self.moved(driver).record(wire.Ready())
        old, standby = driver.assignments
        driver.call.worker_lost(old, driver.now)
        taken = driver.take()
        assert taken[:2] == [LeaveChannel(old), Publish()]
        assert [action.assignment for action in taken if isinstance(action, ToWorker)] == [standby]
        # It goes on from the memory that it is given now; nobody is looked for.
        (go,) = to_worker(taken)
        assert isinstance(go, wire.Resume)
        assert not go.standby
        assert not of(Place, taken)
        assert state_of(driver) is State.CONNECTING
        driver.record(wire.Ready())
        assert state_of(driver) is State.LIVE

    def test_it_is_lost_before_the_other_one_has_even_taken_the_call(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.placed(worker="w-2", epoch=2)
        old, standby = driver.assignments
        driver.call.worker_lost(old, driver.now)
        driver.take()
        assert state_of(driver) is State.OPENING
        driver.audio(FRAME)
        taken = driver.record(wire.Opened(32_000), assignment=standby)
        assert to_worker(taken) == [wire.CallerAudio(0, FRAME)]
        driver.record(wire.Ready())
        assert state_of(driver) is State.LIVE

    def test_and_that_one_refuses(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.placed(worker="w-2", epoch=2)
        driver.call.worker_lost(driver.assignments[0], driver.now)
        driver.take()
        taken = driver.record(wire.Refused("full"))
        assert isinstance(taken[-1], Place)
        assert taken[-1].purpose is Purpose.RECOVER
        assert "w-2" in taken[-1].excluded

    def test_late_records_of_a_left_standby_do_not_cost_the_next(self, driver: CallDriver) -> None:
        self.moved(driver)
        left = driver.assignment
        driver.record(wire.Refused("full"))
        driver.tick(MOVE_AGAIN_SECONDS)
        driver.placed(worker="w-3", epoch=3)
        assert driver.record(wire.Ended("failed", "why"), assignment=left) == []
        assert not driver.call.wants(Purpose.MOVE)
        assert to_worker(driver.record(wire.Ready())) == [wire.Release(20.0 - MOVE_AGAIN_SECONDS)]

    def test_both_are_on_one_worker_that_is_lost(self, driver: CallDriver) -> None:
        self.moved(driver, reason="rollover", worker=WORKER).record(wire.Ready())
        old, standby = driver.assignments
        for assignment in (old, standby):
            driver.call.worker_lost(assignment, driver.now)
        taken = driver.take()
        assert of(LeaveChannel, taken) == [LeaveChannel(old), LeaveChannel(standby)]
        assert taken[-1] == recover(3, WORKER)

    def test_the_older_one_lets_go_before_the_other_stands_by(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 0.5))
        taken = driver.record(wire.Released("drain", "time is over"))
        assert taken[-1] == recover(2, WORKER)
        # The search for a standby, if it still goes on, is not wanted any more.
        assert not driver.call.wants(Purpose.MOVE)

    def test_items_of_a_standby_do_not_enter_the_calls_memory(self, driver: CallDriver) -> None:
        self.moved(driver)
        assert driver.reply(0, FRAME) == []
        assert driver.record(wire.Transcript("item", "agent", "Hello.")) == []
        assert driver.record(wire.Flush(1)) == []
        assert driver.record(wire.ItemUpdate("item", item={"text": "x"})) == []
        assert driver.call.memory.order == []

    def test_keys_go_to_the_session_that_has_the_call(self, driver: CallDriver) -> None:
        self.moved(driver).record(wire.Ready())
        old, _ = driver.assignments
        sent = driver.say(type="dtmf_digit", digit="4")
        assert [action.assignment for action in sent if isinstance(action, ToWorker)] == [old]
        taken = driver.record(wire.Released("drain", "why"), assignment=old)
        assert to_worker(taken)[-1] == wire.Resume("drain", digits="4")

    def test_a_superseded_call_closes_its_standby_alone(self, driver: CallDriver) -> None:
        self.moved(driver)
        driver.call.superseded()
        closes = [record for record in to_worker(driver.take()) if isinstance(record, wire.Close)]
        assert [record.keep for record in closes] == [True, False]

    def test_both_are_told_when_the_call_ends(self, driver: CallDriver) -> None:
        self.moved(driver)
        driver.call.caller_closed(1000, driver.now)
        taken = driver.take()
        assert [type(record) for record in to_worker(taken)] == [wire.Close, wire.Close]
        assert of(LeaveChannel, taken) == [LeaveChannel(assignment) for assignment in driver.assignments]
        # And it leaves Redis, whichever of the two it knows.
        assert Unpin(2) in taken

    def test_a_move_of_a_standby_waits_until_it_has_the_call(self, driver: CallDriver) -> None:
        """Its worker was told to stop meanwhile: it asks once, and is to be heard."""
        self.moved(driver).record(wire.Ready())
        old, standby = driver.assignments
        driver.record(wire.Move("drain", 20.0), assignment=standby)
        taken = driver.record(wire.Released("drain", "why"), assignment=old)
        taken += driver.record(wire.Ready(), assignment=standby)
        taken += driver.tick(MOVE_AGAIN_SECONDS)
        assert place(Purpose.MOVE, 3, "w-2") in taken
