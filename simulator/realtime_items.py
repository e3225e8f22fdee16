"""Conversation items and audio as clients write them, read into the simulator's own form."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any

from simulator.input_audio import BYTES_PER_MS
from simulator.realtime_conversation import Item, Origin, Part
from simulator.realtime_errors import invalid_audio


def read_item(wire: dict[str, Any], path: str, *, new_id: Callable[[str], str], keep_audio: bool) -> Item:
    """An item of an event whose shape has been checked.

    Args:
        wire: the item.
        path: of the item in the event, for errors.
        new_id: makes the ids that the client left out, given their prefix.
        keep_audio: keep the audio, not only its length.

    Raises:
        RequestError: audio in it is not base64 of whole samples.
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
    )
    if item.type == "function_call" and item.call_id is None:
        item.call_id = new_id("call")
    for index, content in enumerate(wire.get("content", ())):
        part = Part(content["type"], content.get("text", content.get("transcript")))
        if part.kind == "input_audio":
            pcm = read_pcm(content["audio"], f"{path}.content[{index}].audio")
            item.audio_ms += len(pcm) // BYTES_PER_MS
            part.pcm = pcm if keep_audio else b""
        item.parts.append(part)
    return item


def read_pcm(audio: str, path: str) -> bytes:
    """PCM16 at 24 kHz from base64.

    Raises:
        RequestError: it is not base64, or not whole samples.
    """
    try:
        pcm = binascii.a2b_base64(audio, strict_mode=True)
    except ValueError as error:
        raise invalid_audio(path) from error
    if len(pcm) % 2:
        raise invalid_audio(path)
    return pcm
