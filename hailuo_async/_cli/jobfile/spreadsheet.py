"""Rows out of CSV as RFC 4180 has it, with a header row of the fields' names.

Spaces around what is in a cell do not count, nor those before its quotes, and an empty cell is as good as none. A row
is known by the line that it begins on: a quoted cell may go over several.
"""

from __future__ import annotations

import contextlib
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from hailuo_async._cli.jobfile.rows import LIBRARY_NAMES, MAX_FILE_BYTES, Line, Row, read_lines, unknown_name
from hailuo_async._cli.problems import Problem

_IMAGES = frozenset({"first_frame_image", "last_frame_image"})
_FLAGS = frozenset({"prompt_optimizer", "fast_pretreatment", "fit"})
_FLAG_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

_Record: TypeAlias = tuple[str, list[str]]
"""Where it begins, and its cells."""


def read_csv(source: Path) -> Iterator[Row | Problem]:
    """A row for each record under the header that is not empty, or what is wrong with it. Raises ``OSError``."""
    lines: list[Line] = []
    problems = []
    for line in read_lines(source):
        if isinstance(line, Problem):
            problems.append(line)
        else:
            lines.append(line)
    if problems:  # where the cells of the other lines begin and end, nobody knows
        yield from problems
    else:
        with _cells_of_any_length():
            records = list(_read_records(lines))
        yield from _read_rows(records)


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    """The limit is the whole process's. 128 KiB are too few for an image."""
    before = csv.field_size_limit(MAX_FILE_BYTES)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_records(lines: Sequence[Line]) -> Iterator[_Record | Problem]:
    reader = csv.reader((text for _, text in lines), strict=True, skipinitialspace=True)
    while reader.line_num < len(lines):
        place, _ = lines[reader.line_num]
        try:
            cells = [cell.strip() for cell in next(reader)]
        except csv.Error as error:
            reason, _, _ = str(error).partition(" - ")  # behind it stands how to open files in Python
            yield Problem(place, None, f"is a record of CSV, quoted as RFC 4180 says; got {reason}")
        else:
            if any(cells):
                yield place, cells


def _read_rows(records: Sequence[_Record | Problem]) -> Iterator[Row | Problem]:
    if not records:
        return
    header, *rest = records
    if isinstance(header, Problem):
        yield header
        return
    place, columns = header
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        yield Problem(place, None, "is the header, its names with commas between them; got semicolons or tabs")
        return
    yield from _header_problems(place, columns)
    if _IMAGES.isdisjoint(columns):
        yield Problem(place, None, f"is the header, with a column {' or '.join(sorted(_IMAGES))}; got neither")
        return  # nothing under it could be right
    for record in rest:
        yield record if isinstance(record, Problem) else _row(*record, columns)


def _header_problems(place: str, columns: Sequence[str]) -> Iterator[Problem]:
    for name, count in Counter(columns).items():
        if not name:
            yield Problem(place, None, "has a name for every column; got one without")
        elif name not in LIBRARY_NAMES:
            yield Problem(f"{place}, column {name}", name, unknown_name(name, LIBRARY_NAMES))
        elif count > 1:
            yield Problem(f"{place}, column {name}", name, f"stands in the header only once; it is there {count} times")


def _row(place: str, cells: Sequence[str], columns: Sequence[str]) -> Row | Problem:
    if len(cells) != len(columns):
        return Problem(place, None, f"has a cell for each of the {len(columns)} columns; got {len(cells)}")
    named = zip(columns, cells, strict=True)
    values = {name: _value(name, cell) for name, cell in named if name in LIBRARY_NAMES}
    return Row(place, values, has_columns=True)


def _value(name: str, cell: str) -> object:
    """What a cell means. One that is not what its column is for stays as it is, for the job to refuse."""
    if name == "duration":
        with contextlib.suppress(ValueError):
            return float(cell)
    if name in _FLAGS:
        return _FLAG_WORDS.get(cell.lower(), cell or None)
    return cell or None
