from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.simulator.realtime_driver import Driver, all_of, kinds, only

_CALL = ToolCall(0, "lookup", '{"order":7}', "crm")


def _server(label: str = "crm", **server: Any) -> dict[str, Any]:
    return {
        "type": "mcp",
        "server_label": label,
        "server_url": "https://example.com/mcp",
        "require_approval": "never",
        **server,
    }


def _driver(*servers: dict[str, Any], **behaviour: Any) -> Driver:
    driver = Driver(SimulatorSettings(**behaviour))
    driver.update(tools=[*servers] or [_server()])
    driver.run(0.3)
    return driver


def test_the_tools_of_a_server_are_listed_as_an_item() -> None:
    driver = Driver(SimulatorSettings(mcp_tools=("lookup", "book"), mcp_seconds=0.2))
    events = driver.update(tools=[_server()])
    assert kinds(events) == ["session.updated", "conversation.item.added", "mcp_list_tools.in_progress"]
    assert events[1]["item"]["tools"] == []
    assert driver.run(0.19) == []
    completed, done = driver.run(0.02)
    assert (completed["type"], done["type"]) == ("mcp_list_tools.completed", "conversation.item.done")
    assert completed["item_id"] == done["item"]["id"] == events[1]["item"]["id"]
    assert done["item"]["server_label"] == "crm"
    assert [tool["name"] for tool in done["item"]["tools"]] == ["lookup", "book"]


def test_only_new_servers_and_allowed_tools_are_listed() -> None:
    driver = _driver(mcp_tools=("lookup", "book"))
    driver.update(instructions="Be kind.")
    driver.update(tools=[_server(), _server("bank", allowed_tools=["book"])])
    driver.run(0.3)
    lists = [event["item"] for event in all_of(driver.events, "conversation.item.done")]
    assert [(item["server_label"], [tool["name"] for tool in item["tools"]]) for item in lists] == [
        ("crm", ["lookup", "book"]),
        ("bank", ["book"]),
    ]


def test_unreachable_server_fails_and_the_session_continues() -> None:
    driver = _driver(mcp_fails=True)
    assert kinds(driver.events)[-1] == "mcp_list_tools.failed"
    assert only(driver.respond(), "response.done")["response"]["status"] == "completed"


def test_server_calls_a_tool_and_the_client_asks_for_a_reply() -> None:
    driver = _driver(tool_calls=(_CALL,), mcp_output="on its way")
    events = driver.respond()
    assert kinds(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.output_item.done",
        "response.mcp_call.in_progress",
        "response.done",
        "rate_limits.updated",
    ]
    assert only(events, "response.mcp_call_arguments.done")["arguments"] == '{"order":7}'
    completed, done = driver.run(0.3)
    assert (completed["type"], done["type"]) == ("response.mcp_call.completed", "conversation.item.done")
    assert completed["item_id"] == done["item"]["id"]
    assert (done["item"]["name"], done["item"]["output"], done["item"]["error"]) == ("lookup", "on its way", None)
    assert driver.run(5) == []
    spoken = driver.respond()
    assert only(spoken, "response.output_audio_transcript.done")["transcript"].startswith("greeting two")


def test_a_call_that_fails_has_an_error_and_no_output() -> None:
    driver = _driver(tool_calls=(_CALL,), mcp_fails=True)
    driver.respond()
    failed, done = driver.run(0.3)
    assert failed["type"] == "response.mcp_call.failed"
    assert done["item"]["output"] is None
    assert done["item"]["error"]["type"] == "tool_execution_error"


@pytest.mark.parametrize("approval", [{}, {"require_approval": "always"}, {"require_approval": {"never": {}}}])
def test_a_call_that_needs_approval_waits_for_it(approval: dict[str, Any]) -> None:
    server = {name: value for name, value in _server().items() if name != "require_approval"} | approval
    driver = _driver(server, tool_calls=(_CALL,))
    events = driver.respond()
    request = only(events, "conversation.item.done")["item"]
    assert (request["type"], request["name"], request["server_label"]) == ("mcp_approval_request", "lookup", "crm")
    assert driver.run(60) == []


@pytest.mark.parametrize("approve", [True, False])
def test_decision_about_a_call_runs_it_or_not(approve: bool) -> None:
    server = _server() | {"require_approval": "always"}
    driver = _driver(server, tool_calls=(_CALL,), mcp_output="on its way")
    request_id = only(driver.respond(), "conversation.item.done")["item"]["id"]
    response = {"id": "mcprs_1", "type": "mcp_approval_response", "approve": approve}
    events = driver.send("conversation.item.create", item={**response, "approval_request_id": request_id})
    item = all_of(events, "conversation.item.done")[0]["item"]
    assert item == {**response, "approval_request_id": request_id}
    done = all_of(driver.run(1), "conversation.item.done")
    outcome = [(each["item"]["output"], each["item"]["approval_request_id"]) for each in done]
    assert outcome == [("on its way", request_id)] * approve


def test_decision_about_an_unknown_call_is_refused() -> None:
    driver = _driver(_server())
    response = {"id": "mcprs_1", "type": "mcp_approval_response", "approve": True, "approval_request_id": "mcpr_0"}
    (event,) = driver.send("conversation.item.create", item=response)
    assert event["error"]["param"] == "item.approval_request_id"
    assert driver.session.conversation.find("mcprs_1") is None


def test_functions_and_tools_of_servers_can_be_called_together() -> None:
    driver = _driver(tool_calls=(_CALL, ToolCall(0, "find")))
    response = only(driver.respond(), "response.done")["response"]
    assert [item["type"] for item in response["output"]] == ["mcp_call", "function_call"]
    assert [event["output_index"] for event in all_of(driver.events, "response.output_item.added")] == [0, 1]


def test_output_of_a_server_is_read_by_the_model() -> None:
    short, long = (_driver(tool_calls=(_CALL,), mcp_output=output) for output in ("x", "x" * 400))
    tokens = []
    for driver in (short, long):
        driver.respond()
        driver.run(0.3)
        usage = only(driver.respond(), "response.done")["response"]["usage"]
        tokens.append(usage["input_token_details"]["text_tokens"])
    assert tokens[1] - tokens[0] == pytest.approx(100, abs=1)


def test_a_deleted_list_is_not_done_later() -> None:
    driver = Driver()
    item_id = driver.update(tools=[_server()])[1]["item"]["id"]
    driver.send("conversation.item.delete", item_id=item_id)
    assert kinds(driver.run(1)) == ["mcp_list_tools.completed"]
