"""The log lines of the processes under test: kept by call, and searched for exceptions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.chaos.facts import Breach
from tests.scenarios.processes import ServiceProcess

_SHOWN_CHARS = 2000


class ServiceLogs:
    """The log lines of all processes, each read once."""

    def __init__(self) -> None:
        self._of_calls: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
        self._read: dict[ServiceProcess, int] = {}

    def read(self, processes: Iterable[ServiceProcess]) -> list[Breach]:
        """Read new lines; a logged exception is a breach."""
        breaches = []
        for process in processes:
            name = f"{process.name} {process.pid}"
            first = self._read.get(process, 0)
            self._read[process] = len(process.lines)
            for line in process.lines[first:]:
                if "uuid" in line:
                    self._of_calls[line["uuid"]].append((name, line))
                if "exception" in line:
                    what = f"{name} logged {line['event']!r}: {str(line['exception'])[-_SHOWN_CHARS:]}"
                    breaches.append(Breach("log", what, time.monotonic(), line.get("uuid", "")))
        return breaches

    def of(self, uuid: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the lines of a call in order of time: (process, line)."""
        return sorted(self._of_calls.get(uuid, []), key=lambda entry: str(entry[1].get("timestamp", "")))

    def forget(self, uuid: str) -> None:
        """Drop the lines of a call that was judged."""
        self._of_calls.pop(uuid, None)
