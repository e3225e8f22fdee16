from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from simulator.dialogue.dialogue import Press, Say
from simulator.dialogue.errors import DialogueError
from simulator.dialogue.reader import BUNDLED, MAX_FILE_BYTES, MAX_STEPS, read_dialogue
from simulator.espeak import speak
from tests.helpers import needed_program
from tests.simulator.dialogue.files import write_dialogue, write_tone

AGENT: Final = "- agent: Hello.\n  wav: agent.wav\n"
CALLER: Final = "- caller: Good day.\n  wav: caller.wav\n"


async def test_steps_become_the_two_sides_of_a_call(tmp_path: Path) -> None:
    path = write_dialogue(
        tmp_path,
        """
        name: An order
        steps:
          - agent: Hello.
            wav: agent.wav
          - pause: 2.5
          - caller: No
            wav: caller.wav
          - tool: find
            arguments: {number: 7, at: 20:00, open: no, closed: false}
          - agent: Found it,
              and more.
            wav: agent.wav
          - interrupt: Stop!
            wav: caller.wav
            after: 0.5
          - agent: Yes?
            wav: agent.wav
          - keys: 012#
          - agent: Goodbye.
            wav: agent.wav
          - tool: avr_hangup
        """,
    )
    dialogue = await read_dialogue(path)
    assert (dialogue.name, dialogue.tools_dir) == ("An order", tmp_path / "tools")
    greeting, order, stop, keys = dialogue.exchanges
    assert (greeting.act, [line.text for line in greeting.agent_lines]) == (None, ["Hello."])
    assert isinstance(order.act, Say)
    assert (order.act.line.text, order.pause_seconds, order.tools) == ("No", 2.5, ("find",))
    assert [line.text for line in order.agent_lines] == ["Found it, and more."]
    assert isinstance(stop.act, Say)
    assert stop.act.interrupts_after_seconds == 0.5
    assert (keys.act, keys.tools, keys.ends_call) == (Press("012#"), ("avr_hangup",), True)
    assert not order.ends_call
    (call,) = dialogue.script.reply([]).calls or [None]
    assert call is None


