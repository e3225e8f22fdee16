"""A call's audio in the dispatcher, both ways: credit, bounds, frames, barge-in and heard parts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import LinkProtocolError
from common.link import wire
from common.link.wire import ItemHeard, Kind
from dispatcher.call.actions import SPOKE_FIRST, CloseCaller, Interrupt, Measurement, Metric, ToWorker
from dispatcher.call.playback.reply_playback import MAX_TRANSCRIPTS_KNOWN
from tests.dispatcher.call_driver import (
    FRAME_BYTES,
    METADATA,
    UUID,
    CallDriver,
    heard_pcm,
    sound,
    to_caller,
    to_worker,
)

FRAME = sound(FRAME_BYTES)


class TestCallerAudio:
    def test_it_goes_to_the_worker_with_its_position(self, driver: CallDriver) -> None:
        driver.live()
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(0, FRAME)]
        assert to_worker(driver.audio(FRAME[:100])) == [wire.CallerAudio(160, FRAME[:100])]
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(210, FRAME)]

    def test_it_waits_for_a_worker_and_then_for_credit(self, driver: CallDriver) -> None:
        driver.init()
        assert driver.audio(FRAME) == []
        assert to_worker(driver.placed()) == [
            wire.Open(UUID, 1, METADATA, 0, wire.REPLY_CREDIT_BYTES, collects=True)
        ]
        assert driver.audio(FRAME) == []
        assert to_worker(driver.record(wire.Opened(320))) == [wire.CallerAudio(0, FRAME)]
        assert driver.audio(FRAME) == []
        assert to_worker(driver.credit(640)) == [wire.CallerAudio(160, FRAME), wire.CallerAudio(320, FRAME)]
        assert driver.audio(FRAME) == []

    def test_it_does_not_overtake_what_waits(self, driver: CallDriver) -> None:
        driver.live(credit_bytes=320)
        first, second, third = (sound(FRAME_BYTES, seed=seed) for seed in (1, 2, 3))
        driver.audio(first)
        driver.audio(second)
        # A piece goes as a whole, or not yet.
        assert to_worker(driver.credit(100)) == []
        assert driver.audio(third) == []
        assert to_worker(driver.credit(220)) == [wire.CallerAudio(160, second)]
        assert to_worker(driver.credit(1000)) == [wire.CallerAudio(320, third)]

    def test_a_message_longer_than_the_window_goes_in_pieces(self, driver: CallDriver) -> None:
        long = sound(48_000)
        driver.live(credit_bytes=32_000)
        pieces = [wire.CallerAudio(start // 2, long[start : start + 8_000]) for start in range(0, 48_000, 8_000)]
        assert to_worker(driver.audio(long)) == pieces[:4]
        assert to_worker(driver.credit(8_000)) == pieces[4:5]
        assert to_worker(driver.credit(32_000)) == pieces[5:]
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(24_000, FRAME)]

    def test_credit_for_less_than_a_piece_waits_for_the_rest(self, driver: CallDriver) -> None:
        driver.live(credit_bytes=319)
        assert driver.audio(FRAME) == []
        assert to_worker(driver.credit(1)) == [wire.CallerAudio(0, FRAME)]
        assert driver.audio(FRAME) == []

    def test_waiting_audio_is_bounded_and_drops_the_oldest(self) -> None:
        driver = CallDriver(waiting_bytes=3 * FRAME_BYTES)
        driver.init()
        frames = [sound(FRAME_BYTES, seed=seed) for seed in range(5)]
        for frame in frames[:3]:
            assert driver.audio(frame) == []
        dropped = [Measurement(Metric.CALLER_AUDIO_DROPPED_SECONDS, 0.02)]
        assert driver.audio(frames[3]) == dropped
        assert driver.audio(frames[4]) == dropped
        # The worker is told where in the call the audio that is left begins.
        assert to_worker(driver.placed()) == [
            wire.Open(UUID, 1, METADATA, 320, wire.REPLY_CREDIT_BYTES, collects=True)
        ]
        assert to_worker(driver.record(wire.Opened(32_000))) == [
            wire.CallerAudio(320, frames[2]),
            wire.CallerAudio(480, frames[3]),
            wire.CallerAudio(640, frames[4]),
        ]

    def test_thirty_seconds_wait_by_default(self) -> None:
        driver = CallDriver(placing_seconds=60.0)
        driver.init()
        taken = []
        for _ in range(35 * 50):
            taken += driver.audio(FRAME)
            driver.now += 0.02
        dropped = [action.value for action in taken if isinstance(action, Measurement)]
        assert sum(dropped) == pytest.approx(5.0)
        driver.placed()
        kept = to_worker(driver.record(wire.Opened(10**6)))
        assert sum(len(record.pcm) for record in kept if isinstance(record, wire.CallerAudio)) == 480_000

    def test_an_empty_message_is_no_audio(self, driver: CallDriver) -> None:
        driver.live()
        assert driver.audio(b"") == []
        assert to_worker(driver.audio(FRAME)) == [wire.CallerAudio(0, FRAME)]

    def test_positions_go_on_over_a_refusal(self, driver: CallDriver) -> None:
        driver.opening()
        driver.audio(FRAME)
        driver.record(wire.Refused("full"))
        driver.audio(FRAME)
        assert to_worker(driver.placed(epoch=2, pins=2)) == [
            wire.Open(UUID, 2, METADATA, 0, wire.REPLY_CREDIT_BYTES, collects=True)
        ]
        assert to_worker(driver.record(wire.Opened(320))) == [wire.CallerAudio(0, FRAME)]
        assert to_worker(driver.credit(320)) == [wire.CallerAudio(160, FRAME)]


class TestReplies:
    def test_they_are_cut_into_frames(self, driver: CallDriver) -> None:
        pcm = sound(2 * FRAME_BYTES + 100)
        taken = driver.live().reply(1, pcm)
        assert [message["pcm"] for message in to_caller(taken)] == [pcm[:320], pcm[320:640]]

    def test_the_rest_of_a_frame_waits_for_more(self, driver: CallDriver) -> None:
        pcm = sound(1000)
        driver.live()
        taken = [driver.reply(1, pcm[start : start + 100]) for start in range(0, 1000, 100)]
        assert [len(to_caller(part)) for part in taken] == [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]
        assert b"".join(heard_pcm(part) for part in taken) == pcm[:960]

    def test_the_last_frame_of_an_item_is_padded_with_silence(self, driver: CallDriver) -> None:
        driver.live()
        driver.reply(1, FRAME + FRAME[:100])
        taken = driver.record(wire.ReplyItemDone(1))
        assert to_caller(taken) == [{"type": "audio", "pcm": FRAME[:100] + bytes(220)}]
        assert driver.record(wire.ReplyItemDone(1)) == []

    def test_an_item_that_ends_with_a_frame_is_not_padded(self, driver: CallDriver) -> None:
        driver.live().reply(1, FRAME)
        assert driver.record(wire.ReplyItemDone(1)) == []

    def test_the_next_item_pads_the_one_before(self, driver: CallDriver) -> None:
        driver.live().reply(1, FRAME[:100])
        assert heard_pcm(driver.reply(2, FRAME)) == FRAME[:100] + bytes(220) + FRAME

    def test_the_end_of_another_item_pads_nothing(self, driver: CallDriver) -> None:
        driver.live().reply(2, FRAME[:100])
        assert driver.record(wire.ReplyItemDone(1)) == []
        assert heard_pcm(driver.reply(2, FRAME[100:])) == FRAME

    def test_the_greeting_is_measured_from_init_to_the_first_frame(self, driver: CallDriver) -> None:
        driver.live()
        driver.now += 1.5
        assert driver.reply(1, FRAME[:100]) == []
        taken = driver.reply(1, FRAME)
        assert [action for action in taken if isinstance(action, Measurement)] == [
            Measurement(Metric.GREETING_SECONDS, 1.5)
        ]
        assert not [action for action in driver.reply(1, FRAME) if isinstance(action, Measurement)]

    def test_a_caller_who_speaks_first_waits_for_no_greeting(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.Finished(0, speaking=True))
        driver.record(wire.Finished(0))
        driver.now += 4.0
        (measured,) = [each for each in driver.reply(1, FRAME) if isinstance(each, Measurement)]
        assert measured == Measurement(Metric.GREETING_SECONDS, 4.0, SPOKE_FIRST)

    def test_a_caller_who_speaks_into_the_greeting_has_waited_for_it(self, driver: CallDriver) -> None:
        driver.live()
        driver.record(wire.Finished(0))
        driver.now += 1.5
        taken = driver.reply(1, FRAME)
        driver.record(wire.Finished(0, speaking=True))
        taken += driver.reply(1, FRAME)
        assert [each for each in taken if isinstance(each, Measurement)] == [
            Measurement(Metric.GREETING_SECONDS, 1.5)
        ]

    def test_credit_comes_back_in_steps(self, driver: CallDriver) -> None:
        driver.live()
        given = []
        for pcm in (sound(wire.CREDIT_STEP_BYTES - FRAME_BYTES), FRAME, FRAME):
            records = to_worker(driver.reply(1, pcm))
            given.append([record for record in records if isinstance(record, wire.Credit)])
        assert given == [[], [wire.Credit(wire.CREDIT_STEP_BYTES)], []]

    def test_the_worker_hears_often_what_was_handed_over(self, driver: CallDriver) -> None:
        """What it does not know of, it would send again to a dispatcher that takes over."""
        driver.live()
        reports = []
        for _ in range(20):
            records = to_worker(driver.reply(1, bytes(800)))
            reports += [record.queued for record in records if isinstance(record, wire.Playout)]
        assert reports == [(ItemHeard(1, 160 * (samples // 160)),) for samples in range(2000, 8001, 2000)]

    def test_all_credit_comes_back_in_the_end(self, driver: CallDriver) -> None:
        driver.live()
        returned = sent = 0
        for size in [1000, 7_000, 2, 40_000, 16_000, 9_998] * 3:
            taken = driver.reply(1, bytes(size))
            sent += size
            returned += sum(record.credit_bytes for record in to_worker(taken) if isinstance(record, wire.Credit))
        assert 0 <= sent - returned < wire.CREDIT_STEP_BYTES

    def test_more_than_there_was_credit_for_is_refused(self, driver: CallDriver) -> None:
        driver.live()
        driver.pause()
        driver.reply(1, bytes(wire.REPLY_CREDIT_BYTES))
        with pytest.raises(LinkProtocolError, match="2 bytes of reply audio more"):
            driver.reply(1, bytes(2))

    @pytest.mark.parametrize("payload", [b"", b"\0\0\0", b"\0\0\0\1a"])
    def test_broken_audio_is_refused(self, payload: bytes, driver: CallDriver) -> None:
        driver.live()
        with pytest.raises(LinkProtocolError):
            driver.raw_record(Kind.REPLY_AUDIO, payload)

    def test_after_the_end_what_was_under_way_is_not_looked_at(self, driver: CallDriver) -> None:
        driver.live()
        driver.call.caller_closed(1000, driver.now)
        driver.take()
        assert driver.raw_record(Kind.REPLY_AUDIO, b"broken") == []

    @settings(max_examples=50)
    @given(st.lists(st.integers(1, 1000).map(lambda samples: 2 * samples), max_size=20))
    def test_however_an_item_is_cut_it_arrives_whole_and_padded(self, sizes: list[int]) -> None:
        driver = CallDriver().live()
        pcm = sound(sum(sizes))
        taken, start = [], 0
        for size in sizes:
            taken += driver.reply(1, pcm[start : start + size])
            start += size
        taken += driver.record(wire.ReplyItemDone(1))
        assert heard_pcm(taken) == pcm + bytes(-len(pcm) % FRAME_BYTES)


class TestACoreThatDoesNotRead:
    def test_its_replies_are_held_and_no_credit_given_back(self, driver: CallDriver) -> None:
        driver.live()
        driver.pause()
        assert to_worker(driver.reply(1, sound(32_000))) == []
        assert driver.record(wire.ReplyItemDone(1)) == []
        assert to_worker(driver.reply(2, sound(16_000))) == []

    def test_held_audio_and_credit_follow_in_order_after_a_pause(self, driver: CallDriver) -> None:
        first, second = sound(8_100), sound(640, seed=2)
        driver.live()
        driver.pause()
        driver.reply(1, first)
        driver.record(wire.ReplyItemDone(1))
        driver.reply(2, second)
        taken = driver.resume()
        assert heard_pcm(taken) == first + bytes(-len(first) % FRAME_BYTES) + second
        assert to_worker(taken) == [wire.Credit(8_740)]
        assert not driver.call.paused
        assert heard_pcm(driver.reply(2, FRAME)) == FRAME

    def test_what_is_held_starts_to_play_when_it_is_sent(self, driver: CallDriver) -> None:
        driver.live()
        driver.pause()
        driver.reply(1, sound(16_000))
        driver.now += 5.0
        assert to_worker(driver.tick()) == []
        driver.resume()
        driver.now += 0.25
        assert to_worker(driver.tick()) == [wire.Playout((ItemHeard(1, 2000),), False, (ItemHeard(1, 8000),))]

    def test_a_writable_event_without_a_pause_changes_nothing(self, driver: CallDriver) -> None:
        driver.live()
        assert driver.resume() == []

    def test_it_is_cut_off_when_it_has_read_nothing_for_long(self) -> None:
        driver = CallDriver(stuck_seconds=30.0).live()
        driver.pause()
        for _ in range(29):
            driver.now += 1.0
            driver.audio(FRAME)
            assert driver.tick() == []
        taken = driver.tick(1.0)
        assert taken[0] == Measurement(Metric.BAD_INPUT, label="not_reading")
        assert CloseCaller(1008, "AVR Core has read nothing for 30 s") in taken

    def test_a_core_that_reads_now_and_then_is_not(self) -> None:
        driver = CallDriver(stuck_seconds=30.0).live()
        for _ in range(5):
            driver.pause()
            driver.now += 29.0
            driver.audio(FRAME)
            driver.resume()
            assert driver.tick() == []


class TestBargeIn:
    def test_of_silence_there_is_nothing_to_interrupt(self, driver: CallDriver) -> None:
        assert driver.live().record(wire.Flush(4)) == [
            ToWorker(driver.assignment, wire.Heard(4, ())),
        ]

    def test_what_plays_is_interrupted_and_what_was_heard_is_said(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(16_000))
        driver.now += 0.25
        taken = driver.record(wire.Flush(1))
        assert taken == [
            Interrupt(),
            Measurement(Metric.INTERRUPTION),
            ToWorker(driver.assignment, wire.Heard(1, (ItemHeard(1, 2000),))),
        ]
        # Nothing plays any more.
        assert driver.tick(1.0) == []

    def test_a_reply_that_was_heard_out_is_not_interrupted(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(1_600))
        driver.record(wire.ReplyItemDone(1))
        driver.now += 0.5
        assert to_worker(driver.record(wire.Flush(1))) == [wire.Heard(1, ())]

    def test_what_is_held_is_dropped_and_was_not_heard(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(1_600))
        driver.pause()
        driver.reply(1, sound(6_400))
        driver.reply(2, sound(1_600))
        driver.now += 0.0625
        taken = driver.record(wire.Flush(1))
        assert to_caller(taken) == [{"type": "interruption"}]
        assert to_worker(taken) == [wire.Heard(1, (ItemHeard(1, 500), ItemHeard(2, 0))), wire.Credit(9_600)]
        assert driver.resume() == []

    def test_what_is_held_of_an_item_whose_beginning_was_heard_out(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(1_600))
        driver.pause()
        driver.reply(1, sound(1_600))
        driver.now += 1.0
        driver.tick()
        assert to_worker(driver.record(wire.Flush(1))) == [wire.Heard(1, (ItemHeard(1, 800),))]

    def test_a_part_of_a_frame_is_dropped_and_was_not_heard(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(200))
        taken = driver.record(wire.Flush(1))
        assert to_worker(taken) == [wire.Heard(1, (ItemHeard(1, 0),))]
        # What comes of another item does not bring it back.
        assert heard_pcm(driver.reply(2, FRAME)) == FRAME

    def test_a_part_of_a_frame_behind_what_was_heard_out(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(FRAME_BYTES + 200))
        driver.now += 1.0
        driver.tick()
        assert to_worker(driver.record(wire.Flush(1))) == [wire.Heard(1, (ItemHeard(1, 160),))]

    def test_several_items_are_named_oldest_first(self, driver: CallDriver) -> None:
        driver.live()
        for item in (3, 4, 5):
            driver.reply(item, sound(16_000))
        driver.now += 1.25
        assert to_worker(driver.record(wire.Flush(9))) == [wire.Heard(9, (ItemHeard(4, 2000), ItemHeard(5, 0)))]

    def test_the_clock_starts_anew_after_it(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(16_000))
        driver.record(wire.Flush(1))
        driver.reply(2, sound(1_600))
        driver.now += 0.0625
        assert to_worker(driver.tick()) == [wire.Playout((ItemHeard(2, 500),), False, (ItemHeard(2, 800),))]


class TestPlayout:
    def test_playout_is_reported_while_playing_and_once_at_its_end(self, driver: CallDriver) -> None:
        driver.live()
        assert driver.tick(0.25) == []
        driver.reply(1, sound(3_840))  # 0.24 s
        driver.record(wire.ReplyItemDone(1))
        assert to_worker(driver.tick(0.125)) == [wire.Playout((ItemHeard(1, 1000),), False, (ItemHeard(1, 1920),))]
        assert to_worker(driver.tick(0.125)) == [wire.Playout((ItemHeard(1, 1920),), idle=True)]
        assert driver.tick(0.125) == []

    def test_an_underrun_is_reported_as_idle_and_then_goes_on(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(1_600))
        assert to_worker(driver.tick(1.0)) == [wire.Playout((ItemHeard(1, 800),), idle=True)]
        driver.reply(1, sound(1_600))
        assert to_worker(driver.tick(1.0)) == [wire.Playout((ItemHeard(1, 1600),), idle=True)]

    def test_the_silence_that_pads_counts_as_time_only(self, driver: CallDriver) -> None:
        driver.live().reply(1, sound(200))
        driver.record(wire.ReplyItemDone(1))
        assert to_worker(driver.tick(0.015)) == [wire.Playout((ItemHeard(1, 100),), False, (ItemHeard(1, 100),))]


class TestTranscripts:
    def test_each_item_is_said_once(self, driver: CallDriver) -> None:
        driver.live()
        said = {"type": "transcript", "role": "agent", "text": "Hello."}
        assert to_caller(driver.record(wire.Transcript("item_1", "agent", "Hello."))) == [said]
        assert driver.record(wire.Transcript("item_1", "agent", "Hello.")) == []
        assert driver.record(wire.Transcript("item_1", "agent", "Something else.")) == []
        assert len(driver.record(wire.Transcript("item_2", "user", "Hello."))) == 1

    def test_the_memory_of_a_long_call_drops_its_oldest_items(self, driver: CallDriver) -> None:
        driver.live()
        for number in range(MAX_TRANSCRIPTS_KNOWN + 1):
            driver.record(wire.Transcript(f"item_{number}", "user", "x"))
        assert len(driver.record(wire.Transcript("item_0", "user", "x"))) == 1
        assert driver.record(wire.Transcript(f"item_{MAX_TRANSCRIPTS_KNOWN}", "user", "x")) == []
