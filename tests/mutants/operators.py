"""Mutants of a module: places in its source, and the small faults that can be put there.

No mutant changes annotations, docstrings, decorators, log lines, errors, assertions or f-strings. No behaviour
depends on them, or their wording may change. Constants in capitals keep their values: tests use their names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], list[tuple[str, type[ast.cmpop]]]] = {
    ast.Eq: [("comparison", ast.NotEq)],
    ast.NotEq: [("comparison", ast.Eq)],
    ast.Is: [("comparison", ast.IsNot)],
    ast.IsNot: [("comparison", ast.Is)],
    ast.In: [("membership", ast.NotIn)],
    ast.NotIn: [("membership", ast.In)],
    ast.Lt: [("comparison", ast.GtE), ("boundary", ast.LtE)],
    ast.LtE: [("comparison", ast.Gt), ("boundary", ast.Lt)],
    ast.Gt: [("comparison", ast.LtE), ("boundary", ast.GtE)],
    ast.GtE: [("comparison", ast.Lt), ("boundary", ast.Gt)],
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
}
_EXTREMES = {"min": "max", "max": "min"}
_EMPTY = {"list": "[]", "tuple": "()", "dict": "{}", "str": '""', "bytes": 'b""', "set": "set()"}
_LOG_METHODS = {"debug", "info", "warning", "error", "exception"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault in one place.

    Attributes:
        line: of the place in the source, from 1.
        operator: kind of the fault.
        start: offset of the replaced bytes.
        end: offset after the replaced bytes.
        text: put in their place.
    """

    line: int
    operator: str
    start: int
    end: int
    text: str

    def applied_to(self, source: bytes) -> bytes:
        """Return the module's source with this fault."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def described(self, source: bytes) -> str:
        """Return the change in one line."""
        before = source[self.start : self.end].decode()
        return f"{_one_line(before)}  →  {_one_line(self.text)}"


def mutants_of(source: bytes) -> list[Mutant]:
    """Return all mutants of a module, in the order of its lines."""
    found = _Finder(source)
    found.visit(ast.parse(source))
    return sorted(found.mutants, key=lambda mutant: (mutant.start, mutant.end, mutant.operator, mutant.text))


class _Finder(ast.NodeVisitor):
    """Visitor of a module that collects its mutants."""

    def __init__(self, source: bytes) -> None:
        self.mutants: list[Mutant] = []
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []

    # No mutants here

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Skip f-strings: Python 3.11 does not tell positions in them."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Skip errors and their texts."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Skip assertions, which narrow types."""

    def visit_arg(self, node: ast.arg) -> None:
        """Skip the annotations of arguments."""

    def visit_Expr(self, node: ast.Expr) -> None:
        """Remove calls; skip docstrings and log lines."""
        if isinstance(node.value, ast.Constant) or _is_log(node.value):
            return
        if isinstance(node.value, ast.Call):
            self._replace(node, "removed statement", "pass")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Visit default values and the body."""
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Visit default values and the body."""
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name == "__repr__":
            return
        self._functions.append(node)
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)
        self._functions.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Visit the body, without decorators and bases."""
        for statement in node.body:
            self.visit(statement)

    # Statements

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Visit the value, without the annotation."""
        if node.value is not None and not self._is_fixed(node.target):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Remove an assignment unless the name would not exist."""
        if any(self._is_fixed(target) for target in node.targets):
            return
        if self._is_removable(node.targets):
            self._replace(node, "removed statement", "pass")
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Remove an assignment, or invert its arithmetic."""
        self._replace(node, "removed statement", "pass")
        if (other := _ARITHMETIC.get(type(node.op))) is not None:
            changed = ast.AugAssign(node.target, other(), node.value)
            self._replace(node, "arithmetic", ast.unparse(changed))
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        """Keep what would be deleted."""
        self._replace(node, "removed statement", "pass")

    def visit_Return(self, node: ast.Return) -> None:
        """Change the value, or remove an early return."""
        if node.value is None:
            self._replace(node, "removed statement", "pass")
            return
        annotation = ast.unparse(self._functions[-1].returns) if self._functions[-1].returns else ""
        value = ast.unparse(node.value)
        if annotation == "bool" and not isinstance(node.value, ast.Constant):
            self._replace(node, "return value", f"return not ({value})")
        elif annotation in {"int", "float"}:
            self._replace(node, "return value", f"return ({value}) + 1")
        elif (empty := _EMPTY.get(annotation.split("[")[0])) is not None and value != empty:
            self._replace(node, "return value", f"return {empty}")
        elif annotation.endswith("| None") and value != "None":
            self._replace(node, "return value", "return None")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        """Negate a condition that is not a comparison."""
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """Negate a condition that is not a comparison."""
        self._negate(node.test)
        self.generic_visit(node)

    # Expressions

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Negate a condition that is not a comparison."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Leave `not` out."""
        if isinstance(node.op, ast.Not):
            self._replace(node, "negation", f"({ast.unparse(node.operand)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap `and` and `or`."""
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, "and/or", f"({ast.unparse(ast.BoolOp(other, node.values))})")
        for value in node.values:
            self._negate(value)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Flip a comparison, or move its boundary."""
        for index, operator in enumerate(node.ops):
            for name, other in _COMPARISONS[type(operator)]:
                operators = [*node.ops[:index], other(), *node.ops[index + 1 :]]
                changed = ast.Compare(node.left, operators, node.comparators)
                self._replace(node, name, f"({ast.unparse(changed)})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Invert arithmetic."""
        if (other := _ARITHMETIC.get(type(node.op))) is not None and not _is_text(node):
            self._replace(node, "arithmetic", f"({ast.unparse(ast.BinOp(node.left, other(), node.right))})")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Swap `min` and `max`; skip log lines."""
        if _is_log(node):
            return
        if isinstance(node.func, ast.Name) and node.func.id in _EXTREMES and len(node.args) > 1:
            self._replace(node.func, "arithmetic", _EXTREMES[node.func.id])
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Invert truth values; add 1 to numbers, or take 1 from them."""
        if isinstance(node.value, bool):
            self._replace(node, "constant", str(not node.value))
        elif isinstance(node.value, int | float):
            for other in (node.value + 1, node.value - 1):
                self._replace(node, "constant", f"({other!r})")

    def _negate(self, test: ast.expr) -> None:
        """Negate a condition; comparisons and `not` have operators of their own."""
        if isinstance(test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr):
            self._replace(test, "negation", f"(not ({ast.unparse(test)}))")

    def _is_fixed(self, target: ast.expr) -> bool:
        """Tell whether a module or class gives this name its fixed value."""
        return (
            not self._functions
            and isinstance(target, ast.Name)
            and (target.id.startswith("__") or target.id.isupper())
        )

    def _is_removable(self, targets: list[ast.expr]) -> bool:
        """Tell whether the module runs without this assignment, so that a test has to find its absence."""
        if not self._functions or self._functions[-1].name in {"__init__", "__post_init__"}:
            return False
        bound = list(_names_bound(self._functions[-1]))
        return all(
            not isinstance(target, ast.Name) or bound.count(target.id) > 1 for target in targets
        ) and not any(isinstance(target, ast.Tuple) for target in targets)

    def _replace(self, node: ast.expr | ast.stmt, operator: str, text: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._line_starts[node.lineno - 1] + node.col_offset
        end = self._line_starts[node.end_lineno - 1] + node.end_col_offset
        self.mutants.append(Mutant(node.lineno, operator, start, end, text))


def _names_bound(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield each name that a function binds, as often as it does."""
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _is_log(node: ast.expr) -> bool:
    """Tell whether an expression writes a log line or makes a logger."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    owner = ast.unparse(node.func.value)
    return (owner.endswith("log") and node.func.attr in _LOG_METHODS) or owner.startswith("structlog")


def _is_text(node: ast.BinOp) -> bool:
    """Tell whether an operand is text or a list, so that only `+` makes sense."""
    return any(
        isinstance(side, ast.JoinedStr | ast.List | ast.ListComp | ast.Tuple)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _one_line(text: str, most: int = 90) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
