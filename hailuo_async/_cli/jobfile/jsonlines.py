"""Rows out of JSON: one object a line, or an array of objects, in the library's own terms or the service's client's.

The client's objects are ``{"modelSlug": …, "body": {…}}``; our ``key`` and ``fit`` may stand beside these two, as the
client ignores them. ``null`` counts as nothing. A name that stands twice in an object is refused: it is unclear which
of the two counts.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from hailuo_async._cli.jobfile.rows import BODY_FIELDS, LIBRARY_NAMES, OWN_FIELDS, Row, meant_by, named_in, unknown_name
from hailuo_async._cli.jobfile.text import Line, TextFile
from hailuo_async._cli.problems import Problem, type_name

#: The names that may stand in an object of the service's client, and the fields of a job that they mean.
_SERVICE_NAMES: Mapping[str, str] = {
    "modelSlug": "model",
    **{f"body.{name}": name for name in BODY_FIELDS},
    **{name: name for name in OWN_FIELDS},
}
#: So many lines are read at a time.
_LINES = 1000
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json_lines(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """A note if the text was read as anything but UTF-8; then a row, or its problem, for each line that is not blank.

    ``prompt`` is the one of rows without their own. Raises ``OSError``.
    """
    yield from _read_as(text)
    for number, line in text.lines():
        if not line.strip():
            continue
        place, line = text.place(number), line.rstrip()
        found, end = _read(place, line, _skip(line, 0), prompt)
        if end >= 0 and (rest := _skip(line, end)) < len(line):
            found = Problem(f"{place}, column {rest + 1}", None, "is one whole JSON object; got Extra data")
        yield found


def read_json(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """The same for an array of objects, and for objects one after the other, each over as many lines as it likes."""
    yield from _read_as(text)
    window = _Window(text.lines())
    is_array = window.takes("[")
    while not window.is_over and not (is_array and window.takes("]")):
        place = text.place(window.line)
        found, end = _read(place, window.text, window.at, prompt)
        while end < 0 and window.grows():  # it may go on there
            found, end = _read(place, window.text, window.at, prompt)
        yield found
        if end < 0:
            return
        window.at = end
        if is_array and not window.takes(",") and not window.begins("]"):
            message = "is an array of objects, with commas between them and a ] at its end"
            yield Problem(text.place(window.line), None, message)
            return


@attrs.define
class _Window:
    """The part of a text that is being read: some whole lines. Those before it are dropped."""

    _lines: Iterator[Line]
    text: str = attrs.field(default="", init=False)
    at: int = attrs.field(default=0, init=False)
    """Where the unread part begins."""
    _counted: tuple[int, int] = attrs.field(default=(0, 1), init=False)
    """Up to where lines were counted, and the number of that line."""

    @property
    def line(self) -> int:
        """The number of the line of the next character that is no space."""
        self.begins("")
        return self._line_at(self.at)

    @property
    def is_over(self) -> bool:
        """Whether only spaces are left."""
        return not self.begins("") and self.at == len(self.text)

    def grows(self) -> bool:
        """Reads as much again as it holds. Returns whether there was more."""
        begin = self.text.rfind("\n", 0, self.at) + 1
        self._counted = 0, self._line_at(self.at)
        rest = self.text[begin:]
        more = "".join(line for _, line in itertools.islice(self._lines, max(_LINES, rest.count("\n"))))
        self.text, self.at = rest + more, self.at - begin
        return bool(more)

    def _line_at(self, at: int) -> int:
        before, line = self._counted
        self._counted = at, line + self.text.count("\n", before, at)
        return self._counted[1]

    def begins(self, mark: str) -> bool:
        """Skips spaces, and returns whether ``mark`` comes next."""
        self.at = _skip(self.text, self.at)
        while self.at == len(self.text) and self.grows():
            self.at = _skip(self.text, self.at)
        return bool(mark) and self.text.startswith(mark, self.at)

    def takes(self, mark: str) -> bool:
        """As ``begins``, and skips ``mark`` as well."""
        has_mark = self.begins(mark)
        self.at += has_mark
        return has_mark


def _read_as(text: TextFile) -> Iterator[str]:
    if text.read_as:
        yield f"{text.name}: read as {text.read_as}"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _read(place: str, text: str, at: int, prompt: str | None) -> tuple[Row | Problem, int]:
    """Reads the object at ``at``. Returns it and where it ends, -1 if that is not known."""
    try:
        found, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(text) or error.msg.startswith("Unterminated")
        got = "the end of the line inside it" if is_cut else error.msg
        column = error.pos - text.rfind("\n", 0, error.pos)
        return Problem(f"{place}, column {column}", None, f"is one whole JSON object; got {got}"), -1
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets in each other
        message = "is one JSON object of plain values; got what is too long or too deep to be read"
        return Problem(place, None, message), -1
    if not isinstance(found, _Object):
        return Problem(place, None, f"is one JSON object; got {type_name(found)}"), end
    doubled = tuple(Problem(place, name, "stands in an object only once; it is there twice") for name in found.twice())
    if found.keys() & {"modelSlug", "body"}:
        return _service_row(place, found, doubled), end
    return _own_row(place, found, doubled, prompt), end


class _Object(dict[str, Any]):
    """A JSON object that remembers names which were given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self._pairs = pairs if len(self) < len(pairs) else ()

    def twice(self) -> list[str]:
        """The names that stand in it, or in the objects in it, more than once."""
        inner = [name for value in self.values() if isinstance(value, _Object) for name in value.twice()]
        return inner + [name for name, count in Counter(name for name, _ in self._pairs).items() if count > 1]


_DECODER = json.JSONDecoder(object_pairs_hook=_Object)


def _service_row(place: str, found: Mapping[str, object], problems: tuple[Problem, ...]) -> Row | Problem:
    body = found.get("body")
    if not isinstance(body, dict):
        return Problem(place, "body", f"is an object with the fields of a request; got {type_name(body)}")
    if found.get("modelSlug") is None:
        return Problem(place, "modelSlug", "is required beside a body")
    given = {**{name: value for name, value in found.items() if name != "body"}}
    given |= {f"body.{name}": value for name, value in body.items()}
    values = {_SERVICE_NAMES[name]: value for name, value in given.items() if name in _SERVICE_NAMES}
    unknown = (Problem(place, name, unknown_name(name, _SERVICE_NAMES)) for name in given if name not in _SERVICE_NAMES)
    return Row(place, values, (*problems, *unknown), _SERVICE_NAMES, more=body)


def _own_row(place: str, found: Mapping[str, object], problems: tuple[Problem, ...], prompt: str | None) -> Row:
    names = {name: meant for name in found if (meant := meant_by(name)) is not None}
    values = {meant: found[name] for name, meant in names.items()}
    used = named_in(values.get("prompt") or prompt)
    unknown = tuple(
        Problem(place, name, unknown_name(name, LIBRARY_NAMES))
        for name in found
        if name not in names and name.casefold() not in used
    )
    doubled = tuple(
        Problem(place, name, f"is {meant}, which stands there already under another name")
        for name, meant in (names.items() if len(values) < len(names) else ())
        if list(names.values()).count(meant) > 1
    )
    return Row(place, values, (*problems, *unknown, *doubled), {**names, **LIBRARY_NAMES}, more=found)
