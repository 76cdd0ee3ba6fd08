"""Rows out of a spreadsheet's text: CSV as RFC 4180 has it, or with semicolons or tabs, under a row of column names.

Spaces around a cell's content and before its quotes do not count, and an empty cell counts as none. A row has the
number of the line on which it begins: a quoted cell may go over several.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import attrs

from hailuo_async._cli.jobfile.rows import LIBRARY_NAMES, Row, meant_by, named_in, unknown_name
from hailuo_async._cli.jobfile.text import MAX_FILE_BYTES, TextFile
from hailuo_async._cli.problems import Problem

_IMAGES = ("first_frame_image", "last_frame_image")
_FLAGS = frozenset({"prompt_optimizer", "fast_pretreatment", "fit"})
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: Excel may write such a line above the header, to name the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
#: A header may have so many lines, as quoted names may hold line ends.
_HEADER_LINES = 50


_Record: TypeAlias = tuple[str, list[str]]
"""The place that a record begins at, and its cells."""


def read_spreadsheet(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """A note if the text was read in an unusual way; then a row, or its problem, for each record that is not empty.

    ``prompt`` is the one of rows without their own. Raises ``OSError``.
    """
    with _cells_of_any_length():
        opened = _open(text)
        if isinstance(opened, Problem):
            yield opened
            return
        words = [text.read_as] if text.read_as else []
        delimiter, records = opened
        if delimiter != ",":
            words.append(f"CSV with {_DELIMITERS[delimiter]}")
        if words:
            yield f"{text.name}: read as {', '.join(words)}"
        yield from _read_rows(records, named_in(prompt))


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """Lifts Python's limit of 128 KiB, which is too low for an image. It counts for the whole process."""
    before = csv.field_size_limit(MAX_FILE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _open(text: TextFile) -> tuple[str, Iterator[_Record | Problem]] | Problem:
    """The delimiter by which the most names of the first row are known, and the records."""
    lines = (line for _, line in text.lines())
    head = list(itertools.islice(lines, _HEADER_LINES))
    blank = sum(1 for _ in itertools.takewhile(lambda line: not line.strip(), head))
    del head[:blank]
    if head and (found := _SEPARATOR_LINE.fullmatch(head[0])) and found[1] in _DELIMITERS:
        return found[1], _records(text, found[1], itertools.chain(head[1:], lines), blank + 1)
    known = {delimiter: _known_names(text, delimiter, head) for delimiter in _DELIMITERS}
    most = max(known.values())
    best = [delimiter for delimiter, count in known.items() if count == most]
    if most and len(best) > 1 and any(other in head[0] for other in best[1:]):
        words = " or ".join(_DELIMITERS[delimiter] for delimiter in best if delimiter in head[0])
        return Problem(text.place(1), None, f"may be read with {words}: use one of them", is_whole=True)
    delimiter = best[0] if most else ","
    return delimiter, _records(text, delimiter, itertools.chain(head, lines), blank)


def _known_names(text: TextFile, delimiter: str, head: Sequence[str]) -> int:
    record = next(_records(text, delimiter, iter(head), 0), None)
    return 0 if record is None or isinstance(record, Problem) else sum(meant_by(name) is not None for name in record[1])


def _records(text: TextFile, delimiter: str, lines: Iterator[str], skipped: int) -> Iterator[_Record | Problem]:
    """The records that are not empty, in ``lines`` behind so many lines of ``text``."""
    reader = csv.reader(lines, strict=True, skipinitialspace=True, delimiter=delimiter)
    while True:
        place = text.place(skipped + reader.line_num + 1)
        try:
            cells = list(map(str.strip, next(reader)))
        except StopIteration:
            return
        except csv.Error as error:
            reason, _, _ = str(error).partition(" - ")  # behind it stands how to open files in Python
            yield Problem(place, None, f"cannot be read as CSV, quoted as RFC 4180 says: {reason}")
        else:
            if any(cells):
                yield place, cells


def _read_rows(records: Iterator[_Record | Problem], named: set[str]) -> Iterator[Row | Problem]:
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, Problem):
        yield attrs.evolve(header, is_whole=True)
        return
    place, columns = header
    head = _Header.of(columns)
    if not set(_IMAGES).intersection(head.meanings):
        message = "must name the columns, one of them image (or first_frame_image) or last_frame_image"
        yield Problem(place, None, f"{message}: put a row above it such as key,image,prompt", is_whole=True)
        return  # nothing under it could be right
    yield from _doubled(place, head)
    used: set[str] = set(named)
    for record in records:
        row = record if isinstance(record, Problem) else head.row(*record)
        if isinstance(row, Row):
            used |= named_in(row.values.get("prompt"))
        yield row
    for name, meant in zip(head.columns, head.meanings, strict=True):
        if meant is None and name and name.casefold() not in used:
            yield Problem(f"{place}, column {name}", name, _no_field(name), is_whole=True)


@attrs.frozen
class _Header:
    """The names of the columns, and the meaning of each."""

    columns: Sequence[str]
    meanings: Sequence[str | None]
    width: int
    """The number of cells, with the empty ones at the end."""
    names: dict[str, str]

    @classmethod
    def of(cls, columns: list[str]) -> _Header:
        width = len(columns)
        while columns and not columns[-1]:  # spreadsheets write empty cells to the end of what was ever used
            del columns[-1]
        names = {name: meant for name in columns if (meant := meant_by(name)) is not None}
        return cls(columns, [names.get(name) for name in columns], width, names)

    def row(self, place: str, cells: list[str]) -> Row | Problem:
        """The row of these cells."""
        count = len(self.columns)
        if count < len(cells) <= self.width and not any(cells[count:]):
            del cells[count:]
        if len(cells) != count:
            advice = "; a cell that holds a separator stands in quotes" if len(cells) > count else ""
            return Problem(place, None, f"has {len(cells)} cells under {count} columns{advice}")
        values = {
            meant: _value(meant, cell) for meant, cell in zip(self.meanings, cells, strict=True) if meant and cell
        }
        return Row(place, values, (), self.names, True, dict(zip(self.columns, cells, strict=True)))


def _no_field(name: str) -> str:
    return f"{unknown_name(name, LIBRARY_NAMES)}; no prompt has {{{name}}} either"


def _doubled(place: str, head: _Header) -> Iterator[Problem]:
    if not all(head.columns):
        yield Problem(place, None, "has a column without a name: name it, or take it out", is_whole=True)
    spellings: dict[str, list[str]] = {}
    for name, meant in zip(head.columns, head.meanings, strict=True):
        spellings.setdefault(meant or name.casefold(), []).append(name)
    for several in spellings.values():
        if len(several) > 1 and several[0]:
            words = f"stands in the header {len(several)} times, as {' and '.join(several)}"
            yield Problem(f"{place}, column {several[0]}", several[0], f"{words}: take all but one out", is_whole=True)


def _value(field: str, cell: str) -> object:
    """Returns what a cell means. A cell that its column cannot hold is returned unchanged: the job refuses it."""
    if field == "duration":
        with contextlib.suppress(ValueError):
            return float(cell.lower().removesuffix("s").replace(",", "."))
    if field in _FLAGS:
        return _FLAG_WORDS.get(cell.lower(), cell)
    return cell
