"""What the project's host and pre-commit run: it parses, is pinned, and names commands that exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
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
RELEASE: Final = GITHUB / "workflows" / "release.yml"
PROGRAMS_OF_A_RELEASE: Final = frozenset(
    {"cosign", "docker", "find", "gh", "git", "helm", "mkdir", "pipx", "python", "sed", "touch"}
)
"""In the runners of the host, except cosign, which a step installs."""

# What a job of the release may do besides reading. Sigstore and PyPI know the workflow by its id-token.
WRITES: Final[dict[str, dict[str, str]]] = {
    "image-parts": {"contents": "read", "packages": "write"},
    "image": {"contents": "read", "packages": "write", "id-token": "write"},
    "chart": {"contents": "read", "packages": "write", "id-token": "write"},
    "pypi": {"id-token": "write"},
    "release": {"contents": "write", "id-token": "write"},
}
PUBLISH: Final = frozenset({"image", "pypi", "release"})
"""Jobs of a tag alone. The others run without a tag, too, and then skip the steps that publish."""
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
            for step in job.get("steps", ()):
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
    if place.startswith(f"{RELEASE.name}:"):
        assert program in PROGRAMS_OF_A_RELEASE, place
        if program == "python":
            assert arguments[:2] == ["-m", "scripts.release"]
            assert f'["{arguments[2]}"]' in (REPOSITORY / "scripts" / "release.py").read_text("utf-8")
        return
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
def test_job_has_the_permissions_that_it_needs_and_no_others(path: Path) -> None:
    assert _read(path)["permissions"] == {"contents": "read"}
    given = {name: job["permissions"] for name, job in _jobs(path).items() if "permissions" in job}
    assert given == (WRITES if path == RELEASE else {})
    assert "secrets." not in path.read_text("utf-8")
    assert path.read_text("utf-8").count("persist-credentials: false") == path.read_text("utf-8").count(
        "/checkout@"
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_action_is_pinned_to_a_commit(path: Path) -> None:
    text = path.read_text("utf-8").replace("uses: ./.github/workflows/ci.yml", "")
    assert len(PINNED.findall(text)) == text.count("uses:") > 0


def test_an_action_has_one_pin_everywhere() -> None:
    used = {found for path in WORKFLOWS for found in re.findall(r"uses: (\S+)@(\S+)", path.read_text("utf-8"))}
    assert len({action for action, _ in used}) == len(used)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_job_has_a_time_limit(path: Path) -> None:
    assert all(job["timeout-minutes"] <= 120 for job in _jobs(path).values() if "steps" in job)


def test_actionlint_finds_nothing() -> None:
    program = Path(sys.executable).with_name("actionlint")
    if not program.exists() and not os.environ.get("CI"):
        pytest.skip("actionlint is not built for this machine")
    run = subprocess.run([program, "-no-color", *WORKFLOWS], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


# The release


def test_tag_starts_a_release_and_nothing_else_publishes() -> None:
    workflow = _read(RELEASE)
    triggers = workflow[True]  # YAML 1.1 reads `on` as a boolean
    assert triggers == {"push": {"tags": ["v*"]}, "workflow_dispatch": None}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    of_tags = "github.ref_type == 'tag'"
    for name, job in _jobs(RELEASE).items():
        assert (job.get("if") == of_tags) is (name in PUBLISH), name
        for step in job.get("steps", ()):
            run = step.get("run", "")
            if name not in PUBLISH and run.startswith(("cosign", "helm push", "gh ")):
                assert step["if"] == of_tags, run
    (build,) = (step for step in _jobs(RELEASE)["image-parts"]["steps"] if step.get("id") == "build")
    assert build["with"]["outputs"].endswith("push=${{ github.ref_type == 'tag' }}")


def test_everything_is_tested_and_built_before_it_is_published() -> None:
    jobs = _jobs(RELEASE)

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        needed = {needs} if isinstance(needs, str) else set(needs)
        return needed.union(*(before(each) for each in needed))

    assert jobs["tests"]["uses"] == f"./{(GITHUB / 'workflows' / 'ci.yml').relative_to(REPOSITORY)}"
    assert "workflow_call" in _read(GITHUB / "workflows" / "ci.yml")[True]
    for name in PUBLISH:
        assert before(name) >= {"check", "tests", "wheels", "sdist", "image-parts"}, name
    assert before("release") == jobs.keys() - {"release"}


def test_wheels_are_built_for_each_python_of_the_classifiers() -> None:
    file = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(file["project"]["classifiers"]))
    settings = file["tool"]["cibuildwheel"]
    assert settings["build"] == " ".join(f"cp3{minor}-*" for minor in named)
    assert settings["environment"] == {"AVR_STS_COMPILE": "2"}
    runners = _jobs(RELEASE)["wheels"]["strategy"]["matrix"]["runner"]
    assert {"ubuntu-24.04", "ubuntu-24.04-arm", "macos-15"} <= set(runners)


def test_image_is_built_on_a_machine_of_each_platform() -> None:
    matrix = _jobs(RELEASE)["image-parts"]["strategy"]["matrix"]["include"]
    assert {each["platform"]: each["runner"] for each in matrix} == {
        "linux/amd64": "ubuntu-24.04",
        "linux/arm64": "ubuntu-24.04-arm",
    }
    (build,) = (step["with"] for step in _jobs(RELEASE)["image-parts"]["steps"] if step.get("id") == "build")
    assert (build["provenance"], build["sbom"]) == ("mode=max", True)
    given = {line.split("=")[0] for line in build["build-args"].split() if "=" in line}
    dockerfile = (REPOSITORY / "Dockerfile").read_text("utf-8")
    assert given == {"VERSION", "REVISION", "CREATED"}
    assert given <= set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))


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


def test_dependabot_reads_every_file_with_pins() -> None:
    updates = _read(GITHUB / "dependabot.yml")["updates"]
    assert {(each["package-ecosystem"], each["directory"]) for each in updates} == {
        ("github-actions", "/"),
        ("pip", "/"),
        ("npm", "/worker/tools/node"),
        ("docker", "/"),
        ("docker-compose", "/"),
        ("helm", "/helm"),
        ("docker", "/helm"),
    }
    read = {"pip": "constraints.txt", "npm": "package-lock.json", "docker-compose": "docker-compose.yml"}
    for each in updates:
        folder = REPOSITORY / each["directory"].strip("/")
        assert (folder / read.get(each["package-ecosystem"], ".")).exists()
        assert each["cooldown"]["default-days"] >= 3


def test_hooks_run_programs_of_the_setup() -> None:
    (local,) = _read(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert Path(sys.executable).with_name(program.name).exists()
