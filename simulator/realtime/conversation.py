"""The conversation of a session: what the model has been told and has said, in order."""

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


class Origin(enum.StrEnum):
    """Where an item comes from."""

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
        text: the text or, of audio, the transcript; None: not known (yet).
        pcm: audio, where it is kept: PCM16 at 24 kHz.
    """

    kind: str
    text: str | None = None
    pcm: bytes = b""

    def wire(self, encode: Callable[[bytes], bytes] | None = None) -> dict[str, Any]:
        """As events show it; with its audio if `encode` says in which format."""
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
        id: as events name it.
        type: `message`, `function_call`, `function_call_output`, `mcp_list_tools`, `mcp_call`,
            `mcp_approval_request` or `mcp_approval_response`.
        origin: where it comes from.
        role: of a message: `user`, `assistant` or `system`.
        parts: content of a message.
        status: `in_progress`, `completed` or `incomplete`.
        call_id: of a function call and its output.
        name: of the function or tool called.
        arguments: of a call, as JSON text.
        output: of a function call output, or of a call to an MCP server that has ended.
        server: label of the MCP server.
        approval_request_id: of an approval response, and of a call to an MCP server that was approved.
        approve: whether an approval response allows the call.
        tools: of `mcp_list_tools`.
        failed: whether a call to an MCP server failed.
        audio_ms: audio of the message that the model has in mind: committed or sent, less what was truncated.
        word_ms: length of the model's words.
        words: what the model has in mind of its own words: sent, less what was truncated.
        said: all words that were sent.
        truncated_ms: where it was truncated; None: nowhere.
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
    word_ms: int = 0
    words: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    truncated_ms: int | None = None

    @property
    def is_note(self) -> bool:
        """Whether the client wrote it in brackets: a note to the model, in the user's role."""
        typed = all(part.kind == "input_text" for part in self.parts)
        return self.origin is Origin.CLIENT and self.role == "user" and typed and self.text.startswith("[")

    @property
    def text(self) -> str:
        """What the model has in mind: text and transcripts; of its own audio, what was not truncated."""
        return " ".join(part.text for part in self.parts if part.text)

    def speak(self, words: list[str], audio_ms: int) -> None:
        """Words and audio were sent; after a truncation they are not remembered."""
        self.said += words
        if self.truncated_ms is None:
            self.words += words
            self.audio_ms = audio_ms
            self.parts[0].text = " ".join(self.words)

    def truncate(self, content_index: int, audio_end_ms: int) -> None:
        """Forget audio from `audio_end_ms` on, and the words that were not whole by then.

        Raises:
            RequestError: it has no audio of the model, `audio_end_ms` is 0 or behind its end.
        """
        part = self.parts[content_index] if content_index < len(self.parts) else None
        # 0 ms has been seen to be refused for a reply whose audio had not begun. It is refused here for any
        # reply: what nobody heard is to be deleted.
        if part is None or part.kind != "output_audio" or not self.audio_ms or not audio_end_ms:
            raise not_truncatable()
        if audio_end_ms > self.audio_ms:
            raise already_shorter(self.audio_ms, audio_end_ms)
        self.audio_ms = self.truncated_ms = audio_end_ms
        del self.words[audio_end_ms // self.word_ms :]
        part.text = " ".join(self.words)

    def wire(self, encode: Callable[[bytes], bytes] | None = None) -> dict[str, Any]:
        """As events show it; with its audio if `encode` says in which format."""
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
        """What there is to know about it, for people."""
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
    """Items in order; every id once."""

    def __init__(self, conversation_id: str) -> None:
        self.id = conversation_id
        self.items: list[Item] = []

    def find(self, item_id: str) -> Item | None:
        """The item of that id."""
        return next((item for item in self.items if item.id == item_id), None)

    def last_id(self) -> str | None:
        """The id of the last item."""
        return self.items[-1].id if self.items else None

    def add(self, item: Item, *, after: str | None = None) -> str | None:
        """Add an item at the end, at the start (`after="root"`) or after another; returns the id before it.

        Raises:
            RequestError: there is no such other item, its id is taken, or it answers a call that is not there.
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
            RequestError: there is none of that id.
        """
        item = self.find(item_id)
        if item is None:
            raise no_such_item("delete", "deleting", item_id)
        self.items.remove(item)

    def previous_id(self, item: Item) -> str | None:
        """The id of the item before this one."""
        position = self.items.index(item) if item in self.items else 0
        return self.items[position - 1].id if position else None

    def user_turns(self, *, notes: bool = True) -> int:
        """How many messages of the user there are, replayed ones included; with `notes` false without notes."""
        return sum(item.role == "user" and (notes or not item.is_note) for item in self.items)

    def knows_reply(self) -> bool:
        """Whether the model knows of something that it has said, or that the client has told it so."""
        return any(
            item.role == "assistant" and (item.origin is Origin.CLIENT or item.words) for item in self.items
        )

    def calls_after_user(self, *, notes: bool = True) -> bool:
        """Whether the model has called a function or tool since the user's last message."""
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
