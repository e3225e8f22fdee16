from __future__ import annotations

import re
import time
from collections.abc import Callable

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.records.redaction import (
    COMMON_REGIONS,
    MAX_RECORD_SECONDS,
    MAX_TEXT_CHARS,
    Redactor,
    iban_length,
    passes_luhn,
    redact,
    regions_of,
)

SEPARATORS = st.sampled_from(["", " ", "-", ".", ", "])
WORDS = st.text(alphabet=st.characters(categories=("L", "Zs", "P"), exclude_characters="@"), max_size=40)


@st.composite
def cards(draw: st.DrawFn) -> str:
    digits = draw(st.text(alphabet="0123456789", min_size=12, max_size=18))
    return digits + next(check for check in "0123456789" if passes_luhn(digits + check))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    country = draw(st.sampled_from(["DE", "IT", "GB", "NL", "FR", "NO"]))
    account = draw(st.text(alphabet="0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=11, max_size=30))
    turned = "".join(str(int(character, 36)) for character in f"{account}{country}00")
    return f"{country}{98 - int(turned) % 97:02}{account}"


@st.composite
def telephone_numbers(draw: st.DrawFn) -> str:
    region = draw(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
    example = phonenumbers.example_number_for_type(
        region,
        draw(st.sampled_from([phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE])),
    )
    if example is None:
        return "+4915112345678"
    return phonenumbers.format_number(
        example,
        draw(st.sampled_from([phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.INTERNATIONAL])),
    )


def grouped(text: str, separator: str) -> str:
    return separator.join(text[place : place + 4] for place in range(0, len(text), 4))


def digits_in(text: str) -> str:
    return re.sub(r"\D", "", text)


@given(WORDS, cards(), SEPARATORS, WORDS)
def test_card_number_never_remains(before: str, card: str, separator: str, after: str) -> None:
    made = redact(f"{before} {grouped(card, separator)} {after}")
    assert digits_in(made) == ""


@given(WORDS, ibans(), st.sampled_from(["", " "]), st.booleans(), WORDS)
def test_iban_never_remains(before: str, iban: str, separator: str, lower: bool, after: str) -> None:
    written = grouped(iban.lower() if lower else iban, separator)
    made = redact(f"{before} {written}. {after}")
    assert written not in made
    assert "[iban]" in made


@given(WORDS, telephone_numbers(), WORDS)
def test_international_telephone_number_never_remains(before: str, number: str, after: str) -> None:
    made = redact(f"{before} {number} {after}")
    assert len(digits_in(made)) < 7


@given(WORDS, st.emails(), WORDS)
def test_mail_address_never_remains(before: str, address: str, after: str) -> None:
    if not re.fullmatch(r"[\w.!#$%&'*+/=?^`{|}~-]+@([\w-]+\.)+[\w-]{2,}", address):
        return
    assert address not in redact(f"{before} {address} {after}")


@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="@"), max_size=300))
def test_text_without_digits_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=400))
def test_redaction_accepts_every_text_and_repeats(text: str) -> None:
    made = redact(text)
    assert redact(made) == made


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("My card is 4111 1111 1111 1111, until 12/27.", "My card is [card], until 12/27."),
        ("4111-1111-1111-1111", "[card]"),
        ("It is de89 3704 0044 0532 0130 00, right?", "It is [iban], right?"),
        ("Write to anna.rossi+shop@example.co.uk.", "Write to [email]."),
        ("a@b.b.b.b.b.b.b.b.b.b.example", "[email]"),
        ("Call (212) 555-0100 or +39 02 1234 5678.", "Call [phone] or [phone]."),
        ("\uff11\uff12\uff13 \uff14\uff15\uff16 \uff17\uff18\uff19\uff10", "[phone]"),
        ("Two tickets for 19.50 at 10:30", "Two tickets for 19.50 at 10:30"),
        ("order 12345, room 101", "order 12345, room 101"),
        ("1" * 100, "[digits]"),
    ],
)
def test_examples(said: str, stored: str) -> None:
    assert redact(said) == stored


def test_card_number_that_begins_like_an_iban_leaves_no_digit() -> None:
    # Of these 16 digits, the first 13 are an IBAN with the letters before them.
    for letters in ("aa", "zu", "no", "is"):
        for card in ("4111111111111111", "5555555555554444", "378282246310005", "6011111111111117"):
            for tail in range(100):
                digits = f"{card[:10]}{tail:02}{card[12:-1]}"
                number = digits + next(check for check in "0123456789" if passes_luhn(digits + check))
                assert digits_in(redact(f"{letters} {number}")) == ""


def test_spoken_digits_stay() -> None:
    said = "four one one one, one one one one, one one one one, one one one one"
    assert redact(said) == said


def test_regions_are_those_of_the_call() -> None:
    assert regions_of(["+390212345678", "1001", "00493012345678", "not a number", "+" + "9" * 500]) == ("IT", "DE")
    assert regions_of(["1001"]) == COMMON_REGIONS


def test_iban_with_text_behind_it_is_found() -> None:
    assert iban_length("DE89370400440532013000THANKYOU") == 22
    assert iban_length("DE00370400440532013000") == 0


@pytest.mark.parametrize(
    "text",
    [
        "1 " * 10_000,
        "1a" * 10_000,
        "a" * 19_999 + "@",
        "a.@" * 6_000,
        "DE12 " * 4_000,
        "+1 212 555 0100 x " * 1_100,
    ],
)
def test_hostile_text_takes_bounded_time(text: str) -> None:
    began = time.thread_time()
    redact(text[:MAX_TEXT_CHARS])
    # A safety net against quadratic time, which would take minutes here.
    assert time.thread_time() - began < 20


def test_text_over_the_bound_is_left_out() -> None:
    made = Redactor().texts(["a" * (MAX_TEXT_CHARS + 1), "short"])
    assert made.texts == (None, "short")
    assert made.failures == 1


def test_texts_beyond_the_time_of_a_record_are_left_out() -> None:
    times = iter([0.0, MAX_RECORD_SECONDS * 2, MAX_RECORD_SECONDS * 2])
    made = Redactor(clock=lambda: next(times)).texts(["one", "two"])
    assert made.texts == ("one", None)


class TestHook:
    def test_hook_gets_the_redacted_text(self) -> None:
        made = Redactor(lambda text: text.replace("Anna", "[name]")).texts(["Anna, 4111111111111111"])
        assert made.texts == ("[name], [card]",)

    @pytest.mark.parametrize(
        "hook", [lambda _: None, lambda _: b"bytes", lambda text: 1 / 0, lambda text: text[99]]
    )
    def test_text_of_a_failing_hook_is_left_out(
        self, hook: Callable[[str], object], capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = Redactor(hook).texts(["secret words", "more words"])
        assert made.texts == (None, None)
        assert made.failures == 2
        shown = capsys.readouterr()
        assert (shown.out + shown.err).count("call_records_redact failed") == 1
        assert "words" not in shown.out + shown.err

    def test_asynchronous_hook_is_refused_without_a_warning(self) -> None:
        async def hook(text: str) -> str:
            return text

        assert Redactor(hook).texts(["words"]).texts == (None,)
