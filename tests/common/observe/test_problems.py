from __future__ import annotations

import pytest

from common.observe.problems import MAX_CODES, keys_refused

TEXT = "the Realtime API refused the last attempt with OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("problems", "lines"),
    [
        ([], []),
        (["", ""], []),
        (["invalid_api_key", "", "invalid_api_key"], [f"{TEXT}: invalid_api_key (on 2 of 3 workers)"]),
        (
            ["tls", "http_401", "http_401"],
            [f"{TEXT}: http_401 (on 2 of 3 workers)", f"{TEXT}: tls (on 1 of 3 workers)"],
        ),
        (["a line\nbreak"], [f"{TEXT}: unknown (on 1 of 1 workers)"]),
    ],
)
def test_workers_are_counted_by_code(problems: list[str], lines: list[str]) -> None:
    assert keys_refused(problems) == lines


def test_a_bounded_number_of_codes_is_named() -> None:
    assert len(keys_refused(f"code_{number}" for number in range(100))) == MAX_CODES
