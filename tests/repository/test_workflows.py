"""What the project's host and pre-commit run: it parses, is pinned, and names commands that exist."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from common.runtime.cli import PROGRAM
from scripts.constraints import SETS

REPOSITORY: Final = Path(__file__).resolve().parents[2]
GITHUB: Final = REPOSITORY / ".github"
WORKFLOWS: Final = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS: Final = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
MAKEFILE: Final = (REPOSITORY / "Makefile").read_text("utf-8")
TARGETS: Final = frozenset(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]
VARIABLES: Final = frozenset(re.findall(r"^\s*([A-Z]+) \?=|\$\(if \$\(([A-Z]+)\)", MAKEFILE, re.MULTILINE))

# In the runners of the host, or in the image of the job.
PROGRAMS: Final = frozenset({"apt-get", "bash", "make", "pipx", PROGRAM})
PINNED: Final = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$", re.MULTILINE)


def _read(path: Path) -> dict[Any, Any]:
    content = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def _jobs(path: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = _read(path)["jobs"]
    return jobs


def _commands() -> Iterator[tuple[str, str]]:
    for path in WORKFLOWS:
        for name, job in _jobs(path).items():
            for step in job["steps"]:
                if "run" in step:
                    for values in _matrix(job):
                        yield f"{path.name}:{name}", _filled(step["run"], values)


def _matrix(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the values of each run of a job; a matrix here has one list."""
    matrix = job.get("strategy", {}).get("matrix", {})
    included: list[dict[str, Any]] = matrix.get("include", [])
    return included or [{name: value} for name, values in matrix.items() for value in values] or [{}]


def _filled(command: str, values: dict[str, Any]) -> str:
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda found: str(values[found[1]]), command)


def _all_yaml() -> list[Path]:
    return [*GITHUB.rglob("*.yml"), REPOSITORY / ".pre-commit-config.yaml"]


@pytest.mark.parametrize("path", _all_yaml(), ids=lambda path: path.name)
def test_file_is_a_yaml_object(path: Path) -> None:
    assert _read(path)


@pytest.mark.parametrize(("place", "command"), list(_commands()))
def test_step_runs_a_command_that_exists(place: str, command: str) -> None:
    words = [word for word in shlex.split(command) if word != "sudo"]
    assert "${{" not in command
    program, arguments = words[0], words[1:]
    assert program in PROGRAMS, place
    if program == "bash":
        assert arguments == [".ci/run"]
        assert (REPOSITORY / ".ci" / "run").is_file()
    elif program == "make":
        _check_make(arguments)
    elif program == PROGRAM:
        assert arguments in (["--version"], ["serve", "--help"])


def _check_make(arguments: list[str]) -> None:
    known = {name for pair in VARIABLES for name in pair if name}
    for argument in arguments:
        name, is_variable, value = argument.partition("=")
        assert name in (known | {"COMPILED"} if is_variable else TARGETS), f"make has no {name}"
        if name == "TESTS":
            assert all((REPOSITORY / folder).exists() for folder in value.split())
        if name == "DEPENDENCIES":
            assert value in SETS


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_may_only_read(path: Path) -> None:
    assert _read(path)["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in _jobs(path).values())
    assert "secrets." not in path.read_text("utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_action_is_pinned_to_a_commit(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(PINNED.findall(text)) == text.count("uses:") > 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_job_has_a_time_limit(path: Path) -> None:
    assert all(job["timeout-minutes"] <= 120 for job in _jobs(path).values())


def test_ci_tests_each_python_of_the_classifiers() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    jobs = _jobs(GITHUB / "workflows" / "ci.yml")
    assert jobs["python"]["strategy"]["matrix"]["python"] == named
    assert any(job["runs-on"].endswith("-arm") for job in jobs.values())
    assert any(job["runs-on"].startswith("macos") for job in jobs.values())


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_form_has_what_the_host_requires(path: Path) -> None:
    form = _read(path)
    assert form["name"]
    assert form["description"]
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert len({each["id"] for each in fields}) == len(fields) > 0
    assert all(each["attributes"]["label"] for each in fields)


def test_bug_report_asks_for_version_logs_and_uuid() -> None:
    fields = {each.get("id"): each for each in _read(GITHUB / "ISSUE_TEMPLATE" / "bug_report.yml")["body"]}
    assert fields["version"]["validations"]["required"]
    assert "uuid" in fields
    assert "secrets" in fields["logs"]["attributes"]["description"]


def test_hooks_run_programs_of_the_setup() -> None:
    (local,) = _read(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert Path(sys.executable).with_name(program.name).exists()
