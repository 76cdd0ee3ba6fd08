"""Reads the bytes of an image, a piece at a time.

The bytes are in a file, in the caller's ``bytes``, in the base64 text of the caller's data URL, or in a journal. They
are never copied whole: a piece is read, decoded or encoded on demand, and dropped with the next one. So a waiting job
holds a path, or a reference to an object that the caller holds anyway. A file object is the exception: the caller may
close it once the job is taken, so it is read whole (`read_file_object`).

Everything here may block, and belongs in a worker thread. The values are frozen and the functions keep no state, so
any number of threads may use them at once; one *iterator* is for one thread at a time.

This module knows nothing about pictures: ``headers`` reads what the bytes mean.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from typing import IO, BinaryIO

import attrs

from hailuo_async.errors import ImageError

#: Bytes of content in one piece: a multiple of 3, so that pieces of base64 join without padding between them, and
#: 256 KiB once encoded. Larger pieces gain nothing (measured), and each upload in flight holds a few of them.
RAW_PIECE = 3 * 64 * 1024
_TEXT_PIECE = RAW_PIECE // 3 * 4
#: Bytes searched at once, from the end backwards.
_TAIL = 16 * 1024

_READABLE = "must be a file that can be read"
_OUT_OF_FILES = "must be readable, and this process can open no more files: raise ulimit -n, or run fewer jobs at once"
_UNCHANGED = "must not change between the check and the sending"
_BASE64 = "must be strict base64: standard alphabet, right padding, no whitespace"

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


@attrs.frozen
class Label:
    """The name of an image in errors: the job's field, and a name for people."""

    field: str
    name: str

    def error(self, value: object, rule: str, *, can_fit: bool = False) -> ImageError:
        """The error for an image that breaks ``rule``; ``value`` is what was found in it."""
        return ImageError(field=self.field, image=self.name, value=value, rule=rule, can_fit=can_fit)


@attrs.frozen
class Reader:
    """Content of ``size`` bytes, open for reading at any offset."""

    label: Label
    size: int
    read_at: Callable[[int, int], bytes]
    """``read_at(offset, length)`` gives at most ``length`` bytes, fewer only at the end."""

    def exactly(self, offset: int, length: int) -> bytes:
        """The ``length`` bytes at ``offset``; `ImageError` if the content ends before that."""
        found = self.read_at(offset, length)
        if len(found) < length:
            raise self.label.error(f"the end, at byte {self.size}, inside its header", "must be whole")
        return found

    def has_after(self, start: int, mark: bytes) -> bool:
        """Whether ``mark`` stands at or after ``start``. The search begins at the end, where it nearly always is."""
        end = self.size
        while end > start:
            begin = max(start, end - _TAIL)
            if mark in self.read_at(begin, end - begin + len(mark) - 1):
                return True
            end = begin
        return False


@attrs.frozen
class BytesContent:
    """The caller's own ``bytes``."""

    label: Label
    data: bytes = attrs.field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of the image."""
        return len(self.data)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Opens the bytes for reading."""
        yield Reader(self.label, self.size, lambda offset, length: self.data[offset : offset + length])

    def raw_pieces(self) -> Generator[bytes]:
        """The bytes, `RAW_PIECE` at a time."""
        for start in range(0, self.size, RAW_PIECE):
            yield self.data[start : start + RAW_PIECE]


