"""Orders to hang up and to transfer: once each, one after the other, when the last words have been heard."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.telephony_commands import MAX_KNOWN_COMMANDS, MAX_WAITING_COMMANDS, TelephonyCommands

HANG_UP = wire.TelephonyCommand("call_1", wire.TelephonyAction.HANG_UP.value)
TRANSFER = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600")


def test_an_order_is_due_when_all_has_been_heard() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(HANG_UP, 10.0)
    assert commands.due(20.0, all_heard=False) is None
    assert commands.due(20.0, all_heard=True) == HANG_UP
    assert commands.due(20.0, all_heard=True) is None


def test_unheard_last_words_delay_a_command_for_a_bounded_time() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(HANG_UP, 10.0)
    assert commands.due(129.9, all_heard=False) is None
    assert commands.due(130.0, all_heard=False) == HANG_UP


def test_the_next_waits_for_what_came_of_the_one_before() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(TRANSFER, 10.0)
    commands.add(HANG_UP, 10.0)
    assert commands.due(11.0, all_heard=True) == TRANSFER
    assert commands.due(200.0, all_heard=True) is None
    commands.executed(wire.TelephonyDone(TRANSFER.id, False, "no such extension"))
    assert commands.due(200.0, all_heard=False) == HANG_UP


def test_a_command_repeated_by_another_worker_is_executed_once() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(HANG_UP, 10.0)
    commands.add(HANG_UP, 11.0)
    assert commands.due(12.0, all_heard=True) == HANG_UP
    commands.add(HANG_UP, 12.0)
    commands.executed(wire.TelephonyDone(HANG_UP.id, False, "nobody answers"))
    commands.add(HANG_UP, 13.0)
    assert commands.due(14.0, all_heard=True) is None


def test_the_next_worker_gets_known_commands_and_their_results() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(TRANSFER, 10.0)
    commands.add(HANG_UP, 10.0)
    assert (commands.known_ids, commands.results) == (("call_2", "call_1"), [])
    commands.due(11.0, all_heard=True)
    done = wire.TelephonyDone(TRANSFER.id, True, "transferred")
    commands.executed(done)
    assert (commands.known_ids, commands.results) == (("call_2", "call_1"), [done])


def test_a_transfer_makes_the_waiting_orders_void() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(TRANSFER, 10.0)
    commands.add(HANG_UP, 10.0)
    assert commands.due(11.0, all_heard=True) == TRANSFER
    assert commands.take_void() == []
    commands.executed(wire.TelephonyDone(TRANSFER.id, True, "transferred"))
    assert commands.has_transferred
    assert commands.due(12.0, all_heard=True) is None
    assert commands.take_void() == [HANG_UP]
    assert not commands.is_busy
    # The next worker is told, so that the model gets an output.
    assert [result.id for result in commands.results] == [TRANSFER.id, HANG_UP.id]


def test_a_transfer_that_failed_makes_no_order_void() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    commands.add(TRANSFER, 10.0)
    commands.add(HANG_UP, 10.0)
    commands.due(11.0, all_heard=True)
    commands.executed(wire.TelephonyDone(TRANSFER.id, False, "no such extension"))
    assert not commands.has_transferred
    assert commands.take_void() == []
    assert commands.due(12.0, all_heard=True) == HANG_UP


def test_those_that_wait_are_bounded() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    for number in range(2 * MAX_WAITING_COMMANDS):
        commands.add(wire.TelephonyCommand(f"call_{number}", "hang_up"), 10.0)
    assert len(commands.known_ids) == MAX_WAITING_COMMANDS


def test_those_that_are_known_are_bounded() -> None:
    commands = TelephonyCommands(patience_seconds=120.0)
    for number in range(2 * MAX_KNOWN_COMMANDS):
        commands.add(wire.TelephonyCommand(f"call_{number}", "transfer"), 10.0)
        if (order := commands.due(10.0, all_heard=True)) is not None:
            commands.executed(wire.TelephonyDone(order.id, False, "no"))
    assert len(commands.known_ids) == len(commands.results) == MAX_KNOWN_COMMANDS
