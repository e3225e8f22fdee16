"""The tree of errors: every exception that the service defines. Whose fault it is decides what happens.

ServiceError
├── LocalError             this side is at fault: its settings, its files, its code
│   ├── SettingsError          a setting is missing or wrong: the process does not start
│   ├── IllegalTransition      a fault of our own: the session of the call alone is recovered
│   ├── NotAllowed             a value of a setting is wrong; names the right one nearest to it
│   ├── WavError               a recording cannot be read
│   ├── LineTooLong            a person has typed a line that is too long for `chat`
│   └── BrokenFile             a file of metrics makes no sense: it is left out
├── PeerError              the other side is at fault: its call, its link or its request alone ends
│   ├── AvrProtocolError       AVR Core: its message is ignored, or its call ends with close code 1008
│   ├── LinkProtocolError      dispatcher or worker: the link is closed
│   │   └── AuthenticationFailed   it did not prove CLUSTER_TOKEN
│   └── ChangeRefused          a client of the calls API: the session stays as it is
├── DependencyError        what this side needs is away, refuses or failed: it is tried again, or done without
│   ├── UpstreamError          the Realtime API refused or failed; says whether trying again can help
│   ├── RegistryUnavailable    Redis is away: calls go on, placement uses the last known table
│   │   └── RegistryBusy           too many commands of this process wait for Redis, which is not away
│   ├── NoPrimary              no sentinel names a primary of Redis: as if Redis were away
│   ├── ProxyFailed            the proxy on the way to a server cannot be reached, or refuses
│   ├── HandshakeRefused       a server has no WebSocket for us
│   ├── AmiError               avr-ami refused, or cannot be reached
│   │   └── NotPossible            no avr-ami could do it: the call is from the live page
│   ├── NotLoadedError         a service or a file has no instructions
│   └── LinkUnavailable        a worker cannot be reached now: the call is placed elsewhere
│       └── WorkerGone             its address refuses, or another process answers there: no use to try again
├── CommandError           a request to the calls API is answered with this status
│   └── ElsewhereError         the recording lies on other hosts, which the answer names
├── TooDeep                JSON is nested too deeply; whoever reads it knows whose fault that is
└── ToolError              a tool cannot be used, or failed: has a tree of its own in worker/tools/errors.py

What is not defined here stands beside the code that raises it. The simulator is a program of its own, with its own
errors.
"""

from __future__ import annotations


class ServiceError(Exception):
    """Base of every error that this service raises on purpose."""


class LocalError(ServiceError):
    """This side is at fault: its settings, its files or its code."""


class SettingsError(LocalError):
    """A setting is missing or wrong. The message is one line for the operator, without secrets."""


class IllegalTransition(LocalError):
    """A state machine got an event that its state does not allow: a fault of this service, not of a peer.

    Attributes:
        machine: name of the state machine.
        state: its state.
        event: the event.
    """

    def __init__(self, machine: str, state: str, event: str) -> None:
        super().__init__(f"the {machine} cannot take the event {event} in the state {state}")
        self.machine = machine
        self.state = state
        self.event = event


class PeerError(ServiceError):
    """The peer is at fault: it broke a protocol, or made a request that is not allowed."""


class AvrProtocolError(PeerError):
    """AVR Core sent a message that the protocol does not allow.

    Attributes:
        reason: a short, fixed word for logs and counters, without any part of the message.
        ends_call: the call must end; otherwise the message is ignored.
    """

    def __init__(self, reason: str, message: str, *, ends_call: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.ends_call = ends_call


class LinkProtocolError(PeerError):
    """A dispatcher or worker sent a record that cannot be understood."""


class DependencyError(ServiceError):
    """Something that this side needs is away, refuses or failed."""


class UpstreamError(DependencyError):
    """The Realtime API refused a session, failed or could not be reached.

    Attributes:
        code: OpenAI's error code, or a short word of our own, for the metric's label.
        retryable: whether another attempt can succeed without a change by the operator.
        retry_after_seconds: the wait that the API asked for, 0 to 3600; None: it asked for none.
    """

    def __init__(
        self, message: str, *, code: str, retryable: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds


class RegistryUnavailable(DependencyError):
    """Redis did not answer in time or refused."""


class RegistryBusy(RegistryUnavailable):
    """Too many commands of this process wait for Redis, which is not away."""


class HandshakeRefused(DependencyError):
    """The server answered a WebSocket's opening handshake with an HTTP status other than 101.

    Attributes:
        status: the HTTP status.
        body: beginning of the answer's body.
        retry_after: the header of that name, if there was one.
    """

    def __init__(self, status: int, body: bytes, retry_after: str | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body
        self.retry_after = retry_after


class ProxyFailed(DependencyError):
    """The proxy on the way to a server cannot be reached, or refuses. The message holds no password.

    Attributes:
        retryable: whether another attempt can succeed without a change by the operator.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class LinkUnavailable(DependencyError):
    """The worker cannot be reached now."""


class WorkerGone(LinkUnavailable):
    """The worker's process is gone: its address refuses, or another process answers there."""
