"""The model's side of a session: its responses, and their account."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from simulator.realtime import errors
from simulator.realtime.audio import wire_audio
from simulator.realtime.config import SessionConfig
from simulator.realtime.conversation import Item
from simulator.realtime.counters import Counters
from simulator.realtime.ending import Ending, Output
from simulator.realtime.errors import RequestError
from simulator.realtime.hearing import Hearing
from simulator.realtime.model import SimulatedModel
from simulator.realtime.response import Host, Response
from simulator.realtime.script import Script
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import Behaviour, with_directives
from simulator.realtime.usage import Usage

TOKENS_PER_MINUTE = 250_000

# Responses beside the one in the conversation; more are refused.
MAX_OUT_OF_BAND = 16

# Remembered for people and tests.
MAX_RESPONSES = 1000


class ResponderHost(Host, Protocol):
    """The part of a session that its responses use."""

    faults: SessionFaults
    behaviour: Behaviour
    config: SessionConfig
    counters: Counters
    hearing: Hearing
    script: Script | None

    def refuse(self, error: RequestError, event_id: str | None) -> None:
        """Answer a client event with an `error` event."""

    def read_item(self, wire: dict[str, Any], path: str) -> Item:
        """Read an item of a client event; `path` is its place in the event."""


class Responder:
    """Creates the responses of one session.

    Attributes:
        responses: the last `MAX_RESPONSES` responses.
        usage: tokens of all responses that have ended.
        active: the response under way in the conversation.
        has_spoken: whether the client has received any audio.
    """

    def __init__(self, host: ResponderHost) -> None:
        self.responses: deque[Response] = deque(maxlen=MAX_RESPONSES)
        self.usage = Usage()
        self.active: Response | None = None
        self.has_spoken = False
        self._host = host
        self._out_of_band: dict[str, Response] = {}
        self._count = 0
        self._model = SimulatedModel(host.script)

    @property
    def speaks(self) -> bool:
        """Tell whether any response is under way."""
        return self.active is not None or bool(self._out_of_band)

    # Client events.

    def request(self, event: dict[str, Any], now: float) -> None:
        """Take `response.create`.

        Raises:
            RequestError: the response cannot be created.
        """
        self.create(event.get("response") or {}, now)

    def cancel(self, event: dict[str, Any], now: float) -> None:
        """Take `response.cancel`.

        Raises:
            RequestError: no such response is under way.
        """
        response_id = event.get("response_id")
        response = self.active
        if response_id is not None and (response is None or response.id != response_id):
            response = self._out_of_band.get(response_id)
        if response is None:
            raise errors.no_active_response()
        response.cancel(now, "client_cancelled")

    # The caller.

    def hear(self, speech: bytes) -> None:
        """Let the model listen to a turn's speech, to answer in its tone."""
        if self._host.behaviour.echo:
            self._model.hear(speech)

    def interrupt(self, now: float) -> None:
        """Cancel the active response, because the caller speaks."""
        if self.active is not None and self._host.config.detection_flag("interrupt_response"):
            self.active.cancel(now, "turn_detected")

    def respond_to_turn(self, now: float) -> None:
        """Answer a turn that has ended, unless the client asks for each answer itself."""
        if not self._host.config.detection_flag("create_response"):
            return
        try:
            self.create({}, now)
        except RequestError as error:
            # "If `interrupt_response` is set to `false` this may fail to create a response."
            self._host.refuse(error, None)

    # Responses.

    def create(self, request: dict[str, Any], now: float, behaviour: Behaviour | None = None) -> Response:
        """Create a response.

        Args:
            request: the `response` of `response.create`.
            now: the clock.
            behaviour: of this response; None: the session's.

        Raises:
            RequestError: the API would refuse the request.
        """
        host = self._host
        in_conversation = request.get("conversation") != "none"
        if in_conversation and self.active is not None:
            raise errors.active_response(self.active.id)
        if len(self._out_of_band) >= MAX_OUT_OF_BAND:
            raise RequestError(
                f"The simulator takes {MAX_OUT_OF_BAND} responses at once.", code="too_many_responses"
            )
        output = host.config.session["audio"]["output"]
        asked = request.get("audio", {}).get("output", {})
        voice, form = asked.get("voice", output["voice"]), asked.get("format", output["format"])
        if in_conversation and self.has_spoken and voice != output["voice"]:
            raise errors.voice_locked()
        modalities = request.get("output_modalities") or host.config.session["output_modalities"]
        max_tokens = request.get("max_output_tokens") or host.config.session["max_output_tokens"]
        path = "response.instructions"
        behaviour = behaviour_with(behaviour or host.behaviour, request.get("instructions") or "", path)
        usage = self._read_context(request)
        ending = host.faults.take_ending()
        if host.faults.exceeds_context(usage.input.total):
            ending = Ending(code="context_length_exceeded", output=Output.NONE)
        self._count += 1
        host.hearing.stop_waiting()
        plan = self._model.plan(
            behaviour,
            host.conversation,
            request,
            number=self._count,
            speaks="audio" in modalities,
            max_tokens=max_tokens,
            ending=ending,
            late_seconds=host.faults.take_late_response() if in_conversation else 0.0,
        )
        response = Response(
            host,
            plan,
            response_id=host.new_id("resp"),
            number=self._count,
            turn=host.conversation.user_turns(notes=behaviour.notes_are_turns),
            in_conversation=in_conversation,
            audio=wire_audio(form),
            settings={
                "output_modalities": modalities,
                "max_output_tokens": max_tokens,
                "audio": {"output": {"format": form, "voice": voice}},
                "metadata": request.get("metadata"),
            },
            read=usage,
        )
        self.responses.append(response)
        if in_conversation:
            self.active = response
        else:
            self._out_of_band[response.id] = response
        response.start(now)
        return response

    def _read_context(self, request: dict[str, Any]) -> Usage:
        host = self._host
        items = host.conversation.items
        if request.get("input") is not None:
            items = []
            for index, wire in enumerate(request["input"]):
                path = f"response.input[{index}]"
                if wire["type"] != "item_reference":
                    items.append(host.read_item(wire, path))
                elif (item := host.conversation.find(wire["id"])) is not None:
                    items.append(item)
                else:
                    raise RequestError(
                        f"Item with id '{wire['id']}' not found.", code="invalid_value", param=f"{path}.id"
                    )
        instructions = request.get("instructions") or host.config.instructions
        return self._model.read(instructions, request.get("tools") or host.config.session["tools"], items)

    def talk(self, now: float) -> None:
        """Speak, pause for as long as the reply plays, and repeat: see `SimulatorSettings.listen`."""
        response = self.active or self.create({}, now)
        self._host.schedule.at(now + 2 * response.total_ms / 1000, self.talk)

    def calls_made(self, response: Response, now: float) -> None:
        """Begin the next response before this one is done, if a fault commands it.

        This response has called functions.
        """
        if response is self.active and self._host.faults.take_overlap():
            self.active = None
            self.create({}, now)

    def finished(self, response: Response) -> None:
        """Account for a response whose `response.done` was sent or lost."""
        assert response.usage is not None
        self.usage += response.usage
        tokens_in, tokens_out = response.usage.input.total, response.usage.output.total
        counters = self._host.counters
        counters.count("responses")
        counters.count(f"responses_{response.status}")
        counters.count("input_tokens", tokens_in)
        counters.count("output_tokens", tokens_out)
        remaining = max(0, TOKENS_PER_MINUTE - tokens_in - tokens_out)
        limit = {
            "name": "tokens",
            "limit": TOKENS_PER_MINUTE,
            "remaining": remaining,
            "reset_seconds": 60 * (TOKENS_PER_MINUTE - remaining) / TOKENS_PER_MINUTE,
        }
        # Documented for the start of a response, seen after its end, and for tokens only.
        self._host.emit("rate_limits.updated", rate_limits=[self._host.faults.take_rate_limit() or limit])
        self.has_spoken |= response.sent_ms > 0
        if response is not self.active:
            self._out_of_band.pop(response.id, None)
            return
        self.active = None
        if response.status == "completed" and response.sent_ms:
            # "The timeout value will be applied after the last model response's audio has finished playing,
            # i.e. it's set to the `response.done` time plus audio playback duration."
            self._host.hearing.wait_for_speech(response.sent_ms)
        if response.status == "cancelled":
            response.send_late(self._host.faults.take_late_deltas())


def behaviour_with(behaviour: Behaviour, instructions: str, param: str) -> Behaviour:
    """Return the behaviour with the directives of these instructions.

    Raises:
        RequestError: a directive is wrong; `param` names the field of the instructions.
    """
    try:
        return with_directives(behaviour, instructions)
    except ValueError as error:
        raise RequestError(str(error), code="invalid_value", param=param) from error
