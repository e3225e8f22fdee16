"""Token counts of responses.

Audio: 10 tokens a second of the user's, 20 of the model's (OpenAI, "Managing costs": one token for 100 ms and
50 ms). Text: one token for four characters, about what OpenAI's tokenizers make of English.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from simulator.realtime.conversation import Item

USER_AUDIO_MS_PER_TOKEN = 100
MODEL_AUDIO_MS_PER_TOKEN = 50
CHARACTERS_PER_TOKEN = 4

# Prompt caching works in blocks of this size.
CACHE_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of some content."""

    text: int = 0
    audio: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.text + other.text, self.audio + other.audio)

    @property
    def total(self) -> int:
        """Return the tokens of both kinds."""
        return self.text + self.audio


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a response; `cached` is part of `input`."""

    input: Tokens = Tokens()
    cached: Tokens = Tokens()
    output: Tokens = Tokens()

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.cached + other.cached, self.output + other.output)

    def wire(self) -> dict[str, Any]:
        """Return the usage as `response.done` shows it."""
        return {
            "total_tokens": self.input.total + self.output.total,
            "input_tokens": self.input.total,
            "output_tokens": self.output.total,
            "input_token_details": {
                "text_tokens": self.input.text,
                "audio_tokens": self.input.audio,
                "image_tokens": 0,
                "cached_tokens": self.cached.total,
                "cached_tokens_details": {
                    "text_tokens": self.cached.text,
                    "audio_tokens": self.cached.audio,
                    "image_tokens": 0,
                },
            },
            "output_token_details": {"text_tokens": self.output.text, "audio_tokens": self.output.audio},
        }


Context = tuple[tuple[str, Tokens], ...]
"""Input of a response: the name and the tokens of each piece."""


def context_of(preamble: str, items: Iterable[Item]) -> Context:
    """Return the instructions and tools, then the items."""
    return (
        (preamble, Tokens(text=text_tokens(preamble))),
        *((f"{item.id} {item.truncated_ms}", item_tokens(item)) for item in items),
    )


def input_usage(context: Context, previous: Context) -> tuple[Tokens, Tokens]:
    """Return the tokens of a context, and those of its common start with the previous one, which are cached."""
    total = sum((tokens for _, tokens in context), Tokens())
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(context, previous, strict=False))
    common = sum((tokens for (_, tokens), _ in same), Tokens())
    return total, Tokens(_whole_blocks(common.text), _whole_blocks(common.audio))


def item_tokens(item: Item) -> Tokens:
    """Return the tokens of an item without its truncated part."""
    if item.server is not None:
        listed = "".join(str(tool) for tool in item.tools)
        return Tokens(text=text_tokens(f"{listed}{item.name or ''}{item.arguments or ''}{item.output or ''}"))
    if item.type == "function_call":
        return Tokens(text=text_tokens(f"{item.name}{item.arguments}"))
    if item.type == "function_call_output":
        return Tokens(text=text_tokens(item.output or ""))
    if item.role == "user" and item.audio_ms:
        # A transcript costs nothing: it is for the client, and the model uses the audio.
        typed = " ".join(part.text for part in item.parts if part.kind == "input_text" and part.text)
        return Tokens(text_tokens(typed), -(-item.audio_ms // USER_AUDIO_MS_PER_TOKEN))
    return Tokens(text_tokens(item.text), item.audio_ms // MODEL_AUDIO_MS_PER_TOKEN)


def text_tokens(text: str) -> int:
    """Return the tokens of a text."""
    return -(-len(text) // CHARACTERS_PER_TOKEN)


def _whole_blocks(tokens: int) -> int:
    return tokens - tokens % CACHE_BLOCK_TOKENS
