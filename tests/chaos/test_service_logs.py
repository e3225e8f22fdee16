"""What the processes log is read once, kept by call, and looked through for exceptions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.chaos.service_logs import ServiceLogs


class Process(SimpleNamespace):
    """A process, as far as its log goes."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # a namespace has none

    @classmethod
    def with_lines(cls, *lines: dict[str, Any]) -> Any:
        return cls(name="worker", pid=7, lines=list(lines))


def test_lines_of_a_call_are_kept_until_it_is_judged() -> None:
    logs = ServiceLogs()
    worker = Process.with_lines(
        {"event": "second", "uuid": "call", "timestamp": "2"}, {"event": "of nobody", "timestamp": "1"}
    )
    assert logs.read([worker]) == []
    worker.lines.append({"event": "first", "uuid": "call", "timestamp": "1"})
    for _ in range(2):
        assert logs.read([worker]) == []
        assert [(name, line["event"]) for name, line in logs.of("call")] == [
            ("worker 7", "first"),
            ("worker 7", "second"),
        ]
    logs.forget("call")
    assert logs.of("call") == []


def test_an_exception_is_a_breach_once() -> None:
    logs = ServiceLogs()
    worker = Process.with_lines(
        {"event": "a call failed", "uuid": "call", "exception": "Traceback\nValueError: why"},
        {"event": "a loop failed", "exception": "Traceback\nOSError: why"},
    )
    assert [(breach.uuid, breach.what) for breach in logs.read([worker])] == [
        ("call", "worker 7 logged 'a call failed': Traceback\nValueError: why"),
        ("", "worker 7 logged 'a loop failed': Traceback\nOSError: why"),
    ]
    assert logs.read([worker]) == []
