"""Filler: a soft sound while an answer is owed and nothing is audible."""

from __future__ import annotations

from common.link import wire
from dispatcher.call.actions import Action, Interrupt, Metric, Wake
from dispatcher.call.announcements import Announcements
from dispatcher.call.assignment import Assignment
from tests.dispatcher.call_driver import (
    CallDriver,
    heard_pcm,
    of,
    opened_with,
    reported,
    sound,
    to_caller,
    to_worker,
)

LOOP = sound(1_000, seed=5)
AWAITING, SETTLED = wire.Awaiting(True), wire.Awaiting(False)


class Wakeful(CallDriver):
    """A call whose wakes come in time, with ticks between them."""

    def __init__(self, sound: bytes = LOOP, **limits: float) -> None:
        super().__init__(announcements=Announcements(filler=sound, filler_after_seconds=1.5), **limits)
        self._wake_seconds: float | None = None
        self._tick_seconds = self.now

    def take(self) -> list[Action]:
        taken = super().take()
        for wake in of(Wake, taken):
            assert isinstance(wake, Wake)
            assert self._wake_seconds is None, "one wake at a time"
            self._wake_seconds = wake.at_seconds
        return taken

    def run(self, seconds: float) -> list[Action]:
        """Let time pass."""
        until, taken = self.now + seconds, list[Action]()
        while True:
            due = min(self._tick_seconds + 0.2, self._wake_seconds or float("inf"))
            if due > until:
                break
            self.now = due
            if due == self._wake_seconds:
                self._wake_seconds = None
                self.call.wake(self.now)
            else:
                self._tick_seconds = due
                self.call.tick(self.now)
            taken += self.take()
        self.now = until
        return taken

    @property
    def sleeps(self) -> bool:
        return self._wake_seconds is None


def waiting() -> Wakeful:
    """Return a call with a session, of which the caller waits for an answer."""
    driver = Wakeful()
    driver.live()
    driver.run(1.2)
    driver.record(AWAITING)
    return driver


