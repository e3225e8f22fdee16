"""Reply audio on its way to AVR Core: frames, held audio, and the position of the playout."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.link import wire
from common.link.wire import ItemHeard
from dispatcher.call.actions import Play
from dispatcher.call.playback.player import Player
from tests.dispatcher.call_driver import FRAME_BYTES, sound

SECOND = 16_000


def frames(plays: list[Play]) -> bytes:
    assert all(play.pcm and len(play.pcm) % FRAME_BYTES == 0 for play in plays)
    return b"".join(play.pcm for play in plays)


def played(items: tuple[tuple[int, int], ...], queued: tuple[tuple[int, int], ...] = ()) -> wire.Playout:
    heard = tuple(ItemHeard(*item) for item in items)
    return wire.Playout(heard, not queued, tuple(ItemHeard(*item) for item in queued))


def test_audio_goes_on_in_frames_and_the_rest_waits_for_its_end() -> None:
    player = Player()
    pcm = sound(1000)
    assert frames(player.audio(1, pcm, 0.0)) == pcm[:960]
    assert frames(player.item_done(1, 0.0)) == pcm[960:] + bytes(280)
    assert player.item_done(1, 0.0) == []
    assert player.taken_bytes == 1000


def test_progress_is_reported_while_the_position_changes() -> None:
    player = Player()
    assert player.progress(0.0) is None
    player.audio(1, sound(SECOND), 0.0)
    assert player.progress(0.25) == played(((1, 2000),), ((1, 8000),))
    assert player.progress(1.0) == played(((1, 8000),))
    assert player.progress(1.0) is None


def test_progress_has_the_sent_samples_of_each_queued_item() -> None:
    player = Player()
    player.audio(1, sound(SECOND), 0.0)
    player.audio(2, sound(SECOND // 2), 0.0)
    assert player.progress(0.5) == played(((1, 4000),), ((1, 8000), (2, 4000)))
    assert player.progress(1.25) == played(((1, 8000), (2, 2000)), ((2, 4000),))


@pytest.mark.parametrize("held", [False, True])
def test_whoever_spoke_is_gone(held: bool) -> None:
    """The player pads the received part of the reply, and plays it to its end."""
    player = Player()
    pcm = sound(500)
    player.is_held = held
    plays = player.audio(1, pcm, 0.0) + player.broke_off(0.0)
    if held:
        assert plays == []
        plays = player.release(1.0)
    assert frames(plays) == pcm + bytes(140)
    # What another says begins with a frame of its own.
    other = sound(FRAME_BYTES, seed=2)
    assert frames(player.audio(2, other, 1.0)) == other


def test_nobody_was_speaking() -> None:
    player = Player()
    assert player.broke_off(0.0) == []
    player.audio(1, sound(SECOND), 0.0)
    assert player.broke_off(0.0) == []


def test_a_barge_in_drops_held_audio_and_counts_it_as_taken() -> None:
    player = Player()
    player.audio(1, sound(SECOND), 0.0)
    player.taken_bytes = 0
    player.is_held = True
    player.audio(1, sound(1000), 0.0)
    player.audio(2, sound(500), 0.0)
    assert player.held_bytes == 1500
    player.drop()
    assert player.truncate(0.5) == (ItemHeard(1, 4000), ItemHeard(2, 0))
    assert (player.held_bytes, player.taken_bytes) == (0, 1500)
    assert player.release(1.0) == []


def test_all_is_heard_when_no_audio_plays_is_held_or_buffered() -> None:
    player = Player()
    heard = [player.all_heard(0.0)]
    player.audio(1, sound(FRAME_BYTES), 0.0)
    heard += [player.all_heard(0.01), player.all_heard(0.02)]
    player.audio(1, sound(100), 1.0)
    heard.append(player.all_heard(5.0))
    player.item_done(1, 5.0)
    heard += [player.all_heard(5.0), player.all_heard(5.02)]
    player.is_held = True
    player.audio(2, sound(FRAME_BYTES), 6.0)
    heard.append(player.all_heard(10.0))
    assert heard == [True, False, True, False, False, True, False]


# Another dispatcher played before


def test_what_the_dispatcher_before_had_handed_over_plays_on() -> None:
    player = Player()
    last = wire.Playout((ItemHeard(3, 2000),), False, (ItemHeard(3, 8000),), age_seconds=0.25)
    player.restore(last, 100.0)
    # A quarter of a second has gone by since.
    assert player.progress(100.0) == played(((3, 4000),), ((3, 8000),))
    assert not player.all_heard(100.4)
    assert player.progress(100.5) == played(((3, 8000),))
    assert player.all_heard(100.5)


def test_items_that_it_had_queued_follow_each_other() -> None:
    player = Player()
    last = wire.Playout((ItemHeard(3, 4000),), False, (ItemHeard(3, 8000), ItemHeard(4, 8000)), age_seconds=0.0)
    player.restore(last, 100.0)
    assert player.progress(101.0) == played(((3, 8000), (4, 4000)), ((4, 8000),))


def test_more_of_an_item_that_it_had_begun_goes_on_behind_it() -> None:
    player = Player()
    player.restore(wire.Playout((ItemHeard(3, 2000),), False, (ItemHeard(3, 4000),), 0.0), 100.0)
    player.audio(3, sound(8000), 100.0)
    assert player.progress(100.75) == played(((3, 8000),))


def test_a_barge_in_cuts_what_it_had_queued() -> None:
    player = Player()
    player.restore(wire.Playout((ItemHeard(3, 2000),), False, (ItemHeard(3, 8000),), 0.0), 100.0)
    player.drop()
    assert player.truncate(100.25) == (ItemHeard(3, 4000),)
    assert player.progress(101.0) is None


def test_nothing_was_playing() -> None:
    player = Player()
    player.restore(wire.Playout(idle=True), 100.0)
    assert player.progress(100.0) is None
    assert player.all_heard(100.0)


def test_all_of_it_has_been_heard_since() -> None:
    player = Player()
    player.restore(wire.Playout((ItemHeard(3, 7000),), False, (ItemHeard(3, 8000),), 60.0), 100.0)
    assert player.progress(100.0) == played(((3, 8000),))


@settings(max_examples=100)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("audio"), st.integers(1, 3), st.integers(1, 800)),
            st.tuples(st.just("done"), st.integers(1, 3), st.just(0)),
            st.tuples(st.just("hold"), st.just(0), st.just(0)),
            st.tuples(st.just("release"), st.just(0), st.just(0)),
            st.tuples(st.just("broke off"), st.just(0), st.just(0)),
        ),
        max_size=30,
    )
)
def test_nothing_is_lost_or_out_of_order_whatever_is_held(script: list[tuple[str, int, int]]) -> None:
    player = Player()
    plays: list[Play] = []
    wanted = b""
    partial, item = b"", 0

    def pad() -> bytes:
        nonlocal partial
        padded, partial = partial.ljust(-(-len(partial) // FRAME_BYTES) * FRAME_BYTES, b"\0"), b""
        return padded

    for number, (what, index, samples) in enumerate(script):
        if what == "audio":
            pcm = sound(2 * samples, seed=number + 1)
            plays += player.audio(index, pcm, 0.0)
            if index != item:
                wanted += pad()
                item = index
            partial += pcm
            whole = len(partial) - len(partial) % FRAME_BYTES
            wanted, partial = wanted + partial[:whole], partial[whole:]
        elif what == "done":
            plays += player.item_done(index, 0.0)
            wanted += pad() if index == item else b""
        elif what == "broke off":
            plays += player.broke_off(0.0)
            wanted += pad()
        else:
            player.is_held = what == "hold"
            plays += player.release(0.0) if what == "release" else []
    plays += player.release(0.0)
    assert frames(plays) == wanted
    assert player.held_bytes == 0
