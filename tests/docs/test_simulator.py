"""The simulators' page: its commands, faults and dialogues work, and its tables are complete."""

from __future__ import annotations

import argparse
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from common.runtime.cli import PROGRAM, parse_arguments
from common.settings.settings import Settings
from simulator import demo, simulate
from simulator.dialogue import reader, sound, steps
from simulator.dialogue.errors import DialogueError
from simulator.dialogue.player import PAUSE_SECONDS
from simulator.dialogue.reader import read_dialogue
from simulator.realtime import settings
from simulator.realtime.faults import Faults
from simulator.realtime.quirks import Quirk
from simulator.realtime.server import FAULTS, RealtimeSimulator
from simulator.realtime.settings import Behaviour, with_directives
from tests.docs.blocks import REPOSITORY, Block, assignments, blocks, document
from tests.helpers import needed_program
from tests.simulator.dialogue.files import write_tone

PAGE: Final = "simulator.md"
TEXT: Final = document(PAGE)
BLOCKS: Final = blocks(PAGE)
COMMANDS: Final = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
SEPARATOR: Final = "**with a `session`:**"
SIMULATOR: Final = "http://127.0.0.1:8765"


def _block(language: str) -> Block:
    (block,) = (each for each in BLOCKS if each.language == language)
    return block


def _rows(heading: str, first: str) -> list[list[str]]:
    """Return the cells of the rows of the table under a heading whose first column has this name."""
    section = TEXT.partition(f"# {heading}\n")[2].partition("\n#")[0]
    table = section.partition(f"| {first} |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert rows, heading
    return rows


def _names(cell: str) -> list[str]:
    return re.findall(r"`([\w-]+)`", cell)


def _options(command: str) -> Iterator[str]:
    parser = argparse.ArgumentParser(add_help=False)
    {"demo": demo, "simulate": simulate}[command].add_arguments(parser)
    yield from parser._option_string_actions


def test_each_block_has_a_checked_language() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "directive", "yaml", "text"}


@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_a_block_exists(line: str) -> None:
    words = shlex.split(line)
    names = [name for name, _ in assignments(line)] if "=" in words[0] else []
    assert {name.lower() for name in names} <= Settings.model_fields.keys()
    words = words[len(names) :]
    assert words[0] in {"curl", PROGRAM}
    if words[0] == PROGRAM:
        parse_arguments(words[1:])


@pytest.mark.parametrize("text", re.findall(rf"`{PROGRAM} ([^`]+)`", TEXT))
def test_command_of_the_text_exists(text: str) -> None:
    if text in {"call", "load"}:  # they need an address
        return
    parse_arguments(text.split())


async def test_requests_of_the_blocks_are_accepted() -> None:
    requests = [shlex.split(line)[1:] for line in COMMANDS if line.startswith("curl ")]
    assert len(requests) == 10
    async with RealtimeSimulator() as simulator, aiohttp.ClientSession() as http:
        for words in requests:
            body = words[1] if words[0] == "-d" else None
            method = words[1] if words[0] == "-X" else "POST" if body else "GET"
            url = words[-1].replace(f"{SIMULATOR}/simulator", simulator.control_url)
            async with http.request(method, url, data=body) as response:
                assert response.status == 200, (words, await response.text())


def test_address_is_that_of_the_defaults() -> None:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    defaults = parser.parse_args([])
    assert f"http://{defaults.host}:{defaults.port}" == SIMULATOR


def test_directive_changes_a_session() -> None:
    changed = with_directives(Behaviour(), _block("directive").text)
    assert (changed.words, changed.tool_calls[0].name) == (30, "opening_hours")


def test_each_option_of_simulate_has_a_row() -> None:
    named = [option for row in _rows("OpenAI's API", "option") for option in _names(row[0])]
    assert sorted(named) == sorted(_options("simulate"))


def test_each_default_of_simulate_is_the_default() -> None:
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    for row in _rows("OpenAI's API", "option"):
        shown = [each.strip("` ") for each in row[1].split(",")]
        for option, value in zip(_names(row[0]), shown, strict=False):
            if value not in {"", "any", "off"}:
                default = defaults[option.removeprefix("--").replace("-", "_")]
                assert value == (f"{default:g}" if isinstance(default, (int, float)) else str(default)), option


