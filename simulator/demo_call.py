"""One call of the demo: the dialogue's caller speaks to the service, and a simulated Asterisk transfers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from simulator.avr.ami import AmiDouble, AmiRequest
from simulator.avr.call_record import CallReport, Interruption, Transcript
from simulator.avr.core import SimulatedCall, place_call
from simulator.avr.playout import SAMPLE_RATE_HZ
from simulator.demo_service import DemoError
from simulator.dialogue.dialogue import ENDS_CALL, Dialogue
from simulator.dialogue.player import DialoguePlayer, DialogueStalled
from simulator.dialogue.timeline import Timeline, ToolRun, timeline_of
from simulator.realtime.simulated_session import SimulatedSession
from simulator.terminal import one_line

CALLEE: Final = "600"
LONGEST_CALL_SECONDS: Final = 3600.0

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Handover:
    """A request to Asterisk: it ends the call for AVR Core.

    Attributes:
        request: the request of the service.
        at_seconds: its time on the monotonic clock.
    """

    request: AmiRequest
    at_seconds: float


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call that has ended.

    Attributes:
        report: the call in figures.
        started_at_seconds: its begin on the monotonic clock.
        caller_pcm: sound of the caller: PCM16 LE, 8 kHz, mono.
        agent_pcm: sound that the caller heard.
        player: the caller.
        call: the call.
        handover: its end by Asterisk; None: the caller hung up.
    """

    report: CallReport
    started_at_seconds: float
    caller_pcm: bytes
    agent_pcm: bytes
    player: DialoguePlayer
    call: SimulatedCall
    handover: Handover | None

    def timeline(
        self, dialogue: Dialogue, sessions: Sequence[SimulatedSession], record: Mapping[str, Any]
    ) -> Timeline:
        """Return the timeline; `sessions` and `record` are those of this call."""
        now_seconds = time.monotonic()
        return timeline_of(
            dialogue,
            seconds=self.report.seconds,
            acted=self.player.acted,
            segments=self.call.playout.segments(now_seconds),
            transcripts=self.report.transcripts,
            tools=self._tools(sessions, record),
        )

    def _tools(self, sessions: Sequence[SimulatedSession], record: Mapping[str, Any]) -> list[ToolRun]:
        """Return the calls of functions: the model knows when it called them, and the record how each ended."""
        known = [dict(tool) for tool in record["tools"]]
        return [
            self._run(item.name or "", (response.ended_seconds or 0.0) - self.started_at_seconds, known)
            for session in sessions
            for response in session.responses
            for item in response.items
            if item.type == "function_call"
        ]

    def _run(self, name: str, called: float, known: list[dict[str, Any]]) -> ToolRun:
        if name in ENDS_CALL and self.handover is not None:
            done = self.handover.at_seconds - self.started_at_seconds
            exten = self.handover.request.exten
            return ToolRun(name, called, done, f"to {exten}" if exten else "done")
        tool = next((each for each in known if each["name"] == name), None)
        if tool is None:
            return ToolRun(name, called, called, "unknown")
        known.remove(tool)
        return ToolRun(name, called, called + float(tool["seconds"]), str(tool["outcome"]))


async def hold_call(url: str, dialogue: Dialogue, ami: AmiDouble, *, show: Show | None, caller: str) -> HeldCall:
    """Place a call, play the dialogue in it, and return the call when it has ended.

    Args:
        url: address of the service.
        dialogue: the dialogue.
        ami: the service's way to Asterisk.
        show: prints a line about each message; None: prints nothing.
        caller: number of the caller.

    Raises:
        CallError: the service cannot be reached.
        DemoError: the dialogue did not come to its end.
    """
    async with await place_call(url, metadata={"from": caller, "to": CALLEE}) as call, _printed(call, show):
        player = DialoguePlayer(call, dialogue)
        handovers: list[Handover] = []
        asterisk = asyncio.create_task(_act_as_asterisk(call, ami, handovers))
        try:
            await player.play()
        except DialogueStalled as error:
            raise DemoError(str(error)) from None
        finally:
            if not handovers:  # a hang-up that has begun goes on
                asterisk.cancel()
            await asyncio.gather(asterisk, return_exceptions=True)
        await call.hang_up()
    report = call.report()
    return HeldCall(
        report,
        call.playout.started_at_seconds,
        call.record.caller.pcm(round(report.seconds * SAMPLE_RATE_HZ)),
        call.heard_pcm,
        player,
        call,
        handovers[0] if handovers else None,
    )


async def _act_as_asterisk(call: SimulatedCall, ami: AmiDouble, handovers: list[Handover]) -> None:
    """Take the call from AVR Core when the service transfers it or hangs it up."""
    await ami.wait_for(lambda ami: _request_for(call, ami), timeout_seconds=LONGEST_CALL_SECONDS)
    request = _request_for(call, ami)
    assert request is not None
    handovers.append(Handover(request, time.monotonic()))
    await call.hang_up()


def _request_for(call: SimulatedCall, ami: AmiDouble) -> AmiRequest | None:
    return next((request for request in ami.requests if request.uuid == call.uuid), None)


class _Printer:
    """Prints the messages of a call as they arrive."""

    def __init__(self, call: SimulatedCall, show: Show) -> None:
        self._call = call
        self._show = show
        self._shown = 0

    async def run(self) -> None:
        """Print until cancelled, or until the call ends."""
        while True:
            await self._call.wait_for(self._has_more, timeout_seconds=LONGEST_CALL_SECONDS)
            self.print_new()

    def print_new(self) -> None:
        """Print the messages that came since the last time."""
        messages = self._call.messages[self._shown :]
        self._shown += len(messages)
        for message in messages:
            match message:
                case Transcript(at_seconds, role, text):
                    self._show(f"   {at_seconds:6.2f} s  {role + ':':<7} {one_line(text)}")
                case Interruption(at_seconds, _, dropped_samples):
                    seconds = dropped_samples / SAMPLE_RATE_HZ
                    self._show(f"   {at_seconds:6.2f} s  the caller interrupts: {seconds:.1f} s are not heard")
                case _:
                    pass

    def _has_more(self, call: SimulatedCall) -> bool:
        return len(call.messages) > self._shown


@asynccontextmanager
async def _printed(call: SimulatedCall, show: Show | None) -> AsyncIterator[None]:
    if show is None:
        yield
        return
    printer = _Printer(call, show)
    printing = asyncio.create_task(printer.run())
    try:
        yield
    finally:
        printing.cancel()
        await asyncio.gather(printing, return_exceptions=True)
        printer.print_new()
