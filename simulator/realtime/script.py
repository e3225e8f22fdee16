"""The model's side of a scripted dialogue: lines with their sound, and the functions to call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from common.audio import wav
from simulator.realtime.conversation import Item
from simulator.realtime.settings import ToolCall
from simulator.realtime.voice import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from simulator.realtime.word_times import WordTimes

KEYS_NOTE: Final = "[The caller pressed"
"""Beginning of the service's note about keys, which the model answers as it answers speech."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dialogue.

    Attributes:
        text: its words, which are also its transcript.
        pcm: its sound: PCM16 LE, 8 kHz, mono.
    """

    text: str
    pcm: bytes = field(repr=False)

    @property
    def seconds(self) -> float:
        """Return the length."""
        return len(self.pcm) / (wav.SAMPLE_RATE_HZ * wav.SAMPLE_BYTES)


class SpokenLine:
    """A line as the model speaks it: words, their times, and the sound at 24 kHz (see `voice.Sound`).

    The times are estimates: each word gets a share of the sound by its number of letters.
    """

    def __init__(self, line: Line) -> None:
        self.words = line.text.split()
        samples = np.frombuffer(line.pcm, "<i2") / 32768.0
        sound = wav.to_pcm16(wav.resample(samples, wav.SAMPLE_RATE_HZ, SAMPLE_RATE_HZ))
        total_ms = -(-len(sound) // (2 * SAMPLES_PER_MS))
        self._sound = sound.ljust(total_ms * SAMPLES_PER_MS * 2, b"\0")
        letters = np.cumsum([len(word) + 1 for word in self.words])
        self.times = WordTimes(tuple(round(total_ms * each / letters[-1]) for each in letters.tolist()))

    def pcm(self, start_ms: int, end_ms: int) -> bytes:
        """Return audio: see `voice.Sound`."""
        return self._sound[start_ms * SAMPLES_PER_MS * 2 : end_ms * SAMPLES_PER_MS * 2]


@dataclass(frozen=True, slots=True)
class Reply:
    """One response of the model: a line, then calls of functions. It has one of them at least."""

    line: SpokenLine | None
    calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of the caller, and the model's replies to it.

    Attributes:
        said: transcript of the caller's speech; None: the greeting, or keys.
        replies: the replies, in order. All but the last call functions.
    """

    said: str | None
    replies: tuple[Reply, ...]


class Script:
    """The turns of a dialogue, the greeting first.

    The place in the dialogue follows from the conversation alone. So a session that takes over from a lost one
    continues at the right line.
    """

    def __init__(self, turns: Sequence[Turn]) -> None:
        if not turns or not all(turn.replies for turn in turns):
            raise ValueError("a script needs a turn, and each turn a reply")
        self._turns = tuple(turns)

    def said(self, items: Sequence[Item]) -> str | None:
        """Return the transcript of the turn that comes after these items; None: the script has none."""
        return self._turn(1 + sum(map(_is_turn, items))).said

    def reply(self, items: Sequence[Item]) -> Reply:
        """Return the model's next reply."""
        turn = self._turn(sum(map(_is_turn, items)))
        made = 0
        for item in reversed(items):
            if _is_turn(item):
                break
            made += item.type == "function_call"
        for reply in turn.replies:
            if made <= 0:
                return reply
            made -= len(reply.calls)
        # A function that ends the call has failed, or an answer is requested again.
        return Reply(turn.replies[-1].line)

    def _turn(self, number: int) -> Turn:
        """Return a turn; a caller who says more than the script holds hears it again, without the greeting."""
        if number < len(self._turns):
            return self._turns[number]
        answers = self._turns[1:] or self._turns
        return answers[(number - 1) % len(answers)]


def _is_turn(item: Item) -> bool:
    return item.role == "user" and (not item.is_note or item.text.startswith(KEYS_NOTE))
