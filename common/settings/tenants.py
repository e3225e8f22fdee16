"""The tenants of a deployment: which name a call's metadata, or the answer about the call, stands for.

A name is a label of metrics, so the set of names is closed. Metadata comes with each call and may be a caller's
choice: its value counts only if TENANTS lists it. The answer of OPENAI_URL_INSTRUCTIONS is the operator's, and may
name other tenants. Metrics bound the number of these.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from common.observe import trace_context
from common.observe.label_values import OTHER, PAGE, is_fit
from common.plain_number import plain_number
from common.settings.values import parse_json, word

MAX_TENANTS: Final = 40
"""Maximum number of tenants with a name of their own; all others are `other`."""

MAX_VALUES: Final = 2000
"""Maximum number of values in TENANTS that stand for tenants, such as telephone numbers."""

MAX_KEY_CHARACTERS: Final = 64
"""Length of the name of a metadata entry; a dispatcher leaves out entries with longer names."""

FIELD: Final = "tenant"
"""The field of the answer of OPENAI_URL_INSTRUCTIONS, and of `provider_config`, that names a call's tenant."""

FIT: Final = "a name of up to 64 letters, digits or _ . : / - that is no telephone number and no uuid"

_NO_METADATA: Final = frozenset({"token", trace_context.PARAMETER})


class Tenants:
    """The tenants of a deployment.

    Attributes:
        key: name of the metadata entry that tells a call's tenant; None: there are no tenants.
        names: tenants that are known in advance.
    """

    def __init__(self, key: str | None = None, entries: Iterable[str] = ()) -> None:
        """Make the tenants.

        Args:
            key: TENANT_KEY.
            entries: TENANTS, as `tenant_list` accepts it; without TENANT_KEY they do not count.
        """
        self.key = key
        values = dict(_entry(each) for each in entries) if key is not None else {}
        self.names = tuple(values)
        self._names = {plain_number(value): name for name in values for value in (name, *values[name])}

    @property
    def labels(self) -> tuple[str, ...]:
        """The label values of metrics that are known in advance; "" stands for an absent label."""
        return ("",) if self.key is None else (*self.names, OTHER)

    def __bool__(self) -> bool:
        return self.key is not None

    def of_call(self, metadata: Mapping[str, str], provider_config: Mapping[str, Any]) -> str:
        """Return the tenant of a call by what AVR Core sent; `other` if TENANTS lists none; "" without tenants."""
        if self.key is None:
            return ""
        return self.listed(provider_config.get(FIELD)) or self.listed(metadata.get(self.key)) or OTHER

    def listed(self, value: object) -> str:
        """Return the tenant that TENANTS lists for a value; "" if it lists none."""
        return self._names.get(plain_number(value), "") if isinstance(value, str) else ""

    def of_answer(self, value: object) -> str:
        """Return the tenant that the answer of OPENAI_URL_INSTRUCTIONS names.

        Raises:
            ValueError: the value is no name. The error does not repeat the value.
        """
        known = self.listed(value)
        if known:
            return known
        if isinstance(value, str) and is_fit(value) and value.lower() != PAGE:
            return value
        raise ValueError(f"must be {FIT}, and not {PAGE}; or a value that TENANTS lists")

    def told(self, name: str) -> str:
        """Return the tenant that another process has told; "" without tenants, and where it told none.

        Calls from the live page have the label PAGE, with tenants and without.
        """
        if name == PAGE:
            return PAGE
        if self.key is None or not name:
            return ""
        return name if name in self.names or is_fit(name) else OTHER


class PageTenants(Tenants):
    """The tenants of calls from the live page: each such call is labelled PAGE, whatever is told about it."""

    def of_call(self, metadata: Mapping[str, str], provider_config: Mapping[str, Any]) -> str:
        """Return PAGE."""
        return PAGE

    def told(self, name: str) -> str:
        """Return PAGE."""
        return PAGE


NO_TENANTS: Final = Tenants()


@functools.lru_cache(maxsize=1)
def tenants_of(key: str | None, entries: tuple[str, ...]) -> Tenants:
    """Return the tenants of TENANT_KEY and TENANTS, which a process makes once."""
    return Tenants(key, entries)


def tenant_key(value: object) -> object:
    """Accept the name of a metadata entry."""
    key = word(value)
    if len(str(key)) > MAX_KEY_CHARACTERS or key in _NO_METADATA:
        raise ValueError(
            f"must be the name of a parameter of STS_URL, of at most {MAX_KEY_CHARACTERS} characters, and none of "
            f"{', '.join(sorted(_NO_METADATA))}"
        )
    return key


def tenant_list(value: object) -> object:
    """Accept tenants separated by commas, or as a JSON list: a name, or `name=value|value`."""
    entries = value
    if isinstance(value, str):
        entries = parse_json(value) if value.startswith("[") else value.split(",")
    if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
        raise ValueError("must be names with commas between them, such as acme,globex=+4930123|+4930124")
    found = [each.strip() for each in entries if each.strip()]
    if len(found) > MAX_TENANTS:
        raise ValueError(f"must have at most {MAX_TENANTS} tenants, and has {len(found)}: all others are {OTHER}")
    _check(found)
    return found


def _check(entries: Sequence[str]) -> None:
    owners: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        name, values = _entry(entry)
        if not is_fit(name) or name.lower() in (OTHER, PAGE):
            raise ValueError(
                f"has a wrong name in entry {number}: give {FIT}, and not {OTHER} or {PAGE}; "
                "a number gets a name with =, such as acme=+4930123456"
            )
        if "=" in entry and not all(values):
            raise ValueError(f"has an empty value in entry {number}: write name=value|value, or the name alone")
        for each in {plain_number(name), *map(plain_number, values)}:
            if owners.setdefault(each, number) != number:
                raise ValueError(
                    f"has one value in the entries {owners[each]} and {number}: give it to one tenant"
                )
    if len(owners) > MAX_VALUES + len(entries):
        raise ValueError(
            f"has more than {MAX_VALUES} values: have OPENAI_URL_INSTRUCTIONS name the tenant instead"
        )


def _entry(entry: str) -> tuple[str, tuple[str, ...]]:
    name, has_values, values = entry.partition("=")
    return name.strip(), tuple(each.strip() for each in values.split("|")) if has_values else ()
