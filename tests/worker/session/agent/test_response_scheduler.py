"""The scheduler of responses: owed answers, requests and responses, without a session."""

from __future__ import annotations

import pytest

from worker.session.agent.response_scheduler import (
    MAX_OWED,
    MAX_RESPONSES,
    MAX_UNANSWERED,
    Answer,
    AnswerKind,
    Request,
    Response,
    ResponseScheduler,
    SchedulerState,
)

NOW = 100.0
SAY = {"type": "response.create", "response": {"instructions": "Say this."}}


def owed(scheduler: ResponseScheduler, kind: AnswerKind = AnswerKind.TOOL, now_seconds: float = NOW) -> Answer:
    """Return an owed answer, without a given text unless it is a `say`."""
    answer = Answer(kind, now_seconds, [SAY] if kind is AnswerKind.SAY else [])
    assert scheduler.owe(answer) is None
    return answer


def due(scheduler: ResponseScheduler, now_seconds: float = NOW) -> Request | None:
    """Return the request that is due while the caller is silent."""
    return scheduler.next_request(now_seconds, caller_speaks=False)


def ask(scheduler: ResponseScheduler, now_seconds: float = NOW) -> Request:
    """Send the request that is due."""
    request = due(scheduler, now_seconds)
    assert request is not None
    scheduler.sent(request)
    return request


def requested() -> tuple[ResponseScheduler, Answer, Request]:
    """Return a scheduler whose request has no response yet."""
    scheduler = ResponseScheduler()
    answer = owed(scheduler)
    return scheduler, answer, ask(scheduler)


def active() -> tuple[ResponseScheduler, Answer, Response]:
    """Return a scheduler with a response under way."""
    scheduler, answer, _ = requested()
    return scheduler, answer, scheduler.created("resp_1", NOW)


class TestStates:
    def test_a_new_scheduler_is_idle_and_owes_nothing(self) -> None:
        scheduler = ResponseScheduler()
        assert scheduler.state is SchedulerState.IDLE
        assert not scheduler.owes
        assert due(scheduler) is None

    def test_a_sent_request_makes_idle_requested(self) -> None:
        scheduler, _, request = requested()
        assert scheduler.state is SchedulerState.REQUESTED
        assert scheduler.request is request

    def test_a_response_of_the_api_makes_idle_active(self) -> None:
        scheduler = ResponseScheduler()
        turn = Answer(AnswerKind.TURN, NOW, api_until_seconds=NOW + 5)
        scheduler.turn(turn)
        response = scheduler.created("resp_1", NOW)
        assert scheduler.state is SchedulerState.ACTIVE
        assert (response.request, response.answers) == (None, [turn])
        assert turn.api_until_seconds is None

    def test_a_response_makes_requested_active(self) -> None:
        scheduler, answer, request = requested()
        response = scheduler.created("resp_1", NOW)
        assert scheduler.state is SchedulerState.ACTIVE
        assert (response.request, response.answers) == (request, [answer])
        assert scheduler.request is None
        assert scheduler.active_id == "resp_1"

    def test_a_refusal_makes_requested_idle(self) -> None:
        scheduler, answer, request = requested()
        assert scheduler.refused(request) == [answer]
        assert scheduler.state is SchedulerState.IDLE
        assert scheduler.owed == [answer]

    def test_no_answer_makes_requested_idle(self) -> None:
        scheduler, answer, request = requested()
        assert scheduler.unanswered() is request
        assert scheduler.state is SchedulerState.IDLE
        assert scheduler.owed == [answer]
        assert scheduler.unanswered() is None

    def test_refusal_for_an_active_response_means_active(self) -> None:
        scheduler, answer, request = requested()
        scheduler.refused_for_active(request, NOW)
        assert scheduler.state is SchedulerState.ACTIVE
        assert scheduler.active is not None
        assert scheduler.active_id == ""
        assert scheduler.owed == [answer]

    def test_the_newer_of_two_active_responses_counts(self) -> None:
        scheduler, _, first = active()
        second = scheduler.created("resp_2", NOW)
        assert scheduler.state is SchedulerState.ACTIVE
        assert scheduler.active is second
        # The overtaken response is still known: what it calls is answered.
        assert scheduler.find("resp_1") is first

    def test_the_end_of_a_response_makes_active_idle(self) -> None:
        scheduler, _, response = active()
        assert scheduler.over("resp_1") is response
        assert scheduler.state is SchedulerState.IDLE
        assert scheduler.active is None
        assert scheduler.over("resp_1") is None

    def test_the_end_of_an_overtaken_response_keeps_active(self) -> None:
        scheduler, _, first = active()
        scheduler.created("resp_2", NOW)
        assert scheduler.over("resp_1") is first
        assert scheduler.state is SchedulerState.ACTIVE
        assert scheduler.active_id == "resp_2"

    @pytest.mark.parametrize("state", list(SchedulerState))
    def test_other_events_leave_the_state(self, state: SchedulerState) -> None:
        scheduler = ResponseScheduler()
        owed(scheduler)
        stranger = Request(99, [], NOW)
        if state is not SchedulerState.IDLE:
            ask(scheduler)
        if state is SchedulerState.ACTIVE:
            scheduler.created("resp_1", NOW)
        assert scheduler.over("resp_unknown") is None
        assert scheduler.refused(stranger) == []
        assert scheduler.settle([Answer(AnswerKind.TURN, NOW)]) == []
        scheduler.turn(Answer(AnswerKind.TURN, NOW))
        assert scheduler.state is state


