"""YAML as nodes that know their lines, read more strictly than YAML itself.

Only JSON's values are more than text. So `no`, `20:00` and `2026-12-01` are texts, in every place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from simulator.dialogue.errors import FileErrors

MAX_DEPTH: Final = 20
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_CONSTANTS: Final = {"true": True, "false": False, "null": None, "": None}


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file.

    Attributes:
        line: its line, from 1.
        value: a text, number, constant, list of nodes, or map of nodes by their names.
        text: the text of a value that is neither a list nor a map, as it was written; None for those.
    """

    line: int
    value: Any
    text: str | None = None

    def plain(self) -> Any:
        """Return the value as JSON types."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value


def read_nodes(content: str, errors: FileErrors) -> Node:
    """Return the only document of a YAML text.

    Raises:
        DialogueError: the text is not YAML, or has what is not allowed here: names twice, anchors, tags.
    """
    try:
        for token in yaml.scan(content, Loader=yaml.SafeLoader):
            if isinstance(token, (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)):
                raise errors.at(token.start_mark.line + 1, "anchors, aliases and tags are refused: write it out")
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise errors.at(line, f"this is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise errors.of_file(f"this is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise errors.of_file(f"lists and maps are deeper than {MAX_DEPTH}: flatten them") from None
    if root is None:
        raise errors.of_file("the file is empty: it needs `steps:`")
    return _node(root, errors, MAX_DEPTH)


def _node(node: yaml.Node, errors: FileErrors, depth: int) -> Node:
    line = node.start_mark.line + 1
    if not depth:
        raise errors.at(line, f"lists and maps are deeper than {MAX_DEPTH}: flatten them")
    if isinstance(node, yaml.MappingNode):
        return Node(line, dict(_pairs(node, errors, depth)))
    if isinstance(node, yaml.SequenceNode):
        return Node(line, [_node(each, errors, depth - 1) for each in node.value])
    assert isinstance(node, yaml.ScalarNode)
    text: str = node.value
    return Node(line, text if node.style else _scalar(text), text)


def _pairs(node: yaml.MappingNode, errors: FileErrors, depth: int) -> Iterator[tuple[str, Node]]:
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise errors.at(line, "a name must be a text")
        if key.value in seen:
            raise errors.at(line, f"{key.value!r} is there twice: remove one")
        seen.add(key.value)
        yield key.value, _node(value, errors, depth - 1)


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return json.loads(text) if _NUMBER.fullmatch(text) else text
