"""Reads a dialogue's file, which docs/simulator.md describes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from simulator.dialogue.dialogue import Dialogue
from simulator.dialogue.errors import FileErrors
from simulator.dialogue.sound import LineReader
from simulator.dialogue.step_order import StepOrder
from simulator.dialogue.steps import SpokenStep, StepReader
from simulator.dialogue.yaml_nodes import Node, read_nodes

BUNDLED: Final = Path(__file__).resolve().parents[1] / "speech" / "hotel" / "dialogue.yaml"
"""The dialogue that comes with the package."""

MAX_FILE_BYTES: Final = 256 * 1024
MAX_STEPS: Final = 500
MAX_SECONDS: Final = 1800.0
VOICES: Final = {"agent": "en-us", "caller": "en-gb"}
"""Voices of espeak-ng where the file names none."""

_ROOT: Final = ("name", "voices", "steps")


async def read_dialogue(path: Path) -> Dialogue:
    """Return the dialogue.

    Raises:
        DialogueError: the file cannot be read, or is wrong.
    """
    errors = FileErrors(path)
    root = _fields(read_nodes(_content(path, errors), errors), errors)
    steps = root.get("steps")
    if steps is None or not isinstance(steps.value, list) or not steps.value:
        raise errors.at(1 if steps is None else steps.line, "the file needs `steps:`, a list of what happens")
    if len(steps.value) > MAX_STEPS:
        raise errors.at(steps.line, f"there are {len(steps.value)} steps: at most {MAX_STEPS} are allowed")
    reader = StepReader(errors)
    name = reader.text(root["name"], "'name'", 100) if "name" in root else path.stem
    voices = VOICES | _voices(root.get("voices"), reader, errors)
    read = [reader.read(each) for each in steps.value]
    order = StepOrder(errors)
    lines = LineReader(errors, path.parent, voices)
    seconds = 0.0
    for step in read:
        line = None
        if isinstance(step, SpokenStep):
            line = await lines.read(step)
            seconds += line.seconds
            if seconds > MAX_SECONDS:
                raise errors.at(step.line, f"the dialogue is longer than {MAX_SECONDS / 60:g} minutes: shorten it")
        order.add(step, line)
    return order.dialogue(name, path)


def _content(path: Path, errors: FileErrors) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise errors.of_file(f"it cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise errors.of_file(f"it is larger than {MAX_FILE_BYTES // 1024} KiB: shorten it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise errors.of_file("it is no text in UTF-8: save it as UTF-8") from None


def _fields(node: Node, errors: FileErrors) -> dict[str, Node]:
    if not isinstance(node.value, dict):
        raise errors.at(node.line, "the file must be a map with `steps:`")
    for name, value in node.value.items():
        if name not in _ROOT:
            raise StepReader(errors).unknown(value.line, "field", name, _ROOT)
    return node.value


def _voices(node: Node | None, reader: StepReader, errors: FileErrors) -> dict[str, str]:
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        raise errors.at(node.line, "'voices' must be a map, such as `{agent: en-us, caller: en-gb}`")
    for name, value in node.value.items():
        if name not in VOICES:
            raise reader.unknown(value.line, "side", name, tuple(VOICES))
    return {side: reader.text(value, f"the voice of {side!r}", 64) for side, value in node.value.items()}
