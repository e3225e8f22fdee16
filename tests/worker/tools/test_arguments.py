from __future__ import annotations

import pytest

from worker.tools.arguments import MAX_ARGUMENTS_CHARACTERS, parse
from worker.tools.errors import InvalidArguments


@pytest.mark.parametrize("nothing", ["", " ", "{}", " {}\n"])
def test_empty_text_means_no_arguments(nothing: str) -> None:
    assert parse(nothing) == {}


def test_an_object_is_read() -> None:
    assert parse('{"city": "Köln", "days": [1, 2.5, null]}') == {"city": "Köln", "days": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"city": ', "not valid JSON"),
        ("city=Rome", "not valid JSON"),
        ('{"city": NaN}', "not valid JSON"),
        ('{"city": "\ud800"}', "not valid JSON"),
        ('["Rome"]', "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 5000, "nested deeper than 90 levels"),
        ('{"a":' * 91 + "1" + "}" * 91, "nested deeper than 90 levels"),
        ('{"city": "' + "x" * MAX_ARGUMENTS_CHARACTERS + '"}', "longer than"),
    ],
)
def test_anything_but_an_object_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidArguments, match=said) as refused:
        parse(text)
    assert len(str(refused.value)) < 300
