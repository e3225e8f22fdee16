"""Answers that the model owes the caller, and the response that is to give them.

The model owes an answer for the greeting, a caller's turn, a tool's output, keys, a `say` and a remote tool's
result. An answer is settled by audio of it that was handed to the caller, by a function call, by the caller's next
turn, or by the end of the call. `response.done` does not settle it, and an `error` does not.

One place decides when to ask: `next_request`. It asks if an answer is owed, no response is under way, and the
caller is not busy.

    state       event                             next state
    IDLE        request sent                      REQUESTED
    IDLE        response.created                  ACTIVE     the API answers a turn by itself
    REQUESTED   response.created                  ACTIVE
    REQUESTED   request refused, or no answer     IDLE
    REQUESTED   refused: a response is active     ACTIVE     its id may be unknown
    ACTIVE      response.created of another       ACTIVE     the newer response counts
    ACTIVE      response.done, or proof of its end IDLE

Any other event leaves the state as it is: a peer's event is never illegal here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final

Event = dict[str, Any]

# Answers that may be owed at once; one more settles the oldest.
MAX_OWED: Final = 64
# Responses whose end is awaited: one is active, others were overtaken by a newer one.
MAX_RESPONSES: Final = 8
# Requests whose fate is unknown: each was repeated because nothing came of it.
MAX_UNANSWERED: Final = 4
REQUEST_ID: Final = "response-create"
# In a response's `metadata`, which OpenAI's API brings back in `response.created`.
METADATA_KEY: Final = "request"


class AnswerKind(StrEnum):
    """What an answer is owed for."""

    GREETING = "greeting"
    TURN = "turn"
    TOOL = "tool"
    KEYS = "keys"
    SAY = "say"
    PROMPT = "prompt"
    """A tool asks the caller for keys. Other answers wait until the caller has entered them."""
    REMOTE_TOOL = "remote_tool"
    CONTINUATION = "continuation"
    """The rest of a reply that failed after part of it was heard."""
    APOLOGY = "apology"
    """ANSWER_FAILED_TEXT, in place of an answer that was given up."""
    RECOVERY = "recovery"
    """Another session goes on with the call."""


@dataclass(slots=True, eq=False)
class Answer:
    """One owed answer.

    Attributes:
        kind: what it is owed for.
        owed_since_seconds: since when.
        events: the request of an answer with words of its own; empty: a plain `response.create`, which answers
            everything that is owed without words of its own.
        text: what is to be said word for word; empty: the model finds its own words.
        not_before_seconds: it is not asked for earlier.
        api_until_seconds: the API answers by itself until then; None: the answer must be asked for.
        api_answers: the API said that it would answer by itself.
        repeats: requests after the first.
        empty_responses: responses that ended without anything to hear.
        was_shortened: the conversation was shortened for it.
        was_held: the limits of the process held its request back.
        reason: why it must be asked for again.
        detail: the API's word for that.
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
        """Whether it has no words of its own."""
        return not self.events

    @property
    def ends_with_a_turn(self) -> bool:
        """Whether the caller's next turn settles it: the answer to that turn sees everything."""
        return self.is_plain or self.kind in (AnswerKind.GREETING, AnswerKind.APOLOGY)


