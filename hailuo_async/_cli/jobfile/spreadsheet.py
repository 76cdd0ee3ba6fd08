"""Rows out of a spreadsheet's text: CSV as RFC 4180 has it, or with semicolons or tabs, under a row of column names.

Spaces around what is in a cell do not count, nor those before its quotes, and an empty cell is as good as none. A row
is known by the line that it begins on: a quoted cell may go over several.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from hailuo_async._cli.jobfile.rows import LIBRARY_NAMES, Row, meant_by, named_in, unknown_name
from hailuo_async._cli.jobfile.text import MAX_FILE_BYTES, TextFile
from hailuo_async._cli.problems import Problem

_IMAGES = ("first_frame_image", "last_frame_image")
_FLAGS = frozenset({"prompt_optimizer", "fast_pretreatment", "fit"})
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
#: What Excel writes above the header to say by what cells are separated.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
#: A header may go over some lines, by line ends in quoted names.
_HEADER_LINES = 50


@attrs.define
class _Records:
    """The records of a text, each with the place that it begins at."""

    text: TextFile
    delimiter: str
    lines: Iterator[tuple[int, str]]
    at: int = attrs.field(default=1, init=False)
    """The number of the next line."""
    is_over: bool = attrs.field(default=False, init=False)

    def read(self) -> Iterator[tuple[str, list[str]] | Problem]:
        reader = csv.reader(self._counted(), strict=True, skipinitialspace=True, delimiter=self.delimiter)
        while True:
            before = self.at
            try:
                cells = [cell.strip() for cell in next(reader)]
            except StopIteration:
                return
            except csv.Error as error:
                reason, _, _ = str(error).partition(" - ")  # behind it stands how to open files in Python
                yield Problem(self.text.place(before), None, f"is no record of CSV, quoted as RFC 4180 says: {reason}")
            else:
                if any(cells):
                    yield self.text.place(before), cells

    def _counted(self) -> Iterator[str]:
        for number, line in self.lines:
            self.at = number + 1
            yield line


def read_spreadsheet(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """A row for each record under the header that is not empty, or what is wrong with it; first, what it was read as.

    ``prompt`` is of the rows without one. Raises ``OSError``.
    """
    with _cells_of_any_length():
        opened = _open(text)
        if isinstance(opened, Problem):
            yield opened
            return
        words = [text.read_as] if text.read_as else []
        if opened.delimiter != ",":
            words.append(f"CSV with {_DELIMITERS[opened.delimiter]}")
        if words:
            yield f"{text.name}: read as {', '.join(words)}"
        yield from _read_rows(opened, named_in(prompt))


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The limit is the whole process's. 128 KiB are too few for an image."""
    before = csv.field_size_limit(MAX_FILE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _open(text: TextFile) -> _Records | Problem:
    """The records, with the delimiter that makes the most of the first row's names into names of ours."""
    lines = text.lines()
    head = list(itertools.islice(lines, _HEADER_LINES))
    while head and not head[0][1].strip():
        del head[0]
    if head and (found := _SEPARATOR_LINE.fullmatch(head[0][1])) and found[1] in _DELIMITERS:
        return _Records(text, found[1], itertools.chain(head[1:], lines))
    known = {delimiter: _known_names(text, delimiter, head) for delimiter in _DELIMITERS}
    most = max(known.values())
    best = [delimiter for delimiter, count in known.items() if count == most]
    if most and len(best) > 1 and any(other in head[0][1] for other in best[1:]):
        words = " or ".join(_DELIMITERS[delimiter] for delimiter in best if delimiter in head[0][1])
        return Problem(text.place(1), None, f"is the header, and may be read with {words}: use one", is_whole=True)
    return _Records(text, best[0] if most else ",", itertools.chain(head, lines))


def _known_names(text: TextFile, delimiter: str, head: Sequence[tuple[int, str]]) -> int:
    record = next(_Records(text, delimiter, iter(head)).read(), None)
    return 0 if record is None or isinstance(record, Problem) else sum(meant_by(name) is not None for name in record[1])


def _read_rows(records: _Records, named: set[str]) -> Iterator[Row | Problem]:
    read = records.read()
    header = next(read, None)
    if header is None:
        return
    if isinstance(header, Problem):
        yield attrs.evolve(header, is_whole=True)
        return
    place, columns = header
    width = len(columns)
    while columns and not columns[-1]:  # spreadsheets write empty cells to the end of what was ever used
        del columns[-1]
    meanings = [meant_by(name) for name in columns]
    if not set(_IMAGES).intersection(meanings):
        message = "must name the columns, one of them image (or first_frame_image) or last_frame_image"
        yield Problem(place, None, f"{message}: put a row above it such as key,image,prompt", is_whole=True)
        return  # nothing under it could be right
    used: set[str] = set(named)
    names = {name: meant for name, meant in zip(columns, meanings, strict=True) if meant is not None}
    more = [name for name, meant in zip(columns, meanings, strict=True) if meant is None]
    yield from _doubled(place, columns, meanings)
    for record in read:
        row = record if isinstance(record, Problem) else _row(*record, columns, names, meanings, width)
        if isinstance(row, Row):
            used |= named_in(row.values.get("prompt"))
        yield row
    for name in more:
        if name and name.casefold() not in used:
            yield Problem(f"{place}, column {name}", name, _no_field(name), is_whole=True)


def _no_field(name: str) -> str:
    return f"{unknown_name(name, LIBRARY_NAMES)}; no prompt has {{{name}}} either"


def _doubled(place: str, columns: Sequence[str], meanings: Sequence[str | None]) -> Iterator[Problem]:
    if not all(columns):
        yield Problem(place, None, "has a column without a name: name it, or take it out", is_whole=True)
    plain = [meant or name.casefold() for name, meant in zip(columns, meanings, strict=True)]
    for meant, count in Counter(filter(None, plain)).items():
        if count > 1:
            name = columns[plain.index(meant)]
            words = f"stands in the header {count} times, as {' and '.join(_spellings(meant, columns, plain))}"
            yield Problem(f"{place}, column {name}", name, f"{words}: take all but one out", is_whole=True)


def _spellings(meant: str, columns: Sequence[str], plain: Sequence[str]) -> list[str]:
    return [name for name, other in zip(columns, plain, strict=True) if other == meant]


def _row(
    place: str,
    cells: list[str],
    columns: Sequence[str],
    names: dict[str, str],
    meanings: Sequence[str | None],
    width: int,
) -> Row | Problem:
    if len(columns) < len(cells) <= width and not any(cells[len(columns) :]):
        del cells[len(columns) :]
    if len(cells) != len(columns):
        advice = "; a cell that holds a separator stands in quotes" if len(cells) > len(columns) else ""
        return Problem(place, None, f"has {len(cells)} cells under {len(columns)} columns{advice}")
    values = {meant: _value(meant, cell) for meant, cell in zip(meanings, cells, strict=True) if meant is not None}
    more = dict(zip(columns, cells, strict=True))
    return Row(place, values, names=names, has_columns=True, more=more)


def _value(field: str, cell: str) -> object:
    """What a cell means. One that is not what its column is for stays as it is, for the job to refuse."""
    if field == "duration":
        with contextlib.suppress(ValueError):
            return float(cell.lower().removesuffix("s").replace(",", "."))
    if field in _FLAGS:
        return _FLAG_WORDS.get(cell.lower(), cell or None)
    return cell or None
