"""Function calls of the model, from the call to its output: the operator's tools, hang-up and transfer."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from common.link import wire
from common.settings.extensions import TransferRule
from worker.session.action_queue import ActionQueue
from worker.session.actions import RunTool
from worker.session.agent.agent_speech import AgentSpeech
from worker.session.agent.tool_calls import ToolCalls
from worker.session.memory.checkpoint import Checkpoint
from worker.session.memory.conversation import Conversation, Item, ItemKind
from worker.session.memory.replay import Replay
from worker.session.memory_writer import MemoryWriter
from worker.tools import built_in
from worker.tools.errors import InvalidArguments

# The output of a call whose effect is unknown, because its session was lost.
INTERRUPTED = "interrupted, outcome unknown"
# The output of a hang-up or transfer that the model requests after a transfer.
TRANSFERRED = "not done: the caller has been transferred already"
# Maximum runs of an idempotent tool, because the tool itself may crash its process or its worker.
MAX_RUNS = 2
# Maximum outputs that wait for the next session; a call runs no more tools at once (`running_tools.py`).
MAX_EARLY = 64
# Maximum time of a tool of an MCP server. The API runs it, and may never report its end.
REMOTE_TOOL_SECONDS = 60.0
# Maximum logged refusals of a call, because a model may try many numbers.
MAX_LOGGED_REFUSALS = 10
# Stands for a response id for calls that a lost session left open.
RESTORED = "restored"


class FunctionCalls:
    """Function calls of one session. Methods return True if the caller must send `response.create`.

    Attributes:
        has_transferred: the call was transferred, so it must not be hung up or transferred again.
    """

    def __init__(
        self,
        conversation: Conversation,
        *,
        replay: Replay,
        agent: AgentSpeech,
        memory_writer: MemoryWriter,
        outbox: ActionQueue,
        new_id: Callable[[], str],
        uuid: str,
        transfers: TransferRule,
        built_in: frozenset[str] = built_in.BUILT_IN,
    ) -> None:
        """Build it.

        Args:
            conversation: items of the session.
            replay: adds outputs to the API's conversation.
            agent: sends telephony commands after the agent's words.
            memory_writer: records a call at the dispatcher before the call runs.
            outbox: takes the actions.
            new_id: makes ids for new items.
            uuid: id of the telephone call.
            transfers: destinations to which the model may transfer the caller.
            built_in: names of the built-in tools that no tool of the operator replaces.
        """
        self._conversation = conversation
        self._replay = replay
        self._agent = agent
        self._memory_writer = memory_writer
        self._outbox = outbox
        self._new_id = new_id
        self.has_transferred = False
        self._log = structlog.get_logger().bind(uuid=uuid)
        self._transfers = transfers
        self._built_in = built_in
        self._logged_refusals: set[str] = set()
        self._calls = ToolCalls()
        self._unconfirmed: dict[str, tuple[str, str]] = {}
        self._commands: dict[str, list[wire.TelephonyCommand]] = {}
        self._elsewhere: dict[str, float] = {}
        self._is_up = False
        # Another dispatcher attached before this session restored the lost one: it has no telephony commands.
        self._was_attached_early = False
        # (output, answer, lost)
        self._early: dict[str, tuple[str, bool, bool]] = {}

    @property
    def any_open(self) -> bool:
        """Whether a call has no output yet."""
        return bool(self._calls.open_calls)

    def began_elsewhere(self, response_id: str, item_id: str, now_seconds: float) -> None:
        """Add a call of a tool on an MCP server, which the API runs; it sends no response afterwards."""
        self._calls.begin(response_id, item_id)
        self._elsewhere[item_id] = now_seconds

    def ended_elsewhere(self, item_id: str) -> bool:
        """End a call of a tool on an MCP server."""
        self._elsewhere.pop(item_id, None)
        return self._calls.end(item_id)

    def overdue_elsewhere(self, now_seconds: float) -> list[str]:
        """Return the tools of MCP servers that have not ended within REMOTE_TOOL_SECONDS."""
        return [item for item, began in self._elsewhere.items() if now_seconds - began >= REMOTE_TOOL_SECONDS]

    def called(self, call: Item, response_id: str) -> bool:
        """Begin a function call of the model at once, while the agent may still be speaking."""
        self._calls.begin(response_id, call.call_id)
        self._outbox.happened("tool_call", call_id=call.call_id, name=call.name, arguments=call.text)
        return self._begin(call, response_id)

    def confirmed(self, call_id: str) -> None:
        """Run a tool whose call the dispatcher has recorded."""
        call = self._unconfirmed.pop(call_id, None)
        if call is not None:
            self._outbox.actions.append(RunTool(call_id, *call))

    def ended(self, call_id: str, output: str, *, answer: bool = True) -> bool:
        """Add the output of a call.

        Args:
            call_id: id of the function call.
            output: text for the model.
            answer: the model must answer the output.
        """
        if not self._is_up:
            # The session before this one began the tool.
            if len(self._early) < MAX_EARLY:
                self._early[call_id] = (output, answer, False)
            return False
        if call_id not in self._calls.open_calls:
            return False
        self._replay.add(
            self._new_id(), kind=ItemKind.FUNCTION_CALL_OUTPUT, call_id=call_id, text=output, silent=not answer
        )
        self._memory_writer.write()
        self._outbox.happened("tool_result", call_id=call_id, output=output)
        return self._calls.end(call_id, answer=answer)

    def lost(self, call_id: str, output: str, idempotent: frozenset[str]) -> bool:
        """Run an interrupted tool again if it is idempotent; otherwise end its call with `output`."""
        if not self._is_up:
            if len(self._early) < MAX_EARLY:
                self._early[call_id] = (output, True, True)
            return False
        for call in self._conversation:
            if (
                call.kind is ItemKind.FUNCTION_CALL
                and call.call_id == call_id
                and call_id in self._calls.open_calls
                and _may_run_again(call, idempotent)
            ):
                return self._begin(call, RESTORED)
        return self.ended(call_id, output)

    def command_done(self, done: wire.TelephonyDone) -> bool:
        """Take the result of a hang-up or transfer."""
        if done.ok and any(
            item.call_id == done.id and item.name == built_in.TRANSFER and item.kind is ItemKind.FUNCTION_CALL
            for item in self._conversation
        ):
            self.has_transferred = True
        # After a success the call is about to end, and the caller would hear no more words.
        wanted = self._calls.command_done(done.id) or not self._is_up
        return wanted and self.ended(done.id, done.message or "done", answer=not done.ok)

    def send_commands(self, response_id: str | None) -> None:
        """Send the telephony commands of a finished response after its last words."""
        for command in self._commands.pop(response_id or "", ()):
            self._agent.send_command(command)

    def response_done(self, response_id: str) -> bool:
        """Note that a response is done, so it adds no more calls."""
        return self._calls.response_done(response_id)

    def resume(self, checkpoint: Checkpoint, idempotent: frozenset[str]) -> bool:
        """Restore the calls that a lost session left open.

        Running tools continue. A tool that may have run does not run again, unless it is idempotent.
        """
        self._is_up = True
        items = list(self._conversation)
        answered = {item.call_id for item in items if item.kind is ItemKind.FUNCTION_CALL_OUTPUT}
        calls = [item for item in items if item.kind is ItemKind.FUNCTION_CALL and item.call_id not in answered]
        for call in calls:
            self._calls.begin(RESTORED, call.call_id)
        for call in calls:
            if call.call_id in self._early:
                output, answer, lost = self._early.pop(call.call_id)
                if lost and _may_run_again(call, idempotent):
                    self._begin(call, RESTORED)
                else:
                    self.ended(call.call_id, output, answer=answer)
            elif call.call_id in checkpoint.running:
                continue
            elif call.call_id in checkpoint.known_commands and not self._was_attached_early:
                self._keep_command(call)
            elif call.started and not _may_run_again(call, idempotent):
                self.ended(call.call_id, INTERRUPTED)
            else:
                self._begin(call, RESTORED)
        self._early.clear()
        return self._calls.response_done(RESTORED)

    def attached(self) -> None:
        """Report tools that are about to run, and pending telephony commands, to another dispatcher."""
        self._was_attached_early = not self._is_up
        for call_id in self._unconfirmed:
            self._outbox.record(wire.Tool(call_id))
        if self.has_transferred:
            # The other dispatcher may not know of the transfer.
            for command in self._calls.open_commands:
                self.command_done(wire.TelephonyDone(command.id, True, TRANSFERRED))
        waiting = {command.id for commands in self._commands.values() for command in commands}
        for command in self._calls.open_commands:
            if command.id not in waiting:
                self._agent.send_command(command)

    def _keep_command(self, call: Item) -> None:
        """Keep a telephony command that the dispatcher has, as the dispatcher may die before its execution."""
        try:
            self._calls.add_command(call.call_id, built_in.parse(call.name, call.text, self._transfers))
        except InvalidArguments:
            # The call has no telephony command.
            return

    def _begin(self, call: Item, response_id: str) -> bool:
        self._conversation.changed(call)
        if call.name not in self._built_in:
            # The dispatcher records the tool before it runs, so that no other session runs it again.
            call.started = True
            call.runs += 1
            self._unconfirmed[call.call_id] = (call.name, call.text)
            self._memory_writer.write()
            self._outbox.record(wire.Tool(call.call_id))
            return False
        try:
            wanted = built_in.parse(call.name, call.text, self._transfers)
        except InvalidArguments as error:
            if isinstance(error, built_in.TransferRefused):
                self._log_refusal(error.entry)
            return self.ended(call.call_id, str(error))
        if self.has_transferred:
            return self.ended(call.call_id, TRANSFERRED, answer=False)
        # The command follows the words of its response, and the response may add words after the call.
        command = self._calls.add_command(call.call_id, wanted)
        if response_id == RESTORED:
            self._agent.send_command(command)
        else:
            self._commands.setdefault(response_id, []).append(command)
        return False

    def _log_refusal(self, entry: str) -> None:
        """Log how the operator can permit the transfer, once for each number up to MAX_LOGGED_REFUSALS."""
        if entry not in self._logged_refusals and len(self._logged_refusals) < MAX_LOGGED_REFUSALS:
            self._logged_refusals.add(entry)
            self._log.warning("transfer refused", entry=entry, hint=self._transfers.how_to_permit(entry))


def _may_run_again(call: Item, idempotent: frozenset[str]) -> bool:
    return call.name in idempotent and call.runs < MAX_RUNS