@dataclass(slots=True, eq=False)
class Request:
    """A request for a response: `response.create`, or what makes the service speak by itself.

    Attributes:
        number: distinguishes it from other requests of the session.
        answers: what it is to answer.
        sent_seconds: when it was sent.
        is_unwanted: its response is to be cancelled when it comes, because the caller pressed a key meanwhile.
    """

    number: int
    answers: list[Answer]
    sent_seconds: float
    is_unwanted: bool = False

    @property
    def event_id(self) -> str:
        """The `event_id` of its `response.create`, which an `error` brings back."""
        return f"{REQUEST_ID}-{self.number}"

    @property
    def is_repeat(self) -> bool:
        """Whether it is no first request."""
        return any(answer.repeats or answer.was_held for answer in self.answers)

    def events(self, *, with_metadata: bool) -> list[Event]:
        """Events for the API; `with_metadata`: its response is to name the request."""
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
    """A response that is under way.

    Attributes:
        response_id: the API's id; empty while it is unknown.
        answers: what it answers.
        request: the request that it follows; None: the API began it by itself.
        last_seconds: when something of it came last.
        is_heard: audio of it was handed to the caller.
        has_called: it has called a function, or a remote tool.
        is_cut: the caller interrupted it, or it was cancelled here.
        open_items: items of it that are announced and not done.
        has_items: an item of it was done.
    """

    response_id: str
    answers: list[Answer]
    request: Request | None
    last_seconds: float
    is_heard: bool = False
    has_called: bool = False
    is_cut: bool = False
    open_items: set[str] = field(default_factory=set)
    has_items: bool = False


class SchedulerState(Enum):
    """Whether a response is under way; the table is at the top of this file."""

    IDLE = "idle"
    REQUESTED = "requested"
    ACTIVE = "active"


