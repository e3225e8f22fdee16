"""The metrics of a process itself: its release, memory, CPU and open files."""

from __future__ import annotations

import platform
from typing import Final

from prometheus_client import ProcessCollector

from common.observe.metrics.series import counter, gauge

_LABELS: Final = ("process", "slot")
_CPU: Final = "process_cpu_seconds_total"


class ProcessMetrics:
    """The metrics of one process, with the names that all Prometheus clients use.

    The library's collector reads `/proc` when it is asked. Under `serve` another process may be asked, so each
    process keeps its own values, and renews them with `sample`. Without `/proc` they stay 0.
    """

    def __init__(self, process: str, slot: str, *, release: str, compiled: bool) -> None:
        """Create the metrics.

        Args:
            process: dispatcher, worker or serve.
            slot: number of the process under `serve`; empty: the process is the only one at its address.
            release: of the service.
            compiled: the call path is machine code.
        """
        build = gauge(
            "build_info",
            "Release of the processes, with the value 1",
            "livemax",
            *("process", "version", "python", "compiled"),
        )
        build.labels(process, release, platform.python_version(), str(compiled).lower()).set(1)
        gauges = {
            "process_resident_memory_bytes": "Resident memory of the process",
            "process_open_fds": "Open files of the process",
            "process_max_fds": "Maximum number of open files of the process",
            "process_start_time_seconds": "Start of the process, in seconds since the epoch",
        }
        self._gauges = {
            name: gauge(name, text, "livemax", *_LABELS, prefix="").labels(process, slot)
            for name, text in gauges.items()
        }
        cpu = counter("process_cpu_seconds", "CPU time of the process", *_LABELS, prefix="")
        self._cpu = cpu.labels(process, slot)
        self._cpu_seconds = 0.0
        self._collector = ProcessCollector(registry=None)

    def sample(self) -> None:
        """Renew the values. With thousands of open files it takes a millisecond."""
        for family in self._collector.collect():
            for sample in family.samples:
                if sample.name in self._gauges:
                    self._gauges[sample.name].set(sample.value)
                elif sample.name == _CPU:
                    # The counter of a slot goes on when its process is replaced.
                    self._cpu.inc(max(0.0, sample.value - self._cpu_seconds))
                    self._cpu_seconds = sample.value