async def test_values_are_those_of_json_and_all_else_is_text(tmp_path: Path) -> None:
    arguments = "{a: 7, b: 20:00, c: no, d: false, e: ~, f: 2026-12-01, g: '1', h: [1.5, null], i: 0x10}"
    path = write_dialogue(tmp_path, f"steps:\n{AGENT}- tool: avr_hangup\n  arguments: {arguments}\n")
    (call,) = (await read_dialogue(path)).script.reply([]).calls
    assert call.arguments == (
        '{"a":7,"b":"20:00","c":"no","d":false,"e":"~","f":"2026-12-01","g":"1","h":[1.5,null],"i":"0x10"}'
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 0, "the file is empty: it needs `steps:`"),
        ("- agent: x", 1, "the file must be a map with `steps:`"),
        ("name: x\n", 1, "the file needs `steps:`, a list of what happens"),
        ("steps: []", 1, "the file needs `steps:`, a list of what happens"),
        ("nmae: x\nsteps: []", 1, "there is no field 'nmae': did you mean 'name'?"),
        (f"voices: {{agnet: x}}\nsteps:\n{AGENT}", 1, "there is no side 'agnet': did you mean 'agent'?"),
        (f"voices: slt\nsteps:\n{AGENT}", 1, "'voices' must be a map, such as `{agent: en-us, caller: en-gb}`"),
        ("steps: [", 1, "this is not YAML: "),
        ("steps:\n\tx", 2, "this is not YAML: "),
        ("steps: &a []", 1, "anchors, aliases and tags are refused: write it out"),
        ("steps: !!python/name:os.system", 1, "anchors, aliases and tags are refused: write it out"),
        ("steps:\n- hello", 2, "a step is a map, such as `- agent: Good morning.`"),
        ("steps:\n- agnet: x", 2, "there is no step 'agnet': did you mean 'agent'?"),
        ("steps:\n- xyz: x", 2, "there is no step 'xyz': there are agent, caller, interrupt, tool, keys, pause"),
        (f"steps:\n{AGENT}  wave: x", 4, "there is no option of 'agent' 'wave': did you mean 'wav'?"),
        (f"steps:\n{AGENT}- keys: 1\n  x: 1", 5, "there is no option of 'keys' 'x': it has none"),
        (f"steps:\n{AGENT}  wav: x", 4, "'wav' is there twice: remove one"),
        ("steps:\n- agent: x\n  caller: y", 2, "'agent' and 'caller' are two steps: begin each with a `-`"),
        ("steps:\n- agent: ''", 2, "the line of 'agent' must be a text of 1 to 2000 characters"),
        (f"steps:\n{AGENT}- keys: 12x", 4, "'x' is not a key of a telephone: use 0123456789*#ABCD"),
        (f"steps:\n{AGENT}- pause: no", 4, "'pause' is 'no': give seconds above 0, up to 60"),
        (f"steps:\n{AGENT}- pause: 61", 4, "'pause' is '61': give seconds above 0, up to 60"),
        (f"steps:\n{AGENT}- tool: t\n  arguments: 5", 5, "'arguments' must be a map, such as `{people: 2}`"),
        (f"steps:\n{CALLER}{AGENT}", 2, "the agent greets first: put a step of the agent before it"),
        (f"steps:\n{AGENT}{AGENT}", 4, "the agent speaks in line 2 already: join both"),
        (f"steps:\n{AGENT}{CALLER}", 4, "the agent answers each caller: put a step of the agent behind it"),
        (f"steps:\n{AGENT}{CALLER}{CALLER}{AGENT}", 4, "the agent answers each caller: "),
        (f"steps:\n{AGENT}- tool: t\n", 4, "the agent answers after a tool: put a step of the agent behind it"),
        (f"steps:\n{AGENT}- pause: 1\n", 4, "only the caller pauses: put it before `caller` or `keys`"),
        (f"steps:\n{AGENT}- tool: avr_hangup\n{CALLER}", 5, "the call is over after avr_hangup: remove this step"),
        (
            f"steps:\n{AGENT}- interrupt: No\n  wav: caller.wav\n  after: 2.8\n{AGENT}",
            4,
            "the agent's line in line 2 lasts 3.0 s, so it cannot be interrupted after 2.8 s: give a smaller",
        ),
        (
            f"steps:\n- tool: t\n{AGENT}- tool: u\n- interrupt: No\n  wav: caller.wav\n{AGENT}",
            6,
            "there is no line of the agent to interrupt: put one before it",
        ),
    ],
)
async def test_error_names_file_line_value_and_remedy(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = write_dialogue(tmp_path, text)
    with pytest.raises(DialogueError) as raised:
        await read_dialogue(path)
    where = f"{path}, line {line}: " if line else f"{path}: "
    assert str(raised.value).startswith(where + message)
    assert "\n" not in str(raised.value)


async def test_file_without_bounds_is_refused(tmp_path: Path) -> None:
    deep = write_dialogue(tmp_path, "steps:\n- tool: t\n  arguments: {a: " + "[" * 5000 + "]" * 5000 + "}\n")
    with pytest.raises(DialogueError, match="lists and maps are deeper than 20: flatten them"):
        await read_dialogue(deep)
    many = write_dialogue(tmp_path, "steps:\n" + "- pause: 1\n" * (MAX_STEPS + 1))
    with pytest.raises(DialogueError, match=f"there are {MAX_STEPS + 1} steps: at most {MAX_STEPS} are allowed"):
        await read_dialogue(many)
    large = write_dialogue(tmp_path, "#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(DialogueError, match="larger than 256 KiB: shorten it"):
        await read_dialogue(large)


async def test_unreadable_file_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DialogueError, match=r"none\.yaml: it cannot be read: No such file or directory$"):
        await read_dialogue(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(DialogueError, match="it is no text in UTF-8: save it as UTF-8"):
        await read_dialogue(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ((0.5, -0.7, 0.5), "a pause of 0.5 s or more makes 2 turns of it: shorten the pause, or"),
        ((-1.0,), "nothing can be heard in it: record it louder than -45 dBFS"),
        ((0.02,), "it is too short or too quiet for speech: record it again"),
    ],
)
async def test_line_that_is_not_one_turn_is_refused(
    tmp_path: Path, pieces: tuple[float, ...], message: str
) -> None:
    path = write_dialogue(tmp_path, f"steps:\n{AGENT}{CALLER}{AGENT}")
    write_tone(tmp_path / "caller.wav", *pieces)
    with pytest.raises(DialogueError, match=rf"line 4: {message}"):
        await read_dialogue(path)


async def test_missing_recording_is_named_with_its_line(tmp_path: Path) -> None:
    path = write_dialogue(tmp_path, "steps:\n- agent: Hello.\n  wav: none.wav\n")
    with pytest.raises(DialogueError, match=r"dialogue\.yaml, line 2: .*none\.wav: file not found$"):
        await read_dialogue(path)


async def test_silence_around_a_line_is_removed(tmp_path: Path) -> None:
    path = write_dialogue(tmp_path, f"steps:\n{AGENT}")
    write_tone(tmp_path / "agent.wav", -1.0, 2.0, -3.0)
    (greeting,) = (await read_dialogue(path)).exchanges
    assert greeting.agent_lines[0].seconds == pytest.approx(2.12, abs=0.021)


async def test_line_without_recording_is_spoken(tmp_path: Path) -> None:
    needed_program("espeak-ng")
    path = write_dialogue(tmp_path, "voices: {agent: en-us+f3}\nsteps:\n- agent: Good morning, dear caller.\n")
    (greeting,) = (await read_dialogue(path)).exchanges
    spoken = await speak("Good morning, dear caller.", "en-us+f3")
    assert 0.5 < greeting.agent_lines[0].seconds < len(spoken) / 16000
    assert greeting.agent_lines[0].pcm in spoken


async def test_missing_synthesizer_is_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = write_dialogue(tmp_path, "steps:\n- agent: Good morning.\n")
    with pytest.raises(DialogueError, match=r"line 2: a line without 'wav' needs espeak-ng: .* and give 'wav'$"):
        await read_dialogue(path)


async def test_bundled_dialogue_has_tools_interruption_and_transfer() -> None:
    dialogue = await read_dialogue(BUNDLED)
    tools = [tool for exchange in dialogue.exchanges for tool in exchange.tools]
    assert tools == ["find_table", "book_table", "avr_transfer"]
    assert {f"{path.stem}" for path in dialogue.tools_dir.glob("*.py")} == {"find_table", "book_table"}
    acts = [exchange.act for exchange in dialogue.exchanges]
    assert [isinstance(act, Say) and act.interrupts_after_seconds for act in acts].count(3.4) == 1
    assert dialogue.exchanges[-1].ends_call
    assert 20 < dialogue.seconds < 30


def test_bundled_recordings_are_small_and_have_a_licence() -> None:
    files = [*BUNDLED.parent.parent.rglob("*.wav")]
    assert len(files) == 8
    assert sum(path.stat().st_size for path in files) < 400_000
    licence = (BUNDLED.parent / "LICENSE.md").read_text("utf-8")
    for words in ("`flite`", "`slt`", "`rms`", "Carnegie Mellon University", "python -m scripts.record_dialogue"):
        assert words in licence
