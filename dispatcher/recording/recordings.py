"""The recordings of a dispatcher process: recorders, the thread that writes, the folder, the state in Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from common.errors import RegistryUnavailable
from common.observe.line_limit import LineLimit
from common.observe.metrics import DispatcherMetrics
from common.observe.recording_drop import RecordingDrop
from common.store.recording_states import RecordingState, RecordingStates, StoredSegment
from common.store.registry import Registry
from dispatcher.recording import names
from dispatcher.recording.folder import RecordingFolder, Swept
from dispatcher.recording.recorder import CallRecorder
from dispatcher.recording.stall_guard import StallGuard
from dispatcher.recording.stretch import Stretch
from dispatcher.recording.wav_file import WavFile
from dispatcher.recording.writer import RecordingWriter, seconds_of

log = structlog.get_logger()

# Requests of other dispatchers are looked for so often, while calls are recorded.
STEP_SECONDS = 0.25
# States are written to Redis again so often: it may lose them.
STATE_SECONDS = 10.0
# A state outlives its dispatcher by this, besides the time in which the caller may come back.
STATE_KEPT_SECONDS = 60
# The state of an ended call names the host of its recording for so long.
ENDED_STATE_SECONDS = 3600
STATES_AT_ONCE = 100
SWEEP_SECONDS = 60.0
LOG_SECONDS = 60.0
# Another dispatcher has so long to pause a recording.
ASK_SECONDS = 3.0
ASK_INTERVAL_SECONDS = 0.05
# A state that Redis does not tell within this time is taken as paused.
RECALL_SECONDS = 8.0
RECALL_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """The settings of recordings.

    Attributes:
        folder: RECORDINGS_DIR.
        keep_seconds: RECORDINGS_KEEP_SECONDS; 0: recordings are not deleted for their age.
        max_bytes: RECORDINGS_MAX_BYTES.
    """

    folder: Path
    keep_seconds: float
    max_bytes: int


class Recordings:
    """All recordings of one process.

    Attributes:
        host: of this process, as files name it.
        folder: of the recordings.
        states: of recordings, in Redis.
    """

    def __init__(
        self,
        settings: RecordingSettings,
        registry: Registry,
        *,
        dispatcher_id: str,
        host: str,
        metrics: DispatcherMetrics,
        reconnect_seconds: float,
    ) -> None:
        """Make recordings without a call.

        Args:
            settings: of recordings.
            registry: Redis.
            dispatcher_id: of this process.
            host: name of this host.
            metrics: what is measured.
            reconnect_seconds: how long a call is kept that has no caller.
        """
        self.host = names.safe_host(host)
        self.folder = RecordingFolder(settings.folder, settings.keep_seconds, settings.max_bytes)
        self.states = RecordingStates(registry)
        self._dispatcher_id = dispatcher_id
        self._metrics = metrics
        self._kept_seconds = round(reconnect_seconds) + STATE_KEPT_SECONDS
        self._writer = RecordingWriter(self.folder)
        self._files: dict[CallRecorder, WavFile] = {}
        self._by_uuid: dict[str, CallRecorder] = {}
        # States of ended calls that Redis does not have yet.
        self._ended: dict[str, RecordingState] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._written_seconds = float("-inf")
        self._counted_samples = 0
        self._counted_dropped = dict.fromkeys(RecordingDrop, 0)
        self._lines = LineLimit(LOG_SECONDS)
        self._stall_guard = StallGuard()
        self._open_mode: int | None = None
        self._is_open_logged = False
        self._problem = self._folder_problem = ""

    # Calls

    def recorder(self) -> CallRecorder:
        """Return the recorder of a new connection."""
        return CallRecorder(self, self.host)

    def started(self, recorder: CallRecorder) -> None:
        """Give a call's recorder its file."""
        recorder.file = names.file_name(recorder.uuid, time.time(), self.host)
        self._files[recorder] = WavFile(self.folder.path / recorder.file)
        self._by_uuid[recorder.uuid] = recorder

    def write(self, recorder: CallRecorder, stretch: Stretch) -> bool:
        """Queue a stretch; return whether there was room."""
        return self._writer.write(self._files[recorder], stretch)

    def too_long(self, samples: int) -> None:
        """Count sound behind the longest recording."""
        self._metrics.recording_dropped[RecordingDrop.LENGTH].inc(seconds_of(samples))
        self._warn("recording too long", effect="the call goes on without a recording")

    def late(self, samples: int) -> None:
        """Count sound that had no place in the recording."""
        self._metrics.recording_dropped[RecordingDrop.LATE].inc(seconds_of(samples))

    def ended(self, recorder: CallRecorder, *, moved: bool) -> None:
        """Close the file of a call that ended here."""
        self._writer.finish(self._files.pop(recorder))
        if self._by_uuid.get(recorder.uuid) is recorder:
            del self._by_uuid[recorder.uuid]
            if not moved and recorder.is_known and len(self._ended) < STATES_AT_ONCE:
                self._ended[recorder.uuid] = recorder.state()

    def recall(self, recorder: CallRecorder) -> None:
        """Look up whether the recording of a call that another dispatcher had is paused."""
        task = asyncio.create_task(self._recall(recorder), name=f"recording {recorder.uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _recall(self, recorder: CallRecorder) -> None:
        state = None
        is_known = False
        try:
            async with asyncio.timeout(RECALL_SECONDS):
                while not is_known:
                    try:
                        state = await self.states.read(recorder.uuid)
                        is_known = True
                    except RegistryUnavailable:
                        await asyncio.sleep(RECALL_INTERVAL_SECONDS)
        except TimeoutError:
            pass
        if state is None:
            log.warning(
                "recording paused",
                uuid=recorder.uuid,
                reason="Redis does not know whether the recording was paused before the call came here",
                effect="POST /calls/{uuid}/recording goes on with it",
            )
        else:
            state = await asyncio.to_thread(self._with_true_lengths, state)
        recorder.recalled(state)

    def _with_true_lengths(self, state: RecordingState) -> RecordingState:
        """Return a state with the true lengths of this host's files: a killed process did not store them."""
        return RecordingState(
            state.paused,
            tuple(
                StoredSegment(
                    each.host, each.file, each.from_seconds, self.folder.seconds_of(each.file) or each.seconds
                )
                if each.host == self.host
                else each
                for each in state.segments
            ),
        )

    async def settled(self) -> None:
        """Wait until no state is looked up any more; for tests."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    # The calls API

    def recorder_of(self, uuid: str) -> CallRecorder | None:
        """Return the recorder of a call that this process has."""
        return self._by_uuid.get(uuid)

    async def pause(self, recorder: CallRecorder, *, paused: bool) -> bool:
        """Pause a call's recording, or go on; return whether Redis has the new state."""
        recorder.pause(paused)
        log.info("recording paused" if paused else "recording goes on", uuid=recorder.uuid, by="calls API")
        return await self._store([recorder])

    async def ask(self, dispatcher: str, uuid: str, *, paused: bool) -> bool:
        """Have another dispatcher pause the recording of its call, or go on; return whether it did in time.

        Raises:
            RegistryUnavailable: Redis is away.
        """
        await self.states.ask(dispatcher, uuid, paused=paused)
        try:
            async with asyncio.timeout(ASK_SECONDS):
                while True:
                    state = await self.states.read(uuid)
                    if state is not None and state.paused is paused:
                        return True
                    await asyncio.sleep(ASK_INTERVAL_SECONDS)
        except TimeoutError:
            return False

    # Lasting tasks

    async def step(self) -> None:
        """Count, log, take requests of other dispatchers, and bring Redis up to date."""
        await asyncio.sleep(STEP_SECONDS)
        self._count()
        may_write = self._stall_guard.step(time.monotonic())
        if not self._by_uuid and not self._ended:
            return
        try:
            for uuid, paused in await self.states.take_asked(self._dispatcher_id):
                recorder = self._by_uuid.get(uuid)
                if recorder is not None:
                    await self.pause(recorder, paused=paused)
        except RegistryUnavailable:
            pass
        if not may_write:
            return
        now_seconds = time.monotonic()
        is_due = now_seconds - self._written_seconds >= STATE_SECONDS
        recorders = [each for each in self._by_uuid.values() if each.is_changed or is_due]
        if is_due:
            self._written_seconds = now_seconds
        for start in range(0, len(recorders), STATES_AT_ONCE):
            if not await self._store(recorders[start : start + STATES_AT_ONCE]):
                return
        if self._ended:
            await self._store_ended()

    async def sweep(self) -> None:
        """Delete what is too old or too much, in a thread."""
        swept = await asyncio.to_thread(self._sweep)
        if self._open_mode is not None and not self._is_open_logged:
            self._is_open_logged = True
            log.warning(
                "recordings folder is open",
                mode=f"{self._open_mode:04o}",
                effect="other users see the names of recordings, and not their sound",
            )
        if swept is not None and (swept.expired or swept.crowded_out or swept.repaired):
            log.info(
                "recordings swept",
                expired=swept.expired,
                crowded_out=swept.crowded_out,
                repaired=swept.repaired,
                size_bytes=swept.size_bytes,
            )
        await asyncio.sleep(SWEEP_SECONDS)

    async def close(self, seconds: float) -> None:
        """Write what is queued, for so long at most."""
        for task in self._tasks:
            task.cancel()
        writing = asyncio.create_task(asyncio.to_thread(self._writer.close, seconds))
        if self._ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._store_ended()
        if not await writing:
            log.warning("recordings not written", seconds=seconds, effect="the ends of recordings are missing")
        self._count()

    def _sweep(self) -> Swept | None:
        try:
            self._open_mode = self.folder.prepare()
            if self._folder_problem or self._writer.problem:
                self.folder.probe()
                self._writer.problem = self._folder_problem = ""
        except OSError as error:
            self._folder_problem = error.strerror or type(error).__name__
            return None
        return self.folder.sweep()

    async def _store(self, recorders: list[CallRecorder]) -> bool:
        """Write states to Redis; return whether it has them."""
        known = [each for each in recorders if each.is_known]
        for each in known:
            each.is_changed = False
        states = {each.uuid: each.state() for each in known}
        is_stored = await self._write_states(states, self._kept_seconds) if states else False
        if not is_stored:
            for each in known:
                each.is_changed = True
        return is_stored

    async def _store_ended(self) -> None:
        ended, self._ended = self._ended, {}
        # A new call may have the uuid by now.
        states = {uuid: state for uuid, state in ended.items() if uuid not in self._by_uuid}
        if states and not await self._write_states(states, ENDED_STATE_SECONDS):
            self._ended = states | self._ended

    async def _write_states(self, states: dict[str, RecordingState], keep_seconds: int) -> bool:
        try:
            await self.states.write(states, dict.fromkeys(states, keep_seconds))
        except RegistryUnavailable:
            return False
        return True

    def _count(self) -> None:
        writer = self._writer
        written, self._counted_samples = writer.written_samples - self._counted_samples, writer.written_samples
        if written:
            self._metrics.recording_seconds.inc(seconds_of(written))
        for reason, samples in writer.dropped_samples.items():
            dropped, self._counted_dropped[reason] = samples - self._counted_dropped[reason], samples
            if dropped:
                self._metrics.recording_dropped[reason].inc(seconds_of(dropped))
                if reason is RecordingDrop.QUEUE:
                    self._warn("recording has a gap", reason="the disk is too slow")
        problem = writer.problem or self._folder_problem
        self._metrics.recording_stopped.set(1 if problem else 0)
        if bool(problem) is not bool(self._problem):
            self._problem = problem
            if problem:
                self._warn("recording stopped", reason=problem)
            else:
                log.info("recording goes on", reason="the disk takes recordings again")

    def _warn(self, event: str, **fields: str) -> None:
        times = self._lines.take(event, time.monotonic())
        if times is not None:
            log.warning(event, times=times, **({"effect": "calls go on"} | fields))
