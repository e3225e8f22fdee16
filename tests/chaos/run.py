"""A chaos run: callers, faults, and checks of the rules."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.chaos import announcements, picture, record_rules, schedule, script
from tests.chaos.acts import ACTS
from tests.chaos.call_rules import judge
from tests.chaos.callers import Caller
from tests.chaos.ears import Ear
from tests.chaos.facts import Breach, CallFacts, FaultKind
from tests.chaos.pace import Pace
from tests.chaos.results import Results
from tests.chaos.story import story
from tests.chaos.victims import RunEnded
from tests.chaos.world import World
from tests.helpers import eventually

_PROGRESS_SECONDS = 5.0
_LOOK_SECONDS = 0.05
# Interval at which a fault is retried while it has no victim (all others of its kind are down, no caller speaks).
_ATTEMPTS = 10
_ATTEMPT_SECONDS = 0.5
# Sessions close CALL_RECONNECT_SECONDS after their caller is gone; a dead dispatcher's calls end with its lease.
_LEFTOVER_SECONDS = 20.0
# Time within which another dispatcher writes the record of a call whose dispatcher died (guarantees.md).
_RECORD_SECONDS = 60.0
_SHOWN_KEYS = 20
# Memory by which a process may grow in any run: buffers and caches are warm after a minute.
_GROWTH_BYTES = 48 * 1024 * 1024
# Number of calls with a breach whose story is printed, and of log lines for each.
_STORIES = 20
_SHOWN_LINES = 30


# Quiet time after a round of all kinds.
QUIET_SECONDS = 22.0


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a run.

    Attributes:
        seed: seed of all draws.
        calls: number of calls at once.
        duration_seconds: time from the first call to the last fault.
        kinds: kinds of faults; empty: no faults.
        pace: lengths of the faults.
        gap_seconds: minimum and maximum time between two faults.
        quiet_seconds: quiet time after each round of all kinds, in which faults that wait for Redis also happen.
        ramp_seconds: time in which the first calls begin.
        rollover_seconds: age at which workers replace a session.
        patience_seconds: time for faults that still wait for their moment at the end.
    """

    seed: int
    calls: int = 50
    duration_seconds: float = 60.0
    workers: int = 3
    dispatchers: int = 2
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)
    pace: Pace = field(default_factory=Pace)
    gap_seconds: tuple[float, float] = (1.0, 3.5)
    quiet_seconds: float = QUIET_SECONDS
    ramp_seconds: float = 3.0
    rollover_seconds: float = 20.0
    patience_seconds: float = 0.0


