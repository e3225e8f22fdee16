"""A call's running tools. They run beside the call's audio, and the call may move to another session meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final
from typing import Protocol as Interface

from common.observe import metrics, trace_context
from common.observe.metrics import WorkerMetrics
from common.observe.tool_outcome import ToolOutcome
from worker.tools.key_requests import KeyRequests
from worker.tools.tool_set import ToolSet

# Maximum number of tools that one call runs at the same time; further function calls are refused.
MAX_RUNNING_TOOLS = 16
# Maximum number of latest outputs that are kept for a session whose memory does not hold them.
MAX_KEPT_OUTPUTS = 16


CANCELLED: Final = "cancelled"
"""The outcome, in traces, of a tool whose call has ended."""


class ToolSpan(Interface):
    """The span of one call of a tool."""

    traceparent: str

    def ended(self, name: str, began_seconds: float, outcome: str) -> None:
        """Note how the tool ended."""


class ToolTrace(Interface):
    """The trace of a call, in which tools are spans."""

    def tool_began(self, call_id: str) -> ToolSpan:
        """Begin the span of a tool."""


class RunningTools:
    """The running tools of one session.

    Attributes:
        tasks: the running tools, by the call id of the model's function call.
        keys: the requests of these tools for the caller's keys.
    """

    def __init__(
        self,
        uuid: str,
        metadata: Mapping[str, str],
        measured: WorkerMetrics,
        *,
        done: Callable[[str, str, bool], None],
        ended: Callable[[str, str, float, str], None],
        keys: KeyRequests,
        traceparent: str = "",
        trace: ToolTrace | None = None,
    ) -> None:
        """Begin without running tools.

        Args:
            uuid: the call's uuid.
            metadata: the call's metadata.
            measured: counts the outcomes.
            done: receives the model's call id, the tool's output, and whether the tool was interrupted.
            ended: receives the model's call id, the tool's name, its duration in seconds, and its outcome.
            keys: of the caller, for which tools may ask.
            traceparent: of the call's first span, for tools whose own span is not traced; empty: there is none.
            trace: makes the spans of tools; None: they are not traced.
        """
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._uuid = uuid
        self._metadata = dict(metadata)
        self._measured = measured
        self._done = done
        self._on_end = ended
        self._traceparent = traceparent
        self._trace = trace
        self.keys = keys
        self._successor: RunningTools | None = None
        self._outputs: dict[str, tuple[str, bool]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand over."""
        return not self.tasks and not self._outputs

    def start(self, tool_set: ToolSet, call_id: str, name: str, arguments: str) -> str | None:
        """Start a tool. If `MAX_RUNNING_TOOLS` run already, return an output for the model instead."""
        if len(self.tasks) >= MAX_RUNNING_TOOLS:
            return f"not run: {MAX_RUNNING_TOOLS} tools of this call are running already"
        # This run replaces an interrupted run of the same function call.
        self._outputs.pop(call_id, None)
        run = self._run(tool_set, call_id, name, arguments)
        self.tasks[call_id] = asyncio.create_task(run, name=f"tool {name} {self._uuid}")
        return None

    def hand_over(self, successor: RunningTools) -> list[str]:
        """Give the running tools and the latest outputs to another session. Return the call ids that still run.

        The latest outputs are given too: if this session or its link has ended, no memory may hold these outputs.
        """
        self._successor = successor
        # A cancelled tool will have no output.
        tasks = {call_id: task for call_id, task in self.tasks.items() if not task.cancelling()}
        self.tasks = {}
        successor.tasks |= tasks
        outputs, self._outputs = self._outputs, {}
        for call_id, (output, lost) in outputs.items():
            self._ended(call_id, output, lost=lost)
        self.keys.hand_over(successor.keys)
        return list(tasks)

    def cancel(self) -> None:
        """Cancel all running tools."""
        for task in self.tasks.values():
            task.cancel()

    async def _run(self, tool_set: ToolSet, call_id: str, name: str, arguments: str) -> None:
        began = time.monotonic()
        span = None if self._trace is None else self._trace.tool_began(call_id)
        traceparent = self._traceparent if span is None else span.traceparent
        metadata = {**self._metadata, trace_context.PARAMETER: traceparent} if traceparent else self._metadata
        try:
            result = await tool_set.run(name, arguments, uuid=self._uuid, metadata=metadata, keys=self.keys)
        except asyncio.CancelledError:
            if span is not None:
                span.ended(name if name in tool_set.names else metrics.OTHER, began, CANCELLED)
            raise
        # A name that the model made up must not become a label of the metric.
        known = metrics.OTHER if result.outcome is ToolOutcome.UNKNOWN_TOOL else name
        seconds = time.monotonic() - began
        self._measured.tool(known).ended(result.outcome.label, seconds)
        if span is not None:
            span.ended(known, began, result.outcome.label)
        self._holder._on_end(call_id, known, seconds, result.outcome.label)
        self._ended(call_id, result.output, lost=result.outcome is ToolOutcome.LOST)

    @property
    def _holder(self) -> RunningTools:
        holder = self
        while holder._successor is not None:
            holder = holder._successor
        return holder

    def _ended(self, call_id: str, output: str, *, lost: bool) -> None:
        """Report the output to the session that has the call now."""
        holder = self._holder
        holder.tasks.pop(call_id, None)
        if len(holder._outputs) >= MAX_KEPT_OUTPUTS:
            del holder._outputs[next(iter(holder._outputs))]
        holder._outputs[call_id] = (output, lost)
        holder._done(call_id, output, lost)
