"""A call in the dispatcher whose session is lost or found again: the one way back, event by event."""

from __future__ import annotations

import pytest

from common.audio import g711
from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import ItemHeard, Kind
from dispatcher.call.actions import (
    CloseCaller,
    Ended,
    Ending,
    Execute,
    Interrupt,
    LeaveChannel,
    Measurement,
    Metric,
    Place,
    Purpose,
    ToWorker,
    Unpin,
)
from dispatcher.call.memory import CallMemory
from dispatcher.call.states import State
from tests.dispatcher.call_driver import (
    FRAME_BYTES,
    METADATA,
    UUID,
    WORKER,
    CallDriver,
    heard_pcm,
    of,
    opened_with,
    recover,
    reported,
    sound,
    state_of,
    to_caller,
    to_worker,
)

FRAME = sound(FRAME_BYTES)
HANG_UP = wire.TelephonyCommand("call_1", wire.TelephonyAction.HANG_UP.value)


class TestAWorkerIsLost:
    def test_while_it_is_asked(self, driver: CallDriver) -> None:
        driver.opening()
        assert driver.lose_worker() == [LeaveChannel(driver.assignment), recover(2, WORKER)]
        assert state_of(driver) is State.PLACING
        opening = opened_with(driver.placed(worker="w-2", epoch=2, pins=2))
        assert (opening.epoch, opening.restore, opening.attach) == (2, True, False)

    def test_while_it_connects(self, driver: CallDriver) -> None:
        driver.connecting()
        assert driver.lose_worker() == [LeaveChannel(driver.assignment), recover(2, WORKER)]

    def test_in_mid_call(self, driver: CallDriver) -> None:
        driver.live()
        driver.now += 60.0
        assert driver.lose_worker() == [LeaveChannel(driver.assignment), recover(2, WORKER)]
        driver.now += 0.25
        taken = driver.placed(worker="w-2", epoch=2, pins=2)
        assert reported(taken, Metric.REPIN) == []
        assert to_worker(taken) == [
            wire.Open(
                UUID,
                2,
                METADATA,
                0,
                wire.REPLY_CREDIT_BYTES,
                age_seconds=60.25,
                restore=True,
                collects=True,
            ),
            wire.Resume("worker_lost"),
        ]
        assert state_of(driver) is State.OPENING
        # Now it has been taken by another worker, and not before.
        assert reported(driver.record(wire.Opened(32_000)), Metric.REPIN) == [(1.0, "worker_lost")]
        assert state_of(driver) is State.CONNECTING
        driver.now += 0.5
        taken = driver.record(wire.Ready())
        assert reported(taken, Metric.REPIN) == []
        assert reported(taken, Metric.RECOVERY_SECONDS) == [(0.75, "worker_lost")]
        assert state_of(driver) is State.LIVE
        assert (
            driver.call.assignments.worker_id,
            driver.call.assignments.epoch,
            driver.call.assignments.pins,
        ) == ("w-2", 2, 2)

    def test_workers_that_refuse_it_have_not_taken_it(self, driver: CallDriver) -> None:
        driver.live()
        driver.lose_worker()
        for number in range(2, 5):
            driver.placed(worker=f"w-{number}", epoch=number, pins=number)
            assert reported(driver.record(wire.Refused("full")), Metric.REPIN) == []
        driver.placed(worker="w-9", epoch=9, pins=5)
        assert reported(driver.record(wire.Opened(32_000)), Metric.REPIN) == [(1.0, "worker_lost")]

    def test_a_lost_worker_without_the_call_has_no_effect(self, driver: CallDriver) -> None:
        driver.live()
        lost = driver.assignment
        driver.lose_worker()
        driver.placed(worker="w-2", epoch=2)
        driver.call.worker_lost(lost, driver.now)
        assert driver.take() == []
        assert state_of(driver) is State.OPENING

    def test_the_one_that_takes_over_is_lost_too(self, driver: CallDriver) -> None:
        driver.live()
        driver.lose_worker()
        driver.now += 1.0
        driver.placed(worker="w-2", epoch=2)
        assert driver.lose_worker() == [LeaveChannel(driver.assignment), recover(3, WORKER, "w-2")]
        driver.placed(worker="w-3", epoch=3)
        driver.record(wire.Opened(32_000))
        driver.now += 1.0
        # The caller has waited since the first was lost.
        assert reported(driver.record(wire.Ready()), Metric.RECOVERY_SECONDS) == [(2.0, "worker_lost")]
        # Who was lost then may be asked again later.
        assert driver.lose_worker()[-1] == recover(4, "w-3")

    def test_the_caller_hears_nothing_of_it_but_what_there_is(self, driver: CallDriver) -> None:
        pcm = sound(FRAME_BYTES + 100)
        driver.live().reply(0, pcm)
        taken = driver.lose_worker()
        # The last frame of a reply that breaks off is filled up with silence.
        assert heard_pcm(taken) == pcm[FRAME_BYTES:] + bytes(220)
        assert not of(CloseCaller, taken)
        assert not [message for message in to_caller(taken) if message["type"] != "audio"]

    def test_a_caller_who_hangs_up_meanwhile_ends_the_call(self, driver: CallDriver) -> None:
        driver.live()
        driver.lose_worker()
        driver.call.caller_closed(1000, driver.now)
        assert driver.take() == [Unpin(1), Ended(Ending.COMPLETED, "the caller's connection closed with 1000")]


