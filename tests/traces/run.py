"""Runs a sequence of inputs, made by a world or recorded before, through a core."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from tests.traces import canonical
from tests.traces.canonical import Output
from tests.traces.dispatcher_core import DispatcherCore
from tests.traces.dispatcher_world import DispatcherWorld
from tests.traces.worker_core import WorkerCore
from tests.traces.worker_world import WorkerWorld
from tests.traces.world import Step, World


class Core(Protocol):
    """A core as its adapter shows it."""

    outputs: list[Output]

    @property
    def state(self) -> Any: ...

    def apply(self, now: float, name: str, *arguments: Any) -> list[Output]: ...


CORES: Final[dict[str, Callable[[dict[str, Any]], Core]]] = {"worker": WorkerCore, "dispatcher": DispatcherCore}
WORLDS: Final[dict[str, Callable[[int], World]]] = {"worker": WorkerWorld, "dispatcher": DispatcherWorld}


@dataclass(slots=True)
class Trace:
    """What went into a core, and what came of it.

    Attributes:
        header: what the core was made from.
        inputs: each with its time.
        results: outputs and state; the first is that of the core when it was made.
    """

    header: dict[str, Any]
    inputs: list[Step] = field(default_factory=list)
    results: list[list[Any]] = field(default_factory=list)

    def digests(self) -> list[bytes]:
        """Return eight bytes for each result, which depend on all inputs and results up to it."""
        digest, digests = canonical.digest(self.header), []
        for step, result in zip([[], *self.inputs], self.results, strict=True):
            digest = canonical.digest([digest.hex(), step, result])
            digests.append(digest)
        return digests

    def to_json(self) -> dict[str, Any]:
        return {"header": self.header, "inputs": self.inputs, "results": self.results}


@contextlib.contextmanager
def without_logs() -> Iterator[None]:
    """Keep the cores' log lines away, and the state of `random` as it was."""

    def drop(*_: Any) -> Any:
        raise structlog.DropEvent

    before, configured = random.getstate(), structlog.get_config()
    structlog.configure(processors=[drop])
    try:
        yield
    finally:
        structlog.configure(**configured)
        random.setstate(before)


def generated(core_name: str, seed: int) -> Trace:
    """Run the sequence of a seed."""
    world = WORLDS[core_name](seed)
    core = CORES[core_name](world.header)
    trace = Trace(world.header)
    result = [core.outputs, core.state]
    trace.results.append(result)
    while (step := world.next(*result)) is not None:
        core.apply(*step)
        result = [core.outputs, core.state]
        trace.inputs.append(step)
        trace.results.append(result)
    return trace


def replayed(core_name: str, header: dict[str, Any], inputs: Iterable[Step]) -> Trace:
    """Run inputs that were recorded."""
    core = CORES[core_name](header)
    trace = Trace(header, [], [[core.outputs, core.state]])
    for step in inputs:
        core.apply(*step)
        trace.inputs.append(step)
        trace.results.append([core.outputs, core.state])
    return trace
