"""What a call's core tells its recording, compared sample by sample with a simulated caller on the same clock."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from common.link import wire
from dispatcher.call import actions
from dispatcher.call.actions import Action
from dispatcher.call.announcements import SILENT, Announcements
from dispatcher.call.call import Call
from dispatcher.recording.timeline import Timeline
from simulator.avr.playout import PlayoutBuffer
from tests.dispatcher.call_driver import METADATA, CallDriver

RATE_HZ = 8000
FRAME_SAMPLES = 160

Samples = npt.NDArray[np.int16]


def sound(samples: int, *, first: int = 1) -> bytes:
    """PCM16 without silence, of which no two samples near each other are alike."""
    return (1 + (first + np.arange(samples)) % 30_000).astype("<i2").tobytes()


def driver_of(timeline: Timeline, announcements: Announcements = SILENT) -> CallDriver:
    """A call that is recorded."""
    driver = CallDriver(announcements=announcements)
    driver.call = Call(METADATA, driver.now, driver.limits, announcements, timeline)
    return driver


class RecordedCall:
    """A call with its recording, and with a core whose playout is simulated on the same clock."""

    def __init__(self, announcements: Announcements = SILENT) -> None:
        self.timeline = Timeline()
        self.timeline.decide(paused=False)
        self.driver = driver_of(self.timeline, announcements)
        self.playout = PlayoutBuffer(self.driver.now)
        self.said: list[bytes] = []
        self.frames: list[bytes] = []
        self.is_connected = True
        self._step = round(self.driver.now / 0.02)
        self.driver.live()

    def run(self, seconds: float) -> None:
        """Let time pass: the caller sends a frame every 20 ms, and the shell ticks five times a second."""
        for _ in range(round(seconds * 50)):
            self._step += 1
            self.driver.now = self._step * 0.02
            if self.is_connected:
                frame = sound(FRAME_SAMPLES, first=len(self.said) * FRAME_SAMPLES)
                self.said.append(frame)
                self._do(self.driver.audio(frame))
            if self._step % 10 == 0:
                self._do(self.driver.tick())
                self.take()

    def reply(self, item: int, pcm: bytes) -> None:
        self._do(self.driver.reply(item, pcm))

    def record(self, record: wire.Control) -> None:
        self._do(self.driver.record(record))

    def take(self) -> None:
        stretch = self.timeline.take(self.driver.now)
        if stretch is not None:
            self.frames.append(stretch.frames())

    def end(self) -> tuple[Samples, Samples]:
        """End the call; return both channels."""
        while (stretch := self.timeline.take(self.driver.now, is_last=True)) is not None:
            self.frames.append(stretch.frames())
        recorded = np.frombuffer(b"".join(self.frames), np.int16).reshape(-1, 2)
        return recorded[:, 0], recorded[:, 1]

    @property
    def heard(self) -> Samples:
        """What the simulated caller heard."""
        return np.frombuffer(self.playout.heard(self.driver.now), np.int16)

    def _do(self, taken: list[Action]) -> None:
        for action in taken:
            if isinstance(action, actions.Play):
                self.playout.add(action.pcm, self.driver.now)
            elif isinstance(action, actions.Interrupt):
                self.playout.clear(self.driver.now)


def assert_heard(call: RecordedCall) -> None:
    """Both channels are what was said and heard."""
    left, right = call.end()
    assert (left == np.frombuffer(b"".join(call.said), np.int16)[: len(left)]).all()
    assert len(right) == len(call.heard)
    different = np.flatnonzero(right != call.heard)
    assert len(different) == 0, f"first at {different[0]}"


def test_reply_faster_than_real_time_is_recorded_as_heard() -> None:
    call = RecordedCall()
    call.run(1)
    call.record(wire.ReplyItem(0, "a"))
    for part in range(8):
        call.reply(0, sound(2000, first=1 + part * 2000))
        call.run(0.1)
    call.record(wire.ReplyItemDone(0))
    call.run(3)
    assert np.count_nonzero(call.heard) == 16_000
    assert_heard(call)


def test_interrupted_reply_ends_where_it_was_heard_last() -> None:
    call = RecordedCall()
    call.run(1)
    call.record(wire.ReplyItem(0, "a"))
    call.reply(0, sound(3 * RATE_HZ))
    call.run(1.3)
    call.record(wire.Flush(1))
    call.run(1)
    call.record(wire.ReplyItem(1, "b"))
    call.reply(1, sound(RATE_HZ, first=77))
    call.run(2)
    assert np.count_nonzero(call.heard) == round(1.3 * RATE_HZ) + RATE_HZ
    assert_heard(call)


def test_replies_of_a_lost_worker_and_the_next_are_recorded() -> None:
    call = RecordedCall()
    call.run(1)
    call.record(wire.ReplyItem(0, "a"))
    call.reply(0, sound(12_345))  # no whole frames: the rest is filled up
    call.run(0.5)
    call._do(call.driver.lose_worker())
    call.run(2)
    call.driver.placed(worker="w-2", epoch=2)
    call.record(wire.Opened(32_000))
    call.record(wire.Ready())
    call.record(wire.ReplyItem(1, "b"))
    call.reply(1, sound(RATE_HZ))
    call.run(2)
    assert_heard(call)


def test_filler_is_recorded() -> None:
    call = RecordedCall(Announcements(filler=sound(FRAME_SAMPLES * 5), filler_after_seconds=0.5))
    call.record(wire.Awaiting(True))
    for _ in range(100):
        call.run(0.02)
        call.driver.call.wake(call.driver.now)
        call._do(call.driver.take())
    assert np.count_nonzero(call.heard) > RATE_HZ
    assert_heard(call)


def test_audio_that_is_held_is_recorded_when_it_is_played() -> None:
    call = RecordedCall()
    call.run(1)
    call.driver.pause()
    call.record(wire.ReplyItem(0, "a"))
    call.reply(0, sound(RATE_HZ))
    call.run(1)
    call._do(call.driver.resume())
    call.run(2)
    assert not call.heard[: 2 * RATE_HZ].any()
    assert call.heard[2 * RATE_HZ : 3 * RATE_HZ].all()
    assert_heard(call)


def test_interruption_while_the_core_is_away_counts_later() -> None:
    """The core plays on what it has while its connection is broken."""
    call = RecordedCall()
    call.run(1)
    call.record(wire.ReplyItem(0, "a"))
    call.reply(0, sound(4 * RATE_HZ))
    call.run(1)
    call.is_connected = False
    call.driver.call.caller_closed(1006, call.driver.now)
    call._do(call.driver.take())
    call.record(wire.Flush(1))
    call.run(1)
    call.is_connected = True
    call.driver.call.caller_back(call.driver.now)
    call._do(call.driver.take())
    call.run(2)
    _, right = call.end()
    assert np.count_nonzero(right) == 2 * RATE_HZ
    assert (right == call.heard).all()


def test_sound_behind_a_take_over_waits_for_the_cores_buffer() -> None:
    """Another dispatcher gave the core two seconds; its sound is in that dispatcher's file."""
    timeline = Timeline()
    timeline.decide(paused=False)
    driver = driver_of(timeline)
    driver.init()
    driver.placed(attach=True, age_seconds=10)
    driver.record(wire.Opened(32_000, attached=True, position_samples=80_000))
    driver.record(wire.Playout((), False, (wire.ItemHeard(0, 2 * RATE_HZ),)))
    driver.record(wire.Ready())
    driver.reply(0, sound(RATE_HZ))
    driver.now += 4
    frames = b""
    while (stretch := timeline.take(driver.now, is_last=True)) is not None:
        frames += stretch.frames()
    right = np.frombuffer(frames, np.int16).reshape(-1, 2)[:, 1]
    assert not right[: 2 * RATE_HZ].any()
    assert right[2 * RATE_HZ : 3 * RATE_HZ].all()


