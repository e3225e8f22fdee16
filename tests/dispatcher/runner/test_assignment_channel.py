"""The channel of an assignment, on links that break, with the call around it."""

from __future__ import annotations

import pytest

from common.errors import LinkProtocolError
from common.link import wire
from common.link.retransmit_buffer import ACK_RECORDS, MAX_KEPT_BYTES
from common.link.wire import Control, Kind
from dispatcher.call.actions import Action, LeaveChannel, ToWorker
from dispatcher.call.assignment import Assignment
from dispatcher.runner.assignment_channel import AssignmentChannel
from dispatcher.workers.links import ChannelOwner
from tests.dispatcher.call_driver import FRAME_BYTES, UUID, CallDriver, sound

FRAME = sound(FRAME_BYTES)
NUMBER = 7


class Link:
    """A link that keeps the sent records."""

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.left: list[int] = []

    def open_channel(self, owner: ChannelOwner) -> int:
        return NUMBER

    def leave_channel(self, channel: int) -> None:
        self.left.append(channel)

    def send(self, record: bytes) -> None:
        for kind, channel, payload in wire.decode(record):
            assert channel == NUMBER
            self.records.append((kind, bytes(payload)))

    def take(self, kind: Kind | None = None) -> list[tuple[int, bytes]]:
        """Return the records of this kind that were sent since the last call."""
        taken, self.records = self.records, []
        return [record for record in taken if kind is None or record[0] == kind]


class Shell:
    """A call, and the channel of its assignment: what a `CallRunner` does with them."""

    def __init__(self) -> None:
        self.driver = CallDriver()
        self.link = Link()
        self.failed = ""
        self.lost: list[Assignment] = []
        self.driver.init()
        taken = self.driver.placed()
        self.channel = AssignmentChannel(self, self.link, self.driver.assignment)
        self.act(taken)

    @property
    def uuid(self) -> str:
        return UUID

    def assignment_record(
        self, assignment: Assignment, kind: int, payload: memoryview, received_seconds: float
    ) -> None:
        assert assignment is self.driver.assignment
        self.driver.call.record(assignment, kind, payload, self.driver.now)
        self.act(self.driver.take())

    def assignment_broke(self, assignment: Assignment) -> None:
        self.driver.call.link_broke(assignment)

    def assignment_lost(self, assignment: Assignment) -> None:
        self.lost.append(assignment)

    def fail(self, reason: str) -> None:
        self.failed = reason

    def act(self, taken: list[Action]) -> None:
        for action in taken:
            if isinstance(action, ToWorker):
                self.channel.send(action.record, action.counted)
            elif isinstance(action, LeaveChannel):
                self.channel.leave()

    def say(self, record: Control) -> None:
        """Take a record of the worker."""
        ((kind, _, payload),) = wire.decode(wire.encode(record, NUMBER))
        self.channel.record(kind, payload, 0.0)

    def acknowledge(self, received: int) -> None:
        self.channel.record(Kind.ACK, memoryview(received.to_bytes(4, "big")), 0.0)

    def audio(self) -> None:
        self.act(self.driver.audio(FRAME))

    def live(self, credit_bytes: int = 32_000) -> Shell:
        self.say(wire.Opened(credit_bytes))
        self.say(wire.Ready())
        self.link.take()
        return self


@pytest.fixture
def shell() -> Shell:
    return Shell()


def received_audio(position_samples: int) -> tuple[int, bytes]:
    return (Kind.CALLER_AUDIO, position_samples.to_bytes(8, "big") + FRAME)


def test_open_is_not_repeated_on_another_link(shell: Shell) -> None:
    ((kind, _),) = shell.link.take()
    assert kind == Kind.OPEN
    shell.say(wire.Attached(0))
    assert shell.link.take() == []


