"""The I/O of a call's commands to Asterisk: avr-ami hangs up and transfers."""

from __future__ import annotations

import asyncio
from typing import Protocol as Interface

import structlog

from common.link import wire
from common.observe.metrics import FallbackOutcome
from dispatcher.asterisk.ami import Ami, AmiError
from dispatcher.asterisk.transfers import Transfers
from dispatcher.call.actions import TransferAway
from dispatcher.call.call import Call
from dispatcher.call.states import State

FIRST_PRIORITY = "1"


class AsteriskOwner(Interface):
    """The shell of a call, as it hears what avr-ami made of commands."""

    def executed(self, command: wire.TelephonyCommand, ok: bool, message: str) -> None:
        """Note what avr-ami made of a command."""

    def transferred_away(self, outcome: FallbackOutcome) -> None:
        """Note the outcome of the transfer of a call on its way out."""


class AsteriskRunner:
    """Carries out commands of one call, one after the other."""

    def __init__(self, owner: AsteriskOwner, call: Call, ami: Ami, transfers: Transfers) -> None:
        """Make a runner that has nothing to do yet."""
        self._owner = owner
        self._call = call
        self._ami = ami
        self._transfers = transfers
        self._log = structlog.get_logger()
        self._task: asyncio.Task[None] | None = None

    def execute(self, command: wire.TelephonyCommand) -> None:
        """Carry out a command; the owner gets the result."""
        self._task = asyncio.create_task(self._execute(command))

    def transfer_away(self, wanted: TransferAway) -> None:
        """Transfer a call on its way out, if that is allowed; the owner gets the outcome."""
        self._task = asyncio.create_task(self._transfer_away(wanted))

    async def settled(self) -> None:
        """Wait until the last command is done."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _execute(self, command: wire.TelephonyCommand) -> None:
        log = self._log.bind(uuid=self._call.uuid)
        try:
            if command.action == wire.TelephonyAction.TRANSFER:
                message = await self._ami.transfer(
                    self._call.uuid, command.extension, command.context, command.priority
                )
            else:
                message = await self._ami.hang_up(self._call.uuid)
        except AmiError as error:
            tell = log.error if error.is_fault else log.info
            tell("telephony command failed", action=command.action, reason=str(error))
            self._owner.executed(command, False, str(error))
        else:
            log.info("telephony command carried out", action=command.action)
            self._owner.executed(command, True, message)

    async def _transfer_away(self, wanted: TransferAway) -> None:
        log = self._log.bind(uuid=self._call.uuid)
        outcome = FallbackOutcome.FAILED
        try:
            refusal = await self._transfers.refusal(self._call.identity.metadata.get("from", ""))
            if refusal is not None:
                outcome = FallbackOutcome.REFUSED
                log.warning("call not transferred", reason=refusal)
            elif self._call.state is not State.ENDED:
                await self._ami.transfer(self._call.uuid, wanted.extension, wanted.context, FIRST_PRIORITY)
                outcome = FallbackOutcome.TRANSFERRED
            else:
                outcome = FallbackOutcome.HUNG_UP
        except AmiError as error:
            log.error("call not transferred", reason=str(error))
        except Exception:
            log.exception("call not transferred")
        self._owner.transferred_away(outcome)
