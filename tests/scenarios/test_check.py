"""The commands `check` and `tool`, as processes, against a simulated API, Redis and avr-ami."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from simulator.avr.ami import AmiDouble
from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, PYTHONPATH, ServiceProcess

TOOL = """
name = "opening_hours"
description = "Tells when the shop is open"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]}
async def handler(uuid, args): return f"open on {args['day']} {uuid}"
"""


async def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run the command in a folder, and return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "common.runtime.cli", *arguments),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    assert process.returncode is not None
    return process.returncode, output.decode()


def states(text: str) -> dict[str, str]:
    report: dict[str, Any] = orjson.loads(text)
    assert {*report} == {"role", "release", "ok", "exit_code", "checks"}
    assert all({*each} == {"name", "state", "value", "what", "todo"} for each in report["checks"])
    return {each["name"]: each["state"] for each in report["checks"]}


async def test_check_of_sound_surroundings_ends_with_0(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/opening_hours.py").write_text(TOOL, "utf-8")
    async with AmiDouble() as ami:
        variables = {
            **{"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.url, "REDIS_URL": real_redis_url},
            **{"AMI_URL": ami.url, "PORT": "0", "ADMIN_PORT": "0"},
        }
        code, text = await run(tmp_path, "check", "--json", **variables)
        table_code, table = await run(tmp_path, "check", **variables)
    found = states(text)
    assert (code, table_code) == (0, 0), text
    assert {found[name] for name in ("Realtime API", "session", "Redis", "avr-ami", "tools", "PORT")} == {"ok"}
    assert "opening_hours(day: string)" in table
    assert "\x1b" not in table
    assert KEY not in text + table
    assert list(ami.requests) == []


async def test_check_names_each_thing_that_is_wrong(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/broken.py").write_text("import nothing_there\n", "utf-8")
    (tmp_path / "empty.txt").touch()
    simulator.faults.refuse(401)
    code, text = await run(
        tmp_path,
        *("check", "--json"),
        **{"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.url, "REDIS_URL": "redis://127.0.0.1:1"},
        **{"AMI_URL": "http://127.0.0.1:1", "PORT": "0", "ADMIN_PORT": "0"},
        OPENAI_FILE_INSTRUCTIONS=str(tmp_path / "empty.txt"),
        OPENAI_VIOCE="marin",
    )
    found = states(text)
    assert code == 1
    assert {name for name, state in found.items() if state == "fail"} >= {
        "Realtime API",
        "Redis",
        "avr-ami",
        "tools",
    }
    assert found["settings"] == "warn"
    assert "rename it to OPENAI_VOICE" in text


async def test_ports_of_the_running_service_are_no_fault(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.url}
    serve = await ServiceProcess.start("serve", **variables, PORT=0, ADMIN_PORT=0, WORKERS=1)
    try:
        line = await serve.line("serving")
        ports = {"PORT": str(line["port"]), "ADMIN_PORT": str(line["admin_port"])}
        code, text = await run(tmp_path, "check", "--json", **variables, **ports)
    finally:
        await serve.kill()
    found = {each["name"]: each for each in orjson.loads(text)["checks"]}
    assert code == 0, text
    for name, port in ports.items():
        assert (found[name]["state"], found[name]["value"]) == ("ok", port)
        assert found[name]["what"] == "a running avr-sts-openai on this host has it"


async def test_check_of_wrong_settings_ends_with_78(tmp_path: Path) -> None:
    code, text = await run(tmp_path, "check", OPENAI_API_KYE=KEY)
    assert code == os.EX_CONFIG
    assert "did you mean OPENAI_API_KEY?" in text
    assert KEY not in text


async def test_tool_runs_as_in_a_call_without_a_key(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/opening_hours.py").write_text(TOOL, "utf-8")
    code, text = await run(tmp_path, "tool", "list")
    assert (code, "opening_hours(day: string)" in text) == (0, True), text
    code, text = await run(tmp_path, "tool", "run", "opening_hours", '{"day": "Monday"}', "--uuid", "u-1")
    assert (code, "open on Monday u-1\n" in text) == (0, True), text
    code, text = await run(tmp_path, "tool", "run", "opening_hours", "{}")
    assert (code, "required" in text) == (1, True), text
