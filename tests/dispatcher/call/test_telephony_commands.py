"""Orders to hang up and to transfer: once each, one after the other, when the last words have been heard."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.telephony_commands import MAX_KNOWN_COMMANDS, MAX_WAITING_COMMANDS, TelephonyCommands

HANG_UP = wire.TelephonyCommand("call_1", wire.TelephonyAction.HANG_UP.value)
TRANSFER = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600")


def test_an_order_is_due_when_all_has_been_heard() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(HANG_UP, 10.0)
    assert orders.due(20.0, all_heard=False) is None
    assert orders.due(20.0, all_heard=True) == HANG_UP
    assert orders.due(20.0, all_heard=True) is None


def test_last_words_that_are_never_heard_hold_it_up_for_a_time_only() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(HANG_UP, 10.0)
    assert orders.due(129.9, all_heard=False) is None
    assert orders.due(130.0, all_heard=False) == HANG_UP


def test_the_next_waits_for_what_came_of_the_one_before() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(TRANSFER, 10.0)
    orders.add(HANG_UP, 10.0)
    assert orders.due(11.0, all_heard=True) == TRANSFER
    assert orders.due(200.0, all_heard=True) is None
    orders.executed(wire.TelephonyDone(TRANSFER.id, False, "no such extension"))
    assert orders.due(200.0, all_heard=False) == HANG_UP


def test_an_order_that_another_worker_repeats_is_not_carried_out_again() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(HANG_UP, 10.0)
    orders.add(HANG_UP, 11.0)
    assert orders.due(12.0, all_heard=True) == HANG_UP
    orders.add(HANG_UP, 12.0)
    orders.executed(wire.TelephonyDone(HANG_UP.id, False, "nobody answers"))
    orders.add(HANG_UP, 13.0)
    assert orders.due(14.0, all_heard=True) is None


def test_a_worker_that_takes_over_is_told_which_are_known_and_what_came_of_them() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(TRANSFER, 10.0)
    orders.add(HANG_UP, 10.0)
    assert (orders.known, orders.results) == (("call_2", "call_1"), [])
    orders.due(11.0, all_heard=True)
    done = wire.TelephonyDone(TRANSFER.id, True, "transferred")
    orders.executed(done)
    assert (orders.known, orders.results) == (("call_2", "call_1"), [done])


def test_a_transfer_makes_the_waiting_orders_void() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(TRANSFER, 10.0)
    orders.add(HANG_UP, 10.0)
    assert orders.due(11.0, all_heard=True) == TRANSFER
    assert orders.take_void() == []
    orders.executed(wire.TelephonyDone(TRANSFER.id, True, "transferred"))
    assert orders.has_transferred
    assert orders.due(12.0, all_heard=True) is None
    assert orders.take_void() == [HANG_UP]
    assert not orders.is_busy
    # The next worker is told, so that the model gets an output.
    assert [result.id for result in orders.results] == [TRANSFER.id, HANG_UP.id]


def test_a_transfer_that_failed_makes_no_order_void() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    orders.add(TRANSFER, 10.0)
    orders.add(HANG_UP, 10.0)
    orders.due(11.0, all_heard=True)
    orders.executed(wire.TelephonyDone(TRANSFER.id, False, "no such extension"))
    assert not orders.has_transferred
    assert orders.take_void() == []
    assert orders.due(12.0, all_heard=True) == HANG_UP


def test_those_that_wait_are_bounded() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    for number in range(2 * MAX_WAITING_COMMANDS):
        orders.add(wire.TelephonyCommand(f"call_{number}", "hang_up"), 10.0)
    assert len(orders.known) == MAX_WAITING_COMMANDS


def test_those_that_are_known_are_bounded() -> None:
    orders = TelephonyCommands(patience_seconds=120.0)
    for number in range(2 * MAX_KNOWN_COMMANDS):
        orders.add(wire.TelephonyCommand(f"call_{number}", "transfer"), 10.0)
        if (order := orders.due(10.0, all_heard=True)) is not None:
            orders.executed(wire.TelephonyDone(order.id, False, "no"))
    assert len(orders.known) == len(orders.results) == MAX_KNOWN_COMMANDS
