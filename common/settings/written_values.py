"""Values as they are written in the environment: with quotes, comments, and words for "no value".

Compose's list form (`- NAME="value"`) and docker's `--env-file` keep quotes and comments as part of the value.
Programs that pass variables on write `undefined`, `None` or `null` for missing ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from common.settings import secret_files
from common.settings.fallbacks import ALWAYS_STOP, FREE_TEXT, MEANT_WORDS

UNSET_WORDS: Final = frozenset({"undefined", "null", "none"})

_COMMENT: Final = re.compile(r"(?:^|\s)#.*$", re.DOTALL)
_COMMENT_AFTER_JSON: Final = re.compile(r"(?<=[}\]])\s+#[^\"}\]]*$")
_HTTP_URL: Final = re.compile(r"https?://\S+", re.IGNORECASE)
_SPACE: Final = re.compile(r"\s")
_BEFORE_A_QUOTATION: Final = frozenset(" \t\n([{<:,;=-/\"'")


class Remark(NamedTuple):
    """A value that was changed before its use.

    Attributes:
        name: of the setting, in lower case.
        notice: a line for the log.
        refusal: a line for STRICT_SETTINGS; None: it is taken all the same.
    """

    name: str
    notice: str
    refusal: str | None


@dataclass(slots=True)
class Written:
    """The meant values, by lower-case name; empty ones are dropped.

    Attributes:
        values: of settings, and of all other variables.
        remarks: about changed values.
        faults: by name, a line for each word for "no value" that stops the start.
    """

    values: dict[str, str] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    def update(self, other: Written) -> None:
        """Merge another source, whose values win."""
        decided = other.values.keys() | other.faults.keys()
        self.remarks = [each for each in self.remarks if each.name not in decided] + other.remarks
        self.faults = {name: line for name, line in self.faults.items() if name not in decided} | other.faults
        self.values.update(other.values)

    def take_prompt(self) -> None:
        """Use text in OPENAI_URL_INSTRUCTIONS as the instructions, if there are no others.

        avr-app writes instructions there, which may begin like a URL (`Role: You are ...`).
        """
        text = self.values.get("openai_url_instructions", "")
        if _SPACE.search(text) and "openai_instructions" not in self.values:
            del self.values["openai_url_instructions"]
            self.values["openai_instructions"] = text
            what = "OPENAI_URL_INSTRUCTIONS holds text, not a URL:"
            self.remarks.append(
                Remark(
                    "openai_url_instructions",
                    f"{what} the text is used as OPENAI_INSTRUCTIONS",
                    f"{what} set OPENAI_INSTRUCTIONS instead",
                )
            )


def read(
    variables: Mapping[str, str | None],
    settings: Collection[str],
    secrets: Collection[str],
    *,
    has_comments: bool = True,
) -> Written:
    """Read the variables of one source.

    Args:
        variables: with names in any case.
        settings: names of all settings, and of the variables that name files of secrets.
        secrets: names of settings whose value has no comment.
        has_comments: values may contain comments.
    """
    written = Written()
    for given, raw in variables.items():
        name = given.lower()
        value = (raw or "").strip()
        if has_comments and name in settings and name not in secrets and name not in FREE_TEXT:
            meant = _without_comment(name, value)
            if meant != value:
                line = f"{name.upper()}: the comment after the value is not part of it"
                written.remarks.append(Remark(name, line, line))
                value = meant
        value = _without_quotes(value)
        if name in settings and value.lower() in UNSET_WORDS - MEANT_WORDS.get(name, frozenset()):
            refusal = f"{name.upper()}={value!r} is not a value: set a value, or remove the variable"
            # Without its file a token would be unset, and its port open to all.
            if name in ALWAYS_STOP or any(name == each + secret_files.SUFFIX for each in secrets):
                written.faults[name] = refusal
            else:
                written.remarks.append(Remark(name, f"{name.upper()}={value!r} counts as unset", refusal))
        elif value:
            written.values[name] = value
    return written


def _without_comment(name: str, value: str) -> str:
    if _is_quoted(value):
        return value
    comment = (_COMMENT_AFTER_JSON if value[:1] in {"{", "["} else _COMMENT).search(value)
    if comment is None:
        return value
    before = value[: comment.start()].rstrip()
    # Instructions in place of their URL may have headings (`# Role`).
    if name == "openai_url_instructions" and not _HTTP_URL.fullmatch(before):
        return value
    return before


def _without_quotes(value: str) -> str:
    return value[1:-1].strip() if _is_quoted(value) else value


def _is_quoted(value: str) -> bool:
    """Return whether one pair of quotes encloses the whole value: `"Hello" she said, "bye"` has two pairs."""
    if len(value) < 2 or value[0] != value[-1] or value[0] not in "\"'":
        return False
    # Line breaks may be written as two characters.
    text = value.replace("\\n", "  ")
    depth, lowest = 1, 1
    for index in range(1, len(text) - 1):
        if text[index] != value[0] or text[index - 1] == "\\":
            continue
        before, after = text[index - 1], text[index + 1]
        if before.isalnum() and after.isalnum():
            continue  # an apostrophe
        depth += 1 if before in _BEFORE_A_QUOTATION and not after.isspace() and after != value[0] else -1
        lowest = min(lowest, depth)
    # Otherwise a quote inside has no partner, as the plural in 'the callers' names'.
    return not (lowest == 0 and depth == 1)
