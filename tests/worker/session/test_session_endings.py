"""Hang-ups that a session orders: which session may order them, and which events they survive."""

from __future__ import annotations

from typing import Any

from common.link.wire import (
    EndReason,
    Open,
    Outcome,
    Released,
    TelephonyAction,
    TelephonyCommand,
    TelephonyDone,
    ToolKnown,
)
from tests.worker import api_events as api
from tests.worker.session.restored import TRANSFER, agent, function_call, restored, restoring, user
from tests.worker.session_driver import PLENTY, Did, Driver, live, only, playout
from worker.session.actions import Answer, Ended, RunTool
from worker.session.agent.function_calls import TRANSFERRED
from worker.session.hang_up import HangUp
from worker.session.lifecycle import HANG_UP_ID
from worker.session.memory.checkpoint import Checkpoint
from worker.session.states import State


def command(reason: EndReason) -> TelephonyCommand:
    """Return the command to hang up for this reason."""
    return TelephonyCommand(HANG_UP_ID, TelephonyAction.HANG_UP.value, end_reason=reason.value)


BY_API = HangUp("the calls API has ended the call", EndReason.API_HUNG_UP)
FOR_SILENCE = command(EndReason.CALLER_SILENT)
AT_MAX_CALL = command(EndReason.TOO_LONG)
FOR_API = command(EndReason.API_HUNG_UP)


def for_seconds(driver: Driver, seconds: float) -> list[Did]:
    """Let time pass in steps of the real clock."""
    did: list[Did] = []
    for _ in range(round(seconds / 0.2)):
        did += driver.tick(0.2)
    return did


def hang_up(driver: Driver) -> tuple[int, list[TelephonyCommand]]:
    """Send the calls API's hang-up; return the status and the orders that follow."""
    driver.session.command(1, "hang_up", {}, driver.now)
    did = driver.take()
    (answer,) = only(did, Answer)
    return answer.status, only(did, TelephonyCommand)


def attached(driver: Driver) -> list[Did]:
    """Let another dispatcher take the caller up; return what the session tells it."""
    driver.session.detached()
    driver.session.attached(Open("uuid-1", 2, credit_bytes=PLENTY, attach=True), driver.now)
    return driver.take()


