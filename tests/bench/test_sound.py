from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import sound
from worker.audio.audio_format import for_format

FORMATS = pytest.mark.parametrize("audio_format", ["pcm", "pcmu"])
SECONDS = 3


def said(audio_format: str, call: int) -> bytes:
    """What the API gets of a caller, frame by frame."""
    uplink = for_format(audio_format).uplink()
    frames = itertools.islice(itertools.cycle(sound.caller_frames(call)), SECONDS * sound.FRAMES_PER_SECOND)
    return b"".join(map(uplink.encode, frames))


@FORMATS
@pytest.mark.parametrize("call", [0, 1, 49, 50])
@given(data=st.data())
def test_position_in_a_callers_audio_is_known_from_any_byte(
    audio_format: str, call: int, data: st.DataObject
) -> None:
    audio = said(audio_format, call)
    start = data.draw(st.integers(0, len(audio)))
    end = data.draw(st.integers(start, len(audio)))
    expected = sound.appended(audio_format, call)
    assert expected.matches(start, audio[start:end])
    if start < end:
        assert not expected.matches(start, audio[start : end - 1] + bytes([audio[end - 1] ^ 1]))
        assert not sound.appended(audio_format, call + 1).matches(start, audio[start:end]) or end - start < 100


@FORMATS
def test_no_caller_is_taken_for_its_neighbour(audio_format: str) -> None:
    frames = [sound.caller_frames(call)[0] for call in range(sound.LOOP_FRAMES)]
    assert len(set(frames)) == sound.LOOP_FRAMES
    voices = [sound.heard(audio_format, voice)[0] for voice in range(sound.VOICES)]
    assert len(set(voices)) == sound.VOICES


@FORMATS
def test_reply_is_as_long_as_its_deltas_and_resampler_tail(audio_format: str) -> None:
    frames = len(sound.heard(audio_format, 0))
    assert frames == sound.DELTAS * sound.FRAMES_PER_DELTA + (audio_format == "pcm")
