from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from common.net.admission_control import ANSWERS, DEFAULT_ADMISSION_LIMITS, AdmissionControl, AdmissionLimits
from common.observe.line_limit import REPORT_SECONDS
from common.observe.refusals import Refusal

LIMITS = AdmissionLimits(arriving=5, arriving_of_address=3)


def test_those_of_one_address_are_bounded() -> None:
    admission = AdmissionControl(LIMITS)
    assert [admission.enter("a") for _ in range(4)] == [None, None, None, Refusal.TOO_MANY_OF_ADDRESS]
    assert admission.enter("b") is None
    assert admission.arriving == 4


def test_a_network_of_ipv6_counts_as_one_address() -> None:
    admission = AdmissionControl(LIMITS)
    for number in range(3):
        assert admission.enter(f"2001:db8:1:2::{number}") is None
    assert admission.enter("2001:db8:1:2:ffff::") is Refusal.TOO_MANY_OF_ADDRESS
    assert admission.enter("2001:db8:1:3::") is None
    admission.leave("2001:db8:1:2::1")
    assert admission.enter("2001:db8:1:2:ffff::") is None


def test_so_are_all_together() -> None:
    admission = AdmissionControl(LIMITS)
    assert [admission.enter(str(n)) for n in range(6)] == [None] * 5 + [Refusal.TOO_MANY]


def test_an_identified_peer_makes_room() -> None:
    admission = AdmissionControl(LIMITS)
    for _ in range(3):
        admission.enter("a")
    admission.leave("a")
    assert admission.enter("a") is None
    assert admission.enter("a") is Refusal.TOO_MANY_OF_ADDRESS


def test_one_address_may_reconnect_hundreds_of_calls_at_once() -> None:
    admission = AdmissionControl()
    assert {admission.enter("core") for _ in range(1000)} == {None}
    # And another one still finds room.
    assert admission.enter("another core") is None
    assert DEFAULT_ADMISSION_LIMITS.arriving_of_address * 2 <= DEFAULT_ADMISSION_LIMITS.arriving


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_the_count_is_that_of_live_connections(steps: list[tuple[bool, str]]) -> None:
    admission = AdmissionControl(LIMITS)
    here: list[str] = []
    for comes, address in steps:
        if comes:
            if admission.enter(address) is None:
                here.append(address)
        elif address in here:
            here.remove(address)
            admission.leave(address)
        assert admission.arriving == len(here) <= LIMITS.arriving
        # Nothing is kept of connections that are gone.
        assert admission._by_address == {each: here.count(each) for each in set(here)}


def test_every_refusal_is_counted_and_some_are_reported() -> None:
    counted: list[Refusal] = []
    reports: list[tuple[Refusal, int, str, str]] = []
    admission = AdmissionControl(refused=counted.append, report=lambda *report: reports.append(report))
    for n in range(100):
        admission.refuse(Refusal.TOO_MANY, f"address-{n}", n * 0.01)
    admission.refuse(Refusal.TLS, "scanner", 1.0, "WRONG_VERSION_NUMBER")
    admission.refuse(Refusal.TOO_MANY, "the last", REPORT_SECONDS)
    assert counted == [Refusal.TOO_MANY] * 100 + [Refusal.TLS, Refusal.TOO_MANY]
    assert reports == [
        (Refusal.TOO_MANY, 1, "address-0", ""),
        (Refusal.TLS, 1, "scanner", "WRONG_VERSION_NUMBER"),
        (Refusal.TOO_MANY, 100, "the last", ""),
    ]


def test_answers_are_plain_text_with_advice() -> None:
    assert {refusal: status.value for refusal, (status, _) in ANSWERS.items()} == {
        Refusal.TOO_MANY: 503,
        Refusal.TOO_MANY_OF_ADDRESS: 429,
        Refusal.HEAD_TOO_BIG: 431,
    }
    for _, text in ANSWERS.values():
        assert text.isascii()
        assert text.endswith("\n")
