"""The hand-over of a call: when a session may release it. Its part in a session: `test_session_handover.py`."""

from __future__ import annotations

import itertools

import pytest

from common.link import wire
from tests.worker import api_events as api
from tests.worker.session_driver import Driver, live, only, playout
from worker.session.hand_over import HAND_OVER_TRANSITIONS, HandOverEvent, HandOverState


@pytest.mark.parametrize(("state", "event"), list(itertools.product(HandOverState, HandOverEvent)))
def test_peers_decide_so_every_event_has_a_transition(state: HandOverState, event: HandOverEvent) -> None:
    assert (state, event) in HAND_OVER_TRANSITIONS


def quiet() -> Driver:
    """Return a session whose greeting has been heard."""
    driver = live()
    driver.reply("resp_1", "hello", "Hello.", 100)
    driver.record(playout((0, 10**6), idle=True))
    return driver


def released(driver: Driver) -> list[wire.Released]:
    return only(driver.tick(), wire.Released)


def test_without_a_permission_it_waits_for_its_deadline() -> None:
    driver = quiet()
    driver.session.move("drain", 10.0, driver.now)
    assert not released(driver)
    driver.now += 10.0
    assert released(driver) == [wire.Released("drain", "another session goes on")]


def test_a_permission_is_used_at_a_quiet_moment() -> None:
    driver = quiet()
    driver.session.move("drain", 10.0, driver.now)
    driver.event(api.speech_started("turn"))
    driver.record(wire.Release(10.0))
    assert not released(driver)
    driver.event(api.speech_stopped("turn", 0), api.committed("turn"))
    driver.event(api.transcribed("turn", ""))
    driver.reply("resp_2", "yes", "Yes.", 100)
    assert only(driver.record(playout((1, 10**6), idle=True)), wire.Released)


def test_a_permission_that_is_revoked_leaves_the_deadline() -> None:
    driver = quiet()
    driver.event(api.speech_started("turn"))
    driver.record(wire.Release(10.0), wire.Release(10.0, revoked=True))
    driver.event(api.speech_stopped("turn", 0))
    assert not released(driver)
    driver.now += 10.0
    assert released(driver)


def test_without_a_link_it_keeps_the_call_beyond_the_deadline() -> None:
    driver = quiet()
    driver.session.move("drain", 10.0, driver.now)
    driver.session.detached()
    driver.now += 20.0
    assert not released(driver)
    driver.session.resumed()
    assert released(driver)
