from __future__ import annotations

import pytest

from tests.chaos.speech import recorded, spoken


@pytest.mark.parametrize("words", [1, 2, 5, 8])
def test_as_many_words_are_heard_as_are_said(words: int) -> None:
    assert spoken(words).turns == (words,)
    assert spoken(words).seconds == pytest.approx(0.4 * words)


def test_recorded_speech_has_the_turns_that_its_pauses_make() -> None:
    assert len(recorded().turns) == 2
    assert recorded().seconds > 8
