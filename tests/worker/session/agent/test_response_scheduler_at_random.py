"""Owed answers before an API that fails at random: each is given once, or the call ends with a reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from common.link import wire
from tests.worker import api_events as api
from tests.worker.session.test_owed_answers import TICK_SECONDS, Api
from tests.worker.session_driver import Did, Driver, audio_samples, only, playout
from worker.session.actions import Answer

SEEDS = range(100)
BAD_SECONDS = 40
# The longest back-off, and what the API is waited for before.
GOOD_SECONDS = 90


class UnreliableApi(Api):
    """An API with one response at a time, as OpenAI's; how a response ends is drawn.

    Attributes:
        is_good: nothing goes wrong any more.
        said: texts of `say` that were heard, in order.
        heard: replies that were heard, whole or in part.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(Driver(retry_seconds=300.0))
        self.random = random.Random(seed)
        random.seed(seed)  # the jitter of delays
        self.is_good = False
        self.said: list[str] = []
        self.heard = 0
        self._active: str | None = None
        self._active_item: str | None = None
        self._due: list[tuple[float, Callable[[], list[Did]]]] = []
        self._texts: dict[str, str] = {}

    # Time

    def run(self, seconds: float) -> list[Did]:
        """Let time pass, and do the due events."""
        before = len(self.did)
        for _ in range(round(seconds / TICK_SECONDS)):
            super().run(TICK_SECONDS)
            due = [act for at, act in self._due if at <= self.driver.now]
            self._due = [(at, act) for at, act in self._due if at > self.driver.now]
            for act in due:
                self.saw(act())
        return self.did[before:]

    def later(self, seconds: float, act: Callable[[], list[Did]]) -> list[Did]:
        """Do this after a while."""
        self._due.append((self.driver.now + seconds, act))
        return []

    # What the session sends

    def receive(self, event: dict[str, Any]) -> list[Did]:
        """Return an event for the API."""
        match event["type"]:
            case "response.create":
                self.requests.append((self.driver.now, event))
                number = len(self.requests)
                return self._requested(event, f"response-create-{number}")
            case "response.cancel":
                if self._active != event.get("response_id"):
                    return self.driver.event(api.error("response_cancel_not_active", "No active response."))
                return self._end("cancelled", {"type": "cancelled", "reason": "client_cancelled"})
            case "input_audio_buffer.commit":
                return self.driver.event(api.committed("by_client"), api.caller_item_added("by_client"))
        return []

    def _requested(self, event: dict[str, Any], event_id: str) -> list[Did]:
        if self._active is not None:
            code = "conversation_already_has_active_response"
            return self.driver.event(api.error(code, "There is one.", event_id=event_id))
        if not self.is_good:
            match self.random.randrange(8):
                case 0:
                    return []  # lost
                case 1:
                    return self.driver.event(api.error("server_error", kind="server_error", event_id=event_id))
                case 2:
                    return self.driver.event(api.error("server_error", kind="server_error", event_id=None))
                case 3:
                    seconds = self.random.uniform(0.5, 14)
                    return self.later(seconds, lambda: self.begin(event) if self._active is None else [])
        return self.begin(event)

    # Responses

    def begin(self, request: dict[str, Any] | None) -> list[Did]:
        """Begin a response, and draw its further events."""
        response_id = self._active = self.new_response()
        self._active_item = None
        instructions = (request or {}).get("response", {}).get("instructions", "")
        self._texts[response_id] = instructions
        created = api.response_created(response_id)
        created["response"]["metadata"] = (request or {}).get("response", {}).get("metadata")
        did = self.driver.event(created)
        drawn = 9 if self.is_good else self.random.randrange(10)
        if drawn in (2, 3) and instructions:
            drawn = 0  # three of these, and it is given up
        error = {"type": "server_error", "code": "server_error", "message": "Sorry."}
        failed = {"type": "failed", "error": error}
        if self._active != response_id:
            return did
        match drawn:
            case 0 | 1:
                return did + self._end("failed", failed)
            case 2:
                return did + self._end("completed")
            case 3:
                return did + self._end("incomplete", {"type": "incomplete", "reason": "content_filter"})
            case 4:
                did += self._speak(response_id)
                return did + self._end("failed", failed)
            case 5:
                did += self._speak(response_id)
                return did  # its end is lost
            case 6:
                self._active = None
                return did + self.driver.event(api.error(None, kind="server_error"))
            case 7:
                return did + self.later(self.random.uniform(0.2, 12), lambda: self._speak_late(response_id))
        did += self._speak(response_id)
        return did + self._end("completed")

    def _speak_late(self, response_id: str) -> list[Did]:
        if self._active != response_id:
            return []
        did = self._speak(response_id)
        return did + self._end("completed")

    def _speak(self, response_id: str) -> list[Did]:
        item_id = self._active_item = f"item_of_{response_id}"
        did = self.driver.event(
            api.item_added(api.reply_item(item_id), self.last_item),
            api.text_delta(response_id, item_id, "Yes."),
            api.audio_delta(response_id, item_id, bytes(48 * 200)),
        )
        samples = audio_samples(did)
        if samples:
            self.heard += 1
            if self._texts[response_id]:
                self.said.append(self._texts[response_id].rpartition(": ")[2].strip('"'))
            did += self.driver.record(playout(*samples.items(), idle=True))
        self.last_item = item_id
        return did

    def _end(self, status: str, details: dict[str, Any] | None = None) -> list[Did]:
        response_id, self._active = self._active, None
        if response_id is None:
            return []
        output = []
        if self._active_item is not None:
            item_id = self._active_item
            output = [api.reply_item(item_id, "completed", "Yes.")]
            did = self.driver.event(
                api.audio_done(response_id, item_id), api.text_done(response_id, item_id, "Yes.")
            )
        else:
            did = []
        done = api.response_done(response_id, status, output=output, status_details=details)
        return did + self.driver.event(done)

    # What the caller and others do

    def caller_turn(self, item_id: str) -> None:
        """Send the caller's turn: the API cancels the active response, and begins another."""
        self.event(api.speech_started(item_id))
        self.saw(self._end("cancelled", {"type": "cancelled", "reason": "turn_detected"}))
        self.event(
            api.speech_stopped(item_id, 0),
            api.committed(item_id, self.last_item),
            api.caller_item_added(item_id, self.last_item),
            api.transcribed(item_id, "Well?"),
        )
        self.last_item = item_id
        if self.is_good or self.random.randrange(5):
            self.saw(self.begin(None))

    def say(self, number: int) -> None:
        """`POST /calls/{uuid}/say`."""
        self.driver.session.command(number, "say", {"text": f"Saying {number}."}, self.driver.now)
        self.saw(self.driver.take())

    def key(self) -> None:
        """Keys of the caller."""
        self.saw(self.driver.record(wire.Dtmf("5"), wire.Dtmf("#")))


