"""The file that a video comes to life in: ``NAME.part`` beside its target, and its stamp in ``NAME.part.json``.

The stamp says what the bytes are of and how many of them are surely on the disk, so that a later download can go on
from there. Invariants:

- The stamp never claims more than the disk holds: it is written after an ``fsync``, and taken away before the bytes.
- One download writes to a part: it holds a lock of the system's on it, from before its first byte until it has its
  name or is left. Other processes are kept out as well, and a killed one leaves no lock behind.
- A target that exists is never touched without ``overwrite``, and then replaced in one step.

Everything here blocks: call it in a thread. A thread whose caller was cancelled is finished before the next begins.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import attrs

from hailuo_async.errors import DownloadError

#: How much a killed process may have to fetch again.
_STAMP_EVERY_BYTES = 16 * 2**20


@attrs.frozen
class Stamp:
    """What bytes are of: which resource, which state of it (``None``: cannot be told), and its checksums in hex."""

    of: str
    validator: str | None = None
    checksums: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class _Record:
    """A stamp as it lies on the disk: the first ``size`` bytes of the part are there and bear it."""

    stamp: Stamp
    size: int


def new_hash(algorithm: str) -> hashlib._Hash:
    """A hash by its name. It is a checksum against accidents here, so MD5 is as good as any."""
    return hashlib.new(algorithm, usedforsecurity=False)


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Takes the file for this download alone. Raises ``OSError`` if another has it."""
        os.lseek(descriptor, 2**62, os.SEEK_SET)  # far behind the end: a lock here bars others from what it covers
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Takes the file for this download alone. Raises ``OSError`` if another has it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_OPEN_FLAGS = (
    os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
) | getattr(os, "O_BINARY", 0)


def _open_alone(path: str, lock: Callable[[int], None] = _lock) -> int:
    """A descriptor of the part at ``path`` that no other download writes to.

    A part that was given its name while it was being opened here is another's video by now: not ours to write to.
    So is one that a crash left with two names: it loses the name of a part, and a new one is made.
    """
    descriptor = os.open(path, _OPEN_FLAGS, 0o666)
    try:
        lock(descriptor)
        ours = os.fstat(descriptor)
        if not os.path.samestat(ours, os.stat(path)):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError, PermissionError):
        os.close(descriptor)
        raise DownloadError(reason="another download writes it") from None
    except BaseException:
        os.close(descriptor)
        raise
    if ours.st_nlink <= 1:
        return descriptor
    os.unlink(path)
    os.close(descriptor)
    return _open_alone(path, lock)


