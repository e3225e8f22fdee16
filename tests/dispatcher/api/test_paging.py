from __future__ import annotations

import contextlib

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.api import paging
from dispatcher.api.commands import CommandError


@given(st.integers(0, 2**53), st.text(max_size=100), st.sampled_from(["", "ended", "ended&from=%2B39+02&limit=5"]))
def test_link_leads_to_its_place_and_keeps_the_filter(at_ms: int, name: str, query: str) -> None:
    request = make_mocked_request("GET", f"/voice/calls?{query}")
    link = paging.next_page(request, (at_ms, name))["Link"]
    assert link.startswith("<calls?")
    assert link.endswith('>; rel="next"')
    followed = make_mocked_request("GET", "/voice/" + link[1:].partition(">")[0])
    assert paging.cursor(followed) == (at_ms, name)
    kept = {key: value for key, value in followed.query.items() if key != "cursor"}
    assert kept == dict(request.query)


def test_last_page_has_no_link() -> None:
    assert paging.next_page(make_mocked_request("GET", "/calls"), None) == {}


@given(st.text(max_size=200))
def test_any_cursor_is_refused_or_read(written: str) -> None:
    request = make_mocked_request("GET", "/calls")
    url = request.rel_url.update_query(cursor=written)
    with contextlib.suppress(CommandError):
        assert paging.cursor(make_mocked_request("GET", str(url))) is not None


@pytest.mark.parametrize("written", ["0", "1001", "-1", "1e2", "\u0661", ""])
def test_wrong_limit_is_refused(written: str) -> None:
    request = make_mocked_request("GET", "/calls")
    with pytest.raises(CommandError, match="limit"):
        paging.limit(make_mocked_request("GET", str(request.rel_url.update_query(limit=written))))


def test_limit_has_a_default() -> None:
    assert paging.limit(make_mocked_request("GET", "/calls")) == paging.MAX_PAGE
    assert paging.limit(make_mocked_request("GET", "/calls?limit=7")) == 7
