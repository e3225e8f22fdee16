"""The parser of dialplans finds the problems that Asterisk would report."""

from __future__ import annotations

import pytest

from tests.docs.dialplan import Dialplan

RIGHT = """
[demo]
exten => 5001,1,Answer()  ; a comment
 same => n,Set(UUID=${SHELL(uuidgen | tr -d '\\n')})
 same => n,GotoIf($["${UUID}" = ""]?people,1)
 same => n,Dial(Local/s@agent/n,,g)
exten => people,1,Hangup()
[agent]
exten => s,1,AudioSocket(${UUID},avr-core:5001)
"""


def test_right_dialplan_has_no_problems() -> None:
    plan = Dialplan.parse(RIGHT)
    assert plan.problems == []
    assert plan.extensions == {("demo", "5001"): [1, 2, 3, 4], ("demo", "people"): [1], ("agent", "s"): [1]}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("exten => 1,2,Answer()", "1 is next"),
        ("exten => 1,n,Answer()", "has no 1"),
        ("exten => 1,1,Answer()\nexten => 1,1,Hangup()", "2 is next"),
        ("same => n,Answer()", "without an extension"),
        ("exten => 1,1,Anser()", "unknown application: Anser"),
        ("exten => 1,1,Answer", "no application"),
        ("exten => 1,1", "parts are missing"),
        ("exten = 1,1,Answer()", "neither a section"),
        ("exten => 1,1,Set(A=${CURLY(http://a)})", "unknown function: CURLY"),
        ("exten => 1,1,NoOp(${A)", "{} are not in pairs"),
        ("exten => 1,1,Goto(people,1)", "people@demo, which there is not"),
        ("exten => 1,1,Dial(Local/s@agent/n)", "s@agent, which there is not"),
        ("exten => 1,first,Answer()", "no priority"),
    ],
)
def test_wrong_line_is_found_with_its_reason(line: str, problem: str) -> None:
    (found, *_) = Dialplan.parse(f"[demo]\n{line}\n").problems
    assert problem in found


def test_line_before_the_first_section_is_found() -> None:
    assert Dialplan.parse("exten => 1,1,Answer()").problems == ["line 1: no section before it"]
