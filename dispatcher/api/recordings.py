"""The recordings of calls in the calls API: pause, read and delete.

A dispatcher reads and deletes the files in its own folder. It pauses the recording of any dispatcher's call. Each
access to sound leaves a line in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from typing import Protocol as Interface

import structlog
from aiohttp import web

from common.store.registry import Registry
from dispatcher.api.audit import audit
from dispatcher.api.commands import CommandError
from dispatcher.recording import wav_file
from dispatcher.recording.folder import Found
from dispatcher.recording.recordings import Recordings

log = structlog.get_logger()

PIECE_BYTES = 256 * 1024
OFF = "calls are not recorded: set RECORDINGS_DIR"


class Recorded(Interface):
    """The part of a dispatcher that these handlers use."""

    @property
    def recordings(self) -> Recordings | None:
        """Recordings of calls; None: calls are not recorded."""

    @property
    def registry(self) -> Registry:
        """The registry in Redis."""


class ElsewhereError(CommandError):
    """The recording lies on another host.

    Attributes:
        hosts: the hosts that have it.
    """

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(421, f"the recording is on another host: ask the dispatcher on {', '.join(hosts)}")
        self.hosts = hosts


class RecordingsApi:
    """The handlers of `/calls/{uuid}/recording`."""

    def __init__(self, dispatcher: Recorded) -> None:
        self._dispatcher = dispatcher

    async def pause(self, uuid: str, body: dict[str, Any]) -> dict[str, Any]:
        """Pause the recording of a live call, or go on; return the new state.

        Raises:
            CommandError: the body is wrong, there is no such call, or its dispatcher does not answer.
            RegistryUnavailable: Redis is away, and the call is not one of this dispatcher's.
        """
        paused = body.get("paused")
        if not isinstance(paused, bool) or len(body) != 1:
            raise CommandError(400, 'the body must be {"paused": true} or {"paused": false}')
        recordings = self._there()
        recorder = recordings.recorder_of(uuid)
        if recorder is not None:
            return {"paused": paused, "stored": await recordings.pause(recorder, paused=paused)}
        call = await self._dispatcher.registry.call(uuid)
        if call is None:
            raise CommandError(404, "there is no such call")
        if not call.dispatcher:
            raise CommandError(409, "no dispatcher has this call at the moment")
        if not await recordings.ask(call.dispatcher, uuid, paused=paused):
            raise CommandError(504, "the dispatcher of this call did not answer: ask again")
        return {"paused": paused, "stored": True}

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Answer with the WAV file of a call, or with the list of its files if it has several.

        Raises:
            CommandError: there is none here.
        """
        uuid = request.match_info["uuid"]
        found = await self._found(uuid)
        chosen = self._chosen(found, request.query.get("segment"))
        if chosen is None:
            answer = {"error": "the recording has several files: choose one with ?segment=N"}
            return web.json_response(answer | {"segments": [_shown(each) for each in found]}, status=300)
        return await self._send(request, uuid, chosen)

    async def delete(self, request: web.Request) -> dict[str, Any]:
        """Delete all files of a call on this host.

        Raises:
            CommandError: there is none here, or the call is being recorded.
        """
        uuid = request.match_info["uuid"]
        found = await self._found(uuid)
        recordings = self._there()
        deleted = []
        for each in found:
            if await asyncio.to_thread(recordings.folder.delete, each.name):
                deleted.append(each.name)
                audit("recording deleted", request, uuid=uuid, file=each.name)
        if len(deleted) < len(found) and await asyncio.to_thread(self._any_written, found):
            raise CommandError(409, "the call is being recorded: delete the recording when the call has ended")
        return {"deleted": deleted}

    def _there(self) -> Recordings:
        recordings = self._dispatcher.recordings
        if recordings is None:
            raise CommandError(409, OFF)
        return recordings

    def _any_written(self, found: list[Found]) -> bool:
        folder = self._there().folder
        return any(folder.is_written(each.name) for each in found)

    async def _found(self, uuid: str) -> list[Found]:
        recordings = self._there()
        found = await asyncio.to_thread(recordings.folder.of_call, uuid)
        if found:
            return found
        state = await recordings.states.read(uuid)
        hosts = sorted({each.host for each in state.segments} - {recordings.host}) if state is not None else []
        if hosts:
            raise ElsewhereError(hosts)
        raise CommandError(404, f"there is no recording of this call on {recordings.host}")

    @staticmethod
    def _chosen(found: list[Found], segment: str | None) -> Found | None:
        if segment is None:
            return found[0] if len(found) == 1 else None
        if not segment.isascii() or not segment.isdigit() or not 1 <= int(segment[:9]) <= len(found):
            raise CommandError(404, f"segment must be 1 to {len(found)}")
        return found[int(segment[:9]) - 1]

    async def _send(self, request: web.Request, uuid: str, chosen: Found) -> web.StreamResponse:
        path = self._there().folder.path / chosen.name
        try:
            file, data_bytes = await asyncio.to_thread(_opened, path)
        except OSError as error:
            raise CommandError(404, "the recording was deleted a moment ago") from error
        audit("recording read", request, uuid=uuid, file=chosen.name)
        response = web.StreamResponse(
            headers={
                "Content-Type": "audio/wav",
                "Content-Disposition": f'attachment; filename="{chosen.name}"',
                "Cache-Control": "no-store",
            }
        )
        response.content_length = wav_file.HEADER_BYTES + data_bytes
        try:
            await response.prepare(request)
            async for piece in _pieces(file, data_bytes):
                await response.write(piece)
            await response.write_eof()
        finally:
            await asyncio.to_thread(file.close)
        return response


def _opened(path: Path) -> tuple[BinaryIO, int]:
    """Open a recording; return it with its bytes of samples: one that grows is sent as far as it is now.

    Raises:
        OSError: it is gone, or broken.
    """
    file = path.open("rb")
    data_bytes = wav_file.data_bytes_of(file.read(wav_file.HEADER_BYTES))
    if data_bytes is None:
        file.close()
        raise OSError(f"{path.name} is no recording")
    there = path.stat().st_size - wav_file.HEADER_BYTES
    return file, min(data_bytes, there)


async def _pieces(file: BinaryIO, data_bytes: int) -> AsyncIterator[bytes]:
    yield wav_file.header(data_bytes)
    while data_bytes > 0:
        piece = await asyncio.to_thread(file.read, min(PIECE_BYTES, data_bytes))
        if not piece:
            return
        data_bytes -= len(piece)
        yield piece


def _shown(found: Found) -> dict[str, Any]:
    started_at = datetime.fromtimestamp(found.started_at, UTC).isoformat()
    return {"file": found.name, "host": found.host, "started_at": started_at, "size_bytes": found.size_bytes}
