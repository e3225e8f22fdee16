from __future__ import annotations

from typing import Final

import numpy as np
import pytest

from simulator.realtime.conversation import Item, Origin, Part
from simulator.realtime.script import Line, Reply, Script, SpokenLine, Turn
from simulator.realtime.session import RealtimeSession
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.simulator.realtime_driver import Driver, all_of, audio_of, kinds, only, silence, tone

FIND: Final = ToolCall(1, "find", '{"number":7}')
BOOK: Final = ToolCall(1, "book")
TRANSFER: Final = ToolCall(2, "avr_transfer", '{"transfer_extension":"600"}')


def _line(text: str, seconds: float, hz: float = 500.0) -> SpokenLine:
    times = np.arange(round(8000 * seconds)) / 8000
    return SpokenLine(Line(text, (8000 * np.sin(2 * np.pi * hz * times)).astype("<i2").tobytes()))


GREETING: Final = _line("Good evening, dear caller.", 2.0)
FOUND: Final = _line("Found and booked.", 1.0, 600.0)
GOODBYE: Final = _line("Goodbye.", 1.0, 700.0)
SCRIPT: Final = Script(
    [
        Turn(None, (Reply(GREETING),)),
        Turn("A table, please.", (Reply(None, (FIND, BOOK)), Reply(FOUND))),
        Turn("The kitchen, please.", (Reply(GOODBYE, (TRANSFER,)),)),
    ]
)


def _user(text: str) -> Item:
    return Item(f"item_{text}", "message", Origin.CLIENT, role="user", parts=[Part("input_text", text)])


def _call(number: int) -> Item:
    return Item(f"call_{number}", "function_call", Origin.MODEL, call_id=f"{number}", name="find")


def test_place_in_the_dialogue_follows_from_the_conversation() -> None:
    items: list[Item] = []
    assert SCRIPT.reply(items).line is GREETING
    assert SCRIPT.said(items) == "A table, please."
    items.append(_user("hello"))
    assert SCRIPT.reply(items).calls == (FIND, BOOK)
    items += [_call(1), _call(2)]
    assert SCRIPT.reply(items) == Reply(FOUND)
    items.append(_user("[The caller pressed these keys on the telephone: 12]"))
    assert SCRIPT.reply(items) == Reply(GOODBYE, (TRANSFER,))


def test_notes_about_faults_are_no_turns() -> None:
    items = [_user("hello"), _user("[The line was disturbed for a moment.]")]
    assert SCRIPT.reply(items).calls == (FIND, BOOK)


def test_last_line_is_said_again_after_a_failed_transfer() -> None:
    items = [_user("one"), _user("two"), _call(1)]
    assert SCRIPT.reply(items) == Reply(GOODBYE)


def test_dialogue_begins_again_without_the_greeting() -> None:
    items = [_user(str(number)) for number in range(3)]
    assert SCRIPT.reply(items).calls == (FIND, BOOK)
    assert SCRIPT.said(items) == "The kitchen, please."


@pytest.mark.parametrize("turns", [[], [Turn(None, ())]])
def test_script_without_a_reply_is_refused(turns: list[Turn]) -> None:
    with pytest.raises(ValueError, match="a script needs a turn, and each turn a reply"):
        Script(turns)


def test_words_share_the_sound_by_their_letters() -> None:
    assert GREETING.words == ["Good", "evening,", "dear", "caller."]
    assert GREETING.times.ends_ms == (370, 1037, 1407, 2000)


class TestSession:
    """A session whose model has a script."""

    def driver(self) -> Driver:
        driver = Driver(SimulatorSettings(transcription_delay_seconds=0.1))
        driver.session = RealtimeSession(model="gpt-realtime-2", settings=driver.session.settings, script=SCRIPT)
        driver.session.open(driver.now)
        driver.run(0)
        driver.update(audio={"input": {"turn_detection": {"type": "server_vad"}, "transcription": {}}})
        return driver

    def test_model_speaks_the_line_with_its_transcript(self) -> None:
        events = self.driver().respond()
        assert only(events, "response.output_audio_transcript.done")["transcript"] == "Good evening, dear caller."
        samples = np.frombuffer(audio_of(events), "<i2").astype(float)
        assert len(samples) == 48_000
        spectrum = np.abs(np.fft.rfft(samples))
        assert np.argmax(spectrum) / 2.0 == pytest.approx(500.0, abs=1.0)

    def test_caller_is_transcribed_as_the_script_says(self) -> None:
        driver = self.driver()
        driver.respond()
        events = driver.speak(tone(800) + silence(1500))
        transcript = only(events, "conversation.item.input_audio_transcription.completed")["transcript"]
        assert transcript == "A table, please."
        assert [event["name"] for event in all_of(events, "response.function_call_arguments.done")] == [
            "find",
            "book",
        ]

    def test_interrupted_line_keeps_the_words_heard(self) -> None:
        driver = self.driver()
        driver.send("response.create")
        driver.run(0.6)
        item = driver.session.conversation.items[0]
        driver.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=1100)
        assert item.text == "Good evening,"

    def test_line_and_call_are_one_response(self) -> None:
        driver = self.driver()
        for text in ("one", "two"):
            part = {"type": "input_text", "text": text}
            driver.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
        events = driver.respond()
        done = only(events, "response.done")["response"]
        assert [(item["type"], item["status"]) for item in done["output"]] == [
            ("message", "completed"),
            ("function_call", "completed"),
        ]
        assert only(events, "response.function_call_arguments.done")["output_index"] == 1
        assert kinds(events).index("response.output_audio.done") < kinds(events).index(
            "response.function_call_arguments.delta"
        )

    def test_interrupted_line_calls_nothing(self) -> None:
        driver = self.driver()
        for text in ("one", "two"):
            part = {"type": "input_text", "text": text}
            driver.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
        driver.send("response.create")
        driver.run(0.4)
        done = only(driver.send("response.cancel"), "response.done")["response"]
        assert [(item["type"], item["status"]) for item in done["output"]] == [("message", "incomplete")]

    def test_dictated_text_is_no_line_of_the_script(self) -> None:
        events = self.driver().respond(instructions='Say word for word: "Please hold the line."')
        assert only(events, "response.output_audio_transcript.done")["transcript"] == "Please hold the line."
