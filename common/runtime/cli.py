"""The command `avr-sts-openai`.

Each sub-command imports its own modules, except argparse: `--help` is quick, and numpy starts with the environment
that `main` sets.
"""

# ruff: noqa: PLC0415 - imports inside functions, for the reason above

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from common.errors import ServiceError, SettingsError
from common.runtime.process_exit import INTERRUPTED, exit_now

PROGRAM: Final = "avr-sts-openai"


@dataclass(frozen=True, slots=True)
class Command:
    """A sub-command.

    Attributes:
        summary: one line on its purpose.
        example: an example of its use.
        settings: names of the `Settings` that its `--help` shows. Reading them loads all settings.
        add_arguments: adds its own arguments when it is the chosen one.
        exits: ends the process itself, without waiting for threads.
    """

    name: str
    summary: str
    example: str
    run: Callable[[argparse.Namespace], int]
    settings: tuple[str, ...] = ()
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _parser: None
    exits: bool = True


class _Version(argparse.Action):
    """Prints the release, which is looked up only then: a look-up takes longer than a health check may."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from common.runtime.release import COMPILED, RELEASE

        built = " (compiled)" if COMPILED else ""
        print(f"{PROGRAM} {RELEASE}{built}")  # noqa: T201 - what was asked for
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command, and end the process with its exit code: EX_CONFIG (78) if a setting is wrong.

    Return the exit code of a command that leaves the end of the process to the caller.
    """
    # One thread per process is enough for resampling; BLAS would start one per core in each process.
    for library in ("OPENBLAS", "OMP", "MKL"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    exits = True
    try:
        options = parse_arguments(arguments)
        command = _COMMANDS[options.command]
        exits = command.exits
        code = command.run(options)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except ServiceError as error:
        for line in str(error).splitlines():
            print(f"{PROGRAM}: {line}", file=sys.stderr)  # noqa: T201 - there may be no log yet
        code = os.EX_CONFIG if isinstance(error, SettingsError) else 1
    if exits:
        exit_now(code)
    return code


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line, without the program's name.

    Raises:
        SystemExit: with code 2 if the command line is wrong, 0 if it asks for help or the release.
    """
    chosen = next((each for each in arguments if not each.startswith("-")), None)
    parser, parsers = _parser(chosen)
    _suggest(arguments, chosen, parser, parsers)
    return parser.parse_args(arguments)


def _suggest(
    arguments: Sequence[str],
    chosen: str | None,
    parser: argparse.ArgumentParser,
    parsers: Mapping[str, argparse.ArgumentParser],
) -> None:
    """Refuse a misspelt sub-command or option with the nearest right one; argparse refuses all others."""
    if chosen is None:
        return
    if chosen not in parsers:
        near = _nearest(chosen, parsers)
        if near is not None:
            parser.error(f"there is no command {chosen!r}: did you mean {near!r}?")
        return
    known = parsers[chosen]._option_string_actions
    for argument in arguments[arguments.index(chosen) + 1 :]:
        name = argument.partition("=")[0]
        if argument == "--":
            return
        # argparse takes a beginning of an option for the option, and text with a space for a value.
        if not name.startswith("--") or " " in argument or any(each.startswith(name) for each in known):
            continue
        near = _nearest(name, known)
        if near is not None:
            parsers[chosen].error(f"there is no option {name}: did you mean {near}?")


def _nearest(word: str, words: Iterable[str]) -> str | None:
    # Loaded only for a misspelt word: a health check runs every few seconds.
    from common.settings.nearest import nearest_word

    return nearest_word(word, words)


def _parser(chosen: str | None) -> tuple[argparse.ArgumentParser, Mapping[str, argparse.ArgumentParser]]:
    """Return the parser, and those of the sub-commands; the arguments are those of the chosen one."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Telephone calls to OpenAI's Realtime API: a speech-to-speech service for AVR.",
        epilog=f"Settings come from the environment and .env. `{PROGRAM} COMMAND --help` names those that matter.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the release and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS.values():
        sub_parser = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if command.name == chosen:
            command.add_arguments(sub_parser)
            sub_parser.epilog = _settings_help(command) + f"example:\n  {command.example}"
    return parser, commands.choices


def _settings_help(command: Command) -> str:
    if not command.settings:
        return ""
    from common.settings.settings import Settings

    help_text = "settings that matter most:\n"
    for name in command.settings:
        field = Settings.model_fields[name]
        default = f" (default: {field.default})" if isinstance(field.default, (int, str)) else ""
        help_text += f"  {name.upper():<20} {field.description}{default}\n"
    return help_text + "\n"


def _service(module: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from common.observe import log_writer
        from common.runtime import signals

        signals.hold()
        log_writer.install()
        from common.runtime.process import Main, run_process
        from common.settings.roles import Role
        from common.settings.settings import Settings

        role = Role(options.command)
        settings = Settings.load(role)
        process_main: Main = import_module(module).run
        return run_process(process_main, settings, role)

    return run


def _tool(module: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        import asyncio

        import uvloop

        # Never closed, because closing the loop waits for names that do not resolve.
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        code: int = runner.run(import_module(module).run(options))
        return code

    return run


def _plain(module: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        code: int = import_module(module).run(options)
        return code

    return run


def _print_completion(options: argparse.Namespace) -> int:
    from common.runtime.completion import script

    parsers = {name: argparse.ArgumentParser() for name in _COMMANDS}
    for name, command in _COMMANDS.items():
        command.add_arguments(parsers[name])
    print(script(options.shell, PROGRAM, parsers), end="")  # noqa: T201 - what was asked for
    return 0


def _add_shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def _arguments_of(module: str) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        import_module(module).add_arguments(parser)

    return add


_COMMANDS: Final = {
    command.name: command
    for command in (
        Command(
            name="serve",
            summary="the whole service on one machine: dispatchers, workers and, without REDIS_URL, a Redis",
            example=f"OPENAI_API_KEY=... {PROGRAM} serve",
            run=_service("common.runtime.supervisor"),
            settings=(
                "openai_api_key",
                "openai_model",
                "openai_voice",
                "openai_instructions",
                "port",
                "admin_port",
                "workers",
                "dispatchers",
                "worker_max_calls",
                "redis_url",
                "sts_token",
                "tls_cert",
                "tls_key",
                "admin_token",
                "drain_seconds",
                "log_level",
                "log_format",
            ),
        ),
        Command(
            name="dispatcher",
            summary="one dispatcher of a cluster: accepts AVR Core's calls and gives each to a worker",
            example=f"REDIS_URL=redis://redis:6379/0 {PROGRAM} dispatcher",
            run=_service("dispatcher.main"),
            settings=(
                "redis_url",
                "port",
                "admin_port",
                "sts_token",
                "tls_cert",
                "tls_key",
                "cluster_token",
                "admin_token",
                "drain_seconds",
                "log_level",
                "log_format",
            ),
        ),
        Command(
            name="worker",
            summary="one worker of a cluster: holds the calls' sessions with the Realtime API",
            example=f"OPENAI_API_KEY=... REDIS_URL=redis://redis:6379/0 {PROGRAM} worker",
            run=_service("worker.main"),
            settings=(
                "openai_api_key",
                "redis_url",
                "worker_port",
                "worker_address",
                "cluster_token",
                "worker_max_calls",
                "openai_model",
                "openai_voice",
                "openai_instructions",
                "admin_port",
                "drain_seconds",
                "log_level",
                "log_format",
            ),
        ),
        Command(
            name="healthcheck",
            summary="whether the service on this machine answers on ADMIN_PORT: exit code 0 or 1",
            example=f"{PROGRAM} healthcheck /readyz",
            run=_plain("common.runtime.healthcheck"),
            add_arguments=_arguments_of("common.runtime.healthcheck"),
        ),
        Command(
            name="await-workers",
            summary="wait until workers of this release take calls, before a dispatcher of a cluster starts",
            example=f"REDIS_URL=redis://redis:6379/0 {PROGRAM} await-workers --seconds 600",
            run=_plain("dispatcher.workers.await_workers"),
            settings=("redis_url", "log_level", "log_format"),
            add_arguments=_arguments_of("dispatcher.workers.await_workers"),
        ),
        Command(
            name="check",
            summary="whether settings, key, model, Redis, tools and ports work, before the first call",
            example=f"OPENAI_API_KEY=... {PROGRAM} check",
            run=_tool("common.check.command"),
            add_arguments=_arguments_of("common.check.command"),
        ),
        Command(
            name="tool",
            summary="list your tools, or run one as a call would",
            example=f'{PROGRAM} tool run opening_hours \'{{"day": "Monday"}}\'',
            run=_tool("worker.tools.tool_command"),
            settings=("tools_dir", "avr_tools_dir", "tools_env", "tool_timeout_seconds"),
            add_arguments=_arguments_of("worker.tools.tool_command"),
        ),
        Command(
            name="chat",
            summary="type to the agent, through the session that a telephone call has, tools included",
            example=f'echo "When are you open?" | {PROGRAM} chat',
            run=_tool("worker.chat.command"),
            settings=("openai_api_key", "openai_model", "openai_instructions", "tools_dir", "log_level"),
            add_arguments=_arguments_of("worker.chat.command"),
        ),
        Command(
            name="erase",
            summary="erase the records of a call, or of a number, from the files in CALL_RECORDS_DIR",
            example=f"{PROGRAM} erase --number +390212345678",
            run=_plain("dispatcher.records.file_erasure"),
            add_arguments=_arguments_of("dispatcher.records.file_erasure"),
        ),
        Command(
            name="demo",
            summary="one call through the whole service and a simulated Realtime API: no key, no Redis",
            example=f"{PROGRAM} demo  # writes the call's sound and timeline into demo-out",
            run=_plain("simulator.demo"),
            add_arguments=_arguments_of("simulator.demo"),
        ),
        Command(
            name="call",
            summary="one call, placed as AVR Core would place it, with speech from a WAV file, a text or a script",
            example=f"{PROGRAM} call ws://127.0.0.1:6030 --wav question.wav --out answer.wav",
            run=_tool("simulator.call"),
            add_arguments=_arguments_of("simulator.call"),
        ),
        Command(
            name="simulate",
            summary="a simulated Realtime API, which receives audio, and answers in tones or as a dialogue says",
            example=f"{PROGRAM} simulate --port 8080  # and OPENAI_BASE_URL=ws://127.0.0.1:8080 {PROGRAM} serve",
            run=_tool("simulator.simulate"),
            add_arguments=_arguments_of("simulator.simulate"),
        ),
        Command(
            name="load",
            summary="many calls at once, and a table of their results",
            example=f"{PROGRAM} load ws://127.0.0.1:6030 --calls 20 --seconds 30",
            run=_tool("simulator.load"),
            add_arguments=_arguments_of("simulator.load"),
        ),
        Command(
            name="completion",
            summary="a script with which a shell completes sub-commands and options",
            example=f'eval "$({PROGRAM} completion bash)"',
            run=_print_completion,
            add_arguments=_add_shell,
        ),
    )
}


if __name__ == "__main__":
    sys.exit(main())
