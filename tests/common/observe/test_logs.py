from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from common.observe import logs, redaction
from common.observe.log_options import LogFormat, LogLevel

KEY = "sk-proj-0123456789abcdef"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger(logs.LOGGER_NAME)
    before = (root.handlers, root.level, ours.level, logging.raiseExceptions)
    yield
    logging.captureWarnings(capture=False)
    root.handlers, level, our_level, logging.raiseExceptions = before
    root.setLevel(level)
    ours.setLevel(our_level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def only(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = lines(capsys)
    return line


def test_a_line_has_time_level_event_and_process_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker-3")
    logs.get_logger().info("call opened", seconds=1.5)
    line = only(capsys)
    written = datetime.fromisoformat(line.pop("timestamp"))
    assert written.tzinfo == UTC
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert line == {
        "level": "info",
        "event": "call opened",
        "process": "worker-3",
        "pid": os.getpid(),
        "seconds": 1.5,
    }


def test_every_line_of_a_call_carries_its_uuid(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker")
    log = logs.get_logger().bind(uuid="u-1")
    log.info("one")
    log.warning("two", code=3)
    logs.get_logger().info("of no call")
    assert [line.get("uuid") for line in lines(capsys)] == ["u-1", "u-1", None]


def test_a_logger_made_before_the_configuration_follows_it(capsys: pytest.CaptureFixture[str]) -> None:
    log = logs.get_logger()
    logs.configure("worker")
    log.info("late")
    assert only(capsys)["event"] == "late"


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", level=LogLevel.WARNING)
    logs.get_logger().info("no")
    logs.get_logger().warning("yes")
    assert only(capsys)["event"] == "yes"


def test_libraries_speak_in_the_same_format_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", level=LogLevel.DEBUG)
    logging.getLogger("websockets.server").info("connection open")
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("asyncio").warning("%s took %d ms", "it", 7)
    line = only(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("it took 7 ms", "asyncio", "warning")
    assert line["process"] == "worker"


def test_pythons_warnings_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("worker")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert "DeprecationWarning: old" in only(capsys)["event"]


def test_lines_on_a_terminal_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    logs.configure("worker")
    logs.get_logger().info("call opened")
    logs.configure("worker", line_format=LogFormat.JSON)
    logs.get_logger().info("call closed")
    opened, closed = screen.getvalue().splitlines()
    assert "call opened" in opened
    assert "\x1b[" in opened
    assert json.loads(closed)["event"] == "call closed"


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("log_format", LogFormat)
def test_secrets_are_not_written(log_format: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker", line_format=log_format)
    log = logs.get_logger()
    log.info("a", api_key=KEY, OPENAI_API_KEY=KEY, authorization=KEY, token=KEY, max_tokens=5)
    log.info("b", headers={"Authorization": f"Bearer {KEY}", "more": [{"token": (KEY, KEY)}]})
    log.info("c", text=f"Incorrect API key provided: {KEY}", error=ValueError(KEY))
    logging.getLogger("websockets").warning("> Authorization: Bearer %s", "abcdef")
    try:
        raise ValueError(f"refused {KEY}")
    except ValueError:
        log.exception("d")
        logging.getLogger("aiohttp").exception("e")
    written = capsys.readouterr().err
    assert KEY not in written
    assert "abcdef" not in written
    assert written.count("refused ***") == 2
    assert "max_tokens" in written
    assert "5" in written


def test_known_secrets_are_not_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = redaction.KnownSecrets()
    monkeypatch.setattr(redaction, "KNOWN", known)
    known.know("settings", ["plain-process-key"])
    redaction.CallSecrets("uuid-1", known).keep(["plain-call-key"])
    logs.configure("worker")
    log = logs.get_logger()
    said = "no plain-process-key and no plain-call-key"
    log.info(said, nested={"a": [said]}, error=ValueError(said), uuid="uuid-1")
    # The key of a call is looked for in lines of that call, and in lines of no call.
    log.info("another call", text=said, uuid="uuid-2")
    log.info("no call", text=said)
    first, second, third = lines(capsys)
    assert "plain-" not in str(first)
    assert second["text"] == "no *** and no plain-call-key"
    assert third["text"] == "no *** and no ***"


def test_an_exception_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker")
    try:
        raise KeyError("nothing")
    except KeyError:
        logs.get_logger().exception("crashed")
    line = only(capsys)
    assert line["level"] == "error"
    assert "KeyError: 'nothing'" in line["exception"]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_unwritable_line_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("worker")
    log = logs.get_logger()
    endless: list[Any] = []
    endless.append(endless)
    log.info("half a character", text="\ud800")
    log.info("beyond 64 bits", number=2**70)
    log.info("of any type", value=object, raw=b"\xff", names={1: {2}})
    log.info("endless", value=endless)
    log.info("lost", value=Unprintable())
    log.info("percent %s %d")
    assert [line["event"] for line in lines(capsys)] == [
        "half a character",
        "beyond 64 bits",
        "of any type",
        "endless",
        "percent %s %d",
    ]


@pytest.mark.parametrize("log_format", LogFormat)
def test_a_reader_that_went_away_does_not_hurt(log_format: LogFormat) -> None:
    program = (
        "import sys; from common.observe import logs; from common.observe.log_options import LogFormat\n"
        f"logs.configure('worker', line_format=LogFormat({log_format.value!r}))\n"
        "sys.stdin.read()\n"
        "for _ in range(3): logs.get_logger().info('nobody reads this')\n"
        "print('alive', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.close()
    process.stderr = None
    out, _ = process.communicate(timeout=60)
    assert out == b"alive\n"