@attrs.frozen
class Base64Content:
    """The base64 in the caller's data URL: ``text`` from ``start`` on, decoded a piece at a time.

    Only `check`, which decodes all of the text once, shows whether the text is valid.
    """

    label: Label
    text: str = attrs.field(repr=False)
    start: int

    @property
    def size(self) -> int:
        """Bytes of the image, as the length of the text and its padding say."""
        padding = len(self.text[-2:]) - len(self.text[-2:].rstrip("="))
        return (len(self.text) - self.start) // 4 * 3 - padding

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Opens the decoded text for reading."""
        yield Reader(self.label, self.size, self._read_at)

    def raw_pieces(self) -> Generator[bytes]:
        """The decoded text; `ImageError` at the first piece that is not strict base64."""
        for piece in self._slices():
            yield self._decoded(piece)

    def text_pieces(self) -> Generator[bytes]:
        """The text itself."""
        for piece in self._slices():
            yield piece.encode("ascii")

    def check(self) -> None:
        """Decodes the whole text once; `ImageError` if it is not strict base64."""
        if (len(self.text) - self.start) % 4:
            raise self.label.error(f"{len(self.text) - self.start} characters, no multiple of 4", _BASE64)
        found = sum(map(len, self.raw_pieces()))
        if found != self.size:  # "=" inside: each piece may end with it, but only the last one should
            raise self.label.error("padding before the end", _BASE64)

    def _slices(self) -> Iterator[str]:
        for start in range(self.start, len(self.text), _TEXT_PIECE):
            yield self.text[start : start + _TEXT_PIECE]

    def _read_at(self, offset: int, length: int) -> bytes:
        first, last = offset // 3, -(-(offset + length) // 3)
        quads = self.text[self.start + first * 4 : self.start + last * 4]
        skip = offset - first * 3
        return self._decoded(quads)[skip : skip + length]

    def _decoded(self, quads: str) -> bytes:
        try:
            return binascii.a2b_base64(quads, strict_mode=True)
        except ValueError as error:  # binascii.Error, or a plain ValueError for a character beyond ASCII
            raise self.label.error(str(error), _BASE64) from error


@attrs.frozen
class FileContent:
    """A file in the state of its inspection. Every later reading finds the same file, or raises."""

    label: Label
    path: str | bytes
    size: int
    mtime_ns: int
    place: tuple[int, int]
    """Device and inode: they show a file that was renamed over this one, even with the same size and time."""

    @classmethod
    def at(cls, path: str | bytes, label: Label) -> FileContent:
        """The file at ``path``; `ImageError` for anything else. Opens nothing, so a FIFO cannot block it."""
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:  # ValueError: a NUL, or another character that no file name can have
            raise _unreadable(label, path, error) from error
        _check_regular(label, found)
        return cls(label, path, found.st_size, found.st_mtime_ns, (found.st_dev, found.st_ino))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Opens the file for reading."""
        with self._opened() as file:

            def read_at(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            yield Reader(self.label, self.size, read_at)

    def raw_pieces(self) -> Generator[bytes]:
        """The file's bytes, `RAW_PIECE` at a time.

        Raises `ImageError` in place of the first piece that was read after a change of the file, so a body made of
        the pieces is never whole and wrong. The file is closed when the iterator is exhausted or closed.
        """
        with self._opened() as file:
            for start in range(0, self.size, RAW_PIECE):
                length = min(RAW_PIECE, self.size - start)
                piece = file.read(length)
                self._check_unchanged(file)
                if len(piece) < length:
                    raise self.label.error(f"{start + len(piece)} of {self.size} bytes", _UNCHANGED)
                yield piece

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with open(self.path, "rb", opener=_open_without_waiting) as file:
                self._check_unchanged(file)
                yield file
        except OSError as error:
            raise _unreadable(self.label, self.path, error) from error

    def _check_unchanged(self, file: BinaryIO) -> None:
        now = os.fstat(file.fileno())
        _check_regular(self.label, now)
        if (now.st_dev, now.st_ino) != self.place:
            raise self.label.error("another file in its place", _UNCHANGED)
        if now.st_size != self.size:
            raise self.label.error(f"{now.st_size} bytes where there were {self.size}", _UNCHANGED)
        if now.st_mtime_ns != self.mtime_ns:
            raise self.label.error("a later time of modification", _UNCHANGED)


@attrs.frozen
class StoredContent:
    """An image that lies in pieces elsewhere, each of `RAW_PIECE` bytes but the last: ``read_piece`` gives them."""

    label: Label
    size: int
    sha256: str
    read_piece: Callable[[int], bytes] = attrs.field(repr=False)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """Looks into the pieces."""

        def read_at(offset: int, length: int) -> bytes:
            first, last = offset // RAW_PIECE, (offset + max(length, 1) - 1) // RAW_PIECE
            found = b"".join(self.read_piece(number) for number in range(first, last + 1))
            return found[offset - first * RAW_PIECE :][:length]

        yield Reader(self.label, self.size, read_at)

    def raw_pieces(self) -> Generator[bytes]:
        """The pieces. Raises `ImageError` in place of the last one if they are not what was put there."""
        digest = hashlib.sha256()
        for number in range(-(-self.size // RAW_PIECE)):
            piece = self.read_piece(number)
            digest.update(piece)
            is_last = (number + 1) * RAW_PIECE >= self.size
            if (len(piece) < RAW_PIECE and not is_last) or (is_last and digest.hexdigest() != self.sha256):
                raise self.label.error("something else", "must be as it was kept: submit the job again")
            yield piece


Content = BytesContent | Base64Content | FileContent | StoredContent


def base64_pieces(content: Content) -> Generator[bytes]:
    """The bytes of ``content`` as base64, a piece at a time. Closing it closes the file."""
    if isinstance(content, Base64Content):
        yield from content.text_pieces()
        return
    with contextlib.closing(content.raw_pieces()) as pieces:
        for piece in pieces:
            yield binascii.b2a_base64(piece, newline=False)


def read_file_object(label: Label, file: IO[bytes], limit: int) -> bytes:
    """The content of ``file`` from its beginning, at most ``limit`` bytes. Its position is restored.

    A file that cannot seek is read from its present position, so it serves only one job. Raises only `ImageError`, for
    any exception of ``file``.
    """
    try:
        if not file.seekable():
            return _read_up_to(label, file, limit)
        position = file.tell()
        file.seek(0)
        try:
            return _read_up_to(label, file, limit)
        finally:
            file.seek(position)
    except ImageError:
        raise
    except Exception as error:  # the caller's object: closed, cut off, or of any class
        raise label.error(f"{type(error).__name__}: {error}", "must be a file object that can be read") from error


def _read_up_to(label: Label, file: IO[bytes], limit: int) -> bytes:
    pieces: list[bytes] = []
    left = limit
    while left > 0:
        piece: object = file.read(min(left, RAW_PIECE))  # an unbuffered file may give fewer, and none only at its end
        if not isinstance(piece, bytes):
            raise label.error(type(piece).__name__, 'must be open for bytes and blocking: open(path, "rb")')
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _check_regular(label: Label, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise label.error(kind, "must be a regular file")


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens a file without waiting for a writer, if a FIFO has taken its path since the inspection."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # Windows has neither the flag nor the FIFO


def _unreadable(label: Label, path: str | bytes, error: OSError | ValueError) -> ImageError:
    reason = getattr(error, "strerror", None) or str(error)
    is_full = getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE)  # the file may be as good as any
    return label.error(f"{reason}: {os.fsdecode(path)}", _OUT_OF_FILES if is_full else _READABLE)
