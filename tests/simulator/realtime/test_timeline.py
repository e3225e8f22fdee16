from __future__ import annotations

from simulator.realtime.settings import SimulatorSettings
from simulator.realtime.timeline import MAX_SPANS, Span, Timeline
from tests.simulator.realtime_driver import Driver

_ANSWERS = {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": True}}}}
_LISTENS = {"audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}}}


def test_audio_without_a_pause_is_one_span() -> None:
    timeline = Timeline()
    for now in (1.0, 1.02, 1.2, 1.39, 1.6, 1.62):
        timeline.event(audio=True, now_seconds=now)
    timeline.event(audio=False, now_seconds=2.0)
    assert timeline.audio == [Span(1.0, 1.39), Span(1.6, 1.62)]
    assert timeline.last_event_seconds == 2.0


def test_answering_spans_end_with_the_next_change() -> None:
    timeline = Timeline()
    for may_answer, now in ((False, 1.0), (True, 2.0), (True, 3.0), (False, 4.0), (False, 5.0), (True, 6.0)):
        timeline.answers(may_answer, now)
    assert timeline.answering == [Span(2.0, 4.0), Span(6.0, None)]
    timeline.closed(7.0)
    timeline.closed(7.0)
    assert timeline.report() == {
        "opened_seconds": None,
        "closed_seconds": 7.0,
        "last_event_seconds": None,
        "answering": [[2.0, 4.0], [6.0, 7.0]],
        "audio": [],
        "faults": [],
    }


def test_long_session_keeps_the_latest_spans() -> None:
    timeline = Timeline()
    for number in range(MAX_SPANS + 5):
        timeline.event(audio=True, now_seconds=float(number))
    assert len(timeline.audio) == MAX_SPANS
    assert timeline.audio[-1].from_seconds == MAX_SPANS + 4


def test_session_may_answer_from_update_until_told_not_to() -> None:
    driver = Driver()
    start = driver.now
    driver.run(1.0)
    may_answer = [driver.session.may_answer]  # nobody has set it up
    for detection in (_LISTENS, _ANSWERS, _LISTENS):
        driver.send("session.update", session={"type": "realtime", **detection})
        may_answer.append(driver.session.may_answer)
        driver.run(1.0)
    assert may_answer == [False, False, True, False]
    timeline = driver.session.timeline
    assert timeline.answering == [Span(start + 2.0, start + 3.0)]
    assert timeline.opened_seconds == start


def test_listening_session_may_answer_while_asked_to() -> None:
    driver = Driver(SimulatorSettings(greeting_words=1))
    driver.send("session.update", session={"type": "realtime", **_LISTENS})
    driver.send("response.create")
    asked = driver.now
    assert driver.session.may_answer
    driver.run(5.0)
    (span,) = driver.session.timeline.answering
    assert span.from_seconds == asked
    assert span.until_seconds is not None


def test_a_session_that_cannot_be_heard_cannot_answer() -> None:
    driver = Driver()
    driver.send("session.update", session={"type": "realtime", **_ANSWERS})
    now = driver.now
    driver.session.look(now + 1, connected=False)
    driver.session.look(now + 2)
    driver.session.expire()
    driver.session.look(now + 3)
    assert driver.session.timeline.answering == [Span(now, now + 1), Span(now + 2, now + 3)]
