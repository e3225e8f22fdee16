"""The timeline of a recording on an explicit clock, compared sample for sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dispatcher.recording import timeline as module
from dispatcher.recording.stretch import Stretch
from dispatcher.recording.timeline import Mute, Timeline

RATE_HZ = 8000
FRAME = 160
BEGAN_SECONDS = 1000.0

Channels = npt.NDArray[np.int16]


def ramp(samples: int, *, first: int = 1) -> bytes:
    """PCM16 of which no two samples near each other are alike, and none is silence."""
    return (1 + (first + np.arange(samples)) % 30_000).astype("<i2").tobytes()


class Call:
    """A call whose clock stands still until the test moves it, and everything that was recorded of it."""

    def __init__(self, *, is_new: bool = True) -> None:
        self.now = 0.0
        self.timeline = Timeline()
        self.timeline.begin(BEGAN_SECONDS)
        if is_new:
            self.timeline.decide(paused=False)
        self.recorded = np.zeros((0, 2), np.int16)
        self.said: list[bytes] = []

    @property
    def clock(self) -> float:
        return BEGAN_SECONDS + self.now

    def talk(self, seconds: float) -> None:
        """Send frames in real time, each when its last sample was said."""
        for _ in range(round(seconds * RATE_HZ / FRAME)):
            self.now = round(self.now + 0.02, 6)
            self.frame()

    def frame(self, number: int | None = None) -> None:
        """Send the next frame, or that with this number, now."""
        pcm = ramp(FRAME, first=len(self.said) * FRAME if number is None else number * FRAME)
        self.said.append(pcm)
        self.timeline.caller(pcm, self.clock)

    def tick(self) -> None:
        while (stretch := self.timeline.take(self.clock)) is not None:
            self._keep(stretch)

    def end(self) -> Channels:
        while (stretch := self.timeline.take(self.clock, is_last=True)) is not None:
            self._keep(stretch)
        return self.recorded

    def _keep(self, stretch: Stretch) -> None:
        assert stretch.position == len(self.recorded), "stretches follow each other"
        frames = np.frombuffer(stretch.frames(), np.int16).reshape(-1, 2)
        assert len(frames) == stretch.samples
        self.recorded = np.concatenate((self.recorded, frames))


def left(recorded: Channels) -> Channels:
    return recorded[:, 0]


def right(recorded: Channels) -> Channels:
    return recorded[:, 1]


def as_samples(pcm: bytes) -> Channels:
    return np.frombuffer(pcm, np.int16)


def test_caller_who_talks_all_the_time_is_recorded_exactly() -> None:
    call = Call()
    for _ in range(30):
        call.talk(0.2)
        call.tick()
    assert (left(call.end()) == as_samples(b"".join(call.said))).all()
    assert len(call.recorded) == 6 * RATE_HZ
    assert not right(call.recorded).any()


def test_first_frame_that_is_late_lies_where_it_was_said() -> None:
    call = Call()
    call.now = 0.5
    call.talk(3)
    recorded = left(call.end())
    assert not recorded[: RATE_HZ // 2].any()
    assert (recorded[RATE_HZ // 2 :] == as_samples(b"".join(call.said))).all()


def test_gap_is_silence_of_its_true_length() -> None:
    call = Call()
    call.talk(2)
    call.tick()
    call.now += 1.5
    call.tick()
    call.talk(2)
    recorded = left(call.end())
    said = as_samples(b"".join(call.said))
    assert (recorded[: 2 * RATE_HZ] == said[: 2 * RATE_HZ]).all()
    assert not recorded[2 * RATE_HZ : int(3.5 * RATE_HZ)].any()
    assert (recorded[int(3.5 * RATE_HZ) :] == said[2 * RATE_HZ :]).all()


def test_stall_of_the_network_shifts_nothing() -> None:
    call = Call()
    call.talk(2)
    call.now += 1.5
    call.tick()
    for _ in range(75):  # what was said during the stall comes at once
        call.frame()
    call.talk(2)
    assert (left(call.end()) == as_samples(b"".join(call.said))).all()
    assert len(call.recorded) == int(5.5 * RATE_HZ)


def test_outage_with_a_backlog_lies_where_it_was_said() -> None:
    call = Call()
    call.talk(2)
    call.now += 3  # two seconds are lost, and the core has kept the third one
    call.tick()
    for _ in range(50):
        call.frame()
    call.talk(2)
    recorded = left(call.end())
    said = as_samples(b"".join(call.said))
    assert not recorded[2 * RATE_HZ : 4 * RATE_HZ].any()
    assert (recorded[4 * RATE_HZ :] == said[2 * RATE_HZ :]).all()


def test_jitter_below_the_gap_shifts_nothing() -> None:
    call = Call()
    call.talk(2)
    for number in range(100):
        call.now += 0.02
        late = (0.0, 0.03, 0.06, 0.09)[number % 4]
        call.now += late
        call.frame()
        call.now -= late
    assert (left(call.end()) == as_samples(b"".join(call.said))).all()


def test_audio_later_than_the_bound_is_lost_and_counted() -> None:
    call = Call()
    call.talk(2)
    call.now += 8
    call.tick()  # five seconds are waited for
    for _ in range(400):
        call.frame()
    call.talk(2)
    recorded = left(call.end())
    said = as_samples(b"".join(call.said))
    assert not recorded[2 * RATE_HZ : 5 * RATE_HZ].any()
    assert (recorded[5 * RATE_HZ :] == said[5 * RATE_HZ :]).all()
    assert call.timeline.lost_samples == 3 * RATE_HZ


def test_caller_faster_than_real_time_is_bounded() -> None:
    call = Call()
    call.talk(2)
    for _ in range(500):
        call.frame()  # ten seconds at once
    call.now += 1
    call.tick()
    assert call.timeline.lost_samples >= 9 * RATE_HZ
    assert len(call.end()) == 3 * RATE_HZ


def test_reply_lies_where_the_playout_clock_says() -> None:
    call = Call()
    call.talk(1)
    reply = ramp(2 * RATE_HZ)
    call.timeline.played(reply[: 320 * 10], call.clock + 0.2)
    call.timeline.played(reply[320 * 10 :], call.clock + 2)
    for _ in range(20):
        call.talk(0.2)
        call.tick()
    recorded = right(call.end())
    assert not recorded[:RATE_HZ].any()
    assert (recorded[RATE_HZ : 3 * RATE_HZ] == as_samples(reply)).all()
    assert not recorded[3 * RATE_HZ :].any()


def test_interruption_cuts_the_reply_at_its_sample() -> None:
    call = Call()
    call.talk(1)
    reply = ramp(4 * RATE_HZ)
    for part in range(4):  # each a second, all handed over at once
        call.timeline.played(reply[part * 16_000 : (part + 1) * 16_000], call.clock + part + 1)
    call.talk(1.5)
    call.tick()
    call.timeline.interrupted(call.clock)
    answer = ramp(RATE_HZ, first=7)
    call.talk(0.5)
    call.timeline.played(answer, call.clock + 1)
    call.talk(2)
    recorded = right(call.end())
    cut = int(2.5 * RATE_HZ)
    assert (recorded[RATE_HZ:cut] == as_samples(reply)[: cut - RATE_HZ]).all()
    assert not recorded[cut : 3 * RATE_HZ].any()
    assert (recorded[3 * RATE_HZ : 4 * RATE_HZ] == as_samples(answer)).all()
    assert not recorded[4 * RATE_HZ :].any()


def test_call_that_ends_in_a_reply_ends_its_recording_there() -> None:
    call = Call()
    call.talk(1)
    call.timeline.played(ramp(4 * RATE_HZ), call.clock + 4)
    call.talk(1)
    assert len(call.end()) == 2 * RATE_HZ
    assert (right(call.recorded)[RATE_HZ:] == as_samples(ramp(RATE_HZ))).all()


def test_pause_silences_both_channels_and_nothing_else() -> None:
    call = Call()
    call.timeline.played(ramp(6 * RATE_HZ), call.clock + 6)
    call.talk(2)
    call.tick()
    call.timeline.pause(True, call.clock)
    call.talk(2)
    call.tick()
    assert call.timeline.is_paused
    call.timeline.pause(False, call.clock)
    call.talk(2)
    recorded = call.end()
    said, heard = as_samples(b"".join(call.said)), as_samples(ramp(6 * RATE_HZ))
    first, end = 2 * RATE_HZ, 4 * RATE_HZ
    assert not recorded[first:end].any()
    for channel, expected in ((left(recorded), said), (right(recorded), heard)):
        assert (channel[:first] == expected[:first]).all()
        assert (channel[end:] == expected[end:]).all()


def test_sound_of_a_pause_that_arrives_behind_it_is_silent() -> None:
    call = Call()
    call.talk(2)
    call.timeline.pause(True, call.clock)
    call.now += 1
    call.timeline.pause(False, call.clock)
    for _ in range(50):  # the network had stalled
        call.frame()
    call.talk(2)
    recorded = left(call.end())
    assert not recorded[2 * RATE_HZ : 3 * RATE_HZ].any()
    assert (recorded[3 * RATE_HZ :] == as_samples(b"".join(call.said))[3 * RATE_HZ :]).all()


def test_muted_caller_is_silent_and_the_agent_is_not() -> None:
    call = Call()
    call.timeline.played(ramp(4 * RATE_HZ), call.clock + 4)
    call.talk(1)
    call.timeline.mute_caller(True, call.clock)
    call.talk(2)
    call.timeline.mute_caller(False, call.clock)
    call.talk(1)
    recorded = call.end()
    assert not left(recorded)[RATE_HZ : 3 * RATE_HZ].any()
    assert left(recorded)[:RATE_HZ].all()
    assert left(recorded)[3 * RATE_HZ :].all()
    assert (right(recorded) == as_samples(ramp(4 * RATE_HZ))).all()


def test_state_that_is_learnt_late_loses_nothing() -> None:
    call = Call(is_new=False)
    call.talk(8)
    call.tick()
    assert not len(call.recorded), "the stretch waits"
    call.timeline.decide(paused=False)
    assert (left(call.end()) == as_samples(b"".join(call.said))).all()


def test_call_that_was_paused_elsewhere_is_silent_from_the_start() -> None:
    call = Call(is_new=False)
    call.talk(2)
    call.timeline.decide(paused=True)
    call.talk(2)
    assert call.timeline.is_paused
    call.timeline.pause(False, call.clock)
    call.talk(2)
    recorded = left(call.end())
    assert not recorded[: 4 * RATE_HZ].any()
    assert recorded[4 * RATE_HZ :].all()


def test_state_that_is_not_learnt_in_time_means_silence() -> None:
    call = Call(is_new=False)
    call.talk(14)
    call.tick()
    assert len(call.recorded) >= 3 * RATE_HZ
    silent = len(call.recorded)
    call.timeline.decide(paused=False)
    recorded = left(call.end())
    assert not recorded[:silent].any()
    assert recorded[silent:].all()


def test_pause_before_the_state_is_known_holds() -> None:
    call = Call(is_new=False)
    call.talk(1)
    call.timeline.pause(True, call.clock)
    call.timeline.decide(paused=False)
    call.talk(1)
    recorded = left(call.end())
    assert recorded[:RATE_HZ].all()
    assert not recorded[RATE_HZ:].any()


def test_reply_audio_too_far_ahead_is_not_kept() -> None:
    call = Call()
    pcm = bytes(16_000 * 30)
    for part in range(6):
        call.timeline.played(pcm, call.clock + 30 * (part + 1))
    assert call.timeline.lost_samples == 60 * RATE_HZ


def test_stretch_is_bounded_however_late_it_is_taken() -> None:
    call = Call()
    call.talk(1)
    call.now += 600
    stretch = call.timeline.take(call.clock)
    assert stretch is not None
    assert stretch.samples == module.MAX_STRETCH_SAMPLES
    call.recorded = np.zeros((stretch.samples, 2), np.int16)
    assert len(call.end()) == 601 * RATE_HZ


def test_audio_before_init_is_ignored() -> None:
    timeline = Timeline()
    timeline.caller(ramp(FRAME), BEGAN_SECONDS)
    assert timeline.take(BEGAN_SECONDS, is_last=True) is None


@pytest.mark.parametrize("seed", range(40))
def test_no_sample_moves_however_frames_are_cut_and_taken(seed: int) -> None:
    """Random sizes of frames, jitter and ticks: the caller's audio stays within a gap of its place, in order."""
    random = np.random.default_rng(seed)
    call = Call()
    said, position = ramp(12 * RATE_HZ), 0
    while position < 12 * RATE_HZ:
        size = int(random.integers(1, 1600))
        pcm = said[position * 2 : (position + size) * 2]
        position += len(pcm) // 2
        call.now = max(call.now, position / RATE_HZ + float(random.uniform(0, 0.09)))
        call.timeline.caller(pcm, call.clock)
        if random.random() < 0.3:
            call.tick()
    call.now += 0.1
    recorded = left(call.end())
    sounds = recorded[recorded != 0]
    assert (sounds == as_samples(said)).all()
    first = int(np.flatnonzero(recorded)[0])
    assert first <= 0.09 * RATE_HZ
    assert int(np.flatnonzero(recorded)[-1]) - first < 12 * RATE_HZ + module.GAP_SAMPLES


