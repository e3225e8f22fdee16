"""The part of a Markdown page that a script writes, between two comments."""

from __future__ import annotations


def replaced(page: str, begin: str, end: str, part: str) -> str:
    """Return the page with `part` between its lines `begin` and `end`.

    Raises:
        ValueError: the page has no place for the part.
    """
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page has no place for what is written: add the lines {begin} and {end}")
    return f"{before}{begin}\n{part}\n{end}{after}"
