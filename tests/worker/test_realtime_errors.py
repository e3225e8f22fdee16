"""What an error of the Realtime API means for a call, and what of it may be shown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.faults import BAD_KEY, MISSING_KEY, Refusal
from tests.worker import api_events
from worker import realtime_errors
from worker.realtime_errors import ErrorEvent, Severity, from_handshake, redact

# As OpenAI's service words it.
INCORRECT_KEY = (
    "Incorrect API key provided: sk-abc***xyz. You can find your API key at "
    "https://platform.openai.com/account/api-keys."
)


def body(code: str | None, message: str, kind: str = "invalid_request_error") -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


# Refused handshakes


@pytest.mark.parametrize(
    ("status", "code", "retryable", "names"),
    [
        (400, "invalid_value", False, "HTTP 400"),
        (401, "invalid_api_key", False, "OPENAI_API_KEY"),
        (401, None, False, "OPENAI_API_KEY"),
        (403, "unsupported_country_region_territory", False, "Something is wrong"),
        (403, "model_not_found", False, "OPENAI_MODEL"),
        (404, "model_not_found", False, "OPENAI_MODEL"),
        (404, None, False, "HTTP 404"),
        (408, None, True, "HTTP 408"),
        (429, "rate_limit_exceeded", True, "Something is wrong"),
        (429, "insufficient_quota", False, "billing"),
        (429, "billing_hard_limit_reached", False, "billing"),
        (500, "server_error", True, "HTTP 500"),
        (502, None, True, "HTTP 502"),
        (503, "server_is_overloaded", True, "HTTP 503"),
        (301, None, False, "HTTP 301"),
    ],
)
def test_a_retry_is_worth_it_only_where_it_can_help(
    status: int, code: str | None, retryable: bool, names: str
) -> None:
    error = from_handshake(status, body(code, "Something is wrong."))
    assert error.retryable is retryable
    assert error.code == (code or f"http_{status}")
    assert names in str(error)
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("refusal", [BAD_KEY, MISSING_KEY], ids=["bad key", "no key"])
def test_a_refusal_as_the_service_words_it_names_the_setting(refusal: Refusal) -> None:
    assert refusal.status is not None
    error = from_handshake(refusal.status, orjson.dumps({"error": refusal.error()}))
    assert not error.retryable
    assert "OPENAI_API_KEY" in str(error)


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"error"',
        b"17",
        b'{"error": "Unauthorized"}',
        b'{"error": null}',
        b'{"error": ["a"]}',
        b'{"error": {"code": {"a": 1}, "message": ["b"]}}',
        b'{"error": {"code": "no such\\nlabel {}"}}',
        b'{"error": {"code": "' + b"x" * 100 + b'"}}',
        b'{"message": "elsewhere"}',
        body("server_error", "cut off")[:-5],
    ],
)
@pytest.mark.parametrize("status", [401, 503])
def test_an_odd_body_leaves_the_status(status: int, odd: bytes) -> None:
    error = from_handshake(status, odd)
    assert error.code == f"http_{status}"
    assert error.retryable is (status == 503)
    assert f"HTTP {status}" in str(error)
    assert "\n" not in str(error)


@given(status=st.integers(300, 599), content=st.binary(max_size=60))
def test_no_body_breaks_the_reading_of_it(status: int, content: bytes) -> None:
    assert f"HTTP {status}" in str(from_handshake(status, content))


# Error events


@pytest.mark.parametrize(
    ("code", "severity"),
    [
        ("invalid_api_key", Severity.FATAL),
        ("insufficient_quota", Severity.FATAL),
        ("billing_hard_limit_reached", Severity.FATAL),
        ("account_deactivated", Severity.FATAL),
        ("model_not_found", Severity.FATAL),
        ("invalid_model", Severity.FATAL),
        ("session_expired", Severity.SESSION_OVER),
        ("conversation_already_has_active_response", Severity.RESPONSE_ACTIVE),
        ("invalid_value", Severity.GOES_ON),
        ("response_cancel_not_active", Severity.GOES_ON),
        ("item_truncate_invalid_item_id", Severity.GOES_ON),
        ("rate_limit_exceeded", Severity.GOES_ON),
        ("server_error", Severity.GOES_ON),
        ("something_of_next_year", Severity.GOES_ON),
        (None, Severity.GOES_ON),
    ],
)
def test_only_what_no_session_can_get_over_is_fatal(code: str | None, severity: Severity) -> None:
    error = ErrorEvent.from_event(api_events.error(code)["error"])
    assert error.severity is severity
    assert error.code == (code or "invalid_request_error")


def test_an_error_event_keeps_what_it_is_about() -> None:
    error = ErrorEvent.from_event(api_events.error("invalid_value", event_id="session-update")["error"])
    assert error.event_id == "session-update"
    assert error.message == "Something went wrong."


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"code": None, "type": None, "message": None},
        {"code": 17, "message": 17},
        {"code": ["a"], "type": {"b": 1}},
        {"code": "with spaces\nand lines"},
        {"code": "é" * 10},
        {"code": "x" * 65},
    ],
)
def test_an_odd_error_has_a_label_that_a_metric_can_carry(odd: dict[str, Any]) -> None:
    error = ErrorEvent.from_event(odd)
    assert error.severity is Severity.GOES_ON
    assert error.code in ("unknown", "17")
    assert isinstance(error.message, str)


def test_a_failed_response_has_a_message_even_where_the_api_gives_none() -> None:
    error = ErrorEvent.from_response({"type": "server_error", "code": "server_error"})
    assert (error.code, error.message) == ("server_error", "a response failed")
    assert ErrorEvent.from_response({"code": "insufficient_quota"}).severity is Severity.FATAL
    assert ErrorEvent.from_response({}).code == "unknown"


# Keys


@pytest.mark.parametrize(
    "text",
    [
        INCORRECT_KEY,
        "Incorrect API key provided: sk-proj-" + "*" * 130 + "wxyz.",
        "Incorrect API key provided: sk-proj-abcdEFGH1234_-xyz.",
        "Incorrect API key provided: abcd1234*****wxyz.",
        "Incorrect API key provided: sess-abcd1234wxyz.",
        "The ephemeral key ek_abcd1234wxyz has expired.",
        "Authorization: Bearer abcd1234wxyz was not accepted",
        "wss://user:abcd1234wxyz@host/v1/realtime?api_key=abcd1234wxyz",
        "keys sk-abcd1234wxyz, sk-abcd1234wxyz",
    ],
)
def test_keys_are_never_shown(text: str) -> None:
    shown = [
        redact(text),
        ErrorEvent.from_event({"message": text}).message,
        ErrorEvent.from_event({"message": text, "code": "invalid_api_key"}).message,
        ErrorEvent.from_response({"message": text}).message,
        *(str(from_handshake(status, body(code, text))) for status in (401, 403, 503) for code in (None, "c")),
    ]
    for one in shown:
        for part in ("abcd", "abc***", "wxyz", "xyz", "1234"):
            assert part not in one, one


@given(st.from_regex(r"sk-[A-Za-z0-9_-]{8,40}", fullmatch=True))
def test_no_openai_key_gets_through(key: str) -> None:
    masked = f"{key[:6]}***{key[-4:]}"
    for shape in (key, masked):
        assert shape not in redact(f"Incorrect API key provided: {shape}. You can find your API key at ...")
        assert shape[:6] not in redact(f"key '{shape}'").replace("***", "")


def test_words_are_not_taken_for_keys() -> None:
    text = "The task-force desk-top risk: audio_end_ms (800ms) is shorter than 900ms; see session.audio.output."
    assert redact(text) == text


def test_a_long_message_is_cut() -> None:
    assert len(redact("a " * 1000)) == 300
    assert len(ErrorEvent.from_event({"message": "a " * 1000}).message) == 300


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"error": {"code": "invalid_api_key"}}'])
def test_a_refused_key_is_known_as_one_for_the_operator(status: int, body: bytes) -> None:
    assert realtime_errors.from_handshake(status, body).code in realtime_errors.OPERATOR_CODES


def test_an_error_is_either_for_the_operator_or_passes() -> None:
    assert not {*realtime_errors.OPERATOR_CODES} & {*realtime_errors.PASSING_CODES}
    assert "session_expired" in realtime_errors.PASSING_CODES
