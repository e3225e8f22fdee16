from __future__ import annotations

from typing import Final

from simulator.avr.caller_track import CallerTrack

_START: Final = 100.0
_FRAME: Final = b"\x01\x02" * 160
_SILENCE: Final = bytes(320)


def test_frames_in_a_row_are_one_utterance_before_they_are_sent() -> None:
    track = CallerTrack(_START)
    for number in range(5, 8):
        track.add(_FRAME, _START + number * 0.02)
    (utterance,) = track.utterances
    assert (utterance.start_sample, utterance.end_sample, utterance.pcm) == (640, 1120, 3 * _FRAME)


def test_pause_separates_utterances_and_is_silent() -> None:
    track = CallerTrack(_START)
    for number in (1, 3):
        track.add(_FRAME, _START + number * 0.02)
    assert [utterance.start_sample for utterance in track.utterances] == [0, 320]
    assert track.pcm(640) == _FRAME + _SILENCE + _FRAME + _SILENCE


def test_timeline_ends_with_the_call_and_begins_with_it() -> None:
    track = CallerTrack(_START)
    for number in range(2):
        track.add(_FRAME, _START + number * 0.02)
    assert track.utterances[0].start_sample == 0
    assert track.pcm(80) == _FRAME[:160]


def test_sound_above_the_limit_is_left_out() -> None:
    track = CallerTrack(_START, record_limit_bytes=700)
    for number in range(5):
        track.add(_FRAME, _START + number * 0.02)
    assert len(track.utterances[0].pcm) == 640