class TestStandby:
    def standing_by(self, **plan: Any) -> Driver:
        driver = restoring(agent("a", "Hello."), reason="rollover", standby=True, plan=plan)
        driver.go_live()
        return driver

    def go(self, driver: Driver) -> None:
        driver.session.take_call(Checkpoint("rollover", items=[user("b", "Hi."), agent("c", "Yes?")]), driver.now)
        driver.take()
        driver.event(api.session_updated())

    def test_a_standby_orders_no_hang_up_for_silence(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        assert not only(for_seconds(driver, 30.0), TelephonyCommand)

    def test_a_standby_orders_no_hang_up_at_max_call_seconds(self) -> None:
        driver = self.standing_by(max_call_seconds=10.0)
        assert not only(for_seconds(driver, 30.0), TelephonyCommand)

    def test_a_standby_that_connects_orders_no_hang_up(self) -> None:
        driver = restoring(agent("a", "Hello."), reason="rollover", standby=True, plan={"max_call_seconds": 10.0})
        driver.take()
        assert not only(driver.tick(11.0), TelephonyCommand)

    def test_a_standby_refuses_to_hang_up(self) -> None:
        assert hang_up(self.standing_by()) == (409, [])

    def test_silence_counts_from_when_a_standby_has_the_call(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert not only(for_seconds(driver, 9.0), TelephonyCommand)
        assert only(for_seconds(driver, 2.0), TelephonyCommand) == [FOR_SILENCE]

    def test_a_former_standby_ends_the_call_at_max_call_seconds(self) -> None:
        driver = self.standing_by(max_call_seconds=20.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert only(driver.tick(0.2), TelephonyCommand) == [AT_MAX_CALL]

    def test_a_former_standby_hangs_up_for_the_calls_api(self) -> None:
        driver = self.standing_by(silence_hangup_seconds=10.0)
        for_seconds(driver, 30.0)
        self.go(driver)
        assert hang_up(driver) == (200, [FOR_API])


class TestTransferred:
    def transferred(self, *, ok: bool = True, **plan: Any) -> Driver:
        driver = live(**plan)
        self.call(driver, "call_1", "avr_transfer", TRANSFER)
        driver.record(TelephonyDone("call_1", ok, "avr-ami's answer"))
        return driver

    def call(self, driver: Driver, call_id: str, name: str, arguments: str = "{}") -> list[Did]:
        response_id = f"resp_{call_id}"
        item = api.function_call_item(f"item_{call_id}") | {
            "status": "completed",
            "call_id": call_id,
            "name": name,
            "arguments": arguments,
        }
        return driver.event(
            api.response_created(response_id),
            api.event("response.output_item.done", response_id=response_id, output_index=0, item=item),
            api.response_done(response_id, usage=api.USAGE),
        )

    def test_silence_does_not_hang_up_a_transferred_call(self) -> None:
        driver = self.transferred(silence_hangup_seconds=10.0)
        assert not only(for_seconds(driver, 30.0), TelephonyCommand, Ended)

    def test_the_model_cannot_hang_up_a_transferred_call(self) -> None:
        driver = self.transferred()
        did = self.call(driver, "call_2", "avr_hangup")
        assert not only(did, TelephonyCommand)
        outputs = [event["item"]["output"] for event in only(did, dict) if "output" in event.get("item", {})]
        assert outputs == [TRANSFERRED]

    def test_a_replaced_tool_runs_and_orders_nothing(self) -> None:
        driver = live(built_in=frozenset({"avr_hangup"}))
        did = self.call(driver, "call_1", "avr_transfer", TRANSFER)
        assert not only(did, TelephonyCommand)
        assert driver.record(ToolKnown("call_1")) == [RunTool("call_1", "avr_transfer", TRANSFER)]
        driver.session.tool_done("call_1", "transferred", driver.now)
        # This side knows of no transfer.
        assert only(self.call(driver, "call_2", "avr_hangup"), TelephonyCommand)

    def test_a_failed_transfer_leaves_the_call_to_be_hung_up(self) -> None:
        driver = self.transferred(ok=False)
        assert only(self.call(driver, "call_2", "avr_hangup"), TelephonyCommand)

    def test_max_call_seconds_only_ends_our_side_after_transfer(self) -> None:
        driver = self.transferred(max_call_seconds=60.0)
        did = driver.tick(61.0)
        assert not only(did, TelephonyCommand)
        (ended,) = only(did, Ended)
        assert ended.outcome == Outcome.COMPLETED

    def test_the_calls_api_only_ends_our_side_after_transfer(self) -> None:
        driver = self.transferred()
        assert hang_up(driver) == (200, [])
        assert driver.session.state is State.ENDED

    def test_the_next_dispatcher_gets_no_hang_up_after_transfer(self) -> None:
        driver = live()
        self.call(driver, "call_1", "avr_transfer", TRANSFER)
        self.call(driver, "call_2", "avr_hangup")
        driver.record(TelephonyDone("call_1", True, "transferred"))
        assert not only(attached(driver), TelephonyCommand)

    def test_the_next_session_knows_of_the_transfer(self) -> None:
        done = function_call("b", name="avr_transfer", text=TRANSFER)
        driver, _ = restored(user("a", "Sales, please."), done, known_commands=frozenset({"call_1"}))
        driver.record(TelephonyDone("call_1", True, "transferred"))
        assert not only(self.call(driver, "call_2", "avr_hangup"), TelephonyCommand)


class TestHandOver:
    """A hang-up that was ordered survives its dispatcher and its session."""

    def test_the_next_dispatcher_gets_the_hang_up_at_max_call(self) -> None:
        driver = live(max_call_seconds=60.0)
        driver.reply("resp_1", "item_1", "A long farewell.", 3000)
        assert only(driver.tick(61.0), TelephonyCommand) == [AT_MAX_CALL]
        assert only(attached(driver), TelephonyCommand) == [AT_MAX_CALL]

    def test_the_next_dispatcher_gets_the_hang_up_for_silence(self) -> None:
        driver = live(silence_hangup_seconds=10.0)
        driver.reply("resp_1", "item_1", "Hello.", 100)
        driver.record(playout((0, 10**6), idle=True))
        assert only(for_seconds(driver, 11.0), TelephonyCommand) == [FOR_SILENCE]
        assert only(attached(driver), TelephonyCommand) == [FOR_SILENCE]

    def test_the_next_dispatcher_gets_the_hang_up_of_the_api(self) -> None:
        driver = live()
        driver.session.detached()
        assert hang_up(driver) == (200, [FOR_API])
        assert only(attached(driver), TelephonyCommand) == [FOR_API]

    def test_no_hang_up_is_repeated_without_one_ordered(self) -> None:
        assert not only(attached(live()), TelephonyCommand)

    def test_the_calls_api_repeats_a_hang_up(self) -> None:
        driver = live(max_call_seconds=60.0)
        driver.reply("resp_1", "item_1", "A long farewell.", 3000)
        driver.tick(61.0)
        assert hang_up(driver) == (200, [FOR_API])

    def test_an_ended_session_refuses_to_hang_up(self) -> None:
        driver = live()
        driver.session.stopped("why")
        driver.take()
        assert hang_up(driver) == (404, [])

    def test_a_hang_up_behind_words_is_ordered_at_a_release(self) -> None:
        driver = live(credit_bytes=0, max_call_seconds=60.0)
        driver.reply("resp_1", "item_1", "A long farewell.", 3000)
        # It waits behind audio for which the dispatcher has no room.
        assert not only(driver.tick(61.0), TelephonyCommand)
        driver.session.release("dropped", "it broke off")
        did = driver.take()
        assert only(did, TelephonyCommand, Released) == [AT_MAX_CALL, Released("dropped", "it broke off")]

    def test_the_next_session_orders_the_hang_up(self) -> None:
        _, did = restored(user("a", "Bye."), hang_up=BY_API)
        assert only(did, TelephonyCommand) == [FOR_API]

    def test_the_next_session_repeats_no_known_hang_up(self) -> None:
        _, did = restored(user("a", "Bye."), hang_up=BY_API, known_commands=frozenset({HANG_UP_ID}))
        assert not only(did, TelephonyCommand)
