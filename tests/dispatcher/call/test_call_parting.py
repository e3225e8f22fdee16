"""The way out of a call that cannot continue."""

from __future__ import annotations

import pytest

from common.link import wire
from common.observe.metrics import FallbackOutcome
from dispatcher.call import actions
from dispatcher.call.actions import (
    Action,
    CloseCaller,
    Ended,
    Ending,
    Execute,
    LeaveChannel,
    Metric,
    Publish,
    SendError,
    TookWayOut,
    TransferAway,
    Unpin,
)
from dispatcher.call.announcements import Announcements
from dispatcher.call.states import State
from tests.dispatcher.call_driver import CallDriver, heard_pcm, of, reported, sound, state_of, to_caller, to_worker

SENTENCE = sound(8 * 16_000, seed=3)  # 8 s
SHORT = sound(3_200, seed=4)  # 0.2 s
REASON = "the API refuses the key"
FAILED = wire.Ended(wire.Outcome.FAILED, REASON)


def driver_with(sentence: bytes = SHORT, extension: str = "", **limits: float) -> CallDriver:
    return CallDriver(announcements=Announcements(sentence, extension, "demo"), **limits)


def failing(sentence: bytes = SHORT, extension: str = "", **limits: float) -> CallDriver:
    """Return a call that its worker has just ended."""
    driver = driver_with(sentence, extension, **limits).live()
    driver.record(FAILED)
    return driver


def to_the_end(driver: CallDriver, seconds: float) -> list[Action]:
    """So many seconds of ticks."""
    taken: list[Action] = []
    for _ in range(round(seconds / 0.2)):
        taken += driver.tick(0.2)
    return taken


def closed(taken: list[Action]) -> list[object]:
    return of(CloseCaller, taken)


class TestSentence:
    def test_a_failed_session_plays_the_sentence_then_ends(self) -> None:
        driver = driver_with().live()
        taken = driver.record(FAILED)
        assert heard_pcm(taken) == SHORT
        assert state_of(driver) is State.PARTING
        assert of(Publish, taken)
        assert not closed(taken)
        assert not closed(driver.tick(0.2))
        assert not closed(driver.tick(0.2))  # heard, but AVR Core may buffer 250 ms of it
        taken = driver.tick(0.2)
        assert taken == [
            SendError(REASON),
            CloseCaller(1011, REASON),
            Unpin(1),
            TookWayOut(FallbackOutcome.ENDED, REASON),
            Ended(Ending.FAILED, REASON),
        ]

    def test_a_long_sentence_is_handed_over_as_it_plays(self) -> None:
        driver = driver_with(SENTENCE).live()
        taken = driver.record(FAILED)
        assert len(heard_pcm(taken)) == 2 * 16_000
        for _ in range(29):
            taken += driver.tick(0.2)
            assert len(heard_pcm(taken)) / 16_000 <= driver.now - 1000.0 + 2.0
        taken += to_the_end(driver, 2.2)
        assert not closed(taken)
        taken += driver.tick(0.2)
        taken += driver.tick(0.2)
        assert heard_pcm(taken) == SENTENCE
        assert closed(taken) == [CloseCaller(1011, REASON)]

    def test_the_sentence_follows_what_the_agent_was_saying(self) -> None:
        driver = driver_with().live()
        reply = sound(16_000 + 100)
        played = heard_pcm(driver.reply(0, reply))
        taken = driver.record(FAILED)
        assert played + heard_pcm(taken) == reply + bytes(220) + SHORT
        assert not closed(to_the_end(driver, 1.4))
        assert closed(driver.tick(0.2))

    def test_it_is_no_greeting_and_has_no_transcript(self) -> None:
        driver = driver_with().connecting()
        taken = driver.record(FAILED)
        assert heard_pcm(taken) == SHORT
        assert not reported(taken, Metric.GREETING_SECONDS)
        assert {message["type"] for message in to_caller(taken)} == {"audio"}

    def test_a_core_that_does_not_read_gets_it_when_it_does(self) -> None:
        driver = driver_with().live()
        driver.pause()
        assert not to_caller(driver.record(FAILED))
        assert not to_caller(driver.tick(0.2))
        driver.resume()
        assert heard_pcm(driver.tick(0.2)) == SHORT

    def test_without_sentence_and_extension_the_call_ends_at_once(self) -> None:
        driver = driver_with(b"").live()
        taken = driver.record(FAILED)
        assert closed(taken) == [CloseCaller(1011, REASON)]
        assert not of(TookWayOut, taken)