class TestWhenToAsk:
    def test_nothing_is_asked_for_while_a_response_is_due(self) -> None:
        scheduler, _, _ = requested()
        owed(scheduler)
        assert due(scheduler) is None
        scheduler.created("resp_1", NOW)
        assert due(scheduler) is None
        scheduler.over("resp_1")
        assert due(scheduler) is not None

    def test_plain_answers_are_asked_for_together(self) -> None:
        scheduler = ResponseScheduler()
        first, second = owed(scheduler), owed(scheduler, AnswerKind.KEYS)
        assert ask(scheduler).answers == [first, second]

    def test_sayings_are_asked_for_one_by_one_in_order(self) -> None:
        scheduler = ResponseScheduler()
        answers = [owed(scheduler, kind) for kind in (AnswerKind.SAY, AnswerKind.TOOL, AnswerKind.SAY)]
        for number, answer in enumerate(answers):
            assert ask(scheduler).answers == [answer]
            response = scheduler.created(f"resp_{number}", NOW)
            assert scheduler.heard(response) == [answer]
            scheduler.over(f"resp_{number}")
        assert not scheduler.owes

    def test_a_turn_waits_for_the_response_of_the_api(self) -> None:
        scheduler = ResponseScheduler()
        scheduler.turn(Answer(AnswerKind.TURN, NOW, api_until_seconds=NOW + 5))
        saying = owed(scheduler, AnswerKind.SAY)
        # A saying that is sent meanwhile would be refused.
        assert due(scheduler, NOW + 4.9) is None
        request = ask(scheduler, NOW + 5)
        assert request.answers[0].kind is AnswerKind.TURN
        assert request.answers[0].api_until_seconds is None
        assert saying in scheduler.owed

    def test_nothing_is_asked_for_while_the_caller_speaks(self) -> None:
        scheduler = ResponseScheduler()
        owed(scheduler)
        assert scheduler.next_request(NOW, caller_speaks=True) is None
        assert scheduler.next_request(NOW, caller_speaks=False, caller_keys=True) is None

    def test_keys_are_answered_before_a_saying_in_speech(self) -> None:
        scheduler = ResponseScheduler()
        saying, keys = owed(scheduler, AnswerKind.SAY), owed(scheduler, AnswerKind.KEYS)
        request = scheduler.next_request(NOW, caller_speaks=True)
        assert request is not None
        assert request.answers == [keys]
        # In silence the order counts.
        assert ask(scheduler).answers == [saying]

    def test_back_off_delays_a_request(self) -> None:
        scheduler = ResponseScheduler()
        owed(scheduler).not_before_seconds = NOW + 0.5
        assert due(scheduler, NOW + 0.49) is None
        assert due(scheduler, NOW + 0.5) is not None

    def test_each_request_has_an_event_id_of_its_own(self) -> None:
        scheduler, _, first = requested()
        scheduler.unanswered()
        second = ask(scheduler)
        assert first.event_id != second.event_id
        assert scheduler.find_request(first.event_id) is first
        assert scheduler.find_request(second.event_id) is second
        assert scheduler.find_request(None) is None
        assert scheduler.find_request("response-create") is None

    @pytest.mark.parametrize(("repeats", "was_held"), [(1, False), (0, True)])
    def test_a_repeated_or_held_request_is_a_repeat(self, repeats: int, was_held: bool) -> None:
        answer = Answer(AnswerKind.TOOL, NOW)
        assert not Request(1, [answer], NOW).is_repeat
        answer.repeats, answer.was_held = repeats, was_held
        assert Request(1, [answer], NOW).is_repeat