@pytest.mark.parametrize("seed", SEEDS)
def test_each_answer_is_given_once_or_the_call_ends(seed: int) -> None:
    made = UnreliableApi(seed)
    made.saw(made.driver.go_live())
    sayings = 0
    while made.driver.now < 100 + BAD_SECONDS and not made.ended:
        made.run(made.random.choice([0.4, 1, 3, 8]))
        match made.random.randrange(4):
            case 0:
                made.key()
            case 1:
                sayings += 1
                made.say(sayings)
            case 2:
                made.caller_turn(f"turn_{made.driver.now:.1f}")
    made.is_good = True
    made.run(GOOD_SECONDS)
    if made.ended:
        assert made.ended[0].outcome == "failed"
        assert made.ended[0].message
        return
    # All that was to be said was said, in order, and not twice where it was heard whole.
    accepted = [f"Saying {answer.number}." for answer in only(made.did, Answer) if answer.status == 200]
    heard = [text for text in made.said if text.startswith("Saying")]
    assert list(dict.fromkeys(heard)) == accepted
    # Everything is settled: a turn is answered once, and nothing else is asked for.
    made.run(30)
    requests, replies = len(made.requests), made.heard
    made.caller_turn("turn_last")
    made.run(60)
    assert (len(made.requests), made.heard) == (requests, replies + 1)
