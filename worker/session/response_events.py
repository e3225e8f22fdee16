"""Events of the Realtime API about responses: audio, tool calls and errors."""

from __future__ import annotations

from typing import Any

from common.link.wire import EndReason, Outcome, Reason
from common.observe.metrics import TURN_PARTS
from worker.realtime.api_values import checked_id, checked_text, id_or_none
from worker.realtime.bad_input import BadInput
from worker.realtime.errors import EMPTY_COMMIT, ErrorEvent, Severity
from worker.realtime.usage import Usage
from worker.session.actions import Metric, Used
from worker.session.agent.response_ending import Ending, ending_of
from worker.session.agent.response_scheduler import METADATA_KEY, AnswerKind
from worker.session.caller.caller_side import CallerSide
from worker.session.lifecycle import Lifecycle
from worker.session.memory.conversation import ItemKind
from worker.session.parts import SessionParts
from worker.session.states import State


class ResponseEvents:
    """Handlers of one session for events about responses."""

    def __init__(self, parts: SessionParts, life: Lifecycle, caller: CallerSide) -> None:
        self._parts = parts
        self._life = life
        self._caller = caller

    def created(self, event: dict[str, Any], now_seconds: float) -> None:
        """Handle the beginning of a response."""
        parts = self._parts
        response_id = checked_id(event["response"]["id"])
        talks_over = parts.memory_writer.speaking and parts.updates.interrupt_response
        talks_over |= parts.secret_entry.is_on
        parts.turn_clock.begun(response_id, now_seconds)
        metadata = event["response"].get("metadata")
        request_id = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
        parts.answers.created(response_id, now_seconds, request_id=str(request_id or ""), talks_over=talks_over)

    def audio_delta(self, event: dict[str, Any], now_seconds: float) -> None:
        """Pass audio of a reply to the caller."""
        parts = self._parts
        if not parts.agent.audio_delta(event):
            return
        parts.answers.heard(event["response_id"], now_seconds)
        turn = parts.turn_clock.answered(now_seconds)
        if turn is not None:
            parts.out.report(Metric.TURN_LATENCY_SECONDS, sum(turn))
            for part, seconds in zip(TURN_PARTS, turn, strict=True):
                parts.out.report(Metric.TURN_PART_SECONDS, seconds, part)

    def output_added(self, event: dict[str, Any], now_seconds: float) -> None:
        """Note an item that a response announces. If the item is a remote tool's call, the tool runs now."""
        parts, item = self._parts, event["item"]
        parts.answers.item_begun(checked_id(event["response_id"]), checked_id(item["id"]))
        if item["type"] == "mcp_call":
            response_id = checked_id(event["response_id"])
            parts.calls.began_elsewhere(response_id, checked_id(item["id"]), now_seconds)
            parts.answers.called(response_id, now_seconds)

    def output_done(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take a complete item of a response; begin a function call at once, even while the agent speaks."""
        parts, item = self._parts, event["item"]
        parts.answers.item_done(checked_id(event["response_id"]), checked_id(item["id"]))
        parts.agent.item_done(item["id"])
        parts.agent.send_transcripts(now_seconds)
        if item["type"] == "mcp_approval_request":
            self._approval_asked(item, checked_id(event["response_id"]), now_seconds)
        if item["type"] != "function_call" or item.get("status") == "incomplete":
            return
        # All fields are checked before one is stored, so that dispatcher and tool get the same call.
        response_id, item_id = checked_id(event["response_id"]), checked_id(item["id"])
        call_id, name = checked_id(item["call_id"]), checked_id(item["name"])
        arguments = checked_text(item.get("arguments") or "{}")
        known = parts.conversation.insert(item_id, None, id_or_none(event.get("previous_item_id")))
        parts.replay.made(known.item_id)
        known.kind, known.call_id, known.name, known.text = ItemKind.FUNCTION_CALL, call_id, name, arguments
        parts.answers.called(response_id, now_seconds)
        parts.turn_clock.stopped(response_id, now_seconds)
        wanted = parts.calls.called(known, response_id)
        if parts.answers.responses.find(response_id) is None:
            # The response has timed out, so its `response.done` may never come.
            parts.calls.send_commands(response_id)
            wanted = parts.calls.response_done(response_id) or wanted
        if wanted:
            parts.answers.owe(AnswerKind.TOOL, now_seconds)

    def done(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the end of a response."""
        parts, response = self._parts, event["response"]
        ending = ending_of(response)
        self._over(checked_id(response["id"]), ending, now_seconds)
        if response.get("usage"):
            self._count(response["usage"])
        if ending.error is not None:
            parts.out.report(Metric.UPSTREAM_ERROR, label=ending.error.code)
            parts.log.warning("response failed", code=ending.error.code, reason=ending.error.message)
            self._end_session_of(ending.error)
        elif ending.status == "incomplete":
            parts.log.warning("response incomplete", reason=ending.detail)

    def tick(self, now_seconds: float) -> None:
        """Time out a response without events, and remote tools without an end."""
        parts = self._parts
        silent = parts.answers.tick(now_seconds, caller_speaks=parts.memory_writer.speaking)
        if silent is not None:
            self._give_up(*silent, now_seconds)
        for item_id in parts.calls.overdue_elsewhere(now_seconds):
            parts.log.warning("remote tool timed out", effect="the answer does not wait for the tool any longer")
            self._remote_tool_ended(item_id, now_seconds)

    def _count(self, usage: object) -> None:
        try:
            self._parts.out.actions.append(Used(Usage.from_response(usage)))
        except ValueError:
            self._parts.out.report(Metric.UPSTREAM_ERROR, label=BadInput.USAGE)

    def _over(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """End a response. Its telephony commands are sent before the next answer is requested."""
        parts = self._parts
        is_last = parts.answers.responses.active_id in ("", response_id)
        parts.agent.response_over(response_id, is_last=is_last)
        parts.agent.send_transcripts(now_seconds)
        parts.calls.send_commands(response_id)
        parts.turn_clock.stopped(response_id, now_seconds)
        parts.answers.done(response_id, ending, now_seconds)
        parts.agent.closed_responses.append(response_id)
        if parts.calls.response_done(response_id):
            parts.answers.owe(AnswerKind.TOOL, now_seconds)
        self._caller.unmute()

    def _give_up(self, response_id: str, ending: Ending, now_seconds: float) -> None:
        """End a response without `response.done`, and cancel it, because the API may still generate it."""
        self._over(response_id, ending, now_seconds)
        if response_id:
            self._parts.agent.cancel(response_id)

    # Tools

    def mcp_call_ended(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the end of a remote tool."""
        self._remote_tool_ended(checked_id(event["item_id"]), now_seconds)

    def mcp_tools_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        """Log that this session lacks the tools of an MCP server."""
        self._parts.out.report(Metric.SIDE_ERROR, label="mcp_list_tools_failed")
        self._parts.log.warning("the tools of an MCP server are not available", remedy="check OPENAI_MCP_SERVERS")

    def tool_done(self, call_id: str, output: str, now_seconds: float, *, lost: bool) -> None:
        """Take a tool's result; see `Session.tool_done`."""
        calls = self._parts.calls
        if lost:
            wanted = calls.lost(call_id, output, self._parts.config.idempotent)
        else:
            wanted = calls.ended(call_id, output)
        if wanted:
            self._parts.answers.owe(AnswerKind.TOOL, now_seconds)

    def _remote_tool_ended(self, item_id: str, now_seconds: float) -> None:
        if self._parts.calls.ended_elsewhere(item_id):
            self._parts.answers.owe(AnswerKind.REMOTE_TOOL, now_seconds)

    def _approval_asked(self, item: dict[str, Any], response_id: str, now_seconds: float) -> None:
        """Answer a remote tool that needs an approval, because a caller cannot give one."""
        parts = self._parts
        server, request_id = str(item.get("server_label")), checked_id(item["id"])
        approve = server in parts.config.approved_servers
        parts.log.warning("approval of a remote tool", server=server[:64], approved=approve)
        answer = {"type": "mcp_approval_response", "approval_request_id": request_id, "approve": approve}
        parts.out.upstream({"type": "conversation.item.create", "item": {"id": parts.ids.new(), **answer}})
        parts.answers.called(response_id, now_seconds)
        parts.answers.owe(AnswerKind.REMOTE_TOOL, now_seconds)

    # Errors

    def error(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take an error, which ends the call only if the session cannot continue."""
        parts = self._parts
        error = ErrorEvent.from_event(event["error"])
        parts.out.report(Metric.UPSTREAM_ERROR, label=error.code)
        if error.code == EMPTY_COMMIT:
            self._caller.commit_was_empty()
        refused = parts.updates.refused(error, now_seconds)
        if refused is not True:
            parts.log.warning("upstream error", code=error.code, reason=error.message)
        if self._end_session_of(error):
            return
        if isinstance(refused, str):
            self._life.end(Outcome.FAILED, f"the Realtime API refused the session: {refused}", EndReason.UPSTREAM)
        elif not refused and self._life.state is State.LIVE:
            ended_id = parts.answers.refused(error, now_seconds)
            if ended_id:
                self._give_up(ended_id, Ending.of_error(error), now_seconds)

    def _end_session_of(self, error: ErrorEvent) -> bool:
        """End the session if an error says that the session is over; return whether it is."""
        if error.severity is Severity.SESSION_OVER:
            self._life.release(Reason.DROPPED, error.message)
        elif error.severity is Severity.FATAL:
            self._life.end(Outcome.FAILED, error.message, EndReason.UPSTREAM)
        return self._life.has_ended