def test_spans_of_silence_are_bounded_and_grow_together() -> None:
    mute = Mute()
    for number in range(3 * module.MAX_SPANS):
        mute.set(True, 10 * number)
        mute.set(False, 10 * number + 5)
    spans = mute.take(0, 10**6)
    assert len(spans) == module.MAX_SPANS
    assert spans[0] == (0, 5)
    assert spans[-1][1] == 10 * (3 * module.MAX_SPANS - 1) + 5, "what was silent stays silent"


def test_state_is_decided_once() -> None:
    call = Call()
    call.timeline.decide(paused=True)
    assert not call.timeline.is_paused


def test_pause_that_ended_before_the_state_is_known_holds() -> None:
    call = Call(is_new=False)
    call.talk(1)
    call.timeline.pause(True, call.clock)
    call.talk(1)
    call.timeline.pause(False, call.clock)
    call.talk(1)
    call.timeline.decide(paused=True)
    recorded = left(call.end())
    assert not recorded[: 2 * RATE_HZ].any()
    assert recorded[2 * RATE_HZ :].all()


def test_sound_whose_time_is_over_is_cut_in_front() -> None:
    call = Call()
    call.talk(3)
    call.tick()
    taken = call.timeline.taken_samples
    call.timeline.played(ramp(2 * RATE_HZ), BEGAN_SECONDS + taken / RATE_HZ + 1)
    call.talk(2)
    assert (right(call.end())[taken : taken + RATE_HZ] == as_samples(ramp(2 * RATE_HZ))[RATE_HZ:]).all()


def test_interruption_of_nothing_changes_nothing() -> None:
    call = Call()
    call.talk(1)
    call.timeline.interrupted(call.clock)
    call.timeline.played(ramp(RATE_HZ), call.clock + 1)
    call.talk(2)
    assert (right(call.end())[RATE_HZ : 2 * RATE_HZ] == as_samples(ramp(RATE_HZ))).all()