class TestPlacingAgain:
    def test_a_worker_may_come_or_have_room_again(self) -> None:
        driver = CallDriver(recovery_seconds=30.0, place_again_seconds=0.2).live()
        driver.lose_worker()
        assert driver.call.wants(Purpose.RECOVER)
        driver.call.not_placed(1013, "no capacity", driver.now)
        assert driver.take() == []
        assert not driver.call.wants(Purpose.RECOVER)
        assert driver.tick(0.1) == []
        # Nobody is left out any more: who was out of reach may be back.
        assert driver.tick(0.1) == [recover(2)]
        assert driver.call.wants(Purpose.RECOVER)

    @pytest.mark.parametrize("code", [1011, 1013])
    def test_but_not_for_ever(self, code: int) -> None:
        driver = CallDriver(recovery_seconds=30.0).live()
        driver.lose_worker()
        driver.now += 30.0
        driver.call.not_placed(code, "nobody", driver.now)
        taken = driver.take()
        assert CloseCaller(code, "nobody") in taken
        assert taken[-1] == Ended(Ending.FAILED, "nobody")

    @pytest.mark.parametrize("asked", [False, True])
    def test_nor_does_it_wait_longer_for_one_that_says_nothing(self, asked: bool) -> None:
        driver = CallDriver(recovery_seconds=30.0).live()
        driver.lose_worker()
        if asked:
            driver.placed(worker="w-2", epoch=2)
        assert driver.tick(29.9) == []
        taken = driver.tick(0.1)
        message = "no worker took the call within 30 s"
        assert CloseCaller(1011, message) in taken
        assert taken[-1] == Ended(Ending.FAILED, message)

    def test_refusals_do_not_end_a_call_that_lost_its_session(self) -> None:
        driver = CallDriver(placing_attempts=2).live()
        driver.lose_worker()
        for number in range(2, 8):
            driver.placed(worker=f"w-{number}", epoch=number)
            taken = driver.record(wire.Refused("full"))
            assert isinstance(taken[-1], Place)
            assert taken[-1].purpose is Purpose.RECOVER
            assert f"w-{number}" in taken[-1].excluded

    def test_the_callers_audio_and_keys_wait_meanwhile(self, driver: CallDriver) -> None:
        driver.live()
        driver.lose_worker()
        assert driver.audio(FRAME) == []
        assert driver.say(type="dtmf_digit", digit="7") == [Measurement(Metric.DIGIT)]
        records = to_worker(driver.placed(worker="w-2", epoch=2))
        assert records[1:] == [wire.KeptAudio(0, g711.encode_ulaw(FRAME)), wire.Resume("worker_lost", digits="7")]
        # What comes from now on is given on credit again.
        assert driver.audio(FRAME) == []
        taken = driver.record(wire.Opened(320))
        assert to_worker(taken) == [wire.CallerAudio(160, FRAME)]
        assert to_worker(driver.say(type="dtmf_digit", digit="8")) == [wire.Dtmf("8")]


