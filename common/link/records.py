"""The union of all control records of a link: see `common/link/wire.py` for their meaning and encoding."""

from __future__ import annotations

from common.link.call_records import (
    Attach,
    Attached,
    Awaiting,
    Close,
    Ended,
    Move,
    Open,
    Opened,
    Ready,
    Refused,
    Release,
    Released,
)
from common.link.figure_records import Figures
from common.link.link_records import Command, Event, Hello, Proof, Result
from common.link.memory_records import ItemUpdate, Keyed, PendingReplies, Profile, Resume, Tool, ToolKnown
from common.link.speech_records import Finished, Flush, Heard, Playout, ReplyItem, ReplyItemDone, Transcript
from common.link.telephony_records import Collect, Collecting, Dtmf, SecretKey, TelephonyCommand, TelephonyDone

Control = (
    Hello
    | Proof
    | Open
    | Opened
    | Attach
    | Attached
    | Refused
    | Ready
    | ReplyItem
    | ReplyItemDone
    | Flush
    | Heard
    | Playout
    | Transcript
    | Finished
    | Close
    | Ended
    | Dtmf
    | TelephonyCommand
    | TelephonyDone
    | Keyed
    | Tool
    | ToolKnown
    | Profile
    | ItemUpdate
    | PendingReplies
    | Resume
    | Move
    | Release
    | Released
    | Awaiting
    | Figures
    | Collect
    | Collecting
    | SecretKey
    | Command
    | Result
    | Event
)
