from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import ServiceError
from common.runtime import cli
from common.runtime.release import COMPILED, RELEASE
from common.runtime.supervisor import command_of
from common.settings.roles import Role

COMMANDS = [
    *("serve", "dispatcher", "worker", "healthcheck", "await-workers", "check", "tool", "erase", "demo"),
    *("call", "simulate", "load", "completion"),
]


def run(*arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a directory without .env."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [Path(sys.executable).with_name("avr-sts-openai"), *arguments],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_lists_the_commands_and_loads_nothing_big() -> None:
    program = """
import sys
from common.runtime import cli
try:
    cli.main(["--help"])
except SystemExit as end:
    assert end.code == 0
big = {"numpy", "pydantic", "aiohttp", "uvloop", "prometheus_client", "websockets", "redis"} & sys.modules.keys()
sys.exit(f"loaded {big}" if big else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [name for name in COMMANDS if f"\n    {name}" not in done.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_purpose_and_example(name: str, tmp_path: Path) -> None:
    done = run(name, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: avr-sts-openai {name} ")
    assert cli._COMMANDS[name].summary[1:] in " ".join(done.stdout.split())
    assert f"example:\n  {cli._COMMANDS[name].example}\n" in done.stdout


@pytest.mark.parametrize("name", ["serve", "dispatcher", "worker"])
def test_help_names_the_settings_that_matter(name: str, tmp_path: Path) -> None:
    text = run(name, "--help", cwd=tmp_path).stdout
    assert [setting for setting in cli._COMMANDS[name].settings if f"\n  {setting.upper()} " not in text] == []


def test_version(tmp_path: Path) -> None:
    built = " (compiled)" if COMPILED else ""
    assert run("--version", cwd=tmp_path).stdout == f"avr-sts-openai {RELEASE}{built}\n"


@pytest.mark.parametrize(
    "arguments", [(), ("dance",), ("serve", "--fast"), ("healthcheck", "/metrics"), ("await-workers",)]
)
def test_an_unknown_command_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert re.search(r"^avr-sts-openai( [a-z-]+)?: error: ", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("name", ["serve", "worker"])
def test_no_key_is_one_line_and_its_own_exit_code(name: str, tmp_path: Path) -> None:
    done = run(name, cwd=tmp_path, REDIS_URL="redis://127.0.0.1:1")
    assert done.returncode == os.EX_CONFIG
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("avr-sts-openai: OPENAI_API_KEY is not set: ")


def test_every_wrong_setting_is_a_line_with_the_programs_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=x\n")
    done = run("dispatcher", cwd=tmp_path, LOG_LEVEL="y")
    assert done.returncode == os.EX_CONFIG
    assert [line.split("=")[0] for line in done.stderr.splitlines()[:2]] == [
        "avr-sts-openai: PORT",
        "avr-sts-openai: LOG_LEVEL",
    ]


def test_a_module_in_the_working_directory_shadows_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    done = subprocess.run(
        command_of(Role.WORKER), cwd=tmp_path, env={}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == os.EX_CONFIG
    assert "OPENAI_API_KEY is not set" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ServiceError("no Redis: start one"), 1, "avr-sts-openai: no Redis: start one\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_end_that_is_expected_has_no_traceback(
    error: BaseException,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_options: object) -> int:
        raise error

    command = cli.Command(name="serve", summary="fails", example="", run=fail, exits=False)
    monkeypatch.setitem(cli._COMMANDS, "serve", command)
    assert cli.main(["serve"]) == code
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize(("end", "code"), [("return 3", 3), ("raise errors.ServiceError('no Redis')", 1)])
def test_the_end_waits_for_no_thread(end: str, code: int) -> None:
    program = f"""
import dataclasses, sys, threading
from common.runtime import cli
from common import errors

def run(_options):
    threading.Thread(target=threading.Event().wait).start()
    {end}

cli._COMMANDS["serve"] = dataclasses.replace(cli._COMMANDS["serve"], run=run)
sys.exit(cli.main(["serve"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert done.stderr == ("" if code == 3 else "avr-sts-openai: no Redis\n")


def test_numpy_finds_blas_with_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(os, "environ", environment)
    command = cli.Command(name="worker", summary="does nothing", example="", run=lambda _options: 0, exits=False)
    monkeypatch.setitem(cli._COMMANDS, "worker", command)
    assert cli.main(["worker"]) == 0
    assert environment == {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("serv",), "error: there is no command 'serv': did you mean 'serve'?"),
        (("wroker",), "error: there is no command 'wroker': did you mean 'worker'?"),
        (("call", "ws://x", "--wva", "a.wav"), "error: there is no option --wva: did you mean --wav?"),
        (("load", "ws://x", "--cals=2"), "error: there is no option --cals: did you mean --calls?"),
    ],
)
def test_misspelt_word_is_answered_with_the_right_one(
    arguments: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_option_that_is_shortened_is_still_taken() -> None:
    options = cli.parse_arguments(["load", "ws://x", "--cal", "2", "--sec", "3"])
    assert (options.calls, options.seconds) == (2, 3.0)
