"""The conversation of a session: its items, in order."""

from __future__ import annotations

import base64
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulator.realtime.errors import (
    already_shorter,
    duplicate_item,
    no_such_call,
    no_such_item,
    no_such_previous_item,
    not_truncatable,
)
from simulator.realtime.word_times import NO_WORDS, WordTimes


class Origin(enum.StrEnum):
    """The source of an item."""

    CALLER = "caller"
    """Committed audio."""
    MODEL = "model"
    """A response."""
    CLIENT = "client"
    """`conversation.item.create`."""


@dataclass(slots=True)
class Part:
    """One content part of a message.

    Attributes:
        kind: `input_text`, `input_audio`, `output_text`, `output_audio` or `input_image`.
        text: text, or the transcript of audio; None while it is not known.
        pcm: PCM16 at 24 kHz, if audio is kept.
    """

    kind: str
    text: str | None = None
    pcm: bytes = b""

    def wire(self, encode: Callable[[bytes], bytes] | None = None) -> dict[str, Any]:
        """Return the part as events show it, with its audio if `encode` converts it to a format."""
        if self.kind == "input_image":
            return {"type": self.kind}
        if self.kind in ("input_text", "output_text"):
            return {"type": self.kind, "text": self.text}
        audio = {"audio": base64.b64encode(encode(self.pcm)).decode()} if encode and self.pcm else {}
        return {"type": self.kind, "transcript": self.text, **audio}


@dataclass(slots=True, eq=False)
class Item:
    """An item of a conversation.

    Attributes:
        id: id in events.
        type: `message`, `function_call`, `function_call_output`, `mcp_list_tools`, `mcp_call`,
            `mcp_approval_request` or `mcp_approval_response`.
        origin: source of the item.
        role: role of a message: `user`, `assistant` or `system`.
        parts: content of a message.
        status: `in_progress`, `completed` or `incomplete`.
        call_id: id that a function call shares with its output.
        name: name of the called function or tool.
        arguments: arguments of a call, as JSON text.
        output: output of a function call, or of an MCP call that has ended.
        server: label of the MCP server.
        approval_request_id: request that an approval response answers, or that approved an MCP call.
        approve: whether an approval response allows the call.
        tools: tools in `mcp_list_tools`.
        failed: whether a call to an MCP server failed.
        audio_ms: audio of the message, committed or sent, without its truncated part.
        times: times of the model's words.
        words: words of the model without those truncated.
        said: all words that were sent.
        truncated_ms: position of the truncation; None: not truncated.
    """

    id: str
    type: str
    origin: Origin
    role: str | None = None
    parts: list[Part] = field(default_factory=list)
    status: str = "completed"
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None
    server: str | None = None
    approval_request_id: str | None = None
    approve: bool | None = None
    tools: list[dict[str, Any]] = field(default_factory=list)
    failed: bool = False
    audio_ms: int = 0
    times: WordTimes = NO_WORDS
    words: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    truncated_ms: int | None = None

    @property
    def is_note(self) -> bool:
        """Tell whether the item is a note to the model: text in brackets, with the user's role."""
        typed = all(part.kind == "input_text" for part in self.parts)
        return self.origin is Origin.CLIENT and self.role == "user" and typed and self.text.startswith("[")

    @property
    def text(self) -> str:
        """Return text and transcripts without the truncated part."""
        return " ".join(part.text for part in self.parts if part.text)

    def speak(self, words: list[str], audio_ms: int) -> None:
        """Add words and audio that were sent; those sent after a truncation are not remembered."""
        self.said += words
        if self.truncated_ms is None:
            self.words += words
            self.audio_ms = audio_ms
            self.parts[0].text = " ".join(self.words)

    def truncate(self, content_index: int, audio_end_ms: int) -> None:
        """Forget audio from `audio_end_ms` on, and the words that were incomplete at that position.

        Raises:
            RequestError: the item has no model audio, or `audio_end_ms` is 0 or beyond its end.
        """
        part = self.parts[content_index] if content_index < len(self.parts) else None
        # OpenAI's service was seen to refuse 0 ms for a reply whose audio had not begun. The simulator refuses it
        # for every reply, because a client should delete a reply that was not heard.
        if part is None or part.kind != "output_audio" or not self.audio_ms or not audio_end_ms:
            raise not_truncatable()
        if audio_end_ms > self.audio_ms:
            raise already_shorter(self.audio_ms, audio_end_ms)
        self.audio_ms = self.truncated_ms = audio_end_ms
        del self.words[self.times.ended(audio_end_ms) :]
        part.text = " ".join(self.words)

    def wire(self, encode: Callable[[bytes], bytes] | None = None) -> dict[str, Any]:
        """Return the item as events show it, with its audio if `encode` converts it to a format."""
        if self.server is not None:
            return self._mcp_wire()
        if self.type == "mcp_approval_response":
            about = {"approval_request_id": self.approval_request_id, "approve": self.approve}
            return {"id": self.id, "type": self.type, **about}
        wire: dict[str, Any] = {
            "id": self.id,
            "object": "realtime.item",
            "type": self.type,
            "status": self.status,
        }
        if self.type == "message":
            wire["role"] = self.role
            wire["content"] = [part.wire(encode) for part in self.parts]
        elif self.type == "function_call":
            wire |= {"name": self.name, "call_id": self.call_id, "arguments": self.arguments}
        else:
            wire |= {"call_id": self.call_id, "output": self.output}
        return wire

    def _mcp_wire(self) -> dict[str, Any]:
        wire: dict[str, Any] = {"id": self.id, "type": self.type, "server_label": self.server}
        if self.type == "mcp_list_tools":
            return wire | {"tools": self.tools}
        wire |= {"name": self.name, "arguments": self.arguments}
        if self.type == "mcp_approval_request":
            return wire
        error = {"type": "tool_execution_error", "message": "The tool failed."} if self.failed else None
        return wire | {"output": self.output, "error": error, "approval_request_id": self.approval_request_id}

    def report(self) -> dict[str, Any]:
        """Return all that is known about the item, for people."""
        about = {
            "id": self.id,
            "type": self.type,
            "origin": self.origin.value,
            "role": self.role,
            "status": self.status,
            "content": [part.kind for part in self.parts],
            "text": self.text,
            "said": " ".join(self.said),
            "audio_ms": self.audio_ms,
            "truncated_ms": self.truncated_ms,
            "name": self.name,
            "call_id": self.call_id,
            "arguments": self.arguments,
            "output": self.output,
            "server": self.server,
            "approval_request_id": self.approval_request_id,
            "approve": str(self.approve) if self.approve is not None else None,
            "tools": [tool["name"] for tool in self.tools],
        }
        return {name: value for name, value in about.items() if value not in (None, "", [], 0)}


