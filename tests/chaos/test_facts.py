from __future__ import annotations

import math

from simulator.realtime.settings import SimulatorSettings
from tests.chaos.facts import Item, Session
from tests.chaos.realtime import RealtimeProcess
from tests.simulator.realtime_driver import Driver, silence, tone


def test_an_item_is_read_as_the_simulator_reports_it() -> None:
    driver = Driver(SimulatorSettings(greeting_words=2))
    driver.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    driver.respond()
    driver.speak(tone(700) + silence(700))
    driver.finish()
    driver.run(2.0)
    greeting, turn, _ = (Item.of(item.report()) for item in driver.session.conversation.items)
    assert (greeting.role, greeting.text, greeting.said) == ("assistant", "greeting one", "greeting one")
    assert (turn.role, turn.text, turn.origin) == ("user", "heard one two", "caller")
    assert turn.audio_ms >= 700


def test_unfinished_span_has_no_end() -> None:
    session = Session.of(
        {
            "number": 3,
            "peer": "127.0.0.1:5",
            "timeline": {
                "opened_seconds": 1.0,
                "closed_seconds": None,
                "last_event_seconds": None,
                "answering": [[2.0, 3.0], [4.0, None]],
                "audio": [],
            },
        }
    )
    assert session.answering == ((2.0, 3.0), (4.0, math.inf))
    assert session.closed_seconds == math.inf
    assert session.last_event_seconds == -math.inf
    assert session.items == ()


async def test_the_simulator_runs_as_a_process_of_its_own() -> None:
    realtime = await RealtimeProcess.start()
    try:
        assert await realtime.live() == []
        assert await realtime.sessions_of("nobody") == []
        assert await realtime.fault("refuse", status=503, seconds=1)
        assert not await realtime.fault("drop", session="sess_unknown")
        assert realtime.url == f"ws://127.0.0.1:{realtime.port}/v1/realtime"
    finally:
        await realtime.stop()
