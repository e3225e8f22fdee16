"""One response of a scripted Realtime end, event by event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

from tests.scripted import events as api
from tests.scripted.events import Event

# Audio of a delta: the API's are between 100 and 400 ms.
DELTA_MS = 100


class Session(Interface):
    """The part of a session that a response needs."""

    def send(self, *events: Event) -> None:
        """Send events."""

    def new_id(self, kind: str) -> str:
        """Return a new id."""

    def add_item(self, item_id: str) -> str | None:
        """Append an item to the conversation; returns the one before."""


class ScriptedResponse:
    """A response that has begun. Methods send its events; `done` and its like end it.

    Attributes:
        id: of the response.
        output: its items, as `response.done` shows them.
    """

    def __init__(self, session: Session, response_id: str, encode: Callable[[float, int], bytes]) -> None:
        self.id = response_id
        self.output: list[dict[str, Any]] = []
        self._session = session
        self._encode = encode

    @property
    def item_id(self) -> str:
        """Return the id of the last item."""
        return str(self.output[-1]["id"])

    def add(self, item: dict[str, Any]) -> None:
        """Begin an item: `response.output_item.added` and `conversation.item.added`."""
        previous = self._session.add_item(item["id"])
        index = len(self.output)
        self._session.send(
            api.event("response.output_item.added", response_id=self.id, output_index=index, item=item),
            api.item_added(item, previous),
        )
        self.output.append(item)

    def message(self) -> str:
        """Begin a message of the agent; returns its id."""
        self.add(api.reply_item(self._session.new_id("item")))
        return self.item_id

    def audio(self, hz: float, milliseconds: int, *, text: str = "", finish: bool = True) -> None:
        """Send a message with a tone and its transcript; `finish`: to the end of the item."""
        item_id = self.message()
        if text:
            self._send("response.output_audio_transcript.delta", delta=text)
        for start in range(0, milliseconds, DELTA_MS):
            self.delta(hz, min(DELTA_MS, milliseconds - start))
        self.output[-1] = api.reply_item(item_id, "incomplete", text)
        if finish:
            self.finish_audio(text)

    def delta(self, hz: float, milliseconds: int) -> None:
        """More audio of the last item, in one delta."""
        self._send_delta(self._encode(hz, milliseconds))

    def finish_audio(self, text: str) -> None:
        """End the last item: its audio, its transcript and the item."""
        self._send("response.output_audio.done")
        self._send("response.output_audio_transcript.done", transcript=text)
        self.output[-1] = api.reply_item(self.item_id, "completed", text)
        self._item_done()

    def text(self, text: str) -> None:
        """Send a message of text alone, to its end."""
        item_id = self.message()
        self._send("response.output_text.delta", delta=text)
        self._send("response.output_text.done", text=text)
        content = [{"type": "output_text", "text": text}]
        self.output[-1] = api.reply_item(item_id, "completed") | {"content": content}
        self._item_done()

    def function_call(self, name: str, arguments: str = "{}", *, call_id: str | None = None) -> str:
        """Send a function call, to its end; return its id."""
        call_id = self.begin_function_call(name, call_id=call_id)
        self.output[-1] |= {"status": "completed", "arguments": arguments}
        fields = {"item_id": self.item_id, "call_id": call_id, "name": name, "arguments": arguments}
        self._session.send(
            api.event(
                "response.function_call_arguments.done",
                response_id=self.id,
                output_index=len(self.output) - 1,
                **fields,
            )
        )
        self._item_done()
        return call_id

    def begin_function_call(self, name: str, *, call_id: str | None = None) -> str:
        """Begin a function call without its arguments; return its id."""
        call_id = call_id or self._session.new_id("call")
        self.add(api.function_call(self._session.new_id("fc"), call_id, name, "", "in_progress"))
        return call_id

    def item(self, item: dict[str, Any]) -> None:
        """Send an item that is complete when it is added, such as an approval request."""
        self.add(item)
        self._item_done()

    def cut_off(self) -> None:
        """End the last item as incomplete."""
        self.output[-1] |= {"status": "incomplete"}
        self._item_done()

    def done(self, status: str = "completed", status_details: dict[str, Any] | None = None) -> None:
        """Send `response.done`, with all begun items as its output."""
        self._session.send(
            api.event(
                "response.done",
                response=api.response(
                    self.id, status, output=self.output, status_details=status_details, usage=api.USAGE
                ),
            )
        )

    def failed(self, code: str, message: str = api.SERVER_ERROR) -> None:
        """`response.done` with status `failed`."""
        self.done("failed", {"type": "failed", "error": {"type": code, "code": code, "message": message}})

    def incomplete(self, reason: str) -> None:
        """`response.done` with status `incomplete`."""
        self.done("incomplete", {"type": "incomplete", "reason": reason})

    def _item_done(self) -> None:
        self._session.send(
            api.event(
                "response.output_item.done",
                response_id=self.id,
                output_index=len(self.output) - 1,
                item=self.output[-1],
            )
        )

    def _send_delta(self, audio: bytes) -> None:
        self._send("response.output_audio.delta", delta=api.base64_of(audio))

    def _send(self, kind: str, **fields: Any) -> None:
        self._session.send(
            api.event(
                kind,
                response_id=self.id,
                item_id=self.item_id,
                output_index=len(self.output) - 1,
                content_index=0,
                **fields,
            )
        )
