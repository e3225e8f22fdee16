"""The simulated model: it plans responses, and counts the tokens of their input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from simulator.realtime.conversation import Conversation, Item
from simulator.realtime.ending import Ending, Output, Result
from simulator.realtime.response import Plan
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

# Matches: Say this word for word: "Welcome!"
_DICTATION = re.compile(r'\b(?:word for word|verbatim|exactly)\b.*?"(.+)"', re.IGNORECASE | re.DOTALL)


class SimulatedModel:
    """The state of a session's model on which later responses depend."""

    def __init__(self) -> None:
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
        calls = self._calls(behaviour, conversation, turn) if request.get("tool_choice") != "none" else ()
        if ending is None:
            self._calls_made.update(calls)
        elif ending.status != Result.INCOMPLETE or ending.output is not Output.ITEM:
            calls = ()
        speaks = speaks and (ending is None or ending.output is not Output.TEXT)
        # A model with an earlier reply in its conversation continues without a greeting.
        greets = not turn and not conversation.knows_reply()
        instructions = request.get("instructions") or ""
        words = () if calls else self._words(behaviour, instructions, number, turn, greets)
        voice: Sound | None = None
        if speaks and behaviour.voice is Voice.WORDS:
            voice = WordVoice(words, behaviour.word_ms)
        elif speaks:
            echo_hz = self._echo_hz if behaviour.echo and turn else None
            voice = ToneVoice(echo_hz or behaviour.tone_hz)
        return Plan(
            words=words,
            calls=calls,
            voice=voice,
            word_ms=behaviour.word_ms,
            delta_ms=behaviour.delta_ms,
            late_seconds=late_seconds,
            first_audio_seconds=behaviour.first_audio_seconds,
            speed=behaviour.speed,
            ending=ending
            or _token_limit(words, behaviour.word_ms if speaks else 0, behaviour.word_ms, max_tokens),
        )

    def _calls(self, behaviour: Behaviour, conversation: Conversation, turn: int) -> Sequence[ToolCall]:
        if conversation.calls_after_user(notes=behaviour.notes_are_turns):
            return ()  # this response reports their outputs
        return [call for call in behaviour.tool_calls if call.turn == turn and call not in self._calls_made]

    def _words(
        self, behaviour: Behaviour, instructions: str, number: int, turn: int, greets: bool
    ) -> Sequence[str]:
        dictated = _DICTATION.search(instructions)
        text = _unescaped(dictated[1]) if dictated else behaviour.say
        if text is not None and (words := text.split()):
            return words[:MAX_WORDS]
        count = behaviour.greeting_words if greets else behaviour.words
        return reply_words(number=number, turn=turn, count=count, greets=greets)


def _unescaped(text: str) -> str:
    """Return dictated text; text in the form of a JSON string is decoded, as a model would speak it."""
    try:
        return str(orjson.loads(f'"{text}"'))
    except orjson.JSONDecodeError:
        return text


def _token_limit(words: Sequence[str], audio_ms: int, word_ms: int, max_tokens: int | str) -> Ending | None:
    """Return the end of a response longer than `max_tokens`; `audio_ms` is the audio of a word."""
    if isinstance(max_tokens, str):
        return None
    for count in range(1, len(words) + 1):
        tokens = text_tokens(" ".join(words[:count])) + count * audio_ms // MODEL_AUDIO_MS_PER_TOKEN
        if tokens > max_tokens:
            return Ending("incomplete", (count - 1) * word_ms, "max_output_tokens", commanded=False)
    return None