def _give_name(part: str, target: str, link: Callable[[str, str], None] = os.link) -> None:
    """Turns ``part`` into ``target``. Raises ``FileExistsError`` if that exists, and never replaces it.

    Where the file system has no links, the name is first taken by an empty file, for the moment until it is replaced.
    """
    try:
        link(part, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        try:
            os.replace(part, target)
        except OSError:
            os.unlink(target)
            raise
    else:
        os.unlink(part)


@attrs.define(kw_only=True)
class Part:
    """The bytes of one video that is not whole yet. ``size`` of them are in the file, and bear ``stamp``."""

    target: Path
    overwrite: bool
    size: int = 0
    stamp: Stamp | None = None
    _descriptor: int = -1
    _stamped: int = 0
    _one_thread: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @property
    def path(self) -> str:
        """Where the bytes are."""
        return f"{self.target}.part"

    @property
    def stamp_path(self) -> str:
        """Where it is written what they are of."""
        return f"{self.path}.json"

    def open(self, of: str) -> None:
        """Takes the part, with what is there of resource ``of`` already. Raises ``OSError`` or ``DownloadError``."""
        with self._one_thread:
            if os.path.isdir(self.target):
                raise _os_error(errno.EISDIR)
            if os.path.lexists(self.target) and not self.overwrite:
                raise _os_error(errno.EEXIST)
            self._descriptor = _open_alone(self.path)
            record = self._read_stamp()
            if record is not None and record.stamp.of == of and 0 < record.size <= os.fstat(self._descriptor).st_size:
                self.size, self.stamp, self._stamped = record.size, record.stamp, record.size
                os.ftruncate(self._descriptor, record.size)
            else:
                self._empty()

    def write(self, offset: int, piece: bytearray, stamp: Stamp) -> None:
        """Puts ``piece`` behind what is there, or at the start of it all if ``offset`` is 0. Raises ``OSError``."""
        with self._one_thread:
            if offset == 0:
                self._empty()
            self.stamp = stamp
            rest = memoryview(piece)
            while rest:
                written = os.write(self._descriptor, rest)
                self.size += written
                rest = rest[written:]
            if self.size - self._stamped >= _STAMP_EVERY_BYTES:
                self._write_stamp()

    def wrong_checksum(self) -> str | None:
        """The algorithm whose checksum the file on the disk does not have, if there is one."""
        with self._one_thread, open(self._descriptor, "rb", closefd=False) as file:
            for algorithm, expected in self.stamp.checksums.items() if self.stamp else ():
                file.seek(0)
                if hashlib.file_digest(file, partial(new_hash, algorithm)).hexdigest() != expected:
                    return algorithm
        return None

    def publish(self) -> None:
        """Puts the bytes on the disk and gives them their name. Raises ``OSError``, and then the part is still one."""
        with self._one_thread:
            os.fsync(self._descriptor)
            self._close_on_windows()
            if self.overwrite:
                os.replace(self.path, self.target)
            else:
                _give_name(self.path, os.fspath(self.target))
            with contextlib.suppress(OSError):  # the video has its name: nothing that fails now can take it away
                self._remove_stamp()
                _sync_directory(self.target.parent)
            self._close()

    def leave(self, *, useful: bool) -> None:
        """Lets go of a part that was opened and not published, else does nothing. Never raises ``OSError``.

        What is ``useful`` and has a validator is kept with its stamp, to go on with later; all else is removed.
        """
        with self._one_thread:
            if self._descriptor < 0:
                return
            if not (useful and self._try_to_stamp()):
                self._close_on_windows()
                for remove in (self._remove_stamp, partial(os.unlink, self.path)):
                    with contextlib.suppress(OSError):
                        remove()
            self._close()

    def _empty(self) -> None:
        self._remove_stamp()
        os.ftruncate(self._descriptor, 0)
        self.size, self.stamp, self._stamped = 0, None, 0

    def _read_stamp(self) -> _Record | None:
        try:
            return _record_from(json.loads(Path(self.stamp_path).read_text("utf-8")))
        except (OSError, ValueError):
            return None

    def _try_to_stamp(self) -> bool:
        with contextlib.suppress(OSError):
            return self._write_stamp()
        return False

    def _write_stamp(self) -> bool:
        """Whether there is now a stamp: without a validator, or without a byte, there is nothing to go on with."""
        if self.size == 0 or self.stamp is None or self.stamp.validator is None:
            return False
        os.fsync(self._descriptor)
        self._remove_stamp()
        with open(self.stamp_path, "x", encoding="utf-8") as file:
            json.dump(attrs.asdict(_Record(self.stamp, self.size)), file)
        self._stamped = self.size
        return True

    def _remove_stamp(self) -> None:
        Path(self.stamp_path).unlink(missing_ok=True)

    def _close_on_windows(self) -> None:
        """There an open file can be neither renamed nor removed. Elsewhere it stays open, for the sake of the lock."""
        if os.name == "nt":  # pragma: no cover
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _record_from(told: object) -> _Record:
    """Raises ``ValueError`` if ``told`` is none."""
    import cattrs  # takes milliseconds, and few programs ever come here

    try:
        return cattrs.Converter().structure(told, _Record)
    except cattrs.BaseValidationError as error:
        raise ValueError("not a record of a part") from error


def _sync_directory(directory: Path) -> None:
    """Puts the names in ``directory`` on the disk. Raises ``OSError`` where that cannot be done, as on Windows."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
