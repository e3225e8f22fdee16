"""A call's running tools. They run beside the call's audio, and the call may move to another session meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from common.observe import metrics
from common.observe.metrics import WorkerMetrics
from common.observe.tool_outcome import ToolOutcome
from worker.tools.key_requests import KeyRequests
from worker.tools.tool_set import ToolSet

# Maximum number of tools that one call runs at the same time; further function calls are refused.
MAX_RUNNING_TOOLS = 16
# Maximum number of latest outputs that are kept for a session whose memory does not hold them.
MAX_KEPT_OUTPUTS = 16


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
        ended: Callable[[str, float, str], None],
        keys: KeyRequests,
    ) -> None:
        """Begin without running tools.

        Args:
            uuid: the call's uuid.
            metadata: the call's metadata.
            measured: counts the outcomes.
            done: receives the model's call id, the tool's output, and whether the tool was interrupted.
            ended: receives the tool's name, its duration in seconds, and its outcome.
            keys: of the caller, for which tools may ask.
        """
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._uuid = uuid
        self._metadata = dict(metadata)
        self._measured = measured
        self._done = done
        self._on_end = ended
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
        result = await tool_set.run(name, arguments, uuid=self._uuid, metadata=self._metadata, keys=self.keys)
        # A name that the model made up must not become a label of the metric.
        known = metrics.OTHER if result.outcome is ToolOutcome.UNKNOWN_TOOL else name
        seconds = time.monotonic() - began
        self._measured.tool(known).ended(result.outcome.label, seconds)
        self._holder._on_end(known, seconds, result.outcome.label)
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
