"""Requests for the answers that the model owes: first requests, retries and continuations.

`response_scheduler.py` keeps the answers and responses. This file decides what follows the end of a response:

    the response ended                        nothing heard           part heard
    completed                                 retried twice           settled
    incomplete (filter, token limit)          retried twice           continued once
    failed, refused, or lost                  retried in time         continued once
    cancelled by a barge-in                   the next turn answers   settled

If the retries of an answer fail, the caller hears ANSWER_FAILED_TEXT in its place, and the call continues. The
call takes the way out (`failure`) if that text fails, too, or if MAX_FAILED_TURNS answers fail in a row. It also
does if the caller waits for an answer for longer than UPSTREAM_RETRY_SECONDS.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

import structlog

from common.observe.metrics import RetryReason
from worker.config.session_config import SessionConfig
from worker.realtime.errors import CONTEXT_LENGTH, NO_RESPONSE_ACTIVE, ErrorEvent, Severity
from worker.realtime.upstream_limits import RETRY_BACKOFF, UpstreamLimits
from worker.session.action_queue import ActionQueue
from worker.session.actions import Metric
from worker.session.agent.agent_speech import AgentSpeech
from worker.session.agent.response_ending import Ending
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
from worker.session.turn_clock import TurnClock

# Maximum time from `response.create` to `response.created`; then the request is repeated.
RESPONSE_CREATED_SECONDS: Final = 10.0
# Maximum wait for the API to answer a turn by itself; then the answer is requested.
API_ANSWERS_SECONDS: Final = 5.0
# Maximum time without an event of the active response. A model that reasons may be silent for a while.
RESPONSE_SILENCE_SECONDS: Final = 20.0
# The same, if all announced items are done: `response.done` should have followed at once.
RESPONSE_END_SECONDS: Final = 5.0
# Maximum responses without audio for one answer.
MAX_EMPTY_RESPONSES: Final = 3
MAX_FAILED_TURNS: Final = 3

# The caller hears all audio from before the failure. The note follows the truncated reply.
CONTINUE_NOTE: Final = (
    "[A technical fault cut your last reply off. The caller heard it up to the point where it ends here. "
    "Continue from exactly that point. Do not repeat what you said, and do not mention the fault.]"
)
SAY_NOTE: Final = "[Say the following text to the caller next, word for word, before anything else: "
MAX_TOKENS_REASON: Final = "max_output_tokens"
_NOT_CONTINUED: Final = (AnswerKind.CONTINUATION, AnswerKind.PROMPT)
_WITHOUT_APOLOGY: Final = (AnswerKind.SAY, AnswerKind.PROMPT)


class Answering:
    """Answers of one session.

    Attributes:
        responses: the owed answers, and the active response.
        failure: why the call must take the way out; empty while the session can answer.
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
        turn_clock: TurnClock,
    ) -> None:
        """Make the answers of a session that owes none.

        Args:
            config: settings of the call.
            limits: limits that all calls of the process share.
            uuid: id of the call, for the log.
            agent: replies of the model.
            replay: adds notes to the conversation.
            outbox: takes the actions.
            new_id: makes ids for new items.
            turn_clock: measures the wait of the caller.
        """
        self.responses = ResponseScheduler()
        self.failure = ""
        self._config = config
        self._limits = limits
        self._agent = agent
        self._replay = replay
        self._outbox = outbox
        self._new_id = new_id
        self._turn_clock = turn_clock
        self._failed_turns = 0
        # Time that the caller has waited without audio. The caller's next turn does not reset it.
        self._waited_seconds = 0.0
        self._looked_seconds: float | None = None
        self._sends_metadata = config.dialect.has_metadata
        self._log = structlog.get_logger().bind(uuid=uuid)

    # Answers

    def owe(
        self, kind: AnswerKind, now_seconds: float, events: list[Event] | None = None, *, text: str = ""
    ) -> None:
        """Owe an answer; `events` request one with a given `text`."""
        dropped = self.responses.owe(Answer(kind, now_seconds, events or [], text))
        if dropped is not None:
            self._log.warning("answer dropped: too many answers are owed", kind=dropped.kind.value)

    def turn(self, now_seconds: float, *, since_seconds: float, api_answers: bool) -> None:
        """Owe the answer to a turn of the caller, in place of earlier answers.

        Args:
            now_seconds: the time.
            since_seconds: end of the caller's speech.
            api_answers: the API begins the response by itself (`create_response`).
        """
        until_seconds = now_seconds + API_ANSWERS_SECONDS if api_answers else None
        self.responses.turn(
            Answer(AnswerKind.TURN, since_seconds, api_until_seconds=until_seconds, api_answers=api_answers)
        )

    def say(self, kind: AnswerKind, text: str, now_seconds: float, *, interruptible: bool = True) -> Answer:
        """Have the agent say a text word for word."""
        self.owe(kind, now_seconds, self._config.dialect.welcome(text, interruptible=interruptible), text=text)
        return self.responses.owed[-1]

    def note_owed_texts(self) -> None:
        """Add the texts that the agent has still to say to the conversation, for the next session."""
        for answer in self.responses.owed:
            if answer.kind is AnswerKind.SAY:
                self._replay.add(self._new_id(), text=SAY_NOTE + json.dumps(answer.text, ensure_ascii=False) + "]")

    def count_wait(self, seconds: float) -> None:
        """Count the time that the caller waited for the session, if an answer is owed."""
        if self.responses.owes:
            self._waited_seconds = max(self._waited_seconds, seconds)

    def request_due(self, now_seconds: float, *, caller_speaks: bool, caller_keys: bool) -> None:
        """Request the answer that is due, if there is one."""
        request = self.responses.next_request(now_seconds, caller_speaks=caller_speaks, caller_keys=caller_keys)
        if request is None:
            return
        if not self._limits.may_send(now_seconds, repeat=request.is_repeat):
            for answer in request.answers:
                answer.was_held = True
                answer.detail = answer.detail or "requests have to wait, as other calls failed"
            # A pause that would last longer than the caller may wait fails the answers now.
            self._give_up_late(max(0.0, self._limits.held_until_seconds - now_seconds))
            return
        repeated = next((answer for answer in request.answers if answer.repeats), None)
        if repeated is not None:
            self._outbox.report(Metric.ANSWER_RETRIED, label=repeated.reason)
        self.responses.sent(request)
        self._turn_clock.asked(now_seconds)
        for event in request.events(with_metadata=self._sends_metadata):
            self._outbox.upstream(event)

    # Events of the API

    def created(
        self, response_id: str, now_seconds: float, *, request_id: str = "", talks_over: bool = False
    ) -> None:
        """Take the beginning of a response.

        Args:
            response_id: id of the response.
            now_seconds: the time.
            request_id: id of the request, if the response's metadata has it.
            talks_over: the caller is speaking, or is asked for keys.
        """
        response = self.responses.created(response_id, now_seconds, request_id=request_id)
        # This response was requested before the caller began to speak, and would talk over the caller. The API
        # cancels only responses that began before the speech. An answer to keys is not cancelled,
        # nor is the prompt of a tool that asks for keys.
        answers_keys = any(answer.kind in (AnswerKind.KEYS, AnswerKind.PROMPT) for answer in response.answers)
        if response.is_cancelled or (talks_over and not answers_keys):
            response.is_cancelled = True
            self._agent.cancel(response_id)

    def progress(self, response_id: str, now_seconds: float) -> None:
        """Note an event of a response."""
        response = self.responses.find(response_id)
        if response is not None:
            response.last_seconds = now_seconds

    def item_begun(self, response_id: str, item_id: str) -> None:
        """Note that a response has announced an item."""
        response = self.responses.find(response_id)
        if response is not None:
            response.open_items.add(item_id)

    def item_done(self, response_id: str, item_id: str) -> None:
        """Note that an item of a response is done."""
        response = self.responses.find(response_id)
        if response is not None:
            response.open_items.discard(item_id)
            response.has_items = True

    def heard(self, response_id: str, now_seconds: float) -> None:
        """Settle the answers of a response whose audio was sent to the caller."""
        response = self._find(response_id, now_seconds)
        if response is None or response.is_heard:
            return
        for answer in self.responses.heard(response):
            self._outbox.report(Metric.ANSWER_WAIT_SECONDS, now_seconds - answer.owed_since_seconds)
            if answer.kind is not AnswerKind.APOLOGY:
                self._failed_turns = 0
        self._succeeded(response, now_seconds)

    def called(self, response_id: str, now_seconds: float) -> None:
        """Settle the answers of a response that called a function or a remote tool."""
        response = self._find(response_id, now_seconds)
        if response is not None and not response.has_called:
            self.responses.called(response)
            self._succeeded(response, now_seconds)
            self._failed_turns = 0

    def interrupted(self) -> None:
        """Note a barge-in for which the API cancels the response by itself."""
        if self.responses.active is not None:
            self.responses.active.is_cancelled = True

    def cancel(self) -> None:
        """Cancel the response, for a barge-in that the API does not know of."""
        active, request = self.responses.active, self.responses.request
        if active is not None and active.response_id and active.response_id not in self._agent.closed_responses:
            self._agent.cancel(active.response_id)
            active.is_cancelled = True
        elif request is not None:
            # The response would begin after the barge-in.
            request.is_unwanted = True

    def done(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """Take the end of a response; an unknown one can only be the requested one."""
        is_requested = self.responses.state is SchedulerState.REQUESTED
        response = self._find(response_id, now_seconds) if is_requested else self.responses.find(response_id)
        if response is None:
            return
        self.responses.over(response.response_id)
        if ending.error is not None and ending.error.is_outage:
            self._limits.failed(now_seconds, ending.error.retry_after_seconds)
        if (
            response.is_cancelled
            or ending.detail == "turn_detected"
            or response_id in self._agent.closed_responses
        ):
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
        """Take an `error` that may answer a request, or end the active response.

        Returns:
            id of the response that the error ended; empty: it was about a request; None: about neither.
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
            return active.response_id if active.is_cancelled else None
        if not (error.is_outage or error.code == CONTEXT_LENGTH) or self._names_another(error):
            return None
        return active.response_id

    def tick(self, now_seconds: float, *, caller_speaks: bool) -> tuple[str, Ending] | None:
        """Check the time limits; return the id of a response that timed out, and how it ended."""
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
        elif active.is_cancelled or (active.has_items and not active.open_items):
            # The response is complete or cancelled, and only its end was lost.
            limit_seconds, status = RESPONSE_END_SECONDS, "completed"
        if now_seconds - active.last_seconds < limit_seconds:
            return None
        self._outbox.report(Metric.UPSTREAM_ERROR, label="no_response")
        self._log.warning("response timed out", silent_seconds=limit_seconds)
        return active.response_id, Ending(status, RetryReason.SILENT)

    # After the end of a response

    def _continue(self, response: Response, ending: Ending, now_seconds: float) -> None:
        """Request the rest of a reply that was heard in part, once."""
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
                self._give_up_session([answer], ending.reason, ending.detail)

    def _empty(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """Retry answers after a response without audio."""
        for answer in answers:
            answer.empty_responses += 1
        if any(answer.empty_responses >= MAX_EMPTY_RESPONSES for answer in answers):
            self._give_up(answers, ending, now_seconds)
        else:
            self._ask_again(answers, ending, now_seconds)

    def _failed(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """Retry answers after a response that failed without audio, or was refused."""
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
        """Retry answers after a refused request: longer in an outage, else twice."""
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
                self._give_up_session(answers, ending.reason, ending.detail)

    def _delay_seconds(self, answer: Answer, ending: Ending) -> float:
        backoff_seconds = RETRY_BACKOFF.delay_seconds(answer.repeats + 1)
        asked_seconds = ending.error.retry_after_seconds if ending.error is not None else None
        return max(backoff_seconds * self._limits.jitter(), asked_seconds or 0.0)

    def _give_up(self, answers: list[Answer], ending: Ending, now_seconds: float) -> None:
        """Give up answers, and have the agent say ANSWER_FAILED_TEXT."""
        self._log.warning("answer given up", reason=ending.reason.value, detail=ending.detail)
        for answer in self.responses.settle(answers):
            self._outbox.report(Metric.ANSWER_GIVEN_UP, label=ending.reason)
            if answer.kind is AnswerKind.APOLOGY:
                self._fail(f"the model says nothing: {ending.detail or ending.reason.value}")
        self._failed_turns += 1
        if self._failed_turns >= MAX_FAILED_TURNS:
            why = ending.detail or ending.reason.value
            self._fail(f"{self._failed_turns} answers in a row failed: {why}")
        elif not self.failure and any(answer.kind not in _WITHOUT_APOLOGY for answer in answers):
            self.say(AnswerKind.APOLOGY, self._config.answer_failed_text, now_seconds)

    def _count_wait(self, now_seconds: float, *, caller_speaks: bool) -> None:
        """Add up the time that the caller waits. Noise of the line does not stop the wait after keys."""
        passed_seconds = 0.0 if self._looked_seconds is None else now_seconds - self._looked_seconds
        self._looked_seconds = now_seconds
        owed = self.responses.wanted(caller_speaks=caller_speaks)
        if owed and not self._is_answering:
            self._waited_seconds += passed_seconds
            self._give_up_late()

    def _give_up_late(self, pause_seconds: float = 0.0) -> None:
        """Give up all answers if the caller has waited too long, or will have after a pause."""
        owed = self.responses.owed
        if not self._is_answering and self._waited_seconds + pause_seconds > self._config.retry_seconds:
            failed = next((answer for answer in owed if answer.detail), owed[0])
            self._give_up_session(owed, RetryReason(failed.reason or RetryReason.UNANSWERED), failed.detail)

    @property
    def _is_answering(self) -> bool:
        """Whether audio plays, or the active response has already given its answer."""
        active = self.responses.active
        return self._agent.is_heard or (active is not None and (active.is_heard or active.has_called))

    def _give_up_session(self, answers: list[Answer], reason: RetryReason, detail: str) -> None:
        for _ in self.responses.settle(answers):
            self._outbox.report(Metric.ANSWER_GIVEN_UP, label=reason)
        waited = f"{self._config.retry_seconds:g} s"
        self._fail(f"the Realtime API gave no answer within {waited}: {detail or reason}")

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why

    def _find(self, response_id: str, now_seconds: float) -> Response | None:
        """Return the response with this id; begin one whose `response.created` was lost.

        A response that began has time limits, so audio without an end cannot block the session.
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
        """Return whether an error is not about a request for a response."""
        return error.is_about_another_request or error.is_about_session or _is_command(error.event_id)


def _is_command(event_id: str | None) -> bool:
    return event_id is not None and event_id.startswith(("command-", "session-update"))
