"""The tools of one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any
from typing import Protocol as Interface

from common.observe import logs
from common.observe.tool_outcome import ToolOutcome
from worker.tools import arguments as json_arguments
from worker.tools.definition import Definition
from worker.tools.errors import ArgumentsNotChecked, InvalidArguments, ToolFailed, ToolLost, ToolNotRun
from worker.tools.key_requests import CallerKeys, RunCaller
from worker.tools.result import ToolResult, bounded
from worker.tools.run_clock import RunClock

_log = logs.get_logger()


class Tool(Interface):
    """One version of a custom tool, in any language."""

    @property
    def definition(self) -> Definition:
        """The tool's definition for the model."""

    async def check(self, arguments: dict[str, Any]) -> None:
        """Check arguments against the tool's schema, off this event loop.

        Raises:
            InvalidArguments, ArgumentsNotChecked: see these classes.
            ToolFailed: the schema cannot be used.
            ToolNotRun: there is no process for the check.
        """

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        """Run the tool off this event loop, and return its result as text. It may ask the caller for keys.

        Raises:
            ToolFailed, ToolNotRun, ToolLost: see these classes.
        """


class ToolSet:
    """The tools with which a call opened. Immutable, so later edits do not change the call's tools."""

    def __init__(self, tools: Iterable[Tool], *, timeout_seconds: float, stopped: asyncio.Future[None]) -> None:
        """Build the set.

        Args:
            tools: the tools; no two have the same name.
            timeout_seconds: time limit of each run.
            stopped: done once the registry has stopped; then every run ends.
        """
        self._tools = {tool.definition.name: tool for tool in tools}
        self._timeout_seconds = timeout_seconds
        self._stopped = stopped

    @property
    def definitions(self) -> list[dict[str, Any]]:
        """The entries of the session's `tools`: `type`, `name`, `description`, `parameters`."""
        return [tool.definition.function for tool in self._tools.values()]

    @property
    def names(self) -> list[str]:
        """Names of all tools."""
        return list(self._tools)

    def is_idempotent(self, name: str) -> bool:
        """Return whether an interrupted run may be repeated; False for an unknown name."""
        tool = self._tools.get(name)
        return tool is not None and tool.definition.idempotent

    async def run(
        self, name: str, arguments: str, *, uuid: str, metadata: Mapping[str, str], keys: CallerKeys | None = None
    ) -> ToolResult:
        """Run a tool and return a result for the model, whatever the outcome. Does not raise.

        Cancelling this also cancels an `async` Python handler. Plain Python functions and JavaScript continue, and
        their results are dropped.

        Args:
            name: the tool's name, as the model wrote it.
            arguments: the arguments' JSON text, as the model wrote it.
            uuid: the call's uuid.
            metadata: the call's metadata.
            keys: of the caller; None: the tool cannot ask for keys.
        """
        started_seconds = time.monotonic()
        result, fields = await self._result(name, arguments, uuid, metadata, keys)
        log = _log.info if result.outcome is ToolOutcome.OK else _log.warning
        seconds = round(time.monotonic() - started_seconds, 3)
        log(
            "tool called",
            uuid=uuid,
            tool=name if name in self._tools else None,
            outcome=result.outcome,
            seconds=seconds,
            **fields,
        )
        return ToolResult(bounded(result.output), result.outcome)

    async def _result(
        self, name: str, arguments: str, uuid: str, metadata: Mapping[str, str], keys: CallerKeys | None
    ) -> tuple[ToolResult, dict[str, object]]:
        """Return the result, and further fields for the log, without words of the call."""
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            output = f"There is no tool of this name. The tools are: {known}."
            return ToolResult(output, ToolOutcome.UNKNOWN_TOOL), {}
        try:
            given = json_arguments.parse(arguments)
            await tool.check(given)
        except InvalidArguments as error:
            return ToolResult(str(error), ToolOutcome.INVALID_ARGUMENTS), {"keywords": error.keywords}
        except ArgumentsNotChecked as error:
            output = f"The tool {name} was not run: its arguments could not be checked. Try other arguments."
            return ToolResult(output, ToolOutcome.ERROR), {"error": f"arguments not checked: {error}"}
        except ToolNotRun as error:
            return ToolResult(f"The tool {name} failed. {error}", ToolOutcome.ERROR), {"error": str(error)}
        except ToolFailed as error:  # the schema may have an unresolvable or endless reference
            output = f"The tool {name} cannot be used: its input_schema is wrong."
            return ToolResult(output, ToolOutcome.ERROR), {"error": f"input_schema: {error.error_type}"}
        except Exception as error:
            return _broken(name, uuid, error)
        clock = RunClock(self._timeout_seconds)
        caller = RunCaller(keys, clock)
        running = asyncio.ensure_future(tool.call(uuid, given, metadata, caller))
        try:
            either: set[asyncio.Future[Any]] = {running, self._stopped, clock.expired}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if running.cancelled():  # not by this method
                return ToolResult(f"The tool {name} was interrupted.", ToolOutcome.ERROR), {"error": "cancelled"}
            if running.done():
                return ToolResult(running.result(), ToolOutcome.OK), {}
            if self._stopped.done():
                output = f"The tool {name} was interrupted: the service is stopping."
                return ToolResult(output, ToolOutcome.ERROR), {"error": "stopped"}
            output = (
                f"The tool {name} did not answer within {self._timeout_seconds:g} seconds."
                " Whether it did its work is not known."
            )
            return ToolResult(output, ToolOutcome.TIMEOUT), {}
        except ToolFailed as error:
            fields: dict[str, object] = {"error": error.error_type, "where": error.where}
            # The message may repeat keys that are not for the model.
            told = error.error_type if caller.has_given_keys else error
            return ToolResult(f"The tool {name} failed: {told}", ToolOutcome.ERROR), fields
        except (ToolNotRun, ToolLost) as error:
            outcome = ToolOutcome.LOST if isinstance(error, ToolLost) else ToolOutcome.ERROR
            return ToolResult(f"The tool {name} failed. {error}", outcome), {"error": str(error)}
        except Exception as error:
            return _broken(name, uuid, error)
        finally:
            clock.stop()
            running.add_done_callback(_retrieve_exception)
            running.cancel()


def _broken(name: str, uuid: str, error: Exception) -> tuple[ToolResult, dict[str, object]]:
    """Return the result of a tool that could not be called because of an unexpected exception."""
    _log.error("a tool could not be called", uuid=uuid, tool=name, exc_info=error)
    return ToolResult(f"The tool {name} failed.", ToolOutcome.ERROR), {"error": type(error).__name__}


def _retrieve_exception(running: asyncio.Future[str]) -> None:
    if not running.cancelled():
        running.exception()
