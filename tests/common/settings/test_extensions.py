from __future__ import annotations

import pytest

from common.settings import extensions
from common.settings.extensions import TransferRule


class TestSplit:
    def test_the_context_is_that_of_the_caller_where_none_is_given(self) -> None:
        assert extensions.split("600") == ("600", "demo")
        assert extensions.split("600", "from-internal") == ("600", "from-internal")
        assert extensions.split("600@people", "from-internal") == ("600", "people")


class TestWithoutAllowed:
    RULE = TransferRule("demo")

    @pytest.mark.parametrize("extension", ["6", "600", "123456", "000000", "sales", "Sales", "s"])
    def test_internal_extensions_and_names_are_permitted(self, extension: str) -> None:
        assert self.RULE.permits(extension, "demo")

    @pytest.mark.parametrize(
        "extension",
        [
            *(
                "",
                "1234567",
                "0044123456",
                "+39",
                "*98",
                "600#",
                "6-00",
                "6.",
                "sales1",
                "Straße",
                "\u0666\u0660\u0660",
                "\uff16\uff10\uff10",
                "²",
            ),
            *("1\n", "\n1", "sales\n", "Local/600", "600&601", "600,1", "6 0", "_X.", "a" * 80),
        ],
    )
    def test_other_extensions_are_refused(self, extension: str) -> None:
        assert not self.RULE.permits(extension, "demo")

    @pytest.mark.parametrize("context", ["", "Demo", "demo\n", "from-internal"])
    def test_other_contexts_are_refused(self, context: str) -> None:
        assert not self.RULE.permits("600", context)

    def test_the_hint_keeps_internal_extensions_permitted(self) -> None:
        assert self.RULE.how_to_permit("0044123@out") == "set TRANSFER_ALLOWED=internal,0044123@out"


class TestAllowed:
    @pytest.mark.parametrize(
        ("entry", "permitted", "refused"),
        [
            ("600", ["600@demo"], ["601@demo", "600@out", "6001@demo"]),
            ("600@out", ["600@out"], ["600@demo"]),
            ("*98", ["*98@demo"], ["98@demo", "198@demo"]),
            ("6.", ["6.@demo"], ["60@demo", "6@demo"]),
            ("_6XX", ["600@demo", "699@demo"], ["60@demo", "6000@demo", "6aa@demo", "6\u0660\u0660@demo"]),
            ("_6xZn", ["6012@demo"], ["6002@demo", "6011@demo"]),
            ("_0039X.@out", ["003902@out"], ["00390@out", "0039@out", "004902@out", "003902@demo"]),
            ("_+39!", ["+39@demo", "+3902@demo"], ["39@demo", "+40@demo"]),
            ("_[1-38]0", ["10@demo", "30@demo", "80@demo"], ["40@demo", "90@demo", "-0@demo"]),
            ("_[*#]1", ["*1@demo", "#1@demo"], ["11@demo"]),
            ("_.", ["600@demo", "0044123456@demo"], ["600@out"]),
            ("internal", ["600@demo", "sales@demo"], ["internal@out", "1234567@demo"]),
        ],
    )
    def test_an_entry_permits_its_own_target(self, entry: str, permitted: list[str], refused: list[str]) -> None:
        rule = TransferRule("demo", (extensions.allowed_entry(entry),))
        for destination in permitted:
            assert rule.permits(*destination.split("@")), destination
        for destination in refused:
            assert not rule.permits(*destination.split("@")), destination

    def test_entries_take_the_place_of_the_internal_extensions(self) -> None:
        rule = TransferRule("demo", ("601", "602"))
        assert rule.permits("602", "demo")
        assert not rule.permits("600", "demo")
        assert not TransferRule("demo", ()).permits("600", "demo")

    @pytest.mark.parametrize("destination", ["+3902123456@demo", "*98@out", "6-0_0.#@a-b"])
    def test_the_entry_of_a_hint_permits_that_destination_alone(self, destination: str) -> None:
        hint = TransferRule("demo", ("600",)).how_to_permit(destination)
        assert hint == f"add {destination} to TRANSFER_ALLOWED"
        assert TransferRule("demo", (extensions.allowed_entry(destination),)).permits(*destination.split("@"))

    @pytest.mark.parametrize(
        "entry",
        [
            *("", "_", "6 00", "600@", "@demo", "600@a@b", "_X.1", "_!2", "_[", "_[]", "_[3-1]", "_[a-z]"),
            *(
                "_X(1)",
                "_\\d",
                "_^1",
                "\u0666\u0660\u0660",
                "600\n",
                "_X\n",
                "600&601",
                "Local/600",
                "6" * 80,
                "_" + "X" * 79,
            ),
        ],
    )
    def test_an_entry_of_another_form_is_refused(self, entry: str) -> None:
        with pytest.raises(ValueError, match=r"must be internal, exten|has the pattern"):
            extensions.allowed_entry(entry)
