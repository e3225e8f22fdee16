"""Answers that the model owes the caller, and the response that gives them.

The model owes an answer for the greeting, a turn, the output of any tool, keys and a `say`. Audio that was sent to
the caller settles the answer. So does a function call, the caller's next turn, or the end of the call.
`response.done` and `error` do not settle it.

Only `next_request` decides when to request a response. An answer must be owed, no response may be active, and the
caller must neither speak nor press keys.

    state       event                             next state
    IDLE        request sent                      REQUESTED
    IDLE        response.created                  ACTIVE     the API answers a turn by itself
    REQUESTED   response.created                  ACTIVE
    REQUESTED   request refused, or no answer     IDLE
    REQUESTED   refused: a response is active     ACTIVE     its id may be unknown
    ACTIVE      response.created of another       ACTIVE     the newer response counts
    ACTIVE      response.done, or proof of its end IDLE

Any other event leaves the state unchanged, because an event of a peer is never illegal here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

Event = dict[str, Any]

# Answers that may be owed at once; one more settles the oldest.
MAX_OWED: Final = 64
# Maximum responses without an end: one is active, and newer ones have replaced the others.
MAX_RESPONSES: Final = 8
# Maximum requests without a response, each of which was repeated.
MAX_UNANSWERED: Final = 4
REQUEST_ID: Final = "response-create"
# Key in a response's `metadata`, which OpenAI's API returns in `response.created`.
METADATA_KEY: Final = "request"


class AnswerKind(StrEnum):
    """Reason for which an answer is owed."""

    GREETING = "greeting"
    TURN = "turn"
    TOOL = "tool"
    KEYS = "keys"
    SAY = "say"
    PROMPT = "prompt"
    """A tool asks the caller for keys. Other answers wait until the caller has entered them."""
    REMOTE_TOOL = "remote_tool"
    CONTINUATION = "continuation"
    """The rest of a reply that failed after a part of it was heard."""
    APOLOGY = "apology"
    """ANSWER_FAILED_TEXT, in place of an answer that was given up."""
    RECOVERY = "recovery"
    """Another session continues the call."""


@dataclass(slots=True, eq=False)
class Answer:
    """One owed answer.

    Attributes:
        kind: reason for which it is owed.
        owed_since_seconds: time since which it is owed.
        events: request of an answer with a given text; empty: a plain `response.create`. That answers everything
            that is owed without a given text.
        text: text to say word for word; empty: the model chooses its words.
        not_before_seconds: earliest time of its request.
        api_until_seconds: time until which the API may answer by itself; None: the answer must be requested.
        api_answers: the API is set to answer by itself.
        repeats: requests after the first.
        empty_responses: responses that ended without audio.
        was_shortened: the conversation was shortened for it.
        was_held: the limits of the process delayed its request.
        reason: why it must be requested again.
        detail: the API's code or reason for that.
        is_given: audio of it was handed to the caller.
    """

    kind: AnswerKind
    owed_since_seconds: float
    events: list[Event] = field(default_factory=list)
    text: str = ""
    not_before_seconds: float = float("-inf")
    api_until_seconds: float | None = None
    api_answers: bool = False
    repeats: int = 0
    empty_responses: int = 0
    was_shortened: bool = False
    was_held: bool = False
    reason: str = ""
    detail: str = ""
    is_given: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it has no given text."""
        return not self.events

    @property
    def ends_with_a_turn(self) -> bool:
        """Whether the caller's next turn settles it, because the answer to that turn covers it."""
        return self.is_plain or self.kind in (AnswerKind.GREETING, AnswerKind.APOLOGY)


