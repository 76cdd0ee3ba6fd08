"""A file of jobs as text: what encoding it is in, and its lines.

The text is first copied to an unnamed temporary file, because it is read more than once. So the jobs that were checked
are the jobs that are sent, even if the text came through a pipe or the file is edited meanwhile. At most one line is in
memory.

Spreadsheet programs save what they like: UTF-8 with a byte order mark, UTF-16, or the code page of the country. Each is
recognised here where only one reading is possible, and reported. Where two are possible, neither is chosen: a prompt
with wrong letters would be paid for.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import IO, TypeAlias

import attrs
import click

from hailuo_async._cli.problems import Problem, one_line

#: Some million rows.
MAX_FILE_BYTES = 1 << 30
#: More than two images of the largest size as data URLs.
MAX_LINE_BYTES = 64 * 1024 * 1024
#: Stands for the command's stdin.
STDIN = Path("-")

_BOM_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOM_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
#: Letters with accents stand alone among others in every language of cp1252, and no capital follows a small letter.
#: Text in another code page (cp1251, Mac OS Roman, Shift JIS) read as cp1252 breaks one of the two almost at once.
_NOT_CP1252 = re.compile(r"[^\W\d_a-zA-Z]{3}|[a-zß-ÿšžœ][À-ÖØ-ÞŠŽŒŸ]|[\x80-\x9f]")
_MULTIBYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")

_ALL = "", f"has more than {MAX_FILE_BYTES >> 20} MiB: name images as files in it, or split it"

Line: TypeAlias = tuple[int, str]
"""Its number, from 1, and its text with its end."""


class _Copy:
    """A copy of a text, in a file without a name, which goes when the copy goes. Raises ``OSError`` if it is full."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until this is not used any more
        weakref.finalize(self, _close, self._file)
        try:
            self._file.writelines(lines)
            self._file.flush()
        except OSError as error:
            words = f"a copy of the jobs cannot be written there: {error.strerror}"
            raise OSError(error.errno, words, tempfile.gettempdir()) from error

    def open(self) -> io.BufferedReader:
        """Reads it from its beginning. Others may read it meanwhile."""
        return io.BufferedReader(_Reader(self._file), 1 << 16)


def _close(file: IO[bytes]) -> None:
    with suppress(OSError):  # there was no room for the rest of it
        file.close()


class _Reader(io.RawIOBase):
    """Reads a file from its beginning, and keeps its own place in it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._at)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@attrs.frozen
class TextFile:
    """A file of jobs that can be read."""

    name: str
    """For people, in one line."""
    folder: Path
    """Where the relative paths in it begin."""
    encoding: str
    read_as: str | None
    """The encoding as people know it; ``None`` for plain UTF-8."""
    _copy: _Copy = attrs.field(repr=False)

    def lines(self, errors: str = "replace") -> Iterator[Line]:
        """Every line, without a byte order mark; a line may end as on Windows or an old Mac. Raises ``OSError``."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        with io.TextIOWrapper(self._copy.open(), encoding, errors, newline="") as wide:
            yield from enumerate(wide, 1)

    def place(self, number: int) -> str:
        return f"{self.name}, line {number}"


def open_text(source: Path, encoding: str | None = None) -> TextFile | Problem:
    """The text at ``source``, in ``encoding`` or a recognised one, or the problem with reading it.

    Copies and reads all of it, so it blocks. Raises ``OSError`` if it cannot be read or copied.
    """
    is_stdin = source == STDIN
    name = "stdin" if is_stdin else one_line(click.format_filename(source))
    try:
        with nullcontext(sys.stdin.buffer) if is_stdin else source.open("rb") as file:
            copy = _Copy(_bounded_lines(file, 0 if is_stdin else source.stat().st_size))
        return _recognise(name, Path() if is_stdin else source.parent, copy, encoding)
    except _TooLong as error:
        where, message = error.args
        return Problem(f"{name}{where}", None, message, is_whole=True)


def _bounded_lines(file: IO[bytes], size: int) -> Iterator[bytes]:
    """The lines. Raises ``_TooLong``, for all of it by its ``size`` before anything is read."""
    if size > MAX_FILE_BYTES:
        raise _TooLong(*_ALL)
    copied = 0
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
        copied += len(line)
        if len(line) > MAX_LINE_BYTES:
            limit = f"has more than {MAX_LINE_BYTES >> 20} MiB: name images as files in it"
            raise _TooLong(f", line {number}", limit)
        if copied > MAX_FILE_BYTES:
            raise _TooLong(*_ALL)
        yield line


def _recognise(name: str, folder: Path, copy: _Copy, encoding: str | None) -> TextFile | Problem:
    head = copy.open().read(4096)
    if encoding is None:
        if head.startswith(_BOM_32):
            return Problem(f"{name}, line 1", None, "is in UTF-32: save it as UTF-8", is_whole=True)
        wide = "utf-16" if head.startswith(_BOM_16) else _without_mark(head) if b"\0" in head else None
        if wide is not None:
            return _checked(TextFile(name, folder, wide, "UTF-16", copy))
    elif "a".encode(encoding) != b"a":  # its lines cannot be split as bytes
        return _checked(TextFile(name, folder, encoding, encoding, copy))
    found = _first_fault(copy, encoding or "utf-8")
    if found is None:
        return TextFile(name, folder, encoding or "utf-8", encoding, copy)
    line, column, byte = found
    if encoding is None and byte and _is_cp1252(copy):
        return TextFile(name, folder, "cp1252", "cp1252", copy)
    what = f"the byte 0x{byte:02x}" if byte else "a NUL"
    advice = f"is no text in {encoding or 'UTF-8'}, there is {what}: save it as UTF-8, or name its --encoding"
    return Problem(f"{name}, line {line}, column {column}", None, advice, is_whole=True)


def _checked(text: TextFile) -> TextFile | Problem:
    """``text``, if all of it is text in its encoding."""
    try:
        for _ in text.lines("strict"):
            pass
    except UnicodeError:
        message = f"is not {text.read_as} as a whole: save it as UTF-8, or name its --encoding"
        return Problem(text.name, None, message, is_whole=True)
    return text


def _without_mark(head: bytes) -> str | None:
    """The UTF-16 that text without a mark is in: of mostly ASCII text, half of the bytes are NULs."""
    odd, even = head[1::2].count(0), head[::2].count(0)
    if min(odd, even) > len(head) // 64 or max(odd, even) * 4 < len(head):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


class _TooLong(Exception):
    """The text, or a line of it, is too long to be read: its place, and the limit."""


def _first_fault(copy: _Copy, encoding: str) -> tuple[int, int, int] | None:
    """The line and the column of the first byte that is not text in ``encoding``, and the byte; a NUL never is."""
    for number, line in enumerate(copy.open(), 1):
        try:
            nul = line.decode(encoding).find("\0")
        except UnicodeDecodeError as error:
            return number, len(line[: error.start].decode(encoding, "replace")) + 1, line[error.start]
        if nul >= 0:
            return number, nul + 1, 0
    return None


def _is_cp1252(copy: _Copy) -> bool:
    """Whether all of it is text in cp1252 and, as far as can be seen, in nothing else."""
    for line in copy.open():
        if line.isascii():
            continue
        try:
            if _MULTIBYTE.search(line) or _NOT_CP1252.search(line.decode("cp1252")):
                return False
        except UnicodeDecodeError:
            return False
    return True
