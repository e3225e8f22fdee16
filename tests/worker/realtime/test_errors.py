"""The meaning of the Realtime API's errors for a call, and the redaction of their texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.observe import redaction
from common.observe.upstream_codes import ACCOUNT_CODES, OPERATOR_CODES, PASSING_CODES
from simulator.realtime.faults import BAD_KEY, MISSING_KEY, Refusal
from tests.worker import api_events
from worker.realtime import errors
from worker.realtime.errors import ErrorEvent, Severity, from_handshake, redact, retry_after_seconds

# The texts of OpenAI's service.
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
        (403, "unsupported_country_region_territory", False, "country"),
        (403, None, False, "Something is wrong"),
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
def test_only_temporary_refusals_are_retryable(status: int, code: str | None, retryable: bool, names: str) -> None:
    error = from_handshake(status, body(code, "Something is wrong."))
    assert error.retryable is retryable
    assert error.code == (code or f"http_{status}")
    assert names in str(error)
    assert f"HTTP {status}" in str(error)


@pytest.mark.parametrize("refusal", [BAD_KEY, MISSING_KEY], ids=["bad key", "no key"])
def test_openais_own_refusals_name_the_setting(refusal: Refusal) -> None:
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
        b'{"detail": ["a"]}',
        b"<" * 2048,
        b"<style>" * 290,
        body("server_error", "cut off")[:-5],
    ],
)
@pytest.mark.parametrize("status", [401, 503])
def test_unreadable_body_leaves_the_status(status: int, odd: bytes) -> None:
    error = from_handshake(status, odd)
    assert error.code == f"http_{status}"
    assert error.retryable is (status == 503)
    assert f"HTTP {status}" in str(error)
    assert "\n" not in str(error)


@given(status=st.integers(300, 599), content=st.binary(max_size=60))
def test_reading_never_fails_for_any_body(status: int, content: bytes) -> None:
    assert f"HTTP {status}" in str(from_handshake(status, content))


# The texts of refusals


def test_http_403_lists_its_causes() -> None:
    shown = str(from_handshake(403, body(None, "Project `proj_1` does not have access.")))
    assert "Project `proj_1` does not have access." in shown
    assert "refused the API key" not in shown
    for cause in ("OPENAI_API_KEY", "OPENAI_MODEL", "country", "proxy"):
        assert cause in shown


def test_http_403_of_a_proxy_shows_its_page() -> None:
    page = b"<style>p {color: red}</style><title>Access\n denied</title><body>Rule 7</body>"
    shown = str(from_handshake(403, page))
    assert "Access denied Rule 7" in shown
    assert "color" not in shown
    assert "proxy" in shown


def test_an_unsupported_country_is_not_blamed_on_the_key() -> None:
    shown = str(from_handshake(403, body("unsupported_country_region_territory", "Country not supported.")))
    assert "Country not supported." in shown
    assert "OPENAI_API_KEY" not in shown


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 308, 405, 426])
def test_an_answer_without_websocket_names_the_base_url(status: int) -> None:
    error = from_handshake(status, b"<h1>Welcome</h1>")
    assert "OPENAI_BASE_URL" in str(error)
    assert f"HTTP {status}" in str(error)
    assert not error.retryable


def test_http_404_without_a_code_names_the_base_url() -> None:
    assert "OPENAI_BASE_URL" in str(from_handshake(404, b"404 page not found"))


def test_a_text_body_is_shown_redacted_on_one_line() -> None:
    shown = str(from_handshake(503, b"upstream\x1b[31m\n  connect error, key sk-abcd1234wxyz" + b" x" * 500))
    assert "upstream[31m connect error, key ***" in shown
    assert len(shown) < 400


# How long to wait


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached for gpt-realtime. Please try again in 1.2s. Visit https://...", 1.2),
        ("Please try again in 250ms.", 0.25),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 7m12.5s.", 432.5),
        ("try again in 3s", 3.0),
        ("Try again in 1h2m", 3600.0),
        ("Please try again in 2d4h.", 3600.0),
        ("Rate limit is exceeded. Try again in 30 seconds.", 30.0),
        ("Please retry after 3 seconds. Please go here: https://aka.ms/oai/quotaincrease", 3.0),
        ("Please retry after 1 minute.", 60.0),
        ("Please retry after 86400 seconds.", 3600.0),
        ("try again in 500µs", 0.0005),
        ("try again in 0s", 0.0),
        ("Please try again later.", None),
        ("try again in 3 sheep", None),
        ("try again in 3", None),
        ("try again in " + "9" * 400 + "s", None),
        ("retry after -3 seconds", None),
        ("", None),
    ],
)
def test_a_wait_in_a_message_is_read(message: str, seconds: float | None) -> None:
    assert retry_after_seconds(message) == (None if seconds is None else pytest.approx(seconds))


@given(st.text() | st.from_regex(r"try again in (\d+(\.\d+)?(ms|s|m|h)){1,6}"))
def test_reading_a_wait_never_fails_for_any_message(message: str) -> None:
    seconds = retry_after_seconds(message)
    assert seconds is None or 0 <= seconds <= 3600


@pytest.mark.parametrize(
    ("header", "message", "seconds"),
    [
        ("7", "", 7.0),
        (" 1.5 ", "", 1.5),
        ("99999", "", 3600.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", "", 3600.0),
        ("Fri, 31 Dec 9999 23:59:59", "", 3600.0),
        ("-1", "", None),
        ("nan", "", None),
        ("inf", "", None),
        ("soon", "", None),
        ("", "", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", "", None),
        (None, "Please try again in 2s.", 2.0),
        ("1", "Please try again in 1.2s.", 1.2),
        ("5", "Please try again in 1.2s.", 5.0),
        ("soon", "Please try again in 1.2s.", 1.2),
        (None, "", None),
    ],
)
def test_a_refusal_carries_the_longer_wait(header: str | None, message: str, seconds: float | None) -> None:
    error = from_handshake(429, body("rate_limit_exceeded", message), header)
    assert error.retry_after_seconds == (None if seconds is None else pytest.approx(seconds))


def test_a_date_in_a_header_is_a_wait_from_now() -> None:
    then = datetime.now(UTC) + timedelta(seconds=100)
    error = from_handshake(503, b"", format_datetime(then, usegmt=True))
    assert error.retry_after_seconds is not None
    assert 90 < error.retry_after_seconds <= 100


@given(header=st.text(max_size=60))
def test_reading_retry_after_never_fails_for_any_header(header: str) -> None:
    seconds = from_handshake(503, b"", header).retry_after_seconds
    assert seconds is None or 0 <= seconds <= 3600


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
def test_only_errors_of_every_session_are_fatal(code: str | None, severity: Severity) -> None:
    error = ErrorEvent.from_event(api_events.error(code)["error"])
    assert error.severity is severity
    assert error.code == (code or "invalid_request_error")


def test_error_event_keeps_its_request_and_field() -> None:
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
def test_odd_error_code_becomes_a_valid_label(odd: dict[str, Any]) -> None:
    error = ErrorEvent.from_event(odd)
    assert error.severity is Severity.GOES_ON
    assert error.code in ("unknown", "17")
    assert isinstance(error.message, str)


def test_failed_response_without_a_message_gets_one() -> None:
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
def test_every_form_of_openai_key_is_redacted(key: str) -> None:
    masked = f"{key[:6]}***{key[-4:]}"
    for shape in (key, masked):
        assert shape not in redact(f"Incorrect API key provided: {shape}. You can find your API key at ...")
        assert shape[:6] not in redact(f"key '{shape}'").replace("***", "")


def test_words_similar_to_keys_are_not_redacted() -> None:
    text = "The task-force desk-top risk: audio_end_ms (800ms) is shorter than 900ms; see session.audio.output."
    assert redact(text) == text


def test_long_message_is_truncated() -> None:
    assert len(redact("a " * 1000)) == 300
    assert len(ErrorEvent.from_event({"message": "a " * 1000}).message) == 300


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"error": {"code": "invalid_api_key"}}'])
def test_refused_key_has_an_operator_code(status: int, body: bytes) -> None:
    assert errors.from_handshake(status, body).code in OPERATOR_CODES


def test_operator_and_passing_codes_are_disjoint() -> None:
    assert not {*OPERATOR_CODES} & {*PASSING_CODES}
    assert "session_expired" in PASSING_CODES


@pytest.mark.parametrize("code", ACCOUNT_CODES)
def test_account_code_ends_the_call_and_says_what_to_do(code: str) -> None:
    event = ErrorEvent.from_event({"code": code, "message": "no"})
    assert event.severity is Severity.FATAL
    assert event.message != "no"


def test_known_key_of_any_form_is_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    known = redaction.KnownSecrets()
    monkeypatch.setattr(redaction, "KNOWN", known)
    known.know("settings", ["Plain-Key-0001"])
    error = ErrorEvent.from_event(
        {"code": "Plain-Key-0001", "message": "Incorrect API key provided: Plain-Key-0001."}
    )
    assert (error.code, error.message) == ("unknown", "Incorrect API key provided: ***.")
    refused = from_handshake(401, body("Plain-Key-0001", "Incorrect API key provided: Plain-Key-0001."))
    assert refused.code == "http_401"
    assert "Plain-Key-0001" not in str(refused)


@pytest.mark.parametrize("levels", [300, 1000, 2000])
@pytest.mark.parametrize("place", ['{"error":{"code":%s}}', '{"error":{"message":%s}}'])
def test_too_deeply_nested_refusal_is_an_error(place: str, levels: int) -> None:
    error = from_handshake(503, (place % ("[" * levels + "]" * levels)).encode())
    assert (error.code, error.retryable) == ("http_503", True)
