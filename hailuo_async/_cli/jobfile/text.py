"""A file of jobs as text: what encoding it is in, and its lines.

Spreadsheet programs save what they like: UTF-8 with a byte order mark, UTF-16, or the code page of the country. Each is
recognised here where only one reading is possible, and reported. Where two are possible, neither is chosen: a prompt
with wrong letters would be paid for.
"""

from __future__ import annotations

import codecs
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import attrs
import click

from hailuo_async._cli.problems import Problem, one_line

#: Four times what the service's own client reads.
MAX_FILE_BYTES = 256 * 1024 * 1024
#: More than two images of the largest size as data URLs.
MAX_LINE_BYTES = 64 * 1024 * 1024
#: In place of a file: what is written to the command's stdin.
STDIN = Path("-")

_BOM_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_BOM_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
#: Letters with accents stand alone among others in every language of cp1252, and no capital follows a small letter.
#: Text in another code page (cp1251, Mac OS Roman, Shift JIS) read as cp1252 breaks one of the two almost at once.
_NOT_CP1252 = re.compile(r"[^\W\d_a-zA-Z]{3}|[a-zß-ÿšžœ][À-ÖØ-ÞŠŽŒŸ]|[\x80-\x9f]")
_MULTIBYTE = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")

Line: TypeAlias = tuple[int, str]
"""Its number, from 1, and its text with its end."""


@attrs.frozen
class TextFile:
    """A file of jobs that can be read."""

    name: str
    """For people, in one line."""
    folder: Path
    """Where the relative paths in it begin."""
    encoding: str
    read_as: str | None
    """What encoding it was read as, for people; ``None`` for plain UTF-8."""
    _source: Path | bytes = attrs.field(repr=False)

    def lines(self) -> Iterator[Line]:
        """Every line, without a byte order mark. Raises ``OSError``."""
        with _open(self._source) as file:
            if self.encoding.startswith("utf-16"):  # a byte of it may look like the end of a line
                with io.TextIOWrapper(file, self.encoding, "replace", newline="\n") as wide:
                    yield from enumerate(wide, 1)
                return
            for number, line in enumerate(file, 1):
                plain = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                yield number, plain.decode(self.encoding, "replace")

    def text(self) -> str:
        """All of it."""
        return "".join(line for _, line in self.lines())

    def place(self, number: int) -> str:
        """A line of it, for people."""
        return f"{self.name}, line {number}"


def open_text(source: Path, encoding: str | None = None) -> TextFile | Problem:
    """The text at ``source``, in ``encoding`` or in the one that is recognised, or why it cannot be read as text.

    Looks at all of it, so it blocks. Raises ``OSError`` if it cannot be read.
    """
    if source == STDIN:
        content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        name, folder, size = "stdin", Path(), len(content)
    else:
        name, folder, size = one_line(click.format_filename(source)), source.parent, source.stat().st_size
    if size > MAX_FILE_BYTES:
        message = f"has more than {MAX_FILE_BYTES >> 20} MiB: name images as files in it, or split it"
        return Problem(name, None, message, is_whole=True)
    return _recognise(name, folder, content if source == STDIN else source, encoding)


def _recognise(name: str, folder: Path, source: Path | bytes, encoding: str | None) -> TextFile | Problem:
    with _open(source) as file:
        head = file.read(4096)
    if encoding is None:
        if head.startswith(_BOM_32):
            return Problem(f"{name}, line 1", None, "is in UTF-32: save it as UTF-8", is_whole=True)
        if head.startswith(_BOM_16):
            return TextFile(name, folder, "utf-16", "UTF-16", source)
        if b"\0" in head and (wide := _without_mark(head)) is not None:
            return TextFile(name, folder, wide, "UTF-16", source)
    try:
        found = _first_fault(source, encoding or "utf-8")
    except _TooLong as error:
        message = f"has more than {MAX_LINE_BYTES >> 20} MiB: name images as files in it"
        return Problem(f"{name}, line {error.args[0]}", None, message, is_whole=True)
    if found is None:
        return TextFile(name, folder, encoding or "utf-8", encoding, source)
    if encoding is None and found.byte and _is_cp1252(source):
        return TextFile(name, folder, "cp1252", "cp1252", source)
    what = f"the byte 0x{found.byte:02x}" if found.byte else "a NUL"
    advice = f"is no text in {encoding or 'UTF-8'}, there is {what}: save it as UTF-8, or name its --encoding"
    return Problem(f"{name}, line {found.line}, column {found.column}", None, advice, is_whole=True)


def _open(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _without_mark(head: bytes) -> str | None:
    """Which UTF-16 text without a mark is in: half of the bytes of what is mostly ASCII are NULs."""
    odd, even = head[1::2].count(0), head[::2].count(0)
    if min(odd, even) > len(head) // 64 or max(odd, even) * 4 < len(head):
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


class _TooLong(Exception):
    """A line, by its number, that is too long to be read."""


@attrs.frozen
class _Fault:
    line: int
    column: int
    byte: int


def _first_fault(source: Path | bytes, encoding: str) -> _Fault | None:
    """The first byte that is no text in ``encoding``; a NUL is none in any. Raises ``_TooLong``."""
    with _open(source) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise _TooLong(number)
            try:
                nul = line.decode(encoding).find("\0")
            except UnicodeDecodeError as error:
                return _Fault(number, len(line[: error.start].decode(encoding, "replace")) + 1, line[error.start])
            if nul >= 0:
                return _Fault(number, nul + 1, 0)
    return None


def _is_cp1252(source: Path | bytes) -> bool:
    """Whether all of it is text in cp1252 and, as far as can be seen, in nothing else."""
    with _open(source) as file:
        for line in file:
            if line.isascii():
                continue
            try:
                if _MULTIBYTE.search(line) or _NOT_CP1252.search(line.decode("cp1252")):
                    return False
            except UnicodeDecodeError:
                return False
    return True
