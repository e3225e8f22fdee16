from __future__ import annotations

import pytest

from simulator.avr import dtmf
from simulator.avr.microphone import MAX_CATCH_UP_SECONDS, FrameSchedule, Microphone
from tests.goertzel import keys_in


def test_speech_is_cut_into_frames_and_padded_at_its_end() -> None:
    microphone = Microphone()
    microphone.say(b"\x01\x02" * 200)
    assert microphone.next_frame() == b"\x01\x02" * 160
    assert microphone.next_frame() == b"\x01\x02" * 40 + bytes(240)
    assert microphone.next_frame() is microphone.silence
    assert microphone.silence == bytes(320)


def test_next_speech_follows_without_a_pause() -> None:
    microphone = Microphone(frame_bytes=4)
    assert microphone.say(b"aabb") == 4
    microphone.next_frame()
    assert microphone.say(b"cc") == 6
    assert microphone.say(b"ddee") == 10
    assert [microphone.next_frame() for _ in range(2)] == [b"ccdd", b"ee\0\0"]
    assert microphone.said_bytes == 10
    assert not microphone.has_speech


def test_keys_come_one_by_one_five_a_second() -> None:
    microphone = Microphone()
    microphone.press("12#")
    pressed = [microphone.next_digit() for _ in range(25)]
    assert {frame: digit for frame, digit in enumerate(pressed) if digit} == {0: "1", 10: "2", 20: "#"}
    assert not microphone.has_digits


def test_keys_wait_for_earlier_speech() -> None:
    microphone = Microphone()
    microphone.press("5", after_bytes=microphone.say(bytes(640)))
    frames_before = 0
    while microphone.next_digit() is None:
        assert microphone.has_digits
        microphone.next_frame()
        frames_before += 1
    assert frames_before == 2


@pytest.mark.parametrize("frame_bytes", [0, 1, 321, -2])
def test_frame_of_half_a_sample_is_refused(frame_bytes: int) -> None:
    with pytest.raises(ValueError, match="not whole 16-bit samples"):
        Microphone(frame_bytes)


def test_half_samples_other_keys_and_endless_speech_are_refused() -> None:
    microphone = Microphone()
    with pytest.raises(ValueError, match="3 bytes are not whole 16-bit samples"):
        microphone.say(b"abc")
    with pytest.raises(ValueError, match="'x' is not a DTMF digit"):
        microphone.press("1x")
    assert not microphone.has_digits
    hour = bytes(3600 * 16000)
    microphone.say(hour)
    with pytest.raises(ValueError, match="more than an hour of speech"):
        microphone.say(bytes(2))


def test_frames_sent_late_do_not_delay_those_after_them() -> None:
    schedule = FrameSchedule(1000.0, 0.02)
    for frame in range(180_000):  # an hour, each frame a little late
        assert schedule.due_at_seconds == pytest.approx(1000.0 + frame * 0.02, abs=1e-6)
        schedule.sent(schedule.due_at_seconds + 0.003)
    assert schedule.latest_seconds == pytest.approx(0.003, abs=1e-6)


def test_lost_time_is_caught_up_by_a_bounded_burst() -> None:
    schedule = FrameSchedule(0.0, 0.02)
    awake_at_seconds = 10.0  # no frame could be sent earlier
    burst = 0
    while schedule.due_at_seconds <= awake_at_seconds:
        schedule.sent(awake_at_seconds)
        burst += 1
    assert burst == pytest.approx(MAX_CATCH_UP_SECONDS / 0.02, abs=1)  # the second that led up to then
    assert schedule.due_at_seconds == pytest.approx(10.0, abs=0.021)
    assert schedule.latest_seconds == 10.0


def test_audible_keys_come_with_the_beginning_of_their_tones() -> None:
    microphone = Microphone()
    microphone.say(bytes(640))
    end = microphone.press_audibly("25")
    heard, keys = b"", []
    while microphone.said_bytes < end:
        digit = microphone.next_digit()
        if digit:
            keys.append((digit, len(heard)))
        heard += microphone.next_frame()
    assert keys == [("2", 640), ("5", 640 + len(dtmf.key("2")))]
    assert keys_in(heard) == "25"
