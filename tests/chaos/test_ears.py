from __future__ import annotations

import random

import numpy as np
import pytest

from simulator.avr.playout import PlayoutBuffer
from simulator.realtime.voice import WordVoice
from tests.chaos.ears import UNKNOWN, Ear, HeardWord, Stretch, played
from worker.audio.audio_format import for_format

_WORDS = """
alpha bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november
zero one two three four five six seven eight nine ten greeting reply turn
"""
_VOCABULARY = _WORDS.split()


def _said(*words: str) -> bytes:
    """Words as they come from a worker: at 8 kHz, behind its resampler."""
    downlink = for_format("pcm").downlink()
    return downlink.decode(WordVoice(words, 400).pcm(0, 400 * len(words))) + downlink.flush()


def _cut(pcm: bytes, milliseconds: int) -> bytes:
    return pcm[: milliseconds * 16]


def _heard(*stretches: bytes) -> list[HeardWord]:
    return Ear(_VOCABULARY).listen([Stretch(0.0, pcm) for pcm in stretches])


def _same(heard: list[HeardWord], *words: str) -> bool:
    ear = Ear(_VOCABULARY)
    return len(heard) == len(words) and all(ear.same(e.word, word) for e, word in zip(heard, words, strict=True))


def test_every_word_is_told_from_every_other() -> None:
    words = random.Random(1).choices(_VOCABULARY, k=200)
    heard = _heard(_said(*words))
    assert _same(heard, *words)
    assert all(word.whole for word in heard)
    assert [round(word.at_seconds / 0.4) for word in heard] == list(range(200))


def test_some_words_sound_alike_and_most_do_not() -> None:
    ear = Ear(_VOCABULARY)
    assert ear.same("bravo", "one")
    assert not ear.same("alpha", "one")
    assert ear.same("never heard", "never heard")
    assert not ear.same("never heard", "alpha")


@pytest.mark.parametrize("milliseconds", [100, 150, 200, 250])
def test_a_word_that_was_cut_is_known_by_its_beginning(milliseconds: int) -> None:
    for word in _VOCABULARY:
        (heard,) = _heard(_cut(_said(word), milliseconds))
        assert Ear(_VOCABULARY).same(heard.word, word)
        assert heard.share == pytest.approx(milliseconds / 320, abs=0.05)
        assert not heard.whole


def test_too_short_sound_is_no_word() -> None:
    (short,) = _heard(_cut(_said("alpha"), 50))
    assert short.word == UNKNOWN
    assert _heard(_cut(_said("alpha"), 10)) == []
    assert _heard(bytes(16000)) == []


def test_a_word_behind_one_that_was_cut_is_known() -> None:
    rng = random.Random(2)
    for _ in range(50):
        one, other = rng.choices(_VOCABULARY, k=2)
        heard = _heard(_cut(_said(one), rng.randint(40, 300)) + _said(other))
        assert _same(heard[-1:], other)
        assert heard[-1].whole


@pytest.mark.parametrize("milliseconds", [5, 15, 22, 25, 29])
def test_word_behind_the_swell_of_another_is_known(milliseconds: int) -> None:
    for one, other in (("alpha", "reply"), ("delta", "bravo"), ("turn", "charlie")):
        heard = _heard(_cut(_said(one), milliseconds) + _said(other))
        assert _same(heard[-1:], other)


def test_word_behind_a_cut_one_and_a_pause_has_its_own_time() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_cut(_said("alpha"), 100), 1.0)
    playout.add(_said("delta"), 7.5)
    playout.end(10.0)
    cut, whole = Ear(_VOCABULARY).listen(played(playout, 10.0))
    assert not cut.whole
    assert whole.word == "delta"
    assert cut.at_seconds == pytest.approx(1.0, abs=0.05)
    assert whole.at_seconds == pytest.approx(7.5, abs=0.05)


def test_a_sound_that_is_no_word_is_none() -> None:
    noise = np.random.default_rng(1).integers(-8000, 8000, 2560).astype("<i2").tobytes()
    (heard,) = _heard(noise + bytes(640))
    assert heard.word == UNKNOWN
    assert heard.whole, "it cannot be passed over"


def test_frames_that_are_missing_in_a_word_are_noticed() -> None:
    whole = _said("alpha")
    (heard,) = _heard(whole[:960] + whole[960 + 2 * 320 :])
    assert not heard.whole


def test_played_audio_is_one_stretch_until_audio_is_dropped() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(b"\x01\x00" * 800, 1.0)  # 100 ms, heard out
    playout.add(b"\x02\x00" * 800, 2.0)
    playout.clear(2.05)
    playout.add(b"\x03\x00" * 800, 3.0)
    playout.end(4.0)
    assert played(playout, 5.0) == [
        Stretch(1.0, b"\x01\x00" * 800 + b"\x02\x00" * 400, ((800, 2.0),)),
        Stretch(3.0, b"\x03\x00" * 800),
    ]
    assert played(PlayoutBuffer(0.0), 1.0) == []


def test_word_behind_a_pause_has_the_time_when_it_was_played() -> None:
    playout = PlayoutBuffer(0.0)
    playout.add(_said("alpha"), 1.0)
    playout.add(_said("delta"), 7.5)
    playout.end(10.0)
    one, other = Ear(_VOCABULARY).listen(played(playout, 10.0))
    assert one.at_seconds == pytest.approx(1.0, abs=0.05)
    assert other.at_seconds == pytest.approx(7.5, abs=0.05)
