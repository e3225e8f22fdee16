"""Deviations from OpenAI's server events in other services and older releases.

Sources: reports in the public issues of LiveKit Agents, Pipecat and LiteLLM about services with the Realtime
API's dialect. A filter works on events of the GA dialect, before another dialect writes them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

Content = dict[str, Any]
Sent = Iterable[tuple[str, Content]]

_ITEM_DONE = ("conversation.item.done", "response.output_item.done", "response.function_call_arguments.done")

# Audio deltas in the first part of an item that has two.
FIRST_PART_DELTAS = 5

# Audio deltas that come after `response.done`.
LATE_DELTAS = 2


class Quirk(enum.StrEnum):
    """A deviation; the value is its name in a command."""

    NO_ITEM_ADDED = "no_item_added"
    """`conversation.item.added` is not sent."""
    NO_CONTENT_INDEX = "no_content_index"
    NO_ITEM_ID = "no_item_id"
    """Events of a response's audio and text have no `item_id`."""
    NO_COMMITTED = "no_committed"
    """`input_audio_buffer.committed` is not sent."""
    TRANSCRIPT_FIRST = "transcript_first"
    """The input transcription precedes `input_audio_buffer.committed`."""
    CALLS_IN_ARGUMENTS = "calls_in_arguments"
    """Function calls appear in `response.function_call_arguments.done` only."""
    CALLS_IN_DONE = "calls_in_done"
    """Function calls appear in the output of `response.done` only."""
    TWO_PARTS = "two_parts"
    """A message has two parts of audio."""
    DONE_EARLY = "done_early"
    """`response.done` precedes the last audio deltas."""
    DONE_TWICE = "done_twice"
    """Events for a done item are sent twice."""
    MCP_CALL_IN_ITEM = "mcp_call_in_item"
    """An MCP call ends with `response.output_item.done` alone."""


class QuirkFilter:
    """The server events of one session, changed by its quirks.

    Args:
        quirks: quirks of the session; the set may change later.
    """

    def __init__(self, quirks: set[Quirk]) -> None:
        self.quirks = quirks
        self._deltas: dict[str, int] = {}  # audio deltas of an item
        self._words: dict[str, str] = {}  # transcript in the second part of an item
        self._held: list[tuple[str, Content]] = []
        self._mcp_calls: dict[str, tuple[str, int]] = {}  # response and output index, by item
        self._steps: dict[Quirk, Callable[[str, Content], Sent]] = {
            # Parts are recognized by their index, so they are made before the index is left out.
            Quirk.TWO_PARTS: self._two_parts,
            Quirk.NO_ITEM_ADDED: _without_events("conversation.item.added"),
            Quirk.NO_CONTENT_INDEX: _without_field("content_index", ""),
            Quirk.NO_ITEM_ID: _without_item_id,
            Quirk.NO_COMMITTED: _without_events("input_audio_buffer.committed"),
            Quirk.CALLS_IN_ARGUMENTS: _calls_in_arguments,
            Quirk.CALLS_IN_DONE: _calls_in_done,
            Quirk.DONE_EARLY: self._done_early,
            Quirk.DONE_TWICE: _done_twice,
            Quirk.MCP_CALL_IN_ITEM: self._mcp_call_in_item,
        }

    def apply(self, kind: str, content: Content) -> Sent:
        """Return the events to send in place of one event, in order."""
        if not self.quirks:
            return ((kind, content),)
        events: list[tuple[str, Content]] = [(kind, content)]
        for quirk, step in self._steps.items():
            if quirk in self.quirks:
                events = [sent for event in events for sent in step(*event)]
        return events

    def _two_parts(self, kind: str, content: Content) -> Sent:
        item_id = content.get("item_id", "")
        if kind == "response.output_audio.delta":
            self._deltas[item_id] = count = self._deltas.get(item_id, 0) + 1
            if count == FIRST_PART_DELTAS + 1:
                return (*_next_part(content), (kind, content | {"content_index": 1}))
            return ((kind, content | {"content_index": int(count > FIRST_PART_DELTAS)}),)
        if self._deltas.get(item_id, 0) <= FIRST_PART_DELTAS:
            return ((kind, content),)
        if kind == "response.output_audio_transcript.delta":
            self._words[item_id] = self._words.get(item_id, "") + content["delta"]
        elif kind == "response.output_audio_transcript.done":
            content = content | {"transcript": self._words.get(item_id, "")}
        elif kind == "response.content_part.done":
            content = content | {"part": content["part"] | {"transcript": self._words.pop(item_id, "")}}
            self._deltas.pop(item_id)
        if kind.startswith(("response.output_audio", "response.content_part")):
            content = content | {"content_index": 1}
        return ((kind, content),)

    def _done_early(self, kind: str, content: Content) -> Sent:
        if kind == "response.output_audio.delta":
            self._held.append((kind, content))
            return (self._held.pop(0),) if len(self._held) > LATE_DELTAS else ()
        if kind == "response.done":
            late, self._held = self._held, []
            return ((kind, content), *late)
        return ((kind, content),)

    def _mcp_call_in_item(self, kind: str, content: Content) -> Sent:
        item = content.get("item") or {}
        is_call = item.get("type") == "mcp_call"
        if kind in ("response.mcp_call.completed", "response.mcp_call.failed"):
            return ()
        if kind == "response.output_item.done" and is_call:
            self._mcp_calls[item["id"]] = (content["response_id"], content["output_index"])
            return ()
        if kind == "conversation.item.done" and is_call:
            response_id, output_index = self._mcp_calls.pop(item["id"], ("", 0))
            done = {"response_id": response_id, "output_index": output_index, "item": item}
            return (("response.output_item.done", done),)
        return ((kind, content),)


def _next_part(delta: Content) -> Sent:
    """Return the events between an item's first and second part of audio."""
    where = {name: value for name, value in delta.items() if name != "delta"}
    part = {"type": "audio", "transcript": ""}
    return (
        ("response.output_audio.done", where),
        ("response.content_part.done", where | {"part": part}),
        ("response.content_part.added", where | {"content_index": 1, "part": part}),
    )


def _without_events(*kinds: str) -> Callable[[str, Content], Sent]:
    return lambda kind, content: () if kind in kinds else ((kind, content),)


def _without_field(name: str, prefix: str) -> Callable[[str, Content], Sent]:
    def step(kind: str, content: Content) -> Sent:
        if name in content and kind.startswith(prefix):
            content = {field: value for field, value in content.items() if field != name}
        return ((kind, content),)

    return step


def _without_item_id(kind: str, content: Content) -> Sent:
    is_of_part = kind.startswith(("response.output_audio", "response.output_text", "response.content_part"))
    return _without_field("item_id", "")(kind, content) if is_of_part else ((kind, content),)


def _is_call(content: Content) -> bool:
    return bool((content.get("item") or {}).get("type") == "function_call")


def _calls_in_arguments(kind: str, content: Content) -> Sent:
    if _is_call(content) or kind == "response.function_call_arguments.delta":
        return ()
    if kind == "response.done":
        output = [item for item in content["response"]["output"] if item["type"] != "function_call"]
        content = content | {"response": content["response"] | {"output": output}}
    return ((kind, content),)


def _calls_in_done(kind: str, content: Content) -> Sent:
    return () if _is_call(content) or ".function_call_arguments." in kind else ((kind, content),)


def _done_twice(kind: str, content: Content) -> Sent:
    twice = kind in (
        "conversation.item.done",
        "response.output_item.done",
        "response.function_call_arguments.done",
    )
    return ((kind, content),) * (2 if twice else 1)
