"""What becomes of each answer that the model owes: asked for, asked for again, continued, or given up.

`response_scheduler.py` beside this file keeps the answers and responses. This file decides what their ends mean:

    the response ended                        nothing heard           part heard
    as it should                              asked again, twice      settled
    incomplete (filter, token limit)          asked again, twice      continued once
    failed, refused, or lost                  asked again in time     continued once
    because the caller interrupted            the next turn answers   settled

An answer that was asked for in vain is given up: the caller is told (ANSWER_FAILED_TEXT), and the call listens.
If the caller cannot be told either, if MAX_FAILED_TURNS are given up in a row, or if an answer fails for longer
than UPSTREAM_RETRY_SECONDS, the session is given up (`lost_hope`): the call takes the way out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from common.observe.metrics import RetryReason
from worker.config.session_config import SessionConfig
from worker.realtime.errors import CONTEXT_LENGTH, NO_RESPONSE_ACTIVE, ErrorEvent, Severity
from worker.realtime.upstream_limits import RETRY_BACKOFF, UpstreamLimits
from worker.session.action_queue import ActionQueue
from worker.session.actions import Metric
from worker.session.agent.agent_speech import AgentSpeech
from worker.session.agent.response_scheduler import (
    Answer,
    AnswerKind,
    Event,
    Request,
    Response,
    ResponseScheduler,
    SchedulerState,
)
from worker.session.memory.replay import Replay

# `response.create` is answered within this time, or it is sent again.
RESPONSE_CREATED_SECONDS: Final = 10.0
# The API answers a turn by itself within this time, or the answer is asked for.
API_ANSWERS_SECONDS: Final = 5.0
# A response of which nothing comes for so long is given up. A model that reasons may be silent for a while.
RESPONSE_SILENCE_SECONDS: Final = 20.0
# The same, if all items that were announced are done: `response.done` should have followed at once.
RESPONSE_END_SECONDS: Final = 5.0
# After so many responses without anything to hear the answer is given up.
MAX_EMPTY_RESPONSES: Final = 3
MAX_FAILED_TURNS: Final = 3

# The caller hears what was sent before the response failed; the note follows the truncated reply.
CONTINUE_NOTE: Final = (
    "[A technical fault cut your last reply off. The caller heard it up to the point where it ends here. "
    "Continue from exactly that point. Do not repeat what you said, and do not mention the fault.]"
)
SAY_NOTE: Final = "[Say the following text to the caller next, word for word, before anything else: "
MAX_TOKENS_REASON: Final = "max_output_tokens"
_NOT_CONTINUED: Final = (AnswerKind.CONTINUATION, AnswerKind.PROMPT)
_WITHOUT_APOLOGY: Final = (AnswerKind.SAY, AnswerKind.PROMPT)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a response, or a request for one, ended.

    Attributes:
        status: `completed`, `incomplete`, `failed` or `cancelled`, in the API's words.
        reason: for the metric.
        detail: the API's code or reason, for people.
        error: the API's error, if there is one.
    """

    status: str
    reason: RetryReason
    detail: str = ""
    error: ErrorEvent | None = None

    @classmethod
    def of_error(cls, error: ErrorEvent, reason: RetryReason = RetryReason.FAILED) -> Ending:
        """The ending that an error means."""
        if error.code == CONTEXT_LENGTH:
            reason = RetryReason.CONTEXT_LENGTH
        elif error.code == "rate_limit_exceeded":
            reason = RetryReason.RATE_LIMITED
        return cls("failed", reason, error.code, error)


