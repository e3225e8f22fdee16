"""Run the image's install steps in a plain folder, and hold a call through the result."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from common.runtime.release import RELEASE
from simulator.realtime.server import RealtimeSimulator
from tests.docker.image import REPOSITORY, Build, environment, last_stage
from tests.scenarios.processes import KEY, ServiceProcess

SPEECH = REPOSITORY / "simulator" / "speech" / "caller.wav"

# Packages are downloaded and installed, so the time depends on the network.
pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

# `make test COMPILED=1` runs all tests. These are the short chaos run, hostile input, and both ends of a call.
TESTS_OF_THE_CALL_PATH = (
    "tests/chaos",
    "tests/fuzz",
    "tests/common/runtime/test_release.py",
    "tests/dispatcher/call/test_call.py",
    "tests/dispatcher/runner/test_call_runner.py",
    "tests/worker/runner/test_session_runner.py",
    "tests/worker/session/test_heard.py",
    "tests/worker/session/test_session.py",
)

# Runs a command as in our containers: as the image's user, without capabilities, with write access only to /tmp.
CONFINED = """
set -eu
image=$1
root=$2
python=$3
user=$4
group=$5
shift 5
mount --make-rprivate /
mount --bind / "$root"
mount -o remount,ro,bind "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mkdir -p "$root$image"
mount --bind "$image" "$root$image"
mount -o remount,ro,bind "$root$image"
case $python in /root/*)  # a Python that only root can reach
    mount -t tmpfs -o mode=755 tmpfs "$root/root"
    mkdir -p "$root$python"
    mount --bind "$python" "$root$python"
esac
exec chroot "$root" setpriv --reuid="$user" --regid="$group" --clear-groups \
    --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""

TOOL = """
require("dotenv").config();
const axios = require("axios");
const barometer = require("barometer");

module.exports = {
  name: "weather",
  description: "Tells the weather",
  input_schema: { type: "object", properties: {} },
  handler: async (uuid, args) => `${typeof axios.get} ${barometer}`,
};
"""

PYTHON_TOOL = """
import hygrometer

name = "humidity"
description = "Tells the humidity"


def handler(uuid, args):
    return hygrometer.READING
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Build the image's files, except Debian's packages and Node itself."""
    if shutil.which("gcc") is None and not os.environ.get("CI"):
        pytest.skip("gcc is missing: install the packages of .ci/packages")
    build = Build(tmp_path_factory.mktemp("image"))
    build.path("/").chmod(0o755)  # the service runs as a different user than the tests
    try:
        build.run()
    except subprocess.CalledProcessError as failed:
        pytest.fail(f"{failed.cmd[-1]}\n{failed.stdout}\n{failed.stderr}")
    return build


def _bin(image: Build) -> Path:
    return image.path("/opt/avr-sts/bin")


def test_image_has_the_pinned_packages_and_no_pip(image: Build) -> None:
    listing = (
        "from importlib.metadata import distributions; print(*(f'{d.name}=={d.version}' for d in distributions()))"
    )
    printed = subprocess.run(
        [_bin(image) / "python", "-P", "-c", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    pinned = set((REPOSITORY / "constraints.txt").read_text("utf-8").split())
    assert {*printed} - pinned == {f"avr-sts-openai=={RELEASE}"}
    assert not {each.split("==")[0] for each in printed} & {"pip", "setuptools", "pytest", "openai"}


def test_the_call_path_is_compiled(image: Build) -> None:
    printed = subprocess.run(
        [_bin(image) / "avr-sts-openai", "--version"],
        env=_environment(image),  # without the PYTHONPATH of the tests
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == f"avr-sts-openai {RELEASE} (compiled)\n"


def test_compiled_modules_pass_the_tests_of_their_sources(image: Build) -> None:
    packages = image.path("/opt/avr-sts/lib/python3.11/site-packages")
    options = ("-m", "not system", "--numprocesses=2", "--dist=worksteal", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *TESTS_OF_THE_CALL_PATH],
        env=os.environ | {"PYTHONPATH": f"{packages}{os.pathsep}{REPOSITORY}"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d{3,} passed", done.stdout)


@pytest.fixture
def confined(image: Build, tmp_path: Path) -> list[str]:
    """Return the prefix of a command that runs it confined."""
    root = tmp_path / "root"
    root.mkdir()
    ids = last_stage("USER")[0][0].split(":")
    prefix = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        CONFINED,
        "sh",
        str(image.path("/")),
        str(root),
        sys.base_prefix,
        *ids,
    ]
    try:
        subprocess.run([*prefix, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        message = "a command cannot be confined here: that needs root, unshare, chroot and setpriv"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return prefix


@pytest.fixture
def derived(image: Build, tmp_path: Path) -> Iterator[Build]:
    """Derive an image by `RUN npm install` and `RUN pip install` of packages on this machine."""
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("npm is missing: install the packages of .ci/packages")
    package = tmp_path / "barometer"
    package.mkdir()
    (package / "package.json").write_text('{"name": "barometer", "version": "1.0.0", "main": "main.js"}', "utf-8")
    (package / "main.js").write_text("module.exports = 'rising';", "utf-8")
    image.derive(f"npm install --install-links --offline --no-audit --no-fund {package}")
    image.derive(f"pip install --no-index {_wheel(tmp_path, 'hygrometer', 'READING = 40')}")
    yield image
    image.derive("pip uninstall --yes hygrometer")


def _wheel(folder: Path, name: str, source: str) -> Path:
    wheel = folder / f"{name}-1-py3-none-any.whl"
    about = f"{name}-1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", source)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


async def test_image_serves_a_call_with_private_tools_and_packages(
    derived: Build, confined: list[str], tmp_path: Path
) -> None:
    image = derived
    tools = image.path(environment()["TOOLS_DIR"])
    for name, source in {"weather.js": TOOL, "humidity.py": PYTHON_TOOL}.items():
        (tools / name).write_text(source, "utf-8")
        (tools / name).chmod(0o600)
        os.chown(tools / name, *map(int, last_stage("USER")[0][0].split(":")))
    async with RealtimeSimulator() as simulator:
        service = await _start(
            image,
            *last_stage("CMD")[0],
            before=confined,
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=simulator.url,
            PORT="0",
            ADMIN_PORT="0",
            WORKERS="1",
            TOOLS_DIR=str(tools),
        )
        try:
            serving = await service.line("serving")
            assert {"weather", "humidity"} <= {*(await service.line("tools loaded"))["tools"]}
            await service.line("link up")
            for path in ("/livez", "/readyz"):
                assert await _healthy(image, path, serving["admin_port"])
            url, heard = f"ws://127.0.0.1:{serving['port']}", tmp_path / "heard.wav"
            call = await _start(image, "call", url, "--wav", str(SPEECH), "--out", str(heard), "--seconds", "2")
            assert await call.ended() == 0, call.raw
            assert heard.stat().st_size > 8000
            assert await service.stop() == 0
        finally:
            if service.returncode is None:
                await service.kill()


async def _start(image: Build, *arguments: str, before: Sequence[str] = (), **settings: str) -> ServiceProcess:
    program = last_stage("ENTRYPOINT")[0][2]
    process = await asyncio.create_subprocess_exec(
        *before,
        str(_bin(image) / program),
        *arguments,
        env=_environment(image) | settings,
        cwd=image.path(last_stage("WORKDIR")[-1][0]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    return ServiceProcess(process, arguments[0])


async def _healthy(image: Build, path: str, admin_port: int) -> bool:
    _, *command = last_stage("HEALTHCHECK")[0]
    process = await asyncio.create_subprocess_exec(
        _bin(image) / command[0], *command[1:], path, env=_environment(image) | {"ADMIN_PORT": str(admin_port)}
    )
    return await process.wait() == 0


def _environment(image: Build) -> dict[str, str]:
    return {"PATH": f"{_bin(image)}{os.pathsep}{os.environ['PATH']}", "HOME": str(image.path("/usr/src/app"))}
