"""The dispatcher's place in a typed conversation: records of the session go to a person.

The session is that of a telephone call, and speaks. Its audio is discarded, and counts as heard at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from common.link import wire
from common.link.wire import Kind, TelephonyAction
from worker.chat import figures
from worker.chat.screen import Screen
from worker.runner.resources import Resources
from worker.runner.session_runner import SessionRunner

CHANNEL: Final = 1
_WATCH_NUMBER: Final = 1
MAX_TOOL_CALLS: Final = 200
"""Tool calls whose names and results wait for each other."""


class DispatcherStandIn:
    """The dispatcher's end of one session's channel, and the worker's table of calls.

    Attributes:
        figures: what the session has measured and used so far.
        is_ready: the Realtime session is open.
        is_over: set when the session has ended.
        failure: why the conversation failed; empty: it did not.
        collection: number of the tool's request for keys that waits; None: no tool waits for keys.
    """

    def __init__(self, opening: wire.Open, resources: Resources, screen: Screen) -> None:
        self.figures = wire.Figures()
        self.is_ready = False
        self.is_over = asyncio.Event()
        self.failure = ""
        self.collection: int | None = None
        self._screen = screen
        self._items: dict[int, str] = {}
        self._shown: set[str] = set()
        self._heard: dict[int, int] = {}
        self._audio_bytes = 0
        self._received = 0
        self._reports_soon = False
        self._tools: dict[str, str] = {}
        self._ended_tools: deque[wire.ToolFigure] = deque(maxlen=MAX_TOOL_CALLS)
        self.call = SessionRunner(opening, CHANNEL, self._receive, calls=self, resources=resources)

    def begin(self) -> None:
        """Open the session, and watch it."""
        self.call.begin()
        self.call.command(wire.Command(_WATCH_NUMBER, self.call.uuid, "watch"), self._receive)

    def press(self, digit: str) -> None:
        """Press a key of the telephone: for the model, or for the tool that waits for keys."""
        key = wire.Dtmf(digit) if self.collection is None else wire.SecretKey(self.collection, digit)
        self._send(wire.encode(key, CHANNEL))

    async def close(self, seconds: float) -> None:
        """End the session, and wait until nothing of it is left."""
        if not self.call.has_ended:
            self._send(wire.encode(wire.Close("the typed conversation is over"), CHANNEL))
        try:
            async with asyncio.timeout(seconds):
                await self.call.settled()
        except TimeoutError:
            return  # the connection ends with the process

    # The worker's table of calls

    def ended(self, call: SessionRunner) -> None:
        """Take note that the session is over."""
        self.is_over.set()

    def released(self, call: SessionRunner) -> None:
        """Take note that the session gave up its call, which nothing continues here."""
        self.is_over.set()

    def taking_over(self, call: SessionRunner) -> None:
        """Do nothing, because there is one session."""

    # Records of the session

    def _receive(self, message: bytes) -> None:
        for kind, channel, payload in wire.decode(message):
            if channel == CHANNEL and kind not in wire.UNCOUNTED:
                self._received += 1
                self._report_soon()
            reader = _READERS.get(kind)
            if reader is not None:
                reader(self, payload)

    def _report_soon(self) -> None:
        """Answer when the session has carried out its actions: an answer among them would change their order."""
        if not self._reports_soon:
            self._reports_soon = True
            asyncio.get_running_loop().call_soon(self._report)

    def _report(self) -> None:
        self._reports_soon = False
        self._send(wire.encode_ack(CHANNEL, self._received))
        if self._heard:
            items = tuple(wire.ItemHeard(index, samples) for index, samples in sorted(self._heard.items()))
            self._heard = {index: samples for index, samples in self._heard.items() if index in self._items}
            self._send(wire.encode(wire.Playout(items, idle=True), CHANNEL))
        if self._audio_bytes:
            credit, self._audio_bytes = self._audio_bytes, 0
            self._send(wire.encode_credit(CHANNEL, credit))

    def _send(self, message: bytes) -> None:
        if not self.call.has_ended:
            for kind, _, payload in wire.decode(message):
                self.call.record(kind, payload)

    def _send_later(self, record: wire.Control) -> None:
        asyncio.get_running_loop().call_soon(self._send, wire.encode(record, CHANNEL))

    def _ready(self, _: memoryview) -> None:
        self.is_ready = True

    def _item(self, payload: memoryview) -> None:
        begun = wire.decode_control(wire.ReplyItem, payload)
        self._items[begun.index] = begun.item_id
        self._heard[begun.index] = 0
        self._screen.end_line()

    def _text(self, payload: memoryview) -> None:
        index, _, text = wire.decode_reply_text(payload)
        self._shown.add(self._items.get(index, ""))
        self._screen.agent(text)

    def _audio(self, payload: memoryview) -> None:
        index, pcm = wire.decode_reply_audio(payload)
        self._heard[index] = self._heard.get(index, 0) + len(pcm) // wire.SAMPLE_BYTES
        self._audio_bytes += len(pcm)

    def _transcript(self, payload: memoryview) -> None:
        told = wire.decode_control(wire.Transcript, payload)
        if told.role != "agent":
            return
        if told.item_id not in self._shown:
            self._screen.agent(told.text)
        self._screen.end_line()
        # No more text of the item comes.
        self._shown.discard(told.item_id)
        self._items = {index: item_id for index, item_id in self._items.items() if item_id != told.item_id}

    def _flush(self, payload: memoryview) -> None:
        # An item that the answer does not name was heard as far as it was sent.
        self._send_later(wire.Heard(wire.decode_control(wire.Flush, payload).number))

    def _tool(self, payload: memoryview) -> None:
        self._send_later(wire.ToolKnown(wire.decode_control(wire.Tool, payload).call_id))

    def _collect(self, payload: memoryview) -> None:
        wanted = wire.decode_control(wire.Collect, payload)
        if not wanted.on:
            self.collection = None
            return
        self.collection = wanted.number
        self._screen.note("a tool asks for keys that the model does not see: /keys 1234")
        self._send_later(wire.Collecting(wanted.number))

    def _figures(self, payload: memoryview) -> None:
        before, self.figures = self.figures, wire.decode_control(wire.Figures, payload)
        self._ended_tools.extend(self.figures.tools[len(before.tools) :])

    def _telephony(self, payload: memoryview) -> None:
        command = wire.decode_control(wire.TelephonyCommand, payload)
        if command.action == TelephonyAction.TRANSFER:
            target = f"{command.extension}@{command.context}" if command.context else command.extension
            self._screen.note(f"the agent transfers the caller to {target}: a telephone call would go there now")
        else:
            self._screen.note("the agent hangs up: a telephone call would end here")
        self.is_over.set()

    def _event(self, payload: memoryview) -> None:
        event = wire.decode_control(wire.Event, payload).body
        match event.get("type"):
            case "tool_call" if len(self._tools) < MAX_TOOL_CALLS:
                self._tools[event["call_id"]] = event["name"]
                self._screen.note(f"tool {event['name']} {event['arguments']} ...")
            case "tool_result":
                self._tool_ended(event)
            case "interruption":
                self._screen.note("interrupted")

    def _tool_ended(self, event: dict[str, Any]) -> None:
        name = self._tools.pop(event["call_id"], "")
        figure = next((each for each in self._ended_tools if each.name == name), None)
        if figure is not None:
            self._ended_tools.remove(figure)
        self._screen.note(figures.tool(name, event["output"], figure))

    def _ended(self, payload: memoryview) -> None:
        ended = wire.decode_control(wire.Ended, payload)
        if ended.outcome != wire.Outcome.COMPLETED:
            self.failure = ended.message or "the session failed"
        self.is_over.set()

    def _released(self, payload: memoryview) -> None:
        released = wire.decode_control(wire.Released, payload)
        self.failure = f"{released.message} (a telephone call would go on in another session)"
        self.is_over.set()


_READERS: Final[dict[int, Callable[[DispatcherStandIn, memoryview], None]]] = {
    Kind.READY: DispatcherStandIn._ready,
    Kind.REPLY_ITEM: DispatcherStandIn._item,
    Kind.REPLY_TEXT: DispatcherStandIn._text,
    Kind.REPLY_AUDIO: DispatcherStandIn._audio,
    Kind.TRANSCRIPT: DispatcherStandIn._transcript,
    Kind.FLUSH: DispatcherStandIn._flush,
    Kind.TOOL: DispatcherStandIn._tool,
    Kind.COLLECT: DispatcherStandIn._collect,
    Kind.FIGURES: DispatcherStandIn._figures,
    Kind.TELEPHONY_COMMAND: DispatcherStandIn._telephony,
    Kind.EVENT: DispatcherStandIn._event,
    Kind.ENDED: DispatcherStandIn._ended,
    Kind.RELEASED: DispatcherStandIn._released,
}
