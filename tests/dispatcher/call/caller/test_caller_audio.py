"""The caller's audio in the dispatcher: waiting, sent and kept audio."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.audio import g711
from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.caller.caller_audio import (
    CODED_SAMPLES,
    KEPT_SAMPLES,
    PIECE_BYTES,
    UNCODED_SAMPLES,
    CallerAudio,
)
from tests.dispatcher.call_driver import FRAME_BYTES, sound

THIRTY_SECONDS = 30 * 16_000


def made(max_waiting_bytes: int = THIRTY_SECONDS) -> CallerAudio:
    return CallerAudio(max_waiting_bytes)


def pass_on(audio: CallerAudio, seconds: float) -> bytes:
    """Audio that goes to the worker at once, in frames of 20 ms."""
    pcm = sound(round(seconds * 16_000), seed=audio.position_samples // 160 + 1)
    for start in range(0, len(pcm), FRAME_BYTES):
        audio.sent(pcm[start : start + FRAME_BYTES])
    return pcm


def whole(pieces: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Pieces that follow each other without a gap: where they begin, and their codes."""
    first = end = pieces[0][0]
    for position, codes in pieces:
        assert position == end
        end += len(codes)
    return first, b"".join(codes for _, codes in pieces)


# On its way


def test_positions_count_samples_from_the_beginning_of_the_call() -> None:
    audio = made()
    assert [audio.sent(bytes(320)), audio.sent(bytes(100)), audio.sent(bytes(320))] == [0, 160, 210]
    assert audio.position_samples == audio.first_waiting_samples == 370


def test_what_waits_goes_in_order_as_far_as_there_is_credit() -> None:
    audio = made()
    for seed in range(4):
        assert audio.wait(sound(FRAME_BYTES, seed=seed)) == 0
    assert (audio.waiting_bytes, audio.first_waiting_samples) == (1280, 0)
    assert list(audio.take(700)) == [(0, sound(320, seed=0)), (160, sound(320, seed=1))]
    assert (audio.waiting_bytes, audio.first_waiting_samples) == (640, 320)
    assert list(audio.take(319)) == []
    assert [position for position, _ in audio.take(10**6)] == [320, 480]
    assert (audio.waiting_bytes, audio.first_waiting_samples) == (0, 640)


def test_a_long_message_waits_in_pieces() -> None:
    audio = made()
    audio.wait(sound(2 * PIECE_BYTES + 100))
    taken = list(audio.take(10**6))
    assert [len(pcm) for _, pcm in taken] == [PIECE_BYTES, PIECE_BYTES, 100]
    assert b"".join(pcm for _, pcm in taken) == sound(2 * PIECE_BYTES + 100)


def test_what_waits_is_bounded_and_the_oldest_is_dropped() -> None:
    audio = made(3 * FRAME_BYTES)
    assert [audio.wait(sound(FRAME_BYTES, seed=seed)) for seed in range(5)] == [0, 0, 0, 0.02, 0.02]
    assert [position for position, _ in audio.take(10**6)] == [320, 480, 640]


def test_at_the_end_of_the_call_nothing_is_left() -> None:
    audio = made()
    pass_on(audio, 10.0)
    audio.wait(bytes(FRAME_BYTES))
    audio.clear()
    assert audio.waiting_bytes == 0
    assert audio.kept() == []


# Kept audio


def test_all_that_is_not_finished_is_kept() -> None:
    audio = made()
    pcm = pass_on(audio, 12.5)
    assert whole(audio.kept()) == (0, g711.encode_ulaw(pcm))


def test_what_is_finished_is_not() -> None:
    audio = made()
    pcm = pass_on(audio, 12.5)
    audio.finished(80_000)
    assert whole(audio.kept()) == (80_000, g711.encode_ulaw(pcm)[80_000:])
    audio.finished(12 * SAMPLE_RATE_HZ)
    audio.finished(5 * SAMPLE_RATE_HZ)
    assert whole(audio.kept()) == (96_000, g711.encode_ulaw(pcm)[96_000:])
    audio.finished(12_500 * 8)
    assert audio.kept() == []


def test_what_waits_is_kept_too_and_does_not_wait_any_more() -> None:
    """It goes to the worker that takes over with all the rest, for which no credit is needed."""
    audio = made()
    pcm = pass_on(audio, 1.0)
    waits = sound(16_000, seed=99)
    audio.wait(waits)
    assert whole(audio.kept()) == (0, g711.encode_ulaw(pcm + waits))
    assert audio.waiting_bytes == 0
    assert list(audio.take(10**6)) == []
    assert audio.first_waiting_samples == 16_000
    # And goes to the one after that as well, should that be needed.
    assert whole(audio.kept()) == (0, g711.encode_ulaw(pcm + waits))