class ChaosRun:
    """One chaos run.

    Args:
        options: options of the run.
        say: takes lines for people.
    """

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._world = World(rollover_seconds=options.rollover_seconds)
        self._results = Results(self._world.run_log.faults, self._world.run_log.breaches)
        self._began_seconds = 0.0
        self._stopping = asyncio.Event()
        self._acting: set[asyncio.Task[None]] = set()
        self._acted_seconds = 0.0
        self._ended: list[CallFacts] = []
        self._shown = 0
        self._stories = 0

    async def run(self) -> Results:
        """Run, and return the result."""
        options = self._options
        self._say(
            f"seed {options.seed}: {options.calls} calls at once for {options.duration_seconds:g} s,"
            f" {options.dispatchers} dispatchers, {options.workers} workers, {len(options.kinds)} kinds of faults"
        )
        async with self._world as world:
            await world.start(workers=options.workers, dispatchers=options.dispatchers)
            self._began_seconds = self._acted_seconds = time.monotonic()
            watching = (self._watch_ami(), self._watch_processes(), self._progress(), self._inspect())
            async with _beside(*watching), asyncio.TaskGroup() as slots:
                for number in range(options.calls):
                    slots.create_task(self._slot(number))
                await self._carry_out()
                self._finish()
            await self._look_for_leftovers()
        self._show_breaches()
        return self._results

    # Calls

    async def _slot(self, number: int) -> None:
        """Hold one call after the other."""
        options = self._options
        rng = random.Random(f"{options.seed}/{number}")
        await asyncio.sleep(options.ramp_seconds * number / max(1, options.calls))
        while not self._stopping.is_set():
            caller = Caller(self._world.urls, script.draw(rng), rng)
            await self._have_call(caller)
            await asyncio.sleep(rng.uniform(0.1, 0.8))

    async def _have_call(self, caller: Caller) -> None:
        world = self._world
        caller.facts.rollover_seconds = self._options.rollover_seconds
        caller.facts.capacity = any(worker.is_well for worker in world.workers)
        world.callers[caller.uuid] = caller
        try:
            placed = await caller.run()
        finally:
            world.over(caller)
        if not placed:
            self._note(Breach("placing", "no dispatcher took a new call", time.monotonic(), caller.uuid))
            return
        await self._complete(caller)
        self._results.add(caller.facts)
        self._ended.append(caller.facts)
        if breaches := judge(caller.facts):
            self._results.breaches += breaches
            self._show_breaches()
            self._show_story(caller.facts)
        world.forget(caller.uuid)

    async def _complete(self, caller: Caller) -> None:
        """Collect the remaining facts of a call."""
        world, facts = self._world, caller.facts
        facts.sessions = await world.realtime.sessions_of(caller.uuid)
        self._note_refusals(facts)
        facts.tool_runs = world.tool_runs_of(caller.uuid)
        facts.pins = world.pins_of(caller.uuid)
        facts.restorations = world.restorations_of(caller.uuid)
        facts.frozen = [each for each in world.run_log.frozen if each.until_seconds > facts.started_seconds]
        facts.heard = await asyncio.to_thread(_listen, caller)

    def _note_refusals(self, facts: CallFacts) -> None:
        """Note the fault that refused this call's `response.create`."""
        refusals = [fault for fault in self._world.run_log.faults if fault.kind is FaultKind.REFUSE_ANSWER]
        for struck in (each for session in facts.sessions for each in session.struck if each.name == "rejection"):
            earlier = [fault for fault in refusals if fault.at_seconds <= struck.until_seconds]
            if earlier and facts.uuid not in earlier[-1].calls:
                earlier[-1].calls |= {facts.uuid}
                facts.faults.append(earlier[-1])

    def _finish(self) -> None:
        """Stop new calls, and let the running ones come to their end."""
        self._stopping.set()
        for caller in self._world.callers.values():
            caller.finish.set()

    # Faults

    async def _carry_out(self) -> None:
        """Carry out all drawn faults at their times, and return when all have ended."""
        options = self._options
        rng = random.Random(f"{options.seed}/faults")
        steps = schedule.draw(
            rng,
            options.kinds,
            duration_seconds=options.duration_seconds,
            gap_seconds=options.gap_seconds,
            quiet_seconds=options.quiet_seconds,
            first_seconds=options.ramp_seconds + 2.0,
        )
        for step in steps:
            await asyncio.sleep(max(0.0, self._began_seconds + step.at_seconds - time.monotonic()))
            task = asyncio.create_task(self._act(step.kind, random.Random(rng.random())))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)
        await asyncio.sleep(max(0.0, self._began_seconds + options.duration_seconds - time.monotonic()))
        if self._acting and options.patience_seconds:
            await asyncio.wait(self._acting, timeout=options.patience_seconds)
        self._world.is_over = True
        await asyncio.gather(*self._acting)

    async def _act(self, kind: FaultKind, rng: random.Random) -> None:
        self._say(f"{self._now():6.1f} s  {kind.value}")
        for _ in range(_ATTEMPTS):
            try:
                done = await ACTS[kind](self._world, self._options.pace, rng)
            except RunEnded:
                self._say(f"{self._now():6.1f} s  {kind.value}: skipped at the end of the run")
                return
            self._acted_seconds = time.monotonic()
            if done:
                return
            await asyncio.sleep(_ATTEMPT_SECONDS)
        self._results.impossible[kind] += 1
        self._say(f"{self._now():6.1f} s  {kind.value}: no victim")

    # Watchers

    async def _watch_ami(self) -> None:
        """End calls for which avr-ami is asked to hang up, as Asterisk does."""
        requests = self._world.ami.requests
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            while requests:
                request = requests.popleft()
                caller = self._world.callers.get(request.uuid or "")
                if caller is not None and request.action == "hangup":
                    caller.facts.promised = caller.facts.promised or time.monotonic()
                    caller.facts.hang_ups += 1
                    caller.agent_hung_up.set()

    async def _watch_processes(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._world.look_for_deaths()
            self._world.read_logs()
            self._show_breaches()

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            results = self._results
            self._say(
                f"{self._now():6.1f} s  {len(self._world.up())} calls up, {results.calls} over,"
                f" {len(results.faults)} faults, {len(results.breaches)} breaches"
            )

    async def _inspect(self) -> None:
        """Check in quiet times that Redis agrees with the processes."""
        wrong: set[str] = set()
        while True:
            await asyncio.sleep(1.0)
            if not self._is_quiet():
                wrong.clear()
                continue
            taken = await picture.take(self._world)
            if taken is None or not self._is_quiet():
                wrong.clear()
                continue
            found = {breach.what: breach for breach in picture.differences(taken)}
            # A single difference may be a change between two requests.
            for what in sorted(found.keys() & wrong):
                self._note(found.pop(what))
            wrong = set(found)

    def _is_quiet(self) -> bool:
        since_seconds = time.monotonic() - self._acted_seconds
        return not self._acting and not self._world.is_moving and since_seconds >= picture.SETTLED_SECONDS

    # The end

    async def _look_for_leftovers(self) -> None:
        """Check that no call leaves anything behind, and that all processes end when told to."""
        world = self._world

        async def no_sessions() -> bool:
            return not await world.realtime.live()

        async def no_calls() -> bool:
            listed, workers = await world.admin("/calls"), await world.admin("/workers")
            return listed == [] and workers is not None and not any(each["calls"] for each in workers)

        async def no_keys() -> bool:
            return not await asyncio.to_thread(world.redis_keys)

        await self._expect("sessions are left upstream", no_sessions)
        await self._expect("calls are left in Redis", no_calls)
        await self._check_records()
        for name, grown in world.grown_bytes().items():
            self._say(f"{self._now():6.1f} s  {name} has grown by {grown / 1e6:.1f} MB")
            if grown > _GROWTH_BYTES:
                self._note(Breach("memory", f"{name} has grown by {grown / 1e6:.1f} MB", time.monotonic()))
        for member in (*world.dispatchers, *world.workers):
            await world.tell_to_stop(member, drain_seconds=member.drain_seconds)
        await world.stopped()
        await self._expect("keys are left in Redis", no_keys)
        for key in (await asyncio.to_thread(world.redis_keys))[:_SHOWN_KEYS]:
            self._say(f"    left in Redis: {key}")

    async def _check_records(self) -> None:
        """Check that each call has its record, also if its dispatcher died."""

        async def all_are_there() -> bool:
            written = {record["uuid"] for record in await asyncio.to_thread(self._world.records)}
            keys = await asyncio.to_thread(self._world.redis_keys)
            faults = self._results.faults
            # A draft stays until its call has a record, a hostile core's too.
            return not any(":draft" in key for key in keys) and all(
                call.uuid in written or record_rules.may_lose_the_record(call, faults) for call in self._ended
            )

        with contextlib.suppress(AssertionError):  # the rules say which are missing
            await eventually(all_are_there, _RECORD_SECONDS)
        records = await asyncio.to_thread(self._world.records)
        self._results.records = len({record["id"] for record in records})
        self._results.breaches += record_rules.of_records(self._ended, records, self._results.faults)
        self._show_breaches()

    async def _expect(self, what: str, predicate: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        try:
            await eventually(predicate, _LEFTOVER_SECONDS)
        except AssertionError:
            self._note(Breach("leftovers", f"{what} after {_LEFTOVER_SECONDS:g} s", time.monotonic()))

    # For people

    def _now(self) -> float:
        return time.monotonic() - self._began_seconds

    def _note(self, breach: Breach) -> None:
        self._results.breaches.append(breach)
        self._show_breaches()
        if breach.uuid:
            self._show_lines(breach.uuid)

    def _show_breaches(self) -> None:
        """Print new breaches, with the log lines of their calls."""
        for breach in self._results.breaches[self._shown :]:
            self._shown += 1
            at_seconds = breach.at_seconds - self._began_seconds
            self._say(
                f"BREACH of {breach.rule!r} at {at_seconds:.1f} s (seed {self._options.seed})"
                f" in call {breach.uuid or '-'}: {breach.what}"
            )

    def _show_story(self, call: CallFacts) -> None:
        """Print the story of a call, and its log lines."""
        self._stories += 1
        if self._stories > _STORIES:
            return
        for told in story(call, zero_seconds=self._began_seconds):
            self._say(f"    {told}")
        self._show_lines(call.uuid)

    def _show_lines(self, uuid: str) -> None:
        for process, line in self._world.lines_of(uuid)[-_SHOWN_LINES:]:
            shown = {name: value for name, value in line.items() if name not in _NOT_SHOWN}
            self._say(f"    {process}: {shown.pop('event', '')} {shown}")


_NOT_SHOWN = ("uuid", "level", "process", "pid", "logger")


def _listen(caller: Caller) -> list[Any]:
    facts = caller.facts
    return list(Ear(_vocabulary(facts)).listen(caller.stretches()))


def _vocabulary(facts: CallFacts) -> set[str]:
    """Return all words that the model said in any session of the call."""
    said = (item.said for session in facts.sessions for item in session.items)
    return {word for text in said for word in text.split()} | {"greeting", *announcements.WORDS}


@contextlib.asynccontextmanager
async def _beside(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines meanwhile; their exceptions end the run."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
