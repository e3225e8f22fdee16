"""Redaction of what was said: card numbers, IBANs, e-mail addresses, telephone numbers, and the operator's hook.

Transcripts write digits in many ways. This module finds digits, not words: "four one one one" stays as it is.
Where in doubt it replaces too much, because a lost order number is better than a stored card number.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import phonenumbers
import structlog
from phonenumbers import Leniency, PhoneNumberMatcher

CARD: Final = "[card]"
IBAN: Final = "[iban]"
EMAIL: Final = "[email]"
PHONE: Final = "[phone]"
DIGITS: Final = "[digits]"

MAX_TEXT_CHARS: Final = 20_000
"""Maximum length of one text. A longer text is left out; the longest replies of the API are far shorter."""

MAX_RECORD_SECONDS: Final = 0.5
"""CPU time for the texts of one record. Beyond it, the remaining texts are left out."""

SLICE_SECONDS: Final = 0.0002
"""CPU time for a text after which the thread rests."""

REST_SECONDS: Final = 0.0002

MAX_CLUSTER_CHARS: Final = 60
"""Maximum length of a group of digits; a longer one is replaced as a whole, which bounds the search."""

MIN_PHONE_DIGITS: Final = 7
CARD_DIGITS: Final = range(13, 20)
IBAN_CHARS: Final = range(15, 35)
COMMON_REGIONS: Final = ("US", "GB", "DE", "FR", "IT", "ES", "BR", "IN")
"""Regions for national numbers of calls whose own numbers name no region."""

# Digits with what people and models put between them.
_CLUSTER = re.compile(r"[+(]?\d(?:[\s().,/+*#\u2010-\u2015-]{0,4}\d)+")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[ -]?\d{2}(?=[ -]?[A-Za-z0-9])")
_MORE_DIGITS = re.compile(r"(?:[ .,-]{0,2}\d)*")
_DOMAIN = re.compile(r"@(?:[\w-]{1,63}\.){1,127}[\w-]{2,63}")
_LOCAL_PART = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]")

Hook = Callable[[str], object]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Redacted:
    """Redacted texts; None in place of a text that is left out.

    Attributes:
        texts: in their order.
        failures: number of texts that are left out.
    """

    texts: tuple[str | None, ...]
    failures: int


class Redactor:
    """Redacts the texts of records. Use one instance per thread."""

    def __init__(self, hook: Hook | None = None, clock: Callable[[], float] = time.thread_time) -> None:
        self._hook = hook
        self._clock = clock
        self._logged = False

    def texts(self, texts: Iterable[str], numbers: Iterable[str] = ()) -> Redacted:
        """Return the texts without what must not be stored.

        Args:
            texts: what was said.
            numbers: of the call, which tell the regions for national telephone numbers.
        """
        regions = regions_of(numbers)
        began = last = self._clock()
        made: list[str | None] = []
        for text in texts:
            late = last - began > MAX_RECORD_SECONDS
            made.append(None if late or len(text) > MAX_TEXT_CHARS else self._hooked(redact(text, regions)))
            now = self._clock()
            if now - last > SLICE_SECONDS:
                # Calls' audio goes on: otherwise the interpreter lets the event loop wait for 5 ms.
                time.sleep(REST_SECONDS)
            last = now
        return Redacted(tuple(made), made.count(None))

    def _hooked(self, text: str) -> str | None:
        """Return the hook's text; None if the hook fails."""
        if self._hook is None:
            return text
        try:
            made = self._hook(text)
        except Exception as error:
            # The message may quote the text, so only the kind of the exception is logged.
            self._failed(type(error).__name__)
            return None
        if isinstance(made, str):
            return made
        if hasattr(made, "close"):
            made.close()  # a coroutine of a function that must not be asynchronous
        self._failed(f"it returned {type(made).__name__}, and must return str")
        return None

    def _failed(self, reason: str) -> None:
        if not self._logged:
            self._logged = True
            log.error("call_records_redact failed", reason=reason, effect="such texts are left out of records")


def regions_of(numbers: Iterable[str]) -> tuple[str, ...]:
    """Return the regions of international numbers, or the common regions."""
    found: dict[str, None] = {}
    for number in numbers:
        text = f"+{number[2:]}" if number.startswith("00") else number
        if not text.startswith("+") or len(text) > MAX_CLUSTER_CHARS:
            continue
        try:
            region = phonenumbers.region_code_for_number(phonenumbers.parse(text))
        except phonenumbers.NumberParseException:
            continue
        if region:
            found[region] = None
    return tuple(found) or COMMON_REGIONS


