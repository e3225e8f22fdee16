"""The tables of the Sans-I/O cores, of their tests, and of the tests with I/O name files that exist."""

from __future__ import annotations

import pytest

from tests.core_coverage import below_floor
from tests.cores import MODULES, RANDOM_TESTS, ROOT, TEST_PATTERNS, core_tests, ordered_tests
from tests.sans_io import WITH_IO


@pytest.mark.parametrize("pattern", [*MODULES, *TEST_PATTERNS, *RANDOM_TESTS])
def test_each_entry_of_the_table_is_a_file(pattern: str) -> None:
    assert list(ROOT.glob(pattern.partition("::")[0])), f"{pattern} is no file: correct pyproject.toml"


@pytest.mark.parametrize("path", WITH_IO)
def test_each_entry_of_the_tests_with_io_exists(path: str) -> None:
    assert (ROOT / "tests" / path.partition("::")[0]).exists(), f"{path} is no file: correct tests/sans_io.py"


def test_tests_nearest_to_a_module_come_first() -> None:
    tests = ordered_tests("worker/session/session.py")
    mirrors = [test for test in core_tests() if test.startswith("tests/worker/session/test_session")]
    assert sorted(tests[: len(mirrors)]) == sorted(mirrors)
    side = [test for test in core_tests() if test.startswith("tests/worker/")]
    assert sorted(tests[: len(side)]) == sorted(side)
    assert len(tests) == len(set(tests)) > len(core_tests()) > len(side)


def test_a_module_below_the_floor_or_not_measured_is_named() -> None:
    report = {
        "files": {
            name: {"summary": {"percent_covered": share}} for name, share in (("a.py", 95.0), ("b.py", 94.9))
        }
    }
    low, missing = below_floor(report, ["a.py", "b.py", "c.py"], 95)
    assert low.startswith("b.py is covered to 94.9%")
    assert missing.startswith("c.py is not measured")
