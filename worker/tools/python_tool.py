"""Tools in Python, from the operator's files. Used only in the process that runs tools, `python_child`.

name = "opening_hours"
description = "Opening hours on a day of the week"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
idempotent = True  # optional: the tool may be run again if the call moves to another worker meanwhile

async def handler(uuid, args):  # or `def`; an optional third parameter receives the call's metadata
    return f"On {args['day']} from nine to five"

Files find the function `digits` without an import: see `caller_digits`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import itertools
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from worker.tools import call_output, caller_digits
from worker.tools.caller_digits import RunAsking
from worker.tools.definition import ATTRIBUTES, Definition
from worker.tools.errors import BadTool, ToolFailed, one_line
from worker.tools.result import render
from worker.tools.threads import Threads
from worker.tools.tool_loop import ToolLoop

_versions = itertools.count()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class PythonTool:
    """One version of a tool file. The file's module stays in `sys.modules` while this object exists.

    Attributes:
        exported: the attributes that the file exports; JSON values only.
        takes_metadata: whether `handler` has a third parameter.
        threads: run plain handlers.
        loop: runs `async` handlers.
    """

    name: str
    exported: dict[str, Any]
    file: Path
    handler: Callable[..., Any] = field(repr=False)
    takes_metadata: bool
    threads: Threads = field(repr=False)
    loop: ToolLoop = field(repr=False)

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], run: RunAsking | None = None
    ) -> str:
        """Run the handler off this event loop, and return its result as bounded text.

        Args:
            uuid: of the call.
            arguments: of the model.
            metadata: of the call.
            run: lets the handler ask the caller for keys.

        Raises:
            ToolFailed: the handler raised, or its result cannot be written as JSON.
            ToolNotRun: no thread is free.
        """
        given = (uuid, arguments, dict(metadata)) if self.takes_metadata else (uuid, arguments)

        async def on_loop(make: Callable[[], Any]) -> object:
            try:
                with call_output.of_call(uuid, self.name), caller_digits.of_run(run):
                    return render(await make())
            except BaseException as error:
                return ToolFailed.of(error, self.file)

        def in_thread() -> object:
            try:
                with call_output.of_call(uuid, self.name):
                    value = self.handler(*given)
                return value if inspect.isawaitable(value) else render(value)
            except BaseException as error:
                return ToolFailed.of(error, self.file)

        outcome: object
        if inspect.iscoroutinefunction(self.handler):
            outcome = await self.loop.run(self.name, lambda: on_loop(lambda: self.handler(*given)))
        else:
            outcome = await self._in_thread(in_thread)
            if inspect.isawaitable(outcome):  # a plain function that returns a coroutine
                outcome = await self.loop.run(self.name, lambda: on_loop(lambda: outcome))
        if isinstance(outcome, ToolFailed):
            raise outcome
        assert isinstance(outcome, str)
        return outcome

    async def _in_thread(self, function: Callable[[], object]) -> object:
        """Run a function in a thread. After a cancellation, still wait for the function's end.

        The request then counts as overdue until that end, because the function's thread may stall all others.
        """
        running = asyncio.ensure_future(self.threads.run(self.name, function))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await running
            raise


def load(file: Path, source: bytes, threads: Threads, loop: ToolLoop) -> PythonTool:
    """Run the source of `file` as a separate module and return the tool. Blocks as long as the module runs.

    The source is compiled here instead of by importlib's loader. That loader would use an outdated `.pyc` file
    after an edit within the same second. It would also write into the operator's directory.

    Raises:
        BadTool: the file cannot be run, or does not define a tool.
    """
    name = f"avr_tool_{next(_versions)}_{file.stem}"
    spec = importlib.util.spec_from_loader(name, loader=None, origin=str(file))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file)
    sys.modules[name] = module  # dataclasses and pickle look up modules there
    try:
        _execute(module, file, source)
        tool = _tool(module, file, threads, loop)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    weakref.finalize(tool, sys.modules.pop, name, None).atexit = False
    return tool


def _execute(module: ModuleType, file: Path, source: bytes) -> None:
    try:
        module.__dict__["digits"] = caller_digits.digits
        code = compile(source, str(file), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - the purpose is to run the operator's files
    except BaseException as error:  # SystemExit, too, must fail this file alone
        failed = ToolFailed.of(error, file)
        raise BadTool(f"{failed} ({failed.where})" if failed.where else str(failed)) from None


def _tool(module: ModuleType, file: Path, threads: Threads, loop: ToolLoop) -> PythonTool:
    exported = {each: _as_json(each, getattr(module, each, None)) for each in ATTRIBUTES}
    definition = Definition.parse(*exported.values())
    handler = getattr(module, "handler", None)
    if not callable(handler):
        raise BadTool("handler is missing: a function handler(uuid, args) is needed")
    return PythonTool(definition.name, exported, file, handler, _takes_metadata(handler), threads, loop)


def _as_json(attribute: str, value: object) -> Any:
    """Return a copy that the file cannot change later."""
    try:
        return orjson.loads(orjson.dumps(value))
    except (TypeError, ValueError) as error:
        raise BadTool(f"{attribute} is not JSON: {one_line(str(error))}") from None


def _takes_metadata(handler: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # written in C
        return False
    for arguments in (3, 2):
        try:
            signature.bind(*range(arguments))
        except TypeError:
            continue
        return arguments == 3
    raise BadTool(f"handler{signature} cannot be called: it must take (uuid, args) or (uuid, args, metadata)")
