from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from worker.tools import die_with_parent

LAUNCHER = die_with_parent.__file__

PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, {LAUNCHER!r}, str(os.getpid()), *sys.argv[1:]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
CHILD = "import signal; print('here', flush=True); signal.pause()"

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")


@linux
@pytest.mark.parametrize("stopped", [False, True])
def test_a_program_dies_with_its_parent_even_when_it_is_stopped(stopped: bool) -> None:
    command = [sys.executable, "-c", PARENT, sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if stopped:
            child.suspend()
        parent.kill()
        gone, _ = psutil.wait_procs([child], timeout=60)
    assert gone


def test_program_does_not_start_without_its_parent() -> None:
    command = [sys.executable, LAUNCHER, str(os.getppid()), sys.executable, "-c", "print('started')"]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, b"")


def test_a_program_that_cannot_be_started_is_named() -> None:
    command = [sys.executable, LAUNCHER, str(os.getpid()), "/nowhere/node"]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60, text=True)
    assert ended.returncode == 1
    assert ended.stderr == "/nowhere/node cannot be started: No such file or directory\n"
