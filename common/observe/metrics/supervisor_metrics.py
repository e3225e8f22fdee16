"""The metrics of `serve`'s parent."""

from __future__ import annotations

from common.observe.metrics.call_process import LINES_DROPPED, of_process
from common.observe.metrics.series import counter


class SupervisorMetrics:
    """The metrics of `serve`'s parent; create them with `supervisor()`."""

    def __init__(self) -> None:
        self.worker_restarts = counter("worker_restarts", "Restarts of workers")
        self.dispatcher_restarts = counter("dispatcher_restarts", "Restarts of dispatchers")
        self.redis_restarts = counter("redis_restarts", "Restarts of the embedded Redis")
        self.log_lines_dropped = of_process("log_lines_dropped", LINES_DROPPED).labels("serve")