class TestSettling:
    def test_audio_settles_the_answers_of_its_response(self) -> None:
        scheduler, answer, response = active()
        later = owed(scheduler)
        assert scheduler.heard(response) == [answer]
        assert scheduler.owed == [later]
        assert response.is_heard

    def test_a_function_call_settles_its_answers_once(self) -> None:
        scheduler, answer, response = active()
        assert scheduler.called(response) == [answer]
        assert scheduler.called(response) == []
        assert response.has_called

    def test_the_end_of_a_response_settles_nothing(self) -> None:
        scheduler, answer, _ = active()
        scheduler.over("resp_1")
        assert scheduler.owed == [answer]

    @pytest.mark.parametrize("kind", [kind for kind in AnswerKind if kind is not AnswerKind.SAY])
    def test_the_next_turn_settles_an_earlier_answer(self, kind: AnswerKind) -> None:
        scheduler = ResponseScheduler()
        own_words = kind in (AnswerKind.GREETING, AnswerKind.APOLOGY)
        scheduler.owe(Answer(kind, NOW, [SAY] if own_words else []))
        turn = Answer(AnswerKind.TURN, NOW)
        scheduler.turn(turn)
        assert scheduler.owed == [turn]

    def test_the_next_turn_does_not_settle_a_saying(self) -> None:
        scheduler = ResponseScheduler()
        saying = owed(scheduler, AnswerKind.SAY)
        turn = Answer(AnswerKind.TURN, NOW)
        scheduler.turn(turn)
        assert scheduler.owed == [saying, turn]

    def test_one_answer_too_many_drops_the_oldest(self) -> None:
        scheduler = ResponseScheduler()
        answers = [owed(scheduler) for _ in range(MAX_OWED)]
        assert scheduler.owe(Answer(AnswerKind.TOOL, NOW)) is answers[0]
        assert len(scheduler.owed) == MAX_OWED