def test_thirty_seconds_are_kept_at_most() -> None:
    audio = made()
    pcm = pass_on(audio, 50.0)
    first, codes = whole(audio.kept())
    assert KEPT_SAMPLES - CODED_SAMPLES <= len(codes) <= KEPT_SAMPLES
    assert codes == g711.encode_ulaw(pcm)[first:]
    held = sum(len(piece) for _, piece in audio._coded) + sum(len(piece) for _, piece in audio._sent)
    assert held <= KEPT_SAMPLES + 2 * (UNCODED_SAMPLES + CODED_SAMPLES)


def test_meanwhile_too() -> None:
    audio = made()
    for _ in range(60):
        pass_on(audio, 1.0)
        codes = sum(len(piece) for _, piece in audio._coded)
        pcm = sum(len(piece) for _, piece in audio._sent)
        assert codes <= KEPT_SAMPLES
        assert pcm <= 2 * UNCODED_SAMPLES + FRAME_BYTES


def test_silence_that_is_finished_in_time_is_never_coded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g711, "encode_ulaw", lambda pcm: pytest.fail("coded"))
    audio = made()
    for second in range(60):
        pass_on(audio, 1.0)
        audio.finished((second - 2) * SAMPLE_RATE_HZ)


def test_a_gap_where_audio_was_dropped_stays_one() -> None:
    audio = made(2 * FRAME_BYTES)
    pass_on(audio, 0.02)
    for seed in range(4):
        audio.wait(sound(FRAME_BYTES, seed=seed))
    kept = audio.kept()
    covered = [(position, position + len(codes)) for position, codes in kept]
    assert covered == [(0, 160), (480, 800)]


# A call that another dispatcher had before


def test_what_waits_goes_on_where_the_worker_is() -> None:
    audio = made()
    audio.wait(sound(FRAME_BYTES, seed=1))
    audio.wait(sound(FRAME_BYTES, seed=2))
    audio.rebase(80_000)
    assert audio.first_waiting_samples == 80_000
    assert list(audio.take(10**6)) == [(80_000, sound(320, seed=1)), (80_160, sound(320, seed=2))]
    assert audio.sent(bytes(320)) == 80_320
    # Of what was before nothing is here to be kept.
    assert whole(audio.kept())[0] == 80_000


def test_audio_after_a_dropped_piece_continues_at_the_position() -> None:
    audio = made(2 * FRAME_BYTES)
    for seed in (1, 2, 3):
        audio.wait(sound(FRAME_BYTES, seed=seed))
    assert audio.first_waiting_samples == 160
    audio.rebase(80_000)
    assert list(audio.take(10**6)) == [(80_000, sound(320, seed=2)), (80_160, sound(320, seed=3))]
    assert audio.sent(bytes(320)) == 80_320


def test_nothing_waits() -> None:
    audio = made()
    audio.rebase(80_000)
    assert audio.sent(bytes(320)) == 80_000


def test_audio_that_no_session_has_heard_is_given_to_the_next() -> None:
    audio = made()
    audio.rebase(80_000)
    codes = g711.encode_ulaw(sound(16_000))
    audio.keep(72_000, codes)
    pcm = pass_on(audio, 1.0)
    assert whole(audio.kept()) == (72_000, codes + g711.encode_ulaw(pcm))
    audio.finished(76_000)
    assert whole(audio.kept()) == (76_000, (codes + g711.encode_ulaw(pcm))[4000:])


def test_of_that_too_thirty_seconds_at_most() -> None:
    audio = made()
    audio.rebase(10**6)
    for second in range(50):
        audio.keep(10**6 - (50 - second) * 8000, bytes(8000))
    assert whole(audio.kept())[0] == 10**6 - KEPT_SAMPLES


@settings(max_examples=100, deadline=None)
@given(
    script=st.lists(
        st.one_of(
            st.tuples(st.just("pass"), st.integers(1, 40_000)),
            st.tuples(st.just("wait"), st.integers(1, 40_000)),
            st.tuples(st.just("take"), st.integers(0, 60_000)),
            st.tuples(st.just("finish"), st.integers(0, 100)),
            st.tuples(st.just("hand over"), st.just(0)),
        ),
        max_size=25,
    )
)
def test_unfinished_audio_is_complete_whenever_a_worker_dies(script: list[tuple[str, int]]) -> None:
    audio = made(10**9)
    said = b""
    finished = 0
    for number, (what, amount) in enumerate(script):
        pcm = sound(2 * amount, seed=number + 1)
        if what == "pass" and not audio.waiting_bytes:
            assert audio.sent(pcm) == len(said) // 2
            said += pcm
        elif what in ("pass", "wait"):
            audio.wait(pcm)
            said += pcm
        elif what == "take":
            for position, piece in audio.take(amount):
                assert piece == said[2 * position : 2 * position + len(piece)]
        elif what == "finish":
            finished = max(finished, audio.first_waiting_samples * amount // 100)
            audio.finished(finished)
        else:
            audio.kept()
        assert audio.position_samples == len(said) // 2
    kept = audio.kept()
    if not kept:
        assert finished == len(said) // 2
        return
    first, codes = whole(kept)
    assert codes == g711.encode_ulaw(said)[first:]
    assert first == finished or (first > finished and len(codes) > KEPT_SAMPLES - 40_000)