def redact(text: str, regions: tuple[str, ...] = COMMON_REGIONS) -> str:
    """Return a text without card numbers, IBANs, e-mail addresses and telephone numbers."""
    text = _replace(text, _emails(text), EMAIL)
    text = _replace(text, _ibans(text), IBAN)
    text = _CLUSTER.sub(lambda found: found[0] if len(found[0]) <= MAX_CLUSTER_CHARS else DIGITS, text)
    text = _replace(text, _cards(text), CARD)
    return _without_phones(text, regions)


def passes_luhn(digits: str) -> bool:
    """Return whether the last of ASCII digits is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_length(characters: str) -> int:
    """Return the length of the longest IBAN at the begin of capitals and digits, by ISO 7064; 0: there is none."""
    head = "".join(str(int(character, 36)) for character in characters[:4])
    shift, head_value = 10 ** len(head) % 97, int(head) % 97
    found = rest = 0
    for length, character in enumerate(characters[4 : IBAN_CHARS.stop - 1], 5):
        value = int(character, 36)
        rest = (rest * (100 if value > 9 else 10) + value) % 97
        if length in IBAN_CHARS and (rest * shift + head_value) % 97 == 1:
            found = length
    return found


Spans = list[tuple[int, int]]


def _replace(text: str, spans: Spans, word: str) -> str:
    for begin, end in reversed(spans):
        text = text[:begin] + word + text[end:]
    return text


def _emails(text: str) -> Spans:
    spans: Spans = []
    for found in _DOMAIN.finditer(text):
        begin = found.start()
        # A pattern for the part before the @ would take quadratic time on a long word without one.
        low = spans[-1][1] if spans else 0
        while begin > low and _LOCAL_PART.match(text[begin - 1]):
            begin -= 1
        if begin < found.start():
            spans.append((begin, found.end()))
    return spans


def _ibans(text: str) -> Spans:
    spans: Spans = []
    for found in _IBAN_START.finditer(text):
        if spans and found.start() < spans[-1][1]:
            continue
        characters, ends = _characters(text, found.start())
        if length := iban_length(characters):
            # The digits of a card number behind a word may begin like an IBAN: none of the rest must stay.
            rest = _MORE_DIGITS.match(text, ends[length - 1])
            spans.append((found.start(), rest.end() if rest else ends[length - 1]))
    return spans


def _characters(text: str, begin: int) -> tuple[str, list[int]]:
    """Return the letters and digits of a possible IBAN, and where each of them ends in the text."""
    characters: list[str] = []
    ends: list[int] = []
    between = 0
    for place in range(begin, len(text)):
        character = text[place]
        if character.isalnum() and (character.isascii() or character.isdecimal()):
            plain = character.upper() if character.isascii() else str(unicodedata.decimal(character))
            characters.append(plain)
            ends.append(place + 1)
            between = 0
            if len(characters) == IBAN_CHARS.stop - 1:
                break
        elif character not in " -." or between:
            break
        else:
            between += 1
    return "".join(characters), ends


def _cards(text: str) -> Spans:
    spans: Spans = []
    for cluster in _CLUSTER.finditer(text):
        places = [place for place in range(cluster.start(), cluster.end()) if text[place].isdecimal()]
        digits = "".join(str(unicodedata.decimal(text[place])) for place in places)
        first = 0
        while first + CARD_DIGITS.start <= len(digits):
            lengths = (n for n in reversed(CARD_DIGITS) if first + n <= len(digits))
            length = next((n for n in lengths if passes_luhn(digits[first : first + n])), 0)
            if length:
                spans.append((places[first], places[first + length - 1] + 1))
                first += length
            else:
                first += 1
    return spans


def _without_phones(text: str, regions: tuple[str, ...]) -> str:
    made: list[str] = []
    end = 0
    for cluster in _CLUSTER.finditer(text):
        found = cluster[0]
        if sum(character.isdecimal() for character in found) < MIN_PHONE_DIGITS:
            continue
        made += (text[end : cluster.start()], _replace(found, _phones(found, regions), PHONE))
        end = cluster.end()
    return "".join([*made, text[end:]])


def _phones(text: str, regions: tuple[str, ...]) -> Spans:
    """Return where a short text has telephone numbers, of any of the regions, without overlaps."""
    spans = sorted(_matches(text, regions))
    merged: Spans = []
    for begin, end in spans:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _matches(text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    for region in regions:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.POSSIBLE):
            yield match.start, match.end
