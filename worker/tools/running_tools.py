"""The tools of a call that run, beside its audio; the call may go on in another session meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from common.observe import metrics
from common.observe.metrics import WorkerMetrics
from common.observe.tool_outcome import ToolOutcome
from worker.tools.tool_set import ToolSet

# Tools of one call that run side by side; a model that wants more is told so.
MAX_RUNNING_TOOLS = 16
# Outputs of ended tools, the latest, for a session whose memory does not hold them.
MAX_KEPT_OUTPUTS = 16


class RunningTools:
    """Those of one session.

    Attributes:
        tasks: by the model's call.
    """

    def __init__(
        self,
        uuid: str,
        metadata: Mapping[str, str],
        measured: WorkerMetrics,
        done: Callable[[str, str, bool], None],
    ) -> None:
        """Build it.

        Args:
            uuid: of the call.
            metadata: of the call.
            measured: counts what came of them.
            done: gets the model's call, the tool's output, and whether it was cut off.
        """
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._uuid = uuid
        self._metadata = dict(metadata)
        self._measured = measured
        self._done = done
        self._successor: RunningTools | None = None
        self._outputs: dict[str, tuple[str, bool]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hand over."""
        return not self.tasks and not self._outputs

    def start(self, tool_set: ToolSet, call_id: str, name: str, arguments: str) -> str | None:
        """Run one; returns the output at once if there are too many."""
        if len(self.tasks) >= MAX_RUNNING_TOOLS:
            return f"not run: {MAX_RUNNING_TOOLS} tools of this call are running already"
        # Of a run that was cut off: this one takes its place.
        self._outputs.pop(call_id, None)
        run = self._run(tool_set, call_id, name, arguments)
        self.tasks[call_id] = asyncio.create_task(run, name=f"tool {name} {self._uuid}")
        return None

    def hand_over(self, successor: RunningTools) -> list[str]:
        """Give another session the tools that run, and the latest outputs; return the model's calls that run.

        This session may have ended, or its link may be broken. Then its last outputs are in nobody's memory.
        """
        self._successor = successor
        # A cancelled tool brings no output.
        tasks = {call_id: task for call_id, task in self.tasks.items() if not task.cancelling()}
        self.tasks = {}
        successor.tasks |= tasks
        outputs, self._outputs = self._outputs, {}
        for call_id, (output, lost) in outputs.items():
            self._ended(call_id, output, lost=lost)
        return list(tasks)

    def cancel(self) -> None:
        """Nobody waits for what still runs."""
        for task in self.tasks.values():
            task.cancel()

    async def _run(self, tool_set: ToolSet, call_id: str, name: str, arguments: str) -> None:
        began = time.monotonic()
        result = await tool_set.run(name, arguments, uuid=self._uuid, metadata=self._metadata)
        # What the model makes up is no tool's name.
        known = metrics.OTHER if result.outcome is ToolOutcome.UNKNOWN_TOOL else name
        self._measured.tool(known).ended(result.outcome.label, time.monotonic() - began)
        self._ended(call_id, result.output, lost=result.outcome is ToolOutcome.LOST)

    def _ended(self, call_id: str, output: str, *, lost: bool) -> None:
        """Tell the session that has the call now."""
        holder = self
        while holder._successor is not None:
            holder = holder._successor
        holder.tasks.pop(call_id, None)
        if len(holder._outputs) >= MAX_KEPT_OUTPUTS:
            del holder._outputs[next(iter(holder._outputs))]
        holder._outputs[call_id] = (output, lost)
        holder._done(call_id, output, lost)
