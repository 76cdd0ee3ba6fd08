"""Opens a file for one download alone: locked by the system, so that a killed process leaves no lock behind.

The file at a part's name is ours only if it is a plain file, and only as long as that name still leads to it. Anything
else that lies there (a FIFO, a device, a link, another program's file) is neither opened nor changed.

Everything here blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from collections.abc import Callable

from hailuo_async._io.filenames import private_name
from hailuo_async.errors import DownloadError

if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _lock(descriptor: int) -> None:
        """Takes the file for this download alone. Raises ``OSError`` if another has it."""
        os.lseek(descriptor, 2**62, os.SEEK_SET)  # far behind the end: a lock here bars others from what it covers
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        """Does nothing: closing the file unlocks it."""
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        """Takes the file for this download alone. Raises ``OSError`` if another has it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        """Gives the file up, also where a forked child still has it open."""
        with contextlib.suppress(OSError):  # there was no lock, on a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_UN)


#: What ``flock`` raises where the file system has no locks: Lustre without ``-o flock``, some FUSE and NFS mounts.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP})
#: O_NONBLOCK: a FIFO that takes the file's place at this very moment must not hold the thread for ever.
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND
for _name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
    _OPEN_FLAGS |= getattr(os, _name, 0)

#: Descriptors that hold a lock here. Global, as descriptors are: a fork copies each, and the copy would hold the lock.
_held: set[int] = set()


def _drop_in_child() -> None:
    for descriptor in _held:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_in_child)


def open_alone(path: str, lock: Callable[[int], None] = _lock) -> tuple[int, str]:
    """A descriptor that no other download writes to, and the path of its file: ``path``, wherever there are locks.

    Without locks two downloads could write into one file and mix their videos. So each gets a new file there, which
    no later download goes on with. Raises ``DownloadError`` if another download has the file, or if it is not ours.
    """
    try:
        return _open_locked(path, lock), path
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    _remove_if_empty(path)
    private = private_name(path, secrets.token_hex(4))
    return os.open(private, _OPEN_FLAGS | os.O_EXCL, 0o666), private


def close(descriptor: int) -> None:
    """Closes what ``open_alone`` opened, and frees the file for others."""
    _held.discard(descriptor)
    _unlock(descriptor)
    os.close(descriptor)


def is_file_at(path: str, descriptor: int) -> bool:
    """Whether ``path`` still leads to the file that ``descriptor`` has open. Raises ``OSError`` if it cannot tell."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def is_plain_file(path: str) -> bool:
    """Whether a plain file lies at ``path`` itself; what a link leads to does not count."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _open_locked(path: str, lock: Callable[[int], None]) -> int:
    """A part that was given its name while it was being opened here is another's video by now: not ours to write to.

    So is one that a crash left with two names: it loses the name of a part, and a new one is made.
    """
    if os.path.lexists(path) and not is_plain_file(path):
        raise _not_ours(path)
    descriptor = os.open(path, _OPEN_FLAGS, 0o666)
    try:
        ours = os.fstat(descriptor)
        if not stat.S_ISREG(ours.st_mode):  # it took the place of the plain file just now
            raise _not_ours(path)
        lock(descriptor)
        if not os.path.samestat(ours, os.stat(path)):
            raise BlockingIOError
    except (BlockingIOError, FileNotFoundError, PermissionError):
        os.close(descriptor)
        raise DownloadError(reason="another download writes it", is_busy=True) from None
    except BaseException:
        os.close(descriptor)
        raise
    if os.fstat(descriptor).st_nlink <= 1:
        _held.add(descriptor)
        return descriptor
    os.unlink(path)
    os.close(descriptor)
    return _open_locked(path, lock)


def _remove_if_empty(path: str) -> None:
    with contextlib.suppress(OSError):
        if os.lstat(path).st_size == 0:
            os.unlink(path)


def _not_ours(path: str) -> DownloadError:
    name = os.path.basename(path)
    return DownloadError(reason=f"{name} beside it is not a plain file: move it away, or save to another path")
