"""Variables whose names look like settings but are not, because a misspelt setting has no effect."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from typing import Final

MAX_NAMED: Final = 10
"""Maximum number of variables that are named, each in a line."""

MAX_CHARACTERS: Final = 64
"""Maximum length of a shown name; a longer name is not a misspelt setting."""

_OURS: Final = "openai_"
_LIKENESS: Final = 0.75
"""For names that begin with OPENAI_, which few other programs read."""
_LIKENESS_OF_OTHERS: Final = 0.85

# Variables of OpenAI's own packages and command, of AVR's other containers, and of Kubernetes for its services.
_FOREIGN: Final = re.compile(
    r"""
    openai_(?:
        log | org_id | project_id | admin_key | webhook_secret | default_model | custom_headers | user_agent
        | api_(?:type|version|base|host) | key_path | organization_id | timeout | max_retries
        | (?:agents|assistants?|tts|stt|asr|llm|whisper|embeddings?|image|vector|file_search|chat)(?:_.*)?
        | port(?:_.*)? | service_(?:host|port)(?:_.*)?
    )
    | ami_(?:host|port|user|username|password|secret)
    | redis_(?:host|port|user|username|password|db|tls_url)
    """,
    re.VERBOSE,
)


def notices(
    given: Collection[str], known: Collection[str], elsewhere: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield names of variables that are not settings, with a log line each; the last line stands for the rest.

    Args:
        given: names of all variables, in lower case.
        known: names of settings, and of the variables that name files of secrets, in lower case.
        elsewhere: names of variables that tools read, in any case.
    """
    ignored = {each.lower() for each in elsewhere}
    beginnings = {f"{name.split('_')[0]}_" for name in known if "_" in name}
    told = [
        (name, near)
        for name in sorted(given)
        if name not in known and name not in ignored and _looks_like_a_setting(name, beginnings)
        for near in [nearest(name, known)]
        if near is not None or name.startswith(_OURS)
    ]
    for name, near in told[:MAX_NAMED]:
        shown = name[:MAX_CHARACTERS].upper() + ("..." if len(name) > MAX_CHARACTERS else "")
        question = "" if near is None else f": did you mean {near.upper()}?"
        yield name, f"{shown} is not a setting and has no effect{question}"
    if len(told) > MAX_NAMED:
        yield "", f"{len(told) - MAX_NAMED} more variables are not settings and have no effect"


def _looks_like_a_setting(name: str, beginnings: Collection[str]) -> bool:
    return any(name.startswith(each) for each in beginnings) and _FOREIGN.fullmatch(name) is None


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the setting whose name is most like that of a variable; None: no name is near."""
    if len(name) > MAX_CHARACTERS:
        return None
    words = sorted(name.split("_"))
    for each in known:
        if sorted(each.split("_")) == words:
            return each
    likeness = _LIKENESS if name.startswith(_OURS) else _LIKENESS_OF_OTHERS
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=likeness)
    return found[0] if found else None
