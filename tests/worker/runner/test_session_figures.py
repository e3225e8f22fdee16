"""What a session measures and uses, gathered for the record of its call."""

from __future__ import annotations

from common.link import wire
from common.observe.metrics import TURN_PARTS
from worker.realtime.usage import TranscriptionUsage, Usage
from worker.runner.session_figures import MAX_LATENCIES, MAX_MODELS, MAX_TOOLS, SessionFigures


def test_figures_add_up() -> None:
    figures = SessionFigures(3)
    figures.speaks("gpt-realtime-2", "marin")
    figures.answered(0.8123)
    for part, seconds in zip(TURN_PARTS, (0.5004, 0.2, 0.1119), strict=True):
        figures.took(part, seconds)
    figures.answered(1.5)
    figures.tool_ended("weather", 0.25049, "ok")
    figures.used("gpt-realtime-2", Usage(input_text=10, cached_audio=4, output_audio=7), 0.5)
    figures.used("gpt-realtime-2", Usage(input_text=1, output_audio=1), None)
    figures.transcribed("whisper-1", TranscriptionUsage(seconds=2.5), 0.25)
    figures.transcribed("gpt-4o-transcribe", TranscriptionUsage(input_audio=9, output_text=3), None)
    figures.retried()
    figures.gave_up()
    assert figures.take() == wire.Figures(
        session=3,
        model="gpt-realtime-2",
        voice="marin",
        latencies_ms=(812, 1500),
        tools=(wire.ToolFigure("weather", 0.25, "ok"),),
        tokens={
            "gpt-realtime-2": {"input_text": 11, "cached_audio": 4, "output_audio": 8},
            "gpt-4o-transcribe": {"input_audio": 9, "output_text": 3},
        },
        transcription_seconds=2.5,
        cost_usd=0.75,
        answers_retried=1,
        answers_given_up=1,
        end_of_speech_ms=(500,),
        model_ms=(200,),
    )


def test_figures_are_changed_until_they_are_taken() -> None:
    figures = SessionFigures(1)
    changed = [figures.is_changed]
    figures.answered(1.0)
    changed.append(figures.is_changed)
    figures.take()
    changed.append(figures.is_changed)
    assert changed == [False, True, False]


def test_an_endless_session_keeps_a_bounded_number_of_figures() -> None:
    figures = SessionFigures(1)
    for number in range(2 * MAX_LATENCIES):
        figures.answered(number)
        figures.took("model", number)
        figures.tool_ended("t", 1.0, "ok")
        figures.used(f"model-{number}", Usage(input_text=1), None)
    taken = figures.take()
    assert (len(taken.latencies_ms), len(taken.tools)) == (MAX_LATENCIES, MAX_TOOLS)
    assert len(taken.model_ms) == MAX_LATENCIES
    assert taken.tools_left_out == 2 * MAX_LATENCIES - MAX_TOOLS
    assert len(taken.tokens) == MAX_MODELS
    assert sum(each["input_text"] for each in taken.tokens.values()) == 2 * MAX_LATENCIES


def test_figures_fit_on_the_link() -> None:
    figures = SessionFigures(1)
    for _ in range(MAX_LATENCIES):
        figures.answered(3600.0)
        figures.tool_ended("n" * 64, 3600.0, "o" * 32)
    assert len(wire.encode(figures.take(), 1)) < wire.MAX_MESSAGE_BYTES
