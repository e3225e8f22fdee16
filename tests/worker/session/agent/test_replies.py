"""Reply audio under credit, and its heard part."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.link import wire
from common.link.wire import Heard, ItemHeard
from worker.audio.audio_format import for_format
from worker.audio.resample import Downsampler
from worker.session.agent import replies as module
from worker.session.agent.replies import Replies, Reply

PLENTY = 10**9
# What the resampler still gives at the end of an item.
TAIL_SAMPLES = len(Downsampler().flush()) // 2


def noise(milliseconds: float, seed: int = 1) -> bytes:
    """PCM16 at 24 kHz."""
    samples = np.random.default_rng(seed).integers(-20_000, 20_000, round(milliseconds * 24))
    return samples.astype("<i2").tobytes()


def resampled(pcm: bytes) -> bytes:
    """Return the same at 8 kHz, whole."""
    downsampler = Downsampler()
    return downsampler.process(pcm) + downsampler.flush()


def audio_of(found: Iterable[wire.Record], index: int) -> bytes:
    return b"".join(
        record.pcm for record in found if isinstance(record, wire.ReplyAudio) and record.item_index == index
    )


def speak(replies: Replies, item_id: str, pcm: bytes) -> Reply:
    """Return an item, received to its end."""
    reply, _ = replies.begin(item_id, f"response of {item_id}", 0)
    replies.audio(reply, pcm)
    replies.complete()
    return reply


def played(*items: ItemHeard, queued: tuple[ItemHeard, ...] = ()) -> wire.Playout:
    """Return PLAYOUT: heard samples, and the samples at AVR Core of items that are not played to the end."""
    return wire.Playout(items, queued=queued)


def is_complete(reply: Reply) -> bool:
    """Read anew: what an assertion has found out does not hold behind the next call."""
    return reply.complete


def made(credit_bytes: int) -> Replies:
    """Return the replies of a session with PCM at 24 kHz."""
    audio = for_format("pcm")
    return Replies(credit_bytes, audio.downlink(), audio.bytes_per_ms)


# On the way to the dispatcher


def test_an_item_is_named_before_its_audio_and_ends_behind_it() -> None:
    replies = made(PLENTY)
    pcm = noise(100)
    reply, begun = replies.begin("item_a", "resp_1", 0)
    assert begun == [wire.ReplyItem(0, "item_a")]
    found = replies.audio(reply, pcm[:1000]) + replies.audio(reply, pcm[1000:]) + replies.complete()
    assert found[-1] == wire.ReplyItemDone(0)
    assert all(isinstance(record, wire.ReplyAudio) for record in found[:-1])
    assert audio_of(found, 0) == resampled(pcm)
    assert reply.received_ms == 100
    assert reply.sent_samples == 800 + TAIL_SAMPLES
    assert is_complete(reply)


def test_items_are_numbered_and_a_new_one_completes_the_last() -> None:
    replies = made(PLENTY)
    first, _ = replies.begin("a", "resp_1", 0)
    replies.audio(first, noise(100))
    second, found = replies.begin("b", "resp_1", 0)
    tail, done, named = found
    assert isinstance(tail, wire.ReplyAudio)
    assert (tail.item_index, len(tail.pcm)) == (0, 2 * TAIL_SAMPLES)
    assert done == wire.ReplyItemDone(0)
    assert named == wire.ReplyItem(1, "b")
    assert first.complete
    assert not second.complete


def test_the_sound_of_one_item_does_not_leak_into_the_next() -> None:
    replies = made(PLENTY)
    speak(replies, "a", noise(30, seed=1))
    reply, _ = replies.begin("b", "resp_1", 0)
    found = replies.audio(reply, noise(30, seed=2)) + replies.complete()
    assert audio_of(found, 1) == resampled(noise(30, seed=2))


def test_nor_does_that_of_a_flushed_one() -> None:
    replies = made(PLENTY)
    cut, _ = replies.begin("a", "resp_1", 0)
    replies.audio(cut, noise(30, seed=1))
    replies.flush()
    reply, _ = replies.begin("b", "resp_2", 0)
    found = replies.audio(reply, noise(30, seed=2)) + replies.complete()
    assert audio_of(found, 1) == resampled(noise(30, seed=2))


def test_audio_beyond_the_credit_waits_and_follows() -> None:
    replies = made(1001)  # credit is in bytes, audio in samples of two
    reply, _ = replies.begin("a", "resp_1", 0)
    pcm = noise(200)
    sent = replies.audio(reply, pcm)
    assert len(audio_of(sent, 0)) == 1000
    assert replies.complete() == []
    assert not is_complete(reply)
    more = replies.credit(999)
    assert len(audio_of(more, 0)) == 1000
    assert not is_complete(reply)
    rest = replies.credit(PLENTY)
    assert rest[-1] == wire.ReplyItemDone(0)
    assert audio_of(sent + more + rest, 0) == resampled(pcm)
    assert is_complete(reply)
    assert replies.waiting_seconds == 0


def test_without_credit_audio_waits_and_items_keep_their_order() -> None:
    replies = made(0)
    first, _ = replies.begin("a", "resp_1", 0)
    assert replies.audio(first, noise(100, seed=1)) == []
    second, begun = replies.begin("b", "resp_1", 0)
    assert begun == [wire.ReplyItem(1, "b")]
    replies.audio(second, noise(100, seed=2))
    replies.complete()
    assert replies.waiting_seconds == pytest.approx(2 * (0.1 + TAIL_SAMPLES / 8000))
    found = replies.credit(PLENTY)
    order = [
        record.item_index if isinstance(record, wire.ReplyAudio) else record.index
        for record in found
        if isinstance(record, (wire.ReplyAudio, wire.ReplyItemDone))
    ]
    assert order == sorted(order)
    assert audio_of(found, 0) == resampled(noise(100, seed=1))
    assert audio_of(found, 1) == resampled(noise(100, seed=2))


@settings(max_examples=50)
@given(
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=12),
    credits_bytes=st.lists(st.integers(0, 1500), max_size=12),
)
def test_received_audio_is_complete_for_any_chunks_and_credit(cuts: list[int], credits_bytes: list[int]) -> None:
    replies = made(500)
    reply, begun = replies.begin("a", "resp_1", 0)
    encoded = list(begun)
    given_bytes = 500
    pcm = noise(sum(cuts) / 48)[: sum(cuts)]
    start = 0
    grants = iter(credits_bytes)
    for cut in cuts:
        encoded += replies.audio(reply, pcm[start : start + cut])
        start += cut
        credit = next(grants, 0)
        given_bytes += credit
        encoded += replies.credit(credit)
        assert len(audio_of(encoded, 0)) <= given_bytes
        assert reply.sent_samples * 2 == len(audio_of(encoded, 0))
    encoded += replies.complete()
    encoded += replies.credit(PLENTY)
    found = encoded
    assert audio_of(found, 0) == resampled(pcm)
    assert found[-1] == wire.ReplyItemDone(0)


def test_the_backlog_is_full_above_five_minutes() -> None:
    replies = made(0)
    reply, _ = replies.begin("a", "resp_1", 0)
    for _ in range(5):
        replies.audio(reply, noise(60_000))
    full = [replies.is_full]
    replies.audio(reply, noise(1))
    full.append(replies.is_full)
    replies.flush()
    full.append(replies.is_full)
    assert full == [False, True, False]
    assert replies.waiting_seconds == 0


# Heard parts


def test_an_item_is_heard_out_when_all_its_samples_were_played() -> None:
    replies = made(PLENTY)
    reply = speak(replies, "a", noise(100))
    assert replies.playout(played(ItemHeard(0, reply.sent_samples - 1))) == []
    assert reply.heard_samples is None
    assert replies.playout(played(ItemHeard(0, reply.sent_samples))) == [reply]
    assert reply.fully_heard
    assert reply.heard_share == 1.0
    assert replies.playout(played(ItemHeard(0, reply.sent_samples))) == []


def test_an_item_that_still_grows_is_not_heard_out() -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(100))
    assert replies.playout(played(ItemHeard(0, reply.sent_samples))) == []
    replies.complete()
    assert replies.playout(played(ItemHeard(0, reply.sent_samples))) == [reply]


def test_one_that_waits_for_credit_is_not_heard_out() -> None:
    replies = made(400)
    reply = speak(replies, "a", noise(100))
    assert replies.playout(played(ItemHeard(0, 200))) == []
    replies.credit(PLENTY)
    assert replies.playout(played(ItemHeard(0, 200))) == []
    assert replies.playout(played(ItemHeard(0, reply.sent_samples))) == [reply]


def test_earlier_items_are_fully_heard_when_a_later_one_plays() -> None:
    replies = made(PLENTY)
    first, second, third = (speak(replies, item_id, noise(100)) for item_id in "abc")
    assert replies.playout(played(ItemHeard(2, 0))) == [first, second]
    assert third.heard_samples is None


def test_a_report_of_an_older_item_settles_no_later_one() -> None:
    replies = made(PLENTY)
    first = speak(replies, "a", noise(100))
    second = speak(replies, "b", noise(100))
    assert replies.playout(played(ItemHeard(0, first.sent_samples))) == [first]
    assert second.heard_samples is None
    assert replies.playout(played()) == []


def test_a_flush_closes_what_plays_and_asks_what_was_heard() -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(1000))
    assert replies.flush() == [wire.Flush(1)]
    assert reply.closed
    assert replies.heard(Heard(1, (ItemHeard(0, 4000),))) == [reply]
    assert (reply.heard_ms, reply.received_ms, reply.fully_heard) == (500, 1000, False)
    assert reply.heard_share == pytest.approx(0.5)


def test_a_flush_of_nothing_asks_nothing() -> None:
    replies = made(PLENTY)
    assert replies.flush() == []
    reply = speak(replies, "a", noise(100))
    replies.playout(played(ItemHeard(0, reply.sent_samples)))
    assert replies.flush() == []


def test_a_second_flush_asks_only_for_what_came_since() -> None:
    replies = made(PLENTY)
    first = speak(replies, "a", noise(100))
    assert replies.flush() == [wire.Flush(1)]
    second = speak(replies, "b", noise(100))
    assert replies.flush() == [wire.Flush(2)]
    assert replies.heard(Heard(1, (ItemHeard(0, 80),))) == [first]
    assert replies.heard(Heard(2, (ItemHeard(1, 160),))) == [second]
    assert (first.heard_ms, second.heard_ms) == (10, 20)


def test_an_answer_counts_once_and_one_to_nothing_not_at_all() -> None:
    replies = made(PLENTY)
    speak(replies, "a", noise(100))
    replies.flush()
    assert len(replies.heard(Heard(1))) == 1
    assert replies.heard(Heard(1)) == []
    assert replies.heard(Heard(99)) == []


def test_an_item_missing_in_heard_counts_as_heard_if_sent() -> None:
    replies = made(800)
    whole = speak(replies, "a", noise(10))  # 320 bytes at most: all of it is sent
    part = speak(replies, "b", noise(1000))
    replies.flush()
    assert replies.heard(Heard(1)) == [whole, part]
    assert whole.fully_heard
    assert not part.fully_heard
    assert part.heard_samples == part.sent_samples < 8000


def test_truncated_items_are_returned_oldest_first_with_shares() -> None:
    replies = made(PLENTY)
    first, second, third = (speak(replies, item_id, noise(100)) for item_id in "abc")
    replies.flush()
    cut = replies.heard(Heard(1, (ItemHeard(1, 400), ItemHeard(2, 0))))
    assert cut == [first, second, third]
    assert [reply.heard_ms for reply in cut] == [100, 50, 0]
    assert [reply.fully_heard for reply in cut] == [True, False, False]


def test_of_an_item_that_was_never_sent_nothing_was_heard() -> None:
    replies = made(0)
    reply = speak(replies, "a", noise(100))
    replies.flush()
    replies.heard(Heard(1))
    assert (reply.heard_ms, reply.heard_share, reply.fully_heard) == (0, 0.0, False)


def test_a_cut_within_the_resamplers_tail_has_cut_nothing() -> None:
    replies = made(PLENTY)
    reply = speak(replies, "a", noise(100))
    replies.flush()
    replies.heard(Heard(1, (ItemHeard(0, 800),)))
    assert reply.sent_samples > 800
    assert reply.fully_heard
    assert reply.heard_share == 1.0


def test_an_incomplete_item_is_never_fully_heard() -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(100))
    replies.flush()
    replies.heard(Heard(1, (ItemHeard(0, 800),)))
    assert (reply.heard_ms, reply.fully_heard) == (100, False)


@given(received_ms=st.integers(1, 300), heard_samples=st.integers(-10, 10_000), complete=st.booleans())
def test_never_more_is_heard_than_was_received(received_ms: int, heard_samples: int, complete: bool) -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(received_ms))
    if complete:
        replies.complete()
    replies.flush()
    replies.heard(Heard(1, (ItemHeard(0, heard_samples),)))
    assert 0 <= reply.heard_ms <= reply.received_ms == received_ms
    assert 0.0 <= reply.heard_share <= 1.0
    assert reply.fully_heard == (complete and heard_samples >= received_ms * 8)


def test_audio_that_comes_after_a_flush_is_only_counted() -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(100))
    replies.flush()
    assert replies.audio(reply, noise(50)) == []
    assert replies.complete() == []
    assert replies.credit(0) == []
    assert reply.sent_samples == 800
    assert reply.received_ms == 150


def test_what_waited_is_dropped_by_a_flush_and_its_credit_kept() -> None:
    replies = made(0)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, noise(100))
    replies.flush()
    assert replies.credit(4000) == []
    after, _ = replies.begin("b", "resp_2", 0)
    found = replies.audio(after, noise(100))
    assert len(audio_of(found, 1)) == 1600


def test_a_report_that_crosses_a_flush_settles_nothing() -> None:
    replies = made(PLENTY)
    cut = speak(replies, "a", noise(100))
    replies.flush()
    after = speak(replies, "b", noise(100))
    assert replies.playout(played(ItemHeard(0, cut.sent_samples))) == []
    assert cut.heard_samples is None
    assert after.heard_samples is None


@pytest.mark.interpreted
def test_nothing_of_an_hour_of_replies_is_left_behind() -> None:
    replies = made(PLENTY)
    for number in range(200):
        reply = speak(replies, str(number), noise(2))
        if number % 2:
            replies.playout(played(ItemHeard(reply.index, reply.sent_samples)))
        else:
            replies.flush()
            replies.heard(Heard(number // 2 + 1))
    containers = [value for value in vars(replies).values() if hasattr(value, "__len__")]
    assert len(containers) >= 3
    assert not any(containers)


# Orders


def test_an_order_keeps_its_place_behind_the_audio_that_waits() -> None:
    replies = made(400)
    speak(replies, "a", noise(100))
    order = wire.TelephonyCommand("call_1", "hang_up")
    assert replies.append(order) == []
    found = replies.credit(PLENTY)
    assert found[-2:] == [wire.ReplyItemDone(0), order]


def test_a_command_is_sent_at_once_or_survives_a_flush() -> None:
    replies = made(400)
    first, second = wire.TelephonyCommand("call_1", "hang_up"), wire.TelephonyCommand("call_2", "transfer", "600")
    assert replies.append(first) == [first]
    speak(replies, "a", noise(100))
    replies.append(second)
    assert replies.flush() == [wire.Flush(1), second]
    assert replies.credit(PLENTY) == []


# Going on where another session stopped


def test_a_restored_reply_plays_on_and_is_heard_out() -> None:
    replies = made(PLENTY)
    reply = replies.restore(4, "a", 8000)
    assert replies.any_playing
    assert (reply.restored, reply.closed, reply.complete, reply.received_ms) == (True, True, True, 1000)
    assert replies.playout(played(ItemHeard(4, 7999))) == []
    assert replies.playout(played(ItemHeard(4, 8000))) == [reply]
    assert reply.fully_heard
    # Later indexes follow it.
    _, begun = replies.begin("b", "resp_1", 0)
    assert begun == [wire.ReplyItem(5, "b")]


def test_a_restored_reply_can_be_cut() -> None:
    replies = made(PLENTY)
    reply = replies.restore(4, "a", 8000)
    assert replies.flush() == [wire.Flush(1)]
    assert replies.heard(Heard(1, (ItemHeard(4, 2000),))) == [reply]
    assert (reply.heard_ms, reply.fully_heard) == (250, False)
    assert reply.heard_share == pytest.approx(0.25)


@pytest.mark.parametrize(("heard_samples", "whole"), [(0, False), (4000, False), (8000, True), (9000, True)])
def test_what_was_heard_of_a_restored_reply_may_be_known(heard_samples: int, whole: bool) -> None:
    replies = made(PLENTY)
    reply = replies.restore(0, "a", 8000)
    replies.settle(reply, heard_samples)
    assert not replies.any_playing
    assert reply.heard_share == min(1.0, heard_samples / 8000)
    assert reply.fully_heard is whole


def test_playing_items_are_restored_again_when_a_standby_resumes() -> None:
    replies = made(PLENTY)
    replies.restore(0, "a", 8000)
    replies.forget(0)
    assert not replies.any_playing
    assert replies.flush() == []


# Another dispatcher


def test_audio_that_was_not_handed_over_is_sent_again() -> None:
    replies = made(PLENTY)
    pcm = noise(1000)
    reply = speak(replies, "a", pcm)
    whole = resampled(pcm)
    replies.playout(played(ItemHeard(0, 1000), queued=(ItemHeard(0, 3000),)))
    spoken, playout, flushes = replies.attached(PLENTY, 0.15)
    assert spoken == [reply]
    assert flushes == []
    assert reply.sent_samples == 3000
    assert not is_complete(reply)
    assert playout == wire.Playout((ItemHeard(0, 1000),), queued=(ItemHeard(0, 3000),), age_seconds=0.15)
    found = replies.send()
    assert audio_of(found, 0) == whole[6000:]
    assert found[-1] == wire.ReplyItemDone(0)
    assert reply.sent_samples == len(whole) // 2
    assert is_complete(reply)
    assert replies.playout(played(ItemHeard(0, len(whole) // 2))) == [reply]


def test_it_is_sent_again_in_order_and_in_front_of_what_waits() -> None:
    replies = made(3200)
    first, second = speak(replies, "a", noise(100, seed=1)), speak(replies, "b", noise(200, seed=2))
    order = wire.TelephonyCommand("call_1", "hang_up")
    replies.append(order)
    replies.attached(PLENTY, 0.0)
    found = replies.send()
    assert audio_of(found, 0) == resampled(noise(100, seed=1))
    assert audio_of(found, 1) == resampled(noise(200, seed=2))
    others = [record for record in found if not isinstance(record, wire.ReplyAudio)]
    assert others == [wire.ReplyItemDone(0), wire.ReplyItemDone(1), order]
    assert first.complete
    assert second.complete
    assert replies.waiting_seconds == 0


def test_repeated_audio_stays_within_the_new_credit() -> None:
    replies = made(PLENTY)
    speak(replies, "a", noise(1000))
    replies.attached(1000, 0.0)
    assert len(audio_of(replies.send(), 0)) == 1000
    assert len(audio_of(replies.credit(500), 0)) == 500


def test_a_reply_that_goes_on_goes_on_behind_it() -> None:
    replies = made(PLENTY)
    pcm = noise(300)
    reply, _ = replies.begin("a", "resp_1", 0)
    replies.audio(reply, pcm[:4800])
    replies.attached(PLENTY, 0.0)
    found = replies.send()
    found += replies.audio(reply, pcm[4800:])
    found += replies.complete()
    assert audio_of(found, 0) == resampled(pcm)
    assert found[-1] == wire.ReplyItemDone(0)


def test_handed_over_audio_is_dropped_and_the_rest_is_bounded() -> None:
    replies = made(PLENTY)
    reply, _ = replies.begin("a", "resp_1", 0)
    for _ in range(30):
        replies.audio(reply, noise(1000))
    kept = sum(len(pcm) for _, _, pcm in replies._retained)
    assert kept <= module.MAX_RETAINED_BYTES
    replies.playout(played(ItemHeard(0, 100), queued=(ItemHeard(0, reply.sent_samples),)))
    assert not replies._retained
    assert replies._retained_bytes == 0


def test_an_unanswered_flush_is_repeated_for_handed_over_audio() -> None:
    replies = made(PLENTY)
    heard_out, cut, never_handed = (speak(replies, name, noise(1000)) for name in "abc")
    replies.playout(played(ItemHeard(1, 800), queued=(ItemHeard(1, 2400),)))
    assert heard_out.fully_heard
    replies.flush()
    newer = speak(replies, "d", noise(100))
    spoken, playout, flushes = replies.attached(PLENTY, 0.1)
    assert spoken == [cut, never_handed, newer]
    assert playout.queued == (ItemHeard(1, 2400),)
    assert flushes == [wire.Flush(1)]
    # Audio of truncated replies is not sent again.
    again = replies.send()
    assert {record.item_index for record in again if isinstance(record, wire.ReplyAudio)} == {newer.index}
    assert replies.heard(wire.Heard(1, (ItemHeard(1, 1600),))) == [cut, never_handed]
    assert (cut.heard_ms, never_handed.heard_ms) == (200, 0)
    # The clock may have run out meanwhile.
    assert cut.sent_samples == 2400


def test_dispatchers_may_die_one_after_the_other() -> None:
    replies = made(PLENTY)
    pcm = noise(1000)
    reply = speak(replies, "a", pcm)
    handed = 0
    heard = b""
    for _ in range(4):
        replies.attached(4000, 0.0)
        found = replies.send()
        heard += audio_of(found, 0)[: 2 * 1500]
        # Of each 2,000 samples that come a dispatcher hands 1,500 over before it dies.
        handed += 1500
        replies.playout(played(ItemHeard(0, handed - 100), queued=(ItemHeard(0, handed),)))
    assert heard == resampled(pcm)[: 2 * handed]
    assert reply.received_ms == 1000
