"""Problems that leave a process ready, as lines in the body of `/readyz` and on the page.

An unready process would get no calls, and neither a restart nor another target would mend one of these.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Final

REDIS_AWAY: Final = "Redis cannot be reached: running calls go on, new calls go to the last known workers"

MAX_CODES: Final = 5
"""Maximum number of codes that are named. Workers normally have one, because they share a key."""

_CODE = re.compile(r"[a-z0-9_]{1,64}")


def key_refused(code: str) -> str:
    """Return the line for a worker whose own key is refused with this code."""
    return f"the Realtime API refused the last attempt with OPENAI_API_KEY: {code}"


def keys_refused(problems: Iterable[str]) -> list[str]:
    """Return the lines for the `problem` of each worker of the table; empty ones are none."""
    workers = list(problems)
    codes = Counter(code if _CODE.fullmatch(code) else "unknown" for code in workers if code)
    return [
        f"{key_refused(code)} (on {count} of {len(workers)} workers)"
        for code, count in codes.most_common(MAX_CODES)
    ]