class TestLateResponses:
    def test_a_late_first_response_answers_its_repeat(self) -> None:
        scheduler, answer, first = requested()
        scheduler.unanswered()
        second = ask(scheduler, NOW + 10)
        # 11 s late: `response.created` of the first request, then the refusal of its repeat.
        response = scheduler.created("resp_1", NOW + 11)
        assert (response.request, response.answers) == (first, [answer])
        assert scheduler.request is None
        scheduler.refused_for_active(scheduler.find_request(second.event_id), NOW + 11)
        assert scheduler.active is response
        assert scheduler.heard(response) == [answer]
        scheduler.over("resp_1")
        assert scheduler.state is SchedulerState.IDLE
        assert due(scheduler, NOW + 12) is None
        # The refusal has shown that the repeat brings no response.
        assert not scheduler.created("resp_2", NOW + 20).is_cancelled

    def test_a_repeat_refused_first_keeps_the_first_alive(self) -> None:
        scheduler, answer, _ = requested()
        scheduler.unanswered()
        second = ask(scheduler, NOW + 10)
        # The refusal of the repeat comes before `response.created` of the first request.
        scheduler.refused_for_active(second, NOW + 10.5)
        assert scheduler.active_id == ""
        response = scheduler.created("resp_1", NOW + 11)
        assert response.answers == [answer]
        assert scheduler.active_id == "resp_1"
        assert scheduler.heard(response) == [answer]
        assert scheduler.over("resp_1") is response
        assert scheduler.state is SchedulerState.IDLE

    def test_audio_of_the_active_response_settles_the_first(self) -> None:
        scheduler, answer, _ = requested()
        scheduler.unanswered()
        scheduler.refused_for_active(ask(scheduler, NOW + 10), NOW + 10.5)
        # `response.created` of the first request was lost.
        response = scheduler.find("resp_1")
        assert response is not None
        assert scheduler.heard(response) == [answer]

    def test_a_second_response_to_a_repeat_is_cut(self) -> None:
        scheduler, _, _ = requested()
        scheduler.unanswered()
        ask(scheduler, NOW + 10)
        first = scheduler.created("resp_1", NOW + 11)
        scheduler.heard(first)
        scheduler.over("resp_1")
        # The API took the repeat, too.
        assert not first.is_cancelled
        assert scheduler.created("resp_2", NOW + 12).is_cancelled
        scheduler.over("resp_2")
        assert not scheduler.created("resp_3", NOW + 20).is_cancelled

    def test_a_late_response_to_an_answered_request_is_cut(self) -> None:
        scheduler, answer, _ = requested()
        scheduler.unanswered()
        scheduler.settle([answer])
        assert scheduler.created("resp_1", NOW + 11).is_cancelled

    def test_a_turn_forgets_surplus_responses(self) -> None:
        scheduler, _, _ = requested()
        scheduler.unanswered()
        ask(scheduler, NOW + 10)
        scheduler.heard(scheduler.created("resp_1", NOW + 11))
        scheduler.over("resp_1")
        scheduler.turn(Answer(AnswerKind.TURN, NOW + 12))
        scheduler.heard(scheduler.created("resp_2", NOW + 12))
        assert not scheduler.created("resp_3", NOW + 13).is_cancelled

    def test_a_response_that_answers_something_is_not_cut(self) -> None:
        scheduler, _, _ = requested()
        scheduler.unanswered()
        ask(scheduler, NOW + 10)
        scheduler.heard(scheduler.created("resp_1", NOW + 11))
        scheduler.over("resp_1")
        later = owed(scheduler)
        response = scheduler.created("resp_2", NOW + 12)
        assert not response.is_cancelled
        assert response.answers == [later]

    def test_unanswered_requests_are_bounded(self) -> None:
        scheduler, _, first = requested()
        for number in range(MAX_UNANSWERED + 1):
            scheduler.unanswered()
            ask(scheduler, NOW + 10 * number)
        assert scheduler.find_request(first.event_id) is None
        assert len(scheduler._unanswered) == MAX_UNANSWERED

    def test_an_unwanted_request_brings_a_cut_response(self) -> None:
        scheduler, _, request = requested()
        request.is_unwanted = True
        assert scheduler.created("resp_1", NOW).is_cancelled


