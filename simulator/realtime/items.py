"""Conversation items of clients, read into the simulator's own form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from simulator.realtime.audio import WireAudio
from simulator.realtime.conversation import Item, Origin, Part


def without_audio(event: dict[str, Any]) -> dict[str, Any]:
    """Return a client event of any shape without the audio of its item."""
    item = event.get("item")
    if not isinstance(item, dict) or not isinstance(item.get("content"), list):
        return event
    parts = [
        {name: value for name, value in part.items() if name != "audio"} if isinstance(part, dict) else part
        for part in item["content"]
    ]
    return {**event, "item": {**item, "content": parts}}


def read_item(
    wire: dict[str, Any], path: str, *, new_id: Callable[[str], str], audio: WireAudio, keep_audio: bool
) -> Item:
    """Read an item of an event whose shape was checked.

    Args:
        wire: the item in the event.
        path: place of the item in the event, for errors.
        new_id: makes a missing id from its prefix.
        audio: format of the session's input, which items use too.
        keep_audio: whether to keep the audio, and not only its length.

    Raises:
        RequestError: its audio is not base64 of whole samples.
    """
    item = Item(
        wire.get("id") or new_id("item"),
        wire["type"],
        Origin.CLIENT,
        role=wire.get("role"),
        call_id=wire.get("call_id"),
        name=wire.get("name"),
        arguments=wire.get("arguments"),
        output=wire.get("output"),
        approval_request_id=wire.get("approval_request_id"),
        approve=wire.get("approve"),
    )
    if item.type == "function_call" and item.call_id is None:
        item.call_id = new_id("call")
    for index, content in enumerate(wire.get("content", ())):
        part = Part(content["type"], content.get("text", content.get("transcript")))
        if part.kind == "input_audio":
            data = audio.read(content["audio"], f"{path}.content[{index}].audio")
            item.audio_ms += len(data) // audio.bytes_per_ms
            part.pcm = audio.decode(data) if keep_audio else b""
        item.parts.append(part)
    return item