@dataclass(slots=True, eq=False)
class Request:
    """A request for a response: `response.create`, or an event after which the API speaks by itself.

    Attributes:
        number: distinguishes it from other requests of the session.
        answers: answers that it requests.
        sent_seconds: time at which it was sent.
        is_unwanted: its response must be cancelled at once, because the caller has pressed a key meanwhile.
    """

    number: int
    answers: list[Answer]
    sent_seconds: float
    is_unwanted: bool = False

    @property
    def event_id(self) -> str:
        """Return the `event_id` of its `response.create`, which an `error` repeats."""
        return f"{REQUEST_ID}-{self.number}"

    @property
    def is_repeat(self) -> bool:
        """Whether it repeats an earlier request."""
        return any(answer.repeats or answer.was_held for answer in self.answers)

    def events(self, *, with_metadata: bool) -> list[Event]:
        """Return events for the API; `with_metadata`: its response has the request's id."""
        plain: list[Event] = [{"type": "response.create"}]
        return [self._marked(event, with_metadata) for event in self.answers[0].events or plain]

    def _marked(self, event: Event, with_metadata: bool) -> Event:
        if event["type"] != "response.create":
            return event
        event = event | {"event_id": self.event_id}
        if with_metadata:
            event["response"] = {**event.get("response", {}), "metadata": {METADATA_KEY: self.event_id}}
        return event


@dataclass(slots=True, eq=False)
class Response:
    """A response that has begun and not ended.

    Attributes:
        response_id: the API's id; empty while it is unknown.
        answers: answers that it gives.
        request: the request that it follows; None: the API began it by itself.
        last_seconds: time of its last event.
        is_heard: some of its audio was sent to the caller.
        has_called: it has called a function, or a remote tool.
        is_cancelled: the caller interrupted it, or it was cancelled here.
        open_items: items that it has announced and that are not done.
        has_items: one of its items is done.
    """

    response_id: str
    answers: list[Answer]
    request: Request | None
    last_seconds: float
    is_heard: bool = False
    has_called: bool = False
    is_cancelled: bool = False
    open_items: set[str] = field(default_factory=set)
    has_items: bool = False


class SchedulerState(Enum):
    """State of the requests; the table of transitions is at the top of this file."""

    IDLE = "idle"
    REQUESTED = "requested"
    ACTIVE = "active"