def test_a_channel_goes_on_where_it_was_on_another_link(shell: Shell) -> None:
    shell.live().say(wire.ReplyItem(0, "item"))
    shell.audio()
    shell.channel.link_broke()
    # Lost on the link, and kept for the next one.
    shell.audio()
    other = Link()
    shell.channel.link_back(other)
    ((kind, payload),) = other.take()
    assert kind == Kind.ATTACH
    # OPENED, READY and REPLY_ITEM had come.
    assert wire.decode_control(wire.Attach, memoryview(payload)) == wire.Attach(UUID, 1, 3)
    shell.audio()
    assert other.take() == []
    # The worker has got the first frame.
    shell.say(wire.Attached(1))
    assert other.take() == [received_audio(160), received_audio(320)]
    shell.audio()
    assert other.take() == [received_audio(480)]


def test_received_records_are_acknowledged_now_and_then(shell: Shell) -> None:
    shell.live()
    acks = []
    for number in range(3 * ACK_RECORDS):
        shell.say(wire.ReplyItem(number, "x"))
        acks += [int.from_bytes(payload, "big") for _, payload in shell.link.take(Kind.ACK)]
    assert acks == [ACK_RECORDS, 2 * ACK_RECORDS, 3 * ACK_RECORDS]


def test_acknowledged_records_are_not_kept(shell: Shell) -> None:
    shell.live(credit_bytes=10**6)
    for _ in range(5):
        shell.audio()
    shell.acknowledge(4)
    shell.link.take()
    shell.say(wire.Attached(4))
    assert shell.link.take() == [received_audio(640)]
    with pytest.raises(LinkProtocolError):
        shell.acknowledge(6)


def full_after(shell: Shell, most: int) -> int:
    """Records until the channel is full."""
    for number in range(most):
        if shell.channel.is_full:
            return number
        shell.act(shell.driver.audio(sound(16_000)))
        shell.driver.now += 1.0
        shell.link.take()
    raise AssertionError(f"a channel of {most} records is not full")


def test_a_channel_without_acknowledgements_becomes_full(shell: Shell) -> None:
    shell.live(credit_bytes=10**9)
    # Records of a second each, behind GO of a call that begins.
    assert full_after(shell, MAX_KEPT_BYTES // 16_000 + 2) >= MAX_KEPT_BYTES // 16_000 - 2


def test_a_channel_with_acknowledgements_is_never_full(shell: Shell) -> None:
    shell.live(credit_bytes=10**9)
    for number in range(1, MAX_KEPT_BYTES // 16_000 + 100):
        shell.act(shell.driver.audio(sound(16_000)))
        shell.driver.now += 1.0
        shell.acknowledge(number)
        shell.link.take()
    assert not shell.channel.is_full


def test_a_channel_left_on_a_link_says_nothing_more(shell: Shell) -> None:
    shell.live().channel.leave()
    assert shell.link.left == [NUMBER]
    shell.channel.link_broke()
    shell.channel.worker_lost()
    assert shell.lost == []


@pytest.mark.parametrize("answer", [wire.Attached(0), wire.Refused("unknown")], ids=["goes on", "refused"])
def test_a_channel_left_without_a_link_says_goodbye(shell: Shell, answer: Control) -> None:
    shell.live().channel.link_broke()
    shell.driver.call.stopped("it ends now")
    shell.act(shell.driver.take())
    other = Link()
    shell.channel.link_back(other)
    assert [kind for kind, _ in other.take()] == [Kind.ATTACH]
    # Records in transit at the end of the call are ignored.
    shell.say(wire.ReplyItem(0, "item"))
    assert other.left == []
    shell.say(answer)
    assert other.left == [NUMBER]
    closes = [wire.decode_control(wire.Close, memoryview(payload)) for _, payload in other.take()]
    assert closes == ([wire.Close("it ends now")] if isinstance(answer, wire.Attached) else [])


def test_a_lost_worker_is_told_to_the_call(shell: Shell) -> None:
    shell.live().channel.link_broke()
    shell.channel.worker_lost()
    assert shell.lost == [shell.driver.assignment]


def test_a_failure_on_the_link_gives_the_call_up(shell: Shell) -> None:
    shell.channel.stop("internal error")
    assert shell.failed == "internal error"
