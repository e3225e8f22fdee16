"""Erasure of call records in files: the sub-command `erase`.

It rewrites each file of CALL_RECORDS_DIR that has such a record, and replaces the file at once. Dispatchers may
run meanwhile: they wait for the lock of the folder, and then use the new file. Compressed files and copies are not
changed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from common.errors import SettingsError
from common.plain_number import plain_number
from common.settings import env_file
from dispatcher.records.record_file import MODE, PREFIX, SUFFIX, folder_lock

VARIABLE: Final = "CALL_RECORDS_DIR"
ENV_FILE: Final = ".env"
_TEMPORARY = ".erasing"


@dataclass(slots=True)
class Erased:
    """The result of an erasure.

    Attributes:
        records: number of erased records.
        files: number of files that had some.
        unreadable: number of lines that are no records; they stay.
    """

    records: int = 0
    files: int = 0
    unreadable: int = 0


def erase(folder: Path, *, number: str | None = None, uuid: str | None = None) -> Erased:
    """Erase the records of a number or of a call from all files of a folder.

    Raises:
        OSError: a file cannot be read or written; files before it are done.
    """
    matches = _by_uuid(uuid) if uuid is not None else _by_number(number or "")
    erased = Erased()
    for path in sorted(folder.glob(f"{PREFIX}*{SUFFIX}")):
        # One file at a time, so that dispatchers can write in between.
        with folder_lock(folder, exclusive=True):
            for left in folder.glob(f".{PREFIX}*{_TEMPORARY}"):
                left.unlink()  # of an erasure that was killed
            _rewrite(path, matches, erased)
    return erased


def _rewrite(path: Path, matches: Callable[[object], bool], erased: Erased) -> None:
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    removed = 0
    try:
        with path.open("rb") as source:
            status = os.fstat(source.fileno())
            with _new_file(temporary, status) as target:
                for line in source:
                    verdict = _verdict(line, matches)
                    erased.unreadable += verdict is None
                    removed += verdict is True
                    if not verdict:
                        target.write(line)
                target.flush()
                os.fsync(target.fileno())
    except FileNotFoundError:
        return  # rotated or removed meanwhile
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if not removed:
        temporary.unlink()
        return
    # The writer rotates by the time of its last record.
    os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    erased.records += removed
    erased.files += 1


@contextlib.contextmanager
def _new_file(path: Path, like: os.stat_result) -> Iterator[BinaryIO]:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
    with os.fdopen(number, "wb") as file:
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(number, like.st_uid, like.st_gid)
        yield file


def _verdict(line: bytes, matches: Callable[[object], bool]) -> bool | None:
    """Return whether a line has to go; None: it is no record."""
    if not line.endswith(b"\n"):
        return True  # torn: its process was killed, and its record is delivered again
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return matches(record) if isinstance(record, dict) else None


def _by_uuid(uuid: str) -> Callable[[object], bool]:
    return lambda record: isinstance(record, dict) and record.get("uuid") == uuid


def _by_number(number: str) -> Callable[[object], bool]:
    wanted = plain_number(number)

    def matches(record: object) -> bool:
        metadata = record.get("metadata") if isinstance(record, dict) else None
        values = metadata.values() if isinstance(metadata, dict) else ()
        return any(plain_number(str(value)) == wanted for value in values)

    return matches


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--number", help="erase the records of calls from or to this number")
    chosen.add_argument("--uuid", help="erase the record of this call")
    parser.add_argument("--dir", type=Path, help=f"folder of the records (default: {VARIABLE})")


def run(options: argparse.Namespace) -> int:
    """Erase, and print how much.

    Raises:
        SettingsError: there is no folder, or it cannot be changed.
    """
    folder = options.dir or _configured_folder()
    if not folder.is_dir():
        raise SettingsError(f"{str(folder)!r} is no folder: name it with --dir, or set {VARIABLE}")
    if options.number is not None and not plain_number(options.number):
        raise SettingsError("--number has no number")
    try:
        erased = erase(folder, number=options.number, uuid=options.uuid)
    except OSError as error:
        raise SettingsError(f"records in {str(folder)!r} cannot be erased: {error}") from error
    sys.stdout.write(f"erased {erased.records} records in {erased.files} files of {folder}\n")
    if erased.unreadable:
        sys.stdout.write(f"{erased.unreadable} lines are no records, and stay\n")
    return 0


def _configured_folder() -> Path:
    """Return CALL_RECORDS_DIR. All other settings may be missing where this command runs."""
    written = os.environ.get(VARIABLE)
    if written is None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            written = env_file.read(Path(ENV_FILE)).variables.get(VARIABLE)
    if not written:
        raise SettingsError(f"{VARIABLE} is not set: name the folder with --dir")
    return Path(written)