def looped(size: int) -> bytes:
    return (LOOP * (size // len(LOOP) + 1))[:size]


def test_it_is_off_by_default_and_nothing_is_scheduled() -> None:
    driver = CallDriver().live()
    driver.record(AWAITING)
    assert not driver.tick(5.0)


def test_the_worker_is_told_that_awaiting_is_wanted() -> None:
    wakeful = Wakeful()
    wakeful.init()
    assert opened_with(wakeful.placed()).filler
    plain = CallDriver()
    plain.init()
    assert not opened_with(plain.placed()).filler


def test_it_plays_in_real_time_after_the_time_that_is_set() -> None:
    driver = waiting()
    assert not driver.run(1.4)
    taken = driver.run(0.4)
    assert 0 < len(heard_pcm(taken)) <= (0.3 + 0.06) * 16_000
    since = driver.now
    heard = heard_pcm(taken)
    for _ in range(100):
        heard += heard_pcm(driver.run(0.05))
        assert driver.call._playback.ahead_seconds(driver.now) <= 0.06 + 1e-6
    assert abs(len(heard) - len(heard_pcm(taken)) - (driver.now - since) * 16_000) <= 0.06 * 16_000
    assert heard == looped(len(heard))


def test_it_stops_when_nothing_is_owed_and_begins_anew() -> None:
    driver = waiting()
    assert heard_pcm(driver.run(3.0))
    driver.record(SETTLED)
    assert not heard_pcm(driver.run(3.0))
    assert driver.sleeps
    driver.record(AWAITING)
    assert heard_pcm(driver.run(3.0))[:600] == LOOP[:600]


def test_a_reply_stops_it_and_follows_behind_what_was_sent() -> None:
    driver = waiting()
    driver.run(3.0)
    ahead = driver.call._playback.ahead_seconds(driver.now)
    assert 0 < ahead <= 0.06 + 1e-6
    reply = sound(3_200)
    assert heard_pcm(driver.reply(0, reply)) == reply
    assert abs(driver.call._playback.ahead_seconds(driver.now) - ahead - 0.2) < 1e-9
    assert not heard_pcm(driver.run(0.2))
    driver.record(SETTLED)
    # The filler that was before it is no part of what was heard.
    (heard,) = [each for each in to_worker(driver.record(wire.Flush(1))) if isinstance(each, wire.Heard)]
    ((index, samples),) = [(each.index, each.samples) for each in heard.items]
    assert index == 0
    assert abs(samples - (0.2 - ahead) * 8000) <= 1


def test_after_a_reply_it_waits_its_time_again() -> None:
    driver = waiting()
    driver.run(3.0)
    driver.reply(0, sound(3_200))
    driver.record(wire.ReplyItemDone(0))
    assert not heard_pcm(driver.run(1.6))
    assert heard_pcm(driver.run(0.4))


def test_speech_during_filler_is_no_barge_in() -> None:
    driver = waiting()
    driver.run(3.0)
    ahead = driver.call._playback.ahead_seconds(driver.now)
    driver.record(SETTLED)
    taken = driver.record(wire.Flush(1))
    assert not of(Interrupt, taken)
    assert not reported(taken, Metric.INTERRUPTION)
    assert [each for each in to_worker(taken) if isinstance(each, wire.Heard)] == [wire.Heard(1, ())]
    # AVR Core plays the rest of it, so a reply that comes now begins behind it.
    driver.reply(0, sound(3_200))
    assert abs(driver.call._playback.ahead_seconds(driver.now) - ahead - 0.2) < 1e-9


def test_it_is_in_no_report_metric_or_transcript() -> None:
    driver = Wakeful()
    driver.connecting()
    taken = driver.run(3.0)
    driver.record(AWAITING)
    taken += driver.run(3.0)
    assert heard_pcm(taken)
    assert {message["type"] for message in to_caller(taken)} == {"audio"}
    assert not to_worker(taken)
    assert not [action for action in taken if type(action).__name__ == "Report"]
    taken = driver.reply(0, sound(320))
    assert reported(taken, Metric.GREETING_SECONDS)


def test_an_order_is_carried_out_while_it_plays() -> None:
    driver = waiting()
    driver.run(3.0)
    driver.record(wire.TelephonyCommand("sales", wire.TelephonyAction.TRANSFER, "700", "demo", "1"))
    assert [action for action in driver.run(0.3) if type(action).__name__ == "Execute"]


def test_a_report_says_idle_while_only_filler_plays() -> None:
    driver = Wakeful()
    driver.live()
    driver.run(1.2)
    driver.reply(0, sound(3_200))
    driver.record(wire.ReplyItemDone(0))
    driver.record(AWAITING)
    reports = [each for each in to_worker(driver.run(4.0)) if isinstance(each, wire.Playout)]
    assert reports[-1].idle
    assert {each.index for report in reports for each in report.items} == {0}


def test_a_core_that_is_away_or_does_not_read_gets_none() -> None:
    driver = waiting()
    driver.run(3.0)
    driver.call.caller_paused(driver.now)
    assert not to_caller(driver.run(2.0))
    assert driver.sleeps
    driver.resume()
    assert heard_pcm(driver.run(0.2))
    driver.call.caller_closed(1006, driver.now)
    assert not to_caller(driver.run(2.0))
    driver.call.caller_back(driver.now)
    taken = driver.take() + driver.run(0.4)
    # Nothing of it was kept.
    assert 0 < len(heard_pcm(taken)) <= (0.4 + 0.06) * 16_000


class TestRecovery:
    def lost(self, driver: Wakeful) -> Assignment:
        assignment = driver.assignment
        driver.lose_worker()
        return assignment

    def test_it_plays_while_a_greeting_is_owed(self) -> None:
        driver = Wakeful()
        driver.init()
        assert heard_pcm(driver.run(2.0))

    def test_a_session_that_owes_nothing_ends_it(self) -> None:
        driver = Wakeful()
        driver.connecting()
        driver.run(3.0)
        driver.record(wire.Ready())
        driver.run(1.2)
        assert not heard_pcm(driver.run(3.0))

    def test_an_answer_that_was_owed_is_owed_during_recovery(self) -> None:
        driver = waiting()
        driver.run(1.0)
        self.lost(driver)
        assert heard_pcm(driver.run(1.0))

    def test_a_reply_that_was_cut_off_is_owed(self) -> None:
        driver = Wakeful()
        driver.live()
        driver.run(1.2)
        driver.record(wire.ReplyItem(0, "item"))
        driver.reply(0, sound(3_200))
        self.lost(driver)
        assert not heard_pcm(driver.run(1.6))
        assert heard_pcm(driver.run(0.4))

    def test_a_loss_when_nothing_was_owed_is_silent(self) -> None:
        driver = Wakeful()
        driver.live()
        driver.run(1.2)
        driver.record(wire.ReplyItem(0, "item"))
        driver.reply(0, sound(3_200))
        driver.record(wire.ReplyItemDone(0))
        self.lost(driver)
        assert not heard_pcm(driver.run(4.0))

    def test_it_goes_on_when_the_next_session_owes_the_answer(self) -> None:
        driver = waiting()
        driver.run(3.0)
        self.lost(driver)
        driver.run(1.0)
        driver.placed(worker="w-2", epoch=2, pins=2)
        driver.record(wire.Opened(32_000))
        driver.record(wire.Ready())
        driver.run(0.5)
        driver.record(AWAITING)
        taken = driver.run(3.0)
        assert len(heard_pcm(taken)) >= 2.9 * 16_000
        driver.record(SETTLED)
        assert not heard_pcm(driver.run(3.0))