class Answering:
    """One session's answers.

    Attributes:
        responses: the owed answers, and the response under way.
        lost_hope: why the session cannot answer any more; empty while it can.
    """

    def __init__(
        self,
        config: SessionConfig,
        limits: UpstreamLimits,
        *,
        uuid: str,
        agent: AgentSpeech,
        replay: Replay,
        outbox: ActionQueue,
        new_id: Callable[[], str],
    ) -> None:
        """Build it.

        Args:
            config: the call's settings.
            limits: those that the process shares.
            uuid: of the call, for the log.
            agent: what the model says.
            replay: puts notes into the conversation.
            outbox: takes what is to be done.
            new_id: makes ids of items of ours.
        """
        self.responses = ResponseScheduler()
        self.lost_hope = ""
        self._config = config
        self._limits = limits
        self._agent = agent
        self._replay = replay
        self._outbox = outbox
        self._new_id = new_id
        self._failed_turns = 0
        # How long the caller has waited for something to hear: a caller who asks again has waited before, too.
        self._waited_seconds = 0.0
        self._looked_seconds: float | None = None
        self._sends_metadata = config.dialect.has_metadata
        self._log = structlog.get_logger().bind(uuid=uuid)

    # Answers

    def owe(
        self, kind: AnswerKind, now_seconds: float, events: list[Event] | None = None, *, text: str = ""
    ) -> None:
        """The model owes an answer; `events` ask for it if it has words of its own, which are `text`."""
        dropped = self.responses.owe(Answer(kind, now_seconds, events or [], text))
        if dropped is not None:
            self._log.warning("answer dropped: too many are owed", kind=dropped.kind.value)

    def turn(self, now_seconds: float, *, since_seconds: float, api_answers: bool) -> None:
        """The caller's turn has ended, and owes an answer in place of the earlier ones.

        Args:
            now_seconds: the time.
            since_seconds: when the caller stopped speaking.
            api_answers: the API begins the response by itself (`create_response`).
        """
        until_seconds = now_seconds + API_ANSWERS_SECONDS if api_answers else None
        self.responses.turn(
            Answer(AnswerKind.TURN, since_seconds, api_until_seconds=until_seconds, api_answers=api_answers)
        )

    def say(self, kind: AnswerKind, text: str, now_seconds: float, *, interruptible: bool = True) -> Answer:
        """Have the agent say this word for word."""
        self.owe(kind, now_seconds, self._config.dialect.welcome(text, interruptible=interruptible), text=text)
        return self.responses.owed[-1]

    def leave_sayings(self) -> None:
        """Put sayings that are still owed into the conversation: the next session answers that."""
        for answer in self.responses.owed:
            if answer.kind is AnswerKind.SAY:
                self._replay.add(self._new_id(), text=SAY_NOTE + json.dumps(answer.text, ensure_ascii=False) + "]")

    def has_waited(self, seconds: float) -> None:
        """The caller has waited so long for a session, if an answer is owed from its beginning."""
        if self.responses.owes:
            self._waited_seconds = max(self._waited_seconds, seconds)

    def pursue(self, now_seconds: float, *, caller_speaks: bool, caller_keys: bool) -> None:
        """Ask for the answer that is due, if there is one."""
        request = self.responses.next_request(now_seconds, caller_speaks=caller_speaks, caller_keys=caller_keys)
        if request is None:
            return
        if not self._limits.may_send(now_seconds, repeat=request.is_repeat):
            for answer in request.answers:
                answer.was_held = True
                answer.detail = answer.detail or "requests have to wait, as other calls failed"
            # A pause that lasts longer than the caller is to wait is not waited for.
            self._give_up_late(max(0.0, self._limits.held_until_seconds - now_seconds))
            return
        repeated = next((answer for answer in request.answers if answer.repeats), None)
        if repeated is not None:
            self._outbox.report(Metric.ANSWER_RETRIED, label=repeated.reason)
        self.responses.sent(request)
        for event in request.events(with_metadata=self._sends_metadata):
            self._outbox.upstream(event)

    # Events of the API

    def created(
        self, response_id: str, now_seconds: float, *, request_id: str = "", talks_over: bool = False
    ) -> None:
        """A response has begun.

        Args:
            response_id: of the response.
            now_seconds: the time.
            request_id: of the request, if the response's metadata names it.
            talks_over: the caller is speaking, or is being asked for keys.
        """
        response = self.responses.created(response_id, now_seconds, request_id=request_id)
        # A response that was requested before the caller began to speak would talk over the caller, and the API
        # cancels none that began after the speech. Keys are answered all the same.
        # So is the prompt of a tool that asks for keys.
        answers_keys = any(answer.kind in (AnswerKind.KEYS, AnswerKind.PROMPT) for answer in response.answers)
        if response.is_cut or (talks_over and not answers_keys):
            response.is_cut = True
            self._agent.cancel(response_id)

    def progress(self, response_id: str, now_seconds: float) -> None:
        """Something of a response came."""
        response = self.responses.find(response_id)
        if response is not None:
            response.last_seconds = now_seconds

    def item_begun(self, response_id: str, item_id: str) -> None:
        """An item of a response was announced."""
        response = self.responses.find(response_id)
        if response is not None:
            response.open_items.add(item_id)

    def item_done(self, response_id: str, item_id: str) -> None:
        """An item of a response is done."""
        response = self.responses.find(response_id)
        if response is not None:
            response.open_items.discard(item_id)
            response.has_items = True

    def heard(self, response_id: str, now_seconds: float) -> None:
        """Audio of a response was handed to the caller: the answer is given."""
        response = self._find(response_id, now_seconds)
        if response is None or response.is_heard:
            return
        for answer in self.responses.heard(response):
            self._outbox.report(Metric.ANSWER_WAIT_SECONDS, now_seconds - answer.owed_since_seconds)
            if answer.kind is not AnswerKind.APOLOGY:
                self._failed_turns = 0
        self._succeeded(response, now_seconds)

    def called(self, response_id: str, now_seconds: float) -> None:
        """A response has called a function, or a remote tool: its output owes an answer."""
        response = self._find(response_id, now_seconds)
        if response is not None and not response.has_called:
            self.responses.called(response)
            self._succeeded(response, now_seconds)
            self._failed_turns = 0

    def interrupted(self) -> None:
        """The caller interrupts, and the API cancels the response by itself."""
        if self.responses.active is not None:
            self.responses.active.is_cut = True

    def cancel(self) -> None:
        """The caller interrupts, and the API does not know."""
        active, request = self.responses.active, self.responses.request
        if active is not None and active.response_id and active.response_id not in self._agent.closed_responses:
            self._agent.cancel(active.response_id)
            active.is_cut = True
        elif request is not None:
            # Its response would begin after the interruption.
            request.is_unwanted = True

    def done(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """A response is over; one that nobody has heard of can only be the one requested."""
        is_requested = self.responses.state is SchedulerState.REQUESTED
        response = self._find(response_id, now_seconds) if is_requested else self.responses.find(response_id)
        if response is None:
            return
        self.responses.over(response.response_id)
        if ending.error is not None and ending.error.is_outage:
            self._limits.failed(now_seconds, ending.error.retry_after_seconds)
        if response.is_cut or ending.detail == "turn_detected" or response_id in self._agent.closed_responses:
            return
        if ending.detail == MAX_TOKENS_REASON and self._limits.first_time(MAX_TOKENS_REASON):
            self._log.warning("reply truncated: OPENAI_MAX_TOKENS is too small for speech", remedy="set it to inf")
        if response.is_heard:
            if ending.status != "completed":
                self._continue(response, ending, now_seconds)
        elif response.has_called:
            return
        elif ending.status in ("completed", "incomplete"):
            self._empty(self._still_owed(response.answers), ending, now_seconds)
        else:
            self._failed(self._still_owed(response.answers), ending, now_seconds)

    def refused(self, error: ErrorEvent, now_seconds: float) -> str | None:
        """An `error` that may answer a request, or end the response under way.

        Returns:
            the id of the response that it ended; empty if it was about a request; None if it was about neither.
        """
        responses = self.responses
        request = responses.find_request(error.event_id)
        if request is None and not self._names_another(error):
            request = responses.request
        if error.severity is Severity.RESPONSE_ACTIVE:
            responses.refused_for_active(request, now_seconds)
            return ""
        if request is not None:
            self._refuse(responses.refused(request), error, now_seconds)
            return ""
        active = responses.active
        if active is None or (error.is_about_another_request and error.code != NO_RESPONSE_ACTIVE):
            return None
        if error.code == NO_RESPONSE_ACTIVE:
            # The cancellation was refused: no response is active, and its end was lost.
            return active.response_id if active.is_cut else None
        if not (error.is_outage or error.code == CONTEXT_LENGTH) or self._names_another(error):
            return None
        return active.response_id

    def tick(self, now_seconds: float, *, caller_speaks: bool) -> tuple[str, Ending] | None:
        """Look at the clocks; returns the id of a response of which nothing comes any more, and how it ended."""
        responses = self.responses
        request, active = responses.request, responses.active
        if request is not None and now_seconds - request.sent_seconds >= RESPONSE_CREATED_SECONDS:
            self._outbox.report(Metric.UPSTREAM_ERROR, label="no_response")
            self._log.warning("response not begun", waited_seconds=RESPONSE_CREATED_SECONDS)
            self._limits.failed(now_seconds)
            responses.unanswered()
            for answer in self._still_owed(request.answers):
                answer.repeats += 1
                answer.reason = RetryReason.UNANSWERED
        self._count_wait(now_seconds, caller_speaks=caller_speaks)
        if active is None:
            return None
        limit_seconds, status = RESPONSE_SILENCE_SECONDS, "failed"
        if not active.response_id:
            limit_seconds = RESPONSE_CREATED_SECONDS
        elif active.is_cut or (active.has_items and not active.open_items):
            # All of it has come, or was cancelled; its end alone was lost.
            limit_seconds, status = RESPONSE_END_SECONDS, "completed"
        if now_seconds - active.last_seconds < limit_seconds:
            return None
        self._outbox.report(Metric.UPSTREAM_ERROR, label="no_response")
        self._log.warning("response given up", silent_seconds=limit_seconds)
        return active.response_id, Ending(status, RetryReason.SILENT)

    # What an end means

    def _continue(self, response: Response, ending: Ending, now_seconds: float) -> None:
        """Part of a reply was heard: the model is asked once to go on."""
        continued = any(answer.kind in _NOT_CONTINUED for answer in response.answers)
        if response.has_called or continued:
            return
        self._log.warning("reply failed in part, and is continued", status=ending.status, reason=ending.detail)
        self._agent.truncate_received(response.response_id)
        self._replay.add(self._new_id(), text=CONTINUE_NOTE)
        self.owe(AnswerKind.CONTINUATION, now_seconds)
        answer = self.responses.owed[-1]
        answer.reason = ending.reason
        if ending.status == "failed":
            delay_seconds = self._delay_seconds(answer, ending)
            answer.not_before_seconds = now_seconds + delay_seconds
            if delay_seconds > self._config.retry_seconds:
                self._despair([answer], ending.reason, ending.detail)

    def _empty(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """The response ended without anything to hear."""
        for answer in answers:
            answer.empty_responses += 1
        if any(answer.empty_responses >= MAX_EMPTY_RESPONSES for answer in answers):
            self._give_up(answers, ending, now_seconds)
        else:
            self._ask_again(answers, ending, now_seconds)

    def _failed(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """The response failed before anything of it was heard, or was refused."""
        if not answers:
            return
        if ending.reason is RetryReason.CONTEXT_LENGTH:
            if any(answer.was_shortened for answer in answers):
                self._give_up(answers, ending, now_seconds)
                return
            left_out = self._replay.shorten()
            self._log.warning("conversation shortened: too long for the model", items=left_out)
            for answer in answers:
                answer.was_shortened = True
        self._ask_again(answers, ending, now_seconds)

    def _refuse(self, answers: list[Answer], error: ErrorEvent, now_seconds: float) -> None:
        """The request was refused: an outage passes, a fault of the request does not."""
        ending = Ending.of_error(error, RetryReason.REFUSED)
        if error.is_outage:
            self._limits.failed(now_seconds, error.retry_after_seconds)
        if error.param.startswith("response.metadata"):
            self._sends_metadata = False
        if error.is_outage or ending.reason is RetryReason.CONTEXT_LENGTH:
            self._failed(answers, ending, now_seconds)
        else:
            self._empty(answers, ending, now_seconds)

    def _ask_again(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        if any(answer.kind is AnswerKind.APOLOGY for answer in answers):
            self._give_up(answers, ending, now_seconds)
            return
        for answer in answers:
            delay_seconds = self._delay_seconds(answer, ending)
            answer.not_before_seconds = now_seconds + delay_seconds
            answer.repeats += 1
            answer.reason, answer.detail = ending.reason, ending.detail
            if self._waited_seconds + delay_seconds > self._config.retry_seconds:
                self._despair(answers, ending.reason, ending.detail)

    def _delay_seconds(self, answer: Answer, ending: Ending) -> float:
        backoff_seconds = RETRY_BACKOFF.delay_seconds(answer.repeats + 1)
        asked_seconds = ending.error.retry_after_seconds if ending.error is not None else None
        return max(backoff_seconds * self._limits.jitter(), asked_seconds or 0.0)

    def _give_up(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """No answer can be had: say so, and listen."""
        self._log.warning("answer given up", reason=ending.reason.value, detail=ending.detail)
        for answer in self.responses.settle(answers):
            self._outbox.report(Metric.ANSWER_GIVEN_UP, label=ending.reason)
            if answer.kind is AnswerKind.APOLOGY:
                self._lose_hope(f"the model says nothing: {ending.detail or ending.reason.value}")
        self._failed_turns += 1
        if self._failed_turns >= MAX_FAILED_TURNS:
            why = ending.detail or ending.reason.value
            self._lose_hope(f"{self._failed_turns} answers in a row failed: {why}")
        elif not self.lost_hope and any(answer.kind not in _WITHOUT_APOLOGY for answer in answers):
            self.say(AnswerKind.APOLOGY, self._config.answer_failed_text, now_seconds)

    def _count_wait(self, now_seconds: float, *, caller_speaks: bool) -> None:
        """Add up how long the caller waits in silence; keys are waited for while a line is noisy, too."""
        passed_seconds = 0.0 if self._looked_seconds is None else now_seconds - self._looked_seconds
        self._looked_seconds = now_seconds
        owed = self.responses.wanted(caller_speaks=caller_speaks)
        if owed and not self._is_answering:
            self._waited_seconds += passed_seconds
            self._give_up_late()

    def _give_up_late(self, pause_seconds: float = 0.0) -> None:
        """Give all answers up if the caller has waited for too long, or would at the end of a pause."""
        owed = self.responses.owed
        if not self._is_answering and self._waited_seconds + pause_seconds > self._config.retry_seconds:
            failed = next((answer for answer in owed if answer.detail), owed[0])
            self._despair(owed, RetryReason(failed.reason or RetryReason.UNANSWERED), failed.detail)

    @property
    def _is_answering(self) -> bool:
        """Whether something is to be heard, or the response under way has brought what it was for."""
        active = self.responses.active
        return self._agent.is_heard or (active is not None and (active.is_heard or active.has_called))

    def _despair(self, answers: list[Answer], reason: RetryReason, detail: str) -> None:
        for _ in self.responses.settle(answers):
            self._outbox.report(Metric.ANSWER_GIVEN_UP, label=reason)
        waited = f"{self._config.retry_seconds:g} s"
        self._lose_hope(f"the Realtime API gave no answer within {waited}: {detail or reason}")

    def _lose_hope(self, why: str) -> None:
        self.lost_hope = self.lost_hope or why

    # Small things

    def _find(self, response_id: str, now_seconds: float) -> Response | None:
        """The response with this id; one whose `response.created` was lost is under way, too.

        Its end is awaited then: audio without an end would keep the session from ever giving up.
        """
        response = self.responses.find(response_id)
        if response is None and response_id not in self._agent.closed_responses:
            return self.responses.created(response_id, now_seconds, is_implied=True)
        return response

    def _still_owed(self, answers: list[Answer]) -> list[Answer]:
        return [answer for answer in answers if answer in self.responses.owed]

    def _succeeded(self, response: Response, now_seconds: float) -> None:
        self._waited_seconds = 0.0
        request: Request | None = response.request
        self._limits.succeeded(now_seconds, repeat=request is not None and request.is_repeat)

    def _names_another(self, error: ErrorEvent) -> bool:
        """Whether an error is about something that is no request for a response."""
        return error.is_about_another_request or error.is_about_session or _is_command(error.event_id)


def _is_command(event_id: str | None) -> bool:
    return event_id is not None and event_id.startswith(("command-", "session-update"))


def ending_of(response: dict[str, Any]) -> Ending:
    """How a response ended, from the `response` of its `response.done`."""
    status = str(response.get("status") or "completed")
    details = response.get("status_details") or {}
    if status == "failed":
        return Ending.of_error(ErrorEvent.from_response(details.get("error") or {}))
    if status == "incomplete":
        return Ending(status, RetryReason.INCOMPLETE, str(details.get("reason") or "")[:64])
    reason = RetryReason.EMPTY if status == "completed" else RetryReason.FAILED
    return Ending(status, reason, str(details.get("reason") or "")[:64])
