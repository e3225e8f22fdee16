"""Shell completion of the command: a static script, so that no Python starts at each TAB."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Final

SHELLS: Final = ("bash", "zsh", "fish")


def script(shell: str, program: str, parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    """Return the completion script of a shell.

    Args:
        shell: one of `SHELLS`.
        program: name of the command.
        parsers: the parser of each sub-command.
    """
    if shell == "fish":
        return "".join(_fish(program, parsers))
    script_of_bash = "".join(_bash(program, parsers))
    # zsh runs functions of bash by an emulation of its own (zshcompsys(1), bashcompinit).
    return script_of_bash if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{script_of_bash}"


def words_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a sub-command, and the values that its arguments allow."""
    words: list[str] = []
    for action in parser._actions:
        words += [each for each in action.option_strings if each.startswith("--")]
        if not action.option_strings:
            words += [str(each) for each in action.choices or ()]
    return words


def _bash(program: str, parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    function = "_" + program.replace("-", "_")
    yield f"{function}() {{\n"
    yield "    local word=${COMP_WORDS[COMP_CWORD]} words\n"
    yield "    case ${COMP_CWORD},${COMP_WORDS[1]} in\n"
    yield f'        1,*) words="{" ".join(parsers)} --help --version" ;;\n'
    for name, parser in parsers.items():
        yield f'        *,{name}) words="{" ".join(words_of(parser))}" ;;\n'
    yield "        *) words= ;;\n"
    yield "    esac\n"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))\n'
    yield "}\n"
    yield f"complete -o default -F {function} {program}\n"


def _fish(program: str, parsers: Mapping[str, argparse.ArgumentParser]) -> Iterator[str]:
    yield f'complete -c {program} -n __fish_use_subcommand -f -a "{" ".join(parsers)}"\n'
    for name, parser in parsers.items():
        for word in words_of(parser):
            what = f"-l {word[2:]}" if word.startswith("--") else f"-a {word}"
            yield f'complete -c {program} -n "__fish_seen_subcommand_from {name}" {what}\n'
