"""The files of a journal, as the file system has them, before SQLite opens them.

SQLite takes what it finds: a log (``-wal``) that is missing is an empty one, and damage in it is its end. Either way
commits are gone without a word, and their jobs would be paid for again. So the file itself says that it is in use, and
its log is read here first. Nothing here changes a file, but for who may read it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import stat
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from hailuo_async.errors import JournalError

#: Where two hosts would not see each other's locks, or the log's shared memory: WAL needs one machine's memory.
_REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "afs", "gfs2", "glusterfs", "fuse"}
_MOUNTS = Path("/proc/self/mountinfo")
#: The head of a log, and of each page in it (sqlite.org/fileformat2.html, "The Write-Ahead Log").
_LOG_HEAD, _PAGE_HEAD = struct.Struct(">8I"), struct.Struct(">6I")
_LOG_MAGIC = 0x377F0682
_TRIES = 5


def check_files(path: Path, mounts: Path = _MOUNTS) -> None:
    """Raises ``JournalError`` for a journal that SQLite would open with less in it than was committed."""
    directory, mode = path.absolute().parent, _mode_of(path)
    if stat.S_ISDIR(mode):
        raise JournalError(path=str(path), reason="it is a directory: give the path of a file in it")
    if mode and not stat.S_ISREG(mode):
        raise JournalError(path=str(path), reason="it is a device or a pipe: give the path of a file")
    if not directory.is_dir():
        raise JournalError(path=str(path), reason=f"there is no directory {os.fspath(directory)}: make it first")
    kind = _file_system(path, mounts)
    if kind.partition(".")[0] in _REMOTE:
        reason = (
            f"it lies on a network file system ({kind}), where the locks of two hosts do not meet and both would pay:"
            " give a path on a local disk, or share a database, journal='postgresql://user@host/db'"
        )
        raise JournalError(path=str(path), reason=reason)
    _check_file_is_there(path)
    _check_log_is_there(path)
    if _is_damaged(log_of(path)):
        reason = (
            f"its log {log_of(path).name} is damaged, and SQLite would drop what was committed behind the damage:"
            " restore both files from a copy, or keep them to look at and begin another"
        )
        raise JournalError(path=str(path), reason=reason)


def _mode_of(path: Path) -> int:
    """The mode of what lies at ``path``; 0 if nothing does. Raises ``JournalError`` where no journal can lie."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except (OSError, ValueError) as fault:  # ValueError: the name has letters that this system cannot spell
        words = fault.strerror if isinstance(fault, OSError) else fault
        raise JournalError(path=str(path), reason=f"no journal can be there ({words}): give another path") from fault


def log_of(path: Path) -> Path:
    """The log that belongs to the journal at ``path``."""
    return _companions(path)[0]


def _companions(path: Path) -> tuple[Path, Path]:
    """The log, and what is shared of it. SQLite follows links, so they lie beside the file that ``path`` leads to."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}-wal"), real.with_name(f"{real.name}-shm")


def make_new(path: Path) -> None:
    """Makes the journal, if there is none, readable for its owner alone."""
    with contextlib.suppress(OSError):  # it is there, or SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def make_private(path: Path) -> None:
    """Makes the journal and its companions readable for their owner alone: they hold signed URLs."""
    for file in (path, *_companions(path)):
        with contextlib.suppress(OSError):  # it is not there, or another user's
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def size_of(path: Path) -> int:
    """Bytes in that file; none if it is not there."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def room_beside(path: Path) -> int:
    """Bytes that are free where that file lies; very many where nothing tells."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return sys.maxsize


def file_id_of(path: Path) -> tuple[int, int] | None:
    """Which file is under that name now; ``None`` if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _file_system(path: Path, mounts: Path) -> str:
    """The type of the file system on which ``path`` lies; empty where nothing says it."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        is_above = mount == "/" or real == mount or real.startswith(f"{mount}/")
        if is_above and len(mount) >= len(best):  # of two at one place the later one counts
            best, kind = mount, after.split(" ")[0]
    return kind


def _check_file_is_there(path: Path) -> None:
    # SQLite drops a log whose file is empty. It fills a new file before it begins the log, as another process may do
    # just now: so the file is looked at last.
    log = log_of(path)
    if size_of(path) == 0 and size_of(log) > 0 and size_of(path) == 0:
        reason = (
            f"it is missing or empty, but its log {log.name} is there: the file was moved or removed alone, and its"
            f" jobs would be paid for again. Put it back beside its log, or remove {log.name} as well to begin another"
        )
        raise JournalError(path=str(path), reason=reason)


def _check_log_is_there(path: Path) -> None:
    # A session that just closes writes its log back before it removes it, so the mark is read again.
    for _ in range(2):
        if not _says_that_it_has_a_log(path) or log_of(path).exists():
            return
    reason = (
        f"its log {log_of(path).name} is missing: it was in use when its process ended, and the last commits are in the"
        f" log alone. Put {log_of(path).name} back beside it"
    )
    raise JournalError(path=str(path), reason=reason)


def _says_that_it_has_a_log(path: Path) -> bool:
    """Whether the file, without its log, says that a part of it is there."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    except sqlite3.Error:
        return False
    try:
        with contextlib.closing(connection):
            return bool(connection.execute("SELECT log_due <> log_seen FROM journal").fetchone() == (1,))
    except (sqlite3.Error, UnicodeDecodeError):  # opening it will find the damage
        return False


def _is_damaged(log: Path) -> bool:
    """Whether whole commits lie behind a page of the log that is not what was written.

    A page that was torn by a loss of power is part of the last commit, which had not returned. Others may write
    meanwhile: what was read counts if the log is still the same one.
    """
    try:
        with log.open("rb") as file:
            for _ in range(_TRIES):
                head = file.read(_LOG_HEAD.size)
                is_damaged = len(head) == _LOG_HEAD.size and _has_commits_behind_damage(head, file.read)
                file.seek(0)
                if not is_damaged or file.read(_LOG_HEAD.size) == head:
                    return is_damaged
                file.seek(0)
    except OSError:
        pass
    return False


def _has_commits_behind_damage(head: bytes, read: Callable[[int], bytes]) -> bool:
    magic, _, page_size, _, *salts, first, second = _LOG_HEAD.unpack(head)
    order = ">" if magic & 1 else "<"
    sums = _checksum(order, head[:24], (0, 0))
    if magic & ~1 != _LOG_MAGIC or not 512 <= page_size <= 65536 or sums != (first, second):
        return len(read(_PAGE_HEAD.size)) == _PAGE_HEAD.size  # the head is on the disk before any page is written
    is_broken, commits = False, 0
    while len(page_head := read(_PAGE_HEAD.size)) == _PAGE_HEAD.size and len(page := read(page_size)) == page_size:
        _, size_after, *page_salts, first, second = _PAGE_HEAD.unpack(page_head)
        if page_salts != salts:  # of an earlier round of the log, behind which none of this one comes; or damaged
            is_broken = True
            continue
        if not is_broken:
            sums = _checksum(order, page_head[:8] + page, sums)
            is_broken = sums != (first, second)
        if commits:
            return True  # a commit that returned before this page was written lies behind the damage
        commits += is_broken and size_after > 0
    return False


def _checksum(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    """SQLite's, over pairs of 32-bit words."""
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
