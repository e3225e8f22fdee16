"""Mutants of a module: which faults are made, and what is left as it is."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.operators import mutants_of


def changed(source: str) -> set[str]:
    """Return the last line of each mutant of a source, without brackets."""
    return {
        mutant.applied_to(source.encode()).decode().splitlines()[-1].strip().translate({40: None, 41: None})
        for mutant in mutants_of(source.encode())
    }


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a >= b", "a <= b"}),
        ("a == b", {"a != b"}),
        ("a in b", {"a not in b"}),
        ("a and b < c", {"a or b < c", "not a and b < c", "a and b >= c", "a and b <= c"}),
        ("not a", {"a"}),
        ("a if b else c", {"a if not b else c"}),
        ("a + 3", {"a - 3", "a + 4", "a + 2"}),
        ("min(a, b)", {"maxa, b"}),
        ("True", {"False"}),
    ],
)
def test_each_operator_changes_an_expression(source: str, expected: set[str]) -> None:
    assert changed(f"value = {source}") == {f"value = {text}" for text in expected}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("    self.run()", {"pass"}),
        ("    self.a = b", {"pass"}),
        ("    self.a += b", {"pass", "self.a -= b"}),
        ("    del self.a", {"pass"}),
        ("    return", {"pass"}),
        ("    b = self.a", set()),
    ],
)
def test_statements_are_removed_unless_a_name_would_be_missing(source: str, expected: set[str]) -> None:
    assert changed(f"def f(self):\n{source}") == expected


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("bool", {"return not a"}),
        ("int", {"return a + 1"}),
        ("list[int]", {"return []"}),
        ("Item | None", {"return None"}),
        ("Item", set()),
    ],
)
def test_a_returned_value_changes_by_its_type(annotation: str, expected: set[str]) -> None:
    assert changed(f"def f(self) -> {annotation}:\n    return a") == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "value: Literal[1] | None",
        "def f(value: Literal[1]) -> Literal[2]: ...",
        "__slots__ = (1, 2)",
        "MOST = 3",
        "@decorated(1)\nclass A(Base[1]): ...",
        "def f():\n    raise Broken(1, a < b)",
        "def f():\n    assert a < b",
        "def f():\n    self._log.warning(seconds=1 + 1)",
        'def f():\n    yield f"{a < b}"',
    ],
)
def test_names_types_logs_and_errors_have_no_mutants(source: str) -> None:
    assert mutants_of(source.encode()) == []


def test_mutants_behind_other_alphabets_are_put_in_their_place() -> None:
    source = 'def f(self):\n    say("grüß 電話", 1); self.a = (1 <\n        2)\n'
    for mutant in mutants_of(source.encode()):
        ast.parse(mutant.applied_to(source.encode()))
    assert "1 <\n" not in next(
        mutant.applied_to(source.encode()).decode()
        for mutant in mutants_of(source.encode())
        if mutant.operator == "boundary"
    )