class TestCauses:
    def test_a_full_cluster_plays_the_sentence_and_closes_with_1013(self) -> None:
        driver = driver_with()
        driver.init()
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert heard_pcm(driver.take()) == SHORT
        taken = to_the_end(driver, 0.6)
        assert closed(taken) == [CloseCaller(1013, "no capacity")]
        assert Ended(Ending.REJECTED, "no capacity") in taken

    def test_no_worker_in_time(self) -> None:
        driver = driver_with()
        driver.init()
        assert heard_pcm(driver.tick(10.0)) == SHORT
        assert closed(to_the_end(driver, 0.6)) == [CloseCaller(1011, "no worker took the call within 10 s")]

    def test_workers_that_refuse(self) -> None:
        driver = driver_with().opening()
        driver.record(wire.Refused(wire.Refusal.FULL))
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert heard_pcm(driver.take()) == SHORT
        assert closed(to_the_end(driver, 0.6)) == [CloseCaller(1013, "no capacity")]

    def test_a_worker_that_acknowledges_nothing_is_let_go(self) -> None:
        driver = driver_with().live(credit_bytes=10**9)
        driver.call.channel_full(driver.assignment, driver.now)
        taken = driver.take()
        assert of(LeaveChannel, taken) == [LeaveChannel(driver.assignment)]
        assert to_worker(taken)[-1] == wire.Close("the call's worker acknowledges nothing")
        assert heard_pcm(taken) == SHORT

    def test_a_fault_of_this_process(self) -> None:
        driver = driver_with().live()
        driver.call.failed("internal error", driver.now)
        assert heard_pcm(driver.take()) == SHORT
        driver.call.failed("internal error again", driver.now)
        assert closed(driver.take()) == [CloseCaller(1011, "internal error again")]

    def test_a_broken_protocol_ends_at_once(self) -> None:
        driver = driver_with().live()
        driver.call.broke_protocol("bad_websocket", "broken WebSocket")
        assert closed(driver.take())

    def test_a_process_that_stops_ends_at_once(self) -> None:
        driver = driver_with().live()
        driver.call.stopped("the service is stopping")
        assert closed(driver.take())

    def test_a_superseded_call_ends_at_once(self) -> None:
        driver = driver_with().live()
        driver.call.superseded()
        assert closed(driver.take())

    def test_a_caller_whose_connection_is_away_gets_no_sentence(self) -> None:
        driver = driver_with().live()
        driver.call.caller_closed(1006, driver.now)
        taken = driver.record(FAILED)
        assert not heard_pcm(taken)
        assert Ended(Ending.FAILED, REASON) in taken


class TestMeanwhile:
    def test_the_worker_is_left_and_its_records_are_ignored(self) -> None:
        driver = failing()
        assert not driver.reply(0, sound(3200))
        assert not driver.record(wire.Transcript("item", "agent", "hello"))
        assert not driver.lose_worker()
        assert state_of(driver) is State.PARTING

    def test_what_the_caller_says_is_dropped(self) -> None:
        driver = failing(SENTENCE)
        for _ in range(10):
            assert not driver.audio(sound(320))
        assert not driver.call._worker_side.audio.waiting_bytes
        assert not to_worker(driver.say(type="dtmf_digit", digit="5"))

    def test_a_caller_who_hangs_up_ends_it_as_failed(self) -> None:
        driver = failing(SENTENCE)
        driver.call.caller_closed(1000, driver.now)
        taken = driver.take()
        assert TookWayOut(FallbackOutcome.HUNG_UP, REASON) in taken
        assert taken[-1] == Ended(Ending.FAILED, f"{REASON}; the caller's connection closed with 1000")

    def test_a_connection_that_breaks_may_come_back(self) -> None:
        driver = failing(SENTENCE)
        driver.call.caller_closed(1006, driver.now)
        assert not driver.tick(1.0)
        driver.call.caller_back(driver.now)
        driver.take()
        assert heard_pcm(driver.tick(0.2))

    def test_a_connection_that_stays_away_ends_it(self) -> None:
        driver = failing(SENTENCE)
        driver.call.caller_closed(1006, driver.now)
        taken = driver.tick(10.0)
        assert isinstance(taken[-1], Ended)
        assert taken[-1].reason.startswith(REASON)

    def test_it_is_published_without_a_worker(self) -> None:
        driver = driver_with()
        driver.init()
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.call.is_held
        assert driver.call.assignments.worker_id == ""
        assert driver.call.assignments.held_epoch == 1

    def test_a_search_for_a_worker_comes_to_nothing(self) -> None:
        driver = driver_with()
        driver.init()
        driver.tick(10.0)
        assert not driver.call.wants(actions.Purpose.BEGIN)
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert not driver.take()

    def test_the_calls_api_hangs_up_on_asterisk(self) -> None:
        driver = failing(SENTENCE, "600")
        driver.call.hang_up()
        (execute,) = driver.take()
        assert isinstance(execute, Execute)
        assert execute.command.action == wire.TelephonyAction.HANG_UP
        assert not to_the_end(driver, 1.0)
        driver.call.executed(execute.command, True, "done", driver.now)
        assert closed(to_the_end(driver, 3.0)) == [CloseCaller(1000, "")]

    def test_the_calls_api_hangs_up_without_avr_ami(self) -> None:
        driver = failing(SENTENCE)
        driver.call.hang_up()
        (execute,) = driver.take()
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, False, "away", driver.now)
        taken = driver.take()
        assert closed(taken) == [CloseCaller(1000, "")]
        assert TookWayOut(FallbackOutcome.HUNG_UP, REASON) in taken


