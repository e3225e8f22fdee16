"""JSON within JSON, and how deep it may be.

orjson reads 1,024 levels and writes 254: what comes in deeper than it can go out again would fail far from whoever
sent it.
"""

from __future__ import annotations

MAX_LEVELS = 100


def is_too_deep(value: object) -> bool:
    """Whether lists and objects stand within each other deeper than `MAX_LEVELS`."""
    layer = [value]
    for _ in range(MAX_LEVELS + 1):
        within: list[object] = []
        for each in layer:
            if isinstance(each, dict):
                within += each.values()
            elif isinstance(each, list):
                within += each
        if not within:
            return False
        layer = within
    return True
