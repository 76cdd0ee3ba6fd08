"""A file of jobs as lines of text, and a row of it by the names of a job's fields.

``jsonlines`` and ``spreadsheet`` read rows out of the lines; what their values mean is for ``terms``. Nothing that
stands in a file raises here: it becomes a `Problem`, and the next line is read.
"""

from __future__ import annotations

import codecs
import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

from hailuo_async._cli.problems import Problem, one_line

#: Four times what the service's own client reads. All of it is held until the last job has been sent.
MAX_FILE_BYTES = 256 * 1024 * 1024

#: What the service calls by the same names.
BODY_FIELDS = (
    "first_frame_image",
    "last_frame_image",
    "prompt",
    "duration",
    "resolution",
    "prompt_optimizer",
    "fast_pretreatment",
)
OWN_FIELDS = ("key", "fit")

#: The names that may stand in a row of our own, and the fields of a job that they mean.
LIBRARY_NAMES: Mapping[str, str] = {name: name for name in (*BODY_FIELDS, "model", *OWN_FIELDS)}

#: A longer name is like none of ours, and comparing it takes long.
_LONGEST_NAME = 40

_UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@attrs.frozen
class Row:
    """One row, by the names of a job's fields. What is ``None`` was not given."""

    place: str
    values: Mapping[str, object]
    problems: tuple[Problem, ...] = ()
    """What is wrong with its names."""
    names: Mapping[str, str] = LIBRARY_NAMES
    """How its fields are written in the file."""
    has_columns: bool = False

    def problem(self, field: str, words: str) -> Problem:
        """What is wrong with the value of ``field``, which is told by the name that it has in the file."""
        name = next(name for name, meant in self.names.items() if meant == field)
        return Problem(f"{self.place}, column {name}" if self.has_columns else self.place, name, words)


Line: TypeAlias = tuple[str, str]
"""Where it stands, and its text with its end."""


def read_lines(source: Path) -> Iterator[Line | Problem]:
    """Every line of a text in UTF-8, or what is wrong with it. A byte order mark at the beginning does not count.

    Raises ``OSError`` if the file cannot be read.
    """
    name = one_line(str(source))
    size = source.stat().st_size
    if size > MAX_FILE_BYTES:
        words = f"has at most {MAX_FILE_BYTES} bytes, so let it name its images as files; got {size} bytes"
        yield Problem(name, None, words)
        return
    with source.open("rb") as file:
        for number, line in enumerate(file, 1):
            place = f"{name}, line {number}"
            if number == 1 and line.startswith(_UTF_16_MARKS):
                yield Problem(place, None, "is text in UTF-8; got the mark of UTF-16 or UTF-32")
                return
            yield _text(place, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)


def _text(place: str, line: bytes) -> Line | Problem:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        column = len(line[: error.start].decode()) + 1
        return Problem(f"{place}, column {column}", None, f"is text in UTF-8; got the byte 0x{line[error.start]:02x}")
    if "\0" in text:
        column = text.index("\0") + 1
        return Problem(f"{place}, column {column}", None, "is text in UTF-8; got a NUL, as there is in UTF-16")
    return place, text


def unknown_name(name: str, names: Iterable[str]) -> str:
    """What to say of a name that is none of ``names``."""
    near = difflib.get_close_matches(name, names, n=1) if len(name) <= _LONGEST_NAME else []
    return f"is no field; did you mean {near[0]}?" if near else f"is no field; the fields are {', '.join(names)}"
