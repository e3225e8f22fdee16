"""The import graph of the product, read from its sources."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "dispatcher", "worker", "simulator")

Graph = Mapping[str, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Import:
    """One module imports another one, at the top, in a function, or for its types alone."""

    importer: str
    imported: str


def sources() -> list[Path]:
    """Return the product's source files, relative to the root of the repository."""
    return sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """Return the room of a module: its folder, or the module itself where it lies beside the rooms."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else module


def imports() -> list[Import]:
    """Read all imports between modules of the product."""
    modules = {module_of(path): path for path in sources()}
    return [
        Import(module, imported)
        for module, path in modules.items()
        for imported in _imported(ast.parse((ROOT / path).read_text("utf-8")), modules.keys())
        if imported != module
    ]


def imported_packages(path: Path) -> set[str]:
    """Return the top-level packages that a source file imports, the standard library's among them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def _imported(tree: ast.AST, modules: Iterable[str]) -> set[str]:
    known = set(modules)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = node.module or ""
            children = {f"{parent}.{alias.name}" for alias in node.names}
            # A package is imported for its sub-modules, or for a name of its own.
            found |= children if children <= known else {parent, *children}
    return found & known


def graph_of(edges: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Return the graph of these edges; an edge from a node to itself is left out."""
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            graph.setdefault(start, set()).add(end)
    return graph


def circles(graph: Graph) -> list[set[str]]:
    """Return the sets of nodes that reach each other."""
    reached = {node: _reached(graph, node) for node in graph}
    found: list[set[str]] = []
    for node, ends in reached.items():
        circle = {other for other in ends if node in reached.get(other, ())}
        if circle and circle not in found:
            found.append(circle)
    return found


def _reached(graph: Graph, start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for end in graph.get(waiting.pop(), ()):
            if end not in reached:
                reached.add(end)
                waiting.append(end)
    return reached