def test_call_without_a_recording_does_the_same() -> None:
    call, plain = RecordedCall(), CallDriver()
    plain.live()
    call.record(wire.ReplyItem(0, "a"))
    plain.record(wire.ReplyItem(0, "a"))
    pcm = sound(1000)
    assert call.driver.reply(0, pcm) == plain.reply(0, pcm)


@pytest.mark.parametrize("seed", range(25))
def test_whatever_happens_the_recording_is_what_was_heard(seed: int) -> None:
    random = np.random.default_rng(seed)
    call = RecordedCall()
    call.run(0.5)
    item, flushes = 0, 0
    call.record(wire.ReplyItem(item, f"item-{item}"))
    for _ in range(60):
        choice = random.random()
        if choice < 0.5:
            # The worker has credit for so much, and the core reads as fast as it comes.
            call.reply(item, sound(int(random.integers(1, 4000)), first=int(random.integers(0, 9999))))
        elif choice < 0.65:
            call.record(wire.ReplyItemDone(item))
            item += 1
            call.record(wire.ReplyItem(item, f"item-{item}"))
        elif choice < 0.75:
            flushes += 1
            call.record(wire.Flush(flushes))
            item += 1
            call.record(wire.ReplyItem(item, f"item-{item}"))
        call.run(float(random.integers(1, 30)) * 0.02)
    assert np.count_nonzero(call.heard) > RATE_HZ
    assert_heard(call)
