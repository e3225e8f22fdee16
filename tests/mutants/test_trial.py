"""A trial in a tree of its own: a fault is put in, the tests decide, and the tree is whole again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.operators import Mutant, mutants_of
from tests.mutants.trial import SURVIVED, TIMED_OUT, Outcome, TrialTree

MODULE = """
def older(age):
    while age > 90:
        age += 1 - 2
    return age >= 18
"""
TESTS = """
from module import older

def test_young():
    assert not older(3)

def test_old():
    assert older(92)
"""
TESTS_OF_BOUNDARY = """
from module import older

def test_at_the_boundary():
    assert older(18)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "module.py").write_text(MODULE)
    (root / "test_module.py").write_text(TESTS)
    (root / "test_boundary.py").write_text(TESTS_OF_BOUNDARY)
    return root


def mutant_on(line: int, operator: str) -> Mutant:
    return next(one for one in mutants_of(MODULE.encode()) if (one.line, one.operator) == (line, operator))


def test_a_fault_is_named_with_the_test_that_notices_it(root: Path, tmp_path: Path) -> None:
    tree = TrialTree(root, tmp_path / "copy")
    boundary = mutant_on(5, "boundary")
    assert tree.try_mutant("module.py", boundary, ["test_module.py"], 60.0).verdict == SURVIVED
    both = tree.try_mutant("module.py", boundary, ["test_module.py", "test_boundary.py"], 60.0)
    assert both.verdict == "test_boundary.py::test_at_the_boundary"
    assert both.is_killed
    assert not tree.run(["test_module.py", "test_boundary.py"], 60.0).is_killed
    assert (root / "module.py").read_text() == MODULE


def test_a_fault_that_never_ends_is_stopped_and_killed(root: Path, tmp_path: Path) -> None:
    tree = TrialTree(root, tmp_path / "copy")
    outcome = tree.try_mutant("module.py", mutant_on(4, "arithmetic"), ["test_module.py"], 5.0)
    assert outcome == Outcome(TIMED_OUT, outcome.seconds)
    assert outcome.is_killed


def test_a_run_without_tests_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="named no test"):
        TrialTree(root, tmp_path / "copy").run(["-k", "nothing"], 60.0)
