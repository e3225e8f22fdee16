"""Turns that are typed in place of spoken."""

from __future__ import annotations

from common.link import wire
from tests.worker.session_driver import CREATE, Did, Driver, audio_samples, live, only, playout
from worker.session.actions import Measurement, Metric


def _typed(driver: Driver, text: str) -> list[Did]:
    driver.session.typed(text, driver.now)
    return driver.take()


def _greeted() -> Driver:
    driver = live()
    sent = audio_samples(driver.reply("resp_1", "item_1", "Hello", 1000))
    driver.record(playout(*sent.items(), idle=True))
    return driver


def test_typed_turn_is_a_message_that_is_answered() -> None:
    driver = _greeted()
    assert driver.session.is_quiet(driver.now)
    item = {
        "id": "avr_1_1",
        "type": "message",
        "role": "user",
        "content": [{"type": "input_text", "text": "When?"}],
    }
    assert _typed(driver, "When?") == [{"type": "conversation.item.create", "item": item}, CREATE]
    assert not driver.session.is_quiet(driver.now)


def test_typed_turn_has_a_latency() -> None:
    driver = _greeted()
    _typed(driver, "When?")
    driver.tick(0.5)
    did = driver.reply("resp_2", "item_2", "At nine", 200)
    (latency,) = [each for each in only(did, Measurement) if each.seen is Metric.TURN_LATENCY_SECONDS]
    assert latency.value == 0.5


def test_typed_turn_interrupts_the_reply() -> None:
    driver = _greeted()
    _typed(driver, "When?")
    driver.reply("resp_2", "item_2", "At nine", 1000, done=False)
    did = _typed(driver, "Where?")
    assert {"type": "response.cancel", "response_id": "resp_2"} in did
    assert only(did, wire.Flush)
    assert CREATE not in did


def test_typed_text_before_the_session_has_no_effect() -> None:
    driver = Driver()
    driver.take()
    assert _typed(driver, "When?") == []
    assert not driver.session.is_quiet(driver.now)