class TestMemory:
    def test_text_of_a_reply_that_nobody_named_is_ignored(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.ReplyItem(0, "item_0"))
        assert driver.raw_record(Kind.REPLY_TEXT, _reply_text(2**32 - 1, 2**32 - 1, "Hello.")) == []
        driver.raw_record(Kind.REPLY_TEXT, _reply_text(0, 8000, "Good day."))
        driver.lose_worker()
        opening, spoken, _ = to_worker(driver.placed(worker="w-2", epoch=2))
        assert isinstance(opening, wire.Open)
        assert opening.first_index == 1
        assert spoken == wire.PendingReplies((wire.Reply(0, "item_0", "Good day.", 8000),))

    def test_the_next_worker_is_given_all_of_it(self, driver: CallDriver) -> None:
        driver.live(credit_bytes=10**6)
        profile = wire.Profile({"model": "m"}, {"api_key": "secret"})
        hello = wire.ItemUpdate("item_0", "", item={"text": "Hello."})
        for record in (profile, hello, wire.ReplyItem(3, "item_1")):
            driver.record(record)
        driver.raw_record(Kind.REPLY_TEXT, _reply_text(3, 8000, "How are"))
        driver.reply(3, sound(8000))
        driver.audio(FRAME)
        driver.say(type="dtmf_digit", digit="1")
        driver.say(type="dtmf_digit", digit="2")
        driver.record(wire.Keyed(1))
        driver.record(wire.Finished(0, speaking=True))
        driver.tick(0.25)
        driver.lose_worker()
        opening, *records = to_worker(driver.placed(worker="w-2", epoch=2))
        assert isinstance(opening, wire.Open)
        # New replies are numbered behind the one that the playout clock knows.
        assert opening.first_index == 4
        assert records == [
            profile,
            hello,
            wire.PendingReplies((wire.Reply(3, "item_1", "How are", 8000, 4000, False, 2000, False),)),
            wire.KeptAudio(0, g711.encode_ulaw(FRAME)),
            wire.Resume("worker_lost", digits="2", speaking=True, first_index=4),
        ]

    def test_what_was_cut_is_known_to_be(self, driver: CallDriver) -> None:
        driver.live().record(wire.ReplyItem(0, "item"))
        driver.reply(0, sound(8000))
        driver.now += 0.125
        driver.record(wire.Flush(1))
        driver.lose_worker()
        (spoken,) = [
            record for record in to_worker(driver.placed(epoch=2)) if isinstance(record, wire.PendingReplies)
        ]
        assert spoken.replies == (wire.Reply(0, "item", "", 0, 4000, False, 1000, True),)

    def test_keys_that_are_part_of_the_conversation_are_not_kept(self, driver: CallDriver) -> None:
        driver.live()
        for digit in "12345":
            driver.say(type="dtmf_digit", digit=digit)
        driver.record(wire.Keyed(3))
        driver.record(wire.Keyed(1))
        driver.lose_worker()
        assert to_worker(driver.placed(epoch=2))[-1] == wire.Resume("worker_lost", digits="5")
        driver.record(wire.Opened(32_000))
        # They came with GO, and not once more.
        assert to_worker(driver.record(wire.Ready())) == []
        driver.record(wire.Keyed(1))
        driver.lose_worker()
        assert to_worker(driver.placed(epoch=3))[-1] == wire.Resume("worker_lost")

    def test_what_is_finished_is_not_given(self, driver: CallDriver) -> None:
        driver.live(credit_bytes=10**6)
        for _ in range(10):
            driver.audio(FRAME)
        driver.record(wire.Finished(1000))
        driver.lose_worker()
        (kept,) = [record for record in to_worker(driver.placed(epoch=2)) if isinstance(record, wire.KeptAudio)]
        assert (kept.position_samples, len(kept.ulaw)) == (1000, 600)

    def test_a_transcript_repeated_by_the_next_worker_is_sent_once(self, driver: CallDriver) -> None:
        driver.live().record(wire.Transcript("item", "user", "Hello."))
        driver.lose_worker()
        driver.placed(epoch=2)
        assert driver.record(wire.Transcript("item", "user", "Hello.")) == []
        assert to_caller(driver.record(wire.Transcript("item_2", "user", "Hello?"))) != []

    def test_the_greeting_is_measured_once(self, driver: CallDriver) -> None:
        driver.live().reply(0, FRAME)
        driver.lose_worker()
        driver.placed(epoch=2)
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        assert reported(driver.reply(1, FRAME), Metric.GREETING_SECONDS) == []

    def test_held_audio_counts_against_the_next_workers_credit(self, driver: CallDriver) -> None:
        driver.live()
        driver.pause()
        driver.reply(0, sound(10_000))
        driver.lose_worker()
        opening = opened_with(driver.placed(epoch=2))
        assert opening.credit_bytes == wire.REPLY_CREDIT_BYTES - 10_000
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        driver.reply(1, bytes(wire.REPLY_CREDIT_BYTES - 10_000))
        with pytest.raises(LinkProtocolError, match="2 bytes of reply audio more"):
            driver.reply(1, bytes(2))
        # When it has taken it, all the credit is back.
        taken = driver.resume()
        assert (
            sum(r.credit_bytes for r in to_worker(taken) if isinstance(r, wire.Credit)) == wire.REPLY_CREDIT_BYTES
        )


