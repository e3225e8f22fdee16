from __future__ import annotations

import pytest

from common.observe.label_values import is_fit
from common.observe.redaction import CallSecrets
from tests.common.observe.test_metric_labels import OF_A_CALL


@pytest.mark.parametrize("value", ["acme", "Acme_2", "gpt-realtime-2025-08-28", "eu/acme:gold.1", "x" * 64])
def test_a_word_is_fit_for_a_label(value: str) -> None:
    assert is_fit(value)


def test_a_value_that_may_identify_a_call_is_not_fit() -> None:
    assert [value for value in OF_A_CALL if is_fit(value)] == []


@pytest.mark.parametrize("value", ["x" * 65, "müller", "a,b"])
def test_a_value_that_is_no_word_is_not_fit(value: str) -> None:
    assert not is_fit(value)


def test_a_known_secret_is_not_fit_for_a_label() -> None:
    secrets = CallSecrets("call-1")
    secrets.keep(frozenset({"key-of-acme"}))
    try:
        assert not is_fit("key-of-acme")
    finally:
        secrets.close()
