"""The things that all calls of a worker share."""

from __future__ import annotations

from dataclasses import dataclass, field

import aiohttp

from common.observe.metrics import WorkerMetrics
from common.observe.tracing import NO_TRACER, Tracer
from common.settings.secret_store import Secrets
from common.settings.settings import Settings
from worker.config.prices import Prices
from worker.realtime.upstream_limits import LimitsTable
from worker.runner.own_key import OwnKey
from worker.runner.session_queue import QueueTable
from worker.tools.tool_registry import ToolRegistry


@dataclass(frozen=True, slots=True)
class Resources:
    """The shared things of one worker process."""

    secrets: Secrets
    metrics: WorkerMetrics
    prices: Prices
    tools: ToolRegistry
    http: aiohttp.ClientSession
    limits: LimitsTable = field(default_factory=LimitsTable)
    tracer: Tracer = NO_TRACER
    own_key: OwnKey = field(init=False)
    queues: QueueTable = field(init=False)

    def __post_init__(self) -> None:
        # The class is frozen.
        object.__setattr__(self, "own_key", OwnKey(self.metrics))
        object.__setattr__(
            self, "queues", QueueTable(self.settings.sessions_per_second, self.metrics.sessions_waiting)
        )

    @property
    def settings(self) -> Settings:
        """The settings of the process, with the secrets of now."""
        return self.secrets.settings