def test_each_option_of_the_demo_has_a_row() -> None:
    named = [option for row in _rows("The demo", "option") for option in _names(row[0].split()[0] + "`")]
    assert sorted(named) == sorted(_options("demo"))


def test_each_field_of_a_directive_has_a_row() -> None:
    named = [name for row in _rows("What one agent does", "field") for name in _names(row[0])]
    assert sorted(named) == sorted(settings._CONVERTERS)


def test_each_fault_has_a_row_with_its_arguments() -> None:
    rows = [row for row in _rows("Faults", "fault") if row[0] != SEPARATOR]
    assert sorted(name for row in rows for name in _names(row[0])) == sorted(FAULTS)
    for names, arguments, _ in rows:
        for name in _names(names):
            parameters = inspect.signature(getattr(Faults, name)).parameters.keys() - {"self", "session", "times"}
            assert set(_names(arguments)) == parameters, name


def test_faults_at_the_end_of_the_table_need_a_session() -> None:
    rows = _rows("Faults", "fault")
    separator = rows.index([SEPARATOR, "", ""])
    for position, row in enumerate(rows):
        if position == separator:
            continue
        for name in _names(row[0]):
            session = inspect.signature(getattr(Faults, name)).parameters.get("session")
            needed = session is not None and session.default is inspect.Parameter.empty
            assert needed == (position > separator), name


def test_each_quirk_has_a_row() -> None:
    named = [name for row in _rows("Quirks", "quirk") for name in _names(row[0])]
    assert sorted(named) == sorted(Quirk)


def test_each_step_has_a_row_with_its_options() -> None:
    rows = {_names(row[0])[0]: tuple(_names(row[1])) for row in _rows("Dialogues of your own", "step")}
    assert rows == steps.OPTIONS


async def test_dialogue_of_the_page_can_be_played(tmp_path: Path) -> None:
    needed_program("espeak-ng")
    path = tmp_path / "order.yaml"
    path.write_text(_block("yaml").text, "utf-8")
    write_tone(tmp_path / "goodbye.wav", 1.0)
    dialogue = await read_dialogue(path)
    assert [exchange.tools for exchange in dialogue.exchanges] == [(), ("find_order",), (), ("avr_hangup",)]


async def test_mistake_of_the_page_is_told_like_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("order.yaml").write_text(_block("yaml").text.replace("agent: Good", "agnet: Good"), "utf-8")  # noqa: ASYNC240
    with pytest.raises(DialogueError) as raised:
        await read_dialogue(Path("order.yaml"))
    assert f"demo: {raised.value}\n" == _block("text").text


@pytest.mark.parametrize(
    ("told", "limit"),
    [
        (r"up to (\d+) KiB", reader.MAX_FILE_BYTES / 1024),
        (r"KiB, (\d+) steps", reader.MAX_STEPS),
        (r"steps and (\d+) minutes", reader.MAX_SECONDS / 60),
        (r"a line up to ([\d,]+) characters", steps.MAX_TEXT_CHARACTERS),
        (r"a pause up to (\d+) s", steps.MAX_SECONDS),
        (r"a pause of ([\d.]+) s in it", sound.TURN_ENDS_SECONDS),
        (r"the caller says this line, ([\d.]+) s after", PAUSE_SECONDS),
        (r"of the agent's line \(([\d.]+)\)", steps.INTERRUPTS_AFTER_SECONDS),
        (r"A new call begins every (\d+) s", demo.STAY_INTERVAL_SECONDS),
        (r"every 15 s, (\d+) in all", demo.STAY_CALLS),
        (r"at most (\d+) at once", demo.STAY_CALLS_AT_ONCE),
        (r"begins to speak ([\d.]+) s after", Behaviour().first_audio_seconds),
        (r"one word for each ([\d.]+) s of speech", Behaviour().word_ms / 1000),
    ],
)
def test_number_of_the_page_is_that_of_the_code(told: str, limit: float) -> None:
    (number,) = re.findall(told, TEXT)
    assert float(number.replace(",", "")) == limit


def test_voices_of_the_page_are_the_defaults() -> None:
    assert f"(`{reader.VOICES['agent']}` and `{reader.VOICES['caller']}`)" in TEXT


def test_named_files_exist() -> None:
    for name in re.findall(r"`(simulator/[\w/.]+)`", TEXT):
        assert (REPOSITORY / name).is_file()
    assert (REPOSITORY / "docs" / "demo.svg").read_text("utf-8").startswith("<svg ")