class TestOrders:
    def test_a_command_is_executed_after_its_worker_is_lost(self, driver: CallDriver) -> None:
        driver.live().reply(0, sound(16_000))
        driver.record(HANG_UP)
        driver.lose_worker()
        assert not of(Execute, driver.tick(0.9))
        assert of(Execute, driver.tick(0.4)) == [Execute(HANG_UP)]
        driver.call.executed(HANG_UP, True, "gone", driver.now)
        assert to_worker(driver.take()) == []
        assert state_of(driver) is State.PLACING

    def test_the_next_worker_knows_it_and_hears_what_came_of_it(self, driver: CallDriver) -> None:
        transfer = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600")
        driver.live().record(transfer)
        driver.record(wire.TelephonyCommand("call_3", wire.TelephonyAction.TRANSFER.value, "700"))
        driver.tick(0.2)
        driver.lose_worker()
        driver.call.executed(transfer, False, "no such extension", driver.now)
        driver.take()
        records = to_worker(driver.placed(epoch=2))
        assert records[-2:] == [
            wire.Resume("worker_lost", known_commands=("call_2", "call_3")),
            wire.TelephonyDone("call_2", False, "no such extension"),
        ]

    def test_one_that_the_next_worker_repeats_is_carried_out_once(self, driver: CallDriver) -> None:
        transfer = wire.TelephonyCommand("call_2", wire.TelephonyAction.TRANSFER.value, "600")
        driver.live().record(transfer)
        assert of(Execute, driver.tick(0.2)) == [Execute(transfer)]
        driver.call.executed(transfer, True, "done", driver.now)
        driver.lose_worker()
        driver.placed(epoch=2)
        driver.record(transfer)
        assert not of(Execute, driver.tick(1.0))

    def test_a_tool_that_is_about_to_run_is_known_before_it_does(self, driver: CallDriver) -> None:
        taken = driver.live().record(wire.Tool("call_7"))
        assert to_worker(taken) == [wire.ToolKnown("call_7")]


class TestASessionIsDropped:
    def test_the_same_worker_has_the_next_one_at_once(self, driver: CallDriver) -> None:
        driver.live()
        driver.now += 60.0
        taken = driver.record(wire.Released("dropped", "the connection was lost"))
        assert taken == [recover(2, same_worker=WORKER)]
        old = driver.assignment
        taken = driver.placed(epoch=2)
        opening = opened_with(taken)
        assert (opening.restore, opening.delay_seconds, opening.waited_seconds) == (True, 0.0, 0.0)
        assert to_worker(taken)[-1] == wire.Resume("dropped")
        # It is no new pin.
        assert reported(driver.record(wire.Opened(32_000)), Metric.REPIN) == []
        driver.now += 1.0
        taken = driver.record(wire.Ready())
        assert reported(taken, Metric.RECOVERY_SECONDS) == [(1.0, "dropped")]
        # Until now its worker has kept what the old one knew.
        close = wire.Close("another session has the call")
        assert taken[:2] == [ToWorker(old, close), LeaveChannel(old)]

    @pytest.mark.parametrize("how", ["broke", "lost"])
    def test_the_old_one_is_left_when_its_link_is_gone(self, driver: CallDriver, how: str) -> None:
        driver.live().record(wire.Released("dropped", "the connection was lost"))
        old = driver.assignment
        driver.placed(epoch=2)
        if how == "broke":
            driver.call.link_broke(old)
        else:
            driver.call.worker_lost(old, driver.now)
        assert driver.take() == [LeaveChannel(old)]
        driver.record(wire.Opened(32_000))
        assert driver.record(wire.Ready(), assignment=old) == []
        assert [
            action for action in driver.record(wire.Ready()) if getattr(action, "assignment", None) is old
        ] == []

    def test_a_call_that_ends_closes_the_old_one_too(self, driver: CallDriver) -> None:
        driver.live().record(wire.Released("dropped", "the connection was lost"))
        old = driver.assignment
        driver.placed(epoch=2)
        driver.call.caller_closed(1000, driver.now)
        assert [action.assignment for action in driver.take() if isinstance(action, LeaveChannel)] == [
            driver.assignment,
            old,
        ]

    def test_one_that_was_not_ready_keeps_nothing(self, driver: CallDriver) -> None:
        driver.live().record(wire.Released("dropped", "the connection was lost"))
        driver.placed(epoch=2)
        driver.record(wire.Opened(32_000))
        second = driver.assignment
        taken = driver.record(wire.Released("dropped", "again"))
        close = wire.Close("another session gets the call")
        assert taken[:2] == [ToWorker(second, close), LeaveChannel(second)]

    def drop(self, driver: CallDriver, after_seconds: float) -> wire.Open:
        """Lose a session this long after READY; return the OPEN of the next one."""
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        driver.tick(after_seconds)
        driver.record(wire.Released("dropped", "the connection was lost"))
        return opened_with(driver.placed(epoch=driver.call.assignments.epoch + 1))

    def test_short_sessions_are_reopened_with_growing_delays(self) -> None:
        driver = CallDriver(unstable_seconds=10.0).opening()
        delays = [self.drop(driver, 1.0) for _ in range(8)]
        assert [opening.delay_seconds for opening in delays] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
        # The call has been without one that lasts since the first was lost.
        assert [opening.waited_seconds for opening in delays] == [float(number) for number in range(8)]

    def test_one_that_lasts_is_the_end_of_that(self) -> None:
        driver = CallDriver(unstable_seconds=10.0).opening()
        for _ in range(3):
            self.drop(driver, 1.0)
        opening = self.drop(driver, 10.0)
        assert (opening.delay_seconds, opening.waited_seconds) == (0.0, 0.0)
        assert self.drop(driver, 1.0).delay_seconds == 0.25

    def test_one_that_was_never_there_did_not_last(self) -> None:
        driver = CallDriver(unstable_seconds=10.0).live()
        driver.tick(20.0)
        delays = []
        for epoch in range(2, 6):
            driver.record(wire.Released("dropped", "session_expired"))
            delays.append(opened_with(driver.placed(epoch=epoch)).delay_seconds)
            driver.record(wire.Opened(32_000))
            driver.audio(FRAME)
            driver.tick(11.0)
        assert delays == [0.0, 0.25, 0.5, 1.0]

    def test_a_reason_of_a_newer_release_is_a_reason(self, driver: CallDriver) -> None:
        driver.live()
        taken = driver.record(wire.Released("a reason of a newer release", "why"))
        assert taken[-1] == recover(2, WORKER)
        driver.placed(worker="w-2", epoch=2)
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        assert state_of(driver) is State.LIVE