class TestTransfer:
    def test_the_transfer_comes_when_the_sentence_was_heard(self) -> None:
        driver = failing(SHORT, "600")
        assert not of(TransferAway, to_the_end(driver, 0.4))
        assert driver.tick(0.2) == [TransferAway("600", "demo")]
        assert not driver.tick(0.2)

    def test_without_a_sentence_it_comes_at_once(self) -> None:
        driver = driver_with(b"", "600").live()
        assert TransferAway("600", "demo") in driver.record(FAILED)

    def test_a_transferred_call_waits_for_its_core_to_close(self) -> None:
        driver = failing(b"", "600")
        driver.call.transferred_away(FallbackOutcome.TRANSFERRED, driver.now)
        assert not driver.tick(2.8)
        driver.call.caller_closed(1000, driver.now)
        taken = driver.take()
        assert TookWayOut(FallbackOutcome.TRANSFERRED, REASON) in taken
        assert isinstance(taken[-1], Ended)
        assert taken[-1].ending is Ending.FAILED

    def test_a_core_that_stays_is_closed(self) -> None:
        driver = failing(b"", "600")
        driver.call.transferred_away(FallbackOutcome.TRANSFERRED, driver.now)
        taken = driver.tick(3.0)
        assert closed(taken) == [CloseCaller(1000, "")]
        assert not of(SendError, taken)

    @pytest.mark.parametrize("outcome", [FallbackOutcome.REFUSED, FallbackOutcome.FAILED])
    def test_a_transfer_that_did_not_happen_ends_the_call(self, outcome: FallbackOutcome) -> None:
        driver = failing(b"", "600")
        driver.call.transferred_away(outcome, driver.now)
        taken = driver.take()
        assert taken[:2] == [SendError(REASON), CloseCaller(1011, REASON)]
        assert TookWayOut(outcome, REASON) in taken

    def test_a_core_that_closes_before_avr_ami_answers_counts_once(self) -> None:
        driver = failing(b"", "600")
        driver.call.caller_closed(1000, driver.now)
        assert not of(TookWayOut, driver.take())
        driver.call.transferred_away(FallbackOutcome.TRANSFERRED, driver.now)
        assert driver.take() == [TookWayOut(FallbackOutcome.TRANSFERRED, REASON)]

    def test_the_calls_api_does_not_hang_up_a_transferred_call(self) -> None:
        driver = failing(SHORT, "600")
        to_the_end(driver, 1.0)
        driver.call.transferred_away(FallbackOutcome.TRANSFERRED, driver.now)
        driver.call.hang_up()
        taken = driver.take()
        assert not of(Execute, taken)
        assert closed(taken) == [CloseCaller(1000, "")]

    def test_a_transferred_call_is_not_transferred_again(self) -> None:
        driver = driver_with(SHORT, "600").live()
        order = wire.TelephonyCommand("sales", wire.TelephonyAction.TRANSFER, "700", "demo", "1")
        driver.record(order)
        assert of(Execute, driver.tick(0.2)) == [Execute(order)]
        driver.call.executed(order, True, "transferred", driver.now)
        taken = driver.record(FAILED)
        assert closed(taken) == [CloseCaller(1011, REASON)]
        assert not of(TransferAway, to_the_end(driver, 3.0))

    def test_a_hang_up_that_was_promised_comes_first(self) -> None:
        driver = driver_with(SHORT, "600").live()
        driver.record(wire.TelephonyCommand("bye", wire.TelephonyAction.HANG_UP))
        assert not heard_pcm(driver.record(FAILED))
        (execute,) = driver.tick(0.2)
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, True, "done", driver.now)
        taken = to_the_end(driver, 3.0)
        assert not heard_pcm(taken)
        assert closed(taken) == [CloseCaller(1000, "")]

    def test_a_promised_transfer_that_fails_leads_to_the_sentence(self) -> None:
        driver = driver_with().live()
        driver.record(wire.TelephonyCommand("sales", wire.TelephonyAction.TRANSFER, "700", "demo", "1"))
        driver.record(FAILED)
        (execute,) = driver.tick(0.2)
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, False, "busy", driver.now)
        assert heard_pcm(driver.take() + driver.tick(0.2)) == SHORT

    def test_a_promised_transfer_that_succeeds_is_the_way_out(self) -> None:
        driver = driver_with().live()
        driver.record(wire.TelephonyCommand("sales", wire.TelephonyAction.TRANSFER, "700", "demo", "1"))
        driver.record(FAILED)
        (execute,) = driver.tick(0.2)
        assert isinstance(execute, Execute)
        driver.call.executed(execute.command, True, "done", driver.now)
        taken = to_the_end(driver, 3.0)
        assert not heard_pcm(taken)
        assert TookWayOut(FallbackOutcome.TRANSFERRED, REASON) in taken
        assert closed(taken) == [CloseCaller(1000, "")]

    def test_a_core_that_never_reads_the_sentence_is_closed(self) -> None:
        driver = driver_with(stuck_seconds=1000.0, silence_seconds=1000.0).live()
        driver.pause()
        driver.record(FAILED)
        assert not closed(driver.tick(119.0))
        assert closed(driver.tick(1.0)) == [CloseCaller(1011, REASON)]