class TestRefusals:
    def test_a_refusal_behind_its_seeming_response_keeps_it(self) -> None:
        # The API begins a response by itself, and refuses the request that crossed it.
        scheduler, tool, request = requested()
        turn = Answer(AnswerKind.TURN, NOW, api_until_seconds=NOW + 5)
        scheduler.turn(turn)
        response = scheduler.created("resp_1", NOW)
        assert scheduler.find_request(request.event_id) is request
        scheduler.refused_for_active(request, NOW)
        assert scheduler.active is response
        assert (response.request, response.answers) == (None, [turn])
        assert tool not in scheduler.owed

    def test_refusal_for_an_active_response_ends_the_wait(self) -> None:
        scheduler = ResponseScheduler()
        saying = owed(scheduler, AnswerKind.SAY)
        request = ask(scheduler)
        turn = Answer(AnswerKind.TURN, NOW, api_until_seconds=NOW + 5)
        scheduler.turn(turn)
        scheduler.refused_for_active(request, NOW)
        scheduler.over("")
        assert ask(scheduler).answers == [saying]
        assert turn.api_until_seconds is None

    def test_the_unknown_active_response_gets_its_id(self) -> None:
        scheduler, _, request = requested()
        scheduler.refused_for_active(request, NOW)
        unknown = scheduler.active
        assert scheduler.find("resp_1") is unknown
        assert scheduler.over("resp_1") is unknown
        assert scheduler.state is SchedulerState.IDLE

    def test_a_refused_old_request_leaves_its_repeat(self) -> None:
        scheduler, answer, first = requested()
        scheduler.unanswered()
        second = ask(scheduler, NOW + 10)
        assert scheduler.refused(first) == []
        assert scheduler.state is SchedulerState.REQUESTED
        assert scheduler.created("resp_1", NOW + 11).request is second
        assert scheduler.owed == [answer]

    def test_a_refused_repeat_is_repeated_with_back_off(self) -> None:
        scheduler, answer, _ = requested()
        scheduler.unanswered()
        second = ask(scheduler, NOW + 10)
        # The first request may be lost: its repeat is repeated.
        assert scheduler.refused(second) == [answer]
        assert scheduler.state is SchedulerState.IDLE

    def test_a_refusal_while_another_response_answers(self) -> None:
        scheduler, answer, first = requested()
        scheduler.unanswered()
        second = ask(scheduler, NOW + 10)
        response = scheduler.created("resp_1", NOW + 11)
        assert scheduler.refused(second) == []
        # The response is the API's own then, and answers all the same.
        assert scheduler.refused(first) == []
        assert response.answers == [answer]


class TestOvertakenResponses:
    def test_an_overtaken_response_still_settles_its_answer(self) -> None:
        scheduler, answer, first = active()
        scheduler.created("resp_2", NOW)
        assert scheduler.heard(first) == [answer]

    def test_an_empty_id_means_the_active_response(self) -> None:
        scheduler, _, _ = active()
        second = scheduler.created("resp_2", NOW)
        assert scheduler.find("") is second

    def test_an_unknown_id_means_no_response(self) -> None:
        scheduler, _, _ = active()
        assert scheduler.find("resp_unknown") is None

    def test_the_number_of_responses_is_bounded(self) -> None:
        scheduler = ResponseScheduler()
        for number in range(MAX_RESPONSES + 3):
            scheduler.created(f"resp_{number}", NOW)
        assert scheduler.find("resp_0") is None
        assert scheduler.active_id == f"resp_{MAX_RESPONSES + 2}"
        assert len(scheduler._responses) == MAX_RESPONSES

    def test_a_request_behind_a_response_is_requested(self) -> None:
        scheduler, _, _ = requested()
        scheduler.unanswered()
        owed(scheduler)
        second = ask(scheduler, NOW + 10)
        # The late response to the first request: the second asks for more.
        scheduler.created("resp_1", NOW + 11)
        scheduler.over("resp_1")
        assert scheduler.state is SchedulerState.REQUESTED
        assert scheduler.request is second

    def test_a_refused_request_behind_a_response(self) -> None:
        scheduler, _, _ = requested()
        scheduler.unanswered()
        later = owed(scheduler)
        second = ask(scheduler, NOW + 10)
        scheduler.created("resp_1", NOW + 11)
        assert later in scheduler.refused(second)
        assert scheduler.state is SchedulerState.ACTIVE