class TestALinkBreaks:
    def test_the_worker_does_not_know_the_call_any_more(self, driver: CallDriver) -> None:
        driver.live()
        taken = driver.record(wire.Refused(wire.Refusal.UNKNOWN))
        # It lives, so it may have it again.
        assert taken == [LeaveChannel(driver.assignment), recover(2)]

    def test_of_a_standby_neither(self, driver: CallDriver) -> None:
        driver.live().record(wire.Move("drain", 20.0))
        driver.placed(worker="w-2", epoch=2)
        driver.record(wire.Opened(32_000))
        assert driver.record(wire.Refused(wire.Refusal.UNKNOWN)) == [LeaveChannel(driver.assignment)]
        assert state_of(driver) is State.LIVE


class TestACallOfADispatcherThatDied:
    """The caller has come back to this one; the worker has its session, and tells of it."""

    def attached(self, driver: CallDriver, position_samples: int = 80_000) -> CallDriver:
        driver.init()
        driver.placed(epoch=5, pins=1, attach=True)
        driver.record(wire.Opened(32_000, attached=True, position_samples=position_samples))
        return driver

    def test_it_is_asked_to_go_on(self, driver: CallDriver) -> None:
        driver.init()
        taken = driver.placed(epoch=5, pins=1, attach=True)
        assert to_worker(taken) == [
            wire.Open(UUID, 5, METADATA, 0, wire.REPLY_CREDIT_BYTES, attach=True, collects=True)
        ]
        driver.record(wire.Opened(32_000, attached=True, position_samples=80_000))
        driver.record(wire.Ready())
        assert state_of(driver) is State.LIVE

    def test_audio_goes_on_where_the_worker_is(self, driver: CallDriver) -> None:
        driver.init()
        driver.audio(FRAME)
        driver.placed(epoch=5, pins=1, attach=True)
        driver.audio(FRAME)
        taken = driver.record(wire.Opened(32_000, attached=True, position_samples=80_000))
        assert to_worker(taken) == [wire.CallerAudio(80_000, FRAME), wire.CallerAudio(80_160, FRAME)]
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(80_320, FRAME)]

    def test_so_it_does_where_the_worker_had_it_and_nobody_knew(self, driver: CallDriver) -> None:
        driver.opening()
        driver.audio(FRAME)
        taken = driver.record(wire.Opened(32_000, attached=True, position_samples=80_000))
        assert to_worker(taken) == [wire.CallerAudio(80_000, FRAME)]

    def test_the_age_that_redis_knows_counts_on(self, driver: CallDriver) -> None:
        driver.init()
        opening = opened_with(driver.placed(epoch=5, attach=True, age_seconds=3000.0))
        assert opening.age_seconds == pytest.approx(3000.0)
        driver.record(wire.Opened(32_000, attached=True, position_samples=80_000))
        driver.now += 300.0
        driver.lose_worker()
        # Redis may have lost the call meanwhile, and then knows only the last pin.
        opening = opened_with(driver.placed(worker="w-2", epoch=6, pins=2, age_seconds=1.0))
        assert opening.age_seconds == pytest.approx(3300.0)

    def test_the_age_is_at_least_the_audio_of_the_call(self, driver: CallDriver) -> None:
        """Redis is away, and the worker knows how much audio the caller has sent."""
        self.attached(driver, position_samples=3000 * 8000)
        driver.now += 300.0
        driver.lose_worker()
        opening = opened_with(driver.placed(worker="w-2", epoch=6, pins=2))
        assert opening.age_seconds == pytest.approx(3300.0)

    def test_an_age_does_not_shorten_the_time_for_placing(self, driver: CallDriver) -> None:
        driver.init()
        driver.placed(age_seconds=3000.0)
        assert not of(Ended, driver.tick(0.2))

    def test_what_it_remembers_is_kept(self, driver: CallDriver) -> None:
        self.attached(driver)
        profile = wire.Profile({"model": "m"}, {"api_key": "secret"})
        hello = wire.ItemUpdate("item_0", item={"text": "Hello."})
        codes = g711.encode_ulaw(FRAME)
        driver.record(profile)
        driver.record(hello)
        driver.record(wire.Finished(79_000))
        driver.raw_record(Kind.KEPT_AUDIO, (79_840).to_bytes(8, "big") + codes)
        driver.record(wire.PendingReplies((wire.Reply(3, "item_1", "How", 8000, 4000, True),)))
        driver.record(wire.Ready())
        driver.lose_worker()
        opening, *records = to_worker(driver.placed(worker="w-2", epoch=6, pins=2))
        assert isinstance(opening, wire.Open)
        assert opening.first_index == 4
        assert records == [
            profile,
            hello,
            wire.PendingReplies((wire.Reply(3, "item_1", "How", 8000, 4000, True),)),
            wire.KeptAudio(79_840, codes),
            wire.Resume("worker_lost", first_index=4),
        ]

    def gone_on(self, driver: CallDriver, epoch: int = 6) -> wire.Resume:
        """Lose the worker; return the RESUME of the next session."""
        driver.lose_worker()
        records = to_worker(driver.placed(worker=f"w-{epoch}", epoch=epoch, pins=2))
        (go,) = [record for record in records if isinstance(record, wire.Resume)]
        return go

    def test_words_that_began_before_it_was_here_are_told_to_be_lost(self, driver: CallDriver) -> None:
        self.attached(driver)
        driver.record(wire.Finished(40_000, speaking=True))
        driver.record(wire.Ready())
        driver.audio(FRAME)
        # That session never comes up: the one behind it is told, too.
        assert self.gone_on(driver).words_lost
        driver.record(wire.Opened(32_000))
        assert self.gone_on(driver, epoch=7).words_lost
        driver.record(wire.Opened(32_000))
        driver.record(wire.Finished(40_000, speaking=True))
        driver.record(wire.Ready())
        assert not self.gone_on(driver, epoch=8).words_lost

    def test_words_that_were_understood_are_not(self, driver: CallDriver) -> None:
        self.attached(driver)
        driver.record(wire.Finished(40_000, speaking=True))
        driver.record(wire.Ready())
        driver.record(wire.Finished(40_000, speaking=False))
        driver.record(wire.Finished(40_000, speaking=True))
        assert not self.gone_on(driver).words_lost

    def test_words_that_began_later_are_not(self, driver: CallDriver) -> None:
        self.attached(driver)
        driver.record(wire.Finished(79_000, speaking=False))
        driver.record(wire.Ready())
        driver.record(wire.Finished(79_000, speaking=True))
        assert not self.gone_on(driver).words_lost

    def test_words_that_the_worker_has_kept_are_not(self, driver: CallDriver) -> None:
        self.attached(driver)
        driver.record(wire.Finished(40_000, speaking=True))
        driver.raw_record(Kind.KEPT_AUDIO, (40_000).to_bytes(8, "big") + g711.encode_ulaw(FRAME))
        assert not self.gone_on(driver).words_lost

    def test_the_playout_goes_on_where_it_was(self, driver: CallDriver) -> None:
        self.attached(driver)
        driver.record(wire.PendingReplies((wire.Reply(3, "item_1", "How are you?", 16_000, 8_000),)))
        driver.record(wire.Playout((ItemHeard(3, 2000),), False, (ItemHeard(3, 4000),), age_seconds=0.125))
        driver.record(wire.Ready())
        # The rest of the reply comes again, behind what AVR Core has.
        driver.reply(3, sound(8_000))
        assert to_worker(driver.tick(0.125)) == [wire.Playout((ItemHeard(3, 4000),), False, (ItemHeard(3, 8000),))]
        taken = driver.record(wire.Flush(1))
        assert to_caller(taken) == [{"type": "interruption"}]
        assert to_worker(taken) == [wire.Heard(1, (ItemHeard(3, 4000),))]

    def test_a_greeting_that_was_heard_before_is_not_measured(self, driver: CallDriver) -> None:
        self.attached(driver).record(wire.Ready())
        assert reported(driver.reply(0, FRAME), Metric.GREETING_SECONDS) == []

    def test_the_worker_has_no_session_of_it(self, driver: CallDriver) -> None:
        driver.init()
        driver.placed(epoch=5, pins=1, attach=True)
        taken = driver.record(wire.Refused(wire.Refusal.UNKNOWN))
        assert taken == [LeaveChannel(driver.assignment), recover(6)]
        opening = opened_with(driver.placed(epoch=6, pins=2))
        assert (opening.restore, opening.attach) == (True, False)

    def test_its_worker_is_gone_too_and_redis_remembers(self, driver: CallDriver) -> None:
        driver.init()
        memory = CallMemory.from_stored({"order": '["item_0"]', "item:item_0": '{"text":"Hello."}'})
        assert memory is not None
        driver.call.restored(memory, driver.now)
        assert driver.call.wants(Purpose.BEGIN)
        records = to_worker(driver.placed(worker="w-2", epoch=6, pins=2))
        item = wire.ItemUpdate("item_0", item={"text": "Hello."})
        assert records[1:] == [item, wire.Resume("worker_lost", recalled=True)]
        # A session has it all now, and says what becomes of it.
        driver.record(wire.Opened(wire.CALLER_CREDIT_BYTES))
        driver.record(wire.Ready())
        driver.call.worker_lost(driver.assignment, driver.now)
        assert to_worker(driver.placed(worker="w-1", epoch=7, pins=3))[-1] == wire.Resume("worker_lost")


