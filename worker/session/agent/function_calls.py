"""The model's function calls, from the call to its output: tools of the operator's, hang-up and transfer."""

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

# The output of a call that may have run, or not, when its session was lost.
INTERRUPTED = "interrupted, outcome unknown"
# The output of a hang-up or transfer that the model asks for after a transfer.
TRANSFERRED = "not done: the caller has been transferred already"
# A tool whose runs took their worker or its process down so often is not run again, also if it is idempotent.
MAX_RUNS = 2
# Outputs that wait for the session to be up; a call runs no more tools at once (`running_tools.py`).
MAX_EARLY = 64
# A tool of an MCP server is waited for so long. The service runs it, and reports its end or not.
REMOTE_TOOL_SECONDS = 60.0
# A model may try number after number.
MAX_LOGGED_REFUSALS = 10
# Stands for the response of calls that a lost session left open.
RESTORED = "restored"


class FunctionCalls:
    """Those of one session. Methods that return True want the model to be asked for a response.

    Attributes:
        has_transferred: the call was transferred, and is not to be hung up or transferred again.
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
            conversation: of the session.
            replay: puts outputs into the session.
            agent: carries orders behind its words.
            journal: the dispatcher knows of a call before it runs.
            outbox: takes what is to be done.
            new_id: ids of items of ours.
            uuid: of the call.
            transfers: where the model may transfer the caller to.
            built_in: names of the built-in tools; a file's tool of such a name is one of the operator's.
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
        self._parting: dict[str, list[wire.TelephonyCommand]] = {}
        self._elsewhere: dict[str, float] = {}
        self._is_up = False
        # Another dispatcher attached before the lost session was taken up: it has none of the orders.
        self._was_attached_early = False
        # (output, answer, lost)
        self._early: dict[str, tuple[str, bool, bool]] = {}

    @property
    def any_open(self) -> bool:
        """Whether a call has no output yet."""
        return bool(self._calls.open_calls)

    def began_elsewhere(self, response_id: str, item_id: str, now_seconds: float) -> None:
        """The service runs a tool of an MCP server by itself, but does not go on speaking by itself."""
        self._calls.begin(response_id, item_id)
        self._elsewhere[item_id] = now_seconds

    def ended_elsewhere(self, item_id: str) -> bool:
        """And has its output."""
        self._elsewhere.pop(item_id, None)
        return self._calls.end(item_id)

    def overdue_elsewhere(self, now_seconds: float) -> list[str]:
        """Return the tools of MCP servers whose end has not come within REMOTE_TOOL_SECONDS."""
        return [item for item, began in self._elsewhere.items() if now_seconds - began >= REMOTE_TOOL_SECONDS]

    def called(self, call: Item, response_id: str) -> bool:
        """The model has called a function: it is begun at once, beside what is still being said."""
        self._calls.begin(response_id, call.call_id)
        self._outbox.happened("tool_call", call_id=call.call_id, name=call.name, arguments=call.text)
        return self._begin(call, response_id)

    def confirmed(self, call_id: str) -> None:
        """The dispatcher knows that the call begins: it may."""
        call = self._unconfirmed.pop(call_id, None)
        if call is not None:
            self._outbox.actions.append(RunTool(call_id, *call))

    def ended(self, call_id: str, output: str, *, answer: bool = True) -> bool:
        """A call has its output; `answer`: the model is to say something to it."""
        if not self._is_up:
            # Of a tool that the session before this one began.
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
        """Take note that a tool was cut off, and what it did is not known: run an idempotent one again."""
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
        """What came of a hang-up or transfer."""
        if done.ok and any(
            item.call_id == done.id and item.name == built_in.TRANSFER and item.kind is ItemKind.FUNCTION_CALL
            for item in self._conversation
        ):
            self.has_transferred = True
        # If it worked, the call is on its way out, and more words would not be heard.
        wanted = self._calls.ordered(done.id) or not self._is_up
        return wanted and self.ended(done.id, done.message or "done", answer=not done.ok)

    def part(self, response_id: str | None) -> None:
        """A response is over: what it wants done with the call follows its last words."""
        for order in self._parting.pop(response_id or "", ()):
            self._agent.send_command(order)

    def response_done(self, response_id: str) -> bool:
        """A response is over: there will be no more calls of it."""
        return self._calls.response_done(response_id)

    def resume(self, checkpoint: Checkpoint, idempotent: frozenset[str]) -> bool:
        """Calls that a lost session left open: what runs goes on, what may have run does not run again."""
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
        """Another dispatcher has the call, and knows neither what is about to run nor what was ordered."""
        self._was_attached_early = not self._is_up
        for call_id in self._unconfirmed:
            self._outbox.record(wire.Tool(call_id))
        if self.has_transferred:
            # The other dispatcher may not know of the transfer.
            for order in self._calls.open_commands:
                self.command_done(wire.TelephonyDone(order.id, True, TRANSFERRED))
        waiting = {order.id for orders in self._parting.values() for order in orders}
        for order in self._calls.open_commands:
            if order.id not in waiting:
                self._agent.send_command(order)

    def _keep_command(self, call: Item) -> None:
        """Keep an order that the dispatcher has: the dispatcher may die before it carries the order out."""
        try:
            self._calls.order(call.call_id, built_in.parse(call.name, call.text, self._transfers))
        except InvalidArguments:
            # No order of this dispatcher's is behind it.
            return

    def _begin(self, call: Item, response_id: str) -> bool:
        self._conversation.changed(call)
        if call.name not in self._built_in:
            # The dispatcher knows of it before its handler runs: it is not to run twice.
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
        # It is carried out when the words that go with it have been heard, and they may come after it.
        order = self._calls.order(call.call_id, wanted)
        if response_id == RESTORED:
            self._agent.send_command(order)
        else:
            self._parting.setdefault(response_id, []).append(order)
        return False

    def _log_refusal(self, entry: str) -> None:
        """Tell the operator how to permit the transfer, once for each number up to a bound."""
        if entry not in self._logged_refusals and len(self._logged_refusals) < MAX_LOGGED_REFUSALS:
            self._logged_refusals.add(entry)
            self._log.warning("transfer refused", entry=entry, hint=self._transfers.how_to_permit(entry))


def _may_run_again(call: Item, idempotent: frozenset[str]) -> bool:
    return call.name in idempotent and call.runs < MAX_RUNS
