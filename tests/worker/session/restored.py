"""Sessions that continue a call from its memory."""

from __future__ import annotations

from typing import Any

from common.link import wire
from tests.worker.session_driver import (
    Append,
    Did,
    Driver,
    only,
    samples_8k,
)
from worker.audio.resample import Upsampler
from worker.session.memory.checkpoint import Checkpoint

SECOND = 16_000
TRANSFER = '{"transfer_extension":"600"}'


# Items of the memory


def remembered(item_id: str, **item: Any) -> wire.ItemUpdate:
    return wire.ItemUpdate(item_id, item={"text_done": True, "reported": True, **item})


def agent(item_id: str, text: str = "", **fields: Any) -> wire.ItemUpdate:
    """Return a reply; how much of it was heard is settled, unless it is said otherwise."""
    fields = {"heard_share": 1.0, **fields}
    return remembered(
        item_id, role="agent", text=text, **{name: value for name, value in fields.items() if value is not None}
    )


def user(item_id: str, text: str = "", **fields: Any) -> wire.ItemUpdate:
    return remembered(item_id, role="user", text=text, **fields)


def turn_without_text(item_id: str, start: int, end: int, *, text_done: bool = False) -> wire.ItemUpdate:
    return wire.ItemUpdate(item_id, item={"role": "user", "span": [start, end], "text_done": text_done})


def function_call(item_id: str, call_id: str = "call_1", name: str = "look_up", **fields: Any) -> wire.ItemUpdate:
    return remembered(item_id, kind="function_call", call_id=call_id, name=name, **{"text": "{}", **fields})


def function_output(item_id: str, call_id: str = "call_1", text: str = "found", **fields: Any) -> wire.ItemUpdate:
    return remembered(item_id, kind="function_call_output", call_id=call_id, text=text, **fields)


def under_way(index: int, item_id: str, text: str, received_ms: int, sent_ms: int, **fields: Any) -> wire.Reply:
    return wire.Reply(index, item_id, text, samples_8k(received_ms), samples_8k(sent_ms), **fields)


# Drivers


def restoring(*items: wire.ItemUpdate, plan: dict[str, Any] | None = None, **fields: Any) -> Driver:
    """Return a session that continues a call, and connects."""
    checkpoint = Checkpoint(**{"reason": "worker_lost", "items": list(items), **fields})
    return Driver(checkpoint=checkpoint, opening={"epoch": 2, "restore": True}, **(plan or {}))


def restored(*items: wire.ItemUpdate, **fields: Any) -> tuple[Driver, list[Did]]:
    """Return a session that has just gone live, and its actions."""
    driver = restoring(*items, **fields)
    return driver, driver.go_live()


def replayed(did: list[Did]) -> list[tuple[str, str]]:
    """Return the items that were replayed to the session: (kind of content or type, text)."""
    brought = []
    for event in only(did, dict):
        if event["type"] == "conversation.item.create":
            item = event["item"]
            part = item["content"][0] if "content" in item else item
            text = part.get("text") or part.get("output") or part.get("arguments") or part.get("audio") or ""
            brought.append((part["type"], text))
    return brought


def appended(did: list[Did]) -> bytes:
    """PCM16 at 24 kHz that went into the session."""
    return b"".join(append.pcm for append in only(did, Append))


def upsampled(pcm: bytes) -> bytes:
    return Upsampler().process(pcm)