class ResponseScheduler:
    """Keeps one session's owed answers and its responses: one response at a time.

    Attributes:
        state: whether a response is under way.
        only: answers of this kind alone are asked for; None: all are.
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
        # The API brings metadata back: a response without it is the API's own.
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
        """Note an owed answer; returns the oldest one if there are too many, which is settled unanswered."""
        self._owed.append(answer)
        return self._owed.pop(0) if len(self._owed) > MAX_OWED else None

    def turn(self, answer: Answer) -> None:
        """The caller's next turn settles what was owed, except sayings, and owes an answer of its own."""
        self._owed = [each for each in self._owed if not each.ends_with_a_turn]
        self._owed.append(answer)
        self._surplus = 0

    def settle(self, answers: Iterable[Answer]) -> list[Answer]:
        """These answers are owed no longer; returns those that were."""
        settled = [answer for answer in answers if answer in self._owed]
        self._owed = [answer for answer in self._owed if answer not in settled]
        return settled

    # When to ask

    def next_request(
        self, now_seconds: float, *, caller_speaks: bool, caller_keys: bool = False
    ) -> Request | None:
        """The request that is due now; `sent` follows, unless the limits of the process forbid it.

        Args:
            now_seconds: the time.
            caller_speaks: the answer to the speech will see everything. Keys are answered all the same, because
                a line can be noisy without an end.
            caller_keys: the caller is pressing keys: the answer to the whole entry will see everything.
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
        """The request was sent."""
        self._requests = request.number
        self._request = request
        self.state = SchedulerState.REQUESTED
        for answer in request.answers:
            answer.api_until_seconds = None

    # Responses

    @property
    def active_id(self) -> str:
        """The id of the response under way; empty where it is unknown, or there is none."""
        return "" if self._active is None else self._active.response_id

    @property
    def active(self) -> Response | None:
        """The response under way."""
        return self._active

    @property
    def request(self) -> Request | None:
        """The request that has no response yet."""
        return self._request

    def find(self, response_id: str) -> Response | None:
        """The response with this id, if it is not over; the active one if the id is empty, or not known yet."""
        known = self._responses.get(response_id)
        if known is None and self._active is not None and "" in (response_id, self._active.response_id):
            return self._active
        return known

    def created(
        self, response_id: str, now_seconds: float, *, request_id: str = "", is_implied: bool = False
    ) -> Response:
        """A response has begun: the first one requested, or one that the API began by itself.

        A response that nobody waits for is cut: it follows a request that was repeated, and answered, meanwhile.

        Args:
            response_id: of the response.
            now_seconds: the time.
            request_id: of the request, if the response's metadata names it.
            is_implied: `response.created` was lost, and with it the metadata.
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
            # The API had said that a response is active: this one.
            self._active.response_id = response_id
            if request is not None:
                self._active.answers, self._active.request = answers, request
            response = self._active
        else:
            response = Response(response_id, answers, request, now_seconds)
        response.last_seconds = now_seconds
        response.is_cut = is_surplus or (request is not None and request.is_unwanted)
        self._responses[response_id] = response
        while len(self._responses) > MAX_RESPONSES:
            del self._responses[next(iter(self._responses))]
        self._active = response
        self.state = SchedulerState.ACTIVE
        return response

    def _take_named(self, request_id: str) -> Request | None:
        """The request with this id. Others with the same answers are surplus, and one that is known no more is."""
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
        """Requests that have no response yet, oldest first."""
        return [*self._unanswered, *([self._request] if self._request is not None else [])]

    def _forget(self, request: Request) -> None:
        if request is self._request:
            self._request = None
        elif request in self._unanswered:
            self._unanswered.remove(request)

    def _take_request(self) -> Request | None:
        """The oldest request that has no response; requests that were answered meanwhile are surplus."""
        while self._unanswered:
            late = self._unanswered.pop(0)
            if not any(answer in self._owed for answer in late.answers):
                self._surplus += 1
                continue
            if self._request is not None and self._request.answers == late.answers:
                # The request that repeats this one is refused, or is answered, too.
                self._request = None
                self._surplus += 1
            return late
        request, self._request = self._request, None
        return request

    def heard(self, response: Response) -> list[Answer]:
        """Audio of a response was handed to the caller; returns the answers that this settles."""
        response.is_heard = True
        for answer in response.answers:
            answer.is_given = True
        return self.settle(response.answers)

    def called(self, response: Response) -> list[Answer]:
        """A response has called a function; returns the answers that this settles."""
        response.has_called = True
        return self.settle(response.answers)

    def over(self, response_id: str) -> Response | None:
        """A response is over; returns it, if it was under way."""
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
        """The request that an `error` with this `event_id` is about."""
        requests = self._pending()
        active = self._active.request if self._active is not None else None
        requests += [] if active is None else [active]
        return next((request for request in requests if request.event_id == event_id), None)

    def refused(self, request: Request) -> list[Answer]:
        """A request was refused; returns the answers that are still owed and have no other request."""
        was_last = request is self._request
        self._forget(request)
        if was_last:
            if self._active is None:
                self.state = SchedulerState.IDLE
        elif self._active is not None and self._active.request is request:
            # The response that seemed to follow this request is the API's own.
            self._active.request = None
            self._active.answers = [answer for answer in self._owed if answer.is_plain]
        return [answer for answer in request.answers if answer in self._owed and not self._is_under_way(answer)]

    def refused_for_active(self, request: Request | None, now_seconds: float) -> None:
        """A request was refused because a response is active: what it was for is asked for behind that one.

        If the request repeated one that had no answer, the first request is alive, and its response answers.
        """
        for answer in self._owed:
            answer.api_until_seconds = None
        if request is not None:
            self.refused(request)
        else:
            self._surplus = max(0, self._surplus - 1)
        if self._active is None:
            # Its beginning was not reported yet: it follows an earlier request, or answers a turn by itself.
            by_itself = [answer for answer in self._owed if answer.api_answers]
            answers = self._unanswered[0].answers if self._unanswered else by_itself
            self._active = Response("", answers, None, now_seconds)
            self.state = SchedulerState.ACTIVE

    def unanswered(self) -> Request | None:
        """Nothing came of the request: it may be alive still, and its response come late."""
        request, self._request = self._request, None
        if request is not None:
            self._unanswered.append(request)
            del self._unanswered[:-MAX_UNANSWERED]
        self.state = SchedulerState.IDLE if self._active is None else SchedulerState.ACTIVE
        return request

    def _is_under_way(self, answer: Answer) -> bool:
        """Whether a response, or the request that waits for one, is to give this answer.

        A request without an answer is none: it may be lost, and the API would be asked again without back-off.
        """
        others = [other.answers for other in self._responses.values()]
        others += [self._request.answers] if self._request is not None else []
        return any(answer in other for other in others)
