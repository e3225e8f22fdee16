"""Names of recordings, whatever uuid a core sends."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.recording import names

STARTED_AT = 1_764_535_669.25
UUID = "1f0c6f8e-2f5b-4ab4-9f0e-000000000001"
UUIDS = [
    UUID,
    "a",
    "..",
    "a.b:c@d-e",
    "%2E",
    "x" * 128,
    "." * 128,
    "/../x",
    "ä",
    "~",
]


@pytest.mark.parametrize("uuid", UUIDS)
def test_name_is_safe_and_tells_its_parts(uuid: str) -> None:
    name = names.file_name(uuid, STARTED_AT, "pod-0.example")
    assert PurePath(name).name == name
    assert not name.startswith(".")
    assert name.isascii()
    assert len(f".{name}.part") <= 255
    assert names.parse(name) == names.Name(names.encoded(uuid), STARTED_AT, "pod-0.example")


def test_readable_uuid_stays_readable() -> None:
    name = names.file_name(UUID, STARTED_AT, "host")
    assert name == f"{UUID}-20251130T204749.250000Z-host.wav"


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_two_uuids_have_two_names(one: str, other: str) -> None:
    assert (names.encoded(one) == names.encoded(other)) is (one == other)


def test_uuid_that_looks_like_a_name_is_no_other_call() -> None:
    crafted = names.file_name("a", STARTED_AT, "h").removesuffix(".wav")
    parsed = names.parse(names.file_name(crafted, STARTED_AT, "h"))
    assert parsed is not None
    assert parsed.uuid == names.encoded(crafted) != names.encoded("a")


@pytest.mark.parametrize("host", ["", "a/b", "ä" * 100, "h" * 300])
def test_any_host_is_safe(host: str) -> None:
    assert names.parse(names.file_name("a", STARTED_AT, host)) is not None


@pytest.mark.parametrize("name", ["a.wav", ".sweep", "a-20259930T204749.250000Z-h.wav", "notes.txt"])
def test_other_files_are_no_recordings(name: str) -> None:
    assert names.parse(name) is None