class TestACallerWhoComesBack:
    def away(self, driver: CallDriver) -> CallDriver:
        driver.live()
        driver.call.caller_closed(1006, driver.now)
        assert driver.take() == []
        assert driver.call.is_away
        return driver

    def test_the_call_goes_on_without_its_caller(self, driver: CallDriver) -> None:
        self.away(driver)
        assert state_of(driver) is State.LIVE
        assert driver.call.paused
        # What the agent says waits, and so does its credit.
        driver.record(wire.ReplyItem(0, "item"))
        assert not to_caller(driver.reply(0, sound(16_000)))
        assert driver.record(wire.Transcript("item", "agent", "Are you there?")) == []
        assert not of(Measurement, driver.tick(5.0))
        driver.call.caller_back(driver.now)
        taken = driver.take()
        assert to_caller(taken)[0] == {"type": "transcript", "role": "agent", "text": "Are you there?"}
        assert heard_pcm(taken) == sound(16_000)
        assert not driver.call.is_away
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(0, FRAME)]

    def test_it_does_not_wait_for_ever(self) -> None:
        driver = self.away(CallDriver(reconnect_seconds=10.0))
        assert driver.tick(9.9) == []
        taken = driver.tick(0.1)
        reason = "the caller's connection closed with 1006, and it did not come back within 10 s"
        assert to_worker(taken) == [wire.Close(reason)]
        assert taken[-1] == Ended(Ending.FAILED, reason)

    def test_nor_is_it_taken_for_one_that_is_silent_or_does_not_read(self) -> None:
        driver = CallDriver(reconnect_seconds=50.0, silence_seconds=20.0, stuck_seconds=5.0).live()
        driver.pause()
        driver.call.caller_closed(1006, driver.now)
        assert driver.tick(40.0) == []
        driver.call.caller_back(driver.now)
        driver.take()
        assert driver.tick(19.9) == []

    def test_its_audio_may_come_in_a_burst_again(self) -> None:
        driver = CallDriver(burst_seconds=2.0).live(credit_bytes=10**9)
        for _ in range(90):
            driver.audio(FRAME)
        driver.call.caller_closed(1006, driver.now)
        driver.call.caller_back(driver.now)
        for _ in range(90):
            driver.audio(FRAME)
        assert state_of(driver) is State.LIVE

    def test_the_playout_stands_still_meanwhile(self, driver: CallDriver) -> None:
        self.away(driver)
        driver.reply(0, sound(16_000))
        driver.tick(1.0)
        driver.call.caller_back(driver.now)
        driver.take()
        (playout,) = to_worker(driver.tick(0.25))
        assert playout == wire.Playout((ItemHeard(0, 2000),), False, (ItemHeard(0, 8000),))

    def test_it_plays_on_what_is_interrupted_until_it_is_back(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.ReplyItem(0, "item"))
        driver.reply(0, sound(16_000))
        driver.call.caller_closed(1006, driver.now)
        assert driver.take() == []
        driver.now += 0.25
        assert driver.record(wire.Flush(1)) == []
        # What is said next waits behind it.
        driver.record(wire.ReplyItem(1, "next"))
        assert driver.reply(1, sound(3200, seed=1)) == []
        driver.now += 0.25
        driver.call.caller_back(driver.now)
        taken = driver.take()
        assert to_worker(taken) == [wire.Heard(1, (ItemHeard(0, 4000),))]
        assert of(Interrupt, taken) == [Interrupt()]
        assert heard_pcm(taken[taken.index(Interrupt()) :]) == sound(3200, seed=1)
        (spoken,) = [record for record in driver.call.memory.records() if isinstance(record, wire.PendingReplies)]
        assert [(reply.heard_samples, reply.truncated) for reply in spoken.replies] == [(4000, True), (0, False)]

    def test_and_is_told_of_it_whoever_has_the_call_then(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.ReplyItem(0, "item"))
        driver.reply(0, sound(16_000))
        driver.call.caller_closed(1006, driver.now)
        driver.now += 0.25
        driver.record(wire.Flush(1))
        driver.lose_worker()
        records = to_worker(driver.placed(worker="w-2", epoch=2))
        (spoken,) = [record for record in records if isinstance(record, wire.PendingReplies)]
        assert [(reply.heard_samples, reply.truncated) for reply in spoken.replies] == [(2000, True)]
        driver.call.caller_back(driver.now)
        assert of(Interrupt, driver.take()) == [Interrupt()]

    def test_what_it_is_to_be_told_is_bounded(self, driver: CallDriver) -> None:
        self.away(driver)
        for number in range(200):
            driver.record(wire.Transcript(f"item_{number}", "agent", str(number)))
        driver.call.caller_back(driver.now)
        told = [message["text"] for message in to_caller(driver.take())]
        assert told == [str(number) for number in range(200 - len(told), 200)]
        assert 0 < len(told) < 200

    def test_its_worker_may_be_lost_meanwhile(self, driver: CallDriver) -> None:
        self.away(driver)
        taken = driver.lose_worker()
        assert taken[-1] == recover(2, WORKER)
        driver.placed(worker="w-2", epoch=2)
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        driver.call.caller_back(driver.now)
        assert state_of(driver) is State.LIVE
        assert driver.take() == []

    def test_before_init_there_is_nothing_to_come_back_to(self, driver: CallDriver) -> None:
        driver.call.caller_closed(1006, driver.now)
        assert [type(action) for action in driver.take()] == [Ended]

    def test_an_end_meanwhile_is_an_end(self, driver: CallDriver) -> None:
        self.away(driver)
        taken = driver.record(wire.Ended("completed"))
        assert taken[-1] == Ended(Ending.COMPLETED, "")


class TestRedisRemembersAnotherHolder:
    def test_from_before_it_was_away(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.assignments.outrank(6)
        assert driver.call.assignments.held_epoch == 7
        # The worker has it at its own epoch still; the next is higher than both.
        assert driver.assignment.epoch == 1
        assert of(Place, driver.lose_worker()) == [recover(8, WORKER)]
        assert driver.call.assignments.held_epoch == 7
        driver.placed(worker="w-2", epoch=8)
        assert driver.call.assignments.held_epoch == 8


def _reply_text(index: int, received_samples: int, text: str) -> bytes:
    ((_, _, payload),) = wire.decode(wire.encode_reply_text(1, index, received_samples, text))
    return bytes(payload)
