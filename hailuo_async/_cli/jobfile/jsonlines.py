"""Rows out of JSON: one object a line, or an array of objects, in the library's own terms or the service's client's.

The client's objects are ``{"modelSlug": …, "body": {…}}``; our ``key`` and ``fit`` may stand beside these two, as the
client ignores them. ``null`` counts as nothing. A name that stands twice in an object is refused: it is unclear which
of the two counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from hailuo_async._cli.jobfile.rows import BODY_FIELDS, LIBRARY_NAMES, OWN_FIELDS, Row, meant_by, named_in, unknown_name
from hailuo_async._cli.jobfile.text import TextFile
from hailuo_async._cli.problems import Problem, type_name

#: The names that may stand in an object of the service's client, and the fields of a job that they mean.
_SERVICE_NAMES: Mapping[str, str] = {
    "modelSlug": "model",
    **{f"body.{name}": name for name in BODY_FIELDS},
    **{name: name for name in OWN_FIELDS},
}
_SPACE = re.compile(r"[ \t\r\n]*")
_ONE_OBJECT = "must be one whole JSON object; found"
_ONE_ARRAY = "must be one array of objects, with commas between them and a ] at its end, and nothing after it"


def read_json_lines(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """A note if the text was read as anything but UTF-8; then a row, or its problem, for each line that is not blank.

    ``prompt`` is the one of rows without their own. Raises ``OSError``.
    """
    yield from _read_as(text)
    for number, line in text.lines():
        if not line.strip():
            continue
        line = line.rstrip()
        found, end = _read(text, number, line, _skip(line, 0), prompt)
        if end >= 0 and (rest := _skip(line, end)) < len(line):
            found = Problem(f"{text.place(number)}, column {rest + 1}", None, f"{_ONE_OBJECT} more after its end")
        yield found


def read_json(text: TextFile, prompt: str | None) -> Iterator[Row | Problem | str]:
    """The same for an array of objects, and for objects one after the other, each over as many lines as it likes.

    Holds the whole text, as any reader of JSON does.
    """
    yield from _read_as(text)
    whole = "".join(line for _, line in text.lines())
    number, counted, at = 1, 0, _skip(whole, 0)
    is_array = whole.startswith("[", at)
    at = _skip(whole, at + is_array)
    while at < len(whole) and not (is_array and whole[at] == "]"):
        number, counted = number + whole.count("\n", counted, at), at
        found, end = _read(text, number, whole, at, prompt)
        yield found
        if end < 0:
            return
        at = _skip(whole, end)
        if is_array and not whole.startswith((",", "]"), at):
            break
        at = _skip(whole, at + whole.startswith(",", at)) if is_array else at
    if is_array and whole[at:].rstrip() != "]":
        yield Problem(text.place(number + whole.count("\n", counted, at)), None, _ONE_ARRAY)


def _read_as(text: TextFile) -> Iterator[str]:
    if text.read_as:
        yield f"{text.name}: read as {text.read_as}"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _read(file: TextFile, number: int, text: str, at: int, prompt: str | None) -> tuple[Row | Problem, int]:
    """Reads the object at ``at``, in line ``number``. Returns it and where it ends, -1 if that is not known."""
    place = file.place(number)
    try:
        found, end = _DECODER.raw_decode(text, at)
    except json.JSONDecodeError as error:
        is_cut = error.pos >= len(text) or error.msg.startswith("Unterminated")
        line, column = number + text.count("\n", at, error.pos), error.pos - text.rfind("\n", 0, error.pos)
        fault = "its end missing" if is_cut else f"{text[error.pos]!r}: {_reason(text, error)}"
        return Problem(f"{file.place(line)}, column {column}", None, f"{_ONE_OBJECT} {fault}"), -1
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of brackets in each other
        return Problem(place, None, "must be one JSON object of plain values; found one too long or too deep"), -1
    if not isinstance(found, _Object):
        return Problem(place, None, f"{_ONE_OBJECT} {type_name(found)}"), end
    doubled = tuple(Problem(place, name, "stands twice in its object: take one out") for name in found.twice())
    if found.keys() & {"modelSlug", "body"}:
        return _service_row(place, found, doubled), end
    return _own_row(place, found, doubled, prompt), end


def _reason(text: str, error: json.JSONDecodeError) -> str:
    return "JSON has no comments" if text[error.pos] in "#/" else error.msg


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
        return Problem(place, "body", f"must be an object with the fields of a request; found {type_name(body)}")
    if found.get("modelSlug") is None:
        return Problem(place, "modelSlug", "is required beside a body")
    given = {name: value for name, value in found.items() if name != "body"}
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
