"""Remote MCP servers as the Realtime API uses them: it lists and calls their tools itself.

The order of events is that of OpenAI's guide to Realtime with tools, and of `openai-ruby`'s example
`examples/realtime/mcp_approval.rb`. A call that needs approval (the default) waits for the client's item
`mcp_approval_response`. After the call has ended, the client has to request the response that reports the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from simulator.realtime.conversation import Conversation, Item, Origin
from simulator.realtime.errors import RequestError
from simulator.realtime.settings import Behaviour
from simulator.schedule import Schedule


class McpHost(Protocol):
    """The part of a session that MCP servers use."""

    behaviour: Behaviour
    conversation: Conversation
    schedule: Schedule

    def emit(self, kind: str, **content: Any) -> None:
        """Send a server event."""

    def new_id(self, prefix: str) -> str:
        """Return a unique id."""


class McpServers:
    """The MCP servers among the tools of a session."""

    def __init__(self, host: McpHost) -> None:
        self._host = host
        self._servers: dict[str, dict[str, Any]] = {}

    def configure(self, tools: list[dict[str, Any]], now: float) -> None:
        """Take the session's tools, and list the tools of new servers."""
        servers = {tool["server_label"]: tool for tool in tools if tool["type"] == "mcp"}
        new = [label for label in servers if label not in self._servers]
        self._servers = servers
        for label in new:
            self._list(label, now)

    def needs_approval(self, label: str) -> bool:
        """Tell whether a person must approve calls of this server's tools; a filter by tool counts as yes."""
        return bool(self._servers.get(label, {}).get("require_approval") != "never")

    def call(self, item: Item, output_index: int, now: float) -> None:
        """Run a call whose item is in the conversation; its result arrives later."""
        where = {"item_id": item.id, "output_index": output_index}
        self._host.emit("response.mcp_call.in_progress", **where)
        self._after(now, lambda: self._called(item, where))

    def request_of(self, response: Item) -> Item:
        """Return the request that a client's approval response decides.

        Raises:
            RequestError: no call waits for this response. The API's text for this case is not known.
        """
        request_id = response.approval_request_id
        request = self._host.conversation.find(request_id or "")
        if request is None or request.type != "mcp_approval_request":
            raise RequestError(
                f"Error adding item: no approval request with id '{request_id}' found.",
                code="invalid_value",
                param="item.approval_request_id",
            )
        return request

    def approve(self, request: Item, now: float) -> None:
        """Run a call that a client has approved."""
        item = Item(
            self._host.new_id("mcp"),
            "mcp_call",
            Origin.MODEL,
            server=request.server,
            name=request.name,
            arguments=request.arguments,
            approval_request_id=request.id,
        )
        previous_id = self._host.conversation.add(item)
        self._host.emit("conversation.item.added", previous_item_id=previous_id, item=item.wire())
        self.call(item, 0, now)

    def _list(self, label: str, now: float) -> None:
        item = Item(self._host.new_id("mcpl"), "mcp_list_tools", Origin.MODEL, server=label)
        previous_id = self._host.conversation.add(item)
        self._host.emit("conversation.item.added", previous_item_id=previous_id, item=item.wire())
        self._host.emit("mcp_list_tools.in_progress", item_id=item.id)
        self._after(now, lambda: self._listed(item))

    def _listed(self, item: Item) -> None:
        behaviour = self._host.behaviour
        if behaviour.mcp_fails:
            self._host.emit("mcp_list_tools.failed", item_id=item.id)
            return
        server = self._servers.get(item.server or "", {})
        allowed = server.get("allowed_tools")
        item.tools = [
            {
                "name": name,
                "description": f"The tool {name}.",
                "input_schema": {"type": "object"},
                "annotations": None,
            }
            for name in behaviour.mcp_tools
            if not isinstance(allowed, list) or name in allowed
        ]
        self._host.emit("mcp_list_tools.completed", item_id=item.id)
        self._done(item)

    def _called(self, item: Item, where: dict[str, Any]) -> None:
        item.failed = self._host.behaviour.mcp_fails
        item.output = None if item.failed else self._host.behaviour.mcp_output
        self._host.emit(f"response.mcp_call.{'failed' if item.failed else 'completed'}", **where)
        self._done(item)

    def _done(self, item: Item) -> None:
        conversation = self._host.conversation
        if item in conversation.items:
            previous_id = conversation.previous_id(item)
            self._host.emit("conversation.item.done", previous_item_id=previous_id, item=item.wire())

    def _after(self, now: float, action: Callable[[], None]) -> None:
        self._host.schedule.at(now + self._host.behaviour.mcp_seconds, lambda _due: action())
