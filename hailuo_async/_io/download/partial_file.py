"""The file that a video is written to until it is whole: ``NAME.part`` beside its target, its stamp ``NAME.part.json``.

The stamp says what the bytes are of and how many of them are surely on the disk, so that a later download can go on
from there. Invariants:

- The stamp never claims more than the disk holds: it is written after an ``fsync``, and removed before the bytes.
- One download writes to a part: it holds a lock of the system's on it, from before its first byte until it has its
  name or is left. Other processes are kept out as well, and a killed one leaves no lock behind.
- Only the file that this download wrote gets the target's name. A part that another program removed, replaced or
  wrote to is not published, and what lies at its name is not touched.
- A target that exists is never touched without ``overwrite``, and then replaced in one step.

Everything here blocks: call it in a thread. A thread whose caller was cancelled is finished before the next begins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from hailuo_async._io.download import exclusive
from hailuo_async._io.download.stamp import Stamp, StampedBytes, new_hash, read_stamp, remove_stamp, write_stamp
from hailuo_async._io.filenames import part_name
from hailuo_async.errors import DownloadError

#: After so many more bytes they are flushed to the disk, beside the next ones: then little is left to wait for at the
#: end. A killed process may have to fetch about twice as many again.
SYNC_EVERY_BYTES = 8 * 2**20
#: Bytes of the file that are read at a time, to hash it.
_HASHED_BYTES = 2**20


def _give_name(part: str, target: str, link: Callable[[str, str], None] = os.link) -> None:
    """Turns ``part`` into ``target``. Raises ``FileExistsError`` if that exists, and never replaces it.

    Where the file system has no links, an empty file first takes the name, for the moment until it is replaced.
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
    path: str = attrs.field(init=False)
    """Where the bytes are."""
    _descriptor: int = -1
    _one_thread: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @path.default
    def _beside_the_target(self) -> str:
        return os.path.join(self.target.parent, part_name(self.target.name))

    @property
    def stamp_path(self) -> str:
        """Where the stamp is."""
        return f"{self.path}.json"

    def open(self, of: str) -> None:
        """Takes the part, with what is there of resource ``of`` already. Raises ``OSError`` or ``DownloadError``."""
        with self._one_thread:
            self._check_target()
            self._descriptor, self.path = exclusive.open_alone(self.path)
            found = read_stamp(self.stamp_path)
            if found is not None and found.stamp.of == of and 0 < found.size <= os.fstat(self._descriptor).st_size:
                self.size, self.stamp = found.size, found.stamp
                os.ftruncate(self._descriptor, found.size)
            else:
                self._empty()

    def write(self, offset: int, piece: bytes | bytearray, stamp: Stamp) -> None:
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

    def sync(self) -> None:
        """Puts what was written so far on the disk, and stamps it. Other threads may write meanwhile.

        Raises ``OSError`` if the disk cannot keep it.
        """
        with self._one_thread:
            stamp, size = self.stamp, self.size
        os.fsync(self._descriptor)
        with self._one_thread:
            if stamp is not None and stamp is self.stamp:  # else it began again meanwhile
                self._write_stamp(stamp, size)

    def digests(self, algorithms: Iterable[str]) -> dict[str, str]:
        """The digest in hex of the file as it lies on the disk, by each of ``algorithms``, in one pass over it."""
        hashes = {algorithm: new_hash(algorithm) for algorithm in algorithms}
        with self._one_thread, open(self._descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            while piece := file.read(_HASHED_BYTES):
                for running in hashes.values():
                    running.update(piece)
        return {algorithm: running.hexdigest() for algorithm, running in hashes.items()}

    def publish(self) -> None:
        """Puts the bytes on the disk and gives them their name. Raises ``OSError``, and then the part is still one.

        Raises ``DownloadError`` if another program has changed the part, or put a device or the like at the target.
        """
        with self._one_thread:
            os.fsync(self._descriptor)
            self._check_target()
            if not self._is_ours() or os.fstat(self._descriptor).st_size != self.size:
                name = os.path.basename(self.path)
                raise DownloadError(reason=f"another program removed or changed {name} beside it: download it again")
            self._close_on_windows()
            if self.overwrite:
                os.replace(self.path, self.target)
            else:
                _give_name(self.path, os.fspath(self.target))
            with contextlib.suppress(OSError):  # the video has its name: nothing that fails now can take it away
                remove_stamp(self.stamp_path)
                _sync_directory(self.target.parent)
            self._close()

    def leave(self, *, useful: bool) -> None:
        """Lets go of a part that was opened and not published, else does nothing. Never raises ``OSError``.

        What is ``useful`` and has a validator is kept with its stamp, to go on with later; all else is removed.
        """
        with self._one_thread:
            if self._descriptor < 0:
                return
            with contextlib.suppress(OSError):
                if self._is_ours() and not (useful and self._try_to_stamp()):
                    self._remove()
            self._close()

    def _check_target(self) -> None:
        """Raises ``OSError`` or ``DownloadError`` if the target cannot become, or be replaced by, this video."""
        try:
            mode = os.lstat(self.target).st_mode  # raises, unlike os.path.exists, for a name that is too long
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode) and not self.overwrite:
            raise DownloadError(reason="is there already: overwrite=True replaces it")
        with contextlib.suppress(FileNotFoundError):  # a link that leads nowhere is replaced
            mode = os.stat(self.target).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise DownloadError(reason="it is a device, a FIFO or the like, which is never replaced: give another path")

    def _is_ours(self) -> bool:
        """Whether the part's name still leads to the file that was written here."""
        return exclusive.is_file_at(self.path, self._descriptor)

    def _empty(self) -> None:
        remove_stamp(self.stamp_path)
        os.ftruncate(self._descriptor, 0)
        self.size, self.stamp = 0, None

    def _try_to_stamp(self) -> bool:
        """Whether there is a stamp for all that was written: without a validator there is nothing to go on with."""
        if self.size == 0 or self.stamp is None or self.stamp.validator is None:
            return False
        os.fsync(self._descriptor)
        return self._write_stamp(self.stamp, self.size)

    def _write_stamp(self, stamp: Stamp, size: int) -> bool:
        if stamp.validator is None or not self._is_ours():
            return False
        remove_stamp(self.stamp_path)
        try:
            write_stamp(self.stamp_path, StampedBytes(stamp, size))
        except OSError:  # a stamp saves time after a crash, and is no reason to give the video up
            return False
        return True

    def _remove(self) -> None:
        self._close_on_windows()
        remove_stamp(self.stamp_path)
        os.unlink(self.path)

    def _close_on_windows(self) -> None:
        """There an open file can be neither renamed nor removed. Elsewhere it stays open, for the sake of the lock."""
        if os.name == "nt":  # pragma: no cover
            self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            exclusive.close(self._descriptor)
            self._descriptor = -1


def _sync_directory(directory: Path) -> None:
    """Puts the names in ``directory`` on the disk. Raises ``OSError`` where that cannot be done, as on Windows."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
