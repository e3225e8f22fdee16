"""The simulated model: it plans responses, and counts the tokens of their input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from simulator.realtime.conversation import Conversation, Item
from simulator.realtime.ending import Ending, Output, Result
from simulator.realtime.response import Plan
from simulator.realtime.script import Script
from simulator.realtime.settings import MAX_WORDS, Behaviour, ToolCall, Voice
from simulator.realtime.usage import (
    MODEL_AUDIO_MS_PER_TOKEN,
    Context,
    Usage,
    context_of,
    input_usage,
    text_tokens,
)
from simulator.realtime.voice import Sound, ToneVoice, WordVoice, dominant_hz, reply_words
from simulator.realtime.word_times import WordTimes

# Matches: Say this word for word: "Welcome!"
_DICTATION = re.compile(r'\b(?:word for word|verbatim|exactly)\b.*?"(.+)"', re.IGNORECASE | re.DOTALL)


class SimulatedModel:
    """The state of a session's model on which later responses depend.

    Args:
        script: the replies; None: words that identify their place, or a tone.
    """

    def __init__(self, script: Script | None = None) -> None:
        self._script = script
        self._calls_made: set[ToolCall] = set()
        self._echo_hz: float | None = None
        self._last_read: Context = ()

    def hear(self, speech: bytes) -> None:
        """Listen to the speech of a turn (PCM16 at 24 kHz), to answer in its tone."""
        self._echo_hz = dominant_hz(speech) or self._echo_hz

    def read(self, instructions: str, tools: object, items: Iterable[Item]) -> Usage:
        """Read the context of a response and return the input's tokens."""
        context = context_of(f"{instructions}{orjson.dumps(tools).decode()}", items)
        total, cached = input_usage(context, self._last_read)
        self._last_read = context
        return Usage(input=total, cached=cached)

    def plan(
        self,
        behaviour: Behaviour,
        conversation: Conversation,
        request: dict[str, Any],
        *,
        number: int,
        speaks: bool,
        max_tokens: int | str,
        ending: Ending | None,
        late_seconds: float = 0.0,
    ) -> Plan:
        """Plan the session's response `number` (from 1) to a `response.create`."""
        turn = conversation.user_turns(notes=behaviour.notes_are_turns)
        instructions = request.get("instructions") or ""
        dictated = _dictated(instructions) or (behaviour.say or "").split()[:MAX_WORDS]
        scripted = self._script.reply(conversation.items) if self._script is not None and not dictated else None
        calls: Sequence[ToolCall] = ()
        if request.get("tool_choice") != "none":
            calls = self._calls(behaviour, conversation, turn) if scripted is None else scripted.calls
        if ending is None:
            self._calls_made.update(calls)
        elif ending.status != Result.INCOMPLETE or ending.output is not Output.ITEM:
            calls = ()
        speaks = speaks and (ending is None or ending.output is not Output.TEXT)
        # A model with an earlier reply in its conversation continues without a greeting.
        greets = not turn and not conversation.knows_reply()
        words: Sequence[str] = ()
        line = None if scripted is None else scripted.line
        if line is not None:
            words, times = line.words, line.times
        else:
            if not calls:
                words = dictated or _words(behaviour, number, turn, greets)
            times = WordTimes.even(len(words), behaviour.word_ms)
        voice: Sound | None = None
        if speaks and line is not None:
            voice = line
        elif speaks and behaviour.voice is Voice.WORDS:
            voice = WordVoice(words, behaviour.word_ms)
        elif speaks:
            echo_hz = self._echo_hz if behaviour.echo and turn else None
            voice = ToneVoice(echo_hz or behaviour.tone_hz)
        return Plan(
            words=words,
            calls=calls,
            voice=voice,
            times=times,
            delta_ms=behaviour.delta_ms,
            late_seconds=late_seconds,
            first_audio_seconds=behaviour.first_audio_seconds,
            speed=behaviour.speed,
            ending=ending or _token_limit(words, times, max_tokens, speaks=speaks),
        )

    def _calls(self, behaviour: Behaviour, conversation: Conversation, turn: int) -> Sequence[ToolCall]:
        if conversation.calls_after_user(notes=behaviour.notes_are_turns):
            return ()  # this response reports their outputs
        return [call for call in behaviour.tool_calls if call.turn == turn and call not in self._calls_made]


def _words(behaviour: Behaviour, number: int, turn: int, greets: bool) -> Sequence[str]:
    count = behaviour.greeting_words if greets else behaviour.words
    return reply_words(number=number, turn=turn, count=count, greets=greets)


def _dictated(instructions: str) -> Sequence[str]:
    """Return the words that the instructions dictate."""
    dictated = _DICTATION.search(instructions)
    return _unescaped(dictated[1]).split()[:MAX_WORDS] if dictated else ()


def _unescaped(text: str) -> str:
    """Return dictated text; text in the form of a JSON string is decoded, as a model would speak it."""
    try:
        return str(orjson.loads(f'"{text}"'))
    except orjson.JSONDecodeError:
        return text


def _token_limit(words: Sequence[str], times: WordTimes, max_tokens: int | str, *, speaks: bool) -> Ending | None:
    """Return the end of a response longer than `max_tokens`."""
    if isinstance(max_tokens, str):
        return None
    begin_ms = 0
    for count, end_ms in enumerate(times.ends_ms, start=1):
        tokens = text_tokens(" ".join(words[:count])) + (end_ms // MODEL_AUDIO_MS_PER_TOKEN if speaks else 0)
        if tokens > max_tokens:
            return Ending("incomplete", begin_ms, "max_output_tokens", commanded=False)
        begin_ms = end_ms
    return None
