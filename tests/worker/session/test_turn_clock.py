"""The parts of a turn's latency: with the clock alone, and in a session on virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.audio.wav import read_wav
from common.link import wire
from common.settings.openai_fields import TurnDetection
from common.settings.settings import Settings
from tests.worker import api_events as api
from tests.worker.session_driver import FRAME, Did, Driver, live, only, playout
from worker.session.actions import Measurement, Metric
from worker.session.turn_clock import TurnClock


def parts_of(driver: Driver, did: list[Did]) -> dict[str, float]:
    """Return the parts that were reported, and check that they add up to the latency."""
    measured = only(did, Measurement)
    (latency,) = [each.value for each in measured if each.seen is Metric.TURN_LATENCY_SECONDS]
    assert sum(driver.turn_parts.values()) == pytest.approx(latency)
    return driver.turn_parts


def turn_ends(driver: Driver, *, appended_later_ms: int = 100) -> None:
    """Have the API report the end of a turn, after a silence of 400 ms."""
    for _ in range(100):
        driver.caller()
    driver.event(api.speech_started("item_a"))
    driver.event(api.speech_stopped("item_a", 2000 - appended_later_ms), api.committed("item_a"))


@pytest.fixture
def driver() -> Driver:
    driver = live(settings=Settings(openai_turn_detection_silence_ms=400))
    driver.reply("resp_0", "greeting", "Hello", 100)
    return driver


def test_an_answer_of_the_api_has_silence_and_model(driver: Driver) -> None:
    turn_ends(driver)
    driver.now += 0.8
    parts = parts_of(driver, driver.reply("resp_1", "reply", "Yes", 100))
    assert parts == pytest.approx({"end_of_speech": 0.5, "model": 0.8, "service": 0.0})


def test_time_from_the_socket_to_the_link_is_the_services(driver: Driver) -> None:
    turn_ends(driver)
    driver.event(api.response_created("resp_1"))
    driver.now += 0.8
    driver.session.parts.turn_clock.received_seconds = driver.now - 0.3
    parts = parts_of(driver, driver.reply("resp_1", "reply", "Yes", 100))
    assert parts == pytest.approx({"end_of_speech": 0.5, "model": 0.5, "service": 0.3})


def test_a_tools_time_is_the_services(driver: Driver) -> None:
    turn_ends(driver)
    driver.event(api.response_created("resp_1"))
    driver.now += 0.5
    item = {**api.function_call_item("call_item"), "status": "completed", "arguments": "{}"}
    driver.event(
        api.event("response.output_item.done", response_id="resp_1", output_index=0, item=item),
        api.response_done("resp_1"),
    )
    driver.record(wire.ToolKnown("call_1"))
    driver.now += 2.0
    driver.session.tool_done("call_1", "{}", driver.now)
    driver.now += 0.7
    parts = parts_of(driver, driver.reply("resp_2", "reply", "Yes", 100))
    assert parts == pytest.approx({"end_of_speech": 0.5, "model": 1.2, "service": 2.0})


def test_a_turn_that_is_found_here_has_the_silence_alone() -> None:
    driver = live(settings=Settings(openai_turn_detection=TurnDetection.NONE), local_silence_ms=500)
    driver.reply("resp_0", "greeting", "Hello", 100)
    driver.record(playout((0, 10**6), idle=True))
    speech = read_wav(Path("simulator/speech/caller.wav"))
    did: list[Did] = []
    for start in range(0, len(speech), len(FRAME)):
        did += driver.caller(speech[start : start + len(FRAME)])
        if any(event["type"] == "response.create" for event in only(did, dict)):
            break
    driver.now += 0.8
    parts = parts_of(driver, driver.reply("resp_1", "reply", "Yes", 100))
    assert parts == pytest.approx({"end_of_speech": 0.5, "model": 0.8, "service": 0.0})


def test_the_end_of_an_earlier_response_says_nothing(driver: Driver) -> None:
    driver.event(api.response_created("resp_early"))
    turn_ends(driver)
    driver.now += 0.2
    driver.event(api.response_done("resp_early", "cancelled"))
    driver.now += 0.6
    parts = parts_of(driver, driver.reply("resp_1", "reply", "Yes", 100))
    assert parts == pytest.approx({"end_of_speech": 0.5, "model": 0.8, "service": 0.0})


def test_a_clock_without_a_turn_measures_nothing() -> None:
    clock = TurnClock()
    clock.asked(1.0)
    clock.begun("resp", 1.0)
    clock.stopped("resp", 2.0)
    assert clock.answered(3.0) is None


def test_a_turn_is_measured_once() -> None:
    clock = TurnClock()
    clock.speech_ended(1.0, 1.5)
    clock.asked(1.5)
    assert clock.answered(2.5) == pytest.approx((0.5, 1.0, 0.0))
    assert clock.answered(3.0) is None


def test_the_wait_before_a_request_is_the_services() -> None:
    clock = TurnClock()
    clock.speech_ended(1.0, 1.5)
    clock.asked(3.5)
    clock.asked(3.6)
    assert clock.answered(4.5) == pytest.approx((0.5, 1.0, 2.0))


def test_speech_that_goes_on_is_not_measured() -> None:
    clock = TurnClock()
    clock.speech_ended(1.0, 1.5)
    clock.forget()
    assert clock.answered(4.5) is None


@pytest.mark.parametrize("received_seconds", [0.1, 99.0])
def test_a_time_of_reading_outside_of_the_turn_adds_up(received_seconds: float) -> None:
    clock = TurnClock()
    clock.speech_ended(1.0, 1.5)
    clock.asked(1.5)
    clock.received_seconds = received_seconds
    parts = clock.answered(2.5)
    assert parts is not None
    assert sum(parts) == pytest.approx(1.5)
    assert min(parts) >= 0


def test_an_answer_that_nobody_asked_for_is_the_models() -> None:
    clock = TurnClock()
    clock.speech_ended(1.0, 1.5)
    assert clock.answered(2.5) == pytest.approx((0.5, 1.0, 0.0))
