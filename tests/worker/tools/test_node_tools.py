"""JavaScript files as AVR documents them, through the tool set of a call and a real Node process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.helpers import eventually
from tests.worker.tools.conftest import OpenRegistry, ToolsDir
from tests.worker.tools.hosted import OTHERS, OUR_SECRETS
from tests.worker.tools.running import METADATA, UUID, names, output, run
from worker.tools.result import MAX_OUTPUT_BYTES
from worker.tools.tool_registry import RegistryLimits
from worker.tools.tool_set import ToolSet

pytestmark = pytest.mark.system


class Api:
    """An operator's HTTP service that answers with the request's own data."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.server = TestServer(web.Application())
        self.server.app.router.add_get("/weather", self._weather)
        self.server.app.router.add_post("/callback", self._callback)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    async def _weather(self, request: web.Request) -> web.Response:
        self.asked.append(dict(request.query))
        if request.query["city"] == "Atlantis":
            raise web.HTTPNotFound
        return web.json_response({"condition": "sunny", "celsius": 21})

    async def _callback(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        return web.json_response({"message": "We will call back"})


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    api = Api()
    await api.server.start_server()
    yield api
    await api.server.close()


@pytest.fixture
async def javascript(tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str) -> Any:
    """Return a function that writes each handler into a file and returns a tool set of these files."""

    async def write(**handlers: str) -> ToolSet:
        for name, handler in handlers.items():
            tools_dir.write(f"{name}.js", f"module.exports = {{ name: '{name}', handler: {handler} }};")
        return await (await open_tool_registry(node=node)).tool_set()

    return write


WEATHER = """
const axios = require("axios");

const inWords = (weather, units) =>
  units === "fahrenheit" ? `${weather.celsius * 1.8 + 32} °F` : `${weather.celsius} °C`;

module.exports = {
  name: "get_forecast",
  description: "Says what the weather in a city is like",

  input_schema: {
    type: "object",
    properties: {
      city: { type: "string", description: "Name of the city" },
      units: { type: "string", enum: ["celsius", "fahrenheit"], description: "Of the temperature" },
    },
    required: ["city"],
  },

  handler: async (uuid, { city, units = "celsius" }) => {
    try {
      const { data } = await axios.get(`${process.env.WEATHER_URL}/weather`, { params: { city } });
      return `In ${city} it is ${data.condition} at ${inWords(data, units)}.`;
    } catch (error) {
      console.error("No weather:", error.message);
      return `There is no weather for ${city}: ${error.message}`;
    }
  },
};
"""

CALL_BACK = """
require("dotenv").config();

const axios = require("axios");

module.exports = {
  name: "call_back",
  description: "Notes that the caller wants to be called back",
  input_schema: {
    type: "object",
    properties: { number: { type: "string" }, priority: { type: "string" } },
    required: ["number"],
  },
  handler: async (
    uuid,
    { number, priority }
  ) => {
    console.log("Call back:", number);
    console.log("UUID:", uuid);
    const url = process.env.CALLBACK_URL || "http://127.0.0.1:1";
    const answer = await axios.post(`${url}/callback`, { uuid, number, priority: priority || 1 });
    return answer.data.message;
  },
};
"""

NO_ARGUMENTS = """
module.exports = {
  name: "opening_hours",
  description: "Says when we are open",
  input_schema: { type: "object", properties: {}, required: [] },
  handler: async (uuid, {}) => "From nine to five",
};
"""


async def test_a_file_that_requires_axios_runs_unchanged(
    *,
    tools_dir: ToolsDir,
    open_tool_registry: OpenRegistry,
    node: str,
    node_modules: str,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEATHER_URL", api.url)
    tools_dir.write("get_forecast.js", WEATHER)
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    (definition,) = tool_set.definitions
    assert definition["description"] == "Says what the weather in a city is like"
    assert definition["parameters"]["required"] == ["city"]
    assert await output(tool_set, "get_forecast", city="Köln") == "In Köln it is sunny at 21 °C."
    told = await output(tool_set, "get_forecast", city="Rome", units="fahrenheit")
    assert told == "In Rome it is sunny at 69.80000000000001 °F."
    assert "status code 404" in await output(tool_set, "get_forecast", city="Atlantis")
    assert [asked["city"] for asked in api.asked] == ["Köln", "Rome", "Atlantis"]
    assert (await run(tool_set, "get_forecast", units="kelvin")).outcome is ToolOutcome.INVALID_ARGUMENTS


async def test_a_file_that_requires_dotenv_reads_the_services_env_file(
    *,
    tools_dir: ToolsDir,
    open_tool_registry: OpenRegistry,
    node: str,
    node_modules: str,
    api: Api,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".env").write_text(f"CALLBACK_URL={api.url}\n")
    monkeypatch.chdir(tmp_path)
    tools_dir.write("call_back.js", CALL_BACK)
    with capture_logs() as lines:
        tool_set = await (await open_tool_registry(node=node)).tool_set()
        assert await output(tool_set, "call_back", number="+15550100") == "We will call back"
        await eventually(lambda: len([line for line in lines if line["event"] == "a tool printed"]) == 2)
    assert api.asked == [{"uuid": UUID, "number": "+15550100", "priority": 1}]
    printed = [line["text"] for line in lines if line["event"] == "a tool printed"]
    assert printed == ["Call back: +15550100", f"UUID: {UUID}"]


async def test_result_contains_the_message_of_a_packages_exception(
    tools_dir: ToolsDir,
    open_tool_registry: OpenRegistry,
    node: str,
    node_modules: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    tools_dir.write("call_back.js", CALL_BACK)
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    result = await run(tool_set, "call_back", number="+15550100")
    assert result.outcome is ToolOutcome.ERROR
    assert result.output.startswith("The tool call_back failed: ")
    assert "ECONNREFUSED" in result.output


async def test_a_tool_without_arguments_runs(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    tools_dir.write("opening_hours.js", NO_ARGUMENTS)
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert await output(tool_set, "opening_hours") == "From nine to five"
    assert (await tool_set.run("opening_hours", "", uuid=UUID, metadata={})).output == "From nine to five"


async def test_python_and_javascript_tools_are_in_order_of_files(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    tools_dir.write("b.js", NO_ARGUMENTS)
    tools_dir.write("a.py", "name = 'a'\ndef handler(uuid, args): ...\n")
    tools_dir.write("c.py", "name = 'opening_hours'\ndef handler(uuid, args): ...\n")
    with capture_logs() as lines:
        tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert names(tool_set) == ["a", "opening_hours"]
    assert await output(tool_set, "opening_hours") == "From nine to five"
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert line["file"] == "c.py"


GIVEN = {
    "two parameters": ("(...given) => given", 2),
    "three parameters": ("(uuid, args, metadata) => [uuid, args, metadata]", 3),
    "a third with a default, which AVR leaves alone": ("(uuid, args, tries = 3) => [uuid, args, tries]", 2),
    "async": ("async (uuid, args, metadata) => [uuid, args, metadata]", 3),
}


@pytest.mark.parametrize(("handler", "parameters"), GIVEN.values(), ids=GIVEN)
async def test_handler_gets_one_argument_per_parameter(handler: str, parameters: int, javascript: Any) -> None:
    tool_set = await javascript(echo=handler)
    told = json.loads(await output(tool_set, "echo", a={"b": [1, None]}))
    assert told[:2] == [UUID, {"a": {"b": [1, None]}}]
    assert told[2:] in ([[METADATA]] if parameters == 3 else [[], [3]])


RESULTS = {
    "a string": ("async () => 'a \"b\"\\n'", 'a "b"\n'),
    "not async": ("() => 'now'", "now"),
    "an object": ("async () => ({ a: [1, null] })", '{"a":[1,null]}'),
    "a number": ("async () => 21.5", "21.5"),
    "nothing": ("async () => {}", "null"),
    "itself": ("async function () { return this.name; }", "it"),
    "half a character": ("async () => 'a\\ud800b'", "a?b"),
    "a line separator": ("async () => 'a\\u2028b'", "a\u2028b"),
}


@pytest.mark.parametrize(("handler", "told"), RESULTS.values(), ids=RESULTS)
async def test_string_result_is_unchanged_and_others_are_json(handler: str, told: str, javascript: Any) -> None:
    assert await output(await javascript(it=handler), "it") == told


async def test_too_long_result_is_truncated_with_a_note(javascript: Any) -> None:
    tool_set = await javascript(
        long="async () => '\\u0001'.repeat(10_000_000)", fits="async () => 'x'.repeat(32768)"
    )
    told = await output(tool_set, "long")
    assert len(told.encode()) == MAX_OUTPUT_BYTES
    assert told.endswith("longer than 32 KiB]")
    assert await output(tool_set, "fits") == "x" * MAX_OUTPUT_BYTES


FAILURES = {
    "throws": ("\nasync () => { throw new RangeError('no Ada'); }", "RangeError: no Ada", "it.js:2"),
    "not async": ("\n\n() => null.x", "TypeError: Cannot read properties of null", "it.js:3"),
    "no error": ("() => { throw 'no Ada'; }", "string: no Ada", ""),
    "nothing at all": ("() => { throw undefined; }", "undefined", ""),
    "hostile": ("() => { throw { get message() { throw 1; }, get name() { throw 1; } }; }", "object", ""),
    "circular": ("() => { const a = {}; a.a = a; return a; }", "TypeError: Converting circular", "host.js"),
    "big integer": ("() => 1n", "TypeError: Do not know how to serialize a BigInt", "host.js"),
    "long": (
        "() => { throw new Error('sk-proj-1234567890 on\\n' + 'x'.repeat(9999)); }",
        "Error: *** on xxx",
        "it.js:1",
    ),
}


@pytest.mark.parametrize(("handler", "told", "where"), FAILURES.values(), ids=FAILURES)
async def test_exception_gives_no_stack_and_its_message_is_not_logged(
    handler: str, told: str, where: str, javascript: Any
) -> None:
    tool_set = await javascript(it=handler)
    with capture_logs() as lines:
        result = await run(tool_set, "it")
    assert result.outcome is ToolOutcome.ERROR
    assert result.output.startswith(f"The tool it failed: {told}")
    assert "\n" not in result.output
    assert len(result.output) < 500
    (line,) = [line for line in lines if line["event"] == "tool called"]
    assert line["error"] == told.partition(":")[0]
    assert line["where"].startswith(where)
    assert "Ada" not in str(line)


MEETING = """(() => {
  const arrived = [];
  return () => new Promise((resolve) => {
    arrived.push(resolve);
    if (arrived.length === 3) arrived.forEach((each) => each("met"));
  });
})()"""


async def test_handlers_run_side_by_side(javascript: Any) -> None:
    tool_set = await javascript(meet=MEETING)
    assert await asyncio.gather(*(output(tool_set, "meet") for _ in range(3))) == ["met"] * 3


async def test_handler_without_an_answer_times_out(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    for name, answer in (("never", "new Promise(() => {})"), ("now", "'now'")):
        tools_dir.write(f"{name}.js", f"module.exports = {{ name: '{name}', handler: () => {answer} }};")
    tool_registry = await open_tool_registry(timeout_seconds=0.2, node=node)
    tool_set = await tool_registry.tool_set()
    assert (await run(tool_set, "never")).outcome is ToolOutcome.TIMEOUT


BAD = {
    "syntax": ("module.exports = {\n  name: 'bad',,\n};", "SyntaxError: Unexpected token ',' (bad.js:2)"),
    "throws": ("\nthrow new Error('no licence');", "Error: no licence (bad.js:2)"),
    "require": ("require('not-there-at-all');", "Error: Cannot find module 'not-there-at-all'"),
    "empty": ("", "handler is no function"),
    "null": ("module.exports = null;", "handler is no function"),
    "no handler": ("module.exports = { name: 'bad' };", "handler is no function"),
    "no name": ("module.exports = { handler: () => {} };", "name is missing"),
    "schema": (
        "module.exports = { name: 'bad', input_schema: { type: 'array' }, handler: () => {} };",
        "input_schema has type 'array'",
    ),
    "long": (
        "module.exports = { name: 'bad', description: 'x'.repeat(1e7), handler: () => {} };",
        "the definition is too long",
    ),
    "exit": ("process.exit(3);", "Node did not survive loading it: exit 3"),
}


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD)
async def test_bad_file_is_named_in_one_line_and_others_work(
    source: str, reason: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    tools_dir.write("bad.js", source)
    tools_dir.write("good.js", NO_ARGUMENTS)
    with capture_logs() as lines:
        tool_registry = await open_tool_registry(node=node)
        tool_set = await tool_registry.tool_set()
    (line,) = [line for line in lines if line["event"] == "a tool file does not load"]
    assert line["file"] == "bad.js"
    assert reason in line["reason"]
    assert "\n" not in line["reason"]
    assert await output(tool_set, "opening_hours") == "From nine to five"


async def test_node_that_does_not_start_leaves_python_tools_working(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("a.js", NO_ARGUMENTS)
    tools_dir.write("b.py", "name = 'b'\ndef handler(uuid, args): return 'done'\n")
    with capture_logs() as lines:
        tool_registry = await open_tool_registry(node="/nowhere/node")
        tool_set = await tool_registry.tool_set()
    (line,) = [line for line in lines if line["event"] == "a tool file does not load"]
    assert line["file"] == "a.js"
    assert "node does not start" in line["reason"]
    assert await output(tool_set, "b") == "done"


async def test_files_load_again_once_node_can_be_started(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str, tmp_path: Path
) -> None:
    tools_dir.write("a.js", NO_ARGUMENTS)
    limits = RegistryLimits(retry_seconds=0, refresh_seconds=60)
    tool_registry = await open_tool_registry(node=str(tmp_path / "node"), limits=limits)
    assert (await tool_registry.tool_set()).definitions == []
    (tmp_path / "node").symlink_to(node)
    assert names(await tool_registry.tool_set()) == ["opening_hours"]


async def test_new_calls_get_an_edited_file_and_old_calls_do_not(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    def write(answer: str, helper: str) -> None:
        tools_dir.write("lib/helper.js", f"exports.answer = '{helper}'; exports.calls = 0;")
        tools_dir.write(
            "a.js",
            f"""
            const helper = require("./lib/helper");
            module.exports = {{
              name: "a",
              handler: () => `{answer} ${{helper.answer}} ${{(helper.calls += 1)}}`,
            }};
            """,
        )

    write("one", "first")
    tool_registry = await open_tool_registry(node=node)
    old = await tool_registry.tool_set()
    assert await output(old, "a") == "one first 1"
    write("two", "second")
    new = await tool_registry.tool_set()
    assert await output(new, "a") == "two second 1"
    assert await output(old, "a") == "one first 2"
    assert await output(await tool_registry.tool_set(), "a") == "two second 2"


async def test_replaced_target_of_a_linked_directory_is_read_again(
    tmp_path: Path, tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    """Replace the target of a link, as Kubernetes does with a mounted ConfigMap."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.js").write_text(
            f"module.exports = {{ name: 'a', handler: () => '{version} ' + __dirname }};"
        )
    (tmp_path / "data").symlink_to("one")
    tools_dir.path.mkdir()
    (tools_dir.path / "a.js").symlink_to("../data/a.js")
    tool_registry = await open_tool_registry(node=node)
    assert await output(await tool_registry.tool_set(), "a") == f"one {tmp_path / 'one'}"
    (tmp_path / "data").unlink()
    (tmp_path / "data").symlink_to("two")
    assert await output(await tool_registry.tool_set(), "a") == f"two {tmp_path / 'two'}"


async def test_packages_beside_the_tool_come_first(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str, node_modules: str
) -> None:
    tools_dir.write("node_modules/axios/index.js", "module.exports = 'the tools own';")
    tools_dir.write("a.js", "module.exports = { name: 'a', handler: () => require('axios') };")
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert await output(tool_set, "a") == "the tools own"


async def test_environment_is_passed_on_without_secrets(javascript: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OUR_SECRETS, *OTHERS):
        monkeypatch.setenv(name, "value")
    tool_set = await javascript(environment="() => Object.keys(process.env)")
    seen = json.loads(await output(tool_set, "environment"))
    assert set(OTHERS) <= set(seen)
    assert "PATH" in seen
    assert not set(OUR_SECRETS) & set(seen)


async def test_first_read_of_a_withheld_variable_is_logged(
    javascript: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pass@host")
    monkeypatch.delenv("STS_TOKEN", raising=False)
    tool_set = await javascript(
        read="() => [process.env.REDIS_URL, process.env.STS_TOKEN, 'REDIS_URL' in process.env]"
    )
    with capture_logs() as lines:
        for _ in range(2):
            assert json.loads(await output(tool_set, "read")) == [None, None, False]
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert line["event"] == "a tool read a variable that is withheld from tools"
    assert (line["variable"], line["hint"]) == ("REDIS_URL", "TOOLS_ENV=REDIS_URL lets tools see it")


async def test_granted_variable_is_visible(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pass@host")
    tools_dir.write("a.js", "module.exports = { name: 'a', handler: () => process.env.REDIS_URL };")
    tool_set = await (await open_tool_registry(node=node, granted=["REDIS_URL"])).tool_set()
    assert await output(tool_set, "a") == "redis://:pass@host"


OWN_TRANSFER = """
const axios = require("axios");

module.exports = {
  name: "avr_transfer",
  description: "Transfers the call to a department",
  input_schema: { type: "object", properties: { department: { type: "string" } }, required: ["department"] },
  handler: async (uuid, args) => {
    const { data } = await axios.post("AMI_URL/callback", { uuid, exten: args.department });
    return data.message;
  },
};
"""


async def test_a_users_own_avr_transfer_is_loaded_from_avr_tools(
    avr_tools_dir: ToolsDir,
    open_tool_registry: OpenRegistry,
    node: str,
    node_modules: str,
    api: Api,
) -> None:
    avr_tools_dir.write("avr_transfer.js", OWN_TRANSFER.replace("AMI_URL", api.url))
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert names(tool_set) == ["avr_transfer"]
    assert await output(tool_set, "avr_transfer", department="600") == "We will call back"
    assert api.asked == [{"uuid": UUID, "exten": "600"}]


async def test_only_a_declared_tool_is_idempotent(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, node: str
) -> None:
    tools_dir.write("a.js", "module.exports = { name: 'a', handler: () => {}, idempotent: true };")
    tools_dir.write("b.js", "module.exports = { name: 'b', handler: () => {} };")
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert [tool_set.is_idempotent(name) for name in "ab"] == [True, False]