class Conversation:
    """Items in order, each id once."""

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.items: list[Item] = []

    def find(self, item_id: str) -> Item | None:
        """Return the item with this id."""
        return next((item for item in self.items if item.id == item_id), None)

    def last_id(self) -> str | None:
        """Return the id of the last item."""
        return self.items[-1].id if self.items else None

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Add an item at the end, at the start (`after="root"`) or after another; return the id before it.

        Raises:
            RequestError: the other item does not exist, the id is taken, or the call to answer does not exist.
        """
        if self.find(item.id) is not None:
            raise duplicate_item(item.id)
        if item.type == "function_call_output" and not any(
            each.type == "function_call" and each.call_id == item.call_id for each in self.items
        ):
            raise no_such_call(item.call_id or "")
        position = self._position(after)
        self.items.insert(position, item)
        return self.items[position - 1].id if position else None

    def remove(self, item_id: str) -> None:
        """Delete an item.

        Raises:
            RequestError: no item has this id.
        """
        item = self.find(item_id)
        if item is None:
            raise no_such_item("delete", "deleting", item_id)
        self.items.remove(item)

    def previous_id(self, item: Item) -> str | None:
        """Return the id of the item before this one."""
        position = self.items.index(item) if item in self.items else 0
        return self.items[position - 1].id if position else None

    def user_turns(self, *, notes: bool = True) -> int:
        """Count the user's messages, replayed ones included; with `notes` false, do not count notes."""
        return sum(item.role == "user" and (notes or not item.is_note) for item in self.items)

    def knows_reply(self) -> bool:
        """Tell whether the conversation holds a reply of the model, spoken or restored by the client."""
        return any(
            item.role == "assistant" and (item.origin is Origin.CLIENT or item.words) for item in self.items
        )

    def calls_after_user(self, *, notes: bool = True) -> bool:
        """Tell whether the model has called a function or tool since the user's last message."""
        for item in reversed(self.items):
            if item.type in ("function_call", "mcp_call"):
                return True
            if item.role == "user" and (notes or not item.is_note):
                return False
        return False

    def _position(self, after: str | None) -> int:
        if not after:
            return len(self.items)
        if after == "root":
            return 0
        for position, item in enumerate(self.items):
            if item.id == after:
                return position + 1
        raise no_such_previous_item(after)
