"""A tool collects keys: what the dispatcher sends, keeps and shows meanwhile."""

from __future__ import annotations

import pytest

from common.audio import g711
from common.link import wire
from dispatcher.call.actions import Action, Measurement
from dispatcher.call.caller.caller_mute import MAX_STRAY_SECONDS, SETTLE_SECONDS, STRAY_SECONDS, TAIL_SECONDS
from simulator.avr import dtmf
from tests.dispatcher.call_driver import FRAME_BYTES, CallDriver, to_worker
from tests.goertzel import keys_in

PIN = "2580"
VOICE = bytes(range(256)) * 5


def _frames(pcm: bytes) -> list[bytes]:
    return [pcm[start : start + FRAME_BYTES] for start in range(0, len(pcm), FRAME_BYTES)]


def _audio_of(taken: list[Action]) -> bytes:
    return b"".join(record.pcm for record in to_worker(taken) if isinstance(record, wire.CallerAudio))


def _kept(records: list[wire.Record]) -> bytes:
    codes = b"".join(record.ulaw for record in records if isinstance(record, wire.KeptAudio))
    return bytes(g711.decode_ulaw(codes))


def _begin(driver: CallDriver, number: int = 1) -> None:
    answer = to_worker(driver.record(wire.Collect(number, on=True, seconds=60.0)))
    assert answer == [wire.Collecting(number)]


def _type(driver: CallDriver, digits: str, *, before: bool = True) -> tuple[list[Action], bytes]:
    """Press keys, whose tones come with them; return the actions, and what a recorder would have recorded."""
    taken: list[Action] = []
    recorded = b""
    for digit in digits:
        if before:
            taken += driver.say(type="dtmf_digit", digit=digit)
        for frame in _frames(dtmf.key(digit)):
            taken += driver.audio(frame)
            recorded += bytes(len(frame)) if driver.call.is_caller_muted else frame
            driver.now += 0.02
        if not before:
            taken += driver.say(type="dtmf_digit", digit=digit)
    return taken, recorded


def test_detector_finds_the_tones_that_a_caller_sends() -> None:
    assert keys_in(b"".join(dtmf.key(digit) for digit in "0123456789*#ABCD")) == "0123456789*#ABCD"
    assert keys_in(bytes(16_000)) == ""


def test_detector_finds_tones_after_g711() -> None:
    pcm = b"".join(dtmf.key(digit) for digit in PIN)
    assert keys_in(bytes(g711.decode_ulaw(g711.encode_ulaw(pcm)))) == PIN


def test_keys_without_a_collection_are_heard(driver: CallDriver) -> None:
    driver.live()
    taken, recorded = _type(driver, "12")
    assert keys_in(_audio_of(taken)) == keys_in(recorded) == "12"
    assert [record.digit for record in to_worker(taken) if isinstance(record, wire.Dtmf)] == ["1", "2"]


@pytest.mark.parametrize("before", [True, False], ids=["key-then-tone", "tone-then-key"])
def test_collected_keys_go_to_the_tool_in_silence(driver: CallDriver, before: bool) -> None:
    driver.live(10**6)
    _begin(driver, 4)
    taken, recorded = _type(driver, PIN, before=before)
    records = to_worker(taken)
    assert [record for record in records if isinstance(record, wire.SecretKey)] == [
        wire.SecretKey(4, digit) for digit in PIN
    ]
    assert not any(isinstance(record, wire.Dtmf) for record in records)
    # They are not counted: the length of a PIN is a part of it.
    assert not any(isinstance(action, Measurement) for action in taken)
    # As much audio as the caller sent, so that positions stay right; all of it silence.
    assert len(_audio_of(taken)) == len(PIN) * len(dtmf.key("1"))
    assert not any(_audio_of(taken))
    assert not any(recorded)


def test_tone_of_the_last_key_is_silence_after_the_end(driver: CallDriver) -> None:
    driver.live(10**6)
    _begin(driver)
    driver.record(wire.Collect(1))
    taken = driver.audio(dtmf.tone("5", TAIL_SECONDS - 0.02))
    assert not any(_audio_of(taken))
    driver.tick(TAIL_SECONDS)
    assert _audio_of(driver.audio(VOICE)) == VOICE
    assert not driver.call.is_caller_muted


