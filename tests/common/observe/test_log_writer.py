"""Log lines are written by a thread, so that a stalled reader delays no call."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from common.observe.log_writer import EXIT_SECONDS, MAX_BYTES, MAX_LINES

PIPE_BYTES = 4096

BEGIN = """
import sys
from common.observe import log_writer, logs
log_writer.install()
logs.configure("worker")
log = logs.get_logger()
"""


class Program:
    """A process whose stdin and stdout are the test's, and whose stderr is a small pipe."""

    def __init__(self, body: str) -> None:
        self.stderr, theirs = os.pipe()
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + textwrap.dedent(body)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        os.close(theirs)

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def stop_reading(self) -> None:
        if self.stderr >= 0:
            os.close(self.stderr)
            self.stderr = -1

    def lines(self) -> list[str]:
        """Return all written lines, up to the end."""
        with os.fdopen(self.stderr, "rb") as pipe:
            self.stderr = -1
            return pipe.read().decode().splitlines()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines()]


@pytest.fixture
def run() -> Iterator[Callable[[str], Program]]:
    programs: list[Program] = []

    def run(body: str) -> Program:
        programs.append(Program(body))
        return programs[-1]

    yield run
    for program in programs:
        program.stop_reading()
        program.process.kill()
        program.process.communicate()


def test_lines_are_dropped_counted_and_reported_once(run: Callable[[str], Program]) -> None:
    lines = MAX_LINES + 1000
    program = run(f"""
        counted = 0
        def count(lines):
            global counted
            counted += lines
        log_writer.count_dropped(count)
        for number in range({lines}):
            log.info("line", number=number)
        print(counted, flush=True)
        sys.stdin.readline()
        """)
    dropped = int(program.says())
    assert 900 <= dropped <= 1000, "the pipe takes a few lines more than the queue"
    program.go_on()
    events = program.events()
    (report,) = [event for event in events if event["event"] == "log lines were dropped"]
    assert (report["level"], report["lines"]) == ("error", dropped)
    assert [event["number"] for event in events if event["event"] == "line"] == [*range(lines - dropped)]


def test_the_queue_is_bounded_by_bytes_too(run: Callable[[str], Program]) -> None:
    program = run(f"""
        counted = 0
        def count(lines):
            global counted
            counted += lines
        for _ in range(40):
            log.info("long", text="x" * {MAX_BYTES // 20})
        log_writer.count_dropped(count)  # earlier dropped lines are counted, too
        print(counted, flush=True)
        sys.stdin.readline()
        """)
    assert 18 <= int(program.says()) <= 22
    program.go_on()
    assert program.events()[-1]["event"] == "log lines were dropped"


def test_a_line_that_is_too_long_is_dropped_and_reported(run: Callable[[str], Program]) -> None:
    program = run(f"""
        log.info("too long", text="x" * {MAX_BYTES})
        """)
    assert [(event["event"], event.get("lines")) for event in program.events()] == [("log lines were dropped", 1)]


def test_the_last_lines_are_seen_at_a_crash(run: Callable[[str], Program]) -> None:
    program = run("""
        log.error("the last line")
        raise RuntimeError("why")
        """)
    lines = program.lines()
    assert json.loads(lines[0])["event"] == "the last line"
    assert lines[-1] == "RuntimeError: why"
    assert program.process.wait() == 1


def test_all_that_python_writes_goes_the_same_way(run: Callable[[str], Program]) -> None:
    """Nothing of it waits for the reader: prints, warnings, tracebacks of threads."""
    program = run("""
        import threading, warnings
        def fail():
            raise ValueError("in a thread")
        for _ in range(1000):
            print("printed", file=sys.stderr, flush=True)
            sys.stderr.buffer.write(b"bytes\\n")
            warnings.warn("old", DeprecationWarning)
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        print("alive", flush=True)
        sys.stdin.readline()
        """)
    assert program.says() == "alive"
    program.go_on()
    lines = program.lines()
    assert lines.count("printed") == lines.count("bytes") == 1000
    assert "ValueError: in a thread" in lines


@pytest.mark.parametrize("ending", ["", "raise RuntimeError", "sys.exit('told')"], ids=["ends", "raises", "exits"])
def test_the_end_does_not_wait_for_a_stalled_reader(run: Callable[[str], Program], ending: str) -> None:
    program = run(f"""
        for number in range({MAX_LINES}):
            log.info("line", number=number)
        print("over", flush=True)
        {ending}
        """)
    assert program.says() == "over"
    started = time.monotonic()
    assert program.process.wait(timeout=60) == (1 if ending else 0)
    assert time.monotonic() - started >= EXIT_SECONDS / 2, "it gave the reader a moment"


def test_a_reader_that_went_away_does_not_hurt(run: Callable[[str], Program]) -> None:
    program = run(f"""
        counted = 0
        def count(lines):
            global counted
            counted += lines
        log_writer.count_dropped(count)
        sys.stdin.readline()
        for number in range({2 * MAX_LINES}):
            log.info("line", number=number)
        log_writer.flush(60)
        print(counted, flush=True)
        """)
    program.stop_reading()
    program.go_on()
    assert int(program.says()) >= 2 * MAX_LINES
    assert program.process.wait(timeout=60) == 0


def test_a_stderr_that_must_not_block_is_waited_for(run: Callable[[str], Program]) -> None:
    """Whoever shares it may have set O_NONBLOCK, which is the pipe's and not the process's."""
    program = run("""
        import os
        os.set_blocking(2, False)
        for number in range(1000):
            log.info("line", number=number)
        print("over", flush=True)
        sys.stdin.readline()
        """)
    assert program.says() == "over"
    program.go_on()
    assert [event["number"] for event in program.events()] == [*range(1000)]


def test_a_line_of_a_page_is_never_torn(run: Callable[[str], Program]) -> None:
    """Processes share stderr, and up to PIPE_BUF bytes are written as one."""
    program = run("""
        import os
        child = os.fork()  # before there is a thread: it starts with the first line
        for number in range(2000):
            log.info("line", number=number, text="x" * (number % 500))
        if child:
            os.waitpid(child, 0)
        """)
    assert len(program.events()) == 4000


def test_a_console_is_known_by_the_stream() -> None:
    master, slave = os.openpty()
    program = "import sys; from common.observe import log_writer; log_writer.install(); print(sys.stderr.isatty())"
    out = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=slave, check=True)
    os.close(master)
    os.close(slave)
    assert out.stdout == b"True\n"


def test_a_finalizer_may_write_while_a_line_is_taken(run: Callable[[str], Program]) -> None:
    """The garbage collector may run at any time, and Python warns of files that were not closed."""
    program = run("""
        import gc
        class Left:
            def __del__(self):
                print("finalized", file=sys.stderr)
        put = log_writer.LogWriter._put
        def put_and_collect(self, line):
            left = Left()
            left.cycle = left
            del left
            log_writer.LogWriter._put = put
            gc.collect()
            return put(self, line)
        log_writer.LogWriter._put = put_and_collect
        print("a line", file=sys.stderr)
        """)
    assert sorted(program.lines()) == ["a line", "finalized"]
