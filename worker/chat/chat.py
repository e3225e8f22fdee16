"""A typed conversation: lines go to the agent, and each turn's time, tokens and cost are shown."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from typing import Final

from common.link import wire
from worker.chat import figures
from worker.chat.dispatcher_stand_in import DispatcherStandIn
from worker.chat.screen import Screen
from worker.chat.typed_lines import LineTooLong, TypedLines
from worker.runner.resources import Resources

TICK_SECONDS: Final = 0.1
CLOSE_SECONDS: Final = 1.0
CREDIT_BYTES: Final = 1 << 20
"""Audio that the session may send ahead. It is discarded at once, and the credit returned."""

HELP: Final = "/keys 12# presses keys, /quit (or Ctrl-D) ends, and any other line goes to the agent"
_KEYS: Final = re.compile(r"[0-9*#A-D]{1,32}")


class Chat:
    """One typed conversation."""

    def __init__(
        self, uuid: str, metadata: dict[str, str], resources: Resources, screen: Screen, *, interrupts: bool
    ) -> None:
        """Build it.

        Args:
            uuid: of the conversation, which tools are told.
            metadata: of the conversation, as AVR Core would send it.
            resources: of a worker.
            screen: shows it.
            interrupts: a line interrupts the agent. Otherwise it waits for the answer to the line before.
        """
        opening = wire.Open(uuid, 1, metadata, 0, CREDIT_BYTES, collects=True)
        self._line = DispatcherStandIn(opening, resources, screen)
        self._screen = screen
        self._interrupts = interrupts
        self._settled = asyncio.Event()
        # Settled, or a tool waits for keys.
        self._wants_line = asyncio.Event()
        self._turns = 0
        self._before = wire.Figures()

    async def run(self, lines: TypedLines) -> int:
        """Converse until the lines end, the agent hangs up, or the session fails; return the exit code."""
        beat = asyncio.create_task(self._beat(), name="beat")
        try:
            self._line.begin()
            if await self._until(self._settled.wait()):
                await self._converse(lines)
        finally:
            beat.cancel()
            await self._end()
        return 1 if self._line.failure else 0

    async def _converse(self, lines: TypedLines) -> None:
        while not self._line.is_over.is_set():
            if not self._interrupts and not await self._until(self._wants_line.wait()):
                return
            reading = asyncio.create_task(lines.next())
            if not await self._until(asyncio.wait([reading])):
                return
            self._screen.typed()
            try:
                line = reading.result()
            except LineTooLong as error:
                self._screen.note(str(error))
                line = ""
            if line is None or line == "/quit":
                return
            self._take(line)

    def _take(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        keys = rest.replace(" ", "").upper()
        if command == "/keys" and _KEYS.fullmatch(keys):
            for digit in keys:
                self._line.press(digit)
            self._turn_begun()
        elif command.startswith("/"):
            self._screen.note(HELP)
            self._screen.prompt()
        elif line and self._line.collection is not None:
            self._screen.note("this line was not sent, because a tool waits for keys: /keys 1234")
        elif line:
            self._line.call.typed(line)
            self._turn_begun()
        else:
            self._screen.prompt()

    def _turn_begun(self) -> None:
        self._turns += 1
        self._settled.clear()
        self._wants_line.clear()

    async def _until(self, event: Awaitable[object]) -> bool:
        """Wait for an event; return False if the conversation is over before it."""
        waits = [asyncio.ensure_future(event), asyncio.ensure_future(self._line.is_over.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return not self._line.is_over.is_set()

    async def _beat(self) -> None:
        """Let the session look at its clocks, and notice when a turn has its answer."""
        while True:
            self._line.call.tick(time.monotonic())
            if not self._settled.is_set() and self._line.is_ready and self._line.call.is_quiet:
                self._settle()
            if self._line.collection is not None:
                self._wants_line.set()
            await asyncio.sleep(TICK_SECONDS)

    def _settle(self) -> None:
        now, latencies = self._line.figures, self._line.figures.latencies_ms
        told = figures.told(self._before, now)
        if len(latencies) > len(self._before.latencies_ms):
            told = f"{latencies[-1] / 1000:.2f} s to the first audio, {told}"
        self._screen.note(told)
        self._before = now
        self._settled.set()
        self._wants_line.set()
        self._screen.prompt()

    async def _end(self) -> None:
        await self._line.close(CLOSE_SECONDS)
        total = figures.told(wire.Figures(), self._line.figures)
        if self._line.failure:
            self._screen.note(f"the conversation failed: {self._line.failure}")
        self._screen.note(f"{self._turns} turn{'' if self._turns == 1 else 's'}: {total}")