class ResponseScheduler:
    """Scheduler of one session's owed answers and responses: one response at a time.

    Attributes:
        state: whether a response is requested or active.
        only: answers of this kind alone are requested; None: all are.
    """

    def __init__(self) -> None:
        self.state = SchedulerState.IDLE
        self.only: AnswerKind | None = None
        self._owed: list[Answer] = []
        self._request: Request | None = None
        self._unanswered: list[Request] = []
        self._responses: dict[str, Response] = {}
        self._active: Response | None = None
        self._requests = 0
        # Requests that were repeated, and whose own responses may still come.
        self._surplus = 0
        # The API returns metadata, so a response without it is one that the API began by itself.
        self._echoes_metadata = False

    # Answers

    @property
    def owed(self) -> list[Answer]:
        """Answers that are not settled, oldest first."""
        return list(self._owed)

    @property
    def owes(self) -> bool:
        """Whether an answer is owed."""
        return bool(self._owed)

    def owe(self, answer: Answer) -> Answer | None:
        """Add an owed answer; return the oldest one, which is dropped, if there are too many."""
        self._owed.append(answer)
        return self._owed.pop(0) if len(self._owed) > MAX_OWED else None

    def turn(self, answer: Answer) -> None:
        """Owe the answer to a turn, in place of all owed answers except `say`."""
        self._owed = [each for each in self._owed if not each.ends_with_a_turn]
        self._owed.append(answer)
        self._surplus = 0

    def settle(self, answers: Iterable[Answer]) -> list[Answer]:
        """Settle these answers; return the ones that were owed."""
        settled = [answer for answer in answers if answer in self._owed]
        self._owed = [answer for answer in self._owed if answer not in settled]
        return settled

    # Requests

    def next_request(
        self, now_seconds: float, *, caller_speaks: bool, caller_keys: bool = False
    ) -> Request | None:
        """Return the request that is due now; None: none is. Call `sent` after sending it.

        Args:
            now_seconds: the time.
            caller_speaks: the answer to the speech will cover all others. Only an answer to keys is requested,
                because noise of the line can last for the whole call.
            caller_keys: the caller is pressing keys; the answer to the whole entry will cover all others.
        """
        if self.state is not SchedulerState.IDLE or caller_keys or not self._owed:
            return None
        if any(now_seconds < (answer.api_until_seconds or 0.0) for answer in self._owed):
            return None
        first = next(iter(self.wanted(caller_speaks=caller_speaks)), None)
        if first is None or now_seconds < first.not_before_seconds:
            return None
        together = [answer for answer in self._owed if answer.is_plain] if first.is_plain else [first]
        return Request(self._requests + 1, together, now_seconds)

    def wanted(self, *, caller_speaks: bool) -> list[Answer]:
        """Return the owed answers that may be given now.

        While the caller speaks these are the answers to keys: a saying before them would be cancelled, and asked
        for again at once.
        """
        kinds = frozenset(AnswerKind if self.only is None else {self.only})
        if caller_speaks:
            kinds &= {AnswerKind.KEYS}
        return [answer for answer in self._owed if answer.kind in kinds]

    def sent(self, request: Request) -> None:
        """Note that the request was sent."""
        self._requests = request.number
        self._request = request
        self.state = SchedulerState.REQUESTED
        for answer in request.answers:
            answer.api_until_seconds = None

    # Responses

    @property
    def active_id(self) -> str:
        """Return the id of the active response; empty: it is unknown, or no response is active."""
        return "" if self._active is None else self._active.response_id

    @property
    def active(self) -> Response | None:
        """Return the active response."""
        return self._active

    @property
    def request(self) -> Request | None:
        """Return the request that has no response yet."""
        return self._request

    def find(self, response_id: str) -> Response | None:
        """Return the open response with this id; the active one if the id is empty, or still unknown."""
        known = self._responses.get(response_id)
        if known is None and self._active is not None and "" in (response_id, self._active.response_id):
            return self._active
        return known

    def created(
        self, response_id: str, now_seconds: float, *, request_id: str = "", is_implied: bool = False
    ) -> Response:
        """Begin a response: the first requested one, or one that the API began by itself.

        A surplus response is cancelled: its request was repeated, and the repetition has been answered.

        Args:
            response_id: id of the response.
            now_seconds: the time.
            request_id: id of the request, if the response's metadata has it.
            is_implied: `response.created` was lost, and the metadata with it.
        """
        self._echoes_metadata |= bool(request_id)
        if request_id:
            request = self._take_named(request_id)
        else:
            request = self._take_request() if is_implied or not self._echoes_metadata else None
        answers = [answer for answer in self._owed if answer.is_plain] if request is None else request.answers
        is_surplus = request is None and not answers and self._surplus > 0
        self._surplus -= is_surplus
        for answer in answers:
            answer.api_until_seconds = None
        if self._active is not None and not self._active.response_id:
            # This is the active response whose id was unknown.
            self._active.response_id = response_id
            if request is not None:
                self._active.answers, self._active.request = answers, request
            response = self._active
        else:
            response = Response(response_id, answers, request, now_seconds)
        response.last_seconds = now_seconds
        response.is_cancelled = is_surplus or (request is not None and request.is_unwanted)
        self._responses[response_id] = response
        while len(self._responses) > MAX_RESPONSES:
            del self._responses[next(iter(self._responses))]
        self._active = response
        self.state = SchedulerState.ACTIVE
        return response

    def _take_named(self, request_id: str) -> Request | None:
        """Remove and return the request with this id; unknown ones and ones with the same answers are surplus."""
        requests = self._pending()
        named = next((request for request in requests if request.event_id == request_id), None)
        if named is None:
            self._surplus += 1
            return None
        for request in requests:
            if request is named or request.answers == named.answers:
                self._surplus += request is not named
                self._forget(request)
        return named

    def _pending(self) -> list[Request]:
        """Return the requests without a response, oldest first."""
        return [*self._unanswered, *([self._request] if self._request is not None else [])]

    def _forget(self, request: Request) -> None:
        if request is self._request:
            self._request = None
        elif request in self._unanswered:
            self._unanswered.remove(request)

    def _take_request(self) -> Request | None:
        """Remove and return the oldest request without a response; ones without owed answers are surplus."""
        while self._unanswered:
            late = self._unanswered.pop(0)
            if not any(answer in self._owed for answer in late.answers):
                self._surplus += 1
                continue
            if self._request is not None and self._request.answers == late.answers:
                # The API will refuse or answer the request that repeats this one.
                self._request = None
                self._surplus += 1
            return late
        request, self._request = self._request, None
        return request

    def heard(self, response: Response) -> list[Answer]:
        """Note that audio of a response was sent to the caller; return the answers that this settles."""
        response.is_heard = True
        for answer in response.answers:
            answer.is_given = True
        return self.settle(response.answers)

    def called(self, response: Response) -> list[Answer]:
        """Note that a response has called a function; return the answers that this settles."""
        response.has_called = True
        return self.settle(response.answers)

    def over(self, response_id: str) -> Response | None:
        """Remove and return a response that has ended; None: it is unknown."""
        response = self.find(response_id)
        if response is None:
            return None
        self._responses.pop(response.response_id, None)
        if response is self._active:
            self._active = None
            if self._request is None:
                self.state = SchedulerState.IDLE
            else:
                self.state = SchedulerState.REQUESTED
        return response

    # Requests that bring no response

    def find_request(self, event_id: str | None) -> Request | None:
        """Return the request that an `error` with this `event_id` is about."""
        requests = self._pending()
        active = self._active.request if self._active is not None else None
        requests += [] if active is None else [active]
        return next((request for request in requests if request.event_id == event_id), None)

    def refused(self, request: Request) -> list[Answer]:
        """Remove a refused request; return its answers that are owed and have no other request."""
        was_last = request is self._request
        self._forget(request)
        if was_last:
            if self._active is None:
                self.state = SchedulerState.IDLE
        elif self._active is not None and self._active.request is request:
            # The API began the response by itself, although it seemed to follow this request.
            self._active.request = None
            self._active.answers = [answer for answer in self._owed if answer.is_plain]
        return [answer for answer in request.answers if answer in self._owed and not self._is_under_way(answer)]

    def refused_for_active(self, request: Request | None, now_seconds: float) -> None:
        """Remove a request that was refused because a response is active; it is repeated after that response.

        If the request repeated an unanswered one, the active response belongs to the unanswered one.
        """
        for answer in self._owed:
            answer.api_until_seconds = None
        if request is not None:
            self.refused(request)
        else:
            self._surplus = max(0, self._surplus - 1)
        if self._active is None:
            # `response.created` has not come yet: the response follows an earlier request, or answers a turn.
            by_itself = [answer for answer in self._owed if answer.api_answers]
            answers = self._unanswered[0].answers if self._unanswered else by_itself
            self._active = Response("", answers, None, now_seconds)
            self.state = SchedulerState.ACTIVE

    def unanswered(self) -> Request | None:
        """Give up waiting for the request's response, which may still come late."""
        request, self._request = self._request, None
        if request is not None:
            self._unanswered.append(request)
            del self._unanswered[:-MAX_UNANSWERED]
        self.state = SchedulerState.IDLE if self._active is None else SchedulerState.ACTIVE
        return request

    def _is_under_way(self, answer: Answer) -> bool:
        """Return whether a response, or the pending request, gives this answer.

        Unanswered requests do not count: they may be lost, and the request would be repeated without back-off.
        """
        others = [other.answers for other in self._responses.values()]
        others += [self._request.answers] if self._request is not None else []
        return any(answer in other for other in others)