def test_surplus_keys_are_discarded(driver: CallDriver) -> None:
    driver.live()
    _begin(driver)
    driver.record(wire.Collect(1))
    driver.now += 0.3
    assert to_worker(driver.say(type="dtmf_digit", digit="#")) == []
    driver.tick(TAIL_SECONDS)
    assert to_worker(driver.say(type="dtmf_digit", digit="1")) == [wire.Dtmf("1")]


def test_next_session_gets_no_digits_of_a_lost_one(driver: CallDriver) -> None:
    driver.live(10**6)
    driver.audio(VOICE)
    _begin(driver)
    _type(driver, "25")
    driver.lose_worker()
    # The caller cannot know, and goes on.
    _, recorded = _type(driver, "80")
    records = to_worker(driver.placed(epoch=2))
    resumed = next(record for record in records if isinstance(record, wire.Resume))
    assert resumed.digits == ""
    assert "2580" not in repr(records)
    assert keys_in(_kept(records)) == ""
    assert not any(recorded)
    # What was said before the collection is kept.
    assert any(_kept(records))


def test_keys_are_discarded_until_the_next_session_is_up(driver: CallDriver) -> None:
    driver.live(10**6)
    _begin(driver)
    driver.lose_worker()
    driver.placed(epoch=2)
    driver.record(wire.Opened(10**6))
    driver.tick(STRAY_SECONDS + 1)
    taken, _ = _type(driver, "8")
    driver.record(wire.Ready())
    more, _ = _type(driver, "0")
    assert all(isinstance(record, wire.CallerAudio) for record in to_worker(taken + more))
    assert not any(_audio_of(taken + more))
    driver.tick(STRAY_SECONDS)
    assert _audio_of(driver.audio(VOICE)) == VOICE


def test_mute_without_a_next_session_is_bounded(driver: CallDriver) -> None:
    driver.live()
    _begin(driver)
    driver.lose_worker()
    driver.tick(MAX_STRAY_SECONDS)
    assert not driver.call.is_caller_muted


def test_next_session_may_collect_at_once(driver: CallDriver) -> None:
    driver.live(10**6)
    _begin(driver)
    driver.lose_worker()
    driver.placed(epoch=2)
    driver.record(wire.Opened(10**6))
    driver.record(wire.Ready())
    _begin(driver, 9)
    assert to_worker(driver.say(type="dtmf_digit", digit="5")) == [wire.SecretKey(9, "5")]


def test_prompt_of_the_next_session_waits_for_stray_keys(driver: CallDriver) -> None:
    driver.live(10**6)
    _begin(driver)
    _type(driver, "25")
    driver.lose_worker()
    driver.placed(epoch=2)
    driver.record(wire.Opened(10**6))
    driver.record(wire.Ready())
    assert to_worker(driver.record(wire.Collect(9, on=True, seconds=60.0))) == []
    assert to_worker(driver.say(type="dtmf_digit", digit="8")) == []
    assert to_worker(driver.tick(SETTLE_SECONDS)) == [wire.Collecting(9)]
    assert to_worker(driver.say(type="dtmf_digit", digit="2")) == [wire.SecretKey(9, "2")]


def test_dispatcher_that_attaches_silences_what_it_has(driver: CallDriver) -> None:
    """Keys that come before OPENED, with which the dispatcher learns of the collection."""
    driver.init()
    opening = next(record for record in to_worker(driver.placed(attach=True)) if isinstance(record, wire.Open))
    assert opening.collects
    _type(driver, "25")
    taken = driver.record(wire.Opened(10**6, attached=True, position_samples=80_000, collecting=True))
    taken += driver.record(wire.Ready())
    more, recorded = _type(driver, "80")
    records = to_worker(taken + more)
    assert not any(isinstance(record, wire.Dtmf | wire.SecretKey) for record in records)
    assert len(_audio_of(taken)) == 2 * len(dtmf.key("1"))
    assert keys_in(_audio_of(taken + more)) == ""
    assert not any(recorded)
    driver.tick(STRAY_SECONDS)
    assert not driver.call.is_caller_muted


def test_collection_of_another_session_has_no_effect(driver: CallDriver) -> None:
    """A session that stands by judges nothing about the call."""
    driver.live()
    driver.record(wire.Move("rollover", 10.0))
    current = driver.assignment
    driver.placed(epoch=2)
    assert driver.assignment is not current
    assert to_worker(driver.record(wire.Collect(1, on=True, seconds=60.0))) == []
    assert not driver.call.is_caller_muted
