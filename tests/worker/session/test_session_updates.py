"""Updates of a session: one at a time, their answers, and the session in force."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from common.settings.settings import Settings
from tests.worker import api_events as api
from worker.config.session_config import SessionConfig
from worker.config.session_update import session_object
from worker.realtime.dialect import GA, XAI, Dialect
from worker.realtime.errors import ErrorEvent
from worker.session.action_queue import ActionQueue
from worker.session.actions import Action, Answer, Configured, ToUpstream
from worker.session.session_updates import (
    MAX_LEFT_OUT,
    MAX_WAITING_UPDATES,
    SESSION_UPDATE_ID,
    UPDATE_SECONDS,
    SessionUpdates,
    UpdateKind,
)

NOW = 100.0
ECHO: dict[str, Any] = {"type": "realtime"}
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": name, "parameters": {}} for name in ("one", "two", "three")
]
OPTIONAL: dict[str, Any] = {
    "openai_noise_reduction": "near_field",
    "openai_speed": 1.2,
    "openai_tracing": "auto",
    "openai_truncation": "auto",
}


def error(code: str | None = "invalid_value", **fields: Any) -> ErrorEvent:
    return ErrorEvent.from_event(api.error(code, **fields)["error"])


class Updating:
    """Updates of a session, with their actions."""

    def __init__(self, *, opened: bool = True, dialect: Dialect = GA, **session: Any) -> None:
        chosen = session_object(Settings(**OPTIONAL)) | {"tools": TOOLS} | session
        self.outbox = ActionQueue("uuid-1")
        self.updates = SessionUpdates(SessionConfig(dialect=dialect, session=chosen), self.outbox, "uuid-1")
        if opened:
            self.updates.open(NOW, muted=False)
            self.updates.updated(ECHO, NOW)
            self.take()

    def take(self) -> list[Action]:
        actions, self.outbox.actions = self.outbox.actions, []
        return actions

    def sent(self) -> list[dict[str, Any]]:
        """`session.update` events that were sent since the last time."""
        return [action.event for action in self.take() if isinstance(action, ToUpstream)]

    def answers(self) -> list[tuple[int, int]]:
        """Numbers and statuses of the answers to the calls API."""
        return [(action.number, action.status) for action in self.take() if isinstance(action, Answer)]

    def change(self, number: int, instructions: str = "Be brief.") -> bool:
        return self.updates.change(number, {"instructions": instructions}, NOW)


class TestInStep:
    def test_the_opening_update_makes_the_session(self) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        (update,) = made.sent()
        assert update["event_id"] == SESSION_UPDATE_ID
        assert not made.updates.is_settled
        assert made.updates.updated(ECHO, NOW) is UpdateKind.OPENING
        assert made.updates.is_settled

    def test_the_next_update_waits_for_the_answer(self) -> None:
        made = Updating()
        for number in (1, 2):
            assert made.change(number, f"Text {number}.")
        (first,) = made.sent()
        assert first["event_id"] == "command-1"
        assert first["session"] == {"type": "realtime", "instructions": "Text 1."}
        assert made.updates.updated(ECHO, NOW) is UpdateKind.COMMAND
        configured, answer, second = made.take()
        assert configured == Configured({"instructions": "Text 1."})
        assert answer == Answer(1, 200, {})
        assert isinstance(second, ToUpstream)
        assert second.event["event_id"] == "command-2"

    def test_too_many_waiting_changes_are_refused(self) -> None:
        made = Updating()
        # One is on its way, the others wait.
        assert all(made.change(number) for number in range(MAX_WAITING_UPDATES + 1))
        assert not made.change(99)

    def test_an_update_that_nobody_sent_is_ignored(self) -> None:
        made = Updating()
        assert made.updates.updated(ECHO, NOW) is None
        assert made.take() == []

    def test_a_muted_session_answers_when_it_is_unmuted(self) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=True)
        (update,) = made.sent()
        assert update["session"]["audio"]["input"]["turn_detection"]["create_response"] is False
        made.updates.updated(ECHO, NOW)
        made.updates.unmute(NOW)
        (update,) = made.sent()
        assert update["session"]["audio"]["input"]["turn_detection"]["create_response"] is True
        assert made.updates.updated(ECHO, NOW) is UpdateKind.OWN

    def test_unmute_without_a_difference_sends_nothing(self) -> None:
        made = Updating()
        made.updates.unmute(NOW)
        assert made.sent() == []

    def test_unmute_with_another_session_sends_it_first(self) -> None:
        made = Updating()
        made.change(1)
        made.change(2)
        made.take()
        made.updates.unmute(NOW, {"type": "realtime", "instructions": "Another."})
        made.updates.updated(ECHO, NOW)
        (update,) = made.sent()
        assert update["session"]["instructions"] == "Another."


class TestRefusals:
    @pytest.mark.parametrize(
        "fields",
        [
            {"event_id": "command-1"},
            {"event_id": None, "param": "session.instructions"},
            {"param": "session.tools[0].name"},
            {"code": "cannot_update_voice"},
        ],
    )
    def test_a_refused_change_never_reaches_the_next_session(self, fields: dict[str, Any]) -> None:
        made = Updating()
        made.change(1)
        made.change(2)
        made.take()
        refusal = error(**{"code": "invalid_value", "message": "No.", **fields})
        assert made.updates.refused(refusal, NOW) is True
        answer, following = made.take()
        assert isinstance(answer, Answer)
        assert answer.status == (409 if refusal.code == "cannot_update_voice" else 422)
        assert answer.body == {"error": "No."}
        # Later updates stay in step.
        assert isinstance(following, ToUpstream)
        assert following.event["event_id"] == "command-2"
        made.updates.updated(ECHO, NOW)
        assert made.answers() == [(2, 200)]

    @pytest.mark.parametrize(
        "fields", [{"event_id": "command-2"}, {"event_id": "response-create-1"}, {"param": "item.content"}, {}]
    )
    def test_an_error_about_something_else_is_no_refusal(self, fields: dict[str, Any]) -> None:
        made = Updating()
        made.change(1)
        assert made.updates.refused(error(**fields), NOW) is False
        assert made.answers() == []

    def test_without_an_update_nothing_is_refused(self) -> None:
        assert Updating().updates.refused(error(param="session.speed"), NOW) is False

    @pytest.mark.parametrize(
        "fields", [{"event_id": SESSION_UPDATE_ID}, {"event_id": None}, {"param": "session.instructions"}]
    )
    def test_a_refused_opening_says_why(self, fields: dict[str, Any]) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        assert made.updates.refused(error(message="Bad session.", **fields), NOW) == "Bad session."

    def test_an_opening_is_not_refused_by_a_server_error(self) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        assert made.updates.refused(error("server_error", kind="server_error"), NOW) is False

    def test_a_closed_call_answers_its_changes_with_410(self) -> None:
        made = Updating()
        made.change(1)
        made.change(2)
        made.take()
        made.updates.close()
        assert made.answers() == [(1, 410), (2, 410)]
        assert made.updates.is_settled


class TestNoAnswer:
    def test_a_change_without_answer_is_given_up_after_10_s(self) -> None:
        made = Updating()
        made.change(1)
        made.change(2)
        made.take()
        made.updates.tick(NOW + UPDATE_SECONDS - 0.1)
        assert made.take() == []
        made.updates.tick(NOW + UPDATE_SECONDS)
        answer, following = made.take()
        assert isinstance(answer, Answer)
        assert (answer.number, answer.status) == (1, 504)
        assert isinstance(following, ToUpstream)

    def test_a_late_answer_is_not_taken_for_the_next(self) -> None:
        made = Updating()
        made.change(1, "One.")
        made.change(2, "Two.")
        made.updates.tick(NOW + UPDATE_SECONDS)
        made.take()
        # The session of the first change: it is in force, and the second is not yet.
        assert made.updates.updated(ECHO | {"instructions": "One."}, NOW + 11) is None
        assert made.answers() == []
        assert made.updates.updated(ECHO | {"instructions": "Two."}, NOW + 11) is UpdateKind.COMMAND
        assert made.answers() == [(2, 200)]

    def test_one_late_answer_alone_is_passed_over(self) -> None:
        made = Updating()
        made.change(1, "One.")
        made.updates.tick(NOW + UPDATE_SECONDS)
        assert made.updates.updated(ECHO | {"instructions": "One."}, NOW) is None
        made.change(2, "Two.")
        # The API may put another value in force than it was asked for.
        assert made.updates.updated(ECHO | {"instructions": "Two"}, NOW) is UpdateKind.COMMAND
        assert made.answers() == [(1, 504), (2, 200)]

    def test_an_opening_update_is_not_given_up_here(self) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        made.take()
        made.updates.tick(NOW + 10 * UPDATE_SECONDS)
        assert not made.updates.is_settled


class TestFieldsLeftOut:
    def opening(self, dialect: Dialect = GA) -> Updating:
        made = Updating(opened=False, dialect=dialect)
        made.updates.open(NOW, muted=False)
        made.take()
        return made

    @pytest.mark.parametrize(
        ("param", "path"),
        [
            ("session.audio.input.noise_reduction.type", "audio.input.noise_reduction"),
            ("session.input_audio_noise_reduction", "audio.input.noise_reduction"),
            ("session.audio.output.speed", "audio.output.speed"),
            ("session.speed", "audio.output.speed"),
            ("session.tracing", "tracing"),
            ("session.truncation.type", "truncation"),
            ("session.audio.input.transcription.language", "audio.input.transcription"),
            ("session.input_audio_transcription.model", "audio.input.transcription"),
        ],
    )
    def test_a_refused_field_is_left_out(self, param: str, path: str) -> None:
        made = self.opening()
        *parents, name = path.split(".")
        assert made.updates.refused(error(param=param), NOW) is True
        (update,) = made.sent()
        fields = update["session"]
        for parent in parents:
            fields = fields[parent]
        assert name not in fields
        assert update["session"]["instructions"]
        # The same field once more: the session cannot be had.
        assert made.updates.refused(error(param=param, message="No."), NOW) == "No."

    @pytest.mark.parametrize(
        "param",
        [
            "session.instructions",
            "session.prompt.id",
            "session.model",
            "session.audio.input.format",
            "session.audio.output.format.rate",
            "session.audio.output.voice",
            "session.audio.input.turn_detection",
            "session.tools",
            "session.tools[9]",
            "session.speedy",
            "session",
            "",
        ],
    )
    def test_other_fields_are_never_left_out(self, param: str) -> None:
        made = self.opening()
        assert made.updates.refused(error(param=param, message="No."), NOW) == "No."
        assert made.sent() == []

    def test_three_fields_are_left_out_at_most(self) -> None:
        made = self.opening()
        params = ["session.tracing", "session.truncation", "session.speed", "session.input_audio_transcription"]
        for param in params[:MAX_LEFT_OUT]:
            assert made.updates.refused(error(param=param), NOW) is True
        assert made.updates.refused(error(param=params[MAX_LEFT_OUT], message="No."), NOW) == "No."

    def test_one_refused_tool_is_left_out(self) -> None:
        made = self.opening()
        assert made.updates.refused(error(param="session.tools[1].parameters"), NOW) is True
        (update,) = made.sent()
        assert [tool["name"] for tool in update["session"]["tools"]] == ["one", "three"]
        assert made.updates.refused(error(param="session.tools[0]", message="No."), NOW) == "No."

    def test_a_field_left_out_stays_out_later(self) -> None:
        made = self.opening()
        made.updates.refused(error(param="session.tracing"), NOW)
        made.updates.updated(ECHO, NOW)
        made.take()
        made.updates.is_muted = True
        made.updates.unmute(NOW)
        (update,) = made.sent()
        assert "tracing" not in update["session"]

    def test_a_field_of_a_change_is_not_left_out(self) -> None:
        made = Updating()
        made.updates.change(1, {"tracing": "auto"}, NOW)
        made.take()
        assert made.updates.refused(error(param="session.tracing"), NOW) is True
        assert made.answers() == [(1, 422)]
        assert made.sent() == []

    def test_a_refused_change_of_our_own_is_logged(self) -> None:
        made = Updating()
        changed = session_object(Settings(openai_instructions="Be brief."))
        made.updates.unmute(NOW, changed)
        with capture_logs() as logs:
            assert made.updates.refused(error(param="session.instructions"), NOW) is True
        assert [entry["log_level"] for entry in logs] == ["error"]


class TestWhatIsInForce:
    @pytest.mark.parametrize("field", ["create_response", "interrupt_response"])
    def test_null_in_the_echo_stands_for_the_default(self, field: str) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        made.updates.updated({"turn_detection": {"type": "server_vad", field: None}}, NOW)
        assert getattr(made.updates, field) is True

    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("field", ["create_response", "interrupt_response"])
    def test_the_echo_is_in_force(self, field: str, flat: bool) -> None:
        made = Updating(opened=False)
        made.updates.open(NOW, muted=False)
        detection = {"turn_detection": {"type": "server_vad", field: False}}
        made.updates.updated(ECHO | (detection if flat else {"audio": {"input": detection}}), NOW)
        shown = {name: getattr(made.updates, name) for name in ("create_response", "interrupt_response")}
        assert shown == {"create_response": True, "interrupt_response": True} | {field: False}

    @pytest.mark.parametrize("dialect", [GA, XAI])
    def test_without_an_echo_the_request_is_in_force(self, dialect: Dialect) -> None:
        made = Updating(dialect=dialect)
        made.updates.change(1, {"audio": {"input": {"turn_detection": {"create_response": False}}}}, NOW)
        made.updates.updated(None, NOW)
        assert made.updates.create_response is False
        assert made.updates.interrupt_response is True

    def test_a_refused_change_is_not_in_force(self) -> None:
        made = Updating()
        made.updates.change(1, {"audio": {"input": {"turn_detection": {"create_response": False}}}}, NOW)
        made.updates.refused(error(event_id="command-1"), NOW)
        assert made.updates.create_response is True

    def test_a_difference_is_logged_once(self) -> None:
        made = Updating(opened=False)
        echo = ECHO | {"audio": {"output": {"speed": 1.0, "voice": "verse"}}, "instructions": "secret words"}
        with capture_logs() as logs:
            made.updates.open(NOW, muted=False)
            made.updates.updated(echo, NOW)
            made.change(1, "Others.")
            made.updates.updated(echo, NOW)
        told = [line for line in logs if line["event"] == "session differs from the settings"]
        assert len(told) == 1
        assert sorted(told[0]["fields"]) == ["audio.output.speed", "audio.output.voice", "instructions"]
        assert "secret words" not in str(logs)

    def test_nothing_in_place_of_turn_detection_is_told(self) -> None:
        made = Updating(opened=False)
        with capture_logs() as logs:
            made.updates.open(NOW, muted=False)
            made.updates.updated(ECHO | {"audio": {"input": {"turn_detection": None}}}, NOW)
        assert [line["fields"] for line in logs] == [["audio.input.turn_detection"]]

    def test_fields_that_the_echo_lacks_are_no_difference(self) -> None:
        made = Updating(opened=False)
        with capture_logs() as logs:
            made.updates.open(NOW, muted=False)
            made.updates.updated(ECHO | {"tools": [], "prompt": {"id": "x"}, "expires_at": 1}, NOW)
        assert logs == []
