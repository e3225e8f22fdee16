"""The check of the tools: each file is loaded once, and shown with its arguments or its problem."""

from __future__ import annotations

from pathlib import Path

from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
from worker.check import tools
from worker.check.loaded_tools import LoadedTools

TOOL = """
import pathlib
with open("{trace}", "a") as file: file.write("loaded ")
name = "opening_hours"
description = "Tells when the shop is open"
input_schema = {{"type": "object", "properties": {{"day": {{"type": "string"}}}}, "required": ["day"]}}
def handler(uuid, args): return "open"
"""


def settings_of(folder: Path) -> Settings:
    variables = {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://h", "TOOLS_DIR": str(folder)}
    return Settings.parse(variables, Role.WORKER)


async def look(settings: Settings, loaded: LoadedTools) -> list[Finding]:
    return [*await tools.check(settings, loaded).run(10)]


async def test_files_are_shown_with_arguments_or_the_problem(tmp_path: Path) -> None:
    folder, trace = tmp_path / "tools", tmp_path / "trace"
    folder.mkdir()
    (folder / "hours.py").write_text(TOOL.format(trace=trace), "utf-8")
    (folder / "broken.py").write_text("import nothing_there\n", "utf-8")
    settings = settings_of(folder)
    loaded = LoadedTools(settings)
    found = {each.value: each for each in await look(settings, loaded)}
    assert found["hours.py"].what == "opening_hours(day: string)"
    assert found["hours.py"].state is State.OK
    assert found["broken.py"].state is State.FAIL
    assert "nothing_there" in found["broken.py"].what
    assert await look(settings, loaded) == [*found.values()]
    assert trace.read_text("utf-8") == "loaded "


async def test_folder_without_files_is_fine(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    (found,) = await look(settings, LoadedTools(settings))
    assert (found.state, "built-in tools alone" in found.what) == (State.OK, True)
