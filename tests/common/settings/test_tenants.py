from __future__ import annotations

import pytest

from common.settings.roles import Role
from common.settings.tenants import MAX_TENANTS, MAX_VALUES, NO_TENANTS, PageTenants, Tenants
from tests.common.settings.parsing import parse, refusal

UUID = "3f0c7a52-9b1d-4e8f-a6c4-5d2e1f0b9a87"


def tenants(written: str, key: str = "to") -> Tenants:
    return parse(TENANT_KEY=key, TENANTS=written).known_tenants


def test_without_the_key_there_are_no_tenants() -> None:
    found = parse(TENANTS="acme").known_tenants
    assert not found
    assert found.names == ()
    assert found.labels == ("",)
    assert found.of_call({"to": "acme"}, {"tenant": "acme"}) == ""
    assert found.told("acme") == ""
    assert not NO_TENANTS


@pytest.mark.parametrize("written", ["acme,globex", " acme , globex ,", '["acme", "globex"]'])
def test_a_listed_value_is_the_tenant(written: str) -> None:
    found = tenants(written)
    assert found.names == ("acme", "globex")
    assert found.labels == ("acme", "globex", "other")
    assert found.of_call({"to": "globex"}, {}) == "globex"
    assert found.of_call({"to": " ACME "}, {}) == "acme"


@pytest.mark.parametrize("metadata", [{}, {"to": ""}, {"to": "umbrella"}, {"to": UUID}, {"from": "acme"}])
def test_any_other_value_is_other(metadata: dict[str, str]) -> None:
    assert tenants("acme").of_call(metadata, {}) == "other"


def test_without_a_list_each_call_is_of_other() -> None:
    assert tenants("").of_call({"to": "acme"}, {}) == "other"


@pytest.mark.parametrize("number", ["+4930123456", "004930123456", "4930123456", "+49 30 123456"])
def test_a_number_stands_for_the_name_that_lists_it(number: str) -> None:
    found = tenants("acme=+49 30 123456|+4930123457, globex = 4940777000, umbrella")
    assert found.names == ("acme", "globex", "umbrella")
    assert found.of_call({"to": number}, {}) == "acme"
    assert found.of_call({"to": "4940777000"}, {}) == "globex"
    assert found.of_call({"to": "umbrella"}, {}) == "umbrella"
    assert found.of_call({"to": "4940777"}, {}) == "other"


def test_init_names_listed_tenants_alone_and_comes_first() -> None:
    found = tenants("acme,globex")
    assert found.of_call({"to": "acme"}, {"tenant": "globex"}) == "globex"
    assert found.of_call({"to": "acme"}, {"tenant": "umbrella"}) == "acme"
    assert found.of_call({}, {"tenant": 7}) == "other"


def test_the_answer_names_listed_tenants_and_others() -> None:
    found = tenants("acme=+4930123456")
    assert found.of_answer("ACME") == "acme"
    assert found.of_answer("+4930123456") == "acme"
    assert found.of_answer("umbrella") == "umbrella"


@pytest.mark.parametrize("value", ["", "+4930123457", UUID, "two words", "x" * 65, 7, ["acme"], {}])
def test_a_value_that_is_no_name_is_refused_without_repeating_it(value: object) -> None:
    with pytest.raises(ValueError, match="must be a name") as raised:
        tenants("acme=+4930123456").of_answer(value)
    assert "+4930123457" not in str(raised.value)


def test_a_name_that_another_process_told_is_checked_again() -> None:
    found = tenants("acme")
    assert [found.told(name) for name in ("acme", "umbrella", "", "+4930123456", UUID, "a b")] == [
        *("acme", "umbrella", ""),
        *["other"] * 3,
    ]


def test_calls_from_the_page_belong_to_no_tenant() -> None:
    page = PageTenants()
    for found in (page, tenants("acme"), parse().known_tenants):
        assert found.told("page") == "page"
    assert page.of_call({"to": "acme"}, {"tenant": "acme"}) == "page"
    assert page.told("acme") == "page"
    with pytest.raises(ValueError, match="and not page"):
        tenants("acme").of_answer("Page")


def test_the_most_tenants_are_accepted_and_one_more_is_not() -> None:
    names = [f"t{number}" for number in range(MAX_TENANTS + 1)]
    assert len(tenants(",".join(names[:-1])).names) == MAX_TENANTS
    line = refusal(TENANT_KEY="to", TENANTS=",".join(names))
    assert line.startswith("TENANTS=")
    assert line.endswith("must have at most 40 tenants, and has 41: all others are other")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("acme,+4930123456", "has a wrong name in entry 2"),
        ("acme, two words", "has a wrong name in entry 2"),
        (f"acme,{UUID}", "has a wrong name in entry 2"),
        ("other", "has a wrong name in entry 1"),
        ("acme,Page", "has a wrong name in entry 2"),
        ("acme,=7", "has a wrong name in entry 2"),
        ("acme=", "has an empty value in entry 1"),
        ("acme=7||8", "has an empty value in entry 1"),
        ("acme,globex,ACME", "has one value in the entries 1 and 3"),
        ("acme=+49301|+49302,globex=0049301", "has one value in the entries 1 and 2"),
        ("acme=globex,globex", "has one value in the entries 1 and 2"),
        ("[7]", "must be names with commas between them"),
        ("[", "is not JSON"),
    ],
)
@pytest.mark.parametrize("role", list(Role))
def test_a_wrong_list_stops_the_start(role: Role, written: str, problem: str) -> None:
    line = refusal(role, TENANT_KEY="to", TENANTS=written)
    assert line.startswith("TENANTS=")
    assert problem in line


def test_the_number_of_values_is_bounded() -> None:
    numbers = [str(4_930_000_000 + number) for number in range(MAX_VALUES + 1)]
    assert tenants(f"acme={'|'.join(numbers[:-1])}").of_call({"to": numbers[-2]}, {}) == "acme"
    assert "has more than 2000 values" in refusal(TENANT_KEY="to", TENANTS=f"acme={'|'.join(numbers)}")


@pytest.mark.parametrize("key", ["two words", "x" * 65, "token", "traceparent"])
def test_a_wrong_key_stops_the_start(key: str) -> None:
    assert refusal(TENANT_KEY=key).startswith(f"TENANT_KEY={key!r} must be")


@pytest.mark.parametrize("key", ["", "off", "none"])
def test_the_key_can_be_turned_off(key: str) -> None:
    assert parse(TENANT_KEY=key).tenant_key is None


def test_a_list_without_key_is_named_at_the_start() -> None:
    assert any(line.startswith("TENANTS has no effect") for line in parse(Role.WORKER, TENANTS="acme").notices)
